// The throttle as requests meet it: coroutines over a device that takes a fixed time, in simulated
// time.
#include "engine/qos/limited_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/engine/qos/clock_ring.h"

namespace clouddisk {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Takes `service` for everything; fails on demand.
class SlowDevice final : public BlockDevice {
 public:
  explicit SlowDevice(ClockRing& ring) : ring_(ring), pool_(ring, 64 * 2_MiB) {}

  Ring& ring() override { return ring_; }
  BufferPool& buffers() override { return pool_; }
  std::uint64_t size_bytes() const override { return 1_TiB; }
  bool read_only() const override { return false; }
  Task<Result<Buffer>> read(std::uint64_t, std::uint32_t length) override {
    if (auto r = co_await serve(); !r) co_return r.error();
    co_return co_await pool_.allocate(length);
  }
  Task<Result<void>> write(std::uint64_t, Buffer, bool) override { return serve(); }
  std::optional<Task<Result<void>>> write_now(std::uint64_t, std::span<const std::byte>,
                                              bool) override {
    if (busy) return std::nullopt;
    return serve();
  }
  Task<Result<void>> flush() override { return serve(); }
  Task<Result<void>> trim(std::uint64_t, std::uint64_t, bool) override { return serve(); }
  Task<Result<void>> write_zeroes(std::uint64_t, std::uint64_t, ZeroOptions) override {
    return serve();
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t, std::uint64_t, std::uint32_t) override {
    co_return std::vector<Extent>{{4_KiB, ExtentState::kHole}};
  }
  Task<Result<void>> prefetch(std::uint64_t, std::uint64_t) override { return serve(); }

  Duration service = microseconds(50);
  bool failing = false;
  bool busy = false;  // It takes nothing at once.
  std::vector<TimePoint> begun;

 private:
  Task<Result<void>> serve() {
    begun.push_back(ring_.now());
    co_await ring_.sleep_for(service);
    if (failing) co_return fail(Errc::kIo, "on purpose");
    co_return Result<void>{};
  }

  ClockRing& ring_;
  BufferPool pool_;
};

class LimitedDeviceTest : public ::testing::Test {
 protected:
  // `depth` clients repeat `one` until the clock says `until`.
  template <class One>
  void run_load(unsigned depth, TimePoint until, One one) {
    for (unsigned i = 0; i < depth; ++i) {
      ++running_;
      spawn(client(one, i, until));
    }
    ring_.run_until([this] { return running_ == 0; });
  }
  template <class One>
  Task<void> client(One one, unsigned index, TimePoint until) {
    while (ring_.now() < until) co_await one(index);
    --running_;
  }
  // How many requests the device below began in [from, from + 1 s).
  std::size_t begun_in_second(TimePoint from) const {
    return static_cast<std::size_t>(
        std::count_if(device_.begun.begin(), device_.begun.end(),
                      [&](TimePoint at) { return at >= from && at < from + seconds(1); }));
  }
  Task<Result<void>> write(LimitedDevice& limited, std::uint32_t length) {
    Buffer buffer = co_await device_.buffers().allocate(length);
    co_return co_await limited.write(0, std::move(buffer), false);
  }

  Task<void> sleep(Duration duration) { co_await ring_.sleep_for(duration); }

