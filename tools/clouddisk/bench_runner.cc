#include "tools/clouddisk/bench_runner.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

#include "engine/base/units.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kRegionMin = 64_MiB;
constexpr std::uint64_t kRegionMax = 1_GiB;
constexpr double kIdleSeconds = 2;
constexpr double kDeviceSecondsMax = 3;

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1'000));
}

std::int64_t unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::optional<dev_t> device_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return info.st_dev;
}

// A file that goes with the object.
class RawFile {
 public:
  // In the filesystem of a replica's folder, and beside the folder where that can be: nothing of
  // ours is to lie in a replica.
  static Outcome<RawFile> make(const std::string& replica_folder) {
    const std::string parent = fs::path(replica_folder).parent_path().string();
    const bool beside = device_of(parent) && device_of(parent) == device_of(replica_folder);
    std::string path = (beside ? parent : replica_folder) + "/clouddisk-bench-XXXXXX";
    const int fd = ::mkstemp(path.data());
    if (fd < 0) {
      return refuse("NotMeasured", "a file beside {} can't be made: {}", replica_folder,
                    errno_text(errno));
    }
    ::close(fd);
    return RawFile(std::move(path));
  }
  RawFile(RawFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  RawFile& operator=(RawFile&&) = delete;
  ~RawFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  explicit RawFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

Params change_of(const std::string& id, const bench::TestedDisk& from,
                 const bench::TestedDisk& to) {
  Params params{{"DiskId", id}};
  if (from.size_gib != to.size_gib) {
    params["Action"] = "ResizeDisk";
    params["NewSize"] = std::to_string(to.size_gib);
    params["Type"] = "online";
    return params;
  }
  params["Action"] = "ModifyDiskSpec";
  params["DiskCategory"] = to.category;
  if (!to.level.empty()) params["PerformanceLevel"] = to.level;
  return params;
}

}  // namespace

// Makes a disk into another while fio runs, on a thread of its own.
struct BenchRunner::Change {
  Change(const ApiClient& api, Params params, double after_seconds) {
    thread = std::thread([this, &api, params = std::move(params), after_seconds] {
      std::unique_lock lock(mutex);
      if (ended.wait_for(lock, milliseconds(after_seconds), [this] { return over; })) return;
      lock.unlock();
      const std::int64_t asked = unix_ms();
      auto answer = api.call(params.at("Action"), params);
      lock.lock();
      asked_ms = asked;
      if (answer) {
        done_ms = unix_ms();
      } else {
        failure = answer.failure().message;
      }
    });
  }
  ~Change() { end(); }
  void end() {
    {
      const std::lock_guard lock(mutex);
      over = true;
    }
    ended.notify_all();
    if (thread.joinable()) thread.join();
  }

  std::mutex mutex;
  std::condition_variable ended;
  bool over = false;
  std::int64_t asked_ms = 0, done_ms = 0;  // 0: it did not come to that
  std::string failure;
  std::thread thread;
};

Outcome<BenchRunner> BenchRunner::make(const ApiClient& api, const HoldInterrupts& interrupts,
                                       const BenchDaemon& daemon, double seconds) {
  if (find_program("fio").empty()) {
    return refuse("ProgramMissing", "fio is not installed; it makes the load");
  }
  BenchRunner runner(api, interrupts, daemon, seconds);
  const char* parent = std::getenv("TMPDIR");
  std::string path = (parent != nullptr ? std::string(parent) : "/tmp") + "/clouddisk-bench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return refuse("ScratchFailed", "{}: {}", path, errno_text(errno));
  }
  runner.scratch_ = path;
  auto version = run_program({"fio", "--version"});
  if (!version) return version.failure();
  runner.fio_version_ = version->output.substr(0, version->output.find('\n'));
  return runner;
}

BenchRunner::BenchRunner(BenchRunner&& other) noexcept
    : api_(other.api_),
      interrupts_(other.interrupts_),
      daemon_(other.daemon_),
      seconds_(other.seconds_),
      scratch_(std::exchange(other.scratch_, {})),
      fio_version_(std::move(other.fio_version_)),
      runs_(other.runs_) {}

BenchRunner::~BenchRunner() {
  std::error_code error;
  if (!scratch_.empty()) fs::remove_all(scratch_, error);
}

