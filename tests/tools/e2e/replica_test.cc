// Replicas that go away, rot, turn read-only, fill up or come back old, under the real daemon.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"
#include "tools/http/client.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

// A disk with known content in its first megabytes.
class ReplicaTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kChunk = 256_KiB;
  static constexpr int kChunks = 64;

  void begin(std::vector<std::string> arguments = {"--no-limits"}) {
    arguments_ = std::move(arguments);
    ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
    id_ = daemon_.make_disk();
  }
  void write_chunks(std::uint64_t generation) {
    auto client = daemon_.connect(id_);
    ASSERT_TRUE(client) << client.error().message;
    for (int i = 0; i < kChunks; ++i) {
      auto written = client->write(i * kChunk, content(generation, i));
      ASSERT_TRUE(written) << "chunk " << i << ": " << written.error().message;
    }
    ASSERT_TRUE(client->flush());
  }
  void expect_chunks(std::uint64_t generation) {
    auto client = daemon_.connect(id_);
    ASSERT_TRUE(client) << client.error().message;
    std::vector<std::byte> back(kChunk);
    for (int i = 0; i < kChunks; ++i) {
      auto read = client->read(i * kChunk, back);
      ASSERT_TRUE(read) << "chunk " << i << ": " << read.error().message;
      ASSERT_TRUE(same_bytes(back, content(generation, i))) << "chunk " << i << " has other bytes";
    }
  }
  static std::vector<std::byte> content(std::uint64_t generation, int chunk) {
    return random_bytes(kChunk, generation * 1000 + static_cast<std::uint64_t>(chunk));
  }
  bool wait_for_state(int number, const std::string& state) {
    return cli::wait_until(30, [&] { return daemon_.replica_state(number) == state; });
  }
  std::vector<fs::path> files_of(int number) const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(daemon_.replica(number))) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    return files;
  }
  double metric(const std::string& sample) const {
    const auto api = parse_address("unix:" + daemon_.root() + "/api.sock");
    auto answer = http_get(*api, "/metrics", std::chrono::seconds(10));
    EXPECT_TRUE(answer);
    const std::size_t at = answer->body.find("\n" + sample + " ");
    if (at == std::string::npos) return -1;
    return std::atof(answer->body.c_str() + at + sample.size() + 2);
  }

  TestDaemon daemon_;
  std::vector<std::string> arguments_;
  std::string id_;
};

TEST_F(ReplicaTest, AFolderThatIsRemovedWhileWritingIsNoticedAndRebuiltOnRequest) {
  begin();
  write_chunks(1);
  fs::remove_all(daemon_.replica(2));
  write_chunks(2);
  ASSERT_TRUE(wait_for_state(2, "failed"));
  expect_chunks(2);
  daemon_.ok({"replica", "resync", "2"});
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  const Json rebuilt = daemon_.ok_json({"replica", "status"})[1];
  EXPECT_GT(rebuilt["resync_done_bytes"], 0);
  EXPECT_EQ(rebuilt["resync_done_bytes"], rebuilt["resync_total_bytes"]);
  expect_chunks(2);
  // The rebuilt copy must be worth as much as any: the other two go.
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(1));
  fs::remove_all(daemon_.replica(3));
  ASSERT_TRUE(daemon_.start({"--trust-replica", "2"})) << daemon_.log();
  expect_chunks(2);
}

TEST_F(ReplicaTest, KillThenLoseAnyFolderThenRestart) {
  begin();
  for (int lost = 1; lost <= 3; ++lost) {
    write_chunks(static_cast<std::uint64_t>(lost));
    daemon_.kill_now();
    fs::remove_all(daemon_.replica(lost));
    ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
    expect_chunks(static_cast<std::uint64_t>(lost));
    ASSERT_TRUE(daemon_.wait_for_replicas(3)) << "replica " << lost;
    EXPECT_EQ(daemon_.ok_json({"disk", "show", id_})["Status"], "In_use");
  }
}

