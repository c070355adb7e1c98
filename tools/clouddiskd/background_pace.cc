#include "tools/clouddiskd/background_pace.h"

#include <algorithm>

namespace clouddisk {
namespace {

// A request that the devices take longer for is held up. Twice what the slowest of the fast
// categories names as its own; what waits for the limit first is not counted.
constexpr std::uint64_t kServiceMax = 2'000'000;  // ns

}  // namespace

ClientLoad load_of(const DeviceCounters& counters) {
  ClientLoad load;
  load.requests = counters.reads + counters.writes;
  load.nanoseconds = counters.read_nanoseconds + counters.write_nanoseconds;
  load.throttled_nanoseconds = counters.throttled_nanoseconds;
  return load;
}

bool is_held_up(const ClientLoad& before, const ClientLoad& now, bool limited) {
  const std::uint64_t requests = now.requests - before.requests;
  if (requests == 0) return false;
  if (!limited) return true;
  const std::uint64_t throttled = now.throttled_nanoseconds - before.throttled_nanoseconds;
  const std::uint64_t all = now.nanoseconds - before.nanoseconds;
  const std::uint64_t service = all - std::min(all, throttled);
  if (throttled > service) return false;
  return service / requests > kServiceMax;
}

Task<void> ControlledPace::spent(std::uint64_t bytes) {
  control_.spent += bytes;
  told_(bytes);
  // Time not used is lost: no burst follows a pause.
  may_go_on_ = std::max(may_go_on_, ring_.now());
  double left = static_cast<double>(bytes);
  // In short steps, so that a change of the rate takes effect at once.
  while (left > 0 && !control_.stop && !control_.hurry) {
    const auto rate = static_cast<double>(control_.rate.load());
    if (rate == 0) break;
    const double step = std::chrono::duration<double>(kPaceStep).count();
    const double share = std::min(left, rate * step);
    left -= share;
    may_go_on_ += std::chrono::duration_cast<Duration>(std::chrono::duration<double>(share / rate));
    if (may_go_on_ > ring_.now()) co_await ring_.sleep_until(may_go_on_);
  }
}

}  // namespace clouddisk
