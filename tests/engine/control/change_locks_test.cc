// Changes beside each other: the locks, and many random ones at once on the real Control.
#include "engine/control/change_locks.h"

#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/engine/control/control_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

struct Holders {
  std::multiset<std::string> keys, shared;
  unsigned most_sharers = 0;
  unsigned all = 0, some = 0, most = 0, finished = 0;
};

Task<void> hold(Ring& ring, ChangeLocks& locks, ChangeLocks::Keys keys, ChangeLocks::Keys shared,
                Holders& holders) {
  const bool all = keys.empty();
  ChangeLocks::Keys wanted = keys, sources = shared;
  Task<ChangeLocks::Guard> asked =
      all ? locks.lock_all() : locks.lock(std::move(wanted), std::move(sources));
  const auto guard = co_await std::move(asked);
  EXPECT_EQ(holders.all, 0U) << "whoever has everything is alone";
  if (all) {
    EXPECT_EQ(holders.some, 0U);
  }
  for (const std::string& key : keys) {
    EXPECT_FALSE(holders.keys.contains(key)) << key;
    EXPECT_FALSE(holders.shared.contains(key)) << key;
  }
  for (const std::string& key : shared) {
    EXPECT_FALSE(holders.keys.contains(key)) << key;
    holders.most_sharers =
        std::max(holders.most_sharers, static_cast<unsigned>(holders.shared.count(key)) + 1);
  }
  holders.keys.insert(keys.begin(), keys.end());
  holders.shared.insert(shared.begin(), shared.end());
  ++(all ? holders.all : holders.some);
  holders.most = std::max(holders.most, holders.some);
  co_await ring.sleep_for(std::chrono::milliseconds(1));
  --(all ? holders.all : holders.some);
  for (const std::string& key : keys) holders.keys.erase(key);
  for (const std::string& key : shared) holders.shared.erase(holders.shared.find(key));
  ++holders.finished;
}

TEST(ChangeLocks, OnlyThoseThatHaveNothingInCommonAreHeldAtOnce) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  SimMachine machine(seed);
  SimRing ring(machine);
  ChangeLocks locks(ring);
  Holders holders;
  constexpr unsigned kCount = 1000;
  for (unsigned i = 0; i < kCount; ++i) {
    ChangeLocks::Keys keys, shared;
    if (!random.one_in(20)) {
      for (int k = 0; k < 2; ++k) keys.insert(std::to_string(random.below(20)));
      std::string source = std::to_string(random.below(25));
      if (!keys.contains(source)) shared.insert(std::move(source));
    }
    spawn(hold(ring, locks, std::move(keys), std::move(shared), holders));
  }
  ring.run_until([&holders] { return holders.finished == kCount; });
  EXPECT_GT(holders.most, 3U) << "some are";
  EXPECT_GT(holders.most_sharers, 1U);
}

Task<void> pass_a_moment(Ring& ring) {
  co_await ring.sleep_for(std::chrono::milliseconds(1));
}

Task<void> take_and_tell(Task<ChangeLocks::Guard> asked, std::optional<bool>& outdated) {
  const auto guard = co_await std::move(asked);
  outdated = guard.is_outdated();
}

TEST(ChangeLocks, WhoWaitsForWhatGoesAndWhatStaysAsksAnew) {
  SimMachine machine(1);
  SimRing ring(machine);
  ChangeLocks locks(ring);
  ChangeLocks::Guard holder = ring.block_on(locks.lock({"instance", "disk"}, {"image"}));
  std::optional<bool> both, both_for_sure, only_disk, another, image;
  spawn(take_and_tell(locks.lock_revisable({"instance", "disk"}, {}), both));
  spawn(take_and_tell(locks.lock({"instance", "disk"}), both_for_sure));
  spawn(take_and_tell(locks.lock_revisable({"disk"}, {}), only_disk));
  spawn(take_and_tell(locks.lock({"image"}), image));
  ring.block_on(pass_a_moment(ring));
  EXPECT_FALSE(both || both_for_sure || only_disk || image);
  holder.keep_only({"disk"});
  spawn(take_and_tell(locks.lock({"another"}), another));
  ring.block_on(pass_a_moment(ring));
  EXPECT_EQ(both, true);
  EXPECT_EQ(image, false);
  EXPECT_EQ(another, false);
  EXPECT_FALSE(both_for_sure || only_disk);
  holder.unlock();
  ring.block_on(pass_a_moment(ring));
  EXPECT_EQ(both_for_sure, false);
  EXPECT_EQ(only_disk, false);
}

