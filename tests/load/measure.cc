#include "tests/load/measure.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace clouddisk::load {

namespace fs = std::filesystem;

ProcessSample sample_process(pid_t process) {
  ProcessSample sample;
  const std::string proc = fmt::format("/proc/{}", process);
  std::ifstream status(proc + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) sample.resident_bytes = std::stoull(line.substr(6)) << 10;
    if (line.starts_with("Threads:")) sample.threads = std::stoull(line.substr(8));
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(proc + "/fd", error)) {
    ++sample.descriptors;
    std::error_code gone;
    const std::string target = fs::read_symlink(entry.path(), gone).string();
    sample.sockets += target.starts_with("socket:") ? 1 : 0;
  }
  return sample;
}

std::uint64_t folder_bytes(const std::string& folder) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error);
       it != fs::recursive_directory_iterator(); it.increment(error)) {
    struct stat info {};
    // Files come and go meanwhile.
    if (::lstat(it->path().c_str(), &info) == 0) {
      bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
    }
    if (error) break;
  }
  return bytes;
}

double slope(const std::vector<ProcessSample>& samples, std::uint64_t ProcessSample::*member) {
  const auto count = static_cast<double>(samples.size());
  double x = 0, y = 0, xx = 0, xy = 0;
  for (const ProcessSample& sample : samples) {
    const double at = sample.at_seconds;
    const auto value = static_cast<double>(sample.*member);
    x += at;
    y += value;
    xx += at * at;
    xy += at * value;
  }
  const double spread = count * xx - x * x;
  return spread > 0 ? (count * xy - x * y) / spread : 0;
}

double Latencies::percentile(double percent) {
  if (seconds.empty()) return 0;
  std::sort(seconds.begin(), seconds.end());
  const auto last = static_cast<double>(seconds.size() - 1);
  return seconds[static_cast<std::size_t>(last * percent / 100)];
}

std::string Latencies::text() {
  return fmt::format("{:.0f}/s, p50 {:.2f} ms, p99 {:.1f} ms, longest {:.0f} ms", per_second(),
                     percentile(50) * 1e3, percentile(99) * 1e3, percentile(100) * 1e3);
}

void Report::heading(const std::string& text) {
  const std::lock_guard lock(mutex_);
  std::printf("\n%s\n", text.c_str());
  std::fflush(stdout);
}

void Report::figure(const std::string& name, const std::string& value) {
  const std::lock_guard lock(mutex_);
  std::printf("  %-44s %s\n", name.c_str(), value.c_str());
  std::fflush(stdout);
}

bool Report::claim(bool holds, const std::string& text) {
  const std::lock_guard lock(mutex_);
  std::printf("  %-6s %s\n", holds ? "ok" : "BROKEN", text.c_str());
  std::fflush(stdout);
  if (!holds) ++broken_;
  return holds;
}

}  // namespace clouddisk::load
