// What happens by itself as time goes by, with a clock that the test owns.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

constexpr Duration kHour = std::chrono::hours(1);
constexpr Duration kDay = 24 * kHour;
constexpr Duration kMinute = std::chrono::minutes(1);

class AutoSnapshots : public ControlTest {
 protected:
  // 00:00 of a day after today in UTC+8: what is made now was made before.
  static WallTime midnight(Daemon& daemon) {
    const WallTime now = daemon.machine.ring->wall_now() + 8 * kHour;
    return WallTime(std::chrono::floor<std::chrono::days>(now)) + 2 * kDay - 8 * kHour;
  }
  static void pass(Daemon& daemon, WallTime at) {
    daemon.machine.ring->block_on(daemon.control->keep_schedule(at));
  }
  static std::string make_policy(Daemon& daemon, const std::string& hours,
                                 const std::string& days = "-1",
                                 const std::string& weekdays = R"(["1","2","3","4","5","6","7"])") {
    return daemon.must("CreateAutoSnapshotPolicy",
                       {{"timePoints", hours},
                        {"repeatWeekdays", weekdays},
                        {"retentionDays", days}})["AutoSnapshotPolicyId"];
  }
  static void apply(Daemon& daemon, const std::string& policy, const std::string& disk) {
    daemon.must("ApplyAutoSnapshotPolicy",
                {{"autoSnapshotPolicyId", policy}, {"diskIds", "[\"" + disk + "\"]"}});
  }
  static std::string attached_disk(Daemon& daemon) {
    const std::string disk = daemon.create_disk();
    daemon.attach(disk);
    return disk;
  }
  // Newest first.
  static Json snapshots(Daemon& daemon, const std::string& disk, Params params = {}) {
    params["DiskId"] = disk;
    params["PageSize"] = "100";
    return daemon.must("DescribeSnapshots", std::move(params))["Snapshots"]["Snapshot"];
  }
  static std::vector<std::string> names(Daemon& daemon, const std::string& disk) {
    std::vector<std::string> all;
    const Json list = snapshots(daemon, disk);
    for (const Json& one : list) all.push_back(one["SnapshotName"]);
    return all;
  }
  static void capture(Daemon& daemon, const std::string& disk) {
    const Json list = snapshots(daemon, disk, {{"Status", "progressing"}});
    for (const Json& one : list) {
      EXPECT_TRUE(daemon.capture(one["SnapshotId"], 4096));
    }
  }
  static std::string day_name(WallTime at, int number) {
    const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(at + 8 * kHour));
    return fmt::format("auto_{:04}{:02}{:02}_{}", static_cast<int>(day.year()),
                       static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()),
                       number);
  }
};

// Mondays at 06:00, kept for 30 days; and Thursdays at 23:00, for ever; asked every hour.
TEST_F(AutoSnapshots, AYearOfTwoPolicies) {
  Daemon daemon(root_.path());
  const std::string brief = attached_disk(daemon);
  const std::string lasting = attached_disk(daemon);
  const std::string free = attached_disk(daemon);
  apply(daemon, make_policy(daemon, R"(["6"])", "30", R"(["1"])"), brief);
  apply(daemon, make_policy(daemon, R"(["23"])", "-1", R"(["4"])"), lasting);
  const WallTime begin =
      std::chrono::floor<std::chrono::hours>(daemon.machine.ring->wall_now()) + kHour;
  std::set<std::string> seen;
  std::size_t mondays = 0;
  std::size_t thursdays = 0;
  for (int hour = 0; hour < 365 * 24; ++hour) {
    const WallTime now = begin + hour * kHour + 10 * kMinute;
    pass(daemon, now);
    const auto today = std::chrono::floor<std::chrono::days>(now + 8 * kHour);
    const std::chrono::weekday day(today);
    const auto of_day = (now + 8 * kHour - today) / std::chrono::hours(1);
    if (day == std::chrono::Monday && of_day == 6) {
      ++mondays;
      ASSERT_EQ(names(daemon, brief).front(), day_name(now, 1)) << hour;
      seen.insert(names(daemon, brief).front());
      capture(daemon, brief);
      const Json kept = snapshots(daemon, brief);
      ASSERT_EQ(kept.size(), std::min<std::size_t>(mondays, 5)) << "of the last 30 days";
      EXPECT_EQ(kept[0]["SnapshotType"], "auto");
      EXPECT_EQ(kept[0]["RetentionDays"], 30);
    }
    if (day == std::chrono::Thursday && of_day == 23) {
      ++thursdays;
      capture(daemon, lasting);
    }
  }
  EXPECT_GE(mondays, 52U);
  EXPECT_EQ(seen.size(), mondays);
  EXPECT_EQ(snapshots(daemon, lasting).size(), thursdays);
  EXPECT_TRUE(snapshots(daemon, free).empty());
  EXPECT_EQ(daemon.host.snapshots().size(), snapshots(daemon, brief).size() + thursdays)
      << "the content of the others is gone as well";
}

