// Limits above several disks', in simulated time.
#include "engine/qos/shared_throttle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "engine/qos/throttle.h"
#include "tests/engine/qos/clock_ring.h"

namespace clouddisk {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

class SharedThrottleTest : public ::testing::Test {
 protected:
  struct Disk {
    Disk(ClockRing& ring, DiskLimits limits, std::uint64_t size)
        : gate(ring, limits), bytes(size) {}
    ThrottleGate gate;
    std::uint64_t bytes;
    std::vector<TimePoint> released;

    std::size_t released_in(TimePoint from, Duration length) const {
      return static_cast<std::size_t>(
          std::count_if(released.begin(), released.end(),
                        [&](TimePoint at) { return at >= from && at < from + length; }));
    }
  };

  Disk& add_disk(DiskLimits limits, std::uint64_t bytes = 4_KiB) {
    disks_.push_back(std::make_unique<Disk>(ring_, limits, bytes));
    disks_.back()->gate.share(shared_);
    return *disks_.back();
  }
  void load(Disk& disk, unsigned in_flight, TimePoint until) {
    for (unsigned i = 0; i < in_flight; ++i) {
      ++running_;
      spawn(client(disk, until));
    }
  }
  Task<void> client(Disk& disk, TimePoint until) {
    while (ring_.now() < until) {
      static_cast<void>(co_await disk.gate.pass({1, disk.bytes}));
      disk.released.push_back(ring_.now());
      co_await ring_.sleep_for(microseconds(100));
    }
    --running_;
  }
  void run() {
    ring_.run_until([this] { return running_ == 0; });
  }

