#include "engine/catalog/snapshot_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/catalog/name_rules.h"

namespace clouddisk {
namespace {

bool is_under_way(const SnapshotRecord& snapshot) {
  return snapshot.status == SnapshotStatus::kProgressing && !snapshot.hidden;
}

// The family, not the category: ESSD Entry and AutoPL belong to it.
bool is_essd(std::string_view category) {
  return category.starts_with("cloud_essd") || category == "cloud_auto" ||
         category == "cloud_regional_disk_auto";
}

// As text for a message: "s-a"; of several the first.
std::string first_under_way(std::span<const SnapshotRecord* const> snapshots) {
  for (const SnapshotRecord* one : snapshots) {
    if (is_under_way(*one)) return one->id;
  }
  return {};
}

std::size_t count_if(std::span<const SnapshotRecord* const> snapshots,
                     bool (*wanted)(const SnapshotRecord&)) {
  return static_cast<std::size_t>(std::count_if(
      snapshots.begin(), snapshots.end(), [wanted](const auto* one) { return wanted(*one); }));
}

}  // namespace

Verdict snapshot_name_must_be_allowed(std::string_view name) {
  constexpr std::string_view kReserved = "auto";
  if (!name_is_well_formed(name) || name.starts_with(kReserved)) {
    return Refusal{400, "InvalidSnapshotName.Malformed",
                   "A snapshot's name has 2 to 128 characters, begins with a letter, and not with "
                   "http://, https:// or auto."};
  }
  return std::nullopt;
}

Verdict retention_must_fit(std::uint64_t days) {
  if (days >= 1 && days <= 65'536) return std::nullopt;
  return Refusal{400, "InvalidRetentionDays.Malformed",
                 fmt::format("RetentionDays is 1 to 65536, not {}.", days)};
}

Verdict retention_must_not_shrink(const SnapshotRecord& snapshot, std::uint64_t days) {
  if (snapshot.retention_days != 0 && days >= snapshot.retention_days) return std::nullopt;
  const std::string now =
      snapshot.retention_days == 0 ? "for ever" : fmt::format("{} days", snapshot.retention_days);
  return Refusal{400, "InvalidRetentionDays.Malformed",
                 fmt::format("Snapshot {} stays {}, which can't be shortened to {} days.",
                             snapshot.id, now, days)};
}

Verdict snapshot_category_must_be_known(std::string_view category) {
  if (category == "standard" || category == "flash") return std::nullopt;
  return Refusal{403, "InvalidSnapshotCategory.Malformed",
                 fmt::format("Category is standard or flash, not '{}'.", category)};
}

Verdict disk_must_allow_snapshot(const DiskRecord& disk) {
  if (disk.status != DiskStatus::kAvailable && disk.status != DiskStatus::kInUse) {
    return Refusal{403, "IncorrectDiskStatus",
                   fmt::format("Disk {} is {}.", disk.id, name(disk.status))};
  }
  if (disk.attached == WallTime{}) {
    return Refusal{
        403, "IncorrectDiskStatus.NeverAttached",
        fmt::format("Disk {} was never attached: there is nothing on it. Attach it first.",
                    disk.id)};
  }
  return std::nullopt;
}

Verdict disk_must_have_been_used(const DiskRecord& disk, const InstanceRecord* instance) {
  if (instance == nullptr || instance->started != WallTime{}) return std::nullopt;
  return Refusal{403, "IncorrectDiskStatus.NeverUsed",
                 fmt::format("Disk {} was never used: its instance {} never ran. Start it first.",
                             disk.id, instance->id)};
}

Verdict capture_must_have_room(const DiskRecord& disk,
                               std::span<const SnapshotRecord* const> snapshots) {
  const bool several = is_essd(disk.category);
  const std::size_t most = several ? 10 : 1;
  if (count_if(snapshots, is_under_way) < most) return std::nullopt;
  return Refusal{
      403, several ? "QuotaExceed.ConcurrentSnapshotQuota" : "IncorrectDiskStatus.CreatingSnapshot",
      fmt::format("Disk {} has as many snapshots in progress as it may: {}. Wait until one, "
                  "such as {}, is accomplished.",
                  disk.id, most, first_under_way(snapshots))};
}

Verdict quota_must_have_room(std::span<const SnapshotRecord* const> snapshots, std::size_t quota) {
  const std::size_t manual =
      count_if(snapshots, [](const SnapshotRecord& one) { return !one.automatic && !one.hidden; });
  if (manual < quota) return std::nullopt;
  return Refusal{
      403, "QuotaExceed.Snapshot",
      fmt::format("The disk has {} snapshots, as many as it may. Delete one first.", quota)};
}

const SnapshotRecord* oldest_automatic_over_quota(std::span<const SnapshotRecord* const> snapshots,
                                                  std::size_t quota) {
  const SnapshotRecord* oldest = nullptr;
  std::size_t automatic = 0;
  for (const SnapshotRecord* one : snapshots) {
    if (!one->automatic || one->hidden) continue;
    ++automatic;
    if (oldest == nullptr || one->seq < oldest->seq) oldest = one;
  }
  return automatic >= quota ? oldest : nullptr;
}

Verdict snapshot_must_be_usable(const SnapshotRecord& snapshot) {
  if (snapshot.status == SnapshotStatus::kFailed) {
    return Refusal{403, "InvalidSnapshotId.NotReady",
                   fmt::format("Snapshot {} failed: {}", snapshot.id, snapshot.failure)};
  }
  if (snapshot.status == SnapshotStatus::kDeleting) {
    return Refusal{403, "InvalidSnapshotId.NotReady",
                   fmt::format("Snapshot {} is being deleted.", snapshot.id)};
  }
  return std::nullopt;
}

Verdict snapshot_must_be_accomplished(const SnapshotRecord& snapshot) {
  if (auto broken = snapshot_must_be_usable(snapshot)) return broken;
  if (snapshot.status == SnapshotStatus::kAccomplished) return std::nullopt;
  return Refusal{
      403, "InvalidSnapshotId.NotReady",
      fmt::format("Snapshot {} is in progress: wait until it is accomplished.", snapshot.id)};
}

Verdict copy_must_go_elsewhere(const SnapshotRecord& source, std::string_view region) {
  if (source.region != region) return std::nullopt;
  return Refusal{
      400, "InvalidDestinationRegionId",
      fmt::format("Snapshot {} is in {} already: give another region.", source.id, region)};
}

Verdict snapshot_must_be_in_region(const SnapshotRecord& snapshot, std::string_view region) {
  if (snapshot.region == region) return std::nullopt;
  return Refusal{404, "InvalidSnapshotId.NotFound",
                 fmt::format("Snapshot {} is in region {}, not in {}: give a zone of its region.",
                             snapshot.id, snapshot.region, region)};
}

Verdict snapshot_must_be_of_a_data_disk(const SnapshotRecord& snapshot) {
  if (!snapshot.system) return std::nullopt;
  return Refusal{403, "InvalidSnapshotId.NotDataDiskSnapshot",
                 fmt::format("Snapshot {} is of a system disk.", snapshot.id)};
}

Verdict snapshot_must_fit_category(std::uint64_t snapshot_gib, const CategoryRow& row) {
  if (snapshot_gib <= row.capacity.max_gib) return std::nullopt;
  return Refusal{403, "InvalidSnapshot.TooLarge",
                 fmt::format("The snapshot has {} GiB; {} ends at {}.", snapshot_gib, row.title,
                             row.capacity.max_gib)};
}

Verdict size_must_hold_snapshot(std::uint64_t size_gib, const SnapshotRecord& snapshot) {
  if (size_gib * 1_GiB >= snapshot.size_bytes) return std::nullopt;
  return Refusal{403, "InvalidDiskSize.TooSmall",
                 fmt::format("Snapshot {} has {} GiB; {} are too few for it.", snapshot.id,
                             snapshot.size_bytes / 1_GiB, size_gib)};
}

Verdict snapshot_must_not_have_disks(const SnapshotRecord& snapshot,
                                     std::span<const std::string> disks, bool force) {
  if (disks.empty() || force) return std::nullopt;
  constexpr std::size_t kNamedMax = 3;
  std::string named;
  for (const std::string& id : disks.first(std::min(disks.size(), kNamedMax))) {
    named += named.empty() ? id : ", " + id;
  }
  if (disks.size() > kNamedMax) named += ", …";
  const bool one = disks.size() == 1;
  return Refusal{403, "SnapshotCreatedDisk",
                 fmt::format("{} {} made from snapshot {}: {}. Force deletes it all the same; {} "
                             "can then not be re-initialised any more.",
                             disks.size(), one ? "disk was" : "disks were", snapshot.id, named,
                             one ? named : "they")};
}

Verdict group_must_have_a_fitting_number(std::size_t disks) {
  if (disks == 0) {
    return Refusal{403, "InvalidInstance.NoDisk",
                   "No disk is left to take a snapshot of. Attach one, or exclude fewer."};
  }
  if (disks <= kGroupDisksMax) return std::nullopt;
  return Refusal{403, "NumberExceed.TooManyDisks",
                 fmt::format("A group has at most {} disks, not {}.", kGroupDisksMax, disks)};
}

Verdict group_disks_must_be_essd(std::span<const DiskRecord* const> disks) {
  for (const DiskRecord* disk : disks) {
    if (is_essd(disk->category)) continue;
    return Refusal{400, "DiskCategory.OperationNotSupported",
                   fmt::format("Disk {} is of {}; a group has disks of the ESSD family. Leave it "
                               "out with ExcludeDiskId, or give DiskId.N.",
                               disk->id, disk->category)};
  }
  return std::nullopt;
}

Verdict group_disks_must_share_a_zone(std::span<const DiskRecord* const> disks) {
  for (const DiskRecord* disk : disks) {
    if (disk->zone == disks.front()->zone) continue;
    return Refusal{400, "InvalidDiskIds.NotInSameZone",
                   fmt::format("Disk {} is in zone {}, disk {} in {}.", disks.front()->id,
                               disks.front()->zone, disk->id, disk->zone)};
  }
  return std::nullopt;
}

Verdict group_must_have_a_fitting_size(std::span<const DiskRecord* const> disks) {
  std::uint64_t total = 0;
  for (const DiskRecord* disk : disks) total += disk->size_gib;
  if (total <= kGroupGibMax) return std::nullopt;
  return Refusal{403, "CapacityExceed.TooManyDisks",
                 fmt::format("The disks of a group have {} GiB together at the most, not {}.",
                             kGroupGibMax, total)};
}

Verdict group_disks_must_be_in_use_at(std::span<const DiskRecord* const> disks,
                                      std::string_view instance_id) {
  for (const DiskRecord* disk : disks) {
    if (disk->status != DiskStatus::kInUse) {
      return Refusal{
          403, "IncorrectDiskStatus",
          fmt::format("Disk {} is {}; all of a group are In_use.", disk->id, name(disk->status))};
    }
    if (disk->instance_id != instance_id) {
      return Refusal{403, "IncorrectDiskStatus",
                     fmt::format("Disk {} is attached to {}; all of this group are to {}.",
                                 disk->id, disk->instance_id, instance_id)};
    }
  }
  return std::nullopt;
}

Verdict image_must_fit_a_disk(std::uint64_t image_bytes, const CategoryRow& row) {
  if (image_bytes == 0) {
    return Refusal{400, "InvalidParameter", "The image is empty: there is nothing to import."};
  }
  const std::uint64_t most = std::min(kImageBytesMax, row.capacity.max_gib * 1_GiB);
  if (image_bytes <= most) return std::nullopt;
  return Refusal{403, "InvalidDiskSize.TooLarge",
                 fmt::format("The image has {} bytes; a snapshot has {} GiB at the most.",
                             image_bytes, most / 1_GiB)};
}

std::uint64_t size_gib_for_image(std::uint64_t image_bytes, const CategoryRow& row) {
  return std::max(row.capacity.min_gib, (image_bytes + 1_GiB - 1) / 1_GiB);
}

Verdict disk_must_be_importing(const DiskRecord& disk) {
  if (disk.status == DiskStatus::kImporting) return std::nullopt;
  return Refusal{403, "IncorrectDiskStatus",
                 fmt::format("Disk {} is {}: it is not one that BeginSnapshotImport made.", disk.id,
                             name(disk.status))};
}

Verdict snapshot_must_be_of_disk(const SnapshotRecord& snapshot, const DiskRecord& disk) {
  if (snapshot.disk_id == disk.id) return std::nullopt;
  return Refusal{
      403, "InvalidParameter.Mismatch",
      fmt::format("Snapshot {} is of disk {}, not of {}.", snapshot.id, snapshot.disk_id, disk.id)};
}

Verdict source_snapshot_must_remain(const DiskRecord& disk, const SnapshotRecord* source) {
  if (disk.source_snapshot.empty() || (source != nullptr && !source->hidden)) return std::nullopt;
  return Refusal{403, "InvalidSourceSnapshot",
                 fmt::format("Snapshot {}, which disk {} was made from, is gone.",
                             disk.source_snapshot, disk.id)};
}

Verdict disk_must_be_out_of_use(const DiskRecord& disk, const InstanceRecord* instance) {
  if (disk.status != DiskStatus::kAvailable && disk.status != DiskStatus::kInUse) {
    return Refusal{403, "IncorrectDiskStatus",
                   fmt::format("Disk {} is {}.", disk.id, name(disk.status))};
  }
  if (instance != nullptr && instance->status != InstanceStatus::kStopped) {
    return Refusal{
        403, "IncorrectInstanceStatus",
        fmt::format("Instance {} is {}. Stop it first: what it has read of the disk would "
                    "no longer be true.",
                    instance->id, name(instance->status))};
  }
  return std::nullopt;
}

Verdict disk_must_not_be_captured(std::span<const SnapshotRecord* const> snapshots) {
  if (count_if(snapshots, is_under_way) == 0) return std::nullopt;
  return Refusal{
      403, "DiskCreatingSnapshot",
      fmt::format("Snapshot {} of the disk is in progress. Wait until it is accomplished.",
                  first_under_way(snapshots))};
}

Verdict rollback_must_wait_for_captures(const SnapshotRecord& target,
                                        std::span<const SnapshotRecord* const> snapshots) {
  if (target.status == SnapshotStatus::kProgressing) {
    return Refusal{
        403, "InvalidSnapshotId.NotReady",
        fmt::format("Snapshot {} is in progress. Wait until it is accomplished.", target.id)};
  }
  if (count_if(snapshots, is_under_way) == 0) return std::nullopt;
  return Refusal{403, "IncorrectDiskStatus.HasUnfinishedSnapshot",
                 fmt::format("Snapshot {} of disk {} is in progress. Wait until it is "
                             "accomplished.",
                             first_under_way(snapshots), target.disk_id)};
}

Verdict hydration_pace_must_be_sensible(std::uint64_t bytes_per_second) {
  if (bytes_per_second == 0 || bytes_per_second >= 1_MiB) return std::nullopt;
  return Refusal{400, "InvalidParameter",
                 fmt::format("BytesPerSecond is {} at least, or 0 for no limit, not {}.", 1_MiB,
                             bytes_per_second)};
}

std::vector<const SnapshotRecord*> snapshots_that_go_with(
    const DiskRecord& disk, std::span<const SnapshotRecord* const> snapshots) {
  std::vector<const SnapshotRecord*> gone;
  if (!disk.delete_auto_snapshot) return gone;
  for (const SnapshotRecord* one : snapshots) {
    if (one->automatic && !one->hidden) gone.push_back(one);
  }
  return gone;
}

}  // namespace clouddisk
