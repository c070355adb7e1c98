// One copy brought up to date: what is missing or wrong is copied from whichever copy has it right.
#include "engine/disk/resync.h"

#include <gtest/gtest.h>

#include "engine/disk/scrub.h"
#include "tests/engine/disk/test_pace.h"
#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

constexpr unsigned kJoiner = 2;

class ResyncTest : public testing::Test {
 protected:
  // Segments 1 and 2 are complete, of the second the joiner has no more than the header.
  void SetUp() override {
    ASSERT_OK(life_.recover());
    for (unsigned lba = 0; lba < 6; ++lba) ASSERT_OK(life_.write(lba, 1 + lba, 40));
    ASSERT_OK(life_.ring->block_on(life_.log().roll()));
    ASSERT_OK(life_.ring->block_on(life_.replicas().drop(*life_.ring, kJoiner, "on purpose")));
    for (unsigned lba = 0; lba < 6; ++lba) ASSERT_OK(life_.write(lba, 50 + lba, 40));
    ASSERT_OK(life_.ring->block_on(life_.log().append_range(EntryKind::kTrim, Lba(9), 1000)));
    ASSERT_OK(life_.ring->block_on(life_.log().roll()));
    ASSERT_OK(life_.replicas().begin_receiving(kJoiner));
    ASSERT_OK(life_.ring->block_on(life_.log().roll()));
    ASSERT_OK(life_.flush());
  }
  // As after a restart, which remembers nothing.
  Task<Result<void>> resync() {
    done_.clear();
    auto outcome = co_await resync_copy(life_.store(), life_.pool(), kLogDisk, kJoiner,
                                        life_.log().active_segment(), pace_, done_);
    if (!outcome) co_return outcome.error();
    outcome_ = *outcome;
    co_return Result<void>{};
  }
  // Everything that a segment is made of is the same on the joiner as on `copy`.
  void expect_equal(Ring& ring, unsigned copy, std::uint64_t segment) {
    const std::uint32_t end = segment == 1 ? 6 * 41 + 3 : 6 * 41 + 4;
    const std::string joiner = segment_path(kJoiner, segment);
    const std::string source = segment_path(copy, segment);
    EXPECT_TRUE(same_blocks(ring, joiner, source, 0, end)) << segment;
    EXPECT_TRUE(same_blocks(ring, joiner, source, kTrailerBlock, kSegmentBlocks)) << segment;
  }

  // The joiner is back, takes six batches in the active segment, and is out by an fdatasync of it.
  void fall_out_by_a_flush() {
    ASSERT_OK(life_.ring->block_on(resync()));
    ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
    for (unsigned lba = 0; lba < 6; ++lba) ASSERT_OK(life_.write(lba, 90 + lba, 40));
    SimFaults faults;
    faults.datasync_error = 1;
    machine_.set_faults(replica_folder(kJoiner), faults);
    ASSERT_OK(life_.flush());
    ASSERT_EQ(life_.replicas().in_sync_mask(), 3U) << "the joiner fell out";
    machine_.clear_faults();
  }
  void receive_again() {
    ASSERT_OK(life_.replicas().begin_receiving(kJoiner));
    ASSERT_OK(life_.ring->block_on(life_.log().roll()));
    ASSERT_OK(life_.flush());
  }
  // After a power cut, which ends everything, the joiner has these batches.
  void expect_durable(std::uint64_t segment) {
    machine_.power_loss();
    SimRing ring(machine_);
    EXPECT_TRUE(
        same_blocks(ring, segment_path(kJoiner, segment), segment_path(0, segment), 0, 6 * 41 + 1));
  }

  SimMachine machine_{31};
  LogLife life_{machine_};
  TestPace pace_{*life_.ring};
  ResyncOutcome outcome_;
  std::set<SegmentSeq> done_;
};

TEST_F(ResyncTest, TheCopyIsEqualAndDurableAfterwards) {
  ASSERT_FALSE(same_blocks(*life_.ring, segment_path(kJoiner, 2), segment_path(0, 2), 0, 9));
  ASSERT_OK(life_.ring->block_on(resync()));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  EXPECT_GT(pace_.bytes(), 2 * 6 * 40 * kBlockSize);
  EXPECT_EQ(outcome_.segments_kept, 1U) << "it had the first one";
  EXPECT_GT(outcome_.copied_bytes, 6 * 40 * kBlockSize);
  life_.kill();
  machine_.power_loss();
  SimRing ring(machine_);
  for (const std::uint64_t segment : {1, 2}) expect_equal(ring, 0, segment);
}

TEST_F(ResyncTest, WhatTheCopyHasAlreadyIsNotWrittenAgain) {
  ASSERT_OK(life_.ring->block_on(resync()));
  SimFaults faults;
  faults.write_error = 1;
  machine_.set_faults(replica_folder(kJoiner), faults);
  EXPECT_OK(life_.ring->block_on(resync()));
  machine_.clear_faults();
  EXPECT_EQ(outcome_.segments_kept, 3U);
  EXPECT_EQ(outcome_.copied_bytes, 0U);
}

