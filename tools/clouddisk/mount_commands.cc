#include <map>

#include "tools/clouddisk/disk_format.h"
#include "tools/clouddisk/mount.h"
#include "tools/clouddisk/session.h"

namespace clouddisk::cli {
namespace {

struct Arguments {
  std::string id, directory, mkfs, options;
  std::string way = "auto";
  bool read_only = false;
  bool grow = false;
  bool no_relay = false;
};

// Attaches the disk when nobody uses it yet, and says so.
Verdict attach_if_free(const ApiClient& api, const std::string& id, bool& attached) {
  auto found = api.disk(id);
  if (!found) return found.failure();
  if (text_of(*found, "Status") != "Available") return Done{};
  auto answer =
      api.call("AttachDisk", {{"DiskId", id}, {"InstanceId", std::string(kLocalInstance)}});
  if (!answer) return answer.failure();
  attached = true;
  fmt::print(stderr, "attached {} to {}\n", id, kLocalInstance);
  return Done{};
}

void detach_again(const ApiClient& api, const std::string& id) {
  auto answer =
      api.call("DetachDisk", {{"DiskId", id}, {"InstanceId", std::string(kLocalInstance)}});
  if (answer) {
    fmt::print(stderr, "detached {} from {} again\n", id, kLocalInstance);
  } else {
    fmt::print(stderr, "{} stays attached to {}: {}\n", id, kLocalInstance,
               answer.failure().message);
  }
}

Outcome<MountResult> mount_attached(const ApiClient& api, const Session& session,
                                    const Arguments& arguments) {
  auto exports = api.exports(arguments.id);
  if (!exports) return exports.failure();
  auto address = parse_address(exports->front().address);
  if (!address) return refuse("ExportNotReachable", "{}", address.error().message);
  static const std::map<std::string, MountWay> kWays{
      {"auto", MountWay::kAuto}, {"kernel", MountWay::kKernel}, {"fuse", MountWay::kFuse}};
  return mount_disk({.root = session.root,
                     .id = arguments.id,
                     .nbd = *address,
                     .directory = arguments.directory,
                     .mkfs = arguments.mkfs,
                     .read_only = arguments.read_only,
                     .grow = arguments.grow,
                     .options = arguments.options,
                     .way = kWays.at(arguments.way),
                     .relay = !arguments.no_relay});
}

Verdict mount_command(const ApiClient& api, const Session& session, const Arguments& arguments) {
  bool attached = false;
  if (auto done = attach_if_free(api, arguments.id, attached); !done) return done;
  auto mounted = mount_attached(api, session, arguments);
  if (!mounted) {
    // An earlier mount that waited for the disk goes on with it.
    if (attached && !mounted_at(session.root, arguments.id)) detach_again(api, arguments.id);
    return mounted.failure();
  }
  const std::string way = mounted->way == MountWay::kKernel ? "kernel" : "fuse";
  if (session.json()) {
    print_json({{"DiskId", arguments.id},
                {"Directory", mounted->directory},
                {"Device", mounted->device},
                {"Way", way},
                {"SurvivesRestart", mounted->relayed}});
    return Done{};
  }
  print_text(fmt::format("{} is mounted at {} ({}, through {})\n", arguments.id, mounted->directory,
                         mounted->device, way == "kernel" ? "the kernel's nbd" : "nbdfuse"));
  if (!mounted->relayed) {
    fmt::print(stderr, "note: install nbdkit and the mount will survive a restart of the daemon\n");
  }
  return Done{};
}

}  // namespace

void add_mount_commands(CLI::App& disk, Session& session) {
  CLI::App* mount =
      add_command(disk, "mount", "Mount a disk's file system on this host; needs root",
                  "  clouddisk disk mount d-bp1example /mnt/data --mkfs ext4\n"
                  "  clouddisk disk mount d-bp1example /mnt/data --read-only\n"
                  "  clouddisk disk mount d-bp1example /mnt/data --grow --options noatime");
  auto arguments = std::make_shared<Arguments>();
  mount->add_option("DISK", arguments->id, "The disk's id, d-…; attached to i-local if it is free")
      ->required()
      ->type_name("");
  mount->add_option("DIRECTORY", arguments->directory, "Where; made if missing")
      ->required()
      ->type_name("");
  mount
      ->add_option("--mkfs", arguments->mkfs,
                   "Make this file system first; refused when the disk holds something")
      ->check(CLI::IsMember({"ext4", "xfs"}))
      ->type_name("TYPE");
  mount->add_flag("--read-only", arguments->read_only, "Nothing is written to the disk");
  mount->add_flag("--grow", arguments->grow, "Grow the file system (ext4, xfs) to the disk's size");
  mount->add_option("--options", arguments->options, "Options for mount -o")->type_name("LIST");
  mount
      ->add_option("--via", arguments->way,
                   "kernel: the nbd driver; fuse: nbdfuse and a loop device; auto: the first that "
                   "works")
      ->check(CLI::IsMember({"auto", "kernel", "fuse"}))
      ->type_name("WAY")
      ->capture_default_str();
  mount->add_flag("--no-relay", arguments->no_relay,
                  "Do without nbdkit, which makes the mount survive a restart of the daemon");
  on_call(mount, session, [arguments, &session](const ApiClient& api) {
    return mount_command(api, session, *arguments);
  });

  CLI::App* umount = add_command(
      disk, "umount", "Unmount a disk and clear up everything the mount used; needs root",
      "  clouddisk disk umount d-bp1example\n"
      "  clouddisk disk umount /mnt/data");
  auto target = std::make_shared<std::string>();
  umount->add_option("DISK|DIRECTORY", *target, "The disk's id or the directory")
      ->required()
      ->type_name("");
  umount->callback([target, &session] {
    session.command = [target, &session] {
      auto done = unmount_disk(session.root, *target, [](const std::string& why) {
        fmt::print(stderr, "note: {}\n", why);
      });
      if (!done) return print_failure(done.failure());
      if (session.json()) print_json({{"DiskId", *done}});
      return kExitOk;
    };
  });
}

}  // namespace clouddisk::cli
