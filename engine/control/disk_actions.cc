#include <fmt/format.h>

#include "engine/base/log.h"
#include "engine/catalog/disk_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/disk_spec.h"

namespace clouddisk {
namespace {

constexpr std::size_t kDiskIdsMax = 100;

}  // namespace

Outcome would_succeed() {
  return Outcome(Refusal{400, "DryRunOperation", "The request would have succeeded."});
}

Verdict Control::Impl::find_disk(std::string_view id, const DiskRecord*& disk) const {
  disk = catalog->find_disk(id);
  if (disk != nullptr && disk->status != DiskStatus::kDeleting) return std::nullopt;
  return Refusal{404, "InvalidDiskId.NotFound", fmt::format("There is no disk '{}'.", id)};
}

Verdict Control::Impl::find_instance(std::string_view id, const InstanceRecord*& instance) const {
  instance = catalog->find_instance(id);
  if (instance != nullptr && instance->status != InstanceStatus::kDeleting) return std::nullopt;
  return Refusal{404, "InvalidInstanceId.NotFound", fmt::format("There is no instance '{}'.", id)};
}

// Storage for disks that the catalog has as Creating; on failure nothing of them is left, nor of
// the instances that they are for. What can't be removed at once is Deleting.
Task<Verdict> Control::Impl::make_storage(std::vector<DiskRecord> disks, ControlRequest& request,
                                          std::vector<InstanceRecord> instances) {
  for (const DiskRecord& disk : disks) {
    DiskSettings settings = settings_of(disk);
    auto made = co_await host.create_disk(std::move(settings));
    if (made) continue;
    CatalogChange undo;
    bool clean = true;
    for (const DiskRecord& other : disks) {
      if (co_await remove_storage(other) == Removal::kDone) {
        undo.erase(other);
      } else {
        undo.put(given_up(other));
        clean = false;
      }
    }
    for (const InstanceRecord& instance : instances) {
      if (clean) {
        undo.erase(instance);
      } else {
        undo.put(given_up(instance));
      }
    }
    // The same token makes it anew.
    if (!request.waits && request.token) undo.erase(*request.token);
    auto undone = co_await catalog->commit(std::move(undo));
    unsettled = unsettled || !clean || !undone;
    co_return Verdict(refusal_of(fail(made.error(), "disk {}", disk.id)));
  }
  co_return Verdict();
}

Verdict Control::Impl::read_data_disk(ParamReader& reader, std::string_view category_name,
                                      DiskRecord& disk) const {
  DiskSpecNames names;
  names.category = category_name;
  const SnapshotRecord* snapshot = nullptr;
  if (const auto source = reader.optional_text("SnapshotId")) {
    if (auto broken = find_snapshot(*source, snapshot)) return broken;
    if (auto broken = snapshot_must_be_in_region(*snapshot, disk.region)) return broken;
    if (auto broken = snapshot_must_be_usable(*snapshot)) return broken;
    if (auto broken = snapshot_must_be_of_a_data_disk(*snapshot)) return broken;
    names.snapshot_gib = snapshot->size_bytes / 1_GiB;
  }
  if (auto broken = read_disk_spec(reader, profile, DiskRole::kData, names, disk)) return broken;
  if (snapshot == nullptr) return std::nullopt;
  if (auto broken = size_must_hold_snapshot(disk.size_gib, *snapshot)) return broken;
  disk.source_snapshot = snapshot->id;
  disk.base_snapshot = snapshot->id;
  return std::nullopt;
}

Task<Outcome> Control::Impl::create_disk(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto instance_id = reader.optional_text("InstanceId");
  if (instance_id && reader.has("ZoneId")) {
    co_return Refusal{403, "InvalidParam.ZoneIdAndInstanceId.Conflict",
                      "Give ZoneId or InstanceId, not both."};
  }
  DiskRecord disk;
  disk.region = request.at.region;
  disk.zone = request.at.zone;
  if (auto broken = read_data_disk(reader, "DiskCategory", disk)) co_return *broken;
  disk.tags = reader.tags();
  if (auto broken = tags_must_be_valid(disk.tags)) co_return *broken;
  static_cast<void>(read_store(reader, disk));
  if (reader.problem()) co_return *reader.problem();
  const InstanceRecord* instance = nullptr;
  if (instance_id) {
    if (auto broken = find_instance(*instance_id, instance)) co_return *broken;
    if (auto broken = instance_must_take_disks(*instance, 400)) co_return *broken;
    const auto attached = catalog->disks_of(*instance_id);
    if (auto broken = instance_must_have_room(attached)) co_return *broken;
    disk.instance_id = *instance_id;
    disk.region = instance->region;
    disk.zone = instance->zone;
    disk.device = first_free_device(attached);
    disk.prepaid = true;  // The cloud makes such a disk a part of the instance's subscription.
  }
  if (request.dry_run) co_return would_succeed();

  disk.id = new_id("d", disk.region);
  request.hold(disk.id);
  disk.storage = disk.id;
  disk.resource_group = reader.text("ResourceGroupId");
  disk.created = now();
  disk.status = DiskStatus::kCreating;
  disk.promised = !request.waits;
  Json answer = {{"DiskId", disk.id}, {"OrderId", ""}};
  CatalogChange announced;
  announced.put(disk);
  if (auto failed = co_await announce(std::move(announced), request, answer)) co_return *failed;
  std::vector<DiskRecord> new_disks(1, disk);
  if (auto failed = co_await make_storage(std::move(new_disks), request)) co_return *failed;

  instance = instance_id ? catalog->find_instance(*instance_id) : nullptr;
  if (instance != nullptr && instance->status == InstanceStatus::kRunning) {
    if (auto failed = co_await mark_made({&disk, 1}, request)) co_return *failed;
    DiskSettings settings = settings_of(disk);
    auto served = co_await host.serve_disk(std::move(settings));
    if (!served) {
      unsettled = true;  // Still Creating in the catalog: settle() removes it, or tries again.
      co_return refusal_of(served.error());
    }
  }
  disk.promised = false;
  disk.status = instance_id ? DiskStatus::kInUse : DiskStatus::kAvailable;
  if (instance_id) disk.attached = now();
  CatalogChange finished;
  finished.put(disk);
  Outcome outcome = co_await commit_and_answer(std::move(finished), request, std::move(answer));
  if (outcome.refusal) unsettled = true;
  co_return outcome;
}

Task<Outcome> Control::Impl::attach_disk(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string disk_id = reader.required("DiskId");
  const std::string instance_id = reader.required("InstanceId");
  const auto delete_with_instance = reader.optional_boolean("DeleteWithInstance");
  const bool bootable = reader.boolean("Bootable", false);
  const bool force = reader.boolean("Force", false);
  if (reader.problem()) co_return *reader.problem();
  const DiskRecord* found = nullptr;
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_disk(disk_id, found)) co_return *broken;
  if (auto broken = find_instance(instance_id, instance)) co_return *broken;
  if (auto broken = disk_must_be_available_to_attach(*found)) co_return *broken;
  if (auto broken = instance_must_take_disks(*instance, 400)) co_return *broken;
  if (auto broken = disk_and_instance_must_share_a_zone(*found, *instance)) co_return *broken;
  if (bootable || found->system) {
    co_return Refusal{400, "InvalidDisk.DiskNotBootable",
                      "A disk can't be attached as a system disk."};
  }
  if (force) {
    co_return Refusal{400, "InvalidParameterForce.DiskCategoryNotSupported",
                      "Force belongs to disks of a lost zone; there are none here."};
  }
  const auto attached = catalog->disks_of(instance_id);
  if (auto broken = instance_must_have_room(attached)) co_return *broken;
  std::string device = reader.text("Device");
  if (!device.empty()) {
    if (auto broken = device_must_be_free(device, attached)) co_return *broken;
  } else {
    device = first_free_device(attached);
  }
  if (request.dry_run) co_return would_succeed();

