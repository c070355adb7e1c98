// reactor.h: one ring on a thread of its own, with what its disks share. The daemon runs one a
// core, beside the control ring.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <thread>

#include "engine/disk/disk_environment.h"
#include "engine/ring/uring_ring.h"

namespace clouddisk {

struct ReactorOptions {
  std::size_t page_cache_bytes = 128_MiB;  // of map pages
  std::size_t read_cache_bytes = 0;        // of blocks that were read lately
  std::size_t client_buffer_bytes = 64_MiB;
  std::size_t pack_buffer_bytes = 32_MiB;  // of what snapshots are packed in
  std::size_t work_buffer_bytes = 32_MiB;
  std::size_t log_buffer_bytes = 32_MiB;
  std::size_t header_buffer_bytes = 2_MiB;
  std::size_t files_max = 2048;
};

class Reactor {
 public:
  // Starts the thread; returns once its ring runs. `replicas` outlives the reactor.
  static Result<std::unique_ptr<Reactor>> start(ReplicaSet& replicas, WorkerPool& workers,
                                                ReactorOptions options);
  // Every disk on it is closed by then.
  ~Reactor();

  Ring& ring() { return *ring_; }
  DiskEnvironment& environment() { return *environment_; }
  // The same, with client memory for packs of snapshots.
  DiskEnvironment& pack_environment() { return *pack_environment_; }

 private:
  Reactor() = default;
  void run(ReplicaSet& replicas, WorkerPool& workers, ReactorOptions options,
           std::promise<Result<void>> started);

  std::thread thread_;
  Ring* ring_ = nullptr;                    // lives on the thread's stack
  DiskEnvironment* environment_ = nullptr;  // so do these
  DiskEnvironment* pack_environment_ = nullptr;
  std::atomic<bool> stop_{false};
};

}  // namespace clouddisk
