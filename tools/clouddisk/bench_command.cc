// `clouddisk bench`: a conformance report of a disk, or of every category and level.
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <thread>

#include "tools/bench_report/html_report.h"
#include "tools/bench_report/report.h"
#include "tools/clouddisk/bench_runner.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

struct BenchArguments {
  std::optional<std::string> id;
  bool in_place = false;
  DiskInPlace::Wishes wishes;
  bool matrix = false;
  bool plan_only = false;
  std::optional<std::string> category, level;
  std::vector<std::string> cases;
  std::optional<double> seconds;
  unsigned connections = 1;
  std::string report_path;

  double case_seconds() const { return seconds.value_or(matrix ? 2 : 5); }
};

// One disk with its plan.
struct Planned {
  bench::TestedDisk disk;
  std::string characteristic;
  std::vector<bench::Case> cases;
};

std::string host_text() {
  utsname system{};
  ::uname(&system);
  return fmt::format("{} {}, {} processors", system.sysname, system.release,
                     std::thread::hardware_concurrency());
}

std::string now_text() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

Outcome<std::vector<Planned>> make_plans(const ApiClient& api, const BenchDaemon& daemon,
                                         const BenchArguments& arguments) {
  std::vector<Planned> plans;
  bench::PlanOptions options;
  options.only = arguments.cases;
  options.connections = arguments.connections;
  options.may_write = !arguments.wishes.read_only;
  if (arguments.matrix) {
    if (options.only.empty()) options.only = bench::matrix_case_names();
    for (bench::TestedDisk& disk : bench::matrix_disks(daemon.profile)) {
      if (arguments.category && disk.category != *arguments.category) continue;
      if (arguments.level && disk.level != *arguments.level) continue;
      Planned planned;
      planned.characteristic = bench::characteristic_of(*bench::row_of(disk), disk.size_gib);
      planned.disk = std::move(disk);
      plans.push_back(std::move(planned));
    }
    if (plans.empty()) {
      return refuse(kWrongUsage,
                    "The matrix has no such category and level; see: clouddisk category list");
    }
  } else {
    auto disk = describe_tested_disk(api, daemon.profile, *arguments.id);
    if (!disk) return disk.failure();
    plans.push_back({*disk, "", {}});
  }
  for (Planned& planned : plans) {
    auto cases = bench::make_plan(planned.disk, options);
    if (!cases) return refuse(kWrongUsage, "{}", cases.error().message);
    planned.cases = std::move(*cases);
  }
  return plans;
}

// Nothing was run: the targets alone.
std::string plan_text(const std::vector<Planned>& plans) {
  std::string text;
  for (const Planned& planned : plans) {
    if (!text.empty()) text += '\n';
    text += planned.disk.title();
    if (!planned.characteristic.empty()) text += " (" + planned.characteristic + ")";
    text += '\n';
    Table table({{"CASE"}, {"TARGET IOPS", true}, {"MB/S", true}, {"LIMIT"}, {"FORMULA"}});
    for (const bench::Case& entry : planned.cases) {
      const bench::Target& target = entry.target_after ? *entry.target_after : entry.target;
      if (!entry.skipped.empty()) {
        table.add_row({entry.name, "", "", "", "skipped: " + entry.skipped});
      } else if (entry.phase == bench::Phase::kLatency) {
        table.add_row({entry.name, "", "", "", "what one request at a time takes"});
      } else {
        table.add_row({entry.name, bench::figure_text(target.iops),
                       bench::figure_text(bench::megabytes(target.bytes_per_second())),
                       std::string(bench::name(target.limit)), target.formula});
      }
    }
    text += table.text();
  }
  return text;
}

Json plan_json(const std::vector<Planned>& plans) {
  bench::Report report;
  for (const Planned& planned : plans) {
    bench::DiskReport disk{planned.disk, "", planned.characteristic, {}};
    for (const bench::Case& entry : planned.cases) {
      disk.cases.push_back(bench::skipped(entry, entry.skipped));
    }
    report.disks.push_back(std::move(disk));
  }
  return bench::to_json(report);
}

void say_progress(const Planned& planned, const bench::Case& entry) {
  if (::isatty(STDERR_FILENO) != 1) return;
  fmt::print(stderr, "{}: {}\n", planned.disk.title(), entry.title);
}

