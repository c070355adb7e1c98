#include "engine/disk/resync.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/base/checksum.h"
#include "engine/base/log.h"
#include "engine/log/segment_reader.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kPieceBlocks = 1_MiB / kBlockSize;

class CopyResync {
 public:
  CopyResync(LocalSegmentStore& store, BufferPool& pool, DiskTag disk, unsigned copy,
             ResyncOptions options, std::function<void(std::uint64_t)> progress)
      : store_(store),
        pool_(pool),
        disk_(disk),
        copy_(copy),
        options_(options),
        progress_(std::move(progress)) {}

  Task<Result<void>> run(std::optional<SegmentSeq> before);

 private:
  bool readable(unsigned copy) const {
    return copy != copy_ && (store_.readable() >> copy & 1U) != 0;
  }
  Task<Result<void>> bring(SegmentSeq segment, std::optional<BatchSeq> cut);
  Task<Result<void>> bring_piece(SegmentSeq segment, std::uint32_t first, std::uint32_t count);
  Task<Result<Buffer>> good_piece(SegmentSeq segment, std::uint32_t first, std::uint32_t count);
  Task<std::optional<Trailer>> trailer(SegmentSeq segment);
  void expect(std::uint32_t first, std::span<const std::byte> blocks);
  std::vector<bool> intact_blocks(SegmentSeq segment, std::uint32_t first,
                                  std::span<const std::byte> piece) const;

  LocalSegmentStore& store_;
  BufferPool& pool_;
  DiskTag disk_;
  unsigned copy_;
  ResyncOptions options_;
  std::function<void(std::uint64_t)> progress_;
  std::vector<std::uint64_t> checksums_;  // of the segment's payload, header, footer and trailer
  std::vector<bool> checked_;             // which blocks have one
};

Task<Result<void>> CopyResync::run(std::optional<SegmentSeq> before) {
  co_await store_.settle(copy_);
  if (auto made = co_await store_.make_folder(copy_); !made) co_return made;
  auto all = co_await store_.list();
  if (!all) co_return all.error();
  auto here = co_await store_.list_copy(copy_);
  if (!here) co_return here.error();
  for (const SegmentSeq segment : *here) {
    if (before && segment >= *before) continue;
    if (std::binary_search(all->begin(), all->end(), segment)) continue;
    if (auto gone = co_await store_.discard(copy_, segment); !gone) co_return gone;
  }
  for (std::size_t i = 0; i < all->size(); ++i) {
    const SegmentSeq segment = (*all)[i];
    if (before && segment >= *before) break;
    std::optional<BatchSeq> cut;
    if (i + 1 < all->size()) {
      SegmentReader next(store_, pool_, disk_, (*all)[i + 1]);
      auto header = co_await next.header();
      if (header) cut = header->start.next_batch;
    }
    if (auto brought = co_await bring(segment, cut); !brought) co_return brought;
  }
  co_return co_await store_.flush_copy(copy_);
}

Task<std::optional<Trailer>> CopyResync::trailer(SegmentSeq segment) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    Buffer block = co_await pool_.allocate(kBlockSize);
    auto read = co_await store_.read(copy, segment, kTrailerBlock, block);
    if (!read) continue;
    auto found = decode_trailer(block.span(), disk_, segment);
    if (found) co_return *found;
  }
  co_return std::nullopt;
}

Task<Result<void>> CopyResync::bring(SegmentSeq segment, std::optional<BatchSeq> cut) {
  auto contents = co_await read_contents(store_, pool_, disk_, segment, cut);
  if (!contents) co_return fail(contents.error(), "resync segment {}", segment.value);
  checksums_.assign(kSegmentBlocks, 0);
  checked_.assign(kSegmentBlocks, false);
  contents->for_each([this](const LogEntry& entry, std::span<const std::uint64_t> checksums) {
    for (std::size_t i = 0; i < checksums.size(); ++i) {
      checksums_[entry.block + i] = checksums[i];
      checked_[entry.block + i] = true;
    }
  });
  SegmentReader reader(store_, pool_, disk_, segment);
  if (auto header = co_await reader.header(); header) {
    std::array<std::byte, kBlockSize> block{};
    encode_header(*header, block);
    expect(0, block);
  }
  const auto sealed = co_await trailer(segment);
  std::uint32_t end = contents->end.block;
  if (sealed) {
    end = sealed->footer_block + sealed->footer_blocks;
    std::vector<std::byte> footer(std::size_t{sealed->footer_blocks} * kBlockSize);
    if (sealed->footer_blocks ==
            footer_blocks_for(contents->entries.size(), contents->checksums.size()) &&
        encode_footer(*contents, disk_, footer) == sealed->footer_checksum) {
      expect(sealed->footer_block, footer);
    }
    std::array<std::byte, kBlockSize> block{};
    encode_trailer(*sealed, disk_, block);
    expect(kTrailerBlock, block);
  }
  auto there = co_await store_.has(copy_, segment);
  if (!there) co_return there.error();
  if (!*there) {
    auto header = co_await good_piece(segment, 0, 1);
    if (!header) co_return header.error();
    if (auto made = co_await store_.restore(copy_, segment, *header); !made) co_return made;
  }
  for (std::uint32_t at = 0; at < end; at += kPieceBlocks) {
    auto brought = co_await bring_piece(segment, at, std::min(kPieceBlocks, end - at));
    if (!brought) co_return brought;
  }
  if (sealed) {
    auto brought = co_await bring_piece(segment, kTrailerBlock, 1);
    if (!brought) co_return brought;
  }
  co_return Result<void>{};
}

