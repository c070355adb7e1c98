// Snapshots through the actions: rules, what is shown, what becomes of hidden ones, crashes.
#include <gtest/gtest.h>

#include "engine/catalog/catalog.h"
#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

class SnapshotActions : public ControlTest {
 protected:
  static std::string take(Daemon& daemon, const std::string& disk) {
    return daemon.must("CreateSnapshot", {{"DiskId", disk}}).value("SnapshotId", "");
  }
  static Json snapshots(Daemon& daemon, Params params = {}) {
    params["PageSize"] = "100";
    return daemon.must("DescribeSnapshots", std::move(params)).at("Snapshots").at("Snapshot");
  }
  static Json show(Daemon& daemon, const std::string& id) {
    const Json list = snapshots(daemon, {{"SnapshotIds", "[\"" + id + "\"]"}});
    return list.empty() ? Json() : list[0];
  }
  static void capture(Daemon& daemon, const std::string& id) { EXPECT_TRUE(daemon.capture(id)); }
  static std::string attached_disk(Daemon& daemon) {
    const std::string disk = daemon.create_disk();
    daemon.attach(disk);
    return disk;
  }
};

TEST_F(SnapshotActions, AreShownFromProgressingToAccomplished) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id =
      daemon.must("CreateSnapshot", {{"DiskId", disk}, {"SnapshotName", "one"}, {"Tag.1.Key", "k"}})
          .value("SnapshotId", "");
  Json one = show(daemon, id);
  EXPECT_EQ(one["Status"], "progressing");
  EXPECT_EQ(one["Progress"], "25%");
  EXPECT_EQ(one["SourceDiskId"], disk);
  EXPECT_EQ(one["SourceDiskSize"], "40");
  EXPECT_EQ(one["SnapshotLinkId"], "sl-" + disk.substr(2));
  EXPECT_EQ(one["Available"], true);
  EXPECT_EQ(one["Tags"]["Tag"][0]["TagKey"], "k");
  capture(daemon, id);
  one = show(daemon, id);
  EXPECT_EQ(one["Status"], "accomplished");
  EXPECT_EQ(one["Progress"], "100%");
  EXPECT_EQ(one["ChangedBytes"], 8192);
  EXPECT_EQ(snapshots(daemon, {{"Status", "progressing"}}).size(), 0U);
  EXPECT_EQ(snapshots(daemon, {{"DiskId", disk}, {"SnapshotName", "o*"}}).size(), 1U);
  const Json links = daemon.must("DescribeSnapshotLinks")["SnapshotLinks"]["SnapshotLink"];
  ASSERT_EQ(links.size(), 1U);
  EXPECT_EQ(links[0]["TotalCount"], 1);
  EXPECT_EQ(daemon.must("DescribeSnapshotsUsage")["SnapshotCount"], 1);
}

TEST_F(SnapshotActions, ATokenMakesOneSnapshot) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const Params params = {{"DiskId", disk}, {"ClientToken", "t"}};
  EXPECT_EQ(daemon.must("CreateSnapshot", params).at("SnapshotId"),
            daemon.must("CreateSnapshot", params).at("SnapshotId"));
  EXPECT_EQ(snapshots(daemon).size(), 1U);
}

TEST_F(SnapshotActions, AFreezeThatFailsLeavesNothing) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  daemon.host.fail_next("freeze", Errc::kNoSpace);
  EXPECT_REFUSED(daemon.ask("CreateSnapshot", {{"DiskId", disk}}), 503, "ServiceUnavailable");
  EXPECT_EQ(snapshots(daemon).size(), 0U);
  EXPECT_TRUE(daemon.host.snapshots().empty());
}

TEST_F(SnapshotActions, ADeletedOneIsGoneForUsersAndStaysWhileItIsNeeded) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string first = take(daemon, disk);
  capture(daemon, first);
  const std::string second = take(daemon, disk);
  capture(daemon, second);
  // The disk's next snapshot is compared with the newest.
  daemon.must("DeleteSnapshot", {{"SnapshotId", second}});
  EXPECT_TRUE(show(daemon, second).is_null());
  EXPECT_EQ(daemon.host.snapshots().size(), 2U);
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", second}}), 404,
                 "InvalidSnapshotId.NotFound");
  const std::string third = take(daemon, disk);
  EXPECT_EQ(daemon.host.snapshots().size(), 3U) << "its capture needs it";
  capture(daemon, third);
  EXPECT_EQ(daemon.host.snapshots().size(), 2U) << "and then it goes";
  daemon.must("DeleteSnapshot", {{"SnapshotId", first}});
  daemon.must("DeleteSnapshot", {{"SnapshotId", third}});
  EXPECT_TRUE(daemon.host.snapshots().empty()) << "with the last, nothing is kept";
}

