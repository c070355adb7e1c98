// Building an index from a log's entries. What it builds is compared with a model in
// tests/engine/disk (lost indexes); here is what it asks for.
#include "engine/map/index_builder.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/ring/sim_ring.h"

namespace clouddisk {
namespace {

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

}  // namespace
}  // namespace clouddisk
