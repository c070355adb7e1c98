// Mounting for real, over a stock NBD server: file systems, refusals, and clearing up after every
// way in which a mount can end early.
#include "tools/clouddisk/mount.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tools/clouddisk/host_state.h"
#include "tools/clouddisk/mount_record.h"
#include "tools/clouddisk/process.h"

namespace clouddisk::cli {
namespace {

namespace fs = std::filesystem;

std::string why_not() {
  if (::geteuid() != 0) return "mounting needs root";
  for (const char* device : {"/dev/fuse", "/dev/loop-control"}) {
    if (::access(device, R_OK | W_OK) != 0) return std::string(device) + " is missing";
  }
  for (const char* program : {"nbdkit", "nbdfuse", "nbdinfo", "fusermount3", "losetup", "mkfs.ext4",
                              "mkfs.xfs", "xfs_growfs"}) {
    if (find_program(program).empty()) return std::string(program) + " is not installed";
  }
  return {};
}

class MountTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    char name[] = "/var/tmp/clouddisk-mount-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    root_ = folder_ + "/root";
    fs::create_directory(root_);
    request_ = {.root = root_,
                .id = id_,
                .nbd = *parse_address("unix:" + folder_ + "/nbd.sock"),
                .directory = folder_ + "/mnt",
                .mkfs = "ext4",
                .options = "",
                .way = MountWay::kFuse};
    image_ = folder_ + "/image";
    resize(512);
    serve();
  }
  void TearDown() override {
    if (folder_.empty()) return;
    // Without its server a file system that is still mounted would hang the umount.
    if (HasFailure() && !fs::exists(folder_ + "/server.pid")) serve();
    [[maybe_unused]] auto undone = unmount_disk(root_, id_);
    stop_serving();
    expect_nothing_left();
    fs::remove_all(folder_);
  }

  void resize(int mebibytes) {
    std::ofstream(image_, std::ios::app).close();
    fs::resize_file(image_, static_cast<std::uintmax_t>(mebibytes) << 20);
  }
  // In the background: in the foreground nbdkit ends with the thread that started it.
  void serve() {
    auto server = run_program(
        {"nbdkit", "-U", folder_ + "/nbd.sock", "-P", folder_ + "/server.pid", "file", image_});
    ASSERT_TRUE(server) << server.failure().message;
    ASSERT_TRUE(server->ok()) << server->complaint();
  }
  void stop_serving(int signal = SIGTERM) {
    const auto servers = [&] { return processes_with("nbdkit", folder_ + "/nbd.sock"); };
    for (const pid_t server : servers()) ::kill(server, signal);
    EXPECT_TRUE(wait_until(10, [&] { return servers().empty(); }));
    fs::remove(folder_ + "/server.pid");
    fs::remove(folder_ + "/nbd.sock");
  }

