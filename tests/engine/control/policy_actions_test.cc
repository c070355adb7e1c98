// Automatic snapshot policies through the actions: rules, what is shown, disks under them.
#include <gtest/gtest.h>

#include <set>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

class PolicyActions : public ControlTest {
 protected:
  static Params daily(Params more = {}) {
    more.try_emplace("timePoints", R"(["6"])");
    more.try_emplace("repeatWeekdays", R"(["1","2","3","4","5","6","7"])");
    more.try_emplace("retentionDays", "7");
    return more;
  }
  static std::string make(Daemon& daemon, Params more = {}) {
    return daemon.must("CreateAutoSnapshotPolicy", daily(std::move(more)))["AutoSnapshotPolicyId"];
  }
  static Answer apply(Daemon& daemon, const std::string& policy,
                      const std::vector<std::string>& disks, Params more = {}) {
    more["autoSnapshotPolicyId"] = policy;
    more["diskIds"] = Json(disks).dump();
    return daemon.ask("ApplyAutoSnapshotPolicy", std::move(more));
  }
  static Json policies(Daemon& daemon, Params params = {}) {
    return daemon.must("DescribeAutoSnapshotPolicyEx",
                       std::move(params))["AutoSnapshotPolicies"]["AutoSnapshotPolicy"];
  }
  static std::set<std::string> disks_with(Daemon& daemon, Params params) {
    std::set<std::string> ids;
    const Json body = daemon.must("DescribeDisks", std::move(params));
    for (const Json& disk : body["Disks"]["Disk"]) ids.insert(disk["DiskId"].get<std::string>());
    return ids;
  }
  static Task<void> create(Daemon& daemon, Params params, unsigned& made, unsigned& answered) {
    const Reply reply = co_await daemon.control->perform(std::move(params));
    if (reply.http_status == 200) ++made;
    ++answered;
  }
  // "disk policy" of each.
  static std::set<std::string> associations(Daemon& daemon, Params params = {}) {
    std::set<std::string> found;
    params["MaxResults"] = "2";
    std::string token;
    do {
      params["NextToken"] = token;
      const Json body = daemon.must("DescribeAutoSnapshotPolicyAssociations", params);
      const Json& page = body["AutoSnapshotPolicyAssociations"]["AutoSnapshotPolicyAssociation"];
      EXPECT_LE(page.size(), 2U);
      for (const Json& one : page) {
        found.insert(one["DiskId"].get<std::string>() + " " +
                     one["AutoSnapshotPolicyId"].get<std::string>());
      }
      token = body["NextToken"];
    } while (!token.empty());
    return found;
  }
};

TEST_F(PolicyActions, AreMadeShownModifiedAndDeleted) {
  Daemon daemon(root_.path());
  const std::string id = make(daemon, {{"autoSnapshotPolicyName", "daily"},
                                       {"ResourceGroupId", "rg-1"},
                                       {"EnableCrossRegionCopy", "false"}});
  EXPECT_TRUE(id.starts_with("sp-")) << id;
  EXPECT_EQ(id.size(), 23U);
  Json shown = policies(daemon, {{"AutoSnapshotPolicyId", id}})[0];
  const std::map<std::string, Json> members = {
      {"AutoSnapshotPolicyId", id},
      {"AutoSnapshotPolicyName", "daily"},
      {"RegionId", "cn-local"},
      {"TimePoints", R"(["6"])"},
      {"RepeatWeekdays", R"(["1","2","3","4","5","6","7"])"},
      {"RetentionDays", 7},
      {"DiskNums", 0},
      {"VolumeNums", 0},
      {"Status", "Normal"},
      {"Type", "Custom"},
      {"AssociationType", ""},
      {"ResourceGroupId", "rg-1"},
      {"EnableCrossRegionCopy", false},
      {"TargetCopyRegions", ""},
      {"CopiedSnapshotsRetentionDays", -1},
      {"CopyEncryptionConfiguration", {{"Encrypted", false}, {"KMSKeyId", ""}}},
      {"TargetTags", {{"TargetTag", Json::array()}}},
      {"Tags", {{"Tag", Json::array()}}},
  };
  for (const auto& [member, value] : members) EXPECT_EQ(shown[member], value) << member;
  EXPECT_EQ(shown.size(), members.size() + 2) << "and CreationTime, NextTime";
  EXPECT_EQ(shown["CreationTime"].get<std::string>().size(), 20U);
  EXPECT_TRUE(shown["NextTime"].get<std::string>().ends_with("T22:00:00Z")) << "06:00 in UTC+8";

  daemon.must(
      "ModifyAutoSnapshotPolicyEx",
      {{"AutoSnapshotPolicyId", id}, {"TimePoints", R"(["23","0"])"}, {"RetentionDays", "-1"}});
  shown = policies(daemon)[0];
  EXPECT_EQ(shown["TimePoints"], R"(["0","23"])");
  EXPECT_EQ(shown["RetentionDays"], -1);
  EXPECT_EQ(shown["RepeatWeekdays"], R"(["1","2","3","4","5","6","7"])") << "as it was";
  EXPECT_EQ(shown["AutoSnapshotPolicyName"], "daily");
  daemon.must("ModifyAutoSnapshotPolicyEx", {{"autoSnapshotPolicyId", id},
                                             {"repeatWeekdays", R"(["2"])"},
                                             {"autoSnapshotPolicyName", "on tuesdays"}});
  EXPECT_EQ(policies(daemon, {{"AutoSnapshotPolicyName", "on *"}}).size(), 1U);
  EXPECT_EQ(policies(daemon, {{"AutoSnapshotPolicyName", "daily"}}).size(), 0U);
  EXPECT_EQ(policies(daemon, {{"ResourceGroupId", "rg-2"}}).size(), 0U);
  daemon.must("DeleteAutoSnapshotPolicy", {{"autoSnapshotPolicyId", id}});
  EXPECT_EQ(policies(daemon).size(), 0U);
}

