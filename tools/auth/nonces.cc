#include "tools/auth/nonces.h"

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
    count_ -= used_.begin()->second.size();
    forgotten_ = used_.begin()->first;
    used_.erase(used_.begin());
  }
}

bool NonceStore::add(const UsedNonce& nonce) {
  if (count_ >= count_max_) return false;
  count_ += used_[nonce.forget_at].insert(nonce.fingerprint).second ? 1U : 0U;
  return true;
}

NonceStore::Answer NonceStore::use(std::string_view key_id, std::string_view nonce,
                                   WallTime signed_at, WallTime now, UsedNonce* recorded) {
  forget(now);
  const UsedNonce made{minute_of(signed_at + skew_max_) + 1,
                       checksum64(as_bytes(nonce), checksum64(as_bytes(key_id)))};
  // The clock was put back: what has been used then is not known any more.
  if (made.forget_at <= forgotten_) return Answer::kTooLate;
  for (const auto& [minute, fingerprints] : used_) {
    if (fingerprints.contains(made.fingerprint)) return Answer::kUsed;
  }
  if (!add(made)) return Answer::kFull;
  if (recorded != nullptr) *recorded = made;
  return Answer::kNew;
}

void NonceStore::remember(const UsedNonce& nonce, WallTime now) {
  if (nonce.forget_at > minute_of(now)) static_cast<void>(add(nonce));
}

}  // namespace clouddisk::auth
