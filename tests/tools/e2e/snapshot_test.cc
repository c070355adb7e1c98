// Snapshots of the real daemon: what the commands promise, kill -9 at any moment, a lost replica,
// lost indexes; every snapshot compared with what its disk held.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <thread>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBytes = 24_MiB;  // of the disk are in play
constexpr std::uint64_t kPiece = 64_KiB;

using Content = std::vector<std::byte>;

class Snapshots : public testing::Test {
 protected:
  void start() { ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log(); }
  NbdClient connect(const std::string& name) {
    auto client = daemon_.connect(name);
    EXPECT_TRUE(client) << client.error().message;
    return std::move(*client);
  }
  Content read(const std::string& name, std::uint64_t bytes = kBytes) {
    NbdClient client = connect(name);
    Content content(bytes);
    for (std::uint64_t at = 0; at < bytes; at += kPiece) {
      auto done = client.read(at, std::span(content).subspan(at, kPiece));
      EXPECT_TRUE(done) << name << ": " << done.error().message;
    }
    return content;
  }
  // Random pieces with content that is half compressible; kept in `model` as well.
  void scribble(const std::string& disk, Content& model, int pieces) {
    NbdClient client = connect(disk);
    for (int i = 0; i < pieces; ++i) {
      const std::uint64_t length = 512 * (1 + random_.below(kPiece / 512));
      const std::uint64_t at = 512 * random_.below((kBytes - length) / 512);
      const auto piece = std::span(model).subspan(at, length);
      const bool zeros = random_.one_in(8);
      for (std::size_t b = 0; b < length; ++b) {
        piece[b] = zeros ? std::byte{0}
                         : static_cast<std::byte>(b % 2 == 0 ? random_.next() : std::uint64_t{7});
      }
      auto done = client.write(at, piece);
      ASSERT_TRUE(done) << done.error().message;
    }
  }
  static void expect_same(const Content& got, const Content& expected, const std::string& what) {
    EXPECT_EQ(first_difference(got, expected), got.size()) << what << " differs at that byte";
  }
  std::string status_of(const std::string& snapshot) const {
    return daemon_.ok_json({"snapshot", "show", snapshot})["Status"];
  }
  void wait_until_accomplished() const {
    for (int i = 0; i < 300; ++i) {
      if (daemon_.ok({"snapshot", "list", "--status", "progressing", "--ids"}).empty()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    FAIL() << "snapshots are still progressing\n" << daemon_.log();
  }

  Random random_{announce_seed()};
  TestDaemon daemon_;
};

TEST_F(Snapshots, EveryOneKeepsItsContentThroughKillsLostReplicasAndLostIndexes) {
  start();
  const std::string disk = daemon_.make_disk();
  Content model(kBytes);
  std::map<std::string, Content> taken;
  for (int round = 0; round < 8 && !HasFailure(); ++round) {
    scribble(disk, model, 60);
    taken[daemon_.ok({"snapshot", "create", disk})] = model;
    scribble(disk, model, 20);
    if (random_.one_in(2))
      std::this_thread::sleep_for(std::chrono::milliseconds(random_.below(80)));
    daemon_.kill_now();
    if (round == 3) fs::remove_all(daemon_.replica(1 + static_cast<int>(random_.below(3))));
    if (round == 5) fs::remove_all(daemon_.root() + "/index");
    start();
    ASSERT_TRUE(daemon_.wait_for_replicas(3)) << daemon_.log();
    expect_same(read(disk), model, "the disk");
    for (const auto& [id, content] : taken) expect_same(read(id), content, id);
    if (taken.size() > 3) {
      auto victim = taken.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random_.below(taken.size())));
      daemon_.ok({"snapshot", "delete", victim->first});
      taken.erase(victim);
    }
  }
  wait_until_accomplished();
  daemon_.kill_now();
  fs::remove_all(daemon_.root() + "/index");
  start();
  for (const auto& [id, content] : taken) expect_same(read(id), content, id);
}

