#include "tools/clouddisk/mounted_disks.h"

#include <vector>

#include "tools/clouddisk/mount.h"

namespace clouddisk::cli {
namespace {

struct MountedDisk {
  std::string id, directory;
  bool relayed = false;
};

Outcome<std::vector<MountedDisk>> mounted_disks_of(const ApiClient& api, const std::string& root,
                                                   const std::string& instance) {
  auto disks = api.call_all("DescribeDisks", {{"InstanceId", instance}}, "Disks", "Disk");
  if (!disks) return disks.failure();
  std::vector<MountedDisk> mounted;
  for (const Json& disk : (*disks)["Disks"]["Disk"]) {
    const std::string id = text_of(disk, "DiskId");
    if (const auto directory = mounted_at(root, id)) {
      mounted.push_back({id, *directory, mount_is_relayed(root, id)});
    }
  }
  return mounted;
}

// "d-a is mounted at /a, d-b at /b. First: clouddisk disk umount d-a; clouddisk disk umount d-b".
std::string mounts_text(const std::vector<MountedDisk>& mounted) {
  std::string where, remedy;
  for (const MountedDisk& disk : mounted) {
    where += fmt::format("{}{} {} {}", where.empty() ? "" : ", ", disk.id,
                         where.empty() ? "is mounted at" : "at", disk.directory);
    remedy += fmt::format("{}clouddisk disk umount {}", remedy.empty() ? "" : "; ", disk.id);
  }
  return fmt::format("{}. First: {}", where, remedy);
}

}  // namespace

Verdict instance_must_not_be_mounted(const ApiClient& api, const std::string& root,
                                     const std::string& instance) {
  auto mounted = mounted_disks_of(api, root, instance);
  if (!mounted) return mounted.failure();
  if (mounted->empty()) return Done{};
  return refuse("DiskMounted",
                "Instance {} has disks in use: {}. With --force it is done all the same, and the "
                "file systems fail",
                instance, mounts_text(*mounted));
}

Verdict instance_mounts_must_ride_out(const ApiClient& api, const std::string& root,
                                      const std::string& instance) {
  auto mounted = mounted_disks_of(api, root, instance);
  if (!mounted) return mounted.failure();
  std::erase_if(*mounted, [](const MountedDisk& disk) { return disk.relayed; });
  if (mounted->empty()) return Done{};
  return refuse("DiskMounted",
                "Without nbdkit's relay a mount does not survive a restart of its instance {}: {}",
                instance, mounts_text(*mounted));
}

}  // namespace clouddisk::cli
