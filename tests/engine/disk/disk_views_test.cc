// Frozen moments of a disk and borrowed blocks, against a model: random writes, trims, freezes,
// drops, restarts, loss of the index, compaction and hydration; every byte of every moment
// compared.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "engine/base/random.h"
#include "engine/disk/disk.h"
#include "tests/engine/disk/disk_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSize = 8_MiB + 3 * kBlockSize;
constexpr std::uint64_t kBlocks = kSize / kBlockSize;

// What each block holds: a number repeated over the block, 0 for zeros.
using Content = std::vector<std::uint64_t>;

// A base of 5 MiB, data in every third block and none in every fourth page.
class PatternSource final : public BlockSource {
 public:
  static constexpr std::uint64_t kBytes = 5_MiB;
  static std::uint64_t block(std::uint64_t lba) {
    const bool data = lba < kBytes / kBlockSize && lba % 3 == 0 && lba / kPageBlocks % 4 != 1;
    return data ? 1'000'000'000 + lba : 0;
  }
  std::uint64_t size_bytes() const override { return kBytes; }
  Task<Result<void>> read(Ring& caller, Lba first, std::span<std::byte> into) override {
    co_await caller.yield();
    for (std::uint64_t i = 0; i < into.size() / 8; ++i) {
      const std::uint64_t value = block(first.value + i * 8 / kBlockSize);
      std::memcpy(into.data() + i * 8, &value, 8);
    }
    reads_ += into.size() / kBlockSize;
    co_return Result<void>{};
  }
  Task<Result<PagePresence>> present(Ring&, std::uint64_t page) override {
    PagePresence present;
    for (std::uint64_t i = 0; i < kPageBlocks; ++i) present[i] = block(page * kPageBlocks + i) != 0;
    co_return present;
  }
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page) override {
    while (page % 4 == 1) ++page;
    if (page * kPageBlocks * kBlockSize >= kBytes) return std::optional<std::uint64_t>();
    return std::optional(page);
  }
  std::uint64_t reads() const { return reads_; }

 private:
  std::uint64_t reads_ = 0;
};

