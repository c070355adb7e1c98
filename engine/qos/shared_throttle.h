// shared_throttle.h: limits of several disks together: those of an instance, whose disks live on
// different rings.
//
// A request that its own disk's limits let go asks for a turn and gets the moment at which it may
// go. Turns are given in the order in which they are asked for, to all disks alike.
//
// Accuracy: as Throttle's; a turn is booked for the moment it is given for, however late it is
// used. Thread: any; a lock of a few instructions, taken for disks of limited instances alone.
#pragma once

#include <cstdint>
#include <mutex>

#include "engine/base/units.h"
#include "engine/qos/limits.h"
#include "engine/qos/token_bucket.h"

namespace clouddisk {

class SharedThrottle {
 public:
  SharedThrottle(DiskLimits limits, TimePoint now);

  DiskLimits limits() const;
  // Forgets the turns that were given and not yet used: every disk asks again for those that wait
  // (ThrottleGate::share). What was used is neither debt nor credit.
  void set_limits(DiskLimits limits, TimePoint now);
  // How often limits were set.
  std::uint64_t version() const;
  // When a request that its disk lets go at `booked` may go; not before that.
  TimePoint reserve(IoCost cost, TimePoint booked);

 private:
  mutable std::mutex mutex_;
  DiskLimits limits_;
  std::uint64_t version_ = 0;
  TokenBucket operations_;
  TokenBucket bytes_;
};

}  // namespace clouddisk