TEST_F(ReplicaTest, FlippedBytesInOneCopyAreMaskedAndMended) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  begin();
  write_chunks(1);
  ASSERT_EQ(daemon_.stop(), 0);
  int flipped = 0;
  for (const fs::path& file : files_of(1)) {
    // What the superblock's own checksum catches is another test's matter.
    if (file.filename() == "superblock" || fs::file_size(file) < 1_MiB) continue;
    const int fd = ::open(file.c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    for (int i = 0; i < 50; ++i) {
      const auto at = static_cast<off_t>(random.below(16_MiB));
      std::uint8_t byte = 0;
      if (::pread(fd, &byte, 1, at) != 1) continue;
      byte = static_cast<std::uint8_t>(byte ^ 0x40);
      ASSERT_EQ(::pwrite(fd, &byte, 1, at), 1);
      ++flipped;
    }
    ::close(fd);
  }
  ASSERT_GT(flipped, 0);
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  for (int pass = 0; pass < 6; ++pass) expect_chunks(1);  // reads choose among the copies
  // Whatever was found bad has been repaired or rebuilt: that copy alone now serves everything.
  ASSERT_EQ(daemon_.stop(), 0);
}

TEST_F(ReplicaTest, WithOneReplicaLeftReadsWorkAndWritesFail) {
  begin();
  write_chunks(1);
  fs::remove_all(daemon_.replica(1));
  fs::remove_all(daemon_.replica(3));
  auto client = daemon_.connect(id_);
  ASSERT_TRUE(client);
  const std::vector<std::byte> data(4_KiB, std::byte{7});
  // Until the loss is noticed a write may still succeed on the open files.
  EXPECT_TRUE(cli::wait_until(20, [&] { return !client->write(kChunk * kChunks, data); }));
  std::vector<std::byte> back(kChunk);
  ASSERT_TRUE(client->read(0, back));
  EXPECT_TRUE(same_bytes(back, content(1, 0)));
  auto refused = client->write(0, data);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kIo) << refused.error().message;
  expect_chunks(1);
}

TEST_F(ReplicaTest, AnOldCopyThatComesBackIsNotBelieved) {
  begin();
  write_chunks(1);
  ASSERT_EQ(daemon_.stop(), 0);
  const std::string old = daemon_.root() + "/old-copy";
  copy_folder(daemon_.replica(3), old);
  fs::remove_all(daemon_.replica(3));
  ASSERT_TRUE(daemon_.start(arguments_));
  write_chunks(2);
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(3));
  fs::rename(old, daemon_.replica(3));
  // With one of the two good ones gone as well: the old copy must not make up a majority.
  fs::remove_all(daemon_.replica(1));
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  expect_chunks(2);
  EXPECT_EQ(daemon_.replica_state(2), "in-sync");
  ASSERT_TRUE(wait_for_state(1, "failed"));
  ASSERT_TRUE(wait_for_state(3, "failed"));
  const Json replicas = daemon_.ok_json({"replica", "status"});
  EXPECT_NE(replicas[2]["reason"].get<std::string>().find("--trust-replica"), std::string::npos)
      << "it says what to do: " << replicas[2]["reason"];
  ASSERT_EQ(daemon_.stop(), 0);
  ASSERT_TRUE(daemon_.start({"--no-limits", "--trust-replica", "2"})) << daemon_.log();
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  expect_chunks(2);
}

// The same where the copy was a member all the time: only its age tells.
TEST_F(ReplicaTest, AMembersCopyFromBeforeTheLastStartIsRebuilt) {
  begin();
  write_chunks(1);
  ASSERT_EQ(daemon_.stop(), 0);
  const std::string old = daemon_.root() + "/old-copy";
  copy_folder(daemon_.replica(3), old);
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  write_chunks(2);
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(3));
  fs::rename(old, daemon_.replica(3));
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  EXPECT_NE(daemon_.log().find("stale: the others went on without it"), std::string::npos);
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(1));
  fs::remove_all(daemon_.replica(2));
  ASSERT_TRUE(daemon_.start({"--no-limits", "--trust-replica", "3"})) << daemon_.log();
  expect_chunks(2);
}

