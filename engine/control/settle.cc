// What a crash leaves, and what becomes of it:
//   disk      Creating            storage and record go; answered: it is made anew
//             Deleting            the deletion is finished
//             Attaching           Available again; answered: In_use
//             Detaching           finished: Available
//             ReIniting           its new storage is made: back to where it was attached
//             Importing           the client that filled it is gone: storage and record go
//   instance  Pending             it goes, with its disks, which are Creating; answered: all are
//   made
//             Deleting            the release is finished
//             Starting            Running, and served; Stopped, where a disk can't be
//             Stopping            Stopped
//   task      Processing          finished: the record of its disk has the change already
#include <algorithm>
#include <set>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr std::string_view kComponent = "control";

bool is_doomed(const DiskRecord& disk) {
  return disk.status == DiskStatus::kCreating || disk.status == DiskStatus::kDeleting;
}

// The disk at rest after its unfinished change.
DiskRecord settled(DiskRecord disk) {
  disk.status = DiskStatus::kAvailable;
  disk.instance_id.clear();
  disk.device.clear();
  disk.visible_gib = disk.size_gib;
  return disk;
}

bool is_at_rest(const DiskRecord& disk) {
  return disk.status == DiskStatus::kAvailable || disk.status == DiskStatus::kInUse ||
         disk.status == DiskStatus::kImporting;
}

}  // namespace

// Of one of its storages, former ones included: "d-x", "d-x.2". The snapshot may be hidden, and
// still be needed.
bool Control::Impl::is_captured(const DiskRecord& disk) const {
  const auto& snapshots = catalog->snapshots();
  return std::any_of(snapshots.begin(), snapshots.end(), [&disk](const auto& entry) {
    const std::string& storage = entry.second.storage;
    return entry.second.status == SnapshotStatus::kProgressing &&
           storage.substr(0, storage.find('.')) == disk.id;
  });
}

Task<Control::Impl::Removal> Control::Impl::remove_storage(DiskRecord disk) {
  auto stopped = co_await host.stop_disk(disk.id);
  if (!stopped) {
    log(LogLevel::kError, kComponent, "disk {}: can't be closed: {}", disk.id,
        stopped.error().message);
    co_return Removal::kFailed;
  }
  if (is_captured(disk)) co_return Removal::kAwaitsCapture;
  std::vector<std::string> storages = {disk.storage};
  if (!disk.undo_storage.empty()) storages.push_back(disk.undo_storage);
  for (const std::string& storage : storages) {
    auto deleted = co_await host.delete_storage(storage);
    if (deleted) continue;
    log(LogLevel::kError, kComponent, "disk {}: its storage stays for now: {}", disk.id,
        deleted.error().message);
    co_return Removal::kFailed;
  }
  // Former ones that stayed, perhaps since an earlier life of the daemon.
  if (disk.storages > 0 && !co_await drop_former_storages(disk.id)) co_return Removal::kFailed;
  co_return Removal::kDone;
}

void Control::Impl::let_go(const DiskRecord& disk) {
  // What it borrowed from may be another disk's, and gone but for this.
  untidy = untidy || !disk.base_snapshot.empty() || !disk.undo_base.empty();
}

Task<void> Control::Impl::finish_deletion(DiskRecord disk) {
  co_await remove_automatic_snapshots(disk);
  const Removal removal = co_await remove_storage(disk);
  if (removal != Removal::kDone) {
    unsettled = unsettled || removal == Removal::kFailed;
    awaits_captures = awaits_captures || removal == Removal::kAwaitsCapture;
    co_await tidy(disk.id);  // What nothing needs of it goes all the same.
    co_return;
  }
  CatalogChange finished;
  finished.erase(disk);
  if (co_await commit(std::move(finished))) unsettled = true;
  let_go(disk);
  co_await tidy(disk.id);
}

Task<void> Control::Impl::give_up_imports() {
  CatalogChange change;
  for (const auto& [id, found] : catalog->disks()) {
    if (found.status != DiskStatus::kImporting) continue;
    DiskRecord disk = found;
    disk.status = DiskStatus::kDeleting;
    change.put(disk);
  }
  auto committed = co_await catalog->commit(std::move(change));
  if (!committed) {
    log(LogLevel::kError, kComponent, "unfinished imports stay for now: {}",
        committed.error().message);
  }
}

bool Control::Impl::may_pass(Errc code) {
  return code == Errc::kReplicasLost || code == Errc::kTimedOut || code == Errc::kBusy ||
         code == Errc::kShutdown;
}

Task<void> Control::Impl::settle_if_need_be() {
  if (!unsettled) co_return;
  auto all = co_await changing.lock_all();
  if (unsettled && !closing) co_await settle();
}

