#include "engine/control/disk_spec.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/catalog/disk_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"

namespace clouddisk {
namespace {

std::string category_or_default(const ParamReader& params, Profile profile, DiskRole role,
                                std::string_view parameter) {
  if (auto given = params.optional_text(parameter)) return *given;
  if (params.has("PerformanceLevel")) return "cloud_essd";  // Only it has levels.
  if (role == DiskRole::kSystem) return "cloud_efficiency";
  const CategoryRow* row = find_category(profile, kDefaultCategory, "");
  return row != nullptr && row->creatable() ? std::string(kDefaultCategory) : "cloud_essd";
}

// What is known to the cloud and not to be had here is said, never ignored.
Verdict refuse_what_is_missing(ParamReader& params, const DiskSpecNames& names) {
  if (params.has("SnapshotId") && names.snapshot_gib == 0) {
    return Refusal{403, "InvalidOperation.CreateFromSnapshotUnsupported",
                   "A system disk is not made from a snapshot: that takes an image."};
  }
  if (params.boolean("Encrypted", false) || params.has("KMSKeyId")) {
    return Refusal{403, "InvalidParameter.EncryptedNotSupported",
                   "Encrypted disks do not exist yet."};
  }
  if (params.text("MultiAttach", "Disabled") != "Disabled") {
    return Refusal{403, "InvalidParameter.MultiAttach",
                   "A disk belongs to one instance at a time; MultiAttach is Disabled."};
  }
  if (params.boolean("BurstingEnabled", false)) {
    return Refusal{400, "BurstingEnabledForDiskCategoryUnsupported",
                   "No category bursts here: a disk keeps its limit."};
  }
  return std::nullopt;
}

}  // namespace

Verdict read_disk_spec(ParamReader& params, Profile profile, DiskRole role,
                       const DiskSpecNames& names, DiskRecord& disk) {
  if (auto broken = refuse_what_is_missing(params, names)) return broken;
  disk.category = category_or_default(params, profile, role, names.category);
  if (auto broken = category_must_be_creatable(profile, disk.category)) return broken;
  disk.level = params.text("PerformanceLevel");
  if (auto broken = level_must_fit_category(disk.category, disk.level)) return broken;
  if (disk.level.empty() && category_has_levels(disk.category)) disk.level = kDefaultLevel;
  const CategoryRow* row = find_category(profile, disk.category, disk.level);
  CHECK(row != nullptr);

  if (auto broken = snapshot_must_fit_category(names.snapshot_gib, *row)) return broken;
  disk.system = role == DiskRole::kSystem;
  auto size = params.optional_number("Size");
  if (params.problem()) {
    return Refusal{400, "InvalidSize.ValueNotSupported", params.problem()->message};
  }
  if (!size && names.snapshot_gib != 0) size = names.snapshot_gib;
  if (!size && !disk.system) {
    return Refusal{400, "MissingParameter", "The parameter Size is missing, in GiB."};
  }
  disk.size_gib = size.value_or(std::max(kSystemDiskDefaultGib, names.image_gib));
  disk.visible_gib = disk.size_gib;
  if (auto broken = disk.system ? system_disk_size_must_fit(*row, disk.size_gib)
                                : data_disk_size_must_fit(*row, disk.size_gib)) {
    return broken;
  }
  disk.provisioned_iops = params.number("ProvisionedIops", 0);
  if (params.problem()) return params.problem();
  if (auto broken = provisioned_iops_must_fit(*row, disk.size_gib, disk.provisioned_iops)) {
    return broken;
  }

  if (auto given = params.optional_text("DiskName")) {
    if (auto broken = name_must_be_well_formed(*given, names.name_code)) return broken;
    disk.disk_name = *given;
  }
  if (auto given = params.optional_text("Description")) {
    if (auto broken = description_must_be_well_formed(*given, names.description_code, 400)) {
      return broken;
    }
    disk.description = *given;
  }
  return params.problem();
}

bool read_store(ParamReader& params, DiskRecord& disk) {
  const auto latency = params.optional_number("StoreLatencyUs");
  const auto bandwidth = params.optional_number("StoreBytesPerSecond");
  const bool as_daemon = params.boolean("StoreDefault", false);
  if (as_daemon && (latency || bandwidth)) {
    params.refuse({400, "InvalidParameter.Conflict",
                   "StoreDefault goes without StoreLatencyUs and StoreBytesPerSecond."});
  }
  if (as_daemon) {
    disk.own_store = false;
    disk.store_latency_us = 0;
    disk.store_bytes_per_second = 0;
  } else if (latency || bandwidth) {
    disk.own_store = true;
    disk.store_latency_us = latency.value_or(disk.store_latency_us);
    disk.store_bytes_per_second = bandwidth.value_or(disk.store_bytes_per_second);
    if (auto broken =
            store_must_be_near_enough(disk.store_latency_us, disk.store_bytes_per_second)) {
      params.refuse(*broken);
    }
  }
  return as_daemon || latency || bandwidth;
}

const CategoryRow& row_of(const DiskRecord& disk, Profile profile) {
  const CategoryRow* row = find_category(profile, disk.category, disk.level);
  if (row == nullptr || !row->creatable()) {
    const Profile other = profile == Profile::k2021 ? Profile::k2024 : Profile::k2021;
    row = find_category(other, disk.category, disk.level);
  }
  CHECK(row != nullptr);
  return *row;
}

DiskLimits limits_of(const DiskRecord& disk, Profile profile) {
  return limits_for(row_of(disk, profile), disk.size_gib, disk.provisioned_iops);
}

}  // namespace clouddisk
