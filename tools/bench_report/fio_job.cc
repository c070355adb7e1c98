#include "tools/bench_report/fio_job.h"

#include <fmt/format.h>

namespace clouddisk::bench {
namespace {

std::string_view access_word(Access access) {
  switch (access) {
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
    case Access::kRandomRead:
      return "randread";
    case Access::kRandomWrite:
      return "randwrite";
    case Access::kRandomMix:
      return "randrw";
  }
  return "";
}

// fio reads a ':' in a file name as the next file's beginning.
std::string escaped(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::vector<std::string> fio_command(const FioJob& job) {
  const Workload& workload = job.workload;
  std::vector<std::string> command = {"fio", "--name=bench", "--thread"};
  const auto add = [&command]<class Value>(std::string_view option, const Value& value) {
    command.push_back(fmt::format("--{}={}", option, value));
  };
  if (!job.uri.empty()) {
    add("ioengine", "nbd");
    add("uri", job.uri);
  } else {
    add("ioengine", "io_uring");
    add("filename", escaped(job.file));
    add("direct", 1);
  }
  add("rw", access_word(workload.access));
  if (workload.access == Access::kRandomMix) add("rwmixread", 70);
  add("bs", workload.block_bytes);
  add("iodepth", workload.depth / workload.connections);
  add("numjobs", workload.connections);
  if (workload.iops_max != 0) add("rate_iops", workload.iops_max);
  add("size", job.region_bytes);
  // Content that no storage can shorten, and another order each time.
  add("refill_buffers", 1);
  add("randrepeat", 0);
  add("norandommap", 1);
  if (job.length.count() != 0) {
    add("time_based", 1);
    add("runtime", fmt::format("{}ms", job.length.count()));
  }
  add("group_reporting", 1);
  add("percentile_list", "50:90:99:99.9:99.99");
  add("output-format", "json");
  add("output", job.output_path);
  if (!job.log_prefix.empty()) {
    add("log_unix_epoch", 1);
    add(job.log_each_request ? "write_lat_log" : "write_iops_log", job.log_prefix);
    if (!job.log_each_request) add("log_avg_msec", 100);
    add("disable_slat", 1);
  }
  return command;
}

std::vector<std::string> fio_logs(const FioJob& job) {
  std::vector<std::string> logs;
  if (job.log_prefix.empty()) return logs;
  for (unsigned i = 1; i <= job.workload.connections; ++i) {
    logs.push_back(
        fmt::format("{}_{}.{}.log", job.log_prefix, job.log_each_request ? "lat" : "iops", i));
  }
  return logs;
}

}  // namespace clouddisk::bench
