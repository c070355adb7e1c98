// Each kind of fault as a client meets it, over a device of plain memory, in simulated time.
#include "engine/qos/faulty_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/engine/qos/clock_ring.h"
#include "tests/support/ring_ops.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kSize = 1_MiB;

class MemoryDevice final : public BlockDevice {
 public:
  explicit MemoryDevice(ClockRing& ring) : ring_(ring), pool_(ring, 8 * 2_MiB), bytes(kSize) {}

  Ring& ring() override { return ring_; }
  BufferPool& buffers() override { return pool_; }
  std::uint64_t size_bytes() const override { return kSize; }
  bool read_only() const override { return false; }
  Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) override {
    Buffer buffer = co_await pool_.allocate(length);
    std::memcpy(buffer.data(), bytes.data() + offset, length);
    co_return buffer;
  }
  Task<Result<void>> write(std::uint64_t offset, Buffer data, bool) override {
    std::memcpy(bytes.data() + offset, data.data(), data.size());
    co_return Result<void>{};
  }
  std::optional<Task<Result<void>>> write_now(std::uint64_t offset, std::span<const std::byte> data,
                                              bool) override {
    std::memcpy(bytes.data() + offset, data.data(), data.size());
    return nothing_left();
  }
  Task<Result<void>> flush() override {
    ++flushes;
    co_return Result<void>{};
  }
  Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool) override {
    return clear(offset, length);
  }
  Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                  ZeroOptions) override {
    return clear(offset, length);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t, std::uint64_t length,
                                            std::uint32_t) override {
    co_return std::vector<Extent>{{length, ExtentState::kData}};
  }
  Task<Result<void>> prefetch(std::uint64_t, std::uint64_t) override { co_return Result<void>{}; }

 private:
  Task<Result<void>> nothing_left() { co_return Result<void>{}; }
  Task<Result<void>> clear(std::uint64_t offset, std::uint64_t length) {
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
    co_return Result<void>{};
  }

  ClockRing& ring_;
  BufferPool pool_;

 public:
  std::vector<std::byte> bytes;
  unsigned flushes = 0;
};

class FaultyDeviceTest : public testing::Test {
 protected:
  std::shared_ptr<ActiveFault> set(FaultKind kind, FaultOps ops = 0,
                                   const std::function<void(FaultSpec&)>& more = {}) {
    FaultSpec spec;
    spec.kind = kind;
    spec.ops = ops;
    spec.seed = 7;
    if (more) more(spec);
    auto completed = complete(std::move(spec));
    CHECK(completed.has_value());
    const TimePoint until =
        completed->lifetime ? ring_.now() + *completed->lifetime : TimePoint::max();
    auto fault = std::make_shared<ActiveFault>("f-1", *std::move(completed), until);
    device_.plan().add(fault);
    return fault;
  }
  Result<void> write(std::uint64_t offset, std::uint32_t length, unsigned value) {
    return ring_.block_on(write_task(offset, length, value));
  }
  Task<Result<void>> write_task(std::uint64_t offset, std::uint32_t length, unsigned value) {
    Buffer data = co_await memory_.buffers().allocate(length);
    std::memset(data.data(), static_cast<int>(value), length);
    co_return co_await device_.write(offset, std::move(data), false);
  }
  Result<Buffer> read(std::uint64_t offset, std::uint32_t length) {
    return ring_.block_on(device_.read(offset, length));
  }
  // How many bytes of the memory have this value.
  std::uint64_t stored(unsigned value) const {
    return static_cast<std::uint64_t>(
        std::count(memory_.bytes.begin(), memory_.bytes.end(), static_cast<std::byte>(value)));
  }

  ClockRing ring_;
  MemoryDevice memory_{ring_};
  FaultyDevice device_{memory_};
};

TEST_F(FaultyDeviceTest, WithoutAFaultItIsTheDeviceBelow) {
  ASSERT_OK(write(0, 8192, 5));
  EXPECT_EQ(stored(5), 8192U);
  const auto back = read(4096, 4096);
  ASSERT_OK(back);
  EXPECT_EQ(back->data()[9], std::byte{5});
  ASSERT_OK(ring_.block_on(device_.flush()));
  EXPECT_EQ(memory_.flushes, 1U);
}

TEST_F(FaultyDeviceTest, WithAFaultNoWriteGoesPastIt) {
  const std::vector<std::byte> data(4096, std::byte{5});
  auto begun = device_.write_now(0, data, false);
  ASSERT_TRUE(begun);
  ASSERT_OK(ring_.block_on(std::move(*begun)));
  EXPECT_EQ(stored(5), 4096U);
  set(FaultKind::kError, kFaultWrite);
  EXPECT_FALSE(device_.write_now(4096, data, false));
  EXPECT_EQ(stored(5), 4096U);
}

TEST_F(FaultyDeviceTest, SlowTakesItsDelayLongerAndThenSucceeds) {
  set(FaultKind::kSlow, kFaultWrite, [](FaultSpec& spec) { spec.delay = milliseconds(30); });
  const TimePoint before = ring_.now();
  ASSERT_OK(write(0, 4096, 5));
  EXPECT_EQ(ring_.now() - before, milliseconds(30));
  ASSERT_OK(read(0, 4096));
  EXPECT_EQ(ring_.now() - before, milliseconds(30)) << "a read is no write";
}

