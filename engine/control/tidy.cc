// tidy.cc: what nothing needs any more goes.
//
// A deleted snapshot is hidden at once. Its content stays while a disk borrows from it, a capture
// compares with it, or the disk's next snapshot will: then it goes, and with the last one the
// chain. One disk can be tidied beside changes of others: nobody begins to borrow from a hidden
// snapshot, and who began before is on record.
#include <algorithm>
#include <set>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

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

// What was before a rollback longer ago than it can be undone.
Task<bool> Control::Impl::forget_undo(std::vector<DiskRecord> disks) {
  CatalogChange expired;
  for (DiskRecord& disk : disks) {
    // One that is ReIniting may yet have to go back to it.
    const bool stays = disk.status == DiskStatus::kReIniting || disk.undo_until >= now();
    if (disk.undo_storage.empty() || stays) continue;
    untidy = untidy || !disk.undo_base.empty();
    former_storages.insert(disk.undo_storage);
    disk.undo_storage.clear();
    disk.undo_base.clear();
    disk.undo_current = 0;
    disk.undo_until = {};
    expired.put(disk);
  }
  if (expired.empty()) co_return true;
  co_return !co_await commit(std::move(expired));
}

Task<bool> Control::Impl::drop_snapshots(std::vector<SnapshotRecord> snapshots) {
  for (const SnapshotRecord& snapshot : snapshots) {
    const bool failed = snapshot.status == SnapshotStatus::kFailed;
    if ((!snapshot.hidden && !failed) || is_needed(snapshot)) continue;
    auto gone = co_await host.drop_snapshot(snapshot.disk_id, snapshot.seq);
    if (!gone) {
      log(LogLevel::kError, "control", "snapshot {} stays for now: {}", snapshot.id,
          gone.error().message);
      untidy = true;
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
    untidy = untidy || !snapshot.storage_base.empty();
    change.erase(snapshot);
    if (co_await commit(std::move(change))) co_return false;
  }
  co_return true;
}

Task<bool> Control::Impl::drop_chains(std::vector<ChainRecord> chains) {
  for (const ChainRecord& chain : chains) {
    if (catalog->find_disk(chain.disk_id) != nullptr) continue;
    if (!catalog->snapshots_of_disk(chain.disk_id).empty()) continue;
    if (!co_await host.remove_chain(chain.disk_id)) {
      untidy = true;
      continue;
    }
    CatalogChange change;
    change.erase(chain);
    if (co_await commit(std::move(change))) co_return false;
  }
  co_return true;
}

// A former storage of a disk: what was frozen in it may not be captured yet.
bool Control::Impl::is_needed(const std::string& storage) const {
  const std::string owner = storage.substr(0, storage.find('.'));
  const DiskRecord* disk = catalog->find_disk(owner);
  if (disk != nullptr && (disk->storage == storage || disk->undo_storage == storage)) return true;
  for (const SnapshotRecord* snapshot : catalog->snapshots_of_disk(owner)) {
    if (snapshot->status == SnapshotStatus::kProgressing && snapshot->storage == storage)
      return true;
  }
  return false;
}

Task<bool> Control::Impl::drop_storage(std::string storage) {
  log(LogLevel::kInfo, "control", "storage {} is needed no more", storage);
  auto gone = co_await host.delete_storage(storage);
  if (gone) {
    former_storages.erase(storage);
  } else {
    log(LogLevel::kError, "control", "storage {} stays for now: {}", storage, gone.error().message);
  }
  co_return gone.has_value();
}

Task<bool> Control::Impl::drop_storages(std::string disk_id) {
  const auto known = former_storages;  // a copy: it changes below
  bool all = true;
  for (const std::string& storage : known) {
    if (storage.substr(0, storage.find('.')) != disk_id || is_needed(storage)) continue;
    if (!co_await drop_storage(storage)) all = false;
  }
  co_return all;
}

Task<bool> Control::Impl::drop_former_storages(std::string disk_id) {
  auto storages = co_await host.storages();
  if (!storages) co_return false;
  bool all = true;
  for (const std::string& storage : *storages) {
    if (storage.substr(0, storage.find('.')) != disk_id || is_needed(storage)) continue;
    if (!co_await drop_storage(storage)) all = false;
  }
  co_return all;
}

// Whatever is there, also of an earlier life of the daemon.
Task<bool> Control::Impl::drop_former_storages() {
  auto storages = co_await host.storages();
  if (!storages) co_return false;
  bool all = true;
  for (const std::string& storage : *storages) {
    // Only what is surely a former storage of a disk: "d-x" while d-x has another, or "d-x.2".
    const bool former =
        storage.find('.') != std::string::npos || catalog->find_disk(storage) != nullptr;
    if (!storage.starts_with("d-") || !former || is_needed(storage)) continue;
    if (!co_await drop_storage(storage)) all = false;
  }
  co_return all;
}

Task<void> Control::Impl::tidy() {
  untidy = false;
  std::vector<DiskRecord> disks;
  for (const auto& [id, disk] : catalog->disks()) disks.push_back(disk);
  std::vector<SnapshotRecord> snapshots;
  for (const auto& [id, snapshot] : catalog->snapshots()) snapshots.push_back(snapshot);
  bool recorded = co_await forget_undo(std::move(disks));
  if (recorded) recorded = co_await drop_snapshots(std::move(snapshots));
  if (recorded) {
    std::vector<ChainRecord> chains;
    for (const auto& [id, chain] : catalog->chains()) chains.push_back(chain);
    recorded = co_await drop_chains(std::move(chains));
  }
  if (recorded) recorded = co_await drop_former_storages();
  if (!recorded) untidy = true;
}

Task<void> Control::Impl::tidy(std::string disk_id) {
  std::vector<DiskRecord> disks;
  if (const DiskRecord* disk = catalog->find_disk(disk_id)) disks.push_back(*disk);
  bool recorded = co_await forget_undo(std::move(disks));
  std::vector<SnapshotRecord> snapshots;
  for (const SnapshotRecord* one : catalog->snapshots_of_disk(disk_id)) snapshots.push_back(*one);
  if (recorded) recorded = co_await drop_snapshots(std::move(snapshots));
  std::vector<ChainRecord> chains;
  if (const ChainRecord* chain = catalog->find_chain(chain_id_of(disk_id))) {
    chains.push_back(*chain);
  }
  if (recorded) recorded = co_await drop_chains(std::move(chains));
  if (recorded) recorded = co_await drop_storages(std::move(disk_id));
  if (!recorded) untidy = true;
}

}  // namespace clouddisk
