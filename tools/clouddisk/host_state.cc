#include "tools/clouddisk/host_state.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace clouddisk::cli {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  const std::string text = read_text(path);
  return text.substr(0, text.find('\n'));
}

// mountinfo writes blanks, tabs, newlines and backslashes as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      int code = 0;
      const char* first = text.data() + i + 1;
      if (std::from_chars(first, first + 3, code, 8).ptr == first + 3) {
        out += static_cast<char>(code);
        i += 3;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (fs::directory_iterator at("/proc", error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size()) pids.push_back(pid);
  }
  return pids;
}

std::vector<std::string> arguments_of(pid_t pid) {
  const std::string text = read_text(fmt::format("/proc/{}/cmdline", pid));
  std::vector<std::string> arguments;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    arguments.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return arguments;
}

bool links_into(const fs::path& link, const std::string& directory) {
  std::error_code error;
  const std::string target = fs::read_symlink(link, error);
  return !error && (target == directory || target.starts_with(directory + '/'));
}

bool uses(pid_t pid, const std::string& directory) {
  const fs::path process = fmt::format("/proc/{}", pid);
  if (links_into(process / "cwd", directory) || links_into(process / "root", directory) ||
      links_into(process / "exe", directory)) {
    return true;
  }
  std::error_code error;
  for (fs::directory_iterator at(process / "fd", error), end; !error && at != end;
       at.increment(error)) {
    if (links_into(at->path(), directory)) return true;
  }
  return false;
}

// "7:0"; empty when it is no block device.
std::string number_of_device(const std::string& device) {
  struct stat info {};
  if (::stat(device.c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) return {};
  return fmt::format("{}:{}", major(info.st_rdev), minor(info.st_rdev));
}

std::string mount_namespace_of(const fs::path& process) {
  std::error_code error;
  return fs::read_symlink(process / "ns/mnt", error);
}

// "1234 (bash), 1240 (fio)".
std::string processes_text(const std::function<bool(pid_t)>& wanted) {
  constexpr std::size_t kShownMax = 10;
  std::string out;
  std::size_t shown = 0;
  for (const pid_t pid : all_processes()) {
    if (!wanted(pid)) continue;
    if (++shown > kShownMax) return out + ", …";
    if (!out.empty()) out += ", ";
    out += fmt::format("{} ({})", pid, first_line(fmt::format("/proc/{}/comm", pid)));
  }
  return out;
}

}  // namespace

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<MountPoint> parse_mountinfo(std::string_view text) {
  std::vector<MountPoint> mounts;
  std::istringstream lines{std::string(text)};
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string id, parent, device, fs_root, directory, word;
    if (!(fields >> id >> parent >> device >> fs_root >> directory)) continue;
    while (fields >> word && word != "-") {
    }
    std::string type;
    fields >> type;
    mounts.push_back({unescape(directory), type, device});
  }
  return mounts;
}

std::vector<MountPoint> current_mounts() {
  return parse_mountinfo(read_text("/proc/self/mountinfo"));
}

bool is_mount_point(const std::string& directory) {
  const auto mounts = current_mounts();
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const MountPoint& mount) { return mount.directory == directory; });
}

std::vector<std::string> mount_points_of(const std::string& device) {
  const std::string number = number_of_device(device);
  if (number.empty()) return {};
  std::vector<std::string> directories;
  for (const MountPoint& mount : current_mounts()) {
    if (mount.device == number) directories.push_back(mount.directory);
  }
  return directories;
}

std::vector<std::string> loop_devices_of(const std::string& file) {
  std::vector<std::string> devices;
  std::error_code error;
  for (fs::directory_iterator at("/sys/block", error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    if (name.starts_with("loop") && first_line(at->path() / "loop/backing_file") == file) {
      devices.push_back("/dev/" + name);
    }
  }
  return devices;
}

std::vector<pid_t> processes_with(std::string_view program, const std::string& argument) {
  std::vector<pid_t> found;
  for (const pid_t pid : all_processes()) {
    const auto arguments = arguments_of(pid);
    if (arguments.empty() || fs::path(arguments.front()).filename() != program) continue;
    if (std::find(arguments.begin(), arguments.end(), argument) != arguments.end()) {
      found.push_back(pid);
    }
  }
  return found;
}

std::string users_of(const std::string& directory) {
  return processes_text([&](pid_t pid) { return uses(pid, directory); });
}

std::string mounters_elsewhere(const std::string& device) {
  const std::string number = number_of_device(device);
  const std::string ours = mount_namespace_of("/proc/self");
  if (number.empty()) return {};
  return processes_text([&](pid_t pid) {
    const fs::path process = fmt::format("/proc/{}", pid);
    if (mount_namespace_of(process) == ours) return false;
    const auto mounts = parse_mountinfo(read_text(process / "mountinfo"));
    return std::any_of(mounts.begin(), mounts.end(),
                       [&](const MountPoint& mount) { return mount.device == number; });
  });
}

bool kernel_has_nbd() {
  return ::access("/sys/module/nbd", F_OK) == 0;
}

bool nbd_device_connected(const std::string& device) {
  const std::string pid = "/sys/block/" + fs::path(device).filename().string() + "/pid";
  return ::access(pid.c_str(), F_OK) == 0;
}

std::string free_nbd_device() {
  constexpr int kDevicesMax = 1024;
  for (int i = 0; i < kDevicesMax; ++i) {
    const std::string device = fmt::format("/dev/nbd{}", i);
    if (::access(device.c_str(), F_OK) != 0) return {};
    if (!nbd_device_connected(device) && mount_points_of(device).empty()) return device;
  }
  return {};
}

bool wait_until(double seconds, const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (true) {
    if (condition()) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace clouddisk::cli
