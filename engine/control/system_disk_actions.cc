// system_disk_actions.cc: an instance gets another system disk, made from an image.
//
// The new disk is made beside the old one; then one commit gives it to the instance and lets the
// old one go, as DeleteDisk does. A crash before it leaves the instance as it was, one after it is
// finished by settle(). Whoever does not wait is answered when the new disk is on record as
// promised: then settle() makes the exchange, too.
#include <fmt/format.h>

#include <algorithm>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/image_rules.h"
#include "engine/catalog/instance_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/disk_spec.h"

namespace clouddisk {

Task<Outcome> Control::Impl::replace_system_disk(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string instance_id = reader.required("InstanceId");
  const auto size = reader.optional_number("SystemDisk.Size");
  const bool encrypted = reader.boolean("Encrypted", false) || reader.has("KMSKeyId");
  if (reader.problem()) co_return *reader.problem();
  if (reader.has("DiskId")) {
    co_return Refusal{403, "OperationDenied",
                      "A system disk is made from an image here: give ImageId, not DiskId."};
  }
  if (encrypted) {
    co_return Refusal{403, "InvalidParameter.EncryptedNotSupported",
                      "Encrypted disks do not exist yet."};
  }
  const InstanceRecord* found = nullptr;
  if (auto broken = find_instance(instance_id, found)) co_return *broken;
  const DiskRecord* system = nullptr;
  for (const DiskRecord* disk : catalog->disks_of(instance_id)) {
    if (disk->system && disk->status != DiskStatus::kDeleting) system = disk;
  }
  if (auto broken = instance_must_have_a_system_disk(instance_id, system)) co_return *broken;
  const ImageRecord* image = nullptr;
  InstanceRecord instance = *found;
  if (auto broken = find_launch_image(request, instance.region, image, instance.image_id)) {
    co_return *broken;
  }
  const auto snapshots = catalog->snapshots_of_disk(system->id);
  if (auto broken = disk_must_not_be_captured(snapshots)) co_return *broken;

  DiskRecord old_disk = *system;
  DiskRecord disk;
  disk.system = true;
  disk.category = old_disk.category;
  disk.level = old_disk.level;
  disk.provisioned_iops = old_disk.provisioned_iops;
  const std::uint64_t least = image != nullptr ? image->system_disk().size_gib : 0;
  disk.size_gib = size.value_or(std::max(old_disk.size_gib, least));
  disk.visible_gib = disk.size_gib;
  if (auto broken = system_disk_size_must_fit(row_of(disk, profile), disk.size_gib)) {
    co_return *broken;
  }
  if (auto broken =
          provisioned_iops_must_fit(row_of(disk, profile), disk.size_gib, disk.provisioned_iops)) {
    co_return *broken;
  }
  disk.image_id = instance.image_id;
  if (image != nullptr) {
    if (auto broken = system_disk_must_hold_image(disk.size_gib, *image)) co_return *broken;
    use_image(*image, disk);
  }
  if (auto broken = instance_must_be_stopped_to_replace(*found)) co_return *broken;
  const auto attached = catalog->disks_of(instance_id);
  if (auto broken = attached_disks_must_be_in_use(attached)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  disk.id = new_id("d", instance.region);
  request.hold(disk.id);
  disk.storage = disk.id;
  disk.region = old_disk.region;
  disk.zone = old_disk.zone;
  disk.resource_group = old_disk.resource_group;
  disk.tags = old_disk.tags;
  disk.prepaid = old_disk.prepaid;
  disk.instance_id = instance_id;
  disk.device = old_disk.device;
  disk.delete_with_instance = old_disk.delete_with_instance;
  disk.created = now();
  disk.status = DiskStatus::kCreating;
  disk.promised = !request.waits;
  Json answer = {{"DiskId", disk.id}};
  CatalogChange announced;
  announced.put(disk);
  if (auto failed = co_await announce(std::move(announced), request, answer)) co_return *failed;
  std::vector<DiskRecord> new_disks(1, disk);
  if (auto failed = co_await make_storage(std::move(new_disks), request)) co_return *failed;

  CatalogChange exchanged;
  put_exchange(std::move(disk), old_disk, exchanged);
  Outcome outcome = co_await commit_and_answer(std::move(exchanged), request, std::move(answer));
  if (outcome.refusal) {
    unsettled = true;  // Still Creating in the catalog: settle() removes the new one, or goes on.
    co_return outcome;
  }
  // The instance has what it was to have; what is left is the old disk's.
  old_disk = *catalog->find_disk(old_disk.id);
  Scope left;
  add_disk(old_disk.id, true, left);
  request.guard->keep_only(left.own);
  co_await finish_deletion(std::move(old_disk));
  co_return outcome;
}

void Control::Impl::put_exchange(DiskRecord disk, DiskRecord old_disk,
                                 CatalogChange& change) const {
  InstanceRecord instance = *catalog->find_instance(disk.instance_id);
  instance.image_id = disk.image_id;
  disk.promised = false;
  disk.status = DiskStatus::kInUse;
  disk.attached = now();
  old_disk.status = DiskStatus::kDeleting;
  old_disk.instance_id.clear();
  old_disk.device.clear();
  old_disk.detached = now();
  change.put(disk);
  change.put(old_disk);
  change.put(instance);
}

}  // namespace clouddisk
