// load: puts the real daemon under load and says whether it holds what docs/load.md promises.
//
//   load --quick            what the suite runs: every scenario, small
//   load [--only NAME]      the full size: connections, disks, stalled, greedy, actions
//   load --soak 1h          everything at once, every read verified; figures at the end
#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <map>

#include "tests/load/scenarios.h"
#include "tests/load/soak.h"
#include "tools/net/quantity.h"

int main(int argc, char** argv) {
  using namespace clouddisk;
  CLI::App app("Load, limits and soak of the real daemon; see docs/load.md", "load");
  bool quick = false;
  std::string only, soak;
  std::uint64_t seed = static_cast<std::uint64_t>(std::time(nullptr));
  const std::map<std::string, void (*)(load::Report&, const load::Scale&)> scenarios = {
      {"connections", load::connections_scenario},
      {"disks", load::disks_scenario},
      {"stalled", load::stalled_scenario},
      {"greedy", load::greedy_scenario},
      {"actions", load::actions_scenario}};
  app.add_flag("--quick", quick, "Every scenario at a size for the test suite");
  app.add_option("--only", only, "One scenario: connections, disks, stalled, greedy or actions")
      ->check(CLI::IsMember(scenarios));
  app.add_option("--soak", soak, "Everything at once for so long, as in 1h or 20m");
  app.add_option("--seed", seed, "Of the soak's draws; default: the time, printed");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  load::Report report;
  if (!soak.empty()) {
    const auto duration = parse_duration(soak);
    if (!duration) {
      std::fprintf(stderr, "load: --soak: %s\n", duration.error().message.c_str());
      return 2;
    }
    load::soak(report, *duration, seed);
  } else {
    for (const auto& [name, scenario] : scenarios) {
      if (only.empty() || only == name) scenario(report, quick ? load::kQuick : load::kFull);
    }
  }
  const bool held = report.all_held() && !testing::Test::HasFailure();  // TestDaemon's
  std::printf("\n%s\n", held ? "everything held" : "BROKEN: see above");
  return held ? 0 : 1;
}
