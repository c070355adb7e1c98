#include "engine/monitor/disk_sampler.h"

#include <gtest/gtest.h>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// 2026-01-01T00:00:00Z, and the monotonic clock at that moment.
const WallTime kWall{seconds(1'767'225'600)};
const TimePoint kMono{std::chrono::hours(5)};

DiskReading reading(TimePoint opened, IoSums io, bool closing = false) {
  DiskReading reading;
  reading.disk_id = "d-1";
  reading.instance_id = "i-1";
  reading.opened = opened;
  reading.io = io;
  reading.closing = closing;
  return reading;
}

IoSums writes(std::uint64_t count) {
  IoSums io;
  io.writes = count;
  io.written_bytes = count * 4096;
  io.write_nanoseconds = count * 1'000'000;
  return io;
}

IoSums sum_of(const std::vector<DiskPoint>& points) {
  IoSums sum;
  for (const DiskPoint& point : points) sum += point.io;
  return sum;
}

TEST(DiskSampler, WhatWasDoneIsOfTheMinutesInBetween) {
  DiskSampler sampler;
  // Opened at 00:00:30, read at 00:00:50 and at 00:01:20.
  const TimePoint opened = kMono + seconds(30);
  auto points = sampler.take(reading(opened, writes(10)), kMono + seconds(50), kWall + seconds(50));
  ASSERT_EQ(points.size(), 1U);
  EXPECT_EQ(points[0], (DiskPoint{minute_of(kWall), 20'000, writes(10), instance_tag("i-1")}));
  points = sampler.take(reading(opened, writes(40)), kMono + seconds(80), kWall + seconds(80));
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points[0], (DiskPoint{minute_of(kWall), 10'000, writes(10), instance_tag("i-1")}));
  EXPECT_EQ(points[1], (DiskPoint{minute_of(kWall) + 1, 20'000, writes(20), instance_tag("i-1")}));
}

TEST(DiskSampler, AnIdleDiskIsCoveredAndADiskThatIsReadTwiceIsNot) {
  DiskSampler sampler;
  auto points = sampler.take(reading(kMono, {}), kMono + seconds(10), kWall + seconds(10));
  ASSERT_EQ(points.size(), 1U);
  EXPECT_EQ(points[0].covered_ms, 10'000U);
  EXPECT_EQ(points[0].io, IoSums{});
  EXPECT_TRUE(sampler.take(reading(kMono, {}), kMono + seconds(10), kWall + seconds(10)).empty());
}

TEST(DiskSampler, TheLastReadingOfAnOpeningCountsAndWhatComesLateDoesNot) {
  DiskSampler sampler;
  static_cast<void>(
      sampler.take(reading(kMono, writes(5)), kMono + seconds(1), kWall + seconds(1)));
  auto last = sampler.take(reading(kMono, writes(8), true), kMono + seconds(2), kWall + seconds(2));
  EXPECT_EQ(sum_of(last), writes(3));
  // A reading that was on its way while the disk was closed.
  EXPECT_TRUE(
      sampler.take(reading(kMono, writes(8)), kMono + seconds(3), kWall + seconds(3)).empty());
  // Opened again: its counters begin at zero, and may be above the old ones at once.
  auto again = sampler.take(reading(kMono + seconds(5), writes(100)), kMono + seconds(6),
                            kWall + seconds(6));
  EXPECT_EQ(sum_of(again), writes(100));
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].covered_ms, 1000U);
  EXPECT_TRUE(
      sampler.take(reading(kMono, writes(8)), kMono + seconds(7), kWall + seconds(7)).empty());
}

TEST(DiskSampler, AWallClockThatIsPutBackAndAProcessThatSleptAreNoHarm) {
  DiskSampler sampler;
  static_cast<void>(
      sampler.take(reading(kMono, writes(1)), kMono + seconds(1), kWall + seconds(1)));
  auto points =
      sampler.take(reading(kMono, writes(4)), kMono + seconds(2), kWall - std::chrono::hours(1));
  EXPECT_EQ(sum_of(points), writes(3));
  EXPECT_EQ(points.front().minute, minute_of(kWall) - 61);
  points = sampler.take(reading(kMono, writes(604)), kMono + std::chrono::hours(48),
                        kWall + std::chrono::hours(48));
  EXPECT_EQ(sum_of(points), writes(600));
  EXPECT_EQ(points.size(), 60U);  // an hour
}

TEST(DiskSampler, NothingIsLostOrCountedTwiceHoweverOftenItIsRead) {
  Random random(announce_seed());
  DiskSampler sampler;
  IoSums total;
  IoSums told;
  Duration covered{0};
  Duration at{0};
  TimePoint opened = kMono;
  IoSums io;
  std::uint64_t covered_ms = 0;
  for (int i = 0; i < 2000; ++i) {
    const Duration step = milliseconds(random.below(200'000));
    at += step;
    covered += step;
    const IoSums more = writes(random.below(50));
    io += more;
    total += more;
    const bool closing = random.below(20) == 0;
    for (const DiskPoint& point :
         sampler.take(reading(opened, io, closing), kMono + at, kWall + at)) {
      told += point.io;
      covered_ms += point.covered_ms;
      EXPECT_LE(point.covered_ms, 60'000U);
      EXPECT_LE(point.minute, minute_of(kWall + at));
    }
    if (closing) {
      at += milliseconds(1 + random.below(100'000));
      opened = kMono + at;
      io = {};
    }
  }
  EXPECT_EQ(told, total);
  EXPECT_EQ(covered_ms, static_cast<std::uint64_t>(covered / milliseconds(1)));
}

}  // namespace
}  // namespace clouddisk
