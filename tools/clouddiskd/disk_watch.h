// disk_watch.h: looks at all disks once a second, keeps what they did, and tells what happened to
// them.
//
// Thread: the control ring; files are written on a worker. Borrows everything.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/monitor/disk_sampler.h"
#include "engine/monitor/health_watch.h"
#include "engine/monitor/point_store.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class DiskWatch {
 public:
  struct Parts {
    std::function<Task<std::vector<DiskReading>>()> readings;
    std::function<bool(const std::string& disk_id)> has_disk;
    std::function<std::vector<ReplicaStatus>()> replicas;
  };
  DiskWatch(Ring& ring, PointStore& points, EventLog& events, Parts parts);

  void start();
  // The last reading of a disk that is closed.
  void closing(const DiskReading& reading) { take(reading); }
  // What scrub found of a disk and its snapshots.
  void found(const std::string& disk_id, std::uint64_t mended_blocks, std::uint64_t lost_blocks) {
    health_.found(disk_id, mended_blocks, lost_blocks);
  }
  // Ends the looking; what is told by closing() afterwards is kept, too.
  Task<void> stop();
  // Puts all that was taken on file.
  Task<void> flush();

 private:
  Task<void> run();
  void take(const DiskReading& reading);
  Task<void> remove_files_of_gone_disks();

  Ring& ring_;
  PointStore& points_;
  const Parts parts_;
  DiskSampler sampler_;
  HealthWatch health_;
  std::map<std::string, std::vector<DiskPoint>> pending_;
  bool failed_ = false;  // at the last write, so that it is logged once
  bool stopping_ = false;
  WaitGroup running_;
  Signal woken_;
};

}  // namespace clouddisk
