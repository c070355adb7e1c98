// measure.h: what a run of the load program looks at: the daemon's process from outside, latencies
// of a client, and claims that hold or do not.
#pragma once

#include <fmt/format.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace clouddisk::load {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The daemon's process, from /proc.
struct ProcessSample {
  double at_seconds = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t descriptors = 0;  // files, which are kept open up to a bound, and sockets
  std::uint64_t sockets = 0;      // of them
  std::uint64_t threads = 0;
  std::uint64_t stored_bytes = 0;  // of a folder, if one was asked for
};
ProcessSample sample_process(pid_t process);
std::uint64_t folder_bytes(const std::string& folder);  // allocated, not apparent

// Least squares, a second; 0 with fewer than two samples.
double slope(const std::vector<ProcessSample>& samples, std::uint64_t ProcessSample::*member);

struct Latencies {
  std::vector<double> seconds;
  double total_seconds = 0;
  std::uint64_t failed = 0;

  double percentile(double percent);  // sorts; 0 without samples
  double per_second() const {
    return total_seconds > 0 ? static_cast<double>(seconds.size()) / total_seconds : 0;
  }
  std::string text();
};

// Prints figures as they come, and remembers whether everything held. Any thread.
class Report {
 public:
  void heading(const std::string& text);
  void figure(const std::string& name, const std::string& value);
  // Prints what was claimed; a claim that does not hold fails the run.
  bool claim(bool holds, const std::string& text);
  bool all_held() const { return broken_ == 0; }

 private:
  std::mutex mutex_;
  unsigned broken_ = 0;
};

inline std::string mib(std::uint64_t bytes) {
  return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace clouddisk::load
