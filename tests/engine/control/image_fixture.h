// image_fixture.h: an instance with a system and a data disk, snapshots of them, images of those.
#pragma once

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {

class ImageTest : public ControlTest {
 protected:
  static std::string run(Daemon& daemon, Params params = {}) {
    params.try_emplace("ImageId", "local");
    params.try_emplace("InstanceType", "ecs.g7.large");
    params.try_emplace("SystemDisk.Category", "cloud_essd");
    const Json body = daemon.must("RunInstances", std::move(params));
    return body["InstanceIdSets"]["InstanceIdSet"][0].get<std::string>();
  }
  // Of 40 GiB at /dev/xvda and 20 GiB at /dev/xvdb.
  static std::string with_data(Daemon& daemon) {
    return run(daemon, {{"DataDisk.1.Size", "20"}, {"DataDisk.1.Category", "cloud_essd"}});
  }
  // By device.
  static std::map<std::string, Json> disks_of(Daemon& daemon, const std::string& instance) {
    std::map<std::string, Json> disks;
    const Json body = daemon.must("DescribeDisks", {{"InstanceId", instance}, {"PageSize", "50"}});
    for (const Json& disk : body["Disks"]["Disk"]) disks[disk["Device"]] = disk;
    return disks;
  }
  static void capture(Daemon& daemon, const std::string& snapshot) {
    EXPECT_TRUE(daemon.capture(snapshot));
  }
  static std::string take(Daemon& daemon, const std::string& disk, bool captured = true) {
    std::string id = daemon.must("CreateSnapshot", {{"DiskId", disk}})["SnapshotId"];
    if (captured) capture(daemon, id);
    return id;
  }
  static std::string snapshot_of_system(Daemon& daemon, const std::string& instance) {
    return take(daemon, disks_of(daemon, instance)["/dev/xvda"]["DiskId"]);
  }
  static std::string make(Daemon& daemon, Params params) {
    return daemon.must("CreateImage", std::move(params))["ImageId"];
  }
  static Json images(Daemon& daemon, Params params = {}) {
    return daemon.must("DescribeImages", std::move(params))["Images"]["Image"];
  }
  static Json image(Daemon& daemon, const std::string& id) {
    const Json list =
        images(daemon, {{"ImageId", id}, {"Status", "Creating,Available,CreateFailed,Deprecated"}});
    return list.empty() ? Json() : list[0];
  }
  static std::string usage(Daemon& daemon, const std::string& snapshot) {
    const Json body = daemon.must("DescribeSnapshots", {{"SnapshotIds", "[\"" + snapshot + "\"]"}});
    return body["Snapshots"]["Snapshot"][0]["Usage"];
  }
};

}  // namespace clouddisk
