// phase.h: what the clients of one phase have in common.
#pragma once

#include "engine/ring/sync.h"
#include "tests/simulation/world.h"

namespace clouddisk::simulation {

enum class Pattern : std::uint8_t { kUniform, kSkewed, kSequential, kOverlapping };

struct World::Phase {
  explicit Phase(Ring& ring) : group(ring) {}
  WaitGroup group;
  std::uint64_t left = 0;  // requests
  Pattern pattern = Pattern::kUniform;
  std::uint64_t hot = 0;    // where the skewed and the overlapping ones meet
  std::uint64_t reads = 0;  // in a hundred
};

}  // namespace clouddisk::simulation
