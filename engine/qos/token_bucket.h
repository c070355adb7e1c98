// token_bucket.h: one limit of one disk: a token is one operation or one byte.
//
// The bucket is one point in time, `empty_at`: when the bucket was, or will be, empty. Credit at t
// is t - empty_at, never more than `burst`; a negative one is debt.
//
//      ---- credit ----|                      |---- debt ----
//   empty_at          now                    now           empty_at
//
// A request may go when there is credit for it, or when the bucket is full, whichever is less, and
// then pays all its tokens, if need be on debt. So a request larger than the bucket passes at the
// right rate, an idle bucket never gives more than `burst` at once beyond a single request, and the
// average is exact: remainders of the division are carried along.
//
// Logic takes time as an argument. Not thread-safe. A rate of 0 is no limit.
#pragma once

#include <cstdint>

#include "engine/base/units.h"

namespace clouddisk {

class TokenBucket {
 public:
  // Starts full.
  TokenBucket(std::uint64_t tokens_per_second, Duration burst, TimePoint now);

  std::uint64_t rate() const { return rate_; }
  // When a request of so many tokens may go; at or before now means at once.
  TimePoint earliest(std::uint64_t tokens) const;
  // Pays at `when`, which is not before earliest(tokens). Credit beyond the burst is lost then.
  void pay(std::uint64_t tokens, TimePoint when);
  // A new rate from `now` on. Debt stays the same number of tokens, so a higher rate repays it
  // sooner.
  void set_rate(std::uint64_t tokens_per_second, TimePoint now);

 private:
  // Exact up to a remainder that the next call gets; `tokens` < 2^34.
  Duration time_of(std::uint64_t tokens, std::uint64_t& remainder) const;

  std::uint64_t rate_;
  Duration burst_;
  TimePoint empty_at_;
  std::uint64_t remainder_ = 0;  // of a nanosecond, in units of 1 / rate_
};

}  // namespace clouddisk
