// engine_host.h: DiskHost over engine and snapshots: puts each disk with its past on a reactor,
// serves disks over NBD within their limits and snapshots read-only, captures and hydrates in the
// background, brings replicas back and scrubs them.
//
// Thread: the control ring makes every call; the host moves to a disk's reactor and back itself.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/control/disk_host.h"
#include "engine/disk/disk.h"
#include "engine/fault/fault_plan.h"
#include "engine/monitor/disk_sampler.h"
#include "engine/qos/faulty_device.h"
#include "engine/qos/limited_device.h"
#include "nbd/server.h"
#include "snapshot/diff.h"
#include "snapshot/volume.h"
#include "tools/clouddiskd/background_pace.h"
#include "tools/clouddiskd/far_source.h"
#include "tools/clouddiskd/reactor.h"
#include "tools/clouddiskd/scrub_state.h"
#include "tools/net/replica_record.h"
#include "tools/net/root_lock.h"

namespace clouddisk {

class EngineHost final : public DiskHost {
 public:
  struct Options {
    std::string index_root;        // <root>/index
    bool limits = true;            // false: disks are as fast as the host
    bool emulate_latency = false;  // requests take what their category states
    Disk::Options disk;
    snapshot::PaceLimits capture_pace{};               // of each disk, beside its clients
    std::uint64_t hydrate_bytes_per_second = 200_MiB;  // of each disk; 0: as fast as it goes
    std::string root;           // of scrub's state and the record of replaced folders
    ReplicaFolders configured;  // as the command line says
    std::uint64_t resync_bytes_per_second = 0;       // at most; 0: no limit
    std::uint64_t scrub_bytes_per_second = 100_MiB;  // the same
    Duration scrub_every{};  // from one pass's begin to the next's; 0: only when asked to
  };
  // Borrows everything; the reactors outlive the host.
  EngineHost(Ring& control, ReplicaSet& replicas, nbd::Server& server,
             std::vector<Reactor*> reactors, Options options);
  ~EngineHost() override;  // after stop()

  // Copies the catalog to a receiving replica: set once Control is there.
  void set_catalog_copy(std::function<Task<Result<void>>(unsigned)> copy) {
    copy_catalog_ = std::move(copy);
  }
  // Gets the last reading of each disk that is closed.
  void set_closing(std::function<void(DiskReading)> told) { closing_ = std::move(told); }
  // Gets what scrub finds: of a disk and its snapshots, blocks that were mended and those lost.
  void set_found(std::function<void(const std::string& disk_id, std::uint64_t mended_blocks,
                                    std::uint64_t lost_blocks)>
                     told) {
    found_ = std::move(told);
  }
  // Of every disk that is served, now; one trip to each reactor.
  Task<std::vector<DiskReading>> readings();
  // The lock of a replica's folder, as long as it is one.
  void hold_folder(unsigned replica, RootLock lock) {
    folder_locks_[replica].emplace(std::move(lock));
  }
  // Starts bringing back what the start left out.
  void resync_what_is_missing();
  // Goes on with the pass that the last daemon began; from then on by itself.
  Task<void> begin_scrubbing();
  // Ends resyncs, captures and hydrations, stops every disk. Nothing else may be called afterwards.
  Task<Result<void>> stop();

  void set_events(HostEvents events) override { events_ = std::move(events); }
  Task<Result<void>> create_disk(DiskSettings settings) override;
  Task<Result<void>> serve_disk(DiskSettings settings) override;
  Task<Result<void>> stop_disk(std::string id) override;
  Task<Result<void>> delete_storage(std::string storage) override;
  Task<Result<std::vector<std::string>>> storages() override { return stored_disks(); }
  Task<Result<void>> apply_settings(DiskSettings settings) override;
  Task<Result<DiskStats>> stats(std::string id) override;
  std::vector<ReplicaStatus> replicas() override { return replicas_.status(); }
  Task<Result<void>> start_resync(unsigned replica) override;
  Task<Result<FaultStatus>> set_fault(FaultSpec spec) override;
  std::vector<FaultStatus> faults() const override;
  Task<void> clear_fault(std::string fault_id) override;
  ReplicaFaults replica_faults(unsigned replica) const override;
  Task<Result<void>> replace_replica(unsigned replica, std::string folder) override;
  ScrubStatus scrub_status() const override;
  Task<Result<void>> start_scrub(std::optional<std::uint64_t> bytes_per_second) override;
  Task<Result<void>> stop_scrub() override;
  std::vector<NbdAddress> nbd_addresses() const override;