TEST_F(AutoSnapshots, ADaemonThatSleptTakesOneAndNoneTwice) {
  std::string disk;
  WallTime begin{};
  {
    Daemon daemon(root_.path());
    disk = attached_disk(daemon);
    apply(daemon, make_policy(daemon, R"(["1","2","3"])"), disk);
    begin = midnight(daemon);
    pass(daemon, daemon.machine.ring->wall_now());
    EXPECT_TRUE(snapshots(daemon, disk).empty()) << "points before it was applied are not missed";
  }
  const WallTime awake = begin + 10 * kDay + 150 * kMinute;
  {
    Daemon daemon(root_.path(), {.seed = 43});
    pass(daemon, awake);
    EXPECT_EQ(names(daemon, disk), (std::vector<std::string>{day_name(awake, 1)}));
    capture(daemon, disk);
    pass(daemon, awake + kMinute);
    EXPECT_EQ(snapshots(daemon, disk).size(), 1U);
  }
  Daemon daemon(root_.path(), {.seed = 44});
  pass(daemon, awake + 2 * kMinute);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U) << "a restart takes none again";
  pass(daemon, awake - kDay);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U) << "nor does a clock that is set back";
  pass(daemon, begin + 10 * kDay + 3 * kHour);
  EXPECT_EQ(names(daemon, disk),
            (std::vector<std::string>{day_name(awake, 2), day_name(awake, 1)}));
}

TEST_F(AutoSnapshots, APointIsSkippedWhileASnapshotOfTheDiskRuns) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string other = attached_disk(daemon);
  const std::string policy = make_policy(daemon, R"(["9","10","11"])");
  apply(daemon, policy, disk);
  apply(daemon, policy, other);
  const WallTime begin = midnight(daemon);
  pass(daemon, begin + 9 * kHour);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U);
  capture(daemon, other);
  pass(daemon, begin + 10 * kHour);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U) << "the first one is still in progress";
  EXPECT_EQ(snapshots(daemon, other).size(), 2U);
  capture(daemon, disk);
  pass(daemon, begin + 10 * kHour + 30 * kMinute);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U) << "and a point that was skipped is gone";
  pass(daemon, begin + 11 * kHour);
  EXPECT_EQ(snapshots(daemon, disk).size(), 2U);
}

TEST_F(AutoSnapshots, DisksThatCantOrMustNotBeTakenAreLeftOut) {
  Daemon daemon(root_.path());
  const std::string policy = make_policy(daemon, R"(["9","10"])");
  const std::string never_attached = daemon.create_disk();
  const std::string off = attached_disk(daemon);
  const std::string detached = attached_disk(daemon);
  daemon.must("ModifyDiskAttribute", {{"DiskId", off}, {"EnableAutoSnapshot", "false"}});
  daemon.must("DetachDisk", {{"DiskId", detached}, {"InstanceId", "i-local"}});
  const std::string idle =
      daemon.must("CreateInstance", {{"ImageId", "m"}, {"InstanceType", "t"}})["InstanceId"];
  const std::string never_used =
      daemon.must("DescribeDisks", {{"InstanceId", idle}})["Disks"]["Disk"][0]["DiskId"];
  for (const std::string& disk : {never_attached, off, detached, never_used}) {
    apply(daemon, policy, disk);
  }
  const WallTime begin = midnight(daemon);
  pass(daemon, begin + 9 * kHour);
  EXPECT_TRUE(snapshots(daemon, never_attached).empty());
  EXPECT_TRUE(snapshots(daemon, off).empty());
  EXPECT_TRUE(snapshots(daemon, never_used).empty());
  EXPECT_EQ(snapshots(daemon, detached).size(), 1U);
  daemon.must("ModifyDiskAttribute", {{"DiskId", off}, {"EnableAutoSnapshot", "true"}});
  pass(daemon, begin + 9 * kHour + kMinute);
  EXPECT_TRUE(snapshots(daemon, off).empty());
  pass(daemon, begin + 10 * kHour);
  EXPECT_EQ(snapshots(daemon, off).size(), 1U);
}

