#include "engine/log/local_segment_store.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "engine/base/variant.h"
#include "engine/log/each_copy.h"
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

}  // namespace

LocalSegmentStore::LocalSegmentStore(Ring& ring, ReplicaSet& replicas, FileCache& files,
                                     std::string disk_id, Options options)
    : ring_(ring),
      replicas_(replicas),
      files_(files),
      disk_id_(std::move(disk_id)),
      options_(options),
      owner_(files.new_owner()),
      idle_(ring) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    distrusts_former_[copy] = replicas.unsynced(copy);
  }
}

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
  std::array<Result<void>, kReplicaCount> made;
  const ReplicaMask copies = writable();
  Listing listing{readable(), joins(), {}};
  bool listed = listing.copies != 0;
  const auto open_copy = [&](unsigned copy) -> Task<void> {
    auto names = co_await ring_.list(folder(copy));
    Result<bool> found = names.has_value();
    if (!names && names.error().code != Errc::kNotFound) {
      found = co_await make_folder(copy);
      // Else found out, and acted on, by the first real use.
      if (in_mask(listing.copies, copy)) listed = false;
    } else if (!names || !replicas_.names_are_durable(copy)) {
      made[copy] = co_await make_folder_durable(copy);
    }
    if (replicas_.device(copy) == 0) co_await find_device(copy);
    if (!found) made[copy] = found.error();
    if (!made[copy] || !*found) co_return;
    was_there_ = true;
    if (!names) co_return;
    if (in_mask(listing.copies, copy)) add_segments(*names, listing.segments);
    for (const std::string& name : *names) {
      const auto spare = number_after(name, kSparePrefix, 10);
      if (!spare || *spare >= 0xffff'ffff) continue;
      spares_[static_cast<std::uint32_t>(*spare)] |= 1U << copy;
      next_spare_ = std::max(next_spare_, static_cast<std::uint32_t>(*spare) + 1);
    }
  };
  co_await on_each_copy(ring_, copies, open_copy);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(copies, copy) || made[copy]) continue;
    if (auto dropped = co_await replicas_.drop(ring_, copy, made[copy].error().message); !dropped) {
      co_return dropped.error();
    }
  }
  std::sort(listing.segments.begin(), listing.segments.end());
  const auto same = std::unique(listing.segments.begin(), listing.segments.end());
  listing.segments.erase(same, listing.segments.end());
  if (listed) listing_ = std::move(listing);
  co_return Result<void>{};
}

Task<Result<bool>> LocalSegmentStore::make_folder(unsigned copy) {
  auto info = co_await ring_.stat(folder(copy));
  const bool found = info.has_value();
  if (!found && info.error().code != Errc::kNotFound) co_return info.error();
  if (!found || !replicas_.names_are_durable(copy)) {
    if (auto made = co_await make_folder_durable(copy); !made) co_return made.error();
  }
  if (replicas_.device(copy) == 0) co_await find_device(copy);
  co_return found;
}

// Not even when it says that there is no space, which other steps may try again: the kernel tells
// of a failure once.
Task<Result<void>> LocalSegmentStore::sync_folder(unsigned copy) {
  auto synced = co_await ring_.sync_directory(folder(copy));
  if (!synced && synced.error().code == Errc::kNoSpace) {
    co_return fail(Errc::kIo, "{}", synced.error().message);
  }
  co_return synced;
}

Task<void> LocalSegmentStore::find_device(unsigned copy) {
  const std::uint32_t join = replicas_.joins(copy);
  auto info = co_await ring_.stat(folder(copy));
  if (info && join == replicas_.joins(copy)) replicas_.note_device(copy, info->device);
}

Task<Result<void>> LocalSegmentStore::make_folder_durable(unsigned copy) {
  // Another folder may take the copy's place meanwhile.
  const std::string& replica = replicas_.folder(copy);
  const std::uint32_t join = replicas_.joins(copy);
  const bool names_are_durable = replicas_.names_are_durable(copy);
  const std::string own = disk_folder(replica, disk_id_);
  if (auto made = co_await ring_.make_directories(own); !made) co_return made;
  Result<void> synced;
  if (!broken(Variant::kSkipFolderSync)) {
    synced = co_await ring_.sync_directory(replica + "/disks");
    if (synced && !names_are_durable) synced = co_await ring_.sync_directory(replica);
  }
  if (!synced) {
    // What is there may not stay, and the next to come must not believe that it does.
    replicas_.forget_durable_names(copy);
    co_return fail(Errc::kIo, "{}: {}", own, synced.error().message);
  }
  replicas_.note_durable_names(copy, join);
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::remove_disk(Ring& ring, ReplicaSet& replicas,
                                                  std::string disk_id) {
  // Without a name it would be the folder of all of them.
  if (disk_id.empty()) co_return fail(Errc::kInvalid, "a storage without a name can't be removed");
  // A copy that is out of the set loses what it holds too much when it is resynced.
  const ReplicaMask copies = replicas.in_sync_mask() | replicas.receiving_mask();
  std::array<Result<void>, kReplicaCount> removed;
  const auto remove = [&](unsigned copy) -> Task<void> {
    removed[copy] = co_await set_aside(ring, replicas.folder(copy), disk_id);
  };
  co_await on_each_copy(ring, copies, remove);
  replicas.note_removed();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(copies, copy) || removed[copy]) continue;
    if (auto dropped = co_await replicas.drop(ring, copy, removed[copy].error().message);
        !dropped) {
      co_return dropped.error();
    }
  }
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