TEST_F(SnapshotActions, ADiskMadeFromOneKeepsItsContentThere) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  capture(daemon, id);
  const std::string clone = daemon.must("CreateDisk", {{"SnapshotId", id}}).value("DiskId", "");
  EXPECT_EQ(daemon.disk(clone)["Size"], 40);
  EXPECT_EQ(daemon.disk(clone)["SourceSnapshotId"], id);
  EXPECT_EQ(show(daemon, id)["Usage"], "disk");
  daemon.attach(clone);
  const std::string storage = daemon.host.served().at(clone).storage;
  EXPECT_EQ(daemon.host.served().at(clone).base_snapshot, id);
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", id}}), 403, "SnapshotCreatedDisk");
  daemon.must("DeleteSnapshot", {{"SnapshotId", id}, {"Force", "true"}});
  EXPECT_EQ(daemon.host.snapshots().size(), 1U);
  // What the clone's own snapshot shows may still be borrowed.
  const std::string own = take(daemon, clone);
  EXPECT_FALSE(daemon.machine.ring->block_on(daemon.host.events().hydrated(clone, storage)));
  EXPECT_TRUE(daemon.host.bases_forgotten.empty());
  capture(daemon, own);
  EXPECT_TRUE(daemon.machine.ring->block_on(daemon.host.events().hydrated(clone, storage)));
  // It looks there no more before it goes.
  EXPECT_EQ(daemon.host.bases_forgotten, std::vector<std::string>{clone});
  EXPECT_EQ(daemon.host.snapshots().size(), 2U);
  daemon.release();
  EXPECT_EQ(daemon.host.snapshots().size(), 1U);
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  EXPECT_REFUSED(daemon.ask("ReInitDisk", {{"DiskId", clone}}), 403, "InvalidSourceSnapshot");
  EXPECT_REFUSED(daemon.ask("CreateDisk", {{"SnapshotId", "s-none"}}), 404,
                 "InvalidSnapshotId.NotFound");
}

TEST_F(SnapshotActions, ACaptureThatADiskBorrowsFromIsNotGivenUp) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  daemon.must("CreateDisk", {{"SnapshotId", id}});
  auto& ring = *daemon.machine.ring;
  EXPECT_FALSE(ring.block_on(daemon.host.events().capture_failed(id, "the pack is damaged")));
  EXPECT_EQ(show(daemon, id)["Status"], "progressing");
  const std::string other = take(daemon, disk);
  EXPECT_TRUE(ring.block_on(daemon.host.events().capture_failed(other, "the pack is damaged")));
  EXPECT_EQ(show(daemon, other)["Status"], "failed");
}

TEST_F(SnapshotActions, AFailedSnapshotIsNotAccomplishedLater) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  auto& ring = *daemon.machine.ring;
  ASSERT_TRUE(ring.block_on(daemon.host.events().capture_failed(id, "the pack is damaged")));
  CaptureResult late{id, 4096, 100};
  EXPECT_FALSE(ring.block_on(daemon.host.events().captured(std::move(late))));
  EXPECT_EQ(show(daemon, id)["Status"], "failed");
}

TEST_F(SnapshotActions, ADeletedInstancesDiskKeepsItsStorageUntilItsSnapshotIsCaptured) {
  Daemon daemon(root_.path());
  const std::string instance = daemon.must(
      "RunInstances", {{"InstanceType", "ecs.g6.large"},
                       {"ImageId", "img"},
                       {"SystemDisk.Category", "cloud_essd"},
                       {"SystemDisk.Size", "40"}})["InstanceIdSets"]["InstanceIdSet"][0];
  const Json disks = daemon.must("DescribeDisks", {{"InstanceId", instance}});
  const std::string disk = disks["Disks"]["Disk"][0]["DiskId"];
  const std::string id = take(daemon, disk);
  daemon.must("DeleteInstance", {{"InstanceId", instance}, {"Force", "true"}});
  EXPECT_TRUE(daemon.host.stored().contains(disk));
  capture(daemon, id);
  daemon.release();
  EXPECT_FALSE(daemon.host.stored().contains(disk));
  EXPECT_EQ(show(daemon, id)["Status"], "accomplished");
}

