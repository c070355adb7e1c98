// copy_learn.cc: what a segment has to hold, from the copies in sync: from its footer, or batch by
// batch. Where a descriptor is damaged on every copy the batches behind it tell for themselves, so
// that one bad block hides no more than its own batch.
#include <algorithm>

#include "engine/base/checksum.h"
#include "engine/disk/copy_check.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kBatchBlocksMax = kBatchPayloadBlocksMax + kDescriptorBlocksMax;
// Behind the end of a segment nothing is expected; a damaged descriptor has its successor within
// one batch behind it.
constexpr std::uint32_t kSearchedBlocks = kBatchBlocksMax + kDescriptorBlocksMax;

// Damage, as opposed to copies that do not answer, or a format that is not ours to judge.
bool is_damage(const Error& error) {
  return error.code == Errc::kCorrupt || error.code == Errc::kIo || error.code == Errc::kNotFound;
}

}  // namespace

Task<Result<void>> CopyCheck::learn(SegmentCut cut, bool complete) {
  complete_ = complete;
  auto header = co_await read_header();
  if (header) {
    header_ = *header;
  } else if (!is_damage(header.error())) {
    co_return header.error();
  } else {
    header_unread_ = co_await some_header_is_unread();
  }
  if (complete) trailer_ = co_await find_trailer(store_, pool_, disk_, segment_, cut);
  if (trailer_ && cut) cut = trailer_->end;
  bool known = false;
  if (trailer_ && cut) {
    auto contents = co_await read_contents(store_, pool_, disk_, segment_, cut);
    if (contents) {
      contents_ = std::move(*contents);
      known = true;
    } else if (!is_damage(contents.error())) {
      co_return contents.error();
    }
  }
  if (!known) {
    if (auto gathered = co_await gather(cut); !gathered) co_return gathered;
    // Nobody else says where it ends: the trailer may be of a former life.
    if (trailer_ && !cut && !contents_.end.meets(trailer_->end)) trailer_.reset();
  }
  checksums_.assign(kSegmentBlocks, 0);
  checked_.assign(kSegmentBlocks, false);
  contents_.for_each([this](const LogEntry& entry, std::span<const std::uint64_t> checksums) {
    for (std::size_t i = 0; i < checksums.size(); ++i) {
      checksums_[entry.block + i] = checksums[i];
      checked_[entry.block + i] = true;
    }
  });
  if (header_) {
    header_block_.resize(kBlockSize);
    encode_header(*header_, header_block_);
    expect(0, header_block_);
  }
  if (!trailer_) co_return Result<void>{};
  std::vector<std::byte> footer(std::size_t{trailer_->footer_blocks} * kBlockSize);
  // Encoded anew from verified parts it is what an intact copy holds, even if no copy is left.
  if (trailer_->footer_blocks ==
          footer_blocks_for(contents_.entries.size(), contents_.checksums.size()) &&
      encode_footer(contents_, disk_, footer) == trailer_->footer_checksum) {
    footer_blocks_ = std::move(footer);
    expect(trailer_->footer_block, footer_blocks_);
  }
  trailer_block_.resize(kBlockSize);
  encode_trailer(*trailer_, disk_, trailer_block_);
  expect(kTrailerBlock, trailer_block_);
  co_return Result<void>{};
}

Task<Result<SegmentHeader>> CopyCheck::read_header() {
  SegmentReader reader(store_, pool_, disk_, segment_);
  co_return co_await reader.header();
}

// Whether a copy may have a header that can't be read, so that nobody can say it was never begun.
Task<bool> CopyCheck::some_header_is_unread() {
  bool unread = true;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_sync(copy)) continue;
    Buffer block = co_await pool_.allocate(kBlockSize);
    auto read = co_await store_.read(copy, segment_, 0, block);
    if (!read) co_return true;
    unread = false;
  }
  co_return unread;
}