// A replica that was away for a moment costs the others next to nothing.
TEST_F(ResyncTest, WhatTheCopyHasAlreadyIsNotReadFromTheOthers) {
  ASSERT_OK(life_.ring->block_on(resync()));
  const std::uint64_t before = pace_.bytes();
  ASSERT_OK(life_.ring->block_on(resync()));
  const std::uint64_t segment_bytes = (6 * 41 + 1) * kBlockSize;
  EXPECT_LT(pace_.bytes() - before, 2 * segment_bytes + 16 * kBlockSize)
      << "each block is read once, on the copy itself";
}

TEST_F(ResyncTest, StoppedItSaysSoAndGoesOnLater) {
  pace_.stop_after(200 * kBlockSize);
  auto cut_off = life_.ring->block_on(resync());
  ASSERT_FALSE(cut_off);
  EXPECT_EQ(cut_off.error().code, Errc::kShutdown);
  pace_.stop_after(std::nullopt);
  ASSERT_OK(life_.ring->block_on(resync()));
  for (const std::uint64_t segment : {1, 2}) expect_equal(*life_.ring, 0, segment);
}

// A replica that comes back in an empty folder has nothing of the segment that was open on it.
TEST_F(ResyncTest, WritesToASegmentFromBeforeDoNotPutACopyInANewFolderOut) {
  ASSERT_OK(life_.ring->block_on(resync()));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  ASSERT_OK(life_.write(1, 1));
  ASSERT_OK(life_.ring->block_on(life_.replicas().drop(*life_.ring, kJoiner, "replaced")));
  life_.files().forget_copy(kJoiner);
  life_.replicas().set_folder(kJoiner, "/root/fresh");
  ASSERT_OK(life_.ring->block_on(life_.ring->make_directories("/root/fresh")));
  ASSERT_OK(life_.replicas().begin_receiving(kJoiner));
  ASSERT_OK(life_.write(2, 2));
  ASSERT_OK(life_.flush());
  EXPECT_NE(life_.replicas().receiving_mask(), 0U) << "it is still there";
  ASSERT_OK(life_.ring->block_on(life_.log().roll()));
  ASSERT_OK(life_.ring->block_on(resync()));
  EXPECT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
}

TEST_F(ResyncTest, WhatIsDoneIsNotLookedAtAgain) {
  ASSERT_OK(life_.ring->block_on(resync()));
  const std::uint64_t before = pace_.bytes();
  ASSERT_OK(life_.ring->block_on(resync_copy(life_.store(), life_.pool(), kLogDisk, kJoiner,
                                             life_.log().active_segment(), pace_, done_)));
  EXPECT_EQ(pace_.bytes(), before);
}

TEST_F(ResyncTest, InterruptedItGoesOnWithWhatIsStillMissing) {
  SimFaults faults;
  faults.write_error = 1;
  machine_.set_faults(segment_path(kJoiner, 2), faults);
  EXPECT_FALSE(life_.ring->block_on(resync()));
  machine_.clear_faults();
  if (life_.replicas().receiving_mask() == 0) {
    ASSERT_OK(life_.replicas().begin_receiving(kJoiner));
  }
  ASSERT_OK(life_.ring->block_on(resync()));
  for (const std::uint64_t segment : {1, 2}) expect_equal(*life_.ring, 0, segment);
}

TEST_F(ResyncTest, ASegmentThatTheOthersDoNotHaveIsRemoved) {
  ASSERT_OK(
      life_.ring->block_on(life_.ring->rename(segment_path(kJoiner, 1), segment_path(kJoiner, 0))));
  ASSERT_OK(life_.ring->block_on(resync()));
  EXPECT_FALSE(machine_.exists(segment_path(kJoiner, 0)));
  expect_equal(*life_.ring, 0, 1);
}

// It was begun in a life that the others lost. Left there it would be taken for the latest of those
// that begin at its batch, and what was written instead of it would be gone at the next start.
TEST_F(ResyncTest, ALaterSegmentThatTheOthersDoNotHaveIsRemovedButNoneOfTheLog) {
  const std::uint64_t active = life_.log().active_segment().value;
  const std::string stray = segment_path(kJoiner, active + 5);
  ASSERT_OK(life_.ring->block_on(life_.ring->rename(segment_path(kJoiner, 1), stray)));
  ASSERT_OK(life_.ring->block_on(resync()));
  EXPECT_FALSE(machine_.exists(stray));
  EXPECT_TRUE(machine_.exists(segment_path(kJoiner, active)));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  ASSERT_OK(life_.write(7, 7));
  ASSERT_OK(life_.flush());
  EXPECT_EQ(life_.replicas().in_sync_mask(), 7U);
}

