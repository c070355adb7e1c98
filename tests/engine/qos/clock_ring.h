// clock_ring.h: a ring that has nothing but time: timers and the queue of what is ready. Time
// jumps to the next timer when nothing is ready, so a second takes as long as its events.
#pragma once

#include <deque>

#include "engine/ring/ring.h"
#include "engine/ring/timer_heap.h"

namespace clouddisk {

class ClockRing final : public Ring {
 public:
  TimePoint now() const override { return now_; }
  WallTime wall_now() const override { return WallTime(now_.time_since_epoch()); }
  void schedule(std::coroutine_handle<> handle) override { ready_.push_back(handle); }
  void post(std::function<void()> function) override { function(); }
  void run_until(const std::function<bool()>& done) override {
    while (!done()) {
      while (Completion* due = timers_.pop_due(now_)) ready_.push_back(due->waiter);
      if (ready_.empty()) {
        CHECK(!timers_.empty());  // Nothing will ever happen again.
        now_ = timers_.next() + timer_lateness_;
        continue;
      }
      const auto handle = ready_.front();
      ready_.pop_front();
      handle.resume();
    }
  }
  void start_timer(TimePoint when, Completion& completion) override {
    timers_.add(when, completion);
  }
  bool cancel_timer(Completion& completion) override { return timers_.remove(completion); }
  void set_timer_lateness(Duration lateness) { timer_lateness_ = lateness; }

  void start_read(int, std::uint64_t, std::span<std::byte>, Completion& c) override { refuse(c); }
  void start_write(int, std::uint64_t, std::span<const iovec>, Completion& c) override {
    refuse(c);
  }
  void start_datasync(int, Completion& c) override { refuse(c); }
  void start_allocate(int, std::uint64_t, std::uint64_t, Completion& c) override { refuse(c); }
  void close_file(int) override {}
  Task<Result<File>> open(std::string, OpenOptions) override { co_return none(); }
  Task<Result<void>> make_directories(std::string) override { co_return none(); }
  Task<Result<void>> rename(std::string, std::string) override { co_return none(); }
  Task<Result<void>> remove(std::string) override { co_return none(); }
  Task<Result<void>> remove_tree(std::string) override { co_return none(); }
  Task<Result<std::vector<std::string>>> list(std::string) override { co_return none(); }
  Task<Result<void>> sync_directory(std::string) override { co_return none(); }
  Task<Result<FileInfo>> stat(std::string) override { co_return none(); }
  Task<Result<SpaceInfo>> space(std::string) override { co_return none(); }
  Result<std::unique_ptr<Kv>> open_kv(const std::string&, const KvOptions&) override {
    return none();
  }
  void start_blocking(std::function<void()> function, Completion& completion) override {
    function();
    schedule(completion.waiter);
  }
  void start_accept(int, Completion& c) override { refuse(c); }
  void start_receive(int, std::span<std::byte>, Completion& c) override { refuse(c); }
  void start_send(int, std::span<const iovec>, Completion& c) override { refuse(c); }

 private:
  static Error none() { return fail(Errc::kUnsupported, "a clock has no files"); }
  void refuse(Completion& completion) {
    completion.result = -EOPNOTSUPP;
    schedule(completion.waiter);
  }

  TimePoint now_{std::chrono::seconds(1)};
  Duration timer_lateness_{0};
  TimerHeap timers_;
  std::deque<std::coroutine_handle<>> ready_;
};

}  // namespace clouddisk
