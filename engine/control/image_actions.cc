// image_actions.cc: images are made, changed, shared and deleted.
//
// An image is a record over snapshots: nothing is copied. While it is there its snapshots stay, so
// that instances made from it find their content; those borrow it like every disk of a snapshot.
// One made from an instance takes its snapshots at one instant, in the commit that records it.
#include <fmt/format.h>

#include <algorithm>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/image_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

Verdict Control::Impl::find_image(std::string_view id, const ControlRequest& request,
                                  const ImageRecord*& image) const {
  image = catalog->find_image(id);
  if (image != nullptr && request.asks_for(image->region)) return std::nullopt;
  return Refusal{404, "InvalidImageId.NotFound", fmt::format("There is no image '{}'.", id)};
}

ImageStatus Control::Impl::status_of_image(const ImageRecord& image) const {
  std::vector<const SnapshotRecord*> snapshots;
  for (const ImageDisk& disk : image.disks) {
    if (!disk.snapshot_id.empty()) snapshots.push_back(catalog->find_snapshot(disk.snapshot_id));
  }
  return clouddisk::status_of(image, snapshots);
}

std::size_t Control::Impl::instances_of_image(std::string_view id) const {
  const auto& instances = catalog->instances();
  return static_cast<std::size_t>(
      std::count_if(instances.begin(), instances.end(), [id](const auto& entry) {
        return entry.second.image_id == id && entry.second.status != InstanceStatus::kDeleting;
      }));
}

std::size_t Control::Impl::images_in(std::string_view region) const {
  std::size_t count = 0;
  for (const auto& [id, image] : catalog->images()) {
    if (image.region == region) ++count;
  }
  for (const auto& [id, where] : planned_images) {
    if (where == region && catalog->find_image(id) == nullptr) ++count;
  }
  return count;
}

// The texts that CreateImage and ModifyImageAttribute may give; what is not given stays.
Verdict Control::Impl::read_image_texts(ParamReader& reader, ImageRecord& image) const {
  if (const auto given = reader.optional_text("ImageName")) {
    if (auto broken = image_name_must_be_allowed(*given)) return broken;
    std::vector<const ImageRecord*> others;
    for (const auto& [id, other] : catalog->images()) {
      if (other.region == image.region && id != image.id) others.push_back(&other);
    }
    if (auto broken = image_name_must_be_new(*given, others)) return broken;
    image.image_name = *given;
  }
  if (const auto given = reader.optional_text("Description")) {
    if (auto broken =
            description_must_be_well_formed(*given, "InvalidDescription.Malformed", 400)) {
      return broken;
    }
    image.description = *given;
  }
  if (const auto given = reader.optional_text("ImageFamily")) {
    if (auto broken = image_family_must_be_allowed(*given)) return broken;
    image.family = *given;
  }
  image.boot_mode = reader.text("BootMode", image.boot_mode);
  return boot_mode_must_be_known(image.boot_mode);
}

