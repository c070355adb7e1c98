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

// What a block must be, and which kind of thing it is part of; null: nothing of ours.
struct Expected {
  std::uint64_t checksum = 0;
  const char* what = nullptr;
  bool known = false;       // false: no copy has it
  bool unfinished = false;  // not known durable
  bool made = false;        // it can be made without any copy
};

class SegmentCheck {
 public:
  SegmentCheck(SegmentStore& store, BufferPool& pool, DiskTag disk, SegmentSeq segment,
               const LogCheckOptions& options, BatchSeq settled, LogCheck& result)
      : store_(store),
        pool_(pool),
        disk_(disk),
        segment_(segment),
        options_(options),
        durable_(settled),
        result_(result),
        reader_(store, pool, disk, segment),
        expected_(kSegmentBlocks) {}

  // `recent`: its seal may have been under way at the end.
  Task<Result<void>> run(SegmentCut cut, bool recent);
  // The first batch that is not known durable, after run().
  BatchSeq durable() const { return durable_; }

 private:
  Task<void> sum_copies(std::uint32_t first, std::uint32_t last);
  Task<std::optional<Batch>> find_batch(const LogPosition& position);
  Task<std::optional<LogPosition>> first_batch();
  Task<void> expect_batches(const LogPosition& start, SegmentCut cut);
  Task<std::optional<Trailer>> find_trailer(unsigned copy, SegmentCut cut);
  Task<void> expect_footer(SegmentCut cut, bool recent);
  void mark_unfinished(std::optional<BatchSeq> begun);
  void expect_copy(unsigned copy, std::uint32_t first, std::uint32_t count, const char* what,
                   bool unfinished = false);
  void expect_lost(std::uint32_t first, const char* what, bool unfinished);
  void expect_payload(std::uint32_t block, std::uint64_t checksum);
  void judge();
  Task<void> mend_all(std::size_t first);
  Task<Result<void>> mend(const LogDamage& damage);

  SegmentStore& store_;
  BufferPool& pool_;
  DiskTag disk_;
  SegmentSeq segment_;
  const LogCheckOptions& options_;
  BatchSeq durable_;
  LogCheck& result_;
  SegmentReader reader_;
  std::vector<Expected> expected_;
  std::array<std::vector<std::optional<std::uint64_t>>, kReplicaCount> sums_;
  ReplicaMask missing_ = 0;  // copies without the file, or without its beginning
  std::uint32_t end_ = 0;    // of the batches
  bool whole_ = true;        // no batch of the walk was lost
  bool chained_ = true;      // the last one was not
  Footer contents_;          // of the walk
  std::uint32_t footer_block_ = 0;
  std::vector<std::byte> footer_;                            // made from that; empty: not needed
  std::vector<std::pair<std::uint32_t, BatchSeq>> batches_;  // where each begins, lost ones too
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
  if (chained_) {
    unsigned copy = 0;
    auto next = co_await reader_.next(position, &copy);
    if (next) expect_copy(copy, next->block, next->descriptor_blocks, "descriptor");
    co_return next;
  }
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(store_.readable(), copy)) continue;
    auto batch = co_await reader_.batch(copy, position.block);
    if (!batch || batch->batch != position.next_batch) continue;
    expect_copy(copy, batch->block, batch->descriptor_blocks, "descriptor");
    co_return std::move(*batch);
  }
  co_return std::nullopt;
}

// Of a segment whose header is lost.
Task<std::optional<LogPosition>> SegmentCheck::first_batch() {
  for (std::uint32_t block = kFirstBatchBlock; block < kTrailerBlock; ++block) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(store_.readable(), copy)) continue;
      auto batch = co_await reader_.batch(copy, block);
      if (batch) co_return LogPosition{segment_, block, batch->batch, batch->parent};
    }
  }
  co_return std::nullopt;
}

// Batch by batch; where one is damaged on every copy, on to the one behind it.
Task<void> SegmentCheck::expect_batches(const LogPosition& start, SegmentCut cut) {
  LogPosition position = start;
  contents_.segment = segment_;
  while (position.block < kTrailerBlock && (!cut || position.before(*cut))) {
    auto batch = co_await find_batch(position);
    if (!batch) {
      const bool whole_before = std::exchange(whole_, false);
      chained_ = false;
      std::optional<LogPosition> after;
      const std::uint32_t last = std::min(kTrailerBlock, position.block + kLookAheadBlocks);
      for (std::uint32_t block = position.block + 1; block < last && !after; ++block) {
        LogPosition next{segment_, block, position.next_batch.next(), 0};
        auto found = co_await find_batch(next);
        if (found) after = next;
      }
      if (!after && (!cut || !position.before(*cut))) {
        whole_ = whole_before;  // It ends here.
        break;
      }
      batches_.emplace_back(position.block, position.next_batch);
      expect_lost(position.block, "descriptor", false);
      if (!after) break;
      position = *after;
      continue;
    }
    chained_ = true;
    batches_.emplace_back(batch->block, batch->batch);
    durable_ = std::max(durable_, batch->durable.next_batch);
    for (std::uint32_t i = 0; i < batch->payload_blocks; ++i) {
      expect_payload(batch->payload_start() + i, batch->checksums[i]);
    }
    for (const LogEntry& entry : batch->entries) {
      contents_.entries.push_back(entry);
      if (!has_payload(entry.kind)) continue;
      const auto checksums = batch->checksums_of(entry);
      contents_.checksums.insert(contents_.checksums.end(), checksums.begin(), checksums.end());
    }
    position = batch->end();
  }
  contents_.end = position;
  end_ = std::max(end_, position.block);
}

