#include "engine/ring/uring_ring.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "engine/ring/lmdb_kv.h"

namespace clouddisk {
namespace {

constexpr unsigned kReapMax = 256;
constexpr unsigned kRegisteredFiles = 4096;

}  // namespace

Result<std::unique_ptr<UringRing>> UringRing::create(Options options) {
  std::unique_ptr<UringRing> ring(new UringRing(options));
  if (auto ready = ring->set_up(options.entries); !ready) return ready.error();
  return ring;
}

UringRing::UringRing(Options options)
    : folder_syncs_(*this,
                    [this](std::string path) { return sync_directory_alone(std::move(path)); }),
      workers_(options.workers) {
  if (workers_ == nullptr) {
    own_workers_ = std::make_unique<WorkerPool>(2);
    workers_ = own_workers_.get();
  }
}

Result<void> UringRing::set_up(unsigned entries) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
  params.cq_entries = entries * 8;
  int rc = io_uring_queue_init_params(entries, &ring_, &params);
  if (rc == -EINVAL) {  // Before 6.1.
    params = {};
    params.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE;
    params.cq_entries = entries * 8;
    rc = io_uring_queue_init_params(entries, &ring_, &params);
  }
  if (rc == -EPERM || rc == -EACCES) {
    return fail(
        Errc::kPermission,
        "the kernel forbids io_uring: set sysctl kernel.io_uring_disabled=0 (or join the group "
        "in kernel.io_uring_group), and allow the io_uring calls in the container's seccomp "
        "profile");
  }
  if (rc == -ENOSYS || rc == -EINVAL) {
    return fail(Errc::kUnsupported,
                "the kernel has no usable io_uring: Linux 5.19 or newer is needed");
  }
  if (rc < 0) return fail_errno(rc, "io_uring_queue_init with {} entries", entries);
  set_up_ = true;
  if (io_uring_register_files_sparse(&ring_, kRegisteredFiles) == 0) {
    registered_files_.resize(kRegisteredFiles);
  }
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return fail_errno(errno, "eventfd");
  arm_wake();
  return {};
}

UringRing::~UringRing() {
  own_workers_.reset();
  if (set_up_) io_uring_queue_exit(&ring_);
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

bool UringRing::register_memory(std::span<std::byte> arena) {
  CHECK(arena_.empty());
  const iovec whole{arena.data(), arena.size()};
  if (io_uring_register_buffers(&ring_, &whole, 1) < 0) return false;
  arena_ = arena;
  return true;
}

bool UringRing::registered(const void* data, std::size_t size) const {
  const auto* begin = static_cast<const std::byte*>(data);
  return !arena_.empty() && begin >= arena_.data() && begin + size <= arena_.data() + arena_.size();
}

void UringRing::register_file(int file) {
  const auto slot = static_cast<std::size_t>(file);
  if (slot >= registered_files_.size()) return;
  registered_files_[slot] =
      io_uring_register_files_update(&ring_, static_cast<unsigned>(file), &file, 1) == 1;
}

void UringRing::use_file(io_uring_sqe* sqe, int file) const {
  const auto slot = static_cast<std::size_t>(file);
  if (slot < registered_files_.size() && registered_files_[slot]) {
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
  }
}

TimePoint UringRing::now() const {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

WallTime UringRing::wall_now() const {
  return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
}

void UringRing::post(std::function<void()> function) {
  // The wake-up is part of the locked section: once the function can run, and perhaps end the ring,
  // nothing of the ring is touched here any more.
  const std::lock_guard lock(posted_mutex_);
  posted_.push_back(std::move(function));
  if (sleeping_.exchange(false)) {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(wake_fd_, &one, sizeof one));  // Fails only by overflow: awake then.
  }
}

void UringRing::run_until(const std::function<bool()>& done) {
  while (!done()) {
    run_posted();
    const TimePoint time = now();
    while (Completion* due = timers_.pop_due(time)) deliver(*due, 0);
    // One round: what gets ready meanwhile waits for the next, after the kernel was asked.
    for (std::size_t round = ready_.size(); round > 0 && !done(); --round) {
      const auto handle = ready_.front();
      ready_.pop_front();
      handle.resume();
    }
    if (done()) break;
    wait(ready_.empty());
    reap();
  }
}

void UringRing::wait(bool may_sleep) {
  if (!may_sleep) {
    io_uring_submit_and_get_events(&ring_);
    return;
  }
  sleeping_.store(true);
  {
    const std::lock_guard lock(posted_mutex_);
    if (!posted_.empty()) {
      sleeping_.store(false);
      io_uring_submit_and_get_events(&ring_);
      return;
    }
  }
  io_uring_cqe* cqe = nullptr;
  if (timers_.empty()) {
    io_uring_submit_and_wait(&ring_, 1);
  } else {
    const Duration left = std::max(timers_.next() - now(), Duration(0));
    __kernel_timespec timeout{};
    timeout.tv_sec = left.count() / 1'000'000'000;
    timeout.tv_nsec = left.count() % 1'000'000'000;
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
  }
  sleeping_.store(false);
}

void UringRing::reap() {
  io_uring_cqe* cqes[kReapMax];
  unsigned count = 0;
  while ((count = io_uring_peek_batch_cqe(&ring_, cqes, kReapMax)) > 0) {
    for (unsigned i = 0; i < count; ++i) {
      auto* completion = static_cast<Completion*>(io_uring_cqe_get_data(cqes[i]));
      if (completion == &wake_) {
        arm_wake();
      } else if (completion != nullptr) {
        deliver(*completion, cqes[i]->res);
      }
    }
    io_uring_cq_advance(&ring_, count);
  }
}

void UringRing::deliver(Completion& completion, std::int32_t result) {
  completion.result = result;
  ready_.push_back(completion.waiter);
}

void UringRing::arm_wake() {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_read(sqe, wake_fd_, &wake_value_, sizeof wake_value_, 0);
  io_uring_sqe_set_data(sqe, &wake_);
}

void UringRing::run_posted() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (auto& function : work) function();
}

