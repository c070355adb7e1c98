// Images of the real daemon: instances of one read what the instance that it was made from held,
// whatever becomes of that; bytes are checked over NBD.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

constexpr std::uint64_t kAt = 1_MiB;
constexpr std::size_t kLength = 64_KiB;

class Images : public testing::Test {
 protected:
  void start(std::vector<std::string> more = {}) {
    more.insert(more.begin(), "--no-limits");
    ASSERT_TRUE(daemon_.start(std::move(more))) << daemon_.log();
  }
  Json api(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "api");
    return Json::parse(daemon_.ok(std::move(arguments)));
  }
  std::string disk_of(const std::string& instance, const std::string& device) {
    const Json disks = api({"DescribeDisks", "InstanceId=" + instance})["Disks"]["Disk"];
    for (const Json& disk : disks) {
      if (disk["Device"] == device) return disk["DiskId"];
    }
    ADD_FAILURE() << instance << " has nothing at " << device;
    return {};
  }
  std::string run(const std::string& image, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"RunInstances", "ImageId=" + image, "InstanceType=x",
                                          "SystemDisk.Category=cloud_essd"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return api(std::move(arguments))["InstanceIdSets"]["InstanceIdSet"][0];
  }
  void write(const std::string& disk, int content) {
    auto client = daemon_.connect(disk);
    ASSERT_TRUE(client) << client.error().message;
    ASSERT_TRUE(
        client->write(kAt, std::vector<std::byte>(kLength, static_cast<std::byte>(content))));
    ASSERT_TRUE(client->flush());
  }
  // -1: not the same byte everywhere.
  int content_of(const std::string& exported, std::uint64_t* size = nullptr) {
    auto client = daemon_.connect(exported);
    EXPECT_TRUE(client) << client.error().message;
    if (!client) return -1;
    if (size != nullptr) *size = client->size_bytes();
    std::vector<std::byte> bytes(kLength);
    EXPECT_TRUE(client->read(kAt, bytes));
    for (const std::byte b : bytes) {
      if (b != bytes[0]) return -1;
    }
    return static_cast<int>(bytes[0]);
  }
  void wait_until_available(const std::string& image) {
    for (int i = 0; i < 400; ++i) {
      const Json list = api({"DescribeImages", "ImageId=" + image})["Images"]["Image"];
      if (!list.empty()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
    ADD_FAILURE() << image << " is not Available";
  }
  void stop(const std::string& instance) { daemon_.ok({"instance", "stop", instance}); }

  TestDaemon daemon_;
};

TEST_F(Images, InstancesOfOneReadWhatItWasMadeFrom) {
  start();
  const std::string first = run("local", {"DataDisk.1.Size=20", "DataDisk.1.Category=cloud_essd"});
  write(disk_of(first, "/dev/xvda"), 0x11);
  write(disk_of(first, "/dev/xvdb"), 0x22);
  const std::string image = daemon_.ok({"image", "create", "--instance", first, "--name", "web"});
  write(disk_of(first, "/dev/xvda"), 0x33);
  wait_until_available(image);

  const std::string second =
      run(image, {"SystemDisk.Size=60", "DataDisk.1.Device=/dev/xvdb", "DataDisk.1.Size=30",
                  "DataDisk.2.Size=20", "DataDisk.2.Category=cloud_essd"});
  std::uint64_t size = 0;
  EXPECT_EQ(content_of(disk_of(second, "/dev/xvda"), &size), 0x11);
  EXPECT_EQ(size, 60_GiB);
  EXPECT_EQ(content_of(disk_of(second, "/dev/xvdb"), &size), 0x22);
  EXPECT_EQ(size, 30_GiB);
  EXPECT_EQ(content_of(disk_of(second, "/dev/xvdc")), 0);

  // What the snapshots hold stays, whatever becomes of the instance; and over a restart.
  daemon_.ok({"instance", "delete", first, "--force"});
  const Json mappings =
      daemon_.ok_json({"image", "show", image})["DiskDeviceMappings"]["DiskDeviceMapping"];
  ASSERT_EQ(mappings.size(), 2U);
  daemon_.refused("SnapshotCreatedImage",
                  {"snapshot", "delete", mappings[0]["SnapshotId"], "--force"});
  daemon_.kill_now();
  start();
  const std::string third = run(image);
  EXPECT_EQ(content_of(disk_of(third, "/dev/xvda")), 0x11);
  EXPECT_EQ(content_of(disk_of(third, "/dev/xvdb")), 0x22);
  EXPECT_EQ(content_of(disk_of(second, "/dev/xvda")), 0x11);

  // A system disk goes back to its image.
  const std::string disk = disk_of(third, "/dev/xvda");
  write(disk, 0x44);
  daemon_.ok({"disk", "reinit", disk, "--restart-instance"});
  EXPECT_EQ(content_of(disk), 0x11);

  daemon_.ok({"image", "share", image, "--with", "1234567890123456"});
  daemon_.refused("ImageUseShared", {"image", "delete", image, "--force"});
  daemon_.ok({"image", "share", image, "--without", "1234567890123456"});
  daemon_.refused("ImageUsingByInstance", {"image", "delete", image});
  daemon_.ok({"image", "delete", image, "--force"});
  EXPECT_EQ(content_of(disk), 0x11);
  EXPECT_EQ(daemon_.ok({"image", "list", "--ids"}), "");
}

TEST_F(Images, AnotherSystemDiskHasANewIdAndTheImagesContent) {
  start();
  const std::string first = run("local");
  write(disk_of(first, "/dev/xvda"), 0x11);
  const std::string image = daemon_.ok({"image", "create", "--instance", first});
  wait_until_available(image);
  const std::string second =
      daemon_.ok({"instance", "create", "--system-category", "cloud_essd", "--system-size", "40"});
  const std::string old = disk_of(second, "/dev/xvda");
  write(old, 0x55);
  daemon_.refused("IncorrectInstanceStatus",
                  {"instance", "replace-system-disk", second, "--image", image});
  stop(second);
  const std::string disk =
      daemon_.ok({"instance", "replace-system-disk", second, "--image", image, "--size", "50"});
  EXPECT_NE(disk, old);
  EXPECT_EQ(disk_of(second, "/dev/xvda"), disk);
  daemon_.ok({"instance", "start", second});
  std::uint64_t size = 0;
  EXPECT_EQ(content_of(disk, &size), 0x11);
  EXPECT_EQ(size, 50_GiB);
  daemon_.refused("InvalidDiskId.NotFound", {"disk", "show", old});
  EXPECT_FALSE(std::filesystem::exists(daemon_.replica(1) + "/disks/" + old));
}

TEST_F(Images, AreCopiedToAnotherRegionThroughAKillAndOutliveTheirSource) {
  const std::vector<std::string> regions = {"--region", "here", "--region", "there"};
  start(regions);
  const std::string first = run("local", {"DataDisk.1.Size=20", "DataDisk.1.Category=cloud_essd"});
  write(disk_of(first, "/dev/xvda"), 0x11);
  write(disk_of(first, "/dev/xvdb"), 0x22);
  const std::string image = daemon_.ok({"image", "create", "--instance", first});
  wait_until_available(image);
  daemon_.refused("IncorrectDestinationRegion", {"image", "copy", image, "--to-region", "here"});
  const std::string copy =
      daemon_.ok({"image", "copy", image, "--to-region", "there", "--name", "offsite"});
  daemon_.kill_now();
  start(regions);
  daemon_.ok({"instance", "delete", first, "--force"});
  daemon_.ok({"image", "delete", image});
  wait_until_available(copy);
  daemon_.refused("IncorrectImageStatus", {"image", "cancel-copy", copy});
  const Json shown = daemon_.ok_json({"image", "show", copy});
  EXPECT_EQ(shown["IsCopied"], true);
  EXPECT_EQ(shown["SourceImageId"], image);
  EXPECT_NE(daemon_.ok({"image", "show", copy}).find(image + " in here"), std::string::npos);
  const std::string second = run(copy, {"RegionId=there"});
  EXPECT_EQ(content_of(disk_of(second, "/dev/xvda")), 0x11);
  EXPECT_EQ(content_of(disk_of(second, "/dev/xvdb")), 0x22);
  const std::string back = daemon_.ok({"image", "copy", copy, "--to-region", "here", "--wait"});
  EXPECT_EQ(content_of(disk_of(run(back), "/dev/xvdb")), 0x22);
}

TEST_F(Images, AreImportedAndExported) {
  CLOUDDISK_NEEDS("qemu-img");
  start();
  const std::string file = daemon_.root() + "/base.raw";
  {
    std::ofstream out(file, std::ios::binary);
    out.seekp(static_cast<std::streamoff>(kAt));
    out << std::string(kLength, 'w');
    out.seekp(static_cast<std::streamoff>(8_MiB - 1));
    out.put('\0');
  }
  const std::string image =
      daemon_.ok({"image", "import", file, "--name", "base", "--family", "f-1"});
  const Json shown = daemon_.ok_json({"image", "show", image});
  EXPECT_EQ(shown["ImageName"], "base");
  EXPECT_EQ(shown["Size"], 20);
  const std::string instance = daemon_.ok({"instance", "create", "--image", image});
  EXPECT_EQ(content_of(disk_of(instance, "/dev/xvda")), 'w');
  const std::string copy = daemon_.root() + "/copy.qcow2";
  daemon_.ok({"image", "export", image, "--to", copy});
  EXPECT_EQ(run_ok({"qemu-img", "compare", "-f", "raw", "-F", "qcow2", file, copy}).find("differ"),
            std::string::npos);
  daemon_.refused("FileExists", {"image", "export", image, "--to", copy});
  daemon_.refused("InvalidDevice.NotFound",
                  {"image", "export", image, "--device", "/dev/xvdb", "--to", copy + "2"});
  // A name that is taken: what was copied for it goes.
  daemon_.refused("InvalidImageName.Duplicated", {"image", "import", file, "--name", "base"});
  EXPECT_EQ(daemon_.ok_json({"snapshot", "list"})["Snapshots"]["Snapshot"].size(), 1U);
}

}  // namespace
}  // namespace clouddisk::e2e
