// mount_record.h: what is remembered about one mounted disk, in ROOT/mounts/ID/record.json, written
// before each step that needs it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/clouddisk/outcome.h"

namespace clouddisk::cli {

struct MountRecord {
  std::string folder;  // of the record itself; not stored
  std::string id;
  std::string directory;
  bool made_directory = false;  // by us: removed again with the mount
  std::string nbd_device;       // "/dev/nbd0" for the kernel's way, else empty
  std::string boot_id;          // a record of an earlier boot owns no devices
  std::string relay_socket;     // empty: no relay

  std::string fuse_folder() const { return folder + "/fuse"; }
  std::string fuse_file() const { return folder + "/fuse/disk"; }
  std::string nbdfuse_pid_file() const { return folder + "/nbdfuse.pid"; }
  std::string nbdfuse_log() const { return folder + "/nbdfuse.log"; }
  std::string relay_pid_file() const { return folder + "/relay.pid"; }
};

// Holds the lock of a folder of records; released when dropped, or when the process ends.
class RecordsLock {
 public:
  static Outcome<RecordsLock> take(const std::string& records_folder);
  RecordsLock(RecordsLock&& other) noexcept;
  RecordsLock& operator=(RecordsLock&&) = delete;
  ~RecordsLock();

 private:
  explicit RecordsLock(int fd) : fd_(fd) {}
  int fd_;
};

// ROOT/mounts when ROOT is there, and the folder for everyone else.
std::vector<std::string> records_folders(const std::string& root);
// Where a new record goes; made if missing.
Outcome<std::string> folder_for_new_records(const std::string& root);

// Durable enough to outlive the command, not the machine: mounts do not outlive it either.
Verdict save_record(const MountRecord& record);
std::vector<MountRecord> find_records(const std::string& root);
// Removes the record's folder.
Verdict forget_record(const MountRecord& record);

std::string current_boot_id();

}  // namespace clouddisk::cli
