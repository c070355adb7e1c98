// compactor.h: wins log space back: copies what is live in mostly dead segments to the head of the
// log and removes them. Foreground writes are slowed, not failed, while it is behind.
//
// A round: choose victims; move their live blocks, as relocated entries that keep the sequence and
// epoch of their writes; move the trims that a rebuild of the index still needs; checkpoint, so
// that the index refers to the new places and the copies are durable; wait for the reads that may
// still use the old places; remove the victims. A crash at any point leaves both copies, and the
// index at one.
//
// Thread: the disk's ring. Belongs to its Disk, which runs one round at a time.
#pragma once

#include <map>
#include <vector>

#include "engine/disk/compaction_plan.h"
#include "engine/disk/disk.h"

namespace clouddisk {

class Compactor {
 public:
  explicit Compactor(Disk& disk) : disk_(disk) {}

  bool due() const { return compaction_due(use()); }
  // Rounds until no more is due. kNoSpace and kReplicasLost end it early; nothing is lost.
  Task<Result<void>> run();
  // Called by every write before it begins: it waits while there is little space.
  Task<Result<void>> admit();
  bool admits_at_once() const;
  SpaceUse use() const;
  std::uint64_t moved_bytes() const { return moved_bytes_; }

 private:
  // A trim or zero run that stands in a victim.
  struct Tombstone {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    LogEntry entry;
  };

  Task<Result<void>> round();
  Task<Result<void>> seal_before(SegmentSeq victim);
  Task<Result<bool>> clean(SegmentSeq victim, std::vector<Tombstone>& tombstones);
  Task<Result<std::vector<bool>>> find_live(const LogEntry& entry, SegmentSeq victim,
                                            std::span<const std::uint64_t> checksums);
  Task<Result<void>> move(const std::vector<LogEntry>& moves,
                          const std::vector<BlockEntry>& blocks);
  Task<Result<void>> move_tombstones(std::vector<Tombstone> tombstones);
  Task<SegmentCut> start_of(SegmentSeq segment);
  Task<Result<WriteSeq>> oldest_write_kept();

  Disk& disk_;
  std::uint64_t moved_bytes_ = 0;
  std::set<SegmentSeq> stuck_;             // hold a block that no copy has intact: kept as they are
  std::map<SegmentSeq, WriteSeq> oldest_;  // of sealed segments, as their trailers say
  std::set<SegmentSeq> sealed_;            // known to be
};

}  // namespace clouddisk
