// No byte leaves unverified (I4): damaged, unreadable, stalled and missing copies.
#include "engine/disk/block_reader.h"

#include <gtest/gtest.h>

#include "engine/base/checksum.h"
#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

constexpr SegmentSeq kSegment{1};
constexpr std::uint32_t kFirst = 3;
constexpr std::uint32_t kCount = 4;
constexpr unsigned kFirstAsked = 1;  // the copy that blocks of this segment are read from

class BlockReaderTest : public testing::Test {
 protected:
  void SetUp() override {
    Buffer header = life_.filled_buffer(1, 0);
    SegmentHeader begun;
    begun.disk = kLogDisk;
    begun.segment = kSegment;
    begun.start = begun.durable = {kSegment, kFirstBatchBlock, BatchSeq(1), 0};
    encode_header(begun, header.span());
    ASSERT_OK(life_.ring->block_on(life_.store().create(kSegment, header)));
    for (std::uint32_t i = 0; i < kCount; ++i) {
      Buffer block = life_.filled_buffer(1, 0x10 + i);
      entries_.push_back({BlockLocation::stored(kSegment, kFirst + i), checksum64(block.span())});
      auto data = std::make_shared<AppendData>();
      data->pieces.push_back({block.data(), block.size()});
      data->keep_alive.push_back(std::move(block));
      ASSERT_OK(life_.ring->block_on(life_.store().append(kSegment, kFirst + i, std::move(data))));
    }
  }
  void flip(unsigned copy, std::uint32_t index) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 1), (kFirst + index) * kBlockSize + 77));
  }
  void expect_read() {
    auto got = life_.ring->block_on(reader_.read(entries_, life_.filled_buffer(kCount, 0)));
    ASSERT_OK(got);
    for (std::uint32_t i = 0; i < kCount; ++i) {
      const auto block = got->span().subspan(i * kBlockSize, kBlockSize);
      EXPECT_EQ(checksum64(block), entries_[i].checksum) << "block " << i;
    }
  }
  void expect_same_on_all_copies() {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      const auto all = blocks_of(*life_.ring, segment_path(copy, 1), kFirst, kCount);
      ASSERT_EQ(all.size(), kCount * kBlockSize);
      for (std::uint32_t i = 0; i < kCount; ++i) {
        const auto block = std::span(all).subspan(i * kBlockSize, kBlockSize);
        EXPECT_EQ(checksum64(block), entries_[i].checksum) << "copy " << copy << " block " << i;
      }
    }
  }

  SimMachine machine_{21};
  LogLife life_{machine_};
  BlockReader reader_{life_.store(), life_.pool(), "d-log"};
  std::vector<BlockEntry> entries_;
};

TEST_F(BlockReaderTest, IntactCopiesAreReadOnce) {
  expect_read();
  EXPECT_EQ(reader_.counters().checksum_errors, 0U);
  EXPECT_EQ(reader_.counters().repaired_blocks, 0U);
}

TEST_F(BlockReaderTest, ADamagedBlockComesFromAnotherCopyAndIsMended) {
  flip(kFirstAsked, 2);
  expect_read();
  EXPECT_EQ(reader_.counters().checksum_errors, 1U);
  EXPECT_EQ(reader_.counters().repaired_blocks, 1U);
  expect_same_on_all_copies();
}

TEST_F(BlockReaderTest, TwoDamagedCopiesAreMendedFromTheThird) {
  flip(kFirstAsked, 0);
  flip(0, 0);
  flip(0, 3);  // Not asked: the first choice has it right.
  expect_read();
  EXPECT_EQ(reader_.counters().repaired_blocks, 2U);
}

TEST_F(BlockReaderTest, WithNoGoodCopyItSaysSoAndChangesNothing) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) flip(copy, 1);
  const auto before = block_of(*life_.ring, segment_path(0, 1), kFirst + 1);
  const auto got = life_.ring->block_on(reader_.read(entries_, life_.filled_buffer(kCount, 0)));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Errc::kIo);
  EXPECT_EQ(reader_.counters().lost_blocks, 1U);
  EXPECT_EQ(reader_.counters().repaired_blocks, 0U);
  EXPECT_EQ(block_of(*life_.ring, segment_path(0, 1), kFirst + 1), before);
}

TEST_F(BlockReaderTest, ACopyThatFailsToReadIsPassedOver) {
  SimFaults faults;
  faults.read_error = 1;
  machine_.set_faults(replica_folder(kFirstAsked), faults);
  expect_read();
  EXPECT_GE(reader_.counters().read_errors, 1U);
}

TEST_F(BlockReaderTest, ACopyThatStallsIsLeftAndItsLateAnswerHarmsNobody) {
  SimFaults hung;
  hung.hung_until = life_.ring->now() + std::chrono::seconds(5);
  machine_.set_faults(replica_folder(kFirstAsked), hung);
  expect_read();
  EXPECT_EQ(life_.replicas().in_sync_mask(), 0b101U);
  life_.ring->run_for(std::chrono::seconds(10));
}

TEST_F(BlockReaderTest, AFlippedBitOnTheWayIsNoReasonForWrongData) {
  SimFaults faults;
  faults.read_flip = 2;
  for (unsigned copy : {0U, 1U}) machine_.set_faults(replica_folder(copy), faults);
  for (int round = 0; round < 30; ++round) expect_read();
  machine_.clear_faults();
  expect_same_on_all_copies();
}

TEST_F(BlockReaderTest, AMissingFileIsMadeAnewAndFilledAsItIsRead) {
  life_.store().close();  // Nobody keeps it open.
  ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(kFirstAsked, 1))));
  expect_read();
  EXPECT_EQ(reader_.counters().repaired_blocks, kCount);
  expect_same_on_all_copies();
}

TEST_F(BlockReaderTest, AMissingFileGetsAHeaderThatHolds) {
  life_.store().close();
  const auto header = block_of(*life_.ring, segment_path(2, 1), 0);
  ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(kFirstAsked, 1))));
  damage_block(*life_.ring, segment_path(0, 1), 0);
  expect_read();
  EXPECT_EQ(block_of(*life_.ring, segment_path(kFirstAsked, 1), 0), header);
  expect_same_on_all_copies();
}

// It may be the last one that is good.
TEST_F(BlockReaderTest, AHeaderThatCanNotBeReadIsLeftAsItIs) {
  const auto header = block_of(*life_.ring, segment_path(kFirstAsked, 1), 0);
  damage_block(*life_.ring, segment_path(0, 1), 0);
  damage_block(*life_.ring, segment_path(2, 1), 0);
  SimFaults faults;
  faults.read_error = 1;
  machine_.set_faults(replica_folder(kFirstAsked), faults);
  expect_read();
  machine_.clear_faults();
  EXPECT_EQ(block_of(*life_.ring, segment_path(kFirstAsked, 1), 0), header);
}

TEST_F(BlockReaderTest, AMendThatFailsDropsTheCopyNotTheRead) {
  flip(kFirstAsked, 2);
  SimFaults faults;
  faults.write_error = 1;
  machine_.set_faults(replica_folder(kFirstAsked), faults);
  expect_read();
  EXPECT_EQ(life_.replicas().in_sync_mask(), 0b101U);
  EXPECT_EQ(reader_.counters().repaired_blocks, 0U);
}

}  // namespace
}  // namespace clouddisk
