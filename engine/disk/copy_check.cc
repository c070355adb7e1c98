#include "engine/disk/copy_check.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/base/checksum.h"
#include "engine/base/log.h"
#include "engine/log/segment_reader.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kWindowBlocks = BufferPool::kLargest / kBlockSize;
constexpr std::uint32_t kPieceBlocks = 1_MiB / kBlockSize;
static_assert(kWindowBlocks >= kBatchPayloadBlocksMax + kDescriptorBlocksMax,
              "a window takes the largest batch");

Error stopped_early() {
  return fail(Errc::kShutdown, "stopped in the middle");
}

}  // namespace

// --- One copy alone ---

// Blocks of the copy, at most a window of them. What the last window has already is not read again.
Task<Result<std::span<const std::byte>>> CopyCheck::view(Window& window, unsigned copy,
                                                         std::uint32_t block, std::uint32_t count,
                                                         WorkPace& pace) {
  using View = Result<std::span<const std::byte>>;
  if (block >= kSegmentBlocks) co_return View(fail(Errc::kCorrupt, "past the end of the segment"));
  count = std::min(count, kSegmentBlocks - block);
  if (block < window.first || block + count > window.first + window.count || !window.data) {
    // Never past what is known to be there: the file may end behind it.
    const std::uint32_t end = std::max(contents_.end.block, block + count);
    const std::uint32_t wanted = std::min(kWindowBlocks, end - block);
    Buffer fresh = co_await pool_.allocate(wanted * kBlockSize);
    std::uint32_t kept = 0;
    if (window.data && block >= window.first && block < window.first + window.count) {
      kept = std::min(window.first + window.count - block, wanted);
      std::memcpy(fresh.data(), window.data.data() + (block - window.first) * kBlockSize,
                  kept * kBlockSize);
    }
    window.count = 0;
    window.data = Buffer();
    const std::uint32_t missing = wanted - kept;
    auto read = co_await store_.read(copy, segment_, block + kept,
                                     fresh.slice(kept * kBlockSize, missing * kBlockSize));
    if (!read) co_return View(read.error());
    window = {std::move(fresh), block, wanted};
    co_await pace.spent(missing * kBlockSize);
  }
  co_return View(
      window.data.span().subspan((block - window.first) * kBlockSize, count * kBlockSize));
}

Task<Result<bool>> CopyCheck::equals(unsigned copy, std::uint32_t block,
                                     std::span<const std::byte> expected, WorkPace& pace) {
  for (std::size_t at = 0; at < expected.size(); at += BufferPool::kLargest) {
    const auto part = expected.subspan(at, std::min(expected.size() - at, BufferPool::kLargest));
    Buffer piece = co_await pool_.allocate(part.size());
    auto read = co_await store_.read(copy, segment_,
                                     block + static_cast<std::uint32_t>(at / kBlockSize), piece);
    if (!read || std::memcmp(piece.data(), part.data(), part.size()) != 0) co_return false;
    co_await pace.spent(part.size());
  }
  co_return true;
}

Task<Result<bool>> CopyCheck::intact(unsigned copy, WorkPace& pace) {
  if (complete_) {
    // By its name, not through a file that is open already: that may have been removed or replaced.
    store_.reopen(copy, segment_);
  } else if (auto there = co_await store_.has(copy, segment_); there && !*there) {
    // What is being appended to it goes nowhere. Only resync can tell what has to be there.
    co_await store_.give_up(
        copy, fmt::format("segment {} is gone, which is being written", segment_.value));
    co_return fail(Errc::kReplicasLost, "replica {} is out of the set", copy + 1);
  }
  if (!begun_) co_return true;
  if (!header_ || untold_) co_return false;
  if (auto same = co_await equals(copy, 0, header_block_, pace); !same || !*same) co_return same;
  LogPosition position = header_->start;
  Window window;
  while (position.block < contents_.end.block) {
    if (pace.stopped()) co_return stopped_early();
    auto data =
        co_await view(window, copy, position.block,
                      std::min(kDescriptorBlocksMax, contents_.end.block - position.block), pace);
    if (!data) co_return false;
    std::uint32_t needed = 0;
    auto batch = decode_descriptor(*data, disk_, segment_, position.block, &needed);
    if (!batch || batch->batch != position.next_batch || batch->parent != position.chain ||
        batch->end_block() > contents_.end.block) {
      co_return false;
    }
    auto payload = co_await view(window, copy, position.block,
                                 batch->descriptor_blocks + batch->payload_blocks, pace);
    if (!payload) co_return false;
    for (std::uint32_t i = 0; i < batch->payload_blocks; ++i) {
      const auto block = payload->subspan((batch->descriptor_blocks + i) * kBlockSize, kBlockSize);
      if (checksum64(block) != batch->checksums[i]) co_return false;
    }
    position = batch->end();
  }
  if (!(position == contents_.end)) co_return false;
  if (!trailer_) co_return true;
  if (footer_blocks_.empty()) co_return false;
  auto footer = co_await equals(copy, trailer_->footer_block, footer_blocks_, pace);
  if (!footer || !*footer) co_return footer;
  co_return co_await equals(copy, kTrailerBlock, trailer_block_, pace);
}

