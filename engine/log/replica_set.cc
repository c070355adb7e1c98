#include "engine/log/replica_set.h"

#include <bit>
#include <mutex>
#include <random>

#include "engine/base/log.h"
#include "engine/base/variant.h"
#include "engine/ring/buffer_pool.h"

namespace clouddisk {

struct ReplicaSet::SharedStatus {
  std::mutex mutex;
  std::vector<ReplicaStatus> replicas;
};

namespace {

std::string superblock_path(const std::string& folder) {
  return folder + "/superblock";
}

SetUuid make_uuid() {
  SetUuid uuid;
  std::random_device device;
  for (auto& byte : uuid) byte = static_cast<std::uint8_t>(device());
  return uuid;
}

// Two slots, written in turn: a torn write costs the older state at most.
Task<Result<Superblock>> read_superblock(Ring& ring, const std::string& folder, BufferPool& pool) {
  OpenOptions options;
  options.access = Access::kRead;
  auto file = co_await ring.open(superblock_path(folder), options);
  if (!file) co_return file.error();
  Buffer buffer = co_await pool.allocate(2 * kSuperblockSize);
  const int got = co_await ring.read(*file, 0, buffer.span());
  if (got < 0) co_return fail_errno(got, "read {}", superblock_path(folder));
  std::optional<Superblock> best;
  Error problem = fail(Errc::kCorrupt, "{}: empty", superblock_path(folder));
  for (std::size_t at = 0; at + kSuperblockSize <= static_cast<std::size_t>(got);
       at += kSuperblockSize) {
    auto slot = decode_superblock(buffer.span().subspan(at, kSuperblockSize));
    if (!slot) {
      if (slot.error().code == Errc::kUnsupported) co_return slot.error();
      problem = fail(slot.error(), "{}", superblock_path(folder));
    } else if (!best || slot->generation > best->generation) {
      best = *slot;
    }
  }
  if (!best) co_return problem;
  co_return *best;
}

// A new folder's name, and those of the folders made on the way to it, must last as well: else a
// power cut takes the set with everything that was flushed into it.
Task<Result<void>> make_names_durable(Ring& ring, std::string folder) {
  while (true) {
    const auto slash = folder.find_last_of('/');
    if (slash == std::string::npos) break;
    folder = slash == 0 ? "/" : folder.substr(0, slash);
    auto synced = co_await ring.sync_directory(folder);
    // A folder that we may not open is not ours, and was there before.
    if (!synced && synced.error().code != Errc::kPermission) co_return synced;
    if (slash == 0) break;
  }
  co_return Result<void>{};
}

Task<Result<FoundReplica>> look(Ring& ring, std::string folder, BufferPool& pool) {
  FoundReplica found;
  if (auto made = co_await ring.make_directories(folder); !made) {
    found.problem = made.error().message;
    co_return found;
  }
  found.reachable = true;
  // One that was replaced by another folder is no replica any more, whatever it holds.
  if (auto replaced = co_await ring.stat(folder + "/replaced"); replaced) {
    found.reachable = false;
    found.problem = fmt::format(
        "{} was replaced by another folder, which {}/replaced names: give that one in its place, "
        "or "
        "empty this one to use it again",
        folder, folder);
    co_return found;
  }
  auto superblock = co_await read_superblock(ring, folder, pool);
  if (superblock) {
    found.superblock = *superblock;
  } else if (superblock.error().code == Errc::kUnsupported) {
    co_return superblock.error();
  } else {
    found.problem = superblock.error().message;
  }
  auto names = co_await ring.list(folder);
  if (!names) {
    found.reachable = false;
    found.problem = names.error().message;
    co_return found;
  }
  std::erase(*names, "lost+found");
  const bool no_medium_error = superblock || superblock.error().code == Errc::kCorrupt ||
                               superblock.error().code == Errc::kNotFound;
  if (no_medium_error) std::erase(*names, "superblock");
  found.bare = names->empty();
  if (found.bare) {
    if (auto durable = co_await make_names_durable(ring, folder); !durable) {
      found.reachable = false;
      found.problem = durable.error().message;
    }
  }
  co_return found;
}

// A device that hangs must not hold up those that go on without it (I1).
constexpr Duration kSuperblockStallMax = std::chrono::seconds(2);
constexpr Duration kTellMax = std::chrono::milliseconds(100);  // one that is out: a courtesy

// One superblock on its way to one folder. It may end long after everyone gave up on it: by then
// the others have a newer generation, which says what is true.
struct Attempt {
  explicit Attempt(Ring& ring) : ended(ring) {}
  bool done = false;
  Result<void> result;
  std::optional<FileInfo> info;  // when it was asked for
  Signal ended;
};

Task<Result<void>> write_to_folder(Ring& ring, std::string folder, Superblock superblock,
                                   bool is_new, std::optional<FileInfo>& info) {
  const std::string path = superblock_path(folder);
  BufferPool pool(ring, BufferPool::kLargest);
  Buffer block = co_await pool.allocate(kSuperblockSize);
  encode_superblock(superblock, block.span());
  // Where there was one it is not made anew: its folder is gone, or being removed, and a file of
  // the same inode would hide that from check_folders().
  OpenOptions options;
  options.create = is_new;
  auto file = co_await ring.open(path, options);
  if (!file) co_return file.error();
  const iovec piece{block.data(), block.size()};
  const std::uint64_t offset = superblock.generation.value % 2 * kSuperblockSize;
  const int wrote = co_await ring.write(*file, offset, std::span(&piece, 1));
  if (wrote != static_cast<int>(kSuperblockSize)) {
    co_return fail_errno(wrote < 0 ? wrote : ENOSPC, "write {}", path);
  }
  if (const int rc = co_await ring.datasync(*file); rc < 0) {
    co_return fail_errno(rc, "fdatasync {}", path);
  }
  if (is_new) {  // Its name must last too.
    if (auto synced = co_await ring.sync_directory(folder); !synced) co_return synced.error();
    auto found = co_await ring.stat(path);
    if (!found) co_return found.error();
    info = *found;
  }
  co_return Result<void>{};
}

Task<void> store_superblock(Ring& ring, std::string folder, Superblock superblock, bool is_new,
                            std::shared_ptr<Attempt> attempt) {
  attempt->result =
      co_await write_to_folder(ring, std::move(folder), superblock, is_new, attempt->info);
  attempt->done = true;
  attempt->ended.wake_all();
}

}  // namespace

ReplicaSet::ReplicaSet(Ring& home, Options options)
    : home_(home), changing_(home), shared_(std::make_unique<SharedStatus>()) {
  for (unsigned i = 0; i < kReplicaCount; ++i) set_folder(i, std::move(options.folders[i]));
}

Task<Result<std::unique_ptr<ReplicaSet>>> ReplicaSet::open(Ring& home, Options options) {
  const auto trusted = options.trusted_single;
  const std::string traces = options.traces;
  std::unique_ptr<ReplicaSet> set(new ReplicaSet(home, std::move(options)));
  BufferPool pool(home, BufferPool::kLargest);
  std::array<FoundReplica, kReplicaCount> found;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    auto one = co_await look(home, set->folder(i), pool);
    if (!one) co_return fail(one.error(), "replica {}", i + 1);
    found[i] = *one;
  }
  auto decision = decide_set(found, trusted);
  if (!decision) co_return decision.error();
  if (decision->set_uuid == SetUuid{} && !traces.empty()) {
    co_return fail(Errc::kReplicasLost,
                   "all replica folders are empty, but {} is of disks that were in others: mount "
                   "their devices, or name the folders with --replica; remove it to begin anew",
                   traces);
  }
  set->set_uuid_ = decision->set_uuid == SetUuid{} ? make_uuid() : decision->set_uuid;
  set->single_allowed_ = trusted.has_value();
  set->rebuild_ = decision->rebuild;
  set->unsynced_.store(decision->unsynced, std::memory_order_release);
  set->unsynced_on_record_ = decision->unsynced;

