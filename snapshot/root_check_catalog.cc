// root_check_catalog.cc: the copies of the catalog, its records, and what they say of each other.
#include <algorithm>

#include "engine/catalog/catalog_check.h"
#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

Task<void> RootChecker::check_catalog_copies() {
  std::array<std::optional<CatalogCopy>, kReplicaCount> copies;
  std::uint64_t newest = 0;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!is_in(i)) continue;
    auto copy = co_await read_catalog_copy(ring_, *replicas_, i);
    if (!copy) {
      find(Kind::kMendable, "catalog", i, "{}", copy.error().message);
      continue;
    }
    if (!copy->there) {
      find(Kind::kMendable, "catalog", i, "there is none");
      continue;
    }
    copies[i] = *copy;
    newest = std::max(newest, copy->commit);
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!copies[i] || copies[i]->commit == newest) continue;
    // A change counts once it is in all copies; a crash in between leaves it in some.
    const Kind kind = copies[i]->commit + 1 == newest ? Kind::kNote : Kind::kMendable;
    find(kind, "catalog", i, "is at change {}, the newest at {}", copies[i]->commit, newest);
  }
}

void RootChecker::check_disk(const DiskRecord& disk) {
  const bool doomed = disk.status == DiskStatus::kCreating || disk.status == DiskStatus::kDeleting;
  const std::uint64_t size_bytes = disk.size_gib * 1_GiB;
  // What a rollback was just making the next start makes.
  const bool made = !doomed && disk.status != DiskStatus::kReIniting;
  storages_[disk.storage] = {disk.id, made, size_bytes, disk.base_snapshot, false, doomed};
  if (!disk.undo_storage.empty()) {
    storages_[disk.undo_storage] = {disk.id, !doomed, size_bytes, disk.undo_base, false, doomed};
  }
  if (doomed) {
    find(Kind::kNote, disk.id, std::nullopt, "was being {} (a crash): the next start {} it",
         disk.status == DiskStatus::kCreating ? "made" : "deleted",
         disk.promised ? "makes" : "removes");
    return;
  }
  if (!disk.instance_id.empty() && catalog_->find_instance(disk.instance_id) == nullptr) {
    find(Kind::kLost, disk.id, std::nullopt, "is attached to {}, which is not in the catalog",
         disk.instance_id);
  }
  for (const std::string& base : {disk.base_snapshot, disk.undo_base}) {
    if (base.empty() || catalog_->find_snapshot(base) != nullptr) continue;
    find(Kind::kLost, disk.id, std::nullopt, "borrows from {}, which is not in the catalog", base);
  }
}

void RootChecker::check_snapshot(const SnapshotRecord& snapshot) {
  const ChainRecord* chain = catalog_->find_chain(snapshot.chain_id);
  if (chain == nullptr) {
    find(Kind::kLost, snapshot.id, std::nullopt, "is of chain {}, which is not in the catalog",
         snapshot.chain_id);
  } else if (chain->disk_id != snapshot.disk_id || snapshot.seq == 0 ||
             snapshot.seq >= chain->next_seq || snapshot.parent >= snapshot.seq) {
    find(Kind::kLost, snapshot.id, std::nullopt,
         "sequence {}, parent {}, disk {} do not fit its chain: next {}, disk {}", snapshot.seq,
         snapshot.parent, snapshot.disk_id, chain->next_seq, chain->disk_id);
  }
  if (!snapshot.group_id.empty() && catalog_->find_group(snapshot.group_id) == nullptr) {
    find(Kind::kLost, snapshot.id, std::nullopt, "is of group {}, which is not in the catalog",
         snapshot.group_id);
  }
  const bool captured = snapshot.status == SnapshotStatus::kAccomplished;
  if (snapshot.status == SnapshotStatus::kProgressing) {
    const auto [held, added] = storages_.try_emplace(
        snapshot.storage, CheckedStorage{snapshot.disk_id, true, snapshot.size_bytes,
                                         snapshot.storage_base, false, false});
    // Whatever becomes of its disk, the capture needs it.
    held->second.must_exist = true;
    held->second.doomed = false;
  }
  CheckedStorage& pack = storages_[snapshot.chain_id];
  pack.owner = snapshot.disk_id;
  pack.is_pack = true;
  pack.must_exist = captured || (pack.size_bytes != 0 && pack.must_exist);
  pack.size_bytes = 1;
}

void RootChecker::check_records() {
  for (const auto& [id, disk] : catalog_->disks()) check_disk(disk);
  for (const auto& [id, snapshot] : catalog_->snapshots()) check_snapshot(snapshot);
  for (const auto& [id, chain] : catalog_->chains()) {
    storages_.try_emplace(id, CheckedStorage{chain.disk_id, false, 0, {}, true, false});
  }
  result_.disks = catalog_->disks().size();
  result_.snapshots = catalog_->snapshots().size();
}

}  // namespace clouddisk::snapshot
