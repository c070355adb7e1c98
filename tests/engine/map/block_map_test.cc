// The block map against an array of entries: changes, views, relocation, checkpoints, restarts.
#include "engine/map/block_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kBlocks = 9 * kPageBlocks + 77;  // a few pages, the last one ragged

using Content = std::vector<BlockEntry>;

Task<Result<void>> durable() {
  co_return Result<void>{};
}
Task<Result<void>> not_durable() {
  co_return fail(Errc::kIo, "the log can't be flushed");
}

class BlockMapModel : public testing::Test {
 protected:
  struct State {
    Content now = Content(kBlocks);
    std::map<std::uint64_t, Content> views;
    Epoch reference;
    Content at_reference;
  };

  // A trimmed block and one never written read the same, except over a base.
  BlockEntry as_read(std::uint64_t lba, BlockEntry entry) const {
    const bool hole = entry.location.kind() == BlockKind::kTrimmed;
    return hole && !(based_ && in_base(lba / kPageBlocks)) ? BlockEntry{} : entry;
  }
  static bool in_base(std::uint64_t page) { return page % 3 != 0; }

  void SetUp() override {
    auto made = ring_.block_on(BlockMap::create(ring_, cache_, "/index", options()));
    ASSERT_TRUE(made) << made.error().message;
    map_ = std::move(*made);
  }
  BlockMap::Options options() const {
    BlockMap::Options options;
    options.memtable_bytes_max = 4_MiB;
    if (based_) {
      options.next_base_page = [](std::uint64_t page) -> Result<std::optional<std::uint64_t>> {
        while (!in_base(page)) ++page;
        if (page > kBlocks / kPageBlocks) return std::optional<std::uint64_t>();
        return std::optional(page);
      };
    }
    return options;
  }

  BlockEntry next_entry() {
    ++written_;
    const auto block = static_cast<std::uint32_t>(1 + written_ % 16000);
    return {BlockLocation::stored(SegmentSeq(1 + written_ / 16000), block), random_.next()};
  }
  std::pair<std::uint64_t, std::uint64_t> random_range(std::uint64_t longest) {
    const std::uint64_t first = random_.below(kBlocks);
    return {first, 1 + random_.below(std::min(longest, kBlocks - first))};
  }

  void put() {
    const auto [first, count] = random_range(random_.one_in(4) ? 600 : 8);
    Content entries(count);
    for (BlockEntry& entry : entries) entry = next_entry();
    map_->put(Lba(first), entries);
    std::copy(entries.begin(), entries.end(), state_.now.begin() + static_cast<long>(first));
  }
  void put_range() {
    const auto [first, count] = random_range(random_.one_in(3) ? kBlocks : 40);
    const auto location = random_.one_in(2) ? BlockLocation::zero() : BlockLocation::trimmed();
    map_->put_range(Lba(first), count, location);
    for (std::uint64_t i = first; i < first + count; ++i) state_.now[i] = {location, 0};
  }
  void relocate() {
    const std::uint64_t lba = random_.below(kBlocks);
    const Content* content = &state_.now;
    if (!state_.views.empty() && random_.one_in(2)) content = &state_.views.begin()->second;
    const BlockEntry entry = (*content)[lba];
    if (!entry.location.is_stored() || moved_.count(entry.location.bits()) != 0) return;
    const BlockLocation to = next_entry().location;
    map_->relocate(Lba(lba), entry.location, to);
    moved_[entry.location.bits()] = to;
  }
  void freeze() {
    if (state_.views.size() >= 5) return;
    const Epoch view = map_->freeze();
    EXPECT_GT(map_->epoch().value, view.value);
    state_.views[view.value] = state_.now;
  }
  void drop_view() {
    if (state_.views.empty()) return;
    auto it = state_.views.begin();
    std::advance(it, static_cast<long>(random_.below(state_.views.size())));
    map_->drop_view(Epoch(it->first));
    state_.views.erase(it);
  }

  void make_reference() {
    if (state_.views.empty()) return;
    auto it = state_.views.begin();
    std::advance(it, static_cast<long>(random_.below(state_.views.size())));
    map_->make_reference(Epoch(it->first));
    state_.reference = Epoch(it->first);
    state_.at_reference = it->second;
    state_.views.erase(it);
  }

