// pace.h: how fast background work on a disk goes: captures, repacking, hydration. At full speed
// while no client asks anything of the disk, and step by step slower, down to a least rate, while
// clients do: what the disk's limits promise them comes first, and the work still ends.
//
// Plain functions of what was seen; the caller sleeps. Not thread-safe.
#pragma once

#include <cstdint>

#include "engine/base/units.h"

namespace clouddisk::snapshot {

struct PaceLimits {
  std::uint64_t least = 32_MiB;  // bytes a second beside the busiest clients
  std::uint64_t most = 4_GiB;    // with nobody else there
};

// The rate after a step of work, from the rate before it and from whether clients asked for
// something meanwhile. Halves and doubles: a lone request costs a step, a steady load leads to the
// least rate within a few.
std::uint64_t next_rate(std::uint64_t rate, bool clients_active, const PaceLimits& limits);

class Pace {
 public:
  explicit Pace(PaceLimits limits) : limits_(limits), rate_(limits.most) {}

  // Books a step of `bytes` that is done and returns when the next may begin; at `now`: at once.
  // `client_requests` counts what clients have asked for so far.
  TimePoint book(std::uint64_t bytes, std::uint64_t client_requests, TimePoint now);
  std::uint64_t rate() const { return rate_; }

 private:
  PaceLimits limits_;
  std::uint64_t rate_;
  std::uint64_t seen_requests_ = 0;
  TimePoint may_go_on_{};
};

}  // namespace clouddisk::snapshot
