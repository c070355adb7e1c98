#include "engine/catalog/ids.h"
#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

TEST_F(ControlTest, ADiskLivesFromCreationToDeletion) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk({{"RegionId", "cn-local"},
                                             {"ZoneId", "cn-local-a"},
                                             {"DiskCategory", "cloud_essd"},
                                             {"PerformanceLevel", "PL1"},
                                             {"Size", "40"},
                                             {"DiskName", "data disk-1"},
                                             {"Description", "a+b=c"},
                                             {"Tag.1.Key", "env"},
                                             {"Tag.1.Value", "test"}});
  EXPECT_EQ(id.size(), 2 + kIdRunLength);
  EXPECT_EQ(daemon.host.stored(), std::set<std::string>{id});
  Json disk = daemon.disk(id);
  EXPECT_EQ(disk["Status"], "Available");
  EXPECT_EQ(disk["Size"], 40);
  EXPECT_EQ(disk["IOPS"], 3'800);
  EXPECT_EQ(disk["Throughput"], 140);
  EXPECT_EQ(disk["Type"], "data");
  EXPECT_EQ(disk["Device"], "");
  EXPECT_EQ(disk["SerialNumber"], id.substr(2));
  EXPECT_EQ(disk["Attachments"], Json({{"Attachment", Json::array()}}));
  EXPECT_EQ(disk["Tags"]["Tag"][0]["TagValue"], "test");
  EXPECT_TRUE(daemon.host.served().empty()) << "exported only while attached";

  daemon.attach(id);
  disk = daemon.disk(id);
  EXPECT_EQ(disk["Status"], "In_use");
  EXPECT_EQ(disk["InstanceId"], "i-local");
  EXPECT_EQ(disk["Device"], "/dev/xvdb");
  EXPECT_EQ(disk["Attachments"]["Attachment"][0]["Device"], "/dev/xvdb");
  ASSERT_TRUE(daemon.host.served().contains(id));
  EXPECT_EQ(daemon.host.served().at(id).size_bytes, 40_GiB);
  EXPECT_EQ(daemon.host.served().at(id).limits, (DiskLimits{3'800, 140 * 1_MiB}));

  daemon.must("ResizeDisk", {{"DiskId", id}, {"NewSize", "80"}, {"Type", "online"}});
  EXPECT_EQ(daemon.host.served().at(id).size_bytes, 80_GiB);
  EXPECT_EQ(daemon.host.served().at(id).limits, (DiskLimits{5'800, 160 * 1_MiB}));

  daemon.must("DetachDisk", {{"DiskId", id}, {"InstanceId", "i-local"}});
  EXPECT_TRUE(daemon.host.served().empty());
  EXPECT_EQ(daemon.disk(id)["Status"], "Available");
  EXPECT_NE(daemon.disk(id)["DetachedTime"], "");

  daemon.must("DeleteDisk", {{"DiskId", id}});
  EXPECT_TRUE(daemon.disk(id).is_null());
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(ControlTest, DescribeDisksHasEveryMemberThatAClientReads) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  daemon.attach(id);
  const Json disk = daemon.disk(id);
  // Members of DescribeDisks in the cloud's interface, and their kinds.
  const std::map<std::string, Json::value_t> members = {
      {"AttachedTime", Json::value_t::string},
      {"Attachments", Json::value_t::object},
      {"AutoSnapshotPolicyId", Json::value_t::string},
      {"BdfId", Json::value_t::string},
      {"BurstingEnabled", Json::value_t::boolean},
      {"Category", Json::value_t::string},
      {"CreationTime", Json::value_t::string},
      {"DataSource", Json::value_t::object},
      {"DeleteAutoSnapshot", Json::value_t::boolean},
      {"DeleteWithInstance", Json::value_t::boolean},
      {"Description", Json::value_t::string},
      {"DetachedTime", Json::value_t::string},
      {"Device", Json::value_t::string},
      {"DiskChargeType", Json::value_t::string},
      {"DiskId", Json::value_t::string},
      {"DiskName", Json::value_t::string},
      {"EnableAutoSnapshot", Json::value_t::boolean},
      {"EnableAutomatedSnapshotPolicy", Json::value_t::boolean},
      {"Encrypted", Json::value_t::boolean},
      {"ExpiredTime", Json::value_t::string},
      {"IOPS", Json::value_t::number_unsigned},
      {"IOPSRead", Json::value_t::number_unsigned},
      {"Faults", Json::value_t::number_unsigned},
      {"IOPSWrite", Json::value_t::number_unsigned},
      {"ImageId", Json::value_t::string},
      {"InstanceId", Json::value_t::string},
      {"KMSKeyId", Json::value_t::string},
      {"MountInstanceNum", Json::value_t::number_unsigned},
      {"MountInstances", Json::value_t::object},
      {"MultiAttach", Json::value_t::string},
      {"OperationLocks", Json::value_t::object},
      {"PerformanceLevel", Json::value_t::string},
      {"Placement", Json::value_t::object},
      {"Portable", Json::value_t::boolean},
      {"ProductCode", Json::value_t::string},
      {"ProvisionedIops", Json::value_t::number_unsigned},
      {"RegionId", Json::value_t::string},
      {"ResourceGroupId", Json::value_t::string},
      {"SerialNumber", Json::value_t::string},
      {"Size", Json::value_t::number_unsigned},
      {"SourceDiskId", Json::value_t::string},
      {"SourceSnapshotId", Json::value_t::string},
      {"Faults", Json::value_t::number_unsigned},
      {"Hydration", Json::value_t::object},
      {"Store", Json::value_t::object},
      {"Status", Json::value_t::string},
      {"StorageClusterId", Json::value_t::string},
      {"StorageSetId", Json::value_t::string},
      {"StorageSetPartitionNumber", Json::value_t::number_unsigned},
      {"Tags", Json::value_t::object},
      {"Throughput", Json::value_t::number_unsigned},
      {"ThroughputRead", Json::value_t::number_unsigned},
      {"ThroughputWrite", Json::value_t::number_unsigned},
      {"Type", Json::value_t::string},
      {"ZoneId", Json::value_t::string},
  };
  for (const auto& [member, kind] : members) {
    ASSERT_TRUE(disk.contains(member)) << member;
    Json::value_t seen = disk[member].type();
    if (seen == Json::value_t::number_integer) seen = Json::value_t::number_unsigned;
    EXPECT_EQ(seen, kind) << member;
  }
  EXPECT_EQ(disk.size(), members.size());
  EXPECT_EQ(disk["CreationTime"].get<std::string>().size(),
            std::string("2026-01-01T00:00:00Z").size());
  EXPECT_EQ(disk["CreationTime"].get<std::string>().back(), 'Z');
}

TEST_F(ControlTest, CreateDiskRefusesWhatTheCloudRefuses) {
  Daemon daemon(root_.path());
  struct Row {
    const char* name;
    Params params;
    int status;
    const char* code;
  };
  const Row rows[] = {
      {"no size", {}, 400, "MissingParameter"},
      {"size of letters", {{"Size", "big"}}, 400, "InvalidSize.ValueNotSupported"},
      {"negative size", {{"Size", "-40"}}, 400, "InvalidSize.ValueNotSupported"},
      {"huge size", {{"Size", "99999999999999999999"}}, 400, "InvalidSize.ValueNotSupported"},
      {"no size at all", {{"Size", "0"}}, 400, "InvalidDiskSize.NotSupported"},
      {"PL1 too small",
       {{"Size", "19"}, {"PerformanceLevel", "PL1"}},
       403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL0 too small",
       {{"Size", "20"}, {"PerformanceLevel", "PL0"}},
       403,
       "InvalidDiskSize.TooSmall"},
      {"ultra too large",
       {{"Size", "40000"}, {"DiskCategory", "cloud_efficiency"}},
       400,
       "InvalidDiskSize.NotSupported"},
      {"auto too small",
       {{"Size", "1"}, {"DiskCategory", "cloud_auto"}},
       403,
       "InvalidDataDiskSize.ValueNotSupported"},
      {"no such category",
       {{"Size", "40"}, {"DiskCategory", "tape"}},
       400,
       "InvalidDiskCategory.ValueNotSupported"},
      {"local disk",
       {{"Size", "40"}, {"DiskCategory", "local_hdd_pro"}},
       403,
       "InvalidDiskCategory.NotSupported"},
      {"no such level",
       {{"Size", "40"}, {"PerformanceLevel", "PL9"}},
       400,
       "InvalidPerformanceLevel.Malformed"},
      {"level of an SSD",
       {{"Size", "40"}, {"PerformanceLevel", "PL1"}, {"DiskCategory", "cloud_ssd"}},
       400,
       "InvalidPerformanceLevel.ValueNotSupported"},
      {"region", {{"Size", "40"}, {"RegionId", "cn-hangzhou"}}, 404, "InvalidRegionId.NotFound"},
      {"zone", {{"Size", "40"}, {"ZoneId", "cn-local-b"}}, 404, "InvalidZoneId.NotFound"},
      {"name", {{"Size", "40"}, {"DiskName", "http://x"}}, 400, "InvalidDiskName.Malformed"},
      {"description", {{"Size", "40"}, {"Description", "x"}}, 400, "InvalidDescription.Malformed"},
      {"snapshot", {{"SnapshotId", "s-1"}}, 404, "InvalidSnapshotId.NotFound"},
      {"encrypted",
       {{"Size", "40"}, {"Encrypted", "true"}},
       403,
       "InvalidParameter.EncryptedNotSupported"},
      {"multi-attach",
       {{"Size", "40"}, {"MultiAttach", "Enabled"}},
       403,
       "InvalidParameter.MultiAttach"},
      {"bursting",
       {{"Size", "40"}, {"BurstingEnabled", "true"}},
       400,
       "BurstingEnabledForDiskCategoryUnsupported"},
      {"boolean", {{"Size", "40"}, {"Encrypted", "yes"}}, 400, "InvalidSize.ValueNotSupported"},
      {"provisioned",
       {{"Size", "40"}, {"ProvisionedIops", "5"}},
       400,
       "ProvisionedIopsForDiskCategoryUnsupported"},
      {"tags", {{"Size", "40"}, {"Tag.1.Key", "a"}, {"Tag.2.Key", "a"}}, 400, "Duplicate.TagKey"},
      {"zone and instance",
       {{"Size", "40"}, {"ZoneId", "cn-local-a"}, {"InstanceId", "i-local"}},
       403,
       "InvalidParam.ZoneIdAndInstanceId.Conflict"},
      {"instance", {{"Size", "40"}, {"InstanceId", "i-x"}}, 404, "InvalidInstanceId.NotFound"},
      {"dry run", {{"Size", "40"}, {"DryRun", "true"}}, 400, "DryRunOperation"},
      {"dry run of nonsense", {{"DryRun", "true"}}, 400, "MissingParameter"},
      {"not UTF-8", {{"Size", "40"}, {"DiskName", "a\xff"}}, 400, "InvalidParameter"},
      {"version", {{"Size", "40"}, {"Version", "2015-01-01"}}, 400, "InvalidVersion"},
  };
  for (const Row& row : rows) {
    const Answer answer = daemon.ask("CreateDisk", row.params);
    EXPECT_EQ(answer.http_status, row.status) << row.name << answer.body.dump();
    EXPECT_EQ(answer.code(), row.code) << row.name;
  }
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 0) << "a refusal changes nothing";
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(ControlTest, DefaultsOfCreateDisk) {
  Daemon daemon(root_.path());
  EXPECT_EQ(daemon.disk(daemon.create_disk({{"Size", "40"}}))["Category"], "cloud");
  const Json levelled =
      daemon.disk(daemon.create_disk({{"Size", "40"}, {"performancelevel", "PL0"}}));
  EXPECT_EQ(levelled["Category"], "cloud_essd") << "only it has levels";
  EXPECT_EQ(levelled["PerformanceLevel"], "PL0");
  const Json essd =
      daemon.disk(daemon.create_disk({{"SIZE", "20"}, {"diskcategory", "cloud_essd"}}));
  EXPECT_EQ(essd["PerformanceLevel"], "PL1") << "and names match without regard to case";
}

TEST_F(ControlTest, CreateDiskWithAnInstanceAttachesItThere) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk({{"Size", "40"}, {"InstanceId", "i-local"}});
  EXPECT_EQ(daemon.disk(id)["Status"], "In_use");
  EXPECT_EQ(daemon.disk(id)["DiskChargeType"], "PrePaid");
  EXPECT_TRUE(daemon.host.served().contains(id));
}

TEST_F(ControlTest, StorageThatFailsLeavesNothingBehind) {
  Daemon daemon(root_.path());
  daemon.host.fail_next("create", Errc::kNoSpace);
  EXPECT_REFUSED(daemon.ask("CreateDisk", {{"Size", "40"}}), 503, "ServiceUnavailable");
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 0);
  const std::string id = daemon.create_disk();

  daemon.host.fail_next("serve", Errc::kCorrupt);
  EXPECT_REFUSED(daemon.ask("AttachDisk", {{"DiskId", id}, {"InstanceId", "i-local"}}), 500,
                 "InternalError");
  EXPECT_EQ(daemon.disk(id)["Status"], "Available");
  daemon.attach(id);

  daemon.host.fail_next("apply", Errc::kNoSpace);
  EXPECT_REFUSED(daemon.ask("ResizeDisk", {{"DiskId", id}, {"NewSize", "80"}, {"Type", "online"}}),
                 503, "ServiceUnavailable");
  EXPECT_EQ(daemon.disk(id)["Size"], 40);

  daemon.host.fail_next("stop", Errc::kIo);
  EXPECT_REFUSED(daemon.ask("DetachDisk", {{"DiskId", id}, {"InstanceId", "i-local"}}), 500,
                 "InternalError");
  EXPECT_EQ(daemon.disk(id)["Status"], "In_use");
  daemon.must("DetachDisk", {{"DiskId", id}, {"InstanceId", "i-local"}});
}

TEST_F(ControlTest, StorageThatCannotBeRemovedNowIsRemovedLater) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  daemon.host.fail_next("delete", Errc::kIo);
  daemon.must("DeleteDisk", {{"DiskId", id}});
  EXPECT_TRUE(daemon.disk(id).is_null()) << "gone for everybody";
  EXPECT_FALSE(daemon.host.stored().empty());
  const std::string other = daemon.create_disk();
  EXPECT_EQ(daemon.host.stored(), std::set<std::string>{other}) << "with the next change";
}

TEST_F(ControlTest, AttachAndDetachRefuseWhatTheCloudRefuses) {
  Daemon daemon(root_.path());
  const std::string used = daemon.create_disk();
  const std::string free = daemon.create_disk();
  daemon.attach(used);
  const auto attach = [&](Params params) { return daemon.ask("AttachDisk", std::move(params)); };
  EXPECT_REFUSED(attach({{"InstanceId", "i-local"}}), 400, "MissingParameter");
  EXPECT_REFUSED(attach({{"DiskId", free}}), 400, "MissingParameter");
  EXPECT_REFUSED(attach({{"DiskId", "d-x"}, {"InstanceId", "i-local"}}), 404,
                 "InvalidDiskId.NotFound");
  EXPECT_REFUSED(attach({{"DiskId", free}, {"InstanceId", "i-x"}}), 404,
                 "InvalidInstanceId.NotFound");
  EXPECT_REFUSED(attach({{"DiskId", used}, {"InstanceId", "i-local"}}), 403, "IncorrectDiskStatus");
  EXPECT_REFUSED(attach({{"DiskId", free}, {"InstanceId", "i-local"}, {"Device", "/dev/xvdb"}}),
                 403, "InvalidDevice.InUse");
  EXPECT_REFUSED(attach({{"DiskId", free}, {"InstanceId", "i-local"}, {"Device", "sdb"}}), 400,
                 "InvalidDevice.Malformed");
  EXPECT_REFUSED(attach({{"DiskId", free}, {"InstanceId", "i-local"}, {"Bootable", "true"}}), 400,
                 "InvalidDisk.DiskNotBootable");
  const auto detach = [&](Params params) { return daemon.ask("DetachDisk", std::move(params)); };
  EXPECT_REFUSED(detach({{"DiskId", free}, {"InstanceId", "i-local"}}), 403, "IncorrectDiskStatus");
  const std::string other =
      daemon.must("CreateInstance", {{"ImageId", "local"}, {"InstanceType", "ecs.g7.large"}})
          .value("InstanceId", "");
  EXPECT_REFUSED(detach({{"DiskId", used}, {"InstanceId", other}}), 403, "DependencyViolation");
  EXPECT_REFUSED(daemon.ask("DeleteDisk", {{"DiskId", used}}), 403, "IncorrectDiskStatus");
  EXPECT_REFUSED(daemon.ask("DeleteDisk", {{"DiskId", "d-x"}}), 404, "InvalidDiskId.NotFound");
}

TEST_F(ControlTest, AnInstanceTakesSixteenDataDisks) {
  Daemon daemon(root_.path());
  for (int i = 0; i < 16; ++i) daemon.attach(daemon.create_disk());
  const std::string id = daemon.create_disk();
  EXPECT_REFUSED(daemon.ask("AttachDisk", {{"DiskId", id}, {"InstanceId", "i-local"}}), 403,
                 "InstanceDiskLimitExceeded");
}

TEST_F(ControlTest, ResizeRules) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  const auto resize = [&](Params params) {
    params.emplace("DiskId", id);
    return daemon.ask("ResizeDisk", std::move(params));
  };
  EXPECT_REFUSED(resize({}), 400, "MissingParameter");
  EXPECT_REFUSED(resize({{"NewSize", "39"}}), 403, "InvalidDiskSize.TooSmall");
  EXPECT_REFUSED(resize({{"NewSize", "40"}}), 403, "InvalidDiskSize");
  EXPECT_REFUSED(resize({{"NewSize", "32769"}}), 403, "InvalidDiskSize.TooLarge");
  EXPECT_REFUSED(resize({{"NewSize", "80"}, {"Type", "sideways"}}), 400, "InvalidParam.Type");
  EXPECT_REFUSED(resize({{"NewSize", "80"}, {"Type", "online"}}), 403, "IncorrectDiskStatus");
  EXPECT_TRUE(resize({{"NewSize", "80"}}).ok());
  EXPECT_EQ(daemon.disk(id)["Size"], 80);
  daemon.attach(id);
  EXPECT_EQ(daemon.host.served().at(id).size_bytes, 80_GiB);
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  EXPECT_REFUSED(resize({{"NewSize", "90"}, {"Type", "online"}}), 403,
                 "InvalidInstanceStatus.NotRunning");
}

TEST_F(ControlTest, AnOfflineResizeShowsAfterARestartOfTheInstance) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  daemon.attach(id);
  daemon.must("ResizeDisk", {{"DiskId", id}, {"NewSize", "80"}});
  EXPECT_EQ(daemon.disk(id)["Size"], 80);
  EXPECT_EQ(daemon.host.served().at(id).size_bytes, 40_GiB);
  EXPECT_EQ(daemon.host.served().at(id).limits.iops, 5'800U) << "limits hold at once";
  daemon.must("RebootInstance", {{"InstanceId", "i-local"}});
  EXPECT_EQ(daemon.host.served().at(id).size_bytes, 80_GiB);
}

TEST_F(ControlTest, ModifyDiskSpecChangesTheLimitsAtOnce) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk({{"Size", "500"}, {"PerformanceLevel", "PL1"}});
  daemon.attach(id);
  const Json body = daemon.must("ModifyDiskSpec", {{"DiskId", id}, {"PerformanceLevel", "PL2"}});
  EXPECT_EQ(body["TaskId"].get<std::string>().substr(0, 2), "t-");
  EXPECT_EQ(daemon.host.served().at(id).limits, (DiskLimits{26'800, 370 * 1_MiB}));
  const auto modify = [&](Params params) {
    params.emplace("DiskId", id);
    return daemon.ask("ModifyDiskSpec", std::move(params));
  };
  EXPECT_REFUSED(modify({{"PerformanceLevel", "PL2"}}), 403,
                 "NoChangeInDiskCategoryAndPerformanceLevel");
  EXPECT_REFUSED(modify({{"PerformanceLevel", "PL3"}}), 403,
                 "OperationDenied.PerformanceLevelNotMatch");
  EXPECT_REFUSED(modify({{"PerformanceLevel", "PL0"}}), 403, "InvalidPerformanceLevel.TooLow");
  EXPECT_REFUSED(modify({{"PerformanceLevel", "fast"}}), 400, "InvalidPerformanceLevel.Malformed");
  EXPECT_REFUSED(modify({{"DiskCategory", "cloud_ssd"}}), 403, "InvalidDiskCategory.NotSupported");
  EXPECT_REFUSED(modify({{"PerformanceLevel", "PL1"}, {"DryRun", "true"}}), 400, "DryRunOperation");
  EXPECT_REFUSED(modify({{"PerformanceControlOptions.IOPS", "10"}}), 403, "OperationDenied");
  EXPECT_EQ(daemon.disk(id)["PerformanceLevel"], "PL2");
  EXPECT_TRUE(modify({{"PerformanceLevel", "PL1"}}).ok());
}

TEST_F(ControlTest, ModifyDiskSpecMayHaveToCool) {
  Control::Options options;
  options.seed = 42;
  options.spec_cooling = std::chrono::hours(7 * 24);
  Daemon daemon(root_.path(), options);
  const std::string id = daemon.create_disk({{"Size", "500"}, {"PerformanceLevel", "PL1"}});
  daemon.must("ModifyDiskSpec", {{"DiskId", id}, {"PerformanceLevel", "PL2"}});
  EXPECT_REFUSED(daemon.ask("ModifyDiskSpec", {{"DiskId", id}, {"PerformanceLevel", "PL1"}}), 403,
                 "DiskInCoolingPeriod");
}

TEST_F(ControlTest, ModifyDiskAttribute) {
  Daemon daemon(root_.path());
  const std::string a = daemon.create_disk();
  const std::string b = daemon.create_disk();
  daemon.must("ModifyDiskAttribute", {{"DiskId", a},
                                      {"DiskName", "renamed"},
                                      {"DeleteWithInstance", "true"},
                                      {"DeleteAutoSnapshot", "false"}});
  EXPECT_EQ(daemon.disk(a)["DiskName"], "renamed");
  EXPECT_EQ(daemon.disk(a)["DeleteWithInstance"], true);
  EXPECT_EQ(daemon.disk(a)["DeleteAutoSnapshot"], false);
  daemon.must("ModifyDiskAttribute",
              {{"DiskIds.1", a}, {"DiskIds.2", b}, {"Description", "both of them"}});
  EXPECT_EQ(daemon.disk(b)["Description"], "both of them");
  const auto modify = [&](Params params) {
    return daemon.ask("ModifyDiskAttribute", std::move(params));
  };
  EXPECT_REFUSED(modify({{"DiskName", "xx"}}), 400, "MissingParameter.DiskIdOrDiskIds");
  EXPECT_REFUSED(modify({{"DiskId", a}, {"DiskIds.1", b}, {"DiskName", "xx"}}), 400,
                 "ParameterConflict.DiskIdAndDiskIds");
  EXPECT_REFUSED(modify({{"DiskId", a}}), 400, "NoAttributeToModify");
  EXPECT_REFUSED(modify({{"DiskId", a}, {"DiskName", "7"}}), 400, "InvalidDiskName.Malformed");
  EXPECT_REFUSED(modify({{"DiskId", a}, {"Description", "7"}}), 404,
                 "InvalidDescription.Malformed");
  EXPECT_REFUSED(modify({{"DiskIds.1", a}, {"DiskIds.2", "d-x"}, {"DiskName", "other"}}), 404,
                 "InvalidDiskId.NotFound");
  EXPECT_EQ(daemon.disk(a)["DiskName"], "renamed") << "all or none";
}

TEST_F(ControlTest, FiltersOfDescribeDisks) {
  Daemon daemon(root_.path());
  const std::string web = daemon.create_disk(
      {{"Size", "40"}, {"DiskName", "web-1"}, {"Tag.1.Key", "env"}, {"Tag.1.Value", "test"}});
  const std::string db =
      daemon.create_disk({{"Size", "40"}, {"DiskName", "db-1"}, {"DiskCategory", "cloud_essd"}});
  daemon.attach(db);
  const auto ids = [&](Params params) {
    std::set<std::string> found;
    const Json body = daemon.must("DescribeDisks", std::move(params));
    for (const Json& disk : body["Disks"]["Disk"]) {
      found.insert(disk["DiskId"].get<std::string>());
    }
    return found;
  };
  using Ids = std::set<std::string>;
  EXPECT_EQ(ids({}), (Ids{web, db}));
  EXPECT_EQ(ids({{"Status", "All"}}), (Ids{web, db}));
  EXPECT_EQ(ids({{"Status", "In_use"}}), Ids{db});
  EXPECT_EQ(ids({{"Status", "In_Use"}}), Ids{db});
  EXPECT_EQ(ids({{"Status", "Available"}}), Ids{web});
  EXPECT_EQ(ids({{"InstanceId", "i-local"}}), Ids{db});
  EXPECT_EQ(ids({{"DiskName", "web-1"}}), Ids{web});
  EXPECT_EQ(ids({{"DiskName", "*-1"}}), (Ids{web, db}));
  EXPECT_EQ(ids({{"DiskName", "d*1"}}), Ids{db});
  EXPECT_EQ(ids({{"Category", "cloud_essd"}}), Ids{db});
  EXPECT_EQ(ids({{"DiskType", "system"}}), Ids{});
  EXPECT_EQ(ids({{"Encrypted", "true"}}), Ids{});
  EXPECT_EQ(ids({{"SnapshotId", "s-1"}}), Ids{});
  EXPECT_EQ(ids({{"Tag.1.Key", "env"}}), Ids{web});
  EXPECT_EQ(ids({{"Tag.1.Key", "env"}, {"Tag.1.Value", "prod"}}), Ids{});
  EXPECT_EQ(ids({{"DiskIds", "[\"" + db + "\",\"d-x\"]"}}), Ids{db});
  EXPECT_EQ(ids({{"Filter.1.Key", "CreationStartTime"}, {"Filter.1.Value", "2019-01-01T00:00Z"}}),
            (Ids{web, db}));
  EXPECT_EQ(ids({{"Filter.1.Key", "CreationEndTime"}, {"Filter.1.Value", "2019-12-31T00:00Z"}}),
            Ids{});
  const auto refused = [&](Params params) {
    return daemon.ask("DescribeDisks", std::move(params));
  };
  EXPECT_REFUSED(refused({{"DiskIds", "d-1"}}), 403, "InvalidDiskIds.Malformed");
  EXPECT_REFUSED(refused({{"DiskIds", "[1]"}}), 403, "InvalidDiskIds.Malformed");
  EXPECT_REFUSED(refused({{"Status", "Sleeping"}}), 400, "InvalidStatus.ValueNotSupported");
  EXPECT_REFUSED(refused({{"Status", "Deleting"}}), 400, "InvalidStatus.ValueNotSupported");
  EXPECT_REFUSED(refused({{"DiskType", "odd"}}), 400, "InvalidDiskType.ValueNotSupported");
  EXPECT_REFUSED(refused({{"Category", "tape"}}), 400, "InvalidCategory.ValueNotSupported");
  EXPECT_REFUSED(refused({{"Filter.1.Key", "x"}, {"Filter.1.Value", "y"}}), 404,
                 "InvalidFilterKey.NotFound");
  EXPECT_REFUSED(refused({{"DiskChargeType", "x"}}), 404, "InvalidDiskChargeType.NotFound");
}

TEST_F(ControlTest, PagesByNumberAndByToken) {
  Daemon daemon(root_.path());
  std::set<std::string> all;
  for (int i = 0; i < 23; ++i) all.insert(daemon.create_disk());
  const auto page_ids = [](const Json& body) {
    std::vector<std::string> ids;
    for (const Json& disk : body["Disks"]["Disk"]) ids.push_back(disk["DiskId"]);
    return ids;
  };
  std::set<std::string> seen;
  for (int number = 1; number <= 4; ++number) {
    const Json body = daemon.must("DescribeDisks", {{"PageNumber", std::to_string(number)}});
    EXPECT_EQ(body["TotalCount"], 23);
    EXPECT_EQ(body["PageNumber"], number);
    EXPECT_EQ(body["PageSize"], 10);
    const auto ids = page_ids(body);
    EXPECT_EQ(ids.size(), number <= 2 ? 10U : number == 3 ? 3U : 0U);
    seen.insert(ids.begin(), ids.end());
  }
  EXPECT_EQ(seen, all);

  seen.clear();
  std::string token;
  int pages = 0;
  do {
    Params params = {{"MaxResults", "7"}};
    if (!token.empty()) params["NextToken"] = token;
    const Json body = daemon.must("DescribeDisks", params);
    const auto ids = page_ids(body);
    for (const std::string& id : ids) EXPECT_TRUE(seen.insert(id).second) << "shown twice";
    token = body["NextToken"];
    // What comes and goes meanwhile does not disturb the rest.
    if (++pages == 1) {
      daemon.must("DeleteDisk", {{"DiskId", ids.back()}});
      daemon.create_disk();
    }
  } while (!token.empty());
  EXPECT_EQ(pages, 4);
  EXPECT_EQ(seen, all);

  const auto refused = [&](Params params) {
    return daemon.ask("DescribeDisks", std::move(params));
  };
  EXPECT_REFUSED(refused({{"PageNumber", "0"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(refused({{"PageSize", "101"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(refused({{"MaxResults", "0"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(refused({{"NextToken", "zz"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(refused({{"NextToken", std::string(60, 'f')}}), 400, "InvalidParameter");
  EXPECT_TRUE(
      page_ids(daemon.must("DescribeDisks", {{"PageNumber", "999999999999999999"}})).empty());
}

TEST_F(ControlTest, AClientTokenMakesARequestOnceEvenOverARestart) {
  const Params params = {{"Size", "40"}, {"ClientToken", "token-1"}, {"DiskName", "once"}};
  std::string id;
  {
    Daemon daemon(root_.path());
    id = daemon.create_disk(params);
    Params again = params;
    again["SignatureNonce"] = "another";
    again["RegionId"] = "cn-local";
    EXPECT_EQ(daemon.create_disk(again), id);
  }
  Daemon daemon(root_.path(), {.seed = 43});
  EXPECT_EQ(daemon.create_disk(params), id);
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 1);
  Params other = params;
  other["Size"] = "50";
  EXPECT_REFUSED(daemon.ask("CreateDisk", other), 403, "IdempotentParameterMismatch");
  other["ClientToken"] = std::string(65, 'x');
  EXPECT_REFUSED(daemon.ask("CreateDisk", other), 403, "InvalidClientToken.Malformed");

  const Params resize = {{"DiskId", id}, {"NewSize", "80"}, {"ClientToken", "token-1"}};
  daemon.must("ResizeDisk", resize);
  daemon.must("ResizeDisk", resize);
  EXPECT_EQ(daemon.disk(id)["Size"], 80);
  // A refusal is not remembered: the same request may succeed later.
  const Params large = {{"DiskId", id}, {"NewSize", "70"}, {"ClientToken", "token-2"}};
  EXPECT_REFUSED(daemon.ask("ResizeDisk", large), 403, "InvalidDiskSize.TooSmall");
  EXPECT_REFUSED(daemon.ask("ResizeDisk", large), 403, "InvalidDiskSize.TooSmall");
}

}  // namespace
}  // namespace clouddisk
