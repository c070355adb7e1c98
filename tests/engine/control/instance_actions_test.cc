#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

Params run_params() {
  return {{"ImageId", "aliyun_3_x64_20G.vhd"},
          {"InstanceType", "ecs.g7.large"},
          {"InstanceName", "web"},
          {"SystemDisk.Category", "cloud_essd"},
          {"SystemDisk.Size", "40"},
          {"SystemDisk.PerformanceLevel", "PL0"},
          {"DataDisk.1.Category", "cloud_essd"},
          {"DataDisk.1.Size", "20"},
          {"DataDisk.1.DiskName", "data-1"},
          {"DataDisk.2.Size", "50"},
          {"DataDisk.2.Device", "/dev/xvdf"},
          {"DataDisk.2.DeleteWithInstance", "false"}};
}

std::string run_one(Daemon& daemon, Params params = run_params()) {
  const Json body = daemon.must("RunInstances", std::move(params));
  return body["InstanceIdSets"]["InstanceIdSet"][0].get<std::string>();
}

std::string status_of(Daemon& daemon, const std::string& id) {
  const Json body = daemon.must("DescribeInstances", {{"InstanceIds", "[\"" + id + "\"]"}});
  const Json& list = body["Instances"]["Instance"];
  return list.empty() ? "gone" : list[0]["Status"].get<std::string>();
}

TEST_F(ControlTest, TheHostIsAnInstanceFromTheFirstStart) {
  Daemon daemon(root_.path());
  EXPECT_EQ(status_of(daemon, "i-local"), "Running");
  EXPECT_REFUSED(daemon.ask("DeleteInstance", {{"InstanceId", "i-local"}, {"Force", "true"}}), 403,
                 "OperationDenied");
}

TEST_F(ControlTest, RunInstancesMakesAndServesItsDisks) {
  Daemon daemon(root_.path());
  const std::string id = run_one(daemon);
  EXPECT_EQ(status_of(daemon, id), "Running");
  const Json body = daemon.must("DescribeDisks", {{"InstanceId", id}});
  ASSERT_EQ(body["TotalCount"], 3);
  std::map<std::string, Json> by_device;
  for (const Json& disk : body["Disks"]["Disk"]) by_device[disk["Device"]] = disk;
  ASSERT_TRUE(by_device.contains("/dev/xvda"));
  ASSERT_TRUE(by_device.contains("/dev/xvdb"));
  ASSERT_TRUE(by_device.contains("/dev/xvdf"));
  EXPECT_EQ(by_device["/dev/xvda"]["Type"], "system");
  EXPECT_EQ(by_device["/dev/xvda"]["ImageId"], "aliyun_3_x64_20G.vhd");
  EXPECT_EQ(by_device["/dev/xvda"]["DeleteWithInstance"], true);
  EXPECT_EQ(by_device["/dev/xvdb"]["DiskName"], "data-1");
  EXPECT_EQ(by_device["/dev/xvdb"]["DeleteWithInstance"], true);
  EXPECT_EQ(by_device["/dev/xvdf"]["DeleteWithInstance"], false);
  EXPECT_EQ(daemon.host.served().size(), 3U);
  EXPECT_REFUSED(
      daemon.ask("DetachDisk", {{"DiskId", by_device["/dev/xvda"]["DiskId"]}, {"InstanceId", id}}),
      403, "DiskTypeViolation");
}

TEST_F(ControlTest, StoppingAnInstanceStopsItsExportsAndStartingServesThemAgain) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  daemon.attach(id);
  EXPECT_REFUSED(daemon.ask("StartInstance", {{"InstanceId", "i-local"}}), 403,
                 "IncorrectInstanceStatus");
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  EXPECT_EQ(status_of(daemon, "i-local"), "Stopped");
  EXPECT_TRUE(daemon.host.served().empty());
  EXPECT_EQ(daemon.disk(id)["Status"], "In_use");
  EXPECT_REFUSED(daemon.ask("DescribeDiskExport", {{"DiskId", id}}), 403, "IncorrectDiskStatus");
  EXPECT_REFUSED(daemon.ask("StopInstance", {{"InstanceId", "i-local"}}), 403,
                 "IncorrectInstanceStatus");
  const std::string other = daemon.create_disk();
  daemon.attach(other);
  EXPECT_TRUE(daemon.host.served().empty()) << "attached to a stopped instance";
  daemon.must("StartInstance", {{"InstanceId", "i-local"}});
  EXPECT_EQ(daemon.host.served().size(), 2U);
}

