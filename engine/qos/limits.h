// limits.h: what one disk may do in a second, and what a request counts; see category.h for where
// the figures come from. Pure.
#pragma once

#include <cstdint>

namespace clouddisk {

// How the size of a request counts.
enum class SizeCost : std::uint8_t {
  kPlain,  // one operation, and its bytes
  // Requests below 32 KiB count more bytes than they have: 1/8.6 of their size up to 16 KiB, and
  // from there on less and less. So a standard SSD at its caps (25,000 IOPS, 300 MB/s) gives the
  // figures of its source at every size: 25,000 of 4 KiB, 17,200 of 16 KiB (and not 19,200), 9,600
  // of 32 KiB, 4,800 of 64 KiB.
  kStandardSsd,
};

struct DiskLimits {
  std::uint64_t iops = 0;  // operations a second, reads and writes together; 0: no limit
  std::uint64_t bytes_per_second = 0;  // 0: no limit
  SizeCost size_cost = SizeCost::kPlain;
  bool operator==(const DiskLimits&) const = default;
};

// What a request costs. FLUSH costs nothing; a trim or zero is one operation and no bytes.
struct IoCost {
  std::uint64_t operations = 1;
  std::uint64_t bytes = 0;
};

// Of a read or write of so many bytes.
IoCost cost_of(SizeCost size_cost, std::uint64_t bytes);

// How many requests of this size a second the limits allow; infinity: as many as there are.
double operations_per_second(const DiskLimits& limits, std::uint64_t bytes);

}  // namespace clouddisk
