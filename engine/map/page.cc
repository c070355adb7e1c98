#include "engine/map/page.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

constexpr std::uint8_t kPageVersion = 1;
constexpr std::uint8_t kSparse = 1;   // a bitmap of the mapped blocks, then their entries
constexpr std::uint8_t kUniform = 2;  // one location for all 256 blocks, none of them stored
constexpr std::size_t kPageChecksumSize = 8;
constexpr std::size_t kPageHeaderSize = kPageChecksumSize + 4;
constexpr std::size_t kBitmapSize = kPageBlocks / 8;
constexpr std::size_t kPageEntrySize = 6 + 8;
static_assert(kPageHeaderSize + kBitmapSize + kPageBlocks * kPageEntrySize <= 4080,
              "a full page fits in one overflow page of LMDB");

std::uint64_t value_checksum(std::span<const std::byte> value, std::span<const std::byte> key) {
  return checksum64(value.subspan(kPageChecksumSize), checksum64(key));
}

void put_location(ByteWriter& out, BlockLocation location) {
  out.le(static_cast<std::uint32_t>(location.bits()));
  out.le(static_cast<std::uint16_t>(location.bits() >> 32));
}

BlockLocation get_location(ByteReader& in) {
  const std::uint64_t low = in.le<std::uint32_t>();
  const std::uint64_t high = in.le<std::uint16_t>();
  return BlockLocation::from_bits(high << 32 | low);
}

// What is not stored is nowhere.
bool makes_sense(BlockLocation location) {
  return location.is_stored() || (location.bits() & ((std::uint64_t{1} << 46) - 1)) == 0;
}

}  // namespace

bool Page::empty() const {
  return std::all_of(entries.begin(), entries.end(), [](const BlockEntry& entry) {
    return entry.location.kind() == BlockKind::kUnmapped;
  });
}

std::vector<std::byte> encode_page(const Page& page, std::span<const std::byte> key) {
  const BlockLocation first = page.entries[0].location;
  const bool uniform =
      !first.is_stored() && std::all_of(page.entries.begin(), page.entries.end(),
                                        [first](const auto& e) { return e.location == first; });
  std::size_t mapped = 0;
  for (const BlockEntry& entry : page.entries) {
    if (entry.location.kind() != BlockKind::kUnmapped) ++mapped;
  }
  std::vector<std::byte> value(kPageHeaderSize +
                               (uniform ? 6 : kBitmapSize + mapped * kPageEntrySize));
  ByteWriter out(value);
  out.le(std::uint64_t{0});  // checksum, set below
  out.le(kPageVersion);
  out.le(uniform ? kUniform : kSparse);
  out.le(static_cast<std::uint16_t>(mapped));
  if (uniform) {
    put_location(out, first);
  } else {
    std::array<std::byte, kBitmapSize> bitmap{};
    for (std::size_t i = 0; i < kPageBlocks; ++i) {
      if (page.entries[i].location.kind() != BlockKind::kUnmapped) {
        bitmap[i / 8] |= static_cast<std::byte>(1U << (i % 8));
      }
    }
    out.bytes(bitmap);
    for (const BlockEntry& entry : page.entries) {
      if (entry.location.kind() == BlockKind::kUnmapped) continue;
      put_location(out, entry.location);
      out.le(entry.checksum);
    }
  }
  store_le(value.data(), value_checksum(value, key));
  return value;
}

Result<Page> decode_page(std::span<const std::byte> value, std::span<const std::byte> key) {
  if (value.size() < kPageHeaderSize)
    return fail(Errc::kCorrupt, "map page of {} bytes", value.size());
  ByteReader in(value);
  if (in.le<std::uint64_t>() != value_checksum(value, key)) {
    return fail(Errc::kCorrupt, "map page: checksum mismatch");
  }
  const auto version = in.le<std::uint8_t>();
  const auto kind = in.le<std::uint8_t>();
  const std::size_t mapped = in.le<std::uint16_t>();
  if (version > kPageVersion) {
    return fail(Errc::kUnsupported, "map page of format {}, newer than this clouddisk knows ({})",
                version, kPageVersion);
  }
  Page page;
  if (kind == kUniform) {
    const BlockLocation location = get_location(in);
    if (!in.ok() || in.remaining() != 0)
      return fail(Errc::kCorrupt, "map page: uniform, wrong size");
    // 256 blocks are not in one place.
    if (location.is_stored() || !makes_sense(location)) {
      return fail(Errc::kCorrupt, "map page: uniform, at {:#x}", location.bits());
    }
    page.entries.fill(BlockEntry{location, 0});
    return page;
  }
  if (kind != kSparse || value.size() != kPageHeaderSize + kBitmapSize + mapped * kPageEntrySize) {
    return fail(Errc::kCorrupt, "map page: kind {}, {} blocks, {} bytes", kind, mapped,
                value.size());
  }
  const auto bitmap = in.bytes(kBitmapSize);
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    if ((std::to_integer<unsigned>(bitmap[i / 8]) >> (i % 8) & 1U) == 0) continue;
    const BlockLocation location = get_location(in);
    if (!makes_sense(location) || location.kind() == BlockKind::kUnmapped) {
      return fail(Errc::kCorrupt, "map page: block {} at {:#x}", i, location.bits());
    }
    page.entries[i].location = location;
    page.entries[i].checksum = in.le<std::uint64_t>();
  }
  if (!in.ok() || in.remaining() != 0)
    return fail(Errc::kCorrupt, "map page: bitmap and size differ");
  return page;
}

}  // namespace clouddisk