TEST_F(SnapshotActions, ARollbackGivesTheDiskAnotherStorageAndUndoTheOldOne) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  const Params back = {{"DiskId", disk}, {"SnapshotId", id}};
  // That the instance runs is said last: nobody stops it for nothing.
  EXPECT_REFUSED(daemon.ask("ResetDisk", back), 403, "InvalidSnapshotId.NotReady");
  EXPECT_REFUSED(daemon.ask("ReInitDisk", {{"DiskId", disk}}), 403, "DiskCreatingSnapshot");
  EXPECT_REFUSED(daemon.ask("UndoResetDisk", {{"DiskId", disk}}), 403,
                 "IncorrectDiskStatus.NothingToUndo");
  capture(daemon, id);
  EXPECT_REFUSED(daemon.ask("ResetDisk", back), 403, "IncorrectInstanceStatus");
  EXPECT_REFUSED(daemon.ask("ReInitDisk", {{"DiskId", disk}}), 403, "IncorrectInstanceStatus");
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  const std::string other = take(daemon, disk);
  EXPECT_REFUSED(daemon.ask("ResetDisk", back), 403, "IncorrectDiskStatus.HasUnfinishedSnapshot");
  capture(daemon, other);
  daemon.must("ResetDisk", back);
  EXPECT_EQ(daemon.host.stored(), (std::set<std::string>{disk, disk + ".1"}));
  daemon.must("UndoResetDisk", {{"DiskId", disk}});
  EXPECT_EQ(daemon.host.stored(), (std::set<std::string>{disk}));
  EXPECT_REFUSED(daemon.ask("UndoResetDisk", {{"DiskId", disk}}), 403,
                 "IncorrectDiskStatus.NothingToUndo");
  daemon.must("ReInitDisk", {{"DiskId", disk}});
  daemon.must("StartInstance", {{"InstanceId", "i-local"}});
  EXPECT_EQ(daemon.host.served().at(disk).storage, disk + ".2");
  EXPECT_EQ(daemon.host.served().at(disk).base_snapshot, "");
  // A newer snapshot ends what could be undone, and the old storage goes.
  take(daemon, disk);
  EXPECT_EQ(daemon.host.stored(), (std::set<std::string>{disk + ".2"}));
}

TEST_F(SnapshotActions, AFailedCaptureIsShownAndDoesNotStopTheNext) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string bad = take(daemon, disk);
  const std::string good = take(daemon, disk);
  std::string reason = "no room";
  EXPECT_TRUE(
      daemon.machine.ring->block_on(daemon.host.events().capture_failed(bad, std::move(reason))));
  EXPECT_EQ(show(daemon, bad)["Status"], "failed");
  EXPECT_EQ(show(daemon, bad)["Failure"], "no room");
  EXPECT_EQ(show(daemon, good)["ParentSN"], "0");
  EXPECT_REFUSED(daemon.ask("CreateDisk", {{"SnapshotId", bad}}), 403,
                 "InvalidSnapshotId.NotReady");
  capture(daemon, good);
  daemon.must("DeleteSnapshot", {{"SnapshotId", bad}});
  EXPECT_TRUE(show(daemon, bad).is_null());
}

TEST_F(SnapshotActions, AGroupIsTakenShownAndDeletedTogether) {
  Daemon daemon(root_.path());
  const std::string a = attached_disk(daemon);
  const std::string b = attached_disk(daemon);
  const std::string loose = daemon.create_disk();
  EXPECT_REFUSED(daemon.ask("CreateSnapshotGroup"), 400, "MissingParamter.InstanceId");
  EXPECT_REFUSED(daemon.ask("CreateSnapshotGroup", {{"DiskId.1", a}, {"DiskId.2", loose}}), 403,
                 "IncorrectDiskStatus");
  const std::string id =
      daemon.must("CreateSnapshotGroup", {{"InstanceId", "i-local"}, {"Name", "all"}})
          .value("SnapshotGroupId", "");
  EXPECT_EQ(snapshots(daemon).size(), 2U);
  Json groups = daemon.must("DescribeSnapshotGroups")["SnapshotGroups"]["SnapshotGroup"];
  ASSERT_EQ(groups.size(), 1U);
  EXPECT_EQ(groups[0]["Status"], "progressing");
  EXPECT_EQ(groups[0]["Snapshots"]["Snapshot"].size(), 2U);
  daemon.must("DeleteSnapshotGroup", {{"SnapshotGroupId", id}});
  EXPECT_EQ(snapshots(daemon).size(), 0U);
  EXPECT_REFUSED(daemon.ask("DeleteSnapshotGroup", {{"SnapshotGroupId", id}}), 404,
                 "InvalidSnapshotGroupId.NotFound");
}

