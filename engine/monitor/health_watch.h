// health_watch.h: from how the replicas and the disks are, looked at again and again, to events of
// disks. Time comes from the event log's ring.
//
// Events are of disks that are served: what is attached to nothing is not affected by anything.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/log/replica_set.h"
#include "engine/monitor/disk_sampler.h"
#include "engine/monitor/event_log.h"

namespace clouddisk {

class HealthWatch {
 public:
  // Requests are let go within 2 s by a replica that hangs (I1); one that takes longer is stuck.
  static constexpr Duration kStalledAfter = std::chrono::seconds(3);
  // A disk's repairs and losses are told at most this often, in sums.
  static constexpr Duration kTellEvery = std::chrono::minutes(1);

  explicit HealthWatch(EventLog& events) : events_(events) {}

  // How all replicas and all served disks are at `now`.
  void look(const std::vector<ReplicaStatus>& replicas, const std::vector<DiskReading>& disks,
            TimePoint now);
  // Blocks of a disk, or of its snapshots, of which a copy was replaced or none is good.
  void found(const std::string& disk_id, std::uint64_t repaired_blocks, std::uint64_t lost_blocks);

 private:
  struct Blocks {
    TimePoint opened{};  // of the counters below
    std::uint64_t repaired = 0, lost = 0;
    std::uint64_t repaired_untold = 0, lost_untold = 0;
    TimePoint told = TimePoint::min();
  };
  void count(const DiskReading& reading);
  void tell_blocks(TimePoint now);
  void hold(EventType type, const std::string& disk_id, bool true_now, const std::string& text);

  EventLog& events_;
  std::map<std::string, Blocks> blocks_;
};

}  // namespace clouddisk