TEST_F(AutoSnapshots, TheOldestGoesAtTheQuotaAndManualOnesStay) {
  Control::Options options{.seed = 42};
  options.auto_snapshot_quota = 3;
  Daemon daemon(root_.path(), options);
  const std::string disk = attached_disk(daemon);
  apply(daemon, make_policy(daemon, R"(["0","1","2","3","4","5","6","7","8","9"])"), disk);
  daemon.must("CreateSnapshot", {{"DiskId", disk}, {"SnapshotName", "mine"}});
  capture(daemon, disk);
  const WallTime begin = midnight(daemon);
  for (int hour = 0; hour < 5; ++hour) {
    pass(daemon, begin + hour * kHour);
    capture(daemon, disk);
  }
  EXPECT_EQ(names(daemon, disk), (std::vector<std::string>{day_name(begin, 5), day_name(begin, 4),
                                                           day_name(begin, 3), "mine"}));
  // One that a disk was made from stays, and the next oldest goes.
  const std::string held = snapshots(daemon, disk)[2]["SnapshotId"];
  daemon.create_disk({{"SnapshotId", held}});
  pass(daemon, begin + 5 * kHour);
  capture(daemon, disk);
  EXPECT_EQ(names(daemon, disk), (std::vector<std::string>{day_name(begin, 6), day_name(begin, 5),
                                                           day_name(begin, 3), "mine"}));
  // When none may go, none is taken.
  daemon.create_disk({{"SnapshotId", snapshots(daemon, disk)[0]["SnapshotId"]}});
  daemon.create_disk({{"SnapshotId", snapshots(daemon, disk)[1]["SnapshotId"]}});
  pass(daemon, begin + 6 * kHour);
  EXPECT_EQ(names(daemon, disk).front(), day_name(begin, 6));
}

TEST_F(AutoSnapshots, WhatFailsIsTriedAgainAMinuteLater) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  apply(daemon, make_policy(daemon, R"(["9"])"), disk);
  const WallTime nine = midnight(daemon) + 9 * kHour;
  daemon.host.fail_next("freeze", Errc::kReplicasLost);
  pass(daemon, nine);
  EXPECT_EQ(daemon.host.failures_left(), 0U);
  EXPECT_TRUE(snapshots(daemon, disk).empty());
  pass(daemon, nine + kMinute - Duration(1));
  EXPECT_TRUE(snapshots(daemon, disk).empty());
  pass(daemon, nine + kMinute);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U);
}

TEST_F(AutoSnapshots, ChangesOfAPolicyCountFromThenOn) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const std::string policy = make_policy(daemon, R"(["9"])", "5");
  apply(daemon, policy, disk);
  const WallTime begin = midnight(daemon);
  pass(daemon, begin + 9 * kHour);
  capture(daemon, disk);
  daemon.must(
      "ModifyAutoSnapshotPolicyEx",
      {{"autoSnapshotPolicyId", policy}, {"timePoints", R"(["12"])"}, {"retentionDays", "30"}});
  pass(daemon, begin + 12 * kHour);
  capture(daemon, disk);
  Json list = snapshots(daemon, disk);
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["RetentionDays"], 30);
  EXPECT_EQ(list[1]["RetentionDays"], 5) << "what is there keeps its own";
  daemon.must("CancelAutoSnapshotPolicy", {{"diskIds", "[\"" + disk + "\"]"}});
  pass(daemon, begin + 5 * kDay + 12 * kHour);
  list = snapshots(daemon, disk);
  ASSERT_EQ(list.size(), 1U) << "none is taken, and the retention still counts";
  EXPECT_EQ(list[0]["RetentionDays"], 30);
  apply(daemon, policy, disk);
  daemon.must("DeleteAutoSnapshotPolicy", {{"autoSnapshotPolicyId", policy}});
  pass(daemon, begin + 6 * kDay + 12 * kHour);
  EXPECT_EQ(snapshots(daemon, disk).size(), 1U);
}

