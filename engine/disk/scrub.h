// scrub.h: reads every copy in sync of a segment, mends what is damaged from a copy that is not,
// and tells what is lost: damaged on all of them.
//
// Thread: the disk's ring. The segment must not be removed meanwhile: Disk::scrub_segment() sees to
// it for a disk that is open; for one that is not, nobody may open it.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine/disk/copy_check.h"

namespace clouddisk {

struct SegmentFindings {
  struct Copy {
    std::uint64_t bad_blocks = 0;
    std::uint64_t mended_blocks = 0;
  };
  // Blocks that no copy in sync has intact.
  struct LostRun {
    Lba lba;
    std::uint64_t blocks = 0;
    std::uint32_t segment_block = 0;
    WriteSeq write;
  };
  std::array<Copy, kReplicaCount> copies;
  ReplicaMask checked = 0;       // copies that were looked at to the end
  std::vector<LostRun> lost;     // of the disk's content, in the order of the segment
  std::uint64_t lost_other = 0;  // of header and descriptors, which hold no content
  // So much is damaged on every copy that not all it held can be told. lost_other is what is known
  // of that.
  bool untold = false;

  bool clean() const;
};

// `cut` and `complete`: see CopyCheck::learn().
Task<Result<SegmentFindings>> scrub_segment(LocalSegmentStore& store, BufferPool& pool,
                                            DiskTag disk, SegmentSeq segment, SegmentCut cut,
                                            bool complete, WorkPace& pace);

// Of a disk that is not open. `next`: the segment behind it, 0 for the last. `settled`: where the
// checkpoint of its index stands, if that is known. The end of the log is looked at up to where it
// is known to be durable: what stands behind is settled by the next open.
Task<Result<SegmentFindings>> scrub_closed_segment(LocalSegmentStore& store, BufferPool& pool,
                                                   DiskTag disk, SegmentSeq segment,
                                                   SegmentSeq next,
                                                   std::optional<LogPosition> settled,
                                                   WorkPace& pace);

}  // namespace clouddisk
