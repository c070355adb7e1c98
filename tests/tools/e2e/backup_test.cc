// Backups with stock tools: exports, copies of a snapshot over NBD, and incremental ones by what an
// export says has changed; each compared with what the disk held then.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

constexpr int kSizeGib = 20;
constexpr std::uint64_t kPlayBytes = 24_MiB;

class Backup : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* program : {"qemu-img", "nbdcopy", "nbdinfo"}) CLOUDDISK_NEEDS(program);
    ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
    disk_ = daemon_.make_disk(kSizeGib);
    std::ofstream(model_).close();
    fs::resize_file(model_, kSizeGib * 1_GiB);
  }
  std::string scratch(const std::string& name) const { return daemon_.root() + "-" + name; }
  std::string uri_of(const std::string& snapshot) const {
    return daemon_.ok({"snapshot", "uri", snapshot});
  }
  void write(std::uint64_t at, std::span<const std::byte> data) {
    auto client = daemon_.connect(disk_);
    ASSERT_TRUE(client) << client.error().message;
    const auto written = client->write(at, data);
    ASSERT_TRUE(written) << written.error().message;
    put(model_, at, data);
  }
  // Random pieces on the disk and in the model, near the beginning and near the end.
  void scribble(int pieces) {
    for (int i = 0; i < pieces && !HasFailure(); ++i) {
      std::vector<std::byte> data(512 * random_.between(1, 200));
      fill_at_random(data, random_);
      const std::uint64_t at = 512 * random_.below((kPlayBytes - data.size()) / 512);
      write(random_.one_in(2) ? at : kSizeGib * 1_GiB - kPlayBytes + at, data);
    }
  }
  static void put(const std::string& path, std::uint64_t at, std::span<const std::byte> data) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(file, 0) << path;
    EXPECT_EQ(::pwrite(file, data.data(), data.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(data.size()));
    ::close(file);
  }
  static void expect_same(const std::string& a, const std::string& a_format, const std::string& b) {
    run_ok({"qemu-img", "compare", "-f", a_format, "-F", "raw", a, b});
  }
  // What the model was at this moment, in a file that is as sparse.
  std::string model_now(const std::string& name) {
    run_ok({"cp", "--sparse=always", model_, scratch(name)});
    return scratch(name);
  }

  Random random_{announce_seed()};
  TestDaemon daemon_;
  std::string disk_;
  const std::string model_ = scratch("model");
};

TEST_F(Backup, ExportsAreWhatTheDiskWasThen) {
  scribble(40);
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk_});
  const std::string then = model_now("then");
  scribble(20);
  daemon_.ok({"snapshot", "export", snapshot, "--to", scratch("out.raw")});
  daemon_.ok({"snapshot", "export", snapshot, "--to", scratch("out.qcow2")});
  run_ok({"nbdcopy", uri_of(snapshot), scratch("copy")});
  expect_same(scratch("out.raw"), "raw", then);
  expect_same(scratch("out.qcow2"), "qcow2", then);
  expect_same(scratch("copy"), "raw", then);
  expect_same(daemon_.ok({"disk", "export", disk_}), "raw", model_);
  for (const char* file : {"out.raw", "out.qcow2", "copy"}) {
    struct stat status {};
    ASSERT_EQ(::stat(scratch(file).c_str(), &status), 0);
    EXPECT_LT(static_cast<std::uint64_t>(status.st_blocks) * 512, 3 * kPlayBytes)
        << file << ": holes stay holes";
  }
}

TEST_F(Backup, WhatChangedSinceTheOlderOneMakesTheNewerOfItsCopy) {
  constexpr int kBackups = 3;
  scribble(60);
  std::string older = daemon_.ok({"snapshot", "create", disk_});
  const std::string copy = scratch("copy");
  run_ok({"nbdcopy", uri_of(older), copy});
  for (int i = 0; i < kBackups && !HasFailure(); ++i) {
    scribble(15);
    write(1_MiB, std::vector<std::byte>(64_KiB));  // From data to zeros is a change.
    const std::string newer = daemon_.ok({"snapshot", "create", disk_});
    const std::string then = model_now("then");
    scribble(5);
    const Json map = Json::parse(
        run_ok({"nbdinfo", "--map=clouddisk:changed-since:" + older, "--json", uri_of(newer)}),
        nullptr, false);
    ASSERT_FALSE(map.is_discarded());
    auto client = daemon_.connect(newer);
    ASSERT_TRUE(client) << client.error().message;
    std::uint64_t changed = 0;
    for (const Json& extent : map) {
      if (extent["type"] == 0) continue;
      const auto offset = extent["offset"].get<std::uint64_t>();
      std::vector<std::byte> data(extent["length"].get<std::uint64_t>());
      changed += data.size();
      ASSERT_LE(changed, 8_MiB) << "incremental";
      ASSERT_TRUE(client->read(offset, data));
      put(copy, offset, data);
    }
    EXPECT_GT(changed, 0U);
    expect_same(copy, "raw", then);
    older = newer;
  }
}

TEST_F(Backup, ASnapshotShowsWhereItHasDataAndTakesNoChange) {
  const std::vector<std::byte> data(64_KiB, std::byte{7});
  write(5_MiB, data);
  write(3_GiB, data);
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk_});
  write(8_MiB, data);  // Not in the snapshot.
  for (const bool captured : {false, true}) {
    SCOPED_TRACE(captured ? "captured" : "just taken");
    if (captured) daemon_.ok({"snapshot", "create", disk_, "--wait"});
    const Json map =
        Json::parse(run_ok({"nbdinfo", "--map", "--json", uri_of(snapshot)}), nullptr, false);
    ASSERT_FALSE(map.is_discarded());
    std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
    for (const Json& extent : map) {
      if (extent["type"] == 0) found.emplace_back(extent["offset"], extent["length"]);
    }
    const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected = {{5_MiB, data.size()},
                                                                           {3_GiB, data.size()}};
    EXPECT_EQ(found, expected);
    EXPECT_NE(run_ok({"nbdinfo", uri_of(snapshot)}).find("is_read_only: true"), std::string::npos);
    auto client = daemon_.connect(snapshot);
    ASSERT_TRUE(client) << client.error().message;
    for (const NbdCommand command :
         {NbdCommand::kWrite, NbdCommand::kTrim, NbdCommand::kWriteZeroes}) {
      const bool carries = command == NbdCommand::kWrite;
      ASSERT_TRUE(
          client->send(command, 0, 1, 5_MiB, 4096, std::span(data).first(carries ? 4096 : 0)));
      const auto answer = client->receive();
      ASSERT_TRUE(answer) << answer.error().message;
      EXPECT_EQ(answer->error, static_cast<std::uint32_t>(EPERM));
    }
    std::vector<std::byte> back(data.size());
    ASSERT_TRUE(client->read(5_MiB, back));
    EXPECT_EQ(back, data);
  }
}

}  // namespace
}  // namespace clouddisk::e2e