  void apply_moves(Content& content) const {
    for (BlockEntry& entry : content) {
      const auto it = moved_.find(entry.location.bits());
      if (entry.location.is_stored() && it != moved_.end()) entry.location = it->second;
    }
  }
  void checkpoint() {
    ++position_.next_batch.value;
    auto done = ring_.block_on(map_->checkpoint(position_, WriteSeq(written_ + 1), durable()));
    ASSERT_TRUE(done) << done.error().message;
    apply_moves(state_.now);
    for (auto& [view, content] : state_.views) apply_moves(content);
    apply_moves(state_.at_reference);
    moved_.clear();
    saved_ = state_;
    EXPECT_EQ(map_->last_checkpoint().position, position_);
  }
  // The end of the process: what no checkpoint took is gone.
  void restart() {
    map_.reset();
    auto opened = ring_.block_on(BlockMap::open(ring_, cache_, "/index", options()));
    ASSERT_TRUE(opened) << opened.error().message;
    map_ = std::move(*opened);
    state_ = saved_;
    moved_.clear();
  }

  // A stored block that is to be moved may show either place until the checkpoint.
  void expect_entries(const Content& content, std::uint64_t first, const Content& got) {
    for (std::uint64_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(as_read(first + i, got[i]), as_read(first + i, content[first + i]))
          << "block " << first + i;
    }
  }
  void look() {
    const auto [first, count] = random_range(700);
    Content got(count);
    auto found = ring_.block_on(map_->lookup(Lba(first), got));
    ASSERT_TRUE(found) << found.error().message;
    expect_entries(state_.now, first, got);
    Content quick(count);
    if (map_->try_lookup(Lba(first), quick)) expect_entries(state_.now, first, quick);
    for (const auto& [view, content] : state_.views) {
      auto seen = ring_.block_on(map_->lookup_view(Epoch(view), Lba(first), got));
      ASSERT_TRUE(seen) << seen.error().message;
      expect_entries(content, first, got);
    }
  }
  // What changed since the reference, told from places alone. Just after a checkpoint.
  void compare_with_reference() {
    if (state_.reference.value == 0) return;
    ASSERT_EQ(map_->reference(), state_.reference);
    for (const auto& [view, content] : state_.views) {
      if (view <= state_.reference.value) continue;
      auto changed = ring_.block_on(map_->changed_pages(state_.reference, Epoch(view)));
      ASSERT_TRUE(changed) << changed.error().message;
      for (std::uint64_t page = 0; page * kPageBlocks < kBlocks; ++page) {
        auto pair = ring_.block_on(map_->page_pairs({page}, state_.reference, Epoch(view)));
        ASSERT_TRUE(pair) << pair.error().message;
        const std::uint64_t first = page * kPageBlocks;
        const std::uint64_t last = std::min(first + kPageBlocks, kBlocks);
        bool differs = false;
        for (std::uint64_t lba = first; lba < last; ++lba) {
          const BlockEntry was = as_read(lba, state_.at_reference[lba]);
          const BlockEntry is = as_read(lba, content[lba]);
          ASSERT_EQ(as_read(lba, pair->front().before.entries[lba - first]), was)
              << "block " << lba;
          ASSERT_EQ(as_read(lba, pair->front().after.entries[lba - first]), is) << "block " << lba;
          differs = differs || was != is;
        }
        if (differs) {
          EXPECT_TRUE(std::binary_search(changed->begin(), changed->end(), page)) << page;
        }
      }
    }
  }
  // Every stored block that somebody may read is counted in its segment's live blocks; what only
  // the reference remembers is not.
  void expect_live_counts() {
    std::map<std::uint64_t, std::set<std::uint64_t>> used;
    const auto add = [&used](const Content& content) {
      for (const BlockEntry& entry : content) {
        if (entry.location.is_stored()) {
          used[entry.location.segment().value].insert(entry.location.bits());
        }
      }
    };
    add(state_.now);
    for (const auto& [view, content] : state_.views) add(content);
    std::uint64_t all = 0;
    for (const auto& [segment, blocks] : used) {
      EXPECT_EQ(map_->live_blocks(SegmentSeq(segment)), blocks.size()) << "segment " << segment;
      all += blocks.size();
    }
    EXPECT_EQ(map_->live_blocks(), all);
    for (const auto& [segment, live] : map_->live_counts()) {
      EXPECT_EQ(used[segment.value].size(), live) << "segment " << segment.value;
    }
  }