class ManyChanges : public ControlTest {
 protected:
  // One client: random changes of the disks and instances that there are, whoever made them.
  Task<void> client(Daemon& daemon, Random random, unsigned& finished) {
    for (int i = 0; i < 100; ++i) {
      Params params = random_change(daemon, random);
      const std::string action = params["Action"], disk = params["DiskId"];
      if (disk.empty()) params.erase("DiskId");
      if (random.one_in(2)) params["Wait"] = "false";
      const Reply reply = co_await daemon.control->perform(std::move(params));
      EXPECT_LT(reply.http_status, 500) << action << reply.body;
      const Json body = Json::parse(reply.body, nullptr, false);
      if (body.contains("DiskId")) disks_.push_back(body["DiskId"]);
      if (body.contains("InstanceId")) instances_.push_back(body["InstanceId"]);
      if (body.contains("SnapshotId")) {
        snapshots_.push_back(body["SnapshotId"]);
        disk_of_[snapshots_.back()] = disk;
      }
      if (body.contains("SnapshotGroupId")) groups_.push_back(body["SnapshotGroupId"]);
      if (body.contains("ImageId")) images_.push_back(body["ImageId"]);
      if (body.contains("AutoSnapshotPolicyId")) policies_.push_back(body["AutoSnapshotPolicyId"]);
      if (body.contains("InstanceIdSets")) {
        instances_.push_back(body["InstanceIdSets"]["InstanceIdSet"][0]);
      }
      if (reply.http_status == 200) ++succeeded_[action];
    }
    ++finished;
  }
  // The host has hydrated what borrows, now and then.
  Task<void> hydrations(Daemon& daemon, Random random, const unsigned& finished, bool& over) {
    while (finished < kClients) {
      co_await daemon.machine.ring->sleep_for(std::chrono::milliseconds(2));
      std::vector<std::string> borrowing;
      for (const auto& [id, settings] : daemon.host.served()) {
        if (!settings.base_snapshot.empty()) borrowing.push_back(id);
      }
      if (borrowing.empty()) continue;
      std::string disk = one_of(borrowing, random);
      std::string storage = daemon.host.served().at(disk).storage;
      static_cast<void>(
          co_await daemon.host.events().hydrated(std::move(disk), std::move(storage)));
    }
    over = true;
  }
  // The host captures what there is, until the clients have finished.
  Task<void> captures(Daemon& daemon, Random random, const unsigned& finished, bool& over) {
    while (finished < kClients) {
      co_await daemon.machine.ring->sleep_for(std::chrono::milliseconds(1));
      std::vector<std::string> waiting;
      for (const auto& [id, snapshot] : daemon.host.snapshots()) {
        if (!captured_.contains(id)) waiting.push_back(id);
      }
      if (waiting.empty()) continue;
      const std::string id = one_of(waiting, random);
      const std::string disk = daemon.host.snapshots().at(id).disk_id;
      captured_.insert(id);
      CaptureResult result{id, 4096, 100};
      static_cast<void>(co_await daemon.host.events().captured(std::move(result)));
      std::string released;
      if (!random.one_in(4)) released = disk;
      co_await daemon.host.events().released(std::move(released));
    }
    over = true;
  }
  static std::string one_of(const std::vector<std::string>& ids, Random& random) {
    return ids.empty() ? "none" : ids[random.below(ids.size())];
  }
  Params random_change(Daemon& daemon, Random& random) {
    if (random.one_in(2)) return random_change_of_what_is_shared(daemon, random);
    const std::string disk = one_of(disks_, random);
    const std::string instance = one_of(instances_, random);
    const std::string snapshot = one_of(snapshots_, random);
    switch (random.below(23)) {
      case 0:
      case 1:
        return {{"Action", "CreateDisk"}, {"Size", "40"}, {"DiskCategory", "cloud_essd"}};
      case 2:
        return {{"Action", "CreateDisk"},
                {"Size", "40"},
                {"DiskCategory", "cloud_essd"},
                {"InstanceId", instance}};
      case 3:
        return {{"Action", "DeleteDisk"}, {"DiskId", disk}};
      case 4:
      case 5:
      case 6:
        return {{"Action", "AttachDisk"}, {"DiskId", disk}, {"InstanceId", instance}};
      case 7:
      case 8:
        return {{"Action", "DetachDisk"}, {"DiskId", disk}, {"InstanceId", instance}};
      case 9:
        return {{"Action", "ResizeDisk"},
                {"DiskId", disk},
                {"NewSize", std::to_string(random.between(41, 200))}};
      case 10:
        return {{"Action", "StopInstance"}, {"InstanceId", instance}};
      case 11:
        return {{"Action", "StartInstance"}, {"InstanceId", instance}};
      case 12:
      case 13:
      case 14:
        return {{"Action", "CreateSnapshot"}, {"DiskId", disk}};
      case 15:
      case 16:
        return {{"Action", "DeleteSnapshot"}, {"SnapshotId", snapshot}, {"Force", "true"}};
      case 17:
      case 18:
        return {{"Action", "CreateDisk"}, {"SnapshotId", snapshot}};
      case 19:
        return {{"Action", "RunInstances"},
                {"ImageId", "m"},
                {"InstanceType", "t"},
                {"SystemDisk.Category", "cloud_essd"},
                {"DataDisk.1.Category", "cloud_essd"},
                {"DataDisk.1.SnapshotId", snapshot},
                {"DataDisk.1.DeleteWithInstance", random.one_in(2) ? "true" : "false"}};
      case 20:
        return {{"Action", "DeleteInstance"}, {"InstanceId", instance}, {"Force", "true"}};
      case 21:
        return {{"Action", "TagResources"}, {"RegionId", "cn-local"}, {"ResourceType", "disk"},
                {"ResourceId.1", disk},     {"Tag.1.Key", "k"},       {"Tag.1.Value", "v"}};
      default:
        return {{"Action", "ModifyDiskAttribute"},
                {"DiskIds.1", disk},
                {"DiskName", "renamed"},
                {"DiskIds.2", disks_[random.below(disks_.size())]}};
    }
  }

