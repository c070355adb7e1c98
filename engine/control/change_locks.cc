#include "engine/control/change_locks.h"

#include <algorithm>

namespace clouddisk {

void ChangeLocks::Guard::unlock() {
  if (locks_ == nullptr) return;
  ChangeLocks& locks = *std::exchange(locks_, nullptr);
  locks.claims_.erase(claim_);
  locks.changed_.wake_all();
}

namespace {

bool have_in_common(const ChangeLocks::Keys& some, const ChangeLocks::Keys& others) {
  return std::any_of(some.begin(), some.end(),
                     [&others](const std::string& key) { return others.contains(key); });
}

}  // namespace

bool ChangeLocks::collide(const Claim& a, const Claim& b) {
  return a.all || b.all || have_in_common(a.keys, b.keys) || have_in_common(a.keys, b.shared) ||
         have_in_common(a.shared, b.keys);
}

void ChangeLocks::Guard::keep_only(const Keys& keys) {
  if (claim_->all) return;
  const Claim before = *claim_;
  std::erase_if(claim_->keys, [&keys](const std::string& key) { return !keys.contains(key); });
  claim_->shared.clear();
  for (auto later = std::next(claim_); later != locks_->claims_.end(); ++later) {
    const bool waits = collide(*claim_, *later);
    Claim gone = before;
    std::erase_if(gone.keys, [&keys](const std::string& key) { return keys.contains(key); });
    if (waits && later->revisable && collide(gone, *later)) later->outdated = true;
  }
  locks_->changed_.wake_all();
}

Task<ChangeLocks::Guard> ChangeLocks::lock(Keys keys, Keys shared) {
  Claim wanted{false, std::move(keys), std::move(shared), false, false};
  return claim(std::move(wanted));
}

Task<ChangeLocks::Guard> ChangeLocks::lock_revisable(Keys keys, Keys shared) {
  Claim wanted{false, std::move(keys), std::move(shared), true, false};
  return claim(std::move(wanted));
}

Task<ChangeLocks::Guard> ChangeLocks::lock_all() {
  return claim(Claim{true, {}, {}, false, false});
}

bool ChangeLocks::is_claimed(const std::string& key) const {
  return std::any_of(claims_.begin(), claims_.end(),
                     [&key](const Claim& claim) { return claim.keys.contains(key); });
}

// Whoever asked before, and has or wants something of it, goes first.
Task<ChangeLocks::Guard> ChangeLocks::claim(Claim wanted) {
  const auto mine = claims_.insert(claims_.end(), std::move(wanted));
  const auto in_the_way = [&mine](const Claim& earlier) { return collide(earlier, *mine); };
  while (!mine->outdated && std::any_of(claims_.begin(), mine, in_the_way)) {
    co_await changed_.wait();
  }
  co_return Guard(this, mine);
}

}  // namespace clouddisk
