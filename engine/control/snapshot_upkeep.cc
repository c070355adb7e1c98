// snapshot_upkeep.cc: what becomes of snapshots by themselves: captured, failed; and of disks that
// borrow from them: hydrated.
#include <fmt/format.h>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

SnapshotSettings Control::Impl::settings_of(const SnapshotRecord& snapshot) {
  SnapshotSettings settings;
  settings.id = snapshot.id;
  settings.disk_id = snapshot.disk_id;
  settings.seq = snapshot.seq;
  settings.parent = snapshot.parent;
  settings.size_bytes = snapshot.size_bytes;
  settings.storage = snapshot.storage;
  settings.storage_base = snapshot.storage_base;
  settings.epoch = Epoch(snapshot.epoch);
  settings.captured = snapshot.status == SnapshotStatus::kAccomplished;
  settings.exported = !snapshot.hidden;
  return settings;
}

template <class T>
Task<T> Control::Impl::counted(Task<T> task) {
  performing.add();
  T result = co_await std::move(task);
  performing.done();
  co_return result;
}

template <>
Task<void> Control::Impl::counted(Task<void> task) {
  performing.add();
  co_await std::move(task);
  performing.done();
}

void Control::Impl::tell_past() {
  HostEvents events;
  events.captured = [this](CaptureResult result) {
    return counted(on_captured(std::move(result)));
  };
  events.capture_failed = [this](std::string id, std::string reason) {
    return counted(on_capture_failed(std::move(id), std::move(reason)));
  };
  events.hydrated = [this](std::string disk, std::string storage) {
    return counted(on_hydrated(std::move(disk), std::move(storage)));
  };
  events.released = [this](std::string disk) { return counted(on_released(std::move(disk))); };
  host.set_events(std::move(events));
  for (const auto& [id, chain] : catalog->chains()) {
    std::vector<SnapshotSettings> snapshots;
    for (const SnapshotRecord* snapshot : catalog->snapshots_of_disk(chain.disk_id)) {
      if (snapshot->status != SnapshotStatus::kFailed) snapshots.push_back(settings_of(*snapshot));
    }
    host.know_past(chain.disk_id,
                   {chain.reference_seq, chain.reference_storage, Epoch(chain.reference_epoch)},
                   std::move(snapshots));
  }
}

Task<void> Control::Impl::on_released(std::string disk_id) {
  const bool knows_which = !disk_id.empty() && !unsettled;
  if (knows_which) co_await release_disk(std::move(disk_id));
  // What it borrowed is another's: at once, unless that had to wait; then the clock comes by.
  const bool more = !knows_which || (untidy && changing.is_idle());
  if (!more || closing) co_return;
  auto guard = co_await changing.lock_all();
  if (closing) co_return;
  if (unsettled || awaits_captures) co_await settle();
  co_await tidy();
}

Task<void> Control::Impl::release_disk(std::string disk_id) {
  // A disk that is Deleting waited for this; with an instance that is, all of that did.
  const auto instance_that_goes = [this](const DiskRecord* disk) -> const InstanceRecord* {
    if (disk == nullptr || disk->status != DiskStatus::kDeleting) return nullptr;
    const InstanceRecord* instance = catalog->find_instance(disk->instance_id);
    const bool goes = instance != nullptr && instance->status == InstanceStatus::kDeleting;
    return goes ? instance : nullptr;
  };
  const auto scope_now = [&] {
    Scope scope;
    add_disk(disk_id, true, scope);
    const InstanceRecord* instance = instance_that_goes(catalog->find_disk(disk_id));
    if (instance != nullptr) add_instance(instance->id, true, scope);
    return scope.own;
  };
  ChangeLocks::Keys keys = scope_now();
  ChangeLocks::Keys wanted = keys;
  auto guard = co_await changing.lock(std::move(wanted));
  while (scope_now() != keys) {
    guard.unlock();
    keys = scope_now();
    wanted = keys;
    guard = co_await changing.lock(std::move(wanted));
  }
  if (closing) co_return;
  const DiskRecord* disk = catalog->find_disk(disk_id);
  if (const InstanceRecord* instance = instance_that_goes(disk)) {
    co_await release(instance->id);
    co_return;
  }
  if (disk != nullptr && disk->status == DiskStatus::kDeleting) {
    co_await finish_deletion(*disk);
    co_return;
  }
  co_await tidy(disk_id);
}

