#include "engine/log/disk_log.h"

#include <algorithm>
#include <cstring>

#include "engine/base/checksum.h"
#include "engine/base/log.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kStagingBlocks = 512_KiB / kBlockSize;
constexpr std::uint32_t kStagedBlocksMax = kStagingBlocks - kDescriptorBlocksMax;
constexpr std::uint64_t kQueuedBlocksMax = 8_MiB / kBlockSize;
constexpr std::uint32_t kPrepareAtBlock = kSegmentBlocks / 2;
constexpr std::uint32_t kAllocateAheadBlocks = 4_MiB / kBlockSize;  // some ms of appends

void add_checksums(std::span<const std::byte> blocks, std::vector<std::uint64_t>& checksums) {
  for (std::size_t at = 0; at < blocks.size(); at += kBlockSize) {
    checksums.push_back(checksum64(blocks.subspan(at, kBlockSize)));
  }
}

}  // namespace

DiskLog::DiskLog(SegmentStore& store, Memory memory, DiskTag disk, Options options, Apply apply)
    : store_(store),
      pool_(memory.batches),
      headers_(memory.headers),
      ring_(store.ring()),
      disk_(disk),
      options_(options),
      apply_(std::move(apply)),
      progress_(ring_),
      joining_(ring_),
      background_(ring_) {}

DiskLog::~DiskLog() {
  CHECK(background_.count() == 0);
}

Task<Result<std::unique_ptr<DiskLog>>> DiskLog::start(SegmentStore& store, Memory memory,
                                                      DiskTag disk, RecoveredLog recovered,
                                                      WriteSeq next_write, Epoch epoch,
                                                      Options options, Apply apply) {
  std::unique_ptr<DiskLog> log(new DiskLog(store, memory, disk, options, std::move(apply)));
  for (const SegmentSeq segment : recovered.unreachable) {
    auto removed = co_await store.remove(segment);
    if (removed) continue;
    if (removed.error().code != Errc::kReplicasLost) {
      co_return fail(removed.error(), "remove segment {}, begun after the end of the log",
                     segment.value);
    }
    // The disk reads all the same. They go before anything is written behind what they follow.
    log->abandoned_.push_back(segment);
    log->broken_ = true;
  }
  log->next_ = log->acked_ = recovered.tail;
  log->durable_ = recovered.durable;
  if (log->next_.next_batch.value == 0) {
    log->next_.next_batch = log->acked_.next_batch = log->durable_.next_batch = BatchSeq(1);
  }
  log->next_write_ = log->acked_next_write_ = next_write;
  log->epoch_ = epoch;
  log->newest_ = recovered.newest;
  log->active_.segment = recovered.tail.segment;
  log->active_.contents = std::move(recovered.contents);
  log->active_.entries = log->active_.contents.entries.size();
  log->active_.checksums = log->active_.contents.checksums.size();
  co_return log;
}

// --- Gathering ---

Task<Result<void>> DiskLog::append_write(Lba lba, Buffer blocks) {
  const auto count = static_cast<std::uint32_t>(blocks.size() / kBlockSize);
  CHECK(count > 0 && count <= kBatchPayloadBlocksMax && blocks.size() % kBlockSize == 0);
  const bool copied = blocks.size() <= kCopyMax;
  PendingRef pending;
  if (copied) pending = try_append_write(lba, blocks.span());
  if (!pending) {
    const auto guard = co_await joining_.lock();
    auto joined = co_await join(1, count, copied);
    if (!joined) co_return joined.error();
    pending = std::move(*joined);
    const LogEntry entry = next_entry(EntryKind::kWrite, lba, count);
    if (copied) {
      place_copied(*pending, entry, blocks.span());
    } else {
      place_referenced(*pending, entry, blocks);
    }
  }
  while (!pending->finished) co_await pending->ended.wait();
  co_return pending->result;
}

