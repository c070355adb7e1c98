// snapshot_rules.h: the cloud's rules for snapshots, rollback and re-initialisation. Each is one
// named pure function with the cloud's code and HTTP status, as in disk_rules.h.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"
#include "engine/qos/category.h"

namespace clouddisk {

inline constexpr std::size_t kManualSnapshotsMax = 256;      // a disk
inline constexpr std::size_t kAutomaticSnapshotsMax = 1000;  // a disk
inline constexpr std::size_t kGroupDisksMax = 16;
inline constexpr std::uint64_t kGroupGibMax = 32'768;

// --- Taking one ---

// InvalidSnapshotName.Malformed (400): a name as for disks, and not beginning with "auto".
Verdict snapshot_name_must_be_allowed(std::string_view name);
// InvalidRetentionDays.Malformed (400): 1 to 65,536.
Verdict retention_must_fit(std::uint64_t days);
// InvalidRetentionDays.Malformed (400): a snapshot stays longer than it would have, never shorter.
Verdict retention_must_not_shrink(const SnapshotRecord& snapshot, std::uint64_t days);
// InvalidSnapshotCategory.Malformed (403): neither standard nor flash.
Verdict snapshot_category_must_be_known(std::string_view category);
// IncorrectDiskStatus (403) unless Available or In_use; IncorrectDiskStatus.NeverAttached (403).
Verdict disk_must_allow_snapshot(const DiskRecord& disk);
// IncorrectDiskStatus.NeverUsed (403): attached, but to an instance that never ran. `instance`
// null: not attached now.
Verdict disk_must_have_been_used(const DiskRecord& disk, const InstanceRecord* instance);
// Ten at a time for the ESSD family: QuotaExceed.ConcurrentSnapshotQuota (403); one for others:
// IncorrectDiskStatus.CreatingSnapshot (403). `snapshots`: all of the disk.
Verdict capture_must_have_room(const DiskRecord& disk,
                               std::span<const SnapshotRecord* const> snapshots);
// QuotaExceed.Snapshot (403): 256 manual ones, unless the quota is another.
Verdict quota_must_have_room(std::span<const SnapshotRecord* const> snapshots,
                             std::size_t quota = kManualSnapshotsMax);
// The automatic snapshot that makes room for another, at the quota; null: there is room.
const SnapshotRecord* oldest_automatic_over_quota(std::span<const SnapshotRecord* const> snapshots,
                                                  std::size_t quota = kAutomaticSnapshotsMax);

// --- Using one ---

// InvalidSnapshotId.NotReady (403): failed, or being deleted. In progress is fine.
Verdict snapshot_must_be_usable(const SnapshotRecord& snapshot);
// InvalidSnapshotId.NotFound (404): things of another region can't be used.
Verdict snapshot_must_be_in_region(const SnapshotRecord& snapshot, std::string_view region);
// InvalidSnapshotId.NotDataDiskSnapshot (403).
Verdict snapshot_must_be_of_a_data_disk(const SnapshotRecord& snapshot);
// InvalidSnapshot.TooLarge (403): larger than any disk of the category.
Verdict snapshot_must_fit_category(std::uint64_t snapshot_gib, const CategoryRow& row);
// InvalidDiskSize.TooSmall (403).
Verdict size_must_hold_snapshot(std::uint64_t size_gib, const SnapshotRecord& snapshot);
// SnapshotCreatedDisk (403): disks were made from it, and Force was not given.
// `disks`: ids of those that were made from it.
Verdict snapshot_must_not_have_disks(const SnapshotRecord& snapshot,
                                     std::span<const std::string> disks, bool force);

// --- Copying one, or having an image of it ---

// InvalidSnapshotId.NotReady (403): still in progress, failed, or being deleted.
Verdict snapshot_must_be_accomplished(const SnapshotRecord& snapshot);
// InvalidDestinationRegionId (400): it is there already.
Verdict copy_must_go_elsewhere(const SnapshotRecord& source, std::string_view region);

// --- Several disks at one instant ---

// None: InvalidInstance.NoDisk (403). Above 16: NumberExceed.TooManyDisks (403).
Verdict group_must_have_a_fitting_number(std::size_t disks);
// DiskCategory.OperationNotSupported (400): of the ESSD family alone.
Verdict group_disks_must_be_essd(std::span<const DiskRecord* const> disks);
// InvalidDiskIds.NotInSameZone (400).
Verdict group_disks_must_share_a_zone(std::span<const DiskRecord* const> disks);
// CapacityExceed.TooManyDisks (403): together more than 32 TiB.
Verdict group_must_have_a_fitting_size(std::span<const DiskRecord* const> disks);
// IncorrectDiskStatus (403): not In_use, or at another instance.
Verdict group_disks_must_be_in_use_at(std::span<const DiskRecord* const> disks,
                                      std::string_view instance_id);

// --- Importing one ---

inline constexpr std::uint64_t kImageBytesMax = 32'768 * 1_GiB;
// InvalidParameter (400): nothing in it; InvalidDiskSize.TooLarge (403): more than 32 TiB, or than
// the largest disk of the row.
Verdict image_must_fit_a_disk(std::uint64_t image_bytes, const CategoryRow& row);
// Whole GiB, and at least the smallest disk of the row. The image fits.
std::uint64_t size_gib_for_image(std::uint64_t image_bytes, const CategoryRow& row);
// IncorrectDiskStatus (403).
Verdict disk_must_be_importing(const DiskRecord& disk);

// --- Going back ---

// InvalidParameter.Mismatch (403).
Verdict snapshot_must_be_of_disk(const SnapshotRecord& snapshot, const DiskRecord& disk);
// InvalidSourceSnapshot (403): made from one that is gone. `source` null: there is none of its id.
Verdict source_snapshot_must_remain(const DiskRecord& disk, const SnapshotRecord* source);
// IncorrectDiskStatus (403) unless attached or Available; IncorrectInstanceStatus (403) unless its
// instance is Stopped. `instance` null: not attached.
Verdict disk_must_be_out_of_use(const DiskRecord& disk, const InstanceRecord* instance);
// A snapshot of the disk is in progress. DiskCreatingSnapshot (403): ReInitDisk, ResizeDisk,
// ModifyDiskSpec, DeleteDisk.
Verdict disk_must_not_be_captured(std::span<const SnapshotRecord* const> snapshots);
// ResetDisk: InvalidSnapshotId.NotReady (403) when it is the one to go back to,
// IncorrectDiskStatus.HasUnfinishedSnapshot (403) when it is another.
Verdict rollback_must_wait_for_captures(const SnapshotRecord& target,
                                        std::span<const SnapshotRecord* const> snapshots);

// Ours. InvalidParameter (400): 0 is as fast as it goes, and 1 MiB/s the least.
Verdict hydration_pace_must_be_sensible(std::uint64_t bytes_per_second);

// --- Releasing the disk ---

// The automatic ones, when the disk's DeleteAutoSnapshot says so. Manual ones stay.
std::vector<const SnapshotRecord*> snapshots_that_go_with(
    const DiskRecord& disk, std::span<const SnapshotRecord* const> snapshots);

}  // namespace clouddisk
