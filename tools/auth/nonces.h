// nonces.h: which nonces were used, so that a signed request that somebody recorded can't be sent
// again. A nonce is remembered for as long as its request's own time would be accepted.
//
// Bounded: at most `count_max` nonces, some 40 bytes each; when full, new ones are refused rather
// than old ones forgotten. Time is an argument. Not thread-safe.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <unordered_set>

#include "engine/base/units.h"

namespace clouddisk::auth {

// A nonce that was used, as it is remembered. Fingerprints have 64 bits: of a million, one new
// nonce in 2^44 is taken for a used one.
struct UsedNonce {
  std::int64_t forget_at = 0;  // minutes since 1970
  std::uint64_t fingerprint = 0;
  auto operator<=>(const UsedNonce&) const = default;
};

class NonceStore {
 public:
  // A request is accepted until `skew_max` after its own time, and so long a nonce is kept.
  NonceStore(Duration skew_max, std::size_t count_max)
      : skew_max_(skew_max), count_max_(count_max) {}

  enum class Answer {
    kNew,      // It was not used, and is now.
    kUsed,     // by this key
    kTooLate,  // Nonces of that time are forgotten already.
    kFull,     // There is no room; nothing was recorded.
  };
  // `recorded` is filled in when it is new.
  Answer use(std::string_view key_id, std::string_view nonce, WallTime signed_at, WallTime now,
             UsedNonce* recorded = nullptr);

  // Takes back what use() recorded in an earlier life.
  void remember(const UsedNonce& nonce, WallTime now);

  std::size_t count() const { return count_; }

 private:
  void forget(WallTime now);
  bool add(const UsedNonce& nonce);

  Duration skew_max_;
  std::size_t count_max_;
  std::size_t count_ = 0;
  std::map<std::int64_t, std::unordered_set<std::uint64_t>> used_;  // by UsedNonce::forget_at
  std::int64_t forgotten_ = 0;  // all that were to be forgotten up to here are
};

}  // namespace clouddisk::auth