  // Every start is two generations of its own, so an older copy of a member put back in its place
  // is recognised: it is at least two behind, and only one behind passes for a superblock write cut
  // short by a crash. A member that can't take them is out.
  ReplicaMask members = decision->in_sync;
  Generation generation = decision->generation;
  for (unsigned complete = 0; complete < 2;) {
    generation = generation.next();
    ReplicaMask written = 0;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      Member& member = set->members_[i];
      const bool is_member = (members >> i & 1U) != 0;
      // Those left out learn that they are, where they can be written.
      if (!is_member && !found[i].superblock) continue;
      auto wrote = co_await set->write_superblock(i, generation, members);
      if (!is_member) continue;
      if (wrote) {
        written |= 1U << i;
      } else {
        member.reason = wrote.error().message;
        log(LogLevel::kError, "replicas", "replica {} left out: {}", i + 1, member.reason);
      }
    }
    if (written == members) {
      ++complete;
      continue;
    }
    complete = 0;
    if (written == 0) {
      co_return fail(Errc::kReplicasLost, "no replica folder can be written: {}",
                     set->members_[std::countr_zero(members)].reason);
    }
    members = written;
  }
  set->generation_ = generation;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    Member& member = set->members_[i];
    if ((members >> i & 1U) != 0) {
      member.state = ReplicaState::kInSync;
      member.generation = generation;
      member.reason.clear();
    } else {
      if (found[i].superblock) member.generation = found[i].superblock->generation;
      if (member.reason.empty()) {
        member.reason =
            found[i].superblock ? "stale: the others went on without it" : found[i].problem;
      }
      log(LogLevel::kWarning, "replicas", "replica {} ({}) is not in sync: {}", i + 1,
          set->folder(i), member.reason);
    }
  }
  set->publish();
  co_return set;
}