  ClockRing ring_;
  SlowDevice device_{ring_};
  unsigned running_ = 0;
};

TEST_F(LimitedDeviceTest, ReadsAndWritesShareOneBudget) {
  LimitedDevice limited(device_, {3'800, 140 * 1_MiB});
  const TimePoint start = ring_.now();
  run_load(64, start + seconds(3), [&](unsigned index) -> Task<void> {
    if (index % 2 == 0) {
      EXPECT_TRUE(co_await limited.read(0, 4_KiB));
    } else {
      EXPECT_TRUE(co_await write(limited, 4_KiB));
    }
  });
  for (TimePoint from = start + milliseconds(5); from + seconds(1) < start + seconds(3);
       from += milliseconds(37)) {
    EXPECT_NEAR(static_cast<double>(begun_in_second(from)), 3'800, 38);
  }
  const DeviceCounters& counters = limited.counters();
  EXPECT_EQ(counters.reads + counters.writes, device_.begun.size());
  EXPECT_EQ(counters.read_bytes, counters.reads * 4_KiB);
  EXPECT_EQ(counters.written_bytes, counters.writes * 4_KiB);
  EXPECT_GT(counters.throttled_nanoseconds, 0U);
  EXPECT_GE(counters.read_nanoseconds + counters.write_nanoseconds, counters.throttled_nanoseconds);
}

TEST_F(LimitedDeviceTest, TheAgeOfTheOldestRequestIsThatOfTheOnesBelowTheLimits) {
  LimitedDevice limited(device_, {1, 0});
  device_.service = seconds(20);
  const TimePoint start = ring_.now();
  EXPECT_EQ(limited.oldest_request(start), Duration::zero());
  // The second one waits for the limit first, the third one longer.
  const auto read = [&](unsigned) -> Task<void> {
    const Result<Buffer> got = co_await limited.read(0, 4_KiB);
    EXPECT_TRUE(got);
  };
  for (unsigned i = 0; i < 3; ++i) {
    ++running_;
    spawn(client(read, i, start + seconds(1)));
  }
  std::vector<double> ages;
  for (const int at : {10, 19, 21, 22, 30}) {
    ring_.run_until([&] { return ring_.now() >= start + seconds(at) || running_ == 0; });
    ages.push_back(std::chrono::duration<double>(limited.oldest_request(ring_.now())).count());
  }
  EXPECT_GE(ages[0], 9.0);
  EXPECT_GE(ages[1], 18.0);
  EXPECT_LE(ages[2], 21.0);  // the first one ended at 20 s
  ring_.run_until([this] { return running_ == 0; });
  EXPECT_EQ(limited.oldest_request(ring_.now()), Duration::zero());
}

TEST_F(LimitedDeviceTest, AMillionOperationsASecondNeedFewTimers) {
  LimitedDevice limited(device_, {1'000'000, 0});
  ring_.set_timer_lateness(microseconds(200));
  const TimePoint start = ring_.now();
  run_load(256, start + milliseconds(1'300), [&](unsigned) -> Task<void> {
    const Result<Buffer> read = co_await limited.read(0, 4_KiB);
    EXPECT_TRUE(read);
  });
  EXPECT_NEAR(static_cast<double>(begun_in_second(start + milliseconds(200))), 1'000'000, 10'000);
}

TEST_F(LimitedDeviceTest, WaitingRequestsAreServedInTheOrderOfTheirArrival) {
  LimitedDevice limited(device_, {100, 0});
  std::vector<unsigned> order;
  run_load(50, ring_.now() + microseconds(1), [&](unsigned index) -> Task<void> {
    EXPECT_TRUE(co_await limited.trim(0, 4_KiB, false));
    order.push_back(index);
  });
  EXPECT_EQ(order.size(), 50U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(LimitedDeviceTest, FlushIsFreeAndTrimCostsNoBytes) {
  LimitedDevice limited(device_, {10, 1});
  const TimePoint start = ring_.now();
  run_load(1, start + milliseconds(100),
           [&](unsigned) -> Task<void> { EXPECT_TRUE(co_await limited.flush()); });
  EXPECT_EQ(device_.begun.size(), 2'000U) << "100 ms of 50 us each";
  EXPECT_EQ(limited.counters().flushes, 2'000U);
  device_.begun.clear();
  const TimePoint trims = ring_.now();
  run_load(4, trims + milliseconds(1'950), [&](unsigned) -> Task<void> {
    const ZeroOptions options;
    EXPECT_TRUE(co_await limited.trim(0, 1_GiB, false));
    EXPECT_TRUE(co_await limited.write_zeroes(0, 1_GiB, options));
  });
  EXPECT_NEAR(static_cast<double>(begun_in_second(trims + milliseconds(500))), 10, 1);
  EXPECT_EQ(limited.counters().trims, device_.begun.size());
}

TEST_F(LimitedDeviceTest, NewLimitsHoldAtOnceForThoseThatWait) {
  LimitedDevice limited(device_, {10, 0});
  const TimePoint start = ring_.now();
  bool raised = false;
  const auto raise = [](ClockRing& ring, LimitedDevice& device, bool& done) -> Task<void> {
    co_await ring.sleep_for(milliseconds(950));
    device.set_limits({1'000, 0});
    done = true;
  };
  spawn(raise(ring_, limited, raised));
  run_load(64, start + microseconds(1),
           [&](unsigned) -> Task<void> { EXPECT_TRUE(co_await limited.trim(0, 1, false)); });
  EXPECT_TRUE(raised);
  EXPECT_LE(ring_.now(), start + milliseconds(1'020)) << "64 at 10 a second would take 6.4 s";
  EXPECT_GE(ring_.now(), start + milliseconds(1'000));
}

TEST_F(LimitedDeviceTest, TakingTheLimitsAwayLetsEveryoneGo) {
  LimitedDevice limited(device_, {1, 0});
  const TimePoint start = ring_.now();
  const auto lift = [](ClockRing& ring, LimitedDevice& device) -> Task<void> {
    co_await ring.sleep_for(milliseconds(10));
    device.set_limits({});
  };
  spawn(lift(ring_, limited));
  run_load(1'000, start + microseconds(1),
           [&](unsigned) -> Task<void> { EXPECT_TRUE(co_await limited.trim(0, 1, false)); });
  EXPECT_LE(ring_.now(), start + milliseconds(11));
}

TEST_F(LimitedDeviceTest, NominalLatencyIsKeptAtDepthOne) {
  LimitedDevice limited(device_, {});
  limited.set_nominal_latency(microseconds(200));
  const TimePoint start = ring_.now();
  run_load(1, start + milliseconds(100),
           [&](unsigned) -> Task<void> { EXPECT_TRUE(co_await limited.read(0, 4_KiB)); });
  EXPECT_EQ(limited.counters().reads, 500U);
  device_.service = microseconds(300);  // Slower than nominal: nothing is added.
  const TimePoint slow = ring_.now();
  run_load(1, slow + milliseconds(30),
           [&](unsigned) -> Task<void> { EXPECT_TRUE(co_await limited.read(0, 4_KiB)); });
  EXPECT_EQ(limited.counters().reads, 600U);
}

TEST_F(LimitedDeviceTest, WritesThatBeginAtOnceDoSoWithinTheLimitsAndAreCountedOnce) {
  const std::vector<std::byte> data(4_KiB);
  LimitedDevice limited(device_, {1'000, 0});
  device_.busy = true;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(limited.write_now(0, data, false));
  device_.busy = false;
  unsigned begun = 0;
  while (auto write = limited.write_now(0, data, false)) {
    EXPECT_TRUE(ring_.block_on(std::move(*write)));
    ASSERT_LT(++begun, 10U) << "no time passes but the device's 50 us";
  }
  EXPECT_GE(begun, 2U) << "what the device refused cost nothing";
  EXPECT_EQ(limited.counters().writes, begun);
  EXPECT_EQ(limited.counters().written_bytes, begun * 4_KiB);
  const TimePoint start = ring_.now();
  run_load(16, start + seconds(1), [&](unsigned) -> Task<void> {
    if (auto at_once = limited.write_now(0, data, false)) {
      EXPECT_TRUE(co_await std::move(*at_once));
    } else {
      EXPECT_TRUE(co_await write(limited, 4_KiB));
    }
  });
  EXPECT_NEAR(static_cast<double>(begun_in_second(start)), 1'000, 10);
  device_.failing = true;
  ring_.block_on(sleep(milliseconds(50)));
  auto failed = limited.write_now(0, data, false);
  ASSERT_TRUE(failed);
  EXPECT_FALSE(ring_.block_on(std::move(*failed)));
  EXPECT_EQ(limited.counters().errors, 1U);
}

TEST_F(LimitedDeviceTest, AWriteThatBeganAtOnceTakesTheNominalLatencyToo) {
  LimitedDevice limited(device_, {});
  limited.set_nominal_latency(microseconds(200));
  const std::vector<std::byte> data(4_KiB);
  auto write = limited.write_now(0, data, false);
  ASSERT_TRUE(write);
  const TimePoint asked = ring_.now();
  EXPECT_TRUE(ring_.block_on(std::move(*write)));
  EXPECT_EQ(ring_.now(), asked + microseconds(200));
}

TEST_F(LimitedDeviceTest, ErrorsAreCountedAndPassedOn) {
  LimitedDevice limited(device_, {});
  device_.failing = true;
  run_load(1, ring_.now() + microseconds(1), [&](unsigned) -> Task<void> {
    const Result<Buffer> read = co_await limited.read(0, 4_KiB);
    EXPECT_FALSE(read);
    const Result<void> flushed = co_await limited.flush();
    EXPECT_FALSE(flushed);
  });
  EXPECT_EQ(limited.counters().errors, 2U);
  EXPECT_EQ(limited.counters().reads, 1U);
  EXPECT_EQ(limited.counters().read_bytes, 0U);
}

}  // namespace
}  // namespace clouddisk
