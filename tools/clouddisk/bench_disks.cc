#include "tools/clouddisk/bench_disks.h"

#include <cstdio>

#include "engine/base/units.h"
#include "tools/clouddisk/host_state.h"
#include "tools/clouddisk/mount.h"
#include "tools/clouddisk/mount_record.h"
#include "tools/clouddisk/session.h"

namespace clouddisk::cli {
namespace {

Outcome<DiskLimits> limits_of_instance(const ApiClient& api, const std::string& id) {
  if (id.empty()) return DiskLimits{};
  auto answer = api.call("DescribeInstances", {{"InstanceIds", Json::array({id}).dump()}});
  if (!answer) return answer.failure();
  const Json& found = (*answer)["Instances"]["Instance"];
  if (!found.is_array() || found.empty()) return DiskLimits{};
  DiskLimits limits;
  limits.iops = number_of(found[0], "IopsLimit");
  limits.bytes_per_second = number_of(found[0], "ThroughputLimit") * 1_MiB;
  return limits;
}

// The block device of a mounted disk; empty: it has none.
std::string device_of_mount(const std::string& root, const std::string& id) {
  for (const MountRecord& record : find_records(root)) {
    if (record.id != id) continue;
    if (!record.nbd_device.empty()) return record.nbd_device;
    const auto loops = loop_devices_of(record.fuse_file());
    if (!loops.empty()) return loops.front();
  }
  return {};
}

Outcome<std::string> uri_of(const ApiClient& api, const std::string& id) {
  auto exports = api.exports(id);
  if (!exports) return exports.failure();
  return exports->front().uri;
}

// On the safe side: what is mapped is known as of the last checkpoint only, so whatever was written
// since the disk was opened, and any segment that it has, counts as data too; so does a snapshot
// that it was made from or rolled back to.
bool has_data(const Json& stats, const Json& disk) {
  const auto hydration = disk.find("Hydration");
  if (hydration != disk.end() && !text_of(*hydration, "SnapshotId").empty()) return true;
  return number_of(stats, "MappedBytes") != 0 || number_of(stats, "StoredBytes") != 0 ||
         number_of(stats, "Writes") != 0 || !text_of(disk, "SourceSnapshotId").empty();
}

// Of a disk that is served.
Verdict must_be_free(const ApiClient& api, const std::string& id, const Json& disk,
                     const DiskInPlace::Wishes& wishes) {
  auto stats = api.call("DescribeDiskStats", {{"DiskId", id}});
  if (!stats) return stats.failure();
  if (const std::uint64_t clients = number_of(*stats, "Connections");
      clients != 0 && !wishes.overwrite) {
    return refuse(
        "DiskInUse",
        "Disk {} has {} NBD connection{}; what they do would be measured with it. End "
        "them, leave --in-place away to measure a disk like it, or go on with --overwrite",
        id, clients, clients == 1 ? "" : "s");
  }
  if (wishes.overwrite || wishes.read_only) return Done{};
  if (has_data(*stats, disk)) {
    return refuse("DiskHasData",
                  "Disk {} has data, which the cases that write destroy. Leave --in-place away to "
                  "measure a disk like it, measure reads alone with --read-only, or give the data "
                  "up with --overwrite",
                  id);
  }
  return Done{};
}

}  // namespace

Outcome<BenchDaemon> describe_daemon(const ApiClient& api) {
  auto categories = api.call("DescribeCategories", {});
  if (!categories) return categories.failure();
  auto profile = parse_profile(text_of(*categories, "Profile"));
  if (!profile) return refuse("DaemonNotAnswering", "{}", profile.error().message);
  BenchDaemon daemon;
  daemon.profile = *profile;
  daemon.limits_enforced = text_of(*categories, "LimitsEnforced") != "false";
  daemon.latency_emulated = text_of(*categories, "LatencyEmulated") == "true";
  auto replicas = api.call("DescribeReplicas", {});
  if (!replicas) return replicas.failure();
  for (const Json& replica : (*replicas)["Replicas"]["Replica"]) {
    daemon.replica_folders.push_back(text_of(replica, "Folder"));
  }
  return daemon;
}

Outcome<bench::TestedDisk> describe_tested_disk(const ApiClient& api, Profile profile,
                                                const std::string& id) {
  auto found = api.disk(id);
  if (!found) return found.failure();
  bench::TestedDisk disk;
  disk.id = id;
  disk.category = text_of(*found, "Category");
  disk.level = text_of(*found, "PerformanceLevel");
  disk.size_gib = number_of(*found, "Size");
  disk.provisioned_iops = number_of(*found, "ProvisionedIops");
  disk.profile = profile;
  auto instance = limits_of_instance(api, text_of(*found, "InstanceId"));
  if (!instance) return instance.failure();
  disk.instance = *instance;
  return disk;
}

// --- A disk like it ---

Outcome<ThrowAwayDisk> ThrowAwayDisk::make(const ApiClient& api, const bench::TestedDisk& like) {
  Params wanted{{"InstanceType", "ecs.local"},
                {"ImageId", "local"},
                {"InstanceName", "clouddisk-bench"},
                {"Description", "made by clouddisk bench, which deletes it"}};
  if (like.instance.iops != 0) wanted["IopsLimit"] = std::to_string(like.instance.iops);
  if (like.instance.bytes_per_second != 0) {
    wanted["ThroughputLimit"] = std::to_string(like.instance.bytes_per_second / 1_MiB);
  }
  auto instance = api.call("RunInstances", wanted);
  if (!instance) return instance.failure();
  const Json& ids = (*instance)["InstanceIdSets"]["InstanceIdSet"];
  if (!ids.is_array() || ids.empty() || !ids[0].is_string()) {
    return refuse("DaemonNotAnswering", "the answer to RunInstances names no instance");
  }
  ThrowAwayDisk made(api, ids[0].get<std::string>());
  Params spec{{"DiskCategory", like.category},
              {"Size", std::to_string(like.size_gib)},
              {"DiskName", "clouddisk-bench"},
              {"Description", "made by clouddisk bench, which deletes it"}};
  if (!like.level.empty()) spec["PerformanceLevel"] = like.level;
  if (like.provisioned_iops != 0) spec["ProvisionedIops"] = std::to_string(like.provisioned_iops);
  auto disk = api.call("CreateDisk", spec);
  if (!disk) return disk.failure();
  made.where_.id = text_of(*disk, "DiskId");
  auto attached = api.call(
      "AttachDisk",
      {{"DiskId", made.where_.id}, {"InstanceId", made.instance_}, {"DeleteWithInstance", "true"}});
  if (!attached) return attached.failure();
  auto uri = uri_of(api, made.where_.id);
  if (!uri) return uri.failure();
  made.where_.uri = *uri;
  return made;
}

ThrowAwayDisk::ThrowAwayDisk(ThrowAwayDisk&& other) noexcept
    : api_(other.api_),
      instance_(std::exchange(other.instance_, {})),
      where_(std::move(other.where_)) {}

ThrowAwayDisk::~ThrowAwayDisk() {
  if (instance_.empty()) return;
  auto deleted = api_->call("DeleteInstance", {{"InstanceId", instance_}, {"Force", "true"}});
  if (!deleted) {
    fmt::print(stderr, "note: instance {} stays: {}\n", instance_, deleted.failure().message);
  }
  if (where_.id.empty() || !where_.uri.empty()) return;
  // It was never attached, so it did not go with the instance.
  if (auto gone = api_->call("DeleteDisk", {{"DiskId", where_.id}}); !gone) {
    fmt::print(stderr, "note: disk {} stays: {}\n", where_.id, gone.failure().message);
  }
}

// --- The disk itself ---

Outcome<DiskInPlace> DiskInPlace::open(const ApiClient& api, const std::string& root,
                                       const std::string& id, const Wishes& wishes) {
  auto found = api.disk(id);
  if (!found) return found.failure();
  DiskInPlace disk(api);
  disk.where_.id = id;
  if (const auto directory = mounted_at(root, id)) {
    if (!wishes.read_only) {
      return refuse("DiskMounted",
                    "Disk {} is mounted at {}, and writing to it would destroy the file system. "
                    "First: clouddisk disk umount {}; or measure reads alone with --read-only",
                    id, *directory, id);
    }
    disk.where_.device = device_of_mount(root, id);
    if (disk.where_.device.empty()) {
      return refuse("NotMounted", "The mount of disk {} at {} has no device", id, *directory);
    }
    return disk;
  }
  if (text_of(*found, "Status") == "Available") {
    auto attached =
        api.call("AttachDisk", {{"DiskId", id}, {"InstanceId", std::string(kLocalInstance)}});
    if (!attached) return attached.failure();
    disk.detach_ = true;
  }
  auto uri = uri_of(api, id);
  if (!uri) return uri.failure();
  disk.where_.uri = *uri;
  if (auto free = must_be_free(api, id, *found, wishes); !free) return free.failure();
  return disk;
}

DiskInPlace::DiskInPlace(DiskInPlace&& other) noexcept
    : api_(other.api_),
      detach_(std::exchange(other.detach_, false)),
      where_(std::move(other.where_)) {}

DiskInPlace::~DiskInPlace() {
  if (!detach_) return;
  auto detached = api_->call("DetachDisk",
                             {{"DiskId", where_.id}, {"InstanceId", std::string(kLocalInstance)}});
  if (!detached) {
    fmt::print(stderr, "note: disk {} stays attached: {}\n", where_.id, detached.failure().message);
  }
}

}  // namespace clouddisk::cli