ReplicaSet::~ReplicaSet() = default;  // Here, where SharedStatus is complete.

bool ReplicaSet::can_write() const {
  const auto count = static_cast<unsigned>(std::popcount(in_sync_mask()));
  return count >= kWriteQuorum || (single_allowed_ && count >= 1);
}

std::vector<ReplicaStatus> ReplicaSet::status() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->replicas;
}

void ReplicaSet::publish() {
  ReplicaMask in_sync = 0;
  ReplicaMask receiving = 0;
  std::vector<ReplicaStatus> statuses;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    const Member& member = members_[i];
    if (member.state == ReplicaState::kInSync) in_sync |= 1U << i;
    if (member.state == ReplicaState::kResyncing) receiving |= 1U << i;
    statuses.push_back({i, folder(i), member.state, member.generation, member.reason,
                        member.done_bytes, member.total_bytes});
  }
  in_sync_.store(in_sync, std::memory_order_release);
  receiving_.store(receiving, std::memory_order_release);
  const std::lock_guard lock(shared_->mutex);
  shared_->replicas = std::move(statuses);
}

Task<Result<void>> ReplicaSet::write_superblock(unsigned index, Generation generation,
                                                ReplicaMask in_sync) {
  Member& member = members_[index];
  Superblock superblock;
  superblock.set_uuid = set_uuid_;
  superblock.index = index;
  superblock.generation = generation;
  superblock.in_sync = in_sync;
  superblock.unsynced = unsynced_.load(std::memory_order_acquire) & ~in_sync;
  const bool started = generation_.value != 0;
  const bool is_out = started && member.state == ReplicaState::kFailed;
  const TimePoint deadline = home_.now() + (is_out ? kTellMax : kSuperblockStallMax);
  auto attempt = std::make_shared<Attempt>(home_);
  spawn(store_superblock(home_, folder(index), superblock, member.inode == 0, attempt));
  while (!attempt->done) {
    const bool woken = co_await attempt->ended.wait_until(deadline);
    if (!woken && !attempt->done) {
      co_return fail(Errc::kTimedOut, "write {}: stalled", superblock_path(folder(index)));
    }
  }
  if (attempt->info) {
    member.inode = attempt->info->inode;
    note_device(index, attempt->info->device);
  }
  co_return attempt->result;
}

