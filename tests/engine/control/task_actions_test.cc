// Tasks: ModifyDiskSpec begins one, which is found afterwards; what fails, what a crash cuts off.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

class TaskActions : public ControlTest {
 protected:
  static std::string disk_of(Daemon& daemon, Params params = {}) {
    params.try_emplace("Size", "500");
    params.try_emplace("PerformanceLevel", "PL1");
    return daemon.create_disk(std::move(params));
  }
  static std::string change(Daemon& daemon, const std::string& disk, const char* level,
                            Params more = {}) {
    more["DiskId"] = disk;
    more["PerformanceLevel"] = level;
    return daemon.must("ModifyDiskSpec", std::move(more)).value("TaskId", "");
  }
  static Json tasks(Daemon& daemon, Params params = {}) {
    return daemon.must("DescribeTasks", std::move(params))["TaskSet"]["Task"];
  }
  static Json show(Daemon& daemon, const std::string& id) {
    return daemon.must("DescribeTaskAttribute", {{"TaskId", id}});
  }
  static void wait_for_all(Daemon& daemon) {
    daemon.must("ModifyInstanceLimits", {{"InstanceId", "i-local"}, {"IopsLimit", "0"}});
  }
};

TEST_F(TaskActions, AChangeOfSpecIsATaskThatIsFoundAfterwards) {
  std::string disk, id;
  {
    Daemon daemon(root_.path());
    disk = disk_of(daemon);
    id = change(daemon, disk, "PL2");
  }
  Daemon daemon(root_.path());
  const Json list = tasks(daemon);
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0]["TaskId"], id);
  EXPECT_EQ(list[0]["TaskAction"], "ModifyDiskSpec");
  EXPECT_EQ(list[0]["TaskStatus"], "Finished");
  EXPECT_EQ(list[0]["ResourceId"], disk);
  EXPECT_EQ(list[0]["SupportCancel"], "false");
  const std::string minute = "2026-01-01T00:00Z";
  EXPECT_EQ(list[0]["CreationTime"].get<std::string>().size(), minute.size());
  EXPECT_EQ(list[0]["FinishedTime"].get<std::string>().size(), minute.size());
  const Json one = show(daemon, id);
  EXPECT_EQ(one["TaskId"], id);
  EXPECT_EQ(one["TaskStatus"], "Finished");
  EXPECT_EQ(one["TaskProcess"], "100%");
  EXPECT_EQ(one["TotalCount"], 1);
  EXPECT_EQ(one["SuccessCount"], 1);
  EXPECT_EQ(one["FailedCount"], 0);
  EXPECT_EQ(one["RegionId"], daemon.disk(disk)["RegionId"]);
  const Json part = one["OperationProgressSet"]["OperationProgress"][0];
  EXPECT_EQ(part["OperationStatus"], "Success");
  EXPECT_EQ(part["ErrorCode"], "");
  EXPECT_EQ(part["RelatedItemSet"]["RelatedItem"][0]["Value"], disk);
}

TEST_F(TaskActions, AreFiltered) {
  Control::Options options{.seed = 42};
  options.places = *Places::parse({"r1", "r2"}, {});
  Daemon daemon(root_.path(), options);
  const std::string a = disk_of(daemon);
  const std::string b = disk_of(daemon, {{"RegionId", "r2"}});
  const std::string first = change(daemon, a, "PL2");
  const std::string second = change(daemon, a, "PL1");
  const std::string elsewhere = change(daemon, b, "PL2");
  const auto ids = [&](Params params) {
    std::set<std::string> found;
    for (const Json& task : tasks(daemon, std::move(params))) found.insert(task["TaskId"]);
    return found;
  };
  using Ids = std::set<std::string>;
  const Ids all{first, second, elsewhere};
  EXPECT_EQ(ids({}), all);
  EXPECT_EQ(ids({{"RegionId", "r1"}}), (Ids{first, second}));
  EXPECT_EQ(ids({{"TaskIds", first + "," + elsewhere}}), (Ids{first, elsewhere}));
  EXPECT_EQ(ids({{"ResourceIds.1", b}}), Ids{elsewhere});
  EXPECT_EQ(ids({{"TaskAction", "ImportImage"}}), Ids{});
  EXPECT_EQ(ids({{"TaskAction", "ModifyDiskSpec"}}), all);
  EXPECT_EQ(ids({{"TaskStatus", "Finished"}}), all);
  EXPECT_EQ(ids({{"TaskStatus", "Failed"}}), Ids{});
  EXPECT_EQ(ids({{"TaskStatus", "Pending"}}), all) << "no filter";
  EXPECT_EQ(ids({{"StartTime", "2000-01-01T00:00:00Z"}}), all);
  EXPECT_EQ(ids({{"EndTime", "2000-01-01T00:00Z"}}), Ids{});
  const Json page = daemon.must("DescribeTasks", {{"PageSize", "1"}, {"PageNumber", "2"}});
  EXPECT_EQ(page["TotalCount"], 3);
  ASSERT_EQ(page["TaskSet"]["Task"].size(), 1U);
  EXPECT_EQ(page["TaskSet"]["Task"][0]["TaskId"], second) << "newest first";
  EXPECT_REFUSED(daemon.ask("DescribeTasks", {{"StartTime", "today"}}), 400,
                 "InvalidStartTime.Malformed");
  std::string many = first;
  for (int i = 0; i < 100; ++i) many += "," + first;
  EXPECT_REFUSED(daemon.ask("DescribeTasks", {{"TaskIds", many}}), 400, "InvalidParameter");
}

