// Every copy of a segment is read; what is damaged is mended from a copy that is not, and what is
// damaged on all of them is told exactly.
#include "engine/disk/scrub.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/base/random.h"
#include "tests/engine/disk/test_pace.h"
#include "tests/engine/log/log_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

// Segment 1 is sealed: six batches of one descriptor and 40 blocks, LBAs 0-39, 100-139, …
class ScrubTest : public testing::Test {
 protected:
  static constexpr std::uint32_t kBatch = 41;
  static constexpr std::uint32_t kEnd = 1 + 6 * kBatch;  // of its batches: the footer is here

  void SetUp() override {
    ASSERT_OK(life_.recover());
    for (unsigned i = 0; i < 6; ++i) ASSERT_OK(life_.write(i * 100, 1 + i, 40));
    ASSERT_OK(life_.ring->block_on(life_.log().roll()));
    ASSERT_OK(life_.write(1000, 9, 8));
    ASSERT_OK(life_.flush());
    life_.ring->run_for(std::chrono::seconds(1));
    ASSERT_EQ(life_.log().oldest_in_use(), SegmentSeq(2)) << "the first one is sealed by now";
    first_ = snapshot(0);
  }
  // Everything that segment 1 is made of.
  std::vector<std::byte> snapshot(unsigned copy) {
    auto bytes = blocks_of(*life_.ring, segment_path(copy, 1), 0, kEnd + 1);
    const auto trailer = block_of(*life_.ring, segment_path(copy, 1), kTrailerBlock);
    bytes.insert(bytes.end(), trailer.begin(), trailer.end());
    return bytes;
  }
  Result<SegmentFindings> scrub() {
    return life_.ring->block_on(scrub_segment(life_.store(), life_.pool(), kLogDisk, SegmentSeq(1),
                                              header_start(), true, pace_));
  }
  // Where the segment ends, as the next one's header says.
  SegmentCut header_start() {
    SegmentReader reader(life_.store(), life_.pool(), kLogDisk, SegmentSeq(2));
    auto header = life_.ring->block_on(reader.header());
    return header ? SegmentCut(header->start) : std::nullopt;
  }
  void flip(unsigned copy, std::uint32_t block, std::uint64_t byte = 20) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 1), block * kBlockSize + byte));
  }
  void expect_whole() {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      EXPECT_TRUE(snapshot(copy) == first_) << "replica " << copy + 1;
    }
  }

  SimMachine machine_{77};
  LogLife life_{machine_};
  TestPace pace_{*life_.ring};
  std::vector<std::byte> first_;
};

TEST_F(ScrubTest, AnIntactSegmentIsReadOnceOnEachCopyAndNotWritten) {
  SimFaults faults;
  faults.write_error = 1;
  for (unsigned copy = 0; copy < 3; ++copy) machine_.set_faults(replica_folder(copy), faults);
  auto found = scrub();
  machine_.clear_faults();
  ASSERT_OK(found);
  EXPECT_TRUE(found->clean());
  EXPECT_EQ(found->checked, 7U);
  EXPECT_EQ(pace_.bytes(), 3 * first_.size())
      << "header, batches, footer and trailer of three copies";
}

struct Place {
  const char* what;
  std::uint32_t block;
};
class Damaged : public ScrubTest, public testing::WithParamInterface<Place> {};

TEST_P(Damaged, OnOneCopyIsMended) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    flip(copy, GetParam().block);
    auto found = scrub();
    ASSERT_OK(found);
    for (unsigned other = 0; other < kReplicaCount; ++other) {
      EXPECT_EQ(found->copies[other].bad_blocks, other == copy ? 1U : 0U);
      EXPECT_EQ(found->copies[other].mended_blocks, other == copy ? 1U : 0U);
    }
    EXPECT_TRUE(found->lost.empty() && found->lost_other == 0);
    expect_whole();
  }
}

