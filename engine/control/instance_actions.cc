#include <fmt/format.h>

#include "engine/base/log.h"
#include "engine/catalog/instance_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

Task<Outcome> Control::Impl::build_instances(std::vector<NewInstance> plans,
                                             InstanceStatus final_status, ControlRequest& request,
                                             Json answer) {
  const bool starts = final_status == InstanceStatus::kRunning;
  CatalogChange announced;
  std::vector<DiskRecord> disks;
  std::vector<InstanceRecord> instances;
  for (NewInstance& plan : plans) {
    plan.instance.starts = starts;
    announced.put(plan.instance);
    instances.push_back(plan.instance);
    for (const DiskRecord& disk : plan.disks) {
      announced.put(disk);
      disks.push_back(disk);
    }
  }
  if (auto failed = co_await announce(std::move(announced), request, answer)) co_return *failed;
  if (auto failed = co_await make_storage(disks, request, std::move(instances))) co_return *failed;
  if (starts) {
    if (auto failed = co_await mark_made(disks, request)) co_return *failed;
  }
  CatalogChange finished;
  for (NewInstance& plan : plans) {
    for (DiskRecord& disk : plan.disks) {
      if (starts) {
        DiskSettings settings = settings_of(disk);
        auto served = co_await host.serve_disk(std::move(settings));
        if (!served) {
          unsettled = true;  // Pending and Creating in the catalog: settle() removes them all.
          co_return refusal_of(served.error());
        }
      }
      disk.status = DiskStatus::kInUse;
      disk.promised = false;
      disk.attached = now();
      finished.put(disk);
    }
    plan.instance.status = final_status;
    plan.instance.promised = false;
    if (starts) plan.instance.started = now();
    finished.put(plan.instance);
  }
  Outcome outcome = co_await commit_and_answer(std::move(finished), request, std::move(answer));
  if (outcome.refusal) unsettled = true;
  co_return outcome;
}

