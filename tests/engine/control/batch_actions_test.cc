// Several instances or disks in one request: all or none of it, or what of it can be done.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/image_fixture.h"

namespace clouddisk {
namespace {

class BatchActions : public ImageTest {
 protected:
  static Params of(const std::vector<std::string>& ids, Params more = {}) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      more[fmt::format("InstanceId.{}", i + 1)] = ids[i];
    }
    return more;
  }
  static std::string status(Daemon& daemon, const std::string& instance) {
    const Json body = daemon.must("DescribeInstanceStatus", {{"InstanceId.1", instance}});
    const Json& list = body["InstanceStatuses"]["InstanceStatus"];
    return list.empty() ? "" : list[0]["Status"];
  }
  static Json responses(const Json& body) { return body["InstanceResponses"]["InstanceResponse"]; }
  static void wait_for_all(Daemon& daemon) {
    daemon.must("ModifyInstanceLimits", {{"InstanceId", "i-local"}, {"IopsLimit", "0"}});
  }
};

TEST_F(BatchActions, InstancesStopAndStartTogether) {
  Daemon daemon(root_.path());
  const std::string a = with_data(daemon);
  const std::string b = run(daemon);
  EXPECT_EQ(daemon.host.served().size(), 3U);
  Json list = responses(daemon.must("StopInstances", of({a, b, a})));
  ASSERT_EQ(list.size(), 2U) << "one that is named twice counts once";
  EXPECT_EQ(list[0], Json({{"Code", "200"},
                           {"Message", "success"},
                           {"InstanceId", a},
                           {"PreviousStatus", "Running"},
                           {"CurrentStatus", "Stopped"}}));
  EXPECT_EQ(list[1]["InstanceId"], b);
  EXPECT_TRUE(daemon.host.served().empty());
  list = responses(daemon.must("StartInstances", of({b, a})));
  EXPECT_EQ(list[0]["InstanceId"], b);
  EXPECT_EQ(list[0]["CurrentStatus"], "Running");
  EXPECT_EQ(daemon.host.served().size(), 3U);
}

TEST_F(BatchActions, TogetherIsAllOrNoneAndSuccessFirstWhatCanBeDone) {
  Daemon daemon(root_.path());
  const std::string running = run(daemon);
  const std::string stopped = run(daemon);
  daemon.must("StopInstance", {{"InstanceId", stopped}});
  EXPECT_REFUSED(daemon.ask("StopInstances", of({running, stopped})), 403,
                 "IncorrectInstanceStatus");
  EXPECT_EQ(status(daemon, running), "Running");
  EXPECT_REFUSED(daemon.ask("StopInstances", of({running, "i-none"})), 404,
                 "InvalidInstanceId.NotFound");
  const Json list = responses(daemon.must(
      "StopInstances", of({stopped, running, "i-none"}, {{"BatchOptimization", "SuccessFirst"}})));
  ASSERT_EQ(list.size(), 3U);
  EXPECT_EQ(list[0]["Code"], "IncorrectInstanceStatus");
  EXPECT_EQ(list[0]["CurrentStatus"], "Stopped");
  EXPECT_EQ(list[1]["Code"], "200");
  EXPECT_EQ(list[2]["Code"], "InvalidInstanceId.NotFound");
  EXPECT_EQ(status(daemon, running), "Stopped");
}

TEST_F(BatchActions, OneThatFailsIsToldAndTheOthersAreDone) {
  Daemon daemon(root_.path());
  const std::string a = run(daemon);
  const std::string b = run(daemon);
  daemon.must("StopInstances", of({a, b}));
  daemon.host.fail_next("serve", Errc::kNoSpace);
  EXPECT_REFUSED(daemon.ask("StartInstances", of({a, b})), 503, "ServiceUnavailable");
  EXPECT_EQ(status(daemon, a), "Stopped");
  EXPECT_EQ(status(daemon, b), "Running");
  daemon.host.fail_next("stop", Errc::kIo);
  const Json list =
      responses(daemon.must("StopInstances", of({b}, {{"BatchOptimization", "SuccessFirst"}})));
  EXPECT_EQ(list[0]["Code"], "InternalError");
  EXPECT_EQ(list[0]["CurrentStatus"], "Running");
  EXPECT_EQ(status(daemon, b), "Running");
}

