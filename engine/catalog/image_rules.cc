#include "engine/catalog/image_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/qos/category.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kEmptyDiskMinGib = 5;
constexpr std::uint64_t kImageDiskMaxGib = 32'768;
constexpr std::size_t kAccountDigitsMax = 20;

bool is_image_text(std::string_view text) {
  return name_is_well_formed(text) && !text.starts_with("aliyun") && !text.starts_with("acs:");
}

template <std::size_t kCount>
Verdict must_be_one_of(const std::array<std::string_view, kCount>& known, std::string_view given,
                       std::string_view parameter) {
  if (std::find(known.begin(), known.end(), given) != known.end()) return std::nullopt;
  return Refusal{
      400, fmt::format("Invalid{}.ValueNotSupported", parameter),
      fmt::format("{} is one of {}, not '{}'.", parameter, fmt::join(known, ", "), given)};
}

// As the rules for devices want it.
std::vector<DiskRecord> as_attached(std::span<const ImageDisk> disks) {
  std::vector<DiskRecord> attached(disks.size());
  for (std::size_t i = 0; i < disks.size(); ++i) {
    attached[i].device = disks[i].device;
    attached[i].system = disks[i].system;
  }
  return attached;
}

std::vector<const DiskRecord*> pointers_to(const std::vector<DiskRecord>& disks) {
  std::vector<const DiskRecord*> pointers;
  for (const DiskRecord& disk : disks) pointers.push_back(&disk);
  return pointers;
}

}  // namespace

std::string_view name(ImageStatus status) {
  switch (status) {
    case ImageStatus::kCreating:
      return "Creating";
    case ImageStatus::kAvailable:
      return "Available";
    case ImageStatus::kCreateFailed:
      return "CreateFailed";
    case ImageStatus::kDeprecated:
      break;
  }
  return "Deprecated";
}

ImageStatus status_of(const ImageRecord& image, std::span<const SnapshotRecord* const> snapshots) {
  ImageStatus status = image.deprecated ? ImageStatus::kDeprecated : ImageStatus::kAvailable;
  for (const SnapshotRecord* snapshot : snapshots) {
    if (snapshot == nullptr || snapshot->status == SnapshotStatus::kFailed) {
      return ImageStatus::kCreateFailed;
    }
    if (snapshot->status == SnapshotStatus::kProgressing) status = ImageStatus::kCreating;
  }
  return status;
}

bool is_custom_image(std::string_view image_id) {
  return image_id.starts_with("m-");
}

Verdict image_name_must_be_allowed(std::string_view name) {
  if (is_image_text(name)) return std::nullopt;
  return Refusal{400, "InvalidImageName.Malformed",
                 "An image's name has 2 to 128 characters, begins with a letter, and not with "
                 "http://, https://, aliyun or acs:."};
}

Verdict image_name_must_be_new(std::string_view name,
                               const std::vector<const ImageRecord*>& others) {
  for (const ImageRecord* other : others) {
    if (other->image_name != name) continue;
    return Refusal{400, "InvalidImageName.Duplicated",
                   fmt::format("Image {} has the name '{}' already.", other->id, name)};
  }
  return std::nullopt;
}

Verdict image_family_must_be_allowed(std::string_view family) {
  if (is_image_text(family)) return std::nullopt;
  return Refusal{400, "InvalidImageFamily.Malformed",
                 "A family's name has 2 to 128 characters, begins with a letter, and not with "
                 "http://, https://, aliyun or acs:."};
}

Verdict architecture_must_be_known(std::string_view architecture) {
  return must_be_one_of(std::array<std::string_view, 3>{"x86_64", "i386", "arm64"}, architecture,
                        "Architecture");
}

Verdict boot_mode_must_be_known(std::string_view boot_mode) {
  return must_be_one_of(std::array<std::string_view, 3>{"BIOS", "UEFI", "UEFI-Preferred"},
                        boot_mode, "BootMode");
}

