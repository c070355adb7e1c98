// image_rules.h: the cloud's rules for images. Each is one named pure function with the cloud's
// code and HTTP status, as in disk_rules.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

inline constexpr std::size_t kImagesMax = 100;           // a region
inline constexpr std::size_t kImageAccountsMax = 50;     // that one is shared with
inline constexpr std::size_t kAccountsARequestMax = 10;  // the cloud ignores what is beyond
inline constexpr std::string_view kSystemDevice = "/dev/xvda";

// The cloud has Waiting and UnAvailable as well; no image here is ever so.
enum class ImageStatus : std::uint8_t { kCreating, kAvailable, kCreateFailed, kDeprecated };
std::string_view name(ImageStatus status);
// Creating while one of its snapshots is in progress, CreateFailed when one failed. `snapshots`:
// those of the image; null: gone.
ImageStatus status_of(const ImageRecord& image, std::span<const SnapshotRecord* const> snapshots);

// Whether an id is one of those that CreateImage gives; others name the cloud's public images.
bool is_custom_image(std::string_view image_id);

// --- Making one ---

// InvalidImageName.Malformed (400): a name as for disks, beginning with neither aliyun nor acs:.
Verdict image_name_must_be_allowed(std::string_view name);
// InvalidImageName.Duplicated (400): another of the region has it.
Verdict image_name_must_be_new(std::string_view name,
                               const std::vector<const ImageRecord*>& others);
// InvalidImageFamily.Malformed (400): as a name.
Verdict image_family_must_be_allowed(std::string_view family);
// InvalidArchitecture.ValueNotSupported, InvalidBootMode.ValueNotSupported (400).
Verdict architecture_must_be_known(std::string_view architecture);
Verdict boot_mode_must_be_known(std::string_view boot_mode);
// QuotaExceed.Image (403): 100 a region.
Verdict images_must_have_room(std::size_t images);
// MissingParameter (400): none of the three; InvalidParamter.Conflict (403): an instance beside
// others.
Verdict image_must_have_one_source(bool instance, bool snapshot, bool mappings);
// OperationDenied (403).
Verdict snapshot_must_be_of_a_system_disk(const SnapshotRecord& snapshot);
// InvalidInstance.NotFoundSystemDisk (400).
Verdict instance_must_have_a_system_disk(std::string_view instance_id, const DiskRecord* system);
// InvalidDevice.Malformed, InvalidDevice.InUse (400); more than 16 data disks:
// InstanceDiskLimitExceeded (403). `disks`: those that the image has already.
Verdict image_device_must_be_free(const ImageDisk& disk, std::span<const ImageDisk> disks);
// The first that none of them has, from /dev/xvdb on.
std::string first_free_image_device(std::span<const ImageDisk> disks);
// InvalidSize.ValueNotSupported (400): less than its snapshot, or than 5 GiB when it has none; more
// than a disk may have. `snapshot` null: none.
Verdict image_disk_size_must_fit(const ImageDisk& disk, const SnapshotRecord* snapshot);

// --- Using one ---

// IncorrectImageStatus (400): Creating or CreateFailed; OperationDenied.ImageNotValid (403):
// Deprecated.
Verdict image_must_be_available(const ImageRecord& image, ImageStatus status);
// InvalidSystemDiskSize.LessThanImageSize (404).
Verdict system_disk_must_hold_image(std::uint64_t size_gib, const ImageRecord& image);
// ReInitDisk. OperationDenied (403): the image of a system disk is gone.
Verdict image_of_disk_must_remain(const DiskRecord& disk, const ImageRecord* image);
// SnapshotCreatedImage (403), with Force as well. `images`: those that the snapshot is in.
Verdict snapshot_must_not_have_images(const SnapshotRecord& snapshot,
                                      const std::vector<const ImageRecord*>& images);

// --- Copying one ---

// IncorrectDestinationRegion (403): it is there already.
Verdict image_copy_must_go_elsewhere(const ImageRecord& source, std::string_view region);
// IncorrectImageStatus (400) unless Available.
Verdict image_must_be_copyable(const ImageRecord& image, ImageStatus status);
// CancelCopyImage. ImageCreatedNotFromCopy (400): it is no copy; IncorrectImageStatus (400): it is
// finished, or failed.
Verdict image_must_be_copying(const ImageRecord& image, ImageStatus status);
// DeleteImage. OperationDenied.ImageCopying (403): a copy that is not finished.
Verdict image_must_not_be_copying(const ImageRecord& image, ImageStatus status);

// --- Sharing and deleting one ---

// InvalidAccount.NotFound (404): an account's id has 1 to 20 digits.
Verdict account_must_be_well_formed(std::string_view account);
// QuotaExceed.ImageAccount (403): more than 50.
Verdict accounts_must_have_room(std::size_t accounts);
// ImageUseShared (403): sharing has to be cancelled first.
Verdict image_must_not_be_shared(const ImageRecord& image);
// ImageUsingByInstance (403), unless forced.
Verdict image_must_not_have_instances(const ImageRecord& image, std::size_t instances, bool force);

}  // namespace clouddisk
