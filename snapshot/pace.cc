#include "snapshot/pace.h"

#include <algorithm>
#include <chrono>

namespace clouddisk::snapshot {

std::uint64_t next_rate(std::uint64_t rate, bool clients_active, const PaceLimits& limits) {
  if (clients_active) return std::max(std::min(limits.least, limits.most), rate / 2);
  return std::min(limits.most, rate * 2);
}

TimePoint Pace::book(std::uint64_t bytes, std::uint64_t client_requests, TimePoint now) {
  const bool active = client_requests != seen_requests_;
  seen_requests_ = client_requests;
  rate_ = next_rate(rate_, active, limits_);
  const double seconds = static_cast<double>(bytes) / static_cast<double>(rate_);
  may_go_on_ += std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  // Time not used is lost: no burst follows a pause.
  may_go_on_ = std::max(may_go_on_, now);
  return may_go_on_;
}

}  // namespace clouddisk::snapshot
