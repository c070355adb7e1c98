// ring.h: everything the engine may ask of the machine: time, timers, files, sockets, worker
// threads, key-value environments. Two implementations: UringRing (uring_ring.h) over io_uring, and
// SimRing (sim_ring.h) over virtual time and simulated files with faults from a seed. The engine
// calls neither the kernel nor a clock except through this interface.
//
// Thread: one thread runs a ring and makes every call on it, except post(), which any thread may
//   call. Coroutines resume on their ring's thread.
// Errors: operations answer with a count or -errno in Completion::result; the Task functions answer
//   with a Result.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/ring/kv.h"
#include "engine/ring/task.h"

namespace clouddisk {

class Ring;

// One operation under way. It stays in place until it is delivered: the kernel knows its address.
struct Completion {
  std::int32_t result = 0;  // bytes, a descriptor or 0; negative: -errno
  std::coroutine_handle<> waiter;
  std::uint32_t timer_slot = kNoTimer;  // the ring's own: position in its timer heap
  static constexpr std::uint32_t kNoTimer = 0xffffffff;
};

enum class Access { kRead, kReadWrite };

struct OpenOptions {
  Access access = Access::kReadWrite;
  bool create = false;     // made if missing
  bool exclusive = false;  // with create: kExists if it is there
  bool direct = true;      // O_DIRECT: memory, offset and length are multiples of 4 KiB
};

struct FileInfo {
  bool is_directory = false;
  std::uint64_t size = 0;    // bytes
  std::uint64_t device = 0;  // tells whether two paths share a filesystem
  std::uint64_t inode = 0;   // tells whether a path still names the file that was opened
};

struct SpaceInfo {
  std::uint64_t total = 0;      // bytes of the filesystem
  std::uint64_t available = 0;  // bytes that this process could still fill
};

// An open file. Closed when dropped; no operation may be under way then.
class File {
 public:
  File() = default;
  File(Ring* ring, int id) : ring_(ring), id_(id) {}
  File(File&& other) noexcept
      : ring_(std::exchange(other.ring_, nullptr)), id_(std::exchange(other.id_, -1)) {}
  File& operator=(File&& other) noexcept {
    if (this != &other) {
      close();
      ring_ = std::exchange(other.ring_, nullptr);
      id_ = std::exchange(other.id_, -1);
    }
    return *this;
  }
  ~File() { close(); }

  int id() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  void close();

 private:
  Ring* ring_ = nullptr;
  int id_ = -1;
};

class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  virtual ~Ring() = default;

  // --- Time and scheduling ---
  virtual TimePoint now() const = 0;
  virtual WallTime wall_now() const = 0;
  // Resumes `handle` soon, after whatever runs now has suspended; first come, first served.
  virtual void schedule(std::coroutine_handle<> handle) = 0;
  // Runs `function` on the ring's thread. Any thread may call it.
  virtual void post(std::function<void()> function) = 0;
  // Runs the ring on the calling thread until `done()` is true; checked after each step.
  virtual void run_until(const std::function<bool()>& done) = 0;

  virtual void start_timer(TimePoint when, Completion& completion) = 0;
  // True: the timer is gone and its waiter will not be resumed by it. False: it fired already.
  virtual bool cancel_timer(Completion& completion) = 0;

