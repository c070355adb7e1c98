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

void Control::Impl::answer_early(ControlRequest& request, Outcome outcome) {
  if (request.waits || request.answer) return;
  ++unfinished;
  request.counted = true;
  request.give(std::move(outcome));
}

Task<Verdict> Control::Impl::announce(CatalogChange change, ControlRequest& request,
                                      const Json& answer) {
  if (request.waits || request.answer) co_return co_await commit(std::move(change));
  Json body = answer.is_object() ? answer : Json::object();
  put_token(change, request, body);
  if (auto failed = co_await commit(std::move(change))) co_return failed;
  answer_early(request, Outcome(std::move(body)));
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

// The storages of promised disks that are Creating, from the beginning: there may be a part of one,
// which nobody has written to. Those of an instance are made together, or none.
Task<bool> Control::Impl::make_what_was_promised() {
  std::map<std::string, std::vector<DiskRecord>> groups;  // by instance, or by disk without one
  for (const auto& [id, disk] : catalog->disks()) {
    if (!disk.promised || disk.status != DiskStatus::kCreating) continue;
    const InstanceRecord* instance = catalog->find_instance(disk.instance_id);
    const bool with_it = instance != nullptr && instance->promised;
    groups[with_it ? instance->id : id].push_back(disk);
  }
  CatalogChange change;
  std::set<std::string> gone;
  for (const auto& [id, disks] : groups) {
    Result<void> made;
    for (const DiskRecord& disk : disks) {
      if (made) made = co_await make_anew(disk);
    }
    if (!made && may_pass(made.error().code)) {
      log(LogLevel::kWarning, "control", "{} is made later: {}", id, made.error().message);
      unsettled = true;
      continue;
    }
    for (DiskRecord disk : disks) {
      disk.status = DiskStatus::kAttaching;
      change.put(made ? disk : given_up(disk));
    }
    if (made) continue;
    log(LogLevel::kError, "control", "{} is given up: {}", id, made.error().message);
    gone.insert(id);
    if (const InstanceRecord* instance = catalog->find_instance(id)) {
      change.put(given_up(*instance));
    }
  }
  forget_tokens(gone, change);
  co_return co_await put_on_record(std::move(change));
}

Task<Result<void>> Control::Impl::make_anew(DiskRecord disk) {
  if (auto stopped = co_await host.stop_disk(disk.id); !stopped) co_return stopped;
  if (auto removed = co_await host.delete_storage(disk.storage); !removed) co_return removed;
  DiskSettings settings = settings_of(disk);
  co_return co_await host.create_disk(std::move(settings));
}

// A token stays as long as something of its answer does.
void Control::Impl::forget_tokens(const std::set<std::string>& gone, CatalogChange& change) const {
  const auto is_there = [&](const std::string& id) {
    const bool known = catalog->find_instance(id) != nullptr || catalog->find_disk(id) != nullptr;
    return known && gone.count(id) == 0;
  };
  for (const auto& [key, token] : catalog->tokens()) {
    const Json reply = Json::parse(token.reply_json, nullptr, false);
    if (gone.empty() || !reply.is_object()) continue;
    std::vector<std::string> ids;
    if (reply.contains("DiskId")) ids.push_back(reply.value("DiskId", ""));
    if (reply.contains("InstanceId")) ids.push_back(reply.value("InstanceId", ""));
    const auto list = Json::json_pointer("/InstanceIdSets/InstanceIdSet");
    if (reply.contains(list)) ids = reply[list].get<std::vector<std::string>>();
    const bool about = std::any_of(ids.begin(), ids.end(),
                                   [&gone](const std::string& id) { return gone.count(id) != 0; });
    if (about && std::none_of(ids.begin(), ids.end(), is_there)) change.erase(token);
  }
}

// An instance that is Pending, whose disks are made: with one that can't be exported it is Stopped,
// and keeps them all.
Task<void> Control::Impl::keep_promise(InstanceRecord instance, CatalogChange& change) {
  std::vector<DiskRecord> disks;
  for (const DiskRecord* disk : catalog->disks_of(instance.id)) disks.push_back(*disk);
  const bool complete =
      std::any_of(disks.begin(), disks.end(), [](const DiskRecord& disk) { return disk.system; });
  Result<void> served;
  for (const DiskRecord& disk : disks) {
    if (disk.status == DiskStatus::kCreating) co_return;  // Later, with its disks.
    if (!served || !complete || !instance.starts) continue;
    DiskSettings settings = settings_of(disk);
    served = co_await host.serve_disk(std::move(settings));
  }
  if (!served && may_pass(served.error().code)) {
    log(LogLevel::kWarning, "control", "instance {} starts later: {}", instance.id,
        served.error().message);
    unsettled = true;
    co_return;
  }
  if (!served) {
    log(LogLevel::kError, "control", "instance {} can't start: {}", instance.id,
        served.error().message);
    for (const DiskRecord& disk : disks) {
      if (!co_await host.stop_disk(disk.id)) unsettled = true;
    }
  }
  for (DiskRecord& disk : disks) {
    disk.promised = false;
    disk.status = DiskStatus::kInUse;
    disk.attached = now();
    change.put(complete ? disk : given_up(disk));
  }
  if (!complete) {
    log(LogLevel::kError, "control", "instance {} is given up: it has no system disk", instance.id);
    forget_tokens({instance.id}, change);
    change.put(given_up(instance));
    co_return;
  }
  const bool runs = served && instance.starts;
  instance.promised = false;
  instance.status = runs ? InstanceStatus::kRunning : InstanceStatus::kStopped;
  if (runs) instance.started = now();
  change.put(instance);
}

// A disk that is made: In_use, or Available where it can't be.
Task<void> Control::Impl::keep_promise(DiskRecord disk, CatalogChange& change) {
  if (disk.status == DiskStatus::kCreating) co_return;  // Later.
  const InstanceRecord* instance = catalog->find_instance(disk.instance_id);
  if (disk.system && instance != nullptr) {  // ReplaceSystemDisk's
    for (const DiskRecord* other : catalog->disks_of(disk.instance_id)) {
      const bool given_up = other->status == DiskStatus::kDeleting;
      if (!other->system || other->id == disk.id || given_up) continue;
      put_exchange(std::move(disk), *other, change);
      co_return;
    }
  }
  const bool attaches = disk.status == DiskStatus::kAttaching && instance != nullptr;
  Result<void> served;
  if (attaches && instance->status == InstanceStatus::kRunning) {
    DiskSettings settings = settings_of(disk);
    served = co_await host.serve_disk(std::move(settings));
  }
  if (!served && may_pass(served.error().code)) {
    log(LogLevel::kWarning, "control", "disk {} is attached later: {}", disk.id,
        served.error().message);
    unsettled = true;
    co_return;
  }
  if (!served) {
    log(LogLevel::kError, "control", "disk {} can't be attached: {}", disk.id,
        served.error().message);
  } else if (attaches) {
    disk.status = DiskStatus::kInUse;
    disk.attached = now();
  }
  disk.promised = false;
  change.put(disk);  // Still Attaching: settle() makes an Available one of it.
}

Task<bool> Control::Impl::put_on_record(CatalogChange change) {
  if (change.empty()) co_return true;
  auto committed = co_await catalog->commit(std::move(change));
  if (!committed) {
    log(LogLevel::kError, "control", "what was promised is not on record: {}",
        committed.error().message);
  }
  co_return committed.has_value();
}

Task<bool> Control::Impl::keep_promises() {
  // On record before anything is exported: what has been exported is not made again.
  if (!co_await make_what_was_promised()) co_return false;
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
  co_return co_await put_on_record(std::move(change));
}

}  // namespace clouddisk