Task<std::optional<Trailer>> SegmentCheck::find_trailer(unsigned copy, SegmentCut cut) {
  Buffer block = co_await pool_.allocate(kBlockSize);
  auto read = co_await store_.read(copy, segment_, kTrailerBlock, block);
  if (!read) co_return std::nullopt;
  auto trailer = decode_trailer(block.span(), disk_, segment_);
  // Where nothing else says where the segment ends, only its batches do: see is_of_this_life().
  if (!trailer || !is_of_this_life(*trailer, cut)) co_return std::nullopt;
  if (!cut && whole_ && !trailer->end.meets(contents_.end)) co_return std::nullopt;
  co_return *trailer;
}

Task<void> SegmentCheck::expect_footer(SegmentCut cut, bool recent) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(store_.readable(), copy)) continue;
    auto trailer = co_await find_trailer(copy, cut);
    if (!trailer) continue;
    footer_block_ = trailer->footer_block;
    co_await sum_copies(trailer->footer_block, trailer->footer_block + trailer->footer_blocks);
    co_await sum_copies(kTrailerBlock, kSegmentBlocks);
    expect_copy(copy, kTrailerBlock, 1, "footer", recent);
    // The copy whose footer is what the trailer says.
    bool sound = false;
    for (unsigned other = 0; other < kReplicaCount && !sound; ++other) {
      if (!in_mask(store_.readable(), other)) continue;
      std::vector<std::byte> body;
      for (std::uint32_t i = 0; i < trailer->footer_blocks; ++i) {
        Buffer block = co_await pool_.allocate(kBlockSize);
        auto part = co_await store_.read(other, segment_, trailer->footer_block + i, block);
        if (!part) break;
        body.insert(body.end(), block.span().begin(), block.span().end());
      }
      if (body.size() != trailer->footer_blocks * kBlockSize) continue;
      auto footer = decode_footer(body, disk_, *trailer);
      if (!footer) continue;
      sound = true;
      expect_copy(other, trailer->footer_block, trailer->footer_blocks, "footer", recent);
      // Payload whose descriptor is damaged everywhere is known from here.
      footer->for_each([this](const LogEntry& entry, std::span<const std::uint64_t> checksums) {
        for (std::size_t i = 0; i < checksums.size(); ++i) {
          expect_payload(entry.block + static_cast<std::uint32_t>(i), checksums[i]);
        }
      });
    }
    end_ = std::max(end_, trailer->end.block);
    if (sound) co_return;
    // It says again what the batches say: if they are all there it can be made.
    std::vector<std::byte> made(std::size_t{trailer->footer_blocks} * kBlockSize);
    const bool fits = trailer->footer_blocks ==
                      footer_blocks_for(contents_.entries.size(), contents_.checksums.size());
    if (fits && encode_footer(contents_, disk_, made) == trailer->footer_checksum) {
      for (std::uint32_t i = 0; i < trailer->footer_blocks; ++i) {
        const auto block = std::span(made).subspan(i * kBlockSize, kBlockSize);
        Expected& expected = expected_[trailer->footer_block + i];
        expected = {checksum64(block), "footer", true, recent, true};
      }
      footer_ = std::move(made);
    } else {
      expect_lost(trailer->footer_block, "footer", recent);
    }
    co_return;
  }
}

// What comes behind the point that is known durable may be the rest of a crash; so may a segment
// that was begun there. `begun`: its first batch.
void SegmentCheck::mark_unfinished(std::optional<BatchSeq> begun) {
  if (begun && *begun >= durable_) expected_[0].unfinished = true;
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    if (batches_[i].second < durable_) continue;
    const std::uint32_t last = i + 1 < batches_.size() ? batches_[i + 1].first : end_;
    for (std::uint32_t at = batches_[i].first; at < std::max(last, batches_[i].first + 1); ++at) {
      if (expected_[at].what != nullptr) expected_[at].unfinished = true;
    }
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
    const bool mendable = any_good || expected.made;
    if (!any_good && payload && !expected.unfinished) result_.lost.emplace(segment_, block);
    if (damage.size() > before) {
      LogDamage& last = damage.back();
      if (last.first + last.count == block && last.copies == bad && last.mendable == mendable &&
          last.unfinished == expected.unfinished && last.what == expected.what) {
        ++last.count;
        continue;
      }
    }
    damage.push_back({segment_, block, 1, bad, mendable, expected.unfinished, expected.what, {}});
  }
}