// --- Block by block ---

// What of a stretch of the copy can be read: a bad sector takes only its own block with it.
Task<Result<CopyCheck::Piece>> CopyCheck::read_piece(unsigned copy, std::uint32_t first,
                                                     std::uint32_t count) {
  Piece piece;
  piece.data = co_await pool_.allocate(count * kBlockSize);
  piece.readable.assign(count, true);
  auto read = co_await store_.read(copy, segment_, first, piece.data);
  if (read) co_return piece;
  if (read.error().code == Errc::kTimedOut) co_return read.error();
  for (std::uint32_t i = 0; i < count; ++i) {
    Buffer block = co_await pool_.allocate(kBlockSize);
    auto one = co_await store_.read(copy, segment_, first + i, block);
    if (!one && one.error().code == Errc::kTimedOut) co_return one.error();
    piece.readable[i] = one.has_value();
    if (one) {
      std::memcpy(piece.data.data() + i * kBlockSize, block.data(), kBlockSize);
    } else {
      std::memset(piece.data.data() + i * kBlockSize, 0, kBlockSize);
    }
  }
  co_return piece;
}

// Which blocks of a piece are what they have to be.
std::vector<bool> CopyCheck::judge(std::uint32_t first, const Piece& piece) const {
  const auto count = static_cast<std::uint32_t>(piece.readable.size());
  const auto bytes = piece.data.span();
  std::vector<bool> good(count, false);
  for (std::uint32_t i = 0; i < count;) {
    if (checked_[first + i]) {
      good[i] = piece.readable[i] &&
                checksum64(bytes.subspan(i * kBlockSize, kBlockSize)) == checksums_[first + i];
      ++i;
      continue;
    }
    // A descriptor: judged whole, by its own checksum, and by its chain where that is known.
    std::uint32_t needed = 0;
    auto batch =
        decode_descriptor(bytes.subspan(i * kBlockSize), disk_, segment_, first + i, &needed);
    const auto known = descriptors_.find(first + i);
    const bool right =
        batch && (known == descriptors_.end() || known->second.chain == batch->chain);
    const std::uint32_t blocks = right                         ? batch->descriptor_blocks
                                 : known != descriptors_.end() ? known->second.descriptor_blocks
                                                               : 1;
    for (std::uint32_t j = 0; j < blocks && i < count; ++j, ++i) good[i] = right;
  }
  return good;
}

// From the copies in sync but one, the blocks that are intact; `readable` says which.
Task<CopyCheck::Piece> CopyCheck::good_piece(unsigned except, std::uint32_t first,
                                             std::uint32_t count) {
  Piece good;
  good.data = co_await pool_.allocate(count * kBlockSize);
  std::memset(good.data.data(), 0, good.data.size());
  good.readable.assign(count, false);
  std::vector<bool> given(count, false);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (copy == except || !in_sync(copy)) continue;
    auto piece = co_await read_piece(copy, first, count);
    if (!piece) continue;
    const std::vector<bool> intact = judge(first, *piece);
    bool complete = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      // One that nobody has intact is given as the first copy has it that can be read there.
      if (!good.readable[i] && (intact[i] || (piece->readable[i] && !given[i]))) {
        std::memcpy(good.data.data() + i * kBlockSize, piece->data.data() + i * kBlockSize,
                    kBlockSize);
        given[i] = true;
      }
      if (intact[i]) good.readable[i] = true;
      complete = complete && good.readable[i];
    }
    if (complete) break;
  }
  // What was encoded from verified parts needs no copy.
  const auto put = [&](std::uint32_t at, std::span<const std::byte> known) {
    for (std::uint32_t i = 0; i < known.size() / kBlockSize; ++i) {
      if (at + i < first || at + i >= first + count) continue;
      std::memcpy(good.data.data() + (at + i - first) * kBlockSize, known.data() + i * kBlockSize,
                  kBlockSize);
      good.readable[at + i - first] = true;
    }
  };
  put(0, header_block_);
  if (trailer_) {
    put(trailer_->footer_block, footer_blocks_);
    put(kTrailerBlock, trailer_block_);
  }
  co_return good;
}

// False: it has no file and none can be made, since nobody has a header to begin it with. One that
// joins gets a file all the same: other copies have one, and what is in it may be told by an index.
Task<Result<bool>> CopyCheck::make_present(unsigned copy, Target target) {
  auto there = co_await store_.has(copy, segment_);
  if (!there) co_return there.error();
  if (*there) {
    // A file that was cut short has no last block. Its space first, so that a hole can't fail
    // later.
    Buffer last = co_await pool_.allocate(kBlockSize);
    auto read = co_await store_.read(copy, segment_, kTrailerBlock, last);
    if (read || read.error().code != Errc::kCorrupt || target == Target::kJoiner) co_return true;
  }
  Piece header = co_await good_piece(copy, 0, 1);
  if (!header.readable[0] && (*there || target == Target::kMember)) co_return *there;
  if (auto made = co_await store_.restore(copy, segment_, header.data); !made) {
    co_return made.error();
  }
  co_return true;
}

