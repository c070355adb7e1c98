// What recovery makes of a log after crashes and damage, over the simulated machine (I3).
#include "engine/log/log_recovery.h"

#include <gtest/gtest.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/log/segment_reader.h"
#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

using Lbas = std::vector<std::uint64_t>;

class DiskLogRecovery : public testing::Test {
 protected:
  // One batch a write, the position before each.
  void write_each(LogLife& life, const Lbas& lbas) {
    for (const std::uint64_t lba : lbas) {
      starts_.push_back(life.log().acked());
      ASSERT_OK(life.write(lba, static_cast<unsigned>(lba)));
    }
    end_ = life.log().acked();
  }
  // Writes 1, 2, 3 in a first life that is killed without a flush.
  void three_writes() {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    write_each(life, {1, 2, 3});
    starts_[0].block = kFirstBatchBlock;
    life.kill();
  }
  // And in a second life segment 2, which has no header yet.
  void three_writes_and_a_prepared_segment() {
    three_writes();
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    ASSERT_OK(life.ring->block_on(life.store().create(SegmentSeq(2), life.filled_buffer(1, 0))));
    life.kill();
  }
  void damage(unsigned copy, std::uint32_t block) {
    damage_block(machine_, segment_path(copy, 1), block);
  }
  void damage_everywhere(std::uint32_t block) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) damage(copy, block);
  }
  // Descriptor and payload of one block each.
  static std::uint32_t payload_at(const LogPosition& start) { return start.block + 1; }

  SimMachine machine_{7};
  std::vector<LogPosition> starts_;
  LogPosition end_;
};

// I2
TEST_F(DiskLogRecovery, WhatWasAcknowledgedSurvivesTheProcessWithoutAFlush) {
  three_writes();
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3}));
  EXPECT_EQ(recovered->tail, end_);
  EXPECT_EQ(recovered->durable, end_) << "nothing is built on what a power cut could take";
  EXPECT_EQ(recovered->next_write, WriteSeq(4));
  EXPECT_EQ(recovered->contents.entries.size(), 3U);
}

TEST_F(DiskLogRecovery, TornTailIsCutAndEarlierWritesSurvive) {
  three_writes();
  damage_everywhere(payload_at(starts_[2]));
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2}));
  EXPECT_EQ(recovered->tail, starts_[2]);
}

// Space is had ahead of the writes, and the length that came of it may be gone after a power cut.
TEST_F(DiskLogRecovery, AFileThatEndsRightBehindTheDataHidesNothing) {
  three_writes();
  const std::uint64_t end = end_.block * kBlockSize;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    shorten(machine_, segment_path(copy, 1), copy == 1 ? end + 1536 : end);
  }
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3}));
  EXPECT_EQ(recovered->tail, end_);
  ASSERT_OK(life.write(4, 4));
  ASSERT_OK(life.flush());
  EXPECT_EQ(life.replicas().in_sync_mask(), 7U);
}

TEST_F(DiskLogRecovery, AFileThatEndsInTheMiddleOfABatchLosesThatBatchAlone) {
  three_writes();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    shorten(machine_, segment_path(copy, 1), payload_at(starts_[2]) * kBlockSize + 512);
  }
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2}));
  EXPECT_EQ(recovered->tail, starts_[2]);
}

// What lies behind the cut is intact but descends from a batch that never was.
TEST_F(DiskLogRecovery, BatchesOfAnOldLifeBehindTheTailAreNotTaken) {
  three_writes();
  damage_everywhere(payload_at(starts_[1]));
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    EXPECT_EQ(life.replayed_lbas(), (Lbas{1}));
    ASSERT_OK(life.write(20, 20));  // Exactly over the batch of write 2; that of 3 still follows.
    life.kill();
  }
  LogLife life(machine_);
  ASSERT_OK(life.recover());
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 20}));
}

