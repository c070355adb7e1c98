#include "engine/disk/compactor.h"

#include <algorithm>
#include <cstring>

#include "engine/base/log.h"
#include "engine/base/variant.h"

namespace clouddisk {
namespace {

constexpr std::size_t kVictimsMax = 8;
constexpr std::uint32_t kMoveBlocksMax =
    64;  // 256 KiB a relocated batch: foreground writes fit between
constexpr Duration kDelayMax = std::chrono::milliseconds(20);

}  // namespace

SpaceUse Compactor::use() const {
  SpaceUse use;
  use.stored_bytes = disk_.segments_.size() * kSegmentSize;
  // What was written since the counts were made is taken as live.
  use.live_bytes = disk_.map_->live_blocks() * kBlockSize +
                   (disk_.log_->acked_bytes() - disk_.checkpoint_at_bytes_);
  return use;
}

bool Compactor::admits_at_once() const {
  return write_pressure(use()) <= 0;
}

Task<Result<void>> Compactor::admit() {
  const double pressure = write_pressure(use());
  if (pressure <= 0) co_return Result<void>{};
  disk_.maintain_if_due();
  if (pressure < 1) {
    const auto delay = std::chrono::duration_cast<Duration>(kDelayMax * pressure * pressure);
    co_await disk_.ring().sleep_for(delay);
    co_return Result<void>{};
  }
  while (!disk_.closed_ && write_pressure(use()) >= 1) {
    disk_.maintain_if_due();
    if (!disk_.maintaining_) {
      // It could not be started, or it ended without winning anything.
      if (!disk_.checkpoint_result_) co_return disk_.checkpoint_result_;
      if (disk_.segment_holds_ > 0 || !due()) break;
    }
    const bool woken = co_await disk_.maintained_.wait_until(disk_.ring().now() + kDelayMax);
    if (!woken && !disk_.maintaining_) break;
  }
  co_return Result<void>{};
}

Task<Result<void>> Compactor::run() {
  while (!disk_.closed_ && due() && disk_.segment_holds_ == 0) {
    const std::size_t before = disk_.segments_.size();
    if (auto done = co_await round(); !done) co_return done;
    disk_.maintained_.wake_all();
    if (disk_.segments_.size() >= before + kVictimsMax) break;
    if (disk_.segments_.size() == before) break;  // Nothing left that is worth it.
  }
  co_return Result<void>{};
}

Task<Result<void>> Compactor::round() {
  const SegmentSeq complete_before =
      std::min(disk_.log_->oldest_in_use(), disk_.map_->last_checkpoint().position.segment);
  std::set<SegmentSeq> candidates = disk_.segments_;
  for (const SegmentSeq segment : stuck_) candidates.erase(segment);
  const auto victims =
      choose_victims(candidates, disk_.map_->live_counts(), complete_before, kVictimsMax);
  std::vector<SegmentSeq> cleaned;
  std::vector<Tombstone> tombstones;
  for (const SegmentSeq victim : victims) {
    // A resync that compared the one before would not see it sealed.
    if (disk_.closed_ || disk_.segment_holds_ > 0) break;
    if (auto sealed = co_await seal_before(victim); !sealed) {
      const Errc code = sealed.error().code;
      if (code != Errc::kCorrupt && code != Errc::kIo && code != Errc::kNotFound) co_return sealed;
      log(LogLevel::kError, "compaction", "disk={} segment {} kept: the end of the one before: {}",
          disk_.id(), victim.value, sealed.error().message);
      stuck_.insert(victim);
      continue;
    }
    auto clean_enough = co_await clean(victim, tombstones);
    if (!clean_enough) co_return clean_enough.error();
    if (*clean_enough) {
      cleaned.push_back(victim);
    } else {
      stuck_.insert(victim);
    }
  }
  if (cleaned.empty()) co_return Result<void>{};
  if (auto moved = co_await move_tombstones(std::move(tombstones)); !moved) co_return moved;
  if (!broken(Variant::kRemoveBeforeCheckpoint)) {
    if (auto durable = co_await disk_.checkpoint(); !durable) co_return durable;
  }
  if (!broken(Variant::kSkipReadGate)) {
    // A checkpoint knows of batches alone: the seals of those before must be as durable.
    if (auto durable = co_await disk_.store_->flush(); !durable) co_return durable;
    co_await disk_.gate_.drain();
  }
  for (const SegmentSeq segment : cleaned) {
    // Cleaned again later: cheap, nothing in it is live.
    if (disk_.segment_holds_ > 0) break;
    if (disk_.pinned_ == segment) continue;
    const bool is_free = disk_.map_->live_blocks(segment) == 0;
    CHECK(is_free || broken(Variant::kRemoveBeforeCheckpoint) ||
          broken(Variant::kFreeSegmentOfView));
    disk_.store_->keep_spares(spares_to_keep(use()));
    disk_.segments_.erase(segment);  // First: from here on nobody begins to scrub it.
    if (auto removed = co_await disk_.store_->remove(segment); !removed) {
      disk_.segments_.insert(segment);
      co_return removed;
    }
    oldest_.erase(segment);
    sealed_.erase(segment);
  }
  disk_.store_->keep_spares(spares_to_keep(use()));
  co_return co_await disk_.store_->release_spares();
}

// One that a crash left unsealed ends where the next one begins, which is about to go.
Task<Result<void>> Compactor::seal_before(SegmentSeq victim) {
  const auto it = disk_.segments_.lower_bound(victim);
  if (it == disk_.segments_.begin()) co_return Result<void>{};
  const SegmentSeq before = *std::prev(it);
  if (sealed_.count(before) != 0) co_return Result<void>{};
  auto& pool = disk_.environment_.log_buffers;
  const SegmentCut cut = co_await start_of(victim);
  // What it has may be of a process that was killed before it was durable.
  co_await disk_.store_->adopt(before);
  if (!co_await find_trailer(*disk_.store_, pool, disk_.log_->disk(), before, cut)) {
    if (!cut) co_return fail(Errc::kCorrupt, "no copy of segment {} has a header", victim.value);
    auto contents = co_await walk_contents(*disk_.store_, pool, disk_.log_->disk(), before, cut);
    if (!contents) co_return contents.error();
    if (auto sealed = co_await disk_.log_->seal_late(*contents); !sealed) co_return sealed;
  }
  sealed_.insert(before);
  co_return Result<void>{};
}

// Which blocks of an entry some view still reads from the victim.
Task<Result<std::vector<bool>>> Compactor::find_live(const LogEntry& entry, SegmentSeq victim,
                                                     std::span<const std::uint64_t> checksums) {
  std::vector<bool> live(entry.count, false);
  std::vector<BlockEntry> found(entry.count);
  const auto mark = [&] {
    for (std::uint32_t i = 0; i < entry.count; ++i) {
      const BlockLocation here = BlockLocation::stored(victim, entry.block + i);
      if (found[i].location == here && found[i].checksum == checksums[i]) live[i] = true;
    }
  };
  if (auto looked = co_await disk_.map_->lookup(entry.lba, found); !looked)
    co_return looked.error();
  mark();
  const std::vector<Epoch> views = disk_.map_->views();
  for (const Epoch view : views) {
    if (view < entry.epoch || broken(Variant::kFreeSegmentOfView)) continue;
    auto looked = co_await disk_.map_->lookup_view(view, entry.lba, found);
    if (!looked) co_return looked.error();
    mark();
  }
  co_return live;
}

// Moves what is live. False: some of it can't be read on any copy, so the segment has to stay.
Task<Result<bool>> Compactor::clean(SegmentSeq victim, std::vector<Tombstone>& tombstones) {
  const auto next = disk_.segments_.upper_bound(victim);
  SegmentCut cut;
  if (next != disk_.segments_.end()) {
    SegmentReader reader(*disk_.store_, disk_.environment_.log_buffers, disk_.log_->disk(), *next);
    if (auto header = co_await reader.header(); header) cut = header->start;
  }
  auto contents = co_await read_contents(*disk_.store_, disk_.environment_.log_buffers,
                                         disk_.log_->disk(), victim, cut);
  if (!contents) {
    if (contents.error().code != Errc::kCorrupt) co_return contents.error();
    log(LogLevel::kError, "compaction", "disk={} segment {} kept: {}", disk_.id(), victim.value,
        contents.error().message);
    co_return false;
  }
  std::vector<LogEntry> moves;
  std::vector<BlockEntry> blocks;
  std::size_t checksum_at = 0;
  for (const LogEntry& entry : contents->entries) {
    if (!has_payload(entry.kind)) {
      Tombstone tombstone{entry.lba.value, entry.lba.value + entry.count, entry};
      if (!is_relocated(entry.kind)) {
        tombstone.entry.kind =
            entry.kind == EntryKind::kZero ? EntryKind::kRelocatedZero : EntryKind::kRelocatedTrim;
      }
      tombstones.push_back(tombstone);
      continue;
    }
    const auto checksums = std::span(contents->checksums).subspan(checksum_at, entry.count);
    checksum_at += entry.count;
    auto live = co_await find_live(entry, victim, checksums);
    if (!live) co_return live.error();
    for (std::uint32_t i = 0; i < entry.count; ++i) {
      if (!(*live)[i]) continue;
      const bool joins = !moves.empty() && i > 0 && (*live)[i - 1] && blocks.size() > 0 &&
                         moves.back().write == entry.write &&
                         moves.back().lba.value + moves.back().count == entry.lba.value + i;
      if (blocks.size() == kMoveBlocksMax) {
        auto moved = co_await move(moves, blocks);
        if (!moved && moved.error().code == Errc::kIo) co_return false;
        if (!moved) co_return moved.error();
        moves.clear();
        blocks.clear();
      }
      if (joins && !moves.empty()) {
        ++moves.back().count;
      } else {
        LogEntry one = entry;
        one.kind = EntryKind::kRelocatedWrite;
        one.lba = Lba(entry.lba.value + i);
        one.count = 1;
        one.from = BlockLocation::stored(victim, entry.block + i);
        moves.push_back(one);
      }
      blocks.push_back({BlockLocation::stored(victim, entry.block + i), checksums[i]});
    }
  }
  if (!blocks.empty()) {
    auto moved = co_await move(moves, blocks);
    if (!moved && moved.error().code == Errc::kIo) co_return false;
    if (!moved) co_return moved.error();
  }
  co_return true;
}

Task<Result<void>> Compactor::move(const std::vector<LogEntry>& moves,
                                   const std::vector<BlockEntry>& blocks) {
  Buffer data = co_await disk_.environment_.work_buffers.allocate(blocks.size() * kBlockSize);
  auto read = co_await disk_.read_blocks(moves.front().lba, blocks, data);
  if (!read) co_return read.error();
  std::vector<LogEntry> entries = moves;
  SegmentSeq segment;
  auto appended = co_await disk_.log_->append_relocated(entries, segment, std::move(*read));
  if (appended) moved_bytes_ += blocks.size() * kBlockSize;
  co_return appended;
}

// Where the batches of a segment begin, as its header says.
Task<SegmentCut> Compactor::start_of(SegmentSeq segment) {
  Buffer block = co_await disk_.environment_.log_buffers.allocate(kBlockSize);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if ((disk_.store_->readable() >> copy & 1U) == 0) continue;
    auto read = co_await disk_.store_->read(copy, segment, 0, block);
    if (!read) continue;
    auto header = decode_header(block.span(), disk_.log_->disk(), segment);
    if (header) co_return header->start;
  }
  co_return std::nullopt;
}

