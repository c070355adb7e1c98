// soak.h: everything at once for as long as asked: clients that verify every read, snapshots,
// deletions, rollbacks, clones, faults at one replica, one replica lost and back, scrubs where the
// program has them; a kill at the end. Fails on any difference, and on memory that grows.
#pragma once

#include "engine/base/units.h"
#include "tests/load/measure.h"

namespace clouddisk::load {

void soak(Report& report, Duration duration, std::uint64_t seed);

}  // namespace clouddisk::load