  // Of rollbacks, groups, images, policies and several instances at once.
  Params random_change_of_what_is_shared(Daemon& daemon, Random& random) {
    const std::string disk = one_of(disks_, random);
    const std::string instance = one_of(instances_, random);
    const std::string snapshot = one_of(snapshots_, random);
    const std::string group = one_of(groups_, random);
    const std::string image = one_of(images_, random);
    const std::string policy = one_of(policies_, random);
    std::string free_disk = disk;
    for (int tries = 0; tries < 8 && daemon.host.served().contains(free_disk); ++tries) {
      free_disk = one_of(disks_, random);
    }
    switch (random.below(26)) {
      case 0:
      case 1:
      case 2: {
        // Most are gone, or of a disk that is in use, which is refused.
        const auto fits = [&](const std::string& id) {
          return daemon.host.snapshots().contains(id) && captured_.contains(id) &&
                 !daemon.host.served().contains(disk_of_[id]);
        };
        std::string id = snapshot;
        for (int tries = 0; tries < 20 && !fits(id); ++tries) id = one_of(snapshots_, random);
        const std::string own = disk_of_[id];
        return {{"Action", "ResetDisk"}, {"DiskId", own.empty() ? disk : own}, {"SnapshotId", id}};
      }
      case 3:
        return {{"Action", "ReInitDisk"},
                {"DiskId", free_disk},
                {"AutoStartInstance", random.one_in(2) ? "true" : "false"}};
      case 4:
      case 5:
        return {{"Action", "UndoResetDisk"}, {"DiskId", free_disk}};
      case 6:
        return {{"Action", "ResetDisks"},
                {"Disk.1.DiskId", disk},
                {"Disk.1.SnapshotId", snapshot},
                {"Disk.2.DiskId", one_of(disks_, random)},
                {"Disk.2.SnapshotId", one_of(snapshots_, random)}};
      case 7:
      case 8:
        return {{"Action", "CreateSnapshotGroup"}, {"InstanceId", instance}};
      case 9:
        return {{"Action", "CreateSnapshotGroup"},
                {"DiskId.1", disk},
                {"DiskId.2", one_of(disks_, random)}};
      case 10:
        return {{"Action", "DeleteSnapshotGroup"}, {"SnapshotGroupId", group}};
      case 11:
        return {{"Action", "ModifySnapshotGroup"}, {"SnapshotGroupId", group}, {"Name", "named"}};
      case 12:
        return {{"Action", "ModifySnapshotAttribute"},
                {"SnapshotId", snapshot},
                {"SnapshotName", "named"}};
      case 13:
      case 14:
        return {{"Action", "CreateImage"}, {"InstanceId", instance}};
      case 15:
        return {{"Action", "ModifyImageAttribute"}, {"ImageId", image}, {"Description", "of it"}};
      case 16:
        return {{"Action", "DeleteImage"}, {"ImageId", image}, {"Force", "true"}};
      case 17:
        return {{"Action", "RunInstances"},
                {"ImageId", image},
                {"InstanceType", "t"},
                {"SystemDisk.Category", "cloud_essd"}};
      case 18:
        return {{"Action", "CreateAutoSnapshotPolicy"},
                {"timePoints", "[\"3\"]"},
                {"repeatWeekdays", "[\"1\"]"},
                {"retentionDays", "7"}};
      case 19:
        return {{"Action", "ApplyAutoSnapshotPolicy"},
                {"autoSnapshotPolicyId", policy},
                {"diskIds", Json{disk, one_of(disks_, random)}.dump()}};
      case 20:
        return {
            {"Action", random.one_in(2) ? "CancelAutoSnapshotPolicy" : "ApplyAutoSnapshotPolicy"},
            {"autoSnapshotPolicyId", policy},
            {"diskIds", Json{disk}.dump()}};
      case 21:
        return {{"Action",
                 random.one_in(3) ? "DeleteAutoSnapshotPolicy" : "ModifyAutoSnapshotPolicyEx"},
                {"autoSnapshotPolicyId", policy}};
      case 22:
      case 23:
        return {{"Action", "ReplaceSystemDisk"},
                {"InstanceId", instances_[random.between(1, kStopped)]},
                {"ImageId", "m"},
                {"SystemDisk.Category", "cloud_essd"}};
      case 24:
        return {{"Action", random.one_in(2) ? "StartInstances" : "StopInstances"},
                {"InstanceId.1", instance},
                {"InstanceId.2", one_of(instances_, random)}};
      default:
        return {{"Action", random.one_in(4) ? "DeleteInstances" : "ModifyInstanceLimits"},
                {"InstanceId", instance},
                {"InstanceId.1", instance},
                {"IopsLimit", "5000"}};
    }
  }