Task<Result<CopyFindings>> CopyCheck::mend(unsigned copy, Target target, WorkPace& pace) {
  CopyFindings findings;
  if (!begun_) co_return findings;
  if (!descriptors_learned_) co_await learn_descriptors();
  if (complete_) store_.reopen(copy, segment_);
  auto there = co_await store_.has(copy, segment_);
  if (!there) co_return there.error();
  auto present = co_await make_present(copy, target);
  if (!present) co_return present.error();
  if (!*there) {  // Its header was written with it.
    ++findings.bad_blocks;
    if (header_) {
      ++findings.mended_blocks;
    } else {
      findings.lost.push_back(0);
    }
    if (!*present) co_return findings;
  }
  std::uint32_t end = contents_.end.block;
  if (trailer_) end = trailer_->footer_block + trailer_->footer_blocks;
  for (std::uint32_t at = 0; at < end;) {
    if (pace.stopped()) co_return stopped_early();
    std::uint32_t count = std::min(kPieceBlocks, end - at);
    // A descriptor is in one piece with its batch's begin: a cut through it goes before it.
    if (const auto cut = descriptors_.lower_bound(at + count);
        at + count < end && cut != descriptors_.begin()) {
      const Batch& last = std::prev(cut)->second;
      if (last.block > at && last.payload_start() > at + count) count = last.block - at;
    }
    if (auto mended = co_await mend_piece(copy, target, at, count, findings); !mended) {
      co_return mended.error();
    }
    co_await pace.spent(count * kBlockSize);
    at += count;
  }
  if (trailer_) {
    auto mended = co_await mend_piece(copy, target, kTrailerBlock, 1, findings);
    if (!mended) co_return mended.error();
  }
  co_return findings;
}

Task<Result<void>> CopyCheck::mend_piece(unsigned copy, Target target, std::uint32_t first,
                                         std::uint32_t count, CopyFindings& findings) {
  auto mine = co_await read_piece(copy, first, count);
  if (!mine) co_return mine.error();
  std::vector<bool> fine = judge(first, *mine);
  Piece good;
  const bool all_fine = std::find(fine.begin(), fine.end(), false) == fine.end();
  if (all_fine) co_return Result<void>{};
  good = co_await good_piece(copy, first, count);
  for (std::uint32_t i = 0; i < count;) {
    const auto replaceable = [&](std::uint32_t at) {
      return !fine[at] && (good.readable[at] || target == Target::kJoiner);
    };
    if (!replaceable(i)) {
      if (!fine[i]) {
        ++findings.bad_blocks;
        findings.lost.push_back(first + i);
      }
      ++i;
      continue;
    }
    std::uint32_t length = 0;
    while (i + length < count && replaceable(i + length)) {
      ++findings.bad_blocks;
      if (good.readable[i + length]) {
        ++findings.mended_blocks;
      } else {
        findings.lost.push_back(first + i + length);
      }
      ++length;
    }
    auto written = co_await write_run(copy, target, first + i,
                                      good.data.slice(i * kBlockSize, length * kBlockSize));
    if (!written) co_return written;
    i += length;
  }
  co_return Result<void>{};
}

Task<Result<void>> CopyCheck::cut_joiner(unsigned copy) {
  const std::uint32_t end = contents_.end.block;
  if (trailer_ || end >= kTrailerBlock) co_return Result<void>{};
  Buffer block = co_await pool_.allocate(kBlockSize);
  auto read = co_await store_.read(copy, segment_, end, block);
  if (!read) co_return Result<void>{};  // Nothing is there that could be taken for anything.
  std::uint32_t needed = 0;
  const auto batch = decode_descriptor(block.span(), disk_, segment_, end, &needed);
  if (!batch && batch.error().code != Errc::kInvalid) co_return Result<void>{};
  Buffer blank = co_await pool_.allocate(kBlockSize);
  std::memset(blank.data(), 0, blank.size());
  co_return co_await store_.put(copy, segment_, end, blank);
}

Task<Result<void>> CopyCheck::unseal_joiner(unsigned copy) {
  if (trailer_ || contents_.end.block >= kTrailerBlock) co_return Result<void>{};
  Buffer block = co_await pool_.allocate(kBlockSize);
  auto read = co_await store_.read(copy, segment_, kTrailerBlock, block);
  if (!read || !decode_trailer(block.span(), disk_, segment_)) co_return Result<void>{};
  Buffer blank = co_await pool_.allocate(kBlockSize);
  std::memset(blank.data(), 0, blank.size());
  co_return co_await store_.put(copy, segment_, kTrailerBlock, blank);
}

Task<Result<void>> CopyCheck::write_run(unsigned copy, Target target, std::uint32_t first,
                                        Buffer run) {
  if (target == Target::kJoiner) co_return co_await store_.put(copy, segment_, first, run);
  if (!in_sync(copy)) {
    co_return fail(Errc::kReplicasLost, "replica {} is out of the set: resync brings it back whole",
                   copy + 1);
  }
  co_return co_await store_.repair(copy, segment_, first, run);
}

}  // namespace clouddisk
