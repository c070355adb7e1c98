// history.h: histories in a process of their own: what they leave behind goes with it, and a CHECK
// that fails or a loop that never ends is reported like any other failure.
#pragma once

#include <sys/types.h>

#include "tests/simulation/options.h"

namespace clouddisk::simulation {

struct Report {
  bool failed = false;
  bool last = false;  // the process ends
  std::uint64_t step = 0;
  std::uint64_t lives = 0;
  std::uint64_t requests = 0;
  std::uint64_t digest = 0;
  double cpu_seconds = 0;
};

// Lives through one history after another, in the memory of those before: for the kernel to clear
// new memory takes a third of the time of a history. A new process takes its place when one has
// failed or left much behind (what a process that died had on its stack and heap is kept). One at a
// time has a process.
class HistoryProcess {
 public:
  // `quiet`: says nothing of a failure. Otherwise it prints what is wrong, the last actions and the
  // command that replays them.
  explicit HistoryProcess(bool quiet = false) : quiet_(quiet) {}
  HistoryProcess(const HistoryProcess&) = delete;
  HistoryProcess& operator=(const HistoryProcess&) = delete;
  ~HistoryProcess() { end(); }

  Report run(const Options& options);

 private:
  void start();
  void end();

  bool quiet_;
  pid_t child_ = -1;
  int wishes_ = -1;   // Options to it
  int reports_ = -1;  // Report from it
};

// A smaller one that fails too: fewer steps, faults, kinds of actions, disks, requests at once.
Options make_smaller(Options options);

}  // namespace clouddisk::simulation
