// block_map.h: the map of one disk: LBA to {segment, offset, checksum}, with versions.
//
// Layers, newest first; a lookup takes the first that knows the block:
//   active MemTable       changes since the last cut, one epoch
//   frozen MemTables      being checkpointed, or of a frozen epoch; immutable
//   PageCache             whole pages read from the index, shared by the ring's disks, bounded
//   PageStore             the index: LMDB, key (page, epoch), read and written on workers
// A write only touches the active table: it never waits for a page. A checkpoint merges the frozen
// tables into new page versions and stores the log position they reach in the same transaction, so
// replay from that position rebuilds what was in memory. The index is derived: when it is missing
// or fails a checksum, the log rebuilds it (IndexBuilder).
//
// Versions. Key (page, epoch); a view at epoch e reads the newest version <= e. freeze() bumps the
// epoch: nothing is copied. drop_view() lets the versions go that no remaining view can see.
//
// Relocation (compaction) is by location: "whatever refers to A refers to B from now on". A
// location is written once in a segment's life, so the rule needs no order against newer writes; it
// is applied to every version at the next checkpoint, and until that is durable the old segment
// must stay.
//
// Thread: the disk's ring. Memory: MemTables are bounded by `memtable_bytes_max` (callers ask
//   wants_checkpoint() / must_wait()), pages by the cache.
// Errors: kCorrupt from open() or a lookup means: close, rebuild the index from the log.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/log/log_position.h"
#include "engine/map/block_location.h"
#include "engine/map/mem_table.h"
#include "engine/map/page_cache.h"
#include "engine/map/page_store.h"
#include "engine/ring/ring.h"
#include "engine/ring/sync.h"

namespace clouddisk {

// What a checkpoint stores beside the pages, and open() gives back.
struct Checkpoint {
  LogPosition position;      // replay starts here
  WriteSeq next_write;       // of the first write after it
  Epoch epoch;               // the current one
  std::vector<Epoch> views;  // frozen epochs that must stay readable, ascending
};

class BlockMap {
 public:
  struct Options {
    std::size_t memtable_bytes_max = 64_MiB;
  };

  // Opens the index in `directory`. kNotFound: there is none (a new disk, or a lost index);
  // kCorrupt: it fails its checksums. In both cases IndexBuilder makes one.
  static Task<Result<std::unique_ptr<BlockMap>>> open(Ring& ring, PageCache& cache,
                                                      std::string directory, Options options);
  // Makes an empty index, replacing whatever is there.
  static Task<Result<std::unique_ptr<BlockMap>>> create(Ring& ring, PageCache& cache,
                                                        std::string directory, Options options);
  ~BlockMap();  // no call may be under way

  const Checkpoint& last_checkpoint() const;  // what is durable in the index

  // --- Changes. In the order in which they are in the log. ---
  void put(Lba first, std::span<const BlockEntry> entries);
  // Marks [first, first + count) as zero or trimmed. Costs memory by the pages it cuts, not by its
  // length: trimming 32 TiB of nothing is free.
  void put_range(Lba first, std::uint64_t count, BlockLocation zero_or_trimmed);
  // Everything that refers to `from` refers to `to` from the next checkpoint on.
  void relocate(Lba lba, BlockLocation from, BlockLocation to);

  // --- Lookups ---
  // The state of [first, first + out.size()) now, unwritten blocks as kUnmapped.
  // Fast path: true when everything was in memory; false when lookup() must be awaited.
  bool try_lookup(Lba first, std::span<BlockEntry> out);
  Task<Result<void>> lookup(Lba first, std::span<BlockEntry> out);
  // The same in a frozen view.
  Task<Result<void>> lookup_view(Epoch view, Lba first, std::span<BlockEntry> out);
  // The first page at or after `page` that holds anything in the current view; kNoPage when none.
  // Lets extents() skip the holes of a 32 TiB disk.
  static constexpr std::uint64_t kNoPage = ~std::uint64_t{0};
  Task<Result<std::uint64_t>> next_mapped_page(std::uint64_t page);

  // --- Epochs ---
  Epoch epoch() const;
  // Ends the current epoch, which becomes a view, and starts the next. Costs the same for any disk.
  Epoch freeze();
  // Lets go of a view. The space comes back with the next checkpoint.
  void drop_view(Epoch view);

  // --- Checkpoints ---
  bool wants_checkpoint() const;  // half of the memory bound is used
  bool must_wait() const;         // the bound is reached: writers wait for a checkpoint
  // Writes everything up to now. `position` and `next_write` belong to exactly the changes that
  // were put so far. One at a time (kBusy). When it returns the index is durable, and `freed` lists
  // the segments to which nothing refers any more... see live_blocks().
  Task<Result<void>> checkpoint(LogPosition position, WriteSeq next_write);
  // Blocks of a segment that some version refers to, as of the last checkpoint: an upper bound
  // until the next one, never too low for segments that were complete at that checkpoint.
  std::uint64_t live_blocks(SegmentSeq segment) const;
  // All counts, ascending by segment.
  const std::map<SegmentSeq, std::uint64_t>& live_counts() const;
  std::uint64_t mapped_blocks() const;  // stored blocks of the current view, as of that checkpoint
  std::uint64_t index_bytes() const;
  std::size_t memory_bytes() const;  // of the MemTables

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  explicit BlockMap(std::unique_ptr<Impl> impl);
};

}  // namespace clouddisk