TEST_F(Snapshots, GoBackAndForth) {
  start();
  const std::string disk = daemon_.make_disk();
  Content first(kBytes);
  scribble(disk, first, 100);
  const std::string snapshot =
      daemon_.ok({"snapshot", "create", disk, "--name", "before", "--wait"});
  Content second = first;
  scribble(disk, second, 100);

  daemon_.refused("IncorrectInstanceStatus", {"disk", "rollback", disk, "--snapshot", snapshot});
  expect_same(read(disk), second, "a refused rollback changes nothing");
  daemon_.ok({"disk", "rollback", disk, "--snapshot", snapshot, "--restart-instance"});
  expect_same(read(disk), first, "rolled back");
  Content third = first;
  scribble(disk, third, 30);
  daemon_.kill_now();
  start();
  expect_same(read(disk), third, "written after the rollback");
  daemon_.ok({"disk", "undo-rollback", disk, "--restart-instance"});
  expect_same(read(disk), second, "undone");
  daemon_.refused("IncorrectDiskStatus.NothingToUndo",
                  {"disk", "undo-rollback", disk, "--restart-instance"});
  daemon_.ok({"disk", "reinit", disk, "--restart-instance"});
  expect_same(read(disk), Content(kBytes), "empty again");
  daemon_.ok({"disk", "rollback", disk, "--snapshot", snapshot, "--restart-instance"});
  daemon_.ok({"disk", "hydrate", disk});
  Content fourth = first;
  scribble(disk, fourth, 10);
  const std::string next = daemon_.ok({"snapshot", "create", disk, "--wait"});
  expect_same(read(next), fourth, "snapshot after a rollback");
  expect_same(read(snapshot), first, "the one rolled back to");
  const Json shown = daemon_.ok_json({"snapshot", "show", next});
  EXPECT_LT(shown["ChangedBytes"].get<std::uint64_t>(), 2_MiB) << "incremental";
}

TEST_F(Snapshots, DisksMadeFromOneAreItsCopiesAndGoTheirOwnWays) {
  start();
  const std::string disk = daemon_.make_disk();
  Content content(kBytes);
  scribble(disk, content, 150);
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk});
  std::map<std::string, Content> clones;
  for (int i = 0; i < 5; ++i) {
    const std::string clone =
        daemon_.ok({"disk", "create", "--snapshot", snapshot, "--size", "50"});
    daemon_.ok({"disk", "attach", clone});
    clones[clone] = content;
    scribble(clone, clones[clone], 10);
  }
  daemon_.refused("InvalidDiskSize.TooSmall",
                  {"disk", "create", "--snapshot", snapshot, "--size", "20"});
  daemon_.refused("SnapshotCreatedDisk", {"snapshot", "delete", snapshot});
  wait_until_accomplished();
  daemon_.ok({"snapshot", "delete", snapshot, "--force"});
  daemon_.refused("InvalidSnapshotId.NotFound", {"snapshot", "show", snapshot});
  daemon_.kill_now();
  start();
  for (auto& [clone, expected] : clones) {
    expect_same(read(clone), expected, clone);
    daemon_.ok({"disk", "hydrate", clone});
    expect_same(read(clone), expected, clone);
  }
  expect_same(read(disk), content, "the source");
  // Nothing borrows from it any more: its chain gives the space back.
  for (int i = 0; i < 100; ++i) {
    const Json usage = Json::parse(daemon_.ok({"api", "DescribeSnapshotsUsage"}), nullptr, false);
    if (usage["SnapshotSize"] == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  FAIL() << "the deleted snapshot still takes space";
}

// One writer writes a number to one disk, and when that is acknowledged to the other: no snapshot
// of the group may have the second without the first.
TEST_F(Snapshots, AGroupIsOneInstantOfAllItsDisks) {
  start();
  const std::string a = daemon_.make_disk();
  const std::string b = daemon_.make_disk();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    NbdClient to_a = connect(a);
    NbdClient to_b = connect(b);
    std::vector<std::byte> block(4096);
    for (std::uint64_t number = 1; !stop; ++number) {
      std::memcpy(block.data(), &number, 8);
      ASSERT_TRUE(to_a.write(0, block));
      ASSERT_TRUE(to_b.write(0, block));
    }
  });
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    daemon_.ok(
        {"api", "CreateSnapshotGroup", "InstanceId=i-local", "DiskId.1=" + a, "DiskId.2=" + b});
    wait_until_accomplished();
  }
  stop = true;
  writer.join();
  const Json groups = Json::parse(daemon_.ok({"api", "DescribeSnapshotGroups"}), nullptr, false);
  const Json& list = groups["SnapshotGroups"]["SnapshotGroup"];
  ASSERT_EQ(list.size(), 5U);
  for (const Json& group : list) {
    EXPECT_EQ(group["Status"], "accomplished");
    std::map<std::string, std::uint64_t> numbers;
    for (const Json& one : group["Snapshots"]["Snapshot"]) {
      const Content content = read(one["SnapshotId"], kPiece);
      std::memcpy(&numbers[one["SourceDiskId"]], content.data(), 8);
    }
    EXPECT_GE(numbers[a], numbers[b]);
    EXPECT_LE(numbers[a], numbers[b] + 1);
  }
}

