#include "engine/log/log_recovery.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "engine/base/log.h"
#include "engine/base/variant.h"

namespace clouddisk {
namespace {

// A damaged descriptor in the middle of the log has its successor within one batch behind it.
constexpr std::uint32_t kLookAheadBlocks = kBatchPayloadBlocksMax + 2 * kDescriptorBlocksMax;

class Recovery {
 public:
  Recovery(SegmentStore& store, const LogMemory& memory, DiskTag disk)
      : store_(store), pool_(memory.batches), single_blocks_(memory.headers), disk_(disk) {}

  Task<Result<RecoveredLog>> run(std::optional<LogPosition> from, LogReplay& replay);

 private:
  bool readable(unsigned copy) const { return (store_.readable() >> copy & 1U) != 0; }
  Task<Result<void>> read_headers(SegmentSeq first);
  LogPosition start_without_index() const;
  const SegmentHeader* successor(const LogPosition& position) const;
  SegmentReader& reader(SegmentSeq segment);
  Task<Result<void>> walk(LogPosition position, const LogPosition& from);
  Task<Result<void>> check_nothing_durable_follows();
  Task<Result<void>> judge_headless(SegmentSeq start, bool has_index);
  Task<bool> is_begun(SegmentSeq segment);
  Task<bool> says_durable(SegmentSeq segment);
  Task<Result<void>> verify_tail();
  Task<Result<bool>> equalise(const Batch& batch);
  Task<bool> equalise_header(unsigned copy, SegmentSeq segment);
  Task<void> equalise_headers();
  Task<void> drop_stale_trailers();

  SegmentStore& store_;
  BufferPool& pool_;           // what is read of the log
  BufferPool& single_blocks_;  // asked for while there is some of the other
  DiskTag disk_;
  std::map<SegmentSeq, SegmentHeader> headers_;
  std::vector<SegmentSeq> headless_;
  std::set<SegmentSeq> reached_;
  std::optional<SegmentReader> reader_;
  SegmentSeq reader_segment_;

