// overlay_ring.h: a ring over another that changes nothing: what is written, made, renamed or
// removed is kept in memory and shows to whoever reads through this ring, and to nobody else. So
// code that recovers and repairs can run on a root that must stay as it is, byte for byte.
//
// Files and folders are of the ring below until they are changed here. Key-value environments are
//   copied to `scratch` when they are opened, and used there.
// Memory: what is written, for as long as the ring lives. Thread: the one of the ring below.
// No sockets: -EOPNOTSUPP.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine/ring/ring.h"

namespace clouddisk {

class OverlayRing final : public Ring {
 public:
  // `scratch` is an empty folder that the caller removes afterwards.
  OverlayRing(Ring& below, std::string scratch) : below_(below), scratch_(std::move(scratch)) {}

  TimePoint now() const override { return below_.now(); }
  WallTime wall_now() const override { return below_.wall_now(); }
  void schedule(std::coroutine_handle<> handle) override { below_.schedule(handle); }
  void post(std::function<void()> function) override { below_.post(std::move(function)); }
  void run_until(const std::function<bool()>& done) override { below_.run_until(done); }
  void start_timer(TimePoint when, Completion& completion) override {
    below_.start_timer(when, completion);
  }
  bool cancel_timer(Completion& completion) override { return below_.cancel_timer(completion); }
  void start_blocking(std::function<void()> function, Completion& completion) override {
    below_.start_blocking(std::move(function), completion);
  }
  void start_blocking_first(std::function<void()> function, Completion& completion) override {
    below_.start_blocking_first(std::move(function), completion);
  }

  void start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                  Completion& completion) override;
  void start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                   Completion& completion) override;
  void start_datasync(int file, Completion& completion) override;
  void start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                      Completion& completion) override;
  void close_file(int file) override { open_.erase(file); }

  Task<Result<File>> open(std::string path, OpenOptions options) override;
  Task<Result<void>> make_directories(std::string path) override;
  Task<Result<void>> rename(std::string from, std::string to) override;
  Task<Result<void>> remove(std::string path) override;
  Task<Result<void>> remove_tree(std::string path) override;
  Task<Result<std::vector<std::string>>> list(std::string directory) override;
  Task<Result<void>> sync_directory(std::string) override { co_return Result<void>{}; }
  Task<Result<FileInfo>> stat(std::string path) override;
  Task<Result<SpaceInfo>> space(std::string path) override { return below_.space(path); }
  Result<std::unique_ptr<Kv>> open_kv(const std::string& directory,
                                      const KvOptions& options) override;

  void start_accept(int, Completion& completion) override { answer(completion, -EOPNOTSUPP); }
  void start_receive(int, std::span<std::byte>, Completion& completion) override {
    answer(completion, -EOPNOTSUPP);
  }
  void start_send(int, std::span<const iovec>, Completion& completion) override {
    answer(completion, -EOPNOTSUPP);
  }

 private:
  // A file: the one below, if there is one, and the blocks that were written over it.
  struct Content {
    File below;
    std::uint64_t size = 0;
    std::uint64_t inode = 0;
    std::map<std::uint64_t, std::vector<std::byte>> blocks;  // of 4 KiB, by number
  };
  using ContentRef = std::shared_ptr<Content>;

  void answer(Completion& completion, std::int32_t result) {
    completion.result = result;
    below_.schedule(completion.waiter);
  }
  Task<void> read_through(ContentRef content, std::uint64_t offset, std::span<std::byte> into,
                          Completion& completion);
  // Whether what the ring below has at that path shows.
  bool shows(const std::string& path) const;
  void hide(const std::string& path);
  // `direct`: as whoever opens it first wants the file below.
  Task<Result<ContentRef>> content_of(const std::string& path, bool direct);

  Ring& below_;
  const std::string scratch_;
  std::map<int, ContentRef> open_;
  int next_file_ = 1;
  std::uint64_t next_inode_ = std::uint64_t{1} << 62;
  std::map<std::string, ContentRef> files_;  // that were made or changed here
  std::set<std::string> folders_;            // that were made here
  mutable std::mutex hidden_mutex_;          // environments are opened on workers
  std::set<std::string> hidden_;             // removed here, with everything below
  std::map<std::string, std::string> environments_;
  unsigned next_environment_ = 1;
};

}  // namespace clouddisk
