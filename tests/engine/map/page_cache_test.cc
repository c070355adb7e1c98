// The page cache: bounded, second chance, one map's pages apart from another's.
#include "engine/map/page_cache.h"

#include <gtest/gtest.h>

namespace clouddisk {
namespace {

PageRef page_with(std::uint32_t mark) {
  auto page = std::make_shared<Page>();
  page->entries[0] = {BlockLocation::stored(SegmentSeq(1), mark), mark};
  return page;
}
PageKey key(std::uint64_t page, std::uint32_t map = 1, Epoch view = PageKey::kCurrent) {
  return {map, view, page};
}

TEST(PageCache, GivesWhatWasPutUnderThatKeyAlone) {
  PageCache cache(1_MiB);
  cache.put(key(5), page_with(1));
  cache.put(key(5, 2), page_with(2));
  cache.put(key(5, 1, Epoch(3)), page_with(3));
  EXPECT_EQ((*cache.find(key(5)))->entries[0].checksum, 1U);
  EXPECT_EQ((*cache.find(key(5, 2)))->entries[0].checksum, 2U);
  EXPECT_EQ((*cache.find(key(5, 1, Epoch(3))))->entries[0].checksum, 3U);
  EXPECT_EQ(cache.find(key(6)), nullptr);
  EXPECT_EQ(cache.hits(), 3U);
  EXPECT_EQ(cache.misses(), 1U);
}

TEST(PageCache, AnEmptyPageIsHereAndCostsLittle) {
  PageCache cache(1_MiB);
  cache.put(key(1), nullptr);
  const PageRef* found = cache.find(key(1));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(*found, nullptr);
  EXPECT_LT(cache.bytes(), 1_KiB);
}

TEST(PageCache, StaysWithinItsBoundAndCountsBytesRight) {
  PageCache cache(64_KiB);
  for (std::uint64_t i = 0; i < 500; ++i) {
    cache.put(key(i % 90), i % 3 == 0 ? nullptr : page_with(1));
    EXPECT_LE(cache.bytes(), 64_KiB);
  }
  for (std::uint64_t i = 0; i < 90; ++i) cache.erase(key(i));
  EXPECT_EQ(cache.bytes(), 0U);
}

TEST(PageCache, AScanDoesNotFlushThePagesThatAreAskedFor) {
  PageCache cache(64_KiB);  // about 15 pages
  cache.put(key(1), page_with(1));
  for (std::uint64_t i = 100; i < 400; ++i) {
    ASSERT_NE(cache.find(key(1)), nullptr) << "after " << i - 100;
    cache.put(key(i), page_with(2));
  }
  EXPECT_EQ(cache.find(key(101)), nullptr);
}

TEST(PageCache, AMapThatGoesTakesItsPagesAndNoOthers) {
  PageCache cache(1_MiB);
  for (std::uint64_t i = 0; i < 10; ++i) {
    cache.put(key(i, 1), page_with(1));
    cache.put(key(i, 2), page_with(2));
  }
  cache.erase_map(1);
  for (std::uint64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(cache.find(key(i, 1)), nullptr);
    EXPECT_NE(cache.find(key(i, 2)), nullptr);
  }
}

TEST(PageCache, WithoutRoomForOnePageItStillWorks) {
  PageCache cache(16);
  cache.put(key(1), page_with(1));
  cache.put(key(2), page_with(2));
  EXPECT_LE(cache.bytes(), 8_KiB);
}

}  // namespace
}  // namespace clouddisk
