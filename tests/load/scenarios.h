// scenarios.h: many connections, many disks, clients that stall, clients that want everything: each
// on the real daemon, with figures and claims.
#pragma once

#include "tests/load/measure.h"
#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::load {

// How large; the suite runs the small ones.
struct Scale {
  unsigned connections;    // of connections_scenario
  unsigned disks;          // of disks_scenario
  unsigned stalled_each;   // clients stalled in each state
  double stalled_seconds;  // how long the others are watched beside them
  unsigned greedy;         // connections that each want `greedy_depth` times 32 MiB
  unsigned greedy_depth;
  double greedy_seconds;
  unsigned action_clients;  // of the action API, on TCP
  double action_seconds;
  bool claims_times;  // of actions: the suite's machine may be busy with anything
};
inline constexpr Scale kFull = {1000, 500, 40, 14, 100, 64, 20, 64, 20, true};
inline constexpr Scale kQuick = {100, 6, 4, 0.8, 6, 16, 0.8, 2, 0.5, false};

// The bound that docs/load.md states, for this many connections and reactors.
std::uint64_t memory_bound(unsigned reactors, unsigned connections);

void connections_scenario(Report& report, const Scale& scale);
void disks_scenario(Report& report, const Scale& scale);
void stalled_scenario(Report& report, const Scale& scale);
void greedy_scenario(Report& report, const Scale& scale);
void actions_scenario(Report& report, const Scale& scale);

}  // namespace clouddisk::load
