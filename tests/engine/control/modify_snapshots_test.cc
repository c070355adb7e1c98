// Names, descriptions and retention of snapshots and groups that are there.
#include "tests/engine/control/image_fixture.h"

namespace clouddisk {
namespace {

class ModifySnapshots : public ImageTest {
 protected:
  static std::string snapshot(Daemon& daemon, Params params = {}) {
    params["DiskId"] = daemon.create_disk();
    daemon.attach(params["DiskId"]);
    return daemon.must("CreateSnapshot", std::move(params))["SnapshotId"];
  }
  static Json show(Daemon& daemon, const std::string& id) {
    const Json body = daemon.must("DescribeSnapshots", {{"SnapshotIds", "[\"" + id + "\"]"}});
    return body["Snapshots"]["Snapshot"][0];
  }
};

TEST_F(ModifySnapshots, WhatIsGivenChangesAndTheRestStays) {
  std::string id;
  {
    Daemon daemon(root_.path());
    id = snapshot(daemon, {{"SnapshotName", "one"}, {"RetentionDays", "3"}});
    daemon.must("ModifySnapshotAttribute", {{"SnapshotId", id}, {"Description", "of today"}});
    daemon.must("ModifySnapshotAttribute",
                {{"SnapshotId", id}, {"RetentionDays", "5"}, {"DisableInstantAccess", "true"}});
    EXPECT_EQ(show(daemon, id)["SnapshotName"], "one");
    daemon.must("ModifySnapshotAttribute", {{"SnapshotId", id}, {"SnapshotName", "two"}});
    capture(daemon, id);
  }
  Daemon daemon(root_.path());
  const Json shown = show(daemon, id);
  EXPECT_EQ(shown["SnapshotName"], "two");
  EXPECT_EQ(shown["Description"], "of today");
  EXPECT_EQ(shown["RetentionDays"], 5);
  EXPECT_EQ(shown["Status"], "accomplished");
}

TEST_F(ModifySnapshots, EveryRuleHasItsCode) {
  Daemon daemon(root_.path());
  const std::string id = snapshot(daemon, {{"RetentionDays", "7"}});
  const std::string for_ever = snapshot(daemon);
  const auto modify = [&daemon](const std::string& which, Params params) {
    params["SnapshotId"] = which;
    return daemon.ask("ModifySnapshotAttribute", std::move(params));
  };
  EXPECT_REFUSED(daemon.ask("ModifySnapshotAttribute"), 400, "MissingParameter");
  EXPECT_REFUSED(modify("s-none", {}), 404, "InvalidSnapshotId.NotFound");
  EXPECT_REFUSED(modify(id, {{"SnapshotName", "auto1"}}), 400, "InvalidSnapshotName.Malformed");
  EXPECT_REFUSED(modify(id, {{"Description", "x"}}), 400, "InvalidDescription.Malformed");
  EXPECT_REFUSED(modify(id, {{"RetentionDays", "week"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(modify(id, {{"RetentionDays", "65537"}}), 400, "InvalidRetentionDays.Malformed");
  EXPECT_REFUSED(modify(id, {{"RetentionDays", "6"}}), 400, "InvalidRetentionDays.Malformed");
  EXPECT_REFUSED(modify(for_ever, {{"RetentionDays", "6"}}), 400, "InvalidRetentionDays.Malformed");
  EXPECT_REFUSED(modify(id, {{"RetentionDays", "8"}, {"DryRun", "true"}}), 400, "DryRunOperation");
  EXPECT_EQ(show(daemon, id)["RetentionDays"], 7);
  EXPECT_TRUE(modify(id, {{"RetentionDays", "7"}}).ok());
}

TEST_F(ModifySnapshots, AGroupIsRenamed) {
  Daemon daemon(root_.path());
  const std::string instance = with_data(daemon);
  const std::string id = daemon.must(
      "CreateSnapshotGroup", {{"InstanceId", instance}, {"Name", "one"}})["SnapshotGroupId"];
  const auto modify = [&](Params params) {
    params.try_emplace("SnapshotGroupId", id);
    return daemon.ask("ModifySnapshotGroup", std::move(params));
  };
  EXPECT_REFUSED(daemon.ask("ModifySnapshotGroup"), 400, "MissingParameter");
  EXPECT_REFUSED(modify({{"SnapshotGroupId", "ssg-none"}}), 404, "InvalidSnapshotGroupId.NotFound");
  EXPECT_REFUSED(modify({{"Name", "1"}}), 400, "InvalidParameter.Name");
  EXPECT_REFUSED(modify({{"Description", "x"}}), 400, "InvalidParameter.Description");
  EXPECT_REFUSED(modify({{"Name", "two"}, {"DryRun", "true"}}), 400, "DryRunOperation");
  EXPECT_TRUE(modify({{"Name", "two"}}).ok());
  EXPECT_TRUE(modify({{"Description", "of both"}}).ok());
  const Json group = daemon.must("DescribeSnapshotGroups")["SnapshotGroups"]["SnapshotGroup"][0];
  EXPECT_EQ(group["Name"], "two");
  EXPECT_EQ(group["Description"], "of both");
}

TEST_F(ModifySnapshots, TheServiceIsOpen) {
  Daemon daemon(root_.path());
  daemon.must("OpenSnapshotService", {{"RegionId", "cn-local"}});
  EXPECT_REFUSED(daemon.ask("OpenSnapshotService", {{"RegionId", "mars"}}), 404,
                 "InvalidRegionId.NotFound");
}

}  // namespace
}  // namespace clouddisk
