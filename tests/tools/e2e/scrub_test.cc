// Scrub and the replacement of a replica's folder, with the real daemon and damage on real files.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

class ScrubTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kChunk = 256_KiB;
  static constexpr int kChunks = 48;

  void begin(std::vector<std::string> arguments = {"--no-limits"}) {
    arguments_ = std::move(arguments);
    ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
    id_ = daemon_.make_disk();
    write_chunks();
  }
  static std::vector<std::byte> content(int chunk) {
    Random random(static_cast<std::uint64_t>(chunk) + 1);
    std::vector<std::byte> bytes(kChunk);
    fill_at_random(bytes, random);
    return bytes;
  }
  void write_chunks() {
    auto client = daemon_.connect(id_);
    ASSERT_TRUE(client) << client.error().message;
    for (int i = 0; i < kChunks; ++i) ASSERT_TRUE(client->write(i * kChunk, content(i)));
    ASSERT_TRUE(client->flush());
  }
  void expect_chunks() {
    auto client = daemon_.connect(id_);
    ASSERT_TRUE(client) << client.error().message;
    std::vector<std::byte> back(kChunk);
    for (int i = 0; i < kChunks; ++i) {
      auto read = client->read(i * kChunk, back);
      ASSERT_TRUE(read) << "chunk " << i << ": " << read.error().message;
      ASSERT_TRUE(same_bytes(back, content(i))) << "chunk " << i << " has other bytes";
    }
  }
  // Segments of a storage on a replica.
  std::vector<fs::path> segments_of(int number, const std::string& storage) const {
    std::vector<fs::path> files;
    for (const auto& entry :
         fs::directory_iterator(daemon_.replica(number) + "/disks/" + storage)) {
      if (entry.path().filename().string().starts_with("segment-")) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  static void flip(const fs::path& file, std::uint64_t at) {
    const int fd = ::open(file.c_str(), O_RDWR);
    ASSERT_GE(fd, 0) << file;
    std::uint8_t byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(at)), 1);
    byte = static_cast<std::uint8_t>(byte ^ 0x40);
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(at)), 1);
    ::fsync(fd);
    ::close(fd);
  }
  // Where a client's bytes are in a file.
  static std::uint64_t place_of(const fs::path& file, const std::vector<std::byte>& wanted) {
    std::ifstream stream(file, std::ios::binary);
    std::stringstream all;
    all << stream.rdbuf();
    const std::string needle(reinterpret_cast<const char*>(wanted.data()), kBlockSize);
    return all.str().find(needle);
  }
  static std::string head_of(const fs::path& file, std::size_t size) {
    std::ifstream stream(file, std::ios::binary);
    std::string bytes(size, '\0');
    stream.read(bytes.data(), static_cast<std::streamsize>(size));
    bytes.resize(static_cast<std::size_t>(stream.gcount()));
    return bytes;
  }
  // Wherever their folders are.
  bool wait_for_all_in_sync() {
    return cli::wait_until(60, [&] {
      const Json status = daemon_.ok_json({"replica", "status"});
      return std::all_of(status.begin(), status.end(),
                         [](const Json& replica) { return replica["state"] == "in-sync"; });
    });
  }
  Json scrub(const std::vector<std::string>& more = {}) {
    std::vector<std::string> command{"scrub", "start", "--rate", "0", "--wait"};
    command.insert(command.end(), more.begin(), more.end());
    return daemon_.ok_json(command)["Last"];
  }
  static std::uint64_t count(const Json& pass, int replica, const char* what) {
    return pass["Replicas"]["Replica"][static_cast<std::size_t>(replica - 1)][what]
        .get<std::uint64_t>();
  }

  TestDaemon daemon_;
  std::vector<std::string> arguments_;
  std::string id_;
};

