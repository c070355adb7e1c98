// instance_plan.cc: what RunInstances and CreateInstance ask for, with every rule: the instance,
// its system disk and its data disks, of an image, of snapshots, or empty.
#include <fmt/format.h>

#include <algorithm>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/image_rules.h"
#include "engine/catalog/instance_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/disk_spec.h"

namespace clouddisk {
namespace {

// The members below a prefix: "SystemDisk.Size" as "Size".
Params members_of(const Params& params, std::string_view prefix) {
  const NameLess less;
  Params members;
  for (const auto& [name, value] : params) {
    const std::string_view head = std::string_view(name).substr(0, prefix.size());
    if (name.size() > prefix.size() && !less(head, prefix) && !less(prefix, head)) {
      members.emplace(name.substr(prefix.size()), value);
    }
  }
  return members;
}

bool is_same_device(const Params& data_disk, const ImageDisk& part) {
  return ParamReader(data_disk).text("Device") == part.device;
}

}  // namespace

// ImageId, or the newest of ImageFamily. Null: one of the cloud's public images, which are names
// alone here.
Verdict Control::Impl::find_launch_image(const ControlRequest& request, std::string_view region,
                                         const ImageRecord*& image, std::string& image_id) const {
  image = nullptr;
  image_id = request.reader.text("ImageId");
  const std::string family = request.reader.text("ImageFamily");
  if (image_id.empty() && family.empty()) {
    return Refusal{400, "MissingParameter", "The parameter ImageId is missing."};
  }
  if (image_id.empty()) {
    for (const auto& [id, one] : catalog->images()) {
      if (one.family != family || one.region != region) continue;
      if (status_of_image(one) != ImageStatus::kAvailable) continue;
      if (image == nullptr || one.created > image->created) image = &one;
    }
    image_id = image != nullptr ? image->id : family;
    return std::nullopt;
  }
  if (!is_custom_image(image_id)) return std::nullopt;
  image = catalog->find_image(image_id);
  if (image == nullptr || image->region != region) {
    std::string elsewhere = ".";
    if (image != nullptr)
      elsewhere = fmt::format(", but in {}: give a zone of that region.", image->region);
    return Refusal{404, "InvalidImageId.NotFound",
                   fmt::format("There is no image '{}' in {}{}", image_id, region, elsewhere)};
  }
  return image_must_be_available(*image, status_of_image(*image));
}

void Control::Impl::use_image(const ImageRecord& image, DiskRecord& system) {
  system.image_id = image.id;
  system.source_snapshot = image.system_disk().snapshot_id;
  system.base_snapshot = system.source_snapshot;
}

// The image's data disks, each as the DataDisk.N of its device would have it, then the others.
std::vector<Params> Control::Impl::data_disks_with(const ImageRecord* image,
                                                   const DiskRecord& system,
                                                   std::vector<Params> asked) const {
  std::vector<Params> all;
  if (image == nullptr) return asked;
  for (const ImageDisk& part : image->disks) {
    if (part.system) continue;
    Params params{{"Device", part.device}};
    const auto named = std::find_if(asked.begin(), asked.end(), [&part](const Params& one) {
      return is_same_device(one, part);
    });
    if (named != asked.end()) {
      params = *named;
      asked.erase(named);
    }
    const ParamReader given(params);
    // Another snapshot brings its own size.
    if (!given.has("Size") && !given.has("SnapshotId")) {
      params["Size"] = fmt::format("{}", part.size_gib);
    }
    if (!given.has("SnapshotId")) params["SnapshotId"] = part.snapshot_id;
    const CategoryRow* row = find_category(profile, system.category, system.level);
    if (!given.has("Category") && !given.has("PerformanceLevel") && row != nullptr &&
        row->for_data && row->capacity.contains(part.size_gib)) {
      params["Category"] = system.category;
      params["PerformanceLevel"] = system.level;
    }
    all.push_back(std::move(params));
  }
  all.insert(all.end(), asked.begin(), asked.end());
  return all;
}

Verdict Control::Impl::plan_instance(ControlRequest& request, NewInstance& plan) {
  ParamReader& reader = request.reader;
  InstanceRecord& instance = plan.instance;
  const ImageRecord* image = nullptr;
  if (auto broken = find_launch_image(request, request.at.region, image, instance.image_id)) {
    return broken;
  }
  instance.type = reader.required("InstanceType");
  instance.host_name = reader.text("HostName");
  instance.deletion_protection = reader.boolean("DeletionProtection", false);
  instance.iops_limit = reader.number("IopsLimit", 0);
  instance.throughput_limit = reader.number("ThroughputLimit", 0);
  if (reader.problem()) return reader.problem();
  if (auto broken =
          instance_limits_must_be_possible(instance.iops_limit, instance.throughput_limit)) {
    return broken;
  }
  const std::string charge_type = reader.text("InstanceChargeType", "PostPaid");
  if (auto broken = charge_type_must_be_known(charge_type)) return broken;
  instance.prepaid = charge_type == "PrePaid";
  if (auto given = reader.optional_text("InstanceName")) {
    if (auto broken = name_must_be_well_formed(*given, "InvalidInstanceName.Malformed")) {
      return broken;
    }
    instance.instance_name = *given;
  }
  if (auto given = reader.optional_text("Description")) {
    if (auto broken =
            description_must_be_well_formed(*given, "InvalidDescription.Malformed", 400)) {
      return broken;
    }
    instance.description = *given;
  }
  instance.tags = reader.tags();
  if (auto broken = tags_must_be_valid(instance.tags)) return broken;
  instance.region = request.at.region;
  instance.zone = request.at.zone;
  instance.resource_group = reader.text("ResourceGroupId");

  const Params system_params = members_of(request.params, "SystemDisk.");
  ParamReader system_reader(system_params);
  DiskSpecNames names;
  if (image != nullptr) names.image_gib = image->system_disk().size_gib;
  DiskRecord system;
  if (auto broken = read_disk_spec(system_reader, profile, DiskRole::kSystem, names, system)) {
    return broken;
  }
  if (auto broken = read_applied_policy(system_reader, instance.region, system)) return broken;
  system.device = kSystemDevice;
  system.delete_with_instance = true;
  system.image_id = instance.image_id;
  if (image != nullptr) {
    if (auto broken = system_disk_must_hold_image(system.size_gib, *image)) return broken;
    use_image(*image, system);
  }
  plan.disks.push_back(std::move(system));

  const std::vector<Params> data_disks =
      data_disks_with(image, plan.disks.front(), reader.structures("DataDisk"));
  std::vector<const DiskRecord*> attached;
  plan.disks.reserve(data_disks.size() + 1);  // `attached` points into it
  attached.push_back(&plan.disks.front());
  for (const Params& params : data_disks) {
    if (auto broken = instance_must_have_room(attached)) return broken;
    ParamReader data_reader(params);
    DiskRecord disk;
    disk.region = instance.region;
    if (auto broken = read_data_disk(data_reader, "Category", disk)) return broken;
    if (auto broken = read_applied_policy(data_reader, instance.region, disk)) return broken;
    disk.device = data_reader.text("Device");
    if (disk.device.empty()) {
      disk.device = first_free_device(attached);
    } else if (auto broken = device_must_be_free(disk.device, attached)) {
      return broken;
    }
    disk.delete_with_instance = data_reader.boolean("DeleteWithInstance", true);
    if (data_reader.problem()) return data_reader.problem();
    plan.disks.push_back(std::move(disk));
    attached.push_back(&plan.disks.back());
  }
  return std::nullopt;
}

void Control::Impl::give_ids(NewInstance& plan, ControlRequest& request) {
  plan.instance.id = new_id("i", plan.instance.region);
  plan.instance.promised = !request.waits;
  request.hold(plan.instance.id);
  plan.instance.created = now();
  plan.instance.status = InstanceStatus::kPending;
  if (plan.instance.instance_name.empty()) plan.instance.instance_name = plan.instance.id;
  for (DiskRecord& disk : plan.disks) {
    disk.id = new_id("d", plan.instance.region);
    disk.storage = disk.id;
    disk.promised = !request.waits;
    request.hold(disk.id);
    disk.region = plan.instance.region;
    disk.zone = plan.instance.zone;
    disk.resource_group = plan.instance.resource_group;
    disk.tags = plan.instance.tags;  // As the cloud does: they are of the instance and its disks.
    disk.prepaid = plan.instance.prepaid;
    disk.instance_id = plan.instance.id;
    disk.created = plan.instance.created;
    disk.status = DiskStatus::kCreating;
  }
}

}  // namespace clouddisk
