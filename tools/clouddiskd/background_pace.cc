#include "tools/clouddiskd/background_pace.h"

#include <algorithm>

namespace clouddisk {
namespace {

// A request that the devices take longer for is held up. Twice what the slowest of the fast
// categories names as its own; what waits for the limit first is not counted.
constexpr std::uint64_t kServiceMax = 2'000'000;  // ns

// Of a piece of work; one that took longer than this waited for something else than the devices.
constexpr Duration kPieceMax = std::chrono::milliseconds(500);

}  // namespace

ClientLoad load_of(const DeviceCounters& counters) {
  ClientLoad load;
  load.requests = counters.reads + counters.writes;
  load.nanoseconds = counters.read_nanoseconds + counters.write_nanoseconds;
  load.throttled_nanoseconds = counters.throttled_nanoseconds + counters.emulated_nanoseconds;
  return load;
}

ClientStrain strain_of(const ClientLoad& before, const ClientLoad& now, bool limited) {
  const std::uint64_t requests = now.requests - before.requests;
  if (requests == 0) return {};
  if (!limited) return {.busy = true};
  const std::uint64_t throttled = now.throttled_nanoseconds - before.throttled_nanoseconds;
  const std::uint64_t all = now.nanoseconds - before.nanoseconds;
  const std::uint64_t service = all - std::min(all, throttled);
  if (throttled > service) return {};
  return {.held_up = service / requests > kServiceMax};
}

Task<void> ControlledPace::spent(std::uint64_t bytes) {
  control_.spent += bytes;
  told_(bytes);
  // Time not used is lost: no burst follows a pause.
  may_go_on_ = std::max(may_go_on_, ring_.now());
  const unsigned share = std::clamp(control_.share.load(), 1U, WorkControl::kWhole);
  const Duration worked = std::min<Duration>(ring_.now() - went_on_, kPieceMax);
  const TimePoint share_up =
      ring_.now() + worked * (WorkControl::kWhole - share) / std::int64_t{share};
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
  if (share_up > ring_.now() && !control_.stop && !control_.hurry) {
    co_await ring_.sleep_until(share_up);
  }
  went_on_ = ring_.now();
}

}  // namespace clouddisk