Verdict images_must_have_room(std::size_t images) {
  if (images < kImagesMax) return std::nullopt;
  return Refusal{
      403, "QuotaExceed.Image",
      fmt::format("The region has {} images, as many as it may. Delete one first.", images)};
}

Verdict image_must_have_one_source(bool instance, bool snapshot, bool mappings) {
  if (!instance && !snapshot && !mappings) {
    return Refusal{400, "MissingParameter",
                   "Give InstanceId, SnapshotId or DiskDeviceMapping.1.SnapshotId."};
  }
  if (!instance || (!snapshot && !mappings)) return std::nullopt;
  return Refusal{403, "InvalidParamter.Conflict",
                 "InstanceId goes without SnapshotId and DiskDeviceMapping.N."};
}

Verdict snapshot_must_be_of_a_system_disk(const SnapshotRecord& snapshot) {
  if (snapshot.system) return std::nullopt;
  return Refusal{403, "OperationDenied",
                 fmt::format("Snapshot {} is of a data disk; an image begins with a system disk's.",
                             snapshot.id)};
}

Verdict instance_must_have_a_system_disk(std::string_view instance_id, const DiskRecord* system) {
  if (system != nullptr) return std::nullopt;
  return Refusal{400, "InvalidInstance.NotFoundSystemDisk",
                 fmt::format("Instance {} has no system disk.", instance_id)};
}

Verdict image_device_must_be_free(const ImageDisk& disk, std::span<const ImageDisk> disks) {
  const std::vector<DiskRecord> attached = as_attached(disks);
  const std::vector<const DiskRecord*> pointers = pointers_to(attached);
  const bool taken = std::any_of(disks.begin(), disks.end(), [&disk](const ImageDisk& other) {
    return other.device == disk.device;
  });
  if (taken) {
    return Refusal{400, "InvalidDevice.InUse",
                   fmt::format("Device {} is given to two disks.", disk.device)};
  }
  if (disk.system) {
    if (disk.device == kSystemDevice) return std::nullopt;
    return Refusal{
        400, "InvalidDevice.Malformed",
        fmt::format("The system disk's device is {}, not {}.", kSystemDevice, disk.device)};
  }
  if (disk.device == kSystemDevice) {
    return Refusal{400, "InvalidDevice.Malformed",
                   fmt::format("{} is the system disk's device.", kSystemDevice)};
  }
  if (auto broken = instance_must_have_room(pointers)) return broken;
  return device_must_be_free(disk.device, pointers);
}

std::string first_free_image_device(std::span<const ImageDisk> disks) {
  const std::vector<DiskRecord> attached = as_attached(disks);
  return first_free_device(pointers_to(attached));
}

Verdict image_disk_size_must_fit(const ImageDisk& disk, const SnapshotRecord* snapshot) {
  const std::uint64_t least = snapshot != nullptr ? snapshot->size_bytes / 1_GiB : kEmptyDiskMinGib;
  const std::uint64_t most = disk.system ? kSystemDiskMaxGib : kImageDiskMaxGib;
  if (disk.size_gib >= least && disk.size_gib <= most) return std::nullopt;
  return Refusal{400, "InvalidSize.ValueNotSupported",
                 fmt::format("The disk at {} has {} to {} GiB, not {}.", disk.device, least, most,
                             disk.size_gib)};
}

Verdict image_must_be_available(const ImageRecord& image, ImageStatus status) {
  if (status == ImageStatus::kAvailable) return std::nullopt;
  if (status == ImageStatus::kDeprecated) {
    return Refusal{403, "OperationDenied.ImageNotValid",
                   fmt::format("Image {} is deprecated.", image.id)};
  }
  return Refusal{400, "IncorrectImageStatus",
                 fmt::format("Image {} is {}.", image.id, name(status))};
}

