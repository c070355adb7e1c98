// diff.h: which 4 KiB blocks of a device differ from a snapshot, exactly.
//
// Places tell most: snapshots of one chain share the blocks that did not change, and a disk's map
// keeps where everything was at the snapshot captured last. What places leave open is compared byte
// by byte. Thread: the ring of the chain, which is that of the device too.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/disk/block_device.h"
#include "snapshot/snapshot_source.h"

namespace clouddisk::snapshot {

struct DiffExtent {
  std::uint64_t length = 0;  // bytes
  bool changed = false;
};

class Diff {
 public:
  // Blocks of a page that are surely the same on both sides.
  using SameBlocks = std::function<Task<Result<PagePresence>>(std::uint64_t page)>;

  Diff(std::shared_ptr<SnapshotSource> older, BlockDevice& newer, SameBlocks same)
      : older_(std::move(older)), newer_(newer), same_(std::move(same)) {}

  // From `offset` on, front to back, neighbours merged; covers at least one byte and at most
  // `length`. What the newer has beyond the older's end counts as changed where it holds data.
  Task<Result<std::vector<DiffExtent>>> extents(std::uint64_t offset, std::uint64_t length,
                                                std::uint32_t extents_max);

 private:
  Task<Result<PagePresence>> changed_in(std::uint64_t page);

  std::shared_ptr<SnapshotSource> older_;
  BlockDevice& newer_;
  SameBlocks same_;
};

// For two captured snapshots of one chain.
Diff::SameBlocks same_in_chain(std::shared_ptr<SnapshotSource> a,
                               std::shared_ptr<SnapshotSource> b);
// For a disk against the snapshot that is its reference.
Diff::SameBlocks same_as_reference(std::shared_ptr<Disk> disk, Epoch reference);

}  // namespace clouddisk::snapshot