TEST_F(ControlTest, AStartOrStopThatFailsLeavesTheOldState) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  daemon.attach(id);
  daemon.host.fail_next("stop", Errc::kIo);
  EXPECT_REFUSED(daemon.ask("StopInstance", {{"InstanceId", "i-local"}}), 500, "InternalError");
  EXPECT_EQ(status_of(daemon, "i-local"), "Running");
  EXPECT_TRUE(daemon.host.served().contains(id));
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  daemon.host.fail_next("serve", Errc::kReplicasLost);
  EXPECT_REFUSED(daemon.ask("StartInstance", {{"InstanceId", "i-local"}}), 503,
                 "ServiceUnavailable");
  EXPECT_EQ(status_of(daemon, "i-local"), "Stopped");
}

TEST_F(ControlTest, DeleteInstanceReleasesOrDetachesItsDisks) {
  Daemon daemon(root_.path());
  const std::string id = run_one(daemon);
  EXPECT_REFUSED(daemon.ask("DeleteInstance", {{"InstanceId", id}}), 403,
                 "IncorrectInstanceStatus");
  daemon.must("DeleteInstance", {{"InstanceId", id}, {"Force", "true"}});
  EXPECT_EQ(status_of(daemon, id), "gone");
  const Json body = daemon.must("DescribeDisks");
  ASSERT_EQ(body["TotalCount"], 1) << "the one that does not go with its instance";
  EXPECT_EQ(body["Disks"]["Disk"][0]["Status"], "Available");
  EXPECT_EQ(body["Disks"]["Disk"][0]["Size"], 50);
  EXPECT_EQ(daemon.host.stored().size(), 1U);
  EXPECT_TRUE(daemon.host.served().empty());
}

TEST_F(ControlTest, CreateInstanceIsStoppedAndProtectedOnesStay) {
  Daemon daemon(root_.path());
  Params params = run_params();
  params["DeletionProtection"] = "true";
  const std::string id = daemon.must("CreateInstance", params).value("InstanceId", "");
  EXPECT_EQ(status_of(daemon, id), "Stopped");
  EXPECT_TRUE(daemon.host.served().empty());
  EXPECT_REFUSED(daemon.ask("DeleteInstance", {{"InstanceId", id}}), 403,
                 "InvalidOperation.DeletionProtection");
  daemon.must("StartInstance", {{"InstanceId", id}});
  EXPECT_EQ(daemon.host.served().size(), 3U);
}

TEST_F(ControlTest, RunInstancesRefusesWhatTheCloudRefuses) {
  Daemon daemon(root_.path());
  const auto run = [&](Params changes, const char* without = "") {
    Params params = run_params();
    params.erase(without);
    for (const auto& [name, value] : changes) params[name] = value;
    return daemon.ask("RunInstances", std::move(params));
  };
  EXPECT_REFUSED(run({}, "ImageId"), 400, "MissingParameter");
  EXPECT_REFUSED(run({}, "InstanceType"), 400, "MissingParameter");
  EXPECT_REFUSED(run({{"Amount", "0"}}), 400, "InvalidParameter.Amount");
  EXPECT_REFUSED(run({{"Amount", "101"}}), 400, "InvalidParameter.Amount");
  EXPECT_REFUSED(run({{"InstanceName", "1"}}), 400, "InvalidInstanceName.Malformed");
  EXPECT_REFUSED(run({{"InstanceChargeType", "Gift"}}), 404, "InvalidInstanceChargeType.NotFound");
  EXPECT_REFUSED(run({{"SystemDisk.Size", "501"}}), 400, "InvalidSystemDiskSize.ValueNotSupported");
  EXPECT_REFUSED(run({{"DataDisk.1.Size", "1"}}), 403, "OperationDenied.PerformanceLevelNotMatch");
  EXPECT_REFUSED(run({{"DataDisk.1.Device", "/dev/xvdf"}}), 403, "InvalidDevice.InUse");
  EXPECT_REFUSED(run({{"DataDisk.2.SnapshotId", "s-1"}}), 404, "InvalidSnapshotId.NotFound");
  EXPECT_REFUSED(run({{"DryRun", "true"}}), 400, "DryRunOperation");
  Params many = run_params();
  for (int i = 1; i <= 17; ++i) many["DataDisk." + std::to_string(i) + ".Size"] = "40";
  EXPECT_REFUSED(daemon.ask("RunInstances", many), 403, "InstanceDiskLimitExceeded");
  EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 1);
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(ControlTest, RunInstancesIsAllOrNothing) {
  Daemon daemon(root_.path());
  Params params = run_params();
  params["Amount"] = "3";
  for (const char* call : {"create", "serve"}) {
    daemon.host.fail_next(call, Errc::kNoSpace);
    EXPECT_REFUSED(daemon.ask("RunInstances", params), 503, "ServiceUnavailable");
  }
  params["UniqueSuffix"] = "true";
  params["ClientToken"] = "t";
  const Json first = daemon.must("RunInstances", params);
  EXPECT_EQ(first["InstanceIdSets"]["InstanceIdSet"].size(), 3U);
  EXPECT_EQ(daemon.must("RunInstances", params)["InstanceIdSets"], first["InstanceIdSets"]);
  const Json body = daemon.must("DescribeInstances", {{"InstanceName", "web*"}});
  EXPECT_EQ(body["TotalCount"], 3);
  EXPECT_EQ(daemon.host.stored().size(), 9U) << "nothing is left of the attempts that failed";
  const Json status = daemon.must("DescribeInstanceStatus");
  EXPECT_EQ(status["TotalCount"], 4);
}