TEST_F(SnapshotActions, WhileOneIsInProgressItsDiskKeepsSizeAndLevel) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  const Params resize = {{"DiskId", disk}, {"NewSize", "100"}, {"Type", "online"}};
  const Params modify = {{"DiskId", disk}, {"PerformanceLevel", "PL0"}};
  EXPECT_REFUSED(daemon.ask("ResizeDisk", resize), 403, "DiskCreatingSnapshot");
  EXPECT_REFUSED(daemon.ask("ModifyDiskSpec", modify), 403, "DiskCreatingSnapshot");
  capture(daemon, id);
  daemon.must("ResizeDisk", resize);
  EXPECT_EQ(daemon.host.served().at(disk).size_bytes, 100_GiB);
  EXPECT_EQ(show(daemon, id)["SourceDiskSize"], "40") << "it keeps the size of then";
  EXPECT_EQ(show(daemon, take(daemon, disk))["SourceDiskSize"], "100");
}

TEST_F(SnapshotActions, AfterAnOfflineResizeOneHasTheSizeThatClientsSee) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  daemon.must("ResizeDisk", {{"DiskId", disk}, {"NewSize", "80"}});
  EXPECT_EQ(daemon.disk(disk)["Size"], 80);
  const std::string before = take(daemon, disk);
  EXPECT_EQ(show(daemon, before)["SourceDiskSize"], "40");
  capture(daemon, before);
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  daemon.must("StartInstance", {{"InstanceId", "i-local"}});
  EXPECT_EQ(show(daemon, take(daemon, disk))["SourceDiskSize"], "80");
}

TEST_F(SnapshotActions, ASystemDiskGrowsTo500GiB) {
  Daemon daemon(root_.path());
  const std::string instance = daemon.must(
      "RunInstances",
      {{"InstanceType", "ecs.g6.large"}, {"ImageId", "img"}})["InstanceIdSets"]["InstanceIdSet"][0];
  const Json disks = daemon.must("DescribeDisks", {{"InstanceId", instance}});
  const std::string disk = disks["Disks"]["Disk"][0]["DiskId"];
  Params resize = {{"DiskId", disk}, {"NewSize", "501"}, {"Type", "online"}};
  EXPECT_REFUSED(daemon.ask("ResizeDisk", resize), 403, "InvalidDiskSize.TooLarge");
  resize["NewSize"] = "500";
  daemon.must("ResizeDisk", resize);
  EXPECT_EQ(daemon.host.served().at(disk).size_bytes, 500_GiB);
}

TEST_F(SnapshotActions, OfADiskWhoseInstanceNeverRanAreRefused) {
  Daemon daemon(root_.path());
  const std::string instance =
      daemon.must("CreateInstance", {{"InstanceType", "ecs.g6.large"}, {"ImageId", "img"}})
          .value("InstanceId", "");
  const Json disks = daemon.must("DescribeDisks", {{"InstanceId", instance}});
  const std::string disk = disks["Disks"]["Disk"][0]["DiskId"];
  EXPECT_REFUSED(daemon.ask("CreateSnapshot", {{"DiskId", disk}}), 403,
                 "IncorrectDiskStatus.NeverUsed");
  daemon.must("StartInstance", {{"InstanceId", instance}});
  take(daemon, disk);
}

TEST_F(SnapshotActions, AnInstancesDataDisksAreMadeFromThem) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  Params params = {{"InstanceType", "ecs.g6.large"},
                   {"ImageId", "img"},
                   {"Amount", "2"},
                   {"DataDisk.1.SnapshotId", id},
                   {"DataDisk.2.SnapshotId", id},
                   {"DataDisk.2.Size", "60"},
                   {"DataDisk.3.Size", "30"},
                   {"DataDisk.1.Category", "cloud_essd"}};
  const auto run = [&](const std::string& name, const std::string& value) {
    Params changed = params;
    changed[name] = value;
    return daemon.ask("RunInstances", changed);
  };
  EXPECT_REFUSED(run("DataDisk.2.Size", "39"), 403, "InvalidDiskSize.TooSmall");
  EXPECT_REFUSED(run("DataDisk.1.SnapshotId", "s-none"), 404, "InvalidSnapshotId.NotFound");
  EXPECT_REFUSED(run("SystemDisk.SnapshotId", id), 403,
                 "InvalidOperation.CreateFromSnapshotUnsupported");
  const Json ids = daemon.must("RunInstances", params)["InstanceIdSets"]["InstanceIdSet"];
  ASSERT_EQ(ids.size(), 2U);
  for (const Json& instance : ids) {
    std::map<int, std::string> sources;
    const Json disks = daemon.must("DescribeDisks", {{"InstanceId", instance}});
    for (const Json& one : disks["Disks"]["Disk"]) {
      sources[one["Size"]] += one["SourceSnapshotId"].get<std::string>() + ";";
      const DiskSettings& served = daemon.host.served().at(one["DiskId"]);
      EXPECT_EQ(served.base_snapshot, one["SourceSnapshotId"]);
    }
    EXPECT_EQ(sources[60], id + ";");
    EXPECT_EQ(sources[30], ";");
    EXPECT_EQ(sources[40], (sources[40].front() == ';' ? ";" + id + ";" : id + ";;"))
        << "the system disk and the one of the snapshot's size";
  }
  const std::string created = daemon.must("CreateInstance", params).value("InstanceId", "");
  const Json disks = daemon.must("DescribeDisks", {{"InstanceId", created}, {"SnapshotId", id}});
  EXPECT_EQ(disks["TotalCount"], 2);
  EXPECT_REFUSED(daemon.ask("DeleteSnapshot", {{"SnapshotId", id}}), 403, "SnapshotCreatedDisk");
}