class Bench {
 public:
  Bench(const ApiClient& api, const std::string& root, const BenchArguments& arguments,
        const BenchDaemon& daemon)
      : api_(api), root_(root), arguments_(arguments), daemon_(daemon) {}

  Outcome<bench::Report> run(const std::vector<Planned>& plans) {
    const HoldInterrupts interrupts;
    auto runner = BenchRunner::make(api_, interrupts, daemon_, arguments_.case_seconds());
    if (!runner) return runner.failure();
    bench::Report report;
    report.version = CLOUDDISK_VERSION;
    report.fio = runner->fio_version();
    report.measured = now_text();
    report.host = host_text();
    report.seconds = arguments_.case_seconds();
    for (const Planned& planned : plans) {
      auto disk = run_disk(*runner, planned);
      if (!disk) return disk.failure();
      report.disks.push_back(std::move(*disk));
    }
    return report;
  }

 private:
  // What the cases of a disk share, made when the first one needs it.
  struct Shared {
    std::optional<ThrowAwayDisk> made;
    std::optional<DiskInPlace> in_place;
    const BenchExport* where = nullptr;
  };

  Outcome<bench::DiskReport> run_disk(BenchRunner& runner, const Planned& planned) {
    bench::DiskReport report{planned.disk, made_as(planned), planned.characteristic, {}};
    Shared shared;
    for (const bench::Case& entry : planned.cases) {
      say_progress(planned, entry);
      auto result = entry.needs_own_disk() && entry.skipped.empty()
                        ? run_alone(runner, entry)
                        : run_shared(runner, shared, planned, entry);
      if (!result) return result.failure();
      report.cases.push_back(std::move(*result));
    }
    return report;
  }

  std::string made_as(const Planned& planned) const {
    if (arguments_.in_place) return fmt::format("disk {} itself", planned.disk.id);
    if (planned.disk.id.empty()) return "a throw-away disk";
    return fmt::format("a throw-away disk like {}", planned.disk.id);
  }

  Outcome<bench::CaseResult> run_alone(BenchRunner& runner, const bench::Case& entry) {
    auto disk = ThrowAwayDisk::make(api_, entry.disk);
    if (!disk) return disk.failure();
    return runner.run(entry, disk->where());
  }

  Outcome<bench::CaseResult> run_shared(BenchRunner& runner, Shared& shared, const Planned& planned,
                                        const bench::Case& entry) {
    if (!entry.skipped.empty()) return bench::skipped(entry, entry.skipped);
    if (shared.where == nullptr) {
      if (auto opened = open(runner, shared, planned); !opened) return opened.failure();
    }
    return runner.run(entry, *shared.where);
  }

  Verdict open(BenchRunner& runner, Shared& shared, const Planned& planned) {
    if (arguments_.in_place) {
      auto disk = DiskInPlace::open(api_, root_, planned.disk.id, arguments_.wishes);
      if (!disk) return disk.failure();
      shared.where = &shared.in_place.emplace(std::move(*disk)).where();
      if (arguments_.wishes.read_only) return Done{};
    } else {
      auto disk = ThrowAwayDisk::make(api_, planned.disk);
      if (!disk) return disk.failure();
      shared.where = &shared.made.emplace(std::move(*disk)).where();
    }
    return runner.fill(*shared.where, planned.disk);
  }

  const ApiClient& api_;
  const std::string& root_;
  const BenchArguments& arguments_;
  const BenchDaemon& daemon_;
};

Verdict write_report(const bench::Report& report, const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bench::to_html(report);
  file.close();
  if (file) return Done{};
  return refuse("ReportFailed", "{} can't be written", path);
}

Verdict verdict_of(const bench::Report& report) {
  switch (report.verdict()) {
    case bench::Verdict::kFail:
      return refuse("TargetMissed", "a target was not held; the notes and the charts say which");
    case bench::Verdict::kHost:
      return refuse("HostTooSlow",
                    "this host can't reach every target, so its limits can't be shown to hold");
    case bench::Verdict::kSkipped:
      return refuse("NothingMeasured", "every case was skipped; the notes say why");
    default:
      return Done{};
  }
}