  const bool running = instance->status == InstanceStatus::kRunning;
  const DiskRecord before = *found;
  DiskRecord disk = before;
  disk.status = DiskStatus::kAttaching;
  disk.promised = !request.waits;
  disk.instance_id = instance_id;
  disk.device = device;
  if (delete_with_instance) disk.delete_with_instance = *delete_with_instance;
  CatalogChange announced;
  announced.put(disk);
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return *failed;
  if (running) {
    DiskSettings settings = settings_of(disk);
    auto served = co_await host.serve_disk(std::move(settings));
    if (!served) {
      CatalogChange undo;
      undo.put(before);
      auto undone = co_await catalog->commit(std::move(undo));
      if (!undone) unsettled = true;
      co_return refusal_of(served.error());
    }
  }
  disk.status = DiskStatus::kInUse;
  disk.promised = false;
  disk.attached = now();
  CatalogChange finished;
  finished.put(disk);
  if (auto failed = co_await commit(std::move(finished))) {
    unsettled = true;
    co_return *failed;
  }
  co_return done();
}

Task<Outcome> Control::Impl::detach_disk(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string disk_id = reader.required("DiskId");
  const std::string instance_id = reader.required("InstanceId");
  const auto delete_with_instance = reader.optional_boolean("DeleteWithInstance");
  if (reader.problem()) co_return *reader.problem();
  const DiskRecord* found = nullptr;
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_disk(disk_id, found)) co_return *broken;
  if (auto broken = find_instance(instance_id, instance)) co_return *broken;
  if (auto broken = disk_must_be_attached_to(*found, instance_id)) co_return *broken;
  if (auto broken = disk_must_be_a_data_disk(*found)) co_return *broken;
  if (auto broken = instance_must_take_disks(*instance, 403)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  const DiskRecord before = *found;
  DiskRecord disk = before;
  disk.status = DiskStatus::kDetaching;
  CatalogChange announced;
  announced.put(disk);
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return *failed;
  auto stopped = co_await host.stop_disk(disk_id);
  if (!stopped) {
    CatalogChange undo;
    undo.put(before);
    auto undone = co_await catalog->commit(std::move(undo));
    if (!undone) unsettled = true;
    co_return refusal_of(stopped.error());
  }
  disk.status = DiskStatus::kAvailable;
  disk.instance_id.clear();
  disk.device.clear();
  disk.visible_gib = disk.size_gib;
  disk.detached = now();
  if (delete_with_instance) disk.delete_with_instance = *delete_with_instance;
  CatalogChange finished;
  finished.put(disk);
  if (auto failed = co_await commit(std::move(finished))) {
    unsettled = true;
    co_return *failed;
  }
  co_return done();
}

