// segment_reader.h: reads back what a segment holds, from whichever copy is intact.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "engine/log/segment_format.h"
#include "engine/log/segment_store.h"

namespace clouddisk {

// A window over one segment, one buffer a copy, so that a walk over small batches reads the device
// in large pieces while there is memory for them. Thread: the disk's ring. One call at a time.
class SegmentReader {
 public:
  static constexpr std::uint32_t kWindowBlocks = 2_MiB / kBlockSize;
  static constexpr std::uint32_t kShortWindowBlocks = 128_KiB / kBlockSize;  // memory is short
  static_assert(kWindowBlocks >= kBatchPayloadBlocksMax + kDescriptorBlocksMax);

  SegmentReader(SegmentStore& store, BufferPool& pool, DiskTag disk, SegmentSeq segment)
      : store_(store), pool_(pool), disk_(disk), segment_(segment) {}

  // The header, from the first copy that has a valid one. kCorrupt: none has (a segment that was
  // prepared but never begun looks like that too).
  Task<Result<SegmentHeader>> header();
  // The batch that starts at `block` on one copy; its payload is not looked at.
  Task<Result<Batch>> batch(unsigned copy, std::uint32_t block);
  // The batch that follows at `position`, from whichever copy has it; `from` tells which one that
  // was. A copy that lost a write silently may hold another one in the same place, of a log that
  // was given up: the one is taken that a copy holds whole, that others follow, that more copies
  // have.
  Task<std::optional<Batch>> next(const LogPosition& position, unsigned* from = nullptr);
  // Whether that copy holds exactly this batch, payload included.
  Task<bool> holds(unsigned copy, const Batch& batch);
  // The bytes of the batch, descriptor and payload, on a copy that holds() it. They are checked
  // again, since they may have been read again.
  Task<Result<Buffer>> bytes(unsigned copy, const Batch& batch);

 private:
  struct Window {
    Buffer data;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  Task<Buffer> window_memory(std::uint32_t block, std::uint32_t count);
  // `count` blocks from `block`, or as many as the copy's file has from there, but at least one.
  Task<Result<std::span<const std::byte>>> view(unsigned copy, std::uint32_t block,
                                                std::uint32_t count);
  // How likely it is that the batch is of this log, when copies differ.
  struct Standing {
    bool whole = false;
    bool followed = false;
    unsigned copies = 0;
    std::uint64_t wall_ns = 0;
    auto operator<=>(const Standing&) const = default;
  };
  Task<Standing> standing(const Batch& of);
  static bool is_payload(std::span<const std::byte> data, const Batch& of);

  SegmentStore& store_;
  BufferPool& pool_;
  DiskTag disk_;
  SegmentSeq segment_;
  std::array<Window, kReplicaCount> windows_;
};

// Where the next segment that is there begins. One that is not sealed ends there; one that is may
// end before, when those between the two were cleaned.
using SegmentCut = std::optional<LogPosition>;

// Whether a trailer is of the segment's last life. One that was sealed, cut in recovery and written
// on since may have a trailer of a former life, with a footer that is whole still, until recovery
// has looked at it (log_recovery.cc).
inline bool is_of_this_life(const Trailer& trailer, const SegmentCut& cut) {
  return !cut || trailer.end.before(*cut) || trailer.end.meets(*cut);
}

// What a segment that was sealed says of itself, from the first readable copy that says it.
Task<std::optional<Trailer>> find_trailer(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                          SegmentSeq segment, SegmentCut cut);

// Everything a segment that is no longer written to holds: from its footer, or, when it was never
// sealed (a crash came between), batch by batch up to where the next segment begins. That one is
// not cleaned before this one is sealed (compactor.cc).
Task<Result<Footer>> read_contents(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                   SegmentSeq segment, SegmentCut cut);
// The same batch by batch, whatever stands in the place of a footer.
Task<Result<Footer>> walk_contents(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                   SegmentSeq segment, SegmentCut cut);

}  // namespace clouddisk
