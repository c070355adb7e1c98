// disk_host.h: what the control plane (control.h) asks of the data plane: make, serve, grow, limit
// and remove disks; tell how the replicas are. The daemon implements it over the engine; tests over
// a map.
//
// Thread: the control ring. The implementation moves to a disk's own ring and back.
// Errors: values; after an error nothing changed, and the same call can be made again.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/control/scrub_status.h"
#include "engine/fault/fault.h"
#include "engine/log/replica_set.h"
#include "engine/qos/limits.h"
#include "engine/ring/address.h"
#include "engine/ring/task.h"

namespace clouddisk {

// How far away what a disk borrows is made to be; zeros: as near as it is.
struct StoreSettings {
  Duration latency{0};                 // of each fetch
  std::uint64_t bytes_per_second = 0;  // of all fetches of the disk together
  bool operator==(const StoreSettings&) const = default;
};

struct DiskSettings {
  std::string id;  // d-…, also the export name
  std::uint64_t size_bytes = 0;
  DiskLimits limits;
  Duration nominal_latency{0};  // of a 4 KiB write, as the category states it; zero: nobody says
  std::string instance_id;      // empty: it is not attached
  DiskLimits instance_limits;   // of all disks of the instance together
  std::string storage;          // the folder of its content; a rollback gives it another
  std::string base_snapshot;    // from which it borrows what it has not got itself; empty: none
  StoreSettings store;
};

// A snapshot as the data plane needs it.
struct SnapshotSettings {
  std::string id;  // s-…, also the export name
  std::string disk_id;
  std::uint64_t seq = 0;
  std::uint64_t parent = 0;
  std::uint64_t size_bytes = 0;
  std::string storage;       // where it was frozen
  std::string storage_base;  // from which that storage borrows; empty: none
  Epoch epoch;
  bool captured = false;
  bool exported = true;
};

// When a disk last had the content of a snapshot that was captured; seq 0: unknown.
struct ReferenceSettings {
  std::uint64_t seq = 0;
  std::string storage;
  Epoch epoch;
};

struct CaptureResult {
  std::string snapshot_id;
  std::uint64_t changed_bytes = 0;
  std::uint64_t stored_bytes = 0;
};

struct Progress {
  std::uint64_t done = 0;  // in units of its own
  std::uint64_t total = 0;
  std::string failure;  // why it stopped; empty: it goes on, or is done
};

// What the data plane tells of its own accord. The control ring; an answer of false: not recorded,
// to be told again later.
struct HostEvents {
  std::function<Task<bool>(CaptureResult)> captured;
  std::function<Task<bool>(std::string snapshot_id, std::string reason)> capture_failed;
  // The storage has everything itself that it borrowed. When the answer is true, forget_base() was
  // called.
  std::function<Task<bool>(std::string disk_id, std::string storage)> hydrated;
  // Something of the disk is no longer held open: what nothing needs may go. Empty: of any.
  std::function<Task<void>(std::string disk_id)> released;
};

// Counters since the disk was opened, and what it holds now.
struct DiskStats {
  std::uint64_t reads = 0, writes = 0, flushes = 0, trims = 0;
  std::uint64_t read_bytes = 0, written_bytes = 0;
  std::uint64_t errors = 0;
  std::uint64_t read_nanoseconds = 0, write_nanoseconds = 0;  // sums over requests
  std::uint64_t throttled_nanoseconds = 0;
  std::uint64_t stalled_nanoseconds = 0;  // limits had more to give, and the process did not run
  std::uint64_t connections = 0;          // NBD sessions now
  std::uint64_t mapped_bytes = 0;         // data that reads back
  std::uint64_t stored_bytes = 0;  // segments on one replica, with what compaction has not freed
  std::uint64_t index_bytes = 0;
  std::uint64_t checksum_errors = 0, repaired_blocks = 0, compacted_bytes = 0;
};

// What becomes of requests that meet faults of a replica, over all disks, since the start.
struct ReplicaFaults {
  std::uint64_t set = 0;  // now
  std::uint64_t hits = 0;
};

class DiskHost {
 public:
  virtual ~DiskHost() = default;

  virtual void set_events(HostEvents events) = 0;

  // Makes a (empty) storage for the disk. kExists when there is one.
  virtual Task<Result<void>> create_disk(DiskSettings settings) = 0;
  // Opens the disk and exports it over NBD under its id; fine if it is exported already.
  virtual Task<Result<void>> serve_disk(DiskSettings settings) = 0;
  // Ends its NBD sessions (requests under way are answered), makes everything durable, closes it.
  // Fine if it is not served.
  virtual Task<Result<void>> stop_disk(std::string id) = 0;
  // Removes a storage from every replica. Fine if there is none. Nothing uses it.
  virtual Task<Result<void>> delete_storage(std::string storage) = 0;
  // All that there are, in any replica, those of disks and of chains.
  virtual Task<Result<std::vector<std::string>>> storages() = 0;
  // For a served disk at once; for another the next serve_disk() brings it.
  virtual Task<Result<void>> apply_settings(DiskSettings settings) = 0;