TEST_F(BatchActions, WhoDoesNotWaitIsToldWhatIsBegun) {
  Daemon daemon(root_.path());
  const std::string a = run(daemon);
  const std::string b = run(daemon);
  const Json list = responses(daemon.must("StopInstances", of({a, b}, {{"Wait", "false"}})));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["CurrentStatus"], "Stopping");
  EXPECT_EQ(list[1]["CurrentStatus"], "Stopping");
  EXPECT_EQ(status(daemon, b), "Stopping");
  wait_for_all(daemon);
  EXPECT_EQ(status(daemon, a), "Stopped");
  EXPECT_EQ(status(daemon, b), "Stopped");
  daemon.must("DeleteInstances", of({a, b}, {{"Wait", "false"}}));
  EXPECT_EQ(status(daemon, a), "");
  wait_for_all(daemon);
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(BatchActions, WhatWasBegunIsDoneAfterADeath) {
  std::vector<std::string> ids;
  {
    Daemon daemon(root_.path());
    for (int i = 0; i < 2; ++i) ids.push_back(run(daemon));
    daemon.must("StopInstances", of(ids));
  }
  for (const char* action : {"StartInstances", "StopInstances", "DeleteInstances"}) {
    SCOPED_TRACE(action);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Daemon daemon(root_.path());
      const bool granted = daemon.ask(action, of(ids, {{"Wait", "false"}})).ok();
      _exit(granted ? 0 : 1);  // Between the answer and the rest.
    }
    int result = 0;
    ASSERT_EQ(waitpid(child, &result, 0), child);
    ASSERT_EQ(result, 0);
    Daemon daemon(root_.path());
    const bool started = action == std::string_view("StartInstances");
    const bool deleted = action == std::string_view("DeleteInstances");
    const std::string expected = started ? "Running" : deleted ? "" : "Stopped";
    for (const std::string& id : ids) EXPECT_EQ(status(daemon, id), expected) << id;
    EXPECT_EQ(daemon.host.served().size(), started ? 2U : 0U);
    EXPECT_EQ(daemon.host.stored().size(), deleted ? 0U : 2U);
  }
}

TEST_F(BatchActions, InstancesAreDeletedAllOrNone) {
  Daemon daemon(root_.path());
  const std::string a = with_data(daemon);
  const std::string b = run(daemon, {{"DataDisk.1.Size", "20"},
                                     {"DataDisk.1.Category", "cloud_essd"},
                                     {"DataDisk.1.DeleteWithInstance", "false"}});
  const std::string kept = disks_of(daemon, b)["/dev/xvdb"]["DiskId"];
  const std::string safe = run(daemon, {{"DeletionProtection", "true"}});
  const Params force = {{"Force", "true"}};
  EXPECT_REFUSED(daemon.ask("DeleteInstances", of({a, b})), 403, "IncorrectInstanceStatus");
  EXPECT_REFUSED(daemon.ask("DeleteInstances", of({a, safe}, force)), 403,
                 "InvalidOperation.DeletionProtection");
  EXPECT_REFUSED(daemon.ask("DeleteInstances", of({a, "i-local"}, force)), 403, "OperationDenied");
  EXPECT_REFUSED(daemon.ask("DeleteInstances", of({a, "i-none"}, force)), 404,
                 "InvalidInstanceId.NotFound");
  EXPECT_EQ(status(daemon, a), "Running");
  Params with_token = of({a, b}, force);
  with_token["ClientToken"] = "t";
  daemon.must("DeleteInstances", with_token);
  EXPECT_EQ(status(daemon, a), "");
  EXPECT_EQ(status(daemon, b), "");
  EXPECT_EQ(daemon.disk(kept)["Status"], "Available");
  EXPECT_EQ(daemon.host.stored().size(), 2U);
  daemon.must("DeleteInstances", with_token);
}

