// bench_disks.h: the disks that `clouddisk bench` measures: what a disk is, throw-away disks like
// it, and whether it may be measured itself. Blocking.
#pragma once

#include <string>

#include "tools/bench_report/tested_disk.h"
#include "tools/clouddisk/api_client.h"

namespace clouddisk::cli {

// What the daemon says of all disks.
struct BenchDaemon {
  Profile profile = Profile::k2021;
  bool limits_enforced = true;
  bool latency_emulated = false;
  std::vector<std::string> replica_folders;
};
Outcome<BenchDaemon> describe_daemon(const ApiClient& api);

// As it is now, with the limits of the instance that it is attached to.
Outcome<bench::TestedDisk> describe_tested_disk(const ApiClient& api, Profile profile,
                                                const std::string& id);

// Where fio reaches a disk.
struct BenchExport {
  std::string id;
  std::string uri;     // of the daemon's NBD server
  std::string device;  // "/dev/nbd0", which is used instead; empty: none
};

// A disk on an instance of its own, so that other disks do not share the instance's limits. Both
// are deleted with the object; what can't be is said on stderr.
class ThrowAwayDisk {
 public:
  static Outcome<ThrowAwayDisk> make(const ApiClient& api, const bench::TestedDisk& like);
  ThrowAwayDisk(ThrowAwayDisk&& other) noexcept;
  ThrowAwayDisk& operator=(ThrowAwayDisk&&) = delete;
  ~ThrowAwayDisk();

  const BenchExport& where() const { return where_; }

 private:
  ThrowAwayDisk(const ApiClient& api, std::string instance)
      : api_(&api), instance_(std::move(instance)) {}
  const ApiClient* api_;
  std::string instance_;  // empty once moved from
  BenchExport where_;
};

// The disk itself. An attached one is used where it is; one that is not is attached to i-local and
// detached again with the object.
class DiskInPlace {
 public:
  struct Wishes {
    bool overwrite = false;  // whatever is on it
    bool read_only = false;  // nothing is written, so nothing is lost
  };
  // DiskMounted, DiskInUse (somebody is connected), DiskHasData: what would be destroyed or
  // disturbed, and how to go on.
  static Outcome<DiskInPlace> open(const ApiClient& api, const std::string& root,
                                   const std::string& id, const Wishes& wishes);
  DiskInPlace(DiskInPlace&& other) noexcept;
  DiskInPlace& operator=(DiskInPlace&&) = delete;
  ~DiskInPlace();

  const BenchExport& where() const { return where_; }

 private:
  explicit DiskInPlace(const ApiClient& api) : api_(&api) {}
  const ApiClient* api_;
  bool detach_ = false;
  BenchExport where_;
};

}  // namespace clouddisk::cli
