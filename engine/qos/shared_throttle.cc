#include "engine/qos/shared_throttle.h"

#include <algorithm>

#include "engine/qos/throttle.h"

namespace clouddisk {

SharedThrottle::SharedThrottle(DiskLimits limits, TimePoint now)
    : limits_(limits),
      operations_(limits.iops, Throttle::kBurst, now),
      bytes_(limits.bytes_per_second, Throttle::kBurst, now) {}

DiskLimits SharedThrottle::limits() const {
  const std::lock_guard lock(mutex_);
  return limits_;
}

std::uint64_t SharedThrottle::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

void SharedThrottle::set_limits(DiskLimits limits, TimePoint now) {
  const std::lock_guard lock(mutex_);
  limits_ = limits;
  ++version_;
  operations_ = TokenBucket(limits.iops, Throttle::kBurst, now + Throttle::kBurst);
  bytes_ = TokenBucket(limits.bytes_per_second, Throttle::kBurst, now + Throttle::kBurst);
}

TimePoint SharedThrottle::reserve(IoCost cost, TimePoint booked) {
  const std::lock_guard lock(mutex_);
  const TimePoint turn =
      std::max({booked, operations_.earliest(cost.operations), bytes_.earliest(cost.bytes)});
  operations_.pay(cost.operations, turn);
  bytes_.pay(cost.bytes, turn);
  return turn;
}

}  // namespace clouddisk