std::uint64_t BenchRunner::region_bytes(const bench::TestedDisk& disk) const {
  auto target = bench::target_of(disk, 1_MiB);
  const double written = target ? target->bytes_per_second() * seconds_ / 2 : 0;
  const double bounded =
      std::clamp(written, static_cast<double>(kRegionMin), static_cast<double>(kRegionMax));
  return align_down(static_cast<std::uint64_t>(bounded), 1_MiB);
}

Outcome<bench::FioResult> BenchRunner::run_fio(const bench::FioJob& job) {
  auto ran = run_long_program(bench::fio_command(job), *interrupts_, [](std::string_view) {});
  if (!ran) return ran.failure();
  auto parsed = bench::parse_fio_result(read_text(job.output_path));
  if (parsed && ran->ok()) return *parsed;
  // What it says in words is more than what its JSON says.
  if (!ran->ok() && !ran->errors.empty()) return refuse("FioFailed", "{}", ran->complaint());
  if (!parsed) return refuse("FioFailed", "{}", parsed.error().message);
  return refuse("FioFailed", "{}", ran->complaint());
}

Outcome<bench::Timeline> BenchRunner::read_timeline(const bench::FioJob& job) {
  std::vector<std::vector<bench::FioLogLine>> logs;
  for (const std::string& path : bench::fio_logs(job)) {
    auto lines = bench::parse_fio_log(read_text(path));
    if (!lines) return refuse("FioFailed", "{}: {}", path, lines.error().message);
    logs.push_back(std::move(*lines));
  }
  return job.log_each_request ? bench::Timeline::from_requests(logs)
                              : bench::Timeline::from_rates(logs);
}

Outcome<BenchRunner::Waiting> BenchRunner::waiting_of(const std::string& id) const {
  auto stats = api_->call("DescribeDiskStats", {{"DiskId", id}});
  if (!stats) return stats.failure();
  const auto figure = [&](const char* member) {
    return static_cast<double>(number_of(*stats, member));
  };
  return Waiting{figure("ReadNanoseconds") + figure("WriteNanoseconds"),
                 figure("ThrottledNanoseconds"), figure("StalledNanoseconds")};
}

Verdict BenchRunner::pause(double seconds) const {
  pollfd interrupted{interrupts_->fd(), POLLIN, 0};
  if (::poll(&interrupted, 1, static_cast<int>(milliseconds(seconds).count())) > 0) {
    return refuse("Interrupted", "the measurement was ended before it was done");
  }
  return Done{};
}

Verdict BenchRunner::fill(const BenchExport& where, const bench::TestedDisk& disk) {
  bench::FioJob job;
  job.uri = where.uri;
  job.workload = {bench::Access::kWrite, 1_MiB, 8, 1, 0};
  job.region_bytes = region_bytes(disk);
  job.output_path = scratch_ + "/fill.json";
  auto filled = run_fio(job);
  if (!filled) return filled.failure();
  return Done{};
}

bench::FioJob BenchRunner::job_of(const bench::Case& plan, const BenchExport& where) const {
  bench::FioJob job;
  job.uri = where.device.empty() ? where.uri : std::string();
  job.file = where.device;
  job.workload = plan.workload;
  job.region_bytes = region_bytes(plan.disk);
  const double seconds = plan.becomes ? 2 * seconds_ : seconds_;
  job.length = milliseconds(seconds);
  const double most = std::max(plan.target.iops, plan.target_after ? plan.target_after->iops : 0);
  job.log_each_request = most * seconds <= bench::kLoggedRequestsMax;
  return job;
}