TEST_F(PolicyActions, EveryRuleHasItsCode) {
  Daemon daemon(root_.path());
  const std::string id = make(daemon);
  const std::string disk = daemon.create_disk();
  struct Case {
    const char* what;
    Params params;
    int status;
    const char* code;
  };
  const Case bad[] = {
      {"hour", {{"timePoints", R"(["24"])"}}, 403, "ParameterInvalid"},
      {"no list of hours", {{"timePoints", "6"}}, 403, "ParameterInvalid"},
      {"weekday", {{"repeatWeekdays", R"(["0"])"}}, 403, "ParameterInvalid"},
      {"no list of weekdays", {{"repeatWeekdays", "[]"}}, 403, "ParameterInvalid"},
      {"no days", {{"retentionDays", "0"}}, 403, "ParameterInvalid"},
      {"too many days", {{"retentionDays", "65536"}}, 403, "ParameterInvalid"},
      {"days in words", {{"retentionDays", "week"}}, 403, "ParameterInvalid"},
      {"name", {{"autoSnapshotPolicyName", "x"}}, 400, "InvalidSnapshotPolicyName.Malformed"},
      {"url", {{"autoSnapshotPolicyName", "http://x"}}, 400, "InvalidSnapshotPolicyName.Malformed"},
      {"copies", {{"EnableCrossRegionCopy", "true"}}, 403, "InvalidParameter.TargetCopyRegions"},
      {"copies home",
       {{"EnableCrossRegionCopy", "true"}, {"TargetCopyRegions", R"(["cn-local"])"}},
       403,
       "InvalidParameter.TargetCopyRegions"},
      {"copies where", {{"TargetCopyRegions", "r"}}, 403, "InvalidParameter.TargetCopyRegions"},
      {"copies' days",
       {{"CopiedSnapshotsRetentionDays", "7"}},
       403,
       "InvalidParameter.CopiedSnapshotsRetentionDays"},
      {"encryption", {{"CopyEncryptionConfiguration.Encrypted", "true"}}, 403, "ParameterInvalid"},
      {"by tags", {{"TargetTags.1.Key", "a"}}, 403, "ParameterInvalid"},
      {"dry run", {{"DryRun", "true"}}, 400, "DryRunOperation"},
      {"region", {{"regionId", "mars"}}, 404, "InvalidRegionId.NotFound"},
  };
  for (const Case& one : bad) {
    SCOPED_TRACE(one.what);
    EXPECT_REFUSED(daemon.ask("CreateAutoSnapshotPolicy", daily(one.params)), one.status, one.code);
    Params change = one.params;
    change["autoSnapshotPolicyId"] = id;
    EXPECT_REFUSED(daemon.ask("ModifyAutoSnapshotPolicyEx", change), one.status, one.code);
  }
  for (const char* needed : {"timePoints", "repeatWeekdays", "retentionDays"}) {
    Params params = daily();
    params.erase(needed);
    EXPECT_REFUSED(daemon.ask("CreateAutoSnapshotPolicy", params), 400, "MissingParameter");
  }
  EXPECT_EQ(policies(daemon).size(), 1U) << "a refusal changes nothing";

  const Params nobody = {{"autoSnapshotPolicyId", "sp-none"}};
  EXPECT_REFUSED(daemon.ask("ModifyAutoSnapshotPolicyEx", nobody), 404, "ParameterInvalid");
  EXPECT_REFUSED(daemon.ask("DeleteAutoSnapshotPolicy", nobody), 404, "ParameterInvalid");
  EXPECT_REFUSED(daemon.ask("DeleteAutoSnapshotPolicy"), 400, "MissingParameter");
  EXPECT_REFUSED(
      daemon.ask("DeleteAutoSnapshotPolicy", {{"autoSnapshotPolicyId", id}, {"DryRun", "true"}}),
      400, "DryRunOperation");
  EXPECT_REFUSED(apply(daemon, "sp-none", {disk}), 400, "InvalidAutoSnapshotPolicyId.NotFound");
  EXPECT_REFUSED(apply(daemon, id, {disk, "d-none"}), 404, "InvalidDiskId.NotFound");
  EXPECT_REFUSED(apply(daemon, id, {disk}, {{"DryRun", "true"}}), 400, "DryRunOperation");
  for (const char* action : {"ApplyAutoSnapshotPolicy", "CancelAutoSnapshotPolicy"}) {
    SCOPED_TRACE(action);
    Params params = {{"autoSnapshotPolicyId", id}};
    EXPECT_REFUSED(daemon.ask(action, params), 400, "MissingParameter");
    params["diskIds"] = disk;
    EXPECT_REFUSED(daemon.ask(action, params), 403, "ParameterInvalid");
    params["diskIds"] = Json(std::vector<std::string>(101, disk)).dump();
    EXPECT_REFUSED(daemon.ask(action, params), 403, "ParameterInvalid");
  }
  EXPECT_REFUSED(daemon.ask("CancelAutoSnapshotPolicy", {{"diskIds", Json({disk}).dump()},
                                                         {"autoSnapshotPolicyId", "sp-none"}}),
                 404, "ParameterInvalid");
  EXPECT_EQ(daemon.disk(disk)["EnableAutomatedSnapshotPolicy"], false);
}

