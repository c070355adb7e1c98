// clouddisk fsck on roots that the real daemon made and something damaged since: exactly what is
// wrong is found, nothing is changed without --repair, and a repair gives every byte back.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "engine/base/checksum.h"
#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {
namespace fs = std::filesystem;

class FsckTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kChunk = 256_KiB;
  static constexpr int kChunks = 16;
  // The log's first block is its header, the second the first batch: its payload is behind.
  static constexpr std::uint64_t kPayloadBlock = 100;

  void SetUp() override {
    ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
    disk_ = daemon_.make_disk();
    write(1);
    snapshot_ = daemon_.ok({"snapshot", "create", disk_, "--name", "one"});
    ASSERT_TRUE(cli::wait_until(30, [&] {
      return daemon_.ok_json({"snapshot", "show", snapshot_})["Status"] == "accomplished";
    }));
    write(2);
    ASSERT_EQ(daemon_.stop(), 0);
    ASSERT_EQ(fsck({}, 0), std::vector<std::string>{});
  }

  static std::vector<std::byte> content(int generation, int chunk) {
    Random random(static_cast<std::uint64_t>(generation * 1000 + chunk));
    std::vector<std::byte> bytes(kChunk);
    fill_at_random(bytes, random);
    return bytes;
  }
  void write(int generation) {
    auto client = daemon_.connect(disk_);
    ASSERT_TRUE(client) << client.error().message;
    // The second time half of it: the snapshot and the disk differ.
    for (int i = 0; i < kChunks / generation; ++i) {
      ASSERT_TRUE(client->write(static_cast<std::uint64_t>(i) * kChunk, content(generation, i)));
    }
    ASSERT_TRUE(client->flush());
  }
  // Both the disk and its snapshot, by a daemon that is started for it.
  void expect_content() {
    ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
    std::vector<std::byte> back(kChunk);
    for (const bool past : {false, true}) {
      auto client = daemon_.connect(past ? snapshot_ : disk_);
      ASSERT_TRUE(client) << client.error().message;
      for (int i = 0; i < kChunks; ++i) {
        ASSERT_TRUE(client->read(static_cast<std::uint64_t>(i) * kChunk, back));
        const int generation = past || i >= kChunks / 2 ? 1 : 2;
        EXPECT_TRUE(same_bytes(back, content(generation, i)))
            << "chunk " << i << (past ? " then" : " now");
      }
    }
    ASSERT_EQ(daemon_.stop(), 0);
  }

  // The findings, sorted: "kind subject replica what", ids by a name.
  std::vector<std::string> fsck(std::vector<std::string> arguments, int status) {
    arguments.insert(arguments.begin(), "fsck");
    arguments.insert(arguments.end(), {"--output", "json"});
    const ProgramResult result = daemon_.cli(arguments);
    EXPECT_EQ(result.exit_status, status) << result.output << result.errors;
    last_ = Json::parse(result.output, nullptr, false);
    std::vector<std::string> lines;
    if (!last_.is_object()) return {result.errors};
    for (const Json& one : last_["findings"]) {
      std::string subject = one["subject"];
      if (subject == disk_) subject = "DISK";
      if (subject == "sl" + disk_.substr(1)) subject = "CHAIN";
      if (subject == snapshot_) subject = "SNAPSHOT";
      std::string line = one["mended"] == true ? "mended" : std::string(one["kind"]);
      line += " " + subject;
      if (one.contains("replica")) line += " " + one["replica"].dump();
      if (one.contains("segment"))
        line += " @" + one["first_block"].dump() + "+" + one["blocks"].dump();
      if (one.contains("first_lba"))
        line += " LBA " + one["first_lba"].dump() + "+" + one["lbas"].dump();
      lines.push_back(line + ": " + std::string(one["what"]));
    }
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  // Finds exactly this, changes nothing; a repair mends it, and nothing is left.
  void expect_mendable(std::vector<std::string> expected) {
    const auto before = hashes();
    EXPECT_EQ(fsck({}, 4), expected);
    EXPECT_EQ(hashes(), before) << "a check changed something";
    for (std::string& line : expected) line = "mended" + line.substr(line.find(' '));
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(fsck({"--repair"}, 1), expected);
    EXPECT_EQ(fsck({}, 0), std::vector<std::string>{});
    expect_content();
  }
  std::map<std::string, std::uint64_t> hashes() const {
    std::map<std::string, std::uint64_t> all;
    for (const auto& entry : fs::recursive_directory_iterator(daemon_.root())) {
      if (!entry.is_regular_file()) {
        all[entry.path()] = 0;
        continue;
      }
      std::ifstream file(entry.path(), std::ios::binary);
      std::string text(entry.file_size(), '\0');
      file.read(text.data(), static_cast<std::streamsize>(text.size()));
      all[entry.path()] = checksum64(std::as_bytes(std::span(text)));
    }
    return all;
  }
  fs::path storage(int replica, bool chain = false) const {
    return daemon_.replica(replica) + "/disks/" + (chain ? "sl" + disk_.substr(1) : disk_);
  }
  fs::path segment(int replica, bool chain = false) const {
    return storage(replica, chain) / "segment-0000000000000001";
  }
  static void flip(const fs::path& path, std::uint64_t at) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(at));
    const auto byte = static_cast<char>(file.get() ^ 0x10);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
    ASSERT_TRUE(file.good()) << path;
  }

  TestDaemon daemon_;
  std::string disk_;
  std::string snapshot_;
  Json last_;
};

