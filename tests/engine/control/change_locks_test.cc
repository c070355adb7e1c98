// Changes beside each other: the locks, and many random ones at once on the real Control.
#include "engine/control/change_locks.h"

#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/engine/control/control_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

struct Holders {
  std::multiset<std::string> keys;
  unsigned all = 0, some = 0, most = 0, finished = 0;
};

Task<void> hold(Ring& ring, ChangeLocks& locks, ChangeLocks::Keys keys, Holders& holders) {
  const bool all = keys.empty();
  ChangeLocks::Keys wanted = keys;
  Task<ChangeLocks::Guard> asked = all ? locks.lock_all() : locks.lock(std::move(wanted));
  const auto guard = co_await std::move(asked);
  EXPECT_EQ(holders.all, 0U) << "whoever has everything is alone";
  if (all) {
    EXPECT_EQ(holders.some, 0U);
  }
  for (const std::string& key : keys) EXPECT_FALSE(holders.keys.contains(key)) << key;
  holders.keys.insert(keys.begin(), keys.end());
  ++(all ? holders.all : holders.some);
  holders.most = std::max(holders.most, holders.some);
  co_await ring.sleep_for(std::chrono::milliseconds(1));
  --(all ? holders.all : holders.some);
  for (const std::string& key : keys) holders.keys.erase(key);
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
    ChangeLocks::Keys keys;
    if (!random.one_in(20)) {
      for (int k = 0; k < 2; ++k) keys.insert(std::to_string(random.below(20)));
    }
    spawn(hold(ring, locks, std::move(keys), holders));
  }
  ring.run_until([&holders] { return holders.finished == kCount; });
  EXPECT_GT(holders.most, 3U) << "some are";
}

class ManyChanges : public ControlTest {
 protected:
  // One client: random changes of the disks and instances that there are, whoever made them.
  Task<void> client(Daemon& daemon, Random random, unsigned& finished) {
    for (int i = 0; i < 25; ++i) {
      Params params = random_change(random);
      const std::string action = params["Action"];
      if (random.one_in(2)) params["Wait"] = "false";
      const Reply reply = co_await daemon.control->perform(std::move(params));
      EXPECT_LT(reply.http_status, 500) << action << reply.body;
      const Json body = Json::parse(reply.body, nullptr, false);
      if (body.contains("DiskId")) disks_.push_back(body["DiskId"]);
      if (body.contains("InstanceId")) instances_.push_back(body["InstanceId"]);
    }
    ++finished;
  }
  Params random_change(Random& random) {
    const std::string disk = disks_[random.below(disks_.size())];
    const std::string instance = instances_[random.below(instances_.size())];
    switch (random.below(14)) {
      case 0:
      case 1:
        return {{"Action", "CreateDisk"}, {"Size", "40"}, {"DiskCategory", "cloud_essd"}};
      case 2:
        return {{"Action", "CreateDisk"}, {"Size", "40"}, {"InstanceId", instance}};
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
        return {{"Action", "CreateSnapshot"}, {"DiskId", disk}};
      default:
        return {{"Action", "ModifyDiskAttribute"},
                {"DiskIds.1", disk},
                {"DiskName", "renamed"},
                {"DiskIds.2", disks_[random.below(disks_.size())]}};
    }
  }

  std::vector<std::string> disks_, instances_;
};

TEST_F(ManyChanges, AtOnceLeaveWhatTheyCouldOneAfterTheOther) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  Json before;
  {
    Daemon daemon(root_.path());
    instances_.push_back("i-local");
    for (int i = 0; i < 6; ++i) disks_.push_back(daemon.create_disk());
    for (int i = 0; i < 2; ++i) {
      instances_.push_back(
          daemon.must("CreateInstance", {{"ImageId", "m"}, {"InstanceType", "t"}})["InstanceId"]);
    }
    constexpr unsigned kClients = 16;
    unsigned finished = 0;
    for (unsigned i = 0; i < kClients; ++i) spawn(client(daemon, random.fork(), finished));
    daemon.machine.ring->run_until([&finished] { return finished == kClients; });
    // It is alone, so what goes on after its answer is over then.
    daemon.must("ModifyInstanceLimits", {{"InstanceId", "i-local"}, {"IopsLimit", "0"}});

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
    for (const auto& [id, settings] : daemon.host.served()) really_served.insert(id);
    EXPECT_EQ(really_served, served);
    EXPECT_EQ(daemon.host.stored(), stored);
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(daemon.must("DescribeDisks", {{"MaxResults", "500"}})["Disks"]["Disk"], before);
}

}  // namespace
}  // namespace clouddisk
