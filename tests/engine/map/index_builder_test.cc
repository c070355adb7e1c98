// The index anew from the log's entries alone (I8): equal to the map that saw the writes happen.
#include "engine/map/index_builder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kBlocks = 5 * kPageBlocks + 13;

// A log's entries as they would be read back, in any order.
class Entries {
 public:
  void write(std::uint64_t lba, std::uint64_t count, std::uint64_t write, std::uint64_t epoch,
             std::uint32_t block, std::uint64_t segment = 1) {
    auto& checksums = checksums_.emplace_back(count);
    for (std::uint64_t i = 0; i < count; ++i) checksums[i] = write * 1000 + i;
    runs_.push_back({Lba(lba), count, WriteSeq(write), Epoch(epoch),
                     BlockLocation::stored(SegmentSeq(segment), block), checksums});
  }
  void range(std::uint64_t lba, std::uint64_t count, std::uint64_t write, std::uint64_t epoch,
             BlockLocation location) {
    runs_.push_back({Lba(lba), count, WriteSeq(write), Epoch(epoch), location, {}});
  }
  void shuffle(Random& random) {
    for (std::size_t i = runs_.size(); i > 1; --i) std::swap(runs_[i - 1], runs_[random.below(i)]);
  }
  Task<Result<void>> visit(const RunVisitor& visitor) const {
    for (const LoggedRun& run : runs_) visitor(run);
    co_return Result<void>{};
  }

 private:
  std::vector<LoggedRun> runs_;
  std::deque<std::vector<std::uint64_t>> checksums_;
};

class IndexBuilderTest : public testing::Test {
 protected:
  void build(const Entries& entries, std::uint64_t epoch, std::vector<Epoch> views = {},
             std::uint64_t window_blocks = 16_GiB / kBlockSize) {
    map_.reset();
    IndexBuild build;
    build.disk_blocks = kBlocks;
    build.window_blocks = window_blocks;
    build.checkpoint.epoch = Epoch(epoch);
    build.checkpoint.views = std::move(views);
    const RunSource source = [&entries](Lba, Lba, const RunVisitor& visit) {
      return entries.visit(visit);
    };
    auto built = ring_.block_on(build_index(ring_, cache_, "/index", {}, build, source));
    ASSERT_OK(built);
    map_ = std::move(*built);
  }
  std::vector<BlockEntry> content() {
    std::vector<BlockEntry> out(kBlocks);
    EXPECT_OK(ring_.block_on(map_->lookup(Lba(0), out)));
    return out;
  }
  std::vector<BlockEntry> content_at(Epoch view) {
    std::vector<BlockEntry> out(kBlocks);
    EXPECT_OK(ring_.block_on(map_->lookup_view(view, Lba(0), out)));
    return out;
  }

  SimMachine machine_{5};
  SimRing ring_{machine_};
  PageCache cache_{4_MiB};
  std::unique_ptr<BlockMap> map_;
};

TEST_F(IndexBuilderTest, TheNewestWriteWinsWhateverTheOrderOfReading) {
  Entries entries;
  entries.write(10, 1, 2, 1, 200);
  entries.write(10, 1, 3, 1, 100);
  entries.write(10, 1, 1, 1, 300);
  build(entries, 1);
  EXPECT_EQ(content()[10].location.block(), 100U);
  EXPECT_EQ(content()[10].checksum, 3000U);
}

// Compaction copied write 2, and write 3 had come before: the copy is younger, its write is not.
TEST_F(IndexBuilderTest, ARelocatedEntryLosesAgainstANewerWrite) {
  Entries entries;
  entries.write(10, 1, 2, 1, 5, 1);
  entries.write(10, 1, 3, 1, 7, 2);
  entries.write(10, 1, 2, 1, 9, 3);
  build(entries, 1);
  EXPECT_EQ(content()[10].location, BlockLocation::stored(SegmentSeq(2), 7));
}

TEST_F(IndexBuilderTest, OfTwoCopiesOfOneWriteTheLaterPlaceWins) {
  Entries entries;
  entries.write(10, 1, 2, 1, 9, 3);
  entries.write(10, 1, 2, 1, 5, 1);
  build(entries, 1);
  EXPECT_EQ(content()[10].location, BlockLocation::stored(SegmentSeq(3), 9));
}

