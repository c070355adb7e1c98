// engine_host_pace.cc: how fast resync and scrub go, looked at ten times a second while one of them
// is under way.
#include <algorithm>

#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kResyncLeast = 32_MiB;
constexpr std::uint64_t kScrubLeast = 8_MiB;

snapshot::PaceLimits limits_for_rate(std::uint64_t least, std::uint64_t most) {
  snapshot::PaceLimits limits;
  if (most != 0) limits.most = most;
  limits.least = std::min(least, limits.most);
  return limits;
}

}  // namespace

void EngineHost::pace_background() {
  if (watching_) return;
  watching_ = true;
  background_.add();
  spawn(watch_clients());
}

Task<void> EngineHost::watch_clients() {
  loads_.clear();
  resync_work_.rate =
      std::min(kResyncLeast, limits_for_rate(0, options_.resync_bytes_per_second).most);
  scrub_work_.rate = std::min(kScrubLeast, limits_for_rate(0, scrub_most_).most);
  while (!stopping_ && (resync_under_way_ || scrub_running_)) {
    const ClientStrain strain = co_await strain_of_clients();
    // A copy is missing, or only looked at: so resync takes its half beside clients whom nothing is
    // promised, and scrub what they leave.
    resync_work_.share = strain.busy ? WorkControl::kHalf : WorkControl::kWhole;
    resync_work_.rate =
        snapshot::next_rate(resync_work_.rate, strain.held_up,
                            limits_for_rate(kResyncLeast, options_.resync_bytes_per_second));
    scrub_work_.rate = snapshot::next_rate(scrub_work_.rate, strain.held_up || strain.busy,
                                           limits_for_rate(kScrubLeast, scrub_most_));
    // Whoever waits for a disk that is worked on gets it: scrub ends its segment without pauses,
    // resync stops and comes back.
    scrub_work_.hurry = !scrub_lock_.empty() && lock_of(scrub_lock_).awaited();
    if (!resync_lock_.empty() && lock_of(resync_lock_).awaited()) resync_work_.stop = true;
    // One that fell out gets nothing more of it.
    if (resync_under_way_ && !still_joins(resync_under_way_->replica, resync_under_way_->join)) {
      resync_work_.stop = true;
    }
    const bool woken = co_await stopped_.wait_until(control_.now() + kPaceStep);
    static_cast<void>(woken);
  }
  watching_ = false;
  background_.done();
}

Task<ClientStrain> EngineHost::strain_of_clients() {
  ClientStrain strain;
  std::vector<std::string> ids;
  for (const auto& [id, served] : served_) ids.push_back(id);
  for (const std::string& id : ids) {
    const auto it = served_.find(id);
    if (it == served_.end()) continue;
    std::shared_ptr<LimitedDevice> device = it->second.device;
    std::shared_ptr<Disk> disk = it->second.disk;
    const bool limited = limits_of(it->second.settings) != DiskLimits{};
    Ring& ring = past_of(id).reactor->ring();
    co_await ring.enter();
    const ClientLoad load = load_of(device->counters());
    device.reset();  // Maybe the last: they die where they lived.
    disk.reset();
    co_await control_.enter();
    const auto before = loads_.find(id);
    // A disk that was opened anew counts from nothing.
    if (before != loads_.end() && before->second.requests <= load.requests) {
      strain += strain_of(before->second, load, limited);
    }
    loads_[id] = load;
  }
  co_return strain;
}

}  // namespace clouddisk
