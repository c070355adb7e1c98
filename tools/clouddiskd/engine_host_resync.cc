// engine_host_resync.cc: bringing a replica back, storage by storage, while disks go on.
#include <algorithm>

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
      auto guard = co_await lock_of(owner_of(id)).lock();
      if (auto brought = co_await resync_disk(replica, id); !brought) {
        co_return fail(brought.error(), "disk {}", id);
      }
      resynced_.insert(id);
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

Task<Result<void>> EngineHost::resync_disk(unsigned replica, std::string storage) {
  Past& past = past_of(owner_of(storage));
  Reactor* reactor = past.reactor;
  std::atomic<std::uint64_t> done{0};
  const std::function<void(std::uint64_t)> progress = [&](std::uint64_t bytes) {
    const std::uint64_t sum = done.fetch_add(bytes) + bytes;
    control_.post([this, replica, sum, before = resync_done_] {
      replicas_.report_progress(replica, before + sum, std::max(resync_total_, before + sum));
    });
  };
  const auto expect = [this, before = resync_done_](std::uint64_t bytes) {
    control_.post(
        [this, total = before + bytes] { resync_total_ = std::max(resync_total_, total); });
  };
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
      expect(disk->usage().stored_bytes);
      const SegmentSeq active = disk->active_segment();
      result = co_await resync_copy(disk->store(), reactor->environment().work_buffers,
                                    disk_tag(storage), replica, active, {}, progress);
    }
    disk->release_segments();
  } else {
    const auto store = std::make_shared<LocalSegmentStore>(
        reactor->ring(), replicas_, reactor->environment().files, storage, options_.disk.store);
    auto segments = co_await store->list();
    if (segments) {
      expect(segments->size() * kSegmentSize);
      result = co_await resync_copy(*store, reactor->environment().work_buffers, disk_tag(storage),
                                    replica, std::nullopt, {}, progress);
    } else {
      result = segments.error();
    }
    store->close();
  }
  co_await control_.enter();
  resync_done_ += done.load();
  co_return result;
}

}  // namespace clouddisk
