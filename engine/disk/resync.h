// resync.h: brings one copy of one disk up to date with the others.
//
// The disk has begun a new segment on every copy that takes writes, this one included, so only
// complete segments are left to compare: what the copy holds already is read and kept, what differs
// or is missing is written, what the others don't have is removed. Nothing is believed: each block
// that is copied was checked against its checksum first, and comes from whichever copy has it
// intact.
//
// Thread: the disk's ring. Segments must not be removed meanwhile (Disk::hold_segments).
#pragma once

#include <functional>
#include <optional>

#include "engine/log/local_segment_store.h"
#include "engine/log/segment_format.h"

namespace clouddisk {

struct ResyncOptions {
  std::uint64_t bytes_per_second = 400_MiB;  // read from a good copy
};

// Segments before `before` (all of them when it is empty). `progress` gets the bytes of each piece.
// On return the copy is durable. An error means that it is not complete.
Task<Result<void>> resync_copy(LocalSegmentStore& store, BufferPool& pool, DiskTag disk,
                               unsigned copy, std::optional<SegmentSeq> before,
                               ResyncOptions options, std::function<void(std::uint64_t)> progress);

}  // namespace clouddisk