DiskLog::PendingRef DiskLog::try_append_write(Lba lba, std::span<const std::byte> blocks) {
  const auto count = static_cast<std::uint32_t>(blocks.size() / kBlockSize);
  CHECK(count > 0 && blocks.size() <= kCopyMax && blocks.size() % kBlockSize == 0);
  PendingRef pending = try_join(1, count, true);
  if (pending) place_copied(*pending, next_entry(EntryKind::kWrite, lba, count), blocks);
  return pending;
}

LogEntry DiskLog::next_entry(EntryKind kind, Lba lba, std::uint64_t count) {
  LogEntry entry;
  entry.kind = kind;
  entry.lba = lba;
  entry.count = count;
  entry.write = next_write_;
  next_write_ = next_write_.next();
  return entry;
}

Task<Result<void>> DiskLog::append_range(EntryKind kind, Lba lba, std::uint64_t count) {
  CHECK(kind == EntryKind::kZero || kind == EntryKind::kTrim);
  auto guard = co_await joining_.lock();
  auto pending = co_await join(1, 0, true);
  if (!pending) co_return pending.error();
  (*pending)->batch.entries.push_back(next_entry(kind, lba, count));
  guard.unlock();
  co_return co_await finish(*pending);
}

Task<Result<void>> DiskLog::append_relocated(std::vector<LogEntry>& entries, SegmentSeq& segment,
                                             Buffer blocks) {
  std::uint32_t count = 0;
  for (const LogEntry& entry : entries) {
    CHECK(is_relocated(entry.kind));
    if (has_payload(entry.kind)) count += static_cast<std::uint32_t>(entry.count);
  }
  CHECK(count <= kBatchPayloadBlocksMax && entries.size() <= kBatchEntriesMax);
  CHECK(count * kBlockSize == blocks.size());
  auto guard = co_await joining_.lock();
  auto joined = co_await join(entries.size(), count, false);
  if (!joined) co_return joined.error();
  Pending& pending = **joined;
  const std::size_t first = pending.batch.entries.size();
  std::size_t at = 0;
  for (const LogEntry& entry : entries) {
    if (!has_payload(entry.kind)) {
      pending.batch.entries.push_back(entry);
      continue;
    }
    const std::size_t size = entry.count * kBlockSize;
    place_referenced(pending, entry, blocks.slice(at, size));
    at += size;
  }
  guard.unlock();
  const PendingRef kept = *joined;
  auto result = co_await finish(kept);
  if (!result) co_return result;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i].block = kept->batch.entries[first + i].block;
  }
  segment = kept->batch.segment;
  co_return result;
}

bool DiskLog::fits(const Pending& pending, std::size_t entries, std::uint32_t blocks, bool copied) {
  if (pending.batch.entries.size() + entries > kBatchEntriesMax) return false;
  if (pending.payload_blocks() + blocks > kBatchPayloadBlocksMax) return false;
  return !copied || pending.staged_blocks + blocks <= kStagedBlocksMax;
}

DiskLog::PendingRef DiskLog::try_join(std::size_t entries, std::uint32_t blocks, bool copied) {
  if (closed_ || joining_.locked() || joining_.awaited()) return nullptr;
  if (queued_blocks_ >= kQueuedBlocksMax) return nullptr;
  if (queue_.empty() || !fits(*queue_.back(), entries, blocks, copied)) {
    if (pool_.awaited()) return nullptr;
    Buffer staging = pool_.try_allocate(kStagingBlocks * kBlockSize);
    if (!staging) return nullptr;
    queue_.push_back(std::make_shared<Pending>(ring_, std::move(staging)));
  }
  return count_in(blocks);
}