TEST_F(PolicyActions, AHundredARegionAndNoMore) {
  Control::Options options{.seed = 42};
  options.places = *Places::parse({"r1", "r2"}, {});
  Daemon daemon(root_.path(), options);
  for (int i = 0; i < 100; ++i) make(daemon);
  EXPECT_REFUSED(daemon.ask("CreateAutoSnapshotPolicy", daily()), 403,
                 "AutoSnapshotPolicy.QuotaExceed");
  const std::string there = make(daemon, {{"regionId", "r2"}});
  EXPECT_EQ(daemon.must("DescribeAutoSnapshotPolicyEx", {{"RegionId", "r1"}})["TotalCount"], 100);
  EXPECT_EQ(policies(daemon, {{"RegionId", "r2"}})[0]["AutoSnapshotPolicyId"], there);
  // A policy and its disks are in one region.
  const std::string disk = daemon.create_disk();
  EXPECT_REFUSED(apply(daemon, there, {disk}), 404, "InvalidDiskId.NotFound");
  EXPECT_REFUSED(apply(daemon, there, {disk}, {{"regionId", "r1"}}), 400,
                 "InvalidAutoSnapshotPolicyId.NotFound");
  EXPECT_REFUSED(
      daemon.ask("DeleteAutoSnapshotPolicy", {{"regionId", "r1"}, {"autoSnapshotPolicyId", there}}),
      404, "ParameterInvalid");
}

