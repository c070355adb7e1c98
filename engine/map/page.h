// page.h: 256 neighbouring blocks of the map (1 MiB of disk), in memory and as a stored value.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/map/block_location.h"

namespace clouddisk {

inline constexpr std::uint64_t kPageBlocks = 256;

constexpr std::uint64_t page_of(Lba lba) {
  return lba.value / kPageBlocks;
}
constexpr std::size_t index_in_page(Lba lba) {
  return lba.value % kPageBlocks;
}

struct Page {
  std::array<BlockEntry, kPageBlocks> entries{};

  bool empty() const;  // every block unmapped
  bool operator==(const Page&) const = default;
};
// Null: an empty page.
using PageRef = std::shared_ptr<const Page>;

// The stored form (docs/format.md): at most 4,080 bytes, so that it takes one overflow page of
// LMDB. The checksum covers `key` too: a value under another key is damage.
std::vector<std::byte> encode_page(const Page& page, std::span<const std::byte> key);
// kCorrupt; kUnsupported when made by a newer clouddisk.
Result<Page> decode_page(std::span<const std::byte> value, std::span<const std::byte> key);

}  // namespace clouddisk