  std::vector<Batch> batches_;  // from the start of the first segment looked at
  std::size_t first_replayed_ = 0;
  LogPosition tail_;
  LogPosition durable_;
  RecoveredLog result_;
};

SegmentReader& Recovery::reader(SegmentSeq segment) {
  if (!reader_ || reader_segment_ != segment) {
    reader_.reset();
    reader_.emplace(store_, pool_, disk_, segment);
    reader_segment_ = segment;
  }
  return *reader_;
}

Task<Result<void>> Recovery::read_headers(SegmentSeq first) {
  auto segments = co_await store_.list();
  if (!segments) co_return segments.error();
  if (!segments->empty()) result_.newest = segments->back();
  for (const SegmentSeq segment : *segments) {
    if (segment < first) continue;
    auto header = co_await reader(segment).header();
    if (header) {
      headers_[segment] = *header;
    } else if (header.error().code == Errc::kUnsupported ||
               header.error().code == Errc::kReplicasLost) {
      co_return header.error();
    } else {
      headless_.push_back(segment);
    }
  }
  co_return Result<void>{};
}

// The newest header knows a point before which everything is durable.
LogPosition Recovery::start_without_index() const {
  const SegmentHeader& newest = headers_.rbegin()->second;
  const auto first = headers_.lower_bound(newest.durable.segment);
  return first->second.start;
}

// A later segment that begins exactly here. The latest such one wins: an earlier one was given up.
const SegmentHeader* Recovery::successor(const LogPosition& position) const {
  for (auto it = headers_.rbegin(); it != headers_.rend() && it->first > position.segment; ++it) {
    const LogPosition& start = it->second.start;
    if (start.next_batch == position.next_batch && start.chain == position.chain) {
      return &it->second;
    }
  }
  return nullptr;
}

Task<Result<void>> Recovery::walk(LogPosition position, const LogPosition& from) {
  bool from_seen = false;
  reached_.insert(position.segment);
  while (true) {
    while (const SegmentHeader* next = successor(position)) {
      if (durable_.before(next->durable)) durable_ = next->durable;
      position = next->start;
      reached_.insert(position.segment);
    }
    if (from.next_batch == position.next_batch && from.chain == position.chain) {
      from_seen = true;
      first_replayed_ = batches_.size();
    }
    auto batch = co_await reader(position.segment).next(position);
    if (!batch) break;
    if (durable_.before(batch->durable)) durable_ = batch->durable;
    position = batch->end();
    batches_.push_back(std::move(*batch));
  }
  tail_ = position;
  if (!from_seen && tail_.before(from)) {
    // The checkpoint was durable, and so was all before it: it was there, and can't be read.
    co_return fail(Errc::kIo,
                   "batch {} in segment {} is unreadable on every replica in sync, though a "
                   "checkpoint says it was durable: restore a replica that has it",
                   tail_.next_batch.value, tail_.segment.value);
  }
  if (!from_seen) {
    co_return fail(Errc::kCorrupt, "the checkpoint's batch {} in segment {} is not of this log",
                   from.next_batch.value, from.segment.value);
  }
  co_return Result<void>{};
}

Task<Result<void>> Recovery::check_nothing_durable_follows() {
  for (const auto& [segment, header] : headers_) {
    if (tail_.before(header.durable)) {
      co_return fail(
          Errc::kCorrupt,
          "batch {} in segment {} is unreadable on every replica in sync, though segment {} "
          "says it was durable: restore a replica that has it",
          tail_.next_batch.value, tail_.segment.value, segment.value);
    }
  }
  const std::uint32_t last = std::min(kTrailerBlock, tail_.block + kLookAheadBlocks);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    for (std::uint32_t block = tail_.block; block < last; ++block) {
      auto batch = co_await reader(tail_.segment).batch(copy, block);
      if (batch && tail_.before(batch->durable)) {
        co_return fail(
            Errc::kCorrupt,
            "batch {} in segment {} is unreadable on every replica in sync, though batch {} "
            "says it was durable: restore a replica that has it",
            tail_.next_batch.value, tail_.segment.value, batch->batch.value);
      }
    }
  }
  co_return Result<void>{};
}

// A segment without a header on any copy was prepared or begun, and lost before it was durable: it
// can go. Or its header is damaged everywhere, and it must not: all that is of the log and before
// the start was durable, and behind the start what says so itself. An index does not help there;
// without one a segment before the start that was sealed does with its footer.
Task<Result<void>> Recovery::judge_headless(SegmentSeq start, bool has_index) {
  for (const SegmentSeq segment : headless_) {
    const bool before = segment < start;
    const bool kept = before ? co_await is_begun(segment) : co_await says_durable(segment);
    if (!kept) {
      result_.unreachable.push_back(segment);
    } else if (has_index || !before) {
      co_return fail(has_index ? Errc::kCorrupt : Errc::kIo,
                     "the header of segment {} is unreadable on every replica in sync, though what "
                     "is in it was durable: restore a replica that has it",
                     segment.value);
    }
  }
  co_return Result<void>{};
}

// One that was only prepared has neither a trailer nor a batch where the first one goes.
Task<bool> Recovery::is_begun(SegmentSeq segment) {
  if (co_await find_trailer(store_, pool_, disk_, segment, std::nullopt)) co_return true;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    const auto first = co_await reader(segment).batch(copy, kFirstBatchBlock);
    if (first) co_return true;
  }
  co_return false;
}

// Whether anything in it could only have been written when its header was durable. A trailer could:
// it is not flushed at once.
Task<bool> Recovery::says_durable(SegmentSeq segment) {
  if (!co_await is_begun(segment)) co_return false;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    for (std::uint32_t block = kFirstBatchBlock; block < kTrailerBlock; ++block) {
      const auto batch = co_await reader(segment).batch(copy, block);
      if (!batch) continue;
      const LogPosition& durable = batch->durable;
      if (durable.segment >= segment && durable.block > kFirstBatchBlock) co_return true;
    }
  }
  co_return false;
}