  static constexpr unsigned kClients = 16;
  static constexpr int kStopped = 6;  // instances, at first
  std::vector<std::string> disks_, instances_, snapshots_, groups_, images_, policies_;
  std::map<std::string, std::string> disk_of_;  // of a snapshot
  std::set<std::string> captured_;
  std::map<std::string, unsigned> succeeded_;  // by action
};

TEST_F(ManyChanges, AtOnceLeaveWhatTheyCouldOneAfterTheOther) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  Json before;
  {
    Daemon daemon(root_.path());
    instances_.push_back("i-local");
    for (int i = 0; i < 6; ++i) disks_.push_back(daemon.create_disk());
    for (int i = 0; i < kStopped; ++i) {
      instances_.push_back(
          daemon.must("CreateInstance", {{"ImageId", "m"},
                                         {"InstanceType", "t"},
                                         {"SystemDisk.Category", "cloud_essd"}})["InstanceId"]);
    }
    unsigned finished = 0;
    bool over = false, loaded = false;
    Random pauses = random.fork();
    daemon.host.take_time([&]() -> Task<void> {
      if (pauses.one_in(2)) co_return;
      co_await daemon.machine.ring->sleep_for(std::chrono::microseconds(pauses.below(3000)));
    });
    spawn(captures(daemon, random.fork(), finished, over));
    spawn(hydrations(daemon, random.fork(), finished, loaded));
    for (unsigned i = 0; i < kClients; ++i) spawn(client(daemon, random.fork(), finished));
    daemon.machine.ring->run_until([&] { return finished == kClients && over && loaded; });
    for (const char* action : {"ApplyAutoSnapshotPolicy", "CreateImage", "CreateSnapshotGroup",
                               "DeleteAutoSnapshotPolicy", "DeleteDisk", "DeleteInstance",
                               "DeleteSnapshot", "ReInitDisk", "RunInstances"}) {
      EXPECT_GT(succeeded_[action], 0U) << action << " was refused every time";
    }
    // It is alone, so what goes on after its answer is over then.
    daemon.must("StopScrub", {});
    std::set<std::string> policies;
    const Json listed = daemon.must("DescribeAutoSnapshotPolicyEx", {{"PageSize", "100"}});
    for (const Json& policy : listed["AutoSnapshotPolicies"]["AutoSnapshotPolicy"]) {
      policies.insert(policy["AutoSnapshotPolicyId"].get<std::string>());
    }
    const Json applied =
        daemon.must("DescribeAutoSnapshotPolicyAssociations", {{"MaxResults", "500"}});
    for (const Json& one :
         applied["AutoSnapshotPolicyAssociations"]["AutoSnapshotPolicyAssociation"]) {
      EXPECT_TRUE(policies.contains(one["AutoSnapshotPolicyId"])) << "one that is gone: " << one;
    }
    std::set<std::string> visible;
    for (const auto& [id, snapshot] : daemon.host.snapshots()) {
      if (snapshot.exported) visible.insert(id);
    }
    const Json images = daemon.must("DescribeImages", {{"PageSize", "100"}});
    for (const Json& image : images["Images"]["Image"]) {
      for (const Json& disk : image["DiskDeviceMappings"]["DiskDeviceMapping"]) {
        const std::string id = disk["SnapshotId"];
        EXPECT_TRUE(visible.contains(id)) << image["ImageId"] << " needs " << id;
      }
    }

    before = daemon.must("DescribeDisks", {{"MaxResults", "500"}})["Disks"]["Disk"];
    std::set<std::string> running, devices, served, stored;
    const Json instances = daemon.must("DescribeInstances", {{"MaxResults", "100"}});
    for (const Json& instance : instances["Instances"]["Instance"]) {
      const std::string status = instance["Status"];
      EXPECT_TRUE(status == "Running" || status == "Stopped") << status;
      if (status == "Running") running.insert(instance["InstanceId"].get<std::string>());
    }
    for (const Json& disk : before) {
      const std::string id = disk["DiskId"], instance = disk["InstanceId"];
      const bool in_use = disk["Status"] == "In_use";
      EXPECT_TRUE(in_use || disk["Status"] == "Available") << disk["Status"];
      EXPECT_EQ(in_use, !instance.empty());
      stored.insert(id);
      if (!in_use) continue;
      const std::string place = instance + " " + disk["Device"].get<std::string>();
      EXPECT_TRUE(devices.insert(place).second) << place << " twice";
      if (running.contains(instance)) served.insert(id);
    }
    std::set<std::string> really_served;
    for (const auto& [id, settings] : daemon.host.served()) {
      really_served.insert(id);
      const std::string& base = settings.base_snapshot;
      EXPECT_TRUE(base.empty() || daemon.host.snapshots().contains(base))
          << id << " borrows from " << base << ", which is gone";
    }
    EXPECT_EQ(really_served, served);
    // What no capture needs any more is gone with the last one; a disk that was rolled back keeps
    // what it was before.
    std::set<std::string> captured;
    for (const auto& [id, snapshot] : daemon.host.snapshots()) captured.insert(id);
    for (const std::string& id : captured) {
      if (daemon.host.snapshots().contains(id)) static_cast<void>(daemon.capture(id));
    }
    // As after the capture of one that was dropped before its end.
    for (const std::string& storage : daemon.host.stored()) {
      std::string disk = storage.substr(0, storage.find('.'));
      daemon.machine.ring->block_on(daemon.host.events().released(std::move(disk)));
    }
    // What was others' goes when the clock comes by.
    daemon.machine.ring->block_on(daemon.control->keep_schedule(daemon.machine.ring->wall_now()));
    std::map<std::string, unsigned> storages;  // by disk
    for (const std::string& id : daemon.host.stored()) ++storages[id.substr(0, id.find('.'))];
    for (const auto& [disk, count] : storages) {
      EXPECT_TRUE(stored.contains(disk)) << disk << " is gone, and its storage is there";
      EXPECT_LE(count, 2U) << disk;
    }
    for (const std::string& disk : stored) EXPECT_TRUE(storages.contains(disk)) << disk;
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(daemon.must("DescribeDisks", {{"MaxResults", "500"}})["Disks"]["Disk"], before);
}

}  // namespace
}  // namespace clouddisk
