// disk_log.h: the append-only log of one disk, the same on every in-sync replica (I1, I3).
// Bytes on disk: docs/format.md.
//
// Group commit: what arrives while an append is under way joins the next batch; a batch is one
// write per replica. A second batch is started beside the first only when enough is waiting to make
// it worth while. Batches are acknowledged in their order, which is what makes I3 true.
//
//   0 ........ durable_ ................ acked_ ................ next_
//   survives power loss | on every in-sync replica | on its way, not acknowledged
//
// Thread: the disk's ring makes every call. No locks inside.
// Ownership: borrows store and memory, which outlive the log. A payload of up to kCopyMax is copied
//   when append() is called; a larger one is kept alive by its Buffer and must not change until
//   append() returned.
// Errors: values. kNoSpace: nothing was written, and the log goes on as soon as there is room (I9).
//   kReplicasLost: too few copies; the log goes on, in a new segment, once there are enough again.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "engine/log/log_recovery.h"
#include "engine/log/segment_format.h"
#include "engine/log/segment_store.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class DiskLog {
 public:
  static constexpr std::size_t kCopyMax = 64_KiB;

  struct Options {
    unsigned batches_in_flight = 4;
    std::uint64_t parallel_bytes_min = 128_KiB;   // waiting, before a second batch is started
    std::uint64_t flush_bytes_max = 64_MiB;       // unflushed, before the log flushes by itself
    std::uint64_t unflushed_bytes_max = 256_MiB;  // beyond it appends wait: bounds recovery
  };
  using Memory = LogMemory;
  // Takes the entries of each batch as it is acknowledged, in order, before the appends return.
  using Apply = std::function<void(const Batch& batch)>;

  // Goes on where recovery ended; removes what it found unreachable.
  static Task<Result<std::unique_ptr<DiskLog>>> start(SegmentStore& store, Memory memory,
                                                      DiskTag disk, RecoveredLog recovered,
                                                      WriteSeq next_write, Epoch epoch,
                                                      Options options, Apply apply);
  ~DiskLog();

  // Awaited before a segment is begun.
  void before_segments(std::function<Task<void>()> before) { before_segments_ = std::move(before); }

  // One write request: whole blocks, at most kBatchPayloadBlocksMax. All of it is in one batch.
  Task<Result<void>> append_write(Lba lba, Buffer blocks);
  // The same at once, for a payload of up to kCopyMax that is there only until the call returns.
  // Null: something has to be waited for first, and nothing happened. Await finish() of the batch.
  struct Pending;
  using PendingRef = std::shared_ptr<Pending>;
  PendingRef try_append_write(Lba lba, std::span<const std::byte> blocks);
  Task<Result<void>> finish(PendingRef pending);
  // kZero or kTrim.
  Task<Result<void>> append_range(EntryKind kind, Lba lba, std::uint64_t count);
  // Moved entries with the sequence and epoch of their writes; the payload in the order of the
  // entries. `entries[i].block` is ignored. On return `entries` carries where the blocks went.
  Task<Result<void>> append_relocated(std::vector<LogEntry>& entries, SegmentSeq& segment,
                                      Buffer blocks);

  // When it returns, every append that had returned before the call is durable (I2).
  Task<Result<void>> flush();

  // Batches launched from now on belong to `epoch`, which is higher; those under way keep theirs.
  // Nothing waits for it: everything acknowledged so far is in an earlier epoch.
  void set_epoch(Epoch epoch);
  Epoch epoch() const { return epoch_; }
  // Waits until no batch of an earlier epoch is under way.
  Task<void> settle_epoch();
  // While held, no batch is launched: several disks can change epoch at one instant. Nests.
  void hold() { ++holds_; }
  void release();
  // Waits until every append called so far has ended.
  Task<void> quiesce();

  // Ends the current segment, so that what follows goes to a new one on every copy, those that
  // joined meanwhile included (resync).
  Task<Result<void>> roll();

  // Seals a segment that is older than oldest_in_use() and that a crash left unsealed.
  Task<Result<void>> seal_late(const Footer& contents) { return write_footer(contents); }

  // Waits for everything under way. Appends afterwards fail with kShutdown.
  Task<void> close();

  LogPosition acked() const { return acked_; }
  LogPosition durable() const { return durable_; }
  // The sequence of the first write after acked().
  WriteSeq acked_next_write() const { return acked_next_write_; }
  std::uint64_t acked_bytes() const { return acked_bytes_; }
  // Segments older than this one take no more batches.
  SegmentSeq active_segment() const { return active_.segment; }
  // The oldest segment that the log still writes to: the active one, or one whose seal is under
  // way. It and later ones must not be removed.
  SegmentSeq oldest_in_use() const;
  // Segments begun since the last call that hold something acknowledged: these stay, whatever
  // fails. Numbers may be skipped.
  std::vector<SegmentSeq> take_begun();
  // What was acknowledged of it so far.
  const Footer& active_contents() const { return active_.contents; }
  std::uint64_t batches() const { return batch_count_; }
  DiskTag disk() const { return disk_; }

 private:
  struct Segment {
    SegmentSeq segment;       // 0: none is begun
    Footer contents;          // acknowledged entries
    std::size_t entries = 0;  // with those on their way
    std::size_t checksums = 0;
    LogPosition end;  // once it takes no more
  };

  DiskLog(SegmentStore& store, Memory memory, DiskTag disk, Options options, Apply apply);

  // The batch that takes so much more, made if need be; null: that has to be waited for. What it is
  // joined for is added before anything else runs.
  PendingRef try_join(std::size_t entries, std::uint32_t blocks, bool copied);
  // The same, and waits while the queue is full.
  Task<Result<PendingRef>> join(std::size_t entries, std::uint32_t blocks, bool copied);
  PendingRef count_in(std::uint32_t blocks);
  static bool fits(const Pending& pending, std::size_t entries, std::uint32_t blocks, bool copied);
  LogEntry next_entry(EntryKind kind, Lba lba, std::uint64_t count);
  void place_copied(Pending& pending, LogEntry entry, std::span<const std::byte> blocks);
  void place_referenced(Pending& pending, LogEntry entry, const Buffer& blocks);

  void kick();
  bool may_launch() const;
  Task<void> pump();
  std::uint32_t blocks_wanted(const Pending& pending) const;
  bool has_room(const Pending& pending) const;
  Task<Result<void>> make_room(const Pending& pending);
  Task<Result<void>> begin_segment(LogPosition after);
  Task<Result<void>> mend();
  void launch(PendingRef pending);
  Task<void> write(PendingRef pending, std::shared_ptr<const AppendData> data);
  void acknowledge();
  void record(const Batch& batch);
  void end_pending(Pending& pending, Result<void> result);
  void fail_queue(const Error& error);
  void seal_what_is_acked();
  Task<void> seal(Segment segment);
  Task<Result<void>> write_footer(const Footer& contents);
  void flush_if_due();
  Task<void> flush_in_background();
  void prepare_if_due();
  Task<void> prepare_next();
  void allocate_if_due();
  Task<void> allocate_ahead(SegmentSeq segment, std::uint32_t end_block);

  SegmentStore& store_;
  BufferPool& pool_;
  BufferPool& headers_;
  Ring& ring_;
  DiskTag disk_;
  Options options_;
  Apply apply_;
  std::function<Task<void>()> before_segments_;

  Epoch epoch_;
  unsigned holds_ = 0;
  WriteSeq next_write_{1};
  WriteSeq acked_next_write_{1};
  LogPosition next_;  // where the next batch goes
  LogPosition acked_;
  LogPosition durable_;
  Segment active_;
  std::deque<Segment> sealing_;    // complete, waiting for their last acknowledgement
  SegmentSeq newest_;              // highest number used
  std::vector<SegmentSeq> begun_;  // since take_begun()
  SegmentSeq prepared_;            // made ahead, not begun; 0: none
  bool preparing_ = false;
  bool allocating_ = false;            // ahead, in the active segment
  std::vector<SegmentSeq> abandoned_;  // begun after a failed batch: to be removed

  std::deque<PendingRef> queue_;      // the last one still takes entries
  std::deque<PendingRef> in_flight_;  // in order of their batches
  std::uint64_t queued_blocks_ = 0;
  bool pumping_ = false;
  bool broken_ = false;  // a batch failed: cut there and go on in a new segment
  bool closed_ = false;
  bool roll_wanted_ = false;
  Result<void> roll_result_;

  std::uint64_t acked_bytes_ = 0;
  std::uint64_t durable_bytes_ = 0;
  std::uint64_t batch_count_ = 0;
  bool flushing_ = false;
  bool flush_begins_ = false;  // in the background, as soon as what runs now has suspended
  std::set<SegmentSeq> being_sealed_;
  Signal progress_;  // a batch ended, a flush ended, a segment was sealed, room in the queue
  AsyncMutex joining_;
  WaitGroup background_;
};

// A batch being gathered, written or waiting for its turn to be acknowledged.
struct DiskLog::Pending {
  Pending(Ring& ring, Buffer memory) : staging(std::move(memory)), ended(ring) {}
  Batch batch;     // entries' blocks count from the start of their part until launch() places them
  Buffer staging;  // kDescriptorBlocksMax blocks for the descriptor, then the copied payload
  std::uint32_t staged_blocks = 0;
  std::vector<Buffer> referenced;  // payload that is not copied, behind the staged part
  std::uint32_t referenced_blocks = 0;
  std::vector<std::uint64_t> referenced_checksums;
  std::vector<std::uint32_t> referenced_entries;  // indexes into batch.entries
  bool written = false;
  bool finished = false;
  Result<void> result;
  Signal ended;

  std::uint32_t payload_blocks() const { return staged_blocks + referenced_blocks; }
};

}  // namespace clouddisk