Task<Outcome> Control::Impl::create_instance(ControlRequest& request) {
  NewInstance plan;
  if (auto broken = plan_instance(request, plan)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  give_ids(plan, request);
  Json answer = {{"InstanceId", plan.instance.id}, {"OrderId", ""}};
  std::vector<NewInstance> plans;
  plans.push_back(std::move(plan));
  co_return co_await build_instances(std::move(plans), InstanceStatus::kStopped, request,
                                     std::move(answer));
}

Task<Outcome> Control::Impl::run_instances(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::uint64_t amount = reader.number("Amount", 1);
  const std::uint64_t min_amount = reader.number("MinAmount", amount);
  const bool unique_suffix = reader.boolean("UniqueSuffix", false);
  if (reader.problem()) co_return *reader.problem();
  if (auto broken = amount_must_be_possible(amount, min_amount)) co_return *broken;
  NewInstance model;
  if (auto broken = plan_instance(request, model)) co_return *broken;
  const std::vector<std::string> host_names = reader.list("HostNames");
  if (request.dry_run) co_return would_succeed();

  std::vector<NewInstance> plans;
  Json ids = Json::array();
  for (std::uint64_t i = 0; i < amount; ++i) {
    NewInstance plan = model;
    if (unique_suffix && amount > 1 && !plan.instance.instance_name.empty()) {
      plan.instance.instance_name += fmt::format("{:03}", i + 1);
    }
    if (i < host_names.size()) plan.instance.host_name = host_names[i];
    give_ids(plan, request);
    ids.push_back(plan.instance.id);
    plans.push_back(std::move(plan));
  }
  Json answer = {{"InstanceIdSets", {{"InstanceIdSet", std::move(ids)}}}, {"OrderId", ""}};
  co_return co_await build_instances(std::move(plans), InstanceStatus::kRunning, request,
                                     std::move(answer));
}

Task<Verdict> Control::Impl::set_status(InstanceRecord instance, InstanceStatus status) {
  instance.status = status;
  CatalogChange change;
  change.put(instance);
  co_return co_await commit(std::move(change));
}

Control::Impl::Switching Control::Impl::plan_start(const std::string& id,
                                                   CatalogChange& announced) const {
  Switching switching{*catalog->find_instance(id), {}};
  for (const DiskRecord* found : catalog->disks_of(id)) {
    DiskRecord disk = *found;
    if (disk.status == DiskStatus::kDeleting) continue;  // given up
    disk.visible_gib = disk.size_gib;                    // What an offline resize waited for.
    switching.disks.push_back(disk);
    announced.put(disk);
  }
  InstanceRecord instance = switching.before;
  instance.status = InstanceStatus::kStarting;
  announced.put(instance);
  return switching;
}

Task<Verdict> Control::Impl::start(std::string id, ControlRequest& request) {
  CatalogChange announced;
  Switching switching = plan_start(id, announced);
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return failed;
  co_return co_await finish_start(std::move(switching));
}

Task<Verdict> Control::Impl::finish_start(Switching switching) {
  const auto& [before, disks] = switching;
  for (const DiskRecord& disk : disks) {
    DiskSettings settings = settings_of(disk);
    auto served = co_await host.serve_disk(std::move(settings));
    if (served) continue;
    for (const DiskRecord& other : disks) {
      if (!co_await host.stop_disk(other.id)) unsettled = true;
    }
    if (co_await set_status(before, InstanceStatus::kStopped)) unsettled = true;
    co_return Verdict(refusal_of(fail(served.error(), "disk {}", disk.id)));
  }
  InstanceRecord instance = before;
  instance.started = now();
  auto failed = co_await set_status(instance, InstanceStatus::kRunning);
  if (failed) unsettled = true;
  co_return failed;
}

Control::Impl::Switching Control::Impl::plan_stop(const std::string& id,
                                                  CatalogChange& announced) const {
  Switching switching{*catalog->find_instance(id), {}};
  for (const DiskRecord* disk : catalog->disks_of(id)) switching.disks.push_back(*disk);
  InstanceRecord stopping = switching.before;
  stopping.status = InstanceStatus::kStopping;
  announced.put(stopping);
  return switching;
}

Task<Verdict> Control::Impl::stop(std::string id, ControlRequest& request) {
  CatalogChange announced;
  Switching switching = plan_stop(id, announced);
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return failed;
  co_return co_await finish_stop(std::move(switching));
}

Task<Verdict> Control::Impl::finish_stop(Switching switching) {
  const auto& [before, disks] = switching;
  for (const DiskRecord& disk : disks) {
    auto stopped = co_await host.stop_disk(disk.id);
    if (stopped) continue;
    for (const DiskRecord& other : disks) {
      DiskSettings settings = settings_of(other);
      auto served = co_await host.serve_disk(std::move(settings));
      if (!served) {
        log(LogLevel::kError, "control", "disk {} is not served: {}", other.id,
            served.error().message);
      }
    }
    if (co_await set_status(before, InstanceStatus::kRunning)) unsettled = true;
    co_return Verdict(refusal_of(fail(stopped.error(), "disk {}", disk.id)));
  }
  auto failed = co_await set_status(before, InstanceStatus::kStopped);
  if (failed) unsettled = true;
  co_return failed;
}

Task<Outcome> Control::Impl::start_instance(ControlRequest& request) {
  const std::string id = request.reader.required("InstanceId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_instance(id, instance)) co_return *broken;
  if (auto broken = instance_must_be_stopped_to_start(*instance)) co_return *broken;
  const auto attached = catalog->disks_of(id);
  if (auto broken = attached_disks_must_be_in_use(attached)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  if (auto failed = co_await start(id, request)) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::stop_instance(ControlRequest& request) {
  const std::string id = request.reader.required("InstanceId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_instance(id, instance)) co_return *broken;
  if (auto broken = instance_must_be_running_to_stop(*instance)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  if (auto failed = co_await stop(id, request)) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::reboot_instance(ControlRequest& request) {
  const std::string id = request.reader.required("InstanceId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_instance(id, instance)) co_return *broken;
  if (auto broken = instance_must_be_running_to_reboot(*instance)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  // Both, or a failure: nothing would start it after a crash in between.
  request.waits = true;
  if (auto failed = co_await stop(id, request)) co_return *failed;
  if (auto failed = co_await start(id, request)) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::modify_instance_limits(ControlRequest& request) {
  const std::string id = request.reader.required("InstanceId");
  const auto iops = request.reader.optional_number("IopsLimit");
  const auto throughput = request.reader.optional_number("ThroughputLimit");
  if (request.reader.problem()) co_return *request.reader.problem();
  const InstanceRecord* found = nullptr;
  if (auto broken = find_instance(id, found)) co_return *broken;
  const InstanceRecord before = *found;
  InstanceRecord instance = before;
  instance.iops_limit = iops.value_or(instance.iops_limit);
  instance.throughput_limit = throughput.value_or(instance.throughput_limit);
  if (auto broken =
          instance_limits_must_be_possible(instance.iops_limit, instance.throughput_limit)) {
    co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  change.put(instance);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  std::vector<DiskRecord> disks;
  for (const DiskRecord* disk : catalog->disks_of(id)) disks.push_back(*disk);
  for (std::size_t i = 0; i < disks.size(); ++i) {
    DiskSettings settings = settings_of(disks[i]);
    auto applied = co_await host.apply_settings(std::move(settings));
    if (applied) continue;
    // The old record comes back, and its limits to the disks that may have got others.
    CatalogChange undo;
    undo.put(before);
    auto undone = co_await catalog->commit(std::move(undo));
    if (!undone) {
      // The record says more than the disks have; the next serving of each brings it there.
      log(LogLevel::kError, "control", "instance {}: {}", id, undone.error().message);
    }
    for (std::size_t changed = 0; changed <= i; ++changed) {
      DiskSettings old = settings_of(disks[changed]);
      auto restored = co_await host.apply_settings(std::move(old));
      if (restored) continue;
      log(LogLevel::kError, "control", "disk {}: {}", disks[changed].id, restored.error().message);
    }
    co_return refusal_of(applied.error());
  }
  co_return done();
}

void Control::Impl::put_release(const InstanceRecord& instance, CatalogChange& change) const {
  change.put(given_up(instance));
  for (const DiskRecord* attached : catalog->disks_of(instance.id)) {
    DiskRecord disk = *attached;
    // One that is not even made goes in any case.
    const bool goes = disk.delete_with_instance || disk.status == DiskStatus::kCreating ||
                      disk.status == DiskStatus::kDeleting;
    if (!goes && disk.status == DiskStatus::kReIniting) {  // settle() goes on with it.
      disk.instance_id.clear();
      disk.device.clear();
      disk.visible_gib = disk.size_gib;
      disk.detached = now();
      change.put(disk);
      continue;
    }
    disk.status = goes ? DiskStatus::kDeleting : DiskStatus::kDetaching;
    disk.promised = false;
    disk.detached = now();
    change.put(disk);
  }
}

Task<Outcome> Control::Impl::delete_instance(ControlRequest& request) {
  const std::string id = request.reader.required("InstanceId");
  const bool force = request.reader.boolean("Force", false);
  if (request.reader.problem()) co_return *request.reader.problem();
  const InstanceRecord* found = nullptr;
  if (auto broken = find_instance(id, found)) co_return *broken;
  if (auto broken = instance_must_not_be_the_host(*found)) co_return *broken;
  if (auto broken = instance_must_not_be_protected(*found)) co_return *broken;
  if (auto broken = instance_must_be_stopped_to_delete(*found, force)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  CatalogChange announced;
  put_release(*found, announced);
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return *failed;
  // From here on it is what settle() does after a crash.
  co_await release(id);
  co_return done();
}

}  // namespace clouddisk
