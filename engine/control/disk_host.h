// disk_host.h: what the control plane (control.h) asks of the data plane: make, serve, grow, limit
// and remove disks; tell how the replicas are. The daemon implements it over the engine; tests over
// a map.
//
// Thread: the control ring. The implementation moves to a disk's own ring and back.
// Errors: values; after an error nothing changed, and the same call can be made again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/log/replica_set.h"
#include "engine/qos/limits.h"
#include "engine/ring/task.h"

namespace clouddisk {

struct DiskSettings {
  std::string id;  // d-…, also the export name
  std::uint64_t size_bytes = 0;
  DiskLimits limits;
};

// Counters since the disk was opened, and what it holds now.
struct DiskStats {
  std::uint64_t reads = 0, writes = 0, flushes = 0, trims = 0;
  std::uint64_t read_bytes = 0, written_bytes = 0;
  std::uint64_t errors = 0;
  std::uint64_t read_nanoseconds = 0, write_nanoseconds = 0;  // sums over requests
  std::uint64_t throttled_nanoseconds = 0;
  std::uint64_t connections = 0;   // NBD sessions now
  std::uint64_t mapped_bytes = 0;  // data that reads back
  std::uint64_t stored_bytes = 0;  // segments on one replica, with what compaction has not freed
  std::uint64_t index_bytes = 0;
  std::uint64_t checksum_errors = 0, repaired_blocks = 0, compacted_bytes = 0;
};

class DiskHost {
 public:
  virtual ~DiskHost() = default;

  // Makes the disk's (empty) storage. kExists when there is one.
  virtual Task<Result<void>> create_disk(DiskSettings settings) = 0;
  // Opens the disk and exports it over NBD under its id; fine if it is exported already.
  virtual Task<Result<void>> serve_disk(DiskSettings settings) = 0;
  // Ends its NBD sessions (requests under way are answered), makes everything durable, closes it.
  // Fine if it is not served.
  virtual Task<Result<void>> stop_disk(std::string id) = 0;
  // Removes its storage from every replica. Fine if there is none. The disk is not served.
  virtual Task<Result<void>> delete_disk(std::string id) = 0;
  // For a served disk at once; for another the next serve_disk() brings it.
  virtual Task<Result<void>> apply_settings(DiskSettings settings) = 0;

  // kNotFound when the disk is not open.
  virtual Task<Result<DiskStats>> stats(std::string id) = 0;

  virtual std::vector<ReplicaStatus> replicas() = 0;
  // Starts bringing a replica back and returns; progress is in replicas(). kInvalid: no such index.
  virtual Task<Result<void>> start_resync(unsigned replica) = 0;

  // For DescribeDisks and the CLI: where clients connect, "unix:/run/…/nbd.sock", "tcp:host:port".
  struct NbdAddress {
    std::string text;  // "unix:PATH" or "tcp:HOST:PORT"
    bool tls_required = false;
  };
  virtual std::vector<NbdAddress> nbd_addresses() const = 0;
};

}  // namespace clouddisk