  Random random_{announce_seed()};
  SimMachine machine_{1};
  SimRing ring_{machine_};
  PageCache cache_{64_KiB};  // a few pages: they come and go
  std::unique_ptr<BlockMap> map_;
  State state_, saved_;
  std::map<std::uint64_t, BlockLocation> moved_;  // since the last checkpoint
  LogPosition position_{SegmentSeq(1), 1, BatchSeq(1), 0};
  std::uint64_t written_ = 0;
  bool based_ = false;

  void run_model();
};

void BlockMapModel::run_model() {
  checkpoint();
  for (int step = 0; step < 3000 && !HasFatalFailure(); ++step) {
    const std::uint64_t what = random_.below(100);
    if (what < 40) {
      put();
    } else if (what < 55) {
      put_range();
    } else if (what < 62) {
      relocate();
    } else if (what < 66) {
      freeze();
    } else if (what < 68) {
      drop_view();
    } else if (what < 69) {
      make_reference();
    } else if (what < 75) {
      checkpoint();
      expect_live_counts();
      compare_with_reference();
    } else if (what < 77) {
      restart();
    } else {
      look();
    }
  }
}

TEST_F(BlockMapModel, BehavesLikeArraysThroughViewsCheckpointsAndRestarts) {
  run_model();
}

TEST_F(BlockMapModel, OverABaseATrimIsKeptApartFromWhatWasNeverWritten) {
  based_ = true;
  SetUp();
  run_model();
}

TEST_F(BlockMapModel, ACheckpointThatFailsLosesNothingAndTheNextTakesItAlong) {
  checkpoint();
  for (int i = 0; i < 50; ++i) put();
  const Epoch view = map_->freeze();
  state_.views[view.value] = state_.now;
  for (int i = 0; i < 50; ++i) put_range();
  const LogPosition before = map_->last_checkpoint().position;
  auto failed = ring_.block_on(map_->checkpoint(position_, WriteSeq(written_ + 1), not_durable()));
  ASSERT_FALSE(failed);
  EXPECT_EQ(map_->last_checkpoint().position, before);
  for (int i = 0; i < 30; ++i) {
    put();
    look();
  }
  checkpoint();
  restart();
  for (int i = 0; i < 30; ++i) look();
}

// What a lookup began to read before a checkpoint may arrive long after it: those that ask in
// between must not be given it too.
TEST_F(BlockMapModel, ALookupAfterACheckpointIsNotGivenWhatWasReadBeforeIt) {
  PageCache one_page(0);
  auto made = ring_.block_on(BlockMap::create(ring_, one_page, "/other", options()));
  ASSERT_TRUE(made) << made.error().message;
  BlockMap& map = **made;
  const auto look = [](BlockMap& in, Lba lba, std::shared_ptr<Content> into,
                       WaitGroup& group) -> Task<void> {
    EXPECT_TRUE(co_await in.lookup(lba, *into));
    group.done();
  };
  const auto write_down = [](BlockMap& what, unsigned round, WaitGroup& group) -> Task<void> {
    const LogPosition position{SegmentSeq(1), round, BatchSeq(round), 0};
    EXPECT_TRUE(co_await what.checkpoint(position, WriteSeq(round), durable()));
    group.done();
  };
  constexpr Lba kWritten(7), kOther(8);       // of one page
  constexpr Lba kElsewhere(3 * kPageBlocks);  // whose page puts that one out of the cache
  for (unsigned round = 1; round < 200; ++round) {
    const BlockEntry entry = next_entry();
    map.put(kWritten, std::span(&entry, 1));
    WaitGroup all(ring_);
    all.add();
    spawn(look(map, kElsewhere, std::make_shared<Content>(1), all));
    ring_.block_on(all.wait());
    all.add(2);
    spawn(look(map, kOther, std::make_shared<Content>(1), all));
    spawn(write_down(map, round, all));
    std::vector<std::shared_ptr<Content>> found;
    for (int i = 0; i < 60; ++i) {
      ring_.run_for(std::chrono::microseconds(random_.below(20)));
      found.push_back(std::make_shared<Content>(1));
      all.add();
      spawn(look(map, kWritten, found.back(), all));
    }
    ring_.block_on(all.wait());
    for (const auto& one : found) ASSERT_EQ((*one)[0], entry) << "round " << round;
  }
}

