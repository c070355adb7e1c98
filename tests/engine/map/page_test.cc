// The stored form of a page: what was written comes back, what was damaged is never believed.
#include "engine/map/page.h"

#include <gtest/gtest.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

const std::vector<std::byte> kKey(16, std::byte{3});

Page random_page(Random& random, std::uint64_t holes_one_in) {
  Page page;
  for (BlockEntry& entry : page.entries) {
    if (random.one_in(holes_one_in)) continue;
    switch (random.below(4)) {
      case 0:
        entry.location = BlockLocation::zero();
        break;
      case 1:
        entry.location = BlockLocation::trimmed();
        break;
      default:
        entry.location = BlockLocation::stored(SegmentSeq(random.below(1ULL << 32)),
                                               static_cast<std::uint32_t>(random.below(1 << 14)));
        entry.checksum = random.next();
    }
  }
  return page;
}

TEST(PageFormat, ComesBackAsItWas) {
  Random random(announce_seed());
  for (const std::uint64_t holes : {0, 1, 2, 10}) {
    for (int round = 0; round < 50; ++round) {
      const Page page = random_page(random, holes);
      const auto value = encode_page(page, kKey);
      EXPECT_LE(value.size(), 4080U) << "one overflow page of LMDB";
      const auto back = decode_page(value, kKey);
      ASSERT_TRUE(back) << back.error().message;
      EXPECT_EQ(*back, page);
    }
  }
}

TEST(PageFormat, APageOfOneKindOfHoleIsAFewBytes) {
  for (const auto location : {BlockLocation(), BlockLocation::zero(), BlockLocation::trimmed()}) {
    Page page;
    page.entries.fill({location, 0});
    const auto value = encode_page(page, kKey);
    EXPECT_LT(value.size(), 32U);
    EXPECT_EQ(decode_page(value, kKey).value(), page);
  }
}

TEST(PageFormat, EveryTruncationAndEveryFlippedBitIsRefused) {
  Random random(announce_seed());
  Page uniform;
  uniform.entries.fill({BlockLocation::zero(), 0});
  for (const Page& page : {random_page(random, 40), random_page(random, 2), uniform}) {
    const auto good = encode_page(page, kKey);
    for (std::size_t size = 0; size < good.size(); ++size) {
      ASSERT_FALSE(decode_page(std::span(good).first(size), kKey)) << size << " bytes";
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_page(longer, kKey));
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
      auto bad = good;
      bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      const auto back = decode_page(bad, kKey);
      ASSERT_FALSE(back) << "bit " << bit;
      ASSERT_EQ(back.error().code, Errc::kCorrupt) << "bit " << bit << ": no newer format";
    }
  }
}

TEST(PageFormat, AValueUnderAnotherKeyIsDamage) {
  Random random(announce_seed());
  const auto value = encode_page(random_page(random, 3), kKey);
  auto other = kKey;
  other.back() ^= std::byte{1};
  EXPECT_EQ(decode_page(value, other).error().code, Errc::kCorrupt);
}

// As a writer of that content would have sealed it.
std::vector<std::byte> sealed(std::vector<std::byte> value) {
  store_le(value.data(), checksum64(std::span(value).subspan(8), checksum64(kKey)));
  return value;
}

TEST(PageFormat, ANewerFormatIsRefusedByItsName) {
  auto value = encode_page(Page{}, kKey);
  value[8] = std::byte{2};
  EXPECT_EQ(decode_page(sealed(value), kKey).error().code, Errc::kUnsupported);
}

TEST(PageFormat, WhatMakesNoSenseIsRefusedThoughItsChecksumHolds) {
  Random random(announce_seed());
  const auto good = encode_page(random_page(random, 2), kKey);
  for (int round = 0; round < 2000; ++round) {
    auto bad = good;
    for (int i = 0; i < 3; ++i) bad[8 + random.below(40)] = static_cast<std::byte>(random.next());
    if (random.one_in(3)) bad.resize(12 + random.below(bad.size()));
    static_cast<void>(decode_page(sealed(bad), kKey));  // Any answer, and no access outside.
  }
  auto bad_kind = good;
  bad_kind[9] = std::byte{9};
  EXPECT_EQ(decode_page(sealed(bad_kind), kKey).error().code, Errc::kCorrupt);
  auto bad_count = good;
  bad_count[10] ^= std::byte{1};
  EXPECT_EQ(decode_page(sealed(bad_count), kKey).error().code, Errc::kCorrupt);
  auto bad_bitmap = good;
  bad_bitmap[12] ^= std::byte{1};
  EXPECT_EQ(decode_page(sealed(bad_bitmap), kKey).error().code, Errc::kCorrupt);
}

// Found by fuzzing: pages that no writer makes, and that would not be the same when written again.
TEST(PageFormat, PlacesThatNoWriterGivesAreRefused) {
  const auto refused = [](const Page& page, std::size_t at, std::uint64_t bits) {
    auto value = encode_page(page, kKey);
    for (std::size_t i = 0; i < 6; ++i) value[at + i] = static_cast<std::byte>(bits >> (8 * i));
    const auto page_there = decode_page(sealed(value), kKey);
    return !page_there && page_there.error().code == Errc::kCorrupt;
  };
  constexpr std::size_t kUniformAt = 12;
  constexpr std::size_t kSparseAt = 12 + 32;
  Page uniform;
  uniform.entries.fill({BlockLocation::zero(), 0});
  Page sparse;
  sparse.entries[7].location = BlockLocation::zero();
  const std::uint64_t stored = BlockLocation::stored(SegmentSeq(3), 9).bits();
  EXPECT_TRUE(refused(uniform, kUniformAt, stored)) << "256 blocks in one place";
  EXPECT_TRUE(refused(uniform, kUniformAt, BlockLocation::trimmed().bits() | 1)) << "a placed hole";
  EXPECT_TRUE(refused(sparse, kSparseAt, 0)) << "a mapped block that is not mapped";
  EXPECT_TRUE(refused(sparse, kSparseAt, BlockLocation::zero().bits() | 5)) << "placed zeros";
  EXPECT_FALSE(refused(sparse, kSparseAt, stored));
}

}  // namespace
}  // namespace clouddisk