Verdict system_disk_must_hold_image(std::uint64_t size_gib, const ImageRecord& image) {
  const std::uint64_t least = image.system_disk().size_gib;
  if (size_gib >= least) return std::nullopt;
  return Refusal{
      404, "InvalidSystemDiskSize.LessThanImageSize",
      fmt::format("Image {} has {} GiB; {} are too few for it.", image.id, least, size_gib)};
}

Verdict image_copy_must_go_elsewhere(const ImageRecord& source, std::string_view region) {
  if (source.region != region) return std::nullopt;
  return Refusal{403, "IncorrectDestinationRegion",
                 fmt::format("Image {} is in {} already.", source.id, region)};
}

Verdict image_must_be_copyable(const ImageRecord& image, ImageStatus status) {
  if (status == ImageStatus::kAvailable) return std::nullopt;
  return Refusal{400, "IncorrectImageStatus",
                 fmt::format("Image {} is {}, not Available.", image.id, name(status))};
}

Verdict image_must_be_copying(const ImageRecord& image, ImageStatus status) {
  if (image.source_image.empty()) {
    return Refusal{400, "ImageCreatedNotFromCopy",
                   fmt::format("Image {} is no copy of another.", image.id)};
  }
  if (status == ImageStatus::kCreating) return std::nullopt;
  return Refusal{400, "IncorrectImageStatus",
                 fmt::format("Image {} is {}: nothing is being copied.", image.id, name(status))};
}

Verdict image_must_not_be_copying(const ImageRecord& image, ImageStatus status) {
  if (image.source_image.empty() || status != ImageStatus::kCreating) return std::nullopt;
  return Refusal{403, "OperationDenied.ImageCopying",
                 fmt::format("Image {} is being copied; CancelCopyImage gives it up.", image.id)};
}

Verdict image_of_disk_must_remain(const DiskRecord& disk, const ImageRecord* image) {
  const bool of_image = disk.system && !disk.source_snapshot.empty();
  if (!of_image || image != nullptr) return std::nullopt;
  return Refusal{403, "OperationDenied",
                 fmt::format("Image {}, which system disk {} was made from, is gone.",
                             disk.image_id, disk.id)};
}

Verdict snapshot_must_not_have_images(const SnapshotRecord& snapshot,
                                      const std::vector<const ImageRecord*>& images) {
  if (images.empty()) return std::nullopt;
  return Refusal{403, "SnapshotCreatedImage",
                 fmt::format("Image {} has snapshot {}. Delete the image first.",
                             images.front()->id, snapshot.id)};
}

Verdict account_must_be_well_formed(std::string_view account) {
  const bool digits =
      std::all_of(account.begin(), account.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits && !account.empty() && account.size() <= kAccountDigitsMax) return std::nullopt;
  return Refusal{
      404, "InvalidAccount.NotFound",
      fmt::format("An account's id has 1 to {} digits; '{}' is none.", kAccountDigitsMax, account)};
}

Verdict accounts_must_have_room(std::size_t accounts) {
  if (accounts <= kImageAccountsMax) return std::nullopt;
  return Refusal{403, "QuotaExceed.ImageAccount",
                 fmt::format("The image would be shared with {} accounts; {} are the most.",
                             accounts, kImageAccountsMax)};
}

Verdict image_must_not_be_shared(const ImageRecord& image) {
  if (image.accounts.empty()) return std::nullopt;
  return Refusal{403, "ImageUseShared",
                 fmt::format("Image {} is shared with {} accounts, such as {}. Cancel that first.",
                             image.id, image.accounts.size(), image.accounts.front())};
}

Verdict image_must_not_have_instances(const ImageRecord& image, std::size_t instances, bool force) {
  if (instances == 0 || force) return std::nullopt;
  return Refusal{403, "ImageUsingByInstance",
                 fmt::format("{} instances were made from image {}. With Force it is deleted all "
                             "the same, and their system disks can't be re-initialised any more.",
                             instances, image.id)};
}

}  // namespace clouddisk