Task<bool> Control::Impl::on_captured(CaptureResult result) {
  const SnapshotRecord* found = catalog->find_snapshot(result.snapshot_id);
  if (found == nullptr) co_return false;
  ChangeLocks::Keys keys{found->id, found->disk_id};
  auto guard = co_await changing.lock(std::move(keys));
  if (closing) co_return false;
  found = catalog->find_snapshot(result.snapshot_id);
  // What is recorded as failed stays so: nothing descends from it any more.
  if (found == nullptr || found->status != SnapshotStatus::kProgressing) co_return false;
  SnapshotRecord snapshot = *found;
  snapshot.status = SnapshotStatus::kAccomplished;
  snapshot.changed_bytes = result.changed_bytes;
  snapshot.stored_bytes = result.stored_bytes;
  snapshot.accomplished = now();
  const ChainRecord* known = catalog->find_chain(snapshot.chain_id);
  CHECK(known != nullptr);
  ChainRecord chain = *known;
  chain.reference_seq = snapshot.seq;
  chain.reference_storage = snapshot.storage;
  chain.reference_epoch = snapshot.epoch;
  CatalogChange change;
  change.put(snapshot);
  change.put(chain);
  untidy = untidy || !snapshot.storage_base.empty();
  if (co_await commit(std::move(change))) co_return false;
  note_former(snapshot);
  co_return true;
}

// What was frozen in a former storage was all that it was kept for.
void Control::Impl::note_former(const SnapshotRecord& snapshot) {
  const DiskRecord* disk = catalog->find_disk(snapshot.disk_id);
  const std::string& storage = snapshot.storage;
  if (disk != nullptr && disk->storage != storage && disk->undo_storage != storage) {
    former_storages.insert(storage);
  }
}

Task<bool> Control::Impl::on_capture_failed(std::string snapshot_id, std::string reason) {
  auto guard = co_await changing.lock_all();
  if (closing) co_return false;
  const SnapshotRecord* found = catalog->find_snapshot(snapshot_id);
  if (found == nullptr) co_return false;
  for (const auto& [id, disk] : catalog->disks()) {
    if (disk.base_snapshot == snapshot_id || disk.undo_base == snapshot_id) co_return false;
  }
  for (const auto& [id, other] : catalog->snapshots()) {
    const bool under_way = other.status == SnapshotStatus::kProgressing;
    if (under_way && other.storage_base == snapshot_id) co_return false;
  }
  SnapshotRecord snapshot = *found;
  snapshot.status = SnapshotStatus::kFailed;
  untidy = untidy || !snapshot.storage_base.empty();
  snapshot.failure = std::move(reason);
  CatalogChange change;
  change.put(snapshot);
  // What comes next descends from what this one descended from.
  const ChainRecord* known = catalog->find_chain(snapshot.chain_id);
  if (known != nullptr && known->current == snapshot.seq) {
    ChainRecord chain = *known;
    chain.current = snapshot.parent;
    change.put(chain);
  }
  for (const SnapshotRecord* other : catalog->snapshots_of_disk(snapshot.disk_id)) {
    if (other->parent != snapshot.seq) continue;
    SnapshotRecord child = *other;
    child.parent = snapshot.parent;
    change.put(child);
  }
  if (co_await commit(std::move(change))) co_return false;
  note_former(snapshot);
  note_event(EventType::kSnapshotFailed, snapshot.disk_id,
             fmt::format("snapshot {}: {}", snapshot_id, snapshot.failure));
  auto hidden = co_await host.hide_snapshot(snapshot_id);
  static_cast<void>(hidden);
  co_return true;
}

Task<bool> Control::Impl::on_hydrated(std::string disk_id, std::string storage) {
  const DiskRecord* found = catalog->find_disk(disk_id);
  if (found == nullptr) co_return false;
  // What it borrowed from, and so its chain, stays until the host needs it no more.
  ChangeLocks::Keys own, shared;
  own.insert(disk_id);
  const std::string base_id = found->base_snapshot;
  const SnapshotRecord* base = catalog->find_snapshot(base_id);
  if (base != nullptr) {
    shared.insert(base->id);
    if (base->disk_id != disk_id) shared.insert(base->disk_id);
  }
  auto guard = co_await changing.lock(std::move(own), std::move(shared));
  if (closing) co_return false;
  found = catalog->find_disk(disk_id);
  const bool still = found != nullptr && found->storage == storage;
  if (!still || base_id.empty() || found->base_snapshot != base_id) co_return false;
  for (const SnapshotRecord* snapshot : catalog->snapshots_of_disk(disk_id)) {
    // What was frozen there may still borrow.
    const bool under_way = snapshot->status == SnapshotStatus::kProgressing;
    if (under_way && snapshot->storage == storage) co_return false;
  }
  DiskRecord disk = *found;
  disk.base_snapshot.clear();
  CatalogChange change;
  change.put(disk);
  for (const auto& [id, known] : catalog->chains()) {
    if (known.disk_id != disk_id || known.reference_storage != storage) continue;
    // By place a borrowed block can't be told from a hole any more.
    ChainRecord chain = known;
    chain.reference_seq = 0;
    chain.reference_storage.clear();
    chain.reference_epoch = 0;
    change.put(chain);
  }
  if (co_await commit(std::move(change))) co_return false;
  // Before anything else may find that nobody needs the base.
  co_await host.forget_base(disk_id, storage);
  co_return true;
}

}  // namespace clouddisk
