// promises.cc: answers before all is done, as the cloud gives them.
//
// What is about to be is on record, with the ids that the answer has, before the answer goes out;
// it is marked as promised until it is done. A crash in between, or a failure that could not be put
// on record, leaves the mark, and settle() does what was promised. What can't be done is given up:
// the client sees the disk or the instance vanish, as with the cloud, and the log says why.
#include "engine/base/log.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

DiskRecord given_up(DiskRecord disk) {
  disk.promised = false;
  disk.status = DiskStatus::kDeleting;
  return disk;
}

}  // namespace

Task<Verdict> Control::Impl::announce(CatalogChange change, ControlRequest& request,
                                      const Json& answer) {
  if (request.waits || request.answer) co_return co_await commit(std::move(change));
  Json body = answer.is_object() ? answer : Json::object();
  put_token(change, request, body);
  if (auto failed = co_await commit(std::move(change))) co_return failed;
  request.give(Outcome(std::move(body)));
  co_return Verdict();
}

Task<Result<void>> Control::Impl::take_back(CatalogChange undo, ControlRequest& request) {
  // The same token makes it anew.
  if (request.answer && request.token) undo.erase(*request.token);
  co_return co_await catalog->commit(std::move(undo));
}

Task<Result<void>> Control::Impl::make_promised(DiskRecord disk, bool exported) {
  // There may be a part of it, which nobody has written to.
  if (auto stopped = co_await host.stop_disk(disk.id); !stopped) co_return stopped;
  if (auto removed = co_await host.delete_storage(disk.storage); !removed) co_return removed;
  DiskSettings settings = settings_of(disk);
  DiskSettings same = settings;
  if (auto made = co_await host.create_disk(std::move(settings)); !made) co_return made;
  if (!exported) co_return Result<void>{};
  co_return co_await host.serve_disk(std::move(same));
}

// The instance with all its disks, or none of it.
Task<void> Control::Impl::keep_promise(InstanceRecord instance, CatalogChange& change) {
  std::vector<DiskRecord> disks;
  for (const DiskRecord* disk : catalog->disks_of(instance.id)) disks.push_back(*disk);
  bool kept = true;
  for (const DiskRecord& disk : disks) {
    auto made = co_await make_promised(disk, instance.starts);
    if (made) continue;
    log(LogLevel::kError, "control", "instance {} is given up: disk {}: {}", instance.id, disk.id,
        made.error().message);
    kept = false;
    break;
  }
  for (DiskRecord& disk : disks) {
    if (kept) {
      disk.promised = false;
      disk.status = DiskStatus::kInUse;
      disk.attached = now();
    }
    change.put(kept ? disk : given_up(disk));
  }
  instance.promised = false;
  if (!kept) {
    instance.status = InstanceStatus::kDeleting;
  } else if (instance.starts) {
    instance.status = InstanceStatus::kRunning;
    instance.started = now();
  } else {
    instance.status = InstanceStatus::kStopped;
  }
  change.put(instance);
}

Task<void> Control::Impl::keep_promise(DiskRecord disk, CatalogChange& change) {
  const bool is_new = disk.status == DiskStatus::kCreating;
  const InstanceRecord* instance = catalog->find_instance(disk.instance_id);
  const bool exported = instance != nullptr && instance->status == InstanceStatus::kRunning;
  Result<void> kept;
  if (is_new) {
    kept = co_await make_promised(disk, exported);
  } else if (exported) {
    DiskSettings settings = settings_of(disk);
    kept = co_await host.serve_disk(std::move(settings));
  }
  if (!kept) {
    log(LogLevel::kError, "control", "disk {} is given up, {}: {}", disk.id, name(disk.status),
        kept.error().message);
  }
  disk.promised = false;
  if (kept && !disk.instance_id.empty()) {
    disk.status = DiskStatus::kInUse;
    disk.attached = now();
  } else if (kept) {
    disk.status = DiskStatus::kAvailable;
  }
  // Of one that can't be attached settle() makes an Available one.
  change.put(!kept && is_new ? given_up(disk) : disk);
}

Task<bool> Control::Impl::keep_promises() {
  CatalogChange change;
  const auto instances = catalog->instances();  // copies: the catalog changes meanwhile
  for (const auto& [id, instance] : instances) {
    if (instance.promised) co_await keep_promise(instance, change);
  }
  const auto disks = catalog->disks();
  for (const auto& [id, disk] : disks) {
    const auto owner = instances.find(disk.instance_id);
    const bool with_owner = owner != instances.end() && owner->second.promised;
    if (disk.promised && !with_owner) co_await keep_promise(disk, change);
  }
  if (change.empty()) co_return true;
  auto committed = co_await catalog->commit(std::move(change));
  if (!committed) {
    log(LogLevel::kError, "control", "what was promised is not on record: {}",
        committed.error().message);
  }
  co_return committed.has_value();
}

}  // namespace clouddisk