TEST_F(IndexBuilderTest, ATrimHidesWhatIsOlderAndNothingNewer) {
  Entries entries;
  entries.range(0, kBlocks, 5, 1, BlockLocation::trimmed());
  entries.write(10, 1, 4, 1, 1);
  entries.write(11, 1, 6, 1, 2);
  build(entries, 1);
  EXPECT_FALSE(content()[10].location.is_stored());
  EXPECT_EQ(content()[11].location.block(), 2U);
  EXPECT_EQ(map_->live_blocks(SegmentSeq(1)), 1U);
  EXPECT_EQ(map_->last_checkpoint().mapped_blocks, 1U);
}

TEST_F(IndexBuilderTest, ATrimOfZeroesThatAreReadAfterItHidesThem) {
  Entries entries;
  entries.range(10, 4, 5, 1, BlockLocation::trimmed());
  entries.range(10, 4, 4, 1, BlockLocation::zero());
  build(entries, 1);
  EXPECT_NE(content()[10].location, BlockLocation::zero());
}

TEST_F(IndexBuilderTest, AViewSeesOnlyItsEpochAndWhatCameBefore) {
  Entries entries;
  entries.write(10, 1, 1, 1, 1);
  entries.write(10, 1, 2, 2, 2);
  entries.range(10, 1, 3, 3, BlockLocation::zero());
  build(entries, 3, {Epoch(1), Epoch(2)});
  EXPECT_EQ(content_at(Epoch(1))[10].location.block(), 1U);
  EXPECT_EQ(content_at(Epoch(2))[10].location.block(), 2U);
  EXPECT_EQ(content()[10].location, BlockLocation::zero());
}

TEST_F(IndexBuilderTest, AnEmptyLogMakesAnEmptyIndex) {
  build(Entries(), 1);
  for (const BlockEntry& entry : content()) EXPECT_EQ(entry, BlockEntry{});
}

// Random histories, windows of any size, entries in any order: always the array.
TEST_F(IndexBuilderTest, RebuildEqualsTheOriginal) {
  Random random(announce_seed());
  for (int round = 0; round < 12; ++round) {
    Entries entries;
    std::vector<BlockEntry> now(kBlocks);
    std::vector<std::vector<BlockEntry>> at_view;
    std::vector<Epoch> views;
    std::uint64_t epoch = 1;
    std::uint32_t place = 1;
    for (std::uint64_t write = 1; write <= 80; ++write) {
      if (random.one_in(25)) {
        views.push_back(Epoch(epoch++));
        at_view.push_back(now);
      }
      const std::uint64_t first = random.below(kBlocks);
      const std::uint64_t count = 1 + random.below(std::min<std::uint64_t>(200, kBlocks - first));
      if (random.one_in(4)) {
        const bool zero = random.one_in(2);
        entries.range(first, count, write, epoch,
                      zero ? BlockLocation::zero() : BlockLocation::trimmed());
        for (std::uint64_t i = 0; i < count; ++i) {
          now[first + i] = {zero ? BlockLocation::zero() : BlockLocation(), 0};
        }
        continue;
      }
      entries.write(first, count, write, epoch, place);
      if (random.one_in(5)) entries.write(first, count, write, epoch, place, 0);  // its old place
      for (std::uint64_t i = 0; i < count; ++i) {
        now[first + i] = {
            BlockLocation::stored(SegmentSeq(1), place + static_cast<std::uint32_t>(i)),
            write * 1000 + i};
      }
      place += static_cast<std::uint32_t>(count);
    }
    entries.shuffle(random);
    build(entries, epoch, views, kPageBlocks * (1 + random.below(7)));
    const auto as_read = [](std::vector<BlockEntry> all) {
      for (BlockEntry& entry : all) {
        if (entry.location == BlockLocation::trimmed()) entry = {};
      }
      return all;
    };
    ASSERT_EQ(as_read(content()), now) << "round " << round;
    for (std::size_t i = 0; i < views.size(); ++i) {
      const std::vector<BlockEntry> seen = as_read(content_at(views[i]));
      for (std::size_t block = 0; block < kBlocks; ++block) {
        ASSERT_EQ(seen[block], at_view[i][block])
            << "round " << round << " view " << i << " of epoch " << views[i].value << " block "
            << block;
      }
    }
  }
}

TEST_F(IndexBuilderTest, AnUnreadableLogLeavesNoIndexThatOpens) {
  const RunSource failing = [](Lba, Lba, const RunVisitor&) -> Task<Result<void>> {
    co_return fail(Errc::kIo, "on purpose");
  };
  IndexBuild build;
  build.disk_blocks = kBlocks;
  build.checkpoint.epoch = Epoch(1);
  const auto built = ring_.block_on(build_index(ring_, cache_, "/index", {}, build, failing));
  ASSERT_FALSE(built);
  const auto opened = ring_.block_on(BlockMap::open(ring_, cache_, "/index", {}));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::kNotFound);
}

