// Copies of images in other regions: rules, what they are made of, cancelling, failures, crashes.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/image_fixture.h"

namespace clouddisk {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCopyImage = "CopyImage";
constexpr const char* kCancel = "CancelCopyImage";

Control::Options two_regions() {
  Control::Options options{.seed = 42};
  options.places = *Places::parse({"r1", "r2"}, {});
  return options;
}

class ImageCopies : public ImageTest {
 protected:
  // An Available one of a system and a data disk.
  static std::string source_image(Daemon& daemon) {
    const std::string id =
        make(daemon, {{"InstanceId", with_data(daemon)}, {"ImageName", "source"}});
    capture_all(daemon, id);
    return id;
  }
  static std::vector<std::string> snapshots_of(Daemon& daemon, const std::string& id) {
    std::vector<std::string> found;
    const Json one = image(daemon, id);
    for (const Json& part : one["DiskDeviceMappings"]["DiskDeviceMapping"]) {
      const std::string snapshot = part["SnapshotId"];
      if (!snapshot.empty()) found.push_back(snapshot);
    }
    return found;
  }
  static void capture_all(Daemon& daemon, const std::string& id) {
    for (const std::string& snapshot : snapshots_of(daemon, id)) capture(daemon, snapshot);
  }
  static std::string copy(Daemon& daemon, const std::string& id, Params more = {}) {
    more["ImageId"] = id;
    more.try_emplace("DestinationRegionId", "r2");
    return daemon.must(kCopyImage, std::move(more))["ImageId"];
  }
  static int count(Daemon& daemon, const char* action, const std::string& region) {
    return daemon
        .must(action, {{"RegionId", region},
                       {"Status", std::string(action) == "DescribeImages"
                                      ? "Creating,Available,CreateFailed"
                                      : ""}})["TotalCount"]
        .get<int>();
  }
  static std::size_t copies_stored(Daemon& daemon) {
    std::size_t found = 0;
    for (const std::string& name : daemon.host.stored()) {
      if (name.find(".c") != std::string::npos) ++found;
    }
    return found;
  }
};

TEST_F(ImageCopies, AreImagesOfTheOtherRegionOverCopiesOfTheSnapshots) {
  Daemon daemon(root_.path(), two_regions());
  const std::string source = source_image(daemon);
  const Params wanted{{"RegionId", "r1"},
                      {"DestinationImageName", "copied"},
                      {"DestinationDescription", "a copy"},
                      {"Tag.1.Key", "k"},
                      {"ClientToken", "t"}};
  const std::string id = copy(daemon, source, wanted);
  EXPECT_EQ(copy(daemon, source, wanted), id) << "the same token";
  Json one = image(daemon, id);
  EXPECT_EQ(one["Status"], "Creating");
  EXPECT_EQ(one["IsCopied"], true);
  EXPECT_EQ(one["SourceImageId"], source);
  EXPECT_EQ(one["SourceRegionId"], "r1");
  EXPECT_EQ(one["ImageName"], "copied");
  EXPECT_EQ(one["Description"], "a copy");
  EXPECT_EQ(one["Tags"]["Tag"][0]["TagKey"], "k");
  EXPECT_EQ(one["Size"], 40);
  EXPECT_EQ(image(daemon, source)["IsCopied"], false);
  const auto snapshots = snapshots_of(daemon, id);
  ASSERT_EQ(snapshots.size(), 2U);
  const auto of_source = snapshots_of(daemon, source);
  for (std::size_t i = 0; i < 2; ++i) {
    const Json body =
        daemon.must("DescribeSnapshots", {{"SnapshotIds", "[\"" + snapshots[i] + "\"]"}});
    const Json& snapshot = body["Snapshots"]["Snapshot"][0];
    EXPECT_EQ(snapshot["SourceSnapshotId"], of_source[i]);
    EXPECT_EQ(snapshot["RegionId"], "r2");
    EXPECT_EQ(snapshot["SourceDiskType"], i == 0 ? "system" : "data");
    EXPECT_EQ(snapshot["Usage"], "image");
  }
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", snapshots[0]}, {"Force", "true"}}),
                 403, "SnapshotCreatedImage");
  const Params launch{{"ImageId", id}, {"InstanceType", "x"}, {"RegionId", "r2"}};
  EXPECT_REFUSED(daemon.ask("RunInstances", launch), 400, "IncorrectImageStatus");
  capture(daemon, snapshots[0]);
  EXPECT_EQ(image(daemon, id)["Status"], "Creating");
  // Nothing of the source is needed, not even to finish.
  daemon.must("DeleteImage", {{"ImageId", source}});
  capture(daemon, snapshots[1]);
  EXPECT_EQ(image(daemon, id)["Status"], "Available");
  EXPECT_EQ(copies_stored(daemon), 0U);
  daemon.must("RunInstances", launch);
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", id}}), 400, "IncorrectImageStatus");
  EXPECT_EQ(image(daemon, copy(daemon, id, {{"DestinationRegionId", "r1"}}))["IsCopied"], true);
}

