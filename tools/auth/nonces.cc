#include "tools/auth/nonces.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk::auth {
namespace {

std::int64_t minute_of(WallTime time) {
  return std::chrono::floor<std::chrono::minutes>(time.time_since_epoch()).count();
}

}  // namespace

void NonceStore::forget(WallTime now) {
  while (!used_.empty() && used_.begin()->first <= minute_of(now)) {
    const Minute& minute = used_.begin()->second;
    count_ -= minute.fingerprints.size();
    for (const auto& [key, count] : minute.of_key) {
      const auto at = of_key_.find(key);
      at->second -= count;
      if (at->second == 0) of_key_.erase(at);
    }
    forgotten_ = used_.begin()->first;
    used_.erase(used_.begin());
  }
}

void NonceStore::add(const UsedNonce& nonce) {
  Minute& minute = used_[nonce.forget_at];
  if (!minute.fingerprints.insert(nonce.fingerprint).second) return;
  ++minute.of_key[nonce.key];
  ++of_key_[nonce.key];
  ++count_;
}

UsedNonce NonceStore::make(std::string_view key_id, std::string_view nonce,
                           WallTime signed_at) const {
  const std::uint64_t key = checksum64(as_bytes(key_id));
  return {minute_of(signed_at + skew_max_) + 1, checksum64(as_bytes(nonce), key),
          static_cast<std::uint32_t>(key)};
}

NonceStore::Answer NonceStore::look(const UsedNonce& nonce, WallTime now) {
  forget(now);
  // The clock was put back: what has been used then is not known any more.
  if (nonce.forget_at <= forgotten_) return Answer::kTooLate;
  for (const auto& [time, minute] : used_) {
    if (minute.fingerprints.contains(nonce.fingerprint)) return Answer::kUsed;
  }
  return Answer::kNew;
}

NonceStore::Answer NonceStore::use(const UsedNonce& nonce, WallTime now) {
  const Answer seen = look(nonce, now);
  if (seen != Answer::kNew) return seen;
  const auto own = of_key_.find(nonce.key);
  const std::size_t left = count_max_ - std::min(count_, count_max_);
  if ((own != of_key_.end() ? own->second : 0) >= left) return Answer::kFull;
  add(nonce);
  return Answer::kNew;
}

void NonceStore::remember(const UsedNonce& nonce, WallTime now) {
  if (nonce.forget_at > minute_of(now) && count_ < count_max_) add(nonce);
}

}  // namespace clouddisk::auth
