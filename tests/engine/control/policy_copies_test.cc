// Automatic snapshots that their policy copies to another region.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

constexpr Duration kOneHour = std::chrono::hours(1);
constexpr Duration kOneDay = std::chrono::hours(24);

class PolicyCopies : public ControlTest {
 protected:
  static Control::Options two_regions() {
    Control::Options options{.seed = 42};
    options.places = *Places::parse({"here", "there"}, {});
    return options;
  }
  // 00:00 of a day after today in UTC+8.
  static WallTime midnight(Daemon& daemon) {
    const WallTime now = daemon.machine.ring->wall_now() + 8 * kOneHour;
    return WallTime(std::chrono::floor<std::chrono::days>(now)) + 2 * kOneDay - 8 * kOneHour;
  }
  static void pass(Daemon& daemon, WallTime at) {
    daemon.machine.ring->block_on(daemon.control->keep_schedule(at));
  }
  // At every midnight; snapshots are kept for 30 days, copies as `more` says.
  static std::string make_policy(Daemon& daemon, Params more) {
    more["timePoints"] = R"(["0"])";
    more["repeatWeekdays"] = R"(["1","2","3","4","5","6","7"])";
    more["retentionDays"] = "30";
    return daemon.must("CreateAutoSnapshotPolicy", std::move(more))["AutoSnapshotPolicyId"];
  }
  static Params copying(const std::string& days) {
    return {{"EnableCrossRegionCopy", "true"},
            {"TargetCopyRegions", R"(["there"])"},
            {"CopiedSnapshotsRetentionDays", days}};
  }
  static std::string disk_under(Daemon& daemon, const std::string& policy) {
    const std::string disk = daemon.create_disk();
    daemon.attach(disk);
    daemon.must("ApplyAutoSnapshotPolicy",
                {{"autoSnapshotPolicyId", policy}, {"diskIds", "[\"" + disk + "\"]"}});
    return disk;
  }
  static Json snapshots(Daemon& daemon, const std::string& region) {
    return daemon.must("DescribeSnapshots",
                       {{"RegionId", region}, {"PageSize", "100"}})["Snapshots"]["Snapshot"];
  }
  static void capture_all(Daemon& daemon) {
    for (const char* region : {"here", "there"}) {
      const Json list = snapshots(daemon, region);
      for (const Json& one : list) {
        if (one["Status"] != "progressing") continue;
        EXPECT_TRUE(daemon.capture(one["SnapshotId"]));
      }
    }
  }
};

TEST_F(PolicyCopies, AreMadeOnceEachOneIsCapturedAndKeptForTheirOwnTime) {
  Daemon daemon(root_.path(), two_regions());
  disk_under(daemon, make_policy(daemon, copying("2")));
  const WallTime first = midnight(daemon);
  pass(daemon, first);
  pass(daemon, first + kOneHour);
  EXPECT_TRUE(snapshots(daemon, "there").empty()) << "it is not captured yet";
  capture_all(daemon);
  pass(daemon, first + 2 * kOneHour);
  pass(daemon, first + 3 * kOneHour);
  const Json copies = snapshots(daemon, "there");
  ASSERT_EQ(copies.size(), 1U);
  const Json source = snapshots(daemon, "here")[0];
  EXPECT_EQ(copies[0]["SourceSnapshotId"], source["SnapshotId"]);
  EXPECT_EQ(copies[0]["SnapshotName"], source["SnapshotName"]);
  EXPECT_EQ(copies[0]["SnapshotType"], "auto");
  EXPECT_EQ(copies[0]["RetentionDays"], 2);
  EXPECT_EQ(source["RetentionDays"], 30);
  for (int day = 1; day < 6; ++day) {
    capture_all(daemon);
    pass(daemon, first + day * kOneDay);
    capture_all(daemon);
    pass(daemon, first + day * kOneDay + 2 * kOneHour);
  }
  EXPECT_EQ(snapshots(daemon, "here").size(), 6U);
  EXPECT_EQ(snapshots(daemon, "there").size(), 2U) << "the others' two days have passed";
}

TEST_F(PolicyCopies, WhatFailsIsCopiedAMinuteLater) {
  Daemon daemon(root_.path(), two_regions());
  disk_under(daemon, make_policy(daemon, copying("-1")));
  const WallTime first = midnight(daemon);
  pass(daemon, first);
  capture_all(daemon);
  daemon.host.fail_next("create", Errc::kNoSpace);
  pass(daemon, first + std::chrono::seconds(1));
  EXPECT_EQ(daemon.host.failures_left(), 0U);
  pass(daemon, first + std::chrono::seconds(2));
  EXPECT_TRUE(snapshots(daemon, "there").empty());
  pass(daemon, first + std::chrono::minutes(2));
  EXPECT_EQ(snapshots(daemon, "there").size(), 1U);
}