TEST_F(FsckTest, ARootThatADaemonHoldsIsRefusedAndSoIsWrongUsage) {
  ASSERT_TRUE(daemon_.start());
  const ProgramResult held = daemon_.cli({"fsck"});
  EXPECT_EQ(held.exit_status, 8);
  EXPECT_NE(held.errors.find("stop it first"), std::string::npos) << held.errors;
  ASSERT_EQ(daemon_.stop(), 0);
  EXPECT_EQ(daemon_.cli({"fsck", "--mend"}).exit_status, 16);
  EXPECT_EQ(daemon_.cli({"fsck", "--replica", "/a"}).exit_status, 16);
  EXPECT_EQ(daemon_.cli({"fsck", "--disk", "d-other"}).exit_status, 8);
}

// Replica folders may lie anywhere, and another root may name them.
TEST_F(FsckTest, FoldersThatADaemonOfAnotherRootHoldsAreRefused) {
  ASSERT_TRUE(daemon_.start());
  TestDaemon other;
  std::vector<std::string> folders;
  for (int number = 1; number <= 3; ++number) {
    folders.insert(folders.end(), {"--replica", daemon_.replica(number)});
  }
  fs::create_directories(other.root());
  std::vector<std::string> command{"fsck"};
  command.insert(command.end(), folders.begin(), folders.end());
  const ProgramResult held = other.cli(command);
  EXPECT_EQ(held.exit_status, 8);
  EXPECT_NE(held.errors.find("stop it first"), std::string::npos) << held.errors;
  EXPECT_FALSE(other.start(folders));
  EXPECT_NE(other.log().find("another program holds"), std::string::npos) << other.log();
  ASSERT_EQ(daemon_.stop(), 0);
  EXPECT_NE(other.cli(command).exit_status, 8);
}

TEST_F(FsckTest, BlocksThatAreDamagedOnOneOrTwoCopiesAreMended) {
  flip(segment(1), kPayloadBlock * kBlockSize + 17);
  flip(segment(2), kPayloadBlock * kBlockSize + 4000);
  flip(segment(3), (kPayloadBlock + 30) * kBlockSize);
  flip(segment(3), 100);
  expect_mendable(
      {"mendable DISK 1 @100+1: payload is damaged", "mendable DISK 2 @100+1: payload is damaged",
       "mendable DISK 3 @0+1: header is damaged", "mendable DISK 3 @130+1: payload is damaged"});
}

TEST_F(FsckTest, WhatNoCopyHasIsLostAndNamedByItsPlaceAndLeftAsItIs) {
  for (int replica = 1; replica <= 3; ++replica) {
    flip(segment(replica), kPayloadBlock * kBlockSize);
    flip(segment(replica, true), 40 * kBlockSize);
  }
  const std::vector<std::string> found = fsck({}, 4);
  const auto count = [&found](const std::string& begin) {
    return std::count_if(found.begin(), found.end(),
                         [&](const std::string& line) { return line.starts_with(begin); });
  };
  EXPECT_EQ(count("note DISK"), 3);
  EXPECT_EQ(count("note CHAIN"), 3);
  // In the chain a block of the pack, and the snapshot's blocks whose frame it is part of.
  EXPECT_EQ(count("lost CHAIN LBA"), 1) << last_.dump(1);
  EXPECT_GE(count("lost SNAPSHOT LBA"), 1) << last_.dump(1);
  EXPECT_EQ(fsck({"--repair"}, 4), found);
  EXPECT_EQ(fsck({"--disk", disk_}, 4), found);
}

