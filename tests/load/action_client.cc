#include "tests/load/action_client.h"

namespace clouddisk::load {
namespace {

using namespace nlohmann::literals;

constexpr unsigned kLivesOfAnInstance = 4;
constexpr std::chrono::milliseconds kPoll{200};
constexpr std::chrono::minutes kPatience{1};
constexpr const char* kRegion = "cn-local";

std::string text(const e2e::Json& body, const char* member) {
  return body.value(member, "");
}

std::string list_of(const std::string& id) {
  return "[\"" + id + "\"]";
}

}  // namespace

ActionClient::Json ActionClient::call(const std::string& action, Params params) {
  const auto began = Clock::now();
  const e2e::TcpAnswer answer = client_->call(action, std::move(params), key_);
  Latencies& latencies = times_[action];
  latencies.seconds.push_back(seconds_since(began));
  if (answer.status != 200) ++latencies.failed;
  Json body = answer.json();
  if (!body.is_object()) body = Json::object();
  return body;
}

void ActionClient::await(const std::string& action, const Params& which,
                         const Json::json_pointer& list, const std::string& status) {
  for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline && client_;) {
    const Json body = call(action, which);
    if (body.contains(list) && body[list].value("Status", "") == status) return;
    std::this_thread::sleep_for(kPoll);
  }
  lost_ = true;
}

void ActionClient::await_disk(const std::string& disk, const std::string& status) {
  await("DescribeDisks", {{"DiskIds", list_of(disk)}}, "/Disks/Disk/0"_json_pointer, status);
}

void ActionClient::await_snapshot(const std::string& snapshot) {
  await("DescribeSnapshots", {{"SnapshotIds", list_of(snapshot)}},
        "/Snapshots/Snapshot/0"_json_pointer, "accomplished");
}

void ActionClient::await_instance(const std::string& status) {
  await("DescribeInstances", {{"InstanceIds", list_of(instance_)}},
        "/Instances/Instance/0"_json_pointer, status);
}

void ActionClient::await_image(const std::string& image) {
  await("DescribeImages", {{"ImageId", image}}, "/Images/Image/0"_json_pointer, "Available");
}

std::string ActionClient::make_disk() {
  std::string disk =
      text(call("CreateDisk", {{"Size", "40"}, {"DiskCategory", "cloud_essd"}}), "DiskId");
  await_disk(disk, "Available");
  return disk;
}

std::string ActionClient::take_snapshot(const std::string& disk) {
  std::string snapshot = text(call("CreateSnapshot", {{"DiskId", disk}}), "SnapshotId");
  await_snapshot(snapshot);
  return snapshot;
}

void ActionClient::make_instance() {
  const Json made = call("RunInstances", {{"ImageId", "local"}, {"InstanceType", "ecs.g7.large"}});
  const auto id = "/InstanceIdSets/InstanceIdSet/0"_json_pointer;
  if (made.contains(id)) instance_ = made[id].get<std::string>();
  await_instance("Running");
}

void ActionClient::remove_instance() {
  call("StopInstance", {{"InstanceId", instance_}});
  await_instance("Stopped");
  call("DeleteInstance", {{"InstanceId", instance_}});
  instance_.clear();
}