Task<Result<DiskLog::PendingRef>> DiskLog::join(std::size_t entries, std::uint32_t blocks,
                                                bool copied) {
  while (!closed_ && queued_blocks_ >= kQueuedBlocksMax) co_await progress_.wait();
  if (!closed_ && (queue_.empty() || !fits(*queue_.back(), entries, blocks, copied))) {
    Buffer staging = co_await pool_.allocate(kStagingBlocks * kBlockSize);
    if (closed_) co_return fail(Errc::kShutdown, "the disk is being closed");
    // Meanwhile the queue may have moved on; only its end matters, and only we add to it.
    queue_.push_back(std::make_shared<Pending>(ring_, std::move(staging)));
  }
  if (closed_) co_return fail(Errc::kShutdown, "the disk is being closed");
  co_return count_in(blocks);
}

DiskLog::PendingRef DiskLog::count_in(std::uint32_t blocks) {
  queued_blocks_ += blocks;
  flush_if_due();  // After one that failed at the bound nothing else would begin another.
  kick();
  return queue_.back();
}

// Both book the checksums of the payload.
void DiskLog::place_copied(Pending& pending, LogEntry entry, std::span<const std::byte> blocks) {
  const auto into = pending.staging.span().subspan(
      (kDescriptorBlocksMax + pending.staged_blocks) * kBlockSize, blocks.size());
  std::memcpy(into.data(), blocks.data(), blocks.size());
  add_checksums(into, pending.batch.checksums);
  entry.block = pending.staged_blocks;
  pending.staged_blocks += static_cast<std::uint32_t>(entry.count);
  pending.batch.entries.push_back(entry);
}

void DiskLog::place_referenced(Pending& pending, LogEntry entry, const Buffer& blocks) {
  add_checksums(blocks.span(), pending.referenced_checksums);
  entry.block = pending.referenced_blocks;
  pending.referenced_blocks += static_cast<std::uint32_t>(entry.count);
  pending.referenced.push_back(blocks);
  pending.referenced_entries.push_back(static_cast<std::uint32_t>(pending.batch.entries.size()));
  pending.batch.entries.push_back(entry);
}

Task<Result<void>> DiskLog::finish(PendingRef pending) {
  while (!pending->finished) co_await pending->ended.wait();
  co_return pending->result;
}

// --- Launching ---

void DiskLog::kick() {
  if (pumping_) return;
  pumping_ = true;
  background_.add();
  spawn(pump());
}

bool DiskLog::may_launch() const {
  if (queue_.empty() || holds_ > 0) return false;
  if (broken_) return in_flight_.empty();
  if (acked_bytes_ - durable_bytes_ >= options_.unflushed_bytes_max) return false;
  if (in_flight_.empty()) return true;
  return in_flight_.size() < options_.batches_in_flight &&
         queued_blocks_ * kBlockSize >= options_.parallel_bytes_min;
}

Task<void> DiskLog::pump() {
  co_await ring_.yield();  // Whatever else is ready to write joins first.
  while (roll_wanted_ || may_launch()) {
    if (roll_wanted_ && !broken_) {
      roll_result_ = Result<void>{};
      if (active_.segment.value != 0) roll_result_ = co_await begin_segment(next_);
      roll_wanted_ = false;
      progress_.wake_all();
      continue;
    }
    if (broken_) {
      if (!in_flight_.empty()) break;
      if (auto mended = co_await mend(); !mended) {
        roll_result_ = mended;
        roll_wanted_ = false;
        fail_queue(mended.error());
        progress_.wake_all();
        break;
      }
      continue;
    }
    const PendingRef pending = queue_.front();
    CHECK(!pending->batch.entries.empty());
    if (!has_room(*pending)) {
      auto room = co_await make_room(*pending);
      // A flush that failed may have ended everything that waited.
      if (queue_.empty() || queue_.front() != pending) continue;
      if (!room) {
        queue_.pop_front();
        queued_blocks_ -= pending->payload_blocks();
        end_pending(*pending, room);
      }
      continue;  // It may have grown meanwhile: look again.
    }
    queue_.pop_front();
    launch(pending);
  }
  pumping_ = false;
  background_.done();
}