TEST_F(TaskActions, NoneIsCancelledAndUnknownOnesAreNotFound) {
  Control::Options options{.seed = 42};
  options.places = *Places::parse({"r1", "r2"}, {});
  Daemon daemon(root_.path(), options);
  const std::string id = change(daemon, disk_of(daemon), "PL2");
  EXPECT_REFUSED(daemon.ask("CancelTask", {{"TaskId", id}}), 403,
                 "InvalidTaskId.IncorrectTaskStatus");
  for (const char* action : {"CancelTask", "DescribeTaskAttribute"}) {
    EXPECT_REFUSED(daemon.ask(action, {{"TaskId", "t-none"}}), 400, "InvalidTaskId.NotFound");
    EXPECT_REFUSED(daemon.ask(action, {{"TaskId", id}, {"RegionId", "r2"}}), 400,
                   "InvalidTaskId.NotFound");
    EXPECT_REFUSED(daemon.ask(action), 400, "MissingParameter");
  }
}

TEST_F(TaskActions, ARefusalLeavesNoTask) {
  Daemon daemon(root_.path());
  const std::string disk = disk_of(daemon);
  const Params wanted{{"DiskId", disk}, {"PerformanceLevel", "PL2"}};
  Params dry = wanted;
  dry["DryRun"] = "true";
  EXPECT_REFUSED(daemon.ask("ModifyDiskSpec", dry), 400, "DryRunOperation");
  daemon.host.fail_next("apply", Errc::kNoSpace);
  EXPECT_REFUSED(daemon.ask("ModifyDiskSpec", wanted), 503, "ServiceUnavailable");
  EXPECT_EQ(daemon.disk(disk)["PerformanceLevel"], "PL1");
  EXPECT_TRUE(tasks(daemon).empty());
}

TEST_F(TaskActions, WhoDoesNotWaitSeesItGoOnAndEnd) {
  Daemon daemon(root_.path());
  const std::string disk = disk_of(daemon);
  daemon.attach(disk);
  const std::string id = change(daemon, disk, "PL2", {{"Wait", "false"}});
  Json one = show(daemon, id);
  EXPECT_EQ(one["TaskStatus"], "Processing");
  EXPECT_EQ(one["TaskProcess"], "0%");
  EXPECT_EQ(one["FinishedTime"], "");
  EXPECT_EQ(one["OperationProgressSet"]["OperationProgress"][0]["OperationStatus"], "Processing");
  wait_for_all(daemon);
  EXPECT_EQ(show(daemon, id)["TaskStatus"], "Finished");
  EXPECT_EQ(daemon.host.served().at(disk).limits, (DiskLimits{26'800, 370 * 1_MiB}));

  daemon.host.fail_next("apply", Errc::kNoSpace);
  const std::string failed = change(daemon, disk, "PL1", {{"Wait", "false"}});
  wait_for_all(daemon);
  one = show(daemon, failed);
  EXPECT_EQ(one["TaskStatus"], "Failed");
  EXPECT_EQ(one["FailedCount"], 1);
  EXPECT_NE(one["FinishedTime"], "");
  const Json part = one["OperationProgressSet"]["OperationProgress"][0];
  EXPECT_EQ(part["OperationStatus"], "Failed");
  EXPECT_EQ(part["ErrorCode"], "ServiceUnavailable");
  EXPECT_NE(part["ErrorMsg"], "");
  EXPECT_EQ(daemon.disk(disk)["PerformanceLevel"], "PL2");
}

TEST_F(TaskActions, OneThatACrashCutOffIsFinished) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Daemon daemon(root_.path());
    change(daemon, disk_of(daemon), "PL2", {{"Wait", "false"}});
    _exit(0);  // Between the answer and the rest.
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  Daemon daemon(root_.path());
  const Json list = tasks(daemon);
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0]["TaskStatus"], "Finished");
  EXPECT_EQ(daemon.disk(list[0]["ResourceId"])["PerformanceLevel"], "PL2");
}

}  // namespace
}  // namespace clouddisk
