// operator.cc: snapshots, rollbacks, new disks and replicas: what the daemon does, in its order.
#include <algorithm>

#include "engine/disk/resync.h"
#include "engine/log/removed_disks.h"
#include "tests/simulation/phase.h"

namespace clouddisk::simulation {
namespace {

constexpr std::uint64_t kDiskMin = 1_MiB;
constexpr std::uint64_t kDiskMax = 4_MiB;
constexpr std::size_t kSnapshotsMax = 5;
constexpr std::uint64_t kLookAtOnce = 128_KiB;

}  // namespace

Task<bool> World::commit_text(std::string key, std::optional<std::string> text) {
  pending_[key] = text;
  CatalogStore::Change change;
  change[key] = text;
  auto done = co_await life_->catalog->commit(std::move(change));
  pending_.erase(key);
  if (!done) {
    if (!excused(done.error())) fail_history("catalog: " + done.error().message);
    co_return false;
  }
  if (text) {
    confirmed_[key] = *text;
  } else {
    confirmed_.erase(key);
  }
  co_return true;
}

Task<bool> World::commit(VolumeState& volume, const VolumeRecord& record) {
  const bool done = co_await commit_text("disk/" + std::to_string(volume.id), record.encode());
  if (done) volume.record = record;
  co_return done;
}

// One thing at a time, beside the clients: little, or so much that chains of snapshots get long and
// lose their middle, captures and rollbacks meet, and disks come and go.
Task<void> World::operate(std::shared_ptr<Phase> phase) {
  const bool busy = random_.one_in(busy_one_in_);
  const std::uint64_t pause_us = busy ? 300 : 3000;
  std::uint64_t times = random_.below(4);
  if (busy) times = random_.between(8, 48);
  for (; times > 0 && !failure_; --times) {
    co_await ring_->sleep_for(std::chrono::microseconds(random_.below(pause_us)));
    VolumeState& volume = any_volume();
    const Actions& actions = options_.actions;
    const std::uint64_t what = random_.below(100);
    if (what < 22) {
      if (actions.has(Action::kSnapshot)) co_await take_snapshot(volume);
    } else if (what < 42) {
      if (actions.has(Action::kCapture)) co_await capture(volume);
    } else if (what < 52) {
      if (actions.has(Action::kDrop)) co_await drop(volume);
    } else if (what < 60) {
      if (actions.has(Action::kHydrate)) co_await hydrate(volume);
    } else if (what < 64) {
      if (actions.has(Action::kRepack)) co_await repack(volume);
    } else if (what < 68) {
      if (actions.has(Action::kResize)) co_await resize(volume);
    } else if (what < 74) {
      if (actions.has(Action::kClone)) co_await clone(volume);
    } else if (what < 79) {
      if (actions.has(Action::kCheckpoint)) {
        note(Action::kCheckpoint, volume.id, 0, 0);
        const std::shared_ptr<Disk> disk = disk_of(volume);
        auto done = co_await disk->checkpoint();
        if (!done && !excused(done.error()) && !options_.faults.has(Fault::kIndex)) {
          fail_history("checkpoint: " + done.error().message);
        }
      }
    } else if (what < 90) {
      co_await look_at_snapshot(volume);
    } else if (actions.has(Action::kResync) && !told_active_ && !all_in_sync()) {
      for (unsigned i = 0; i < kReplicaCount && !failure_; ++i) {
        if ((life_->replicas->in_sync_mask() >> i & 1U) == 0) co_await resync(i);
      }
    }
  }
  phase->group.done();
}

// As the daemon does, beside whatever else goes on.
void World::purge_removed_disks() {
  if (!life_->replicas->take_removed()) return;
  const ReplicaMask in_use = life_->replicas->in_sync_mask() | life_->replicas->receiving_mask();
  for (unsigned replica = 0; replica < kReplicaCount; ++replica) {
    if ((in_use >> replica & 1U) == 0) continue;
    std::shared_ptr<Purge>& purging = life_->purging[replica];
    if (!purging) purging = std::make_shared<Purge>();
    purging->wanted = true;
    if (!std::exchange(purging->busy, true)) spawn(purge(replica, purging));
  }
}

Task<void> World::purge(unsigned replica, std::shared_ptr<Purge> purging) {
  while (std::exchange(purging->wanted, false)) {
    // What can't be removed now is tried again with the next disk that goes.
    std::function<bool()> stop = [] { return false; };
    auto gone = co_await purge_removed(*ring_, kReplica[replica], std::move(stop));
    static_cast<void>(gone);
  }
  purging->busy = false;
}

Task<void> World::between_phases() {
  VolumeState& volume = any_volume();
  purge_removed_disks();
  if (random_.one_in(4)) co_await life_->replicas->check_folders();
  if (options_.actions.has(Action::kRollback) && random_.one_in(12)) co_await roll_back(volume);
  if (options_.actions.has(Action::kDelete) && volumes_.size() > 1 && random_.one_in(30)) {
    co_await remove_volume(any_volume());
  }
  if (volumes_.size() < options_.disks && random_.one_in(6)) co_await create_volume();
}

// --- Disks ---

Task<void> World::create_volume() {
  const std::uint64_t id = next_volume_++;
  std::uint64_t size = align_down(random_.between(kDiskMin, kDiskMax), kBlockSize);
  if (random_.one_in(2)) size += random_.below(8) * kSectorSize;
  auto state = std::make_unique<VolumeState>(id, size / kSectorSize);
  VolumeRecord record;
  record.size = size;
  record.storage = "d-" + std::to_string(next_storage_++);
  record.storages[record.storage] = {};
  const snapshot::StorageState storage{record.storage, size, nullptr, 0};
  auto turn = co_await managing_->lock();
  auto made =
      co_await snapshot::Volume::create_storage(*life_->environment, volume_options_, storage);
  if (!made) {
    if (!excused(made.error())) fail_history("create: " + made.error().message);
    co_return;
  }
  remark(
      fmt::format("new disk {} of {} sectors, storage {}", id, size / kSectorSize, record.storage));
  state->modelled = record.storage;
  VolumeState& volume = *state;
  volumes_[id] = std::move(state);
  if (!co_await commit(volume, record)) {
    volumes_.erase(id);
    co_return;
  }
  life_->volumes[id] = std::make_unique<snapshot::Volume>(
      *life_->environment, *life_->packs, "sl-" + std::to_string(id), volume_options_);
  auto opened = co_await open_new_storage(volume, record.storage);
  if (!opened) fail_history("open of a new disk: " + opened.error().message);
}

Task<void> World::clone(VolumeState& volume) {
  if (volumes_.size() >= options_.disks) co_return;
  auto turn = co_await managing_->lock();
  const auto seq = any_snapshot(volume, true);
  if (!seq) co_return;
  const std::uint64_t id = next_volume_++;
  const Content& content = *volume.pasts.at(*seq).content;
  std::uint64_t size = content.size() * kSectorSize;
  if (random_.one_in(2)) size = align_up(size, kBlockSize) + random_.below(64) * kBlockSize;
  auto state = std::make_unique<VolumeState>(id, size / kSectorSize);
  VolumeRecord record;
  record.size = size;
  record.storage = "d-" + std::to_string(next_storage_++);
  record.storages[record.storage] = {volume.id, *seq};
  const snapshot::StorageState storage{record.storage, size, nullptr, 0};
  auto made =
      co_await snapshot::Volume::create_storage(*life_->environment, volume_options_, storage);
  if (!made) {
    if (!excused(made.error())) fail_history("clone: " + made.error().message);
    co_return;
  }
  note(Action::kClone, volume.id, *seq, id);
  Content whole = content;
  whole.resize(size / kSectorSize, 0);
  state->model.become(std::move(whole));
  state->modelled = record.storage;
  VolumeState& added = *state;
  // Clients find it once it is open; until then it is on record only.
  auto volume_of_it = std::make_unique<snapshot::Volume>(
      *life_->environment, *life_->packs, "sl-" + std::to_string(id), volume_options_);
  unborn_ = std::move(state);
  if (!co_await commit(added, record)) {
    unborn_.reset();
    co_return;
  }
  life_->volumes[id] = std::move(volume_of_it);
  auto opened = co_await open_new_storage(added, record.storage);
  if (!opened) {
    fail_history("open of a clone: " + opened.error().message);
    co_return;
  }
  volumes_[id] = std::move(unborn_);
}

Task<void> World::resize(VolumeState& volume) {
  if (volume.record.size >= 2 * kDiskMax) co_return;
  auto turn = co_await managing_->lock();
  VolumeRecord record = volume.record;
  record.size = align_up(record.size, kBlockSize) + random_.between(1, 128) * kBlockSize;
  note(Action::kResize, volume.id, 0, record.size / kSectorSize);
  if (!co_await commit(volume, record)) co_return;
  auto grown = disk_of(volume)->grow(record.size);
  if (!grown) fail_history("grow: " + grown.error().message);
  volume.model.resize(record.size / kSectorSize);
}

Task<void> World::remove_volume(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  for (const auto& [id, other] : volumes_) {
    for (const auto& [name, base] : other->record.storages) {
      if (id != volume.id && base.volume == volume.id) co_return;
    }
  }
  note(Action::kDelete, volume.id, 0, 0);
  const std::uint64_t id = volume.id;
  const std::string chain = "sl-" + std::to_string(id);
  auto closed = co_await open_volume(id).close();
  if (!closed && !excused(closed.error())) fail_history("close: " + closed.error().message);
  life_->volumes.erase(id);
  std::vector<std::string> storages;
  for (const auto& [name, base] : volume.record.storages) storages.push_back(name);
  if (!co_await commit_text("disk/" + std::to_string(id), std::nullopt)) {
    // It stays: as a restart would find it.
    lost_disk_ = true;
    co_return;
  }
  volumes_.erase(id);
  for (const std::string& name : storages) {
    auto gone =
        co_await snapshot::Volume::remove_storage(*life_->environment, volume_options_, name);
    if (!gone && !excused(gone.error())) fail_history("remove: " + gone.error().message);
  }
  const auto past = std::make_unique<snapshot::Volume>(*life_->environment, *life_->packs, chain,
                                                       volume_options_);
  auto gone = co_await past->remove_chain();
  if (!gone && !excused(gone.error())) fail_history("remove: " + gone.error().message);
}

// --- Snapshots ---

std::optional<std::uint64_t> World::any_snapshot(const VolumeState& volume, bool known_content) {
  std::vector<std::uint64_t> all;
  for (const auto& [seq, past] : volume.pasts) {
    const bool there =
        volume.record.snapshots.contains(seq) && !volume.record.leaving.contains(seq);
    if (there && (past.content || !known_content)) all.push_back(seq);
  }
  if (all.empty()) return std::nullopt;
  return all[random_.below(all.size())];
}

Task<void> World::take_snapshot(VolumeState& volume) {
  if (volume.record.snapshots.size() >= kSnapshotsMax) co_return;
  auto turn = co_await managing_->lock();
  const std::shared_ptr<Disk> disk = disk_of(volume);
  const std::uint64_t seq = volume.record.last_seq + 1;
  note(Action::kSnapshot, volume.id, seq, 0);
  VolumeState::Past past;
  past.sectors = volume.record.size / kSectorSize;
  past.must = tick();
  auto view = co_await disk->freeze();
  past.may = tick();
  if (!view) {
    if (!excused(view.error())) fail_history("freeze: " + view.error().message);
    co_return;
  }
  volume.pasts[seq] = past;
  VolumeRecord record = volume.record;
  snapshot::SnapshotState state;
  state.seq = seq;
  state.size_bytes = volume.record.size;
  state.storage = record.storage;
  state.epoch = *view;
  state.parent = record.current;
  record.snapshots[seq] = state;
  record.current = seq;
  record.last_seq = seq;
  if (!co_await commit(volume, record)) {
    volume.pasts.erase(seq);
    disk->drop_view(*view);
    co_return;
  }
  open_volume(volume.id).know(state);
  if (open_volume(volume.id).open_chain() == nullptr) {
    life_->resynced.erase("sl-" + std::to_string(volume.id));
  }
  auto content = co_await read_snapshot(volume, seq);
  if (!content) co_return;
  if (auto wrong = volume.model.check_cut(*content, past.must, past.may)) {
    fail_history(fmt::format("disk {}, snapshot {}: {}", volume.id, seq, *wrong));
    co_return;
  }
  volume.pasts.at(seq).content = std::move(*content);
}

Task<void> World::look_at_snapshot(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  const auto seq = any_snapshot(volume, true);
  if (!seq) co_return;
  auto source = co_await open_volume(volume.id).source(*seq);
  if (!source) {
    fail_history(fmt::format("disk {}, snapshot {}: {}", volume.id, *seq, source.error().message));
    co_return;
  }
  const Content& content = *volume.pasts.at(*seq).content;
  const std::uint64_t blocks = blocks_for(content.size() * kSectorSize);
  const std::uint64_t first = random_.below(blocks);
  const std::uint64_t count =
      std::min(random_.between(1, kLookAtOnce / kBlockSize), blocks - first);
  std::vector<std::byte> data(count * kBlockSize);
  auto read = co_await (*source)->read(*ring_, Lba(first), data);
  if (!read) {
    fail_history(fmt::format("disk {}, snapshot {}: {}", volume.id, *seq, read.error().message));
    co_return;
  }
  for (std::uint64_t s = 0; s < count * 8 && first * 8 + s < content.size(); ++s) {
    const std::uint64_t sector = first * 8 + s;
    if (holds(data.data() + s * kSectorSize, sector, content[sector])) continue;
    fail_history(fmt::format("disk {}, snapshot {}: sector {} is {:#x} and should be {:#x}",
                             volume.id, *seq, sector,
                             read_stamp(data.data() + s * kSectorSize, sector), content[sector]));
    co_return;
  }
}

Task<void> World::capture(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  std::uint64_t seq = 0;
  for (const auto& [number, state] : volume.record.snapshots) {
    if (!state.captured && seq == 0) seq = number;
  }
  if (seq == 0) co_return;
  note(Action::kCapture, volume.id, seq, 0);
  if (open_volume(volume.id).open_chain() == nullptr) {
    life_->resynced.erase("sl-" + std::to_string(volume.id));
  }
  auto cursor = co_await open_volume(volume.id).capture(seq, [](const auto&) {});
  if (!cursor) {
    if (!excused(cursor.error())) fail_history("capture: " + cursor.error().message);
    co_return;
  }
  VolumeRecord record = volume.record;
  snapshot::SnapshotState& state = record.snapshots.at(seq);
  state.captured = true;
  record.reference = {seq, state.storage, state.epoch};
  if (!co_await commit(volume, record)) co_return;
  open_volume(volume.id).captured(seq);
  co_await release_unneeded(volume);
}

// Storages that only a capture needed.
Task<void> World::release_unneeded(VolumeState& volume) {
  VolumeRecord record = volume.record;
  std::vector<std::string> gone;
  for (const auto& [name, base] : volume.record.storages) {
    const bool needed = std::any_of(record.snapshots.begin(), record.snapshots.end(),
                                    [&name = name](const auto& entry) {
                                      return !entry.second.captured && entry.second.storage == name;
                                    });
    if (needed || name == record.storage) continue;
    record.storages.erase(name);
    gone.push_back(name);
  }
  if (gone.empty() || !co_await commit(volume, record)) co_return;
  for (const std::string& name : gone) {
    if (open_volume(volume.id).find(name)) {
      auto closed = co_await open_volume(volume.id).release(name);
      if (!closed && !excused(closed.error())) fail_history("release: " + closed.error().message);
    }
    auto removed =
        co_await snapshot::Volume::remove_storage(*life_->environment, volume_options_, name);
    if (!removed && !excused(removed.error())) fail_history("remove: " + removed.error().message);
  }
}

bool World::is_needed(const VolumeState& volume, std::uint64_t seq) const {
  if (seq == volume.record.current) return true;
  for (const auto& [id, other] : volumes_) {
    for (const auto& [name, base] : other->record.storages) {
      if (base.volume == volume.id && base.seq == seq) return true;
    }
  }
  for (const auto& [other, state] : volume.record.snapshots) {
    if (!state.captured && state.parent == seq) return true;
  }
  return false;
}

Task<void> World::drop(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  const auto seq = any_snapshot(volume, false);
  if (!seq || is_needed(volume, *seq)) co_return;
  note(Action::kDrop, volume.id, *seq, 0);
  VolumeRecord record = volume.record;
  record.snapshots.erase(*seq);
  if (record.reference.seq == *seq) record.reference = {};
  record.leaving.insert(*seq);
  if (!co_await commit(volume, record)) co_return;
  volume.pasts.erase(*seq);
  co_await finish_drops(volume);
  if (!failure_) co_await release_unneeded(volume);
}

Task<void> World::finish_drops(VolumeState& volume) {
  const std::set<std::uint64_t> leaving = volume.record.leaving;
  if (!leaving.empty() && open_volume(volume.id).open_chain() == nullptr) {
    life_->resynced.erase("sl-" + std::to_string(volume.id));
  }
  for (const std::uint64_t seq : leaving) {
    auto gone = co_await open_volume(volume.id).drop(seq);
    if (!gone) {
      if (!excused(gone.error())) fail_history("drop: " + gone.error().message);
      co_return;
    }
    VolumeRecord record = volume.record;
    record.leaving.erase(seq);
    if (!co_await commit(volume, record)) co_return;
  }
}

Task<void> World::repack(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  if (!volume.record.leaving.empty()) co_await finish_drops(volume);
  if (failure_ || open_volume(volume.id).open_chain() == nullptr) co_return;
  note(Action::kRepack, volume.id, 0, 0);
  auto count = co_await open_volume(volume.id).open_chain()->repack(1);
  if (!count && !excused(count.error())) fail_history("repack: " + count.error().message);
}

Task<void> World::roll_back(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  const auto seq = any_snapshot(volume, true);
  if (!seq) co_return;
  VolumeRecord record = volume.record;
  const std::string old = record.storage;
  record.storage = "d-" + std::to_string(next_storage_++);
  record.storages[record.storage] = {volume.id, *seq};
  record.current = *seq;
  const snapshot::StorageState storage{record.storage, record.size, nullptr, 0};
  auto made =
      co_await snapshot::Volume::create_storage(*life_->environment, volume_options_, storage);
  if (!made) {
    if (!excused(made.error())) fail_history("rollback: " + made.error().message);
    co_return;
  }
  note(Action::kRollback, volume.id, *seq, 0);
  if (!co_await commit(volume, record)) co_return;
  auto opened = co_await open_new_storage(volume, record.storage);
  if (!opened) {
    fail_history("open after a rollback: " + opened.error().message);
    co_return;
  }
  Content content = *volume.pasts.at(*seq).content;
  content.resize(record.size / kSectorSize, 0);
  volume.model.become(std::move(content));
  volume.modelled = record.storage;
  co_await release_unneeded(volume);
}

Task<void> World::hydrate(VolumeState& volume) {
  auto turn = co_await managing_->lock();
  const VolumeRecord::Base base = volume.record.storages.at(volume.record.storage);
  if (base.volume == 0) co_return;
  const std::shared_ptr<Disk> disk = disk_of(volume);
  const bool whole = random_.one_in(2);
  const std::uint64_t first =
      whole ? 0 : random_.below(volume.record.size / kBlockSize) * kBlockSize;
  const std::uint64_t length = whole
                                   ? volume.record.size
                                   : std::min<std::uint64_t>(volume.record.size - first,
                                                             random_.between(1, 256) * kBlockSize);
  note(Action::kHydrate, volume.id, first / kSectorSize, length / kSectorSize);
  auto brought = co_await disk->hydrate(first, length);
  if (!brought) {
    if (!excused(brought.error())) fail_history("hydrate: " + brought.error().message);
    co_return;
  }
  if (!whole || open_volume(volume.id).has_uncaptured(volume.record.storage)) co_return;
  auto durable = co_await disk->flush();
  if (!durable) {
    if (!excused(durable.error())) fail_history("flush: " + durable.error().message);
    co_return;
  }
  VolumeRecord record = volume.record;
  record.storages.at(record.storage) = {};
  if (record.reference.storage == record.storage) record.reference = {};
  if (!co_await commit(volume, record)) co_return;
  co_await open_volume(volume.id).forget_base(record.storage);
}

// --- Replicas (as tools/clouddiskd/engine_host_resync.cc) ---

Task<void> World::resync(unsigned replica) {
  ReplicaSet& replicas = *life_->replicas;
  if (!replicas.can_write() || !replicas.begin_receiving(replica)) co_return;
  note(Action::kResync, 0, replica, 0);
  life_->resynced.clear();
  auto result = co_await resync_everything(replica);
  if (result) co_return;
  remark("not resynced: " + result.error().message);
  const bool harmless = result.error().code == Errc::kBusy || silent_used_;
  if (!harmless && !excused(result.error())) fail_history("resync: " + result.error().message);
  static_cast<void>(co_await replicas.drop(*ring_, replica, result.error().message));
}

Task<Result<void>> World::resync_everything(unsigned replica) {
  const std::string disks = std::string(kReplica[replica]) + "/disks";
  if (auto made = co_await ring_->make_directories(disks); !made) co_return made;
  if (auto copied = co_await life_->catalog->copy_to(replica); !copied) co_return copied;
  while (true) {
    auto ids = co_await stored_disks();
    if (!ids) co_return ids.error();
    auto here = co_await ring_->list(disks);
    if (!here) co_return here.error();
    for (const std::string& id : *here) {
      if (std::binary_search(ids->begin(), ids->end(), id)) continue;
      auto turn = co_await managing_->lock();
      auto now = co_await stored_disks();
      if (!now || std::binary_search(now->begin(), now->end(), id)) continue;
      if (auto gone = co_await ring_->remove_tree(disks + "/" + id); !gone) co_return gone;
    }
    for (const std::string& id : *ids) {
      if (life_->resynced.contains(id)) continue;
      auto turn = co_await managing_->lock();
      if (auto brought = co_await resync_disk(replica, id); !brought) {
        co_return fail(brought.error(), "disk {}", id);
      }
      life_->resynced.insert(id);
    }
    auto turn = co_await managing_->lock();
    auto again = co_await stored_disks();
    if (!again) co_return again.error();
    const bool complete = std::all_of(again->begin(), again->end(), [this](const auto& id) {
      return life_->resynced.contains(id);
    });
    if (complete) co_return co_await life_->replicas->admit(replica);
  }
}

Task<Result<std::vector<std::string>>> World::stored_disks() {
  std::vector<std::string> all;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((life_->replicas->in_sync_mask() >> i & 1U) == 0) continue;
    auto ids = co_await ring_->list(std::string(kReplica[i]) + "/disks");
    if (!ids) {
      if (ids.error().code == Errc::kNotFound) continue;
      co_return ids.error();
    }
    all.insert(all.end(), ids->begin(), ids->end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  co_return all;
}

Task<Result<void>> World::resync_disk(unsigned replica, std::string storage) {
  Disk* disk = nullptr;
  std::shared_ptr<Disk> own;
  std::shared_ptr<snapshot::Chain> chain;
  for (const auto& [id, volume] : life_->volumes) {
    if (auto found = volume->find(storage)) own = found;
    if (volume->open_chain() && volume->open_chain()->id() == storage) chain = volume->open_chain();
  }
  if (own) disk = own.get();
  if (chain) disk = &chain->pack();
  FullSpeed pace;
  std::set<SegmentSeq> done;
  Result<void> result;
  if (disk != nullptr) {
    disk->hold_segments();
    auto made = co_await disk->store().make_folder(replica);
    if (!made) result = made.error();
    if (result) result = co_await disk->roll();
    if (result) {
      const SegmentSeq active = disk->active_segment();
      auto brought = co_await resync_copy(disk->store(), life_->work_buffers, disk_tag(storage),
                                          replica, active, pace, done);
      if (!brought) result = brought.error();
    }
    disk->release_segments();
    co_return result;
  }
  const auto store = std::make_shared<LocalSegmentStore>(*ring_, *life_->replicas, life_->files,
                                                         storage, volume_options_.disk.store);
  auto segments = co_await store->list();
  if (!segments) co_return segments.error();
  auto brought = co_await resync_copy(*store, life_->work_buffers, disk_tag(storage), replica,
                                      std::nullopt, pace, done);
  if (!brought) result = brought.error();
  store->close();
  co_return result;
}

}  // namespace clouddisk::simulation