  std::string record_folder() const { return root_ + "/mounts/" + id_; }
  std::string fuse_file() const { return record_folder() + "/fuse/disk"; }
  void expect_nothing_left() const {
    EXPECT_FALSE(fs::exists(record_folder()));
    EXPECT_TRUE(loop_devices_of(fuse_file()).empty());
    EXPECT_TRUE(processes_with("nbdfuse", fuse_file()).empty());
    EXPECT_TRUE(processes_with("nbdkit", record_folder() + "/relay.sock").empty());
    for (const MountPoint& mount : current_mounts()) {
      EXPECT_FALSE(mount.directory.starts_with(folder_ + '/')) << mount.directory;
    }
  }
  static void write_file(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  static std::string read_file(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void expect_mounts() {
    auto mounted = mount_disk(request_);
    ASSERT_TRUE(mounted) << mounted.failure().code << ": " << mounted.failure().message;
    ASSERT_TRUE(is_mount_point(request_.directory));
  }
  void expect_mounts_anew() {
    request_.mkfs = "";
    expect_mounts();
  }
  void expect_unmounts() {
    auto done = unmount_disk(root_, id_);
    ASSERT_TRUE(done) << done.failure().code << ": " << done.failure().message;
    EXPECT_EQ(*done, id_);
    expect_nothing_left();
  }

  const std::string id_ = "d-mount" + std::to_string(::getpid());
  std::string folder_, root_, image_;
  MountRequest request_;
};

TEST_F(MountTest, FilesSurviveAnUmountAndNothingIsLeftBehind) {
  for (const std::string type : {"ext4", "xfs"}) {
    fs::remove(image_);
    resize(512);
    request_.mkfs = type;
    stop_serving();
    serve();
    expect_mounts();
    EXPECT_EQ(mounted_at(root_, id_), request_.directory);
    write_file(request_.directory + "/f", "kept " + type);
    expect_unmounts();
    EXPECT_EQ(mounted_at(root_, id_), std::nullopt);
    EXPECT_FALSE(fs::exists(request_.directory)) << "made by the mount, so removed with it";
    request_.mkfs = "";
    expect_mounts();
    EXPECT_EQ(read_file(request_.directory + "/f"), "kept " + type);
    auto by_directory = unmount_disk(root_, request_.directory);
    EXPECT_TRUE(by_directory);
    expect_nothing_left();
  }
}

TEST_F(MountTest, WorksWithoutTheRelayToo) {
  request_.relay = false;
  auto mounted = mount_disk(request_);
  ASSERT_TRUE(mounted) << mounted.failure().message;
  EXPECT_FALSE(mounted->relayed);
  expect_unmounts();
}

TEST_F(MountTest, ReadOnlyTakesNoWrites) {
  expect_mounts();
  write_file(request_.directory + "/f", "x");
  expect_unmounts();
  request_.mkfs = "";
  request_.read_only = true;
  fs::create_directory(request_.directory);
  expect_mounts();
  EXPECT_EQ(read_file(request_.directory + "/f"), "x");
  EXPECT_LT(::open((request_.directory + "/g").c_str(), O_CREAT | O_WRONLY, 0600), 0);
  expect_unmounts();
  EXPECT_TRUE(fs::exists(request_.directory)) << "it was there before";
}

TEST_F(MountTest, ADiskThatHoldsSomethingIsNotFormatted) {
  expect_mounts();
  write_file(request_.directory + "/f", "precious");
  expect_unmounts();
  auto refused = mount_disk(request_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().code, "FileSystemExists");
  EXPECT_NE(refused.failure().message.find("ext4"), std::string::npos);
  expect_nothing_left();
  request_.mkfs = "";
  expect_mounts();
  EXPECT_EQ(read_file(request_.directory + "/f"), "precious");
  expect_unmounts();
}

TEST_F(MountTest, ADiskWithoutFileSystemSaysHowToMakeOne) {
  request_.mkfs = "";
  auto refused = mount_disk(request_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().code, "FileSystemMissing");
  EXPECT_NE(refused.failure().message.find("--mkfs"), std::string::npos);
  expect_nothing_left();
  EXPECT_FALSE(fs::exists(request_.directory));
}

TEST_F(MountTest, ABusyMountIsReportedWithItsUsersAndLeftWhole) {
  expect_mounts();
  const std::string file = request_.directory + "/open";
  const int fd = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  auto busy = unmount_disk(root_, id_);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.failure().code, "DirectoryBusy");
  EXPECT_NE(busy.failure().message.find(std::to_string(::getpid())), std::string::npos)
      << busy.failure().message;
  ASSERT_TRUE(is_mount_point(request_.directory));
  EXPECT_EQ(::write(fd, "x", 1), 1);
  EXPECT_EQ(::fsync(fd), 0) << "nothing below the mount was torn down";
  ::close(fd);
  expect_unmounts();
}

TEST_F(MountTest, ACopyInAnotherMountNamespaceIsNamedAndUmountFinishesWhenItIsGone) {
  expect_mounts();
  auto holder =
      start_program({"unshare", "-m", "--propagation", "private", "sleep", "300.5"}, "/dev/null");
  ASSERT_TRUE(holder) << holder.failure().message;
  ASSERT_TRUE(wait_until(10, [] { return !processes_with("sleep", "300.5").empty(); }));
  for (int i = 0; i < 2; ++i) {
    auto busy = unmount_disk(root_, id_);
    ASSERT_FALSE(busy);
    EXPECT_EQ(busy.failure().code, "DeviceBusy");
    const std::string& message = busy.failure().message;
    const std::string process = std::to_string(*holder) + " (sleep)";
    EXPECT_NE(message.find(process), std::string::npos) << message;
    const std::string there = "nsenter -t " + std::to_string(*holder) + " -m umount ";
    EXPECT_NE(message.find(there + request_.directory), std::string::npos) << message;
    EXPECT_NE(message.find("clouddisk disk umount " + id_), std::string::npos) << message;
    EXPECT_FALSE(is_mount_point(request_.directory));
  }
  ::kill(*holder, SIGKILL);
  ASSERT_TRUE(wait_until(10, [&] { return child_ended(*holder); }));
  expect_unmounts();
}

TEST_F(MountTest, TheSecondMountOfADiskOrADirectoryIsRefused) {
  expect_mounts();
  auto again = mount_disk(request_);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.failure().code, "AlreadyMounted");
  MountRequest other = request_;
  other.id = id_ + "x";
  auto same_directory = mount_disk(other);
  ASSERT_FALSE(same_directory);
  EXPECT_EQ(same_directory.failure().code, "DirectoryBusy");
  EXPECT_TRUE(is_mount_point(request_.directory));
  expect_unmounts();
  auto nothing = unmount_disk(root_, id_);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.failure().code, "NotMounted");
  EXPECT_NE(nothing.failure().message.find("nothing is"), std::string::npos)
      << nothing.failure().message;
  expect_mounts_anew();
  auto another = unmount_disk(root_, id_ + "x");
  ASSERT_FALSE(another);
  EXPECT_NE(another.failure().message.find(id_ + " at " + request_.directory), std::string::npos)
      << another.failure().message;
  expect_unmounts();
}