class DiskViews : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    auto ring = UringRing::create({});
    ASSERT_TRUE(ring) << ring.error().message;
    ring_ = std::move(*ring);
    options_.checkpoint_bytes = 4_MiB;
    options_.map.memtable_bytes_max = 1_MiB;
    machine_ = std::make_unique<Machine>(*ring_, root_.path());
    if (GetParam()) base_ = std::make_shared<PatternSource>();
    now_.resize(kBlocks);
    for (std::uint64_t lba = 0; base_ && lba < kBlocks; ++lba)
      now_[lba] = PatternSource::block(lba);
    auto made = ring_->block_on(Disk::create(*machine_->environment, identity(), options_));
    ASSERT_TRUE(made) << made.error().message;
    open();
  }
  void TearDown() override {
    if (disk_) close();
  }

  Disk::Identity identity() const {
    Disk::Identity identity = identity_in(root_.path(), kSize);
    for (const auto& [view, content] : views_) identity.views.push_back(Epoch(view));
    identity.reference = reference_;
    identity.base = base_;
    return identity;
  }
  void open() {
    auto opened = ring_->block_on(Disk::open(*machine_->environment, identity(), options_));
    ASSERT_TRUE(opened) << opened.error().message;
    disk_ = *opened;
  }
  void close() {
    auto closed = ring_->block_on(disk_->close());
    EXPECT_TRUE(closed) << closed.error().message;
    disk_.reset();
  }
  void restart(bool lose_index) {
    close();
    machine_.reset();
    if (lose_index) {
      fs::remove_all(fs::path(root_.path()) / "index");
      reference_ = Epoch(0);
    }
    machine_ = std::make_unique<Machine>(*ring_, root_.path());
    ASSERT_FALSE(machine_->error) << machine_->error->message;
    open();
  }

  std::pair<std::uint64_t, std::uint64_t> range(std::uint64_t longest) {
    const std::uint64_t first = random_.below(kBlocks);
    return {first, 1 + random_.below(std::min(longest, kBlocks - first))};
  }
  Buffer filled(std::uint64_t count) {
    Buffer data = ring_->block_on(machine_->client_buffers.allocate(count * kBlockSize));
    for (std::uint64_t i = 0; i < data.size() / 8; ++i) {
      const std::uint64_t value = next_ + i * 8 / kBlockSize;
      std::memcpy(data.data() + i * 8, &value, 8);
    }
    return data;
  }
  void write() {
    const auto [first, count] = range(random_.one_in(4) ? 256 : 10);
    auto written = ring_->block_on(disk_->write(first * kBlockSize, filled(count), false));
    ASSERT_TRUE(written) << written.error().message;
    for (std::uint64_t i = 0; i < count; ++i) now_[first + i] = next_++;
  }
  void trim() {
    const auto [first, count] = range(random_.one_in(3) ? kBlocks : 30);
    auto done = ring_->block_on(disk_->trim(first * kBlockSize, count * kBlockSize, false));
    ASSERT_TRUE(done) << done.error().message;
    std::fill_n(now_.begin() + static_cast<std::ptrdiff_t>(first), count, 0);
  }
  void freeze() {
    if (views_.size() >= 4) return;
    auto view = ring_->block_on(disk_->freeze());
    ASSERT_TRUE(view) << view.error().message;
    ASSERT_TRUE(views_.emplace(view->value, now_).second);
  }
  void drop() {
    if (views_.empty()) return;
    auto it = views_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(views_.size())));
    if (random_.one_in(2)) {
      disk_->drop_view(Epoch(it->first));
    } else {
      disk_->make_reference(Epoch(it->first));
      reference_ = Epoch(it->first);
      at_reference_ = it->second;
    }
    views_.erase(it);
  }

  static void expect_blocks(const Content& content, std::uint64_t first, const Buffer& got) {
    for (std::uint64_t i = 0; i < got.size() / 8; ++i) {
      std::uint64_t value = 0;
      std::memcpy(&value, got.data() + i * 8, 8);
      ASSERT_EQ(value, content[first + i * 8 / kBlockSize])
          << "byte " << first * kBlockSize + i * 8;
    }
  }
  void look() {
    const auto [first, count] = range(256);
    auto data = ring_->block_on(
        disk_->read(first * kBlockSize, static_cast<std::uint32_t>(count * kBlockSize)));
    ASSERT_TRUE(data) << data.error().message;
    expect_blocks(now_, first, *data);
    for (const auto& [view, content] : views_) look_at(view, content, first, count);
  }
  void look_at(std::uint64_t view, const Content& content, std::uint64_t first,
               std::uint64_t count) {
    Buffer into = ring_->block_on(machine_->work_buffers.allocate(count * kBlockSize));
    auto seen = ring_->block_on(
        disk_->read_view(Epoch(view), Lba(first), into.span(), machine_->client_buffers));
    ASSERT_TRUE(seen) << seen.error().message;
    expect_blocks(content, first, into);
    // What the extents call a hole is zero, and data is where the model has some.
    auto extents = ring_->block_on(
        disk_->view_extents(Epoch(view), first * kBlockSize, count * kBlockSize, 1000));
    ASSERT_TRUE(extents) << extents.error().message;
    std::uint64_t at = first;
    for (const Extent& extent : *extents) {
      ASSERT_EQ(extent.length % kBlockSize, 0U);
      for (std::uint64_t i = 0; i < extent.length / kBlockSize; ++i, ++at) {
        EXPECT_EQ(extent.state == ExtentState::kData, content[at] != 0) << "block " << at;
      }
    }
  }
  void look_at_everything() {
    for (std::uint64_t first = 0; first < kBlocks; first += 256) {
      const std::uint64_t count = std::min<std::uint64_t>(256, kBlocks - first);
      auto data = ring_->block_on(
          disk_->read(first * kBlockSize, static_cast<std::uint32_t>(count * kBlockSize)));
      ASSERT_TRUE(data) << data.error().message;
      expect_blocks(now_, first, *data);
      for (const auto& [view, content] : views_) look_at(view, content, first, count);
    }
  }
  // Whatever differs from the reference differs in its place.
  void compare() {
    if (reference_.value == 0 || disk_->reference() != reference_) return;
    for (const auto& [view, content] : views_) {
      if (view <= reference_.value) continue;
      auto pages = ring_->block_on(disk_->changed_pages(reference_, Epoch(view)));
      ASSERT_TRUE(pages) << pages.error().message;
      for (std::uint64_t lba = 0; lba < kBlocks; ++lba) {
        if (content[lba] == at_reference_[lba]) continue;
        const std::uint64_t page = page_of(Lba(lba));
        ASSERT_TRUE(std::binary_search(pages->begin(), pages->end(), page)) << "block " << lba;
        auto pair = ring_->block_on(disk_->page_pairs({page}, reference_, Epoch(view)));
        ASSERT_TRUE(pair) << pair.error().message;
        const std::size_t index = index_in_page(Lba(lba));
        ASSERT_NE(pair->front().before.entries[index].location,
                  pair->front().after.entries[index].location)
            << "block " << lba;
      }
    }
  }
  void hydrate() {
    if (!base_) return;
    const auto [first, count] = range(600);
    auto brought = ring_->block_on(disk_->hydrate(first * kBlockSize, count * kBlockSize));
    ASSERT_TRUE(brought) << brought.error().message;
  }

  Random random_{announce_seed()};
  TemporaryFolder root_;
  Disk::Options options_;
  std::unique_ptr<UringRing> ring_;
  std::unique_ptr<Machine> machine_;
  std::shared_ptr<PatternSource> base_;
  std::shared_ptr<Disk> disk_;
  Content now_;
  std::map<std::uint64_t, Content> views_;
  Epoch reference_;
  Content at_reference_;
  std::uint64_t next_ = 1;
};

