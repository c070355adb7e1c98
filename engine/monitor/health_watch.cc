#include "engine/monitor/health_watch.h"

#include <fmt/format.h>

#include <array>
#include <set>

namespace clouddisk {
namespace {

// Those that last as long as what is seen here.
constexpr std::array kWatchedEvents = {EventType::kDegraded, EventType::kSeverelyDegraded,
                                       EventType::kResyncing, EventType::kStalled};

struct SetHealth {
  unsigned in_sync = 0;
  bool resyncing = false;
  std::string text;  // which are out, and why
};

SetHealth health_of(const std::vector<ReplicaStatus>& replicas) {
  SetHealth health;
  for (const ReplicaStatus& replica : replicas) {
    if (replica.state == ReplicaState::kInSync) {
      ++health.in_sync;
      continue;
    }
    if (replica.state == ReplicaState::kResyncing) health.resyncing = true;
    if (!health.text.empty()) health.text += "; ";
    health.text += fmt::format("replica {} is {}", replica.index + 1, name(replica.state));
    if (!replica.reason.empty()) health.text += ": " + replica.reason;
  }
  return health;
}

}  // namespace

void HealthWatch::hold(EventType type, const std::string& disk_id, bool true_now,
                       const std::string& text) {
  if (true_now) {
    events_.begin(type, disk_id, text);
  } else {
    events_.end(type, disk_id);
  }
}

void HealthWatch::look(const std::vector<ReplicaStatus>& replicas,
                       const std::vector<DiskReading>& disks, TimePoint now) {
  const SetHealth health = health_of(replicas);
  std::set<std::string> served;
  for (const DiskReading& disk : disks) {
    const std::string& id = disk.disk_id;
    served.insert(id);
    const bool was_degraded = events_.goes_on(EventType::kDegraded, id) ||
                              events_.goes_on(EventType::kSeverelyDegraded, id);
    hold(EventType::kDegraded, id, health.in_sync == kWriteQuorum, health.text);
    hold(EventType::kSeverelyDegraded, id, health.in_sync < kWriteQuorum, health.text);
    hold(EventType::kResyncing, id, health.resyncing, health.text);
    if (was_degraded && health.in_sync == kReplicaCount) {
      events_.note(EventType::kRepaired, id, "all replicas are in sync");
    }
    const bool stalled = disk.oldest_request >= kStalledAfter;
    hold(EventType::kStalled, id, stalled,
         fmt::format("a request has had no answer for {} s",
                     std::chrono::floor<std::chrono::seconds>(disk.oldest_request).count()));
    count(disk);
  }
  // Of disks that are served no more.
  std::vector<std::pair<std::string, EventType>> over;
  for (const auto& [key, event] : events_.going_on()) {
    if (!served.contains(key.first)) over.push_back(key);
  }
  for (const auto& [id, type] : over) {
    for (const EventType watched : kWatchedEvents) {
      if (type == watched) events_.end(type, id);
    }
  }
  tell_blocks(now);
  std::erase_if(blocks_, [&](const auto& entry) {
    const Blocks& blocks = entry.second;
    return !served.contains(entry.first) && blocks.repaired_untold == 0 && blocks.lost_untold == 0;
  });
}

void HealthWatch::count(const DiskReading& reading) {
  Blocks& blocks = blocks_[reading.disk_id];
  if (blocks.opened != reading.opened) {
    blocks.opened = reading.opened;
    blocks.repaired = 0;
    blocks.lost = 0;
  }
  blocks.repaired_untold += reading.repaired_blocks - blocks.repaired;
  blocks.lost_untold += reading.lost_blocks - blocks.lost;
  blocks.repaired = reading.repaired_blocks;
  blocks.lost = reading.lost_blocks;
}

void HealthWatch::found(const std::string& disk_id, std::uint64_t repaired_blocks,
                        std::uint64_t lost_blocks) {
  Blocks& blocks = blocks_[disk_id];
  blocks.repaired_untold += repaired_blocks;
  blocks.lost_untold += lost_blocks;
}

void HealthWatch::tell_blocks(TimePoint now) {
  for (auto& [id, blocks] : blocks_) {
    if (blocks.repaired_untold == 0 && blocks.lost_untold == 0) continue;
    if (blocks.told != TimePoint::min() && now - blocks.told < kTellEvery) continue;
    if (blocks.repaired_untold > 0) {
      events_.note(
          EventType::kRepaired, id,
          fmt::format("copies of {} blocks were damaged and are replaced", blocks.repaired_untold));
    }
    if (blocks.lost_untold > 0) {
      events_.note(EventType::kErrorDetected, id,
                   fmt::format("no good copy was found of {} blocks", blocks.lost_untold));
    }
    blocks.repaired_untold = 0;
    blocks.lost_untold = 0;
    blocks.told = now;
  }
}

}  // namespace clouddisk
