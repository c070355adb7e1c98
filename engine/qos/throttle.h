// throttle.h: the limits of one disk: a bucket of operations and a bucket of bytes, one budget for
// reads and writes together, first come first served.
//
// Throttle decides, with time as an argument; ThrottleGate lets coroutines wait for the decision,
// and then for their turn in the limits that the disk shares with others (shared_throttle.h).
//
// Accuracy: over any second the disk gives its limit within 1 %, counted to the whole request. An
// idle disk saves up kBurst at the most. Requests that wait are released in the order of arrival by
// one timer for all of them, at most once in kWakeInterval; each is booked at the moment it was
// due, not at the moment the timer fired, so lateness of up to kCatchUp costs nothing.
#pragma once

#include <coroutine>
#include <cstdint>
#include <memory>
#include <optional>

#include "engine/base/units.h"
#include "engine/qos/limits.h"
#include "engine/qos/shared_throttle.h"
#include "engine/qos/token_bucket.h"
#include "engine/ring/ring.h"

namespace clouddisk {

class Throttle {
 public:
  static constexpr Duration kBurst = std::chrono::milliseconds(2);
  // Later than this, a waiting request is booked as if it had just become due: a stalled process
  // must not be followed by a flood. A second can give more than its limit by what was late when it
  // began, and by a burst: together 1 % of it. A busy host is often late by some milliseconds.
  static constexpr Duration kCatchUp = std::chrono::milliseconds(8);
  static_assert(kCatchUp + kBurst <= std::chrono::milliseconds(10));

  Throttle(DiskLimits limits, TimePoint now);

  const DiskLimits& limits() const { return limits_; }
  bool unlimited() const { return limits_.iops == 0 && limits_.bytes_per_second == 0; }
  // When the request at the head of the queue may go; at or before now means at once.
  TimePoint earliest(IoCost cost) const;
  // Lets the head go, if it may, and gives the moment for which it is booked.
  std::optional<TimePoint> admit(IoCost cost, TimePoint now, TimePoint arrived);
  // From `now` on, for those that wait as well.
  void set_limits(DiskLimits limits, TimePoint now);
  // How much of the limits' time was lost, in all, because requests that could go were let go later
  // than kCatchUp: the process did not run.
  Duration stalled() const { return stalled_; }

 private:
  DiskLimits limits_;
  TokenBucket operations_;
  TokenBucket bytes_;
  Duration stalled_{0};
  TimePoint last_booked_{};
};

// Thread: one ring's. Nobody waits when it is destroyed.
class ThrottleGate {
 public:
  static constexpr Duration kWakeInterval = std::chrono::microseconds(500);

  ThrottleGate(Ring& ring, DiskLimits limits);
  ~ThrottleGate();
  ThrottleGate(const ThrottleGate&) = delete;
  ThrottleGate& operator=(const ThrottleGate&) = delete;

  class Pass {
   public:
    Pass(ThrottleGate& gate, IoCost cost) : gate_(gate), cost_(cost) {}
    bool await_ready();
    void await_suspend(std::coroutine_handle<> handle);
    // How long the request waited.
    Duration await_resume() const { return waited_; }

   private:
    friend class ThrottleGate;
    ThrottleGate& gate_;
    IoCost cost_;
    TimePoint arrived_;
    bool admitted_ = false;  // by the disk's own limits
    TimePoint go_at_;        // then: its turn in the shared ones, not before those ahead of it
    Duration waited_{0};
    std::coroutine_handle<> handle_;
    Pass* next_ = nullptr;
  };
  // co_await returns when the request may go, with the time it waited. Without limits, or with
  // credit left, it does not suspend.
  Pass pass(IoCost cost) { return Pass(*this, cost); }
  // Whether a request may go at once, and that it went. False may also mean that only pass() can
  // tell: where limits are shared, asking takes a turn.
  bool may_pass(IoCost cost) const;
  bool try_pass(IoCost cost);

  const DiskLimits& limits() const { return throttle_.limits(); }
  // At once, for those that wait as well. No limits lets everyone go.
  void set_limits(DiskLimits limits);
  // Limits above the disk's own, from now on; null: none. Also to be called when those were set
  // anew, which forgets their turns: requests that wait for one ask again.
  void share(std::shared_ptr<SharedThrottle> shared);
  bool has_waiters() const { return first_ != nullptr; }
  Duration stalled() const { return throttle_.stalled(); }

 private:
  Task<void> release_waiters();
  TimePoint next_wake() const;
  void release_due();
  bool unlimited() const { return throttle_.unlimited() && shared_ == nullptr; }
  // Through the disk's own limits, in order; false: not yet.
  bool admit(Pass& pass, TimePoint now);
  void wake_sleeper();

  Ring& ring_;
  Throttle throttle_;
  std::shared_ptr<SharedThrottle> shared_;  // null: none
  std::uint64_t shared_version_ = 0;        // that those who wait have their turns of
  // Those that wait: first the ones that their own limits let go and that have a turn in the shared
  // limits, then, from next_to_admit_ on, the others.
  Pass* first_ = nullptr;
  Pass* last_ = nullptr;
  Pass* next_to_admit_ = nullptr;
  Completion timer_;
  bool releasing_ = false;  // release_waiters() is alive
  bool asleep_ = false;     // and waits for timer_
  TimePoint last_wake_ = TimePoint::min();
};

}  // namespace clouddisk
