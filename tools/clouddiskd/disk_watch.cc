#include "tools/clouddiskd/disk_watch.h"

#include "engine/base/log.h"

namespace clouddisk {
namespace {

constexpr Duration kLookEvery = std::chrono::seconds(1);
constexpr Duration kFlushEvery = std::chrono::seconds(10);
constexpr Duration kCleanEvery = std::chrono::minutes(1);

}  // namespace

DiskWatch::DiskWatch(Ring& ring, PointStore& points, EventLog& events, Parts parts)
    : ring_(ring),
      points_(points),
      parts_(std::move(parts)),
      health_(events),
      running_(ring),
      woken_(ring) {}

void DiskWatch::start() {
  running_.add();
  spawn(run());
}

Task<void> DiskWatch::stop() {
  stopping_ = true;
  woken_.wake_all();
  co_await running_.wait();
}

void DiskWatch::take(const DiskReading& reading) {
  const auto points = sampler_.take(reading, ring_.now(), ring_.wall_now());
  auto& pending = pending_[reading.disk_id];
  for (const DiskPoint& point : points) {
    if (!pending.empty() && pending.back().minute == point.minute) {
      pending.back().covered_ms += point.covered_ms;
      pending.back().io += point.io;
      pending.back().instance = point.instance;
    } else {
      pending.push_back(point);
    }
  }
}

Task<void> DiskWatch::flush() {
  auto pending = std::exchange(pending_, {});
  std::erase_if(pending, [this](const auto& entry) { return !parts_.has_disk(entry.first); });
  if (pending.empty()) co_return;
  auto written = co_await ring_.blocking([this, &pending]() -> Result<void> {
    Result<void> all;
    for (const auto& [disk_id, points] : pending) {
      if (auto added = points_.add(disk_id, points); !added) all = added;
    }
    return all;
  });
  if (!written && !failed_) {
    log(LogLevel::kError, "monitor", "what disks did is not kept: {}", written.error().message);
  }
  failed_ = !written;
}

Task<void> DiskWatch::remove_files_of_gone_disks() {
  auto ids = co_await ring_.blocking([this] { return points_.disks(); });
  if (!ids) co_return;
  std::erase_if(*ids, [this](const std::string& id) { return parts_.has_disk(id); });
  if (ids->empty()) co_return;
  co_await ring_.blocking([this, &ids] {
    for (const std::string& id : *ids) static_cast<void>(points_.remove(id).has_value());
  });
}

Task<void> DiskWatch::run() {
  TimePoint flushed = ring_.now();
  TimePoint cleaned = flushed - kCleanEvery;
  while (!stopping_) {
    const auto readings = co_await parts_.readings();
    if (stopping_) break;
    for (const DiskReading& reading : readings) take(reading);
    health_.look(parts_.replicas(), readings, ring_.now());
    const TimePoint now = ring_.now();
    if (now - flushed >= kFlushEvery) {
      flushed = now;
      co_await flush();
    }
    if (now - cleaned >= kCleanEvery) {
      cleaned = now;
      sampler_.keep(parts_.has_disk);
      co_await remove_files_of_gone_disks();
    }
    if (stopping_) break;
    const bool woken = co_await woken_.wait_until(now + kLookEvery);
    static_cast<void>(woken);
  }
  running_.done();
}

}  // namespace clouddisk