// From where the next batch begins, with the footer that the segment needs after it.
std::uint32_t DiskLog::blocks_wanted(const Pending& pending) const {
  const std::uint32_t payload = pending.payload_blocks();
  return descriptor_blocks_for(pending.batch.entries.size(), payload) + payload +
         footer_blocks_for(active_.entries + pending.batch.entries.size(),
                           active_.checksums + payload);
}

bool DiskLog::has_room(const Pending& pending) const {
  if (active_.segment.value == 0) return false;
  const std::uint32_t end = next_.block + blocks_wanted(pending);
  return end <= kTrailerBlock && store_.has_space(active_.segment, end);
}

Task<Result<void>> DiskLog::make_room(const Pending& pending) {
  if (active_.segment.value == 0 || next_.block + blocks_wanted(pending) > kTrailerBlock) {
    co_return co_await begin_segment(next_);
  }
  co_return co_await store_.ensure_space(active_.segment, next_.block + blocks_wanted(pending));
}

Task<Result<void>> DiskLog::begin_segment(LogPosition after) {
  if (before_segments_) co_await before_segments_();
  while (preparing_ || allocating_) co_await progress_.wait();
  const bool prepared = prepared_.value != 0 && !roll_wanted_ && !broken_;
  if (prepared_.value != 0 && !prepared) {
    // It was made for the copies of its time.
    const SegmentSeq unused = std::exchange(prepared_, SegmentSeq(0));
    if (auto removed = co_await store_.remove(unused); !removed) co_return removed.error();
  }
  const SegmentSeq segment = prepared ? std::exchange(prepared_, SegmentSeq(0)) : newest_.next();
  newest_ = std::max(newest_, segment);
  SegmentHeader header;
  header.disk = disk_;
  header.segment = segment;
  header.start = LogPosition{segment, kFirstBatchBlock, after.next_batch, after.chain};
  header.durable = durable_;
  header.created_ns = static_cast<std::uint64_t>(ring_.wall_now().time_since_epoch().count());
  Buffer block = co_await headers_.allocate(kBlockSize);
  encode_header(header, block.span());
  Result<void> begun;
  if (prepared) {
    auto data = std::make_shared<AppendData>();
    data->pieces.push_back({block.data(), block.size()});
    data->keep_alive.push_back(block);
    begun = co_await store_.append(segment, 0, data);
  } else {
    begun = co_await store_.create(segment, block);
  }
  if (!begun) co_return fail(begun.error(), "begin segment {}", segment.value);
  if (active_.segment.value != 0) {
    active_.end = after;
    active_.contents.end = after;
    sealing_.push_back(std::move(active_));
  }
  active_ = Segment{};
  active_.segment = segment;
  active_.contents.segment = segment;
  begun_.push_back(segment);
  next_ = header.start;
  seal_what_is_acked();
  co_return Result<void>{};
}

// After a failed batch: the log ends at acked_, and goes on from there in a new segment. Segments
// that were begun after that point hold nothing that was acknowledged.
Task<Result<void>> DiskLog::mend() {
  CHECK(in_flight_.empty());
  if (active_.segment > acked_.segment) {
    abandoned_.push_back(active_.segment);
    while (!sealing_.empty() && sealing_.back().segment > acked_.segment) {
      abandoned_.push_back(sealing_.back().segment);
      sealing_.pop_back();
    }
    active_ = Segment{};
    if (!sealing_.empty() && sealing_.back().segment == acked_.segment) {
      active_ = std::move(sealing_.back());
      sealing_.pop_back();
    }
  }
  next_ = acked_;
  if (auto begun = co_await begin_segment(acked_); !begun) co_return begun.error();
  while (!abandoned_.empty()) {
    if (auto removed = co_await store_.remove(abandoned_.back()); !removed)
      co_return removed.error();
    std::erase(begun_, abandoned_.back());
    abandoned_.pop_back();
  }
  broken_ = false;
  co_return Result<void>{};
}