Verdict run_bench(const ApiClient& api, const Session& session, const BenchArguments& arguments) {
  auto daemon = describe_daemon(api);
  if (!daemon) return daemon.failure();
  auto plans = make_plans(api, *daemon, arguments);
  if (!plans) return plans.failure();
  if (arguments.plan_only) {
    if (session.json()) {
      print_json(plan_json(*plans));
    } else {
      print_text(plan_text(*plans));
    }
    return Done{};
  }
  if (!daemon->limits_enforced) {
    return refuse("LimitsOff", "The daemon was started with --no-limits: there is nothing to hold");
  }
  if (!arguments.report_path.empty()) {
    // Before minutes of measuring, not after.
    std::ofstream file(arguments.report_path, std::ios::app);
    if (!file) return refuse("ReportFailed", "{} can't be written", arguments.report_path);
  }
  auto report = Bench(api, session.root, arguments, *daemon).run(*plans);
  if (!report) return report.failure();
  if (session.json()) {
    print_json(bench::to_json(*report));
  } else {
    print_text(bench::to_text(*report));
  }
  if (!arguments.report_path.empty()) {
    if (auto written = write_report(*report, arguments.report_path); !written) return written;
  }
  return verdict_of(*report);
}

// What goes with what; CLI11 prints it as wrong usage.
void check_arguments(const BenchArguments& arguments) {
  if (arguments.matrix == arguments.id.has_value()) {
    throw CLI::ValidationError("bench", "takes the id of a disk, or --matrix");
  }
  if (!arguments.in_place && (arguments.wishes.overwrite || arguments.wishes.read_only)) {
    throw CLI::ValidationError("--overwrite and --read-only", "go with --in-place");
  }
  if (arguments.matrix && arguments.in_place) {
    throw CLI::ValidationError("--in-place", "goes with a disk, not with --matrix");
  }
  if (!arguments.matrix && (arguments.category || arguments.level)) {
    throw CLI::ValidationError("--category and --performance-level", "go with --matrix");
  }
}

}  // namespace

void add_bench_command(CLI::App& root, Session& session) {
  CLI::App* command = add_command(
      root, "bench", "Measure a disk against its category and level with fio",
      "  clouddisk bench d-bp1example --report pl1.html\n"
      "  clouddisk bench d-bp1example --case randwrite-4k --case mix-16k --seconds 10\n"
      "  clouddisk bench d-bp1example --in-place --read-only\n"
      "  clouddisk bench d-bp1example --plan\n"
      "  clouddisk bench --matrix --category cloud_essd --output json\n"
      "By default a throw-away disk of the same category, level and size is measured; the disk "
      "itself is left alone.");
  auto arguments = std::make_shared<BenchArguments>();
  command->add_option("DISK", arguments->id, "The disk's id, d-…")->type_name("");
  command->add_flag("--in-place", arguments->in_place,
                    "Measure the disk itself: the beginning of it, up to 1 GiB, is overwritten");
  command->add_flag("--overwrite", arguments->wishes.overwrite,
                    "With --in-place: also when it has data or clients");
  command->add_flag("--read-only", arguments->wishes.read_only,
                    "With --in-place: only read, so that nothing is lost; also while mounted");
  command->add_option("--case", arguments->cases, "Only this case; may be repeated; see --plan")
      ->type_name("NAME")
      ->take_all()
      ->expected(1);
  command
      ->add_option("--seconds", arguments->seconds,
                   "Length of each case; default: 5, with --matrix 2")
      ->check(CLI::Range(1.0, 3600.0))
      ->type_name("N");
  command
      ->add_option("--connections", arguments->connections, "NBD connections that share the load")
      ->check(CLI::Range(1U, 16U))
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--report", arguments->report_path,
                   "Write a page with charts, complete in one file")
      ->type_name("FILE");
  command->add_flag("--plan", arguments->plan_only,
                    "Only print the cases with their targets and formulas");
  command->add_flag("--matrix", arguments->matrix,
                    "Every category and level at its smallest size and around each cap");
  command->add_option("--category", arguments->category, "With --matrix: only this category")
      ->type_name("NAME");
  command->add_option("--performance-level", arguments->level, "With --matrix: only this level")
      ->type_name("LEVEL");
  command->parse_complete_callback([arguments] { check_arguments(*arguments); });
  on_call(command, session, [arguments, &session](const ApiClient& api) {
    return run_bench(api, session, *arguments);
  });
}

}  // namespace clouddisk::cli