// What a failed fdatasync covered reads back, is in a cache, and goes with the power although the
// next fdatasync succeeds.
TEST_F(ResyncTest, ASegmentWhoseFlushFailedIsWrittenAnew) {
  const std::uint64_t active = life_.log().active_segment().value;
  ASSERT_NO_FATAL_FAILURE(fall_out_by_a_flush());
  ASSERT_NO_FATAL_FAILURE(receive_again());
  ASSERT_OK(life_.ring->block_on(resync()));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  life_.kill();
  expect_durable(active);
}

// The same with a restart in between: the next process knows of it from the superblocks.
TEST_F(ResyncTest, WhatAnEarlierProcessCouldNotFlushIsWrittenAnew) {
  const std::uint64_t active = life_.log().active_segment().value;
  ASSERT_NO_FATAL_FAILURE(fall_out_by_a_flush());
  life_.kill();
  {
    LogLife next(machine_);
    ASSERT_OK(next.recover());
    ASSERT_EQ(next.replicas().in_sync_mask(), 3U);
    ASSERT_OK(next.replicas().begin_receiving(kJoiner));
    ASSERT_OK(next.ring->block_on(next.log().roll()));
    ASSERT_OK(next.flush());
    TestPace pace(*next.ring);
    std::set<SegmentSeq> done;
    const auto bring = [&] {
      return next.ring->block_on(resync_copy(next.store(), next.pool(), kLogDisk, kJoiner,
                                             next.log().active_segment(), pace, done));
    };
    ASSERT_OK(bring());
    done.clear();
    const auto again = bring();
    ASSERT_OK(again);
    EXPECT_EQ(again->copied_bytes, 0U) << "once is enough";
    ASSERT_OK(next.ring->block_on(next.replicas().admit(kJoiner)));
    next.kill();
  }
  expect_durable(active);
}

// The same with the disk closed in between: its store, which knew the file, is gone.
TEST_F(ResyncTest, WhatCouldNotBeFlushedBeforeTheDiskWasClosedIsWrittenAnew) {
  const std::uint64_t active = life_.log().active_segment().value;
  ASSERT_NO_FATAL_FAILURE(fall_out_by_a_flush());
  ASSERT_NO_FATAL_FAILURE(receive_again());
  const auto reopened = std::make_shared<LocalSegmentStore>(
      *life_.ring, life_.replicas(), life_.files(), kLogDiskId, LocalSegmentStore::Options{});
  std::set<SegmentSeq> done;
  ASSERT_OK(life_.ring->block_on(resync_copy(*reopened, life_.pool(), kLogDisk, kJoiner,
                                             life_.log().active_segment(), pace_, done)));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  reopened->close();
  life_.kill();
  expect_durable(active);
}

// It may be the last copy of some block.
TEST_F(ResyncTest, ASegmentWhoseFlushFailedStaysWhereNoOtherHasAllOfIt) {
  const std::uint64_t active = life_.log().active_segment().value;
  ASSERT_NO_FATAL_FAILURE(fall_out_by_a_flush());
  ASSERT_NO_FATAL_FAILURE(receive_again());
  const auto before = blocks_of(*life_.ring, segment_path(kJoiner, active), 0, 6 * 41 + 1);
  damage_block(*life_.ring, segment_path(0, active), 60);
  damage_block(*life_.ring, segment_path(1, active), 60);
  const auto refused = life_.ring->block_on(resync());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("fsck"), std::string::npos);
  EXPECT_EQ(blocks_of(*life_.ring, segment_path(kJoiner, active), 0, 6 * 41 + 1), before);
}

TEST_F(ResyncTest, ASegmentWhoseFlushFailedIsWrittenAnewFromWhatTheOthersHaveTogether) {
  const std::uint64_t active = life_.log().active_segment().value;
  ASSERT_NO_FATAL_FAILURE(fall_out_by_a_flush());
  ASSERT_NO_FATAL_FAILURE(receive_again());
  damage_block(*life_.ring, segment_path(0, active), 60);
  damage_block(*life_.ring, segment_path(1, active), 100);
  ASSERT_OK(life_.ring->block_on(resync()));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  life_.kill();
  expect_durable(active);
}

// The power took the footer on all of them, and not the trailer.
TEST_F(ResyncTest, ASegmentWhoseFlushFailedIsWrittenAnewThoughNoOtherHasAFooter) {
  const std::uint64_t active = life_.log().active_segment().value;
  ASSERT_NO_FATAL_FAILURE(fall_out_by_a_flush());
  ASSERT_NO_FATAL_FAILURE(receive_again());
  for (unsigned copy = 0; copy < kJoiner; ++copy) {
    const auto trailer =
        decode_trailer(block_of(*life_.ring, segment_path(copy, active), kTrailerBlock), kLogDisk,
                       SegmentSeq(active));
    ASSERT_OK(trailer);
    damage_block(*life_.ring, segment_path(copy, active), trailer->footer_block);
  }
  ASSERT_OK(life_.ring->block_on(resync()));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  life_.kill();
  expect_durable(active);
}

