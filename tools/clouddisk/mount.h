// mount.h: a disk's file system on this host. The kernel's nbd driver is used where there is one;
// otherwise nbdfuse gives the disk as a file and a loop device makes that a block device.
//
//   clouddiskd ── nbdkit (relay, rides out a restart of the daemon) ── nbdfuse ── loop ── mount
//                                                                  └── or the kernel's nbd ──┘
//
// Each mounted disk has a folder ROOT/mounts/ID (or /run/clouddisk/ID) with a record, sockets and
// logs. What is under way is read back from the kernel (mounts, loop devices by backing file,
// processes by argument), not only from the record: so umount clears up after a mount that died
// between any two steps, and never ends a process or a device that is not this mount's.
//
// Blocking; needs root. One command at a time a root folder (a lock on the folder of records).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/ring/address.h"
#include "tools/clouddisk/outcome.h"

namespace clouddisk::cli {

enum class MountWay { kAuto, kKernel, kFuse };

struct MountRequest {
  std::string root;
  std::string id;  // also the export's name
  Address nbd;     // where the daemon serves it
  std::string directory;
  std::string mkfs;  // "ext4", "xfs"; empty: there is a file system already
  bool read_only = false;
  bool grow = false;    // the file system is grown to the disk's size
  std::string options;  // for mount -o
  MountWay way = MountWay::kAuto;
  bool relay = true;  // use nbdkit's retry filter when it is installed
};

struct MountResult {
  std::string directory;  // absolute
  std::string device;     // "/dev/loop0"
  MountWay way = MountWay::kFuse;
  bool relayed = false;
};

// After a failure nothing is left: every step is undone, and the failure says so when it can't be.
Outcome<MountResult> mount_disk(const MountRequest& request);

// By disk id or by directory. DirectoryBusy, with nothing torn down, while somebody uses it;
// DeviceBusy, with the directory unmounted and the rest left for a repeat, while the device is
// mounted in another mount namespace or held open.
// Gives the id. NotMounted when there is nothing to undo. `say` hears beforehand why it may take
// minutes: the relay waits for a daemon that does not serve the disk.
Outcome<std::string> unmount_disk(const std::string& root, const std::string& id_or_directory,
                                  const std::function<void(const std::string&)>& say = {});

// Where a disk is mounted, or was meant to be by a mount that did not end.
std::optional<std::string> mounted_at(const std::string& root, const std::string& id);
// Whether it waits, instead of failing, while nobody serves the disk.
bool mount_is_relayed(const std::string& root, const std::string& id);

}  // namespace clouddisk::cli
