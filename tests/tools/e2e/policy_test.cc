// Automatic snapshots and tags, with the real daemon, whose wall clock the test moves (libfaketime;
// its monotonic clock goes on as it does).
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

using std::chrono::hours;

// The daemon that starts while it lives has its wall clock ahead by what set() says, also later on.
class MovedClock {
 public:
  explicit MovedClock(const std::string& file) : file_(file) {
    set(hours(0));
    std::istringstream environment(run_ok({"faketime", "-m", "-f", "+0s", "env"}));
    const std::string name = "LD_PRELOAD=";
    for (std::string line; std::getline(environment, line);) {
      if (line.starts_with(name)) library_ = line.substr(name.size());
    }
    EXPECT_FALSE(library_.empty());
  }
  void set(std::chrono::seconds ahead) {
    // At once: whoever reads it never sees half of it.
    std::ofstream(file_ + ".new") << "+" << ahead.count() << "s\n";
    std::filesystem::rename(file_ + ".new", file_);
  }
  bool start(TestDaemon& daemon) {
    ::setenv("LD_PRELOAD", library_.c_str(), 1);
    ::setenv("FAKETIME_TIMESTAMP_FILE", file_.c_str(), 1);
    ::setenv("FAKETIME_NO_CACHE", "1", 1);
    ::setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    ::setenv("NO_FAKE_STAT", "1", 1);
    const bool started = daemon.start();
    ::unsetenv("LD_PRELOAD");
    return started;
  }

 private:
  std::string file_;
  std::string library_;
};