TEST_F(ResyncTest, ASegmentWhoseNextOneWasCleanedEndsWhereItSaysItself) {
  for (unsigned lba = 0; lba < 6; ++lba) ASSERT_OK(life_.write(lba, 90 + lba, 40));
  ASSERT_OK(life_.ring->block_on(life_.log().roll()));
  ASSERT_OK(life_.flush());
  ASSERT_OK(life_.ring->block_on(life_.store().remove(SegmentSeq(2))));
  ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(kJoiner, 1))));
  ASSERT_OK(life_.ring->block_on(resync()));
  expect_equal(*life_.ring, 0, 1);
  // Its footer may be damaged everywhere as well.
  const std::uint32_t footer = 6 * 41 + 1;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 1), footer * kBlockSize));
  }
  ASSERT_OK(life_.ring->block_on(resync()));
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  auto found = life_.ring->block_on(scrub_closed_segment(
      life_.store(), life_.pool(), kLogDisk, SegmentSeq(1), SegmentSeq(3), std::nullopt, pace_));
  ASSERT_OK(found);
  EXPECT_TRUE(found->lost.empty());
}

// Of a copy that was not there when recovery dropped the trailers of the others.
TEST_F(ResyncTest, ATrailerThatTheOthersDoNotHaveGoes) {
  std::vector<std::vector<std::byte>> sealed;
  for (const std::uint64_t segment : {1, 2}) {
    sealed.push_back(block_of(*life_.ring, segment_path(0, segment), kTrailerBlock));
  }
  const std::vector<std::byte> nothing(kBlockSize);
  for (unsigned copy = 0; copy < kJoiner; ++copy) {
    overwrite(*life_.ring, segment_path(copy, 2), kTrailerBlock * kBlockSize, nothing);
  }
  overwrite(*life_.ring, segment_path(kJoiner, 2), kTrailerBlock * kBlockSize, sealed[1]);
  ASSERT_OK(life_.ring->block_on(resync()));
  const auto left = block_of(*life_.ring, segment_path(kJoiner, 2), kTrailerBlock);
  EXPECT_FALSE(decode_trailer(left, kLogDisk, SegmentSeq(2)));
}

Task<void> note(Task<Result<void>> task, Result<void>& result, bool& done) {
  result = co_await std::move(task);
  done = true;
}

TEST_F(ResyncTest, WritesGoOnMeanwhileAndTheCopyHasThem) {
  Result<void> result;
  bool done = false;
  pace_.set_rate(1_MiB);
  spawn(note(resync(), result, done));
  unsigned writes = 0;
  while (!done) {
    ASSERT_OK(life_.write(writes, 7, 2));
    life_.ring->run_for(std::chrono::milliseconds(50));
    ++writes;
  }
  ASSERT_OK(result);
  EXPECT_GT(writes, 10U) << "it was over too soon to say anything";
  ASSERT_OK(life_.ring->block_on(life_.replicas().admit(kJoiner)));
  for (const std::uint64_t segment : {1, 2}) expect_equal(*life_.ring, 0, segment);
  const LogPosition end = life_.log().acked();
  EXPECT_TRUE(same_blocks(*life_.ring, segment_path(kJoiner, end.segment.value),
                          segment_path(1, end.segment.value), 0, end.block));
}

struct Damage {
  const char* what;
  std::uint32_t block;
};
class DamagedSource : public ResyncTest, public testing::WithParamInterface<Damage> {};

// One source is damaged, the other is not: the copy is made from the right one, whatever it is.
TEST_P(DamagedSource, IsNotCopied) {
  for (const std::uint64_t segment : {1, 2}) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(0, segment), GetParam().block * kBlockSize + 20));
  }
  ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(kJoiner, 1))));
  ASSERT_OK(life_.ring->block_on(resync()));
  for (const std::uint64_t segment : {1, 2}) expect_equal(*life_.ring, 1, segment);
}

INSTANTIATE_TEST_SUITE_P(Resync, DamagedSource,
                         testing::Values(Damage{"Header", 0}, Damage{"FirstDescriptor", 1},
                                         Damage{"LaterDescriptor", 1 + 3 * 41},
                                         Damage{"Payload", 1 + 3 * 41 + 7},
                                         Damage{"Footer", 1 + 6 * 41 + 1},
                                         Damage{"Trailer", kTrailerBlock}),
                         [](const auto& info) { return info.param.what; });

}  // namespace
}  // namespace clouddisk
