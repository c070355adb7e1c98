// Callers that do not wait: they are answered when it is on record, and what was answered is done.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

class PromisesTest : public ControlTest {
 protected:
  static constexpr const char* kToken = "a-token";
  static Params new_disk() {
    return {{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"Wait", "false"}};
  }
  // Whatever goes on after its answer is over: this waits for all of it.
  static void wait_for_all(Daemon& daemon) {
    daemon.must("ModifyInstanceLimits", {{"InstanceId", "i-local"}, {"IopsLimit", "0"}});
  }
};

TEST_F(PromisesTest, ANewDiskIsCreatingWhenItsCallerIsAnswered) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk(new_disk());
  EXPECT_EQ(daemon.disk(id)["Status"], "Creating");
  wait_for_all(daemon);
  EXPECT_EQ(daemon.disk(id)["Status"], "Available");
  EXPECT_TRUE(daemon.host.stored().contains(id));
}

TEST_F(PromisesTest, TheNextChangeOfADiskWaitsForTheOneBefore) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk(new_disk());
  const Params where = {{"DiskId", id}, {"InstanceId", "i-local"}, {"Wait", "false"}};
  daemon.must("AttachDisk", where);
  EXPECT_EQ(daemon.disk(id)["Status"], "Attaching");
  daemon.must("DetachDisk", where);
  EXPECT_EQ(daemon.disk(id)["Status"], "Detaching");
  daemon.must("DeleteDisk", {{"DiskId", id}, {"Wait", "false"}});
  EXPECT_TRUE(daemon.disk(id).is_null());
  wait_for_all(daemon);
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(PromisesTest, ADiskThatCanNotBeMadeVanishesAndItsTokenMakesAnother) {
  Daemon daemon(root_.path());
  Params wanted = new_disk();
  wanted["ClientToken"] = kToken;
  daemon.host.fail_next("create", Errc::kNoSpace);
  const std::string first = daemon.create_disk(wanted);
  wait_for_all(daemon);
  EXPECT_TRUE(daemon.disk(first).is_null());
  const std::string second = daemon.create_disk(wanted);
  EXPECT_NE(second, first);
  EXPECT_EQ(daemon.create_disk(wanted), second);
  wait_for_all(daemon);
  EXPECT_EQ(daemon.host.stored(), std::set<std::string>{second});
}

TEST_F(PromisesTest, ADiskThatCanNotBeServedIsAvailableAgain) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  daemon.host.fail_next("serve", Errc::kReplicasLost);
  daemon.must("AttachDisk", {{"DiskId", id}, {"InstanceId", "i-local"}, {"Wait", "false"}});
  wait_for_all(daemon);
  EXPECT_EQ(daemon.disk(id)["Status"], "Available");
  EXPECT_EQ(daemon.disk(id)["InstanceId"], "");
}

TEST_F(PromisesTest, InstancesArePendingThenRunning) {
  Daemon daemon(root_.path());
  const Json made = daemon.must("RunInstances", {{"ImageId", "m"},
                                                 {"InstanceType", "ecs.x"},
                                                 {"DataDisk.1.Size", "20"},
                                                 {"Wait", "false"}});
  const std::string id = made["InstanceIdSets"]["InstanceIdSet"][0];
  const auto status = [&] {
    const Json found = daemon.must("DescribeInstances", {{"InstanceIds", "[\"" + id + "\"]"}});
    return found["Instances"]["Instance"][0].value("Status", "");
  };
  EXPECT_EQ(status(), "Pending");
  daemon.must("StopInstance", {{"InstanceId", id}, {"Wait", "false"}});
  EXPECT_EQ(status(), "Stopping");
  wait_for_all(daemon);
  EXPECT_EQ(status(), "Stopped");
  daemon.must("StartInstance", {{"InstanceId", id}, {"Wait", "false"}});
  EXPECT_EQ(status(), "Starting");
  wait_for_all(daemon);
  EXPECT_EQ(status(), "Running");
  EXPECT_EQ(daemon.host.served().size(), 2U);
}

// What a daemon that died left: on record and answered, nothing made.
class PromisesOfTheDeadTest : public PromisesTest {
 protected:
  void die_after(const Params& request) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Daemon daemon(root_.path());
      daemon.ask(request);
      _exit(0);  // Between the answer and the rest.
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
};

TEST_F(PromisesOfTheDeadTest, AreKeptAtTheNextStart) {
  Params request = new_disk();
  request["Action"] = "CreateDisk";
  die_after(request);
  Daemon daemon(root_.path());
  const Json disks = daemon.must("DescribeDisks");
  ASSERT_EQ(disks["TotalCount"], 1);
  EXPECT_EQ(disks["Disks"]["Disk"][0]["Status"], "Available");
}

TEST_F(PromisesOfTheDeadTest, AreGivenUpWhereTheyCanNotBeKept) {
  Params request{{"Action", "RunInstances"}, {"ImageId", "m"}, {"InstanceType", "ecs.x"}};
  request["DataDisk.1.Size"] = "20";
  request["Wait"] = "false";
  die_after(request);
  Daemon daemon(root_.path(), {.seed = 7}, 0, [](FakeHost& host) {
    host.fail_after(1, "create", Errc::kNoSpace);
  });
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 0);
  EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 1) << "i-local alone";
  EXPECT_TRUE(daemon.host.stored().empty());
}

}  // namespace
}  // namespace clouddisk
