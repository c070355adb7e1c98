#include "engine/qos/throttle.h"

#include <algorithm>

#include "engine/base/check.h"

namespace clouddisk {

Throttle::Throttle(DiskLimits limits, TimePoint now)
    : limits_(limits),
      operations_(limits.iops, kBurst, now),
      bytes_(limits.bytes_per_second, kBurst, now) {}

TimePoint Throttle::earliest(IoCost cost) const {
  return std::max(operations_.earliest(cost.operations), bytes_.earliest(cost.bytes));
}

bool Throttle::admit(IoCost cost, TimePoint now, TimePoint arrived) {
  const TimePoint due = earliest(cost);
  if (due > now) return false;
  const TimePoint booked = std::max({due, arrived, now - kCatchUp});
  operations_.pay(cost.operations, booked);
  bytes_.pay(cost.bytes, booked);
  return true;
}

void Throttle::set_limits(DiskLimits limits, TimePoint now) {
  limits_ = limits;
  operations_.set_rate(limits.iops, now);
  bytes_.set_rate(limits.bytes_per_second, now);
}

ThrottleGate::ThrottleGate(Ring& ring, DiskLimits limits)
    : ring_(ring), throttle_(limits, ring.now()) {}

ThrottleGate::~ThrottleGate() {
  CHECK(first_ == nullptr);
  CHECK(!releasing_);
}

bool ThrottleGate::Pass::await_ready() {
  if (gate_.throttle_.unlimited() && gate_.first_ == nullptr) return true;
  arrived_ = gate_.ring_.now();
  return gate_.first_ == nullptr && gate_.throttle_.admit(cost_, arrived_, arrived_);
}

void ThrottleGate::Pass::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  (gate_.last_ != nullptr ? gate_.last_->next_ : gate_.first_) = this;
  gate_.last_ = this;
  if (!gate_.releasing_) {
    gate_.releasing_ = true;
    spawn(gate_.release_waiters());
  }
}

void ThrottleGate::set_limits(DiskLimits limits) {
  if (limits == throttle_.limits()) return;
  throttle_.set_limits(limits, ring_.now());
  // The sleeper reckoned with the old limits. It alone releases those that wait, so that it has
  // ended before the last of them goes on and, perhaps, destroys the gate.
  if (asleep_ && ring_.cancel_timer(timer_)) {
    asleep_ = false;
    ring_.schedule(timer_.waiter);
  }
}

TimePoint ThrottleGate::next_wake() const {
  return std::max(throttle_.earliest(first_->cost_), last_wake_ + kWakeInterval);
}

void ThrottleGate::release_due() {
  const TimePoint now = ring_.now();
  while (first_ != nullptr && throttle_.admit(first_->cost_, now, first_->arrived_)) {
    Pass& passing = *first_;
    first_ = passing.next_;
    if (first_ == nullptr) last_ = nullptr;
    passing.waited_ = now - passing.arrived_;
    ring_.schedule(passing.handle_);
  }
}

Task<void> ThrottleGate::release_waiters() {
  while (first_ != nullptr) {
    asleep_ = true;
    co_await Ring::operation([this](Completion& completion) {
      timer_.waiter = completion.waiter;
      ring_.start_timer(next_wake(), timer_);
    });
    asleep_ = false;
    last_wake_ = ring_.now();
    release_due();
  }
  releasing_ = false;
}

}  // namespace clouddisk