TEST_F(FaultyDeviceTest, ErrorFailsAndDoesNothing) {
  const auto fault = set(FaultKind::kError);
  EXPECT_EQ(write(0, 4096, 5).error().code, Errc::kIo);
  EXPECT_EQ(read(0, 4096).error().code, Errc::kIo);
  EXPECT_EQ(ring_.block_on(device_.flush()).error().code, Errc::kIo);
  EXPECT_EQ(ring_.block_on(device_.trim(0, 4096, false)).error().code, Errc::kIo);
  EXPECT_EQ(ring_.block_on(device_.write_zeroes(0, 4096, {})).error().code, Errc::kIo);
  EXPECT_EQ(stored(5), 0U);
  EXPECT_EQ(memory_.flushes, 0U);
  EXPECT_EQ(fault->hits, 5U);
}

TEST_F(FaultyDeviceTest, FullRefusesWhatTakesSpaceAndNothingElse) {
  set(FaultKind::kFull);
  EXPECT_EQ(write(0, 4096, 5).error().code, Errc::kNoSpace);
  EXPECT_EQ(ring_.block_on(device_.write_zeroes(0, 4096, {})).error().code, Errc::kNoSpace);
  EXPECT_OK(ring_.block_on(device_.trim(0, 4096, false)));
  EXPECT_OK(ring_.block_on(device_.flush()));
  EXPECT_OK(read(0, 4096));
  EXPECT_EQ(stored(5), 0U);
}

TEST_F(FaultyDeviceTest, CorruptReadsDifferInOneByteAndLeaveTheMediumAlone) {
  ASSERT_OK(write(0, 8192, 5));
  set(FaultKind::kCorrupt, kFaultRead);
  const auto back = read(0, 8192);
  ASSERT_OK(back);
  const auto bytes = back->span();
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{5}), 8191);
  EXPECT_EQ(stored(5), 8192U);
}

TEST_F(FaultyDeviceTest, CorruptWritesStoreOneOtherByteWithinTheBlocksNamed) {
  set(FaultKind::kCorrupt, kFaultWrite, [](FaultSpec& spec) {
    spec.blocks = FaultSpec::Blocks{Lba(1), Lba(1)};
  });
  ASSERT_OK(write(0, 4096, 5));
  EXPECT_EQ(stored(5), 4096U) << "block 0 is not named";
  ASSERT_OK(write(0, 3 * 4096, 5));
  EXPECT_EQ(stored(5), 3 * 4096U - 1);
  const auto second = std::span(memory_.bytes).subspan(4096, 4096);
  EXPECT_EQ(std::count(second.begin(), second.end(), std::byte{5}), 4095);
}

TEST_F(FaultyDeviceTest, TornWritesStoreWholeSectorsOfTheirBeginningAndAreReportedAsDone) {
  set(FaultKind::kTorn);
  std::set<std::uint64_t> lengths;
  for (int i = 0; i < 50; ++i) {
    std::fill(memory_.bytes.begin(), memory_.bytes.end(), std::byte{0});
    ASSERT_OK(write(8192, 16384, 5));
    const std::uint64_t kept = stored(5);
    lengths.insert(kept);
    EXPECT_LT(kept, 16384U);
    EXPECT_EQ(kept % 512, 0U);
    EXPECT_TRUE(kept == 0 || memory_.bytes[8192 + kept - 1] == std::byte{5}) << "front to back";
  }
  EXPECT_GT(lengths.size(), 10U);
  ASSERT_OK(write(0, 512, 9));
  EXPECT_EQ(stored(9), 0U) << "of one sector nothing";
}

TEST_F(FaultyDeviceTest, DropSaysDoneAndDoesNothing) {
  ASSERT_OK(write(4096, 4096, 6));
  set(FaultKind::kDrop);
  EXPECT_OK(write(0, 4096, 5));
  EXPECT_OK(ring_.block_on(device_.flush()));
  EXPECT_OK(ring_.block_on(device_.trim(4096, 4096, false)));
  EXPECT_OK(ring_.block_on(device_.write_zeroes(4096, 4096, {})));
  EXPECT_EQ(stored(5), 0U);
  EXPECT_EQ(stored(6), 4096U);
  EXPECT_EQ(memory_.flushes, 0U);
}

