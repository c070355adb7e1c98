#include "tests/simulation/history.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tests/simulation/world.h"

namespace clouddisk::simulation {
namespace {

constexpr unsigned kSecondsMax = 300;  // of one history: beyond it hangs

World* running = nullptr;
bool silent = false;
Options running_options;

void print_replay(std::uint64_t step) {
  fmt::print(stderr, "FAILED seed {} at step {}; replay: {}\n", running_options.seed, step,
             command_of(running_options));
}

// Of a CHECK, or of memory that is none. Nothing goes on after it, so this may print.
void on_death(int signal) {
  if (running != nullptr && !silent) {
    fmt::print(stderr, "the process ended with signal {}; the last actions:\n", signal);
    running->print_last(stderr);
    print_replay(running->steps());
    std::fflush(stderr);
  }
  _exit(3);
}

void be_child(const Options& options, bool quiet, Report& shared) {
  // Memory that was given back is used again, instead of being taken from the kernel page by page.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
  silent = quiet;
  running_options = options;
  if (quiet) {
    static_cast<void>(std::freopen("/dev/null", "w", stderr));
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM})
    std::signal(signal, on_death);
  alarm(kSecondsMax);
  auto* world = new World(options);  // Buried with the process.
  running = world;
  const Outcome outcome = world->run();
  shared.step = outcome.step;
  shared.lives = outcome.lives;
  shared.requests = outcome.requests;
  shared.digest = outcome.digest;
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  shared.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
  shared.failed = outcome.failure.has_value();
  if (outcome.failure && !quiet) {
    fmt::print(stderr, "{}\nthe last actions:\n", *outcome.failure);
    world->print_last(stderr);
    print_replay(outcome.step);
  }
  if (std::getenv("SIMULATION_COUNTS") != nullptr && !quiet) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(Action::kCount); ++i) {
      fmt::print(stderr, "{}={} ", name(static_cast<Action>(i)), outcome.counts[i]);
    }
    fmt::print(stderr, "\n");
  }
  std::fflush(stderr);
  _exit(outcome.failure ? 1 : 0);
}

}  // namespace

Report run_history(const Options& options, bool quiet) {
  void* memory =
      mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  auto* shared = new (memory) Report;
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) be_child(options, quiet, *shared);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  Report report = *shared;
  report.failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  munmap(memory, sizeof(Report));
  return report;
}

}  // namespace clouddisk::simulation
