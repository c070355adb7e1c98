// Limits in simulated time: a little event loop drives Throttle directly.
#include "engine/qos/throttle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <vector>

#include "engine/base/random.h"
#include "engine/qos/category.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TimePoint kStart{seconds(100)};

struct Release {
  TimePoint when;
  std::uint64_t bytes;
};

// A closed loop: `depth` requests are always there; each next one arrives `service` after one was
// let go. Wakes like ThrottleGate: one timer, late by up to `lateness`.
std::vector<Release> run_closed_loop(Throttle& throttle, TimePoint from, Duration length,
                                     unsigned depth, Duration service,
                                     const std::function<std::uint64_t()>& next_size,
                                     Duration wake_interval = ThrottleGate::kWakeInterval) {
  std::vector<Release> releases;
  std::deque<TimePoint> arriving(depth, from);  // sorted
  struct Waiting {
    IoCost cost;
    TimePoint arrived;
  };
  std::deque<Waiting> waiting;
  TimePoint now = from;
  TimePoint last_wake = from - seconds(1);
  while (now < from + length) {
    while (!arriving.empty() && arriving.front() <= now) {
      arriving.pop_front();
      const IoCost cost{1, next_size()};
      if (waiting.empty() && throttle.admit(cost, now, now)) {
        releases.push_back({now, cost.bytes});
        arriving.push_back(now + service);
      } else {
        waiting.push_back({cost, now});
      }
    }
    TimePoint next = TimePoint::max();
    if (!arriving.empty()) next = arriving.front();
    if (!waiting.empty()) {
      const TimePoint wake =
          std::max(throttle.earliest(waiting.front().cost), last_wake + wake_interval);
      if (wake <= now) {
        last_wake = now;
        while (!waiting.empty() &&
               throttle.admit(waiting.front().cost, now, waiting.front().arrived)) {
          releases.push_back({now, waiting.front().cost.bytes});
          arriving.push_back(now + service);
          waiting.pop_front();
        }
        continue;
      }
      next = std::min(next, wake);
    }
    now = std::max(now, next);
  }
  return releases;
}

// The least and the most that any one-second window after the first gave.
struct Extremes {
  double operations_min = 1e18, operations_max = 0, bytes_min = 1e18, bytes_max = 0;
};
Extremes windows(const std::vector<Release>& releases, TimePoint from, Duration length) {
  Extremes extremes;
  std::size_t head = 0, tail = 0;
  std::uint64_t operations = 0, bytes = 0;
  for (TimePoint begin = from; begin + seconds(1) <= from + length; begin += microseconds(777)) {
    while (head < releases.size() && releases[head].when < begin + seconds(1)) {
      ++operations;
      bytes += releases[head++].bytes;
    }
    while (tail < head && releases[tail].when < begin) {
      --operations;
      bytes -= releases[tail++].bytes;
    }
    extremes.operations_min = std::min(extremes.operations_min, static_cast<double>(operations));
    extremes.operations_max = std::max(extremes.operations_max, static_cast<double>(operations));
    extremes.bytes_min = std::min(extremes.bytes_min, static_cast<double>(bytes));
    extremes.bytes_max = std::max(extremes.bytes_max, static_cast<double>(bytes));
  }
  return extremes;
}

