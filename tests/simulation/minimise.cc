// minimise.cc: from a history that fails to a small one that does. Leaving something out changes
// all that follows, so each attempt tries the seed and a few more.
#include "tests/simulation/history.h"

namespace clouddisk::simulation {
namespace {

constexpr std::uint64_t kSeedsTried = 6;

bool fails(HistoryProcess& histories, Options& options) {
  for (std::uint64_t i = 0; i < kSeedsTried; ++i) {
    Options attempt = options;
    attempt.seed = options.seed + i;
    const Report report = histories.run(attempt);
    if (!report.failed) continue;
    // Without a step it died of a CHECK: it takes as many as it took.
    if (report.step > 0 && report.step < attempt.steps) attempt.steps = report.step;
    options = attempt;
    return true;
  }
  return false;
}

}  // namespace

Options make_smaller(Options options) {
  HistoryProcess histories(true);
  const auto attempt = [&options, &histories](Options smaller) {
    if (!fails(histories, smaller)) return false;
    options = smaller;
    return true;
  };
  for (std::size_t i = 0; i < static_cast<std::size_t>(Fault::kCount); ++i) {
    const auto fault = static_cast<Fault>(i);
    if (!options.faults.has(fault)) continue;
    Options smaller = options;
    smaller.faults.remove(fault);
    attempt(smaller);
  }
  for (std::size_t i = 1; i < static_cast<std::size_t>(Action::kCount); ++i) {
    const auto action = static_cast<Action>(i);
    if (!options.actions.has(action)) continue;
    Options smaller = options;
    smaller.actions.remove(action);
    attempt(smaller);
  }
  while (options.disks > 1) {
    Options smaller = options;
    --smaller.disks;
    if (!attempt(smaller)) break;
  }
  while (options.depth > 1) {
    Options smaller = options;
    smaller.depth /= 2;
    if (!attempt(smaller)) break;
  }
  while (options.steps > 16) {
    Options smaller = options;
    smaller.steps = options.steps * 3 / 4;
    if (!attempt(smaller)) break;
  }
  return options;
}

}  // namespace clouddisk::simulation
