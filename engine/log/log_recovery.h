// log_recovery.h: finds, after any crash, the longest valid prefix of a disk's log (I3).
//
// Pass 1 walks descriptors from `from`, each naming its parent, through whichever copy has the next
//   one. Every descriptor says up to where the log was durable when it was written.
// Pass 2 takes the batches that were not known durable, finds a copy that holds each whole, payload
//   included, gives it to the in-sync copies that don't, and cuts at the first batch that no copy
//   holds.
// Pass 3 replays what is left.
//
// A torn batch at the end is normal; a gap before something that was durable is kCorrupt, and
// nothing is written then.
#pragma once

#include <optional>
#include <vector>

#include "engine/log/segment_reader.h"

namespace clouddisk {

// Who takes the replayed batches.
class LogReplay {
 public:
  virtual ~LogReplay() = default;
  virtual void apply(const Batch& batch) = 0;
  // Between batches: a chance to write a checkpoint at `position`, which everything applied so far
  // reaches, and `next_write`.
  virtual Task<Result<void>> after_batch(LogPosition position, WriteSeq next_write) = 0;
};

// Shared with other logs. A batch that has its memory may need a new segment before it can leave,
// and a recovery that has read some of the log, single blocks to mend it: those come from
// elsewhere, or as many logs as there is room for would wait for each other.
struct LogMemory {
  BufferPool& batches;
  BufferPool& headers;
};

struct RecoveredLog {
  LogPosition tail;           // where the next batch goes; segment 0: the log is empty
  LogPosition replayed_from;  // everything from here on was replayed
  SegmentSeq newest;          // the highest segment number ever seen
  WriteSeq next_write;        // 1 more than the highest replayed
  Epoch epoch;                // of the last replayed batch
  Footer contents;            // of the tail's segment, up to the tail
  LogPosition durable;  // before it everything is durable: the tail, unless too few copies are left
                        // to flush
  std::vector<SegmentSeq> unreachable;  // begun after the tail, never durable: to be removed
  std::uint64_t replayed_batches = 0;
  std::uint64_t repaired_batches = 0;
};

// `from`: the checkpoint's position, or nothing when there is no index: then replay starts at the
// last point that is known durable, and everything before it has to come from the segments'
// footers.
Task<Result<RecoveredLog>> recover_log(SegmentStore& store, LogMemory memory, DiskTag disk,
                                       std::optional<LogPosition> from, LogReplay& replay);

}  // namespace clouddisk