// Two folders are rebuilt at once, each in full.
TEST_F(ReplicaTest, BothRebuiltCopiesAreWorthAsMuchAsTheOneTheyCameFrom) {
  begin();
  write_chunks(1);
  std::vector<std::string> more;
  for (int i = 0; i < 6; ++i) {
    more.push_back(daemon_.make_disk());
    auto client = daemon_.connect(more.back());
    ASSERT_TRUE(client);
    ASSERT_TRUE(client->write(0, content(9, i)));
  }
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.replica(1));
  fs::remove_all(daemon_.replica(2));
  ASSERT_TRUE(daemon_.start({"--trust-replica", "3"})) << daemon_.log();
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  ASSERT_EQ(daemon_.stop(), 0);
  const std::string aside = daemon_.root() + "/aside";
  for (int alone = 1; alone <= 2; ++alone) {
    SCOPED_TRACE(fmt::format("replica {} alone", alone));
    fs::create_directory(aside);
    for (int other = 1; other <= 3; ++other) {
      if (other != alone) fs::rename(daemon_.replica(other), aside + "/" + std::to_string(other));
    }
    copy_folder(daemon_.replica(alone), aside + "/" + std::to_string(alone));
    ASSERT_TRUE(daemon_.start({"--trust-replica", std::to_string(alone)})) << daemon_.log();
    expect_chunks(1);
    std::vector<std::byte> back(kChunk);
    for (int i = 0; i < 6; ++i) {
      auto client = daemon_.connect(more[static_cast<std::size_t>(i)]);
      ASSERT_TRUE(client) << client.error().message;
      ASSERT_TRUE(client->read(0, back));
      EXPECT_TRUE(same_bytes(back, content(9, i))) << "disk " << i;
    }
    daemon_.kill_now();
    for (int number = 1; number <= 3; ++number) {
      fs::remove_all(daemon_.replica(number));
      fs::rename(aside + "/" + std::to_string(number), daemon_.replica(number));
    }
    fs::remove_all(aside);
  }
}

TEST_F(ReplicaTest, AReplicaOfAnotherRootIsNotMixedIn) {
  begin();
  write_chunks(1);
  TestDaemon other;
  ASSERT_TRUE(other.start());
  ASSERT_EQ(other.stop(), 0);
  ASSERT_EQ(daemon_.stop(), 0);
  const std::string own = daemon_.root() + "/own-copy";
  fs::rename(daemon_.replica(2), own);
  copy_folder(other.replica(2), daemon_.replica(2));
  EXPECT_FALSE(daemon_.start(arguments_)) << "it must not overwrite what belongs to another set";
  EXPECT_NE(daemon_.log().find("replica 2 belong to different sets"), std::string::npos);
  fs::remove_all(daemon_.replica(2));
  fs::rename(own, daemon_.replica(2));
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  expect_chunks(1);
}

// As when their devices are not mounted.
TEST_F(ReplicaTest, EmptyFoldersAreNoNewSetWhereThereWereDisks) {
  begin();
  write_chunks(1);
  ASSERT_EQ(daemon_.stop(), 0);
  std::vector<std::string> elsewhere = arguments_;
  for (int i = 1; i <= 3; ++i) {
    elsewhere.insert(elsewhere.end(),
                     {"--replica", daemon_.root() + "-elsewhere-" + std::to_string(i)});
  }
  EXPECT_FALSE(daemon_.start(elsewhere));
  EXPECT_NE(daemon_.log().find("all replica folders are empty"), std::string::npos);
  EXPECT_NE(daemon_.log().find("--replica"), std::string::npos);
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  expect_chunks(1);
  ASSERT_EQ(daemon_.stop(), 0);
  fs::remove_all(daemon_.root() + "/index");
  fs::create_directories(daemon_.root() + "/index/lost+found");
  EXPECT_TRUE(daemon_.start(elsewhere)) << "as the message says\n" << daemon_.log();
}

// Replicas on file systems of their own, so that one can be filled or made read-only.
class ReplicaOnDevice : public ReplicaTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (::access("/dev/loop-control", R_OK | W_OK) != 0) GTEST_SKIP() << "no loop devices";
    for (int i = 1; i <= 3; ++i) {
      const std::string image = daemon_.root() + "-image-" + std::to_string(i);
      const std::string folder = device(i);
      fs::create_directories(folder);
      { std::ofstream(image).close(); }
      fs::resize_file(image, 700_MiB);
      run_ok({"mkfs.ext4", "-q", "-F", image});
      run_ok({"mount", "-o", "loop", image, folder});
    }
  }
  void TearDown() override {
    if (daemon_.running()) daemon_.kill_now();
    for (int i = 1; i <= 3; ++i) ::umount2(device(i).c_str(), MNT_DETACH);
  }
  std::string device(int number) const {
    return daemon_.root() + "-device-" + std::to_string(number);
  }
  std::vector<std::string> on_devices() const {
    return {"--no-limits",    "--replica", device(1) + "/r", "--replica",
            device(2) + "/r", "--replica", device(3) + "/r"};
  }
  std::string state(int number) const {
    return daemon_.ok_json({"replica", "status"})[static_cast<std::size_t>(number - 1)]["state"];
  }
};