  // --- Files. Memory given must stay in place until the completion is delivered. ---
  virtual void start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                          Completion& completion) = 0;
  virtual void start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                           Completion& completion) = 0;
  virtual void start_datasync(int file, Completion& completion) = 0;
  // Reserves [offset, offset + length): writes there can't run out of space afterwards.
  virtual void start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                              Completion& completion) = 0;
  virtual void close_file(int file) = 0;

  virtual Task<Result<File>> open(std::string path, OpenOptions options) = 0;
  // Makes the folder and its parents; fine if they exist.
  virtual Task<Result<void>> make_directories(std::string path) = 0;
  // Replaces `to` if it exists. Durable once sync_directory() of the folder returned.
  virtual Task<Result<void>> rename(std::string from, std::string to) = 0;
  // A file, or a folder without anything in it; kNotFound if missing.
  virtual Task<Result<void>> remove(std::string path) = 0;
  virtual Task<Result<void>> remove_tree(std::string path) = 0;  // fine if missing
  virtual Task<Result<std::vector<std::string>>> list(std::string directory) = 0;  // names, sorted
  virtual Task<Result<void>> sync_directory(std::string path) = 0;
  virtual Task<Result<FileInfo>> stat(std::string path) = 0;  // kNotFound if missing
  virtual Task<Result<SpaceInfo>> space(std::string path) = 0;

  // --- Key-value environments (kv.h). Blocks: call inside blocking(). ---
  virtual Result<std::unique_ptr<Kv>> open_kv(const std::string& directory,
                                              const KvOptions& options) = 0;

  // --- Workers ---
  // Runs `function` on a worker thread (a simulator: later, on the same thread), then completes.
  virtual void start_blocking(std::function<void()> function, Completion& completion) = 0;
  // The same, before all that waits for a worker.
  virtual void start_blocking_first(std::function<void()> function, Completion& completion) {
    start_blocking(std::move(function), completion);
  }

  // --- Sockets (not simulated: -EOPNOTSUPP). shutdown(2) on the descriptor ends what waits. ---
  virtual void start_accept(int listener, Completion& completion) = 0;
  virtual void start_receive(int socket, std::span<std::byte> into, Completion& completion) = 0;
  // May send less than all.
  virtual void start_send(int socket, std::span<const iovec> from, Completion& completion) = 0;

  // --- Awaitable forms of the above ---
  template <class Start>
  struct Operation {
    Start start;
    Completion completion;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      completion.waiter = waiter;
      start(completion);
    }
    std::int32_t await_resume() const noexcept { return completion.result; }
  };
  template <class Start>
  static Operation<Start> operation(Start start) {
    return Operation<Start>{std::move(start), {}};
  }

  auto read(const File& file, std::uint64_t offset, std::span<std::byte> into) {
    return operation(
        [this, id = file.id(), offset, into](Completion& c) { start_read(id, offset, into, c); });
  }
  auto write(const File& file, std::uint64_t offset, std::span<const iovec> from) {
    return operation(
        [this, id = file.id(), offset, from](Completion& c) { start_write(id, offset, from, c); });
  }
  auto datasync(const File& file) {
    return operation([this, id = file.id()](Completion& c) { start_datasync(id, c); });
  }
  auto allocate(const File& file, std::uint64_t offset, std::uint64_t length) {
    return operation([this, id = file.id(), offset, length](Completion& c) {
      start_allocate(id, offset, length, c);
    });
  }
  auto accept(int listener) {
    return operation([this, listener](Completion& c) { start_accept(listener, c); });
  }
  auto receive(int socket, std::span<std::byte> into) {
    return operation([this, socket, into](Completion& c) { start_receive(socket, into, c); });
  }
  auto send(int socket, std::span<const iovec> from) {
    return operation([this, socket, from](Completion& c) { start_send(socket, from, c); });
  }
  auto sleep_until(TimePoint when) {
    return operation([this, when](Completion& c) { start_timer(when, c); });
  }
  auto sleep_for(Duration duration) { return sleep_until(now() + duration); }
  // Lets everything else that is ready run first.
  auto yield() {
    return operation([this](Completion& c) { schedule(c.waiter); });
  }

  // Runs `function` on a worker and returns what it returned. It must not touch ring state.
  // GCC 12: a closure that owns what it captured (a string, a shared_ptr) has to be named first and
  // moved in; as a temporary inside the co_await it is destroyed twice.
  template <class F, class R = std::invoke_result_t<F>>
  Task<R> blocking(F function) {
    if constexpr (std::is_void_v<R>) {
      co_await operation(
          [this, &function](Completion& c) { start_blocking([&function] { function(); }, c); });
    } else {
      std::optional<R> result;
      co_await operation([this, &function, &result](Completion& c) {
        start_blocking([&function, &result] { result.emplace(function()); }, c);
      });
      co_return std::move(*result);
    }
  }
  // The same, before all that waits for a worker: for what everybody waits for, and for little of
  // it, or the rest would never have its turn.
  template <class F, class R = std::invoke_result_t<F>>
  Task<R> blocking_first(F function) {
    std::optional<R> result;
    co_await operation([this, &function, &result](Completion& c) {
      start_blocking_first([&function, &result] { result.emplace(function()); }, c);
    });
    co_return std::move(*result);
  }

  // Moves the calling coroutine to this ring's thread.
  auto enter() {
    return operation([this](Completion& c) { post([waiter = c.waiter] { waiter.resume(); }); });
  }

  // Runs `task` to its end on the calling thread, which becomes the ring's: tests, tools, start-up.
  template <class T>
  T block_on(Task<T> task) {
    bool done = false;
    if constexpr (std::is_void_v<T>) {
      spawn(finish(std::move(task), done));
      run_until([&done] { return done; });
    } else {
      std::optional<T> result;
      spawn(collect(std::move(task), result, done));
      run_until([&done] { return done; });
      return std::move(*result);
    }
  }

 private:
  static Task<void> finish(Task<void> task, bool& done) {
    co_await std::move(task);
    done = true;
  }
  template <class T>
  static Task<void> collect(Task<T> task, std::optional<T>& result, bool& done) {
    result.emplace(co_await std::move(task));
    done = true;
  }
};

inline void File::close() {
  if (id_ >= 0) ring_->close_file(std::exchange(id_, -1));
}

}  // namespace clouddisk
