// Copies of snapshots in other regions: rules, chains, what becomes of source and copy, crashes.
#include <gtest/gtest.h>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

Control::Options three_regions() {
  Control::Options options{.seed = 42};
  options.places = *Places::parse({"r1", "r2", "r3"}, {});
  return options;
}

class CopyActions : public ControlTest {
 protected:
  static Json show(Daemon& daemon, const std::string& id) {
    const Json list = daemon.must("DescribeSnapshots", {{"SnapshotIds", "[\"" + id + "\"]"}})
                          .at("Snapshots")
                          .at("Snapshot");
    return list.empty() ? Json() : list[0];
  }
  static bool capture(Daemon& daemon, const std::string& id) { return daemon.capture(id); }
  static std::string take(Daemon& daemon, const std::string& disk) {
    const std::string id =
        daemon.must("CreateSnapshot", {{"DiskId", disk}}).value("SnapshotId", "");
    EXPECT_TRUE(capture(daemon, id));
    return id;
  }
  static std::string copy(Daemon& daemon, const std::string& id, const std::string& region = "r2",
                          Params more = {}) {
    more["SnapshotId"] = id;
    more["DestinationRegionId"] = region;
    return daemon.must("CopySnapshot", std::move(more)).value("SnapshotId", "");
  }
  static std::string used_disk(Daemon& daemon) {
    const std::string disk = daemon.create_disk();
    daemon.attach(disk);
    return disk;
  }
};

TEST_F(CopyActions, ACopyIsASnapshotOfTheOtherRegion) {
  Daemon daemon(root_.path(), three_regions());
  const std::string disk = used_disk(daemon);
  const std::string source = take(daemon, disk);
  const Params wanted{{"RegionId", "r1"},
                      {"DestinationSnapshotName", "offsite"},
                      {"DestinationSnapshotDescription", "a copy"},
                      {"RetentionDays", "7"},
                      {"Tag.1.Key", "k"},
                      {"ClientToken", "t"}};
  const std::string id = copy(daemon, source, "r2", wanted);
  EXPECT_EQ(copy(daemon, source, "r2", wanted), id) << "the same token";
  Json one = show(daemon, id);
  EXPECT_EQ(one["RegionId"], "r2");
  EXPECT_EQ(one["SourceSnapshotId"], source);
  EXPECT_EQ(one["SourceRegionId"], "r1");
  EXPECT_EQ(one["SourceDiskId"], "");
  EXPECT_EQ(one["SourceDiskSize"], "40");
  EXPECT_EQ(one["SnapshotName"], "offsite");
  EXPECT_EQ(one["Description"], "a copy");
  EXPECT_EQ(one["RetentionDays"], 7);
  EXPECT_EQ(one["Tags"]["Tag"][0]["TagKey"], "k");
  EXPECT_EQ(one["Status"], "progressing");
  EXPECT_TRUE(capture(daemon, id));
  EXPECT_EQ(show(daemon, id)["Status"], "accomplished");
  EXPECT_EQ(daemon.must("DescribeSnapshots", {{"RegionId", "r2"}})["TotalCount"], 1);
  const Json links =
      daemon.must("DescribeSnapshotLinks", {{"RegionId", "r2"}})["SnapshotLinks"]["SnapshotLink"];
  ASSERT_EQ(links.size(), 1U);
  EXPECT_EQ(links[0]["SourceDiskId"], "");
  // Used where it is, and nowhere else.
  daemon.must("CreateDisk",
              {{"SnapshotId", id}, {"RegionId", "r2"}, {"DiskCategory", "cloud_essd"}});
  EXPECT_REFUSED(daemon.ask("CreateDisk", {{"SnapshotId", id}, {"DiskCategory", "cloud_essd"}}),
                 404, "InvalidSnapshotId.NotFound");
  daemon.must("StopInstance", {{"InstanceId", "i-local"}});
  EXPECT_REFUSED(daemon.ask("ResetDisk", {{"DiskId", disk}, {"SnapshotId", id}}), 403,
                 "InvalidParameter.Mismatch");
}