TEST_F(ImageCopies, ASnapshotThatIsThereTwiceIsCopiedOnceAndEmptyDisksStayEmpty) {
  Daemon daemon(root_.path(), two_regions());
  const std::string instance = with_data(daemon);
  auto disks = disks_of(daemon, instance);
  const std::string data = take(daemon, disks["/dev/xvdb"]["DiskId"]);
  const std::string newer = take(daemon, disks["/dev/xvdb"]["DiskId"]);
  const std::string source =
      make(daemon, {{"SnapshotId", take(daemon, disks["/dev/xvda"]["DiskId"])},
                    {"DiskDeviceMapping.1.SnapshotId", data},
                    {"DiskDeviceMapping.2.SnapshotId", data},
                    {"DiskDeviceMapping.3.SnapshotId", newer},
                    {"DiskDeviceMapping.4.Size", "30"}});
  const std::string id = copy(daemon, source);
  const auto snapshots = snapshots_of(daemon, id);
  ASSERT_EQ(snapshots.size(), 4U);
  EXPECT_EQ(snapshots[1], snapshots[2]);
  EXPECT_NE(snapshots[2], snapshots[3]);
  EXPECT_EQ(image(daemon, id)["DiskDeviceMappings"]["DiskDeviceMapping"][4]["Size"], "30");
  // Two of one chain are in one chain again, the second over the first.
  EXPECT_EQ(count(daemon, "DescribeSnapshots", "r2"), 3);
  EXPECT_EQ(daemon.must("DescribeSnapshotLinks", {{"RegionId", "r2"}})["TotalCount"], 2);
  EXPECT_EQ(daemon.host.snapshots().at(snapshots[3]).parent,
            daemon.host.snapshots().at(snapshots[1]).seq);
}

TEST_F(ImageCopies, EveryRuleHasItsCodeAndChangesNothing) {
  Daemon daemon(root_.path(), two_regions());
  const std::string source = source_image(daemon);
  const std::string name_taken = copy(daemon, source, {{"DestinationImageName", "taken"}});
  capture_all(daemon, name_taken);
  const std::string creating = make(daemon, {{"InstanceId", with_data(daemon)}});
  const auto before = daemon.host.stored();
  struct Case {
    Params params;
    int status;
    const char* code;
  };
  const auto with = [&source](const std::string& name, const std::string& value) {
    Params params{{"ImageId", source}, {"DestinationRegionId", "r2"}};
    params[name] = value;
    return params;
  };
  const Case cases[] = {
      {{{"ImageId", source}}, 400, "MissingParameter"},
      {{{"DestinationRegionId", "r2"}}, 400, "MissingParameter"},
      {with("ImageId", "m-none"), 404, "InvalidImageId.NotFound"},
      {with("ImageId", creating), 400, "IncorrectImageStatus"},
      {with("RegionId", "r2"), 404, "InvalidImageId.NotFound"},
      {with("RegionId", "r9"), 404, "InvalidRegionId.NotFound"},
      {with("DestinationRegionId", "r9"), 400, "DestinationRegion.NotFound"},
      {with("DestinationRegionId", "r1"), 403, "IncorrectDestinationRegion"},
      {with("DestinationImageName", "acs:x"), 400, "InvalidImageName.Malformed"},
      {with("DestinationImageName", "taken"), 400, "InvalidImageName.Duplicated"},
      {with("DestinationDescription", "x"), 400, "InvalidDescription.Malformed"},
      {with("Encrypted", "true"), 403, "InvalidParameter.EncryptedNotSupported"},
      {with("KMSKeyId", "key"), 403, "InvalidParameter.EncryptedNotSupported"},
      {with("Tag.1.Key", "acs:x"), 400, "InvalidTagKey.Malformed"},
      {with("DryRun", "true"), 400, "DryRunOperation"},
  };
  for (const Case& c : cases) EXPECT_REFUSED(daemon.ask(kCopyImage, c.params), c.status, c.code);
  daemon.must("ModifyImageAttribute", {{"ImageId", source}, {"Status", "Deprecated"}});
  EXPECT_REFUSED(daemon.ask(kCopyImage, with("ImageId", source)), 400, "IncorrectImageStatus");
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", "m-none"}}), 404, "InvalidImageId.NotFound");
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", creating}}), 400, "ImageCreatedNotFromCopy");
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", name_taken}}), 400, "IncorrectImageStatus");
  EXPECT_EQ(count(daemon, "DescribeImages", "r2"), 1);
  EXPECT_EQ(count(daemon, "DescribeSnapshots", "r2"), 2);
  EXPECT_EQ(daemon.host.stored(), before);
}

