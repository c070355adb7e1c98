// Copies of snapshots in another region, by the real daemon: bytes over NBD, kill -9 in the middle,
// sources that go, and that only what is missing is stored anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBytes = 64_MiB;  // of the disk are in play
constexpr std::uint64_t kPiece = 256_KiB;

using Content = std::vector<std::byte>;

class Copies : public testing::Test {
 protected:
  void start() {
    ASSERT_TRUE(daemon_.start({"--no-limits", "--region", "here", "--region", "there"}))
        << daemon_.log();
  }
  NbdClient connect(const std::string& name) {
    auto client = daemon_.connect(name);
    EXPECT_TRUE(client) << client.error().message;
    return std::move(*client);
  }
  // Random pieces that do not compress.
  void scribble(const std::string& disk, Content& model, int pieces) {
    NbdClient client = connect(disk);
    for (int i = 0; i < pieces; ++i) {
      const std::uint64_t at = kPiece * random_.below(kBytes / kPiece);
      const auto piece = std::span(model).subspan(at, kPiece);
      for (std::size_t b = 0; b < kPiece; b += 8) {
        const std::uint64_t value = random_.next();
        std::memcpy(&piece[b], &value, 8);
      }
      auto done = client.write(at, piece);
      ASSERT_TRUE(done) << done.error().message;
    }
  }
  void expect_content(const std::string& name, const Content& expected) {
    NbdClient client = connect(name);
    Content got(kBytes);
    for (std::uint64_t at = 0; at < kBytes; at += kPiece) {
      auto done = client.read(at, std::span(got).subspan(at, kPiece));
      ASSERT_TRUE(done) << name << ": " << done.error().message;
    }
    EXPECT_EQ(first_difference(got, expected), got.size()) << name << " differs at that byte";
  }
  Json show(const std::string& id) const { return daemon_.ok_json({"snapshot", "show", id}); }
  void wait_until_accomplished() const {
    for (int i = 0; i < 300; ++i) {
      if (daemon_.ok({"snapshot", "list", "--status", "progressing", "--ids"}).empty()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    FAIL() << "copies are still under way\n" << daemon_.log();
  }

  Random random_{announce_seed()};
  TestDaemon daemon_;
};

TEST_F(Copies, HaveTheBytesThroughKillsAndOutliveTheirSource) {
  start();
  const std::string disk = daemon_.make_disk();
  Content model(kBytes);
  scribble(disk, model, 200);
  const std::string source = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string copy =
      daemon_.ok({"snapshot", "copy", source, "--to-region", "there", "--name", "offsite"});
  const Content first = model;
  // Deleted before the copy has it all: nobody sees it any more, and the copy goes on.
  daemon_.ok({"snapshot", "delete", source});
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random_.below(60)));
    daemon_.kill_now();
    start();
    expect_content(copy, first);
  }
  wait_until_accomplished();
  expect_content(copy, first);
  Json shown = show(copy);
  EXPECT_EQ(shown["Status"], "accomplished");
  EXPECT_EQ(shown["RegionId"], "there");
  EXPECT_EQ(shown["SourceSnapshotId"], source);
  daemon_.refused("InvalidSnapshotId.NotFound", {"snapshot", "show", source});

  // The next holds what the first does not.
  scribble(disk, model, 8);
  const std::string newer = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string next =
      daemon_.ok({"snapshot", "copy", newer, "--to-region", "there", "--wait"});
  shown = show(next);
  EXPECT_EQ(shown["SnapshotLinkId"], show(copy)["SnapshotLinkId"]);
  EXPECT_GT(shown["ChangedBytes"].get<std::uint64_t>(), 0U);
  EXPECT_LE(shown["ChangedBytes"].get<std::uint64_t>(), 8 * kPiece);
  EXPECT_LT(shown["StoredBytes"].get<std::uint64_t>(), 9 * kPiece);
  EXPECT_NE(daemon_.ok({"snapshot", "show", next}).find(newer + " in here"), std::string::npos);

  // Nothing is left of where they came from, nor of the indexes.
  daemon_.ok({"snapshot", "delete", newer});
  daemon_.ok({"disk", "detach", disk});
  daemon_.ok({"disk", "delete", disk});
  daemon_.kill_now();
  fs::remove_all(daemon_.root() + "/index");
  start();
  expect_content(copy, first);
  expect_content(next, model);
  EXPECT_EQ(daemon_.stop(), 0);
  for (const auto& entry : fs::directory_iterator(daemon_.replica(1) + "/disks")) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(name.starts_with("sl-")) << name << " is left";
  }
  const ProgramResult checked = daemon_.cli({"fsck"});
  EXPECT_EQ(checked.exit_status, 0) << checked.output;

  // A disk of that region is made from one.
  start();
  daemon_.ok({"api", "RunInstances", "RegionId=there", "ImageId=m", "InstanceType=any",
              "DataDisk.1.SnapshotId=" + next});
  const Json disks = Json::parse(
      daemon_.ok({"api", "DescribeDisks", "RegionId=there", "SnapshotId=" + next}), nullptr, false);
  ASSERT_EQ(disks["TotalCount"], 1);
  expect_content(disks["Disks"]["Disk"][0]["DiskId"], model);
}

TEST_F(Copies, ADeletedOneIsGivenUpAndLeavesNothing) {
  start();
  const std::string disk = daemon_.make_disk();
  Content model(kBytes);
  scribble(disk, model, 100);
  const std::string source = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string copy = daemon_.ok({"snapshot", "copy", source, "--to-region", "there"});
  daemon_.ok({"snapshot", "delete", copy});
  daemon_.refused("InvalidSnapshotId.NotFound", {"snapshot", "show", copy});
  expect_content(source, model);
  const auto left = [&] {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(daemon_.replica(1) + "/disks")) {
      const std::string name = entry.path().filename().string();
      count += name != disk && name != "sl-" + disk.substr(2) ? 1U : 0U;
    }
    return count;
  };
  for (int i = 0; i < 100 && left() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(left(), 0U) << daemon_.log();
  daemon_.refused("InvalidDestinationRegionId",
                  {"snapshot", "copy", source, "--to-region", "here"});
  daemon_.refused("InvalidRegionId.NotFound", {"snapshot", "copy", source, "--to-region", "moon"});
}

}  // namespace
}  // namespace clouddisk::e2e
