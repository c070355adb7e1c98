#include "engine/log/segment_reader.h"

#include <algorithm>

#include "engine/base/checksum.h"
#include "engine/base/variant.h"

namespace clouddisk {
namespace {

bool readable(const SegmentStore& store, unsigned copy) {
  return (store.readable() >> copy & 1U) != 0;
}

}  // namespace

// As much as there is without waiting. Who waits keeps nothing that others wait for: what was read
// of the other copies is read again.
Task<Buffer> SegmentReader::window_memory(std::uint32_t block, std::uint32_t count) {
  const std::uint32_t most = kSegmentBlocks - block;
  const std::size_t whole = std::min(kWindowBlocks, most) * kBlockSize;
  const std::size_t little = std::min(std::max(count, kShortWindowBlocks), most) * kBlockSize;
  if (!pool_.awaited()) {
    if (Buffer fresh = pool_.try_allocate(whole)) co_return fresh;
    if (Buffer fresh = pool_.try_allocate(little)) co_return fresh;
  }
  windows_ = {};
  co_return co_await pool_.allocate(little);
}

Task<Result<std::span<const std::byte>>> SegmentReader::view(unsigned copy, std::uint32_t block,
                                                             std::uint32_t count) {
  using View = Result<std::span<const std::byte>>;
  if (block >= kSegmentBlocks) co_return View(fail(Errc::kCorrupt, "past the end of the segment"));
  count = std::min(count, kSegmentBlocks - block);
  Window& window = windows_[copy];
  if (block < window.first || block + count > window.first + window.count || !window.data) {
    // A new buffer each time: a read that stalled may still write into the old one.
    window = {};
    Buffer fresh = co_await window_memory(block, count);
    std::uint32_t there = 0;
    if (auto read = co_await store_.read(copy, segment_, block, fresh, &there); !read) {
      co_return View(read.error());
    }
    window.data = std::move(fresh);
    window.first = block;
    window.count = there;
  }
  count = std::min(count, window.first + window.count - block);
  if (count == 0) co_return View(fail(Errc::kCorrupt, "the file ends before block {}", block));
  co_return View(
      window.data.span().subspan((block - window.first) * kBlockSize, count * kBlockSize));
}

Task<Result<SegmentHeader>> SegmentReader::header() {
  Error problem = fail(Errc::kReplicasLost, "segment {}: no replica to read", segment_.value);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(store_, copy)) continue;
    auto block = co_await view(copy, 0, 1);
    if (!block) {
      problem = block.error();
      continue;
    }
    auto header = decode_header(*block, disk_, segment_);
    if (header || header.error().code == Errc::kUnsupported) co_return header;
    problem = header.error();
  }
  co_return problem;
}

Task<Result<Batch>> SegmentReader::batch(unsigned copy, std::uint32_t block) {
  auto data = co_await view(copy, block, kDescriptorBlocksMax);
  if (!data) co_return data.error();
  std::uint32_t needed = 0;
  co_return decode_descriptor(*data, disk_, segment_, block, &needed);
}

Task<std::optional<Batch>> SegmentReader::next(const LogPosition& position, unsigned* from) {
  std::optional<Batch> best;
  std::optional<Standing> best_standing;  // not looked at while all copies say the same
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(store_, copy)) continue;
    auto found = co_await batch(copy, position.block);
    if (!found || found->batch != position.next_batch ||
        (found->parent != position.chain && !broken(Variant::kIgnoreParent))) {
      continue;
    }
    if (best && best->chain == found->chain) continue;
    if (best) {
      if (!best_standing) best_standing = co_await standing(*best);
      const Standing other = co_await standing(*found);
      if (other <= *best_standing) continue;
      best_standing = other;
    }
    best = std::move(*found);
    if (from != nullptr) *from = copy;
  }
  co_return best;
}

Task<SegmentReader::Standing> SegmentReader::standing(const Batch& of) {
  Standing standing;
  standing.wall_ns = of.wall_ns;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(store_, copy)) continue;
    auto here = co_await batch(copy, of.block);
    if (here && here->chain == of.chain) {
      ++standing.copies;
      if (!standing.whole) standing.whole = co_await holds(copy, of);
    }
    auto after = co_await batch(copy, of.end_block());
    if (after && after->parent == of.chain) standing.followed = true;
  }
  co_return standing;
}

// Whether that is the payload of the batch, all of it.
bool SegmentReader::is_payload(std::span<const std::byte> data, const Batch& of) {
  if (data.size() < of.payload_blocks * kBlockSize) return false;
  if (broken(Variant::kSkipBatchChecksum)) return true;
  for (std::uint32_t i = 0; i < of.payload_blocks; ++i) {
    if (checksum64(data.subspan(i * kBlockSize, kBlockSize)) != of.checksums[i]) return false;
  }
  return true;
}

