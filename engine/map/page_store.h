// page_store.h: the index of one disk's map: versioned pages, live counts and the checkpoint, in
// one key-value environment.
//
// Thread: workers. Reads may run beside each other and beside one merge.
// Errors: kCorrupt means that the index can't be trusted: rebuild it from the log.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/log/log_position.h"
#include "engine/map/mem_table.h"
#include "engine/map/page.h"
#include "engine/ring/kv.h"

namespace clouddisk {

// What a checkpoint stores beside the pages.
struct Checkpoint {
  LogPosition position;      // replay starts here
  WriteSeq next_write;       // of the first write after it
  Epoch epoch;               // the current one
  std::vector<Epoch> views;  // frozen epochs that must stay readable, ascending
  // A frozen epoch of which only the places are kept, to tell what changed since: its data may be
  // gone. 0: none.
  Epoch reference;
  std::uint64_t mapped_blocks = 0;  // stored blocks of the current view
};

// Moved by compaction: whatever refers to `from` refers to `to`.
struct Relocation {
  BlockLocation from;
  BlockLocation to;
};
using Relocations = std::map<std::uint64_t, std::vector<Relocation>>;  // by page
using LiveCounts = std::map<SegmentSeq, std::uint64_t>;

// The first page >= `page` in which a disk's base (BlockSource) holds anything. Blocks: workers
// call it.
using NextBasePage = std::function<Result<std::optional<std::uint64_t>>(std::uint64_t page)>;

struct EpochTable {
  Epoch epoch;
  std::shared_ptr<const MemTable> table;
};

// Everything one checkpoint writes.
struct MergeInput {
  std::vector<EpochTable> tables;  // oldest first
  std::shared_ptr<const Relocations> relocations;
  std::vector<Epoch> dropped_views;        // views, or the reference, that are so no longer
  std::vector<Epoch> views_before;         // as of the last checkpoint
  Checkpoint checkpoint;                   // mapped_blocks: as of the last one
  NextBasePage next_base_page;             // null: nothing is borrowed
  std::shared_ptr<const LiveCounts> live;  // as of the last one
};
struct MergeOutput {
  Checkpoint checkpoint;
  std::shared_ptr<const LiveCounts> live;
};

class PageStore {
 public:
  explicit PageStore(std::unique_ptr<Kv> kv) : kv_(std::move(kv)) {}

  // kNotFound when there is no finished index in the environment.
  Result<Checkpoint> load_checkpoint();
  Result<std::shared_ptr<const LiveCounts>> load_live();

  // The newest version of a page at or before `view`; null when there is none.
  Result<PageRef> load_page(std::uint64_t page, Epoch view);
  // The first page >= `page` with any version.
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page);

  // Pages with a version made after `after` and not after `view`.
  Result<std::vector<std::uint64_t>> changed_pages(Epoch after, Epoch view);
  // Pages at two moments, with the same relocations applied to both.
  struct PagePair {
    Page before;
    Page after;
  };
  Result<std::vector<PagePair>> load_pairs(std::span<const std::uint64_t> pages, Epoch before,
                                           Epoch after);

  // One transaction: new versions, relocations, versions no view needs any more, counts,
  // checkpoint.
  Result<MergeOutput> merge(const MergeInput& input);

  // For the builder: adds finished pages of [first page, …) without a checkpoint record.
  struct BuiltPage {
    std::uint64_t page;
    Epoch epoch;
    Page content;
    bool over_older;  // an older version of the page stays below it
  };
  Result<void> add_built(const std::vector<BuiltPage>& pages);
  Result<void> finish_build(const Checkpoint& checkpoint, const LiveCounts& live);

  // Checks up to `entries_max` entries from `from` on (empty: the first) against their checksums.
  // Gives the bytes that were read, and where to go on; nothing there: it was the end.
  struct Checked {
    std::uint64_t bytes = 0;
    std::optional<std::vector<std::byte>> next;
  };
  Result<Checked> check(std::vector<std::byte> from, std::size_t entries_max);

  std::uint64_t size_bytes() const { return kv_->size_bytes(); }

 private:
  std::unique_ptr<Kv> kv_;
};

}  // namespace clouddisk
