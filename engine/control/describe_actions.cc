#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/policy_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"
#include "engine/control/disk_spec.h"

namespace clouddisk {
namespace {

struct DiskFilter {
  std::optional<std::vector<std::string>> ids;
  std::optional<std::string> instance_id, disk_name, category, resource_group, source_snapshot,
      policy_id;
  std::optional<DiskStatus> status;
  std::optional<bool> system, delete_with_instance, portable, prepaid, delete_auto, enable_auto,
      under_policy;
  bool nothing = false;  // asks for what no disk here is
  std::vector<Tag> tags;
  TimeRange created;

  bool accepts(const DiskRecord& disk) const {
    if (nothing || disk.status == DiskStatus::kDeleting) return false;
    if (ids && std::find(ids->begin(), ids->end(), disk.id) == ids->end()) return false;
    if (instance_id && disk.instance_id != *instance_id) return false;
    if (disk_name && !matches(*disk_name, disk.disk_name)) return false;
    if (category && disk.category != *category) return false;
    if (source_snapshot && disk.source_snapshot != *source_snapshot) return false;
    if (resource_group && disk.resource_group != *resource_group) return false;
    if (status && disk.status != *status) return false;
    if (system && disk.system != *system) return false;
    if (delete_with_instance && disk.delete_with_instance != *delete_with_instance) return false;
    if (portable && disk.system == *portable) return false;
    if (prepaid && disk.prepaid != *prepaid) return false;
    if (delete_auto && disk.delete_auto_snapshot != *delete_auto) return false;
    if (enable_auto && disk.enable_auto_snapshot != *enable_auto) return false;
    if (policy_id && !is_under(disk, *policy_id)) return false;
    if (under_policy && disk.policies.empty() == *under_policy) return false;
    if (disk.created < created.from || disk.created > created.to) return false;
    return has_tags(disk.tags, tags);
  }
};

// In_use is spelled In_Use in places, also by the cloud.
std::optional<DiskStatus> filter_status(std::string_view text) {
  if (text == "In_Use") return DiskStatus::kInUse;
  const auto status = parse_disk_status(text);
  if (!status || *status == DiskStatus::kDeleting) return std::nullopt;
  return *status;
}

Verdict read_disk_filter(ParamReader& reader, Profile profile, DiskFilter& filter) {
  filter.ids = reader.json_list("DiskIds", kIdsMax, 403, "InvalidDiskIds.Malformed");
  filter.instance_id = reader.optional_text("InstanceId");
  filter.disk_name = reader.optional_text("DiskName");
  filter.category = reader.optional_text("Category");
  filter.resource_group = reader.optional_text("ResourceGroupId");
  filter.delete_with_instance = reader.optional_boolean("DeleteWithInstance");
  filter.portable = reader.optional_boolean("Portable");
  filter.delete_auto = reader.optional_boolean("DeleteAutoSnapshot");
  filter.enable_auto = reader.optional_boolean("EnableAutoSnapshot");
  if (auto broken = read_tag_filter(reader, filter.tags)) return broken;
  filter.source_snapshot = reader.optional_text("SnapshotId");
  filter.policy_id = reader.optional_text("AutoSnapshotPolicyId");
  filter.under_policy = reader.optional_boolean("EnableAutomatedSnapshotPolicy");
  const std::string multi_attach = reader.text("MultiAttach", "Disabled");
  if (multi_attach != "Disabled" && multi_attach != "Enabled" && multi_attach != "LegacyShared") {
    return Refusal{
        403, "InvalidParameter.MultiAttach",
        fmt::format("MultiAttach is Disabled, Enabled or LegacyShared, not '{}'.", multi_attach)};
  }
  // No disk is encrypted, locked or shared.
  filter.nothing = reader.boolean("Encrypted", false) || reader.has("KMSKeyId") ||
                   reader.has("LockReason") || reader.boolean("EnableShared", false) ||
                   multi_attach != "Disabled";
  if (reader.problem()) return reader.problem();
  if (filter.category && *filter.category != "all" && !category_known(profile, *filter.category)) {
    return Refusal{400, "InvalidCategory.ValueNotSupported",
                   fmt::format("'{}' is no disk category.", *filter.category)};
  }
  if (filter.category == "all") filter.category.reset();
  if (const auto status = reader.optional_text("Status"); status && *status != "All") {
    filter.status = filter_status(*status);
    if (!filter.status) {
      return Refusal{400, "InvalidStatus.ValueNotSupported",
                     fmt::format("'{}' is no status of a disk.", *status)};
    }
  }
  const std::string type = reader.text("DiskType", "all");
  if (type != "all" && type != "system" && type != "data") {
    return Refusal{400, "InvalidDiskType.ValueNotSupported",
                   fmt::format("DiskType is system, data or all, not '{}'.", type)};
  }
  if (type != "all") filter.system = type == "system";
  const auto charge_type = reader.optional_text("DiskChargeType");
  if (charge_type && *charge_type != "PrePaid" && *charge_type != "PostPaid") {
    return Refusal{404, "InvalidDiskChargeType.NotFound",
                   fmt::format("DiskChargeType is PrePaid or PostPaid, not '{}'.", *charge_type)};
  }
  if (charge_type) filter.prepaid = *charge_type == "PrePaid";
  return read_filters(reader, filter.created);
}

}  // namespace

Json Control::Impl::disk_view(const DiskRecord& disk) const {
  const DiskLimits limits = limits_of(disk, profile);
  const std::uint64_t megabytes = limits.bytes_per_second / 1_MiB;
  const StoreSettings store = store_of(disk);
  const bool attached = disk.status == DiskStatus::kInUse;
  Json attachments = Json::array();
  if (attached) {
    attachments.push_back({{"InstanceId", disk.instance_id},
                           {"Device", disk.device},
                           {"AttachedTime", iso_time(disk.attached)}});
  }
  return {
      {"DiskId", disk.id},
      {"RegionId", disk.region},
      {"ZoneId", disk.zone},
      {"DiskName", disk.disk_name},
      {"Description", disk.description},
      {"Type", disk.system ? "system" : "data"},
      {"Category", disk.category},
      {"PerformanceLevel", disk.level},
      {"Size", disk.size_gib},
      {"Status", name(disk.status)},
      {"InstanceId", disk.instance_id},
      {"Device", disk.device},
      {"Portable", !disk.system},
      {"Encrypted", false},
      {"KMSKeyId", ""},
      {"DeleteWithInstance", disk.delete_with_instance},
      {"DeleteAutoSnapshot", disk.delete_auto_snapshot},
      {"EnableAutoSnapshot", disk.enable_auto_snapshot},
      {"EnableAutomatedSnapshotPolicy", !disk.policies.empty()},
      {"AutoSnapshotPolicyId", disk.policies.empty() ? "" : disk.policies.front().policy_id},
      {"DiskChargeType", disk.prepaid ? "PrePaid" : "PostPaid"},
      {"CreationTime", iso_time(disk.created)},
      {"AttachedTime", attached ? iso_time(disk.attached) : ""},
      {"DetachedTime", iso_time(disk.detached)},
      {"ExpiredTime", "2999-09-08T16:00Z"},
      {"SerialNumber", disk.id.substr(disk.id.find('-') + 1)},
      {"MultiAttach", "Disabled"},
      {"BurstingEnabled", false},
      {"IOPS", limits.iops},
      {"IOPSRead", limits.iops},
      {"IOPSWrite", limits.iops},
      {"Throughput", megabytes},
      {"ThroughputRead", megabytes},
      {"ThroughputWrite", megabytes},
      {"ProvisionedIops", disk.provisioned_iops},
      {"ImageId", disk.image_id},
      {"SourceSnapshotId", disk.source_snapshot},
      {"SourceDiskId", ""},
      {"ProductCode", ""},
      {"ResourceGroupId", disk.resource_group},
      {"StorageSetId", ""},
      {"StorageSetPartitionNumber", 0},
      {"StorageClusterId", ""},
      {"BdfId", ""},
      {"DataSource", {{"Id", ""}, {"Type", ""}}},
      {"Placement", {{"ZoneIds", disk.zone}}},
      {"MountInstanceNum", attached ? 1 : 0},
      {"MountInstances", {{"MountInstance", attachments}}},
      {"Attachments", {{"Attachment", attachments}}},
      {"OperationLocks", {{"OperationLock", Json::array()}}},
      {"Tags", tags_view(disk.tags)},
      // Ours.
      {"Faults", faults_of(disk.id)},
      {"Hydration", hydration_view(disk)},
      {"Store",
       {{"LatencyUs", std::chrono::floor<std::chrono::microseconds>(store.latency).count()},
        {"BytesPerSecond", store.bytes_per_second},
        {"Own", disk.own_store}}},
  };
}

Task<Outcome> Control::Impl::describe_disks(ControlRequest& request) {
  DiskFilter filter;
  if (auto broken = read_disk_filter(request.reader, profile, filter)) co_return *broken;
  std::vector<const DiskRecord*> found;
  for (const auto& [id, disk] : catalog->disks()) {
    if (!request.asks_for(disk.region, disk.zone)) continue;
    if (filter.accepts(disk)) found.push_back(&disk);
  }
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const DiskRecord&)> view = [this](const DiskRecord& disk) {
    return disk_view(disk);
  };
  if (auto broken = page(std::move(found), request.reader, answer, view, list)) co_return *broken;
  answer["Disks"] = {{"Disk", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Json Control::Impl::instance_view(const InstanceRecord& instance) const {
  return {
      {"InstanceId", instance.id},
      {"InstanceName", instance.instance_name},
      {"Description", instance.description},
      {"HostName", instance.host_name},
      {"ImageId", instance.image_id},
      {"InstanceType", instance.type},
      {"InstanceTypeFamily", instance.type.substr(0, instance.type.rfind('.'))},
      {"RegionId", instance.region},
      {"ZoneId", instance.zone},
      {"Status", name(instance.status)},
      {"InstanceChargeType", instance.prepaid ? "PrePaid" : "PostPaid"},
      {"DeletionProtection", instance.deletion_protection},
      {"CreationTime", iso_time(instance.created)},
      {"StartTime", iso_time(instance.started)},
      {"SerialNumber", instance.id.substr(instance.id.find('-') + 1)},
      {"ResourceGroupId", instance.resource_group},
      {"OSName", "Linux"},
      {"OSType", "linux"},
      {"Cpu", 0},
      {"Memory", 0},
      // Ours: of all its disks together; 0: no limit.
      {"IopsLimit", instance.iops_limit},
      {"ThroughputLimit", instance.throughput_limit},
      {"LocalStorageAmount", 0},
      {"LocalStorageCapacity", 0},
      {"OperationLocks", {{"LockReason", Json::array()}}},
      {"Tags", tags_view(instance.tags)},
  };
}

Task<Outcome> Control::Impl::describe_instances(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto ids = reader.json_list("InstanceIds", kIdsMax, 400, "InvalidInstanceIds.Malformed");
  const auto instance_name = reader.optional_text("InstanceName");
  const auto image_id = reader.optional_text("ImageId");
  const auto type = reader.optional_text("InstanceType");
  const auto resource_group = reader.optional_text("ResourceGroupId");
  const auto charge_type = reader.optional_text("InstanceChargeType");
  std::vector<Tag> tags;
  if (auto broken = read_tag_filter(reader, tags)) co_return *broken;
  if (reader.problem()) co_return *reader.problem();
  std::optional<InstanceStatus> status;
  if (const auto text = reader.optional_text("Status")) {
    const auto parsed = parse_instance_status(*text);
    if (!parsed || *parsed == InstanceStatus::kDeleting) {
      co_return Refusal{400, "InvalidStatus.ValueNotSupported",
                        fmt::format("'{}' is no status of an instance.", *text)};
    }
    status = *parsed;
  }
  std::vector<const InstanceRecord*> found;
  for (const auto& [id, instance] : catalog->instances()) {
    if (instance.status == InstanceStatus::kDeleting) continue;
    if (!request.asks_for(instance.region, instance.zone)) continue;
    if (ids && std::find(ids->begin(), ids->end(), id) == ids->end()) continue;
    if (instance_name && !matches(*instance_name, instance.instance_name)) continue;
    if (image_id && instance.image_id != *image_id) continue;
    if (type && instance.type != *type) continue;
    if (resource_group && instance.resource_group != *resource_group) continue;
    if (charge_type && instance.prepaid != (*charge_type == "PrePaid")) continue;
    if (status && instance.status != *status) continue;
    if (reader.has("LockReason") || !has_tags(instance.tags, tags)) continue;
    found.push_back(&instance);
  }
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const InstanceRecord&)> view = [this](const InstanceRecord& instance) {
    return instance_view(instance);
  };
  if (auto broken = page(std::move(found), reader, answer, view, list)) co_return *broken;
  answer["Instances"] = {{"Instance", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_instance_attribute(ControlRequest& request) {
  const std::string id = request.reader.required("InstanceId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_instance(id, instance)) co_return *broken;
  co_return Outcome(instance_view(*instance));
}

Task<Outcome> Control::Impl::describe_instance_status(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::vector<std::string> ids = reader.list("InstanceId");
  std::vector<const InstanceRecord*> found;
  for (const auto& [id, instance] : catalog->instances()) {
    if (instance.status == InstanceStatus::kDeleting) continue;
    if (!request.asks_for(instance.region, instance.zone)) continue;
    if (!ids.empty() && std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
    found.push_back(&instance);
  }
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const InstanceRecord&)> view = [](const InstanceRecord& instance) {
    return Json{{"InstanceId", instance.id}, {"Status", name(instance.status)}};
  };
  if (auto broken = page(std::move(found), reader, answer, view, list)) co_return *broken;
  answer.erase("NextToken");
  answer["InstanceStatuses"] = {{"InstanceStatus", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_regions(ControlRequest&) {
  Json list = Json::array();
  for (const Region& region : options.places.regions()) {
    list.push_back({{"RegionId", region.id},
                    {"LocalName", region.id},
                    {"RegionEndpoint", fmt::format("ecs.{}.clouddisk", region.id)},
                    {"Status", "available"}});
  }
  Json answer = {{"Regions", {{"Region", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_zones(ControlRequest& request) {
  Json data = Json::array();
  Json system = Json::array();
  for (const CategoryRow* row : category_table(profile)) {
    if (!row->creatable()) continue;
    const Json category = row->category;
    const bool listed = std::find(data.begin(), data.end(), category) != data.end();
    if (row->for_data && !listed) data.push_back(category);
    const bool listed_system = std::find(system.begin(), system.end(), category) != system.end();
    if (row->system_capacity() && !listed_system) system.push_back(category);
  }
  Json resources = {
      {"DataDiskCategories", {{"supportedDataDiskCategory", data}}},
      {"SystemDiskCategories", {{"supportedSystemDiskCategory", system}}},
      {"InstanceGenerations", {{"supportedInstanceGeneration", Json::array()}}},
      {"InstanceTypeFamilies", {{"supportedInstanceTypeFamily", Json::array()}}},
      {"InstanceTypes", {{"supportedInstanceType", Json::array()}}},
      {"NetworkTypes", {{"supportedNetworkCategory", Json::array()}}},
      {"IoOptimized", true},
  };
  Json infos = Json::array();
  infos.push_back(std::move(resources));
  Json creation = Json::array();
  for (const char* kind : {"Instance", "Disk"}) creation.push_back(kind);
  Json zone = {
      {"ZoneType", "AvailabilityZone"},
      {"AvailableDiskCategories", {{"DiskCategories", data}}},
      {"AvailableResourceCreation", {{"ResourceTypes", std::move(creation)}}},
      {"AvailableResources", {{"ResourcesInfo", std::move(infos)}}},
      {"AvailableInstanceTypes", {{"InstanceTypes", Json::array()}}},
      {"AvailableVolumeCategories", {{"VolumeCategories", Json::array()}}},
      {"AvailableDedicatedHostTypes", {{"DedicatedHostType", Json::array()}}},
      {"DedicatedHostGenerations", {{"DedicatedHostGeneration", Json::array()}}},
  };
  Json list = Json::array();
  for (const std::string& id : options.places.find(request.at.region)->zones) {
    zone["ZoneId"] = id;
    zone["LocalName"] = id;
    list.push_back(zone);
  }
  Json answer = {{"Zones", {{"Zone", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
