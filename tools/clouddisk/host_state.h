// host_state.h: what the kernel says about mounts, loop and nbd devices and processes. Read only.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace clouddisk::cli {

// A whole file, such as one below /proc; empty when it can't be read.
std::string read_text(const std::string& path);

struct MountPoint {
  std::string directory;
  std::string type;
  std::string device;  // "7:0"
};

// Of /proc/self/mountinfo, in the order of mounting.
std::vector<MountPoint> parse_mountinfo(std::string_view text);
std::vector<MountPoint> current_mounts();

bool is_mount_point(const std::string& directory);
// Where a block device ("/dev/loop0") is mounted.
std::vector<std::string> mount_points_of(const std::string& device);

// Loop devices whose backing file is exactly this path.
std::vector<std::string> loop_devices_of(const std::string& file);

// Processes of that program that have the argument, exactly.
std::vector<pid_t> processes_with(std::string_view program, const std::string& argument);
// Who keeps a mounted file system busy: "1234 (bash), 1240 (fio)"; empty when nobody is seen.
std::string users_of(const std::string& directory);

// Processes of other mount namespaces in which the block device is mounted, in the same form. A
// mount that was copied there outlives the umount here.
std::string mounters_elsewhere(const std::string& device);

bool kernel_has_nbd();
// A device that nobody uses: "/dev/nbd0"; empty: none is free.
std::string free_nbd_device();
bool nbd_device_connected(const std::string& device);

// Asks again every 20 ms until it is true; false after `seconds`.
bool wait_until(double seconds, const std::function<bool()>& condition);

}  // namespace clouddisk::cli