TEST_F(ControlTest, AnInstancesLimitsReachAllItsDisksAtOnceAndSurviveARestart) {
  std::string id;
  {
    Daemon daemon(root_.path());
    Params params = run_params();
    params["IopsLimit"] = "60000";
    id = run_one(daemon, params);
    ASSERT_EQ(daemon.host.served().size(), 3U);
    for (const auto& [disk, settings] : daemon.host.served()) {
      EXPECT_EQ(settings.instance_id, id);
      EXPECT_EQ(settings.instance_limits, (DiskLimits{60'000, 0})) << disk;
    }
    daemon.must("ModifyInstanceLimits", {{"InstanceId", id}, {"ThroughputLimit", "100"}});
    for (const auto& [disk, settings] : daemon.host.served()) {
      EXPECT_EQ(settings.instance_limits, (DiskLimits{60'000, 100 * 1_MiB})) << disk;
    }
    for (const char* limit : {"IopsLimit", "ThroughputLimit"}) {
      EXPECT_REFUSED(
          daemon.ask("ModifyInstanceLimits", {{"InstanceId", id}, {limit, "999999999999"}}), 400,
          "InvalidParameter");
      Params huge = run_params();
      huge[limit] = "999999999999";
      EXPECT_REFUSED(daemon.ask("RunInstances", huge), 400, "InvalidParameter");
    }
    EXPECT_REFUSED(daemon.ask("ModifyInstanceLimits", {{"InstanceId", "i-none"}}), 404,
                   "InvalidInstanceId.NotFound");
  }
  Daemon daemon(root_.path());
  const Json body = daemon.must("DescribeInstances", {{"InstanceIds", "[\"" + id + "\"]"}});
  EXPECT_EQ(body["Instances"]["Instance"][0]["IopsLimit"], 60'000);
  EXPECT_EQ(body["Instances"]["Instance"][0]["ThroughputLimit"], 100);
  const std::string disk = daemon.create_disk();
  daemon.attach(disk, id);
  EXPECT_EQ(daemon.host.served().at(disk).instance_limits, (DiskLimits{60'000, 100 * 1_MiB}));
  daemon.must("ModifyInstanceLimits",
              {{"InstanceId", id}, {"IopsLimit", "0"}, {"ThroughputLimit", "0"}});
  EXPECT_EQ(daemon.host.served().at(disk).instance_limits, DiskLimits{});
}

TEST_F(ControlTest, LimitsThatADiskDoesNotTakeAreRefusedAndTheOldOnesAreBackEverywhere) {
  std::string id;
  {
    Daemon daemon(root_.path());
    Params params = run_params();
    params["IopsLimit"] = "60000";
    id = run_one(daemon, params);
    ASSERT_EQ(daemon.host.served().size(), 3U);
    for (const unsigned successes : {0U, 1U, 2U}) {
      daemon.host.fail_after(successes, "apply", Errc::kNoSpace);
      EXPECT_REFUSED(daemon.ask("ModifyInstanceLimits", {{"InstanceId", id}, {"IopsLimit", "100"}}),
                     503, "ServiceUnavailable");
      for (const auto& [disk, settings] : daemon.host.served()) {
        EXPECT_EQ(settings.instance_limits, (DiskLimits{60'000, 0})) << disk;
      }
    }
  }
  Daemon daemon(root_.path());
  const Json body = daemon.must("DescribeInstances", {{"InstanceIds", "[\"" + id + "\"]"}});
  EXPECT_EQ(body["Instances"]["Instance"][0]["IopsLimit"], 60'000);
}

TEST_F(ControlTest, ADiskIsServedWithTheLatencyThatItsCategoryStates) {
  Daemon daemon(root_.path());
  const auto latency_of = [&](Params params) {
    const std::string disk = daemon.create_disk(std::move(params));
    daemon.attach(disk);
    return daemon.host.served().at(disk).nominal_latency;
  };
  using std::chrono::microseconds;
  EXPECT_EQ(latency_of({{"Size", "40"}, {"DiskCategory", "cloud_essd"}}), microseconds(200));
  EXPECT_EQ(latency_of({{"Size", "40"}, {"DiskCategory", "cloud_ssd"}}), microseconds(1'250));
  EXPECT_EQ(latency_of({{"Size", "40"}, {"DiskCategory", "cloud"}}), microseconds(7'500));
}

}  // namespace
}  // namespace clouddisk
