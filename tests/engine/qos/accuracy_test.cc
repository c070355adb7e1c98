// What a client sees of the limits, in simulated time: every level's target in every second,
// whatever the size of requests and the number of connections; a pause earns 2 ms and no more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/base/random.h"
#include "engine/qos/category.h"
#include "engine/qos/throttle.h"
#include "tests/engine/qos/clock_ring.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

double in_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// Connections that each keep some requests in flight. A request takes `service` once it is let go.
class Load {
 public:
  Load(ClockRing& ring, ThrottleGate& gate, SizeCost size_cost)
      : ring_(ring), gate_(gate), size_cost_(size_cost) {}

  Duration service = microseconds(100);
  std::vector<TimePoint> released;

  // Until the ring's clock says `until`.
  void run(unsigned in_flight, std::uint64_t bytes, TimePoint until) {
    for (unsigned i = 0; i < in_flight; ++i) {
      ++running_;
      spawn(client(bytes, until));
    }
    ring_.run_until([this] { return running_ == 0; });
  }

 private:
  Task<void> client(std::uint64_t bytes, TimePoint until) {
    while (ring_.now() < until) {
      static_cast<void>(co_await gate_.pass(cost_of(size_cost_, bytes)));
      released.push_back(ring_.now());
      co_await ring_.sleep_for(service);
    }
    --running_;
  }

  ClockRing& ring_;
  ThrottleGate& gate_;
  SizeCost size_cost_;
  unsigned running_ = 0;
};

// Every stretch of at least a second that begins after the first second: requests from one to
// another, over the time between them, so that a whole request is no grain.
void expect_target(const std::vector<TimePoint>& released, TimePoint start, TimePoint end,
                   double target, const std::string& what) {
  std::size_t stretches = 0;
  double least = 1e18, most = 0;
  for (std::size_t i = 0, j = 0; i < released.size(); ++i) {
    if (released[i] < start + seconds(1)) continue;
    while (j < released.size() && released[j] < released[i] + seconds(1)) ++j;
    if (j == released.size() || released[j] >= end) break;
    const double rate = static_cast<double>(j - i) / in_seconds(released[j] - released[i]);
    least = std::min(least, rate);
    most = std::max(most, rate);
    ++stretches;
  }
  EXPECT_GT(stretches, 0U) << what;
  EXPECT_GE(least, target * 0.99) << what;
  EXPECT_LE(most, target * 1.01) << what;
}

// The most by which requests were ahead of the rate since `start`, one request apart.
double burst_ms(const std::vector<TimePoint>& released, TimePoint start, double target) {
  double ahead = 0;
  for (std::size_t i = 0; i < released.size(); ++i) {
    ahead = std::max(ahead, static_cast<double>(i) / target - in_seconds(released[i] - start));
  }
  return ahead * 1'000;
}

