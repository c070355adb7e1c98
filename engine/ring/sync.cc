#include "engine/ring/sync.h"

namespace clouddisk {

void Signal::Waiter::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  previous_ = signal_.last_;
  (signal_.last_ != nullptr ? signal_.last_->next_ : signal_.first_) = this;
  signal_.last_ = this;
  if (deadline_ != kNever) {
    timer_.waiter = handle;
    signal_.ring_.start_timer(deadline_, timer_);
  }
}

bool Signal::Waiter::await_resume() {
  if (!woken_) signal_.unlink(*this);
  return woken_;
}

void Signal::wake(Waiter& waiter) {
  unlink(waiter);
  waiter.woken_ = true;
  // A timer that fired has queued the handle already; once is enough.
  const bool fired = waiter.deadline_ != kNever && !ring_.cancel_timer(waiter.timer_);
  if (!fired) ring_.schedule(waiter.handle_);
}

void Signal::unlink(Waiter& waiter) {
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
  waiter.next_ = waiter.previous_ = nullptr;
}

}  // namespace clouddisk