Task<bool> SegmentReader::holds(unsigned copy, const Batch& expected) {
  auto found = co_await batch(copy, expected.block);
  if (!found || found->chain != expected.chain) co_return false;
  if (expected.payload_blocks == 0) co_return true;
  auto payload = co_await view(copy, expected.payload_start(), expected.payload_blocks);
  co_return payload&& is_payload(*payload, expected);
}

Task<Result<Buffer>> SegmentReader::bytes(unsigned copy, const Batch& batch) {
  const std::uint32_t count = batch.end_block() - batch.block;
  auto data = co_await view(copy, batch.block, count);
  if (!data) co_return data.error();
  std::uint32_t needed = 0;
  auto found = decode_descriptor(*data, disk_, segment_, batch.block, &needed);
  if (!found || found->chain != batch.chain ||
      !is_payload(data->subspan(batch.descriptor_blocks * kBlockSize), batch)) {
    co_return fail(Errc::kCorrupt, "segment {} block {}: the batch is not there", segment_.value,
                   batch.block);
  }
  const Window& window = windows_[copy];
  co_return window.data.slice((batch.block - window.first) * kBlockSize, count * kBlockSize);
}

namespace {

Task<Result<Trailer>> read_trailer(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                   SegmentSeq segment, unsigned copy, SegmentCut cut) {
  Buffer block = co_await pool.allocate(kBlockSize);
  if (auto read = co_await store.read(copy, segment, kTrailerBlock, block); !read) {
    co_return read.error();
  }
  auto trailer = decode_trailer(block.span(), disk, segment);
  if (trailer && !is_of_this_life(*trailer, cut)) {
    co_return fail(Errc::kCorrupt, "segment {}: the trailer is of a former life", segment.value);
  }
  co_return trailer;
}

Task<Result<Footer>> read_footer(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                 SegmentSeq segment, unsigned copy, SegmentCut cut) {
  auto trailer = co_await read_trailer(store, pool, disk, segment, copy, cut);
  if (!trailer) co_return trailer.error();
  // Almost always one piece; a segment of nothing but trims can have a footer of many.
  std::vector<std::byte> body(std::size_t{trailer->footer_blocks} * kBlockSize);
  constexpr std::uint32_t kPiece = BufferPool::kLargest / kBlockSize;
  for (std::uint32_t at = 0; at < trailer->footer_blocks; at += kPiece) {
    const std::uint32_t count = std::min(kPiece, trailer->footer_blocks - at);
    Buffer piece = co_await pool.allocate(count * kBlockSize);
    if (auto read = co_await store.read(copy, segment, trailer->footer_block + at, piece); !read) {
      co_return read.error();
    }
    std::copy(piece.span().begin(), piece.span().end(), body.begin() + at * kBlockSize);
  }
  co_return decode_footer(body, disk, *trailer);
}

}  // namespace

Task<std::optional<Trailer>> find_trailer(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                          SegmentSeq segment, SegmentCut cut) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(store, copy)) continue;
    auto trailer = co_await read_trailer(store, pool, disk, segment, copy, cut);
    if (trailer) co_return *trailer;
  }
  co_return std::nullopt;
}

Task<Result<Footer>> read_contents(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                   SegmentSeq segment, SegmentCut cut) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(store, copy)) continue;
    auto footer = co_await read_footer(store, pool, disk, segment, copy, cut);
    if (footer || footer.error().code == Errc::kUnsupported) co_return footer;
  }
  // Without a footer its trailer still tells where it ends.
  const auto trailer = co_await find_trailer(store, pool, disk, segment, cut);
  if (trailer && cut) cut = trailer->end;
  co_return co_await walk_contents(store, pool, disk, segment, cut);
}

Task<Result<Footer>> walk_contents(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                   SegmentSeq segment, SegmentCut cut) {
  SegmentReader reader(store, pool, disk, segment);
  auto header = co_await reader.header();
  if (!header) co_return header.error();
  Footer contents;
  contents.segment = segment;
  LogPosition position = header->start;
  while (!cut || position.before(*cut)) {
    const std::optional<Batch> next = co_await reader.next(position);
    if (!next) break;
    for (const LogEntry& entry : next->entries) {
      contents.entries.push_back(entry);
      if (!has_payload(entry.kind)) continue;
      const auto checksums = next->checksums_of(entry);
      contents.checksums.insert(contents.checksums.end(), checksums.begin(), checksums.end());
    }
    position = next->end();
  }
  if (cut && !position.meets(*cut)) {
    co_return fail(Errc::kCorrupt, "segment {}: batch {} is unreadable on every replica",
                   segment.value, position.next_batch.value);
  }
  contents.end = position;
  co_return contents;
}

}  // namespace clouddisk