TEST_F(FsckTest, SegmentsThatAreMissingOrCutOffAreMadeAnew) {
  fs::remove(segment(2));
  fs::resize_file(segment(3, true), 20 * kBlockSize);
  const auto found = fsck({}, 4);
  // Of the pack's segment everything behind the cut: payload, descriptors.
  ASSERT_GE(found.size(), 2U) << last_.dump(1);
  EXPECT_TRUE(found.back().starts_with("mendable DISK 2 @0+")) << found.back();
  EXPECT_TRUE(found.back().ends_with("the segment is missing")) << found.back();
  for (std::size_t i = 0; i + 1 < found.size(); ++i) {
    EXPECT_TRUE(found[i].starts_with("mendable CHAIN 3 @")) << found[i];
  }
  for (const Json& one : last_["findings"]) {
    if (one["replica"] == 3) {
      EXPECT_GE(one["first_block"], 20);
    }
  }
  expect_mendable(found);
}

TEST_F(FsckTest, IndexesThatAreMissingOrDamagedAreMadeAnew) {
  fs::remove_all(daemon_.root() + "/index/" + disk_);
  flip(daemon_.root() + "/index/sl" + disk_.substr(1) + "-chain/data.mdb", 16);
  const auto found = fsck({}, 4);
  ASSERT_EQ(found.size(), 2U) << last_.dump(1);
  EXPECT_TRUE(found[0].starts_with("mendable CHAIN: the index of its snapshots is damaged"));
  EXPECT_EQ(found[1], "mendable DISK: its index is missing");
  expect_mendable(found);
}

TEST_F(FsckTest, ADiskThatWasNeverOpenedNeedsNoIndex) {
  ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
  const std::string other = daemon_.ok({"disk", "create", "--size", "20"});
  ASSERT_EQ(daemon_.stop(), 0);
  const fs::path index = daemon_.root() + "/index/" + other;
  ASSERT_FALSE(fs::exists(index));
  EXPECT_EQ(fsck({}, 0), std::vector<std::string>{});
  // What a death leaves that came before the first commit.
  fs::create_directories(index);
  std::ofstream(index / "data.mdb");
  const std::vector<std::string> found{
      "note " + other + ": its index is not finished (a crash): the next start makes it anew"};
  EXPECT_EQ(fsck({}, 0), found);
  ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
  daemon_.ok({"disk", "attach", other});
  ASSERT_EQ(daemon_.stop(), 0);
  EXPECT_EQ(fsck({}, 0), std::vector<std::string>{});
}

// It may be the catalog that lacks them.
TEST_F(FsckTest, OrphansAreNamedAndLeftAlone) {
  fs::create_directories(daemon_.root() + "/index/d-nobody");
  fs::create_directories(daemon_.replica(2) + "/disks/d-nobody");
  std::ofstream(storage(3) / "strange") << "?";
  const std::vector<std::string> orphans{
      "note DISK 3: an orphan: strange is no file of ours",
      "note d-nobody 2: an orphan: no disk and no snapshot has this storage",
      "note d-nobody: an orphan: an index of no storage"};
  EXPECT_EQ(fsck({}, 0), orphans);
  const auto before = hashes();
  EXPECT_EQ(fsck({"--repair"}, 0), orphans);
  EXPECT_EQ(hashes(), before);
}

// A disk that lost all of its log must not pass for an empty one, nor take the last copy along.
TEST_F(FsckTest, ALogThatIsGoneIsLostAndAReplicaThatIsOutStaysAsItIs) {
  const std::string old = daemon_.root() + "-old";
  copy_folder(daemon_.replica(3), old);
  ASSERT_TRUE(daemon_.start({"--no-limits"}));
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(3));
  fs::rename(old, daemon_.replica(3));
  for (int replica = 1; replica <= 2; ++replica) fs::remove(segment(replica));
  const auto left = [this] {
    return fs::exists(segment(3)) ? fs::file_size(segment(3)) : std::uintmax_t{0};
  };
  const auto size = left();
  ASSERT_GT(size, 0U);
  const auto is_lost = [](const std::string& line) { return line.starts_with("lost DISK"); };
  for (const bool repair : {false, true}) {
    const auto found = repair ? fsck({"--repair"}, 4) : fsck({}, 4);
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), is_lost)) << last_.dump(1);
    EXPECT_EQ(left(), size);
  }
}

TEST_F(FsckTest, AStaleReplicaAndADamagedCatalogAreBroughtUpToDate) {
  const std::string old = daemon_.root() + "-old";
  copy_folder(daemon_.replica(3), old);
  ASSERT_TRUE(daemon_.start({"--no-limits"}));
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(3));
  fs::rename(old, daemon_.replica(3));
  fs::remove_all(daemon_.replica(1) + "/catalog");
  const auto found = fsck({}, 4);
  ASSERT_EQ(found.size(), 2U) << last_.dump(1);
  EXPECT_EQ(found[0], "mendable catalog 1: there is none");
  EXPECT_TRUE(found[1].starts_with("mendable replica 3: is stale")) << found[1];
  expect_mendable(found);
}

}  // namespace
}  // namespace clouddisk::e2e