void ActionClient::live_with_disks(Clock::time_point deadline) {
  for (unsigned lives = 0; Clock::now() < deadline && client_; ++lives) {
    if (lives % kLivesOfAnInstance == 0) {
      if (!instance_.empty()) remove_instance();
      make_instance();
    }
    const std::string disk = make_disk();
    call("DescribeRegions", {});
    call("DescribeInstances", {});
    call("AttachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
    await_disk(disk, "In_use");
    call("ModifyDiskAttribute", {{"DiskId", disk}, {"DiskName", "renamed"}});
    call("ResizeDisk", {{"DiskId", disk}, {"NewSize", "60"}, {"Type", "online"}});
    call("TagResources", {{"RegionId", kRegion},
                          {"ResourceType", "disk"},
                          {"ResourceId.1", disk},
                          {"Tag.1.Key", "kind"},
                          {"Tag.1.Value", "load"}});
    const std::string snapshot = take_snapshot(disk);
    call("DescribeSnapshots", {});
    call("DeleteSnapshot", {{"SnapshotId", snapshot}});
    call("DetachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
    await_disk(disk, "Available");
    call("DeleteDisk", {{"DiskId", disk}});
  }
  if (!instance_.empty()) remove_instance();
}

void ActionClient::use_policy(const std::string& disk) {
  const std::string policy = text(
      call(
          "CreateAutoSnapshotPolicy",
          {{"timePoints", list_of("3")}, {"repeatWeekdays", list_of("1")}, {"retentionDays", "7"}}),
      "AutoSnapshotPolicyId");
  call("ModifyAutoSnapshotPolicyEx", {{"autoSnapshotPolicyId", policy}, {"retentionDays", "8"}});
  call("ApplyAutoSnapshotPolicy", {{"autoSnapshotPolicyId", policy}, {"diskIds", list_of(disk)}});
  call("DescribeAutoSnapshotPolicyEx", {{"AutoSnapshotPolicyId", policy}});
  call("DescribeAutoSnapshotPolicyAssociations", {{"DiskId", disk}});
  call("CancelAutoSnapshotPolicy", {{"diskIds", list_of(disk)}});
  call("DeleteAutoSnapshotPolicy", {{"autoSnapshotPolicyId", policy}});
}

void ActionClient::tag(const std::string& disk) {
  const Params resource{{"RegionId", kRegion}, {"ResourceType", "disk"}, {"ResourceId.1", disk}};
  Params tagging = resource;
  tagging["Tag.1.Key"] = "kind";
  tagging["Tag.1.Value"] = "load";
  call("TagResources", tagging);
  call("ListTagResources", resource);
  call("DescribeTags", {});
  Params untagging = resource;
  untagging["All"] = "true";
  call("UntagResources", untagging);
}

void ActionClient::roll_back(const std::string& disk) {
  const std::string snapshot = take_snapshot(disk);
  call("ModifySnapshotAttribute", {{"SnapshotId", snapshot}, {"SnapshotName", "kept"}});
  call("DescribeSnapshotLinks", {});
  call("DescribeSnapshotsUsage", {});
  call("DetachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
  await_disk(disk, "Available");
  call("ResetDisk", {{"DiskId", disk}, {"SnapshotId", snapshot}});
  await_disk(disk, "Available");
  call("ReInitDisk", {{"DiskId", disk}});
  await_disk(disk, "Available");
  call("ModifyDiskSpec", {{"DiskId", disk}, {"DiskCategory", "cloud_auto"}});
  call("DescribeTasks", {});
  call("DeleteDisk", {{"DiskId", disk}});
  call("DeleteSnapshot", {{"SnapshotId", snapshot}, {"Force", "true"}});
}

void ActionClient::use_image() {
  const std::string image =
      text(call("CreateImage", {{"InstanceId", instance_}, {"RegionId", kRegion}}), "ImageId");
  await_image(image);
  call("ModifyImageAttribute", {{"ImageId", image}, {"Description", "of the load"}});
  const Json shown = call("DescribeImages", {{"ImageId", image}});
  call("StopInstance", {{"InstanceId", instance_}});
  await_instance("Stopped");
  call("ReplaceSystemDisk", {{"InstanceId", instance_}, {"ImageId", image}});
  call("StartInstance", {{"InstanceId", instance_}});
  await_instance("Running");
  call("DeleteImage", {{"ImageId", image}, {"Force", "true"}});
  const auto snapshot =
      "/Images/Image/0/DiskDeviceMappings/DiskDeviceMapping/0/SnapshotId"_json_pointer;
  if (!shown.contains(snapshot)) {
    lost_ = true;
    return;
  }
  call("DeleteSnapshot", {{"SnapshotId", shown[snapshot].get<std::string>()}, {"Force", "true"}});
}

void ActionClient::live_otherwise(Clock::time_point deadline) {
  while (Clock::now() < deadline && client_) {
    make_instance();
    const std::string disk = make_disk();
    use_policy(disk);
    tag(disk);
    call("AttachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
    await_disk(disk, "In_use");
    call("DescribeDisksFullStatus", {{"RegionId", kRegion}, {"DiskId.1", disk}});
    const Params of_disk{{"RegionId", kRegion}, {"DiskId.1", disk}};
    const std::string group = text(call("CreateSnapshotGroup", of_disk), "SnapshotGroupId");
    await("DescribeSnapshotGroups", {{"RegionId", kRegion}, {"SnapshotGroupId.1", group}},
          "/SnapshotGroups/SnapshotGroup/0"_json_pointer, "accomplished");
    call("DeleteSnapshotGroup", {{"SnapshotGroupId", group}, {"RegionId", kRegion}});
    roll_back(disk);
    use_image();
    remove_instance();
  }
}

}  // namespace clouddisk::load
