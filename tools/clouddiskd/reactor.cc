#include "tools/clouddiskd/reactor.h"

#include <sys/prctl.h>

#include "engine/base/log.h"

namespace clouddisk {

Result<std::unique_ptr<Reactor>> Reactor::start(ReplicaSet& replicas, WorkerPool& workers,
                                                ReactorOptions options) {
  std::unique_ptr<Reactor> reactor(new Reactor());
  std::promise<Result<void>> started;
  auto ready = started.get_future();
  reactor->thread_ = std::thread(
      [raw = reactor.get(), &replicas, &workers, options, promise = std::move(started)]() mutable {
        raw->run(replicas, workers, options, std::move(promise));
      });
  if (auto result = ready.get(); !result) return result.error();
  return reactor;
}

void Reactor::run(ReplicaSet& replicas, WorkerPool& workers, ReactorOptions options,
                  std::promise<Result<void>> started) {
  prctl(PR_SET_NAME, "cd-reactor");
  // This thread may serve the host's own file systems: memory it asks for must not wait for them.
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  UringRing::Options ring_options;
  ring_options.workers = &workers;
  auto ring = UringRing::create(ring_options);
  if (!ring) {
    started.set_value(ring.error());
    return;
  }
  FileCache files(**ring, options.files_max);
  PageCache pages(options.page_cache_bytes);
  ReadCache reads(options.read_cache_bytes);
  BufferPool client(**ring, options.client_buffer_bytes);
  BufferPool packs(**ring, options.pack_buffer_bytes);
  BufferPool work(**ring, options.work_buffer_bytes);
  BufferPool log(**ring, options.log_buffer_bytes);
  BufferPool headers(**ring, options.header_buffer_bytes);
  static_cast<void>((*ring)->register_memory(log.arena()));  // Slower without, no worse.
  DiskEnvironment environment{**ring, replicas, files, pages, client, work, log, headers, &reads};
  ring_ = ring->get();
  environment_ = &environment;
  DiskEnvironment pack_environment{**ring, replicas, files, pages, packs, work, log, headers};
  pack_environment_ = &pack_environment;
  started.set_value(Result<void>{});
  (*ring)->run_until([this] { return stop_.load(); });
}

Reactor::~Reactor() {
  if (!thread_.joinable()) return;
  if (ring_ != nullptr) ring_->post([this] { stop_ = true; });
  thread_.join();
}

}  // namespace clouddisk
