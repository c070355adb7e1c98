// engine_host_resync.cc: bringing a replica back, storage by storage, while disks go on.
#include <algorithm>
#include <bit>

#include "engine/base/log.h"
#include "engine/disk/resync.h"
#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {

void EngineHost::resync_what_is_missing() {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((replicas_.to_rebuild() >> i & 1U) == 0) continue;
    if (replicas_.begin_receiving(i)) {
      background_.add();
      spawn(resync(i));
    }
  }
}

Task<Result<void>> EngineHost::start_resync(unsigned replica) {
  if (auto begun = replicas_.begin_receiving(replica); !begun) co_return begun;
  background_.add();
  spawn(resync(replica));
  co_return Result<void>{};
}

Task<void> EngineHost::resync(unsigned replica) {
  // One at a time: what is done and how far it is belongs to one replica.
  auto turn = co_await resyncing_.lock();
  log(LogLevel::kInfo, "resync", "replica {} begins", replica + 1);
  resync_done_ = resync_total_ = 0;
  resynced_.clear();
  resync_under_way_ = true;
  pace_background();
  // An estimate: what is read of the copy, and what it lacks.
  if (auto bytes = co_await bytes_of_replica(replicas_.in_sync_mask()); bytes) {
    resync_total_ = *bytes;
  }
  Result<void> result;
  if (replicas_.can_write()) {
    result = co_await resync_everything(replica);
  } else {
    result = fail(Errc::kReplicasLost,
                  "one replica is left, and it is not believed alone: restart the daemon with "
                  "--trust-replica and its number to rebuild the others from it");
  }
  if (!result) {
    log(LogLevel::kError, "resync", "replica {} not brought back: {}", replica + 1,
        result.error().message);
    auto dropped = co_await replicas_.drop(control_, replica, result.error().message);
    static_cast<void>(dropped);
  }
  if (result) {
    const std::string claim = replicas_.folder(replica) + "/" + kClaimMark;
    static_cast<void>(co_await control_.remove(claim));
  }
  resync_under_way_ = false;
  background_.done();
}

Task<Result<void>> EngineHost::resync_everything(unsigned replica) {
  const std::string folder = replicas_.folder(replica);
  if (auto made = co_await control_.make_directories(folder + "/disks"); !made) co_return made;
  if (copy_catalog_) {
    if (auto copied = co_await copy_catalog_(replica); !copied) co_return copied;
  }
  while (!stopping_) {
    auto ids = co_await stored_disks();
    if (!ids) co_return ids.error();
    auto here = co_await control_.list(folder + "/disks");
    if (!here) co_return here.error();
    for (const std::string& id : *here) {
      if (std::binary_search(ids->begin(), ids->end(), id)) continue;
      auto guard = co_await lock_of(owner_of(id)).lock();
      auto now = co_await stored_disks();
      if (!now || std::binary_search(now->begin(), now->end(), id)) continue;
      if (auto gone = co_await control_.remove_tree(folder + "/disks/" + id); !gone) co_return gone;
    }
    for (const std::string& id : *ids) {
      if (resynced_.count(id) != 0 || stopping_) continue;
      if (auto brought = co_await resync_disk(replica, id); !brought) {
        co_return fail(brought.error(), "disk {}", id);
      }
    }
    // A disk opened meanwhile is looked at once more; none can be opened while this one is
    // admitted.
    auto opening = co_await opening_.lock();
    auto again = co_await stored_disks();
    if (!again) co_return again.error();
    const bool complete = std::all_of(again->begin(), again->end(),
                                      [this](const auto& id) { return resynced_.count(id) != 0; });
    if (complete) co_return co_await replicas_.admit(replica);
  }
  co_return fail(Errc::kShutdown, "the daemon stopped in the middle; it goes on at the next start");
}