void DiskLog::launch(PendingRef pending) {
  Batch& batch = pending->batch;
  batch.payload_blocks = pending->payload_blocks();
  queued_blocks_ -= batch.payload_blocks;
  batch.descriptor_blocks = descriptor_blocks_for(batch.entries.size(), batch.payload_blocks);
  batch.segment = next_.segment;
  batch.block = next_.block;
  batch.batch = next_.next_batch;
  batch.parent = next_.chain;
  batch.epoch = epoch_;
  batch.wall_ns = static_cast<std::uint64_t>(ring_.wall_now().time_since_epoch().count());
  batch.durable = durable_;
  for (LogEntry& entry : batch.entries) {
    if (has_payload(entry.kind)) entry.block += batch.payload_start();
    if (!is_relocated(entry.kind)) entry.epoch = epoch_;
  }
  for (const std::uint32_t index : pending->referenced_entries) {
    batch.entries[index].block += pending->staged_blocks;
  }
  batch.checksums.insert(batch.checksums.end(), pending->referenced_checksums.begin(),
                         pending->referenced_checksums.end());
  const std::size_t descriptor_at = (kDescriptorBlocksMax - batch.descriptor_blocks) * kBlockSize;
  encode_descriptor(
      batch, disk_,
      pending->staging.span().subspan(descriptor_at, batch.descriptor_blocks * kBlockSize));
  next_ = batch.end();
  active_.entries += batch.entries.size();
  active_.checksums += batch.payload_blocks;
  ++batch_count_;

  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({pending->staging.data() + descriptor_at,
                          (batch.descriptor_blocks + pending->staged_blocks) * kBlockSize});
  data->keep_alive.push_back(std::move(pending->staging));
  for (Buffer& buffer : pending->referenced) {
    data->pieces.push_back({buffer.data(), buffer.size()});
    data->keep_alive.push_back(std::move(buffer));
  }
  pending->referenced.clear();
  in_flight_.push_back(pending);
  background_.add();
  spawn(write(std::move(pending), std::move(data)));
  prepare_if_due();
  allocate_if_due();
}

Task<void> DiskLog::write(PendingRef pending, std::shared_ptr<const AppendData> data) {
  pending->result =
      co_await store_.append(pending->batch.segment, pending->batch.block, std::move(data));
  pending->written = true;
  acknowledge();
  background_.done();
}

void DiskLog::acknowledge() {
  while (!in_flight_.empty() && in_flight_.front()->written) {
    const PendingRef pending = std::move(in_flight_.front());
    in_flight_.pop_front();
    if (broken_ && pending->result) {
      pending->result = fail(Errc::kReplicasLost, "a write before it failed on too many replicas");
    }
    if (!pending->result) {
      broken_ = true;
      end_pending(*pending, pending->result);
      continue;
    }
    record(pending->batch);
    apply_(pending->batch);
    end_pending(*pending, Result<void>{});
  }
  seal_what_is_acked();
  flush_if_due();
  if (!queue_.empty() || roll_wanted_) kick();
}

void DiskLog::record(const Batch& batch) {
  acked_ = batch.end();
  acked_bytes_ += (batch.descriptor_blocks + batch.payload_blocks) * kBlockSize;
  Segment* segment = &active_;
  for (Segment& candidate : sealing_) {
    if (candidate.segment == batch.segment) segment = &candidate;
  }
  CHECK(segment->segment == batch.segment);
  Footer& contents = segment->contents;
  contents.end = acked_;
  for (const LogEntry& entry : batch.entries) {
    contents.entries.push_back(entry);
    if (!is_relocated(entry.kind)) {
      acked_next_write_ = std::max(acked_next_write_, entry.write.next());
    }
    if (!has_payload(entry.kind)) continue;
    const auto checksums = batch.checksums_of(entry);
    contents.checksums.insert(contents.checksums.end(), checksums.begin(), checksums.end());
  }
}

