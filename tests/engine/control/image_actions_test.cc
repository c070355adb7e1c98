// Images through the actions: made, shown, changed, shared, deleted, and what they hold on to.
#include "tests/engine/control/image_fixture.h"

namespace clouddisk {
namespace {

using ImageActions = ImageTest;

TEST_F(ImageActions, OfASnapshotIsShownWithAllItsMembers) {
  Daemon daemon(root_.path());
  const std::string snapshot = snapshot_of_system(daemon, run(daemon));
  EXPECT_EQ(usage(daemon, snapshot), "none");
  const std::string id = make(daemon, {{"SnapshotId", snapshot},
                                       {"ImageName", "base"},
                                       {"Description", "of tests"},
                                       {"ImageFamily", "web"},
                                       {"ImageVersion", "3"},
                                       {"Platform", "Debian"},
                                       {"Architecture", "arm64"},
                                       {"BootMode", "UEFI"},
                                       {"Tag.1.Key", "k"},
                                       {"Tag.1.Value", "v"}});
  EXPECT_TRUE(id.starts_with("m-")) << id;
  const Json one = images(daemon).at(0);
  EXPECT_EQ(one["ImageId"], id);
  EXPECT_EQ(one["ImageName"], "base");
  EXPECT_EQ(one["Description"], "of tests");
  EXPECT_EQ(one["ImageFamily"], "web");
  EXPECT_EQ(one["ImageVersion"], "3");
  EXPECT_EQ(one["OSType"], "linux");
  EXPECT_EQ(one["Architecture"], "arm64");
  EXPECT_EQ(one["BootMode"], "UEFI");
  EXPECT_EQ(one["Status"], "Available");
  EXPECT_EQ(one["Progress"], "100%");
  EXPECT_EQ(one["Usage"], "none");
  EXPECT_EQ(one["ImageOwnerAlias"], "self");
  EXPECT_EQ(one["Size"], 40);
  EXPECT_EQ(one["Tags"]["Tag"][0]["TagKey"], "k");
  const Json mapping = one["DiskDeviceMappings"]["DiskDeviceMapping"][0];
  EXPECT_EQ(mapping["Device"], "/dev/xvda");
  EXPECT_EQ(mapping["Type"], "system");
  EXPECT_EQ(mapping["Size"], "40");
  EXPECT_EQ(mapping["SnapshotId"], snapshot);
  EXPECT_EQ(usage(daemon, snapshot), "image");
}

TEST_F(ImageActions, SurviveARestart) {
  std::string id;
  {
    Daemon daemon(root_.path());
    id = make(daemon, {{"SnapshotId", snapshot_of_system(daemon, run(daemon))}});
    daemon.must("ModifyImageSharePermission", {{"ImageId", id}, {"AddAccount.1", "123"}});
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(image(daemon, id)["ImageName"], id) << "its name is its id when none is given";
  EXPECT_EQ(image(daemon, id)["IsSelfShared"], "True");
}

TEST_F(ImageActions, AreFoundByEveryFilter) {
  Daemon daemon(root_.path());
  const std::string snapshot = snapshot_of_system(daemon, run(daemon));
  const std::string a = make(daemon, {{"SnapshotId", snapshot},
                                      {"ImageName", "alpha"},
                                      {"ImageFamily", "greek"},
                                      {"Tag.1.Key", "k"},
                                      {"Tag.1.Value", "v"}});
  const std::string b = make(daemon, {{"SnapshotId", snapshot},
                                      {"ImageName", "beta"},
                                      {"Platform", "Windows Server 2022"},
                                      {"Architecture", "i386"}});
  const auto found = [&](Params params) {
    std::set<std::string> ids;
    for (const Json& one : images(daemon, std::move(params)))
      ids.insert(one["ImageId"].get<std::string>());
    return ids;
  };
  using Ids = std::set<std::string>;
  EXPECT_EQ(found({}), (Ids{a, b}));
  EXPECT_EQ(found({{"ImageId", a + "," + b}}), (Ids{a, b}));
  EXPECT_EQ(found({{"ImageId", a}}), Ids{a});
  EXPECT_EQ(found({{"ImageName", "al*"}}), Ids{a});
  EXPECT_EQ(found({{"ImageFamily", "greek"}}), Ids{a});
  EXPECT_EQ(found({{"SnapshotId", snapshot}}), (Ids{a, b}));
  EXPECT_EQ(found({{"SnapshotId", "s-none"}}), Ids{});
  EXPECT_EQ(found({{"Architecture", "i386"}}), Ids{b});
  EXPECT_EQ(found({{"OSType", "windows"}}), Ids{b});
  EXPECT_EQ(found({{"Usage", "none"}}), (Ids{a, b}));
  EXPECT_EQ(found({{"Usage", "instance"}}), Ids{});
  EXPECT_EQ(found({{"Usable", "false"}}), Ids{});
  EXPECT_EQ(found({{"ImageOwnerAlias", "system"}}), Ids{});
  EXPECT_EQ(found({{"IsPublic", "true"}}), Ids{});
  EXPECT_EQ(found({{"Tag.1.Key", "k"}}), Ids{a});
  EXPECT_EQ(found({{"Filter.1.Key", "CreationEndTime"}, {"Filter.1.Value", "2001-01-01T00:00Z"}}),
            Ids{});
  daemon.must("ModifyImageAttribute", {{"ImageId", b}, {"Status", "Deprecated"}});
  EXPECT_EQ(found({}), Ids{a}) << "only those that are Available";
  EXPECT_EQ(found({{"Status", "Deprecated"}}), Ids{b});
  EXPECT_EQ(found({{"Status", "Available,Deprecated"}}), (Ids{a, b}));
  const Json page = daemon.must("DescribeImages", {{"PageSize", "1"}, {"PageNumber", "1"}});
  EXPECT_EQ(page["TotalCount"], 1);
  EXPECT_EQ(page["PageSize"], 1);
  EXPECT_REFUSED(daemon.ask("DescribeImages", {{"Status", "Gone"}}), 400,
                 "InvalidStatus.ValueNotSupported");
  EXPECT_REFUSED(daemon.ask("DescribeImages", {{"Usage", "x"}}), 400,
                 "InvalidUsage.ValueNotSupported");
  EXPECT_REFUSED(daemon.ask("DescribeImages", {{"OSType", "x"}}), 400,
                 "InvalidOSType.ValueNotSupported");
  EXPECT_REFUSED(daemon.ask("DescribeImages", {{"ImageOwnerAlias", "x"}}), 400,
                 "InvalidImageOwnerAlias.ValueNotSupported");
}

TEST_F(ImageActions, OfAnInstanceIsReadyWhenItsSnapshotsAre) {
  Daemon daemon(root_.path());
  const std::string instance = with_data(daemon);
  const std::string id = make(daemon, {{"InstanceId", instance}});
  EXPECT_TRUE(images(daemon).empty()) << "Creating is not Available";
  Json one = image(daemon, id);
  EXPECT_EQ(one["Status"], "Creating");
  EXPECT_EQ(one["Progress"], "25%");
  const Json mappings = one["DiskDeviceMappings"]["DiskDeviceMapping"];
  ASSERT_EQ(mappings.size(), 2U);
  EXPECT_EQ(mappings[0]["Type"], "system");
  EXPECT_EQ(mappings[1]["Device"], "/dev/xvdb");
  EXPECT_EQ(mappings[1]["Size"], "20");
  EXPECT_REFUSED(daemon.ask("RunInstances", {{"ImageId", id}, {"InstanceType", "x"}}), 400,
                 "IncorrectImageStatus");
  EXPECT_REFUSED(daemon.ask("ModifyImageSharePermission", {{"ImageId", id}, {"AddAccount.1", "1"}}),
                 400, "IncorrectImageStatus");
  capture(daemon, mappings[0]["SnapshotId"]);
  EXPECT_EQ(image(daemon, id)["Status"], "Creating");
  capture(daemon, mappings[1]["SnapshotId"]);
  EXPECT_EQ(image(daemon, id)["Status"], "Available");
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", mappings[1]["SnapshotId"]}}), 403,
                 "SnapshotCreatedImage");
}

TEST_F(ImageActions, OneWhoseSnapshotFailsIsCreateFailed) {
  Daemon daemon(root_.path());
  const std::string id = make(daemon, {{"InstanceId", run(daemon)}});
  const std::string snapshot =
      image(daemon, id)["DiskDeviceMappings"]["DiskDeviceMapping"][0]["SnapshotId"];
  EXPECT_TRUE(daemon.machine.ring->block_on(
      daemon.host.events().capture_failed(snapshot, "the device is gone")));
  EXPECT_EQ(image(daemon, id)["Status"], "CreateFailed");
  EXPECT_EQ(image(daemon, id)["Usable"], false);
  daemon.must("DeleteImage", {{"ImageId", id}});
  daemon.must("DeleteSnapshot", {{"SnapshotId", snapshot}});
}

TEST_F(ImageActions, OfSeveralSnapshotsTakesMappings) {
  Daemon daemon(root_.path());
  const std::string instance = with_data(daemon);
  auto disks = disks_of(daemon, instance);
  const std::string system = take(daemon, disks["/dev/xvda"]["DiskId"]);
  const std::string data = take(daemon, disks["/dev/xvdb"]["DiskId"]);
  const std::string beside = make(daemon, {{"SnapshotId", system},
                                           {"DiskDeviceMapping.1.SnapshotId", data},
                                           {"DiskDeviceMapping.1.Device", "/dev/xvdd"},
                                           {"DiskDeviceMapping.2.Size", "100"}});
  Json mappings = image(daemon, beside)["DiskDeviceMappings"]["DiskDeviceMapping"];
  ASSERT_EQ(mappings.size(), 3U);
  EXPECT_EQ(mappings[1]["Device"], "/dev/xvdd");
  EXPECT_EQ(mappings[2]["Device"], "/dev/xvdb");
  EXPECT_EQ(mappings[2]["SnapshotId"], "");
  EXPECT_EQ(mappings[2]["Size"], "100");
  const std::string alone = make(daemon, {{"DiskDeviceMapping.1.SnapshotId", data},
                                          {"DiskDeviceMapping.1.Size", "30"},
                                          {"DiskDeviceMapping.2.SnapshotId", system}});
  mappings = image(daemon, alone)["DiskDeviceMappings"]["DiskDeviceMapping"];
  ASSERT_EQ(mappings.size(), 2U);
  EXPECT_EQ(mappings[0]["SnapshotId"], system);
  EXPECT_EQ(mappings[0]["Type"], "system");
  EXPECT_EQ(mappings[1]["Size"], "30");

  const auto refused = [&](Params params, int status, const std::string& code) {
    EXPECT_REFUSED(daemon.ask("CreateImage", std::move(params)), status, code);
  };
  refused({{"SnapshotId", system}, {"DiskDeviceMapping.1.SnapshotId", system}}, 400,
          "InvalidDevice.InUse");
  refused({{"SnapshotId", system},
           {"DiskDeviceMapping.1.SnapshotId", data},
           {"DiskDeviceMapping.1.Device", "xvdb"}},
          400, "InvalidDevice.Malformed");
  refused({{"SnapshotId", system},
           {"DiskDeviceMapping.1.SnapshotId", data},
           {"DiskDeviceMapping.1.Size", "19"}},
          400, "InvalidSize.ValueNotSupported");
  refused({{"SnapshotId", system},
           {"DiskDeviceMapping.1.SnapshotId", data},
           {"DiskDeviceMapping.1.Size", "many"}},
          400, "InvalidSize.ValueNotSupported");
  refused({{"SnapshotId", system}, {"DiskDeviceMapping.1.Device", "/dev/xvdb"}}, 400,
          "MissingParameter");
  refused({{"SnapshotId", system},
           {"DiskDeviceMapping.1.SnapshotId", system},
           {"DiskDeviceMapping.1.DiskType", "data"}},
          403, "InvalidSnapshotId.NotDataDiskSnapshot");
  refused({{"DiskDeviceMapping.1.SnapshotId", data}}, 403, "OperationDenied");
  refused({{"DiskDeviceMapping.1.DiskType", "system"}}, 400, "MissingParameter");
  refused({{"DiskDeviceMapping.1.DiskType", "x"}}, 400, "InvalidDiskType.ValueNotSupported");
}

TEST_F(ImageActions, EveryRuleOfCreateImageHasItsCode) {
  Daemon daemon(root_.path());
  const std::string instance = with_data(daemon);
  auto disks = disks_of(daemon, instance);
  const std::string system_disk = disks["/dev/xvda"]["DiskId"];
  const std::string system = take(daemon, system_disk);
  const std::string data = take(daemon, disks["/dev/xvdb"]["DiskId"]);
  const Params good = {{"SnapshotId", system}, {"ImageName", "base"}};
  const auto refused = [&](Params more, int status, const std::string& code) {
    for (const auto& [name, value] : good) more.try_emplace(name, value);
    EXPECT_REFUSED(daemon.ask("CreateImage", std::move(more)), status, code);
  };
  refused({{"SnapshotId", "s-none"}}, 404, "InvalidSnapshotId.NotFound");
  refused({{"SnapshotId", data}}, 403, "OperationDenied");
  refused({{"InstanceId", instance}}, 403, "InvalidParamter.Conflict");
  refused({{"SnapshotId", ""}}, 400, "MissingParameter");
  refused({{"SnapshotId", ""}, {"InstanceId", "i-none"}}, 404, "InvalidInstanceId.NotFound");
  refused({{"SnapshotId", ""}, {"InstanceId", "i-local"}}, 400,
          "InvalidInstance.NotFoundSystemDisk");
  refused({{"ImageName", "1"}}, 400, "InvalidImageName.Malformed");
  refused({{"Description", "http://x"}}, 400, "InvalidDescription.Malformed");
  refused({{"ImageFamily", "acs:x"}}, 400, "InvalidImageFamily.Malformed");
  refused({{"Architecture", "vax"}}, 400, "InvalidArchitecture.ValueNotSupported");
  refused({{"BootMode", "PXE"}}, 400, "InvalidBootMode.ValueNotSupported");
  refused({{"Tag.1.Key", "a"}, {"Tag.2.Key", "a"}}, 400, "Duplicate.TagKey");
  Params tags;
  for (int i = 1; i <= 21; ++i) tags[fmt::format("Tag.{}.Key", i)] = fmt::format("k{}", i);
  refused(tags, 403, "QuotaExceed.Tags");
  refused({{"DryRun", "true"}}, 400, "DryRunOperation");
  EXPECT_TRUE(images(daemon).empty());

  const std::string running = take(daemon, system_disk, false);
  refused({{"SnapshotId", running}}, 403, "InvalidSnapshotId.NotReady");
  daemon.must("CreateImage", good);
  refused({}, 400, "InvalidImageName.Duplicated");
}

TEST_F(ImageActions, OfAnInstanceFollowsTheRulesOfSnapshots) {
  Daemon daemon(root_.path());
  const std::string never_ran = daemon.must(
      "CreateInstance",
      {{"ImageId", "local"}, {"InstanceType", "x"}, {"SystemDisk.Size", "40"}})["InstanceId"];
  EXPECT_REFUSED(daemon.ask("CreateImage", {{"InstanceId", never_ran}}), 403,
                 "IncorrectDiskStatus.NeverUsed");
  const std::string instance = run(daemon, {{"SystemDisk.Category", "cloud_efficiency"}});
  daemon.must("CreateImage", {{"InstanceId", instance}});
  EXPECT_REFUSED(daemon.ask("CreateImage", {{"InstanceId", instance}}), 403,
                 "IncorrectDiskStatus.CreatingSnapshot");
}

TEST_F(ImageActions, AClientTokenMakesOneImage) {
  Daemon daemon(root_.path());
  const std::string instance = run(daemon);
  Params params = {{"InstanceId", instance}, {"ClientToken", "t"}};
  const std::string id = make(daemon, params);
  EXPECT_EQ(make(daemon, params), id);
  params["Description"] = "another";
  EXPECT_REFUSED(daemon.ask("CreateImage", params), 400, "IdempotenceParamNotMatch");
}

TEST_F(ImageActions, ARegionHasAHundred) {
  Daemon daemon(root_.path());
  const std::string snapshot = snapshot_of_system(daemon, run(daemon));
  for (int i = 0; i < 100; ++i) make(daemon, {{"SnapshotId", snapshot}});
  EXPECT_REFUSED(daemon.ask("CreateImage", {{"SnapshotId", snapshot}}), 403, "QuotaExceed.Image");
}

TEST_F(ImageActions, AreChanged) {
  Daemon daemon(root_.path());
  const std::string snapshot = snapshot_of_system(daemon, run(daemon));
  const std::string a = make(daemon, {{"SnapshotId", snapshot}, {"ImageName", "alpha"}});
  const std::string b = make(daemon, {{"SnapshotId", snapshot}, {"ImageName", "beta"}});
  daemon.must("ModifyImageAttribute", {{"ImageId", a},
                                       {"ImageName", "gamma"},
                                       {"Description", "new"},
                                       {"ImageFamily", "f-1"},
                                       {"BootMode", "UEFI"},
                                       {"LicenseType", "BYOL"}});
  const Json one = image(daemon, a);
  EXPECT_EQ(one["ImageName"], "gamma");
  EXPECT_EQ(one["Description"], "new");
  EXPECT_EQ(one["ImageFamily"], "f-1");
  EXPECT_EQ(one["BootMode"], "UEFI");
  EXPECT_EQ(one["LicenseType"], "BYOL");
  daemon.must("ModifyImageAttribute", {{"ImageId", a}, {"ImageName", "gamma"}});
  const auto refused = [&](Params params, int status, const std::string& code) {
    params.try_emplace("ImageId", a);
    EXPECT_REFUSED(daemon.ask("ModifyImageAttribute", std::move(params)), status, code);
  };
  refused({{"ImageId", "m-none"}}, 404, "InvalidImageId.NotFound");
  refused({{"ImageName", "beta"}}, 400, "InvalidImageName.Duplicated");
  refused({{"ImageName", "x"}}, 400, "InvalidImageName.Malformed");
  refused({{"Description", "x"}}, 400, "InvalidDescription.Malformed");
  refused({{"Status", "Creating"}}, 400, "InvalidStatus.ValueNotSupported");
  refused({{"DryRun", "true"}}, 400, "DryRunOperation");
  daemon.must("ModifyImageAttribute", {{"ImageId", a}, {"Status", "Deprecated"}});
  EXPECT_REFUSED(daemon.ask("RunInstances", {{"ImageId", a}, {"InstanceType", "x"}}), 403,
                 "OperationDenied.ImageNotValid");
  daemon.must("ModifyImageAttribute", {{"ImageId", a}, {"Status", "Available"}});
  run(daemon, {{"ImageId", a}});
}

TEST_F(ImageActions, AreSharedAndNotDeletedBeforeThatIsCancelled) {
  Daemon daemon(root_.path());
  const std::string id = make(daemon, {{"SnapshotId", snapshot_of_system(daemon, run(daemon))}});
  const auto accounts = [&](Params params = {}) {
    params["ImageId"] = id;
    std::string text;
    const Json body = daemon.must("DescribeImageSharePermission", params);
    for (const Json& one : body["Accounts"]["Account"]) {
      text += one["AliyunId"].get<std::string>() + " ";
    }
    return text;
  };
  EXPECT_EQ(accounts(), "");
  daemon.must("ModifyImageSharePermission",
              {{"ImageId", id}, {"AddAccount.1", "11"}, {"AddAccount.2", "22"}});
  daemon.must("ModifyImageSharePermission",
              {{"ImageId", id}, {"AddAccount.1", "11"}, {"AddAccount.2", "33"}});
  EXPECT_EQ(accounts(), "11 22 33 ");
  EXPECT_EQ(accounts({{"PageSize", "2"}, {"PageNumber", "2"}}), "33 ");
  EXPECT_REFUSED(daemon.ask("DeleteImage", {{"ImageId", id}, {"Force", "true"}}), 403,
                 "ImageUseShared");
  EXPECT_REFUSED(daemon.ask("ModifyImageAttribute", {{"ImageId", id}, {"Status", "Deprecated"}}),
                 403, "ImageUseShared");
  Params many{{"ImageId", id}};
  for (int i = 1; i <= 12; ++i) {
    many[fmt::format("RemoveAccount.{}", i)] = fmt::format("{}", 100 + i);
  }
  many["RemoveAccount.10"] = "22";
  many["RemoveAccount.11"] = "33";  // beyond ten, so ignored
  daemon.must("ModifyImageSharePermission", many);
  EXPECT_EQ(accounts(), "11 33 ");
  for (int round = 0; round < 5; ++round) {
    Params more{{"ImageId", id}};
    for (int i = 1; i <= 10; ++i) {
      more[fmt::format("AddAccount.{}", i)] = fmt::format("{}", 1000 + round * 10 + i);
    }
    if (round < 4) {
      daemon.must("ModifyImageSharePermission", more);
    } else {
      EXPECT_REFUSED(daemon.ask("ModifyImageSharePermission", more), 403,
                     "QuotaExceed.ImageAccount");
    }
  }
  const auto refused = [&](Params params, int status, const std::string& code) {
    params.try_emplace("ImageId", id);
    EXPECT_REFUSED(daemon.ask("ModifyImageSharePermission", std::move(params)), status, code);
  };
  refused({}, 400, "MissingParameter");
  refused({{"ImageId", "m-none"}, {"AddAccount.1", "1"}}, 404, "InvalidImageId.NotFound");
  refused({{"AddAccount.1", "me"}}, 404, "InvalidAccount.NotFound");
  refused({{"RemoveAccount.1", "me"}}, 404, "InvalidAccount.NotFound");
  refused({{"IsPublic", "true"}}, 403, "OperationDenied");
  refused({{"AddAccount.1", "7"}, {"DryRun", "true"}}, 400, "DryRunOperation");
  EXPECT_REFUSED(daemon.ask("DescribeImageSharePermission", {{"ImageId", "m-none"}}), 404,
                 "InvalidImageId.NotFound");
}

TEST_F(ImageActions, AreDeletedAndLetTheirSnapshotsGo) {
  Daemon daemon(root_.path());
  const std::string instance = run(daemon);
  const std::string snapshot = snapshot_of_system(daemon, instance);
  const std::string id = make(daemon, {{"SnapshotId", snapshot}});
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", snapshot}, {"Force", "true"}}), 403,
                 "SnapshotCreatedImage");
  const std::string made = run(daemon, {{"ImageId", id}});
  EXPECT_EQ(usage(daemon, snapshot), "image_disk");
  EXPECT_EQ(image(daemon, id)["Usage"], "instance");
  EXPECT_REFUSED(daemon.ask("DeleteImage", {{"ImageId", id}}), 403, "ImageUsingByInstance");
  EXPECT_REFUSED(daemon.ask("DeleteImage", {{"ImageId", "m-none"}}), 404,
                 "InvalidImageId.NotFound");
  EXPECT_REFUSED(
      daemon.ask("DeleteImage", {{"ImageId", id}, {"DryRun", "true"}, {"Force", "true"}}), 400,
      "DryRunOperation");
  daemon.must("DeleteImage", {{"ImageId", id}, {"Force", "true"}});
  EXPECT_TRUE(image(daemon, id).is_null());
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", snapshot}}), 403,
                 "SnapshotCreatedDisk");
  daemon.must("StopInstance", {{"InstanceId", made}});
  EXPECT_REFUSED(
      daemon.ask("ReInitDisk", {{"DiskId", disks_of(daemon, made)["/dev/xvda"]["DiskId"]}}), 403,
      "OperationDenied");
  daemon.must("DeleteInstance", {{"InstanceId", made}, {"Force", "true"}});
  daemon.must("DeleteSnapshot", {{"SnapshotId", snapshot}});
}

