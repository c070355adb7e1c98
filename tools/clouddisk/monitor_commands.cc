// What disks did, minute by minute.
#include <chrono>
#include <optional>

#include "engine/base/units.h"
#include "engine/control/outcome.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/net/quantity.h"

namespace clouddisk::cli {
namespace {

// The API's: more points in one answer are refused.
constexpr std::int64_t kMonitorLinesMax = 400;
constexpr std::string_view kMonitorHistory = "30d";

struct MonitorArguments {
  std::string id;
  std::string last = "1h";
  std::optional<std::string> from, to;
  std::optional<unsigned> period;
};

Failure no_time(const char* code, const char* option, const std::string& text) {
  return refuse(code, "{}: '{}' is no time; write it as 2026-01-01T00:00:00Z", option, text);
}

Outcome<Params> monitor_params(const MonitorArguments& arguments) {
  WallTime to = std::chrono::system_clock::now();
  if (arguments.to) {
    const auto parsed = parse_iso_time(*arguments.to);
    if (!parsed) return no_time("InvalidEndTime.Malformed", "--to", *arguments.to);
    to = *parsed;
  }
  WallTime from;
  if (arguments.from) {
    const auto parsed = parse_iso_time(*arguments.from);
    if (!parsed) return no_time("InvalidStartTime.Malformed", "--from", *arguments.from);
    from = *parsed;
  } else {
    auto last = parse_duration(arguments.last);
    if (!last) return refuse(kWrongUsage, "--last: {}", last.error().message);
    from = to - *last;
  }
  // The shortest that fits into one answer; times are rounded up to minutes there.
  unsigned period = 60;
  for (const unsigned longer : {600U, 3600U}) {
    if (to - from > std::chrono::seconds(period) * (kMonitorLinesMax - 1)) period = longer;
  }
  return Params{{"StartTime", iso_time(from)},
                {"EndTime", iso_time(to)},
                {"Period", std::to_string(arguments.period.value_or(period))}};
}

std::shared_ptr<MonitorArguments> add_monitor_options(CLI::App* command, const char* what) {
  auto arguments = std::make_shared<MonitorArguments>();
  command->add_option("ID", arguments->id, what)->required()->type_name("");
  CLI::Option* last = command
                          ->add_option("--last", arguments->last,
                                       fmt::format("How far back from --to, up to {}; default: 1h",
                                                   kMonitorHistory))
                          ->type_name("TIME");
  command
      ->add_option("--from", arguments->from,
                   "The first minute, as in 2026-01-01T00:00:00Z; instead of --last")
      ->excludes(last)
      ->type_name("TIME");
  command->add_option("--to", arguments->to, "The last minute; default: now")->type_name("TIME");
  command
      ->add_option("--period", arguments->period,
                   "Seconds that a line stands for: 60, 600 or 3600; default: the shortest that "
                   "gives no more than 400 lines")
      ->check(CLI::IsMember({"60", "600", "3600"}))
      ->type_name("SECONDS");
  return arguments;
}

void add_monitor_disk(CLI::App& monitor, Session& session) {
  CLI::App* command =
      add_command(monitor, "disk", "Show IOPS, throughput and latency of a disk over time",
                  "  clouddisk monitor disk d-bp1example\n"
                  "  clouddisk monitor disk d-bp1example --last 7d\n"
                  "  clouddisk monitor disk d-bp1example --last 5m --output json\n"
                  "  clouddisk monitor disk d-bp1example --from 2026-01-01T06:00:00Z --to "
                  "2026-01-01T07:00:00Z");
  auto arguments = add_monitor_options(command, "The disk's id, d-…");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto params = monitor_params(*arguments);
    if (!params) return params.failure();
    (*params)["DiskId"] = arguments->id;
    auto answer = api.call("DescribeDiskMonitorData", *params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"TIME"},
                 {"READ IOPS", true},
                 {"WRITE IOPS", true},
                 {"READ/S", true},
                 {"WRITTEN/S", true},
                 {"READ µs", true},
                 {"WRITE µs", true}});
    for (const Json& point : (*answer)["MonitorData"]["DiskMonitorData"]) {
      table.add_row({text_of(point, "TimeStamp"), with_thousands(number_of(point, "IOPSRead")),
                     with_thousands(number_of(point, "IOPSWrite")),
                     format_bytes(number_of(point, "BPSRead")),
                     format_bytes(number_of(point, "BPSWrite")),
                     with_thousands(number_of(point, "LatencyRead")),
                     with_thousands(number_of(point, "LatencyWrite"))});
    }
    print_text(table.text());
    return Done{};
  });
}

void add_monitor_instance(CLI::App& monitor, Session& session) {
  CLI::App* command =
      add_command(monitor, "instance", "Show IOPS and throughput of all disks of an instance",
                  "  clouddisk monitor instance i-local\n"
                  "  clouddisk monitor instance i-bp1example --last 2d --period 3600");
  auto arguments = add_monitor_options(command, "The instance's id, i-…");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto params = monitor_params(*arguments);
    if (!params) return params.failure();
    (*params)["InstanceId"] = arguments->id;
    auto answer = api.call("DescribeInstanceMonitorData", *params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"TIME"},
                 {"READ IOPS", true},
                 {"WRITE IOPS", true},
                 {"READ/S", true},
                 {"WRITTEN/S", true}});
    for (const Json& point : (*answer)["MonitorData"]["InstanceMonitorData"]) {
      table.add_row({text_of(point, "TimeStamp"), with_thousands(number_of(point, "IOPSRead")),
                     with_thousands(number_of(point, "IOPSWrite")),
                     format_bytes(number_of(point, "BPSRead")),
                     format_bytes(number_of(point, "BPSWrite"))});
    }
    print_text(table.text());
    return Done{};
  });
}

}  // namespace

void add_monitor_commands(CLI::App& root, Session& session) {
  CLI::App* monitor = add_noun(root, "monitor", "What disks did in the last 30 days",
                               "  clouddisk monitor disk d-bp1example\n"
                               "  clouddisk monitor instance i-local --last 1d");
  add_monitor_disk(*monitor, session);
  add_monitor_instance(*monitor, session);
}

}  // namespace clouddisk::cli