  void know_past(std::string disk_id, ReferenceSettings reference,
                 std::vector<SnapshotSettings> snapshots) override;
  Task<void> open_past() override;
  Task<Result<std::vector<Epoch>>> freeze(std::vector<DiskSettings> disks) override;
  Task<void> unfreeze(DiskSettings disk, Epoch epoch) override;
  Task<Result<void>> add_snapshot(SnapshotSettings snapshot) override;
  Task<Result<void>> hide_snapshot(std::string id) override;
  Task<Result<void>> drop_snapshot(std::string disk_id, std::uint64_t seq) override;
  Task<Result<void>> remove_chain(std::string disk_id) override;
  Task<void> forget_base(std::string disk_id, std::string storage) override;
  std::optional<Progress> capture_progress(const std::string& disk_id,
                                           std::uint64_t seq) const override;
  std::optional<Progress> hydration_progress(std::string_view disk_id) const override;
  Task<Result<void>> hydrate_disk(std::string disk_id,
                                  std::optional<std::uint64_t> bytes_per_second) override;
  Task<Result<std::uint64_t>> chain_stored_bytes(std::string disk_id) override;

  std::vector<std::string> served_disks() const;
  // Lets go of what is kept in memory of disks that nothing is open of: they may be gone. It is
  // made again when it is asked for. The clock's.
  void forget_idle();
  // Disks that something is kept of in memory: for metrics.
  std::size_t known_disks() const { return pasts_.size(); }

 private:
  using Source = std::shared_ptr<snapshot::SnapshotSource>;
  struct Hydration {
    Hydration(Ring& control, std::uint64_t pace) : bytes_per_second(pace), running(control) {}
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> bytes_per_second;
    WaitGroup running;
    Progress progress;
  };
  struct Served {
    DiskSettings settings;
    TimePoint opened{};
    std::shared_ptr<Disk> disk;
    std::shared_ptr<FaultyDevice> faulty;   // over the disk
    std::shared_ptr<LimitedDevice> device;  // over that: what is exported
    std::shared_ptr<Hydration> hydration;   // null: nothing is borrowed
    bool stopping = false;                  // takes no new fault
  };
  struct Snapshot {
    SnapshotSettings settings;
    bool holds_storage = false;  // until it is captured
    bool given_up = false;       // its capture failed, and that is on record: to be dropped
    Progress progress;
  };
  // All that there is of one disk: everything of it lives on one reactor.
  struct Past {
    Reactor* reactor = nullptr;
    std::unique_ptr<snapshot::Volume> volume;
    std::shared_ptr<StoreEmulation> store;  // between its storages and what they borrow
    std::map<std::uint64_t, Snapshot> snapshots;
    bool capturing = false;
    std::optional<std::uint64_t> stored_bytes;  // of its chain, when it was last asked
    std::vector<Snapshot>
        abandoned;  // deleted during their capture, which ends before their storage
  };

  AsyncMutex& lock_of(const std::string& id);
  Past& past_of(const std::string& disk_id);
  // "d-x" of the storages "d-x" and "d-x.2", and of the chain "sl-x".
  static std::string owner_of(const std::string& storage);
  snapshot::Volume::Options volume_options() const;
  DiskLimits limits_of(const DiskSettings& settings) const {
    return options_.limits ? settings.limits : DiskLimits{};
  }
  // What the device is told, so that a client sees the nominal latency.
  Duration latency_of(const DiskSettings& settings) const;
  // The limits that the disks of its instance share; null: none.
  std::shared_ptr<SharedThrottle> shared_limits_of(const DiskSettings& settings);
  using Locked = std::set<std::string>;  // disks whose lock the caller holds
  // Those marked "locked" are called with lock_of(the disk) held.
  Task<Result<void>> stop_locked(std::string id);
  Task<Result<std::shared_ptr<Disk>>> open_locked(Past& past, std::string storage,
                                                  std::uint64_t size_bytes, std::string base,
                                                  Locked locked);
  Task<Result<void>> open_chain_locked(Past& past, std::string disk_id);
  Task<Result<void>> hold_storage_locked(Past& past, std::uint64_t seq, Locked locked);
  Task<void> release_storage_locked(Past& past, Snapshot& snapshot);
  Task<Result<Source>> source_locked(Past& past, std::uint64_t seq, Locked locked);
  // A snapshot to borrow from. Its disk's lock is taken unless it is among those held already.
  // Disks only borrow from snapshots of disks made before them, or of themselves: no cycle.
  Task<Result<Source>> base_of(std::string snapshot_id, Locked locked);
  Task<Result<void>> export_locked(Past& past, std::uint64_t seq);
  // What a device of the disk can be compared with; `seq` 0: the disk itself is the device.
  std::shared_ptr<nbd::MetaContextSource> contexts_of(std::string disk_id, std::uint64_t seq,
                                                      std::weak_ptr<BlockDevice> device);
  Task<Result<std::unique_ptr<snapshot::Diff>>> open_diff(Past* past, std::string disk_id,
                                                          std::uint64_t seq,
                                                          std::weak_ptr<BlockDevice> device,
                                                          std::string snapshot_id);
  Past* find_snapshot(std::string_view id, std::uint64_t& seq);
  // Ends early when the host stops, or the hydration.
  Task<void> sleep_until(TimePoint due, std::shared_ptr<Hydration> hydration = nullptr);
  void capture_if_due(const std::string& disk_id);
  Task<void> capture_all(std::string disk_id);
  Task<Result<void>> capture_one(Past& past, std::uint64_t seq);
  void begin_hydration(Served& served, std::uint64_t bytes_per_second);
  Task<void> hydrate(std::string disk_id, DiskSettings settings, std::shared_ptr<Disk> disk,
                     std::shared_ptr<Hydration> hydration);
  Task<void> end_hydration(std::string disk_id, std::string storage,
                           std::shared_ptr<Hydration> hydration);