TEST_F(ImageActions, ASnapshotThatOneHasStaysWhateverItsRetention) {
  Daemon daemon(root_.path());
  const std::string instance = run(daemon);
  const std::string disk = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
  const std::string snapshot =
      daemon.must("CreateSnapshot", {{"DiskId", disk}, {"RetentionDays", "1"}})["SnapshotId"];
  capture(daemon, snapshot);
  const std::string id = make(daemon, {{"SnapshotId", snapshot}});
  const auto later = daemon.machine.ring->wall_now() + std::chrono::hours(48);
  daemon.machine.ring->block_on(daemon.control->keep_schedule(later));
  EXPECT_EQ(usage(daemon, snapshot), "image");
  daemon.must("DeleteImage", {{"ImageId", id}});
  daemon.machine.ring->block_on(daemon.control->keep_schedule(later));
  EXPECT_EQ(daemon.must("DescribeSnapshots")["TotalCount"], 0);
}

TEST_F(ImageActions, ASnapshotGroupThatOneHasStays) {
  Daemon daemon(root_.path());
  const std::string instance = run(daemon);
  const std::string group =
      daemon.must("CreateSnapshotGroup", {{"InstanceId", instance}})["SnapshotGroupId"];
  const Json body = daemon.must("DescribeSnapshots");
  const std::string snapshot = body["Snapshots"]["Snapshot"][0]["SnapshotId"];
  capture(daemon, snapshot);
  const std::string id = make(daemon, {{"SnapshotId", snapshot}});
  EXPECT_REFUSED(daemon.ask("DeleteSnapshotGroup", {{"SnapshotGroupId", group}}), 403,
                 "SnapshotCreatedImage");
  daemon.must("DeleteImage", {{"ImageId", id}});
  daemon.must("DeleteSnapshotGroup", {{"SnapshotGroupId", group}});
}

