// Changes in memory against an array: single blocks, long ranges, what is known of a page.
#include "engine/map/mem_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kPages = 12;
constexpr std::uint64_t kBlocks = kPages * kPageBlocks;

BlockEntry stored(std::uint32_t block) {
  return {BlockLocation::stored(SegmentSeq(1), block), block};
}
std::optional<BlockEntry> look(const MemTable& table, std::uint64_t lba) {
  BlockEntry entry;
  bool known = false;
  table.fill(page_of(Lba(lba)), index_in_page(Lba(lba)), std::span(&entry, 1),
             std::span(&known, 1));
  if (!known) return std::nullopt;
  return entry;
}

TEST(MemTable, TheNewestChangeOfABlockWins) {
  MemTable table;
  EXPECT_TRUE(table.empty());
  const std::vector<BlockEntry> two = {stored(1), stored(2)};
  table.put(Lba(255), two);  // over the edge of a page
  EXPECT_EQ(look(table, 255), stored(1));
  EXPECT_EQ(look(table, 256), stored(2));
  EXPECT_EQ(look(table, 257), std::nullopt);
  table.put(Lba(256), std::span(two).first(1));
  EXPECT_EQ(look(table, 256), stored(1));
  table.put_range(Lba(250), 10, BlockLocation::trimmed());
  EXPECT_EQ(look(table, 255)->location, BlockLocation::trimmed());
}

TEST(MemTable, ARangeCostsByThePagesItCutsNotByItsLength) {
  MemTable table;
  table.put_range(Lba(3), 32_TiB / kBlockSize, BlockLocation::trimmed());
  EXPECT_EQ(table.page_count(), 2U) << "the two ragged ends";
  EXPECT_LT(table.memory_bytes(), 16_KiB);
  EXPECT_EQ(look(table, 1ULL << 32)->location, BlockLocation::trimmed());
}

TEST(MemTable, WhatIsKnownAlreadyIsLeftAlone) {
  MemTable table;
  table.put_range(Lba(0), kPageBlocks, BlockLocation::zero());
  std::vector<BlockEntry> out(4, stored(9));
  bool known[4] = {true, false, false, true};
  EXPECT_EQ(table.fill(0, 10, out, known), 0U);
  EXPECT_EQ(out[0], stored(9));
  EXPECT_EQ(out[1].location, BlockLocation::zero());
  EXPECT_EQ(out[3], stored(9));
}

TEST(MemTable, NextPageSkipsHolesButNotZeros) {
  MemTable table;
  table.put_range(Lba(0), 4 * kPageBlocks, BlockLocation::trimmed());
  table.put_range(Lba(6 * kPageBlocks), 2 * kPageBlocks, BlockLocation::zero());
  EXPECT_EQ(table.next_page(0), 6U);
  EXPECT_EQ(table.next_page(7), 7U);
  EXPECT_EQ(table.next_page(8), std::nullopt);
  const BlockEntry one = stored(1);
  table.put(Lba(2 * kPageBlocks), std::span(&one, 1));
  EXPECT_EQ(table.next_page(0), 2U);
}

// Random changes on the table and on an array.
TEST(MemTableModel, KnowsWhatAnArrayKnows) {
  Random random(announce_seed());
  for (int round = 0; round < 20; ++round) {
    MemTable table;
    std::vector<std::optional<BlockEntry>> model(kBlocks);
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t first = random.below(kBlocks);
      const std::uint64_t room = kBlocks - first;
      if (random.one_in(3)) {
        const std::uint64_t count = 1 + random.below(room);
        const auto hole = random.one_in(2) ? BlockLocation::zero() : BlockLocation::trimmed();
        table.put_range(Lba(first), count, hole);
        for (std::uint64_t i = 0; i < count; ++i) model[first + i] = BlockEntry{hole, 0};
      } else {
        std::vector<BlockEntry> entries(1 + random.below(std::min<std::uint64_t>(room, 300)));
        for (auto& e : entries) e = stored(static_cast<std::uint32_t>(random.below(1 << 14)));
        table.put(Lba(first), entries);
        std::copy(entries.begin(), entries.end(),
                  model.begin() + static_cast<std::ptrdiff_t>(first));
      }
    }
    std::size_t entries = 0;
    for (std::uint64_t page = 0; page < kPages; ++page) {
      std::vector<BlockEntry> out(kPageBlocks);
      const std::unique_ptr<bool[]> known(new bool[kPageBlocks]());
      const std::size_t unknown = table.fill(page, 0, out, std::span(known.get(), kPageBlocks));
      Page applied;
      applied.entries.fill(stored(77));
      table.apply_to(page, applied);
      std::size_t expected_unknown = 0;
      for (std::size_t i = 0; i < kPageBlocks; ++i) {
        const auto& wanted = model[page * kPageBlocks + i];
        ASSERT_EQ(known[i], wanted.has_value()) << "page " << page << " block " << i;
        if (wanted) {
          ASSERT_EQ(out[i], *wanted);
        } else {
          ++expected_unknown;
        }
        ASSERT_EQ(applied.entries[i], wanted.value_or(stored(77)));
        ASSERT_EQ(look(table, page * kPageBlocks + i), wanted);
      }
      EXPECT_EQ(unknown, expected_unknown);
      entries += table.touched().count(page);
    }
    EXPECT_EQ(entries, table.page_count());
    std::uint64_t before = 0;
    for (const auto& [first, cleared] : table.cleared()) {
      EXPECT_LE(before, first) << "intervals are disjoint";
      EXPECT_LT(first, cleared.last);
      before = cleared.last;
    }
  }
}

}  // namespace
}  // namespace clouddisk
