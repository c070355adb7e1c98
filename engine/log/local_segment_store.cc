#include "engine/log/local_segment_store.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "engine/base/log.h"
#include "engine/base/variant.h"
#include "engine/log/removed_disks.h"

namespace clouddisk {
namespace {

constexpr std::string_view kSegmentPrefix = "segment-";
constexpr std::string_view kSparePrefix = "spare-";

std::string disk_folder(const std::string& replica_folder, const std::string& disk_id) {
  return replica_folder + "/disks/" + disk_id;
}

std::optional<std::uint64_t> number_after(std::string_view name, std::string_view prefix,
                                          int base) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value, base);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return value;
}

bool in_mask(ReplicaMask mask, unsigned copy) {
  return (mask >> copy & 1U) != 0;
}

// The first `size` bytes of an append in memory of its own, to be damaged for one copy alone.
struct PrivateAppend : AppendData {
  PrivateAppend(const AppendData& original, std::uint64_t size)
      : memory(static_cast<std::byte*>(std::aligned_alloc(kBlockSize, size))) {
    CHECK(memory != nullptr && size > 0 && size <= original.size());
    std::uint64_t done = 0;
    for (const iovec& piece : original.pieces) {
      const std::uint64_t part = std::min<std::uint64_t>(piece.iov_len, size - done);
      std::memcpy(memory.get() + done, piece.iov_base, part);
      done += part;
    }
    pieces.push_back({memory.get(), size});
  }
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte, Free> memory;
};

}  // namespace

LocalSegmentStore::LocalSegmentStore(Ring& ring, ReplicaSet& replicas, FileCache& files,
                                     std::string disk_id, Options options)
    : ring_(ring),
      replicas_(replicas),
      files_(files),
      disk_id_(std::move(disk_id)),
      options_(options),
      owner_(files.new_owner()),
      idle_(ring) {}

std::string LocalSegmentStore::folder(unsigned copy) const {
  return disk_folder(replicas_.folder(copy), disk_id_);
}
std::string LocalSegmentStore::path(unsigned copy, SegmentSeq segment) const {
  return fmt::format("{}/{}{:016x}", folder(copy), kSegmentPrefix, segment.value);
}
std::string LocalSegmentStore::spare_path(unsigned copy, std::uint64_t spare) const {
  return fmt::format("{}/{}{}", folder(copy), kSparePrefix, spare);
}

