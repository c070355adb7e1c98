// uring_ring.h: the ring over Linux io_uring (5.19 or newer; single issuer and deferred task run
// where the kernel has them, 6.1).
//
// Thread: the one that calls create() owns the ring.
#pragma once

#include <liburing.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/ring/folder_syncs.h"
#include "engine/ring/ring.h"
#include "engine/ring/timer_heap.h"
#include "engine/ring/worker_pool.h"

namespace clouddisk {

class UringRing final : public Ring {
 public:
  struct Options {
    unsigned entries = 1024;
    WorkerPool* workers = nullptr;  // borrowed; null: the ring has two threads of its own
  };

  // kUnsupported or kPermission, with what to do, when the kernel lacks or forbids io_uring.
  // Must be called on the thread that will run the ring.
  static Result<std::unique_ptr<UringRing>> create(Options options);
  ~UringRing() override;

  // Registers memory for I/O without page pinning per request. False when the process may not
  // (RLIMIT_MEMLOCK); I/O works all the same. Once, before I/O begins.
  bool register_memory(std::span<std::byte> arena);

  TimePoint now() const override;
  WallTime wall_now() const override;
  void schedule(std::coroutine_handle<> handle) override { ready_.push_back(handle); }
  void post(std::function<void()> function) override;
  void run_until(const std::function<bool()>& done) override;

  void start_timer(TimePoint when, Completion& completion) override;
  bool cancel_timer(Completion& completion) override;

  void start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                  Completion& completion) override;
  void start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                   Completion& completion) override;
  void start_datasync(int file, Completion& completion) override;
  void start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                      Completion& completion) override;
  void close_file(int file) override;

  Task<Result<File>> open(std::string path, OpenOptions options) override;
  Task<Result<void>> make_directories(std::string path) override;
  Task<Result<void>> rename(std::string from, std::string to) override;
  Task<Result<void>> remove(std::string path) override;
  Task<Result<void>> remove_tree(std::string path) override;
  Task<Result<std::vector<std::string>>> list(std::string directory) override;
  Task<Result<void>> sync_directory(std::string path) override;
  Task<Result<FileInfo>> stat(std::string path) override;
  Task<Result<SpaceInfo>> space(std::string path) override;

  Result<std::unique_ptr<Kv>> open_kv(const std::string& directory,
                                      const KvOptions& options) override;

  void start_blocking(std::function<void()> function, Completion& completion) override;
  void start_blocking_first(std::function<void()> function, Completion& completion) override;

  void start_accept(int listener, Completion& completion) override;
  void start_receive(int socket, std::span<std::byte> into, Completion& completion) override;
  void start_send(int socket, std::span<const iovec> from, Completion& completion) override;

 private:
  explicit UringRing(Options options);
  Result<void> set_up(unsigned entries);
  io_uring_sqe* next_sqe();
  bool registered(const void* data, std::size_t size) const;
  // Open files are registered under their own number, where the table has it: an operation then
  // need not look the file up and count it.
  void register_file(int file);
  void use_file(io_uring_sqe* sqe, int file) const;
  void arm_wake();
  void run_posted();
  void reap();
  void wait(bool may_sleep);
  void deliver(Completion& completion, std::int32_t result);
  std::function<void()> work_of(std::function<void()> function, Completion& completion);
  Task<Result<void>> sync_directory_alone(std::string path);

  io_uring ring_{};
  bool set_up_ = false;
  std::deque<std::coroutine_handle<>> ready_;
  TimerHeap timers_;
  std::span<std::byte> arena_;
  std::vector<bool> registered_files_;  // by number; empty: the kernel has no table for us

  int wake_fd_ = -1;
  std::uint64_t wake_value_ = 0;
  Completion wake_;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> sleeping_{false};

  FolderSyncs folder_syncs_;
  std::unique_ptr<WorkerPool> own_workers_;
  WorkerPool* workers_ = nullptr;
};

}  // namespace clouddisk
