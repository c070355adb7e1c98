// Instances made from images, and other system disks for them.
#include "tests/engine/control/image_fixture.h"

namespace clouddisk {
namespace {

class SystemDisks : public ImageTest {
 protected:
  // Of an instance with a data disk; available.
  static std::string whole_image(Daemon& daemon) {
    std::string id = make(daemon, {{"InstanceId", with_data(daemon)}});
    const Json mappings = image(daemon, id)["DiskDeviceMappings"]["DiskDeviceMapping"];
    for (const Json& one : mappings) capture(daemon, one["SnapshotId"]);
    return id;
  }
  static std::string snapshot_in(Daemon& daemon, const std::string& id, std::size_t part) {
    return image(daemon, id)["DiskDeviceMappings"]["DiskDeviceMapping"][part]["SnapshotId"];
  }
  static std::string stopped(Daemon& daemon, const std::string& image_id) {
    return daemon.must("CreateInstance", {{"ImageId", image_id},
                                          {"InstanceType", "x"},
                                          {"SystemDisk.Category", "cloud_essd"}})["InstanceId"];
  }
};

TEST_F(SystemDisks, BorrowWhatTheImageHas) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string instance = run(daemon, {{"ImageId", id}});
  auto disks = disks_of(daemon, instance);
  ASSERT_EQ(disks.size(), 2U);
  const Json& system = disks["/dev/xvda"];
  EXPECT_EQ(system["Type"], "system");
  EXPECT_EQ(system["Status"], "In_use");
  EXPECT_EQ(system["ImageId"], id);
  EXPECT_EQ(system["Size"], 40);
  EXPECT_EQ(system["SourceSnapshotId"], snapshot_in(daemon, id, 0));
  EXPECT_EQ(system["Hydration"]["SnapshotId"], snapshot_in(daemon, id, 0));
  const Json& data = disks["/dev/xvdb"];
  EXPECT_EQ(data["Type"], "data");
  EXPECT_EQ(data["Size"], 20);
  EXPECT_EQ(data["Category"], "cloud_essd") << "as the system disk, when nothing is said";
  EXPECT_EQ(data["SourceSnapshotId"], snapshot_in(daemon, id, 1));
  EXPECT_EQ(data["DeleteWithInstance"], true);
  for (const auto& [device, disk] : disks) {
    const auto at = daemon.host.served().find(disk["DiskId"].get<std::string>());
    ASSERT_NE(at, daemon.host.served().end()) << device;
    EXPECT_EQ(at->second.base_snapshot, disk["SourceSnapshotId"]) << device;
  }
  EXPECT_EQ(daemon.must("DescribeInstances", {{"ImageId", id}})["TotalCount"], 1);
}

TEST_F(SystemDisks, DataDisksOfTheImageAreNamedByDevice) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string other =
      take(daemon, disks_of(daemon, with_data(daemon))["/dev/xvdb"]["DiskId"]);
  const std::string instance = run(daemon, {{"ImageId", id},
                                            {"SystemDisk.Size", "50"},
                                            {"DataDisk.1.Size", "60"},
                                            {"DataDisk.1.Category", "cloud_essd"},
                                            {"DataDisk.2.Device", "/dev/xvdb"},
                                            {"DataDisk.2.Size", "30"},
                                            {"DataDisk.2.Category", "cloud_ssd"},
                                            {"DataDisk.2.DeleteWithInstance", "false"}});
  auto disks = disks_of(daemon, instance);
  ASSERT_EQ(disks.size(), 3U);
  EXPECT_EQ(disks["/dev/xvda"]["Size"], 50);
  EXPECT_EQ(disks["/dev/xvdb"]["Size"], 30);
  EXPECT_EQ(disks["/dev/xvdb"]["Category"], "cloud_ssd");
  EXPECT_EQ(disks["/dev/xvdb"]["DeleteWithInstance"], false);
  EXPECT_EQ(disks["/dev/xvdb"]["SourceSnapshotId"], snapshot_in(daemon, id, 1));
  EXPECT_EQ(disks["/dev/xvdc"]["Size"], 60);
  EXPECT_EQ(disks["/dev/xvdc"]["SourceSnapshotId"], "");

  const std::string with_other =
      run(daemon,
          {{"ImageId", id}, {"DataDisk.1.Device", "/dev/xvdb"}, {"DataDisk.1.SnapshotId", other}});
  disks = disks_of(daemon, with_other);
  ASSERT_EQ(disks.size(), 2U);
  EXPECT_EQ(disks["/dev/xvdb"]["SourceSnapshotId"], other);
}