// SnapshotId, and DiskDeviceMapping.N with it or alone.
Verdict Control::Impl::read_image_disks(ParamReader& reader, ImageRecord& image) const {
  std::vector<Params> mappings = reader.structures("DiskDeviceMapping");
  if (const auto id = reader.optional_text("SnapshotId")) {
    mappings.insert(mappings.begin(), Params{{"SnapshotId", *id}, {"DiskType", "system"}});
  }
  for (const Params& params : mappings) {
    ParamReader mapping(params);
    const SnapshotRecord* snapshot = nullptr;
    ImageDisk disk;
    disk.snapshot_id = mapping.text("SnapshotId");
    if (!disk.snapshot_id.empty()) {
      if (auto broken = find_snapshot(disk.snapshot_id, snapshot)) return broken;
      if (auto broken = snapshot_must_be_in_region(*snapshot, image.region)) return broken;
      if (auto broken = snapshot_must_be_accomplished(*snapshot)) return broken;
    }
    const bool of_system = snapshot != nullptr && snapshot->system;
    const std::string type = mapping.text("DiskType", of_system ? "system" : "data");
    if (type != "system" && type != "data") {
      return Refusal{400, "InvalidDiskType.ValueNotSupported",
                     fmt::format("DiskType is system or data, not '{}'.", type)};
    }
    disk.system = type == "system";
    if (disk.system && snapshot == nullptr) {
      return Refusal{400, "MissingParameter", "The system disk of an image needs a SnapshotId."};
    }
    if (disk.system) {
      if (auto broken = snapshot_must_be_of_a_system_disk(*snapshot)) return broken;
    } else if (snapshot != nullptr) {
      if (auto broken = snapshot_must_be_of_a_data_disk(*snapshot)) return broken;
    }
    const std::string free =
        disk.system ? std::string(kSystemDevice) : first_free_image_device(image.disks);
    disk.device = mapping.text("Device", free);
    if (auto broken = image_device_must_be_free(disk, image.disks)) return broken;
    disk.size_gib = snapshot != nullptr ? snapshot->size_bytes / 1_GiB : 0;
    const auto size = mapping.optional_number("Size");
    if (mapping.problem()) {
      return Refusal{400, "InvalidSize.ValueNotSupported", mapping.problem()->message};
    }
    if (!size && snapshot == nullptr) {
      return Refusal{400, "MissingParameter",
                     "A disk of an image needs a SnapshotId, or a Size in GiB."};
    }
    disk.size_gib = size.value_or(disk.size_gib);
    if (auto broken = image_disk_size_must_fit(disk, snapshot)) return broken;
    image.disks.push_back(std::move(disk));
  }
  const auto system = std::find_if(image.disks.begin(), image.disks.end(),
                                   [](const ImageDisk& disk) { return disk.system; });
  if (system == image.disks.end()) {
    return Refusal{403, "OperationDenied",
                   "None of the snapshots is of a system disk; an image begins with one."};
  }
  std::rotate(image.disks.begin(), system, system + 1);
  return std::nullopt;
}

// Every disk of the instance, with a snapshot that is still to be taken.
Verdict Control::Impl::plan_image_of_instance(const std::string& instance_id,
                                              const ControlRequest& request, ImageRecord& image,
                                              std::vector<NewSnapshot>& taken) {
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_instance(instance_id, instance)) return broken;
  if (instance->region != image.region) {
    return Refusal{404, "InvalidInstanceId.NotFound",
                   fmt::format("Instance {} is in {}, not in {}.", instance_id, instance->region,
                               image.region)};
  }
  const DiskRecord* system = nullptr;
  const std::vector<const DiskRecord*> disks = catalog->disks_of(instance_id);
  for (const DiskRecord* disk : disks) {
    if (disk->system) system = disk;
  }
  if (auto broken = instance_must_have_a_system_disk(instance_id, system)) return broken;
  for (const DiskRecord* disk : disks) {
    const auto others = catalog->snapshots_of_disk(disk->id);
    if (auto broken = disk_must_allow_snapshot(*disk)) return broken;
    if (auto broken = disk_must_have_been_used(*disk, instance)) return broken;
    if (auto broken = capture_must_have_room(*disk, others)) return broken;
    if (auto broken = quota_must_have_room(others, options.snapshot_quota)) {
      if (!request.dry_run) note_at_times(EventType::kQuotaReached, disk->id, broken->message);
      return broken;
    }
    SnapshotRecord snapshot;
    snapshot.id = new_id("s", image.region);
    snapshot.region = image.region;
    snapshot.disk_id = disk->id;
    snapshot.description = fmt::format("of image {}", image.id);
    snapshot.resource_group = image.resource_group;
    snapshot.created = image.created;
    ImageDisk part{disk->device, disk->system, disk->visible_gib, snapshot.id};
    image.disks.insert(disk->system ? image.disks.begin() : image.disks.end(), std::move(part));
    taken.push_back({*disk, std::move(snapshot)});
  }
  return std::nullopt;
}