TEST_F(PolicyActions, DisksComeUnderAPolicyAndLeaveIt) {
  std::string a, b, c, first, second;
  {
    Daemon daemon(root_.path());
    a = daemon.create_disk();
    b = daemon.create_disk();
    c = daemon.create_disk();
    first = make(daemon);
    second = make(daemon);
    ASSERT_TRUE(apply(daemon, first, {a, b, a}).ok());
    EXPECT_EQ(daemon.disk(a)["AutoSnapshotPolicyId"], first);
    EXPECT_EQ(daemon.disk(a)["EnableAutomatedSnapshotPolicy"], true);
    ASSERT_TRUE(apply(daemon, second, {b}).ok()) << "it takes the place of the other";
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(associations(daemon), (std::set<std::string>{a + " " + first, b + " " + second}));
  EXPECT_EQ(associations(daemon, {{"DiskId", b}}), (std::set<std::string>{b + " " + second}));
  EXPECT_EQ(associations(daemon, {{"AutoSnapshotPolicyId", first}}),
            (std::set<std::string>{a + " " + first}));
  EXPECT_EQ(disks_with(daemon, {{"AutoSnapshotPolicyId", second}}), (std::set<std::string>{b}));
  EXPECT_EQ(disks_with(daemon, {{"EnableAutomatedSnapshotPolicy", "false"}}),
            (std::set<std::string>{c}));
  EXPECT_EQ(disks_with(daemon, {{"EnableAutomatedSnapshotPolicy", "true"}}),
            (std::set<std::string>{a, b}));
  EXPECT_EQ(policies(daemon, {{"AutoSnapshotPolicyId", first}})[0]["DiskNums"], 1);
  daemon.must("CancelAutoSnapshotPolicy", {{"diskIds", Json({b, c}).dump()}});
  EXPECT_EQ(daemon.disk(b)["AutoSnapshotPolicyId"], "");
  EXPECT_EQ(policies(daemon, {{"AutoSnapshotPolicyId", second}})[0]["DiskNums"], 0);
  daemon.must("CancelAutoSnapshotPolicy",
              {{"diskIds", Json({a}).dump()}, {"autoSnapshotPolicyId", second}});
  EXPECT_EQ(daemon.disk(a)["AutoSnapshotPolicyId"], first) << "that is another policy";
  daemon.must("DeleteAutoSnapshotPolicy", {{"autoSnapshotPolicyId", first}});
  EXPECT_EQ(daemon.disk(a)["EnableAutomatedSnapshotPolicy"], false);
  EXPECT_TRUE(associations(daemon).empty());
}

TEST_F(PolicyActions, TheNewerProfileHasTenPoliciesADisk) {
  Daemon daemon(root_.path(), {.profile = "2024", .seed = 42});
  const std::string disk = daemon.create_disk();
  std::vector<std::string> ids;
  for (int i = 0; i < 11; ++i) ids.push_back(make(daemon));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(apply(daemon, ids[i], {disk}).ok());
  EXPECT_REFUSED(apply(daemon, ids[10], {disk}), 403, "QuotaExceed.AppliedAutoSnapshotPolicyQuota");
  EXPECT_TRUE(apply(daemon, ids[3], {disk}).ok());
  EXPECT_EQ(associations(daemon).size(), 10U);
  EXPECT_EQ(daemon.disk(disk)["AutoSnapshotPolicyId"], ids[0]);
  daemon.must("CancelAutoSnapshotPolicy",
              {{"diskIds", Json({disk}).dump()}, {"autoSnapshotPolicyId", ids[0]}});
  EXPECT_EQ(daemon.disk(disk)["AutoSnapshotPolicyId"], ids[1]);
  daemon.must("CancelAutoSnapshotPolicy", {{"diskIds", Json({disk}).dump()}});
  EXPECT_TRUE(associations(daemon).empty());
}

TEST_F(PolicyActions, ThoseThatAreMadeAtOnceCountEachOther) {
  constexpr unsigned kAtOnce = 150;
  constexpr unsigned kMost = 100;
  Daemon daemon(root_.path());
  unsigned made = 0, answered = 0;
  for (unsigned i = 0; i < kAtOnce; ++i) {
    spawn(create(daemon, daily({{"Action", "CreateAutoSnapshotPolicy"}}), made, answered));
  }
  daemon.machine.ring->run_until([&answered] { return answered == kAtOnce; });
  EXPECT_EQ(made, kMost);
  EXPECT_REFUSED(daemon.ask("CreateAutoSnapshotPolicy", daily()), 403,
                 "AutoSnapshotPolicy.QuotaExceed");
}

TEST_F(PolicyActions, DisksOfANewInstanceMayBeUnderOne) {
  Daemon daemon(root_.path());
  const std::string id = make(daemon);
  const Params run = {{"ImageId", "m"},
                      {"InstanceType", "ecs.x"},
                      {"SystemDisk.AutoSnapshotPolicyId", id},
                      {"DataDisk.1.Size", "20"},
                      {"DataDisk.1.AutoSnapshotPolicyId", id},
                      {"DataDisk.2.Size", "20"}};
  daemon.must("RunInstances", run);
  EXPECT_EQ(policies(daemon)[0]["DiskNums"], 2);
  Params unknown = run;
  unknown["DataDisk.1.AutoSnapshotPolicyId"] = "sp-none";
  EXPECT_REFUSED(daemon.ask("RunInstances", unknown), 400, "InvalidAutoSnapshotPolicyId.NotFound");
}

}  // namespace
}  // namespace clouddisk
