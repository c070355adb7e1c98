#include "engine/disk/log_check.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/base/checksum.h"
#include "engine/log/segment_reader.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kCheckedAtOnce = 1_MiB / kBlockSize;
// A damaged descriptor has its successor within one batch behind it.
constexpr std::uint32_t kLookAheadBlocks = kBatchPayloadBlocksMax + 2 * kDescriptorBlocksMax;

bool in_mask(ReplicaMask mask, unsigned copy) {
  return (mask >> copy & 1U) != 0;
}

// What a block must be, and which kind of thing it is part of; null: nothing of ours.
struct Expected {
  std::uint64_t checksum = 0;
  const char* what = nullptr;
  bool known = false;       // false: no copy has it
  bool unfinished = false;  // not known durable
};

class SegmentCheck {
 public:
  SegmentCheck(SegmentStore& store, BufferPool& pool, DiskTag disk, SegmentSeq segment,
               const LogCheckOptions& options, LogCheck& result)
      : store_(store),
        pool_(pool),
        disk_(disk),
        segment_(segment),
        options_(options),
        result_(result),
        reader_(store, pool, disk, segment),
        expected_(kSegmentBlocks) {}

  Task<Result<void>> run(std::optional<BatchSeq> cut);

 private:
  Task<void> sum_copies(std::uint32_t first, std::uint32_t last);
  Task<std::optional<Batch>> find_batch(const LogPosition& position);
  Task<void> expect_batches(const LogPosition& start, std::optional<BatchSeq> cut);
  Task<void> expect_footer();
  void expect_copy(unsigned copy, std::uint32_t first, std::uint32_t count, const char* what,
                   bool unfinished = false);
  void expect_lost(std::uint32_t first, const char* what, bool unfinished);
  void expect_payload(std::uint32_t block, std::uint64_t checksum);
  void judge();
  Task<Result<void>> mend(const LogDamage& damage);

  SegmentStore& store_;
  BufferPool& pool_;
  DiskTag disk_;
  SegmentSeq segment_;
  const LogCheckOptions& options_;
  LogCheck& result_;
  SegmentReader reader_;
  std::vector<Expected> expected_;
  std::array<std::vector<std::optional<std::uint64_t>>, kReplicaCount> sums_;
  ReplicaMask missing_ = 0;  // copies without the file, or without its beginning
  std::uint32_t end_ = 0;    // of the batches
  BatchSeq durable_;         // of what the descriptors say
  std::vector<std::pair<std::uint32_t, BatchSeq>> batches_;  // where each begins
};

// The checksum of each block on each copy, as it is there.
Task<void> SegmentCheck::sum_copies(std::uint32_t first, std::uint32_t last) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(store_.readable(), copy)) continue;
    auto& sums = sums_[copy];
    sums.resize(kSegmentBlocks);
    if (in_mask(missing_, copy)) continue;
    for (std::uint32_t at = first; at < last; at += kCheckedAtOnce) {
      const std::uint32_t count = std::min(kCheckedAtOnce, last - at);
      Buffer piece = co_await pool_.allocate(count * kBlockSize);
      auto read = co_await store_.read(copy, segment_, at, piece);
      for (std::uint32_t i = 0; i < count; ++i) {
        if (read) {
          sums[at + i] = checksum64(piece.span().subspan(i * kBlockSize, kBlockSize));
          continue;
        }
        // One bad sector, or the end of a file that was cut off: block by block.
        Buffer block = co_await pool_.allocate(kBlockSize);
        auto alone = co_await store_.read(copy, segment_, at + i, block);
        if (alone) sums[at + i] = checksum64(block.span());
      }
      result_.bytes += count * kBlockSize;
      if (options_.progress) options_.progress(count * kBlockSize);
    }
  }
}

void SegmentCheck::expect_copy(unsigned copy, std::uint32_t first, std::uint32_t count,
                               const char* what, bool unfinished) {
  for (std::uint32_t block = first; block < first + count; ++block) {
    expected_[block] = {sums_[copy][block].value_or(0), what, true, unfinished};
  }
}

void SegmentCheck::expect_lost(std::uint32_t first, const char* what, bool unfinished) {
  expected_[first] = {0, what, false, unfinished};
}

void SegmentCheck::expect_payload(std::uint32_t block, std::uint64_t checksum) {
  Expected& expected = expected_[block];
  expected = {checksum, "payload", true, expected.unfinished};
  result_.checksums[segment_][block] = checksum;
}

Task<std::optional<Batch>> SegmentCheck::find_batch(const LogPosition& position) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(store_.readable(), copy)) continue;
    auto batch = co_await reader_.batch(copy, position.block);
    if (!batch || batch->batch != position.next_batch) continue;
    if (position.chain != 0 && batch->parent != position.chain) continue;
    expect_copy(copy, batch->block, batch->descriptor_blocks, "descriptor");
    co_return std::move(*batch);
  }
  co_return std::nullopt;
}