TEST_P(Damaged, OnTwoCopiesIsMendedFromTheThird) {
  for (unsigned whole = 0; whole < kReplicaCount; ++whole) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (copy != whole) flip(copy, GetParam().block, 20 + copy);
    }
    auto found = scrub();
    ASSERT_OK(found);
    EXPECT_FALSE(found->clean());
    EXPECT_TRUE(found->lost.empty() && found->lost_other == 0);
    expect_whole();
    // Durably: a power loss takes nothing back, and the next pass finds nothing.
    auto again = scrub();
    ASSERT_OK(again);
    EXPECT_TRUE(again->clean());
  }
}

INSTANTIATE_TEST_SUITE_P(Scrub, Damaged,
                         testing::Values(Place{"Header", 0}, Place{"FirstDescriptor", 1},
                                         Place{"LaterDescriptor", 1 + 3 * 41},
                                         Place{"Payload", 1 + 3 * 41 + 7},
                                         Place{"LastPayload", 6 * 41}, Place{"Footer", 1 + 6 * 41},
                                         Place{"Trailer", kTrailerBlock}),
                         [](const auto& info) { return info.param.what; });

TEST_F(ScrubTest, DataThatIsDamagedOnAllCopiesIsToldByItsLbas) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    flip(copy, 1 + 2 * kBatch + 1 + 5, 100 + copy);
    flip(copy, 1 + 2 * kBatch + 1 + 6, 200);
    flip(copy, 1 + 4 * kBatch + 1, 300);
  }
  flip(1, 1 + 5 * kBatch + 1);  // and one that can be mended
  auto found = scrub();
  ASSERT_OK(found);
  ASSERT_EQ(found->lost.size(), 2U);
  EXPECT_EQ(found->lost[0].lba, Lba(205));
  EXPECT_EQ(found->lost[0].blocks, 2U);
  EXPECT_EQ(found->lost[1].lba, Lba(400));
  EXPECT_EQ(found->lost[1].blocks, 1U);
  EXPECT_EQ(found->lost_other, 0U);
  EXPECT_EQ(found->copies[0].bad_blocks, 3U);
  EXPECT_EQ(found->copies[1].bad_blocks, 4U);
  EXPECT_EQ(found->copies[1].mended_blocks, 1U);
}

// Each copy has a piece of what is needed.
TEST_F(ScrubTest, DamageInDifferentPlacesOfAllCopiesIsMended) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::vector<std::uint32_t> blocks(kEnd);
  std::iota(blocks.begin(), blocks.end(), 0U);
  for (std::size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random.below(i)]);
  std::array<std::uint64_t, kReplicaCount> flipped{};
  for (std::size_t i = 0; i < blocks.size() / 2; ++i) {
    const auto copy = static_cast<unsigned>(random.below(kReplicaCount));
    flip(copy, blocks[i], random.below(4000));
    ++flipped[copy];
  }
  auto found = scrub();
  ASSERT_OK(found);
  EXPECT_TRUE(found->lost.empty() && found->lost_other == 0);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    EXPECT_LE(found->copies[copy].bad_blocks, flipped[copy]) << "a flip may hit zeros nobody uses";
    EXPECT_EQ(found->copies[copy].mended_blocks, found->copies[copy].bad_blocks);
  }
  expect_whole();
}

TEST_F(ScrubTest, AFooterThatIsDamagedOnAllCopiesIsMadeAnew) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) flip(copy, kEnd);
  auto found = scrub();
  ASSERT_OK(found);
  EXPECT_TRUE(found->lost.empty() && found->lost_other == 0);
  expect_whole();
}

TEST_F(ScrubTest, ADescriptorThatIsDamagedOnAllCopiesLosesNoData) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) flip(copy, 1 + 2 * kBatch);
  auto found = scrub();
  ASSERT_OK(found);
  EXPECT_TRUE(found->lost.empty()) << "the footer knows what it said";
  EXPECT_EQ(found->lost_other, 1U);
}

TEST_F(ScrubTest, AFileThatIsGoneOrCutShortIsMadeWhole) {
  ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(1, 1))));
  auto found = scrub();
  ASSERT_OK(found);
  EXPECT_GT(found->copies[1].mended_blocks, 6 * 40U);
  expect_whole();
}

