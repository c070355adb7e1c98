#include "snapshot/chain_page.h"

#include <gtest/gtest.h>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk::snapshot {
namespace {

ChainPage random_page(Random& random) {
  ChainPage page;
  for (std::size_t at = 0; at < kPageBlocks;) {
    const std::size_t count = std::min<std::size_t>(1 + random.below(20), kPageBlocks - at);
    if (!random.one_in(3)) {
      const PackAddress frame = random.below(std::uint64_t{1} << 45) * kFrameAlignment;
      const std::uint64_t size = 512 * (1 + random.below(129));
      for (std::size_t i = 0; i < std::min(count, kFrameBlocks); ++i) {
        page.blocks[at + i] = PackedBlock(frame, size, static_cast<unsigned>(i));
      }
    }
    at += count;
  }
  return page;
}

TEST(ChainPages, ComeBackAsTheyWere) {
  Random random(announce_seed());
  for (int i = 0; i < 200; ++i) {
    const ChainPage page = random_page(random);
    std::vector<std::byte> bytes;
    encode_runs(page, bytes);
    bytes.push_back(std::byte{42});
    std::span<const std::byte> rest(bytes);
    auto decoded = decode_runs(rest);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(*decoded, page);
    ASSERT_EQ(rest.size(), 1U);
  }
}

TEST(ChainPages, NoBytesMakeAPageThatLeavesItsBounds) {
  Random random(announce_seed());
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::byte> bytes;
    encode_runs(random_page(random), bytes);
    for (int flips = 0; flips < 3; ++flips) {
      bytes[random.below(bytes.size())] ^= static_cast<std::byte>(1U << random.below(8));
    }
    bytes.resize(random.below(bytes.size() + 1));
    std::span<const std::byte> rest(bytes);
    auto decoded = decode_runs(rest);
    if (!decoded) continue;
    for (const PackedBlock block : decoded->blocks) {
      EXPECT_TRUE(block.is_hole() || block.index() < kFrameBlocks);
    }
  }
}

TEST(ChainPages, ABlockKnowsItsFrame) {
  const PackedBlock block((std::uint64_t{1} << 48) - 8, 65600, 15);
  EXPECT_EQ(block.frame(), (std::uint64_t{1} << 48) - 8);
  EXPECT_GE(block.frame_bytes(), 65600U);
  EXPECT_LT(block.frame_bytes(), 65600U + 512);
  EXPECT_EQ(block.index(), 15U);
  EXPECT_FALSE(block.is_hole());
  EXPECT_FALSE(PackedBlock(0, 512, 0).is_hole());
  EXPECT_TRUE(PackedBlock().is_hole());
}

}  // namespace
}  // namespace clouddisk::snapshot
