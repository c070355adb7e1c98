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
  static Params two_disks() {
    return {{"ImageId", "m"}, {"InstanceType", "ecs.x"}, {"DataDisk.1.Size", "20"}};
  }
  static std::string run_two_disks(Daemon& daemon) {
    Params wanted = two_disks();
    wanted["Wait"] = "false";
    return daemon.must("RunInstances", std::move(wanted))["InstanceIdSets"]["InstanceIdSet"][0];
  }
  static std::string instance_status(Daemon& daemon, const std::string& id) {
    const Json found = daemon.must("DescribeInstances", {{"InstanceIds", "[\"" + id + "\"]"}});
    const Json& list = found["Instances"]["Instance"];
    return list.empty() ? "" : list[0].value("Status", "");
  }
  static Task<void> pause(Ring& ring) { co_await ring.sleep_for(std::chrono::milliseconds(1)); }
  // Some time passes, and the daemon looks after what is due, as it does every second.
  static void tick(Daemon& daemon) {
    Ring& ring = *daemon.machine.ring;
    ring.block_on(pause(ring));
    ring.block_on(
        daemon.control->keep_schedule(ring.wall_now() + std::chrono::seconds(6) * ++ticks));
  }
  static inline int ticks = 0;
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

TEST_F(PromisesTest, ASnapshotGroupIsGoneForItsCallerBeforeItsContentIs) {
  Daemon daemon(root_.path());
  const std::string disk = daemon.create_disk();
  daemon.must("AttachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
  const std::string group =
      daemon.must("CreateSnapshotGroup", {{"InstanceId", "i-local"}}).value("SnapshotGroupId", "");
  int pauses = 100;
  daemon.host.take_time([&]() -> Task<void> {
    while (--pauses > 0) co_await pause(*daemon.machine.ring);
  });
  daemon.must("DeleteSnapshotGroup", {{"SnapshotGroupId", group}, {"Wait", "false"}});
  EXPECT_GT(pauses, 0) << "the host was waited for";
  EXPECT_EQ(daemon.must("DescribeSnapshots")["TotalCount"], 0);
  EXPECT_EQ(daemon.must("DescribeSnapshotGroups")["SnapshotGroups"]["SnapshotGroup"].size(), 0U);
  wait_for_all(daemon);
  EXPECT_LE(pauses, 0);
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
  const std::string id = run_two_disks(daemon);
  const auto status = [&] { return instance_status(daemon, id); };
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

TEST_F(PromisesTest, WhatIsExportedKeepsItsContentWhenTheRestFails) {
  // Replicas that come back, or a disk that can't be exported for some time.
  for (const Errc code : {Errc::kReplicasLost, Errc::kCorrupt}) {
    Daemon daemon(root_.path() / std::string(name(code)));
    daemon.host.write_to_all();
    daemon.host.fail_after(1, "serve", code, 3);
    const std::string id = run_two_disks(daemon);
    // Nobody asks for anything but how it is.
    for (int i = 0; i < 100 && instance_status(daemon, id) == "Pending"; ++i) tick(daemon);
    if (code == Errc::kCorrupt) {
      EXPECT_EQ(instance_status(daemon, id), "Stopped");
      for (int i = 0; i < 9 && daemon.host.failures_left() > 0; ++i) {
        daemon.ask("StartInstance", {{"InstanceId", id}});
      }
      if (instance_status(daemon, id) != "Running") {
        daemon.must("StartInstance", {{"InstanceId", id}});
      }
    }
    EXPECT_EQ(instance_status(daemon, id), "Running");
    EXPECT_EQ(daemon.host.served().size(), 2U);
    EXPECT_EQ(daemon.host.lost(), 0U);
  }
}

TEST_F(PromisesTest, AnInstanceThatCouldNotStartOnRecordIsServedBeforeItRuns) {
  Daemon daemon(root_.path());
  const std::string id = run_two_disks(daemon);
  wait_for_all(daemon);
  daemon.must("StopInstance", {{"InstanceId", id}});
  // Neither started nor back to Stopped: as a crash leaves it, but the daemon lives.
  daemon.host.fail_next("serve", Errc::kReplicasLost);
  daemon.host.fail_next("stop", Errc::kIo);
  daemon.must("StartInstance", {{"InstanceId", id}, {"Wait", "false"}});
  for (int i = 0; i < 20; ++i) tick(daemon);
  const bool runs = instance_status(daemon, id) == "Running";
  EXPECT_EQ(daemon.host.served().size(), runs ? 2U : 0U) << instance_status(daemon, id);
}

TEST_F(PromisesTest, WhatCanNotBeRemovedAtOnceGoesLaterAndIsNotMadeAgain) {
  for (const bool waits : {false, true}) {
    Daemon daemon(root_.path() / (waits ? "waits" : "not"));
    daemon.host.fail_after(1, "create", Errc::kNoSpace);
    daemon.host.fail_next("delete", Errc::kIo);
    Params wanted = two_disks();
    wanted["Wait"] = waits ? "true" : "false";
    wanted["ClientToken"] = kToken;
    wanted["Action"] = "RunInstances";
    EXPECT_EQ(daemon.ask(wanted).ok(), !waits);
    for (int i = 0; i < 100 && !daemon.host.stored().empty(); ++i) tick(daemon);
    EXPECT_EQ(daemon.host.failures_left(), 0U);
    EXPECT_TRUE(daemon.host.stored().empty());
    EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 0);
    EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 1) << "i-local alone";
    // The token is as good as new.
    EXPECT_TRUE(daemon.ask(wanted).ok());
    wait_for_all(daemon);
    EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 2);
  }
}