TEST_F(CopyActions, EveryRuleHasItsCodeAndChangesNothing) {
  Daemon daemon(root_.path(), three_regions());
  const std::string disk = used_disk(daemon);
  const std::string source = take(daemon, disk);
  const std::string unfinished =
      daemon.must("CreateSnapshot", {{"DiskId", disk}}).value("SnapshotId", "");
  const auto before = daemon.host.stored();
  struct Case {
    Params params;
    int status;
    const char* code;
  };
  const Params good{{"SnapshotId", source}, {"DestinationRegionId", "r2"}};
  const auto with = [&good](const std::string& name, const std::string& value) {
    Params params = good;
    params[name] = value;
    return params;
  };
  const Case cases[] = {
      {{{"SnapshotId", source}}, 400, "MissingParameter"},
      {{{"DestinationRegionId", "r2"}}, 400, "MissingParameter"},
      {with("SnapshotId", "s-none"), 404, "InvalidSnapshotId.NotFound"},
      {with("RegionId", "r2"), 404, "InvalidSnapshotId.NotFound"},
      {with("RegionId", "r9"), 404, "InvalidRegionId.NotFound"},
      {with("DestinationRegionId", "r9"), 404, "InvalidRegionId.NotFound"},
      {with("DestinationRegionId", "r1"), 400, "InvalidDestinationRegionId"},
      {with("SnapshotId", unfinished), 403, "InvalidSnapshotId.NotReady"},
      {with("RetentionDays", "0"), 400, "InvalidRetentionDays.Malformed"},
      {with("RetentionDays", "65537"), 400, "InvalidRetentionDays.Malformed"},
      {with("DestinationSnapshotName", "http://x"), 400, "InvalidSnapshotName.Malformed"},
      {with("DestinationSnapshotDescription", "x"), 404, "InvalidDescription.Malformed"},
      {with("Encrypted", "true"), 403, "InvalidParameter.EncryptedNotSupported"},
      {with("KMSKeyId", "key"), 403, "InvalidParameter.EncryptedNotSupported"},
      {with("Tag.1.Key", "acs:x"), 400, "InvalidTagKey.Malformed"},
      {with("DryRun", "true"), 400, "DryRunOperation"},
  };
  for (const Case& c : cases) {
    EXPECT_REFUSED(daemon.ask("CopySnapshot", c.params), c.status, c.code);
  }
  EXPECT_EQ(daemon.must("DescribeSnapshots", {{"RegionId", "r2"}})["TotalCount"], 0);
  EXPECT_EQ(daemon.host.stored(), before);
}

TEST_F(CopyActions, AsManyAsADiskMayHave) {
  Control::Options options = three_regions();
  options.snapshot_quota = 2;
  Daemon daemon(root_.path(), std::move(options));
  const std::string source = take(daemon, used_disk(daemon));
  copy(daemon, source);
  copy(daemon, source);
  EXPECT_REFUSED(
      daemon.ask("CopySnapshot", {{"SnapshotId", source}, {"DestinationRegionId", "r2"}}), 403,
      "QuotaExceed.Snapshot");
  copy(daemon, source, "r3");
}

TEST_F(CopyActions, CopiesOfAChainDescendFromTheNewestThatIsThere) {
  Daemon daemon(root_.path(), three_regions());
  const std::string disk = used_disk(daemon);
  const auto copied = [&](const std::string& source, const std::string& region) {
    const std::string id = copy(daemon, source, region);
    EXPECT_TRUE(capture(daemon, id));
    return show(daemon, id);
  };
  const Json first = copied(take(daemon, disk), "r2");
  EXPECT_EQ(first["ParentSN"], "0");
  const Json second = copied(take(daemon, disk), "r2");
  EXPECT_EQ(second["ParentSN"], "1");
  EXPECT_EQ(second["SnapshotLinkId"], first["SnapshotLinkId"]);
  const Json elsewhere = copied(take(daemon, disk), "r3");
  EXPECT_EQ(elsewhere["ParentSN"], "0");
  EXPECT_NE(elsewhere["SnapshotLinkId"], first["SnapshotLinkId"]);
  daemon.must("DeleteSnapshot", {{"SnapshotId", second["SnapshotId"]}});
  EXPECT_EQ(copied(take(daemon, disk), "r2")["ParentSN"], "1") << "the deleted one is gone";
  const Json other = copied(take(daemon, used_disk(daemon)), "r2");
  EXPECT_NE(other["SnapshotLinkId"], first["SnapshotLinkId"]);
  // A copy can be copied on.
  const Json further = copied(first["SnapshotId"], "r1");
  EXPECT_EQ(further["SourceSnapshotId"], first["SnapshotId"]);
  EXPECT_EQ(further["ParentSN"], "0");
}