// The oldest write whose data stands in any segment: trims older than it have nothing left to hide.
// Segments about to be removed count too: a crash may come between two of them, and the index may
// be lost with it.
Task<Result<WriteSeq>> Compactor::oldest_write_kept() {
  disk_.note_segments();  // Blocks moved a moment ago may fill some that no checkpoint has seen.
  if (disk_.log_->active_segment().value == 0) co_return WriteSeq(0);  // One is just being begun.
  WriteSeq oldest(~std::uint64_t{0});
  const std::vector<SegmentSeq> segments(disk_.segments_.begin(), disk_.segments_.end());
  for (const SegmentSeq segment : segments) {
    if (segment >= disk_.log_->active_segment()) break;
    auto known = oldest_.find(segment);
    if (known == oldest_.end()) {
      const auto next = disk_.segments_.upper_bound(segment);
      const SegmentCut cut =
          co_await start_of(next == disk_.segments_.end() ? disk_.log_->active_segment() : *next);
      if (!cut) co_return WriteSeq(0);  // Nothing tells whether a trailer is of its last life.
      const auto trailer = co_await find_trailer(*disk_.store_, disk_.environment_.log_buffers,
                                                 disk_.log_->disk(), segment, cut);
      if (!trailer) co_return WriteSeq(0);  // Not sealed: it may hold anything.
      const bool holds_data = trailer->oldest_write.value != 0;
      known =
          oldest_.emplace(segment, holds_data ? trailer->oldest_write : WriteSeq(~std::uint64_t{0}))
              .first;
    }
    oldest = std::min(oldest, known->second);
  }
  // The segment being written holds relocated blocks of any age.
  const WriteSeq in_head = oldest_write(disk_.log_->active_contents());
  co_return in_head.value == 0 ? oldest : std::min(oldest, in_head);
}