// A snapshot chain's pack has 256 TiB of addresses, and a trim of all that lies behind its head.
TEST(IndexBuilder, AsksOncePerWindowThatHoldsSomethingWhateverTheSizeOfTheDisk) {
  SimMachine machine(1);
  SimRing ring(machine);
  PageCache cache{1_MiB};
  constexpr std::uint64_t kBlocks = std::uint64_t{1} << 36;
  constexpr std::uint64_t kFar = kBlocks - 3;
  const std::vector<std::uint64_t> checksums = {7};
  std::vector<LoggedRun> log;
  const auto add = [&](std::uint64_t lba, std::uint64_t count, BlockLocation location) {
    LoggedRun run;
    run.first = Lba(lba);
    run.count = count;
    run.write = WriteSeq(log.size() + 1);
    run.epoch = Epoch(1);
    run.location = location;
    if (location.is_stored()) run.checksums = checksums;
    log.push_back(run);
  };
  add(5, 1, BlockLocation::stored(SegmentSeq(1), 1));
  add(6, 1, BlockLocation::stored(SegmentSeq(1), 2));
  add(6, kBlocks - 6, BlockLocation::trimmed());
  add(kFar, 1, BlockLocation::stored(SegmentSeq(1), 3));
  int asked = 0;
  const RunSource source = [&](Lba first, Lba last, const RunVisitor& visit) -> Task<Result<void>> {
    ++asked;
    for (const LoggedRun& run : log) {
      if (run.first < last && run.first.value + run.count > first.value) visit(run);
    }
    co_return Result<void>{};
  };
  IndexBuild build;
  build.disk_blocks = kBlocks;
  build.checkpoint.epoch = Epoch(1);
  build.checkpoint.next_write = WriteSeq(log.size() + 1);
  auto map = ring.block_on(build_index(ring, cache, "/index", {}, build, source));
  ASSERT_TRUE(map) << map.error().message;
  EXPECT_EQ(asked, 3) << "for all that there is, then for the first and the last window";
  for (const auto& [lba, expected] : std::vector<std::pair<std::uint64_t, BlockLocation>>{
           {5, BlockLocation::stored(SegmentSeq(1), 1)},
           {kFar, BlockLocation::stored(SegmentSeq(1), 3)}}) {
    std::vector<BlockEntry> found(1);
    const auto looked = ring.block_on((*map)->lookup(Lba(lba), found));
    ASSERT_TRUE(looked) << looked.error().message;
    EXPECT_EQ(found[0].location, expected) << lba;
  }
  std::vector<BlockEntry> trimmed(1);
  ASSERT_TRUE(ring.block_on((*map)->lookup(Lba(6), trimmed)));
  EXPECT_FALSE(trimmed[0].location.is_stored());
  EXPECT_EQ((*map)->last_checkpoint().mapped_blocks, 2U);
}

// Segments are removed once it is there: the one before it would refer to them.
TEST(IndexBuilderNames, APowerLossDoesNotBringTheIndexBeforeItBack) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimMachine machine(seed);
    {
      SimRing ring(machine);
      PageCache cache(4_MiB);
      ASSERT_OK(ring.block_on(ring.make_directories("/root")));
      ASSERT_OK(ring.block_on(ring.sync_directory("/")));
      for (const std::uint64_t batch : {1U, 2U}) {
        IndexBuild build;
        build.disk_blocks = kBlocks;
        build.checkpoint.epoch = Epoch(1);
        build.checkpoint.position.next_batch = BatchSeq(batch);
        const RunSource nothing = [](Lba, Lba, const RunVisitor&) -> Task<Result<void>> {
          co_return Result<void>{};
        };
        ASSERT_OK(ring.block_on(build_index(ring, cache, "/root/index", {}, build, nothing)));
      }
    }
    machine.power_loss();
    SimRing ring(machine);
    PageCache cache(4_MiB);
    auto map = ring.block_on(BlockMap::open(ring, cache, "/root/index", {}));
    ASSERT_OK(map) << "seed " << seed;
    EXPECT_EQ((*map)->last_checkpoint().position.next_batch, BatchSeq(2)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace clouddisk
