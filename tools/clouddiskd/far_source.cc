#include "tools/clouddiskd/far_source.h"

#include <algorithm>

namespace clouddisk {

void StoreEmulation::set(StoreSettings settings) {
  settings_ = settings;
  ++changes_;
  free_at_ = ring_.now();
  changed_.wake_all();
}

Task<void> StoreEmulation::travel(std::uint64_t bytes) {
  TimePoint due = ring_.now();
  if (settings_.bytes_per_second > 0) {
    const double seconds =
        static_cast<double>(bytes) / static_cast<double>(settings_.bytes_per_second);
    free_at_ = std::max(free_at_, due) +
               std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    due = free_at_;
  }
  due += settings_.latency;
  const std::uint64_t changes = changes_;
  while (changes == changes_ && ring_.now() < due) {
    const bool woken = co_await changed_.wait_until(due);
    static_cast<void>(woken);
  }
}

}  // namespace clouddisk
