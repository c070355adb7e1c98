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

std::optional<TimePoint> Throttle::admit(IoCost cost, TimePoint now, TimePoint arrived) {
  const TimePoint due = earliest(cost);
  if (due > now) return std::nullopt;
  const TimePoint could_go = std::max(due, arrived);
  const TimePoint booked = std::max(could_go, now - kCatchUp);
  // Those who go together in one catching up lost the same time, once.
  if (!unlimited()) stalled_ += booked - std::clamp(last_booked_, could_go, booked);
  last_booked_ = booked;
  operations_.pay(cost.operations, booked);
  bytes_.pay(cost.bytes, booked);
  return booked;
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

bool ThrottleGate::admit(Pass& pass, TimePoint now) {
  const auto booked = throttle_.admit(pass.cost_, now, pass.arrived_);
  if (!booked) return false;
  pass.admitted_ = true;
  pass.go_at_ = shared_ != nullptr ? shared_->reserve(pass.cost_, *booked) : *booked;
  return true;
}

bool ThrottleGate::Pass::await_ready() {
  if (gate_.unlimited() && gate_.first_ == nullptr) return true;
  arrived_ = gate_.ring_.now();
  if (gate_.next_to_admit_ != nullptr || !gate_.admit(*this, arrived_)) return false;
  return gate_.first_ == nullptr && go_at_ <= arrived_;
}

bool ThrottleGate::may_pass(IoCost cost) const {
  if (first_ != nullptr || shared_ != nullptr) return false;
  return throttle_.unlimited() || throttle_.earliest(cost) <= ring_.now();
}

bool ThrottleGate::try_pass(IoCost cost) {
  if (first_ != nullptr || shared_ != nullptr) return false;
  if (throttle_.unlimited()) return true;
  const TimePoint now = ring_.now();
  return throttle_.admit(cost, now, now).has_value();
}

void ThrottleGate::Pass::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  (gate_.last_ != nullptr ? gate_.last_->next_ : gate_.first_) = this;
  gate_.last_ = this;
  if (!admitted_ && gate_.next_to_admit_ == nullptr) gate_.next_to_admit_ = this;
  if (!gate_.releasing_) {
    gate_.releasing_ = true;
    spawn(gate_.release_waiters());
  }
}

void ThrottleGate::set_limits(DiskLimits limits) {
  if (limits == throttle_.limits()) return;
  throttle_.set_limits(limits, ring_.now());
  wake_sleeper();
}

void ThrottleGate::share(std::shared_ptr<SharedThrottle> shared) {
  const std::uint64_t version = shared != nullptr ? shared->version() : 0;
  if (shared == shared_ && version == shared_version_) return;
  shared_ = std::move(shared);
  shared_version_ = version;
  const TimePoint now = ring_.now();
  for (Pass* pass = first_; pass != next_to_admit_; pass = pass->next_) {
    pass->go_at_ = shared_ != nullptr ? shared_->reserve(pass->cost_, now) : now;
  }
  wake_sleeper();
}

// The sleeper reckoned with the old limits. It alone releases those that wait, so that it has ended
// before the last of them goes on and, perhaps, destroys the gate.
void ThrottleGate::wake_sleeper() {
  if (asleep_ && ring_.cancel_timer(timer_)) {
    asleep_ = false;
    ring_.schedule(timer_.waiter);
  }
}

TimePoint ThrottleGate::next_wake() const {
  TimePoint due = first_->admitted_ ? first_->go_at_ : TimePoint::max();
  // Admitted when it is due, so that it gets its turn among those of other disks.
  if (next_to_admit_ != nullptr) due = std::min(due, throttle_.earliest(next_to_admit_->cost_));
  return std::max(due, last_wake_ + kWakeInterval);
}

void ThrottleGate::release_due() {
  const TimePoint now = ring_.now();
  while (next_to_admit_ != nullptr && admit(*next_to_admit_, now)) {
    next_to_admit_ = next_to_admit_->next_;
  }
  while (first_ != next_to_admit_ && first_->go_at_ <= now) {
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
