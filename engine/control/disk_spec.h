// disk_spec.h: what a request says about a new disk, turned into a record, with every rule asked:
// CreateDisk, and the SystemDisk and DataDisk.N of RunInstances and CreateInstance.
#pragma once

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"
#include "engine/control/params.h"
#include "engine/qos/category.h"

namespace clouddisk {

enum class DiskRole { kData, kSystem };

// Names of the parameters, which differ: CreateDisk says DiskCategory, DataDisk.N says Category.
struct DiskSpecNames {
  std::string_view category = "Category";
  std::string_view name_code = "InvalidDiskName.Malformed";
  std::string_view description_code = "InvalidDescription.Malformed";
  // Of the snapshot that the disk is made from, which the caller has looked up: the size when none
  // is given. 0: it is made empty.
  std::uint64_t snapshot_gib = 0;
  // Of the image that a system disk is made from: the least size that is taken when none is given.
  std::uint64_t image_gib = 0;
};

// Fills category, level, sizes, provisioned IOPS, name and description of `disk`.
Verdict read_disk_spec(ParamReader& params, Profile profile, DiskRole role,
                       const DiskSpecNames& names, DiskRecord& disk);

// Ours: StoreLatencyUs and StoreBytesPerSecond of this disk; StoreDefault=true: as the daemon says.
// Gives whether any was there.
bool read_store(ParamReader& params, DiskRecord& disk);

// The row of a disk that exists; a CHECK that it is there. A disk whose row its profile has lost
// (the daemon was started with another profile) has the other profile's.
const CategoryRow& row_of(const DiskRecord& disk, Profile profile);

DiskLimits limits_of(const DiskRecord& disk, Profile profile);

}  // namespace clouddisk
