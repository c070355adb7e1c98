#include "engine/base/checksum.h"

#include <gtest/gtest.h>

// Its plainest implementation, beside whichever the library chose for this processor.
#define XXH_INLINE_ALL
#define XXH_VECTOR 0
#include <xxhash.h>

#include <set>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "engine/base/units.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

// These numbers are on disk: a library that computed others could not read our files.
TEST(Checksum, IsXxh3WithItsPublishedValues) {
  EXPECT_EQ(checksum64({}), 0x2d06800538d394c2U);
  EXPECT_EQ(checksum64(as_bytes("a")), 0xe6c632b61e964e1fU);
  EXPECT_EQ(checksum64(as_bytes("abc")), 0x78af5f94892f3950U);
  const auto wide = checksum128({});
  EXPECT_EQ(load_le<std::uint64_t>(wide.data()), 0x6001c324468d497fU);
  EXPECT_EQ(load_le<std::uint64_t>(wide.data() + 8), 0x99aa06d3014798d8U);
}

TEST(Checksum, IsTheSameWithEveryProcessorsVectors) {
  Random random(announce_seed());
  for (const std::size_t size : {1U, 16U, 17U, 128U, 129U, 240U, 241U, 1023U, 4096U, 65536U}) {
    std::vector<std::byte> data(size);
    for (std::byte& b : data) b = static_cast<std::byte>(random.next());
    EXPECT_EQ(checksum64(data), XXH3_64bits(data.data(), size)) << size;
    EXPECT_EQ(checksum64(data, 77), XXH3_64bits_withSeed(data.data(), size, 77)) << size;
    const XXH128_hash_t wide = XXH3_128bits(data.data(), size);
    const auto ours = checksum128(data);
    EXPECT_EQ(load_le<std::uint64_t>(ours.data()), wide.low64) << size;
    EXPECT_EQ(load_le<std::uint64_t>(ours.data() + 8), wide.high64) << size;
  }
}

TEST(Checksum, EveryFlippedBitOfABlockChangesIt) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::vector<std::byte> block(kBlockSize);
  for (std::byte& b : block) b = static_cast<std::byte>(random.next());
  const std::uint64_t good = checksum64(block);
  for (std::size_t bit = 0; bit < block.size() * 8; ++bit) {
    block[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    ASSERT_NE(checksum64(block), good) << "bit " << bit;
    block[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
  EXPECT_EQ(checksum64(block), good);
}

TEST(Checksum, DependsOnTheSeed) {
  const auto data = as_bytes("the same structure under another key");
  std::set<std::uint64_t> sums;
  for (std::uint64_t key = 0; key < 100; ++key) sums.insert(checksum64(data, key));
  EXPECT_EQ(sums.size(), 100U);
  EXPECT_EQ(checksum64(data, 0), checksum64(data));
}

TEST(Checksum, ABlockOfZerosHasOneToo) {
  const std::vector<std::byte> zeros(kBlockSize);
  EXPECT_NE(checksum64(zeros), 0U);
  EXPECT_NE(checksum64(zeros), checksum64(std::span(zeros).first(512)));
}

}  // namespace
}  // namespace clouddisk
