// Superblocks: their bytes, and what three of them mean (I5, I6).
#include <gtest/gtest.h>

#include <array>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/log/replica_set.h"

namespace clouddisk {
namespace {

constexpr ReplicaMask kAll = 0b111;
constexpr std::size_t kVersionAt = 8;

Superblock superblock_of(unsigned index, std::uint64_t generation, ReplicaMask in_sync,
                         std::uint8_t set = 1) {
  Superblock superblock;
  superblock.set_uuid.fill(set);
  superblock.index = index;
  superblock.generation = Generation(generation);
  superblock.in_sync = in_sync;
  return superblock;
}

using Block = std::array<std::byte, kSuperblockSize>;

Block encoded(const Superblock& superblock) {
  Block block{};
  encode_superblock(superblock, block);
  return block;
}

TEST(Superblock, ComesBackAsItWas) {
  Superblock superblock = superblock_of(2, 77, 0b101);
  superblock.unsynced = 0b010;
  const auto back = decode_superblock(encoded(superblock));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->index, 2U);
  EXPECT_EQ(back->generation.value, 77U);
  EXPECT_EQ(back->in_sync, 0b101U);
  EXPECT_EQ(back->unsynced, 0b010U);
  EXPECT_EQ(back->set_uuid[15], 1);
}

TEST(Superblock, AnyFlippedByteIsNoticed) {
  const Block good = encoded(superblock_of(1, 5, kAll));
  for (std::size_t at = 0; at < good.size(); ++at) {
    Block bad = good;
    bad[at] ^= std::byte{0x40};
    const auto back = decode_superblock(bad);
    ASSERT_FALSE(back) << "byte " << at;
    EXPECT_EQ(back.error().code, Errc::kCorrupt) << "byte " << at << ": damage is no newer format";
  }
  EXPECT_FALSE(decode_superblock(std::span(good).first(512)));
}

// As a writer of that content would have sealed it.
Block sealed(Block block) {
  const auto body = std::span(block).first(kSuperblockSize - 8);
  store_le(block.data() + kSuperblockSize - 8, checksum64(body));
  return block;
}

TEST(Superblock, ANewerFormatIsRefusedByItsName) {
  Block block = encoded(superblock_of(0, 5, kAll));
  store_le(block.data() + kVersionAt, std::uint32_t{2});
  const auto back = decode_superblock(sealed(block));
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().code, Errc::kUnsupported);
  EXPECT_NE(back.error().message.find("upgrade"), std::string::npos);
}

TEST(Superblock, WhatMakesNoSenseIsRefusedThoughItsChecksumHolds) {
  Superblock unknown = superblock_of(0, 5, kAll);
  unknown.unsynced = 0b1000;
  for (const auto& wrong : {superblock_of(3, 5, kAll), superblock_of(0, 5, 0b1000), unknown}) {
    const auto back = decode_superblock(encoded(wrong));
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code, Errc::kCorrupt);
  }
}

// --- decide_set ---

using Found = std::array<FoundReplica, kReplicaCount>;

FoundReplica with(const Superblock& superblock) {
  FoundReplica found;
  found.reachable = true;
  found.superblock = superblock;
  return found;
}
FoundReplica empty_folder() {
  FoundReplica found;
  found.reachable = true;
  found.bare = true;
  found.problem = "no superblock";
  return found;
}
FoundReplica unreachable() {
  FoundReplica found;
  found.problem = "Permission denied";
  return found;
}
FoundReplica damaged() {
  FoundReplica found;
  found.reachable = true;
  found.problem = "checksum mismatch";
  return found;
}
FoundReplica bare(FoundReplica found) {
  found.bare = true;
  return found;
}

struct Row {
  const char* what;
  Found found;
  std::optional<unsigned> trusted;
  std::optional<Errc> refused;
  ReplicaMask in_sync = 0;
  ReplicaMask rebuild = 0;
  bool create = false;
};

class DecideSet : public testing::TestWithParam<Row> {};

TEST_P(DecideSet, AsTheTableSays) {
  const Row& row = GetParam();
  const auto decision = decide_set(row.found, row.trusted);
  if (row.refused) {
    ASSERT_FALSE(decision);
    EXPECT_EQ(decision.error().code, *row.refused) << decision.error().message;
    return;
  }
  ASSERT_TRUE(decision) << decision.error().message;
  EXPECT_EQ(decision->in_sync, row.in_sync);
  EXPECT_EQ(decision->rebuild, row.rebuild);
  EXPECT_EQ(decision->create, row.create);
}

