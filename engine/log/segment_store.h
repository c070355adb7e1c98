// segment_store.h: the seam below the log: segments of one disk, kept in up to kReplicaCount
// copies. The local store (local_segment_store.h) keeps a file in each replica folder; a
// distributed engine that keeps the copies itself can stand in its place. Nothing above may assume
// a local file.
//
// Thread: the disk's ring. Units: 4 KiB blocks from the start of the segment. Memory is 4
// KiB-aligned. Errors: values. A copy that fails a write is dropped by the store (I5), durably,
// before the call
//   returns; the call succeeds while enough copies are left and fails with kReplicasLost otherwise.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/log/replica_set.h"
#include "engine/ring/buffer_pool.h"
#include "engine/ring/ring.h"

namespace clouddisk {

// What one append writes: memory in order, and the buffers that keep it alive. A copy that stalls
// may go on reading it long after the append returned without it.
struct AppendData {
  std::vector<iovec> pieces;
  std::vector<Buffer> keep_alive;
  std::uint64_t size() const {
    std::uint64_t bytes = 0;
    for (const iovec& piece : pieces) bytes += piece.iov_len;
    return bytes;
  }
};

class SegmentStore {
 public:
  virtual ~SegmentStore() = default;

  virtual Ring& ring() = 0;

  // Segments of which at least one believed copy exists, ascending.
  virtual Task<Result<std::vector<SegmentSeq>>> list() = 0;

  // Makes a segment that does not exist, with `header` as block 0, on every copy; its name is
  // durable on return, its header with the next flush. kNoSpace: nothing was made.
  virtual Task<Result<void>> create(SegmentSeq segment, Buffer header) = 0;

  // True: the whole range has its space already, and ensure_space() need not be awaited.
  virtual bool has_space(SegmentSeq segment, std::uint32_t end_block) const = 0;
  // Reserves space up to `end_block` on every copy, so that writes up to there can't fail for it
  // (I9).
  virtual Task<Result<void>> ensure_space(SegmentSeq segment, std::uint32_t end_block) = 0;

  // Takes a segment of an earlier life into account: the next flush() covers it, and it may be
  // appended to. A copy that has no file of it (a crash came in the middle of remove()) is left
  // out: reads and scrub mend it if it matters.
  virtual Task<void> adopt(SegmentSeq segment) = 0;

  // Writes behind what was written before. On return the data is on every in-sync copy (I1).
  virtual Task<Result<void>> append(SegmentSeq segment, std::uint32_t block,
                                    std::shared_ptr<const AppendData> data) = 0;

  // On return every append that had returned before the call is durable on every in-sync copy (I2).
  virtual Task<Result<void>> flush() = 0;

  // Copies that may be read, as a mask; changes when one drops or returns.
  virtual ReplicaMask readable() const = 0;
  // Reads from one copy; kIo when it fails or is short. The buffer may be written to until the read
  // ends, even if the caller gave up on it: hence a Buffer, which keeps it alive.
  // kTimedOut: the copy stalled. With `blocks_there` the file may end before the buffer does (power
  // takes the length that nobody flushed): it gets the whole blocks that were read, perhaps none.
  virtual Task<Result<void>> read(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                  Buffer into, std::uint32_t* blocks_there = nullptr) = 0;
  // Overwrites a damaged range of one copy with the verified content of another. If that fails, the
  // copy is dropped.
  virtual Task<Result<void>> repair(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                    Buffer good) = 0;
  // Makes a segment that one copy lacks, with `header` as block 0, before it is repaired into.
  virtual Task<Result<void>> restore(unsigned copy, SegmentSeq segment, Buffer header) = 0;

  // Ends a segment. Its space is reused or given back. No read of it may be under way.
  virtual Task<Result<void>> remove(SegmentSeq segment) = 0;

  // How many removed segments are kept for reuse; the surplus goes with the next
  // release_spares().
  virtual void keep_spares(std::size_t count_max) = 0;
  virtual Task<Result<void>> release_spares() = 0;
  virtual std::uint64_t spare_bytes() const = 0;  // space kept for reuse, one copy
};

}  // namespace clouddisk