Task<Result<void>> ReplicaSet::drop_for(Ring& caller, unsigned index, std::string reason,
                                        bool unsynced) {
  CHECK(index < kReplicaCount);
  if (unsynced) unsynced_.fetch_or(1U << index, std::memory_order_acq_rel);
  const bool elsewhere = &caller != &home_;
  if (elsewhere) co_await home_.enter();
  auto result = co_await drop_on_home(index, std::move(reason), unsynced);
  if (elsewhere) co_await caller.enter();
  co_return result;
}

Task<Result<void>> ReplicaSet::drop_on_home(unsigned index, std::string reason, bool unsynced_now) {
  auto guard = co_await changing_.lock();
  // Again: it may have been admitted, and believed, while this waited.
  if (unsynced_now) unsynced_.fetch_or(1U << index, std::memory_order_acq_rel);
  Member& dropped = members_[index];
  const bool news = unsynced(index) && (unsynced_on_record_ >> index & 1U) == 0;
  if (dropped.state == ReplicaState::kFailed) {
    if (news && can_write()) co_return co_await renew();
    co_return Result<void>{};
  }
  log(LogLevel::kError, "replicas", "replica {} ({}) dropped: {}", index + 1, folder(index),
      reason);
  const bool was_member = dropped.state == ReplicaState::kInSync;
  dropped.state = ReplicaState::kFailed;
  dropped.reason = std::move(reason);
  dropped.done_bytes = dropped.total_bytes = 0;
  publish();
  if (!was_member && !(news && can_write())) co_return Result<void>{};
  if (broken(Variant::kSkipGeneration)) co_return Result<void>{};
  if (auto renewed = co_await renew(); !renewed) co_return renewed;
  // Let it know that it is out, if it can still be told; nothing depends on it.
  static_cast<void>(co_await write_superblock(index, generation_, in_sync_mask()));
  co_return Result<void>{};
}

// A generation of those in sync alone, durable on each; one that can't take it is out as well.
Task<Result<void>> ReplicaSet::renew() {
  while (true) {
    const ReplicaMask survivors = in_sync_mask();
    if (!can_write()) {
      co_return fail(Errc::kReplicasLost, "{} of {} replicas in sync, {} needed to write",
                     std::popcount(survivors), kReplicaCount, kWriteQuorum);
    }
    generation_ = generation_.next();
    const ReplicaMask unsynced = unsynced_.load(std::memory_order_acquire) & ~survivors;
    bool all_written = true;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if ((survivors >> i & 1U) == 0) continue;
      auto wrote = co_await write_superblock(i, generation_, survivors);
      if (wrote) {
        members_[i].generation = generation_;
        continue;
      }
      log(LogLevel::kError, "replicas", "replica {} dropped: {}", i + 1, wrote.error().message);
      members_[i].state = ReplicaState::kFailed;
      members_[i].reason = wrote.error().message;
      all_written = false;
    }
    publish();
    if (!all_written) continue;
    unsynced_on_record_ = unsynced;
    co_return Result<void>{};
  }
}

Result<void> ReplicaSet::begin_receiving(unsigned index) {
  if (index >= kReplicaCount) {
    return fail(Errc::kInvalid, "there are replicas 1 to {}, no {}", kReplicaCount, index + 1);
  }
  Member& member = members_[index];
  if (member.state == ReplicaState::kInSync) {
    return fail(Errc::kExists, "replica {} is in sync already", index + 1);
  }
  if (member.state == ReplicaState::kResyncing) {
    return fail(Errc::kBusy, "replica {} is resyncing already", index + 1);
  }
  joins_[index].fetch_add(1, std::memory_order_acq_rel);  // before anything is sent to it
  member.state = ReplicaState::kResyncing;
  member.reason = "being brought up to date";
  member.done_bytes = member.total_bytes = 0;
  member.inode = 0;  // The folder may be a new one.
  note_device(index, 0);
  publish();
  return {};
}

void ReplicaSet::report_progress(unsigned index, std::uint64_t done_bytes,
                                 std::uint64_t total_bytes) {
  members_[index].done_bytes = done_bytes;
  members_[index].total_bytes = total_bytes;
  publish();
}