  // --- Snapshots ---
  // What exists of a disk's past; at start, before anything is served.
  virtual void know_past(std::string disk_id, ReferenceSettings reference,
                         std::vector<SnapshotSettings> snapshots) = 0;
  // Then: exports every snapshot, and goes on with captures that were cut off.
  virtual Task<void> open_past() = 0;
  // Ends an epoch of each disk at one instant; durable on return. The disks need not be served.
  virtual Task<Result<std::vector<Epoch>>> freeze(std::vector<DiskSettings> disks) = 0;
  // The moment is not wanted after all.
  virtual Task<void> unfreeze(DiskSettings disk, Epoch epoch) = 0;
  // Exports a new snapshot and begins its capture.
  virtual Task<Result<void>> add_snapshot(SnapshotSettings snapshot) = 0;
  // Ends its export; the content stays.
  virtual Task<Result<void>> hide_snapshot(std::string id) = 0;
  // Removes its content, captured or not. Fine if it is gone.
  virtual Task<Result<void>> drop_snapshot(std::string disk_id, std::uint64_t seq) = 0;
  // After the last snapshot of a disk that is gone.
  virtual Task<Result<void>> remove_chain(std::string disk_id) = 0;
  // What the storage borrowed it has itself now, and that is on record: it looks nowhere else any
  // more, and what it borrowed from may go. Fine if it is not open.
  virtual Task<void> forget_base(std::string disk_id, std::string storage) = 0;
  // Of a capture, in pages; of a hydration, in bytes. Nothing: none is under way.
  virtual std::optional<Progress> capture_progress(const std::string& disk_id,
                                                   std::uint64_t seq) const = 0;
  virtual std::optional<Progress> hydration_progress(std::string_view disk_id) const = 0;
  // A served disk loads what it borrows by itself. This begins again what failed, and sets the
  // pace; nothing: the daemon's. Fine if nothing is borrowed. kNotFound: it is not served.
  virtual Task<Result<void>> hydrate_disk(std::string disk_id,
                                          std::optional<std::uint64_t> bytes_per_second) = 0;
  // On one replica, with what compaction has not freed. While something goes on there: as it was
  // when that was asked last.
  virtual Task<Result<std::uint64_t>> chain_stored_bytes(std::string disk_id) = 0;

  // kNotFound when the disk is not open.
  virtual Task<Result<DiskStats>> stats(std::string id) = 0;

  virtual std::vector<ReplicaStatus> replicas() = 0;
  // Starts bringing a replica back and returns; progress is in replicas(). kInvalid: no such index.
  virtual Task<Result<void>> start_resync(unsigned replica) = 0;
  // Puts `folder` in the place of a replica's, for good, and brings it up to date in the
  // background. kInvalid, kExists, kNoSpace: the folder is not fit for it; kBusy: the replica is
  // resyncing; kReplicasLost: too few others are in sync.
  virtual Task<Result<void>> replace_replica(unsigned replica, std::string folder) = 0;

  virtual ScrubStatus scrub_status() const = 0;
  // Begins a pass, or goes on with one that was stopped; under way it only takes the rate. Nothing:
  // the daemon's.
  virtual Task<Result<void>> start_scrub(std::optional<std::uint64_t> bytes_per_second) = 0;
  // Stops the pass where it is. Fine if there is none.
  virtual Task<Result<void>> stop_scrub() = 0;

  // --- Faults that a user orders (engine/fault). They end with the disk's service. ---
  // Of a complete spec. kNotFound: the disk is not served. kLimit: it has kFaultsOfDiskMax already.
  // kBusy: another replica's writes are being damaged, and two bad copies can't be masked.
  virtual Task<Result<FaultStatus>> set_fault(FaultSpec spec) = 0;
  // Those that go on, in the order in which they were set.
  virtual std::vector<FaultStatus> faults() const = 0;
  // Lets go what hangs on it. Fine if it is over.
  virtual Task<void> clear_fault(std::string fault_id) = 0;
  virtual ReplicaFaults replica_faults(unsigned replica) const = 0;

  // For DescribeDisks and the CLI: where clients connect.
  struct NbdAddress {
    Address where;
    bool tls_required = false;
  };
  virtual std::vector<NbdAddress> nbd_addresses() const = 0;
};

}  // namespace clouddisk