TEST_F(MountTest, AServerThatIsNotThereLeavesNothing) {
  stop_serving();
  auto refused = mount_disk(request_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().code, "ExportNotReachable");
  expect_nothing_left();
}

TEST_F(MountTest, AFileInPlaceOfTheDirectoryIsRefused) {
  write_file(request_.directory, "mine");
  auto refused = mount_disk(request_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(read_file(request_.directory), "mine");
  expect_nothing_left();
}

TEST_F(MountTest, TheFileSystemGrowsWithTheDisk) {
  for (const std::string type : {"ext4", "xfs"}) {
    stop_serving();
    fs::remove(image_);
    resize(512);
    serve();
    request_.mkfs = type;
    request_.grow = false;
    expect_mounts();
    const auto before = fs::space(request_.directory).capacity;
    expect_unmounts();
    stop_serving();
    resize(1024);
    serve();
    request_.mkfs = "";
    request_.grow = true;
    expect_mounts();
    EXPECT_GT(fs::space(request_.directory).capacity, before * 3 / 2) << type;
    expect_unmounts();
  }
}

TEST_F(MountTest, AMountRidesOutARestartOfTheServer) {
  expect_mounts();
  stop_serving(SIGKILL);
  std::jthread restart([this] {
    ::sleep(2);
    serve();
  });
  const std::string file = request_.directory + "/f";
  const int fd = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(::write(fd, "through", 7), 7);
  EXPECT_EQ(::fsync(fd), 0) << "it waits for the server";
  ::close(fd);
  restart.join();
  expect_unmounts();
}

TEST_F(MountTest, AnUmountThatWaitsForTheServerSaysSoAtOnce) {
  expect_mounts();
  write_file(request_.directory + "/f", "still to be written");
  std::vector<std::string> said;
  const auto say = [&](const std::string& text) {
    said.push_back(text);
    EXPECT_TRUE(is_mount_point(request_.directory)) << "before it waits";
    serve();
  };
  stop_serving(SIGKILL);
  auto done = unmount_disk(root_, id_, say);
  ASSERT_TRUE(done) << done.failure().message;
  ASSERT_EQ(said.size(), 1U);
  for (const std::string& part : {id_ + " is not served at unix:" + folder_ + "/nbd.sock",
                                  std::string("two minutes"), "clouddiskd --root " + root_}) {
    EXPECT_NE(said[0].find(part), std::string::npos) << said[0];
  }
  expect_nothing_left();
  request_.mkfs = "";
  expect_mounts();
  EXPECT_EQ(read_file(request_.directory + "/f"), "still to be written");
  said.clear();
  EXPECT_TRUE(unmount_disk(root_, id_, say));
  EXPECT_TRUE(said.empty()) << "it is served";
}

TEST_F(MountTest, UmountClearsUpAfterAMountThatWasKilledAnywhere) {
  for (int delay_ms = 0; delay_ms < 400; delay_ms += 25) {
    const pid_t child = ::fork();
    if (child == 0) {
      [[maybe_unused]] auto mounted = mount_disk(request_);
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(delay_ms) * 1000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    // What the killed command had started may still be starting.
    ASSERT_TRUE(wait_until(10, [&] {
      return processes_with("mkfs.ext4", "-q").empty() && processes_with("losetup", "-f").empty() &&
             processes_with("mount", request_.directory).empty();
    }));
    auto done = unmount_disk(root_, id_);
    if (!done) {
      EXPECT_EQ(done.failure().code, "NotMounted") << done.failure().message;
    }
    expect_nothing_left();
    stop_serving();
    fs::remove(image_);
    resize(512);
    serve();
  }
}

TEST_F(MountTest, ADeadNbdfuseIsClearedUp) {
  request_.relay = false;
  expect_mounts();
  for (const pid_t pid : processes_with("nbdfuse", fuse_file())) ::kill(pid, SIGKILL);
  expect_unmounts();
}

TEST(MountRecord, AProcessOrDeviceOfAnotherBootIsNotTouched) {
  char name[] = "/tmp/clouddisk-record-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string root = name;
  MountRecord record;
  record.id = "d-old";
  record.folder = root + "/mounts/d-old";
  record.directory = "/mnt/x y";
  record.nbd_device = "/dev/nbd0";
  record.boot_id = "an-earlier-boot";
  ASSERT_TRUE(save_record(record));
  const auto found = find_records(root);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].directory, "/mnt/x y");
  EXPECT_EQ(found[0].nbd_device, "/dev/nbd0");
  if (::geteuid() == 0) {
    EXPECT_TRUE(unmount_disk(root, "d-old"));
    EXPECT_TRUE(find_records(root).empty());
  }
  fs::remove_all(root);
}

TEST(MountRecord, ARecordThatWasNeverWrittenIsFoundByItsFolder) {
  char name[] = "/tmp/clouddisk-record-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string root = name;
  fs::create_directories(root + "/mounts/d-half");
  std::ofstream(root + "/mounts/d-half/record.json") << "{ broken";
  const auto found = find_records(root);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].id, "d-half");
  fs::remove_all(root);
}

}  // namespace
}  // namespace clouddisk::cli