TEST_F(FaultyDeviceTest, WhatIsDroppedOrTornIsWithinTheBlocksNamed) {
  const auto second_block = [](FaultSpec& spec) {
    spec.blocks = FaultSpec::Blocks{Lba(1), Lba(1)};
  };
  const auto count_in = [&](std::size_t block, unsigned value) {
    const auto bytes = std::span(memory_.bytes).subspan(block * 4096, 4096);
    return std::count(bytes.begin(), bytes.end(), static_cast<std::byte>(value));
  };
  for (const FaultKind kind : {FaultKind::kDrop, FaultKind::kTorn}) {
    const unsigned value = kind == FaultKind::kDrop ? 5 : 6;
    set(kind, kFaultWrite, second_block);
    EXPECT_OK(write(0, 3 * 4096, value));
    EXPECT_EQ(count_in(0, value), 4096) << name(kind);
    EXPECT_LT(count_in(1, value), 4096) << name(kind);
    EXPECT_TRUE(kind == FaultKind::kTorn || count_in(1, value) == 0);
    EXPECT_EQ(count_in(1, value) % 512, 0);
    EXPECT_EQ(count_in(2, value), 4096) << name(kind);
    device_.plan().clear();
  }
  ASSERT_OK(write(0, 3 * 4096, 7));
  set(FaultKind::kDrop, kFaultWrite, second_block);
  ASSERT_OK(ring_.block_on(device_.trim(2048, 8192, false)));
  EXPECT_EQ(count_in(0, 7), 2048);
  EXPECT_EQ(count_in(1, 7), 4096);
  EXPECT_EQ(count_in(2, 7), 2048);
  ASSERT_OK(ring_.block_on(device_.write_zeroes(0, 3 * 4096, {})));
  EXPECT_EQ(count_in(0, 7) + count_in(2, 7), 0);
  EXPECT_EQ(count_in(1, 7), 4096);
}

TEST_F(FaultyDeviceTest, HangEndsWithItsTimeAndThenTheRequestIsCarriedOut) {
  set(FaultKind::kHang, 0, [](FaultSpec& spec) { spec.lifetime = seconds(5); });
  const TimePoint before = ring_.now();
  ASSERT_OK(write(0, 4096, 5));
  EXPECT_EQ(ring_.now() - before, seconds(5));
  EXPECT_EQ(stored(5), 4096U);
  ASSERT_OK(write(4096, 4096, 5));
  EXPECT_EQ(ring_.now() - before, seconds(5)) << "over is over";
}

Task<void> sleep(Ring& ring, Duration duration) {
  co_await ring.sleep_for(duration);
}
Task<void> hung_write(Task<Result<void>> write, bool& done) {
  const auto result = co_await std::move(write);
  EXPECT_OK(result);
  done = true;
}

TEST_F(FaultyDeviceTest, WhatHangsAndWhatIsDelayedGoesOnWhenTheFaultsAreCleared) {
  for (const FaultKind kind : {FaultKind::kHang, FaultKind::kSlow}) {
    set(kind, 0, [&](FaultSpec& spec) {
      if (kind == FaultKind::kSlow) spec.delay = seconds(60);
    });
    bool done = false;
    const TimePoint before = ring_.now();
    spawn(hung_write(write_task(0, 4096, 5), done));
    ring_.block_on(sleep(ring_, seconds(1)));
    EXPECT_FALSE(done) << name(kind);
    device_.plan().clear();
    ring_.run_until([&] { return done; });
    EXPECT_EQ(ring_.now() - before, seconds(1)) << name(kind);
  }
}

TEST_F(FaultyDeviceTest, TheRateIsThatOfTheDrawsAndASeedRepeatsThem) {
  const auto outcomes = [&] {
    device_.plan().clear();
    const auto fault = set(FaultKind::kError, 0, [](FaultSpec& spec) { spec.rate = 0.1; });
    std::string text;
    for (int i = 0; i < 2000; ++i) text += read(0, 512) ? '.' : 'x';
    EXPECT_EQ(fault->hits, static_cast<std::uint64_t>(std::count(text.begin(), text.end(), 'x')));
    return text;
  };
  const std::string first = outcomes();
  EXPECT_NEAR(static_cast<double>(std::count(first.begin(), first.end(), 'x')), 200, 60);
  EXPECT_EQ(outcomes(), first);
}

TEST_F(FaultyDeviceTest, BlocksAreMetByRequestsThatTouchThem) {
  set(FaultKind::kError, 0, [](FaultSpec& spec) {
    spec.blocks = FaultSpec::Blocks{Lba(2), Lba(3)};
  });
  const struct {
    std::uint64_t offset;
    std::uint32_t length;
    bool fails;
  } kRows[] = {{0, 8192, false},       {0, 8193, true},       {4 * 4096 - 512, 512, true},
               {4 * 4096, 512, false}, {0, 256 * 1024, true}, {2 * 4096 + 512, 512, true}};
  for (const auto& row : kRows) {
    EXPECT_EQ(!read(row.offset, row.length).has_value(), row.fails)
        << row.offset << " + " << row.length;
  }
  EXPECT_OK(ring_.block_on(device_.flush()));
}

TEST_F(FaultyDeviceTest, SeveralFaultsAllHappen) {
  set(FaultKind::kSlow, kFaultWrite);
  set(FaultKind::kError, kFaultWrite);
  const TimePoint before = ring_.now();
  EXPECT_EQ(write(0, 4096, 5).error().code, Errc::kIo);
  EXPECT_EQ(ring_.now() - before, kFaultDelay);
}

}  // namespace
}  // namespace clouddisk
