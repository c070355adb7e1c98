// Rollbacks and exchanges of system disks whose callers do not wait: ReIniting, or both disks,
// until it is done; after a death or a failure that passes it is done, after another one taken
// back.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/image_fixture.h"

namespace clouddisk {
namespace {

class RollbackPromises : public ImageTest {
 protected:
  struct Disk {
    std::string id, snapshot;
  };
  // With a snapshot, and a client's data in its storage.
  static Disk make_disk(Daemon& daemon) {
    Disk disk{daemon.create_disk(), {}};
    daemon.attach(disk.id);
    disk.snapshot = daemon.must("CreateSnapshot", {{"DiskId", disk.id}})["SnapshotId"];
    EXPECT_TRUE(daemon.capture(disk.snapshot));
    daemon.must("DetachDisk", {{"DiskId", disk.id}, {"InstanceId", "i-local"}});
    daemon.host.mark(disk.id);
    return disk;
  }
  static Params reset(const Disk& disk) {
    return {{"Action", "ResetDisk"},
            {"DiskId", disk.id},
            {"SnapshotId", disk.snapshot},
            {"Wait", "false"}};
  }
  // A stopped instance, its system disk, and the image of which it is to get another.
  struct Exchange {
    std::string instance, old, image;
  };
  static Exchange prepare_exchange(Daemon& daemon) {
    const std::string instance = run(daemon);
    const std::string old = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
    const std::string image = make(daemon, {{"SnapshotId", snapshot_of_system(daemon, instance)}});
    daemon.must("StopInstance", {{"InstanceId", instance}});
    return {instance, old, image};
  }
  static Params replace(const std::string& instance, const std::string& image) {
    return {{"Action", "ReplaceSystemDisk"},
            {"InstanceId", instance},
            {"ImageId", image},
            {"Wait", "false"}};
  }
  static void wait_for_all(Daemon& daemon) {
    daemon.must("ModifyInstanceLimits", {{"InstanceId", "i-local"}, {"IopsLimit", "0"}});
  }
  static Task<void> pause(Ring& ring) { co_await ring.sleep_for(std::chrono::milliseconds(1)); }
  static void tick(Daemon& daemon, int ticks) {
    Ring& ring = *daemon.machine.ring;
    ring.block_on(pause(ring));
    ring.block_on(daemon.control->keep_schedule(ring.wall_now() + std::chrono::hours(ticks)));
  }
  // The process dies at each step of the request in turn, which the next life finds.
  void die_at_each_step(const Params& request, const std::function<void(Daemon&)>& check) {
    const std::filesystem::path before = root_.path() / "before";
    std::filesystem::rename(life(), before);
    for (unsigned step = 1;; ++step) {
      ASSERT_LT(step, 100U);
      std::filesystem::remove_all(life());
      std::filesystem::copy(before, life(), std::filesystem::copy_options::recursive);
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        Daemon daemon(life());
        daemon.host.crash_after(step);
        daemon.ask(request);
        wait_for_all(daemon);
        _exit(0);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status));
      SCOPED_TRACE(step);
      Daemon daemon(life());
      check(daemon);
      if (WEXITSTATUS(status) == 0) return;
      ASSERT_EQ(WEXITSTATUS(status), 137);
    }
  }
  std::filesystem::path life() { return root_.path() / "life"; }
};

TEST_F(RollbackPromises, ADiskIsReInitingUntilItsStorageIsMade) {
  Daemon daemon(root_.path());
  const Disk disk = make_disk(daemon);
  daemon.must("ResetDisk", reset(disk));
  EXPECT_EQ(daemon.disk(disk.id)["Status"], "ReIniting");
  // The next change waits for it.
  daemon.must("AttachDisk", {{"DiskId", disk.id}, {"InstanceId", "i-local"}});
  EXPECT_EQ(daemon.host.served().at(disk.id).storage, disk.id + ".1");
  EXPECT_EQ(daemon.host.served().at(disk.id).base_snapshot, disk.snapshot);
  EXPECT_TRUE(daemon.host.is_marked(disk.id)) << "what was before can be returned to";
}