TEST_F(ReplicaOnDevice, AReadOnlyReplicaFallsOutAndComesBackOnRequest) {
  begin(on_devices());
  write_chunks(1);
  // A running file system with open files can't be remounted read-only; one that failed can.
  run_ok({"mount", "-o", "remount,abort", device(2)});
  write_chunks(2);
  ASSERT_TRUE(cli::wait_until(30, [&] { return state(2) == "failed"; }));
  expect_chunks(2);
  ASSERT_EQ(daemon_.stop(), 0);
  ASSERT_TRUE(daemon_.start(arguments_)) << "a read-only folder is no reason not to serve";
  EXPECT_NE(state(2), "in-sync");
  expect_chunks(2);
  ASSERT_EQ(daemon_.stop(), 0);
  run_ok({"umount", device(2)});
  run_ok({"mount", "-o", "loop", daemon_.root() + "-image-2", device(2)});
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  ASSERT_TRUE(cli::wait_until(60, [&] { return state(2) == "in-sync"; }));
  expect_chunks(2);
}

TEST_F(ReplicaOnDevice, FullDevicesGiveEnospcLoseNothingAndGoOnOnceThereIsRoom) {
  begin(on_devices());
  write_chunks(1);
  for (int i = 1; i <= 3; ++i) {
    auto filled = cli::run_program({"dd", "if=/dev/zero", "of=" + device(i) + "/filler", "bs=1M"});
    ASSERT_TRUE(filled);
  }
  auto client = daemon_.connect(id_);
  ASSERT_TRUE(client);
  const auto data = random_bytes(1_MiB, 77);
  Result<void> written;
  std::uint64_t accepted = 0;
  while (accepted < 400 && (written = client->write(1_GiB + accepted * 1_MiB, data))) ++accepted;
  ASSERT_FALSE(written) << "300 MiB of room can't take 400 MiB";
  EXPECT_EQ(written.error().code, Errc::kNoSpace) << written.error().message;
  expect_chunks(1);
  for (int i = 1; i <= 3; ++i) fs::remove(device(i) + "/filler");
  EXPECT_TRUE(cli::wait_until(20, [&] {
    return static_cast<bool>(client->write(1_GiB + accepted * 1_MiB, data));
  })) << "without a restart";
  expect_chunks(1);
  std::vector<std::byte> back(data.size());
  for (std::uint64_t i = 0; i <= accepted; i += 7) {
    ASSERT_TRUE(client->read(1_GiB + i * 1_MiB, back));
    ASSERT_TRUE(back == data) << "accepted MiB " << i;
  }
  daemon_.kill_now();
  ASSERT_TRUE(daemon_.start(arguments_)) << daemon_.log();
  expect_chunks(1);
}

TEST_F(ReplicaOnDevice, OneFullDeviceDoesNotLoseOrStopTheDisk) {
  begin(on_devices());
  write_chunks(1);
  auto filled = cli::run_program({"dd", "if=/dev/zero", "of=" + device(3) + "/filler", "bs=1M"});
  ASSERT_TRUE(filled);
  auto client = daemon_.connect(id_);
  ASSERT_TRUE(client);
  const auto data = random_bytes(1_MiB, 78);
  for (std::uint64_t i = 0; i < 200; ++i) {
    auto written = client->write(1_GiB + i * 1_MiB, data);
    // Either the full one is left behind, or the client is told that there is no room.
    if (!written) {
      ASSERT_EQ(written.error().code, Errc::kNoSpace) << written.error().message;
      break;
    }
  }
  expect_chunks(1);
  fs::remove(device(3) + "/filler");
  EXPECT_TRUE(cli::wait_until(20, [&] { return static_cast<bool>(client->write(2_GiB, data)); }));
  if (state(3) != "in-sync") daemon_.ok({"replica", "resync", "3"});
  ASSERT_TRUE(cli::wait_until(60, [&] { return state(3) == "in-sync"; }));
  expect_chunks(1);
}

}  // namespace
}  // namespace clouddisk::e2e
