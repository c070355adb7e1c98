// engine_host_resync.cc: bringing a replica back, storage by storage, while disks go on.
#include <algorithm>

#include "engine/base/log.h"
#include "engine/disk/resync.h"
#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {

void EngineHost::resync_what_is_missing() {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((replicas_.to_rebuild() >> i & 1U) == 0) continue;
    static_cast<void>(begin_resync(i));
  }
}

Task<Result<void>> EngineHost::start_resync(unsigned replica) {
  if (replacing_ == replica) {
    co_return fail(Errc::kBusy, "replica {} is just being replaced", replica + 1);
  }
  co_return begin_resync(replica);
}

Result<void> EngineHost::begin_resync(unsigned replica) {
  if (auto begun = replicas_.begin_receiving(replica); !begun) return begun;
  background_.add();
  spawn(resync(replica, replicas_.joins(replica)));
  return {};
}

// Whether the replica has received everything since its join. One that fell out and began anew has
// a resync of its own, and must not be admitted by this one.
bool EngineHost::still_joins(unsigned replica, std::uint32_t join) const {
  return (replicas_.receiving_mask() >> replica & 1U) != 0 && replicas_.joins(replica) == join;
}

Task<void> EngineHost::resync(unsigned replica, std::uint32_t join) {
  // One at a time: what is done and how far it is belongs to one replica.
  auto turn = co_await resyncing_.lock();
  if (still_joins(replica, join)) {
    log(LogLevel::kInfo, "resync", "replica {} begins", replica + 1);
    resync_done_ = resync_total_ = 0;
    resynced_.clear();
    resync_under_way_ = Join{replica, join};
    pace_background();
    // An estimate: what is read of the copy, and what it lacks.
    if (auto bytes = co_await bytes_of_replica(replicas_.in_sync_mask()); bytes) {
      resync_total_ = *bytes;
    }
    Result<void> result;
    if (replicas_.can_write()) {
      result = co_await resync_everything(replica, join);
    } else {
      result = fail(Errc::kReplicasLost,
                    "one replica is left, and it is not believed alone: restart the daemon with "
                    "--trust-replica and its number to rebuild the others from it");
    }
    if (!result) {
      log(LogLevel::kError, "resync", "replica {} not brought back: {}", replica + 1,
          result.error().message);
      if (still_joins(replica, join)) {
        auto dropped = co_await replicas_.drop(control_, replica, result.error().message);
        static_cast<void>(dropped);
      }
    } else {
      const std::string claim = replicas_.folder(replica) + "/" + kClaimMark;
      static_cast<void>(co_await control_.remove(claim));
    }
    resync_under_way_.reset();
  }
  background_.done();
}

Task<Result<void>> EngineHost::resync_everything(unsigned replica, std::uint32_t join) {
  const std::string folder = replicas_.folder(replica);
  if (auto made = co_await control_.make_directories(folder + "/disks"); !made) co_return made;
  if (copy_catalog_) {
    if (auto copied = co_await copy_catalog_(replica); !copied) co_return copied;
  }
  while (!stopping_) {
    auto ids = co_await stored_disks();
    if (!ids) co_return ids.error();
    if (auto gone = co_await remove_unknown(replica, *ids); !gone) co_return gone;
    for (const std::string& id : *ids) {
      if (resynced_.count(id) != 0 || stopping_) continue;
      if (auto brought = co_await resync_disk(replica, join, id); !brought) {
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
    if (complete) co_return co_await replicas_.admit(replica, join);
  }
  co_return fail(Errc::kShutdown, "the daemon stopped in the middle; it goes on at the next start");
}

// What the replica has and the others don't: disks that were removed while it was out.
Task<Result<void>> EngineHost::remove_unknown(unsigned replica, std::vector<std::string> known) {
  const std::string disks = replicas_.folder(replica) + "/disks";
  auto here = co_await control_.list(disks);
  if (!here) co_return here.error();
  for (const std::string& id : *here) {
    if (std::binary_search(known.begin(), known.end(), id)) continue;
    auto guard = co_await lock_of(owner_of(id)).lock();
    // Others whose folders were emptied or swapped a moment ago know of no disk at all.
    co_await replicas_.check_folders();
    if (!replicas_.can_write()) {
      co_return fail(Errc::kReplicasLost,
                     "the folders that it was brought up to date from are gone");
    }
    auto now = co_await stored_disks();
    if (!now) co_return now.error();
    if (std::binary_search(now->begin(), now->end(), id)) continue;
    if (auto gone = co_await control_.remove_tree(disks + "/" + id); !gone) co_return gone;
  }
  co_return Result<void>{};
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
Task<Result<void>> EngineHost::resync_disk(unsigned replica, std::uint32_t join,
                                           std::string storage) {
  const std::string owner = owner_of(storage);
  std::set<SegmentSeq> done;
  resync_owner_ = owner;
  auto brought = co_await resync_in_turns(replica, join, owner, storage, done);
  resync_owner_.clear();
  co_return brought;
}

Task<Result<void>> EngineHost::resync_in_turns(unsigned replica, std::uint32_t join,
                                               std::string owner, std::string storage,
                                               std::set<SegmentSeq>& done) {
  while (true) {
    auto guard = co_await lock_of(owner).lock();
    // It may have gone meanwhile.
    auto now = co_await stored_disks();
    if (!now) co_return now.error();
    if (!std::binary_search(now->begin(), now->end(), storage)) co_return Result<void>{};
    if (!still_joins(replica, join)) {
      co_return fail(Errc::kReplicasLost, "it fell out of the set meanwhile");
    }
    resync_work_.stop = stopping_;
    resync_lock_ = owner;
    auto brought = co_await resync_step(replica, join, storage, done);
    resync_lock_.clear();
    if (brought) {
      resynced_.insert(storage);
      co_return brought;
    }
    if (brought.error().code != Errc::kShutdown || stopping_) co_return brought;
  }
}

Task<Result<void>> EngineHost::resync_step(unsigned replica, std::uint32_t join,
                                           std::string storage, std::set<SegmentSeq>& done) {
  Past& past = past_of(owner_of(storage));
  Reactor* reactor = past.reactor;
  std::atomic<std::uint64_t> sum{0};
  ControlledPace pace(reactor->ring(), resync_work_, [&](std::uint64_t bytes) {
    const std::uint64_t all = sum.fetch_add(bytes) + bytes;
    control_.post([this, replica, join, all, before = resync_done_] {
      if (!still_joins(replica, join)) return;
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
    auto made = co_await disk->store().make_folder(replica);
    if (!made) result = made.error();
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

}  // namespace clouddisk
