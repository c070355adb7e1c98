// frame.h: the records of a chain's pack, encoded and decoded; no I/O. Bytes: docs/format.md.
//
// A frame holds up to 16 blocks of data, or pages of the chain's index, compressed with zstd where
// that makes it smaller. Every frame names its chain and its own address, so that a copy of one
// that a guest keeps on its disk is never taken for one of ours.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"

namespace clouddisk::snapshot {

// XXH3-64 of the chain's id.
using ChainTag = std::uint64_t;
ChainTag chain_tag(std::string_view chain_id);

// A byte in a chain's pack. Frames stand at multiples of 8.
using PackAddress = std::uint64_t;
inline constexpr unsigned kAddressBits = 48;

inline constexpr std::uint32_t kFrameVersion = 1;
inline constexpr std::size_t kFrameHeaderSize = 64;
inline constexpr std::size_t kFrameBlocks = 16;  // 64 KiB of data
inline constexpr std::size_t kFrameRawMax = kFrameBlocks * kBlockSize;
inline constexpr std::size_t kFrameAlignment = 8;

enum class FrameKind : std::uint8_t { kBlocks = 1, kPages = 2 };

struct FrameHeader {
  FrameKind kind = FrameKind::kBlocks;
  ChainTag chain = 0;
  PackAddress address = 0;
  std::uint64_t seq = 0;           // snapshot that brought it
  std::uint32_t stored_bytes = 0;  // of the payload; equal to raw_bytes when it is not compressed
  std::uint32_t raw_bytes = 0;
  std::array<std::byte, 16> hash{};  // XXH3-128 of the raw payload
  // With header and padding.
  std::uint64_t size() const { return align_up(kFrameHeaderSize + stored_bytes, kFrameAlignment); }
};

// Compresses `raw` (at most kFrameRawMax) and appends the whole frame to `out`, but for its address
// and checksum, which place_frame() sets. Returns the frame's size. Worker.
std::size_t append_frame(FrameKind kind, ChainTag chain, std::uint64_t seq,
                         std::span<const std::byte> raw, int level, std::vector<std::byte>& out);
void place_frame(std::span<std::byte> frame, PackAddress address);

// kCorrupt: no frame of this chain at this address. Every length is checked.
Result<FrameHeader> decode_header(std::span<const std::byte> data, ChainTag chain,
                                  PackAddress address);
// The raw payload of the frame that starts at data[0]; checked against its hash. Worker.
Result<std::vector<std::byte>> unpack_frame(std::span<const std::byte> data,
                                            const FrameHeader& header);

}  // namespace clouddisk::snapshot
