// What a check of one log finds: damage by place and copy, apart from what a crash leaves.
#include "engine/disk/log_check.h"

#include <gtest/gtest.h>

#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kBatch = 41;            // a descriptor and 40 blocks
constexpr std::uint32_t kEnd = 1 + 3 * kBatch;  // of segment 1, where its footer is

class LogCheckTest : public testing::Test {
 protected:
  // Segment 1 is sealed, segment 2 has a durable batch and one that is not known durable.
  void SetUp() override {
    ASSERT_OK(life_.recover());
    for (unsigned i = 0; i < 3; ++i) ASSERT_OK(life_.write(i * 100, 1 + i, 40));
    roll();
    ASSERT_OK(life_.write(1000, 9, 4));
    ASSERT_OK(life_.flush());
    ASSERT_OK(life_.write(2000, 9, 4));
    ASSERT_OK(life_.write(2000, 9, 4));  // Tells that the first one is durable.
    life_.ring->run_for(std::chrono::seconds(1));
  }
  void roll() { ASSERT_OK(life_.ring->block_on(life_.log().roll())); }
  LogCheck check(bool repair = false, std::optional<BatchSeq> settled = {}) {
    LogCheckOptions options;
    options.repair = repair;
    options.settled = settled;
    auto checked = life_.ring->block_on(check_log(life_.store(), life_.pool(), kLogDisk, options));
    EXPECT_OK(checked);
    return checked ? *std::move(checked) : LogCheck{};
  }
  static std::string text(const LogCheck& check) {
    std::string all;
    for (const LogDamage& one : check.damage) {
      all += fmt::format("{} {}+{} of {:03b} {}{}\n", one.segment.value, one.first, one.count,
                         one.copies, one.what,
                         one.unfinished ? ", unfinished"
                         : one.mendable ? ", mendable"
                                        : ", lost");
    }
    return all;
  }
  void damage(unsigned copy, std::uint64_t segment, std::uint32_t block) {
    damage_block(*life_.ring, segment_path(copy, segment), block);
    life_.files().forget_copy(copy);
  }
  void damage_all(std::uint64_t segment, std::uint32_t block) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) damage(copy, segment, block);
  }
  void expect_mended() {
    const LogCheck repaired = check(true);
    for (const LogDamage& one : repaired.damage) EXPECT_EQ(one.problem, "");
    EXPECT_EQ(text(check()), "");
  }

  SimMachine machine_{9};
  LogLife life_{machine_};
};

TEST_F(LogCheckTest, ASoundLogHasNoDamage) {
  const LogCheck sound = check();
  EXPECT_EQ(text(sound), "");
  EXPECT_EQ(sound.checksums.size(), 2U);
  EXPECT_GT(sound.bytes, 3 * kEnd * kBlockSize);
}

TEST_F(LogCheckTest, DamageIsToldByPlaceAndCopyAndMendedFromTheOthers) {
  damage(0, 1, 0);
  damage(1, 1, 1 + kBatch);
  damage(2, 1, 1 + kBatch + 5);
  damage(2, 1, 1 + kBatch + 6);
  damage(0, 2, 2);
  EXPECT_EQ(text(check()),
            "1 0+1 of 001 header, mendable\n1 42+1 of 010 descriptor, mendable\n"
            "1 47+2 of 100 payload, mendable\n2 2+1 of 001 payload, mendable\n");
  expect_mended();
}

TEST_F(LogCheckTest, WhatNoCopyHasIsLostAndNothingElse) {
  damage_all(1, 1 + kBatch + 5);
  const LogCheck found = check(true);
  EXPECT_EQ(text(found), "1 47+1 of 111 payload, lost\n");
  EXPECT_EQ(found.lost, (std::set<std::pair<SegmentSeq, std::uint32_t>>{{SegmentSeq(1), 47}}));
}

TEST_F(LogCheckTest, AFooterIsMadeAnewFromTheBatches) {
  damage_all(1, kEnd);
  EXPECT_EQ(text(check()), "1 124+1 of 111 footer, unfinished\n") << "its seal may be under way";
  expect_mended();
}

TEST_F(LogCheckTest, AnOldFooterIsDamage) {
  for (int i = 0; i < 3; ++i) {
    roll();
    ASSERT_OK(life_.write(1000, 9, 4));
    ASSERT_OK(life_.flush());
  }
  life_.ring->run_for(std::chrono::seconds(1));
  damage_all(1, kEnd);
  damage(1, 1, kTrailerBlock);
  EXPECT_EQ(text(check()), "1 124+1 of 111 footer, mendable\n1 16383+1 of 010 footer, mendable\n");
  expect_mended();
}

TEST_F(LogCheckTest, ATornTailIsUnfinished) {
  const std::uint32_t last = life_.log().acked().block - 5;
  damage_all(2, last + 2);
  damage(1, 2, last);
  const std::string found = text(check());
  EXPECT_EQ(found, fmt::format("2 {}+1 of 010 descriptor, unfinished\n"
                               "2 {}+1 of 111 payload, unfinished\n",
                               last, last + 2));
  EXPECT_TRUE(check().lost.empty());
  const LogCheck settled = check(false, life_.log().acked().next_batch);
  EXPECT_EQ(settled.lost.size(), 1U) << "an index that knows it to be durable makes it a loss";
}

// The crash took what the last batches were, and left the segment that was begun behind them.
TEST_F(LogCheckTest, ASegmentThatWasBegunTooEarlyIsNoLoss) {
  const std::uint32_t last = life_.log().acked().block - 5;
  roll();
  damage_all(2, last);
  damage(2, 3, 0);
  const LogCheck found = check();
  for (const LogDamage& one : found.damage) EXPECT_TRUE(one.unfinished) << text(found);
  EXPECT_FALSE(found.damage.empty());
}

TEST_F(LogCheckTest, ASegmentThatWasMadeAheadIsNoDamage) {
  const Buffer blank = life_.filled_buffer(1, 0);
  ASSERT_OK(life_.ring->block_on(life_.store().create(SegmentSeq(3), blank)));
  EXPECT_EQ(text(check()), "");
}

TEST_F(LogCheckTest, ASegmentWhoseHeaderIsLostIsALoss) {
  damage_all(1, 0);
  EXPECT_EQ(text(check()), "1 0+1 of 111 header, lost\n");
}

TEST_F(LogCheckTest, AFileThatIsMissingIsOneLineAndMadeAnew) {
  ASSERT_OK(life_.ring->block_on(life_.ring->remove(segment_path(1, 1))));
  life_.files().forget_copy(1);
  EXPECT_EQ(text(check()), "1 0+124 of 010 the segment, mendable\n");
  expect_mended();
}

// One that can't be written keeps no other from being mended, and is told.
TEST_F(LogCheckTest, WhatCanNotBeMendedIsTold) {
  damage(0, 1, 5);
  damage(1, 1, 9);
  damage(0, 2, 2);
  SimFaults faults;
  faults.write_error = 1;
  machine_.set_faults(replica_folder(0), faults);
  const LogCheck found = check(true);
  machine_.clear_faults();
  for (const LogDamage& one : found.damage) {
    EXPECT_EQ(one.problem.empty(), one.copies == 2U) << text(found) << one.problem;
  }
  EXPECT_EQ(found.mended, 1U);
  EXPECT_EQ(life_.replicas().in_sync_mask(), 6U);
}

}  // namespace
}  // namespace clouddisk