INSTANTIATE_TEST_SUITE_P(Base, DiskViews, testing::Bool(),
                         [](const auto& info) { return info.param ? "Borrowing" : "Plain"; });

TEST_P(DiskViews, EveryMomentKeepsItsContent) {
  for (int step = 0; step < 700 && !HasFatalFailure(); ++step) {
    const std::uint64_t what = random_.below(100);
    if (what < 45) {
      write();
    } else if (what < 60) {
      trim();
    } else if (what < 66) {
      freeze();
    } else if (what < 70) {
      drop();
    } else if (what < 72) {
      restart(random_.one_in(3));
    } else if (what < 75) {
      compare();
    } else if (what < 78) {
      hydrate();
    } else {
      look();
    }
  }
  look_at_everything();
}

TEST_P(DiskViews, AFreezeTakesWhatIsAcknowledgedAndNothingLater) {
  write();
  freeze();
  const std::uint64_t view = views_.begin()->first;
  for (int i = 0; i < 50; ++i) write();
  restart(false);
  look_at_everything();
  restart(true);
  look_at_everything();
  disk_->drop_view(Epoch(view));
  views_.clear();
  std::vector<std::byte> block(kBlockSize);
  auto gone =
      ring_->block_on(disk_->read_view(Epoch(view), Lba(0), block, machine_->client_buffers));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Errc::kNotFound);
}

// More is written than the space bound allows to keep: the cleaner moves what views still show.
TEST_P(DiskViews, TheCleanerKeepsWhatAViewShows) {
  for (int i = 0; i < 100; ++i) write();
  trim();
  freeze();
  const std::uint64_t rounds = 1600_MiB / 1_MiB;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const std::uint64_t first = round % 8 * 256;
    auto written = ring_->block_on(disk_->write(first * kBlockSize, filled(256), false));
    ASSERT_TRUE(written) << written.error().message;
    for (std::uint64_t i = 0; i < 256; ++i) now_[first + i] = next_++;
  }
  EXPECT_LT(disk_->usage().stored_bytes, 1300_MiB);
  look_at_everything();
  restart(true);
  look_at_everything();
}

TEST(DiskBase, HydrationBringsEverythingOnceAndThenTheBaseIsNotAsked) {
  auto ring = UringRing::create({});
  ASSERT_TRUE(ring) << ring.error().message;
  TemporaryFolder root;
  Machine machine(**ring, root.path());
  Disk::Identity identity = identity_in(root.path(), kSize);
  const auto base = std::make_shared<PatternSource>();
  identity.base = base;
  ASSERT_TRUE((*ring)->block_on(Disk::create(*machine.environment, identity, {})));
  auto disk = (*ring)->block_on(Disk::open(*machine.environment, identity, {}));
  ASSERT_TRUE(disk) << disk.error().message;
  std::uint64_t data = 0;
  for (std::uint64_t lba = 0; lba < kBlocks; ++lba) data += PatternSource::block(lba) != 0;
  auto brought = (*ring)->block_on((*disk)->hydrate(0, kSize));
  ASSERT_TRUE(brought) << brought.error().message;
  EXPECT_EQ(*brought, data * kBlockSize);
  auto again = (*ring)->block_on((*disk)->hydrate(0, kSize));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, 0U);
  (*ring)->block_on((*disk)->forget_base());
  const std::uint64_t reads = base->reads();
  for (std::uint64_t first = 0; first < kBlocks; ++first) {
    auto got = (*ring)->block_on((*disk)->read(first * kBlockSize, kBlockSize));
    ASSERT_TRUE(got) << got.error().message;
    std::uint64_t value = 0;
    std::memcpy(&value, got->data(), 8);
    ASSERT_EQ(value, PatternSource::block(first)) << first;
  }
  EXPECT_EQ(base->reads(), reads);
  EXPECT_TRUE((*ring)->block_on((*disk)->close()));
}

}  // namespace
}  // namespace clouddisk