TEST_F(SnapshotActions, AutomaticOnesGoWithTheirDiskUnlessTold) {
  std::string kept, released;
  const auto automatic = [](const std::string& disk, const std::string& id, std::uint64_t seq) {
    SnapshotRecord snapshot;
    snapshot.id = id;
    snapshot.disk_id = disk;
    snapshot.chain_id = "sl-" + disk.substr(2);
    snapshot.seq = seq;
    snapshot.storage = disk;
    snapshot.status = SnapshotStatus::kAccomplished;
    snapshot.size_bytes = 40_GiB;
    snapshot.automatic = true;
    return snapshot;
  };
  {
    Daemon daemon(root_.path());
    kept = attached_disk(daemon);
    released = attached_disk(daemon);
    daemon.must("ModifyDiskAttribute", {{"DiskId", kept}, {"DeleteAutoSnapshot", "false"}});
    for (const std::string& disk : {kept, released}) capture(daemon, take(daemon, disk));
  }
  {
    // What a policy would have taken.
    Machine machine(root_.path());
    auto catalog = machine.ring->block_on(Catalog::open(*machine.ring, *machine.replicas, {}));
    ASSERT_TRUE(catalog);
    CatalogChange change;
    change.put(automatic(kept, "s-kept", 2));
    change.put(automatic(released, "s-released", 2));
    ASSERT_TRUE(machine.ring->block_on((*catalog)->commit(std::move(change))));
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(snapshots(daemon, {{"SnapshotType", "auto"}}).size(), 2U);
  for (const std::string& disk : {kept, released}) {
    daemon.must("DetachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
    daemon.must("DeleteDisk", {{"DiskId", disk}});
  }
  EXPECT_FALSE(show(daemon, "s-kept").is_null());
  EXPECT_TRUE(show(daemon, "s-released").is_null());
  EXPECT_EQ(snapshots(daemon, {{"SnapshotType", "user"}}).size(), 2U) << "manual ones stay";
}

TEST_F(SnapshotActions, FiltersAndTheirRefusals) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string other = attached_disk(daemon);
  const std::string one = take(daemon, disk);
  const std::string two = take(daemon, other);
  const std::string chain = "sl-" + disk.substr(2);
  capture(daemon, one);
  const std::vector<std::pair<Params, std::size_t>> cases = {
      {{}, 2},
      {{{"SnapshotLinkId", chain}}, 1},
      {{{"Status", "accomplished"}}, 1},
      {{{"Status", "all"}}, 2},
      {{{"SnapshotType", "user"}}, 2},
      {{{"SnapshotType", "auto"}}, 0},
      {{{"SourceDiskType", "Data"}}, 2},
      {{{"SourceDiskType", "system"}}, 0},
      {{{"Usage", "none"}}, 2},
      {{{"Usage", "image_disk"}}, 0},
      {{{"Category", "standard"}}, 2},
      {{{"Category", "archive"}}, 0},
      {{{"InstanceId", "i-local"}}, 2},
      {{{"InstanceId", "i-none"}}, 0},
      {{{"Encrypted", "true"}}, 0},
      {{{"Filter.1.Key", "CreationStartTime"}, {"Filter.1.Value", "2019-01-01T00:00Z"}}, 2},
  };
  for (const auto& [params, count] : cases) {
    EXPECT_EQ(snapshots(daemon, params).size(), count)
        << (params.empty() ? "none" : params.begin()->first + "=" + params.begin()->second);
  }
  struct Refused {
    const char* name;
    const char* value;
    int status;
    const char* code;
  };
  for (const Refused& c :
       {Refused{"SnapshotLinkId", "sl-none", 404, "InvalidSnapshotLinkId.NotFound"},
        Refused{"Status", "done", 404, "InvalidStatus.NotFound"},
        Refused{"SnapshotType", "odd", 404, "InvalidSnapshotType.NotFound"},
        Refused{"SourceDiskType", "odd", 404, "InvalidSourceDiskType"},
        Refused{"Usage", "odd", 404, "InvalidUsage"},
        Refused{"Category", "odd", 403, "InvalidSnapshotCategory.Malformed"},
        Refused{"SnapshotIds", "s-1", 403, "InvalidSnapshotIds.Malformed"}}) {
    EXPECT_REFUSED(daemon.ask("DescribeSnapshots", {{c.name, c.value}}), c.status, c.code);
  }
  // A chain tells of its disk when that is gone.
  daemon.must("DetachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
  daemon.must("DeleteDisk", {{"DiskId", disk}});
  const Json link =
      daemon.must("DescribeSnapshotLinks",
                  {{"SnapshotLinkIds", "[\"" + chain + "\"]"}})["SnapshotLinks"]["SnapshotLink"][0];
  EXPECT_EQ(link["SourceDiskSize"], 40);
  EXPECT_EQ(link["TotalCount"], 1);
}

TEST_F(SnapshotActions, GroupsPageByTokenAndFilterByStatus) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  std::set<std::string> all;
  for (int i = 0; i < 10; ++i) {
    all.insert(daemon.must("CreateSnapshotGroup", {{"DiskId.1", disk}})["SnapshotGroupId"]);
  }
  for (const Json& one : snapshots(daemon)) capture(daemon, one["SnapshotId"]);
  all.insert(daemon.must("CreateSnapshotGroup", {{"DiskId.1", disk}})["SnapshotGroupId"]);
  Json page = daemon.must("DescribeSnapshotGroups");
  EXPECT_EQ(page["SnapshotGroups"]["SnapshotGroup"].size(), 10U);
  EXPECT_FALSE(page.contains("PageNumber"));
  std::set<std::string> seen;
  for (const Json& group : page["SnapshotGroups"]["SnapshotGroup"]) {
    seen.insert(group["SnapshotGroupId"]);
  }
  page = daemon.must("DescribeSnapshotGroups", {{"NextToken", page["NextToken"]}});
  EXPECT_EQ(page["NextToken"], "");
  for (const Json& group : page["SnapshotGroups"]["SnapshotGroup"]) {
    EXPECT_TRUE(seen.insert(group["SnapshotGroupId"]).second);
  }
  EXPECT_EQ(seen, all);
  const auto count = [&](Params params) {
    params["MaxResults"] = "100";
    return daemon.must("DescribeSnapshotGroups", params)["SnapshotGroups"]["SnapshotGroup"].size();
  };
  EXPECT_EQ(count({{"Status.1", "progressing"}}), 1U);
  EXPECT_EQ(count({{"Status.1", "accomplished"}}), 10U);
  EXPECT_EQ(count({{"Status.1", "progressing"}, {"Status.2", "accomplished"}}), 11U);
  EXPECT_EQ(count({{"ResourceGroupId", "rg-1"}}), 0U);
  EXPECT_REFUSED(daemon.ask("DescribeSnapshotGroups", {{"Status.1", "odd"}}), 400,
                 "InvalidParameter");
}

TEST_F(SnapshotActions, AHydrationIsShownAndAskedFor) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string id = take(daemon, disk);
  const std::string clone = daemon.must("CreateDisk", {{"SnapshotId", id}}).value("DiskId", "");
  const auto hydration = [&daemon](const std::string& of) { return daemon.disk(of)["Hydration"]; };
  EXPECT_EQ(hydration(disk)["Status"], "done");
  EXPECT_EQ(hydration(clone)["Status"], "waiting");
  const auto ask = [&](Params more) {
    more["DiskId"] = clone;
    return daemon.ask("HydrateDisk", more);
  };
  EXPECT_REFUSED(ask({}), 403, "IncorrectDiskStatus");
  daemon.attach(clone);
  daemon.host.hydrations[clone] = {1_MiB, 40_GiB, ""};
  EXPECT_EQ(hydration(clone)["Status"], "loading");
  EXPECT_EQ(hydration(clone)["DoneBytes"], 1_MiB);
  daemon.host.hydrations[clone].failure = "the pack is damaged";
  EXPECT_EQ(hydration(clone)["Status"], "failed");
  EXPECT_EQ(hydration(clone)["Failure"], "the pack is damaged");
  EXPECT_REFUSED(ask({{"BytesPerSecond", "1024"}}), 400, "InvalidParameter");
  EXPECT_TRUE(ask({{"BytesPerSecond", "52428800"}}).ok());
  EXPECT_EQ(daemon.host.paces.at(clone), 50_MiB);
  EXPECT_EQ(daemon.must("DescribeDiskHydration", {{"DiskId", clone}})["Status"], "loading");
  EXPECT_TRUE(daemon.ask("HydrateDisk", {{"DiskId", disk}}).ok()) << "nothing to do";
  EXPECT_FALSE(daemon.host.paces.contains(disk));
}