Outcome<bench::CaseResult> BenchRunner::run(const bench::Case& plan, const BenchExport& where) {
  if (!plan.skipped.empty()) return bench::skipped(plan, plan.skipped);
  if (plan.phase == bench::Phase::kAfterIdle) {
    if (auto idle = pause(kIdleSeconds); !idle) return idle.failure();
  }
  bench::FioJob job = job_of(plan, where);
  const std::string folder = fmt::format("{}/{}", scratch_, ++runs_);
  std::error_code error;
  fs::create_directory(folder, error);
  job.output_path = folder + "/result.json";
  job.log_prefix = folder + "/run";

  bench::Observation seen;
  seen.asked_seconds = std::chrono::duration<double>(job.length).count();
  seen.latency_emulated = daemon_->latency_emulated;
  auto before = waiting_of(where.id);
  if (!before) return before.failure();
  std::unique_ptr<Change> change;
  if (plan.becomes) {
    // fio takes a moment to start; what counts is when it was asked by the clock of its log.
    change = std::make_unique<Change>(*api_, change_of(where.id, plan.disk, *plan.becomes),
                                      seconds_ + 0.2);
  }
  auto ran = run_fio(job);
  if (change) change->end();
  if (!ran && ran.failure().code == "Interrupted") return ran.failure();
  auto after = waiting_of(where.id);
  if (!after) return after.failure();
  auto timeline = read_timeline(job);
  fs::remove_all(folder, error);
  if (!ran || !timeline || (change && !change->failure.empty())) {
    bench::CaseResult failed;
    failed.plan = plan;
    failed.verdict = bench::Verdict::kFail;
    failed.note = !ran        ? ran.failure().message
                  : !timeline ? timeline.failure().message
                              : "the change was refused: " + change->failure;
    return failed;
  }
  seen.fio = *ran;
  seen.timeline = std::move(*timeline);
  const double total = after->total_ns - before->total_ns;
  if (total > 0) seen.throttled_share = (after->throttled_ns - before->throttled_ns) / total;
  seen.stalled_seconds = std::max(after->stalled_ns - before->stalled_ns, 0.0) / 1e9;
  if (change && change->done_ms != 0) {
    const auto since_begin = [&](std::int64_t ms) {
      return static_cast<double>(ms - seen.timeline.begin_unix_ms()) / 1'000;
    };
    seen.change_asked_s = since_begin(change->asked_ms);
    seen.change_done_s = since_begin(change->done_ms);
  }
  bench::CaseResult result = bench::judge(plan, std::move(seen));
  if (result.wants_device_figure() && plan.phase != bench::Phase::kLatency) {
    if (auto measured = measure_device(result); !measured) return measured.failure();
  }
  return result;
}

// A figure that can't be had is a note in the result.
Verdict BenchRunner::measure_device(bench::CaseResult& result) {
  const auto& folders = daemon_->replica_folders;
  if (folders.empty()) return Done{};
  // The daemon lives in the same filesystem, and must not find it full.
  std::error_code error;
  const auto space = std::filesystem::space(folders.front(), error);
  if (error || space.available / 4 < region_bytes(result.plan.disk)) {
    result.device_note =
        "the device's own figure was not taken: its filesystem has too little room for a file to "
        "measure it with";
    return Done{};
  }
  auto file = RawFile::make(folders.front());
  if (!file) {
    result.device_note = "the device's own figure was not taken: " + file.failure().message;
    return Done{};
  }
  bench::FioJob job;
  job.file = file->path();
  job.output_path = scratch_ + "/device.json";
  job.region_bytes = region_bytes(result.plan.disk);
  job.workload = {bench::Access::kWrite, 1_MiB, 8, 1, 0};
  auto ran = run_fio(job);  // Blocks that were never written would be read from nowhere.
  if (ran) {
    job.workload = result.plan.workload;
    job.length = milliseconds(std::min(seconds_, kDeviceSecondsMax));
    ran = run_fio(job);
  }
  if (!ran) {
    if (ran.failure().code == "Interrupted") return ran.failure();
    result.device_note = "the device's own figure was not taken: " + ran.failure().message;
    return Done{};
  }
  result.device_iops = ran->iops();
  if (!result.plan.workload.writes()) {
    if (*result.device_iops >= result.plan.target.iops) {
      result.device_note =
          "which is enough: what is missing goes to the processors that daemon and client share, "
          "or "
          "to data that lies in many pieces";
    }
    return Done{};
  }
  const auto first = device_of(folders.front());
  const auto together = std::count_if(folders.begin(), folders.end(), [&](const auto& folder) {
    return first && device_of(folder) == first;
  });
  if (together > 1) {
    result.device_note =
        fmt::format("{} replicas are on that device, so each byte is written to it {} times",
                    together, together);
  }
  return Done{};
}

}  // namespace clouddisk::cli