Task<Outcome> Control::Impl::delete_disk(ControlRequest& request) {
  const std::string disk_id = request.reader.required("DiskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* found = nullptr;
  if (auto broken = find_disk(disk_id, found)) co_return *broken;
  if (auto broken = disk_must_be_available_to_delete(*found)) co_return *broken;
  const auto snapshots = catalog->snapshots_of_disk(disk_id);
  if (auto broken = disk_must_not_be_captured(snapshots)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  DiskRecord disk = *found;
  disk.status = DiskStatus::kDeleting;
  CatalogChange announced;
  announced.put(disk);
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return *failed;
  // From here on the disk is gone for everybody; what can't be removed now is removed later.
  co_await finish_deletion(std::move(disk));
  co_return done();
}

// Commits the changed disk, then tells the storage; when that fails the old record comes back.
Task<Outcome> Control::Impl::apply_or_restore(DiskRecord before, DiskRecord after,
                                              ControlRequest& request, Json answer) {
  CatalogChange change;
  change.put(after);
  Outcome outcome = co_await commit_and_answer(std::move(change), request, std::move(answer));
  if (outcome.refusal) co_return outcome;
  DiskSettings settings = settings_of(after);
  auto applied = co_await host.apply_settings(std::move(settings));
  if (applied) co_return outcome;
  CatalogChange undo;
  undo.put(before);
  if (request.token) undo.erase(*request.token);
  auto undone = co_await catalog->commit(std::move(undo));
  if (!undone) {
    // The record says more than the storage has; the next serving of the disk brings it there.
    log(LogLevel::kError, "control", "disk {}: {}", after.id, undone.error().message);
  }
  co_return refusal_of(applied.error());
}

Task<Outcome> Control::Impl::resize_disk(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string disk_id = reader.required("DiskId");
  static_cast<void>(reader.required("NewSize"));
  const std::uint64_t new_size = reader.number("NewSize", 0);
  const std::string type = reader.text("Type", "offline");
  if (reader.problem()) co_return *reader.problem();
  if (type != "online" && type != "offline") {
    co_return Refusal{400, "InvalidParam.Type",
                      fmt::format("Type is online or offline, not '{}'.", type)};
  }
  const DiskRecord* found = nullptr;
  if (auto broken = find_disk(disk_id, found)) co_return *broken;
  if (auto broken = disk_must_be_at_rest(*found)) co_return *broken;
  const auto snapshots = catalog->snapshots_of_disk(disk_id);
  if (auto broken = disk_must_not_be_captured(snapshots)) co_return *broken;
  if (auto broken = new_size_must_be_larger(*found, row_of(*found, profile), new_size)) {
    co_return *broken;
  }
  const bool online = type == "online";
  if (online) {
    const InstanceRecord* instance = catalog->find_instance(found->instance_id);
    if (auto broken = online_resize_needs_a_running_instance(*found, instance)) co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();

  const DiskRecord before = *found;
  DiskRecord after = before;
  after.size_gib = new_size;
  // Offline, a running instance sees the new size after its next start.
  if (online || !is_served(before)) after.visible_gib = new_size;
  Json answer = {{"OrderId", ""}};
  co_return co_await apply_or_restore(before, after, request, std::move(answer));
}

Task<Outcome> Control::Impl::modify_disk_spec(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string disk_id = reader.required("DiskId");
  const auto new_iops = reader.optional_number("ProvisionedIops");
  if (reader.problem()) co_return *reader.problem();
  for (const char* part : {"IOPS", "Throughput", "Recover"}) {
    if (reader.has(fmt::format("PerformanceControlOptions.{}", part))) {
      co_return Refusal{403, "OperationDenied",
                        "PerformanceControlOptions do not exist here; a level sets the limits."};
    }
  }
  const DiskRecord* found = nullptr;
  if (auto broken = find_disk(disk_id, found)) co_return *broken;
  if (auto broken = disk_must_be_at_rest(*found)) co_return *broken;
  const auto snapshots = catalog->snapshots_of_disk(disk_id);
  if (auto broken = disk_must_not_be_captured(snapshots)) co_return *broken;
  const std::string category = reader.text("DiskCategory", found->category);
  if (auto broken = category_must_be_creatable(profile, category)) co_return *broken;
  std::string level = reader.text("PerformanceLevel");
  if (auto broken =
          level_must_fit_category(category, level, "InvalidPerformanceLevelParam.Mismatch")) {
    co_return *broken;
  }
  if (level.empty() && category_has_levels(category)) {
    level = category == found->category ? found->level : std::string(kDefaultLevel);
  }
  const CategoryRow* to = find_category(profile, category, level);
  CHECK(to != nullptr);
  const std::uint64_t iops =
      new_iops.value_or(category == found->category ? found->provisioned_iops : 0);
  if (auto broken = spec_must_change(*found, *to, iops)) co_return *broken;
  if (auto broken = spec_must_be_reachable(*found, *to)) co_return *broken;
  if (auto broken = size_must_allow_spec(*found, *to)) co_return *broken;
  if (auto broken = provisioned_iops_must_fit(*to, found->size_gib, iops)) co_return *broken;
  if (auto broken = resize_must_have_taken_effect(*found)) co_return *broken;
  if (auto broken = spec_must_have_cooled(*found, now(), options.spec_cooling)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  const DiskRecord before = *found;
  DiskRecord after = before;
  after.category = category;
  after.level = level;
  after.provisioned_iops = iops;
  after.spec_changed = now();
  co_return co_await change_spec(before, after, request);
}

Task<Outcome> Control::Impl::modify_disk_attribute(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto one = reader.optional_text("DiskId");
  std::vector<std::string> ids = reader.list("DiskIds");
  const auto disk_name = reader.optional_text("DiskName");
  const auto description = reader.optional_text("Description");
  const auto delete_with_instance = reader.optional_boolean("DeleteWithInstance");
  const auto delete_auto = reader.optional_boolean("DeleteAutoSnapshot");
  const auto enable_auto = reader.optional_boolean("EnableAutoSnapshot");
  const bool bursting = reader.boolean("BurstingEnabled", false);
  DiskRecord checked;
  const bool new_store = read_store(reader, checked);
  if (reader.problem()) co_return *reader.problem();
  if (one && !ids.empty()) {
    co_return Refusal{400, "ParameterConflict.DiskIdAndDiskIds", "Give DiskId or DiskIds.N."};
  }
  if (one) ids.push_back(*one);
  if (ids.empty()) {
    co_return Refusal{400, "MissingParameter.DiskIdOrDiskIds", "Give DiskId or DiskIds.N."};
  }
  if (ids.size() > kDiskIdsMax) {
    co_return Refusal{400, "InvalidParameter",
                      fmt::format("{} disks, {} at the most.", ids.size(), kDiskIdsMax)};
  }
  if (bursting) {
    co_return Refusal{400, "BurstingEnabledForDiskCategoryUnsupported",
                      "No category bursts here: a disk keeps its limit."};
  }
  if (!disk_name && !description && !delete_with_instance && !delete_auto && !enable_auto &&
      !new_store && !reader.has("BurstingEnabled")) {
    co_return Refusal{400, "NoAttributeToModify", "No attribute was given."};
  }
  if (disk_name) {
    if (auto broken = name_must_be_well_formed(*disk_name, "InvalidDiskName.Malformed")) {
      co_return *broken;
    }
  }
  if (description) {
    // The cloud answers 404 here, and 400 to CreateDisk.
    if (auto broken =
            description_must_be_well_formed(*description, "InvalidDescription.Malformed", 404)) {
      co_return *broken;
    }
  }
  CatalogChange change;
  std::vector<DiskRecord> changed;
  for (const std::string& id : ids) {
    const DiskRecord* found = nullptr;
    if (auto broken = find_disk(id, found)) co_return *broken;
    DiskRecord disk = *found;
    if (disk_name) disk.disk_name = *disk_name;
    if (description) disk.description = *description;
    if (delete_with_instance) disk.delete_with_instance = *delete_with_instance;
    if (delete_auto) disk.delete_auto_snapshot = *delete_auto;
    if (enable_auto) disk.enable_auto_snapshot = *enable_auto;
    static_cast<void>(read_store(reader, disk));
    if (reader.problem()) co_return *reader.problem();
    change.put(disk);
    changed.push_back(std::move(disk));
  }
  if (request.dry_run) co_return would_succeed();
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  if (!new_store) co_return done();
  for (const DiskRecord& disk : changed) {
    DiskSettings settings = settings_of(disk);
    auto applied = co_await host.apply_settings(std::move(settings));
    // The record has it, and the next serving brings it.
    if (!applied) {
      log(LogLevel::kError, "control", "disk {}: {}", disk.id, applied.error().message);
    }
  }
  co_return done();
}

}  // namespace clouddisk