TEST_F(ScrubTest, DamagedFilesOfAReplicaAreMendedUnderARunningDaemon) {
  Random random(announce_seed());
  begin();
  const std::string snapshot = daemon_.ok({"snapshot", "create", id_, "--wait"});
  std::vector<std::pair<int, fs::path>> damaged;
  for (const std::string& storage : {id_, "sl-" + id_.substr(2)}) {
    const fs::path first = segments_of(1, storage).front();
    for (int i = 0; i < 20; ++i) flip(first, 8_KiB + random.below(8_MiB));
  }
  // And a superblock, in the slot that counts.
  flip(daemon_.replica(2) + "/superblock", 20);
  flip(daemon_.replica(2) + "/superblock", 4096 + 20);
  const Json pass = scrub();
  EXPECT_EQ(pass["LostBlocks"], 0);
  EXPECT_GT(count(pass, 1, "BadBlocks"), 20U);
  EXPECT_EQ(count(pass, 1, "BadBlocks"), count(pass, 1, "MendedBlocks"));
  EXPECT_EQ(count(pass, 2, "MendedBlocks"), 1U) << "the superblock";
  EXPECT_EQ(count(pass, 3, "BadBlocks"), 0U);
  for (const std::string& storage : {id_, "sl-" + id_.substr(2)}) {
    const auto mine = segments_of(1, storage);
    const auto other = segments_of(3, storage);
    ASSERT_EQ(mine.size(), other.size());
    for (std::size_t i = 0; i < mine.size(); ++i) {
      EXPECT_TRUE(head_of(mine[i], 8_MiB) == head_of(other[i], 8_MiB)) << mine[i];
    }
  }
  const Json again = scrub();
  EXPECT_EQ(count(again, 1, "BadBlocks") + count(again, 2, "BadBlocks"), 0U);
  const Json status = daemon_.ok_json({"replica", "status"});
  EXPECT_EQ(status[0]["scrub"]["mended_blocks"], count(pass, 1, "MendedBlocks"));
  EXPECT_FALSE(status[0]["scrub"]["last_complete"].get<std::string>().empty());
  expect_chunks();
}

TEST_F(ScrubTest, WhatIsDamagedOnAllReplicasIsToldByDiskAndPlace) {
  begin();
  const auto chunk = content(7);
  for (int number = 1; number <= 3; ++number) {
    const fs::path segment = segments_of(number, id_).front();
    const std::uint64_t at = place_of(segment, chunk);
    ASSERT_NE(at, std::string::npos);
    flip(segment, at + 100);
  }
  const ProgramResult failed = daemon_.cli({"scrub", "start", "--rate", "0", "--wait"});
  EXPECT_EQ(failed.exit_status, 1);
  EXPECT_NE(failed.errors.find("ContentLost"), std::string::npos) << failed.errors;
  const Json last = daemon_.ok_json({"scrub", "status"})["Last"];
  EXPECT_EQ(last["LostBlocks"], 1);
  const Json loss = last["Losses"]["Loss"][0];
  EXPECT_EQ(loss["Storage"], id_);
  EXPECT_EQ(loss["Offset"], 7 * kChunk);
  EXPECT_EQ(loss["Bytes"], kBlockSize);
  // Written anew it is no loss any more.
  write_chunks();
  EXPECT_EQ(scrub()["LostBlocks"], 0);
  expect_chunks();
}

TEST_F(ScrubTest, AfterKillItGoesOnWhereItWas) {
  begin();
  const std::string other = daemon_.make_disk();
  daemon_.ok({"scrub", "start", "--rate", "1M"});
  ASSERT_TRUE(cli::wait_until(30, [&] {
    return daemon_.ok_json({"scrub", "status"})["Current"]["Begun"].is_string();
  }));
  const Json before = daemon_.ok_json({"scrub", "status"});
  EXPECT_EQ(before["Status"], "running");
  daemon_.kill_now();
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  ASSERT_TRUE(cli::wait_until(30, [&] {
    const Json now = daemon_.ok_json({"scrub", "status"});
    return (now.contains("Last") ? now["Last"] : now["Current"])["Begun"] ==
           before["Current"]["Begun"];
  })) << "by itself, and the same pass";
  daemon_.ok({"scrub", "stop"});
  EXPECT_NE(daemon_.ok_json({"scrub", "status"})["Status"], "running");
  EXPECT_EQ(scrub()["LostBlocks"], 0);
}

TEST_F(ScrubTest, StoppedItRestsUntilItIsDueAgain) {
  begin({"--no-limits", "--scrub-every", "1s", "--scrub-rate", "1M"});
  const auto state = [&] {
    return daemon_.ok_json({"scrub", "status"})["Status"].get<std::string>();
  };
  ASSERT_TRUE(cli::wait_until(10, [&] { return state() == "running"; })) << "by itself";
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  daemon_.ok({"scrub", "stop"});
  const auto stopped = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - stopped < std::chrono::milliseconds(600)) {
    ASSERT_EQ(state(), "stopped") << "although the next is due, counted from its begin";
  }
  EXPECT_TRUE(cli::wait_until(10, [&] { return state() == "running"; })) << "and so does it go on";
}