TEST_F(SnapshotActions, AnEmulatedStoreIsTheDisksOrTheDaemons) {
  using std::chrono::milliseconds;
  Control::Options options{.seed = 42};
  options.store = {milliseconds(20), 100_MiB};
  std::string disk;
  {
    Daemon daemon(root_.path(), options);
    const std::string plain = attached_disk(daemon);
    EXPECT_EQ(daemon.host.served().at(plain).store, options.store);
    EXPECT_EQ(daemon.disk(plain)["Store"]["LatencyUs"], 20'000);
    EXPECT_EQ(daemon.disk(plain)["Store"]["Own"], false);
    disk = daemon.create_disk({{"Size", "40"}, {"StoreLatencyUs", "5000"}});
    daemon.attach(disk);
    EXPECT_EQ(daemon.host.served().at(disk).store, (StoreSettings{milliseconds(5), 0}));
    const auto modify = [&](Params more) {
      more["DiskId"] = disk;
      return daemon.ask("ModifyDiskAttribute", more);
    };
    EXPECT_TRUE(modify({{"StoreBytesPerSecond", "1048576"}}).ok());
    EXPECT_EQ(daemon.host.served().at(disk).store, (StoreSettings{milliseconds(5), 1_MiB}));
    EXPECT_REFUSED(modify({{"StoreBytesPerSecond", "1048575"}}), 400, "InvalidParameter");
    EXPECT_REFUSED(modify({{"StoreLatencyUs", "60000001"}}), 400, "InvalidParameter");
    EXPECT_REFUSED(modify({{"StoreLatencyUs", "1"}, {"StoreDefault", "true"}}), 400,
                   "InvalidParameter.Conflict");
    EXPECT_REFUSED(daemon.ask("CreateDisk", {{"Size", "40"}, {"StoreLatencyUs", "x"}}), 400,
                   "InvalidParameter");
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(daemon.host.served().at(disk).store, (StoreSettings{milliseconds(5), 1_MiB}));
  daemon.must("ModifyDiskAttribute", {{"DiskId", disk}, {"StoreDefault", "true"}});
  EXPECT_EQ(daemon.host.served().at(disk).store, StoreSettings{});
}

TEST_F(SnapshotActions, AnImportIsADiskWithoutLimitsThatBecomesASnapshot) {
  Daemon daemon(root_.path());
  const Json begun = daemon.must(
      "BeginSnapshotImport",
      {{"ImageSize", "21474836481"}, {"SnapshotName", "base"}, {"Description", "of the image"}});
  const std::string disk = begun["DiskId"];
  EXPECT_EQ(begun["Size"], 21) << "20 GiB and a byte";
  EXPECT_EQ(daemon.disk(disk)["Status"], "Importing");
  EXPECT_EQ(daemon.host.served().at(disk).limits.iops, 0U);
  daemon.must("DescribeDiskExport", {{"DiskId", disk}});
  const std::vector<std::pair<const char*, Params>> refused = {
      {"AttachDisk", {{"InstanceId", "i-local"}}},
      {"CreateSnapshot", {}},
      {"ResizeDisk", {{"NewSize", "100"}}},
      {"ModifyDiskSpec", {{"PerformanceLevel", "PL0"}}},
      {"ReInitDisk", {}}};
  for (const auto& [action, more] : refused) {
    Params params = more;
    params["DiskId"] = disk;
    EXPECT_REFUSED(daemon.ask(action, params), 403, "IncorrectDiskStatus");
  }
  const std::string id =
      daemon.must("FinishSnapshotImport", {{"DiskId", disk}}).value("SnapshotId", "");
  EXPECT_TRUE(daemon.disk(disk).is_null());
  EXPECT_FALSE(daemon.host.served().contains(disk)) << "nobody writes to it any more";
  const Json shown = show(daemon, id);
  EXPECT_EQ(shown["SnapshotName"], "base");
  EXPECT_EQ(shown["Description"], "of the image");
  EXPECT_EQ(shown["SourceDiskSize"], "21");
  EXPECT_TRUE(daemon.host.stored().contains(disk)) << "until it is captured";
  EXPECT_REFUSED(daemon.ask("FinishSnapshotImport", {{"DiskId", disk}}), 404,
                 "InvalidDiskId.NotFound");
  capture(daemon, id);
  EXPECT_FALSE(daemon.host.stored().contains(disk));
  EXPECT_FALSE(daemon.host.served().contains(disk));
  daemon.must("CreateDisk", {{"SnapshotId", id}});
  const std::string other = daemon.create_disk();
  EXPECT_REFUSED(daemon.ask("FinishSnapshotImport", {{"DiskId", other}}), 403,
                 "IncorrectDiskStatus");
  EXPECT_REFUSED(daemon.ask("BeginSnapshotImport"), 400, "MissingParameter");
  EXPECT_REFUSED(daemon.ask("BeginSnapshotImport", {{"ImageSize", "0"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(daemon.ask("BeginSnapshotImport", {{"ImageSize", "35184372088833"}}), 403,
                 "InvalidDiskSize.TooLarge");
}

TEST_F(SnapshotActions, ADiskThatWaitsForItsCaptureIsLeftAloneByOtherChanges) {
  Daemon daemon(root_.path());
  const std::string disk =
      daemon.must("BeginSnapshotImport", {{"ImageSize", "1"}}).value("DiskId", "");
  const std::string id =
      daemon.must("FinishSnapshotImport", {{"DiskId", disk}}).value("SnapshotId", "");
  daemon.host.fail_next("stop", Errc::kIo);
  daemon.create_disk();
  EXPECT_EQ(daemon.host.failures_left(), 1U) << "it was stopped once more";
  // A stop that fails is tried again by the next change, capture or not.
  daemon.release();
  EXPECT_EQ(daemon.host.failures_left(), 0U);
  capture(daemon, id);
  EXPECT_FALSE(daemon.host.stored().contains(disk));
}

TEST_F(SnapshotActions, AnImportIsGivenUpByDeletionAndByARestart) {
  std::string left;
  {
    Daemon daemon(root_.path());
    const auto begin = [&daemon] {
      return daemon.must("BeginSnapshotImport", {{"ImageSize", "1"}}).value("DiskId", "");
    };
    const std::string disk = begin();
    daemon.must("DeleteDisk", {{"DiskId", disk}});
    EXPECT_TRUE(daemon.host.served().empty());
    EXPECT_TRUE(daemon.host.stored().empty());
    daemon.host.fail_next("serve", Errc::kIo);
    EXPECT_FALSE(daemon.ask("BeginSnapshotImport", {{"ImageSize", "1"}}).ok());
    left = begin();
    EXPECT_EQ(daemon.host.stored(), std::set<std::string>{left}) << "the failed one left nothing";
    daemon.host.fail_next("freeze", Errc::kNoSpace);
    EXPECT_FALSE(daemon.ask("FinishSnapshotImport", {{"DiskId", left}}).ok());
    EXPECT_EQ(daemon.disk(left)["Status"], "Importing") << "it can be tried again";
  }
  Daemon daemon(root_.path());
  EXPECT_TRUE(daemon.disk(left).is_null());
  EXPECT_TRUE(daemon.host.stored().empty());
}

TEST_F(SnapshotActions, SnapshotsOutliveARestartAndTheirDisk) {
  std::string disk, id;
  {
    Daemon daemon(root_.path());
    disk = attached_disk(daemon);
    id = take(daemon, disk);
  }
  Daemon daemon(root_.path());
  ASSERT_EQ(daemon.host.snapshots().size(), 1U) << "the host is told of it";
  EXPECT_FALSE(daemon.host.snapshots().at(id).captured);
  daemon.must("DetachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
  EXPECT_REFUSED(daemon.ask("DeleteDisk", {{"DiskId", disk}}), 403, "DiskCreatingSnapshot");
  capture(daemon, id);
  daemon.must("DeleteDisk", {{"DiskId", disk}});
  EXPECT_TRUE(daemon.host.stored().empty());
  EXPECT_EQ(show(daemon, id)["Status"], "accomplished");
  daemon.must("DeleteSnapshot", {{"SnapshotId", id}});
  EXPECT_TRUE(daemon.host.snapshots().empty());
}

}  // namespace
}  // namespace clouddisk
