#include "tools/clouddiskd/request_throttle.h"

#include <algorithm>

namespace clouddisk {
namespace {

constexpr std::size_t kBucketsMax = 1000;  // more than there can be keys

}  // namespace

double RequestThrottle::fill(const Bucket& bucket, TimePoint now) const {
  const double passed = std::chrono::duration<double>(now - bucket.filled).count();
  return std::min(rate_, bucket.left + passed * rate_);
}

std::optional<Duration> RequestThrottle::admit(std::string_view key, TimePoint now) {
  if (rate_ == 0) return std::nullopt;
  if (buckets_.size() >= kBucketsMax) {
    // Full buckets are as good as none; those of keys that are gone fill up.
    std::erase_if(buckets_, [&](const auto& entry) { return fill(entry.second, now) >= rate_; });
  }
  auto at = buckets_.find(key);
  if (at == buckets_.end()) at = buckets_.emplace(std::string(key), Bucket{rate_, now}).first;
  Bucket& bucket = at->second;
  bucket.left = fill(bucket, now);
  bucket.filled = now;
  if (bucket.left < 1) {
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>((1 - bucket.left) / rate_));
  }
  bucket.left -= 1;
  return std::nullopt;
}

}  // namespace clouddisk
