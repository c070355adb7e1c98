// index_builder.h: builds a disk's index from its log alone (I8).
//
// For every block and every view, the write with the highest WriteSeq whose epoch the view sees
// wins; between copies of one write (compaction may have left two) the later location. The disk is
// walked in windows of `window_blocks`, and the log's entries are asked for once for each window
// that has any, so memory is bounded by the window, and time by what is written, not by the disk.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/map/block_map.h"

namespace clouddisk {

// A run of neighbouring blocks from one log entry.
struct LoggedRun {
  Lba first;
  std::uint64_t count = 0;
  WriteSeq write;
  Epoch epoch;
  BlockLocation location;                    // of the first block; stored ones follow each other
  std::span<const std::uint64_t> checksums;  // one a block when stored, else empty
};
using RunVisitor = std::function<void(const LoggedRun&)>;
// Visits every entry of the log that touches [first, last), in any order; parts outside are
// ignored.
using RunSource = std::function<Task<Result<void>>(Lba first, Lba last, const RunVisitor& visit)>;

struct IndexBuild {
  std::uint64_t disk_blocks = 0;
  std::uint64_t window_blocks = 16_GiB / kBlockSize;
  Checkpoint checkpoint;  // what the finished index stores: end of log, epoch, views
};

// Replaces whatever is in `directory`; a crash in the middle leaves no index that open() would
// accept.
Task<Result<std::unique_ptr<BlockMap>>> build_index(Ring& ring, PageCache& cache,
                                                    std::string directory,
                                                    BlockMap::Options options, IndexBuild build,
                                                    RunSource source);

}  // namespace clouddisk
