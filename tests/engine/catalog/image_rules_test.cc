#include "engine/catalog/image_rules.h"

#include <gtest/gtest.h>

#include "engine/catalog/snapshot_rules.h"

namespace clouddisk {
namespace {

void expect_refused(const Verdict& verdict, int http_status, std::string_view code) {
  ASSERT_TRUE(verdict.has_value()) << code;
  EXPECT_EQ(verdict->http_status, http_status) << code;
  EXPECT_EQ(verdict->code, code);
  EXPECT_FALSE(verdict->message.empty());
}

SnapshotRecord snapshot_of_40(SnapshotStatus status, bool system = true) {
  SnapshotRecord snapshot;
  snapshot.id = "s-1";
  snapshot.system = system;
  snapshot.status = status;
  snapshot.size_bytes = 40_GiB;
  return snapshot;
}

ImageRecord base_image() {
  ImageRecord image;
  image.id = "m-1";
  image.image_name = "base";
  image.disks = {{"/dev/xvda", true, 60, "s-1"}};
  return image;
}

TEST(ImageRules, TheStatusFollowsFromTheSnapshots) {
  ImageRecord record = base_image();
  const SnapshotRecord ready = snapshot_of_40(SnapshotStatus::kAccomplished);
  const SnapshotRecord running = snapshot_of_40(SnapshotStatus::kProgressing);
  const SnapshotRecord failed = snapshot_of_40(SnapshotStatus::kFailed);
  using List = std::vector<const SnapshotRecord*>;
  EXPECT_EQ(status_of(record, List{&ready, &ready}), ImageStatus::kAvailable);
  EXPECT_EQ(status_of(record, List{&ready, &running}), ImageStatus::kCreating);
  EXPECT_EQ(status_of(record, List{&running, &failed}), ImageStatus::kCreateFailed);
  EXPECT_EQ(status_of(record, List{&ready, nullptr}), ImageStatus::kCreateFailed);
  record.deprecated = true;
  EXPECT_EQ(status_of(record, List{&ready}), ImageStatus::kDeprecated);
  EXPECT_EQ(status_of(record, List{&running}), ImageStatus::kCreating);
  EXPECT_EQ(name(ImageStatus::kCreateFailed), "CreateFailed");
}

TEST(ImageRules, NamesAndFamilies) {
  for (const char* good : {"ab", "web servers 1", "镜像一"}) {
    EXPECT_FALSE(image_name_must_be_allowed(good)) << good;
    EXPECT_FALSE(image_family_must_be_allowed(good)) << good;
  }
  for (const char* bad : {"", "a", "1ab", "http://x", "https://x", "aliyun-x", "acs:x"}) {
    expect_refused(image_name_must_be_allowed(bad), 400, "InvalidImageName.Malformed");
    expect_refused(image_family_must_be_allowed(bad), 400, "InvalidImageFamily.Malformed");
  }
  const ImageRecord other = base_image();
  expect_refused(image_name_must_be_new("base", {&other}), 400, "InvalidImageName.Duplicated");
  EXPECT_FALSE(image_name_must_be_new("Base", {&other}));
}

TEST(ImageRules, WhatOneIsMadeOf) {
  EXPECT_FALSE(images_must_have_room(kImagesMax - 1));
  expect_refused(images_must_have_room(kImagesMax), 403, "QuotaExceed.Image");
  expect_refused(image_must_have_one_source(false, false, false), 400, "MissingParameter");
  expect_refused(image_must_have_one_source(true, true, false), 403, "InvalidParamter.Conflict");
  expect_refused(image_must_have_one_source(true, false, true), 403, "InvalidParamter.Conflict");
  EXPECT_FALSE(image_must_have_one_source(false, true, true));
  EXPECT_FALSE(image_must_have_one_source(true, false, false));
  expect_refused(architecture_must_be_known("vax"), 400, "InvalidArchitecture.ValueNotSupported");
  EXPECT_FALSE(architecture_must_be_known("arm64"));
  expect_refused(boot_mode_must_be_known("PXE"), 400, "InvalidBootMode.ValueNotSupported");
  EXPECT_FALSE(boot_mode_must_be_known("UEFI"));
  expect_refused(
      snapshot_must_be_of_a_system_disk(snapshot_of_40(SnapshotStatus::kAccomplished, false)), 403,
      "OperationDenied");
  for (const auto status : {SnapshotStatus::kProgressing, SnapshotStatus::kFailed}) {
    expect_refused(snapshot_must_be_accomplished(snapshot_of_40(status)), 403,
                   "InvalidSnapshotId.NotReady");
  }
  expect_refused(instance_must_have_a_system_disk("i-local", nullptr), 400,
                 "InvalidInstance.NotFoundSystemDisk");
}

TEST(ImageRules, DevicesAndSizes) {
  std::vector<ImageDisk> disks = {{"/dev/xvda", true, 40, "s-1"}};
  EXPECT_EQ(first_free_image_device(disks), "/dev/xvdb");
  EXPECT_FALSE(image_device_must_be_free({"/dev/xvdc", false, 20, ""}, disks));
  expect_refused(image_device_must_be_free({"/dev/xvda", true, 40, "s-2"}, disks), 400,
                 "InvalidDevice.InUse");
  expect_refused(image_device_must_be_free({"/dev/sda", false, 20, ""}, disks), 400,
                 "InvalidDevice.Malformed");
  expect_refused(image_device_must_be_free({"/dev/xvdb", true, 40, "s-2"}, {}), 400,
                 "InvalidDevice.Malformed");
  expect_refused(image_device_must_be_free({"/dev/xvda", false, 40, "s-2"}, {}), 400,
                 "InvalidDevice.Malformed");
  while (disks.size() < 17) {
    disks.push_back({first_free_image_device(disks), false, 20, ""});
  }
  expect_refused(image_device_must_be_free({"/dev/xvdz", false, 20, ""}, disks), 403,
                 "InstanceDiskLimitExceeded");

  const SnapshotRecord source = snapshot_of_40(SnapshotStatus::kAccomplished);
  EXPECT_FALSE(image_disk_size_must_fit({"/dev/xvda", true, 40, "s-1"}, &source));
  EXPECT_FALSE(image_disk_size_must_fit({"/dev/xvda", true, 500, "s-1"}, &source));
  EXPECT_FALSE(image_disk_size_must_fit({"/dev/xvdb", false, 5, ""}, nullptr));
  for (const std::uint64_t size : {39U, 501U}) {
    expect_refused(image_disk_size_must_fit({"/dev/xvda", true, size, "s-1"}, &source), 400,
                   "InvalidSize.ValueNotSupported");
  }
  for (const std::uint64_t size : {4U, 32'769U}) {
    expect_refused(image_disk_size_must_fit({"/dev/xvdb", false, size, ""}, nullptr), 400,
                   "InvalidSize.ValueNotSupported");
  }
}

TEST(ImageRules, Copying) {
  ImageRecord record = base_image();
  record.region = "r1";
  EXPECT_FALSE(image_copy_must_go_elsewhere(record, "r2"));
  expect_refused(image_copy_must_go_elsewhere(record, "r1"), 403, "IncorrectDestinationRegion");
  EXPECT_FALSE(image_must_be_copyable(record, ImageStatus::kAvailable));
  for (const auto status :
       {ImageStatus::kCreating, ImageStatus::kCreateFailed, ImageStatus::kDeprecated}) {
    expect_refused(image_must_be_copyable(record, status), 400, "IncorrectImageStatus");
  }
  expect_refused(image_must_be_copying(record, ImageStatus::kCreating), 400,
                 "ImageCreatedNotFromCopy");
  EXPECT_FALSE(image_must_not_be_copying(record, ImageStatus::kCreating));
  record.source_image = "m-0";
  EXPECT_FALSE(image_must_be_copying(record, ImageStatus::kCreating));
  expect_refused(image_must_not_be_copying(record, ImageStatus::kCreating), 403,
                 "OperationDenied.ImageCopying");
  for (const auto status : {ImageStatus::kAvailable, ImageStatus::kCreateFailed}) {
    expect_refused(image_must_be_copying(record, status), 400, "IncorrectImageStatus");
    EXPECT_FALSE(image_must_not_be_copying(record, status));
  }
}

TEST(ImageRules, UsingSharingDeleting) {
  ImageRecord record = base_image();
  EXPECT_FALSE(image_must_be_available(record, ImageStatus::kAvailable));
  expect_refused(image_must_be_available(record, ImageStatus::kCreating), 400,
                 "IncorrectImageStatus");
  expect_refused(image_must_be_available(record, ImageStatus::kCreateFailed), 400,
                 "IncorrectImageStatus");
  expect_refused(image_must_be_available(record, ImageStatus::kDeprecated), 403,
                 "OperationDenied.ImageNotValid");
  EXPECT_FALSE(system_disk_must_hold_image(60, record));
  expect_refused(system_disk_must_hold_image(59, record), 404,
                 "InvalidSystemDiskSize.LessThanImageSize");
  DiskRecord disk;
  disk.system = true;
  disk.image_id = "m-1";
  EXPECT_FALSE(image_of_disk_must_remain(disk, nullptr)) << "a name alone: it was made empty";
  disk.source_snapshot = "s-1";
  expect_refused(image_of_disk_must_remain(disk, nullptr), 403, "OperationDenied");
  EXPECT_FALSE(image_of_disk_must_remain(disk, &record));
  expect_refused(
      snapshot_must_not_have_images(snapshot_of_40(SnapshotStatus::kAccomplished), {&record}), 403,
      "SnapshotCreatedImage");
  for (const char* bad : {"", "12a", "123456789012345678901"}) {
    expect_refused(account_must_be_well_formed(bad), 404, "InvalidAccount.NotFound");
  }
  EXPECT_FALSE(account_must_be_well_formed("1234567890123456"));
  EXPECT_FALSE(accounts_must_have_room(50));
  expect_refused(accounts_must_have_room(51), 403, "QuotaExceed.ImageAccount");
  EXPECT_FALSE(image_must_not_be_shared(record));
  record.accounts = {"1"};
  expect_refused(image_must_not_be_shared(record), 403, "ImageUseShared");
  EXPECT_FALSE(image_must_not_have_instances(record, 0, false));
  EXPECT_FALSE(image_must_not_have_instances(record, 2, true));
  expect_refused(image_must_not_have_instances(record, 2, false), 403, "ImageUsingByInstance");
}

}  // namespace
}  // namespace clouddisk
