// promises.cc: answers before all is done, as the cloud gives them.
//
// What is about to be is on record, with the ids that the answer has, before the answer goes out;
// it is marked as promised until it is done. A crash in between, or a failure that could not be put
// on record, leaves the mark, and settle() does what was promised. What can't be done is given up:
// the client sees the disk or the instance vanish, as with the cloud, the log says why, and the
// token of the request is forgotten.
//
// A promised disk is Creating until its storage is made, and may then be made anew: nobody has
// written to it. Before it is exported it is Attaching, and keeps what it has.
#include <algorithm>

#include "engine/base/log.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

// Beyond that, answers come when all is done: what goes on has to be bounded.
constexpr std::size_t kUnfinishedMax = 256;

}  // namespace

DiskRecord Control::Impl::given_up(DiskRecord disk) {
  disk.promised = false;
  disk.status = DiskStatus::kDeleting;
  return disk;
}

InstanceRecord Control::Impl::given_up(InstanceRecord instance) {
  instance.promised = false;
  instance.status = InstanceStatus::kDeleting;
  return instance;
}

void Control::Impl::forget_tokens_about(const std::string& id, CatalogChange& change) const {
  for (const auto& [key, token] : catalog->tokens()) {
    if (token.reply_json.find('"' + id + '"') != std::string::npos) change.erase(token);
  }
}

Task<Verdict> Control::Impl::announce(CatalogChange change, ControlRequest& request,
                                      const Json& answer) {
  if (request.waits || request.answer) co_return co_await commit(std::move(change));
  Json body = answer.is_object() ? answer : Json::object();
  put_token(change, request, body);
  if (auto failed = co_await commit(std::move(change))) co_return failed;
  if (unfinished >= kUnfinishedMax) co_return Verdict();
  ++unfinished;
  request.counted = true;
  request.give(Outcome(std::move(body)));
  co_return Verdict();
}

Task<Verdict> Control::Impl::mark_made(std::span<const DiskRecord> disks, ControlRequest& request) {
  if (request.waits) co_return Verdict();  // Nobody knows their ids.
  CatalogChange change;
  for (DiskRecord disk : disks) {
    disk.status = DiskStatus::kAttaching;
    change.put(disk);
  }
  auto failed = co_await commit(std::move(change));
  if (failed) unsettled = true;
  co_return failed;
}

Task<Result<void>> Control::Impl::make_promised(DiskRecord disk, bool exported) {
  if (disk.status == DiskStatus::kCreating) {
    // There may be a part of it, which nobody has written to.
    if (auto stopped = co_await host.stop_disk(disk.id); !stopped) co_return stopped;
    if (auto removed = co_await host.delete_storage(disk.storage); !removed) co_return removed;
    DiskSettings settings = settings_of(disk);
    if (auto made = co_await host.create_disk(std::move(settings)); !made) co_return made;
  }
  if (!exported) co_return Result<void>{};
  DiskSettings settings = settings_of(disk);
  co_return co_await host.serve_disk(std::move(settings));
}

// The instance with all its disks, or none of it.
Task<void> Control::Impl::keep_promise(InstanceRecord instance, CatalogChange& change) {
  std::vector<DiskRecord> disks;
  for (const DiskRecord* disk : catalog->disks_of(instance.id)) disks.push_back(*disk);
  bool kept =
      std::any_of(disks.begin(), disks.end(), [](const DiskRecord& disk) { return disk.system; });
  for (const DiskRecord& disk : disks) {
    if (!kept) break;
    auto made = co_await make_promised(disk, instance.starts);
    if (made) continue;
    log(LogLevel::kError, "control", "instance {} is given up: disk {}: {}", instance.id, disk.id,
        made.error().message);
    kept = false;
  }
  for (DiskRecord& disk : disks) {
    if (kept) {
      disk.promised = false;
      disk.status = DiskStatus::kInUse;
      disk.attached = now();
    }
    change.put(kept ? disk : given_up(disk));
  }
  if (!kept) {
    forget_tokens_about(instance.id, change);
    change.put(given_up(instance));
    co_return;
  }
  instance.promised = false;
  if (instance.starts) {
    instance.status = InstanceStatus::kRunning;
    instance.started = now();
  } else {
    instance.status = InstanceStatus::kStopped;
  }
  change.put(instance);
}

Task<void> Control::Impl::keep_promise(DiskRecord disk, CatalogChange& change) {
  const bool is_new = disk.status == DiskStatus::kCreating;
  if (!is_new && disk.status != DiskStatus::kAttaching) {
    disk.promised = false;
    change.put(disk);
    co_return;
  }
  const InstanceRecord* instance = catalog->find_instance(disk.instance_id);
  const bool exported = instance != nullptr && instance->status == InstanceStatus::kRunning;
  Result<void> kept;
  if (!disk.instance_id.empty() && instance == nullptr) {
    kept = fail(Errc::kNotFound, "there is no instance {}", disk.instance_id);
  } else {
    kept = co_await make_promised(disk, exported);
  }
  if (!kept) {
    log(LogLevel::kError, "control", "disk {} is given up, {}: {}", disk.id, name(disk.status),
        kept.error().message);
    if (is_new) {
      forget_tokens_about(disk.id, change);
      change.put(given_up(disk));
      co_return;
    }
    // settle() makes an Available one of it.
  } else if (disk.instance_id.empty()) {
    disk.status = DiskStatus::kAvailable;
  } else {
    disk.status = DiskStatus::kInUse;
    disk.attached = now();
  }
  disk.promised = false;
  change.put(disk);
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