  using FaultRef = std::shared_ptr<ActiveFault>;
  // None of these takes the disk's lock: a resync holds it while it waits for what hangs.
  Task<void> end_fault_in_time(FaultRef fault);
  void forget_fault(const ActiveFault& fault, std::string_view why);
  Task<void> end_faults(std::string disk_id);

  // A replica that is brought back, and which time that is: see ReplicaSet::joins().
  struct Join {
    unsigned replica = 0;
    std::uint32_t join = 0;
  };
  Result<void> begin_resync(unsigned replica);
  Task<Result<void>> replace_folder(unsigned replica, std::string folder);
  bool still_joins(unsigned replica, std::uint32_t join) const;
  Task<void> resync(unsigned replica, std::uint32_t join);
  Task<Result<void>> resync_everything(unsigned replica, std::uint32_t join);
  Task<Result<void>> remove_unknown(unsigned replica, std::vector<std::string> known);
  Task<Result<std::vector<std::string>>> stored_disks();
  Task<Result<void>> resync_disk(unsigned replica, std::uint32_t join, std::string storage);
  Task<Result<void>> resync_in_turns(unsigned replica, std::uint32_t join, std::string owner,
                                     std::string storage, std::set<SegmentSeq>& done);
  Task<Result<void>> resync_step(unsigned replica, std::uint32_t join, std::string storage,
                                 std::set<SegmentSeq>& done);
  Task<Result<std::uint64_t>> bytes_of_replica(ReplicaMask believed);
  // engine_host_readings.cc. On the disk's reactor.
  static DiskReading reading_of(const Served& served, TimePoint now);
  // engine_host_pace.cc: sets the rates of resync and scrub while one of them is under way.
  void pace_background();
  Task<void> watch_clients();
  Task<ClientStrain> strain_of_clients();

  // engine_host_scrub.cc
  Task<void> scrub_when_due();
  Task<void> scrub_pass();
  Task<Result<void>> scrub_storage(std::string storage);
  Task<Result<SegmentSeq>> scrub_step(std::string storage, SegmentSeq after);
  Task<Result<void>> scrub_index(std::string storage);
  Task<void> scrub_superblocks();
  void take_findings(const std::string& storage, SegmentSeq segment,
                     const SegmentFindings& findings, std::uint64_t bytes);
  Task<void> save_scrub();
  std::int64_t wall_ns() const { return control_.wall_now().time_since_epoch().count(); }
  std::string scrub_path() const { return options_.root + "/scrub"; }

  Ring& control_;
  ReplicaSet& replicas_;
  nbd::Server& server_;
  std::vector<Reactor*> reactors_;
  Options options_;
  HostEvents events_;
  std::function<Task<Result<void>>(unsigned)> copy_catalog_;
  std::function<void(DiskReading)> closing_;
  std::function<void(const std::string&, std::uint64_t, std::uint64_t)> found_;
  std::map<std::string, Served> served_;
  std::map<std::string, Past> pasts_;                                     // by disk id
  std::map<std::string, std::shared_ptr<SharedThrottle>> shared_limits_;  // by instance
  std::map<std::string, std::unique_ptr<AsyncMutex>> locks_;  // one change of a disk at a time
  // Storages that the resync under way is done with. Opening one again takes it out: its log may
  // have gone on in a segment that the replica lacks.
  std::set<std::string> resynced_;
  AsyncMutex resyncing_;  // held by the resync under way
  std::vector<FaultRef> faults_;
  std::uint64_t last_fault_ = 0;
  std::array<std::uint64_t, kReplicaCount> ended_fault_hits_{};
  AsyncSharedMutex
      opening_;  // shared by those who open a storage; none while a replica is admitted
  std::uint64_t resync_done_ = 0;
  std::uint64_t resync_total_ = 0;
  WorkControl resync_work_;
  WorkControl scrub_work_;
  std::string resync_lock_, scrub_lock_;  // of the disk whose lock the work holds; empty: none
  std::string resync_owner_;              // of the storage that resync is at; scrub waits for it
  std::optional<Join> resync_under_way_;
  std::array<std::optional<RootLock>, kReplicaCount> folder_locks_;
  std::optional<unsigned> replacing_;  // the replica whose folder is just being changed
  bool watching_ = false;
  std::map<std::string, ClientLoad> loads_;  // by disk, at the last look
  ScrubState scrub_;
  std::uint64_t scrub_most_ = 0;  // bytes a second
  bool scrub_wanted_ = false;     // asked for
  bool scrub_running_ = false;
  std::uint64_t scrub_done_segments_ = 0;
  std::uint64_t scrub_total_segments_ = 0;
  TimePoint scrub_saved_{};
  WaitGroup background_;
  Signal stopped_;  // wakes what sleeps when the host stops, a disk does, or a pace changes
  bool stopping_ = false;
};

}  // namespace clouddisk