TEST_F(RollbackPromises, WhoWaitsSeesItDone) {
  Daemon daemon(root_.path());
  const Disk disk = make_disk(daemon);
  Params request = reset(disk);
  request["Wait"] = "true";
  daemon.must("ResetDisk", request);
  EXPECT_EQ(daemon.disk(disk.id)["Status"], "Available");
}

TEST_F(RollbackPromises, WhatCanNotBeMadeIsTakenBack) {
  Daemon daemon(root_.path());
  const Disk disk = make_disk(daemon);
  daemon.host.fail_next("create", Errc::kNoSpace);
  daemon.must("ResetDisk", reset(disk));
  wait_for_all(daemon);
  EXPECT_EQ(daemon.disk(disk.id)["Status"], "Available");
  EXPECT_REFUSED(daemon.ask("UndoResetDisk", {{"DiskId", disk.id}}), 403,
                 "IncorrectDiskStatus.NothingToUndo");
  daemon.attach(disk.id);
  EXPECT_EQ(daemon.host.served().at(disk.id).storage, disk.id);
  EXPECT_TRUE(daemon.host.is_marked(disk.id));
}

TEST_F(RollbackPromises, WhatFailsForAMomentIsTriedAgainAndNobodyStartsWithoutIt) {
  Daemon daemon(root_.path());
  const std::string instance = run(daemon, {{"DataDisk.1.Size", "20"}});
  daemon.must("StopInstance", {{"InstanceId", instance}});
  const std::string disk = disks_of(daemon, instance)["/dev/xvdb"]["DiskId"];
  daemon.host.fail_next("create", Errc::kReplicasLost, 12);
  daemon.must("ReInitDisk", {{"DiskId", disk}, {"Wait", "false"}});
  const std::string system = disks_of(daemon, instance)["/dev/xvda"]["DiskId"];
  const std::vector<Params> starts = {
      {{"Action", "StartInstance"}, {"InstanceId", instance}},
      {{"Action", "StartInstances"}, {"InstanceId.1", instance}},
      {{"Action", "ReInitDisk"}, {"DiskId", system}, {"AutoStartInstance", "true"}}};
  for (const Params& start : starts) {
    EXPECT_REFUSED(daemon.ask(start), 403, "IncorrectDiskStatus");
  }
  EXPECT_TRUE(daemon.host.served().empty());
  for (int i = 1; i < 20 && daemon.host.failures_left() > 0; ++i) tick(daemon, i);
  tick(daemon, 20);
  EXPECT_EQ(daemon.disk(disk)["Status"], "In_use");
  daemon.must("StartInstance", {{"InstanceId", instance}});
  EXPECT_EQ(daemon.host.served().at(disk).storage, disk + ".1");
}

TEST_F(RollbackPromises, WhatIsTakenBackCanStillUndoTheRollbackBefore) {
  Daemon daemon(root_.path());
  const Disk disk = make_disk(daemon);
  daemon.must("ResetDisk", reset(disk));
  wait_for_all(daemon);
  daemon.host.fail_next("create", Errc::kNoSpace);
  daemon.ask(reset(disk));
  wait_for_all(daemon);
  EXPECT_EQ(daemon.disk(disk.id)["Status"], "Available");
  daemon.must("UndoResetDisk", {{"DiskId", disk.id}});
  daemon.attach(disk.id);
  EXPECT_EQ(daemon.host.served().at(disk.id).storage, disk.id);
  EXPECT_TRUE(daemon.host.is_marked(disk.id));
}