Task<Outcome> Control::Impl::create_image(ControlRequest& request) {
  ParamReader& reader = request.reader;
  ImageRecord image;
  image.region = request.at.region;
  image.architecture = reader.text("Architecture", "x86_64");
  image.platform = reader.text("Platform", "Others Linux");
  image.boot_mode = "BIOS";
  image.version = reader.text("ImageVersion");
  image.resource_group = reader.text("ResourceGroupId");
  image.tags = reader.tags();
  if (auto broken = read_image_texts(reader, image)) co_return *broken;
  if (auto broken = architecture_must_be_known(image.architecture)) co_return *broken;
  if (auto broken = tags_must_be_valid(image.tags)) co_return *broken;
  const auto instance_id = reader.optional_text("InstanceId");
  if (auto broken = image_must_have_one_source(instance_id.has_value(), reader.has("SnapshotId"),
                                               !reader.structures("DiskDeviceMapping").empty())) {
    co_return *broken;
  }
  image.id = new_id("m", image.region);
  image.created = now();
  if (image.image_name.empty()) image.image_name = image.id;
  std::vector<NewSnapshot> taken;
  if (auto broken = instance_id ? plan_image_of_instance(*instance_id, request, image, taken)
                                : read_image_disks(reader, image)) {
    co_return *broken;
  }
  if (auto broken = images_must_have_room(images_in(image.region))) co_return *broken;
  if (reader.problem()) co_return *reader.problem();
  if (request.dry_run) co_return would_succeed();

  request.hold(image.id);
  Json answer = {{"ImageId", image.id}};
  CatalogChange change;
  change.put(image);
  // Others are made meanwhile, and count this one.
  const std::string id = image.id;
  planned_images[id] = image.region;
  Outcome outcome(answer);
  if (taken.empty()) {
    outcome = co_await commit_and_answer(std::move(change), request, std::move(answer));
  } else {
    outcome.refusal = co_await take(taken, std::move(change), request, answer);
  }
  planned_images.erase(id);
  co_return outcome;
}

Task<Outcome> Control::Impl::modify_image_attribute(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("ImageId");
  if (reader.problem()) co_return *reader.problem();
  const ImageRecord* found = nullptr;
  if (auto broken = find_image(id, request, found)) co_return *broken;
  ImageRecord image = *found;
  if (auto broken = read_image_texts(reader, image)) co_return *broken;
  image.license = reader.text("LicenseType", image.license);
  if (const auto status = reader.optional_text("Status")) {
    if (*status != name(ImageStatus::kAvailable) && *status != name(ImageStatus::kDeprecated)) {
      co_return Refusal{400, "InvalidStatus.ValueNotSupported",
                        fmt::format("Status is Available or Deprecated, not '{}'.", *status)};
    }
    image.deprecated = *status == name(ImageStatus::kDeprecated);
    if (image.deprecated) {
      if (auto broken = image_must_not_be_shared(image)) co_return *broken;
    }
  }
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  change.put(image);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::delete_image(ControlRequest& request) {
  const std::string id = request.reader.required("ImageId");
  const bool force = request.reader.boolean("Force", false);
  if (request.reader.problem()) co_return *request.reader.problem();
  const ImageRecord* found = nullptr;
  if (auto broken = find_image(id, request, found)) co_return *broken;
  if (auto broken = image_must_not_be_shared(*found)) co_return *broken;
  if (auto broken = image_must_not_be_copying(*found, status_of_image(*found))) co_return *broken;
  if (auto broken = image_must_not_have_instances(*found, instances_of_image(id), force)) {
    co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  change.erase(*found);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::modify_image_share_permission(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("ImageId");
  const bool to_all = reader.boolean("IsPublic", false);
  std::vector<std::string> added = reader.list("AddAccount");
  std::vector<std::string> removed = reader.list("RemoveAccount");
  if (reader.problem()) co_return *reader.problem();
  if (added.empty() && removed.empty() && !to_all) {
    co_return Refusal{400, "MissingParameter", "Give AddAccount.1 or RemoveAccount.1."};
  }
  if (to_all) {
    co_return Refusal{403, "OperationDenied", "Images are not published here: IsPublic is false."};
  }
  added.resize(std::min(added.size(), kAccountsARequestMax));
  removed.resize(std::min(removed.size(), kAccountsARequestMax));
  const ImageRecord* found = nullptr;
  if (auto broken = find_image(id, request, found)) co_return *broken;
  if (!added.empty()) {
    if (auto broken = image_must_be_available(*found, status_of_image(*found))) co_return *broken;
  }
  ImageRecord image = *found;
  for (const std::string& account : removed) {
    if (auto broken = account_must_be_well_formed(account)) co_return *broken;
    std::erase(image.accounts, account);
  }
  for (const std::string& account : added) {
    if (auto broken = account_must_be_well_formed(account)) co_return *broken;
    const auto& known = image.accounts;
    if (std::find(known.begin(), known.end(), account) == known.end()) {
      image.accounts.push_back(account);
    }
  }
  if (auto broken = accounts_must_have_room(image.accounts.size())) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  change.put(image);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

}  // namespace clouddisk