// A lost write, of which nobody was told: the first copy still has what was there before.
TEST_F(DiskLogRecovery, ABatchOfAnOldLifeOnOneCopyDoesNotHideTheOneInItsPlace) {
  three_writes();
  const std::vector<std::byte> old_descriptor = [&] {
    SimRing ring(machine_);
    return blocks_of(ring, segment_path(0, 1), starts_[1].block, 1);
  }();
  damage_everywhere(payload_at(starts_[1]));
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    ASSERT_OK(life.write(20, 20));
    ASSERT_OK(life.write(30, 30));
    life.kill();
  }
  overwrite(machine_, segment_path(0, 1), starts_[1].block * kBlockSize, old_descriptor);
  LogLife life(machine_);
  ASSERT_OK(life.recover());
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 20, 30}));
  EXPECT_TRUE(
      same_blocks(*life.ring, segment_path(0, 1), segment_path(1, 1), 0, starts_[1].block + 1))
      << "and the first copy is mended";
}

// Sealed, cut by a recovery and written on: what it said of its end is forgotten.
TEST_F(DiskLogRecovery, TheSegmentInWhichTheLogGoesOnIsNotSealedAnyMore) {
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    write_each(life, {1, 2, 3});
    ASSERT_OK(life.ring->block_on(life.log().roll()));
    ASSERT_OK(life.flush());
    life.ring->block_on(life.log().quiesce());
    ASSERT_TRUE(life.ring->block_on(
        find_trailer(life.store(), life.pool(), kLogDisk, SegmentSeq(1), std::nullopt)));
    life.kill();
  }
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    damage_block(machine_, segment_path(copy, 2), 0);
  }
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  ASSERT_EQ(recovered->tail.segment, SegmentSeq(1));
  EXPECT_FALSE(life.ring->block_on(
      find_trailer(life.store(), life.pool(), kLogDisk, SegmentSeq(1), std::nullopt)));
}

TEST_F(DiskLogRecovery, CopiesThatDifferAtTheTailAreMadeEqualToTheLongest) {
  three_writes();
  damage(0, starts_[2].block);
  damage(1, payload_at(starts_[2]));
  damage(2, payload_at(starts_[1]));
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3}));
  EXPECT_EQ(recovered->repaired_batches, 3U);
  for (unsigned copy = 1; copy < kReplicaCount; ++copy) {
    EXPECT_TRUE(same_blocks(*life.ring, segment_path(0, 1), segment_path(copy, 1), 0, end_.block));
  }
}

TEST_F(DiskLogRecovery, ACopyWithoutTheSegmentGetsIt) {
  three_writes();
  {
    SimRing ring(machine_);
    ASSERT_OK(ring.block_on(ring.remove(segment_path(1, 1))));
  }
  LogLife life(machine_);
  ASSERT_OK(life.recover());
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3}));
  EXPECT_EQ(life.replicas().in_sync_mask(), 0b111U);
  EXPECT_EQ(block_of(*life.ring, segment_path(1, 1), payload_at(starts_[2])),
            std::vector<std::byte>(kBlockSize, std::byte{3}));
}

// The power can take the header and leave what follows it.
TEST_F(DiskLogRecovery, ACopyThatLacksTheHeaderAloneGetsIt) {
  three_writes();
  damage(1, 0);
  damage(2, 0);
  LogLife life(machine_);
  ASSERT_OK(life.recover());
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3}));
  for (unsigned copy = 1; copy < kReplicaCount; ++copy) {
    EXPECT_TRUE(same_blocks(*life.ring, segment_path(0, 1), segment_path(copy, 1), 0, 1));
  }
}

TEST_F(DiskLogRecovery, AHoleBeforeTheDurableMarkIsRefusedAndNothingIsCut) {
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    write_each(life, {1, 2});
    ASSERT_OK(life.flush());
    write_each(life, {3});  // Its descriptor says that the first two are durable.
    life.kill();
  }
  const std::uint32_t hole = starts_[1].block;
  damage_everywhere(hole);
  const auto before = machine_.content(segment_path(0, 1));
  {
    LogLife life(machine_);
    const auto recovered = life.recover();
    ASSERT_FALSE(recovered);
    EXPECT_EQ(recovered.error().code, Errc::kCorrupt);
    EXPECT_NE(recovered.error().message.find("restore a replica"), std::string::npos);
  }
  EXPECT_EQ(machine_.content(segment_path(0, 1)), before);
}

