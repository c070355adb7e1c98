// What the daemon does once a second, on a simulated clock.
#include "tools/clouddiskd/disk_watch.h"

#include "tests/engine/monitor/event_fixture.h"

namespace clouddisk {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class DiskWatchTest : public EventTest {
 protected:
  DiskWatchTest() {
    DiskWatch::Parts parts;
    parts.readings = [this] { return read(); };
    parts.has_disk = [this](const std::string& id) { return id == "d-1" || id == late_; };
    parts.replicas = [this] {
      std::vector<ReplicaStatus> all(kReplicaCount);
      for (ReplicaStatus& replica : all) replica.state = ReplicaState::kInSync;
      all[2].state = third_;
      return all;
    };
    watch_.emplace(ring_, points_, open(), std::move(parts));
  }
  ~DiskWatchTest() override {
    ring_.block_on(watch_->stop());
    ring_.block_on(watch_->flush());
  }
  // Ten writes a second, each of 4 KiB.
  DiskReading reading(const std::string& id) const {
    DiskReading reading;
    reading.disk_id = id;
    reading.instance_id = "i-1";
    reading.opened = opened_;
    const auto elapsed = std::chrono::duration_cast<seconds>(ring_.now() - opened_).count();
    reading.io.writes = static_cast<std::uint64_t>(elapsed) * 10;
    reading.io.written_bytes = reading.io.writes * 4096;
    return reading;
  }
  Task<std::vector<DiskReading>> read() {
    std::vector<DiskReading> all;
    all.push_back(reading("d-1"));
    if (!late_.empty()) all.push_back(reading(late_));
    co_return all;
  }
  std::uint64_t writes_of(const std::string& id) const {
    std::uint64_t writes = 0;
    const auto points = points_.read(id, 0, minute_of(ring_.wall_now()));
    EXPECT_TRUE(points);
    if (!points) return 0;
    for (const DiskPoint& point : *points) writes += point.io.writes;
    return writes;
  }

  PointStore points_{folder_.path() + "/monitor"};
  TimePoint opened_{ring_.now()};
  std::string late_;
  ReplicaState third_ = ReplicaState::kInSync;
  std::optional<DiskWatch> watch_;
};

TEST_F(DiskWatchTest, TwelveHoursAreOnFileMinuteByMinute) {
  watch_->start();
  pass(hours(12) + seconds(2));
  ring_.block_on(watch_->stop());
  ring_.block_on(watch_->flush());
  const Minute last = minute_of(ring_.wall_now());
  const auto points = *points_.read("d-1", 0, last);
  ASSERT_EQ(points.size(), 12U * 60 + 1);
  for (std::size_t i = 1; i + 1 < points.size(); ++i) {
    EXPECT_EQ(points[i].io.writes, 600U) << i;
    EXPECT_EQ(points[i].covered_ms, 60'000U) << i;
    EXPECT_EQ(points[i].instance, instance_tag("i-1"));
  }
  EXPECT_NEAR(static_cast<double>(writes_of("d-1")), 12.0 * 3600 * 10, 40);
}

TEST_F(DiskWatchTest, WhatAClosingDiskDidLastIsKeptAndFilesOfGoneDisksAreNot) {
  watch_->start();
  late_ = "d-2";
  pass(seconds(130));
  DiskReading last = reading("d-2");
  last.io.writes += 7;
  last.closing = true;
  const std::uint64_t expected = last.io.writes;
  watch_->closing(last);
  ring_.block_on(watch_->flush());
  EXPECT_EQ(writes_of("d-2"), expected);
  late_.clear();  // and with it its record
  pass(seconds(130));
  EXPECT_EQ(*points_.disks(), std::vector<std::string>{"d-1"});
}

TEST_F(DiskWatchTest, NothingIsWrittenOfADiskThatIsGone) {
  for (const char* id : {"d-1", "d-2"}) {
    DiskReading last = reading(id);
    last.io.writes = 7;
    last.closing = true;
    watch_->closing(last);
  }
  ring_.block_on(watch_->flush());
  EXPECT_EQ(*points_.disks(), std::vector<std::string>{"d-1"});
}

TEST_F(DiskWatchTest, AReplicaThatIsOutIsAnEventWithinASecondOrTwo) {
  watch_->start();
  pass(seconds(5));
  EXPECT_TRUE(events_->events().empty());
  third_ = ReplicaState::kFailed;
  pass(seconds(2));
  EXPECT_TRUE(events_->goes_on(EventType::kDegraded, "d-1"));
  third_ = ReplicaState::kInSync;
  pass(seconds(2));
  ASSERT_EQ(events_->events().size(), 2U);
  EXPECT_EQ(events_->events().back().type, EventType::kRepaired);
}

}  // namespace
}  // namespace clouddisk
