// disk.h: one virtual disk: its log, its map, and the maintenance that keeps both bounded.
//
//   write   range lock -> (read-modify-write) -> log append on every in-sync replica -> map ->
//   answer read    read gate -> map -> verified read from one replica -> answer beside  checkpoints
//   (map to index), compaction (log space), repair of bad copies
//
// Moments. freeze() ends an epoch of the log, which stays readable as a view: nothing is copied, no
//   write waits. A view costs the blocks that were overwritten since.
// Borrowing. A disk with a base (block_source.h) reads from there what it has not got itself;
//   hydrate() brings it here.
//
// Thread: the ring of its environment makes every call.
// Ownership: borrows the environment, which outlives it; owns log, map and store.
// Errors: as block_device.h says. A disk that failed a write goes on: the next one may succeed.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "engine/disk/block_device.h"
#include "engine/disk/block_reader.h"
#include "engine/disk/block_source.h"
#include "engine/disk/disk_environment.h"
#include "engine/disk/range_lock.h"
#include "engine/disk/read_gate.h"
#include "engine/disk/scrub.h"
#include "engine/log/disk_log.h"
#include "engine/log/local_segment_store.h"
#include "engine/map/block_map.h"

namespace clouddisk {

class Compactor;

class Disk final : public BlockDevice {
 public:
  struct Options {
    BlockMap::Options map;
    DiskLog::Options log;
    LocalSegmentStore::Options store;
    std::uint64_t checkpoint_bytes = 1_GiB;  // of log, between checkpoints
    bool compaction = true;
  };
  struct Identity {
    std::string id;
    std::uint64_t size_bytes = 0;  // a multiple of 512
    std::string index_directory;
    std::vector<Epoch> views{};  // that must stay readable; every other one is let go
    Epoch reference{};           // whose places must be remembered, if they still are; 0: none
    std::shared_ptr<BlockSource> base{};  // null: nothing is borrowed
  };
  struct Usage {
    std::uint64_t mapped_bytes = 0;
    std::uint64_t stored_bytes = 0;  // segments on one replica, spares included
    std::uint64_t index_bytes = 0;
    std::uint64_t compacted_bytes = 0;
    std::uint64_t checkpoints = 0;
    std::uint64_t log_batches = 0;
    ReadCounters reads;
  };

  // Makes the storage of a new, empty disk.
  static Task<Result<void>> create(DiskEnvironment& environment, Identity identity,
                                   Options options);
  // Opens it, replays what the last checkpoint lacks, and rebuilds the index if need be (I8).
  static Task<Result<std::shared_ptr<Disk>>> open(DiskEnvironment& environment, Identity identity,
                                                  Options options);
  // Removes the storage of a disk that is not open.
  static Task<Result<void>> remove(DiskEnvironment& environment, Identity identity);

  ~Disk() override;