TEST_F(Snapshots, AreReadOnlyAndExportToQcow2) {
  CLOUDDISK_NEEDS("qemu-img");
  start();
  const std::string disk = daemon_.make_disk();
  Content content(kBytes);
  scribble(disk, content, 50);
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk});
  {
    NbdClient client = connect(snapshot);
    EXPECT_FALSE(client.write(0, std::vector<std::byte>(4096)));
  }
  const std::string file = daemon_.root() + "/out.qcow2";
  daemon_.ok({"snapshot", "export", snapshot, "--to", file});
  run_ok({"qemu-img", "compare", "-f", "raw", "-F", "qcow2",
          daemon_.ok({"snapshot", "uri", snapshot}), file});
  EXPECT_EQ(status_of(snapshot), "accomplished");
}

// Both formats, of a size that is no disk's, with holes; and back again.
TEST_F(Snapshots, ImportRawAndQcow2AndDisksMadeFromThemAreTheFile) {
  CLOUDDISK_NEEDS("qemu-img");
  start();
  Content content(kBytes);
  for (std::size_t at = 0; at < kBytes; at += 1_MiB) {
    if (random_.one_in(2)) continue;
    for (std::size_t b = at; b < at + kPiece; ++b)
      content[b] = static_cast<std::byte>(random_.next());
  }
  const std::string raw = daemon_.root() + "/base.raw";
  std::ofstream(raw, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(kBytes));
  const std::string qcow2 = daemon_.root() + "/base.qcow2";
  run_ok({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2});
  for (const std::string& file : {raw, qcow2}) {
    const std::string id = daemon_.ok({"snapshot", "import", file, "--name", "base"});
    const Json shown = daemon_.ok_json({"snapshot", "show", id});
    EXPECT_EQ(shown["SnapshotName"], "base");
    EXPECT_EQ(shown["SourceDiskSize"], "20");
    const std::string clone = daemon_.ok({"disk", "create", "--snapshot", id, "--size", "40"});
    const std::string uri = daemon_.ok({"disk", "attach", clone});
    const std::string format = file == raw ? "raw" : "qcow2";
    run_ok({"qemu-img", "compare", "-f", format, "-F", "raw", file, uri});
    const std::string back = file + ".back";
    daemon_.ok({"snapshot", "export", id, "--to", back, "--format", format});
    run_ok({"qemu-img", "compare", "-f", format, "-F", format, file, back});
    EXPECT_LT(fs::file_size(back), 21_GiB);
    struct stat status {};
    ASSERT_EQ(::stat(back.c_str(), &status), 0);
    EXPECT_LT(static_cast<std::uint64_t>(status.st_blocks) * 512, kBytes) << "sparse";
    EXPECT_FALSE(fs::exists(back + ".part"));
  }
  wait_until_accomplished();
  EXPECT_EQ(daemon_.ok_json({"disk", "list"})["TotalCount"], 2) << "the clones alone";
}