Task<Result<void>> LocalSegmentStore::open() {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(writable(), copy)) continue;
    auto made = co_await make_folder(copy);
    if (!made) {
      if (auto dropped = co_await replicas_.drop(ring_, copy, made.error().message); !dropped) {
        co_return dropped.error();
      }
      continue;
    }
    auto names = co_await ring_.list(folder(copy));
    if (!names) continue;  // Found out, and acted on, by the first real use.
    for (const std::string& name : *names) {
      const auto spare = number_after(name, kSparePrefix, 10);
      if (!spare || *spare >= 0xffff'ffff) continue;
      spares_[static_cast<std::uint32_t>(*spare)] |= 1U << copy;
      next_spare_ = std::max(next_spare_, static_cast<std::uint32_t>(*spare) + 1);
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::make_folder(unsigned copy) {
  if (auto made = co_await ring_.make_directories(folder(copy)); !made) co_return made.error();
  const std::string disks = replicas_.folder(copy) + "/disks";
  if (auto synced = co_await ring_.sync_directory(disks); !synced) co_return synced.error();
  if (auto synced = co_await ring_.sync_directory(replicas_.folder(copy)); !synced) {
    co_return synced.error();
  }
  auto info = co_await ring_.stat(folder(copy));
  if (!info) co_return info.error();
  devices_[copy] = info->device;
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::remove_disk(Ring& ring, ReplicaSet& replicas,
                                                  std::string disk_id) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    const bool expected = in_mask(replicas.in_sync_mask() | replicas.receiving_mask(), copy);
    // A copy that is out of the set loses what it holds too much when it is resynced.
    if (!expected) continue;
    auto removed = co_await set_aside(ring, replicas.folder(copy), disk_id);
    // Setting aside makes names, for which a full device may have no space; removing does not.
    if (!removed) removed = co_await ring.remove_tree(disk_folder(replicas.folder(copy), disk_id));
    if (removed) continue;
    if (auto dropped = co_await replicas.drop(ring, copy, removed.error().message); !dropped) {
      replicas.note_removed();
      co_return dropped.error();
    }
  }
  replicas.note_removed();
  co_return Result<void>{};
}

void LocalSegmentStore::close() {
  files_.forget_owner(owner_);
}

Task<Result<FileCache::FileRef>> LocalSegmentStore::file(unsigned copy, SegmentSeq segment) {
  const FileKey key{owner_, copy, segment.value};
  if (auto found = files_.find(key)) co_return found;
  co_return co_await files_.open(key, path(copy, segment), OpenOptions{});
}

// --- Steps on several copies ---

Task<LocalSegmentStore::OutcomeRef> LocalSegmentStore::on_copies(ReplicaMask copies, Step step,
                                                                 SegmentSeq segment,
                                                                 std::uint32_t block,
                                                                 DataRef data) {
  auto outcome = std::make_shared<Outcome>(ring_);
  outcome->tried = copies;
  outcome->under_way = static_cast<unsigned>(std::popcount(copies));
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(copies, copy)) continue;
    spawn(run_step(shared_from_this(), outcome, copy, step, segment, block, data));
  }
  const TimePoint deadline = ring_.now() + options_.stall_max;
  while (outcome->under_way > 0) {
    if (broken(Variant::kAcknowledgeEarly) && outcome->succeeded != 0 && data) break;
    const bool woken = co_await outcome->finished.wait_until(deadline);
    if (!woken && outcome->under_way > 0) break;
  }
  if (outcome->under_way > 0) {
    // What hangs on purpose is not carried out any more, so it needs no memory.
    outcome->given_up = true;
    outcome->held = {};
  }
  co_return outcome;
}

Task<void> LocalSegmentStore::run_step(std::shared_ptr<LocalSegmentStore> self, OutcomeRef outcome,
                                       unsigned copy, Step step, SegmentSeq segment,
                                       std::uint32_t block, DataRef data) {
  ++self->under_way_[copy];
  Result<void> result;
  if (self->has_faults()) {
    result = co_await self->faulty_step(outcome, copy, step, segment, block, std::move(data));
  } else {
    result = co_await ((*self).*step)(copy, segment, block, std::move(data));
  }
  if (result) {
    outcome->succeeded |= 1U << copy;
  } else {
    outcome->errors[copy] = result.error();
  }
  if (--outcome->under_way == 0) outcome->finished.wake_all();
  if (broken(Variant::kAcknowledgeEarly)) outcome->finished.wake_all();
  if (--self->under_way_[copy] == 0) self->idle_.wake_all();
}

FaultPlan& LocalSegmentStore::faults() {
  if (!faults_) faults_ = std::make_unique<FaultPlan>(ring_);
  return *faults_;
}

Task<void> LocalSegmentStore::end_faults() {
  if (!faults_) co_return;
  faults_->clear();
  static_cast<void>(co_await faults_->wait_for_passes(ring_.now() + options_.stall_max));
}

Task<Result<void>> LocalSegmentStore::faulty_step(OutcomeRef outcome, unsigned copy, Step step,
                                                  SegmentSeq segment, std::uint32_t block,
                                                  DataRef data) {
  const bool appends = step == &LocalSegmentStore::append_on;
  const bool flushes = step == &LocalSegmentStore::flush_on;
  const bool takes_space =
      step == &LocalSegmentStore::create_on || step == &LocalSegmentStore::allocate_on;
  if (!appends && !flushes && !takes_space) {
    co_return co_await (this->*step)(copy, segment, block, std::move(data));
  }
  FaultTarget target;
  target.op = flushes ? kFaultFlush : kFaultWrite;
  target.replica = copy;
  target.length = appends ? data->size() : 0;
  target.has_data = appends;
  target.may_lose = appends || flushes;
  target.takes_space = takes_space;
  outcome->held[copy] = std::move(data);
  const FaultEffect effect = co_await faults_->meet(target);
  data = std::move(outcome->held[copy]);
  if (effect.error) co_return *effect.error;
  if (outcome->given_up) co_return fail(Errc::kTimedOut, "replica {}: given up", copy + 1);
  if (effect.drop) co_return Result<void>{};
  if (!effect.lost.empty() || effect.flip_byte) {
    // Direct writes are of whole blocks, so that is where an append tears.
    std::uint64_t kept = data->size();
    for (const FaultRange& gone : effect.lost) kept = std::min(kept, gone.begin);
    kept = align_down(kept, kBlockSize);
    if (kept == 0) co_return Result<void>{};
    auto damaged = std::make_shared<PrivateAppend>(*data, kept);
    if (effect.flip_byte && *effect.flip_byte < kept) {
      flip_byte({damaged->memory.get(), kept}, *effect.flip_byte);
    }
    data = std::move(damaged);
  }
  co_return co_await (this->*step)(copy, segment, block, std::move(data));
}

