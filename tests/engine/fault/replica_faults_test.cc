// Each kind of fault at one copy of a store of segments, on the simulated machine: what the others
// hold, and who is dropped.
#include <gtest/gtest.h>

#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr SegmentSeq kOne{1};
constexpr SegmentSeq kTwo{2};
constexpr unsigned kFaulty = 1;

class ReplicaFaultsTest : public testing::Test {
 protected:
  ReplicaFaultsTest() {
    life_ = std::make_unique<LogLife>(machine_, LocalSegmentStore::Options{});
    CHECK(!life_->error);
    EXPECT_OK(create(kOne));
  }
  LocalSegmentStore& store() { return life_->store(); }
  Ring& ring() { return *life_->ring; }
  ReplicaMask in_sync() { return life_->replicas().in_sync_mask(); }
  std::shared_ptr<ActiveFault> set(FaultKind kind, FaultOps ops = 0,
                                   std::optional<Duration> lifetime = {}) {
    FaultSpec spec;
    spec.kind = kind;
    spec.ops = ops;
    spec.replica = kFaulty;
    spec.lifetime = lifetime;
    spec.seed = 3;
    auto completed = complete(std::move(spec));
    CHECK(completed.has_value());
    const TimePoint until = lifetime ? ring().now() + *lifetime : TimePoint::max();
    auto fault = std::make_shared<ActiveFault>("f-1", *std::move(completed), until);
    store().faults().add(fault);
    return fault;
  }
  Result<void> create(SegmentSeq segment) {
    return ring().block_on(store().create(segment, life_->filled_buffer(1, 0xee)));
  }
  Result<void> append(std::uint32_t block, unsigned value, std::uint32_t blocks = 1) {
    auto data = std::make_shared<AppendData>();
    Buffer buffer = life_->filled_buffer(blocks, value);
    data->pieces.push_back({buffer.data(), buffer.size()});
    data->keep_alive.push_back(std::move(buffer));
    return ring().block_on(store().append(kOne, block, std::move(data)));
  }
  // Bytes of a block that have this value, on one copy.
  std::int64_t count(unsigned copy, std::uint32_t block, unsigned value) {
    Buffer into = life_->filled_buffer(1, 0);
    const auto read = ring().block_on(store().read(copy, kOne, block, into));
    EXPECT_OK(read);
    return std::count(into.data(), into.data() + kBlockSize, static_cast<std::byte>(value));
  }
  void expect_intact_elsewhere(std::uint32_t block, unsigned value) {
    for (const unsigned copy : {0U, 2U}) {
      EXPECT_EQ(count(copy, block, value), static_cast<std::int64_t>(kBlockSize));
    }
  }

  SimMachine machine_{11};
  std::unique_ptr<LogLife> life_;
};

TEST_F(ReplicaFaultsTest, AnErrorOfAWriteDropsTheCopyAndNothingFails) {
  const auto fault = set(FaultKind::kError, kFaultWrite);
  EXPECT_OK(append(1, 5));
  EXPECT_EQ(in_sync(), 0b101U);
  EXPECT_EQ(fault->hits, 1U);
  EXPECT_EQ(life_->replicas().status()[kFaulty].reason, "fault f-1: an error on purpose");
  expect_intact_elsewhere(1, 5);
}

TEST_F(ReplicaFaultsTest, AnErrorOfAFlushDropsTheCopyAndNothingFails) {
  set(FaultKind::kError, kFaultFlush);
  EXPECT_OK(append(1, 5));
  EXPECT_EQ(in_sync(), 0b111U);
  EXPECT_OK(ring().block_on(store().flush()));
  EXPECT_EQ(in_sync(), 0b101U);
  expect_intact_elsewhere(1, 5);
}

TEST_F(ReplicaFaultsTest, AnErrorOfAReadIsToldAndTheCopyStays) {
  ASSERT_OK(append(1, 5));
  set(FaultKind::kError, kFaultRead);
  Buffer into = life_->filled_buffer(1, 0);
  EXPECT_EQ(ring().block_on(store().read(kFaulty, kOne, 1, into)).error().code, Errc::kIo);
  EXPECT_EQ(in_sync(), 0b111U);
  expect_intact_elsewhere(1, 5);
}

TEST_F(ReplicaFaultsTest, CorruptDamagesOneByteOfTheOneCopy) {
  set(FaultKind::kCorrupt, kFaultWrite);
  ASSERT_OK(append(1, 5, 3));
  store().faults().clear();
  std::int64_t same = 0;
  for (std::uint32_t block = 1; block <= 3; ++block) {
    same += count(kFaulty, block, 5);
    expect_intact_elsewhere(block, 5);
  }
  EXPECT_EQ(same, 3 * static_cast<std::int64_t>(kBlockSize) - 1);
  set(FaultKind::kCorrupt, kFaultRead);
  ASSERT_OK(append(4, 6));
  EXPECT_EQ(count(kFaulty, 4, 6), static_cast<std::int64_t>(kBlockSize) - 1);
  store().faults().clear();
  EXPECT_EQ(count(kFaulty, 4, 6), static_cast<std::int64_t>(kBlockSize));
}