TEST_F(DiskLogRecovery, AHoleBeforeTheCheckpointIsRefused) {
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    write_each(life, {1, 2, 3});
    ASSERT_OK(life.flush());
    life.kill();
  }
  damage_everywhere(starts_[1].block);
  LogLife life(machine_);
  const auto recovered = life.recover(end_);
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::kIo);
}

TEST_F(DiskLogRecovery, OnlyWhatFollowsTheCheckpointIsReplayed) {
  three_writes();
  LogLife life(machine_);
  const auto recovered = life.recover(starts_[2]);
  ASSERT_OK(recovered);
  EXPECT_EQ(life.replayed_lbas(), (Lbas{3}));
  EXPECT_EQ(recovered->contents.entries.size(), 3U) << "the footer will need all of them";
}

TEST_F(DiskLogRecovery, ACheckpointOfAnotherLogIsRefused) {
  three_writes();
  LogPosition foreign = starts_[1];
  foreign.chain ^= 1;
  LogLife life(machine_);
  const auto recovered = life.recover(foreign);
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::kCorrupt);
}

TEST_F(DiskLogRecovery, AMissingSegmentOfTheCheckpointIsRefused) {
  three_writes();
  LogPosition beyond = end_;
  beyond.segment = SegmentSeq(9);
  LogLife life(machine_);
  const auto recovered = life.recover(beyond);
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::kCorrupt);
}

// The next segment's header says where the one before ends: what a failed batch left there is no
// part of the log.
TEST_F(DiskLogRecovery, TheHeaderOfANewSegmentCutsTheOneBefore) {
  three_writes();
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    // As after a failed batch: a segment that begins before write 3.
    SegmentHeader header;
    header.disk = kLogDisk;
    header.segment = SegmentSeq(2);
    header.start = {SegmentSeq(2), kFirstBatchBlock, starts_[2].next_batch, starts_[2].chain};
    Buffer block = life.filled_buffer(1, 0);
    encode_header(header, block.span());
    ASSERT_OK(life.ring->block_on(life.store().create(SegmentSeq(2), block)));
    life.kill();
  }
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(recovered->tail.segment, SegmentSeq(2));
  ASSERT_OK(life.write(4, 4));
  life.kill();
  LogLife after(machine_);
  ASSERT_OK(after.recover(starts_[0]));
  EXPECT_EQ(after.replayed_lbas(), (Lbas{1, 2, 4}));
}

TEST_F(DiskLogRecovery, SegmentsBegunAfterTheTailAreRemoved) {
  ASSERT_NO_FATAL_FAILURE(three_writes_and_a_prepared_segment());
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(recovered->unreachable, std::vector{SegmentSeq(2)});
  EXPECT_FALSE(machine_.exists(segment_path(0, 2)));
  EXPECT_EQ(recovered->newest, SegmentSeq(2)) << "a number is never used twice";
}

// Then the removal does not count, and there is no reason not to read.
TEST_F(DiskLogRecovery, WithTooFewCopiesWhatWasBegunAfterTheTailIsNoReasonNotToRead) {
  ASSERT_NO_FATAL_FAILURE(three_writes_and_a_prepared_segment());
  {
    LogLife life(machine_);
    for (const unsigned copy : {0U, 1U}) {
      static_cast<void>(life.ring->block_on(life.replicas().drop(*life.ring, copy, "a test")));
    }
    ASSERT_OK(life.recover());
    EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3}));
    EXPECT_FALSE(life.write(4, 4));
    life.kill();
  }
}

// It was begun, and what is in it was durable: damage, and no reason to remove it.
TEST_F(DiskLogRecovery, ASegmentWhoseHeaderIsDamagedEverywhereIsNotRemoved) {
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    write_each(life, {1});
    ASSERT_OK(life.flush());
    write_each(life, {2});
    life.kill();
  }
  damage_everywhere(0);
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::kIo);
  EXPECT_NE(recovered.error().message.find("restore a replica"), std::string::npos);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    EXPECT_TRUE(machine_.exists(segment_path(copy, 1)));
  }
}

