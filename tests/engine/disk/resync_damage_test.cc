// Resync when the copies in sync are not what they should be: it brings what there is, and never
// takes the only copy of anything away.
#include <gtest/gtest.h>

#include "engine/disk/resync.h"
#include "tests/engine/disk/test_pace.h"
#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

constexpr unsigned kJoiner = 2;
constexpr std::uint32_t kBatch = 41;  // blocks: a descriptor and 40 of payload

class ResyncDamageTest : public testing::Test {
 protected:
  // One segment of six batches that was never sealed, as a disk that is not open has it.
  void SetUp() override {
    ASSERT_OK(life_.recover());
    for (unsigned i = 0; i < 6; ++i) ASSERT_OK(life_.write(i * 100, 1 + i, 40));
    ASSERT_OK(life_.flush());
    ASSERT_OK(life_.ring->block_on(life_.replicas().drop(*life_.ring, kJoiner, "on purpose")));
  }
  Result<ResyncOutcome> resync() {
    if (life_.replicas().receiving_mask() == 0) {
      if (auto begun = life_.replicas().begin_receiving(kJoiner); !begun) return begun.error();
    }
    std::set<SegmentSeq> done;
    return life_.ring->block_on(
        resync_copy(life_.store(), life_.pool(), kLogDisk, kJoiner, std::nullopt, pace_, done));
  }
  void remove_from(unsigned copy, std::uint64_t segment) {
    ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(copy, segment))));
  }

  SimMachine machine_{78};
  LogLife life_{machine_};
  TestPace pace_{*life_.ring};
};

TEST_F(ResyncDamageTest, ADescriptorThatIsDamagedEverywhereKeepsNothingElseBack) {
  for (const unsigned copy : {0U, 1U}) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 1), (1 + 2 * kBatch) * kBlockSize + 20));
  }
  remove_from(kJoiner, 1);
  ASSERT_OK(resync());
  EXPECT_TRUE(
      same_blocks(*life_.ring, segment_path(kJoiner, 1), segment_path(0, 1), 0, 1 + 6 * kBatch))
      << "what stands behind it, and the batch itself, whose places an index may know";
}

TEST_F(ResyncDamageTest, AHeaderThatIsDamagedEverywhereKeepsNothingElseBack) {
  for (const unsigned copy : {0U, 1U}) ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 1), 20));
  remove_from(kJoiner, 1);
  ASSERT_OK(resync());
  EXPECT_TRUE(
      same_blocks(*life_.ring, segment_path(kJoiner, 1), segment_path(0, 1), 0, 1 + 6 * kBatch));
}

// A crash leaves a segment that was made ahead, with a blank header.
TEST_F(ResyncDamageTest, ASegmentThatWasNeverBegunIsNoDamage) {
  Buffer blank = life_.filled_buffer(1, 0);
  ASSERT_OK(life_.ring->block_on(life_.store().create(SegmentSeq(2), blank)));
  remove_from(kJoiner, 1);
  ASSERT_OK(resync());
  EXPECT_TRUE(
      same_blocks(*life_.ring, segment_path(kJoiner, 1), segment_path(0, 1), 0, 1 + 6 * kBatch));
}

TEST_F(ResyncDamageTest, WhenTheOthersHaveLostEverythingTheCopyIsLeftAsItIs) {
  remove_from(0, 1);
  remove_from(1, 1);
  const auto outcome = resync();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::kCorrupt);
  EXPECT_TRUE(machine_.exists(segment_path(kJoiner, 1)));
}

// The copy was written to alone when the power failed: a batch that nobody acknowledged.
TEST_F(ResyncDamageTest, WhatOnlyTheCopyHasBehindTheEndDoesNotComeBack) {
  const LogPosition end = life_.log().acked();
  Batch unknown;
  unknown.segment = end.segment;
  unknown.block = end.block;
  unknown.batch = end.next_batch;
  unknown.parent = end.chain;
  unknown.epoch = life_.log().epoch();
  unknown.descriptor_blocks = 1;
  LogEntry trim;
  trim.kind = EntryKind::kTrim;
  trim.lba = Lba(9999);
  trim.count = 1;
  trim.write = WriteSeq(99);
  unknown.entries.push_back(trim);
  std::vector<std::byte> block(kBlockSize);
  encode_descriptor(unknown, kLogDisk, block);
  overwrite(*life_.ring, segment_path(kJoiner, 1), end.block * kBlockSize, block);
  ASSERT_OK(resync());
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  life_.kill();
  LogLife next(machine_);
  auto recovered = next.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(recovered->tail.next_batch, end.next_batch);
}

}  // namespace
}  // namespace clouddisk