  Ring& ring() override { return environment_.ring; }
  BufferPool& buffers() override { return environment_.client_buffers; }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return false; }
  Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) override;
  Task<Result<void>> write(std::uint64_t offset, Buffer data, bool fua) override;
  std::optional<Task<Result<void>>> write_now(std::uint64_t offset, std::span<const std::byte> data,
                                              bool fua) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool fua) override;
  Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                  ZeroOptions options) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                            std::uint32_t extents_max) override;
  Task<Result<void>> prefetch(std::uint64_t offset, std::uint64_t length) override;

  // --- Moments ---
  // Ends the epoch: everything acknowledged is in the view that is returned, and durable.
  Task<Result<Epoch>> freeze();
  // The same for several disks at one instant: all hold, all begin, all release, then each
  // finishes.
  void hold_writes() { log_->hold(); }
  Epoch begin_freeze();
  void release_writes() { log_->release(); }
  Task<Result<void>> finish_freeze(Epoch view);
  void drop_view(Epoch view) { map_->drop_view(view); }
  // Keeps what was where at the view, for changes(), and lets its data go.
  void make_reference(Epoch view) { map_->make_reference(view); }
  Epoch reference() const { return map_->reference(); }
  bool has_view(Epoch view) const;
  // Whole blocks of a view. kNotFound: it is none (any more). Memory of `pool` is held for what is
  // stored, a run at a time, and never while the base is read: it may need the same pool.
  Task<Result<void>> read_view(Epoch view, Lba first, std::span<std::byte> into, BufferPool& pool);
  Task<Result<std::vector<Extent>>> view_extents(Epoch view, std::uint64_t offset,
                                                 std::uint64_t length, std::uint32_t extents_max);
  // What the view has in a page itself; the base is not looked at.
  Task<Result<void>> view_page(Epoch view, std::uint64_t page, std::span<BlockEntry> out);
  // The same of the present. `out` has a page's length; what lies behind the disk's end is
  // unmapped.
  Task<Result<void>> present_page(std::uint64_t page, std::span<BlockEntry> out) {
    return lookup(std::nullopt, Lba(page * kPageBlocks), out);
  }
  // The first page >= `page` that some view or the present has anything in; with `own_only` what is
  // borrowed does not count. BlockMap::kNoPage: none.
  Task<Result<std::uint64_t>> next_page_anywhere(std::uint64_t page, bool own_only);
  // What changed between two moments, by place; see BlockMap::changed_pages(). Checkpoints first.
  Task<Result<std::vector<std::uint64_t>>> changed_pages(Epoch after, Epoch view);
  Task<Result<std::vector<PageStore::PagePair>>> page_pairs(std::vector<std::uint64_t> pages,
                                                            Epoch before, Epoch after) {
    return map_->page_pairs(std::move(pages), before, after);
  }
  // For a source over one of our views: pages in which it or the base may have something, asked for
  // on workers.
  NextBasePage view_pages(Epoch view) const;

  // --- Borrowing ---
  bool has_base() const { return base_ != nullptr; }
  // Brings what is still borrowed in the range; returns the bytes that came. What a client wrote or
  // trimmed meanwhile stays.
  Task<Result<std::uint64_t>> hydrate(std::uint64_t offset, std::uint64_t length);
  // Where the base has something next, from a page on; in bytes. The end of the disk: nowhere.
  Task<Result<std::uint64_t>> next_borrowed_page(std::uint64_t page);
  // After everything was hydrated, and no view is left that borrows. Waits for reads under way. The
  // reference goes too: what it borrowed can't be told from a hole any more.
  Task<void> forget_base();

  const std::string& id() const { return identity_.id; }
  // What clients asked for so far: background work looks at it to yield.
  std::uint64_t client_requests() const { return client_requests_; }
  // Larger only. In effect for the next request.
  Result<void> grow(std::uint64_t size_bytes);
  // Writes the map's changes to its index; replay starts here from now on.
  Task<Result<void>> checkpoint();
  // Resync: what is written from now on goes to a new segment on every copy that takes writes.
  Task<Result<void>> roll() { return log_->roll(); }
  // No segment is removed while a hold exists: resync copies them.
  void hold_segments() { ++segment_holds_; }
  void release_segments() { --segment_holds_; }
  // Scrub: the first segment after `after` that there is; 0: none. disk_scrub.cc
  SegmentSeq next_segment(SegmentSeq after);
  SegmentSeq acked_segment() const { return log_->acked().segment; }
  // Checks and mends one segment, up to what is acknowledged; the cleaner leaves it alone
  // meanwhile. Of what is lost only that counts which is still read by somebody. kNotFound: it is
  // gone.
  Task<Result<SegmentFindings>> scrub_segment(SegmentSeq segment, WorkPace& pace);
  // Reads the whole index. kCorrupt: it is damaged, and the next open makes it anew from the log.
  Task<Result<std::uint64_t>> check_index();
  LocalSegmentStore& store() { return *store_; }
  SegmentSeq active_segment() const { return log_->active_segment(); }

  // Ends maintenance, makes everything durable, checkpoints. No request may be under way. The
  // object is of no use afterwards. An error tells what could not be made durable.
  Task<Result<void>> close();

  Usage usage() const;
  const ReadCounters& read_counters() const;

 private:
  friend class Compactor;

  Disk(DiskEnvironment& environment, Identity identity, Options options);
  Task<Result<void>> recover();
  Task<Result<void>> checkpoint_in_replay(LogPosition position, WriteSeq next_write);
  Task<Result<void>> rebuild_index_from(const RecoveredLog& recovered);
  void apply(const Batch& batch);
  void note_segments();
  Task<Result<std::vector<SegmentFindings::LostRun>>> still_read(
      SegmentSeq segment, std::vector<SegmentFindings::LostRun> lost);
  std::uint64_t block_count() const { return blocks_for(size_bytes_); }

  Task<Result<void>> admit_write();
  bool admit_write_at_once();
  Task<Result<void>> finish_write(DiskLog::PendingRef batch, Lba first, std::uint64_t count,
                                  bool fua);
  Task<Buffer> aligned_copy(Buffer data);
  Task<Result<void>> write_partial(std::uint64_t offset, Buffer data);
  Task<Result<void>> clear(std::uint64_t offset, std::uint64_t length, EntryKind kind, bool fua);
  Task<Result<void>> clear_partial(std::uint64_t offset, std::uint64_t length);
  // Reads whole blocks; the caller holds a ReadGate::Pass since before the lookup.
  Task<Result<Buffer>> read_blocks(Lba first, std::span<const BlockEntry> entries, Buffer into);
  // All of it from the read cache, or false.
  bool recall(std::span<const BlockEntry> entries, std::span<std::byte> into);
  void remember(std::span<const BlockEntry> entries, std::span<const std::byte> blocks);
  Task<Result<void>> read_blocks_into(Lba first, std::span<const BlockEntry> entries,
                                      std::span<std::byte> into, BufferPool& pool);
  struct RunRead;
  Task<Result<void>> read_runs(std::shared_ptr<RunRead> shared, Lba lba);
  Task<void> read_run(std::shared_ptr<RunRead> shared, std::size_t first, std::size_t count);
  Task<void> borrow_run(std::shared_ptr<RunRead> shared, Lba lba, std::size_t first,
                        std::size_t count);
  Task<Result<void>> lookup(std::optional<Epoch> view, Lba first, std::span<BlockEntry> out);
  Task<Result<std::vector<Extent>>> extents_in(std::optional<Epoch> view, std::uint64_t offset,
                                               std::uint64_t length, std::uint32_t extents_max);
  void settle_views();
  // Of a base that is far away: waits for what is still borrowed in the range, holding nothing.
  Task<std::uint64_t> travel_for(Lba first, std::uint64_t count);
  // The same for a request, and keeps what came: a block is slow once.
  Task<void> fetch(Lba first, std::uint64_t count);
  Task<void> fetch_edges(std::uint64_t begin, std::uint64_t end);
  bool base_is_far() const { return base_ && base_->far_away(); }
  Task<Result<std::uint64_t>> bring(std::uint64_t offset, std::uint64_t length);

  void maintain_if_due();
  Task<void> maintain();

  DiskEnvironment& environment_;
  Identity identity_;
  Options options_;
  std::uint64_t size_bytes_;
  std::shared_ptr<LocalSegmentStore> store_;
  std::unique_ptr<BlockMap> map_;
  std::unique_ptr<DiskLog> log_;
  std::unique_ptr<Compactor> compactor_;
  std::shared_ptr<BlockSource> base_;
  BlockReader reader_;
  std::uint32_t read_cache_id_ = 0;  // 0: there is none
  RangeLock ranges_;
  ReadGate gate_;
  AsyncMutex checkpointing_;
  Signal maintained_;
  WaitGroup background_;
  std::set<SegmentSeq> segments_;          // that exist
  std::uint64_t checkpoint_at_bytes_ = 0;  // of the log, at the last checkpoint
  Result<void> checkpoint_result_;
  TimePoint retry_after_{};
  std::uint64_t client_requests_ = 0;
  unsigned segment_holds_ = 0;
  std::optional<SegmentSeq> pinned_;  // being scrubbed
  bool maintaining_ = false;
  bool closed_ = false;
};

}  // namespace clouddisk