TEST_F(SystemDisks, AreMadeForEachOfAnAmount) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const Json body = daemon.must("RunInstances", {{"ImageId", id},
                                                 {"InstanceType", "x"},
                                                 {"Amount", "3"},
                                                 {"SystemDisk.Category", "cloud_essd"}});
  ASSERT_EQ(body["InstanceIdSets"]["InstanceIdSet"].size(), 3U);
  for (const Json& instance : body["InstanceIdSets"]["InstanceIdSet"]) {
    auto disks = disks_of(daemon, instance);
    EXPECT_EQ(disks["/dev/xvda"]["SourceSnapshotId"], snapshot_in(daemon, id, 0));
    EXPECT_EQ(disks["/dev/xvdb"]["SourceSnapshotId"], snapshot_in(daemon, id, 1));
  }
}

TEST_F(SystemDisks, ComeFromTheNewestOfAFamily) {
  Daemon daemon(root_.path());
  const std::string snapshot = snapshot_of_system(daemon, run(daemon));
  make(daemon, {{"SnapshotId", snapshot}, {"ImageFamily", "web"}});
  const std::string newest = make(daemon, {{"SnapshotId", snapshot}, {"ImageFamily", "web"}});
  const std::string gone = make(daemon, {{"SnapshotId", snapshot}, {"ImageFamily", "web"}});
  daemon.must("ModifyImageAttribute", {{"ImageId", gone}, {"Status", "Deprecated"}});
  const std::string instance = run(daemon, {{"ImageId", ""}, {"ImageFamily", "web"}});
  EXPECT_EQ(disks_of(daemon, instance)["/dev/xvda"]["ImageId"], newest);
}

TEST_F(SystemDisks, EveryRuleOfAnInstanceOfAnImageHasItsCode) {
  Daemon daemon(root_.path());
  auto disks = disks_of(daemon, with_data(daemon));
  const std::string id = make(
      daemon, {{"SnapshotId", take(daemon, disks["/dev/xvda"]["DiskId"])},
               {"DiskDeviceMapping.1.SnapshotId", take(daemon, disks["/dev/xvdb"]["DiskId"])}});
  const auto refused = [&](Params params, int status, const std::string& code) {
    params.try_emplace("ImageId", id);
    params.try_emplace("InstanceType", "x");
    for (const char* action : {"RunInstances", "CreateInstance"}) {
      EXPECT_REFUSED(daemon.ask(action, params), status, code);
    }
  };
  refused({{"ImageId", "m-none"}}, 404, "InvalidImageId.NotFound");
  refused({{"ImageId", ""}}, 400, "MissingParameter");
  refused({{"SystemDisk.Size", "39"}}, 404, "InvalidSystemDiskSize.LessThanImageSize");
  refused({{"SystemDisk.Size", "501"}}, 400, "InvalidSystemDiskSize.ValueNotSupported");
  refused({{"SystemDisk.SnapshotId", "s-1"}}, 403,
          "InvalidOperation.CreateFromSnapshotUnsupported");
  refused({{"DataDisk.1.Device", "/dev/xvdb"},
           {"DataDisk.1.Category", "cloud"},
           {"DataDisk.1.Size", "19"}},
          403, "InvalidDiskSize.TooSmall");
  refused({{"DataDisk.1.Device", "/dev/xvdb"}, {"DataDisk.1.SnapshotId", "s-none"}}, 404,
          "InvalidSnapshotId.NotFound");
  refused({{"DryRun", "true"}}, 400, "DryRunOperation");
  EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 2) << "i-local and the first";
}

TEST_F(SystemDisks, GoWithTheirInstanceUnlessToldOtherwise) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string goes = run(daemon, {{"ImageId", id}});
  const std::string stays = run(daemon, {{"ImageId", id}});
  const std::string kept = disks_of(daemon, stays)["/dev/xvda"]["DiskId"];
  const std::string lost = disks_of(daemon, goes)["/dev/xvda"]["DiskId"];
  daemon.must("ModifyDiskAttribute", {{"DiskId", kept}, {"DeleteWithInstance", "false"}});
  for (const std::string& instance : {goes, stays}) {
    daemon.must("StopInstance", {{"InstanceId", instance}});
    daemon.must("DeleteInstance", {{"InstanceId", instance}});
  }
  EXPECT_TRUE(daemon.disk(lost).is_null());
  EXPECT_EQ(daemon.disk(kept)["Status"], "Available");
  EXPECT_EQ(daemon.disk(kept)["Type"], "system");
  daemon.must("DeleteDisk", {{"DiskId", kept}});
  daemon.must("DeleteImage", {{"ImageId", id}});
}

TEST_F(SystemDisks, AreReinitialisedToTheirImage) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string instance = stopped(daemon, id);
  const std::string disk = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
  daemon.must("ReInitDisk", {{"DiskId", disk}});
  EXPECT_EQ(daemon.disk(disk)["Hydration"]["SnapshotId"], snapshot_in(daemon, id, 0));
}

