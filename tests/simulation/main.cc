// simulation: histories of the engine on a simulated machine, each from one seed. docs/testing.md.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <random>

#include "engine/base/log.h"
#include "tests/simulation/history.h"

namespace {

using namespace clouddisk;
using namespace clouddisk::simulation;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void print_summary(const Report& total, std::uint64_t histories, double seconds) {
  const auto requests = static_cast<double>(total.requests);
  fmt::print(
      "{} histories, {} operations in {:.1f} s: {:.0f} a second, {:.0f} a second of processor\n",
      histories, total.requests, seconds, requests / seconds, requests / total.cpu_seconds);
}

int run_one(const Options& options, bool minimise) {
  const auto begin = Clock::now();
  const Report report = HistoryProcess().run(options);
  fmt::print("seed {}: {} steps, {} lives, {} operations, digest {:016x}\n", options.seed,
             report.step, report.lives, report.requests, report.digest);
  print_summary(report, 1, seconds_since(begin));
  if (!report.failed) return 0;
  if (minimise) {
    const Options smaller = make_smaller(options);
    fmt::print("smaller: {}\n", command_of(smaller));
  }
  return 1;
}

int run_many(Options options, std::uint64_t seconds, bool minimise) {
  const auto begin = Clock::now();
  std::random_device device;
  Report total;
  std::uint64_t histories = 0;
  HistoryProcess process;
  while (seconds_since(begin) < static_cast<double>(seconds)) {
    options.seed = device();
    const Report report = process.run(options);
    ++histories;
    total.requests += report.requests;
    total.cpu_seconds += report.cpu_seconds;
    fmt::print("seed {}: {} steps, {} lives, {} operations, digest {:016x}\n", options.seed,
               report.step, report.lives, report.requests, report.digest);
    std::fflush(stdout);
    if (!report.failed) continue;
    if (minimise) fmt::print("smaller: {}\n", command_of(make_smaller(options)));
    print_summary(total, histories, seconds_since(begin));
    return 1;
  }
  print_summary(total, histories, seconds_since(begin));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Runs the real engine on a simulated machine with faults, and compares every byte");
  Options options;
  std::string faults = "all";
  std::string actions = "all";
  std::string variant = "none";
  std::uint64_t seconds = 0;
  bool minimise = false;
  bool list_variants = false;
  bool verbose = false;
  bool must_fail = false;
  bool twice = false;
  auto* seed =
      app.add_option("--seed", options.seed, "Decides everything; random and printed without");
  app.add_option("--steps", options.steps, "Requests of clients in one history")
      ->capture_default_str();
  app.add_option("--faults", faults, "none, all, or names with commas")->capture_default_str();
  app.add_option("--actions", actions, "none, all, or names with commas")->capture_default_str();
  app.add_option("--disks", options.disks, "Disks at once, at most")
      ->check(CLI::Range(1U, 16U))
      ->capture_default_str();
  app.add_option("--depth", options.depth, "Requests at once, at most")
      ->check(CLI::Range(1U, 256U))
      ->capture_default_str();
  app.add_option("--variant", variant, "A way in which the engine is broken on purpose");
  app.add_option("--seconds", seconds, "Histories with new seeds, which are printed, for so long");
  app.add_flag("--minimise", minimise, "Look for a smaller history that fails as well");
  app.add_flag("--must-fail", must_fail, "Succeed if the history fails: for the broken variants");
  app.add_flag("--twice", twice, "Run it twice; fail if the two differ in anything");
  app.add_flag("--list-variants", list_variants, "Print the broken variants");
  app.add_flag("--trace", options.trace, "Print every action on standard error");
  app.add_flag("--log", verbose, "Print what the engine logs");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  set_log_level(verbose ? LogLevel::kInfo : LogLevel::kOff);
  if (list_variants) {
    for (std::size_t i = 1; i < static_cast<std::size_t>(Variant::kCount); ++i) {
      fmt::print("{:26}{}\n", name(static_cast<Variant>(i)), meaning(static_cast<Variant>(i)));
    }
    return 0;
  }
  const auto parsed_faults = parse_faults(faults);
  const auto parsed_actions = parse_actions(actions);
  const auto parsed_variant = parse_variant(variant);
  for (const Error* error : {parsed_faults ? nullptr : &parsed_faults.error(),
                             parsed_actions ? nullptr : &parsed_actions.error(),
                             parsed_variant ? nullptr : &parsed_variant.error()}) {
    if (error == nullptr) continue;
    fmt::print(stderr, "error: {}\n", error->message);
    return 2;
  }
  options.faults = *parsed_faults;
  options.actions = *parsed_actions;
  options.variant = *parsed_variant;
  if (seconds > 0) return run_many(options, seconds, minimise);
  if (seed->count() == 0) options.seed = std::random_device()();
  if (must_fail) {
    const Report report = HistoryProcess(true).run(options);
    fmt::print("{}: {}\n", report.failed ? "caught" : "NOT CAUGHT", command_of(options));
    return report.failed ? 0 : 1;
  }
  if (twice) {
    // In a new process, and in one that has lived through another one before.
    HistoryProcess process;
    const Report first = process.run(options);
    Options other = options;
    ++other.seed;
    process.run(other);
    const Report second = process.run(options);
    fmt::print("digests {:016x} and {:016x}\n", first.digest, second.digest);
    return first.failed || second.failed || first.digest != second.digest ? 1 : 0;
  }
  return run_one(options, minimise);
}
