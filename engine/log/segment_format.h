// segment_format.h: the bytes of a log segment (docs/format.md), encoded and decoded; no I/O.
//
//   block 0        header
//   block 1 …      batch | batch | …           batch = descriptor (1..n blocks) | payload blocks
//   after the last batch, once sealed: footer body, every entry again
//   last block     trailer: where the footer is
//
// Every structure carries the tag of its disk and the sequence of its segment, so a record left
// over from a recycled file, or one that landed in the wrong place, is never taken for one of this
// segment. Each batch names the checksum of the batch before it (its parent), so after a cut the
// old continuation can't be taken for the new one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/variant.h"
#include "engine/log/log_position.h"
#include "engine/map/block_location.h"

namespace clouddisk {

inline constexpr std::uint32_t kLogFormatVersion = 1;
// 34 ms of appends at 2 GB/s: short replay
inline constexpr std::uint64_t kSegmentSize = kSimulationBuild ? 2_MiB : 64_MiB;
inline constexpr std::uint32_t kSegmentBlocks = kSegmentSize / kBlockSize;
static_assert(kSegmentBlocks <= 1U << BlockLocation::kOffsetBits, "a location reaches every block");
inline constexpr std::uint32_t kTrailerBlock = kSegmentBlocks - 1;
inline constexpr std::uint32_t kFirstBatchBlock = 1;

inline constexpr std::uint32_t kBatchPayloadBlocksMax = 256;  // 1 MiB: the largest single write
inline constexpr std::uint32_t kBatchEntriesMax = 512;
inline constexpr std::uint32_t kDescriptorBlocksMax = 8;

// What a disk's records are marked with: XXH3-64 of its id.
using DiskTag = std::uint64_t;
DiskTag disk_tag(std::string_view disk_id);

enum class EntryKind : std::uint8_t {
  kWrite = 1,
  kZero = 2,
  kTrim = 3,
  // Moved by compaction: keeps the sequence and epoch of the write it stands for, and loses against
  // every newer one.
  kRelocatedWrite = 4,
  kRelocatedZero = 5,
  kRelocatedTrim = 6,
};
constexpr bool has_payload(EntryKind kind) {
  return kind == EntryKind::kWrite || kind == EntryKind::kRelocatedWrite;
}
constexpr bool is_relocated(EntryKind kind) {
  return kind >= EntryKind::kRelocatedWrite;
}

struct LogEntry {
  EntryKind kind = EntryKind::kWrite;
  Lba lba;
  std::uint64_t count = 0;  // blocks
  WriteSeq write;
  Epoch epoch;         // of the write; that of the batch unless relocated
  BlockLocation from;  // relocated write: where its blocks were, one after the other
  std::uint32_t block =
      0;  // has_payload: of its first block, counted from the start of the segment
};

struct SegmentHeader {
  DiskTag disk = 0;
  SegmentSeq segment;
  LogPosition start;    // of the first batch: cuts the segment before it there
  LogPosition durable;  // everything before it was durable when this segment was begun
  std::uint64_t created_ns = 0;
};
void encode_header(const SegmentHeader& header, std::span<std::byte> block);
Result<SegmentHeader> decode_header(std::span<const std::byte> block, DiskTag disk,
                                    SegmentSeq segment);

struct Batch {
  SegmentSeq segment;
  std::uint32_t block = 0;  // of the descriptor
  BatchSeq batch;
  std::uint64_t parent = 0;  // chain of the batch before
  std::uint64_t chain = 0;   // checksum of this descriptor, which covers those of the payload
  Epoch epoch;
  std::uint64_t wall_ns = 0;
  LogPosition durable;  // everything before it was durable when this batch was written
  std::uint32_t descriptor_blocks = 0;
  std::uint32_t payload_blocks = 0;
  std::vector<LogEntry> entries;
  std::vector<std::uint64_t> checksums;  // one a payload block

  std::uint32_t payload_start() const { return block + descriptor_blocks; }
  std::uint32_t end_block() const { return payload_start() + payload_blocks; }
  // Of the blocks of an entry with payload.
  std::span<const std::uint64_t> checksums_of(const LogEntry& entry) const {
    return std::span(checksums).subspan(entry.block - payload_start(), entry.count);
  }
  LogPosition end() const { return {segment, end_block(), batch.next(), chain}; }
};

// How many blocks the descriptor of such a batch takes.
std::uint32_t descriptor_blocks_for(std::size_t entries, std::size_t payload_blocks);
// Encodes into `into`, whose size is descriptor_blocks * 4 KiB, and sets batch.chain.
void encode_descriptor(Batch& batch, DiskTag disk, std::span<std::byte> into);
// `data` starts at the descriptor and may hold more or less than it: kInvalid with the needed size
// in `blocks_needed` when less. kCorrupt: no batch of this segment here. Every length is checked.
Result<Batch> decode_descriptor(std::span<const std::byte> data, DiskTag disk, SegmentSeq segment,
                                std::uint32_t block, std::uint32_t* blocks_needed);

// A sealed segment's list of contents.
struct Footer {
  SegmentSeq segment;
  LogPosition end;  // after the last batch
  std::vector<LogEntry> entries;
  std::vector<std::uint64_t> checksums;  // of the entries' blocks, in the order of the entries
  // Calls visit(entry, checksums) for each.
  template <class Visit>
  void for_each(Visit visit) const {
    std::size_t at = 0;
    for (const LogEntry& entry : entries) {
      const std::size_t count = has_payload(entry.kind) ? entry.count : 0;
      visit(entry, std::span(checksums).subspan(at, count));
      at += count;
    }
  }
};
struct Trailer {
  SegmentSeq segment;
  LogPosition end;
  std::uint32_t footer_block = 0;
  std::uint32_t footer_blocks = 0;
  std::uint64_t footer_checksum = 0;
  WriteSeq oldest_write;  // lowest of the entries with payload; 0: there is none
};
std::uint32_t footer_blocks_for(std::size_t entries, std::size_t checksums);
// The lowest WriteSeq of an entry with payload, 0 without one.
WriteSeq oldest_write(const Footer& footer);
std::uint64_t encode_footer(const Footer& footer, DiskTag disk, std::span<std::byte> into);
Result<Footer> decode_footer(std::span<const std::byte> data, DiskTag disk, const Trailer& trailer);
void encode_trailer(const Trailer& trailer, DiskTag disk, std::span<std::byte> block);
Result<Trailer> decode_trailer(std::span<const std::byte> block, DiskTag disk, SegmentSeq segment);

}  // namespace clouddisk