io_uring_sqe* UringRing::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {  // The queue is full: hand it to the kernel and go on.
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void UringRing::start_timer(TimePoint when, Completion& completion) {
  timers_.add(when, completion);
}

bool UringRing::cancel_timer(Completion& completion) {
  return timers_.remove(completion);
}

void UringRing::start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                           Completion& completion) {
  io_uring_sqe* sqe = next_sqe();
  const auto size = static_cast<unsigned>(into.size());
  if (registered(into.data(), into.size())) {
    io_uring_prep_read_fixed(sqe, file, into.data(), size, offset, 0);
  } else {
    io_uring_prep_read(sqe, file, into.data(), size, offset);
  }
  use_file(sqe, file);
  io_uring_sqe_set_data(sqe, &completion);
}

void UringRing::start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                            Completion& completion) {
  io_uring_sqe* sqe = next_sqe();
  if (from.size() == 1 && registered(from[0].iov_base, from[0].iov_len)) {
    io_uring_prep_write_fixed(sqe, file, from[0].iov_base, static_cast<unsigned>(from[0].iov_len),
                              offset, 0);
  } else {
    io_uring_prep_writev(sqe, file, from.data(), static_cast<unsigned>(from.size()), offset);
  }
  use_file(sqe, file);
  io_uring_sqe_set_data(sqe, &completion);
}

void UringRing::start_datasync(int file, Completion& completion) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
  use_file(sqe, file);
  io_uring_sqe_set_data(sqe, &completion);
}

void UringRing::start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                               Completion& completion) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_fallocate(sqe, file, 0, static_cast<off_t>(offset), static_cast<off_t>(length));
  use_file(sqe, file);
  io_uring_sqe_set_data(sqe, &completion);
}

void UringRing::close_file(int file) {
  const auto slot = static_cast<std::size_t>(file);
  if (slot < registered_files_.size() && registered_files_[slot]) {
    int none = -1;
    static_cast<void>(
        io_uring_register_files_update(&ring_, static_cast<unsigned>(file), &none, 1));
    registered_files_[slot] = false;
  }
  ::close(file);
}

std::function<void()> UringRing::work_of(std::function<void()> function, Completion& completion) {
  return [this, function = std::move(function), &completion] {
    function();
    post([this, &completion] { deliver(completion, 0); });
  };
}

void UringRing::start_blocking(std::function<void()> function, Completion& completion) {
  workers_->submit(work_of(std::move(function), completion));
}

void UringRing::start_blocking_first(std::function<void()> function, Completion& completion) {
  workers_->submit_first(work_of(std::move(function), completion));
}

void UringRing::start_accept(int listener, Completion& completion) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_accept(sqe, listener, nullptr, nullptr, SOCK_CLOEXEC);
  io_uring_sqe_set_data(sqe, &completion);
}

void UringRing::start_receive(int socket, std::span<std::byte> into, Completion& completion) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_recv(sqe, socket, into.data(), into.size(), 0);
  io_uring_sqe_set_data(sqe, &completion);
}

void UringRing::start_send(int socket, std::span<const iovec> from, Completion& completion) {
  // writev on a socket is sendmsg without a header to keep alive; SIGPIPE is off process-wide.
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_writev(sqe, socket, from.data(), static_cast<unsigned>(from.size()), 0);
  io_uring_sqe_set_data(sqe, &completion);
}

Result<std::unique_ptr<Kv>> UringRing::open_kv(const std::string& directory,
                                               const KvOptions& options) {
  return open_lmdb(directory, options);
}

}  // namespace clouddisk
