#include "engine/base/units.h"

#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

namespace clouddisk {
namespace {

static_assert(!std::is_convertible_v<std::uint64_t, Lba>, "a plain number is no address");
static_assert(!std::is_convertible_v<Lba, std::uint64_t>, "and an address no plain number");
static_assert(!std::is_convertible_v<Lba, SegmentSeq> && !std::is_constructible_v<Lba, Epoch>);
static_assert(1_KiB == 1024 && 1_MiB == 1024_KiB && 1_GiB == 1024_MiB && 1_TiB == 1024_GiB);

TEST(Number, ComparesCountsAndHashes) {
  EXPECT_LT(Lba(3), Lba(4));
  EXPECT_EQ(Lba(3).next(), Lba(4));
  EXPECT_EQ(Epoch(), Epoch(0));
  const std::unordered_set<Lba> set{Lba(1), Lba(2), Lba(1)};
  EXPECT_EQ(set.size(), 2U);
}

TEST(Units, BlocksRoundUpAndBoundariesStay) {
  struct Case {
    std::uint64_t bytes, blocks, up, down;
  };
  const Case kCases[] = {{0, 0, 0, 0},          {1, 1, 4096, 0},
                         {4095, 1, 4096, 0},    {4096, 1, 4096, 4096},
                         {4097, 2, 8192, 4096}, {32_TiB, 32_TiB / 4096, 32_TiB, 32_TiB}};
  for (const Case& c : kCases) {
    EXPECT_EQ(blocks_for(c.bytes), c.blocks) << c.bytes;
    EXPECT_EQ(align_up(c.bytes, kBlockSize), c.up) << c.bytes;
    EXPECT_EQ(align_down(c.bytes, kBlockSize), c.down) << c.bytes;
  }
}

TEST(Units, SizesAreWrittenForPeople) {
  const std::pair<std::uint64_t, const char*> kCases[] = {{0, "0 B"},
                                                          {1023, "1023 B"},
                                                          {1_KiB, "1 KiB"},
                                                          {1536, "1.5 KiB"},
                                                          {64_MiB, "64 MiB"},
                                                          {40_GiB, "40 GiB"},
                                                          {40_GiB + 512_MiB, "40.5 GiB"},
                                                          {32_TiB, "32 TiB"},
                                                          {2048_TiB, "2 PiB"},
                                                          {UINT64_MAX, "16384 PiB"}};
  for (const auto& [bytes, text] : kCases) EXPECT_EQ(format_bytes(bytes), text);
}

}  // namespace
}  // namespace clouddisk