// A copy that is intact, but of another life of the log: only its chain tells.
TEST_F(ScrubTest, AnOldBatchInThePlaceOfANewerOneIsReplaced) {
  Batch stale;
  stale.segment = SegmentSeq(1);
  stale.block = 1 + 5 * kBatch;
  stale.batch = BatchSeq(6);
  stale.parent = 12345;
  stale.descriptor_blocks = 1;
  stale.payload_blocks = 0;
  std::vector<std::byte> block(kBlockSize);
  encode_descriptor(stale, kLogDisk, block);
  OpenOptions how;
  how.direct = false;
  auto file = life_.ring->block_on(life_.ring->open(segment_path(0, 1), how));
  ASSERT_OK(file);
  ASSERT_EQ(write_at(*life_.ring, *file, stale.block * kBlockSize, block),
            static_cast<int>(kBlockSize));
  auto found = scrub();
  ASSERT_OK(found);
  EXPECT_EQ(found->copies[0].mended_blocks, 1U);
  expect_whole();
}

TEST_F(ScrubTest, ACopyThatCanNotBeMendedIsPutOutOfTheSet) {
  flip(2, 30);
  SimFaults faults;
  faults.write_error = 1;
  machine_.set_faults(segment_path(2, 1), faults);
  auto found = scrub();
  machine_.clear_faults();
  ASSERT_OK(found);
  EXPECT_EQ(life_.replicas().in_sync_mask(), 3U);
  EXPECT_EQ(found->checked, 3U);
}

TEST_F(ScrubTest, ReadErrorsOfASectorAreMendedByWritingItAnew) {
  SimFaults faults;
  faults.read_error = 1;
  machine_.set_faults(segment_path(0, 1), faults);
  auto found = scrub();
  machine_.clear_faults();
  ASSERT_OK(found);
  EXPECT_GT(found->copies[0].mended_blocks, 6 * 40U);
  EXPECT_EQ(life_.replicas().in_sync_mask(), 7U);
  expect_whole();
}

TEST_F(ScrubTest, TheSegmentBeingWrittenIsLookedAtUpToWhatIsAcknowledged) {
  const LogPosition acked = life_.log().acked();
  ASSERT_TRUE(machine_.flip_bit(segment_path(1, 2), 3 * kBlockSize + 9));
  unsigned writes = 0;
  pace_.set_rate(1_MiB);
  bool done = false;
  Result<SegmentFindings> found = fail(Errc::kIo, "not yet");
  const auto run = [&]() -> Task<void> {
    found = co_await scrub_segment(life_.store(), life_.pool(), kLogDisk, SegmentSeq(2), acked,
                                   false, pace_);
    done = true;
  };
  spawn(run());
  while (!done) {
    ASSERT_OK(life_.write(2000 + writes, 7, 2));
    life_.ring->run_for(std::chrono::milliseconds(5));
    ++writes;
  }
  ASSERT_OK(found);
  EXPECT_GT(writes, 3U);
  EXPECT_EQ(found->copies[1].mended_blocks, 1U);
  EXPECT_EQ(found->copies[0].bad_blocks + found->copies[2].bad_blocks, 0U);
  const std::uint32_t end = life_.log().acked().block;
  for (unsigned copy = 1; copy < kReplicaCount; ++copy) {
    EXPECT_TRUE(same_blocks(*life_.ring, segment_path(0, 2), segment_path(copy, 2), 0, end));
  }
}

