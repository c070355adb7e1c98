#include "engine/control/control.h"

#include <fmt/format.h>

#include <array>
#include <random>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/catalog/token_rules.h"
#include "engine/control/action_names.h"
#include "engine/control/control_impl.h"
#include "engine/control/disk_spec.h"

namespace clouddisk {
namespace {

constexpr std::size_t kParametersMax = 2'000;

// The cloud has another code for images.
Refusal token_mismatch(std::string_view action) {
  const std::string message = "The ClientToken was used with other parameters.";
  if (action == "CreateImage") return {400, "IdempotenceParamNotMatch", message};
  return {403, "IdempotentParameterMismatch", message};
}

// DescribeDisks has another status for it.
Refusal no_such_place(std::string_view action, Refusal broken) {
  if (action == "DescribeDisks" && broken.code == "InvalidZoneId.NotFound") {
    broken.http_status = 400;
  }
  return broken;
}

std::uint64_t seed_from_system() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

Control::Impl::Impl(Ring& ring_in, ReplicaSet& replicas_in, DiskHost& host_in, Options options_in,
                    Profile profile_in)
    : ring(ring_in),
      replicas(replicas_in),
      host(host_in),
      options(std::move(options_in)),
      profile(profile_in),
      random(options.seed != 0 ? options.seed : seed_from_system()),
      changing(ring_in),
      performing(ring_in) {}

const Control::Impl::Entry* Control::Impl::find_action(std::string_view name) {
  constexpr bool kOwnIds = true;
  static constexpr std::array kActions = {
      Entry{"CreateDisk", &Impl::create_disk, true, true, false, kOwnIds},
      Entry{"DescribeDisks", &Impl::describe_disks},
      Entry{"AttachDisk", &Impl::attach_disk, true, false, false, kOwnIds},
      Entry{"DetachDisk", &Impl::detach_disk, true, false, false, kOwnIds},
      Entry{"DeleteDisk", &Impl::delete_disk, true, false, false, kOwnIds},
      Entry{"ResizeDisk", &Impl::resize_disk, true, true, false, kOwnIds},
      Entry{"ModifyDiskSpec", &Impl::modify_disk_spec, true, false, false, kOwnIds},
      Entry{"ModifyDiskAttribute", &Impl::modify_disk_attribute, true, false, false, kOwnIds},
      Entry{"CreateInstance", &Impl::create_instance, true, true, false, kOwnIds},
      Entry{"RunInstances", &Impl::run_instances, true, true, false, kOwnIds},
      Entry{"DescribeInstances", &Impl::describe_instances},
      Entry{"DescribeInstanceStatus", &Impl::describe_instance_status},
      Entry{"StartInstance", &Impl::start_instance, true, false, false, kOwnIds},
      Entry{"StopInstance", &Impl::stop_instance, true, false, false, kOwnIds},
      Entry{"RebootInstance", &Impl::reboot_instance, true, false, false, kOwnIds},
      Entry{"ReplaceSystemDisk", &Impl::replace_system_disk, true, true, false, kOwnIds},
      Entry{"DeleteInstance", &Impl::delete_instance, true, false, false, kOwnIds},
      Entry{"StartInstances", &Impl::start_instances, true, false, false, kOwnIds},
      Entry{"StopInstances", &Impl::stop_instances, true, false, false, kOwnIds},
      Entry{"DeleteInstances", &Impl::delete_instances, true, true, false, kOwnIds},
      Entry{"DescribeInstanceAttribute", &Impl::describe_instance_attribute},
      Entry{"ModifyInstanceLimits", &Impl::modify_instance_limits, true, false, false, kOwnIds},
      Entry{"DescribeRegions", &Impl::describe_regions},
      Entry{"DescribeZones", &Impl::describe_zones},
      Entry{"CreateSnapshot", &Impl::create_snapshot, true, true, false, kOwnIds},
      Entry{"DescribeSnapshots", &Impl::describe_snapshots},
      Entry{"DeleteSnapshot", &Impl::delete_snapshot, true, false, false, kOwnIds},
      Entry{"CopySnapshot", &Impl::copy_snapshot, true, true},
      Entry{"CreateSnapshotGroup", &Impl::create_snapshot_group, true, true, false, kOwnIds},
      Entry{"DescribeSnapshotGroups", &Impl::describe_snapshot_groups},
      Entry{"DeleteSnapshotGroup", &Impl::delete_snapshot_group, true, false, false, kOwnIds},
      Entry{"DescribeSnapshotLinks", &Impl::describe_snapshot_links},
      Entry{"DescribeSnapshotsUsage", &Impl::describe_snapshots_usage},
      Entry{"ModifySnapshotAttribute", &Impl::modify_snapshot_attribute, true, false, false,
            kOwnIds},
      Entry{"ModifySnapshotGroup", &Impl::modify_snapshot_group, true, false, false, kOwnIds},
      Entry{"OpenSnapshotService", &Impl::open_snapshot_service},
      Entry{"CreateImage", &Impl::create_image, true, true, false, kOwnIds},
      Entry{"DescribeImages", &Impl::describe_images},
      Entry{"ModifyImageAttribute", &Impl::modify_image_attribute, true, false, false, kOwnIds},
      Entry{"DeleteImage", &Impl::delete_image, true, false, false, kOwnIds},
      Entry{"CopyImage", &Impl::copy_image, true, true},
      Entry{"CancelCopyImage", &Impl::cancel_copy_image, true},
      Entry{"ModifyImageSharePermission", &Impl::modify_image_share_permission, true, false, false,
            kOwnIds},
      Entry{"DescribeImageSharePermission", &Impl::describe_image_share_permission},
      Entry{"BeginSnapshotImport", &Impl::begin_snapshot_import, true},
      Entry{"FinishSnapshotImport", &Impl::finish_snapshot_import, true},
      Entry{"ResetDisk", &Impl::reset_disk, true, false, false, kOwnIds},
      Entry{"ResetDisks", &Impl::reset_disks, true, false, false, kOwnIds},
      Entry{"ReInitDisk", &Impl::reinit_disk, true, false, false, kOwnIds},
      Entry{"UndoResetDisk", &Impl::undo_reset_disk, true, false, false, kOwnIds},
      Entry{"HydrateDisk", &Impl::hydrate_disk, true, false, false, kOwnIds},
      Entry{"DescribeDiskHydration", &Impl::describe_disk_hydration},
      Entry{"DescribeTasks", &Impl::describe_tasks},
      Entry{"DescribeTaskAttribute", &Impl::describe_task_attribute},
      Entry{"CancelTask", &Impl::cancel_task, true},
      Entry{"CreateAutoSnapshotPolicy", &Impl::create_auto_snapshot_policy, true, false, false,
            kOwnIds},
      Entry{"ModifyAutoSnapshotPolicyEx", &Impl::modify_auto_snapshot_policy, true, false, false,
            kOwnIds},
      Entry{"DeleteAutoSnapshotPolicy", &Impl::delete_auto_snapshot_policy, true, false, false,
            kOwnIds},
      Entry{"ApplyAutoSnapshotPolicy", &Impl::apply_auto_snapshot_policy, true, false, false,
            kOwnIds},
      Entry{"CancelAutoSnapshotPolicy", &Impl::cancel_auto_snapshot_policy, true, false, false,
            kOwnIds},
      Entry{"DescribeAutoSnapshotPolicyEx", &Impl::describe_auto_snapshot_policies},
      Entry{"DescribeAutoSnapshotPolicyAssociations",
            &Impl::describe_auto_snapshot_policy_associations},
      Entry{"TagResources", &Impl::tag_resources, true, false, false, kOwnIds},
      Entry{"UntagResources", &Impl::untag_resources, true, false, false, kOwnIds},
      Entry{"ListTagResources", &Impl::list_tag_resources},
      Entry{"AddTags", &Impl::add_tags, true, false, false, kOwnIds},
      Entry{"RemoveTags", &Impl::remove_tags, true, false, false, kOwnIds},
      Entry{"DescribeTags", &Impl::describe_tags},
      Entry{"DescribeResourceByTags", &Impl::describe_resource_by_tags},
      Entry{"CreateAccessKey", &Impl::create_access_key, true, false, true},
      Entry{"ListAccessKeys", &Impl::list_access_keys, false, false, true},
      Entry{"UpdateAccessKey", &Impl::update_access_key, true, false, true},
      Entry{"DeleteAccessKey", &Impl::delete_access_key, true, false, true},
      Entry{"DescribeDiskMonitorData", &Impl::describe_disk_monitor_data},
      Entry{"DescribeInstanceMonitorData", &Impl::describe_instance_monitor_data},
      Entry{"DescribeDisksFullStatus", &Impl::describe_disks_full_status},
      Entry{"DescribeDiskEvents", &Impl::describe_disk_events},
      Entry{"DescribeReplicas", &Impl::describe_replicas},
      Entry{"ResyncReplica", &Impl::resync_replica, true},
      Entry{"ReplaceReplica", &Impl::replace_replica, true, false, true},
      Entry{"DescribeScrub", &Impl::describe_scrub},
      Entry{"StartScrub", &Impl::start_scrub, true},
      Entry{"StopScrub", &Impl::stop_scrub, true},
      Entry{"DescribeCategories", &Impl::describe_categories},
      Entry{"DescribeDiskStats", &Impl::describe_disk_stats},
      Entry{"DescribeDiskExport", &Impl::describe_disk_export},
      Entry{"SetDiskFault", &Impl::set_disk_fault},
      Entry{"DescribeDiskFaults", &Impl::describe_disk_faults},
      Entry{"ClearDiskFaults", &Impl::clear_disk_faults},
  };
  const NameLess less;
  for (const Entry& entry : kActions) {
    if (!less(entry.name, name) && !less(name, entry.name)) return &entry;
  }
  return nullptr;
}

Control::Control(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Control::~Control() = default;

Task<Result<std::unique_ptr<Control>>> Control::open(Ring& ring, ReplicaSet& replicas,
                                                     DiskHost& host, Options options) {
  const auto profile = parse_profile(options.profile);
  if (!profile) co_return profile.error();
  auto impl = std::make_unique<Impl>(ring, replicas, host, std::move(options), *profile);
  const CatalogStore::Options store_options;
  auto catalog = co_await Catalog::open(ring, replicas, store_options);
  if (!catalog) co_return fail(catalog.error(), "open the catalog");
  impl->catalog = std::move(*catalog);
  if (auto made = co_await impl->ensure_local_instance(); !made) co_return made.error();
  impl->tell_of_unknown_places();
  impl->tell_past();
  for (const auto& [id, disk] : impl->catalog->disks()) {
    // What a crash left of its rollbacks is looked for.
    impl->untidy = impl->untidy || disk.storages > 0;
  }
  {
    // What is served may be hydrated, and what is captured told of, before this is through.
    auto all = co_await impl->changing.lock_all();
    co_await impl->give_up_imports();
    co_await impl->settle();
    co_await impl->serve_all();
  }
  co_await impl->host.open_past();
  co_return std::unique_ptr<Control>(new Control(std::move(impl)));
}

Task<Reply> Control::perform(Params params, Caller caller) {
  Impl& impl = *impl_;
  auto request = std::make_shared<ControlRequest>(impl.ring, std::move(params), caller);
  impl.performing.add();
  spawn(impl.carry_out(request));
  while (!request->answer) co_await request->answered.wait();
  Reply reply = to_reply(*request->answer, make_request_id(impl.random));
  impl.performing.done();
  co_return reply;
}

// Goes on after the answer when the action does.
Task<void> Control::Impl::carry_out(std::shared_ptr<ControlRequest> request) {
  performing.add();
  Outcome outcome = co_await dispatch(*request);
  if (request->answer && outcome.refusal) {
    log(LogLevel::kError, "control", "{}, answered before, failed: {}: {}",
        request->reader.text("Action"), outcome.refusal->code, outcome.refusal->message);
  }
  request->give(std::move(outcome));
  if (request->counted) --unfinished;
  performing.done();
}

std::optional<Control::Key> Control::find_access_key(std::string_view id) const {
  const KeyRecord* key = impl_->catalog->find_key(id);
  if (key == nullptr) return std::nullopt;
  return Key{key->secret, key->active};
}

bool Control::has_disk(std::string_view id) const {
  return impl_->catalog->find_disk(id) != nullptr;
}

Task<void> Control::close() {
  impl_->closing = true;
  co_await impl_->performing.wait();
}

Task<Result<void>> Control::copy_catalog_to(unsigned replica) {
  co_return co_await impl_->catalog->copy_to(replica);
}

Verdict Control::Impl::check_common(const ControlRequest& request) const {
  if (closing) return Refusal{503, "ServiceUnavailable", "The daemon is shutting down."};
  if (request.params.size() > kParametersMax) {
    return Refusal{
        400, "InvalidParameter",
        fmt::format("{} parameters, {} at the most.", request.params.size(), kParametersMax)};
  }
  for (const auto& [name, value] : request.params) {
    if (!is_utf8(name) || !is_utf8(value)) {
      return Refusal{400, "InvalidParameter", "A parameter is not valid UTF-8."};
    }
  }
  const std::string version = request.reader.text("Version", kApiVersion);
  if (version != kApiVersion) {
    return Refusal{400, "InvalidVersion",
                   fmt::format("Version '{}' is not {}.", version, kApiVersion)};
  }
  return std::nullopt;
}

Task<Outcome> Control::Impl::dispatch(ControlRequest& request) {
  if (auto broken = check_common(request)) co_return *broken;
  const std::string action = request.reader.required("Action");
  if (request.reader.problem()) co_return *request.reader.problem();
  const Entry* entry = find_action(action);
  if (entry == nullptr) {
    co_return Refusal{404, "InvalidAction.NotFound",
                      cloud_has_action(action)
                          ? fmt::format("The cloud has the action {}; clouddisk has not.", action)
                          : fmt::format("There is no action '{}'.", action)};
  }
  if (entry->local_only && request.caller != Caller::kLocal) {
    co_return Refusal{403, "Forbidden.RAM",
                      fmt::format("{} is served on the daemon's unix socket alone.", entry->name)};
  }
  request.at = {request.reader.text("RegionId"), request.reader.text("ZoneId")};
  if (auto broken = location_must_exist(options.places, request.at)) {
    co_return no_such_place(entry->name, *broken);
  }
  request.dry_run = request.reader.boolean("DryRun", false);
  request.waits = request.reader.boolean("Wait", request.caller == Caller::kLocal);
  if (request.reader.problem()) co_return *request.reader.problem();
  if (entry->changes) co_return co_await run_change(*entry, request);
  const bool only_shows = entry->name.starts_with("Describe") || entry->name.starts_with("List");
  if (request.dry_run && !only_shows) co_return would_succeed();
  Outcome outcome = co_await (this->*entry->run)(request);
  if (request.dry_run && !outcome.refusal) co_return would_succeed();
  co_return outcome;
}

std::string Control::Impl::token_key(std::string_view action, std::string_view token) {
  return fmt::format("{}{}/{}", kTokenKeys, action, token);
}

Task<Outcome> Control::Impl::run_change(const Entry& entry, ControlRequest& request) {
  const auto token = request.reader.optional_text("ClientToken");
  if (token && entry.keeps_token) {
    if (auto broken = client_token_must_be_valid(*token)) co_return *broken;
  }
  // What another change left, maybe while this one waited for it, is settled first.
  co_await settle_if_need_be();
  auto guard = co_await lock_for(entry, request);
  if (unsettled) {
    guard.unlock();
    co_await settle_if_need_be();
    guard = co_await lock_for(entry, request);
  }
  request.guard = &guard;
  if (unfinished >= kUnfinishedMax) request.waits = true;
  if (token && entry.keeps_token && !request.dry_run) {
    std::uint64_t checksum = parameters_checksum(request.params);
    // Leaving the home region out or naming it is the same; another region is another request.
    if (request.at.region != options.places.home().id) {
      checksum = checksum64(as_bytes(request.at.region), checksum);
    }
    const TokenRecord* known = catalog->find_token(entry.name, *token);
    if (known != nullptr && token_is_good(*known, now())) {
      if (known->parameters_checksum != checksum) {
        co_return token_mismatch(entry.name);
      }
      co_return Outcome(Json::parse(known->reply_json, nullptr, false));
    }
    TokenRecord record;
    record.action = entry.name;
    record.token = *token;
    record.parameters_checksum = checksum;
    request.token = std::move(record);
  }
  co_return co_await (this->*entry.run)(request);
}

std::string Control::Impl::new_id(std::string_view prefix, std::string_view region) {
  if (region.empty()) region = options.places.home().id;
  while (true) {
    std::string id = make_id(prefix, region, random);
    if (catalog->find_disk(id) == nullptr && catalog->find_instance(id) == nullptr &&
        catalog->find_snapshot(id) == nullptr && catalog->find_group(id) == nullptr &&
        catalog->find_policy(id) == nullptr && catalog->find_image(id) == nullptr &&
        catalog->find_task(id) == nullptr && catalog->find_chain(chain_id_of(id)) == nullptr) {
      return id;
    }
  }
}

DiskSettings Control::Impl::settings_of(const DiskRecord& disk) const {
  DiskSettings settings;
  settings.id = disk.id;
  settings.size_bytes = disk.visible_bytes();
  const bool limited = disk.status != DiskStatus::kImporting;
  settings.limits = limited ? limits_of(disk, profile) : DiskLimits{};
  if (limited) {
    const CategoryRow& row = row_of(disk, profile);
    settings.nominal_latency =
        std::chrono::microseconds(row.latency_min_us + row.latency_max_us) / 2;
  }
  settings.instance_id = disk.instance_id;
  if (const InstanceRecord* instance = catalog->find_instance(disk.instance_id)) {
    settings.instance_limits.iops = instance->iops_limit;
    settings.instance_limits.bytes_per_second = instance->throughput_limit * 1_MiB;
  }
  settings.storage = disk.storage;
  settings.base_snapshot = disk.base_snapshot;
  settings.store = store_of(disk);
  return settings;
}

StoreSettings Control::Impl::store_of(const DiskRecord& disk) const {
  if (!disk.own_store) return options.store;
  return {std::chrono::microseconds(disk.store_latency_us), disk.store_bytes_per_second};
}

bool Control::Impl::is_served(const DiskRecord& disk) const {
  if (disk.status == DiskStatus::kImporting) return true;
  const InstanceRecord* instance = catalog->find_instance(disk.instance_id);
  return disk.status == DiskStatus::kInUse && instance != nullptr &&
         instance->status == InstanceStatus::kRunning;
}

Task<Verdict> Control::Impl::commit(CatalogChange change) {
  auto committed = co_await catalog->commit(std::move(change));
  if (!committed) co_return Verdict(refusal_of(committed.error()));
  co_return Verdict();
}

Task<Outcome> Control::Impl::commit_and_answer(CatalogChange change, ControlRequest& request,
                                               Json answer) {
  if (!request.answer) put_token(change, request, answer);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return Outcome(std::move(answer));
}

void Control::Impl::put_token(CatalogChange& change, ControlRequest& request,
                              const Json& answer) const {
  if (!request.token) return;
  request.token->reply_json = answer.dump();
  request.token->created = now();
  prune_tokens(change);
  change.put(*request.token);
}

void Control::Impl::prune_tokens(CatalogChange& change) const {
  for (const TokenRecord* token : tokens_to_forget(catalog->tokens(), now())) {
    // One that an action uses just now may be made anew by it.
    if (!changing.is_claimed(token_key(token->action, token->token))) change.erase(*token);
  }
}

}  // namespace clouddisk