TEST(Throttle, EveryLevelHoldsItsLimitInEveryOneSecondWindow) {
  struct Disk {
    const char* category;
    const char* level;
    std::uint64_t gib;
  };
  const Disk disks[] = {
      {"cloud_essd", "PL0", 40},     {"cloud_essd", "PL1", 40},
      {"cloud_essd", "PL2", 461},    {"cloud_essd", "PL3", 2'000},
      {"cloud_essd", "PL3", 20'000}, {"cloud_ssd", "", 100},
      {"cloud_efficiency", "", 400}, {"cloud", "", 100},
  };
  for (const Disk& disk : disks) {
    const auto limits = limits_for(disk.category, disk.level, disk.gib, Profile::k2021);
    ASSERT_TRUE(limits);
    for (const std::uint64_t size : {512_KiB / 1024, 4_KiB, 16_KiB, 64_KiB, 256_KiB, 1_MiB}) {
      Throttle throttle(*limits, kStart);
      // More in flight than a timer interval lets go, as a client that wants the limit has.
      const unsigned depth =
          static_cast<unsigned>(std::max<std::uint64_t>(64, limits->iops / 1'000));
      const auto releases = run_closed_loop(throttle, kStart, seconds(3), depth, microseconds(50),
                                            [size] { return size; });
      const Extremes seen = windows(releases, kStart, seconds(3));
      const double bytes_each = static_cast<double>(size);
      const double expected = std::min(static_cast<double>(limits->iops),
                                       static_cast<double>(limits->bytes_per_second) / bytes_each);
      // One request is the grain of counting.
      const double slack = std::max(expected * 0.01, 1.0);
      EXPECT_GE(seen.operations_min, expected - slack)
          << disk.category << disk.level << " " << disk.gib << " GiB, " << size << " B";
      EXPECT_LE(seen.operations_max, expected + slack)
          << disk.category << disk.level << " " << disk.gib << " GiB, " << size << " B";
    }
  }
}

TEST(Throttle, IdleTimeEarnsTwoMillisecondsAndNoMore) {
  Throttle throttle({10'000, 0}, kStart);
  const TimePoint later = kStart + seconds(3'600);
  unsigned at_once = 0;
  while (throttle.admit({1, 4096}, later, later)) ++at_once;
  EXPECT_EQ(at_once, 20U) << "2 ms of 10,000 a second";
}

TEST(Throttle, ARequestLargerThanTheBucketPassesAtTheRightRate) {
  Throttle throttle({0, 1_MiB}, kStart);  // 1 MiB a second
  EXPECT_TRUE(throttle.admit({1, 1_MiB}, kStart, kStart));
  EXPECT_FALSE(throttle.admit({1, 1_MiB}, kStart + milliseconds(990), kStart));
  EXPECT_EQ(throttle.earliest({1, 1_MiB}), kStart + seconds(1));
}

TEST(Throttle, DepthOneReachesTheLimitWhenTheDeviceIsFasterThanTheLimit) {
  for (const std::uint64_t size : {4_KiB, 1_MiB}) {
    const DiskLimits limits{2'280, 110 * 1_MiB};
    Throttle throttle(limits, kStart);
    const Duration service = size == 4_KiB ? Duration(microseconds(400)) : milliseconds(8);
    const auto releases =
        run_closed_loop(throttle, kStart, seconds(4), 1, service, [size] { return size; });
    const double expected = size == 4_KiB ? 2'280 : 110;
    const Extremes seen = windows(releases, kStart, seconds(4));
    EXPECT_GE(seen.operations_min, expected * 0.99 - 1) << size;
    EXPECT_LE(seen.operations_max, expected * 1.01 + 1) << size;
  }
}

TEST(Throttle, TrimCostsOneOperationAndNoBytes) {
  Throttle throttle({1'000, 1}, kStart);  // One byte a second: any byte would show.
  const auto releases = run_closed_loop(throttle, kStart, seconds(2), 16, microseconds(10),
                                        [] { return std::uint64_t{0}; });
  const Extremes seen = windows(releases, kStart, seconds(2));
  EXPECT_NEAR(seen.operations_max, 1'000, 10);
  EXPECT_NEAR(seen.operations_min, 1'000, 10);
}

TEST(Throttle, NoLimitLetsEverythingGo) {
  Throttle throttle({}, kStart);
  for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(throttle.admit({1, 1_MiB}, kStart, kStart));
  EXPECT_TRUE(throttle.unlimited());
}

TEST(Throttle, ALateTimerCostsNothing) {
  Throttle throttle({100'000, 0}, kStart);
  const auto releases = run_closed_loop(
      throttle, kStart, seconds(2), 1'000, microseconds(1), [] { return 4_KiB; }, milliseconds(2));
  const Extremes seen = windows(releases, kStart, seconds(2));
  EXPECT_GE(seen.operations_min, 99'000);
  EXPECT_LE(seen.operations_max, 101'000);
}

TEST(Throttle, AStalledProcessIsNotFollowedByAFlood) {
  Throttle throttle({10'000, 0}, kStart);
  while (throttle.admit({1, 0}, kStart, kStart)) {
  }
  const TimePoint after = kStart + seconds(30);  // Somebody has waited for 30 s.
  unsigned released = 0;
  while (throttle.admit({1, 0}, after, kStart)) ++released;
  EXPECT_LE(released, 101U) << "8 ms of catching up and 2 ms of burst";
  EXPECT_NEAR(std::chrono::duration<double>(throttle.stalled()).count(), 30 - 0.01, 0.002);
}

TEST(Throttle, ChangedLimitsHoldAtOnce) {
  Throttle throttle({0, 1_MiB}, kStart);
  ASSERT_TRUE(throttle.admit({1, 1_MiB}, kStart, kStart));
  throttle.set_limits({0, 100 * 1_MiB}, kStart);
  // The debt of 1 MiB less 2 ms of old credit is repaid a hundred times faster.
  EXPECT_LE(throttle.earliest({1, 1_MiB}), kStart + milliseconds(12));
  EXPECT_GE(throttle.earliest({1, 1_MiB}), kStart + milliseconds(9));
  throttle.set_limits({0, 1_MiB}, kStart + milliseconds(1));
  EXPECT_GE(throttle.earliest({1, 1_MiB}), kStart + milliseconds(800));
}

TEST(Throttle, LimitsAppearAndVanishWithoutOldDebtOrCredit) {
  Throttle throttle({}, kStart);
  ASSERT_TRUE(throttle.admit({1, 1_MiB}, kStart, kStart));
  throttle.set_limits({1'000, 0}, kStart + seconds(1));
  unsigned at_once = 0;
  while (throttle.admit({1, 0}, kStart + seconds(1), kStart)) ++at_once;
  EXPECT_EQ(at_once, 0U);
  throttle.set_limits({}, kStart + seconds(1));
  EXPECT_TRUE(throttle.admit({1, 1_MiB}, kStart + seconds(1), kStart));
}

// Any mix of sizes, depths, pauses and changes of limits stays at or below the limit of the time,
// and, while somebody waits, at or above it; compared with plain sums.
TEST(ThrottleModel, RandomLoadsNeverExceedTheLimitAndNeverFallBelowItWhileSomeoneWaits) {
  Random random(announce_seed());
  for (int round = 0; round < 60; ++round) {
    const DiskLimits limits{random.between(400, 200'000), random.between(10, 2'000) * 1_MiB};
    Throttle throttle(limits, kStart);
    const unsigned depth = static_cast<unsigned>(random.between(256, 1'024));
    const auto releases = run_closed_loop(
        throttle, kStart, seconds(2), depth, microseconds(random.between(1, 300)), [&random] {
          return std::uint64_t{512} << random.below(12);  // 512 B to 1 MiB
        });
    for (std::size_t i = 1; i < releases.size(); ++i) {
      ASSERT_LE(releases[i - 1].when, releases[i].when) << "first come, first served";
    }
    const Extremes seen = windows(releases, kStart, seconds(2));
    const double iops = static_cast<double>(limits.iops);
    const double bytes = static_cast<double>(limits.bytes_per_second);
    EXPECT_LE(seen.operations_max, iops * 1.01 + 1) << "round " << round;
    EXPECT_LE(seen.bytes_max, bytes * 1.01 + 1_MiB) << "round " << round;
    const bool reached = seen.operations_min >= iops * 0.99 - 1 ||
                         seen.bytes_min >= bytes * 0.99 - static_cast<double>(1_MiB);
    // With a random mix now one bucket binds and now the other: then neither is full, but the
    // virtual time of each release is the limit's own, which the sums below bound.
    double virtual_seconds = 0;
    for (const Release& release : releases) {
      virtual_seconds += std::max(1 / iops, static_cast<double>(release.bytes) / bytes);
    }
    EXPECT_TRUE(reached || virtual_seconds >= 1.98) << "round " << round;
  }
}

}  // namespace
}  // namespace clouddisk