TEST_F(ReplicaFaultsTest, TornAndDroppedAppendsLackOnTheOneCopyAlone) {
  ASSERT_OK(append(1, 1, 8));
  for (const FaultKind kind : {FaultKind::kTorn, FaultKind::kDrop}) {
    const unsigned value = kind == FaultKind::kTorn ? 5 : 6;
    const auto fault = set(kind, kFaultWrite);
    ASSERT_OK(append(1, value, 8));
    store().faults().clear();
    EXPECT_EQ(fault->hits, 1U);
    std::int64_t same = 0;
    for (std::uint32_t block = 1; block <= 8; ++block) {
      same += count(kFaulty, block, value);
      expect_intact_elsewhere(block, value);
    }
    EXPECT_LT(same, 8 * static_cast<std::int64_t>(kBlockSize)) << name(kind);
    EXPECT_TRUE(kind == FaultKind::kTorn || same == 0);
    EXPECT_EQ(in_sync(), 0b111U) << "nobody knows yet";
  }
}

TEST_F(ReplicaFaultsTest, FullIsFullAloneAlthoughTheCopiesShareAFileSystem) {
  set(FaultKind::kFull);
  EXPECT_OK(append(1, 5)) << "its space was there already";
  EXPECT_EQ(in_sync(), 0b111U);
  EXPECT_OK(create(kTwo));
  EXPECT_EQ(in_sync(), 0b101U);
}

TEST_F(ReplicaFaultsTest, SlowIsWaitedForAndACopyThatHangsIsDroppedAfterTheBound) {
  set(FaultKind::kSlow, kFaultWrite);
  TimePoint before = ring().now();
  ASSERT_OK(append(1, 5));
  EXPECT_GE(ring().now() - before, kFaultDelay);
  EXPECT_LT(ring().now() - before, kFaultDelay + milliseconds(50));
  EXPECT_EQ(in_sync(), 0b111U);
  store().faults().clear();
  set(FaultKind::kHang);
  before = ring().now();
  ASSERT_OK(append(2, 6));
  EXPECT_GE(ring().now() - before, seconds(2));
  EXPECT_LT(ring().now() - before, seconds(3));
  EXPECT_EQ(in_sync(), 0b101U);
  // What hung ends, so that the store can be closed.
  ring().block_on(store().end_faults());
  expect_intact_elsewhere(2, 6);
}

TEST_F(ReplicaFaultsTest, AReadThatHangsIsGivenUp) {
  ASSERT_OK(append(1, 5));
  set(FaultKind::kHang, kFaultRead, seconds(30));
  Buffer into = life_->filled_buffer(1, 0);
  const TimePoint before = ring().now();
  EXPECT_EQ(ring().block_on(store().read(kFaulty, kOne, 1, into)).error().code, Errc::kTimedOut);
  EXPECT_LT(ring().now() - before, seconds(3));
  EXPECT_EQ(in_sync(), 0b101U);
  ring().block_on(store().end_faults());
  EXPECT_LT(ring().now() - before, seconds(3)) << "cleared before its time";
}

// The fault is one thing, a device that hangs by itself another: the disk's end waits for no
// device.
TEST_F(ReplicaFaultsTest, WhatMetNoFaultIsNotWaitedFor) {
  set(FaultKind::kError, kFaultFlush);
  SimFaults faults;
  faults.hung_until = ring().now() + seconds(60);
  machine_.set_faults(replica_folder(kFaulty), faults);
  ASSERT_OK(append(1, 5));
  EXPECT_EQ(in_sync(), 0b101U) << "given up on, and still under way";
  const TimePoint before = ring().now();
  ring().block_on(store().end_faults());
  EXPECT_EQ(ring().now(), before);
  machine_.clear_faults();
  life_->ring->run_for(seconds(60));
}

TEST_F(ReplicaFaultsTest, WhatWasGivenUpHoldsNoMemoryAndIsNotCarriedOut) {
  ASSERT_OK(append(1, 5));
  const auto held = [&] { return life_->pool().used_bytes(); };
  const std::uint64_t before = held();
  set(FaultKind::kHang);
  ASSERT_OK(append(1, 6, 200)) << "the replica is out";
  EXPECT_EQ(held(), before);
  Buffer into = life_->filled_buffer(200, 0);
  EXPECT_EQ(ring().block_on(store().read(kFaulty, kOne, 1, std::move(into))).error().code,
            Errc::kTimedOut);
  EXPECT_EQ(held(), before);
  ring().block_on(store().end_faults());
  EXPECT_EQ(block_of(ring(), segment_path(kFaulty, 1), 1),
            std::vector<std::byte>(kBlockSize, std::byte{5}));
}

}  // namespace
}  // namespace clouddisk