TEST_F(ScrubTest, ADamagedIndexIsMadeAnewAtTheNextOpen) {
  begin();
  daemon_.ok({"disk", "detach", id_});
  const std::string index = daemon_.root() + "/index/" + id_ + "/data.mdb";
  // Whatever is behind LMDB's two meta pages: some of it counts.
  const std::string before = head_of(index, 4_MiB);
  int flipped = 0;
  for (std::uint64_t at = 2 * 4096; at < before.size(); at += 64) {
    if (before[at] == 0) continue;
    flip(index, at);
    ++flipped;
  }
  ASSERT_GT(flipped, 0);
  EXPECT_EQ(scrub()["IndexesDamaged"], 1) << daemon_.log();
  daemon_.ok({"disk", "attach", id_});
  EXPECT_NE(daemon_.log().find("rebuilding the index"), std::string::npos);
  expect_chunks();
  EXPECT_EQ(scrub()["IndexesDamaged"], 0);
}

TEST_F(ScrubTest, AReplacedFolderIsBroughtUpToDateThroughKillsAndStaysReplaced) {
  begin({"--no-limits", "--resync-rate", "2M"});
  const std::string fresh = daemon_.root() + "-fresh";
  const std::string busy = daemon_.root() + "-busy";
  fs::create_directory(busy);
  std::ofstream(busy + "/file") << "mine";
  daemon_.refused("InvalidFolder.NotSuitable", {"replica", "replace", "2", "--with", busy});
  daemon_.refused("InvalidFolder.NotSuitable",
                  {"replica", "replace", "2", "--with", daemon_.replica(3)});
  daemon_.refused("InvalidFolder.NotSuitable",
                  {"replica", "replace", "2", "--with", daemon_.replica(1) + "/inside"});
  daemon_.refused("InvalidReplica.NotFound", {"replica", "replace", "4", "--with", fresh});
  daemon_.ok({"replica", "replace", "2", "--with", fresh});
  EXPECT_EQ(daemon_.ok_json({"replica", "status"})[1]["folder"], fresh);
  daemon_.refused("IncorrectReplicaStatus", {"replica", "replace", "2", "--with", fresh + "-2"});
  for (int i = 0; i < 2; ++i) {
    daemon_.kill_now();
    ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
    expect_chunks();
  }
  daemon_.kill_now();
  arguments_ = {"--no-limits"};
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  ASSERT_TRUE(wait_for_all_in_sync()) << daemon_.log();
  const Json status = daemon_.ok_json({"replica", "status"});
  EXPECT_EQ(status[1]["folder"], fresh);
  EXPECT_TRUE(fs::exists(daemon_.replica(2) + "/disks/" + id_)) << "the old one is left in place";
  EXPECT_TRUE(fs::exists(daemon_.replica(2) + "/replaced"));
  EXPECT_FALSE(fs::exists(fresh + "/claimed"));
  ASSERT_EQ(daemon_.stop(), 0);
  // The record lost, the old folder is not believed, nor written to.
  fs::rename(daemon_.root() + "/replicas", daemon_.root() + "/aside");
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  const Json lost = daemon_.ok_json({"replica", "status"});
  EXPECT_EQ(lost[1]["state"], "failed");
  EXPECT_NE(lost[1]["reason"].get<std::string>().find("was replaced"), std::string::npos);
  expect_chunks();
  ASSERT_EQ(daemon_.stop(), 0);
  // The new one alone is worth as much as any.
  fs::rename(daemon_.root() + "/aside", daemon_.root() + "/replicas");
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  ASSERT_TRUE(wait_for_all_in_sync());
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(1));
  fs::remove_all(daemon_.replica(3));
  ASSERT_TRUE(daemon_.start({"--trust-replica", "2"})) << daemon_.log();
  expect_chunks();
  daemon_.kill_now();
  fs::remove_all(fresh);
  fs::remove_all(busy);
}

}  // namespace
}  // namespace clouddisk::e2e
