// An index that is sound passes; one whose records, order or accounts are wrong does not, although
// every record has its checksum.
#include "engine/map/index_check.h"

#include <gtest/gtest.h>

#include "engine/map/block_map.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"

namespace clouddisk {
namespace {

Task<Result<void>> durable() {
  co_return Result<void>{};
}

class IndexCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    auto map = ring_.block_on(BlockMap::create(ring_, cache_, "/index", {}));
    ASSERT_OK(map);
    put(**map, 0, 3, 1);
    const Epoch view = (*map)->freeze();
    put(**map, 1, 300, 2);
    (*map)->put_range(Lba(600), 50, BlockLocation::trimmed());
    static_cast<void>(view);
    ASSERT_OK(ring_.block_on((*map)->checkpoint({}, WriteSeq(9), durable())));
  }
  static void put(BlockMap& map, std::uint64_t first, std::uint32_t count, std::uint64_t segment) {
    std::vector<BlockEntry> entries;
    for (std::uint32_t i = 0; i < count; ++i) {
      entries.push_back({BlockLocation::stored(SegmentSeq(segment), 1 + i), 1000 + i});
    }
    map.put(Lba(first), entries);
  }
  Result<Checkpoint> check() {
    auto kv = ring_.open_kv("/index", {});
    if (!kv) return kv.error();
    return check_index(**kv);
  }
  // Changes what is stored, checksums and all.
  void change(const std::function<void(PageStore&)>& what) {
    auto kv = ring_.open_kv("/index", {});
    ASSERT_OK(kv);
    PageStore store(std::move(*kv));
    what(store);
  }

  SimMachine machine_{2};
  SimRing ring_{machine_};
  PageCache cache_{1_MiB};
};

TEST_F(IndexCheckTest, ASoundOnePassesAndGivesItsCheckpoint) {
  auto checkpoint = check();
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->mapped_blocks, 301U);
  EXPECT_EQ(checkpoint->next_write, WriteSeq(9));
}

TEST_F(IndexCheckTest, OneThatWasNeverFinishedIsNoIndex) {
  auto kv = ring_.open_kv("/other", {});
  ASSERT_OK(kv);
  EXPECT_EQ(check_index(**kv).error().code, Errc::kNotFound);
}

TEST_F(IndexCheckTest, AccountsThatAreNotThoseOfThePagesAreDamage) {
  const auto sound = check();
  ASSERT_OK(sound);
  change([&](PageStore& store) {
    auto live = store.load_live();
    ASSERT_OK(live);
    LiveCounts counts = **live;
    ++counts[SegmentSeq(2)];
    ASSERT_OK(store.finish_build(*sound, counts));
  });
  EXPECT_EQ(check().error().code, Errc::kCorrupt);
  change([&](PageStore& store) {
    auto live = store.load_live();
    ASSERT_OK(live);
    LiveCounts counts = **live;
    --counts[SegmentSeq(2)];
    ASSERT_OK(store.finish_build(*sound, counts));
  });
  ASSERT_OK(check());
  change([&](PageStore& store) {
    auto live = store.load_live();
    ASSERT_OK(live);
    Checkpoint wrong = *sound;
    ++wrong.mapped_blocks;
    ASSERT_OK(store.finish_build(wrong, **live));
  });
  EXPECT_EQ(check().error().code, Errc::kCorrupt);
}

TEST_F(IndexCheckTest, APageThatFailsItsChecksumOrAStrangeKeyIsDamage) {
  for (const bool key_too : {false, true}) {
    auto kv = ring_.open_kv("/index", {});
    ASSERT_OK(kv);
    std::vector<std::byte> key(key_too ? 12 : 17, std::byte{0});
    key[0] = std::byte{'p'};
    key[8] = std::byte{77};
    auto writer = (*kv)->write();
    ASSERT_OK(writer);
    ASSERT_OK((*writer)->put(key, std::vector<std::byte>(100, std::byte{1})));
    ASSERT_OK((*writer)->commit());
    EXPECT_EQ(check_index(**kv).error().code, Errc::kCorrupt);
    auto eraser = (*kv)->write();
    ASSERT_OK(eraser);
    ASSERT_OK((*eraser)->erase(key));
    ASSERT_OK((*eraser)->commit());
    ASSERT_OK(check_index(**kv));
  }
}

}  // namespace
}  // namespace clouddisk
