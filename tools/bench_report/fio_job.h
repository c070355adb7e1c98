// fio_job.h: one run of fio, as a command line. Pure.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "tools/bench_report/plan.h"

namespace clouddisk::bench {

struct FioJob {
  // One of these: an NBD URI, or a file or block device with direct I/O.
  std::string uri;
  std::string file;
  Workload workload;
  std::uint64_t region_bytes = 0;  // at the beginning of the disk; all that is touched
  // Zero: once over the region.
  std::chrono::milliseconds length{0};
  std::string output_path;  // of the JSON
  // "DIR/run": logs are DIR/run_lat.1.log, … one a connection; empty: none.
  std::string log_prefix;
  // A line for each request; else rates of every 100 ms, for runs too fast to note each.
  bool log_each_request = true;
};

// Runs that make more requests than this log rates: some 100 MB of memory in fio.
inline constexpr double kLoggedRequestsMax = 2'000'000;

std::vector<std::string> fio_command(const FioJob& job);
// The logs that such a run leaves.
std::vector<std::string> fio_logs(const FioJob& job);

}  // namespace clouddisk::bench