// Batch by batch; where one is damaged on every copy, on to the one behind it.
Task<void> SegmentCheck::expect_batches(const LogPosition& start, std::optional<BatchSeq> cut) {
  LogPosition position = start;
  while (position.block < kTrailerBlock && (!cut || position.next_batch < *cut)) {
    auto batch = co_await find_batch(position);
    if (!batch) {
      std::optional<LogPosition> after;
      const std::uint32_t last = std::min(kTrailerBlock, position.block + kLookAheadBlocks);
      for (std::uint32_t block = position.block + 1; block < last && !after; ++block) {
        LogPosition next{segment_, block, position.next_batch.next(), 0};
        auto found = co_await find_batch(next);
        if (found) after = next;
      }
      const bool ends_here = !after && (!cut || position.next_batch >= *cut);
      if (ends_here) break;
      expect_lost(position.block, "descriptor", false);
      if (!after) break;
      position = *after;
      continue;
    }
    batches_.emplace_back(batch->block, batch->batch);
    durable_ = std::max(durable_, batch->durable.next_batch);
    for (std::uint32_t i = 0; i < batch->payload_blocks; ++i) {
      expect_payload(batch->payload_start() + i, batch->checksums[i]);
    }
    position = batch->end();
  }
  end_ = std::max(end_, position.block);
}

Task<void> SegmentCheck::expect_footer() {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(store_.readable(), copy)) continue;
    Buffer block = co_await pool_.allocate(kBlockSize);
    auto read = co_await store_.read(copy, segment_, kTrailerBlock, block);
    if (!read) continue;
    auto trailer = decode_trailer(block.span(), disk_, segment_);
    if (!trailer) continue;
    co_await sum_copies(trailer->footer_block, trailer->footer_block + trailer->footer_blocks);
    co_await sum_copies(kTrailerBlock, kSegmentBlocks);
    expect_copy(copy, kTrailerBlock, 1, "footer");
    // The copy whose footer is what the trailer says.
    bool sound = false;
    for (unsigned other = 0; other < kReplicaCount && !sound; ++other) {
      if (!in_mask(store_.readable(), other)) continue;
      std::vector<std::byte> body;
      for (std::uint32_t i = 0; i < trailer->footer_blocks; ++i) {
        auto part = co_await store_.read(other, segment_, trailer->footer_block + i, block);
        if (!part) break;
        body.insert(body.end(), block.span().begin(), block.span().end());
      }
      if (body.size() != trailer->footer_blocks * kBlockSize) continue;
      auto footer = decode_footer(body, disk_, *trailer);
      if (!footer) continue;
      sound = true;
      expect_copy(other, trailer->footer_block, trailer->footer_blocks, "footer");
      // Payload whose descriptor is damaged everywhere is known from here.
      footer->for_each([this](const LogEntry& entry, std::span<const std::uint64_t> checksums) {
        for (std::size_t i = 0; i < checksums.size(); ++i) {
          expect_payload(entry.block + static_cast<std::uint32_t>(i), checksums[i]);
        }
      });
    }
    if (!sound) expect_lost(trailer->footer_block, "footer", false);
    end_ = std::max(end_, trailer->end.block);
    co_return;
  }
}

// Runs of neighbouring blocks of one kind that are wrong on the same copies.
void SegmentCheck::judge() {
  std::vector<LogDamage>& damage = result_.damage;
  const std::size_t before = damage.size();
  for (std::uint32_t block = 0; block < kSegmentBlocks; ++block) {
    const Expected& expected = expected_[block];
    if (expected.what == nullptr) continue;
    ReplicaMask bad = 0;
    bool any_good = false;
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(store_.readable(), copy)) continue;
      const auto& sum = sums_[copy][block];
      if (expected.known && sum && *sum == expected.checksum) {
        any_good = true;
      } else {
        bad |= 1U << copy;
      }
    }
    if (bad == 0) continue;
    const bool payload = std::strcmp(expected.what, "payload") == 0;
    if (!any_good && payload && !expected.unfinished) result_.lost.emplace(segment_, block);
    if (damage.size() > before) {
      LogDamage& last = damage.back();
      if (last.first + last.count == block && last.copies == bad && last.mendable == any_good &&
          last.unfinished == expected.unfinished && last.what == expected.what) {
        ++last.count;
        continue;
      }
    }
    damage.push_back({segment_, block, 1, bad, any_good, expected.unfinished, expected.what});
  }
}