void CopyCheck::expect(std::uint32_t first, std::span<const std::byte> blocks) {
  for (std::uint32_t i = 0; i < blocks.size() / kBlockSize; ++i) {
    checksums_[first + i] = checksum64(blocks.subspan(i * kBlockSize, kBlockSize));
    checked_[first + i] = true;
  }
}

// The batch that stands there, of whichever copy has it. Not `chained`: something before it is
// lost, and any later one will do.
Task<std::optional<Batch>> CopyCheck::find_batch(SegmentReader& reader, const LogPosition& position,
                                                 bool chained) {
  if (chained) co_return co_await reader.next(position);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_sync(copy)) continue;
    auto batch = co_await reader.batch(copy, position.block);
    if (batch && batch->batch >= position.next_batch) co_return std::move(*batch);
  }
  co_return std::nullopt;
}

void CopyCheck::take(const Batch& batch) {
  for (const LogEntry& entry : batch.entries) {
    contents_.entries.push_back(entry);
    if (!has_payload(entry.kind)) continue;
    const auto checksums = batch.checksums_of(entry);
    contents_.checksums.insert(contents_.checksums.end(), checksums.begin(), checksums.end());
  }
}

// Batch by batch, and over what is damaged everywhere to the next one.
Task<Result<void>> CopyCheck::gather(SegmentCut cut) {
  SegmentReader reader(store_, pool_, disk_, segment_);
  contents_ = Footer{};
  contents_.segment = segment_;
  LogPosition position{segment_, kFirstBatchBlock, BatchSeq(0), 0};
  if (header_) position = header_->start;
  LogPosition end = position;  // of the last batch that was found
  bool chained = header_.has_value();
  while (position.block < kTrailerBlock && (!cut || position.before(*cut))) {
    auto batch = co_await find_batch(reader, position, chained);
    if (batch && (!cut || batch->batch < cut->next_batch)) {
      untold_ = untold_ || !chained;
      take(*batch);
      position = end = batch->end();
      chained = true;
      continue;
    }
    chained = false;
    ++position.block;
    const bool lost = header_ && cut;  // There were more.
    if (!lost && position.block > end.block + kSearchedBlocks) break;
  }
  if (store_.readable() == 0) co_return fail(Errc::kReplicasLost, "no replica to read from");
  begun_ = header_.has_value() || header_unread_ || !contents_.entries.empty();
  if (!header_ && begun_) untold_ = true;
  if (cut && begun_ && !end.meets(*cut)) {
    // Its last batches can't be told: what they took at most is looked at block by block.
    untold_ = true;
    const std::uint64_t lost =
        end.before(*cut) ? cut->next_batch.value - end.next_batch.value : std::uint64_t{0};
    end.block = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(kTrailerBlock, end.block + lost * kBatchBlocksMax));
  }
  contents_.end = end;
  co_return Result<void>{};
}

// Which descriptor has to be where: from whichever copy has the next one. Behind one that no copy
// has, the others tell for themselves: whatever is there and not known otherwise.
Task<void> CopyCheck::learn_descriptors() {
  descriptors_learned_ = true;
  SegmentReader reader(store_, pool_, disk_, segment_);
  std::optional<LogPosition> position;
  if (header_) position = header_->start;
  std::uint32_t block = kFirstBatchBlock;
  while (block < contents_.end.block) {
    std::optional<Batch> next;
    if (position && !checked_[block]) next = co_await reader.next(*position);
    for (unsigned copy = 0; copy < kReplicaCount && !position && !next && !checked_[block];
         ++copy) {
      if (!in_sync(copy)) continue;
      auto batch = co_await reader.batch(copy, block);
      if (batch) next = std::move(*batch);
    }
    if (next) {
      position = next->end();
      block = next->end_block();
      descriptors_.emplace(next->block, std::move(*next));
    } else {
      position.reset();
      ++block;
    }
  }
}

}  // namespace clouddisk
