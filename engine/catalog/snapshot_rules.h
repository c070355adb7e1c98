// snapshot_rules.h: the cloud's rules for snapshots, rollback and re-initialisation. Each is one
// named pure function with the cloud's code and HTTP status, as in disk_rules.h.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

inline constexpr std::size_t kManualSnapshotsMax = 256;      // a disk
inline constexpr std::size_t kAutomaticSnapshotsMax = 1000;  // a disk
inline constexpr std::size_t kGroupDisksMax = 16;

// --- Taking one ---

// InvalidSnapshotName.Malformed (400): a name as for disks, and not beginning with "auto".
Verdict snapshot_name_must_be_allowed(std::string_view name);
// InvalidRetentionDays.Malformed (400): 1 to 65,536.
Verdict retention_must_fit(std::uint64_t days);
// IncorrectDiskStatus (403) unless Available or In_use; IncorrectDiskStatus.NeverAttached (403).
Verdict disk_must_allow_snapshot(const DiskRecord& disk);
// IncorrectDiskStatus.CreatingSnapshot (403): ten at a time for the ESSD family, one for others.
// `snapshots`: all of the disk.
Verdict capture_must_have_room(const DiskRecord& disk,
                               std::span<const SnapshotRecord* const> snapshots);
// QuotaExceed.Snapshot (403): 256 manual ones, unless the quota is another.
Verdict quota_must_have_room(std::span<const SnapshotRecord* const> snapshots,
                             std::size_t quota = kManualSnapshotsMax);
// The automatic snapshot that makes room for another, at 1,000; null: there is room.
const SnapshotRecord* oldest_automatic_over_quota(std::span<const SnapshotRecord* const> snapshots);

// --- Using one ---

// InvalidSnapshotId.NotReady (403): failed, or being deleted. In progress is fine.
Verdict snapshot_must_be_usable(const SnapshotRecord& snapshot);
// InvalidSnapshotId.NotDataDiskSnapshot (403).
Verdict snapshot_must_be_of_a_data_disk(const SnapshotRecord& snapshot);
// InvalidDiskSize.TooSmall (403).
Verdict size_must_hold_snapshot(std::uint64_t size_gib, const SnapshotRecord& snapshot);
// SnapshotCreatedDisk (403): disks were made from it, and Force was not given.
Verdict snapshot_must_not_have_disks(const SnapshotRecord& snapshot, std::size_t disks, bool force);

// --- Several disks at one instant ---

// None: InvalidInstance.NoDisk (403). Above 16: NumberExceed.TooManyDisks (403).
Verdict group_must_have_a_fitting_number(std::size_t disks);
// IncorrectDiskStatus (403): not In_use, or at another instance.
Verdict group_disks_must_be_in_use_at(std::span<const DiskRecord* const> disks,
                                      std::string_view instance_id);

// --- Going back ---

// InvalidParameter.Mismatch (403).
Verdict snapshot_must_be_of_disk(const SnapshotRecord& snapshot, const DiskRecord& disk);
// InvalidSourceSnapshot (403): made from one that is gone. `source` null: there is none of its id.
Verdict source_snapshot_must_remain(const DiskRecord& disk, const SnapshotRecord* source);
// IncorrectDiskStatus (403) unless attached or Available; IncorrectInstanceStatus (403) unless its
// instance is Stopped. `instance` null: not attached.
Verdict disk_must_be_out_of_use(const DiskRecord& disk, const InstanceRecord* instance);
// DiskCreatingSnapshot (403).
Verdict disk_must_not_be_captured(std::span<const SnapshotRecord* const> snapshots);

}  // namespace clouddisk