// Disks that have storage on a replica in sync, sorted.
Task<Result<std::vector<std::string>>> EngineHost::stored_disks() {
  std::vector<std::string> all;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((replicas_.in_sync_mask() >> i & 1U) == 0) continue;
    auto ids = co_await control_.list(replicas_.folder(i) + "/disks");
    if (!ids) {
      if (ids.error().code == Errc::kNotFound) continue;  // No disk was ever made.
      co_return ids.error();
    }
    all.insert(all.end(), ids->begin(), ids->end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  co_return all;
}

// With lock_of(the disk) held, which is lent to whoever waits for it: what was brought stays so.
Task<Result<void>> EngineHost::resync_disk(unsigned replica, std::string storage) {
  const std::string owner = owner_of(storage);
  std::set<SegmentSeq> done;
  while (true) {
    auto guard = co_await lock_of(owner).lock();
    // It may have gone meanwhile.
    auto now = co_await stored_disks();
    if (!now) co_return now.error();
    if (!std::binary_search(now->begin(), now->end(), storage)) co_return Result<void>{};
    resync_work_.stop = stopping_;
    resync_lock_ = owner;
    auto brought = co_await resync_step(replica, storage, done);
    resync_lock_.clear();
    if (brought) {
      resynced_.insert(storage);
      co_return brought;
    }
    if (brought.error().code != Errc::kShutdown || stopping_) co_return brought;
    if (replicas_.status()[replica].state != ReplicaState::kResyncing) co_return brought;
  }
}

Task<Result<void>> EngineHost::resync_step(unsigned replica, std::string storage,
                                           std::set<SegmentSeq>& done) {
  Past& past = past_of(owner_of(storage));
  Reactor* reactor = past.reactor;
  std::atomic<std::uint64_t> sum{0};
  ControlledPace pace(reactor->ring(), resync_work_, [&](std::uint64_t bytes) {
    const std::uint64_t all = sum.fetch_add(bytes) + bytes;
    control_.post([this, replica, all, before = resync_done_] {
      replicas_.report_progress(replica, before + all, std::max(resync_total_, before + all));
    });
  });
  co_await reactor->ring().enter();
  Result<void> result;
  // A chain is held while its pack is copied: neither it nor a disk can be closed, the lock is
  // ours.
  const std::shared_ptr<snapshot::Chain> chain = past.volume->open_chain();
  const std::shared_ptr<Disk> own = past.volume->find(storage);
  Disk* disk = own.get();
  if (chain && chain->id() == storage) disk = &chain->pack();
  if (disk != nullptr) {
    disk->hold_segments();
    result = co_await disk->store().make_folder(replica);
    if (result) result = co_await disk->roll();
    if (result) {
      const SegmentSeq active = disk->active_segment();
      auto brought = co_await resync_copy(disk->store(), reactor->environment().work_buffers,
                                          disk_tag(storage), replica, active, pace, done);
      if (!brought) result = brought.error();
    }
    disk->release_segments();
  } else {
    const auto store = std::make_shared<LocalSegmentStore>(
        reactor->ring(), replicas_, reactor->environment().files, storage, options_.disk.store);
    auto brought = co_await resync_copy(*store, reactor->environment().work_buffers,
                                        disk_tag(storage), replica, std::nullopt, pace, done);
    if (!brought) result = brought.error();
    store->close();
  }
  co_await control_.enter();
  resync_done_ += sum.load();
  co_return result;
}

// What the segments of one of these replicas take, at most.
Task<Result<std::uint64_t>> EngineHost::bytes_of_replica(ReplicaMask believed) {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((believed >> i & 1U) == 0) continue;
    const std::string disks = replicas_.folder(i) + "/disks";
    auto storages = co_await control_.list(disks);
    if (!storages) {
      if (storages.error().code == Errc::kNotFound) co_return std::uint64_t{0};
      continue;
    }
    std::uint64_t segments = 0;
    for (const std::string& storage : *storages) {
      auto names = co_await control_.list(disks + "/" + storage);
      if (!names) continue;
      segments += static_cast<std::uint64_t>(
          std::count_if(names->begin(), names->end(),
                        [](const std::string& name) { return name.starts_with("segment-"); }));
    }
    co_return segments* kSegmentSize;
  }
  co_return fail(Errc::kReplicasLost, "no replica to read from");
}

// --- The pace ---

namespace {

constexpr std::uint64_t kResyncLeast = 32_MiB;
constexpr std::uint64_t kScrubLeast = 8_MiB;

snapshot::PaceLimits limits_for_rate(std::uint64_t least, std::uint64_t most) {
  snapshot::PaceLimits limits;
  if (most != 0) limits.most = most;
  limits.least = std::min(least, limits.most);
  return limits;
}

}  // namespace

void EngineHost::pace_background() {
  if (watching_) return;
  watching_ = true;
  background_.add();
  spawn(watch_clients());
}

