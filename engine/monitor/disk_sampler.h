// disk_sampler.h: from readings of counters that only grow to what a disk did in each minute. Pure:
// time comes with each reading.
//
// The counters of a disk begin at zero each time it is opened. A reading is of one opening; the one
// that is taken as it closes is the last that counts, whatever comes in late.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/monitor/disk_point.h"

namespace clouddisk {

struct DiskReading {
  std::string disk_id;
  std::string instance_id;
  TimePoint opened{};  // tells openings of a disk apart
  IoSums io;           // since then
  bool closing = false;
  // Of the oldest request that the limits have let go and that is not answered; zero: none is.
  Duration oldest_request{0};
  // Since it was opened: copies that were replaced by good ones, and blocks without a good one.
  std::uint64_t repaired_blocks = 0, lost_blocks = 0;
};

class DiskSampler {
 public:
  // What the reading adds to the minutes since the one before it, oldest first. What was done in
  // between is spread evenly over that time. `now` and `wall_now` are one moment.
  std::vector<DiskPoint> take(const DiskReading& reading, TimePoint now, WallTime wall_now);
  // Forgets disks that are no more.
  template <class Exists>
  void keep(Exists exists) {
    std::erase_if(known_, [&](const auto& entry) { return !exists(entry.first); });
  }

 private:
  struct Known {
    TimePoint opened{};
    TimePoint read{};
    IoSums io;
    bool closed = false;
  };
  std::map<std::string, Known> known_;
};

}  // namespace clouddisk
