#include "engine/disk/resync.h"

#include <algorithm>
#include <vector>

#include "engine/base/log.h"
#include "engine/log/segment_reader.h"

namespace clouddisk {
namespace {

class CopyResync {
 public:
  CopyResync(LocalSegmentStore& store, BufferPool& pool, DiskTag disk, unsigned copy,
             WorkPace& pace, std::set<SegmentSeq>& done)
      : store_(store), pool_(pool), disk_(disk), copy_(copy), pace_(pace), done_(done) {}

  Task<Result<ResyncOutcome>> run(std::optional<SegmentSeq> before);

 private:
  Task<Result<void>> bring(SegmentSeq segment, SegmentCut cut);
  Task<Result<bool>> whole_on_a_member(CopyCheck& check);

  LocalSegmentStore& store_;
  BufferPool& pool_;
  DiskTag disk_;
  unsigned copy_;
  WorkPace& pace_;
  std::set<SegmentSeq>& done_;
  ResyncOutcome outcome_;
};

Task<Result<ResyncOutcome>> CopyResync::run(std::optional<SegmentSeq> before) {
  co_await store_.settle(copy_);
  if (auto made = co_await store_.make_folder(copy_); !made) {
    co_return made.error();
  }
  auto here = co_await store_.list_copy(copy_);
  if (!here) co_return here.error();
  store_.distrust_former(copy_, *here);
  auto all = co_await store_.list();
  if (!all) co_return all.error();
  if (all->empty() && !here->empty()) {
    // Once a disk has a segment it always has one. It is the others that have lost what they had.
    co_return fail(
        Errc::kCorrupt,
        "no replica in sync has any segment of it, and the copy that is to be brought up "
        "to date has {}: left as it is",
        here->size());
  }
  for (const SegmentSeq segment : *here) {
    if (std::binary_search(all->begin(), all->end(), segment)) continue;
    if (before && segment >= *before && store_.is_new(segment)) continue;
    // Of a former life: begun, and lost by the others. Of segments that begin at the same batch a
    // recovery takes the latest, so this one must not outlive the one that took its place.
    if (auto gone = co_await store_.discard(copy_, segment); !gone) {
      co_return gone.error();
    }
  }
  for (std::size_t i = 0; i < all->size(); ++i) {
    const SegmentSeq segment = (*all)[i];
    if (before && segment >= *before) break;
    if (done_.count(segment) != 0 && !store_.flush_failed(copy_, segment)) continue;
    SegmentCut cut;
    if (i + 1 < all->size()) {
      SegmentReader next(store_, pool_, disk_, (*all)[i + 1]);
      auto header = co_await next.header();
      if (header) cut = header->start;
    }
    if (auto brought = co_await bring(segment, cut); !brought) {
      co_return brought.error();
    }
    // The last one of a disk that is not open may go on when it is.
    if (i + 1 < all->size()) done_.insert(segment);
  }
  if (auto durable = co_await store_.flush_copy(copy_); !durable) co_return durable.error();
  co_return outcome_;
}

// Whether a copy in sync has all of the segment. If none has, the first that can be mended is: a
// power cut may have left a trailer without its footer on each, and what one lacks another has.
Task<Result<bool>> CopyResync::whole_on_a_member(CopyCheck& check) {
  for (const bool mend : {false, true}) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if ((store_.readable() >> copy & 1U) == 0) continue;
      if (mend) {
        auto mended = co_await check.mend(copy, CopyCheck::Target::kMember, pace_);
        if (!mended) co_return mended.error();
      }
      auto whole = co_await check.intact(copy, pace_);
      if (!whole || *whole) co_return whole;
    }
  }
  co_return false;
}

// What the copy has intact already is only read there, never from the others.
Task<Result<void>> CopyResync::bring(SegmentSeq segment, SegmentCut cut) {
  CopyCheck check(store_, pool_, disk_, segment);
  if (auto learned = co_await check.learn(cut, true); !learned) {
    co_return fail(learned.error(), "resync segment {}", segment.value);
  }
  auto there = co_await store_.has(copy_, segment);
  if (!there) co_return there.error();
  if (!check.begun()) {  // Whatever the copy has there is of a former life.
    if (*there) co_return co_await store_.discard(copy_, segment);
    co_return Result<void>{};
  }
  if (*there && store_.flush_failed(copy_, segment)) {
    // Not before another has all of it: this may be the last copy of some block.
    auto elsewhere = co_await whole_on_a_member(check);
    if (!elsewhere) co_return elsewhere.error();
    if (!*elsewhere) {
      co_return fail(Errc::kIo,
                     "resync segment {}: an fdatasync of it failed on the replica that joins, and "
                     "no replica in sync can be made to have all of it: see fsck",
                     segment.value);
    }
    if (auto gone = co_await store_.discard(copy_, segment); !gone) co_return gone;
    *there = false;
  }
  if (*there) {
    auto intact = co_await check.intact(copy_, pace_);
    if (!intact) co_return intact.error();
    if (*intact) {
      ++outcome_.segments_kept;
      if (auto unsealed = co_await check.unseal_joiner(copy_); !unsealed) co_return unsealed;
      if (cut) co_return Result<void>{};
      co_return co_await check.cut_joiner(copy_);
    }
  }
  auto mended = co_await check.mend(copy_, CopyCheck::Target::kJoiner, pace_);
  if (!mended) co_return mended.error();
  outcome_.copied_bytes += mended->bad_blocks * kBlockSize;
  if (!mended->lost.empty()) {
    log(LogLevel::kError, "resync", "segment {} block {}, {} blocks in all: damaged everywhere",
        segment.value, mended->lost.front(), mended->lost.size());
  }
  if (auto unsealed = co_await check.unseal_joiner(copy_); !unsealed) co_return unsealed;
  if (cut) co_return Result<void>{};
  co_return co_await check.cut_joiner(copy_);
}

}  // namespace

Task<Result<ResyncOutcome>> resync_copy(LocalSegmentStore& store, BufferPool& pool, DiskTag disk,
                                        unsigned copy, std::optional<SegmentSeq> before,
                                        WorkPace& pace, std::set<SegmentSeq>& done) {
  CopyResync resync(store, pool, disk, copy, pace, done);
  co_return co_await resync.run(before);
}

}  // namespace clouddisk