TEST_F(SystemDisks, AreReplacedUnderANewId) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string instance = run(daemon, {{"SystemDisk.PerformanceLevel", "PL1"}});
  const std::string old = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
  EXPECT_REFUSED(daemon.ask("ReplaceSystemDisk", {{"InstanceId", instance}, {"ImageId", id}}), 403,
                 "IncorrectInstanceStatus");
  daemon.must("StopInstance", {{"InstanceId", instance}});
  const Params params = {
      {"InstanceId", instance}, {"ImageId", id}, {"SystemDisk.Size", "70"}, {"ClientToken", "t"}};
  const std::string disk = daemon.must("ReplaceSystemDisk", params)["DiskId"];
  EXPECT_EQ(daemon.must("ReplaceSystemDisk", params)["DiskId"], disk) << "the same token";
  EXPECT_NE(disk, old);
  EXPECT_TRUE(daemon.disk(old).is_null());
  EXPECT_FALSE(daemon.host.stored().contains(old));
  auto disks = disks_of(daemon, instance);
  ASSERT_EQ(disks.size(), 1U);
  EXPECT_EQ(disks["/dev/xvda"]["DiskId"], disk);
  EXPECT_EQ(disks["/dev/xvda"]["Size"], 70);
  EXPECT_EQ(disks["/dev/xvda"]["PerformanceLevel"], "PL1");
  EXPECT_EQ(disks["/dev/xvda"]["ImageId"], id);
  EXPECT_EQ(disks["/dev/xvda"]["SourceSnapshotId"], snapshot_in(daemon, id, 0));
  EXPECT_EQ(daemon.must("DescribeInstances", {{"ImageId", id}})["TotalCount"], 1);
  daemon.must("StartInstance", {{"InstanceId", instance}});
  EXPECT_TRUE(daemon.host.served().contains(disk));
}

TEST_F(SystemDisks, EveryRuleOfReplacingThemHasItsCode) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string instance = run(daemon);
  const std::string disk = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
  daemon.must("StopInstance", {{"InstanceId", instance}});
  const auto refused = [&](Params params, int status, const std::string& code) {
    params.try_emplace("InstanceId", instance);
    params.try_emplace("ImageId", id);
    EXPECT_REFUSED(daemon.ask("ReplaceSystemDisk", std::move(params)), status, code);
  };
  refused({{"InstanceId", ""}}, 400, "MissingParameter");
  refused({{"InstanceId", "i-none"}}, 404, "InvalidInstanceId.NotFound");
  refused({{"InstanceId", "i-local"}}, 400, "InvalidInstance.NotFoundSystemDisk");
  refused({{"ImageId", ""}}, 400, "MissingParameter");
  refused({{"ImageId", "m-none"}}, 404, "InvalidImageId.NotFound");
  refused({{"SystemDisk.Size", "39"}}, 404, "InvalidSystemDiskSize.LessThanImageSize");
  refused({{"SystemDisk.Size", "501"}}, 400, "InvalidSystemDiskSize.ValueNotSupported");
  refused({{"DiskId", disk}}, 403, "OperationDenied");
  refused({{"Encrypted", "true"}}, 403, "InvalidParameter.EncryptedNotSupported");
  refused({{"DryRun", "true"}}, 400, "DryRunOperation");
  const std::string snapshot = take(daemon, disk, false);
  refused({}, 403, "DiskCreatingSnapshot");
  capture(daemon, snapshot);
  EXPECT_EQ(disks_of(daemon, instance)["/dev/xvda"]["DiskId"], disk) << "no refusal changed it";
  daemon.must("ReplaceSystemDisk", {{"InstanceId", instance}, {"ImageId", id}});
  EXPECT_EQ(daemon.must("DescribeSnapshots", {{"DiskId", disk}})["TotalCount"], 1)
      << "manual snapshots of the old disk stay";
}

TEST_F(SystemDisks, AReplacementThatFailsLeavesTheOldOne) {
  Daemon daemon(root_.path());
  const std::string id = whole_image(daemon);
  const std::string instance = stopped(daemon, id);
  const std::string old = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
  daemon.host.fail_next("create", Errc::kNoSpace);
  EXPECT_REFUSED(daemon.ask("ReplaceSystemDisk", {{"InstanceId", instance}, {"ImageId", id}}), 503,
                 "ServiceUnavailable");
  auto disks = disks_of(daemon, instance);
  EXPECT_EQ(disks.size(), 2U);
  EXPECT_EQ(disks["/dev/xvda"]["DiskId"], old);
}

}  // namespace
}  // namespace clouddisk
