// disk_point.h: what a disk did in one minute, and sums of that. Plain data.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "engine/base/units.h"

namespace clouddisk {

using Minute = std::uint32_t;  // since 1970

inline Minute minute_of(WallTime time) {
  return static_cast<Minute>(
      std::chrono::floor<std::chrono::minutes>(time.time_since_epoch()).count());
}
inline WallTime time_of(Minute minute) {
  return WallTime(std::chrono::minutes(minute));
}

// What requests came to, as a client saw them: waiting for limits is in their times.
struct IoSums {
  std::uint64_t reads = 0, writes = 0;
  std::uint64_t read_bytes = 0, written_bytes = 0;
  std::uint64_t read_nanoseconds = 0, write_nanoseconds = 0;

  IoSums& operator+=(const IoSums& other);
  IoSums operator-(const IoSums& earlier) const;  // of the same counters
  bool operator==(const IoSums&) const = default;
};

struct DiskPoint {
  Minute minute = 0;
  std::uint32_t covered_ms = 0;  // how much of the minute the disk was served
  IoSums io;
  std::uint64_t instance = 0;  // tag of the instance that it was attached to; of the last one

  bool operator==(const DiskPoint&) const = default;
};

// What stands for an instance in a point.
std::uint64_t instance_tag(std::string_view instance_id);

}  // namespace clouddisk