// A disk that is not open: what its last segment holds behind the last durable point is settled by
// the next open, and a torn tail there is no damage.
TEST_F(ScrubTest, ATornTailOfAClosedDiskIsNoDamage) {
  ASSERT_OK(life_.write(3000, 3, 4));
  ASSERT_OK(life_.flush());
  ASSERT_OK(life_.write(3100, 4, 4));  // not flushed: whatever is there may stay
  const std::uint32_t torn = life_.log().acked().block - 2;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 2), torn * kBlockSize));
  }
  auto found = life_.ring->block_on(scrub_closed_segment(
      life_.store(), life_.pool(), kLogDisk, SegmentSeq(2), SegmentSeq(0), std::nullopt, pace_));
  ASSERT_OK(found);
  EXPECT_TRUE(found->clean());
  ASSERT_TRUE(machine_.flip_bit(segment_path(1, 2), 3 * kBlockSize));
  found = life_.ring->block_on(scrub_closed_segment(
      life_.store(), life_.pool(), kLogDisk, SegmentSeq(2), SegmentSeq(0), std::nullopt, pace_));
  ASSERT_OK(found);
  EXPECT_EQ(found->copies[1].mended_blocks, 1U) << "before that point it is";
}

// A crash leaves a segment that was made ahead, with a blank header.
TEST_F(ScrubTest, ASegmentOfAClosedDiskThatWasNeverBegunIsNoDamage) {
  Buffer blank = life_.filled_buffer(1, 0);
  ASSERT_OK(life_.ring->block_on(life_.store().create(SegmentSeq(3), blank)));
  for (const std::uint64_t segment : {2, 3}) {
    auto found = life_.ring->block_on(
        scrub_closed_segment(life_.store(), life_.pool(), kLogDisk, SegmentSeq(segment),
                             SegmentSeq(segment == 2 ? 3 : 0), std::nullopt, pace_));
    ASSERT_OK(found);
    EXPECT_TRUE(found->clean()) << segment;
    EXPECT_EQ(found->checked, 7U);
  }
}

// After an orderly end no batch tells any more that the last ones are durable, but the index does.
TEST_F(ScrubTest, TheEndOfAClosedDiskIsLookedAtAsFarAsItsIndexKnows) {
  ASSERT_OK(life_.write(3000, 3, 4));
  ASSERT_OK(life_.flush());
  const LogPosition end = life_.log().acked();
  ASSERT_TRUE(machine_.flip_bit(segment_path(1, 2), (end.block - 1) * kBlockSize));
  auto found = life_.ring->block_on(scrub_closed_segment(life_.store(), life_.pool(), kLogDisk,
                                                         SegmentSeq(2), SegmentSeq(0), end, pace_));
  ASSERT_OK(found);
  EXPECT_EQ(found->copies[1].mended_blocks, 1U);
}

// Nobody knows any more what the batch was. What is around it is mended all the same.
TEST_F(ScrubTest, ADescriptorThatIsDamagedEverywhereKeepsNothingElseFromBeingMended) {
  ASSERT_OK(life_.write(3000, 3, 40));
  ASSERT_OK(life_.write(3100, 4, 40));
  const LogPosition acked = life_.log().acked();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    ASSERT_TRUE(machine_.flip_bit(segment_path(copy, 2), (acked.block - 2 * kBatch) * kBlockSize));
  }
  ASSERT_TRUE(machine_.flip_bit(segment_path(1, 2), (acked.block - 1) * kBlockSize));
  ASSERT_TRUE(machine_.flip_bit(segment_path(1, 2), 3 * kBlockSize));
  auto found = life_.ring->block_on(
      scrub_segment(life_.store(), life_.pool(), kLogDisk, SegmentSeq(2), acked, false, pace_));
  ASSERT_OK(found);
  EXPECT_TRUE(found->untold);
  EXPECT_FALSE(found->clean());
  EXPECT_EQ(found->copies[1].mended_blocks, 2U);
}

TEST_F(ScrubTest, ASegmentThatIsGoneEverywhereIsNotSound) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(copy, 1))));
    life_.files().forget_copy(copy);
  }
  auto found = life_.ring->block_on(scrub_closed_segment(
      life_.store(), life_.pool(), kLogDisk, SegmentSeq(1), SegmentSeq(2), std::nullopt, pace_));
  EXPECT_FALSE(found && found->clean());
}

TEST_F(ScrubTest, StoppedInTheMiddleItSaysSo) {
  pace_.stop_after(100 * kBlockSize);
  auto found = scrub();
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Errc::kShutdown);
}

}  // namespace
}  // namespace clouddisk
