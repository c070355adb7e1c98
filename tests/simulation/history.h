// history.h: one history in a process of its own: what it leaves behind goes with it, and a CHECK
// that fails or a loop that never ends is reported like any other failure.
#pragma once

#include "tests/simulation/options.h"

namespace clouddisk::simulation {

struct Report {
  bool failed = false;
  std::uint64_t step = 0;
  std::uint64_t lives = 0;
  std::uint64_t requests = 0;
  std::uint64_t digest = 0;
  double cpu_seconds = 0;
};

// `quiet`: says nothing of a failure. Otherwise it prints what is wrong, the last actions and the
// command that replays them.
Report run_history(const Options& options, bool quiet = false);

// A smaller one that fails too: fewer steps, faults, kinds of actions, disks, requests at once.
Options make_smaller(Options options);

}  // namespace clouddisk::simulation
