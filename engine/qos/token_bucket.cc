#include "engine/qos/token_bucket.h"

#include <algorithm>

#include "engine/base/check.h"

namespace clouddisk {
namespace {
constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::uint64_t kBucketMax = std::uint64_t{1} << 34;  // times 10^9 still fits in 64 bits
}  // namespace

TokenBucket::TokenBucket(std::uint64_t tokens_per_second, Duration burst, TimePoint now)
    : rate_(tokens_per_second), burst_(burst), empty_at_(now - burst) {}

Duration TokenBucket::time_of(std::uint64_t tokens, std::uint64_t& remainder) const {
  CHECK(tokens < kBucketMax);
  const std::uint64_t scaled = tokens * kNanosecondsPerSecond + remainder;
  remainder = scaled % rate_;
  return Duration(static_cast<std::int64_t>(scaled / rate_));
}

TimePoint TokenBucket::earliest(std::uint64_t tokens) const {
  if (rate_ == 0 || tokens == 0) return TimePoint::min();
  std::uint64_t remainder = remainder_;
  return empty_at_ + std::min(time_of(tokens, remainder), burst_);
}

void TokenBucket::pay(std::uint64_t tokens, TimePoint when) {
  if (rate_ == 0 || tokens == 0) return;
  if (empty_at_ < when - burst_) {
    empty_at_ = when - burst_;
    remainder_ = 0;
  }
  empty_at_ += time_of(tokens, remainder_);
}

void TokenBucket::set_rate(std::uint64_t tokens_per_second, TimePoint now) {
  if (tokens_per_second == rate_) return;
  if (rate_ == 0) {
    empty_at_ = now;  // Nothing was counted so far: neither debt nor credit.
  } else if (tokens_per_second != 0 && empty_at_ > now) {
    const double factor = static_cast<double>(rate_) / static_cast<double>(tokens_per_second);
    const double debt = static_cast<double>((empty_at_ - now).count()) * factor;
    empty_at_ = now + Duration(static_cast<std::int64_t>(debt));
  }
  rate_ = tokens_per_second;
  remainder_ = 0;
}

}  // namespace clouddisk
