// The read cache: gives back what was put there or nothing, stays within its bound, keeps what is
// asked for again through a scan.
#include "engine/disk/read_cache.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

using Block = std::array<std::byte, kBlockSize>;

Block content(std::uint64_t mark) {
  Block block;
  for (std::size_t i = 0; i < kBlockSize; i += sizeof mark) {
    const std::uint64_t word = mark * 0x9e3779b97f4a7c15ULL + i;
    std::memcpy(block.data() + i, &word, sizeof word);
  }
  return block;
}

// The place number `index` of a log, which holds content(index).
BlockEntry entry(std::uint64_t index) {
  return {BlockLocation::stored(SegmentSeq(1 + index / 10000),
                                static_cast<std::uint32_t>(1 + index % 10000)),
          checksum64(content(index))};
}

class ReadCacheTest : public testing::Test {
 protected:
  // Reads block `index` of a disk as a disk does; true: it was here.
  bool read(std::uint64_t index, std::uint32_t disk = 1) {
    const BlockEntry wanted = entry(index);
    Block out;
    if (cache_.get(disk, wanted, out)) {
      EXPECT_EQ(out, content(index)) << "block " << index;
      return true;
    }
    cache_.put(disk, wanted, content(index));
    return false;
  }
  double hit_rate(std::uint64_t first, std::uint64_t count) {
    std::uint64_t hits = 0;
    for (std::uint64_t i = first; i < first + count; ++i) {
      Block out;
      if (cache_.get(1, entry(i), out)) ++hits;
    }
    return static_cast<double>(hits) / static_cast<double>(count);
  }

  static constexpr std::size_t kBytes = 4_MiB;
  ReadCache cache_{kBytes};
};

TEST_F(ReadCacheTest, GivesWhatWasPutUnderThatPlaceOfThatDiskAlone) {
  EXPECT_FALSE(read(7));
  EXPECT_TRUE(read(7));
  EXPECT_FALSE(read(8));
  EXPECT_FALSE(read(7, 2)) << "another disk's place of the same number";
  EXPECT_TRUE(read(7, 2));
  EXPECT_EQ(cache_.counters().hits, 2U);
  EXPECT_EQ(cache_.counters().misses, 3U);
  EXPECT_EQ(cache_.counters().bytes, 3 * kBlockSize);
}

// Were a place ever used for other content, the map's checksum would tell.
TEST_F(ReadCacheTest, WhatIsNotAsTheMapSaysIsNotGivenOut) {
  BlockEntry other = entry(7);
  cache_.put(1, entry(7), content(7));
  other.checksum = checksum64(content(9));
  Block out;
  EXPECT_FALSE(cache_.get(1, other, out));
  cache_.put(1, other, content(9));
  ASSERT_TRUE(cache_.get(1, other, out));
  EXPECT_EQ(out, content(9));
}

TEST_F(ReadCacheTest, StaysWithinItsBoundUnderAnything) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20000; ++i) {
    // Few that are hot, many that are not, over several disks.
    const std::uint64_t index = random() % 2 == 0 ? random() % 200 : random() % 8000;
    read(index, static_cast<std::uint32_t>(1 + random() % 3));
  }
  EXPECT_LE(cache_.counters().bytes, kBytes);
  EXPECT_GT(cache_.counters().bytes, kBytes * 9 / 10) << "all of the room is used";
  EXPECT_GT(cache_.counters().hits, 2000U);
}

TEST_F(ReadCacheTest, AScanOfAnyLengthLeavesWhatIsAskedForAgain) {
  constexpr std::uint64_t kHot = 600;  // of about 1,000 blocks that fit
  for (int round = 0; round < 2; ++round) {
    for (std::uint64_t i = 0; i < kHot; ++i) read(i);
  }
  for (std::uint64_t i = 10000; i < 20000; ++i) EXPECT_FALSE(read(i));
  EXPECT_EQ(hit_rate(0, kHot), 1.0);
}

TEST_F(ReadCacheTest, WhatComesBackSoonAfterItLeftIsKept) {
  // Too far apart for the short queue, twice: the second time it is known, and stays.
  for (std::uint64_t i = 0; i < 300; ++i) read(i);
  for (std::uint64_t i = 10000; i < 11500; ++i) read(i);
  EXPECT_EQ(hit_rate(0, 300), 0.0);
  for (std::uint64_t i = 0; i < 300; ++i) read(i);
  for (std::uint64_t i = 20000; i < 23000; ++i) read(i);
  EXPECT_GT(hit_rate(0, 300), 0.9);
}

TEST(ReadCache, WithoutRoomItKeepsNothing) {
  ReadCache cache(0);
  cache.put(1, entry(7), content(7));
  Block out;
  EXPECT_FALSE(cache.get(1, entry(7), out));
  EXPECT_EQ(cache.counters().bytes, 0U);
}

}  // namespace
}  // namespace clouddisk