TEST_F(PolicyCopies, OneThatCanNotBeMadeHoldsUpNoOther) {
  Daemon daemon(root_.path(), two_regions());
  const std::string policy = make_policy(daemon, copying("-1"));
  for (int i = 0; i < 3; ++i) disk_under(daemon, policy);
  const WallTime first = midnight(daemon);
  pass(daemon, first);
  capture_all(daemon);
  daemon.host.fail_next("freeze", Errc::kCorrupt);
  pass(daemon, first + std::chrono::seconds(1));
  EXPECT_EQ(snapshots(daemon, "there").size(), 2U);
}

TEST_F(PolicyCopies, DeathAtAnyStepCopiesOnce) {
  unsigned crashes = 0;
  for (unsigned crash_at = 1; crash_at < 100; ++crash_at) {
    TempDirectory root;
    WallTime at{};
    {
      Daemon daemon(root.path(), two_regions());
      disk_under(daemon, make_policy(daemon, copying("-1")));
      at = midnight(daemon);
      pass(daemon, at);
      capture_all(daemon);
    }
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Daemon daemon(root.path(), two_regions(), crash_at);
      pass(daemon, at + std::chrono::minutes(1));
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    crashes += WEXITSTATUS(status) == 137 ? 1U : 0U;
    Daemon daemon(root.path(), two_regions());
    pass(daemon, at + std::chrono::minutes(2));
    capture_all(daemon);
    pass(daemon, at + std::chrono::minutes(4));
    EXPECT_EQ(snapshots(daemon, "there").size(), 1U) << "step " << crash_at;
    if (WEXITSTATUS(status) == 0) break;
  }
  EXPECT_GT(crashes, 5U);
}

TEST_F(PolicyCopies, AreShownAndChangedWithThePolicy) {
  Daemon daemon(root_.path(), two_regions());
  const std::string id = make_policy(daemon, copying("7"));
  const auto shown = [&] {
    return daemon.must(
        "DescribeAutoSnapshotPolicyEx",
        {{"AutoSnapshotPolicyId", id}})["AutoSnapshotPolicies"]["AutoSnapshotPolicy"][0];
  };
  EXPECT_EQ(shown()["EnableCrossRegionCopy"], true);
  EXPECT_EQ(shown()["TargetCopyRegions"], R"(["there"])");
  EXPECT_EQ(shown()["CopiedSnapshotsRetentionDays"], 7);
  const auto modify = [&](Params params) {
    params["autoSnapshotPolicyId"] = id;
    return daemon.ask("ModifyAutoSnapshotPolicyEx", std::move(params));
  };
  EXPECT_TRUE(modify({{"CopiedSnapshotsRetentionDays", "-1"}}).ok());
  EXPECT_EQ(shown()["CopiedSnapshotsRetentionDays"], -1);
  EXPECT_EQ(shown()["EnableCrossRegionCopy"], true) << "what is not named stays";
  EXPECT_TRUE(modify({{"retentionDays", "3"}}).ok());
  EXPECT_EQ(shown()["TargetCopyRegions"], R"(["there"])");
  EXPECT_TRUE(modify({{"EnableCrossRegionCopy", "false"}}).ok());
  EXPECT_EQ(shown()["EnableCrossRegionCopy"], false);
  EXPECT_EQ(shown()["TargetCopyRegions"], "");
  for (const char* regions : {"", "there", R"(["here"])", R"(["moon"])", R"(["there","there"])",
                              R"([1])", "[]", "{}", R"([""])"}) {
    EXPECT_REFUSED(modify({{"EnableCrossRegionCopy", "true"}, {"TargetCopyRegions", regions}}), 403,
                   "InvalidParameter.TargetCopyRegions");
  }
  for (const char* days : {"0", "-2", "65536", "x", "99999999999999999999"}) {
    Params params = copying(days);
    EXPECT_REFUSED(modify(std::move(params)), 403, "InvalidParameter.CopiedSnapshotsRetentionDays");
  }
  EXPECT_EQ(shown()["EnableCrossRegionCopy"], false) << "a refusal changes nothing";
}

}  // namespace
}  // namespace clouddisk