// A full copy is dropped only where that helps: when it is full alone, on a device of its own.
// Where copies share a filesystem, the others are about to be full too, and the write has to wait
// (I9).
bool LocalSegmentStore::full_copies_may_drop(const Outcome& outcome, ReplicaMask full) const {
  const ReplicaMask rest = replicas_.in_sync_mask() & outcome.succeeded;
  if (static_cast<unsigned>(std::popcount(rest)) < kWriteQuorum) return false;
  for (unsigned a = 0; a < kReplicaCount; ++a) {
    for (unsigned b = 0; b < kReplicaCount; ++b) {
      // What is full on purpose is full alone.
      if (has_faults() && faults_->makes_full(a)) continue;
      if (in_mask(full, a) && in_mask(rest, b) && devices_[a] == devices_[b]) return false;
    }
  }
  return true;
}

Task<Result<void>> LocalSegmentStore::conclude(OutcomeRef outcome) {
  if (broken(Variant::kAcknowledgeEarly) && outcome->under_way > 0 && outcome->succeeded != 0) {
    co_return Result<void>{};
  }
  const ReplicaMask failed = outcome->tried & ~outcome->succeeded;
  if (failed == 0 && replicas_.can_write()) co_return Result<void>{};
  ReplicaMask full = 0;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (in_mask(failed, copy) && outcome->errors[copy] &&
        outcome->errors[copy]->code == Errc::kNoSpace) {
      full |= 1U << copy;
    }
  }
  if (full != 0 && !full_copies_may_drop(*outcome, full)) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (in_mask(full, copy)) co_return *outcome->errors[copy];
    }
  }
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(failed, copy)) continue;
    std::string reason = outcome->errors[copy]
                             ? outcome->errors[copy]->message
                             : fmt::format("stalled for more than {} ms",
                                           options_.stall_max / std::chrono::milliseconds(1));
    if (auto dropped = co_await replicas_.drop(ring_, copy, std::move(reason)); !dropped) {
      co_return dropped.error();
    }
  }
  // Of those that were asked: one admitted meanwhile has the rest from resync.
  const ReplicaMask in_sync = replicas_.in_sync_mask() & outcome->tried;
  if (!replicas_.can_write() || in_sync == 0 || (in_sync & ~outcome->succeeded) != 0) {
    co_return fail(Errc::kReplicasLost, "{} of {} replicas in sync, {} needed to write",
                   std::popcount(in_sync), kReplicaCount, kWriteQuorum);
  }
  co_return Result<void>{};
}

// --- Segments ---

Task<Result<std::vector<SegmentSeq>>> LocalSegmentStore::list_copy(unsigned copy) {
  auto names = co_await ring_.list(folder(copy));
  if (!names) co_return names.error();
  std::vector<SegmentSeq> segments;
  for (const std::string& name : *names) {
    if (const auto value = number_after(name, kSegmentPrefix, 16)) {
      segments.push_back(SegmentSeq(*value));
    }
  }
  std::sort(segments.begin(), segments.end());
  co_return segments;
}

