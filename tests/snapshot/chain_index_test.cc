// The index of a chain by itself: what a look-up costs, and which frames it counts as sparse.
#include "snapshot/chain_index.h"

#include <gtest/gtest.h>

#include <array>

#include "engine/ring/lmdb_kv.h"
#include "snapshot/index_records.h"
#include "tests/engine/disk/disk_fixture.h"

namespace clouddisk::snapshot {
namespace {

struct Seeks {
  std::uint64_t seeks = 0;
  std::uint64_t gets = 0;
  std::uint64_t scans = 0;
};

// An environment that counts what is asked of it while reading.
class CountingKv final : public Kv {
 public:
  CountingKv(std::unique_ptr<Kv> kv, Seeks& counts) : kv_(std::move(kv)), counts_(counts) {}
  Result<std::unique_ptr<KvReader>> read() override {
    auto reader = kv_->read();
    if (!reader) return reader.error();
    return std::unique_ptr<KvReader>(std::make_unique<Reader>(std::move(*reader), counts_));
  }
  Result<std::unique_ptr<KvWriter>> write() override { return kv_->write(); }
  Result<void> sync() override { return kv_->sync(); }
  std::uint64_t size_bytes() const override { return kv_->size_bytes(); }

 private:
  class Reader final : public KvReader {
   public:
    Reader(std::unique_ptr<KvReader> reader, Seeks& counts)
        : reader_(std::move(reader)), counts_(counts) {}
    Result<std::optional<KvBytes>> get(KvBytes key) override {
      ++counts_.gets;
      return reader_->get(key);
    }
    Result<std::optional<Entry>> lower_bound(KvBytes key) override {
      ++counts_.seeks;
      return reader_->lower_bound(key);
    }
    Result<std::optional<Entry>> floor(KvBytes key) override {
      ++counts_.seeks;
      return reader_->floor(key);
    }
    Result<void> scan(KvBytes first, KvBytes last,
                      const std::function<bool(KvBytes, KvBytes)>& visit) override {
      ++counts_.scans;
      return reader_->scan(first, last, visit);
    }