// For longer than the rollback could be undone.
TEST_F(RollbackPromises, WhatIsTakenBackLateHasItsContent) {
  Daemon daemon(root_.path());
  const Disk disk = make_disk(daemon);
  daemon.host.fail_next("create", Errc::kReplicasLost, 4);
  daemon.must("ResetDisk", reset(disk));
  for (int i = 1; i < 30 && daemon.host.failures_left() > 0; ++i) {
    tick(daemon, 25 * i);
    EXPECT_TRUE(daemon.host.stored().contains(disk.id)) << i;
  }
  daemon.host.fail_next("create", Errc::kNoSpace);
  tick(daemon, 1000);
  tick(daemon, 2000);
  EXPECT_EQ(daemon.disk(disk.id)["Status"], "Available");
  daemon.attach(disk.id);
  EXPECT_TRUE(daemon.host.is_marked(daemon.host.served().at(disk.id).storage));
}

TEST_F(RollbackPromises, AnInstanceMayGoWhileADiskThatStaysIsReIniting) {
  Daemon daemon(root_.path());
  const std::string instance = run(daemon, {{"DataDisk.1.Size", "20"}});
  daemon.must("StopInstance", {{"InstanceId", instance}});
  const std::string disk = disks_of(daemon, instance)["/dev/xvdb"]["DiskId"];
  daemon.must("ModifyDiskAttribute", {{"DiskId", disk}, {"DeleteWithInstance", "false"}});
  daemon.host.fail_next("create", Errc::kReplicasLost, 6);
  daemon.must("ReInitDisk", {{"DiskId", disk}, {"Wait", "false"}});
  daemon.must("DeleteInstance", {{"InstanceId", instance}});
  for (int i = 1; i < 20 && daemon.disk(disk)["Status"] != "Available"; ++i) tick(daemon, i);
  EXPECT_EQ(daemon.disk(disk)["Status"], "Available");
  EXPECT_EQ(daemon.host.stored(), (std::set<std::string>{disk, disk + ".1"}));
  daemon.must("DeleteDisk", {{"DiskId", disk}});
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(RollbackPromises, ADiskThatWasGivenUpHindersNobody) {
  Daemon daemon(root_.path());
  const auto [instance, old, image] = prepare_exchange(daemon);
  daemon.host.fail_next("create", Errc::kNoSpace);
  daemon.host.fail_next("delete", Errc::kIo, 9);
  const std::string wanted = daemon.must("ReplaceSystemDisk", replace(instance, image))["DiskId"];
  daemon.must("StartInstance", {{"InstanceId", instance}});
  ASSERT_GT(daemon.host.failures_left(), 0U) << "it is still there";
  EXPECT_EQ(daemon.host.served().size(), 1U);
  EXPECT_TRUE(daemon.host.served().contains(old));
  EXPECT_FALSE(daemon.host.served().contains(wanted));
}

TEST_F(RollbackPromises, ARollbackThatWasAnsweredIsDoneAfterADeath) {
  Disk disk;
  {
    Daemon daemon(life());
    disk = make_disk(daemon);
  }
  bool before = false, after = false;
  die_at_each_step(reset(disk), [&](Daemon& daemon) {
    EXPECT_EQ(daemon.disk(disk.id)["Status"], "Available");
    daemon.attach(disk.id);
    const std::string storage = daemon.host.served().at(disk.id).storage;
    (storage == disk.id ? before : after) = true;
    EXPECT_TRUE(daemon.host.is_marked(disk.id));
    daemon.must("DetachDisk", {{"DiskId", disk.id}, {"InstanceId", "i-local"}});
    daemon.must("DeleteDisk", {{"DiskId", disk.id}});
    EXPECT_TRUE(daemon.host.stored().empty());
  });
  EXPECT_FALSE(before) << "on record before anything is asked of the host";
  EXPECT_TRUE(after);
}

TEST_F(RollbackPromises, AnExchangeOfSystemDisksThatWasAnsweredIsDoneAfterADeath) {
  std::string instance, image, old;
  {
    Daemon daemon(life());
    const Exchange exchange = prepare_exchange(daemon);
    instance = exchange.instance;
    old = exchange.old;
    image = exchange.image;
  }
  die_at_each_step(replace(instance, image), [&](Daemon& daemon) {
    EXPECT_TRUE(daemon.disk(old).is_null());
    auto disks = disks_of(daemon, instance);
    ASSERT_EQ(disks.size(), 1U);
    EXPECT_EQ(disks["/dev/xvda"]["Status"], "In_use");
    EXPECT_EQ(disks["/dev/xvda"]["ImageId"], image);
    EXPECT_EQ(daemon.host.stored().size(), 1U);
    daemon.must("StartInstance", {{"InstanceId", instance}});
    EXPECT_EQ(daemon.host.served().size(), 1U);
  });
}

TEST_F(RollbackPromises, AnExchangeThatCanNotBeMadeLeavesTheOldOne) {
  Daemon daemon(root_.path());
  const auto [instance, old, image] = prepare_exchange(daemon);
  daemon.host.fail_next("create", Errc::kNoSpace);
  const std::string wanted = daemon.must("ReplaceSystemDisk", replace(instance, image))["DiskId"];
  wait_for_all(daemon);
  EXPECT_TRUE(daemon.disk(wanted).is_null());
  EXPECT_EQ(disks_of(daemon, instance)["/dev/xvda"]["DiskId"], old);
  daemon.must("StartInstance", {{"InstanceId", instance}});
  EXPECT_EQ(daemon.host.served().at(old).storage, old);
}

// What follows has the instance while the old disk is still on its way out.
TEST_F(RollbackPromises, AnInstanceStartsWhileItsOldSystemDiskGoes) {
  Daemon daemon(root_.path());
  const auto [instance, old, image] = prepare_exchange(daemon);
  Ring& ring = *daemon.machine.ring;
  bool held = false, release = false;
  daemon.host.hold_deletions([&]() -> Task<void> {
    held = true;
    while (!release) co_await ring.sleep_for(std::chrono::milliseconds(1));
  });
  const Json made = daemon.must("ReplaceSystemDisk", replace(instance, image));
  daemon.must("StartInstance", {{"InstanceId", instance}});  // It waited for the exchange.
  EXPECT_TRUE(daemon.host.served().contains(made["DiskId"]));
  EXPECT_TRUE(daemon.host.stored().contains(old));
  release = true;
  wait_for_all(daemon);
  daemon.release(old);
  EXPECT_TRUE(held);
  EXPECT_FALSE(daemon.host.stored().contains(old));
}

// What an earlier life of the daemon could not remove is not forgotten with the disk's record.
TEST_F(RollbackPromises, ADiskThatIsDeletedLeavesNoStorageOfAnEarlierLife) {
  const auto storages_of = [](Daemon& daemon, const std::string& disk) {
    std::vector<std::string> found;
    for (const std::string& storage : daemon.host.stored()) {
      if (storage.starts_with(disk)) found.push_back(storage);
    }
    return found;
  };
  std::string id;
  {
    Daemon daemon(life());
    const Disk disk = make_disk(daemon);
    id = disk.id;
    daemon.host.fail_next("delete", Errc::kIo, 1000);
    for (int i = 0; i < 2; ++i) {
      daemon.must("ResetDisk", {{"DiskId", id}, {"SnapshotId", disk.snapshot}});
      wait_for_all(daemon);
    }
    daemon.must("DeleteDisk", {{"DiskId", id}});
    wait_for_all(daemon);
    EXPECT_EQ(storages_of(daemon, id), std::vector<std::string>({id, id + ".1", id + ".2"}));
  }
  Daemon daemon(life());
  wait_for_all(daemon);
  tick(daemon, 1);
  wait_for_all(daemon);
  EXPECT_EQ(storages_of(daemon, id), std::vector<std::string>());
  const auto disks = daemon.must("DescribeDisks", {});
  EXPECT_EQ(disks["TotalCount"], 0);
}

}  // namespace
}  // namespace clouddisk