TEST_F(Snapshots, AnImportThatIsRefusedOrGivenUpLeavesNothing) {
  CLOUDDISK_NEEDS("qemu-img");
  start();
  const std::string good = daemon_.root() + "/good.raw";
  run_ok({"qemu-img", "create", "-f", "raw", good, "1M"});
  daemon_.refused("InvalidFile", {"snapshot", "import", daemon_.root() + "/none.raw"});
  daemon_.refused("InvalidFile", {"snapshot", "import", daemon_.root()});
  const std::string odd = daemon_.root() + "/good.vmdk";
  fs::copy_file(good, odd);
  daemon_.refused("UnknownFormat", {"snapshot", "import", odd});
  daemon_.refused("InvalidFile", {"snapshot", "import", good, "--format", "qcow2"});
  daemon_.refused("InvalidSnapshotName.Malformed",
                  {"snapshot", "import", good, "--name", "automatic"});
  const std::string huge = daemon_.root() + "/huge.qcow2";
  run_ok({"qemu-img", "create", "-f", "qcow2", huge, "33T"});
  daemon_.refused("InvalidDiskSize.TooLarge", {"snapshot", "import", huge});
  // What is cut off would read as zeros.
  const std::string cut = daemon_.root() + "/cut.qcow2";
  {
    const std::string full = daemon_.root() + "/full.raw";
    std::ofstream out(full, std::ios::binary);
    for (std::uint64_t i = 0; i < 8_MiB / 8; ++i) {
      const std::uint64_t number = random_.next();
      out.write(reinterpret_cast<const char*>(&number), 8);
    }
    out.close();
    run_ok({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", full, cut});
    fs::resize_file(cut, 5_MiB);
  }
  daemon_.refused("InvalidFile", {"snapshot", "import", cut});
  EXPECT_EQ(daemon_.ok({"disk", "list", "--ids"}), "");
  EXPECT_EQ(daemon_.ok({"snapshot", "list", "--ids"}), "");

  // Killed outright: what it left is shown, and can be removed; a restart does so by itself.
  for (const bool by_hand : {true, false}) {
    const Json begun = Json::parse(
        daemon_.ok({"api", "BeginSnapshotImport", "ImageSize=1000", "SnapshotName=left"}));
    const std::string left = begun["DiskId"];
    EXPECT_EQ(daemon_.ok_json({"disk", "show", left})["Status"], "Importing");
    daemon_.refused("IncorrectDiskStatus", {"disk", "attach", left});
    daemon_.refused("IncorrectDiskStatus", {"snapshot", "create", left});
    if (by_hand) {
      daemon_.ok({"disk", "delete", left});
    } else {
      daemon_.kill_now();
      start();
    }
    EXPECT_EQ(daemon_.ok({"disk", "list", "--ids"}), "");
    EXPECT_FALSE(fs::exists(daemon_.replica(1) + "/disks/" + left));
  }
}

// All three copies of a chain are damaged, then mended.
TEST_F(Snapshots, AHydrationThatFailsSaysSoAndBeginsAgainWhenAsked) {
  start();
  const std::string disk = daemon_.make_disk();
  Content content(kBytes);
  scribble(disk, content, 150);
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk, "--wait"});
  daemon_.stop();
  std::map<fs::path, Content> whole;
  for (int replica = 1; replica <= 3; ++replica) {
    const std::string folder = daemon_.replica(replica) + "/disks/sl-" + disk.substr(2);
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file() || entry.file_size() < 1_MiB) continue;
      Content bytes(entry.file_size());
      std::ifstream(entry.path(), std::ios::binary)
          .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      // The frames of the first blocks: headers and what the log needs to open stay.
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      for (std::size_t at = 64_KiB; at < 512_KiB; at += 512) {
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(~std::to_integer<unsigned>(bytes[at])));
      }
      whole[entry.path()] = std::move(bytes);
    }
  }
  ASSERT_EQ(whole.size() % 3, 0U);
  ASSERT_FALSE(whole.empty());
  start();
  const std::string clone = daemon_.ok({"disk", "create", "--snapshot", snapshot});
  daemon_.ok({"disk", "attach", clone});
  daemon_.refused("HydrationFailed", {"disk", "hydrate", clone});
  const Json shown = daemon_.ok_json({"disk", "show", clone});
  EXPECT_EQ(shown["Hydration"]["Status"], "failed");
  EXPECT_NE(shown["Hydration"]["Failure"], "");
  EXPECT_NE(daemon_.ok({"disk", "show", clone}).find("failed"), std::string::npos);
  for (const auto& [path, bytes] : whole) {
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  daemon_.ok({"disk", "hydrate", clone, "--rate", "0"});
  expect_same(read(clone), content, "the clone");
  EXPECT_EQ(daemon_.ok_json({"disk", "show", clone})["Hydration"]["Status"], "done");
}