   private:
    std::unique_ptr<KvReader> reader_;
    Seeks& counts_;
  };
  std::unique_ptr<Kv> kv_;
  Seeks& counts_;
};

class ChainIndexTest : public testing::Test {
 protected:
  ChainIndexTest() {
    KvOptions options;
    options.lazy_sync = true;
    auto kv = open_lmdb(folder_.path() + "/index", options);
    CHECK(kv.has_value());
    index_ = std::make_unique<ChainIndex>(std::make_unique<CountingKv>(std::move(*kv), counts_));
  }
  // A snapshot with `blocks` blocks of page 0 in one frame, the others as `before` has them.
  ChainPage add(std::uint64_t seq, std::size_t first, std::size_t blocks, ChainPage before) {
    ChainIndex::Addition addition;
    addition.seq = seq;
    const PackAddress frame = head_;
    const PackAddress record = head_ + 60'000;
    head_ += 64_KiB;
    for (unsigned i = 0; i < blocks; ++i) {
      before.blocks[first + i] = PackedBlock(frame, 60'000, i);
    }
    addition.frames.push_back(
        {frame, 60'000, FrameKind::kBlocks, static_cast<std::uint32_t>(blocks), 0});
    addition.frames.push_back({record, 200, FrameKind::kPages, 1, 0});
    addition.pages.push_back({0, before, record});
    addition.head = head_;
    auto added = index_->add(addition);
    EXPECT_TRUE(added) << added.error().message;
    live_.insert(seq);
    return before;
  }
  void drop(std::uint64_t seq) {
    live_.erase(seq);
    auto purged = index_->purge(seq, live_, 100, ChainIndex::Purge());
    ASSERT_TRUE(purged) << purged.error().message;
    freed_ += purged->freed.size();
  }

  TemporaryFolder folder_;
  Seeks counts_;
  std::unique_ptr<ChainIndex> index_;
  std::set<std::uint64_t> live_;
  PackAddress head_ = 0;
  std::size_t freed_ = 0;
};

TEST_F(ChainIndexTest, OneSeekFindsAPageOfAnySnapshotHoweverLongTheChain) {
  ChainPage page;
  for (std::uint64_t seq = 1; seq <= 1000; ++seq) {
    page = add(seq, seq % 16, 1, page);
    if (seq != 1 && seq != 10 && seq != 1000) continue;
    for (const std::uint64_t wanted : {std::uint64_t{1}, (seq + 1) / 2, seq}) {
      counts_ = {};
      auto found = index_->pages(std::array{std::uint64_t{0}}, wanted);
      ASSERT_TRUE(found) << found.error().message;
      const ChainPageRef content = found->front();
      ASSERT_TRUE(content);
      EXPECT_EQ(content->blocks[wanted % 16].frame(), (wanted - 1) * 64_KiB);
      EXPECT_EQ(counts_.seeks, 1U) << wanted << " of " << seq;
      EXPECT_EQ(counts_.gets + counts_.scans, 0U) << wanted << " of " << seq;
    }
  }
}

TEST_F(ChainIndexTest, AFrameIsSparseFromTheDeletionThatLeavesHalfOfItUntilItIsGone) {
  const ChainPage first = add(1, 0, 16, {});
  const ChainPage second = add(2, 0, 7, first);
  drop(1);
  EXPECT_TRUE(index_->sparse(10)->empty()) << "9 of 16 are shown";
  add(3, 7, 1, second);
  drop(2);
  const auto sparse = index_->sparse(10);
  ASSERT_TRUE(sparse) << sparse.error().message;
  ASSERT_EQ(sparse->size(), 1U) << "8 of 16 are shown";
  EXPECT_EQ(sparse->front().address, 0U);
  EXPECT_EQ(sparse->front().page, 0U);
  EXPECT_EQ(sparse->front().kind, FrameKind::kBlocks);
  drop(3);
  EXPECT_TRUE(index_->sparse(10)->empty());
  EXPECT_EQ(index_->usage()->frames, 0U);
}

TEST_F(ChainIndexTest, AVersionThatIsStoredAgainFreesWhatItHeld) {
  add(1, 0, 16, {});
  add(1, 0, 4, {});
  EXPECT_EQ(index_->usage()->frames, 2U) << "a frame of blocks and a record";
  EXPECT_EQ(index_->usage()->held_blocks, 4U);
}

TEST_F(ChainIndexTest, NeighboursThatGoTogetherAreTrimmedAsOneRange) {
  ChainIndex::Addition addition;
  addition.seq = 1;
  ChainPage content;
  for (unsigned i = 0; i < 8; ++i) {
    content.blocks[i] = PackedBlock(i * 64_KiB, 60'000, 0);
    addition.frames.push_back({i * 64_KiB, 60'000, FrameKind::kBlocks, 1, 0});
  }
  addition.frames.push_back({8 * 64_KiB, 200, FrameKind::kPages, 1, 0});
  addition.pages.push_back({0, content, 8 * 64_KiB});
  addition.head = 9 * 64_KiB;
  ASSERT_TRUE(index_->add(addition));
  drop(1);
  EXPECT_EQ(freed_, 1U);
  EXPECT_EQ(index_->freed()->size(), 1U);
}

TEST_F(ChainIndexTest, AFrameRecordOfAnEarlierFormatIsFoundWhenTheIndexIsVerified) {
  add(1, 0, 16, {});
  ASSERT_TRUE(index_->verify());
  index_.reset();
  {
    auto kv = open_lmdb(folder_.path() + "/index", KvOptions());
    ASSERT_TRUE(kv) << kv.error().message;
    auto txn = (*kv)->write();
    ASSERT_TRUE(txn) << txn.error().message;
    auto value = new_value(1);
    put_le(value, std::uint64_t{60'000});
    put_le(value, std::uint32_t{16});
    put_le(value, std::uint64_t{0xffff});
    ASSERT_TRUE(put(**txn, pair_key(kFrame, 0, 0), std::move(value)));
    ASSERT_TRUE((*txn)->commit());
  }
  auto kv = open_lmdb(folder_.path() + "/index", KvOptions());
  ASSERT_TRUE(kv) << kv.error().message;
  index_ = std::make_unique<ChainIndex>(std::move(*kv));
  const auto verified = index_->verify();
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, Errc::kCorrupt) << verified.error().message;
}

}  // namespace
}  // namespace clouddisk::snapshot
