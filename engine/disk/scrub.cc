#include "engine/disk/scrub.h"

#include <algorithm>
#include <set>

#include "engine/log/segment_reader.h"

namespace clouddisk {
namespace {

// Neighbours in one entry make one run.
void sort_out(const std::set<std::uint32_t>& lost, const Footer& contents,
              SegmentFindings& findings) {
  std::set<std::uint32_t> rest = lost;
  for (const LogEntry& entry : contents.entries) {
    if (!has_payload(entry.kind)) continue;
    const auto last = static_cast<std::uint32_t>(entry.block + entry.count);
    auto at = lost.lower_bound(entry.block);
    while (at != lost.end() && *at < last) {
      SegmentFindings::LostRun run;
      run.segment_block = *at;
      run.lba = Lba(entry.lba.value + (*at - entry.block));
      run.write = entry.write;
      for (; at != lost.end() && *at < last && *at == run.segment_block + run.blocks; ++at) {
        rest.erase(*at);
        ++run.blocks;
      }
      findings.lost.push_back(run);
    }
  }
  findings.lost_other = rest.size();
}

// How far a segment of a disk that is not open goes, and how much of that a crash can't take.
struct Reach {
  LogPosition end;      // of the batches that follow each other
  LogPosition durable;  // the last point in it that is known to be durable
};

Task<std::optional<Reach>> measure(LocalSegmentStore& store, BufferPool& pool, DiskTag disk,
                                   SegmentSeq segment, BatchSeq settled) {
  SegmentReader reader(store, pool, disk, segment);
  auto header = co_await reader.header();
  if (!header) co_return std::nullopt;
  std::vector<LogPosition> points{header->start};
  BatchSeq durable = std::max(settled, header->durable.next_batch);
  while (true) {
    const std::optional<Batch> next = co_await reader.next(points.back());
    if (!next) break;
    durable = std::max(durable, next->durable.next_batch);
    points.push_back(next->end());
  }
  Reach reach{points.back(), points.front()};
  for (const LogPosition& point : points) {
    if (point.next_batch <= durable) reach.durable = point;
  }
  co_return reach;
}

}  // namespace

bool SegmentFindings::clean() const {
  return lost.empty() && lost_other == 0 && !untold &&
         std::all_of(copies.begin(), copies.end(),
                     [](const Copy& copy) { return copy.bad_blocks == 0; });
}

Task<Result<SegmentFindings>> scrub_segment(LocalSegmentStore& store, BufferPool& pool,
                                            DiskTag disk, SegmentSeq segment, SegmentCut cut,
                                            bool complete, WorkPace& pace) {
  CopyCheck check(store, pool, disk, segment);
  if (auto learned = co_await check.learn(cut, complete); !learned) co_return learned.error();
  SegmentFindings findings;
  findings.untold = check.untold();
  std::set<std::uint32_t> lost;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if ((store.readable() >> copy & 1U) == 0) continue;
    auto intact = co_await check.intact(copy, pace);
    if (!intact && intact.error().code == Errc::kShutdown) co_return intact.error();
    if (intact && *intact) {
      findings.checked |= 1U << copy;
      continue;
    }
    if ((store.readable() >> copy & 1U) == 0) continue;  // Resync brings it back whole.
    auto mended = co_await check.mend(copy, CopyCheck::Target::kMember, pace);
    if (!mended) {
      if (mended.error().code == Errc::kShutdown) co_return mended.error();
      continue;  // It could not be written or read, and is out by now.
    }
    findings.checked |= 1U << copy;
    findings.copies[copy] = {mended->bad_blocks, mended->mended_blocks};
    lost.insert(mended->lost.begin(), mended->lost.end());
  }
  sort_out(lost, check.contents(), findings);
  co_return findings;
}

Task<Result<SegmentFindings>> scrub_closed_segment(LocalSegmentStore& store, BufferPool& pool,
                                                   DiskTag disk, SegmentSeq segment,
                                                   SegmentSeq next,
                                                   std::optional<LogPosition> settled,
                                                   WorkPace& pace) {
  SegmentCut cut;
  BatchSeq durable = settled ? settled->next_batch : BatchSeq(0);
  if (next.value != 0) {
    SegmentReader reader(store, pool, disk, next);
    auto header = co_await reader.header();
    if (header) {
      cut = header->start;
      durable = std::max(durable, header->durable.next_batch);
    }
  }
  if (cut && co_await find_trailer(store, pool, disk, segment, cut)) {
    co_return co_await scrub_segment(store, pool, disk, segment, cut, true, pace);
  }
  const auto reach = co_await measure(store, pool, disk, segment, durable);
  // Behind the durable point a crash may have torn it, and the segment behind it begun too early.
  if (reach && !(cut && reach->end.meets(*cut)) && reach->end.next_batch >= durable) {
    co_return co_await scrub_segment(store, pool, disk, segment, reach->durable, false, pace);
  }
  co_return co_await scrub_segment(store, pool, disk, segment, cut, true, pace);
}

}  // namespace clouddisk