TEST_F(AutoSnapshots, RetentionEndsManualSnapshotsTooButNotThoseThatDisksWereMadeFrom) {
  Daemon daemon(root_.path());
  const std::string disk = attached_disk(daemon);
  const auto take = [&](Params params) {
    params["DiskId"] = disk;
    const std::string id = daemon.must("CreateSnapshot", params)["SnapshotId"];
    return id;
  };
  take({{"SnapshotName", "kept"}});
  const std::string source = take({{"SnapshotName", "source"}, {"RetentionDays", "1"}});
  take({{"SnapshotName", "brief"}, {"RetentionDays", "1"}});
  const std::string made = daemon.create_disk({{"SnapshotId", source}});
  const WallTime now = daemon.machine.ring->wall_now();
  pass(daemon, now + 2 * kDay);
  EXPECT_EQ(names(daemon, disk).size(), 3U) << "those in progress are let finish";
  capture(daemon, disk);
  pass(daemon, now + kDay - kHour);
  EXPECT_EQ(names(daemon, disk).size(), 3U);
  daemon.host.fail_next("drop", Errc::kIo);  // tidied up later
  pass(daemon, now + kDay + kMinute);
  EXPECT_EQ(names(daemon, disk), (std::vector<std::string>{"source", "kept"}));
  daemon.must("DeleteDisk", {{"DiskId", made}});
  pass(daemon, now + kDay + 2 * kMinute);
  EXPECT_EQ(names(daemon, disk), (std::vector<std::string>{"kept"}));
}

TEST_F(AutoSnapshots, GoWithTheirDiskUnlessItSaysOtherwise) {
  Daemon daemon(root_.path());
  const std::string policy = make_policy(daemon, R"(["9"])");
  const std::string goes = attached_disk(daemon);
  const std::string stays = attached_disk(daemon);
  daemon.must("ModifyDiskAttribute", {{"DiskId", stays}, {"DeleteAutoSnapshot", "false"}});
  for (const std::string& disk : {goes, stays}) apply(daemon, policy, disk);
  pass(daemon, midnight(daemon) + 9 * kHour);
  for (const std::string& disk : {goes, stays}) {
    capture(daemon, disk);
    daemon.must("DetachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
    daemon.must("DeleteDisk", {{"DiskId", disk}});
  }
  EXPECT_TRUE(snapshots(daemon, goes).empty());
  EXPECT_EQ(snapshots(daemon, stays).size(), 1U);
  pass(daemon, midnight(daemon) + kDay + 9 * kHour);
  EXPECT_EQ(snapshots(daemon, stays).size(), 1U);
}

// kill -9 at every step of a day with a new snapshot and the end of an old one: the point is taken
// once, and the old one goes.
TEST_F(AutoSnapshots, DeathAtAnyStepTakesAPointOnce) {
  constexpr unsigned kStepsMax = 100;
  unsigned crashes = 0;
  for (unsigned crash_at = 1; crash_at < kStepsMax; ++crash_at) {
    TempDirectory root;
    const auto day = [](Daemon& daemon, const std::string& disk, WallTime begin) {
      pass(daemon, begin + 9 * kHour);
      capture(daemon, disk);
      pass(daemon, begin + kDay + 9 * kHour);
    };
    std::string disk;
    WallTime begin{};
    {
      Daemon daemon(root.path());
      disk = attached_disk(daemon);
      apply(daemon, make_policy(daemon, R"(["9"])", "1"), disk);
      begin = midnight(daemon);
    }
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Daemon daemon(root.path(), {.seed = 43}, crash_at);
      day(daemon, disk, begin);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0) break;  // No step is left.
    ASSERT_EQ(WEXITSTATUS(status), 137);
    ++crashes;
    Daemon daemon(root.path(), {.seed = 44});
    day(daemon, disk, begin);
    EXPECT_EQ(names(daemon, disk), (std::vector<std::string>{day_name(begin + kDay, 1)}))
        << "step " << crash_at;
  }
  EXPECT_GT(crashes, 5U);
}

}  // namespace
}  // namespace clouddisk