  ClockRing ring_;
  std::shared_ptr<SharedThrottle> shared_ =
      std::make_shared<SharedThrottle>(DiskLimits{}, ring_.now());
  std::vector<std::unique_ptr<Disk>> disks_;
  unsigned running_ = 0;
};

TEST_F(SharedThrottleTest, TheSmallerOfDiskAndInstanceIsWhatADiskGives) {
  // The manual's own example: an instance of 60,000 with a disk of 100,000 gives 60,000.
  shared_->set_limits({60'000, 0}, ring_.now());
  Disk& disk = add_disk({100'000, 0});
  const TimePoint start = ring_.now();
  load(disk, 256, start + milliseconds(2'200));
  run();
  EXPECT_NEAR(static_cast<double>(disk.released_in(start + seconds(1), seconds(1))), 60'000, 600);
}

TEST_F(SharedThrottleTest, DisksThatWantMoreShareWhatThereIsAndTheirSumIsExact) {
  shared_->set_limits({6'000, 0}, ring_.now());
  Disk& one = add_disk({5'000, 0});
  Disk& other = add_disk({5'000, 0});
  const TimePoint start = ring_.now();
  load(one, 64, start + milliseconds(2'700));
  load(other, 64, start + milliseconds(2'700));
  run();
  for (Duration from = seconds(1); from <= milliseconds(1'600); from += milliseconds(7)) {
    const auto first = static_cast<double>(one.released_in(start + from, seconds(1)));
    const auto second = static_cast<double>(other.released_in(start + from, seconds(1)));
    ASSERT_NEAR(first + second, 6'000, 60);
    ASSERT_NEAR(first, second, 100);
  }
}

TEST_F(SharedThrottleTest, WhatADiskLeavesIsAnothers) {
  shared_->set_limits({6'000, 0}, ring_.now());
  Disk& small = add_disk({1'000, 0});
  Disk& large = add_disk({50'000, 0});
  const TimePoint start = ring_.now();
  load(small, 16, start + milliseconds(2'200));
  load(large, 64, start + milliseconds(2'200));
  run();
  const auto of_small = static_cast<double>(small.released_in(start + seconds(1), seconds(1)));
  const auto of_large = static_cast<double>(large.released_in(start + seconds(1), seconds(1)));
  EXPECT_NEAR(of_small + of_large, 6'000, 60);
  // 16 in flight beside 64 get a fifth of what there is, which is more than the disk's own limit.
  EXPECT_NEAR(of_small, 1'000, 20);
}

TEST_F(SharedThrottleTest, DisksBelowTheInstancesLimitsAreLeftAlone) {
  shared_->set_limits({50'000, 500 * 1_MiB}, ring_.now());
  Disk& one = add_disk({3'800, 140 * 1_MiB});
  Disk& other = add_disk({2'280, 110 * 1_MiB}, 1_MiB);
  const TimePoint start = ring_.now();
  load(one, 64, start + milliseconds(2'200));
  load(other, 8, start + milliseconds(2'200));
  run();
  EXPECT_NEAR(static_cast<double>(one.released_in(start + seconds(1), seconds(1))), 3'800, 38);
  EXPECT_NEAR(static_cast<double>(other.released_in(start + seconds(1), seconds(1))), 110, 1.1);
}

TEST_F(SharedThrottleTest, BytesAreLimitedTogetherToo) {
  shared_->set_limits({0, 100 * 1_MiB}, ring_.now());
  Disk& one = add_disk({}, 256_KiB);
  Disk& other = add_disk({}, 1_MiB);
  const TimePoint start = ring_.now();
  load(one, 16, start + milliseconds(2'200));
  load(other, 16, start + milliseconds(2'200));
  run();
  const auto megabytes = static_cast<double>(one.released_in(start + seconds(1), seconds(1))) / 4 +
                         static_cast<double>(other.released_in(start + seconds(1), seconds(1)));
  EXPECT_NEAR(megabytes, 100, 2);
}

TEST_F(SharedThrottleTest, APauseEarnsTwoMilliseconds) {
  shared_->set_limits({10'000, 0}, ring_.now());
  const TimePoint later = ring_.now() + seconds(3'600);
  unsigned at_once = 0;
  while (shared_->reserve({1, 4'096}, later) <= later) ++at_once;
  EXPECT_EQ(at_once, 20U);
}

TEST_F(SharedThrottleTest, NewLimitsHoldAtOnceForThoseThatWait) {
  shared_->set_limits({10, 0}, ring_.now());
  Disk& disk = add_disk({100'000, 0});
  const TimePoint start = ring_.now();
  load(disk, 64, start + microseconds(1));
  const auto raise = [](ClockRing& ring, std::shared_ptr<SharedThrottle> shared,
                        Disk& waiting) -> Task<void> {
    co_await ring.sleep_for(milliseconds(450));
    shared->set_limits({1'000, 0}, ring.now());
    waiting.gate.share(shared);
  };
  spawn(raise(ring_, shared_, disk));
  run();
  EXPECT_LE(ring_.now(), start + milliseconds(530)) << "64 at 10 a second would take 6.4 s";
  EXPECT_GE(ring_.now(), start + milliseconds(500));
}

TEST_F(SharedThrottleTest, WithoutItEveryoneGoes) {
  shared_->set_limits({1, 0}, ring_.now());
  Disk& disk = add_disk({});
  const TimePoint start = ring_.now();
  load(disk, 500, start + microseconds(1));
  const auto lift = [](ClockRing& ring, Disk& waiting) -> Task<void> {
    co_await ring.sleep_for(milliseconds(10));
    waiting.gate.share(nullptr);
  };
  spawn(lift(ring_, disk));
  run();
  EXPECT_LE(ring_.now(), start + milliseconds(11));
}

TEST(SharedThrottle, TurnsFromManyThreadsAreBookedOnce) {
  const TimePoint start{seconds(10)};
  SharedThrottle shared({100'000, 0}, start);
  std::vector<TimePoint> last(4);
  std::vector<std::thread> threads;
  for (TimePoint& turn : last) {
    threads.emplace_back([&shared, &turn, start] {
      for (int i = 0; i < 10'000; ++i) turn = shared.reserve({1, 4'096}, start);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const TimePoint end = *std::max_element(last.begin(), last.end());
  EXPECT_EQ(end, start + milliseconds(400) - Throttle::kBurst) << "40,000 at 100,000 a second";
}

}  // namespace
}  // namespace clouddisk