TEST_F(ImageCopies, OneThatIsCancelledLeavesNothingButWhatOthersUse) {
  Daemon daemon(root_.path(), two_regions());
  const std::string source = source_image(daemon);
  const std::string id = copy(daemon, source);
  EXPECT_REFUSED(daemon.ask("DeleteImage", {{"ImageId", id}, {"Force", "true"}}), 403,
                 "OperationDenied.ImageCopying");
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", id}, {"DryRun", "true"}}), 400,
                 "DryRunOperation");
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", id}, {"RegionId", "r1"}}), 404,
                 "InvalidImageId.NotFound");
  daemon.must(kCancel, {{"ImageId", id}, {"RegionId", "r2"}});
  EXPECT_TRUE(image(daemon, id).is_null());
  EXPECT_EQ(count(daemon, "DescribeSnapshots", "r2"), 0);
  EXPECT_EQ(copies_stored(daemon), 0U);
  EXPECT_EQ(daemon.host.snapshots().size(), 2U) << "the source's";
  EXPECT_EQ(image(daemon, source)["Status"], "Available");

  const std::string other = copy(daemon, source);
  const auto snapshots = snapshots_of(daemon, other);
  daemon.must("CreateDisk",
              {{"SnapshotId", snapshots[1]}, {"RegionId", "r2"}, {"DiskCategory", "cloud_essd"}});
  capture(daemon, snapshots[0]);
  daemon.must("CreateImage", {{"SnapshotId", snapshots[0]}, {"RegionId", "r2"}});
  daemon.must(kCancel, {{"ImageId", other}});
  EXPECT_EQ(count(daemon, "DescribeImages", "r2"), 1);
  EXPECT_EQ(count(daemon, "DescribeSnapshots", "r2"), 2);
}

TEST_F(ImageCopies, WhatFailsLeavesNothing) {
  Daemon daemon(root_.path(), two_regions());
  const std::string source = source_image(daemon);
  const auto before = daemon.host.stored();
  for (const char* call : {"create", "freeze"}) {
    daemon.host.fail_after(1, call, Errc::kNoSpace);  // The second disk.
    EXPECT_REFUSED(daemon.ask(kCopyImage, {{"ImageId", source}, {"DestinationRegionId", "r2"}}),
                   503, "ServiceUnavailable");
    EXPECT_EQ(daemon.host.stored(), before) << call;
    EXPECT_EQ(count(daemon, "DescribeImages", "r2"), 0);
  }
  const std::string id = copy(daemon, source);
  const auto snapshots = snapshots_of(daemon, id);
  EXPECT_TRUE(
      daemon.machine.ring->block_on(daemon.host.events().capture_failed(snapshots[0], "no room")));
  EXPECT_EQ(image(daemon, id)["Status"], "CreateFailed");
  EXPECT_REFUSED(daemon.ask(kCancel, {{"ImageId", id}}), 400, "IncorrectImageStatus");
  daemon.must("DeleteImage", {{"ImageId", id}});
}

// Whole or not at all, whenever the daemon dies; and it goes on after that.
TEST_F(ImageCopies, DeathAtAnyStepLeavesTheWholeCopyOrNoneOfIt) {
  std::string source;
  {
    Daemon daemon(root_.path() / "start", two_regions());
    source = source_image(daemon);
  }
  unsigned crashes = 0, whole = 0;
  for (unsigned crash_at = 1;; ++crash_at) {
    const fs::path root = root_.path() / std::to_string(crash_at);
    fs::copy(root_.path() / "start", root, fs::copy_options::recursive);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Daemon daemon(root, two_regions(), crash_at);
      const std::string id = copy(daemon, source);
      daemon.must(kCancel, {{"ImageId", id}});
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0) break;
    ASSERT_EQ(WEXITSTATUS(status), 137);
    ++crashes;
    Daemon daemon(root, two_regions());
    const std::string where = fmt::format("step {}", crash_at);
    EXPECT_EQ(image(daemon, source)["Status"], "Available") << where;
    const Json found = images(daemon, {{"RegionId", "r2"}, {"Status", "Creating"}});
    ASSERT_LE(found.size(), 1U) << where;
    whole += found.empty() ? 0 : 1;
    EXPECT_EQ(copies_stored(daemon), found.empty() ? 0U : 2U) << where;
    EXPECT_EQ(count(daemon, "DescribeSnapshots", "r2"), found.empty() ? 0 : 2) << where;
    if (!found.empty()) {
      capture_all(daemon, found[0]["ImageId"]);
      EXPECT_EQ(image(daemon, found[0]["ImageId"])["Status"], "Available") << where;
    }
    fs::remove_all(root);
  }
  EXPECT_GT(crashes, 8U);
  EXPECT_GT(whole, 1U);
  EXPECT_LT(whole, crashes);
}

}  // namespace
}  // namespace clouddisk