class Policy : public testing::Test {
 protected:
  Json snapshots(const std::string& disk) {
    return daemon_.ok_json({"snapshot", "list", "--disk", disk})["Snapshots"]["Snapshot"];
  }
  // Waits until the disk has so many snapshots, and all are captured.
  Json wait_for(const std::string& disk, std::size_t count) {
    Json list;
    for (int i = 0; i < 200; ++i) {
      list = snapshots(disk);
      bool done = list.size() == count;
      for (const Json& one : list) done = done && one["Status"] == "accomplished";
      if (done) return list;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ADD_FAILURE() << count << " snapshots were awaited: " << list.dump();
    return list;
  }
  void write(const std::string& disk, std::byte content) {
    auto client = daemon_.connect(disk);
    ASSERT_TRUE(client) << client.error().message;
    ASSERT_TRUE(client->write(1_MiB, std::vector<std::byte>(8192, content)));
    ASSERT_TRUE(client->flush());
  }
  std::byte content_of(const std::string& exported) {
    auto client = daemon_.connect(exported);
    EXPECT_TRUE(client) << client.error().message;
    std::vector<std::byte> block(4096);
    EXPECT_TRUE(client->read(1_MiB + 4096, block));
    return block[7];
  }

  TestDaemon daemon_;
};

TEST_F(Policy, TheDaemonTakesSnapshotsByItselfMakesUpForOneThatItSleptThroughAndRemovesTheOld) {
  CLOUDDISK_NEEDS("faketime");
  MovedClock clock(daemon_.root().substr(0, daemon_.root().rfind('/')) + "/clock");
  ASSERT_TRUE(clock.start(daemon_)) << daemon_.log();
  const std::string disk = daemon_.make_disk();
  write(disk, std::byte{0xa1});
  // Three hours from now in UTC+8.
  const auto now = std::chrono::system_clock::now();
  const auto today = now - std::chrono::floor<std::chrono::days>(now);
  const auto hour = (std::chrono::floor<hours>(today).count() + 8 + 3) % 24;
  const std::string policy =
      daemon_.ok({"policy", "create", "--time", std::to_string(hour), "--retention-days", "1"});
  EXPECT_NE(daemon_.ok({"policy", "list", "--without-disks"}).find(policy), std::string::npos);
  EXPECT_EQ(daemon_.ok({"disk", "list", "--without-policy", "--ids"}), disk);
  daemon_.ok({"policy", "apply", disk, "--policy", policy});
  EXPECT_EQ(daemon_.ok({"policy", "list", "--without-disks", "--ids"}), "");
  EXPECT_EQ(daemon_.ok({"disk", "list", "--without-policy", "--ids"}), "");
  EXPECT_TRUE(snapshots(disk).empty());

  clock.set(hours(3));
  Json list = wait_for(disk, 1);
  ASSERT_EQ(list.size(), 1U);
  const std::string first = list[0]["SnapshotId"];
  const std::string name = list[0]["SnapshotName"];
  EXPECT_TRUE(name.starts_with("auto_") && name.ends_with("_1") && name.size() == 15) << name;
  EXPECT_EQ(list[0]["SnapshotType"], "auto");
  write(disk, std::byte{0xb2});
  EXPECT_EQ(content_of(first), std::byte{0xa1});

  // Ten days are slept through: one snapshot stands for ten points, and the first one's day is
  // over.
  EXPECT_EQ(daemon_.stop(), 0);
  clock.set(hours(3 + 240));
  ASSERT_TRUE(clock.start(daemon_)) << daemon_.log();
  for (int i = 0;
       i < 200 && !(snapshots(disk).size() == 1 && snapshots(disk)[0]["SnapshotId"] != first);
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  list = wait_for(disk, 1);
  ASSERT_EQ(list.size(), 1U);
  const std::string second = list[0]["SnapshotId"];
  EXPECT_NE(second, first);
  EXPECT_EQ(content_of(second), std::byte{0xb2});
  daemon_.ok({"policy", "delete", policy});
  EXPECT_EQ(daemon_.ok({"policy", "list", "--ids"}), "");
}

TEST_F(Policy, TheCommandsOfPoliciesAndTheirRefusals) {
  ASSERT_TRUE(daemon_.start()) << daemon_.log();
  const std::string disk = daemon_.ok({"disk", "create", "--size", "40", "--name", "data"});
  const std::string other = daemon_.ok({"disk", "create", "--size", "40"});
  daemon_.ok({"policy", "apply", disk});
  daemon_.ok({"policy", "apply", other});
  const std::string id = daemon_.ok({"policy", "list", "--ids"});
  EXPECT_EQ(id.find('\n'), std::string::npos) << "one default policy for both";
  const std::string shown = daemon_.ok({"policy", "show", id});
  for (const char* part : {"default_policy", "06:00", "every day", "7 days", "(data)"}) {
    EXPECT_NE(shown.find(part), std::string::npos) << part << "\n" << shown;
  }
  EXPECT_NE(shown.find(other), std::string::npos) << shown;
  EXPECT_NE(daemon_.ok({"disk", "show", disk}).find(id), std::string::npos);
  daemon_.ok({"policy", "modify", id, "--time", "8,20:00", "--weekday", "mon,5", "--name", "twice",
              "--retention-days", "forever"});
  const std::string listed = daemon_.ok({"policy", "list"});
  for (const char* part : {"twice", "08:00, 20:00", "Mon, Fri", "for ever"}) {
    EXPECT_NE(listed.find(part), std::string::npos) << part << "\n" << listed;
  }
  daemon_.ok({"policy", "cancel", disk});
  EXPECT_EQ(daemon_.ok({"disk", "list", "--policy", id, "--ids"}), other);
  const std::string tagged = daemon_.ok({"policy", "create", "--tag", "env=test"});
  EXPECT_EQ(daemon_.ok_json({"policy", "show", tagged})["TimePoints"], "[\"6\"]");

  daemon_.refused("WrongUsage", {"policy", "create", "--time", "24"});
  daemon_.refused("WrongUsage", {"policy", "create", "--time", "6:30"});
  daemon_.refused("WrongUsage", {"policy", "create", "--weekday", "noday"});
  daemon_.refused("WrongUsage", {"policy", "create", "--retention-days", "0"});
  daemon_.refused("InvalidSnapshotPolicyName.Malformed", {"policy", "create", "--name", "1"});
  daemon_.refused("WrongUsage", {"policy", "modify", id});
  daemon_.refused("InvalidAutoSnapshotPolicyId.NotFound", {"policy", "show", "sp-none"});
  daemon_.refused("InvalidAutoSnapshotPolicyId.NotFound",
                  {"policy", "apply", disk, "--policy", "sp-none"});
  daemon_.refused("InvalidDiskId.NotFound", {"policy", "apply", "d-none"});
  daemon_.refused("ParameterInvalid", {"policy", "delete", "sp-none"});
}

TEST_F(Policy, TheCommandsOfTagsAndTheirRefusals) {
  ASSERT_TRUE(daemon_.start()) << daemon_.log();
  const std::string disk = daemon_.ok({"disk", "create", "--size", "40", "--tag", "env=test"});
  const std::string policy = daemon_.ok({"policy", "create"});
  daemon_.ok({"tag", "set", disk, policy, "i-local", "--tag", "team=a b=c", "--tag", "flag"});
  EXPECT_EQ(daemon_.ok({"tag", "find", "--tag", "team=a b=c", "--type", "disk", "--ids"}), disk);
  const std::string all = daemon_.ok({"tag", "find", "--tag", "flag", "--ids"});
  for (const std::string& id : {disk, policy, std::string("i-local")}) {
    EXPECT_NE(all.find(id), std::string::npos) << all;
  }
  EXPECT_EQ(daemon_.ok({"disk", "list", "--tag", "env=test", "--tag", "flag", "--ids"}), disk);
  EXPECT_EQ(daemon_.ok({"disk", "list", "--tag", "env=prod", "--ids"}), "");
  const Json listed = daemon_.ok_json({"tag", "list", disk, "i-local"});
  EXPECT_EQ(listed["TagResources"]["TagResource"].size(), 5U) << listed.dump();
  EXPECT_NE(daemon_.ok({"tag", "list"}).find("team"), std::string::npos);
  daemon_.ok({"tag", "remove", disk, policy, "--key", "team"});
  daemon_.ok({"tag", "remove", "i-local", policy, "--all"});
  const std::string left = daemon_.ok({"tag", "list"});
  EXPECT_EQ(left.find("team"), std::string::npos) << left;
  EXPECT_NE(left.find("env"), std::string::npos) << left;

  daemon_.refused("InvalidResourceId.NotFound", {"tag", "set", "d-none", "--tag", "a=b"});
  daemon_.refused("InvalidResourceId.NotFound", {"tag", "set", "x-none", "--tag", "a=b"});
  daemon_.refused("InvalidTagKey.Malformed", {"tag", "set", disk, "--tag", "acs:a=b"});
  daemon_.refused("InvalidRegionId.NotFound", {"tag", "list", disk, "--region", "mars"});
}

}  // namespace
}  // namespace clouddisk::e2e
