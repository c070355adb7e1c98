// disk_scrub.cc: what an open disk adds to scrub: which segments there are, up to where they may be
// looked at, and whether what is lost is still read by anybody.
#include <algorithm>

#include "engine/base/log.h"
#include "engine/disk/disk.h"
#include "engine/log/segment_reader.h"

namespace clouddisk {

SegmentSeq Disk::next_segment(SegmentSeq after) {
  note_segments();
  const auto next = segments_.upper_bound(after);
  return next == segments_.end() ? SegmentSeq(0) : *next;
}

Task<Result<SegmentFindings>> Disk::scrub_segment(SegmentSeq segment, WorkPace& pace) {
  note_segments();
  const LogPosition acked = log_->acked();
  if (segments_.count(segment) == 0 || segment > acked.segment) {
    co_return fail(Errc::kNotFound, "segment {} is gone", segment.value);
  }
  CHECK(!pinned_);
  pinned_ = segment;
  SegmentCut cut;
  const bool complete = segment < log_->oldest_in_use();
  if (segment == acked.segment) {
    cut = acked;
  } else if (const SegmentSeq next = next_segment(segment); next.value != 0) {
    SegmentReader reader(*store_, environment_.work_buffers, log_->disk(), next);
    auto header = co_await reader.header();
    if (header) cut = header->start;
  }
  auto found = co_await clouddisk::scrub_segment(*store_, environment_.work_buffers, log_->disk(),
                                                 segment, cut, complete, pace);
  if (found && !found->lost.empty()) {
    // Where the map can't tell, all of it counts as read.
    auto read = co_await still_read(segment, found->lost);
    if (read) found->lost = std::move(*read);
  }
  pinned_.reset();
  co_return found;
}

Task<Result<std::vector<SegmentFindings::LostRun>>> Disk::still_read(
    SegmentSeq segment, std::vector<SegmentFindings::LostRun> lost) {
  std::vector<SegmentFindings::LostRun> kept;
  for (const SegmentFindings::LostRun& run : lost) {
    std::vector<bool> live(run.blocks, false);
    std::vector<BlockEntry> found(run.blocks);
    std::vector<std::optional<Epoch>> moments{std::nullopt};
    for (const Epoch view : map_->views()) moments.emplace_back(view);
    for (const std::optional<Epoch>& moment : moments) {
      auto looked = co_await lookup(moment, run.lba, found);
      if (!looked) co_return looked.error();
      for (std::uint32_t i = 0; i < run.blocks; ++i) {
        live[i] =
            live[i] || found[i].location == BlockLocation::stored(segment, run.segment_block + i);
      }
    }
    for (std::uint32_t i = 0; i < run.blocks;) {
      std::uint32_t length = 0;
      while (i + length < run.blocks && live[i + length]) ++length;
      if (length > 0) {
        kept.push_back({Lba(run.lba.value + i), length, run.segment_block + i, run.write});
      }
      i += std::max(length, 1U);
    }
  }
  co_return kept;
}

Task<Result<std::uint64_t>> Disk::check_index() {
  auto checked = co_await map_->check();
  if (checked || checked.error().code != Errc::kCorrupt) co_return checked;
  clouddisk::log(LogLevel::kError, "disk", "disk={} {}", id(), checked.error().message);
  if (auto marked = co_await condemn_index(ring(), identity_.index_directory); !marked) {
    co_return fail(marked.error(), "disk {}: index damaged, and can't be marked", id());
  }
  co_return checked;
}

}  // namespace clouddisk