TEST_F(Snapshots, WhatADiskBorrowedFromGoesAsSoonAsItHasEverythingItself) {
  ASSERT_TRUE(daemon_.start({"--no-limits", "--hydrate-rate", "1M"})) << daemon_.log();
  const std::string disk = daemon_.make_disk();
  Content content(kBytes);
  {  // It takes longer to load than what follows: 24 MiB at 1 MiB a second.
    NbdClient client = connect(disk);
    for (std::byte& byte : content) byte = static_cast<std::byte>(random_.next());
    ASSERT_TRUE(client.write(0, content));
  }
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string clone = daemon_.ok({"disk", "create", "--snapshot", snapshot});
  daemon_.ok({"disk", "attach", clone});
  daemon_.ok({"disk", "detach", disk});
  daemon_.ok({"disk", "delete", disk});
  daemon_.ok({"snapshot", "delete", snapshot, "--force"});
  const std::string chain = "/disks/sl-" + disk.substr(2);
  for (int replica = 1; replica <= 3; ++replica) {
    EXPECT_TRUE(fs::exists(daemon_.replica(replica) + chain)) << "borrowed from";
  }
  daemon_.ok({"disk", "hydrate", clone, "--rate", "0"});
  const auto is_gone = [&](int replica) { return !fs::exists(daemon_.replica(replica) + chain); };
  EXPECT_TRUE(cli::wait_until(10, [&] { return is_gone(1) && is_gone(2) && is_gone(3); }));
  expect_same(read(clone), content, "the clone");
}