// --- Segments ---

void LocalSegmentStore::add_segments(const std::vector<std::string>& names,
                                     std::vector<SegmentSeq>& segments) {
  for (const std::string& name : names) {
    if (const auto value = number_after(name, kSegmentPrefix, 16)) {
      segments.push_back(SegmentSeq(*value));
    }
  }
}

Task<Result<std::vector<SegmentSeq>>> LocalSegmentStore::list_copy(unsigned copy) {
  auto names = co_await ring_.list(folder(copy));
  if (!names) co_return names.error();
  std::vector<SegmentSeq> segments;
  add_segments(*names, segments);
  std::sort(segments.begin(), segments.end());
  co_return segments;
}

Task<Result<std::vector<SegmentSeq>>> LocalSegmentStore::list() {
  if (listing_ && listing_->copies == readable() && listing_->joins == joins()) {
    co_return listing_->segments;
  }
  std::vector<SegmentSeq> all;
  bool any = false;
  Error problem = fail(Errc::kReplicasLost, "no replica in sync");
  const auto add = [&](unsigned copy) -> Task<void> {
    auto segments = co_await list_copy(copy);
    if (!segments) {
      problem = segments.error();
      co_return;
    }
    any = true;
    all.insert(all.end(), segments->begin(), segments->end());
  };
  co_await on_each_copy(ring_, readable(), add);
  if (!any) co_return problem;
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  co_return all;
}

Task<Result<void>> LocalSegmentStore::create(SegmentSeq segment, Buffer header) {
  forget_listing();
  if (!replicas_.can_write()) {
    co_return fail(Errc::kReplicasLost, "too few replicas in sync to begin a segment");
  }
  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({header.data(), header.size()});
  data->keep_alive.push_back(std::move(header));
  std::uint32_t spare = 0;
  if (!spares_.empty()) spare = spares_.begin()->first;
  const auto joined = joins();
  beginning_.insert(segment);
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
    beginning_.erase(segment);
    co_return concluded.error();
  }
  beginning_.erase(segment);
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

Task<void> LocalSegmentStore::adopt(SegmentSeq segment) {
  if (open_.count(segment) == 0) {
    auto outcome =
        co_await on_copies(readable(), &LocalSegmentStore::find_on, segment, 0, DataRef{});
    const ReplicaMask there = outcome->succeeded;
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      const auto& error = outcome->errors[copy];
      // That is no failure of the copy. Whoever stalled or can't tell is out.
      if (error && error->code == Errc::kNotFound) outcome->succeeded |= 1U << copy;
    }
    static_cast<void>(co_await conclude(outcome));
    const bool known = open_.count(segment) != 0;
    OpenSegment& state = opened(segment);
    if (!known) state.copies &= there;
  }
  ++opened(segment).changes;
}

Task<Result<void>> LocalSegmentStore::find_on(unsigned copy, SegmentSeq segment, std::uint32_t,
                                              DataRef) {
  auto found = co_await file(copy, segment);
  if (!found) co_return found.error();
  co_return Result<void>{};
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
  if (auto synced = co_await sync_folder(copy); !synced) co_return synced.error();
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
  const ReplicaMask copies = copies_of(segment);
  if (copies == 0) {
    co_return fail(Errc::kReplicasLost, "no replica in sync has segment {}", segment.value);
  }
  auto outcome =
      co_await on_copies(copies, &LocalSegmentStore::append_on, segment, block, std::move(data));
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
    flush_failed_[copy].insert(segment);
    const Error cause = fail_errno(rc, "fdatasync {}", path(copy, segment));
    // The next process has to know it too. Whether enough are left is for conclude() to say.
    static_cast<void>(co_await replicas_.drop_unsynced(ring_, copy, cause.message));
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
  co_return co_await sync_folder(copy);
}

Task<Result<void>> LocalSegmentStore::remove(SegmentSeq segment) {
  forget_listing();
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
  auto synced = co_await sync_folder(copy);
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

}  // namespace clouddisk