TEST_F(PromisesTest, TheSameTokenMayWaitOrNot) {
  Daemon daemon(root_.path());
  Params wanted = new_disk();
  wanted["ClientToken"] = kToken;
  const std::string id = daemon.create_disk(wanted);
  wanted["Wait"] = "true";
  EXPECT_EQ(daemon.create_disk(wanted), id);
}

TEST_F(PromisesTest, ADiskOfANewSnapshotWaitsUntilItIsThere) {
  Daemon daemon(root_.path());
  const std::string source = daemon.create_disk();
  daemon.attach(source);
  const std::string snapshot =
      daemon.must("CreateSnapshot", {{"DiskId", source}, {"Wait", "false"}})["SnapshotId"];
  const Json made = daemon.must(
      "CreateDisk", {{"SnapshotId", snapshot}, {"InstanceId", "i-local"}, {"Wait", "false"}});
  wait_for_all(daemon);
  EXPECT_EQ(daemon.disk(made["DiskId"])["Status"], "In_use");
}

TEST_F(PromisesTest, AnInstanceThatWasStartingAtADeathAndCanNotBeServedIsStoppedAndCanBeStarted) {
  std::string id;
  {
    Daemon daemon(root_.path());
    id = run_two_disks(daemon);
    wait_for_all(daemon);
    daemon.must("StopInstance", {{"InstanceId", id}});
  }
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Daemon daemon(root_.path());
    daemon.host.crash_at_next();  // Starting is on record, nothing is served.
    daemon.ask("StartInstance", {{"InstanceId", id}, {"Wait", "false"}});
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137);
  Daemon daemon(root_.path(), {.seed = 7}, 0,
                [](FakeHost& host) { host.fail_after(1, "serve", Errc::kCorrupt); });
  EXPECT_EQ(instance_status(daemon, id), "Stopped");
  EXPECT_TRUE(daemon.host.served().empty());
  daemon.must("StartInstance", {{"InstanceId", id}});
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
      daemon.host.crash_at_next();  // Between the answer and the rest.
      daemon.ask(request);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137);
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

// What is served at the start may be hydrated before the start is through with it.
TEST_F(PromisesOfTheDeadTest, AreKeptBesideAHydrationThatEndsAtOnce) {
  std::string snapshot;
  {
    Daemon daemon(root_.path());
    const std::string source = daemon.create_disk();
    daemon.attach(source);
    snapshot = daemon.must("CreateSnapshot", {{"DiskId", source}})["SnapshotId"];
    EXPECT_TRUE(daemon.capture(snapshot));
  }
  die_after({{"Action", "CreateDisk"},
             {"SnapshotId", snapshot},
             {"InstanceId", "i-local"},
             {"Wait", "false"}});
  Daemon daemon(root_.path(), {.seed = 7}, 0, [](FakeHost& host) { host.hydrate_at_once(); });
  wait_for_all(daemon);
  const Json disks = daemon.must("DescribeDisks")["Disks"]["Disk"];
  ASSERT_EQ(disks.size(), 2U);
  for (const Json& disk : disks) {
    EXPECT_EQ(disk["Status"], "In_use") << disk.dump();
    EXPECT_EQ(disk["Hydration"]["SnapshotId"], "") << disk.dump();
  }
}

// The one that keeps them dies as well, at any step, and so does the next: what was exported in
// between has been written to.
TEST_F(PromisesOfTheDeadTest, AreKeptThroughFurtherDeathsWithWhatWasWritten) {
  constexpr unsigned kStepsMax = 100;
  for (unsigned crash_at = 1; crash_at < kStepsMax; ++crash_at) {
    TempDirectory root;
    const auto live = [&root](unsigned step, const Params& request) {
      const pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0) {
        Daemon daemon(root.path(), {.seed = 42}, step, [](FakeHost& host) { host.write_to_all(); });
        if (!request.empty()) daemon.ask(request);
        _exit(0);
      }
      int status = 0;
      CHECK(waitpid(child, &status, 0) == child);
      CHECK(WIFEXITED(status));
      return WEXITSTATUS(status);
    };
    Params request = two_disks();
    request["Action"] = "RunInstances";
    request["Wait"] = "false";
    ASSERT_EQ(live(0, request), 0);
    const int ended = live(crash_at, {});
    Daemon daemon(root.path());
    EXPECT_EQ(daemon.host.lost(), 0U) << "step " << crash_at;
    EXPECT_EQ(daemon.host.served().size(), 2U) << "step " << crash_at;
    if (ended == 0) break;
    ASSERT_EQ(ended, 137);
    ASSERT_LT(crash_at + 1, kStepsMax);
  }
}

TEST_F(PromisesOfTheDeadTest, AreGivenUpWhereTheyCanNotBeKept) {
  Params request = two_disks();
  request["Action"] = "RunInstances";
  request["Wait"] = "false";
  request["ClientToken"] = kToken;
  die_after(request);
  Daemon daemon(root_.path(), {.seed = 7}, 0,
                [](FakeHost& host) { host.fail_after(1, "create", Errc::kNoSpace); });
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 0);
  EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 1) << "i-local alone";
  EXPECT_TRUE(daemon.host.stored().empty());
  // The token is not answered with what is not there.
  EXPECT_TRUE(daemon.ask(request).ok());
  wait_for_all(daemon);
  EXPECT_EQ(daemon.must("DescribeInstances")["TotalCount"], 2);
}

}  // namespace
}  // namespace clouddisk