// False: that copy is out now.
Task<bool> Recovery::equalise_header(unsigned copy, SegmentSeq segment) {
  Buffer block = co_await single_blocks_.allocate(kBlockSize);
  // The file itself may be missing, or still have the header of its former life.
  auto header_read = co_await store_.read(copy, segment, 0, block);
  if (header_read && decode_header(block.span(), disk_, segment)) co_return true;
  if (!readable(copy)) co_return false;  // The read has put it out.
  block = Buffer();
  Buffer header = co_await single_blocks_.allocate(kBlockSize);
  encode_header(headers_.at(segment), header.span());
  auto restored = co_await store_.restore(copy, segment, header);
  co_return restored.has_value();
}

// A power loss may take the header and leave the batches behind it, or there may be none yet: then
// no batch tells that a copy lacks it. The copy that has it may be the next to go.
Task<void> Recovery::equalise_headers() {
  for (const SegmentSeq segment : reached_) {
    if (segment < durable_.segment || segment > tail_.segment) continue;
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (readable(copy)) static_cast<void>(co_await equalise_header(copy, segment));
    }
  }
}

// Makes every in-sync copy hold the batch; false when no copy does.
Task<Result<bool>> Recovery::equalise(const Batch& batch) {
  ReplicaMask good = 0;
  ReplicaMask bad = 0;
  SegmentReader& segment = reader(batch.segment);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    const bool held = co_await segment.holds(copy, batch);
    (held ? good : bad) |= 1U << copy;
  }
  if (good == 0) co_return false;
  if (bad == 0 || broken(Variant::kSkipTailRepair)) co_return true;
  Result<Buffer> bytes = fail(Errc::kReplicasLost, "segment {}: no copy of batch {} is left",
                              batch.segment.value, batch.batch.value);
  for (unsigned copy = 0; copy < kReplicaCount && !bytes; ++copy) {
    if ((good >> copy & 1U) != 0 && readable(copy)) bytes = co_await segment.bytes(copy, batch);
  }
  if (!bytes) co_return bytes.error();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if ((bad >> copy & 1U) == 0 || !readable(copy)) continue;
    if (!co_await equalise_header(copy, batch.segment)) continue;
    static_cast<void>(co_await store_.repair(copy, batch.segment, batch.block, *bytes));
    ++result_.repaired_batches;
  }
  co_return true;
}

Task<Result<void>> Recovery::verify_tail() {
  auto first = std::partition_point(batches_.begin(), batches_.end(), [this](const Batch& batch) {
    return batch.batch < durable_.next_batch;
  });
  for (auto it = first; it != batches_.end(); ++it) {
    auto held = co_await equalise(*it);
    if (!held) co_return held.error();
    if (*held) continue;
    tail_ = LogPosition{it->segment, it->block, it->batch, it->parent};
    batches_.erase(it, batches_.end());
    break;
  }
  co_return Result<void>{};
}

// The segment in which the log goes on may have been sealed, when what the power took was in it.
// Its trailer would be believed once the log has gone on and died in the middle of another such
// end.
Task<void> Recovery::drop_stale_trailers() {
  if (tail_.segment.value == 0) co_return;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!readable(copy)) continue;
    Buffer block = co_await single_blocks_.allocate(kBlockSize);
    auto read = co_await store_.read(copy, tail_.segment, kTrailerBlock, block);
    const bool is_there = read ? decode_trailer(block.span(), disk_, tail_.segment).has_value()
                               : read.error().code != Errc::kCorrupt;  // The file ends before it.
    if (!is_there || !readable(copy)) continue;
    block = Buffer();
    Buffer nothing = co_await single_blocks_.allocate(kBlockSize);
    std::memset(nothing.data(), 0, kBlockSize);
    // A copy that can't take it is out of the set.
    static_cast<void>(co_await store_.repair(copy, tail_.segment, kTrailerBlock, nothing));
  }
}