Task<Result<std::vector<SegmentSeq>>> LocalSegmentStore::list() {
  std::vector<SegmentSeq> all;
  bool any = false;
  Error problem = fail(Errc::kReplicasLost, "no replica in sync");
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(readable(), copy)) continue;
    auto segments = co_await list_copy(copy);
    if (!segments) {
      problem = segments.error();
      continue;
    }
    any = true;
    all.insert(all.end(), segments->begin(), segments->end());
  }
  if (!any) co_return problem;
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  co_return all;
}

Task<Result<void>> LocalSegmentStore::create(SegmentSeq segment, Buffer header) {
  if (!replicas_.can_write()) {
    co_return fail(Errc::kReplicasLost, "too few replicas in sync to begin a segment");
  }
  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({header.data(), header.size()});
  data->keep_alive.push_back(std::move(header));
  std::uint32_t spare = 0;
  if (!spares_.empty()) spare = spares_.begin()->first;
  const auto joined = joins();
  auto outcome =
      co_await on_copies(writable(), &LocalSegmentStore::create_on, segment, spare, data);
  if (spare != 0) spares_.erase(spare);
  auto concluded = co_await conclude(outcome);
  if (!concluded) {
    // Where it could be made it would lie about until the next start, and each attempt of a full
    // disk would leave another. A copy that fails at this has other troubles, which tell.
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      files_.forget({owner_, copy, segment.value});
    }
    static_cast<void>(co_await on_copies(writable() & outcome->succeeded,
                                         &LocalSegmentStore::remove_on, segment, 0, {}));
    co_return concluded.error();
  }
  OpenSegment& begun = open_[segment];
  begun.copies = outcome->succeeded;
  begun.joins = joined;
  begun.allocated_blocks = options_.allocate_step_blocks;
  ++begun.changes;
  co_return Result<void>{};
}

LocalSegmentStore::OpenSegment& LocalSegmentStore::opened(SegmentSeq segment) {
  auto [it, added] = open_.try_emplace(segment);
  if (added) {
    it->second.joins = joins();  // First: who comes back in between is left out.
    it->second.copies = replicas_.in_sync_mask();
  }
  return it->second;
}

std::array<std::uint32_t, kReplicaCount> LocalSegmentStore::joins() const {
  std::array<std::uint32_t, kReplicaCount> all{};
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) all[copy] = replicas_.joins(copy);
  return all;
}

ReplicaMask LocalSegmentStore::copies_of(SegmentSeq segment) {
  const OpenSegment& state = opened(segment);
  ReplicaMask copies = writable() & state.copies;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (state.joins[copy] != replicas_.joins(copy)) copies &= ~(1U << copy);
  }
  return copies;
}

Task<Result<void>> LocalSegmentStore::create_on(unsigned copy, SegmentSeq segment,
                                                std::uint32_t spare, DataRef data) {
  const std::string name = path(copy, segment);
  // One that began to receive since the disk was opened may lack the folder: resync has yet to come
  // to this disk. One in sync has it, or has lost it.
  if (!in_mask(readable(), copy)) {
    if (auto made = co_await make_folder(copy); !made) co_return made.error();
  }
  if (const auto it = spares_.find(spare); it != spares_.end() && in_mask(it->second, copy)) {
    // Any trouble with it (it may be gone) is no reason not to make a new file.
    static_cast<void>(co_await ring_.rename(spare_path(copy, spare), name));
  }
  const FileKey key{owner_, copy, segment.value};
  files_.forget(key);
  OpenOptions options;
  options.create = true;
  auto opened = co_await files_.open(key, name, options);
  if (!opened) co_return opened.error();
  // The trailer's block and the first stretch: what can't be had later would leave a segment that
  // can't be sealed.
  const std::uint64_t first_bytes = std::uint64_t{options_.allocate_step_blocks} * kBlockSize;
  int rc = co_await ring_.allocate(**opened, kTrailerBlock * kBlockSize, kBlockSize);
  if (rc >= 0) rc = co_await ring_.allocate(**opened, 0, first_bytes);
  if (rc < 0) {
    files_.forget(key);
    static_cast<void>(co_await ring_.remove(name));
    co_return fail_errno(rc, "allocate {}", name);
  }
  const int wrote = co_await ring_.write(**opened, 0, data->pieces);
  if (wrote != static_cast<int>(data->size())) {
    co_return fail_errno(wrote < 0 ? wrote : EIO, "write header of {}", name);
  }
  if (broken(Variant::kSkipNameSync)) co_return Result<void>{};
  if (auto synced = co_await ring_.sync_directory(folder(copy)); !synced) co_return synced.error();
  co_return Result<void>{};
}