void DiskLog::end_pending(Pending& pending, Result<void> result) {
  pending.result = std::move(result);
  pending.finished = true;
  pending.ended.wake_all();
  progress_.wake_all();
}

void DiskLog::fail_queue(const Error& error) {
  while (!queue_.empty()) {
    const PendingRef pending = std::move(queue_.front());
    queue_.pop_front();
    queued_blocks_ -= pending->payload_blocks();
    end_pending(*pending, error);
  }
}

// --- Sealing and preparing ---

void DiskLog::seal_what_is_acked() {
  while (!sealing_.empty() && sealing_.front().end.next_batch <= acked_.next_batch) {
    background_.add();
    being_sealed_.insert(sealing_.front().segment);
    spawn(seal(std::move(sealing_.front())));
    sealing_.pop_front();
  }
}

// A segment that can't be sealed is read batch by batch later on: slower, never wrong.
Task<void> DiskLog::seal(Segment segment) {
  auto result = co_await write_footer(segment.contents);
  if (!result) {
    log(LogLevel::kWarning, "log", "segment {} stays unsealed: {}", segment.segment.value,
        result.error().message);
  }
  being_sealed_.erase(segment.segment);
  progress_.wake_all();
  background_.done();
}

Task<Result<void>> DiskLog::write_footer(const Footer& contents) {
  const SegmentSeq segment = contents.segment;
  Trailer trailer;
  trailer.segment = segment;
  trailer.end = contents.end;
  trailer.footer_block = contents.end.block;
  trailer.footer_blocks = footer_blocks_for(contents.entries.size(), contents.checksums.size());
  trailer.oldest_write = oldest_write(contents);
  // Encoded whole, written in pieces that the pool can give.
  std::vector<std::byte> body(std::size_t{trailer.footer_blocks} * kBlockSize);
  trailer.footer_checksum = encode_footer(contents, disk_, body);
  Result<void> result;
  constexpr std::size_t kPiece = BufferPool::kLargest;
  for (std::size_t at = 0; at < body.size() && result; at += kPiece) {
    Buffer piece = co_await pool_.allocate(std::min(kPiece, body.size() - at));
    std::memcpy(piece.data(), body.data() + at, piece.size());
    auto data = std::make_shared<AppendData>();
    data->pieces.push_back({piece.data(), piece.size()});
    data->keep_alive.push_back(piece);
    const auto block = static_cast<std::uint32_t>(trailer.footer_block + at / kBlockSize);
    result = co_await store_.append(segment, block, std::move(data));
  }
  if (result) {
    Buffer block = co_await pool_.allocate(kBlockSize);
    encode_trailer(trailer, disk_, block.span());
    auto data = std::make_shared<AppendData>();
    data->pieces.push_back({block.data(), block.size()});
    data->keep_alive.push_back(block);
    result = co_await store_.append(segment, kTrailerBlock, std::move(data));
  }
  co_return result;
}

std::vector<SegmentSeq> DiskLog::take_begun() {
  const auto kept = std::partition(begun_.begin(), begun_.end(), [this](SegmentSeq segment) {
    return segment <= acked_.segment;
  });
  std::vector<SegmentSeq> taken(begun_.begin(), kept);
  begun_.erase(begun_.begin(), kept);
  return taken;
}

SegmentSeq DiskLog::oldest_in_use() const {
  SegmentSeq oldest = active_.segment;
  if (!sealing_.empty()) oldest = std::min(oldest, sealing_.front().segment);
  if (!being_sealed_.empty()) oldest = std::min(oldest, *being_sealed_.begin());
  return oldest;
}

void DiskLog::prepare_if_due() {
  if (closed_ || preparing_ || prepared_.value != 0 || next_.block < kPrepareAtBlock) return;
  preparing_ = true;
  background_.add();
  spawn(prepare_next());
}

