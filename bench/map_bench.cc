// What the block map costs: updates in memory, lookups in memory, and lookups of pages in the cache
// after a checkpoint. On a simulated ring, so that only our own work is counted.
#include <benchmark/benchmark.h>

#include <array>
#include <memory>

#include "engine/base/random.h"
#include "engine/map/block_map.h"
#include "engine/ring/sim_ring.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kDiskBlocks = 1_GiB / kBlockSize;

Task<Result<void>> nothing_to_wait_for() {
  co_return Result<void>{};
}

BlockEntry entry_of(std::uint64_t number) {
  const auto block = static_cast<std::uint32_t>(1 + number % 16000);
  return {BlockLocation::stored(SegmentSeq(1 + number / 16000), block), number};
}

// A map of 1 GiB, all of it written.
class FilledMap {
 public:
  explicit FilledMap(bool checkpointed) {
    auto made = ring_.block_on(BlockMap::create(ring_, cache_, "/index", unbounded()));
    CHECK(made.has_value());
    map_ = std::move(*made);
    std::array<BlockEntry, kPageBlocks> entries;
    for (std::uint64_t at = 0; at < kDiskBlocks; at += entries.size()) {
      for (std::uint64_t i = 0; i < entries.size(); ++i) entries[i] = entry_of(at + i);
      map_->put(Lba(at), entries);
    }
    if (!checkpointed) return;
    const LogPosition position{SegmentSeq(20), 1, BatchSeq(2), 0};
    auto done = ring_.block_on(map_->checkpoint(position, WriteSeq(9), nothing_to_wait_for()));
    CHECK(done.has_value());
    std::array<BlockEntry, 1> out;
    for (std::uint64_t at = 0; at < kDiskBlocks; at += kPageBlocks) {
      auto found = ring_.block_on(map_->lookup(Lba(at), out));
      CHECK(found.has_value());
    }
  }
  BlockMap& operator*() { return *map_; }

 private:
  static BlockMap::Options unbounded() {
    BlockMap::Options options;
    options.memtable_bytes_max = 1_GiB;
    options.memtable_pages_max = kDiskBlocks;
    return options;
  }
  SimMachine machine_{1};
  SimRing ring_{machine_};
  PageCache cache_{256_MiB};
  std::unique_ptr<BlockMap> map_;
};

void BM_MapUpdate(benchmark::State& state) {
  FilledMap map(false);
  Random random(7);
  std::uint64_t number = 0;
  for (auto _ : state) {
    const BlockEntry entry = entry_of(++number % 1'000'000);
    (*map).put(Lba(random.below(kDiskBlocks)), std::span(&entry, 1));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_MapUpdate);

void lookups(benchmark::State& state, bool checkpointed) {
  FilledMap map(checkpointed);
  Random random(7);
  std::array<BlockEntry, 1> out;
  for (auto _ : state) {
    if (!(*map).try_lookup(Lba(random.below(kDiskBlocks)), out)) {
      return state.SkipWithError("a page is not in memory");
    }
    benchmark::DoNotOptimize(out[0]);
  }
  state.SetItemsProcessed(state.iterations());
}
void BM_MapLookupOfRecentWrites(benchmark::State& state) {
  lookups(state, false);
}
BENCHMARK(BM_MapLookupOfRecentWrites);
void BM_MapLookupInCachedPages(benchmark::State& state) {
  lookups(state, true);
}
BENCHMARK(BM_MapLookupInCachedPages);

}  // namespace
}  // namespace clouddisk

BENCHMARK_MAIN();
