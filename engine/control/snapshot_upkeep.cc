// snapshot_upkeep.cc: what becomes of snapshots by themselves: captured, failed, no longer needed.
//
// A deleted snapshot is hidden at once. Its content stays while a disk borrows from it, a capture
// compares with it, or the disk's next snapshot will: then it goes, and with the last one the
// chain.
#include <fmt/format.h>

#include <algorithm>
#include <set>

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

void Control::Impl::tell_past() {
  HostEvents events;
  events.captured = [this](CaptureResult result) { return on_captured(std::move(result)); };
  events.capture_failed = [this](std::string id, std::string reason) {
    return on_capture_failed(std::move(id), std::move(reason));
  };
  events.hydrated = [this](std::string disk, std::string storage) {
    return on_hydrated(std::move(disk), std::move(storage));
  };
  events.released = [this]() -> Task<void> {
    auto guard = co_await changing.lock_all();
    if (closing) co_return;
    if (unsettled || awaits_captures) co_await settle();
    co_await tidy();
  };
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

Task<bool> Control::Impl::on_captured(CaptureResult result) {
  auto guard = co_await changing.lock_all();
  if (closing) co_return false;
  const SnapshotRecord* found = catalog->find_snapshot(result.snapshot_id);
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
  if (co_await commit(std::move(change))) co_return false;
  co_return true;
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
  note_event(EventType::kSnapshotFailed, snapshot.disk_id,
             fmt::format("snapshot {}: {}", snapshot_id, snapshot.failure));
  auto hidden = co_await host.hide_snapshot(snapshot_id);
  static_cast<void>(hidden);
  co_return true;
}

Task<bool> Control::Impl::on_hydrated(std::string disk_id, std::string storage) {
  auto guard = co_await changing.lock_all();
  if (closing) co_return false;
  const DiskRecord* found = catalog->find_disk(disk_id);
  if (found == nullptr || found->storage != storage || found->base_snapshot.empty()) {
    co_return false;
  }
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

// Of one that is hidden or failed: whether its content must stay.
bool Control::Impl::is_needed(const SnapshotRecord& snapshot) const {
  bool disk_exists = false;
  for (const auto& [id, disk] : catalog->disks()) {
    if (disk.base_snapshot == snapshot.id || disk.undo_base == snapshot.id) return true;
    disk_exists = disk_exists || id == snapshot.disk_id;
  }
  bool others = false;
  for (const auto& [id, other] : catalog->snapshots()) {
    const bool under_way = other.status == SnapshotStatus::kProgressing;
    if (under_way && other.storage_base == snapshot.id && id != snapshot.id) return true;
    if (other.disk_id != snapshot.disk_id || id == snapshot.id) continue;
    if (under_way && other.parent == snapshot.seq) return true;
    others = others || (!other.hidden && other.status != SnapshotStatus::kFailed);
  }
  if (!disk_exists || !others || snapshot.status == SnapshotStatus::kFailed) return false;
  // The disk's next snapshot is compared with it.
  const ChainRecord* chain = catalog->find_chain(snapshot.chain_id);
  if (chain != nullptr && chain->current == snapshot.seq) return true;
  const DiskRecord* disk = catalog->find_disk(snapshot.disk_id);
  return disk != nullptr && !disk->undo_storage.empty() && disk->undo_current == snapshot.seq;
}

Task<void> Control::Impl::tidy() {
  // What was before a rollback longer ago than it can be undone.
  CatalogChange expired;
  for (const auto& [id, disk] : catalog->disks()) {
    if (disk.undo_storage.empty() || disk.undo_until >= now()) continue;
    DiskRecord changed = disk;
    changed.undo_storage.clear();
    changed.undo_base.clear();
    changed.undo_current = 0;
    changed.undo_until = {};
    expired.put(changed);
  }
  if (co_await commit(std::move(expired))) co_return;

  const auto snapshots = catalog->snapshots();
  for (const auto& [id, snapshot] : snapshots) {
    const bool failed = snapshot.status == SnapshotStatus::kFailed;
    if ((!snapshot.hidden && !failed) || is_needed(snapshot)) continue;
    auto gone = co_await host.drop_snapshot(snapshot.disk_id, snapshot.seq);
    if (!gone) {
      log(LogLevel::kError, "control", "snapshot {} stays for now: {}", id, gone.error().message);
      continue;
    }
    CatalogChange change;
    const ChainRecord* known = catalog->find_chain(snapshot.chain_id);
    if (known != nullptr &&
        (known->current == snapshot.seq || known->reference_seq == snapshot.seq)) {
      ChainRecord chain = *known;
      if (chain.current == snapshot.seq) chain.current = 0;
      if (chain.reference_seq == snapshot.seq) {
        chain.reference_seq = 0;
        chain.reference_storage.clear();
        chain.reference_epoch = 0;
      }
      change.put(chain);
    }
    if (!snapshot.hidden) continue;  // A failed one is shown until it is deleted.
    change.erase(snapshot);
    if (co_await commit(std::move(change))) co_return;
  }

  const auto chains = catalog->chains();
  for (const auto& [id, chain] : chains) {
    if (catalog->find_disk(chain.disk_id) != nullptr) continue;
    if (!catalog->snapshots_of_disk(chain.disk_id).empty()) continue;
    if (!co_await host.remove_chain(chain.disk_id)) continue;
    CatalogChange change;
    change.erase(chain);
    if (co_await commit(std::move(change))) co_return;
  }

  auto storages = co_await host.storages();
  if (!storages) co_return;
  std::set<std::string> needed;
  for (const auto& [id, disk] : catalog->disks()) {
    needed.insert(disk.storage);
    needed.insert(disk.undo_storage);
  }
  for (const auto& [id, chain] : catalog->chains()) needed.insert(id);
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (snapshot.status == SnapshotStatus::kProgressing) needed.insert(snapshot.storage);
  }
  for (const std::string& storage : *storages) {
    // Only what is surely a former storage of a disk: "d-x" while d-x has another, or "d-x.2".
    const std::size_t dot = storage.find('.');
    const bool former = dot != std::string::npos || catalog->find_disk(storage) != nullptr;
    if (needed.count(storage) != 0 || !storage.starts_with("d-") || !former) continue;
    log(LogLevel::kInfo, "control", "storage {} is needed no more", storage);
    auto gone = co_await host.delete_storage(storage);
    if (!gone) {
      log(LogLevel::kError, "control", "storage {} stays for now: {}", storage,
          gone.error().message);
    }
  }
}

}  // namespace clouddisk