// What is encoded here from verified parts is, byte by byte, what an intact copy holds.
void CopyResync::expect(std::uint32_t first, std::span<const std::byte> blocks) {
  for (std::uint32_t i = 0; i < blocks.size() / kBlockSize; ++i) {
    checksums_[first + i] = checksum64(blocks.subspan(i * kBlockSize, kBlockSize));
    checked_[first + i] = true;
  }
}

// Blocks without an expected checksum are descriptors, which carry their own.
std::vector<bool> CopyResync::intact_blocks(SegmentSeq segment, std::uint32_t first,
                                            std::span<const std::byte> piece) const {
  const auto count = static_cast<std::uint32_t>(piece.size() / kBlockSize);
  std::vector<bool> intact(count, false);
  // The piece may begin in the middle of a descriptor.
  bool leading = first > 0 && !checked_[first - 1];
  for (std::uint32_t i = 0; i < count;) {
    if (checked_[first + i]) {
      leading = false;
      const auto block = piece.subspan(i * kBlockSize, kBlockSize);
      intact[i] = checksum64(block) == checksums_[first + i];
      ++i;
      continue;
    }
    std::uint32_t needed = 0;
    auto batch =
        decode_descriptor(piece.subspan(i * kBlockSize), disk_, segment, first + i, &needed);
    std::uint32_t blocks = batch ? batch->descriptor_blocks : 1;
    // One that the piece's edge cuts can't be judged from here.
    leading = leading && !batch && i + 1 < kDescriptorBlocksMax;
    const bool cut = !batch && (needed > count - i || leading);
    for (; blocks > 0 && i < count; --blocks, ++i) intact[i] = batch || cut;
  }
  return intact;
}

Task<Result<void>> CopyResync::bring_piece(SegmentSeq segment, std::uint32_t first,
                                           std::uint32_t count) {
  const TimePoint began = store_.ring().now();
  auto good = co_await good_piece(segment, first, count);
  if (!good) co_return good.error();
  Buffer mine = co_await pool_.allocate(count * kBlockSize);
  auto read = co_await store_.read(copy_, segment, first, mine);
  if (!read || std::memcmp(mine.data(), good->data(), mine.size()) != 0) {
    auto put = co_await store_.put(copy_, segment, first, *good);
    if (!put) co_return put;
  }
  progress_(count * kBlockSize);
  const auto share = std::chrono::nanoseconds(
      count * kBlockSize * 1'000'000'000 / std::max<std::uint64_t>(1, options_.bytes_per_second));
  if (store_.ring().now() < began + share) co_await store_.ring().sleep_until(began + share);
  co_return Result<void>{};
}

// Block by block from a copy whose checksum holds. A block that no copy has intact is copied as it
// is: reading it stays an error, on every copy alike.
Task<Result<Buffer>> CopyResync::good_piece(SegmentSeq segment, std::uint32_t first,
                                            std::uint32_t count) {
  Buffer good;
  std::vector<bool> sure(count, false);
  Error problem = fail(Errc::kReplicasLost, "no replica in sync to copy from");
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    Buffer piece = co_await pool_.allocate(count * kBlockSize);
    auto read = co_await store_.read(copy, segment, first, piece);
    if (!read) {
      problem = read.error();
      continue;
    }
    if (!good) good = co_await pool_.allocate(count * kBlockSize);
    const std::vector<bool> intact = intact_blocks(segment, first, piece.span());
    bool all_sure = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      if (sure[i]) continue;
      std::memcpy(good.data() + i * kBlockSize, piece.data() + i * kBlockSize, kBlockSize);
      sure[i] = intact[i];
      all_sure = all_sure && sure[i];
    }
    if (all_sure) co_return good;
  }
  if (!good) co_return problem;
  log(LogLevel::kError, "resync", "segment {} blocks {}+{}: damaged on every replica in sync",
      segment.value, first, count);
  co_return good;
}

}  // namespace

Task<Result<void>> resync_copy(LocalSegmentStore& store, BufferPool& pool, DiskTag disk,
                               unsigned copy, std::optional<SegmentSeq> before,
                               ResyncOptions options, std::function<void(std::uint64_t)> progress) {
  CopyResync resync(store, pool, disk, copy, options, std::move(progress));
  co_return co_await resync.run(before);
}

}  // namespace clouddisk