FoundReplica member(unsigned index, std::uint64_t generation, ReplicaMask in_sync) {
  return with(superblock_of(index, generation, in_sync));
}

std::vector<Row> rows() {
  const auto stranger = with(superblock_of(1, 9, kAll, 2));
  return {
      {"NewFolders", {empty_folder(), empty_folder(), empty_folder()}, {}, {}, kAll, 0, true},
      {"NewButOneUnreachable", {empty_folder(), unreachable(), empty_folder()}, {}, Errc::kInvalid},
      {"NewButOneHoldsOtherThings",
       {empty_folder(), damaged(), empty_folder()},
       {},
       Errc::kCorrupt},
      {"NewButPowerWasLostOverTheFirstSuperblock",
       {bare(damaged()), empty_folder(), empty_folder()},
       {},
       {},
       kAll,
       0,
       true},
      {"NewButTheFirstStartDied",
       {bare(member(0, 2, kAll)), empty_folder(), bare(damaged())},
       {},
       {},
       kAll,
       0,
       true},
      {"TheFirstStartDiedAndOneIsUnreachable",
       {bare(member(0, 2, kAll)), empty_folder(), unreachable()},
       {},
       Errc::kReplicasLost},
      {"TheFirstStartDiedAndAnotherFolderHoldsData",
       {bare(member(0, 2, kAll)), empty_folder(), damaged()},
       {},
       Errc::kReplicasLost},
      {"OneOfALaterStartIsBareAndAlone",
       {bare(member(0, 3, kAll)), empty_folder(), empty_folder()},
       {},
       Errc::kReplicasLost},
      {"OneOfTheFirstStartThatHoldsDataIsAlone",
       {member(0, 2, kAll), empty_folder(), empty_folder()},
       {},
       Errc::kReplicasLost},
      {"AllDamaged", {damaged(), damaged(), damaged()}, {}, Errc::kCorrupt},
      {"AllInSync", {member(0, 9, kAll), member(1, 9, kAll), member(2, 9, kAll)}, {}, {}, kAll, 0},
      {"OneGone", {member(0, 9, kAll), empty_folder(), member(2, 9, kAll)}, {}, {}, 0b101, 0b010},
      {"OneUnreachable", {member(0, 9, kAll), unreachable(), member(2, 9, kAll)}, {}, {}, 0b101, 0},
      {"OneDamaged", {damaged(), member(1, 9, kAll), member(2, 9, kAll)}, {}, {}, 0b110, 0b001},
      {"OneWasLeftBehind",
       {member(0, 9, 0b011), member(1, 9, 0b011), member(2, 8, kAll)},
       {},
       {},
       0b011,
       0b100},
      {"ACrashBetweenTwoSuperblocks",
       {member(0, 9, 0b011), member(1, 8, kAll), member(2, 8, kAll)},
       {},
       {},
       0b011,
       0b100},
      {"AnOlderCopyOfAMember",
       {member(0, 9, kAll), member(1, 9, kAll), member(2, 7, kAll)},
       {},
       {},
       0b011,
       0b100},
      {"TheCurrentOneWithAStaleOne",
       {empty_folder(), member(1, 9, 0b011), member(2, 5, kAll)},
       {},
       {},
       0b010,
       0b101},
      {"OnlyStaleOnes",
       {unreachable(), member(1, 7, kAll), member(2, 9, 0b001)},
       {},
       Errc::kReplicasLost},
      {"OneAloneIsNotBelieved",
       {empty_folder(), member(1, 9, kAll), empty_folder()},
       {},
       Errc::kReplicasLost},
      {"OneAloneThatIsNamed",
       {empty_folder(), member(1, 9, kAll), empty_folder()},
       1U,
       {},
       0b010,
       0b101},
      {"TheNamedOneIsGone",
       {empty_folder(), member(1, 9, kAll), empty_folder()},
       0U,
       Errc::kInvalid},
      {"TwoSetsMixed", {member(0, 9, kAll), stranger, member(2, 9, kAll)}, {}, Errc::kInvalid},
      {"FoldersSwapped",
       {member(1, 9, kAll), member(0, 9, kAll), member(2, 9, kAll)},
       {},
       Errc::kInvalid},
  };
}

INSTANTIATE_TEST_SUITE_P(Superblocks, DecideSet, testing::ValuesIn(rows()),
                         [](const auto& info) { return info.param.what; });

}  // namespace
}  // namespace clouddisk
