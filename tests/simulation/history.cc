#include "tests/simulation/history.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <type_traits>
#include <utility>

#include "tests/simulation/world.h"

namespace clouddisk::simulation {
namespace {

constexpr unsigned kProcessorSecondsMax = 300;  // of one history: it goes round in circles
constexpr unsigned kSecondsMax = 3600;          // it says nothing, not even that
constexpr std::uint64_t kResidentMax = 2_GiB;

static_assert(std::is_trivially_copyable_v<Options> && std::is_trivially_copyable_v<Report>);

World* running = nullptr;
bool silent = false;
bool one_is_alive = false;
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

// Whether there is something, or the end, within so long.
bool is_ready(int pipe, unsigned seconds) {
  pollfd wait{pipe, POLLIN, 0};
  return ::poll(&wait, 1, static_cast<int>(seconds * 1000)) > 0;
}

// False: the other end is gone.
bool receive(int pipe, void* into, std::size_t size) {
  for (auto* at = static_cast<char*>(into); size > 0;) {
    const ssize_t count = ::read(pipe, at, size);
    if (count <= 0) return false;
    at += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

// Less than PIPE_BUF: at once, or not at all since the other end is gone.
bool send(int pipe, const void* from, std::size_t size) {
  return ::write(pipe, from, size) == static_cast<ssize_t>(size);
}

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

std::uint64_t resident_bytes() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void print_counts(const Outcome& outcome) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(Action::kCount); ++i) {
    fmt::print(stderr, "{}={} ", name(static_cast<Action>(i)), outcome.counts[i]);
  }
  fmt::print(stderr, "\n");
}

// Of processor time, of which a process that is stopped or starved takes none.
void set_limit(unsigned seconds) {
  itimerval limit{};
  limit.it_value.tv_sec = seconds;
  setitimer(ITIMER_PROF, &limit, nullptr);
}

Report live(const Options& options) {
  running_options = options;
  const double cpu_before = cpu_seconds();
  set_limit(kProcessorSecondsMax);
  auto world = std::make_unique<World>(options);
  running = world.get();
  const Outcome outcome = world->run();
  Report report;
  report.failed = outcome.failure.has_value();
  report.step = outcome.step;
  report.lives = outcome.lives;
  report.requests = outcome.requests;
  report.digest = outcome.digest;
  if (outcome.failure && !silent) {
    fmt::print(stderr, "{}\nthe last actions:\n", *outcome.failure);
    world->print_last(stderr);
    print_replay(outcome.step);
  }
  if (std::getenv("SIMULATION_COUNTS") != nullptr && !silent) print_counts(outcome);
  // What a history that failed left behind is buried with the process.
  if (outcome.failure) static_cast<void>(world.release());
  world.reset();
  running = nullptr;
  set_limit(0);
  report.cpu_seconds = cpu_seconds() - cpu_before;
  report.last = report.failed || resident_bytes() > kResidentMax;
  std::fflush(stderr);
  return report;
}

[[noreturn]] void be_child(int wishes, int reports, bool quiet) {
  // Memory that was given back is used again, instead of being taken from the kernel page by page.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
  silent = quiet;
  if (quiet) static_cast<void>(std::freopen("/dev/null", "w", stderr));
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGPROF})
    std::signal(signal, on_death);
  Options options;
  while (receive(wishes, &options, sizeof options)) {
    const Report report = live(options);
    if (!send(reports, &report, sizeof report) || report.last) break;
  }
  _exit(0);
}

}  // namespace

void HistoryProcess::start() {
  // Another one's child would keep the ends of this one's pipes open.
  CHECK(!std::exchange(one_is_alive, true));
  std::signal(SIGPIPE, SIG_IGN);
  int wishes[2];
  int reports[2];
  CHECK(::pipe2(wishes, O_CLOEXEC) == 0 && ::pipe2(reports, O_CLOEXEC) == 0);
  std::fflush(stdout);
  std::fflush(stderr);
  child_ = ::fork();
  CHECK(child_ >= 0);
  if (child_ == 0) {
    ::close(wishes[1]);
    ::close(reports[0]);
    be_child(wishes[0], reports[1], quiet_);
  }
  ::close(wishes[0]);
  ::close(reports[1]);
  wishes_ = wishes[1];
  reports_ = reports[0];
}

void HistoryProcess::end() {
  if (child_ < 0) return;
  ::close(wishes_);
  ::close(reports_);
  CHECK(::waitpid(child_, nullptr, 0) == child_);
  child_ = -1;
  one_is_alive = false;
}

Report HistoryProcess::run(const Options& options) {
  if (child_ < 0) start();
  Report report;
  const bool asked = send(wishes_, &options, sizeof options);
  if (asked && !is_ready(reports_, kSecondsMax)) ::kill(child_, SIGKILL);
  if (!asked || !receive(reports_, &report, sizeof report)) {
    report = {};
    report.failed = report.last = true;
  }
  if (report.last) end();
  return report;
}

}  // namespace clouddisk::simulation