TEST_F(ImageActions, CarryTags) {
  Daemon daemon(root_.path());
  const std::string id = make(daemon, {{"SnapshotId", snapshot_of_system(daemon, run(daemon))}});
  daemon.must("TagResources", {{"RegionId", "cn-local"},
                               {"ResourceType", "image"},
                               {"ResourceId.1", id},
                               {"Tag.1.Key", "k"},
                               {"Tag.1.Value", "v"}});
  EXPECT_EQ(image(daemon, id)["Tags"]["Tag"][0]["TagValue"], "v");
  const Json counts = daemon.must("DescribeTags")["Tags"]["Tag"];
  ASSERT_EQ(counts.size(), 1U);
  EXPECT_EQ(counts[0]["ResourceTypeCount"]["Image"], 1);
}

TEST_F(ImageActions, AnImportedSnapshotOfASystemDiskMakesOne) {
  Daemon daemon(root_.path());
  EXPECT_REFUSED(daemon.ask("BeginSnapshotImport", {{"ImageSize", "1"}, {"DiskType", "x"}}), 400,
                 "InvalidDiskType.ValueNotSupported");
  EXPECT_REFUSED(daemon.ask("BeginSnapshotImport",
                            {{"ImageSize", std::to_string(501_GiB)}, {"DiskType", "system"}}),
                 400, "InvalidSystemDiskSize.ValueNotSupported");
  const std::string disk =
      daemon.must("BeginSnapshotImport", {{"ImageSize", "4096"}, {"DiskType", "system"}})["DiskId"];
  const std::string snapshot =
      daemon.must("FinishSnapshotImport", {{"DiskId", disk}})["SnapshotId"];
  capture(daemon, snapshot);
  const std::string id = make(daemon, {{"SnapshotId", snapshot}});
  EXPECT_EQ(image(daemon, id)["Size"], 20);
}

}  // namespace
}  // namespace clouddisk
