// disk_rules.h: the cloud's rules for disks. Each is one named pure function with the cloud's code
// and HTTP status; an action asks them in the order in which the cloud does and stops at the first
// refusal.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"
#include "engine/qos/category.h"

namespace clouddisk {

inline constexpr std::size_t kDataDisksMax = 16;  // an instance, beside its system disk

// --- What a disk may be (CreateDisk, RunInstances, ModifyDiskSpec) ---

// Unknown: InvalidDiskCategory.ValueNotSupported (400). Known, but not to be had in this profile:
// InvalidDiskCategory.NotSupported (403).
Verdict category_must_be_creatable(Profile profile, std::string_view category);
// No PL0 to PL3: InvalidPerformanceLevel.Malformed (400). A level for a category without levels:
// `mismatch_code` (400), which differs by action.
Verdict level_must_fit_category(
    std::string_view category, std::string_view level,
    std::string_view mismatch_code = "InvalidPerformanceLevel.ValueNotSupported");
// Outside its level: OperationDenied.PerformanceLevelNotMatch (403); PL0 below its minimum:
// InvalidDiskSize.TooSmall (403); cloud, cloud_efficiency, cloud_ssd: InvalidDiskSize.NotSupported
// (400); cloud_auto: InvalidDataDiskSize.ValueNotSupported (403).
Verdict data_disk_size_must_fit(const CategoryRow& row, std::uint64_t size_gib);
// InvalidSystemDiskSize.ValueNotSupported (400).
Verdict system_disk_size_must_fit(const CategoryRow& row, std::uint64_t size_gib);
// Not cloud_auto: ProvisionedIopsForDiskCategoryUnsupported; too many:
// InvalidProvisionedIops.LimitExceed (400).
Verdict provisioned_iops_must_fit(const CategoryRow& row, std::uint64_t size_gib,
                                  std::uint64_t provisioned_iops);

inline constexpr std::uint64_t kStoreLatencyMaxUs = 60'000'000;
inline constexpr std::uint64_t kStoreBandwidthMin = 1_MiB;  // a second; less would look like a hang
// Ours. InvalidParameter (400).
Verdict store_must_be_near_enough(std::uint64_t latency_us, std::uint64_t bytes_per_second);

// --- Attach, detach, delete ---

// IncorrectDiskStatus (403). An import under way is given up by deleting its disk.
Verdict disk_must_be_available_to_attach(const DiskRecord& disk);
Verdict disk_must_be_available_to_delete(const DiskRecord& disk);
// IncorrectInstanceStatus: 400 for attach, 403 for detach.
Verdict instance_must_take_disks(const InstanceRecord& instance, int http_status);
// ResourcesNotInSameZone (403).
Verdict disk_and_instance_must_share_a_zone(const DiskRecord& disk, const InstanceRecord& instance);
// InstanceDiskLimitExceeded (403). `attached`: all disks of the instance.
Verdict instance_must_have_room(std::span<const DiskRecord* const> attached);
// InvalidDevice.Malformed (400), InvalidDevice.InUse (403).
Verdict device_must_be_free(std::string_view device, std::span<const DiskRecord* const> attached);
// The first free name for a data disk, from /dev/xvdb on.
std::string first_free_device(std::span<const DiskRecord* const> attached);
// Already detached: IncorrectDiskStatus; another's: DependencyViolation (403).
Verdict disk_must_be_attached_to(const DiskRecord& disk, std::string_view instance_id);
// DiskTypeViolation (403): a system disk goes with its instance.
Verdict disk_must_be_a_data_disk(const DiskRecord& disk);

// --- Resize ---

// InvalidDiskSize.TooSmall, InvalidDiskSize (equal), InvalidDiskSize.TooLarge (403).
Verdict new_size_must_be_larger(const DiskRecord& disk, const CategoryRow& row,
                                std::uint64_t new_size_gib);
// IncorrectDiskStatus (403): neither Available nor In_use.
Verdict disk_must_be_at_rest(const DiskRecord& disk);
// Online: IncorrectDiskStatus unless attached, InvalidInstanceStatus.NotRunning (403).
Verdict online_resize_needs_a_running_instance(const DiskRecord& disk,
                                               const InstanceRecord* instance);

// --- Change of category or level ---

// NoChangeInDiskCategoryAndPerformanceLevel (403).
Verdict spec_must_change(const DiskRecord& disk, const CategoryRow& to,
                         std::uint64_t provisioned_iops);
// OperationDenied.PerformanceLevelNotMatch (403): the level needs a larger disk;
// InvalidDiskCategory.NotSupported (403): the size is none of the category's.
Verdict size_must_allow_spec(const DiskRecord& disk, const CategoryRow& to);
// Down when prepaid: Downgrade.NotSupported (403); else down to PL0: InvalidPerformanceLevel.TooLow
// (403). From a category that can't change: InvalidDiskCategory.ValueNotSupported (403); to one
// that this one can't become: InvalidDiskCategory.NotSupported (403).
Verdict spec_must_be_reachable(const DiskRecord& disk, const CategoryRow& to);
// OperationDenied.DiskExpansionUnfinished (403): its instance has not been restarted after an
// offline resize.
Verdict resize_must_have_taken_effect(const DiskRecord& disk);
// DiskInCoolingPeriod (403). `cooling` zero: off.
Verdict spec_must_have_cooled(const DiskRecord& disk, WallTime now, Duration cooling);

}  // namespace clouddisk
