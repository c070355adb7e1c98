// engine_host.h: DiskHost over the engine: puts each disk on a reactor, serves it over NBD within
// its limits, and brings replicas back.
//
// Thread: the control ring makes every call; the host moves to a disk's reactor and back itself.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/control/disk_host.h"
#include "engine/disk/disk.h"
#include "engine/qos/limited_device.h"
#include "nbd/server.h"
#include "tools/clouddiskd/reactor.h"

namespace clouddisk {

class EngineHost final : public DiskHost {
 public:
  struct Options {
    std::string index_root;  // <root>/index
    bool limits = true;      // false: disks are as fast as the host
    Disk::Options disk;
  };
  // Borrows everything; the reactors outlive the host.
  EngineHost(Ring& control, ReplicaSet& replicas, nbd::Server& server,
             std::vector<Reactor*> reactors, Options options);
  ~EngineHost() override;  // after stop()

  // Copies the catalog to a receiving replica: set once Control is there.
  void set_catalog_copy(std::function<Task<Result<void>>(unsigned)> copy) {
    copy_catalog_ = std::move(copy);
  }
  // Starts bringing back what the start left out.
  void resync_what_is_missing();
  // Ends resyncs, stops every disk. Nothing else may be called afterwards.
  Task<Result<void>> stop();

  Task<Result<void>> create_disk(DiskSettings settings) override;
  Task<Result<void>> serve_disk(DiskSettings settings) override;
  Task<Result<void>> stop_disk(std::string id) override;
  Task<Result<void>> delete_disk(std::string id) override;
  Task<Result<void>> apply_settings(DiskSettings settings) override;
  Task<Result<DiskStats>> stats(std::string id) override;
  std::vector<ReplicaStatus> replicas() override { return replicas_.status(); }
  Task<Result<void>> start_resync(unsigned replica) override;
  std::vector<NbdAddress> nbd_addresses() const override;

  std::vector<std::string> served_disks() const;

 private:
  struct Served {
    Reactor* reactor = nullptr;
    std::shared_ptr<Disk> disk;
    std::shared_ptr<LimitedDevice> device;
  };

  Disk::Identity identity(const DiskSettings& settings) const;
  AsyncMutex& lock_of(const std::string& id);
  Reactor* next_reactor();
  DiskLimits limits_of(const DiskSettings& settings) const {
    return options_.limits ? settings.limits : DiskLimits{};
  }
  Task<Result<void>> stop_locked(std::string id);

  Task<void> resync(unsigned replica);
  Task<Result<void>> resync_everything(unsigned replica);
  Task<Result<std::vector<std::string>>> stored_disks();
  Task<Result<void>> resync_disk(unsigned replica, std::string id);

  Ring& control_;
  ReplicaSet& replicas_;
  nbd::Server& server_;
  std::vector<Reactor*> reactors_;
  Options options_;
  std::function<Task<Result<void>>(unsigned)> copy_catalog_;
  std::map<std::string, Served> served_;
  std::map<std::string, std::unique_ptr<AsyncMutex>> locks_;  // one change of a disk at a time
  std::size_t next_ = 0;
  // Disks that the resync under way is done with. Opening one again takes it out: its log may have
  // gone on in a segment that the replica lacks.
  std::set<std::string> resynced_;
  AsyncMutex resyncing_;  // held by the resync under way
  AsyncMutex opening_;    // no disk is opened while a replica is admitted
  std::uint64_t resync_done_ = 0;
  std::uint64_t resync_total_ = 0;
  WaitGroup background_;
  bool stopping_ = false;
};

}  // namespace clouddisk
