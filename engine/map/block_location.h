// block_location.h: where a block's content is. 48 bits on disk, a word in memory.
#pragma once

#include <cstdint>

#include "engine/base/units.h"

namespace clouddisk {

enum class BlockKind : std::uint8_t {
  kUnmapped = 0,  // never written: zeros
  kStored = 1,    // in a segment
  kZero = 2,      // written as zeros, counts as allocated
  kTrimmed = 3,   // trimmed: zeros, a hole
};

// kind: 2 bits | segment: 32 bits | block in segment: 14 bits.
class BlockLocation {
 public:
  static constexpr unsigned kOffsetBits = 14;   // 16,384 blocks = 64 MiB
  static constexpr unsigned kSegmentBits = 32;  // 2^32 segments of 64 MiB = 256 PiB written

  constexpr BlockLocation() = default;
  static constexpr BlockLocation stored(SegmentSeq segment, std::uint32_t block) {
    return BlockLocation((std::uint64_t{1} << 46) | (segment.value << kOffsetBits) | block);
  }
  static constexpr BlockLocation zero() { return BlockLocation(std::uint64_t{2} << 46); }
  static constexpr BlockLocation trimmed() { return BlockLocation(std::uint64_t{3} << 46); }
  static constexpr BlockLocation from_bits(std::uint64_t bits48) { return BlockLocation(bits48); }

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr BlockKind kind() const { return static_cast<BlockKind>(bits_ >> 46); }
  constexpr bool is_stored() const { return kind() == BlockKind::kStored; }
  constexpr SegmentSeq segment() const {
    return SegmentSeq((bits_ >> kOffsetBits) & ((std::uint64_t{1} << kSegmentBits) - 1));
  }
  constexpr std::uint32_t block() const {  // offset in the segment, in 4 KiB blocks
    return static_cast<std::uint32_t>(bits_ & ((1U << kOffsetBits) - 1));
  }
  constexpr bool operator==(const BlockLocation&) const = default;

 private:
  constexpr explicit BlockLocation(std::uint64_t bits) : bits_(bits) {}
  std::uint64_t bits_ = 0;
};

struct BlockEntry {
  BlockLocation location;
  std::uint64_t checksum = 0;  // XXH3-64 of the 4 KiB; 0 unless stored
  constexpr bool operator==(const BlockEntry&) const = default;
};

}  // namespace clouddisk
