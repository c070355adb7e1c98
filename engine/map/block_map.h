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
// One frozen epoch may be kept as the reference: what was where then, to tell what changed since,
// but no longer its data.
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
#include <utility>
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

class BlockMap {
 public:
  struct Options {
    std::size_t memtable_bytes_max = 64_MiB;
    std::size_t memtable_pages_max = 64 * 1024;  // a checkpoint rewrites 4 KiB for each
    // Set while the disk borrows blocks: an unmapped block then shows the base, a trimmed one
    // zeros.
    NextBasePage next_base_page;
  };

  // Opens the index in `directory`. kNotFound: there is none (a new disk, or a lost index);
  // kCorrupt: it fails its checksums. In both cases IndexBuilder makes one.
  static Task<Result<std::unique_ptr<BlockMap>>> open(Ring& ring, PageCache& cache,
                                                      std::string directory, Options options);
  // An empty map. Whatever index is there goes; a new one is made by make_index(), or by the first
  // checkpoint that has something to say.
  static Task<Result<std::unique_ptr<BlockMap>>> create(Ring& ring, PageCache& cache,
                                                        std::string directory, Options options);
  ~BlockMap();  // no call may be under way

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
  Epoch epoch() const { return epoch_; }
  const std::vector<Epoch>& views() const { return views_; }
  // Ends the current epoch, which becomes a view, and starts the next. Costs the same for any disk.
  Epoch freeze();
  // Lets go of a view, or of the reference. The space comes back with the next checkpoint.
  void drop_view(Epoch view);
  // Makes a view the reference, instead of what was it before. Its data may go from now on.
  void make_reference(Epoch view);
  Epoch reference() const { return reference_; }  // 0: none
  // Pages that changed after `after`, up to `view`, and some of them at both moments, as of the
  // last checkpoint, which must have come after the freeze. Only places may be compared, nothing
  // read.
  Task<Result<std::vector<std::uint64_t>>> changed_pages(Epoch after, Epoch view);
  Task<Result<std::vector<PageStore::PagePair>>> page_pairs(std::vector<std::uint64_t> pages,
                                                            Epoch before, Epoch after);
  // Pages that a frozen view may hold anything in: those of the index, and of the tables that were
  // not checkpointed when this was called, which it keeps. Any worker's.
  NextBasePage view_pages(Epoch view) const;
  // Nothing is borrowed any more.
  void forget_base() { options_.next_base_page = nullptr; }

  // --- Checkpoints ---
  bool wants_checkpoint() const;  // half of the memory bound is used, by frozen epochs too
  bool must_wait() const;         // the bound is reached: writers wait for a checkpoint
  // Writes everything up to now. `position` and `next_write` belong to exactly the changes that
  // were put so far (taken before the first suspension). `log_durable` is awaited before the index
  // refers to any of it: the index must never know more than what survives a power loss. One at a
  // time (kBusy). On return nothing refers to the `from` of a relocation made before the call.
  // After a failure everything is still in memory, and a later checkpoint takes it along.
  Task<Result<void>> checkpoint(LogPosition position, WriteSeq next_write,
                                Task<Result<void>> log_durable);
  // Makes the index of a map that create() gave, where it is not made yet: before the log has
  // anything that a checkpoint does not know. Where it can't be made, which the log says, the next
  // call or checkpoint tries again; without it a start makes it from the log.
  Task<void> make_index();
  // What is durable in the index, or would be if there were anything to say.
  const Checkpoint& last_checkpoint() const { return checkpoint_; }
  // Blocks that some version refers to, by segment, as of the last checkpoint. An upper bound for
  // segments that were complete by then.
  const LiveCounts& live_counts() const { return *live_; }
  std::uint64_t live_blocks(SegmentSeq segment) const;
  // Of all segments together. Every write asks for it: it is a number, not a sum.
  std::uint64_t live_blocks() const { return live_blocks_; }
  std::uint64_t index_bytes() const { return store_->size_bytes(); }
  // Scrub: reads every entry of the index and checks it, a step at a time on a worker. Gives the
  // bytes read; kCorrupt: it is damaged.
  Task<Result<std::uint64_t>> check();
  std::size_t memory_bytes() const;  // of the MemTables
  std::uint64_t checkpoints() const { return checkpoint_count_; }

 private:
  struct Loading;
  struct Opened;
  BlockMap(Ring& ring, PageCache& cache, Opened opened, Options options);
  bool resolve(Epoch view, Lba first, std::span<BlockEntry> out, const PageRef* page);
  Task<Result<PageRef>> load(std::uint64_t page, Epoch view);
  Task<Result<void>> lookup_in(Epoch view, Lba first, std::span<BlockEntry> out);
  void update_cache(const MergeInput& input);
  std::size_t memory_pages() const;
  void take_live(std::shared_ptr<const LiveCounts> live);
  static bool says_nothing(const MergeInput& input);

  Ring& ring_;
  PageCache& cache_;
  std::shared_ptr<PageStore> store_;  // shared with workers
  bool on_record_;                    // the index is made, or a checkpoint has tried to
  bool making_ = false;
  Signal made_;  // or could not be
  Options options_;
  std::uint32_t id_;  // in the cache
  Epoch epoch_;
  std::vector<Epoch> views_;          // ascending
  Epoch reference_;                   // 0: none
  std::vector<Epoch> dropped_views_;  // since the last checkpoint, former references included
  std::shared_ptr<MemTable> active_;
  std::vector<EpochTable> frozen_;            // oldest first
  std::shared_ptr<Relocations> relocations_;  // since the last cut
  std::vector<std::shared_ptr<const Relocations>> frozen_relocations_;
  Checkpoint checkpoint_;
  std::shared_ptr<const LiveCounts> live_;
  std::uint64_t live_blocks_ = 0;
  std::uint64_t generation_ = 0;  // grows with each checkpoint: a page read before it is stale
  std::uint64_t checkpoint_count_ = 0;
  bool merging_ = false;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::shared_ptr<Loading>> loading_;
};

// An index that was found damaged: open() answers kCorrupt from now on, so that it is made anew.
Task<Result<void>> condemn_index(Ring& ring, std::string directory);
// The index of a disk that is not open: kNotFound when there is none, kCorrupt when it is damaged.
Task<Result<std::uint64_t>> check_closed_index(Ring& ring, std::string directory);
// Up to where the log is known durable by the index of a disk that is not open.
Task<Result<LogPosition>> closed_position(Ring& ring, std::string directory);

}  // namespace clouddisk