TEST_F(Snapshots, AStoreThatIsFarAwaySlowsWhatADiskBorrowsOnce) {
  ASSERT_TRUE(daemon_.start({"--no-limits", "--store-latency", "300ms"})) << daemon_.log();
  const std::string disk = daemon_.make_disk();
  Content content(kBytes);
  scribble(disk, content, 100);
  {
    // Whatever was drawn: there is something to read at the end.
    const auto last = std::span(content).last(4_KiB);
    std::fill(last.begin(), last.end(), std::byte{9});
    NbdClient client = connect(disk);
    ASSERT_TRUE(client.write(kBytes - last.size(), last));
  }
  const auto timed = [](const std::function<void()>& work) {
    const auto begun = std::chrono::steady_clock::now();
    work();
    return std::chrono::steady_clock::now() - begun;
  };
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string far = daemon_.ok({"disk", "create", "--snapshot", snapshot});
  daemon_.ok({"disk", "attach", far});
  const std::string near =
      daemon_.ok({"disk", "create", "--snapshot", snapshot, "--store-latency", "0"});
  daemon_.ok({"disk", "attach", near});
  // The last megabyte: hydration comes from the front, 300 ms each.
  const std::uint64_t end = kBytes - 1_MiB;
  Content block(1_MiB);
  {
    NbdClient client = connect(far);
    const auto read_end = [&] { ASSERT_TRUE(client.read(end, block)); };
    EXPECT_GE(timed(read_end), std::chrono::milliseconds(300));
    EXPECT_LT(timed(read_end), std::chrono::milliseconds(300));
    EXPECT_TRUE(std::equal(block.begin(), block.end(), content.end() - 1_MiB));
  }
  EXPECT_LT(timed([&] { daemon_.ok({"disk", "hydrate", near}); }), std::chrono::seconds(3));
  const Json shown = daemon_.ok_json({"disk", "show", far});
  EXPECT_EQ(shown["Hydration"]["Status"], "loading") << "24 steps of 300 ms";
  EXPECT_EQ(shown["Store"]["LatencyUs"], 300'000);
  // Nobody waits for what was meant for the old distance, nor does a stop.
  daemon_.ok({"disk", "modify", far, "--store-latency", "60s"});
  EXPECT_LT(timed([&] { daemon_.ok({"disk", "detach", far}); }), std::chrono::seconds(5));
  daemon_.ok({"disk", "modify", far, "--store-latency", "0"});
  daemon_.ok({"disk", "attach", far});
  daemon_.ok({"disk", "hydrate", far});
  expect_same(read(far), content, "the far one");
}

TEST_F(Snapshots, ADiskGrowsAndItsSnapshotsKeepTheirSize) {
  start();
  const std::string disk = daemon_.make_disk(20);
  const auto size_of = [this](const std::string& name) { return connect(name).size_bytes(); };
  NbdClient before = connect(disk);
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string said = daemon_.ok({"disk", "resize", disk, "--size", "30"});
  EXPECT_NE(said.find("connect again"), std::string::npos) << said;
  EXPECT_EQ(before.size_bytes(), 20_GiB);
  EXPECT_EQ(size_of(disk), 30_GiB) << "its next negotiation";
  const std::vector<std::byte> block(4096, std::byte{7});
  EXPECT_TRUE(connect(disk).write(30_GiB - 4096, block));
  EXPECT_EQ(size_of(snapshot), 20_GiB);
  daemon_.ok({"disk", "resize", disk, "--size", "40", "--type", "offline"});
  EXPECT_EQ(size_of(disk), 30_GiB);
  EXPECT_EQ(size_of(daemon_.ok({"snapshot", "create", disk, "--wait"})), 30_GiB);
  daemon_.ok({"instance", "stop", "i-local"});
  daemon_.ok({"instance", "start", "i-local"});
  EXPECT_EQ(size_of(disk), 40_GiB);
  daemon_.refused("InvalidDiskSize.TooSmall", {"disk", "resize", disk, "--size", "30"});
  // Back to a snapshot of a smaller disk: it keeps its own size, zeros behind.
  daemon_.ok({"disk", "rollback", disk, "--snapshot", snapshot, "--restart-instance"});
  EXPECT_EQ(size_of(disk), 40_GiB);
  std::vector<std::byte> got(4096, std::byte{1});
  EXPECT_TRUE(connect(disk).read(30_GiB - 4096, got));
  EXPECT_EQ(got, std::vector<std::byte>(4096));
}

// With a qemu-img that never comes to an end.
TEST_F(Snapshots, AnInterruptedImportOrExportIsUndone) {
  start();
  const std::string disk = daemon_.make_disk();
  const std::string snapshot = daemon_.ok({"snapshot", "create", disk, "--wait"});
  const std::string folder = daemon_.root() + "/slow";
  fs::create_directory(folder);
  const std::string program = folder + "/qemu-img";
  std::ofstream(program) << "#!/bin/sh\n"
                            "[ \"$1\" = info ] && { echo '{\"virtual-size\": 1048576}'; exit; }\n"
                            "for last; do :; done\n"
                            "case $last in /*) : > \"$last\";; esac\n"
                            "echo > "
                         << folder << "/started\nexec sleep 60\n";
  fs::permissions(program, fs::perms::owner_all);
  const std::string image = folder + "/image.raw";
  std::ofstream(image) << "content";
  const std::string before = std::getenv("PATH");
  ASSERT_EQ(::setenv("PATH", (folder + ":" + before).c_str(), 1), 0);
  const std::string target = folder + "/out.raw";
  const std::vector<std::vector<std::string>> commands = {
      {"snapshot", "import", image}, {"snapshot", "export", snapshot, "--to", target}};
  for (const auto& arguments : commands) {
    std::vector<std::string> command = {CLOUDDISK_PROGRAM, "--root", daemon_.root()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const std::string log = folder + "/" + arguments[1] + ".log";
    auto child = cli::start_program(command, log);
    ASSERT_TRUE(child);
    for (int i = 0; i < 1000 && !fs::exists(folder + "/started"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(fs::remove(folder + "/started"));
    ::kill(*child, SIGTERM);
    int status = 0;
    ASSERT_EQ(::waitpid(*child, &status, 0), *child);
    EXPECT_EQ(WEXITSTATUS(status), 1);
    std::ifstream said(log);
    const std::string text{std::istreambuf_iterator<char>(said), {}};
    EXPECT_EQ(text.rfind("error: Interrupted: ", 0), 0U) << text;
  }
  ASSERT_EQ(::setenv("PATH", before.c_str(), 1), 0);
  EXPECT_EQ(daemon_.ok({"disk", "list", "--ids"}), disk);
  EXPECT_EQ(daemon_.ok({"snapshot", "list", "--ids"}), snapshot);
  EXPECT_FALSE(fs::exists(target));
  EXPECT_FALSE(fs::exists(target + ".part"));
}

// Random changes, then what the context says against the truth, block by block.
TEST_F(Snapshots, TheDifferenceIsExactForSnapshotsAndTheLiveDisk) {
  CLOUDDISK_NEEDS("nbdinfo");
  start();
  const std::string disk = daemon_.make_disk();
  Content model(kBytes);
  std::vector<std::pair<std::string, Content>> states;
  for (int i = 0; i < 3; ++i) {
    scribble(disk, model, 40);
    states.emplace_back(daemon_.ok({"snapshot", "create", disk}), model);
  }
  // What is written again with the same bytes has not changed.
  {
    NbdClient client = connect(disk);
    ASSERT_TRUE(client.write(0, std::span(model).first(kPiece)));
  }
  scribble(disk, model, 20);
  states.emplace_back(disk, model);
  for (const bool captured : {false, true}) {
    if (captured) wait_until_accomplished();
    for (std::size_t older = 0; older < 3; ++older) {
      for (std::size_t newer = 0; newer < states.size(); ++newer) {
        if (newer == older) continue;
        const Json diff =
            daemon_.ok_json({"snapshot", "diff", states[older].first, states[newer].first});
        std::vector<bool> said(kBytes / 4096);
        for (const Json& extent : diff["Extents"]) {
          const auto first = extent["Offset"].get<std::uint64_t>() / 4096;
          const auto count = extent["Length"].get<std::uint64_t>() / 4096;
          for (std::uint64_t b = first; b < first + count; ++b) said.at(b) = true;
        }
        for (std::size_t b = 0; b < said.size(); ++b) {
          const auto block_of = [b](const Content& content) {
            return std::span(content).subspan(b * 4096, 4096);
          };
          const bool differs =
              !same_bytes(block_of(states[older].second), block_of(states[newer].second));
          ASSERT_EQ(said[b], differs) << "block " << b << " of " << newer << " against " << older;
        }
      }
    }
  }
  const std::string foreign = daemon_.make_disk();
  daemon_.refused("DiffFailed", {"snapshot", "diff", states[0].first, foreign});
}

TEST_F(Snapshots, RefuseWhatTheCloudRefuses) {
  start();
  const std::string disk = daemon_.ok({"disk", "create", "--size", "40"});
  daemon_.refused("IncorrectDiskStatus.NeverAttached", {"snapshot", "create", disk});
  daemon_.refused("InvalidDiskId.NotFound", {"snapshot", "create", "d-none"});
  daemon_.refused("InvalidSnapshotName.Malformed",
                  {"snapshot", "create", disk, "--name", "automatic"});
  daemon_.refused("InvalidRetentionDays.Malformed",
                  {"snapshot", "create", disk, "--retention-days", "70000"});
  daemon_.refused("InvalidSnapshotId.NotFound", {"snapshot", "delete", "s-none"});
  daemon_.ok({"disk", "attach", disk});
  const std::string other = daemon_.make_disk();
  const std::string foreign = daemon_.ok({"snapshot", "create", other, "--wait"});
  daemon_.ok({"snapshot", "modify", foreign, "--name", "renamed", "--description", "of another"});
  EXPECT_EQ(daemon_.ok_json({"snapshot", "show", foreign})["SnapshotName"], "renamed");
  daemon_.refused("InvalidRetentionDays.Malformed",
                  {"snapshot", "modify", foreign, "--retention-days", "9"});
  daemon_.refused("MissingParameter", {"snapshot", "modify", foreign});
  daemon_.refused("InvalidParameter.Mismatch", {"disk", "rollback", disk, "--snapshot", foreign});
  daemon_.refused("InvalidSnapshotId.NotFound",
                  {"disk", "rollback", disk, "--snapshot", "s-none", "--restart-instance"});
  daemon_.ok({"disk", "detach", disk});
  // A detached disk has a past as well.
  const std::string detached = daemon_.ok({"snapshot", "create", disk, "--wait"});
  daemon_.ok({"disk", "rollback", disk, "--snapshot", detached});
  daemon_.ok({"disk", "delete", disk});
  EXPECT_EQ(status_of(detached), "accomplished") << "it outlives its disk";
  const std::string again = daemon_.ok({"disk", "create", "--snapshot", detached});
  daemon_.ok({"disk", "attach", again});
}

}  // namespace
}  // namespace clouddisk::e2e