TEST_F(BatchActions, DisksGoBackEachToItsSnapshot) {
  Daemon daemon(root_.path());
  const std::string instance = with_data(daemon);
  auto disks = disks_of(daemon, instance);
  const std::string system = disks["/dev/xvda"]["DiskId"];
  const std::string data = disks["/dev/xvdb"]["DiskId"];
  const std::string of_system = take(daemon, system);
  const std::string of_data = take(daemon, data);
  const Params both = {{"Disk.1.DiskId", system},
                       {"Disk.1.SnapshotId", of_system},
                       {"Disk.2.DiskId", data},
                       {"Disk.2.SnapshotId", of_data}};
  const auto progress = [](const Json& body) {
    return body["OperationProgressSet"]["OperationProgress"];
  };
  Json list = progress(daemon.must("ResetDisks", both));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["OperationStatus"], "Failed");
  EXPECT_EQ(list[0]["ErrorCode"], "IncorrectInstanceStatus");
  Params dry = both;
  dry["DryRun"] = "true";
  EXPECT_REFUSED(daemon.ask("ResetDisks", dry), 403, "IncorrectInstanceStatus");
  daemon.must("StopInstance", {{"InstanceId", instance}});
  EXPECT_REFUSED(daemon.ask("ResetDisks", dry), 400, "DryRunOperation");
  EXPECT_EQ(daemon.disk(data)["Hydration"]["SnapshotId"], "");
  Params one_wrong = both;
  one_wrong["Disk.1.SnapshotId"] = of_data;
  list = progress(daemon.must("ResetDisks", one_wrong));
  EXPECT_EQ(list[0]["ErrorCode"], "InvalidParameter.Mismatch");
  EXPECT_EQ(list[1]["OperationStatus"], "Success");
  EXPECT_EQ(list[1]["ErrorCode"], "");
  EXPECT_EQ(list[1]["RelatedItemSet"]["RelatedItem"],
            Json::array({{{"Name", "DiskId"}, {"Value", data}},
                         {{"Name", "SnapshotId"}, {"Value", of_data}}}));
  EXPECT_EQ(daemon.disk(data)["Hydration"]["SnapshotId"], of_data);
  EXPECT_EQ(daemon.disk(system)["Hydration"]["SnapshotId"], "");
  list = progress(daemon.must("ResetDisks", both));
  EXPECT_EQ(list[0]["OperationStatus"], "Success");
  EXPECT_EQ(daemon.disk(system)["Hydration"]["SnapshotId"], of_system);
}

TEST_F(BatchActions, WhatBreaksARuleIsRefused) {
  Daemon daemon(root_.path());
  const std::string stopped =
      daemon.must("CreateInstance", {{"ImageId", "local"}, {"InstanceType", "x"}})["InstanceId"];
  std::vector<std::string> many;
  for (int i = 0; i < 101; ++i) many.push_back(fmt::format("i-{}", i));
  for (const char* action : {"StartInstances", "StopInstances", "DeleteInstances"}) {
    SCOPED_TRACE(action);
    EXPECT_REFUSED(daemon.ask(action), 400, "MissingParameter");
    EXPECT_REFUSED(daemon.ask(action, of(many)), 400, "InvalidParameter");
  }
  EXPECT_REFUSED(daemon.ask("StartInstances", of({stopped}, {{"BatchOptimization", "Soon"}})), 400,
                 "InvalidParameter");
  EXPECT_REFUSED(daemon.ask("StartInstances", of({stopped}, {{"DryRun", "true"}})), 400,
                 "DryRunOperation");
  EXPECT_REFUSED(daemon.ask("DeleteInstances", of({stopped}, {{"DryRun", "true"}})), 400,
                 "DryRunOperation");
  EXPECT_EQ(status(daemon, stopped), "Stopped");
  EXPECT_REFUSED(daemon.ask("ResetDisks"), 400, "MissingParameter");
  EXPECT_REFUSED(daemon.ask("ResetDisks", {{"Disk.1.DiskId", "d-1"}}), 400, "MissingParameter");
  Params disks;
  for (int i = 1; i <= 17; ++i) disks[fmt::format("Disk.{}.DiskId", i)] = "d-1";
  EXPECT_REFUSED(daemon.ask("ResetDisks", disks), 403, "NumberExceed.TooManyDisks");
}

TEST_F(BatchActions, AnInstanceShowsItsAttributes) {
  Daemon daemon(root_.path());
  const std::string id = run(daemon, {{"InstanceName", "web"}, {"HostName", "web-1"}});
  const Json body = daemon.must("DescribeInstanceAttribute", {{"InstanceId", id}});
  EXPECT_EQ(body["InstanceId"], id);
  EXPECT_EQ(body["InstanceName"], "web");
  EXPECT_EQ(body["HostName"], "web-1");
  EXPECT_EQ(body["ImageId"], "local");
  EXPECT_EQ(body["Status"], "Running");
  EXPECT_EQ(body["SerialNumber"], id.substr(2));
  for (const char* member : {"Cpu", "CreationTime", "Description", "InstanceChargeType",
                             "InstanceType", "Memory", "RegionId", "ZoneId"}) {
    EXPECT_TRUE(body.contains(member)) << member;
  }
  EXPECT_EQ(body["OperationLocks"], Json({{"LockReason", Json::array()}}));
  EXPECT_REFUSED(daemon.ask("DescribeInstanceAttribute"), 400, "MissingParameter");
  EXPECT_REFUSED(daemon.ask("DescribeInstanceAttribute", {{"InstanceId", "i-none"}}), 404,
                 "InvalidInstanceId.NotFound");
}

}  // namespace
}  // namespace clouddisk