Task<Result<void>> SegmentCheck::mend(const LogDamage& damage) {
  for (std::uint32_t block = damage.first; block < damage.first + damage.count; ++block) {
    Buffer good = co_await pool_.allocate(kBlockSize);
    bool found = false;
    for (unsigned copy = 0; copy < kReplicaCount && !found; ++copy) {
      if (in_mask(damage.copies, copy) || !in_mask(store_.readable(), copy)) continue;
      auto read = co_await store_.read(copy, segment_, block, good);
      found = read && checksum64(good.span()) == expected_[block].checksum;
    }
    if (!found) continue;
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(damage.copies, copy) || !in_mask(store_.readable(), copy)) continue;
      Result<void> put;
      if (block == 0) {  // The file itself may be missing.
        put = co_await store_.restore(copy, segment_, good);
      } else {
        put = co_await store_.repair(copy, segment_, block, good);
      }
      if (!put) co_return put;
      ++result_.mended;
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> SegmentCheck::run(std::optional<BatchSeq> cut) {
  auto header = co_await reader_.header();
  if (!header && header.error().code != Errc::kCorrupt && header.error().code != Errc::kIo &&
      header.error().code != Errc::kNotFound) {
    co_return header.error();
  }
  result_.checksums[segment_].assign(kSegmentBlocks, 0);
  co_await sum_copies(0, 1);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (in_mask(store_.readable(), copy) && !sums_[copy][0]) missing_ |= 1U << copy;
  }
  if (header) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(store_.readable(), copy) || !sums_[copy][0]) continue;
      Buffer block = co_await pool_.allocate(kBlockSize);
      auto read = co_await store_.read(copy, segment_, 0, block);
      if (!read || !decode_header(block.span(), disk_, segment_)) continue;
      expect_copy(copy, 0, 1, "header");
      break;
    }
    durable_ = header->durable.next_batch;
    // Descriptors are expected to be what a copy has: its checksums have to be known first. So far
    // nobody knows where the batches end; the walk tells, and then all of it is read once.
    co_await sum_copies(1, kTrailerBlock);
    co_await expect_batches(header->start, cut);
  } else {
    expect_lost(0, "header", !cut);
    co_await sum_copies(1, kTrailerBlock);
  }
  co_await expect_footer();
  // What comes behind the point that is known durable may be the rest of a crash.
  const BatchSeq settled = std::max(durable_, options_.settled.value_or(BatchSeq(0)));
  if (!cut) {
    for (const auto& [block, batch] : batches_) {
      if (batch < settled) continue;
      for (std::uint32_t at = block; at < end_; ++at) {
        if (expected_[at].what != nullptr) expected_[at].unfinished = true;
      }
      break;
    }
  }
  const std::size_t before = result_.damage.size();
  judge();
  if (missing_ != 0 && header) {
    // One line for the whole of it is enough.
    LogDamage whole{segment_, 0, end_, missing_, true, !cut && batches_.empty(), "the segment"};
    std::vector<LogDamage> rest;
    for (std::size_t i = before; options_.repair && i < result_.damage.size(); ++i) {
      if (!result_.damage[i].mendable) continue;
      if (auto mended = co_await mend(result_.damage[i]); !mended) co_return mended;
    }
    for (std::size_t i = before; i < result_.damage.size(); ++i) {
      LogDamage& one = result_.damage[i];
      if (one.copies != missing_ || !one.mendable) rest.push_back(std::move(one));
    }
    result_.damage.resize(before);
    result_.damage.push_back(std::move(whole));
    for (LogDamage& one : rest) result_.damage.push_back(std::move(one));
    co_return Result<void>{};
  }
  for (std::size_t i = before; options_.repair && i < result_.damage.size(); ++i) {
    if (!result_.damage[i].mendable) continue;
    if (auto mended = co_await mend(result_.damage[i]); !mended) co_return mended;
  }
  co_return Result<void>{};
}

}  // namespace

Task<Result<LogCheck>> check_log(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                 LogCheckOptions options) {
  LogCheck result;
  auto segments = co_await store.list();
  if (!segments) co_return segments.error();
  for (std::size_t i = 0; i < segments->size(); ++i) {
    // Where the next one that was begun says that it ends.
    std::optional<BatchSeq> cut;
    for (std::size_t next = i + 1; next < segments->size() && !cut; ++next) {
      SegmentReader reader(store, pool, disk, (*segments)[next]);
      auto header = co_await reader.header();
      if (header) cut = header->start.next_batch;
    }
    SegmentCheck check(store, pool, disk, (*segments)[i], options, result);
    auto checked = co_await check.run(cut);
    if (!checked) co_return fail(checked.error(), "segment {}", (*segments)[i].value);
  }
  co_return std::move(result);
}

}  // namespace clouddisk