Task<void> Control::Impl::settle() {
  unsettled = false;
  awaits_captures = false;
  if (!co_await keep_promises()) {
    unsettled = true;
    co_return;
  }
  CatalogChange change;
  std::set<std::string> kept;           // instances of which a disk can't go yet
  const auto disks = catalog->disks();  // copies: the catalog changes below
  for (const auto& [id, disk] : disks) {
    if (is_at_rest(disk)) continue;
    if (disk.promised) {  // It is tried again.
      kept.insert(disk.instance_id);
      continue;
    }
    // One that only waits for its snapshot's capture comes by here with every capture.
    const bool waits = disk.status == DiskStatus::kDeleting && is_captured(disk);
    log(waits ? LogLevel::kDebug : LogLevel::kInfo, kComponent, "disk {} {} {}", id,
        waits ? "awaits its snapshot's capture," : "is finished now, found", name(disk.status));
    if (is_doomed(disk)) {
      co_await remove_automatic_snapshots(disk);
      const Removal removal = co_await remove_storage(disk);
      if (removal == Removal::kDone) {
        change.erase(disk);
        continue;
      }
      unsettled = unsettled || removal == Removal::kFailed;
      awaits_captures = awaits_captures || removal == Removal::kAwaitsCapture;
      kept.insert(disk.instance_id);
      continue;
    }
    if (disk.status == DiskStatus::kReIniting) {
      Result<void> made = co_await make_anew(disk);
      co_await conclude_anew(disk, std::move(made));
      continue;
    }
    auto stopped = co_await host.stop_disk(id);
    if (stopped) {
      change.put(settled(disk));
    } else {
      log(LogLevel::kError, kComponent, "disk {}: {}", id, stopped.error().message);
      unsettled = true;
      kept.insert(disk.instance_id);
    }
  }
  const auto instances = catalog->instances();
  for (const auto& [id, found] : instances) {
    InstanceRecord instance = found;
    if (instance.promised) continue;
    switch (instance.status) {
      case InstanceStatus::kRunning:
      case InstanceStatus::kStopped:
        continue;
      case InstanceStatus::kPending:
      case InstanceStatus::kDeleting:
        // Stays as long as a disk of its own does.
        if (kept.count(id) == 0) change.erase(instance);
        continue;
      case InstanceStatus::kStarting: {
        auto served = co_await serve_disks_of(id);
        const bool later = !served && may_pass(served.error().code);
        if (later || (!served && !co_await stop_disks_of(id))) {
          unsettled = true;
          continue;
        }
        instance.status = served ? InstanceStatus::kRunning : InstanceStatus::kStopped;
        break;
      }
      case InstanceStatus::kStopping:
        if (!co_await stop_disks_of(id)) {
          unsettled = true;
          continue;
        }
        instance.status = InstanceStatus::kStopped;
        break;
    }
    change.put(instance);
  }
  co_await settle_tasks(change);
  auto committed = co_await catalog->commit(std::move(change));
  if (committed) {
    co_await tidy();
  } else {
    log(LogLevel::kError, kComponent, "unfinished changes stay for now: {}",
        committed.error().message);
    unsettled = true;
  }
}

Task<Result<void>> Control::Impl::serve_disks_of(std::string instance_id) {
  std::vector<DiskRecord> disks;
  for (const DiskRecord* disk : catalog->disks_of(instance_id)) disks.push_back(*disk);
  for (const DiskRecord& disk : disks) {
    if (disk.status != DiskStatus::kInUse) continue;
    DiskSettings settings = settings_of(disk);
    auto served = co_await host.serve_disk(std::move(settings));
    if (served) continue;
    log(LogLevel::kError, kComponent, "instance {} does not start: disk {}: {}", instance_id,
        disk.id, served.error().message);
    co_return served;
  }
  co_return Result<void>{};
}

Task<bool> Control::Impl::stop_disks_of(std::string instance_id) {
  std::vector<std::string> ids;
  for (const DiskRecord* disk : catalog->disks_of(instance_id)) ids.push_back(disk->id);
  bool all = true;
  for (const std::string& id : ids) {
    auto stopped = co_await host.stop_disk(id);
    if (stopped) continue;
    log(LogLevel::kError, kComponent, "instance {} stops later: disk {}: {}", instance_id, id,
        stopped.error().message);
    all = false;
  }
  co_return all;
}

Task<void> Control::Impl::release(std::string instance_id) {
  CatalogChange change;
  bool complete = true;
  std::vector<DiskRecord> disks;
  for (const DiskRecord* disk : catalog->disks_of(instance_id)) disks.push_back(*disk);
  for (const DiskRecord& disk : disks) {
    if (is_doomed(disk)) {
      co_await remove_automatic_snapshots(disk);
      const Removal removal = co_await remove_storage(disk);
      if (removal == Removal::kDone) change.erase(disk);
      let_go(disk);
      awaits_captures = awaits_captures || removal == Removal::kAwaitsCapture;
      unsettled = unsettled || removal == Removal::kFailed;
      complete = complete && removal == Removal::kDone;
    } else if (auto stopped = co_await host.stop_disk(disk.id); stopped) {
      change.put(settled(disk));
    } else {
      log(LogLevel::kError, kComponent, "disk {}: {}", disk.id, stopped.error().message);
      unsettled = true;
      complete = false;
    }
  }
  const InstanceRecord* instance = catalog->find_instance(instance_id);
  if (complete && instance != nullptr) change.erase(*instance);
  if (co_await commit(std::move(change))) {
    unsettled = true;
    co_return;
  }
  for (const DiskRecord& disk : disks) co_await tidy(disk.id);
}

Task<void> Control::Impl::serve_all() {
  const auto disks = catalog->disks();
  for (const auto& [id, disk] : disks) {
    if (!is_served(disk)) continue;
    DiskSettings settings = settings_of(disk);
    auto served = co_await host.serve_disk(std::move(settings));
    if (!served) {
      log(LogLevel::kError, kComponent, "disk {} is not served: {}", id, served.error().message);
    }
  }
}

Task<Result<void>> Control::Impl::ensure_local_instance() {
  if (catalog->find_instance(kLocalInstanceId) != nullptr) co_return Result<void>{};
  InstanceRecord local;
  local.id = kLocalInstanceId;
  local.region = options.places.home().id;
  local.zone = options.places.home().zones.front();
  local.instance_name = "local";
  local.description = "the daemon's own host";
  local.host_name = "localhost";
  local.image_id = "local";
  local.type = "ecs.local";
  local.status = InstanceStatus::kRunning;
  local.created = now();
  local.started = now();
  CatalogChange change;
  change.put(local);
  auto committed = co_await catalog->commit(std::move(change));
  if (!committed) co_return fail(committed.error(), "make instance {}", kLocalInstanceId);
  co_return Result<void>{};
}

}  // namespace clouddisk