// Newest first, each keeps what no newer one covers: many trims of one place become one. A newer
// one covers only what no view sees without it.
Task<Result<void>> Compactor::move_tombstones(std::vector<Tombstone> tombstones) {
  if (tombstones.empty() || broken(Variant::kForgetTombstones)) co_return Result<void>{};
  auto oldest = co_await oldest_write_kept();
  if (!oldest) co_return oldest.error();
  std::sort(tombstones.begin(), tombstones.end(),
            [](const auto& a, const auto& b) { return a.entry.write > b.entry.write; });
  const std::vector<Epoch> views = disk_.map_->views();
  // Over a base a trim always hides something.
  if (disk_.base_) oldest = WriteSeq(0);
  // By the first view that sees them: disjoint intervals, first to last.
  std::map<std::ptrdiff_t, std::map<std::uint64_t, std::uint64_t>> covered_by_view;
  std::vector<LogEntry> kept;
  for (const Tombstone& tombstone : tombstones) {
    if (tombstone.entry.write < *oldest) break;
    const auto seen_by = std::lower_bound(views.begin(), views.end(), tombstone.entry.epoch);
    auto& covered = covered_by_view[seen_by - views.begin()];
    std::uint64_t at = tombstone.first;
    auto it = covered.upper_bound(at);
    if (it != covered.begin() && std::prev(it)->second > at) at = std::prev(it)->second;
    const std::uint64_t merged_first =
        it != covered.begin() && std::prev(it)->second >= tombstone.first ? std::prev(it)->first
                                                                          : tombstone.first;
    while (at < tombstone.last) {
      const std::uint64_t gap_end =
          it == covered.end() ? tombstone.last : std::min(tombstone.last, it->first);
      if (at < gap_end) {
        LogEntry part = tombstone.entry;
        part.lba = Lba(at);
        part.count = gap_end - at;
        kept.push_back(part);
      }
      if (it == covered.end() || it->first >= tombstone.last) break;
      at = std::max(at, it->second);
      ++it;
    }
    std::uint64_t merged_last = tombstone.last;
    for (auto old = covered.lower_bound(merged_first);
         old != covered.end() && old->first <= merged_last;) {
      merged_last = std::max(merged_last, old->second);
      old = covered.erase(old);
    }
    covered[merged_first] = merged_last;
  }
  for (std::size_t at = 0; at < kept.size(); at += kBatchEntriesMax) {
    const std::size_t count = std::min<std::size_t>(kBatchEntriesMax, kept.size() - at);
    std::vector<LogEntry> part(kept.begin() + static_cast<std::ptrdiff_t>(at),
                               kept.begin() + static_cast<std::ptrdiff_t>(at + count));
    SegmentSeq segment;
    auto appended = co_await disk_.log_->append_relocated(part, segment, Buffer());
    if (!appended) co_return appended;
  }
  co_return Result<void>{};
}

}  // namespace clouddisk
