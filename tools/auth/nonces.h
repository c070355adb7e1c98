// nonces.h: which nonces were used, so that a signed request that somebody recorded can't be sent
// again. A nonce is remembered for as long as its request's own time would be accepted.
//
// Bounded: at most `count_max` nonces, some 40 bytes each; when full, new ones are refused rather
// than old ones forgotten. A key has at most as many as are left for all others together: one that
// takes all it can get leaves half of the room, two leave a third. Time is an argument. Not
// thread-safe.
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
  std::uint32_t key = 0;  // of the hash of its id; who has the room
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
    kFull,     // There is no room, or none for this key; nothing was recorded.
  };
  UsedNonce make(std::string_view key_id, std::string_view nonce, WallTime signed_at) const;
  // What use() would say, but for the room; nothing is recorded.
  Answer look(const UsedNonce& nonce, WallTime now);
  Answer use(const UsedNonce& nonce, WallTime now);

  // Takes back what use() recorded in an earlier life.
  void remember(const UsedNonce& nonce, WallTime now);

  std::size_t count() const { return count_; }

 private:
  void forget(WallTime now);
  void add(const UsedNonce& nonce);

  struct Minute {
    std::unordered_set<std::uint64_t> fingerprints;
    std::map<std::uint32_t, std::size_t> of_key;
  };

  Duration skew_max_;
  std::size_t count_max_;
  std::size_t count_ = 0;
  std::map<std::uint32_t, std::size_t> of_key_;  // how many of `count_`; no zeros
  std::map<std::int64_t, Minute> used_;          // by UsedNonce::forget_at
  std::int64_t forgotten_ = 0;                   // all that were to be forgotten up to here are
};

}  // namespace clouddisk::auth