Task<Result<void>> ReplicaSet::admit(unsigned index, std::optional<std::uint32_t> join) {
  auto guard = co_await changing_.lock();
  Member& joiner = members_[index];
  if (join && *join != joins(index)) {
    co_return fail(Errc::kBusy, "replica {} fell out of the set meanwhile, and began anew",
                   index + 1);
  }
  if (joiner.state != ReplicaState::kResyncing) {
    co_return fail(Errc::kBusy, "replica {} stopped receiving: {}", index + 1, joiner.reason);
  }
  const ReplicaMask members = in_sync_mask() | 1U << index;
  generation_ = generation_.next();
  // The joiner first: a crash in between leaves older members one generation behind, which a start
  // believes because the newest superblock lists them.
  if (auto wrote = co_await write_superblock(index, generation_, members); !wrote) {
    joiner.state = ReplicaState::kFailed;
    joiner.reason = wrote.error().message;
    publish();
    // What failed, or was given up on, may be there all the same, now or later, and lists the
    // joiner: the next generation must not. With too few to write nothing will be acknowledged.
    static_cast<void>(co_await renew());
    co_return wrote.error();
  }
  std::optional<unsigned> failed;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (i == index || (members >> i & 1U) == 0) continue;
    auto wrote = co_await write_superblock(i, generation_, members);
    if (wrote) {
      members_[i].generation = generation_;
    } else {
      members_[i].reason = wrote.error().message;
      failed = i;
    }
  }
  joiner.state = ReplicaState::kInSync;
  joiner.generation = generation_;
  joiner.reason.clear();
  unsynced_.fetch_and(~(1U << index), std::memory_order_acq_rel);
  unsynced_on_record_ &= ~(1U << index);
  joiner.total_bytes = joiner.done_bytes;  // What was expected was an estimate.
  rebuild_ &= ~(1U << index);
  publish();
  log(LogLevel::kInfo, "replicas", "replica {} ({}) is in sync, generation {}", index + 1,
      folder(index), generation_.value);
  guard.unlock();
  if (failed) co_return co_await drop_on_home(*failed, members_[*failed].reason);
  co_return Result<void>{};
}

void ReplicaSet::set_folder(unsigned index, std::string folder) {
  CHECK(members_[index].state == ReplicaState::kFailed);
  known_folders_.push_back(std::make_unique<const std::string>(std::move(folder)));
  folders_[index].store(known_folders_.back().get(), std::memory_order_release);
  forget_durable_names(index);
  note_device(index, 0);
}

Task<Result<bool>> ReplicaSet::check_superblock(unsigned index) {
  auto guard = co_await changing_.lock();
  const Member& member = members_[index];
  // With too few left nothing was written of it, on purpose (I6).
  if (member.state != ReplicaState::kInSync || !can_write()) co_return false;
  BufferPool pool(home_, BufferPool::kLargest);
  auto found = co_await read_superblock(home_, folder(index), pool);
  if (found && found->set_uuid == set_uuid_ && found->index == index &&
      found->generation == member.generation && found->in_sync == in_sync_mask()) {
    co_return false;
  }
  log(LogLevel::kWarning, "replicas", "replica {} ({}): superblock damaged, written anew: {}",
      index + 1, folder(index), found ? "it says something else" : found.error().message);
  auto written = co_await write_superblock(index, generation_, in_sync_mask());
  if (written) co_return true;
  guard.unlock();
  static_cast<void>(co_await drop_on_home(index, written.error().message));
  co_return written.error();
}

Task<void> ReplicaSet::check_folders() {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (members_[i].state == ReplicaState::kFailed || members_[i].inode == 0) continue;
    const std::uint64_t known = members_[i].inode;
    auto info = co_await home_.stat(superblock_path(folder(i)));
    if (members_[i].state == ReplicaState::kFailed || members_[i].inode != known) continue;
    if (info && info->inode == known) continue;
    const std::string reason = info ? "its folder was replaced while in use"
                                    : "its folder is gone: " + info.error().message;
    static_cast<void>(co_await drop_on_home(i, reason));
  }
}

}  // namespace clouddisk
