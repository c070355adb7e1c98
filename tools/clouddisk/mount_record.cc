#include "tools/clouddisk/mount_record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tools/clouddisk/host_state.h"

namespace clouddisk::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kSharedFolder = "/run/clouddisk";
constexpr const char* kRecordName = "record.json";
constexpr std::chrono::seconds kLockPatience{60};

std::optional<MountRecord> load_record(const fs::path& folder) {
  const Json json = Json::parse(read_text(folder / kRecordName), nullptr, false);
  MountRecord record;
  record.folder = folder;
  record.id = folder.filename();
  if (!json.is_object()) {
    // The command died before the record was whole: the folder still says which disk it was.
    return record;
  }
  const auto text = [&](const char* name) {
    const auto at = json.find(name);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  record.directory = text("Directory");
  record.made_directory = json.value("MadeDirectory", Json(false)) == Json(true);
  record.nbd_device = text("NbdDevice");
  record.boot_id = text("BootId");
  record.relay_socket = text("RelaySocket");
  return record;
}

}  // namespace

Outcome<RecordsLock> RecordsLock::take(const std::string& records_folder) {
  const int fd = ::open(records_folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return refuse("MountFailed", "{}: {}", records_folder, std::strerror(errno));
  RecordsLock lock(fd);
  const auto deadline = std::chrono::steady_clock::now() + kLockPatience;
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return refuse("MountFailed", "lock {}: {}", records_folder, std::strerror(errno));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return refuse("MountBusy",
                    "another clouddisk mount or umount is at work; wait for it to end");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return lock;
}

RecordsLock::RecordsLock(RecordsLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

RecordsLock::~RecordsLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::vector<std::string> records_folders(const std::string& root) {
  std::error_code error;
  // Canonical, as the kernel names backing files and mount points.
  const fs::path absolute = fs::weakly_canonical(fs::absolute(root, error), error);
  return {(absolute / "mounts").string(), kSharedFolder};
}

Outcome<std::string> folder_for_new_records(const std::string& root) {
  std::error_code error;
  const auto folders = records_folders(root);
  const bool own = fs::is_directory(root, error) && ::access(root.c_str(), W_OK) == 0;
  const std::string& folder = folders[own ? 0 : 1];
  fs::create_directories(folder, error);
  if (error) return refuse("MountFailed", "make {}: {}", folder, error.message());
  return folder;
}

Verdict save_record(const MountRecord& record) {
  std::error_code error;
  fs::create_directories(record.folder, error);
  if (error) return refuse("MountFailed", "make {}: {}", record.folder, error.message());
  const Json json{{"Id", record.id},
                  {"Directory", record.directory},
                  {"MadeDirectory", record.made_directory},
                  {"NbdDevice", record.nbd_device},
                  {"BootId", record.boot_id},
                  {"RelaySocket", record.relay_socket}};
  const std::string path = record.folder + '/' + kRecordName;
  const std::string fresh = path + ".new";
  std::ofstream file(fresh, std::ios::trunc);
  file << json.dump(2) << '\n';
  file.close();
  if (!file || ::rename(fresh.c_str(), path.c_str()) != 0) {
    return refuse("MountFailed", "write {}: {}", path, std::strerror(errno));
  }
  return Done{};
}

std::vector<MountRecord> find_records(const std::string& root) {
  std::vector<MountRecord> records;
  for (const std::string& folder : records_folders(root)) {
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
      if (!at->is_directory(error)) continue;
      if (auto record = load_record(at->path())) records.push_back(std::move(*record));
    }
  }
  return records;
}

Verdict forget_record(const MountRecord& record) {
  std::error_code error;
  if (!record.relay_socket.empty()) fs::remove(record.relay_socket, error);
  // Not recursive into the FUSE folder: it must be an empty folder by now, and if it is not,
  // something is still mounted there.
  fs::remove(record.fuse_folder(), error);
  if (error) return refuse("UmountFailed", "remove {}: {}", record.fuse_folder(), error.message());
  fs::remove_all(record.folder, error);
  if (error) return refuse("UmountFailed", "remove {}: {}", record.folder, error.message());
  if (record.made_directory) fs::remove(record.directory, error);
  return Done{};
}

std::string current_boot_id() {
  std::string id = read_text("/proc/sys/kernel/random/boot_id");
  id.erase(id.find_last_not_of('\n') + 1);
  return id;
}

}  // namespace clouddisk::cli