bool LocalSegmentStore::has_space(SegmentSeq segment, std::uint32_t end_block) const {
  const auto it = open_.find(segment);
  return it != open_.end() && end_block <= it->second.allocated_blocks;
}

Task<Result<void>> LocalSegmentStore::ensure_space(SegmentSeq segment, std::uint32_t end_block) {
  if (has_space(segment, end_block)) co_return Result<void>{};
  const auto end =
      std::min(kSegmentBlocks,
               static_cast<std::uint32_t>(align_up(end_block, options_.allocate_step_blocks)));
  auto outcome =
      co_await on_copies(copies_of(segment), &LocalSegmentStore::allocate_on, segment, end, {});
  auto concluded = co_await conclude(outcome);
  if (!concluded) co_return concluded.error();
  auto& allocated = opened(segment).allocated_blocks;
  allocated = std::max(allocated, end);
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::allocate_on(unsigned copy, SegmentSeq segment,
                                                  std::uint32_t end, DataRef) {
  auto opened = co_await file(copy, segment);
  if (!opened) co_return opened.error();
  const int rc = co_await ring_.allocate(**opened, 0, std::uint64_t{end} * kBlockSize);
  if (rc < 0) co_return fail_errno(rc, "allocate {}", path(copy, segment));
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::append(SegmentSeq segment, std::uint32_t block,
                                             std::shared_ptr<const AppendData> data) {
  if (!replicas_.can_write()) {
    co_return fail(Errc::kReplicasLost, "{} of {} replicas in sync, {} needed to write",
                   std::popcount(readable()), kReplicaCount, kWriteQuorum);
  }
  auto outcome = co_await on_copies(copies_of(segment), &LocalSegmentStore::append_on, segment,
                                    block, std::move(data));
  ++opened(segment).changes;
  co_return co_await conclude(outcome);
}

Task<Result<void>> LocalSegmentStore::append_on(unsigned copy, SegmentSeq segment,
                                                std::uint32_t block, DataRef data) {
  auto opened = co_await file(copy, segment);
  if (!opened) co_return opened.error();
  const int wrote = co_await ring_.write(**opened, std::uint64_t{block} * kBlockSize, data->pieces);
  if (wrote < 0) co_return fail_errno(wrote, "write {} at block {}", path(copy, segment), block);
  if (static_cast<std::uint64_t>(wrote) != data->size()) {
    co_return fail(Errc::kIo, "write {} at block {}: {} of {} bytes", path(copy, segment), block,
                   wrote, data->size());
  }
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::flush() {
  if (!replicas_.can_write()) {
    co_return fail(Errc::kReplicasLost, "{} of {} replicas in sync, {} needed to flush",
                   std::popcount(readable()), kReplicaCount, kWriteQuorum);
  }
  if (broken(Variant::kSkipLogFlush)) co_return Result<void>{};
  std::vector<std::pair<SegmentSeq, std::uint64_t>> dirty;
  for (const auto& [segment, state] : open_) {
    if (state.flushed < state.changes) dirty.emplace_back(segment, state.changes);
  }
  for (const auto& [segment, changes] : dirty) {
    // One that is removed meanwhile (made ahead, and not wanted) need not be durable. That its file
    // is not found is no failure of a copy.
    if (open_.count(segment) == 0) continue;
    auto outcome =
        co_await on_copies(copies_of(segment), &LocalSegmentStore::flush_on, segment, 0, {});
    if (open_.count(segment) == 0) continue;
    auto concluded = co_await conclude(outcome);
    if (!concluded) co_return concluded.error();
    if (const auto it = open_.find(segment); it != open_.end()) {
      it->second.flushed = std::max(it->second.flushed, changes);
    }
  }
  // Only the last few are still written to; the rest need no record.
  while (open_.size() > 4 && open_.begin()->second.flushed == open_.begin()->second.changes) {
    open_.erase(open_.begin());
  }
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::flush_on(unsigned copy, SegmentSeq segment, std::uint32_t,
                                               DataRef) {
  auto opened = co_await file(copy, segment);
  if (!opened) co_return opened.error();
  // Never again on this file after a failure: the kernel reports it once and forgets the data.
  // Not even when it says that there is no space, which other steps may try again.
  const int rc = co_await ring_.datasync(**opened);
  if (rc < 0) {
    const Error cause = fail_errno(rc, "fdatasync {}", path(copy, segment));
    co_return fail(Errc::kIo, "{}", cause.message);
  }
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::flush_copy(unsigned copy) {
  auto segments = co_await list_copy(copy);
  if (!segments) co_return segments.error();
  for (const SegmentSeq segment : *segments) {
    if (auto flushed = co_await flush_on(copy, segment, 0, {}); !flushed) co_return flushed.error();
  }
  co_return co_await ring_.sync_directory(folder(copy));
}

Task<Result<void>> LocalSegmentStore::remove(SegmentSeq segment) {
  const bool keep = spares_.size() < options_.spares_max;
  const std::uint32_t spare = keep ? next_spare_++ : 0;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    files_.forget({owner_, copy, segment.value});
  }
  open_.erase(segment);
  auto outcome = co_await on_copies(writable(), &LocalSegmentStore::remove_on, segment, spare, {});
  if (keep) spares_[spare] = outcome->succeeded;
  co_return co_await conclude(outcome);
}

Task<Result<void>> LocalSegmentStore::remove_on(unsigned copy, SegmentSeq segment,
                                                std::uint32_t spare, DataRef) {
  const std::string name = path(copy, segment);
  Result<void> gone;
  if (spare != 0) {
    gone = co_await ring_.rename(name, spare_path(copy, spare));
  } else {
    gone = co_await ring_.remove(name);
  }
  if (!gone && gone.error().code != Errc::kNotFound) co_return gone.error();
  // A name that came back after a power cut would bring back blocks whose trim is forgotten.
  auto synced = co_await ring_.sync_directory(folder(copy));
  // One that began to receive may lack the folder: resync has yet to come to this disk.
  const bool to_come = !in_mask(readable(), copy);
  if (!synced && synced.error().code == Errc::kNotFound && to_come) co_return Result<void>{};
  co_return synced;
}

Task<Result<void>> LocalSegmentStore::release_spares() {
  while (spares_.size() > options_.spares_max) {
    const auto [spare, copies] = *spares_.begin();
    spares_.erase(spares_.begin());
    auto outcome = co_await on_copies(writable() & copies, &LocalSegmentStore::release_on,
                                      SegmentSeq(0), spare, {});
    if (auto concluded = co_await conclude(outcome); !concluded) co_return concluded;
  }
  co_return Result<void>{};
}

// Its name need not be gone durably: a spare that comes back is a spare again.
Task<Result<void>> LocalSegmentStore::release_on(unsigned copy, SegmentSeq, std::uint32_t spare,
                                                 DataRef) {
  auto removed = co_await ring_.remove(spare_path(copy, spare));
  if (!removed && removed.error().code != Errc::kNotFound) co_return removed.error();
  co_return Result<void>{};
}

Task<Result<bool>> LocalSegmentStore::has(unsigned copy, SegmentSeq segment) {
  auto info = co_await ring_.stat(path(copy, segment));
  if (info) co_return true;
  if (info.error().code == Errc::kNotFound) co_return false;
  co_return info.error();
}

Task<Result<void>> LocalSegmentStore::put(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                          Buffer data) {
  auto pieces = std::make_shared<AppendData>();
  pieces->pieces.push_back({data.data(), data.size()});
  pieces->keep_alive.push_back(std::move(data));
  ++under_way_[copy];
  auto result = co_await append_on(copy, segment, block, pieces);
  if (--under_way_[copy] == 0) idle_.wake_all();
  co_return result;
}

Task<Result<void>> LocalSegmentStore::discard(unsigned copy, SegmentSeq segment) {
  files_.forget({owner_, copy, segment.value});
  co_return co_await ring_.remove(path(copy, segment));
}

// --- One copy ---

Task<Result<void>> LocalSegmentStore::read(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                           Buffer into) {
  auto outcome = std::make_shared<Outcome>(ring_);
  outcome->under_way = 1;
  outcome->target = std::move(into);
  spawn(read_into(shared_from_this(), outcome, copy, segment, block));
  const TimePoint deadline = ring_.now() + options_.stall_max;
  while (outcome->under_way > 0) {
    const bool woken = co_await outcome->finished.wait_until(deadline);
    if (!woken && outcome->under_way > 0) {
      const auto bound_ms = options_.stall_max / std::chrono::milliseconds(1);
      outcome->given_up = true;
      outcome->target = Buffer();
      static_cast<void>(co_await replicas_.drop(
          ring_, copy, fmt::format("a read stalled for more than {} ms", bound_ms)));
      co_return fail(Errc::kTimedOut, "replica {}: read stalled", copy + 1);
    }
  }
  if (outcome->errors[copy]) co_return *outcome->errors[copy];
  co_return Result<void>{};
}

Task<void> LocalSegmentStore::read_into(std::shared_ptr<LocalSegmentStore> self, OutcomeRef outcome,
                                        unsigned copy, SegmentSeq segment, std::uint32_t block) {
  ++self->under_way_[copy];
  FaultEffect effect;
  if (self->has_faults()) {
    FaultTarget target;
    target.replica = copy;
    target.length = outcome->target.size();
    target.has_data = true;
    effect = co_await self->faults_->meet(target);
  }
  auto opened = co_await self->file(copy, segment);
  // From here on the device may write to it, whoever gives up on that.
  Buffer into = std::move(outcome->target);
  if (outcome->given_up) {
    outcome->errors[copy] = fail(Errc::kTimedOut, "replica {}: given up", copy + 1);
  } else if (effect.error || !opened) {
    outcome->errors[copy] = effect.error ? *effect.error : opened.error();
  } else {
    const int got =
        co_await self->ring_.read(**opened, std::uint64_t{block} * kBlockSize, into.span());
    if (got < 0) {
      outcome->errors[copy] =
          fail_errno(got, "read {} at block {}", self->path(copy, segment), block);
    } else if (static_cast<std::size_t>(got) != into.size()) {
      outcome->errors[copy] = fail(Errc::kCorrupt, "read {} at block {}: {} of {} bytes, cut short",
                                   self->path(copy, segment), block, got, into.size());
    } else if (effect.flip_byte) {
      flip_byte(into.span(), *effect.flip_byte);
    }
  }
  outcome->under_way = 0;
  outcome->finished.wake_all();
  if (--self->under_way_[copy] == 0) self->idle_.wake_all();
}

Task<Result<void>> LocalSegmentStore::repair(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                             Buffer good) {
  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({good.data(), good.size()});
  data->keep_alive.push_back(std::move(good));
  ++under_way_[copy];
  auto result = co_await append_on(copy, segment, block, data);
  if (result) result = co_await flush_on(copy, segment, 0, {});
  if (--under_way_[copy] == 0) idle_.wake_all();
  if (!result) static_cast<void>(co_await replicas_.drop(ring_, copy, result.error().message));
  co_return result;
}

Task<Result<void>> LocalSegmentStore::restore(unsigned copy, SegmentSeq segment, Buffer header) {
  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({header.data(), header.size()});
  data->keep_alive.push_back(std::move(header));
  ++under_way_[copy];
  auto result = co_await create_on(copy, segment, 0, data);
  if (--under_way_[copy] == 0) idle_.wake_all();
  if (!result) static_cast<void>(co_await replicas_.drop(ring_, copy, result.error().message));
  co_return result;
}

Task<void> LocalSegmentStore::give_up(unsigned copy, std::string reason) {
  static_cast<void>(co_await replicas_.drop(ring_, copy, std::move(reason)));
}

Task<void> LocalSegmentStore::settle(unsigned copy) {
  while (under_way_[copy] > 0) co_await idle_.wait();
}

}  // namespace clouddisk
