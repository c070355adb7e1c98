// resync.h: brings one copy of one disk up to date with the others.
//
// The disk has begun a new segment on every copy that takes writes, this one included, so only
// complete segments are left to look at: one that the copy holds already, intact, is read there and
// kept; what differs or is missing is written; what the others don't have is removed. So a resync
// that was cut off goes on with what is still missing. Nothing is believed (copy_check.h).
//
// Thread: the disk's ring. Segments must not be removed meanwhile (Disk::hold_segments).
#pragma once

#include <optional>
#include <set>

#include "engine/disk/copy_check.h"

namespace clouddisk {

struct ResyncOutcome {
  std::uint64_t segments_kept = 0;  // that were intact already
  std::uint64_t copied_bytes = 0;
};

// Segments before `before` (all of them when it is empty). On return the copy is durable. An error
// means that it is not complete; kShutdown: `pace` was stopped.
Task<Result<ResyncOutcome>> resync_copy(LocalSegmentStore& store, BufferPool& pool, DiskTag disk,
                                        unsigned copy, std::optional<SegmentSeq> before,
                                        WorkPace& pace, std::set<SegmentSeq>& done);

}  // namespace clouddisk