Task<Result<RecoveredLog>> Recovery::run(std::optional<LogPosition> from, LogReplay& replay) {
  const SegmentSeq first = from ? from->segment : SegmentSeq(0);
  if (auto read = co_await read_headers(first); !read) co_return read.error();
  if (from && from->segment.value != 0 && headers_.count(from->segment) == 0) {
    const bool there =
        std::find(headless_.begin(), headless_.end(), from->segment) != headless_.end();
    if (there) {
      co_return fail(Errc::kIo,
                     "the header of segment {}, where the checkpoint stands, is unreadable on "
                     "every replica in sync: restore a replica that has it",
                     from->segment.value);
    }
    co_return fail(Errc::kCorrupt, "segment {}, where the checkpoint stands, is missing",
                   from->segment.value);
  }
  const bool has_index = from.has_value();
  if (headers_.empty()) {
    if (auto judged = co_await judge_headless(SegmentSeq(0), has_index); !judged) {
      co_return judged.error();
    }
    result_.next_write = WriteSeq(1);
    result_.epoch = Epoch(1);
    co_return std::move(result_);
  }
  LogPosition start;
  if (from && from->segment.value != 0) {
    start = headers_.at(from->segment).start;
  } else {
    start = from ? headers_.begin()->second.start : start_without_index();
    from = start;
  }
  if (auto judged = co_await judge_headless(start.segment, has_index); !judged) {
    co_return judged.error();
  }
  if (auto walked = co_await walk(start, *from); !walked) co_return walked.error();
  // Headers and descriptors know of durability a flush late; a checkpoint comes after its own. A
  // batch before it that no copy holds whole is damage, told by those who read it, and not the end.
  if (durable_.before(*from)) durable_ = *from;
  if (auto checked = co_await check_nothing_durable_follows(); !checked) co_return checked.error();
  if (auto verified = co_await verify_tail(); !verified) co_return verified.error();
  co_await equalise_headers();
  co_await drop_stale_trailers();

  // What survived the process need not survive the machine yet; nothing is built on it before it
  // does.
  result_.durable = durable_;
  bool any = false;
  for (const SegmentSeq segment : reached_) {
    if (segment < result_.durable.segment || segment > tail_.segment) continue;
    co_await store_.adopt(segment);
    any = true;
  }
  Result<void> flushed;
  if (any) flushed = co_await store_.flush();
  if (flushed) {
    result_.durable = tail_;
  } else if (flushed.error().code != Errc::kReplicasLost) {
    co_return flushed.error();  // With too few copies the disk still reads.
  }

  result_.tail = tail_;
  result_.replayed_from = *from;
  result_.next_write = WriteSeq(1);
  result_.epoch = Epoch(1);
  result_.contents.segment = tail_.segment;
  result_.contents.end = tail_;
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    const Batch& batch = batches_[i];
    const bool replayed = i >= first_replayed_;
    if (batch.segment == tail_.segment) {
      for (const LogEntry& entry : batch.entries) {
        result_.contents.entries.push_back(entry);
        if (!has_payload(entry.kind)) continue;
        const auto sums = batch.checksums_of(entry);
        auto& all = result_.contents.checksums;
        all.insert(all.end(), sums.begin(), sums.end());
      }
    }
    for (const LogEntry& entry : batch.entries) {
      result_.next_write = std::max(result_.next_write, entry.write.next());
    }
    result_.epoch = std::max(result_.epoch, batch.epoch);
    if (!replayed) continue;
    replay.apply(batch);
    ++result_.replayed_batches;
    auto paused = co_await replay.after_batch(batch.end(), result_.next_write);
    if (!paused) co_return paused.error();
  }
  for (const auto& [segment, header] : headers_) {
    const bool before_start = segment < start.segment;
    if (before_start || (reached_.count(segment) != 0 && segment <= tail_.segment)) continue;
    result_.unreachable.push_back(segment);
  }
  co_return std::move(result_);
}

}  // namespace

Task<Result<RecoveredLog>> recover_log(SegmentStore& store, LogMemory memory, DiskTag disk,
                                       std::optional<LogPosition> from, LogReplay& replay) {
  Recovery recovery(store, memory, disk);
  co_return co_await recovery.run(from, replay);
}

}  // namespace clouddisk
