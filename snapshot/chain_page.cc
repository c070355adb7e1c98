#include "snapshot/chain_page.h"

#include <algorithm>

#include "engine/base/bytes.h"

namespace clouddisk::snapshot {
namespace {

constexpr std::size_t kRunSize =
    10;  // start, count - 1, index in the frame, its units, address (6)

}  // namespace

bool ChainPage::empty() const {
  return std::all_of(blocks.begin(), blocks.end(), [](const auto& b) { return b.is_hole(); });
}

void encode_runs(const ChainPage& page, std::vector<std::byte>& out) {
  const std::size_t count_at = out.size();
  out.resize(count_at + 2);
  std::uint16_t runs = 0;
  for (std::size_t at = 0; at < kPageBlocks;) {
    const PackedBlock first = page.blocks[at];
    if (first.is_hole()) {
      ++at;
      continue;
    }
    std::size_t count = 1;
    while (at + count < kPageBlocks && first.index() + count < kFrameBlocks &&
           page.blocks[at + count] == PackedBlock(first.frame(), first.frame_bytes(),
                                                  first.index() + static_cast<unsigned>(count))) {
      ++count;
    }
    const std::size_t begin = out.size();
    out.resize(begin + kRunSize);
    ByteWriter writer{std::span(out).subspan(begin)};
    writer.le(static_cast<std::uint8_t>(at));
    writer.le(static_cast<std::uint8_t>(count - 1));
    writer.le(static_cast<std::uint8_t>(first.index()));
    writer.le(static_cast<std::uint8_t>(first.frame_bytes() / PackedBlock::kUnit));
    writer.le(static_cast<std::uint32_t>(first.frame()));
    writer.le(static_cast<std::uint16_t>(first.frame() >> 32));
    ++runs;
    at += count;
  }
  store_le(out.data() + count_at, runs);
}

Result<ChainPage> decode_runs(std::span<const std::byte>& in) {
  ByteReader reader(in);
  const auto runs = reader.le<std::uint16_t>();
  ChainPage page;
  std::size_t next = 0;
  for (unsigned run = 0; run < runs; ++run) {
    const std::size_t start = reader.le<std::uint8_t>();
    const std::size_t count = std::size_t{reader.le<std::uint8_t>()} + 1;
    const unsigned index = reader.le<std::uint8_t>();
    const std::uint64_t units = reader.le<std::uint8_t>();
    if (units == 0) return fail(Errc::kCorrupt, "a run of a frame without a length");
    const std::uint64_t low = reader.le<std::uint32_t>();
    const PackAddress frame = std::uint64_t{reader.le<std::uint16_t>()} << 32 | low;
    if (!reader.ok() || start < next || start + count > kPageBlocks ||
        index + count > kFrameBlocks || frame % kFrameAlignment != 0) {
      return fail(Errc::kCorrupt, "chain page: run {} of {} makes no sense", run, runs);
    }
    for (std::size_t i = 0; i < count; ++i) {
      page.blocks[start + i] =
          PackedBlock(frame, units * PackedBlock::kUnit, index + static_cast<unsigned>(i));
    }
    next = start + count;
  }
  if (!reader.ok()) return fail(Errc::kCorrupt, "chain page: cut off");
  in = in.subspan(reader.position());
  return page;
}

}  // namespace clouddisk::snapshot
