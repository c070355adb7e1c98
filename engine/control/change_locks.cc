#include "engine/control/change_locks.h"

#include <algorithm>

namespace clouddisk {

void ChangeLocks::Guard::unlock() {
  if (locks_ == nullptr) return;
  ChangeLocks& locks = *std::exchange(locks_, nullptr);
  locks.claims_.erase(claim_);
  locks.changed_.wake_all();
}

Task<ChangeLocks::Guard> ChangeLocks::lock(Keys keys) {
  Claim wanted{false, std::move(keys)};
  return claim(std::move(wanted));
}

Task<ChangeLocks::Guard> ChangeLocks::lock_all() {
  return claim(Claim{true, {}});
}

bool ChangeLocks::is_claimed(const std::string& key) const {
  return std::any_of(claims_.begin(), claims_.end(),
                     [&key](const Claim& claim) { return claim.keys.contains(key); });
}

// Whoever asked before, and has or wants something of it, goes first.
Task<ChangeLocks::Guard> ChangeLocks::claim(Claim wanted) {
  const auto mine = claims_.insert(claims_.end(), std::move(wanted));
  const auto in_the_way = [&mine](const Claim& earlier) {
    if (earlier.all || mine->all) return true;
    return std::any_of(mine->keys.begin(), mine->keys.end(),
                       [&earlier](const std::string& key) { return earlier.keys.contains(key); });
  };
  while (std::any_of(claims_.begin(), mine, in_the_way)) co_await changed_.wait();
  co_return Guard(this, mine);
}

}  // namespace clouddisk
