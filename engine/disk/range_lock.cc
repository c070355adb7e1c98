#include "engine/disk/range_lock.h"

#include "engine/base/variant.h"

namespace clouddisk {

RangeLock::Hold::Hold(RangeLock& lock, Lba first, std::uint64_t count, bool exclusive)
    : lock_(lock), first_(first.value), last_(first.value + count), exclusive_(exclusive) {
  previous_ = lock_.last_;
  (lock_.last_ != nullptr ? lock_.last_->next_ : lock_.first_) = this;
  lock_.last_ = this;
  if (exclusive_) ++lock_.exclusive_count_;
}

RangeLock::Hold::~Hold() {
  (previous_ != nullptr ? previous_->next_ : lock_.first_) = next_;
  (next_ != nullptr ? next_->previous_ : lock_.last_) = previous_;
  if (exclusive_) --lock_.exclusive_count_;
  if (lock_.changed_.has_waiters()) lock_.changed_.wake_all();
}

Task<void> RangeLock::Hold::acquire() {
  while (lock_.conflicts(*this)) co_await lock_.changed_.wait();
}

bool RangeLock::conflicts(const Hold& hold) const {
  if (exclusive_count_ == 0) return false;  // Almost always.
  if (broken(Variant::kSharePartialRanges)) return false;
  for (const Hold* other = hold.previous_; other != nullptr; other = other->previous_) {
    const bool overlap = other->first_ < hold.last_ && hold.first_ < other->last_;
    if (overlap && (other->exclusive_ || hold.exclusive_)) return true;
  }
  return false;
}

}  // namespace clouddisk
