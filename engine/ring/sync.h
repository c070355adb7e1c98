// sync.h: waiting between coroutines of one ring. Not thread-safe: everything here belongs to one
// ring's thread. Waiters are resumed through the ring's queue, first come first served, never
// inside the call that wakes them.
#pragma once

#include <coroutine>
#include <cstdint>
#include <utility>

#include "engine/base/check.h"
#include "engine/ring/ring.h"

namespace clouddisk {

// A condition that coroutines wait for. Waking resumes those that wait now; what they waited for
// may have changed again by then, so wait in a loop.
class Signal {
 public:
  explicit Signal(Ring& ring) : ring_(ring) {}
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal() { CHECK(first_ == nullptr); }

  void wake_all() {
    while (first_ != nullptr) wake(*first_);
  }
  void wake_one() {
    if (first_ != nullptr) wake(*first_);
  }
  bool has_waiters() const { return first_ != nullptr; }

  class Waiter {
   public:
    Waiter(Signal& signal, TimePoint deadline) : signal_(signal), deadline_(deadline) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    // False: the deadline came first.
    bool await_resume();

   private:
    friend class Signal;
    Signal& signal_;
    TimePoint deadline_;
    Completion timer_;
    std::coroutine_handle<> handle_;
    Waiter* next_ = nullptr;
    Waiter* previous_ = nullptr;
    bool woken_ = false;
  };
  static constexpr TimePoint kNever = TimePoint::max();
  Waiter wait() { return Waiter(*this, kNever); }
  // co_await gives false when the deadline came first.
  Waiter wait_until(TimePoint deadline) { return Waiter(*this, deadline); }

 private:
  void wake(Waiter& waiter);
  void unlink(Waiter& waiter);

  Ring& ring_;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

// A count of permits. Fair: a large request is not overtaken by small ones.
class Semaphore {
 public:
  Semaphore(Ring& ring, std::uint64_t permits) : signal_(ring), available_(permits) {}

  Task<void> acquire(std::uint64_t permits) {
    const std::uint64_t ticket = next_ticket_++;
    while (ticket != serving_ || available_ < permits) co_await signal_.wait();
    ++serving_;
    available_ -= permits;
    if (signal_.has_waiters()) signal_.wake_all();
  }
  bool try_acquire(std::uint64_t permits) {
    if (serving_ != next_ticket_ || available_ < permits) return false;
    available_ -= permits;
    return true;
  }
  void release(std::uint64_t permits) {
    available_ += permits;
    signal_.wake_all();
  }
  std::uint64_t available() const { return available_; }
  bool awaited() const { return serving_ != next_ticket_; }

 private:
  Signal signal_;
  std::uint64_t available_;
  std::uint64_t next_ticket_ = 0;
  std::uint64_t serving_ = 0;
};

// One holder at a time, in the order of asking. `auto guard = co_await mutex.lock();`
class AsyncMutex {
 public:
  explicit AsyncMutex(Ring& ring) : semaphore_(ring, 1) {}

  class Guard {
   public:
    explicit Guard(AsyncMutex* mutex) : mutex_(mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() { unlock(); }
    void unlock() {
      if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->semaphore_.release(1);
    }

   private:
    AsyncMutex* mutex_;
  };
  Task<Guard> lock() {
    co_await semaphore_.acquire(1);
    co_return Guard(this);
  }
  bool locked() const { return semaphore_.available() == 0; }
  bool awaited() const { return semaphore_.awaited(); }  // somebody waits for it

 private:
  Semaphore semaphore_;
};

// Many holders that share, or one alone, in the order of asking.
class AsyncSharedMutex {
 public:
  explicit AsyncSharedMutex(Ring& ring) : semaphore_(ring, kAll) {}

  class Guard {
   public:
    Guard(AsyncSharedMutex* mutex, std::uint64_t permits) : mutex_(mutex), permits_(permits) {}
    Guard(Guard&& other) noexcept
        : mutex_(std::exchange(other.mutex_, nullptr)), permits_(other.permits_) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->semaphore_.release(permits_);
    }

   private:
    AsyncSharedMutex* mutex_;
    std::uint64_t permits_;
  };
  Task<Guard> lock() { return take(kAll); }
  Task<Guard> lock_shared() { return take(1); }

 private:
  static constexpr std::uint64_t kAll = 1U << 30;
  Task<Guard> take(std::uint64_t permits) {
    co_await semaphore_.acquire(permits);
    co_return Guard(this, permits);
  }
  Semaphore semaphore_;
};

// Counts work under way and waits for it to reach zero.
class WaitGroup {
 public:
  explicit WaitGroup(Ring& ring) : signal_(ring) {}

  void add(std::uint64_t count = 1) { count_ += count; }
  void done() {
    CHECK(count_ > 0);
    if (--count_ == 0) signal_.wake_all();
  }
  std::uint64_t count() const { return count_; }
  Task<void> wait() {
    while (count_ > 0) co_await signal_.wait();
  }
  // False: work was still under way at the deadline.
  Task<bool> wait_until(TimePoint deadline) {
    while (count_ > 0) {
      const bool woken = co_await signal_.wait_until(deadline);
      if (!woken && count_ > 0) co_return false;
    }
    co_return true;
  }

 private:
  Signal signal_;
  std::uint64_t count_ = 0;
};

}  // namespace clouddisk
