#include "engine/catalog/disk_rules.h"

#include <fmt/format.h>

#include <algorithm>

namespace clouddisk {
namespace {

constexpr std::string_view kDevicePrefix = "/dev/xvd";
constexpr std::string_view kShortPrefix = "/dev/vd";

template <class... Args>
Refusal refuse(int http_status, std::string_view code, fmt::format_string<Args...> format,
               Args&&... args) {
  return Refusal{http_status, std::string(code), fmt::format(format, std::forward<Args>(args)...)};
}

Refusal wrong_status(const DiskRecord& disk, std::string_view wanted) {
  return refuse(403, "IncorrectDiskStatus", "Disk {} is {}, not {}.", disk.id, name(disk.status),
                wanted);
}

std::size_t data_disks(std::span<const DiskRecord* const> attached) {
  return static_cast<std::size_t>(std::count_if(
      attached.begin(), attached.end(), [](const DiskRecord* disk) { return !disk->system; }));
}

bool device_taken(std::string_view device, std::span<const DiskRecord* const> attached) {
  return std::any_of(attached.begin(), attached.end(),
                     [&](const DiskRecord* disk) { return disk->device == device; });
}

// Where a category stands among those that a disk can be changed into; nothing: it can't change.
std::optional<int> rank_of(std::string_view category) {
  if (category == "cloud_efficiency") return 1;
  if (category == "cloud_ssd") return 2;
  if (category == "cloud_essd_entry") return 2;
  if (category == "cloud_essd" || category == "cloud_auto") return 3;
  return std::nullopt;
}

}  // namespace

Verdict category_must_be_creatable(Profile profile, std::string_view category) {
  if (!category_known(profile, category)) {
    return refuse(400, "InvalidDiskCategory.ValueNotSupported",
                  "'{}' is no disk category; see DescribeCategories.", category);
  }
  for (const CategoryRow* row : category_table(profile)) {
    if (row->category == category && !row->creatable()) {
      return refuse(403, "InvalidDiskCategory.NotSupported", "Category {} can't be had: {}.",
                    category, row->unavailable);
    }
  }
  return std::nullopt;
}

Verdict level_must_fit_category(std::string_view category, std::string_view level,
                                std::string_view mismatch_code) {
  if (!level.empty() && !is_level_name(level)) {
    return refuse(400, "InvalidPerformanceLevel.Malformed",
                  "'{}' is no performance level: PL0, PL1, PL2 or PL3.", level);
  }
  if (!level.empty() && !category_has_levels(category)) {
    return refuse(400, mismatch_code,
                  "Category {} has no performance levels; {} belongs to cloud_essd.", category,
                  level);
  }
  return std::nullopt;
}

Verdict data_disk_size_must_fit(const CategoryRow& row, std::uint64_t size_gib) {
  if (row.capacity.contains(size_gib)) return std::nullopt;
  int http_status = 400;
  std::string_view code = "InvalidDiskSize.NotSupported";
  if (row.level == "PL0" && size_gib < row.capacity.min_gib) {
    http_status = 403;
    code = "InvalidDiskSize.TooSmall";
  } else if (!row.level.empty()) {
    http_status = 403;
    code = "OperationDenied.PerformanceLevelNotMatch";
  } else if (row.category == "cloud_auto") {
    http_status = 403;
    code = "InvalidDataDiskSize.ValueNotSupported";
  }
  return refuse(http_status, code, "{} has {} to {} GiB (profile {}), not {}.", row.title,
                row.capacity.min_gib, row.capacity.max_gib, name(row.profile), size_gib);
}

Verdict system_disk_size_must_fit(const CategoryRow& row, std::uint64_t size_gib) {
  const auto range = row.system_capacity();
  if (range && range->contains(size_gib)) return std::nullopt;
  if (!range) {
    return refuse(400, "InvalidSystemDiskSize.ValueNotSupported",
                  "{} starts at {} GiB, a system disk ends at {}.", row.title, row.capacity.min_gib,
                  kSystemDiskMaxGib);
  }
  return refuse(400, "InvalidSystemDiskSize.ValueNotSupported",
                "A system disk of {} has {} to {} GiB, not {}.", row.title, range->min_gib,
                range->max_gib, size_gib);
}

Verdict provisioned_iops_must_fit(const CategoryRow& row, std::uint64_t size_gib,
                                  std::uint64_t provisioned_iops) {
  if (provisioned_iops == 0) return std::nullopt;
  if (row.category != "cloud_auto") {
    return refuse(400, "ProvisionedIopsForDiskCategoryUnsupported",
                  "Only cloud_auto has provisioned IOPS, not {}.", row.category);
  }
  const std::uint64_t most = provisioned_iops_max(row, size_gib);
  if (provisioned_iops <= most) return std::nullopt;
  return refuse(400, "InvalidProvisionedIops.LimitExceed",
                "A disk of {} GiB has up to {} provisioned IOPS, not {}.", size_gib, most,
                provisioned_iops);
}

Verdict store_must_be_near_enough(std::uint64_t latency_us, std::uint64_t bytes_per_second) {
  if (latency_us > kStoreLatencyMaxUs) {
    return refuse(400, "InvalidParameter", "StoreLatencyUs is {} at the most, not {}.",
                  kStoreLatencyMaxUs, latency_us);
  }
  if (bytes_per_second != 0 && bytes_per_second < kStoreBandwidthMin) {
    return refuse(400, "InvalidParameter",
                  "StoreBytesPerSecond is {} at least, or 0 for no limit, not {}.",
                  kStoreBandwidthMin, bytes_per_second);
  }
  return std::nullopt;
}

Verdict disk_must_be_available_to_attach(const DiskRecord& disk) {
  if (disk.status == DiskStatus::kAvailable) return std::nullopt;
  return wrong_status(disk, "Available: a disk is attached to one instance at a time");
}

Verdict disk_must_be_available_to_delete(const DiskRecord& disk) {
  if (disk.status == DiskStatus::kAvailable || disk.status == DiskStatus::kImporting) {
    return std::nullopt;
  }
  return wrong_status(disk, "Available: detach it first");
}

Verdict instance_must_take_disks(const InstanceRecord& instance, int http_status) {
  if (instance.status == InstanceStatus::kRunning || instance.status == InstanceStatus::kStopped) {
    return std::nullopt;
  }
  return refuse(http_status, "IncorrectInstanceStatus",
                "Instance {} is {}, neither Running nor Stopped.", instance.id,
                name(instance.status));
}

Verdict disk_and_instance_must_share_a_zone(const DiskRecord& disk,
                                            const InstanceRecord& instance) {
  if (disk.zone == instance.zone) return std::nullopt;
  return refuse(403, "ResourcesNotInSameZone", "Disk {} is in zone {}, instance {} in {}.", disk.id,
                disk.zone, instance.id, instance.zone);
}

Verdict instance_must_have_room(std::span<const DiskRecord* const> attached) {
  if (data_disks(attached) < kDataDisksMax) return std::nullopt;
  return refuse(403, "InstanceDiskLimitExceeded",
                "The instance has {} data disks, the most it can.", kDataDisksMax);
}

Verdict device_must_be_free(std::string_view device, std::span<const DiskRecord* const> attached) {
  std::string_view letter;
  if (device.starts_with(kDevicePrefix)) letter = device.substr(kDevicePrefix.size());
  if (device.starts_with(kShortPrefix)) letter = device.substr(kShortPrefix.size());
  if (letter.size() != 1 || letter[0] < 'b' || letter[0] > 'z') {
    return refuse(400, "InvalidDevice.Malformed",
                  "'{}' is no device of a data disk: /dev/xvdb to /dev/xvdz.", device);
  }
  if (device_taken(device, attached)) {
    return refuse(403, "InvalidDevice.InUse", "{} belongs to another disk of the instance.",
                  device);
  }
  return std::nullopt;
}

std::string first_free_device(std::span<const DiskRecord* const> attached) {
  for (char letter = 'b'; letter <= 'z'; ++letter) {
    std::string device = std::string(kDevicePrefix) + letter;
    if (!device_taken(device, attached)) return device;
  }
  return {};
}

Verdict disk_must_be_attached_to(const DiskRecord& disk, std::string_view instance_id) {
  if (disk.instance_id.empty()) {
    return refuse(403, "IncorrectDiskStatus", "Disk {} is {}: it is not attached.", disk.id,
                  name(disk.status));
  }
  if (disk.instance_id != instance_id) {
    return refuse(403, "DependencyViolation", "Disk {} is attached to {}, not to {}.", disk.id,
                  disk.instance_id, instance_id);
  }
  if (disk.status != DiskStatus::kInUse) return wrong_status(disk, "In_use");
  return std::nullopt;
}

Verdict disk_must_be_a_data_disk(const DiskRecord& disk) {
  if (!disk.system) return std::nullopt;
  return refuse(403, "DiskTypeViolation", "Disk {} is the system disk of {} and goes with it.",
                disk.id, disk.instance_id);
}

Verdict new_size_must_be_larger(const DiskRecord& disk, const CategoryRow& row,
                                std::uint64_t new_size_gib) {
  if (new_size_gib < disk.size_gib) {
    return refuse(403, "InvalidDiskSize.TooSmall",
                  "Disk {} has {} GiB and can't shrink to {}: a disk only grows.", disk.id,
                  disk.size_gib, new_size_gib);
  }
  if (new_size_gib == disk.size_gib) {
    return refuse(403, "InvalidDiskSize", "Disk {} has {} GiB already.", disk.id, disk.size_gib);
  }
  const std::uint64_t most = disk.system ? kSystemDiskMaxGib : row.capacity.max_gib;
  if (new_size_gib > most) {
    return refuse(403, "InvalidDiskSize.TooLarge", "{} ends at {} GiB, {} were asked.",
                  disk.system ? "A system disk" : row.title, most, new_size_gib);
  }
  return std::nullopt;
}

Verdict disk_must_be_at_rest(const DiskRecord& disk) {
  if (disk.status == DiskStatus::kAvailable || disk.status == DiskStatus::kInUse) {
    return std::nullopt;
  }
  return wrong_status(disk, "Available or In_use");
}

Verdict online_resize_needs_a_running_instance(const DiskRecord& disk,
                                               const InstanceRecord* instance) {
  if (instance == nullptr) return wrong_status(disk, "In_use: use Type=offline");
  if (instance->status == InstanceStatus::kRunning) return std::nullopt;
  return refuse(403, "InvalidInstanceStatus.NotRunning",
                "Instance {} is {}, not Running: use Type=offline.", instance->id,
                name(instance->status));
}

Verdict spec_must_change(const DiskRecord& disk, const CategoryRow& to,
                         std::uint64_t provisioned_iops) {
  if (disk.category != to.category || disk.level != to.level ||
      disk.provisioned_iops != provisioned_iops) {
    return std::nullopt;
  }
  return refuse(403, "NoChangeInDiskCategoryAndPerformanceLevel", "Disk {} is {} already.", disk.id,
                to.title);
}

Verdict size_must_allow_spec(const DiskRecord& disk, const CategoryRow& to) {
  const auto range = disk.system ? to.system_capacity() : std::optional(to.capacity);
  if (range && range->contains(disk.size_gib)) return std::nullopt;
  if (!to.level.empty()) {
    return refuse(403, "OperationDenied.PerformanceLevelNotMatch",
                  "{} has {} to {} GiB, disk {} has {}: resize it first.", to.title,
                  to.capacity.min_gib, to.capacity.max_gib, disk.id, disk.size_gib);
  }
  return refuse(403, "InvalidDiskCategory.NotSupported", "{} has {} to {} GiB, disk {} has {}.",
                to.title, to.capacity.min_gib, to.capacity.max_gib, disk.id, disk.size_gib);
}

Verdict spec_must_be_reachable(const DiskRecord& disk, const CategoryRow& to) {
  if (disk.category == to.category) {
    const bool down = to.level < disk.level;
    if (down && disk.prepaid) {
      return refuse(403, "Downgrade.NotSupported", "{} can't go down from {} to {}: it is prepaid.",
                    disk.id, disk.level, to.level);
    }
    if (down && to.level == "PL0") {
      return refuse(403, "InvalidPerformanceLevel.TooLow", "{} can't go down from {} to PL0.",
                    disk.id, disk.level);
    }
    return std::nullopt;
  }
  const auto from_rank = rank_of(disk.category);
  if (!from_rank) {
    return refuse(403, "InvalidDiskCategory.ValueNotSupported",
                  "A disk of {} can't become one of another category.", disk.category);
  }
  const auto to_rank = rank_of(to.category);
  if (to_rank && *to_rank >= *from_rank) return std::nullopt;
  return refuse(403, "InvalidDiskCategory.NotSupported", "A disk of {} can't become one of {}.",
                disk.category, to.category);
}

Verdict resize_must_have_taken_effect(const DiskRecord& disk) {
  if (disk.visible_gib == disk.size_gib) return std::nullopt;
  return refuse(403, "OperationDenied.DiskExpansionUnfinished",
                "Disk {} has {} GiB after the next start of its instance, {} until then: restart "
                "it first.",
                disk.id, disk.size_gib, disk.visible_gib);
}

Verdict spec_must_have_cooled(const DiskRecord& disk, WallTime now, Duration cooling) {
  if (cooling == Duration::zero() || disk.spec_changed == WallTime{} ||
      now - disk.spec_changed >= cooling) {
    return std::nullopt;
  }
  const auto left =
      std::chrono::duration_cast<std::chrono::hours>(disk.spec_changed + cooling - now);
  return refuse(403, "DiskInCoolingPeriod", "Disk {} was changed lately; wait {} more hours.",
                disk.id, left.count() + 1);
}

}  // namespace clouddisk