// Its footer tells what it holds, but an index that does not know of it would hide it.
TEST_F(DiskLogRecovery, ASealedSegmentWithoutAHeaderNeedsARecoveryWithoutAnIndex) {
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    for (const std::uint64_t lba : {1, 2, 3}) {
      write_each(life, {lba});
      ASSERT_OK(life.flush());
      ASSERT_OK(life.ring->block_on(life.log().roll()));
      ASSERT_OK(life.flush());
    }
    write_each(life, {4});
    life.kill();
  }
  damage_everywhere(0);
  {
    LogLife life(machine_);
    const auto refused = life.recover(LogPosition{});  // An index that was made and never written.
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kCorrupt);
  }
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_TRUE(recovered->unreachable.empty());
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    EXPECT_TRUE(machine_.exists(segment_path(copy, 1)));
  }
}

TEST_F(DiskLogRecovery, ASegmentThatLostItsHeaderBeforeItWasDurableIsRemoved) {
  three_writes();
  damage_everywhere(0);
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_OK(recovered);
  EXPECT_EQ(recovered->unreachable, std::vector{SegmentSeq(1)});
}

TEST_F(DiskLogRecovery, ANewerFormatIsRefusedByItsName) {
  three_writes();
  // The version stands at byte 8; the checksum over the rest at the end of the block.
  std::vector<std::byte> block;
  {
    SimRing ring(machine_);
    block = block_of(ring, segment_path(0, 1), 0);
  }
  store_le(block.data() + 8, kLogFormatVersion + 1);
  store_le(block.data() + kBlockSize - 8, checksum64(std::span(block).first(kBlockSize - 8)));
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    overwrite(machine_, segment_path(copy, 1), 0, block);
  }
  LogLife life(machine_);
  const auto recovered = life.recover();
  ASSERT_FALSE(recovered);
  EXPECT_EQ(recovered.error().code, Errc::kUnsupported);
  EXPECT_NE(recovered.error().message.find("upgrade"), std::string::npos);
}

// A file is renamed into its next life with everything that was in it.
TEST_F(DiskLogRecovery, OldBytesOfARecycledSegmentAreNotTaken) {
  three_writes();
  LogPosition checkpoint;
  {
    LogLife life(machine_);
    ASSERT_OK(life.recover());
    ASSERT_OK(life.ring->block_on(life.log().roll()));
    write_each(life, {4});
    ASSERT_OK(life.flush());
    checkpoint = life.log().acked();
    ASSERT_OK(life.ring->block_on(life.store().remove(SegmentSeq(1))));
    ASSERT_OK(life.ring->block_on(life.log().roll()));
    EXPECT_GT(life.log().active_segment(), checkpoint.segment);
    ASSERT_EQ(block_of(*life.ring, segment_path(0, 3), payload_at(starts_[1])),
              std::vector<std::byte>(kBlockSize, std::byte{2}))
        << "the test needs a recycled file";
    write_each(life, {5});
    life.kill();
  }
  LogLife life(machine_);
  ASSERT_OK(life.recover(checkpoint));
  EXPECT_EQ(life.replayed_lbas(), Lbas{5});
  EXPECT_EQ(life.log().acked(), end_);
}

TEST_F(DiskLogRecovery, ASegmentOfAnotherDiskIsNotTaken) {
  three_writes();
  SegmentHeader header;
  header.disk = disk_tag("d-another");
  header.segment = SegmentSeq(1);
  header.start = {SegmentSeq(1), kFirstBatchBlock, BatchSeq(1), 0};
  std::vector<std::byte> block(kBlockSize);
  encode_header(header, block);
  for (const unsigned copy : {0U, 1U}) overwrite(machine_, segment_path(copy, 1), 0, block);
  LogLife life(machine_);
  ASSERT_OK(life.recover());
  EXPECT_EQ(life.replayed_lbas(), (Lbas{1, 2, 3})) << "the third copy is of this disk";
}

}  // namespace
}  // namespace clouddisk
