// process.h: running other programs. Blocking; one caller at a time.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/clouddisk/outcome.h"

namespace clouddisk::cli {

struct ProgramResult {
  int exit_status = 0;  // 128 + signal when a signal ended it
  std::string output;   // stdout
  std::string errors;   // stderr
  bool ok() const { return exit_status == 0; }
  // What it said, on one line, for an error message.
  std::string complaint() const;
};

// Searches PATH and the sbin folders, which an ordinary user's PATH lacks. Empty: not there.
std::string find_program(const std::string& name);

// Runs a program to its end, without input. Fails when it can't be started or outlives `timeout`
// (it is killed then).
Outcome<ProgramResult> run_program(const std::vector<std::string>& command,
                                   std::chrono::seconds timeout = std::chrono::seconds(60));

// Keeps SIGINT, SIGTERM and SIGHUP from ending this process while it exists: work that was begun
// can be undone first. One at a time, made before any thread.
class HoldInterrupts {
 public:
  HoldInterrupts();
  ~HoldInterrupts();
  HoldInterrupts(const HoldInterrupts&) = delete;
  HoldInterrupts& operator=(const HoldInterrupts&) = delete;
  // Readable when one arrived.
  int fd() const { return fd_; }

 private:
  sigset_t before_;
  int fd_ = -1;
};

// Runs a program that takes long: what it prints is passed on as it comes, and an interrupt ends it
// (Failure "Interrupted").
Outcome<ProgramResult> run_long_program(const std::vector<std::string>& command,
                                        const HoldInterrupts& interrupts,
                                        const std::function<void(std::string_view)>& on_output);

// Starts a program that stays: a session of its own, output appended to `log_path`, no input, no
// descriptors of ours.
Outcome<pid_t> start_program(const std::vector<std::string>& command, const std::string& log_path);

// Whether a child has ended (it is reaped then).
bool child_ended(pid_t child);

}  // namespace clouddisk::cli