Task<void> DiskLog::prepare_next() {
  const SegmentSeq segment = newest_.next();
  Buffer blank = co_await headers_.allocate(kBlockSize);
  std::memset(blank.data(), 0, blank.size());  // No header: recovery knows it was never begun.
  auto made = co_await store_.create(segment, blank);
  if (made) {
    newest_ = segment;
    prepared_ = segment;
  }
  preparing_ = false;
  progress_.wake_all();
  background_.done();
}

// Space in the active segment is had before the appends get there, so that they need not wait.
void DiskLog::allocate_if_due() {
  if (closed_ || allocating_) return;
  const std::uint32_t end = std::min(next_.block + kAllocateAheadBlocks, kSegmentBlocks);
  if (store_.has_space(active_.segment, end)) return;
  allocating_ = true;
  background_.add();
  spawn(allocate_ahead(active_.segment, end));
}

// A failure is told to the append that needs the space; it may have come by then (I9).
Task<void> DiskLog::allocate_ahead(SegmentSeq segment, std::uint32_t end_block) {
  static_cast<void>(co_await store_.ensure_space(segment, end_block));
  allocating_ = false;
  progress_.wake_all();
  background_.done();
}

// --- Flushing ---

Task<Result<void>> DiskLog::flush() {
  const BatchSeq target = acked_.next_batch;
  while (durable_.next_batch < target) {
    if (flushing_) {  // That one may have begun before our last append returned.
      co_await progress_.wait();
      continue;
    }
    flushing_ = true;
    const LogPosition mark = acked_;
    const std::uint64_t mark_bytes = acked_bytes_;
    auto flushed = co_await store_.flush();
    flushing_ = false;
    if (flushed) {
      durable_ = mark;
      durable_bytes_ = mark_bytes;
    }
    progress_.wake_all();
    if (!queue_.empty()) kick();
    if (!flushed) co_return flushed;
  }
  co_return Result<void>{};
}

void DiskLog::flush_if_due() {
  if (flushing_ || flush_begins_) return;
  if (acked_bytes_ - durable_bytes_ < options_.flush_bytes_max) return;
  flush_begins_ = true;
  background_.add();
  spawn(flush_in_background());
}

Task<void> DiskLog::flush_in_background() {
  co_await ring_.yield();  // It may fail at once, and end what its caller is about to queue.
  flush_begins_ = false;
  auto flushed = co_await flush();
  if (!flushed && acked_bytes_ - durable_bytes_ >= options_.unflushed_bytes_max) {
    fail_queue(flushed.error());  // They would wait for ever.
  }
  background_.done();
}

// --- Life ---

void DiskLog::set_epoch(Epoch epoch) {
  CHECK(epoch > epoch_);
  epoch_ = epoch;
}

Task<void> DiskLog::settle_epoch() {
  const Epoch epoch = epoch_;
  while (!in_flight_.empty() && in_flight_.front()->batch.epoch < epoch) {
    co_await progress_.wait();
  }
}

void DiskLog::release() {
  CHECK(holds_ > 0);
  if (--holds_ == 0) kick();
}

Task<void> DiskLog::quiesce() {
  while (!queue_.empty() || !in_flight_.empty()) co_await progress_.wait();
}

Task<Result<void>> DiskLog::roll() {
  roll_wanted_ = true;
  kick();
  while (roll_wanted_) co_await progress_.wait();
  const Result<void> result = roll_result_;
  if (!result) co_return result;
  while (!sealing_.empty() || !being_sealed_.empty()) {
    if (broken_ && in_flight_.empty() && queue_.empty()) break;
    co_await progress_.wait();
  }
  co_return Result<void>{};
}

Task<void> DiskLog::close() {
  closed_ = true;
  progress_.wake_all();
  co_await quiesce();
  co_await background_.wait();
  if (prepared_.value != 0) {
    static_cast<void>(co_await store_.remove(std::exchange(prepared_, SegmentSeq(0))));
  }
}

}  // namespace clouddisk
