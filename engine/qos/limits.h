// limits.h: what one disk may do in a second; see category.h for where the figures come from.
#pragma once

#include <cstdint>

namespace clouddisk {

struct DiskLimits {
  std::uint64_t iops = 0;  // operations a second, reads and writes together; 0: no limit
  std::uint64_t bytes_per_second = 0;  // 0: no limit
  bool operator==(const DiskLimits&) const = default;
};

}  // namespace clouddisk