TEST(Accuracy, EveryLevelGivesItsTargetInEverySecondAtEverySizeFromAnyConnections) {
  Random random(announce_seed());
  constexpr std::uint64_t kSizes[] = {512,    4_KiB,   8_KiB, 16_KiB, 32_KiB,
                                      64_KiB, 256_KiB, 1_MiB, 4_MiB};
  for (const Profile profile : {Profile::k2021, Profile::k2024}) {
    for (const CategoryRow* row : category_table(profile)) {
      if (!row->creatable()) continue;
      // Any size that a test has the time for.
      std::uint64_t gib = row->capacity.min_gib;
      if (random.below(2) == 0)
        gib = random.between(gib, std::min(gib + 800, row->capacity.max_gib));
      const DiskLimits limits = limits_for(*row, gib);
      for (const std::uint64_t bytes : kSizes) {
        if (bytes != 512 && bytes != 4_MiB && random.below(3) != 0) continue;
        const double target = operations_per_second(limits, bytes);
        ClockRing ring;
        ring.set_timer_lateness(microseconds(random.below(300)));
        ThrottleGate gate(ring, limits);
        Load load(ring, gate, limits.size_cost);
        load.service = microseconds(random.between(20, 400));
        const auto connections = random.between(1, 16);
        // What it takes to have a request waiting whenever the timer fires.
        const double needed = target * (in_seconds(load.service) + 0.0015) / 1;
        const auto depth = static_cast<std::uint64_t>(needed) / connections + 2;
        const TimePoint start = ring.now();
        const TimePoint end = start + milliseconds(2'300);
        load.run(static_cast<unsigned>(connections * depth), bytes, end);
        const std::string what =
            fmt::format("profile {}, {} of {} GiB, {} B, {} connections of depth {}", name(profile),
                        row->title, gib, bytes, connections, depth);
        expect_target(load.released, start, end, target, what);
        EXPECT_LE(burst_ms(load.released, start, target), 2.001) << what;
      }
    }
  }
}

// One connection and one request at a time, from a device that is faster than the limit.
TEST(Accuracy, OneRequestAtATimeIsEnoughForTheTarget) {
  for (const std::uint64_t bytes : {4_KiB, 64_KiB, 1_MiB, 4_MiB}) {
    const auto limits = limits_for("cloud_essd", "PL1", 40, Profile::k2021);
    ASSERT_TRUE(limits);
    const double target = operations_per_second(*limits, bytes);
    ClockRing ring;
    ThrottleGate gate(ring, *limits);
    Load load(ring, gate, SizeCost::kPlain);
    load.service = microseconds(static_cast<std::int64_t>(300'000 / target));
    const TimePoint start = ring.now();
    load.run(1, bytes, start + milliseconds(2'500));
    expect_target(load.released, start, start + milliseconds(2'500), target,
                  fmt::format("{} B", bytes));
  }
}

TEST(Accuracy, AnyPauseEarnsTwoMillisecondsAndNoMore) {
  Random random(announce_seed());
  const auto limits = limits_for("cloud_essd", "PL1", 40, Profile::k2021);
  ASSERT_TRUE(limits);
  for (const std::uint64_t bytes : {4_KiB, 16_KiB, 256_KiB}) {
    ClockRing ring;
    ThrottleGate gate(ring, *limits);
    const double target = operations_per_second(*limits, bytes);
    for (int pause = 0; pause < 8; ++pause) {
      Load load(ring, gate, SizeCost::kPlain);
      const TimePoint start = ring.now();
      load.run(64, bytes, start + milliseconds(60));
      EXPECT_LE(burst_ms(load.released, start, target), 2.001) << bytes << " B, pause " << pause;
      bool over = false;
      const auto idle = [](ClockRing& clock, Duration length, bool& done) -> Task<void> {
        co_await clock.sleep_for(length);
        done = true;
      };
      spawn(idle(ring, microseconds(random.between(1, 5'000'000)), over));
      ring.run_until([&over] { return over; });
    }
  }
}

TEST(Accuracy, AStandardSsdAtItsCapsGivesItsSourcesFiguresAtEverySize) {
  const auto limits = limits_for("cloud_ssd", "", 774, Profile::k2021);
  ASSERT_TRUE(limits);
  struct Row {
    std::uint64_t bytes;
    double iops;
    double megabytes;  // as printed, rounded
  };
  const Row rows[] = {{4_KiB, 25'000, 100}, {16_KiB, 17'200, 260}, {32_KiB, 9'600, 300},
                      {64_KiB, 4'800, 300}, {256_KiB, 1'200, 300}, {1_MiB, 300, 300}};
  double before = 0;
  for (const Row& row : rows) {
    ClockRing ring;
    ThrottleGate gate(ring, *limits);
    Load load(ring, gate, limits->size_cost);
    const TimePoint start = ring.now();
    load.run(128, row.bytes, start + milliseconds(2'300));
    expect_target(load.released, start, start + milliseconds(2'300), row.iops,
                  fmt::format("{} B", row.bytes));
    const double megabytes = row.iops * static_cast<double>(row.bytes) / double{1_MiB};
    EXPECT_NEAR(megabytes, row.megabytes, row.megabytes * 0.035);
    EXPECT_GE(megabytes, before) << "larger requests never give less";
    before = megabytes;
  }
}

TEST(SizeCostRule, ChargesSmallRequestsOfAStandardSsdAndNobodyElse) {
  for (std::uint64_t bytes = 512; bytes <= 64_KiB; bytes += 512) {
    EXPECT_EQ(cost_of(SizeCost::kPlain, bytes).bytes, bytes);
    const std::uint64_t charged = cost_of(SizeCost::kStandardSsd, bytes).bytes;
    EXPECT_GE(charged, bytes);
    EXPECT_GE(charged, cost_of(SizeCost::kStandardSsd, bytes - 512).bytes) << "it only grows";
    if (bytes >= 32_KiB) {
      EXPECT_EQ(charged, bytes);
    }
  }
  EXPECT_TRUE(std::isinf(operations_per_second({}, 4_KiB)));
  // The formulas hold for a small disk at any size: nothing of it is charged where IOPS bind.
  const auto small = limits_for("cloud_ssd", "", 40, Profile::k2021);
  ASSERT_TRUE(small);
  for (const std::uint64_t bytes : {4_KiB, 16_KiB, 32_KiB}) {
    EXPECT_EQ(operations_per_second(*small, bytes), 3'000) << bytes;
  }
  EXPECT_EQ(operations_per_second(*small, 1_MiB), 140);
}

}  // namespace
}  // namespace clouddisk