Task<Result<void>> SegmentCheck::mend(const LogDamage& damage) {
  for (std::uint32_t block = damage.first; block < damage.first + damage.count; ++block) {
    Buffer good;
    bool found = false;
    if (expected_[block].made) {
      good = co_await pool_.allocate(kBlockSize);
      std::memcpy(good.data(), footer_.data() + (block - footer_block_) * kBlockSize, kBlockSize);
      found = true;
    }
    for (unsigned copy = 0; copy < kReplicaCount && !found; ++copy) {
      if (in_mask(damage.copies, copy) || !in_mask(store_.readable(), copy)) continue;
      good = co_await pool_.allocate(kBlockSize);
      auto read = co_await store_.read(copy, segment_, block, good);
      found = read && checksum64(good.span()) == expected_[block].checksum;
    }
    if (!found) {
      co_return fail(Errc::kIo, "block {} can't be read any more where it was intact", block);
    }
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(damage.copies, copy)) continue;
      if (!in_mask(store_.readable(), copy)) {
        co_return fail(Errc::kReplicasLost, "replica {} is out of the set by now", copy + 1);
      }
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

// One that can't be mended keeps no other from it.
Task<void> SegmentCheck::mend_all(std::size_t first) {
  if (!options_.repair) co_return;
  for (std::size_t i = first; i < result_.damage.size(); ++i) {
    if (!result_.damage[i].mendable) continue;
    auto mended = co_await mend(result_.damage[i]);
    if (!mended) result_.damage[i].problem = mended.error().message;
  }
}

Task<Result<void>> SegmentCheck::run(SegmentCut cut, bool recent) {
  if (cut) {  // Those between it and the next one that is there may have been cleaned.
    const auto trailer = co_await clouddisk::find_trailer(store_, pool_, disk_, segment_, cut);
    if (trailer) cut = trailer->end;
  }
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
  // Descriptors are expected to be what a copy has: its checksums have to be known first. So far
  // nobody knows where the batches end; the walk tells, and then all of it is read once.
  std::optional<BatchSeq> begun;
  if (header) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(store_.readable(), copy) || !sums_[copy][0]) continue;
      Buffer block = co_await pool_.allocate(kBlockSize);
      auto read = co_await store_.read(copy, segment_, 0, block);
      if (!read || !decode_header(block.span(), disk_, segment_)) continue;
      expect_copy(copy, 0, 1, "header");
      break;
    }
    begun = header->start.next_batch;
    co_await sum_copies(1, kTrailerBlock);
    co_await expect_batches(header->start, cut);
  } else {
    const auto first = co_await first_batch();
    if (!first) co_return Result<void>{};  // Made ahead, and never begun.
    begun = first->next_batch;
    expect_lost(0, "header", false);
    co_await sum_copies(1, kTrailerBlock);
    co_await expect_batches(*first, cut);
  }
  co_await expect_footer(cut, recent);
  mark_unfinished(begun);
  const std::size_t before = result_.damage.size();
  judge();
  co_await mend_all(before);
  if (missing_ == 0 || !header) co_return Result<void>{};
  // One line for the whole of it is enough.
  LogDamage whole{segment_,      0, end_, missing_, true, begun && *begun >= durable_,
                  "the segment", {}};
  std::vector<LogDamage> rest;
  for (std::size_t i = before; i < result_.damage.size(); ++i) {
    LogDamage& one = result_.damage[i];
    if (one.copies != missing_ || !one.mendable) {
      rest.push_back(std::move(one));
    } else if (whole.problem.empty()) {
      whole.problem = std::move(one.problem);
    }
  }
  result_.damage.resize(before);
  result_.damage.push_back(std::move(whole));
  for (LogDamage& one : rest) result_.damage.push_back(std::move(one));
  co_return Result<void>{};
}

}  // namespace

Task<Result<LogCheck>> check_log(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                 LogCheckOptions options) {
  LogCheck result;
  auto segments = co_await store.list();
  if (!segments) co_return segments.error();
  // Every header tells of the segments before it: where they end, and how far they are durable.
  std::vector<SegmentCut> starts;
  BatchSeq settled = options.settled.value_or(BatchSeq(0));
  for (const SegmentSeq segment : *segments) {
    SegmentReader reader(store, pool, disk, segment);
    auto header = co_await reader.header();
    starts.emplace_back();
    if (!header) continue;
    starts.back() = header->start;
    settled = std::max(settled, header->durable.next_batch);
  }
  // From the last one on: what descriptors know is about the segments before.
  SegmentCut cut;
  unsigned behind = 0;  // segments that were begun after it
  for (std::size_t i = segments->size(); i-- > 0;) {
    SegmentCheck check(store, pool, disk, (*segments)[i], options, settled, result);
    auto checked = co_await check.run(cut, behind < 2);
    if (!checked) co_return fail(checked.error(), "segment {}", (*segments)[i].value);
    settled = std::max(settled, check.durable());
    if (!starts[i]) continue;
    cut = starts[i];
    ++behind;
  }
  std::stable_sort(result.damage.begin(), result.damage.end(),
                   [](const LogDamage& a, const LogDamage& b) { return a.segment < b.segment; });
  co_return std::move(result);
}

}  // namespace clouddisk
