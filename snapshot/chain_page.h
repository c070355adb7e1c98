// chain_page.h: 256 neighbouring blocks (1 MiB of disk) at one snapshot: where in the pack each is.
// In memory, and as the runs that the index and the pack store.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/map/page.h"
#include "snapshot/frame.h"

namespace clouddisk::snapshot {

// A block of a frame, or a hole (zeros). Says how much to read as well, in units of 512 bytes.
class PackedBlock {
 public:
  static constexpr std::uint64_t kUnit = 512;
  constexpr PackedBlock() = default;
  constexpr PackedBlock(PackAddress frame, std::uint64_t frame_size, unsigned index)
      : bits_((frame / kFrameAlignment) << 16 | (frame_size + kUnit - 1) / kUnit << 8 | index |
              0x80) {}
  constexpr bool is_hole() const { return bits_ == 0; }
  constexpr PackAddress frame() const { return (bits_ >> 16) * kFrameAlignment; }
  // At least the frame's size.
  constexpr std::uint64_t frame_bytes() const { return (bits_ >> 8 & 0xff) * kUnit; }
  constexpr unsigned index() const { return bits_ & 0x7f; }
  constexpr bool operator==(const PackedBlock&) const = default;

 private:
  std::uint64_t bits_ = 0;
};

struct ChainPage {
  std::array<PackedBlock, kPageBlocks> blocks{};
  bool operator==(const ChainPage&) const = default;
  bool empty() const;
};
using ChainPageRef = std::shared_ptr<const ChainPage>;

void encode_runs(const ChainPage& page, std::vector<std::byte>& out);
// Takes the page from the front of `in`; kCorrupt for runs that overlap, leave the page or the
// frame.
Result<ChainPage> decode_runs(std::span<const std::byte>& in);

}  // namespace clouddisk::snapshot
