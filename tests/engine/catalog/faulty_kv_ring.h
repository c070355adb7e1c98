// faulty_kv_ring.h: a ring whose environments fail on demand: everything else is the ring beneath.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "engine/log/replica_set.h"
#include "engine/ring/ring.h"

namespace clouddisk {

// What each replica's environment does at a commit.
struct KvFault {
  std::atomic<int> failures{0};  // so many commits fail
  std::atomic<Errc> code{Errc::kIo};
  std::atomic<int> stall_ms{0};  // each takes this long first
};
using KvFaults = std::array<KvFault, kReplicaCount>;

class FaultyKv final : public Kv {
 public:
  FaultyKv(std::unique_ptr<Kv> below, KvFault& fault) : below_(std::move(below)), fault_(fault) {}
  Result<std::unique_ptr<KvReader>> read() override { return below_->read(); }
  Result<std::unique_ptr<KvWriter>> write() override {
    std::this_thread::sleep_for(std::chrono::milliseconds(fault_.stall_ms.load()));
    if (fault_.failures.load() > 0) {
      --fault_.failures;
      return fail(fault_.code.load(), "on purpose");
    }
    return below_->write();
  }
  Result<void> sync() override { return below_->sync(); }
  std::uint64_t size_bytes() const override { return below_->size_bytes(); }

 private:
  std::unique_ptr<Kv> below_;
  KvFault& fault_;
};

class FaultyKvRing final : public Ring {
 public:
  FaultyKvRing(Ring& below, KvFaults& faults) : below_(below), faults_(faults) {}

  Result<std::unique_ptr<Kv>> open_kv(const std::string& path, const KvOptions& options) override {
    auto kv = below_.open_kv(path, options);
    if (!kv) return kv.error();
    const std::size_t at = path.find("replica-") + std::string("replica-").size();
    KvFault& fault = faults_[static_cast<std::size_t>(path[at] - '1')];
    return std::unique_ptr<Kv>(new FaultyKv(std::move(*kv), fault));
  }

  TimePoint now() const override { return below_.now(); }
  WallTime wall_now() const override { return below_.wall_now(); }
  void schedule(std::coroutine_handle<> handle) override { below_.schedule(handle); }
  void post(std::function<void()> function) override { below_.post(std::move(function)); }
  void run_until(const std::function<bool()>& done) override { below_.run_until(done); }
  void start_timer(TimePoint when, Completion& c) override { below_.start_timer(when, c); }
  bool cancel_timer(Completion& c) override { return below_.cancel_timer(c); }
  void start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                  Completion& c) override {
    below_.start_read(file, offset, into, c);
  }
  void start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                   Completion& c) override {
    below_.start_write(file, offset, from, c);
  }
  void start_datasync(int file, Completion& c) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(sync_stall_ms));
    below_.start_datasync(file, c);
  }
  void start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                      Completion& c) override {
    below_.start_allocate(file, offset, length, c);
  }
  void close_file(int file) override { below_.close_file(file); }
  Task<Result<File>> open(std::string path, OpenOptions options) override {
    return below_.open(std::move(path), options);
  }
  Task<Result<void>> make_directories(std::string path) override {
    return below_.make_directories(std::move(path));
  }
  Task<Result<void>> rename(std::string from, std::string to) override {
    return below_.rename(std::move(from), std::move(to));
  }
  Task<Result<void>> remove(std::string path) override { return below_.remove(std::move(path)); }
  Task<Result<void>> remove_tree(std::string path) override {
    return below_.remove_tree(std::move(path));
  }
  Task<Result<std::vector<std::string>>> list(std::string directory) override {
    return below_.list(std::move(directory));
  }
  Task<Result<void>> sync_directory(std::string path) override {
    return below_.sync_directory(std::move(path));
  }
  Task<Result<FileInfo>> stat(std::string path) override { return below_.stat(std::move(path)); }
  Task<Result<SpaceInfo>> space(std::string path) override { return below_.space(std::move(path)); }
  void start_blocking(std::function<void()> function, Completion& c) override {
    below_.start_blocking(std::move(function), c);
  }
  void start_accept(int listener, Completion& c) override { below_.start_accept(listener, c); }
  void start_receive(int socket, std::span<std::byte> into, Completion& c) override {
    below_.start_receive(socket, into, c);
  }
  void start_send(int socket, std::span<const iovec> from, Completion& c) override {
    below_.start_send(socket, from, c);
  }

  int sync_stall_ms = 0;  // each sync of a file begins so much later, and so does everything else

 private:
  Ring& below_;
  KvFaults& faults_;
};

}  // namespace clouddisk