TEST_F(BlockMapModel, AMapThatWasNeverWrittenToHasNoIndex) {
  const Epoch view = map_->freeze();
  map_->make_reference(view);
  auto done = ring_.block_on(map_->checkpoint({}, WriteSeq(1), durable()));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_FALSE(machine_.exists("/index"));
  EXPECT_EQ(map_->index_bytes(), 0U);
  EXPECT_EQ(map_->last_checkpoint().reference, view);
  look();
  auto changed = ring_.block_on(map_->changed_pages(Epoch(0), view));
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_TRUE(changed->empty());
  auto checked = ring_.block_on(map_->check());
  ASSERT_TRUE(checked) << checked.error().message;
  EXPECT_EQ(*checked, 0U);

  put();
  checkpoint();
  EXPECT_TRUE(machine_.exists("/index"));
  restart();
  look();
}

TEST_F(BlockMapModel, AnIndexThatIsMadeBeforeItsFirstCheckpointIsEmpty) {
  ring_.block_on(map_->make_index());
  EXPECT_TRUE(machine_.exists("/index"));
  ring_.block_on(map_->make_index());
  restart();
  EXPECT_EQ(map_->last_checkpoint().next_write, WriteSeq(1));
  put();
  checkpoint();
  ring_.block_on(map_->make_index());  // must not begin anew
  restart();
  look();
  expect_live_counts();
}

TEST_F(BlockMapModel, TrimmingAHugeRangeCostsNoMemoryByItsLength) {
  const std::size_t before = map_->memory_bytes();
  const std::uint64_t count = (std::uint64_t{32} << 40) / kBlockSize;
  map_->put_range(Lba(3), count, BlockLocation::trimmed());
  EXPECT_LT(map_->memory_bytes(), before + 64_KiB);
  // Whoever looks for content goes from one ragged end straight to the other.
  auto page = ring_.block_on(map_->next_mapped_page(1));
  ASSERT_TRUE(page) << page.error().message;
  EXPECT_GE(*page, count / kPageBlocks);
}

TEST_F(BlockMapModel, WritersWaitWhenTheMemoryIsUsedUpAndGoOnAfterACheckpoint) {
  std::uint64_t at = 0;
  while (!map_->must_wait()) {
    Content entries(kPageBlocks);
    for (BlockEntry& entry : entries) entry = next_entry();
    map_->put(Lba(at), entries);
    at += kPageBlocks;
    ASSERT_LT(map_->memory_bytes(), 3 * options().memtable_bytes_max);
  }
  EXPECT_TRUE(map_->wants_checkpoint());
  auto done = ring_.block_on(map_->checkpoint(position_, WriteSeq(written_ + 1), durable()));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_FALSE(map_->must_wait());
  EXPECT_FALSE(map_->wants_checkpoint());
}

// Writers that wait must be sure that somebody makes room.
TEST_F(BlockMapModel, WhatFrozenEpochsHoldAsksForACheckpointToo) {
  std::uint64_t at = 0;
  while (!map_->must_wait()) {
    for (int page = 0; page < 4; ++page) {
      Content entries(kPageBlocks);
      for (BlockEntry& entry : entries) entry = next_entry();
      map_->put(Lba(at), entries);
      at += kPageBlocks;
    }
    map_->freeze();
    ASSERT_LT(map_->memory_bytes(), 3 * options().memtable_bytes_max);
  }
  EXPECT_TRUE(map_->wants_checkpoint());
}

// What a view holds in memory alone is found as well, by the index after a checkpoint too.
TEST_F(BlockMapModel, PagesOfAViewAreFoundBeforeItsCheckpointAndAfterIt) {
  Content entries(1);
  entries[0] = next_entry();
  map_->put(Lba(3 * kPageBlocks + 5), entries);
  const Epoch view = map_->freeze();
  map_->put(Lba(kPageBlocks), entries);  // later: not in the view
  const NextBasePage pages = map_->view_pages(view);
  for (const bool checkpointed : {false, true}) {
    auto next = pages(checkpointed ? 2 : 0);
    ASSERT_TRUE(next) << next.error().message;
    ASSERT_TRUE(next->has_value());
    EXPECT_EQ(**next, 3U) << (checkpointed ? "after" : "before");
    auto done = ring_.block_on(map_->checkpoint(position_, WriteSeq(written_ + 1), durable()));
    ASSERT_TRUE(done) << done.error().message;
  }
}

}  // namespace
}  // namespace clouddisk