TEST_F(CopyActions, TheSourceMayGoAndStaysUntilTheCopyHasItAll) {
  Daemon daemon(root_.path(), three_regions());
  const std::string disk = used_disk(daemon);
  const std::string source = take(daemon, disk);
  const std::string id = copy(daemon, source);
  const std::string storage = daemon.host.snapshots().at(id).storage;
  EXPECT_TRUE(daemon.host.stored().contains(storage));
  EXPECT_EQ(daemon.host.snapshots().at(id).storage_base, source);
  daemon.must("DetachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
  daemon.must("DeleteSnapshot", {{"SnapshotId", source}});
  daemon.must("DeleteDisk", {{"DiskId", disk}});
  EXPECT_TRUE(show(daemon, source).is_null());
  EXPECT_TRUE(daemon.host.snapshots().contains(source)) << "hidden, but there";
  EXPECT_TRUE(capture(daemon, id));
  EXPECT_FALSE(daemon.host.snapshots().contains(source));
  EXPECT_FALSE(daemon.host.stored().contains(storage)) << "nobody needs what was frozen";
  EXPECT_EQ(show(daemon, id)["SourceSnapshotId"], source);
  daemon.must("DeleteSnapshot", {{"SnapshotId", id}});
  EXPECT_TRUE(daemon.host.snapshots().empty());
  EXPECT_EQ(daemon.must("DescribeSnapshotLinks")["TotalCount"], 0);
}

TEST_F(CopyActions, WhatFailsLeavesNothing) {
  Daemon daemon(root_.path(), three_regions());
  const std::string source = take(daemon, used_disk(daemon));
  const auto before = daemon.host.stored();
  for (const char* call : {"create", "freeze"}) {
    daemon.host.fail_next(call, Errc::kNoSpace);
    EXPECT_REFUSED(
        daemon.ask("CopySnapshot", {{"SnapshotId", source}, {"DestinationRegionId", "r2"}}), 503,
        "ServiceUnavailable");
    EXPECT_EQ(daemon.host.stored(), before) << call;
  }
  EXPECT_EQ(show(daemon, copy(daemon, source))["SnapshotSN"], "1");
}

TEST_F(CopyActions, GoOnAfterARestartAndADeletedOneIsGivenUp) {
  std::string source, kept, dropped;
  {
    Daemon daemon(root_.path(), three_regions());
    const std::string disk = used_disk(daemon);
    source = take(daemon, disk);
    kept = copy(daemon, source);
    dropped = copy(daemon, source, "r3");
    daemon.must("DeleteSnapshot", {{"SnapshotId", dropped}});
  }
  Daemon daemon(root_.path(), three_regions());
  EXPECT_FALSE(daemon.host.snapshots().contains(dropped));
  ASSERT_TRUE(daemon.host.snapshots().contains(kept));
  const SnapshotSettings settings = daemon.host.snapshots().at(kept);
  EXPECT_FALSE(settings.captured);
  EXPECT_EQ(settings.storage_base, source);
  EXPECT_TRUE(daemon.host.stored().contains(settings.storage));
  EXPECT_TRUE(capture(daemon, kept));
  EXPECT_EQ(show(daemon, kept)["Status"], "accomplished");
}

}  // namespace
}  // namespace clouddisk