Task<void> EngineHost::watch_clients() {
  loads_.clear();
  resync_work_.rate = kResyncLeast;
  scrub_work_.rate = std::min(kScrubLeast, limits_for_rate(0, scrub_most_).most);
  while (!stopping_ && (resync_under_way_ || scrub_running_)) {
    const bool held_up = co_await clients_are_held_up();
    resync_work_.rate =
        snapshot::next_rate(resync_work_.rate, held_up,
                            limits_for_rate(kResyncLeast, options_.resync_bytes_per_second));
    scrub_work_.rate =
        snapshot::next_rate(scrub_work_.rate, held_up, limits_for_rate(kScrubLeast, scrub_most_));
    // Whoever waits for a disk that is worked on gets it: scrub ends its segment without pauses,
    // resync stops and comes back.
    scrub_work_.hurry = !scrub_lock_.empty() && lock_of(scrub_lock_).awaited();
    if (!resync_lock_.empty() && lock_of(resync_lock_).awaited()) resync_work_.stop = true;
    const bool woken = co_await stopped_.wait_until(control_.now() + kPaceStep);
    static_cast<void>(woken);
  }
  watching_ = false;
  background_.done();
}

Task<bool> EngineHost::clients_are_held_up() {
  bool held_up = false;
  std::vector<std::string> ids;
  for (const auto& [id, served] : served_) ids.push_back(id);
  for (const std::string& id : ids) {
    const auto it = served_.find(id);
    if (it == served_.end()) continue;
    std::shared_ptr<LimitedDevice> device = it->second.device;
    std::shared_ptr<Disk> disk = it->second.disk;
    const bool limited = limits_of(it->second.settings) != DiskLimits{};
    Ring& ring = past_of(id).reactor->ring();
    co_await ring.enter();
    const ClientLoad load = load_of(device->counters());
    device.reset();  // Maybe the last: they die where they lived.
    disk.reset();
    co_await control_.enter();
    const auto before = loads_.find(id);
    // A disk that was opened anew counts from nothing.
    if (before != loads_.end() && before->second.requests <= load.requests) {
      held_up = held_up || is_held_up(before->second, load, limited);
    }
    loads_[id] = load;
  }
  co_return held_up;
}

// --- Another folder ---

Task<Result<void>> EngineHost::replace_replica(unsigned replica, std::string folder) {
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  const auto status = replicas_.status();
  if (status[replica].state == ReplicaState::kResyncing) {
    co_return fail(Errc::kBusy, "replica {} is resyncing: wait until it is in sync or failed",
                   replica + 1);
  }
  const ReplicaMask others = replicas_.in_sync_mask() & ~(1U << replica);
  if (std::popcount(others) < static_cast<int>(kWriteQuorum)) {
    co_return fail(Errc::kReplicasLost,
                   "both other replicas have to be in sync: bring them back first, with clouddisk "
                   "replica resync");
  }
  auto bytes = co_await bytes_of_replica(others);
  if (!bytes) co_return bytes.error();
  const std::string old = replicas_.folder(replica);
  const std::string root = options_.root;
  std::vector<std::string> taken{root + "/index", root + "/mounts"};
  for (unsigned i = 0; i < kReplicaCount; ++i) taken.push_back(replicas_.folder(i));
  std::string uuid;
  for (const std::uint8_t byte : replicas_.set_uuid()) uuid += fmt::format("{:02x}", byte);
  const std::string claim = fmt::format("replica {} of set {}\n", replica + 1, uuid);
  const std::string record = root + "/replicas";
  const Replacement replacement{replica, options_.configured[replica], folder};
  // Recorded before the old one is let go: whenever the daemon dies, its next start finds either
  // the old folder, in sync, or the new one, to be brought up to date.
  auto recorded = co_await control_.blocking([&]() -> Result<void> {
    if (auto fit = claim_folder(folder, claim, taken, *bytes); !fit) return fit;
    auto list = load_replacements(record);
    if (!list) return list.error();
    std::erase_if(*list, [&](const Replacement& one) { return one.index == replica; });
    list->push_back(replacement);
    return save_replacements(record, *list);
  });
  if (!recorded) co_return recorded;
  auto dropped = co_await replicas_.drop(control_, replica, "replaced by " + folder);
  if (!dropped) co_return dropped;
  const std::string mark =
      fmt::format("replica {} of set {} is in {} now\n", replica + 1, uuid, folder);
  const bool marked =
      co_await control_.blocking([&] { return write_mark(old, kReplacedMark, mark).has_value(); });
  if (!marked) {
    log(LogLevel::kWarning, "replicas",
        "{} could not be marked as replaced; it is out of date from now on, which its superblock "
        "says",
        old);
  }
  for (Reactor* reactor : reactors_) {
    co_await reactor->ring().enter();
    reactor->environment().files.forget_copy(replica);
    co_await control_.enter();
  }
  replicas_.set_folder(replica, folder);
  log(LogLevel::kInfo, "replicas", "replica {} moves from {} to {}", replica + 1, old, folder);
  co_return co_await start_resync(replica);
}

}  // namespace clouddisk
