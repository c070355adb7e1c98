// monitor_actions.cc: what disks did, as the cloud's monitoring shows it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "engine/control/control_impl.h"
#include "engine/monitor/point_store.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kMonitorPointsMax = 400;
constexpr Duration kMonitorHistory = std::chrono::hours(30 * 24);
constexpr Duration kMonitorMinute = std::chrono::minutes(1);

// What is asked for, in whole minutes.
struct MonitorSpan {
  Minute start = 0;
  Minute end = 0;
  Minute period = 1;
};

WallTime up_to_minute(WallTime time) {
  return std::chrono::ceil<std::chrono::minutes>(time);
}

// Counts of one period, over the disks that are asked about.
struct MonitorValue {
  IoSums io;
  std::uint64_t covered_ms = 0;  // of the disk that was served longest

  std::uint64_t per_second(std::uint64_t count) const {
    return covered_ms == 0 ? 0
                           : static_cast<std::uint64_t>(static_cast<unsigned __int128>(count) *
                                                        1000 / covered_ms);
  }
};
std::uint64_t mean_latency_us(std::uint64_t nanoseconds, std::uint64_t requests) {
  return requests == 0 ? 0 : nanoseconds / requests / 1000;
}

using MonitorValues = std::map<Minute, MonitorValue>;  // by where the period begins

// Adds one disk's minutes.
void add_points(const std::vector<DiskPoint>& points, const MonitorSpan& span,
                MonitorValues& values) {
  MonitorValues own;
  for (const DiskPoint& point : points) {
    MonitorValue& value = own[point.minute - (point.minute - span.start) % span.period];
    value.io += point.io;
    value.covered_ms += point.covered_ms;
  }
  for (const auto& [begin, value] : own) {
    MonitorValue& sum = values[begin];
    sum.io += value.io;
    sum.covered_ms = std::max(sum.covered_ms, value.covered_ms);
  }
}

Verdict read_monitor_time(ParamReader& reader, std::string_view name, std::string_view code,
                          WallTime& time) {
  const std::string text = reader.required(name);
  if (reader.problem()) return reader.problem();
  const auto parsed = parse_iso_time(text);
  if (!parsed || parsed->time_since_epoch() < Duration::zero()) {
    return Refusal{400, std::string(code),
                   fmt::format("{} '{}' is no time like 2026-01-01T00:00:00Z.", name, text)};
  }
  time = up_to_minute(*parsed);
  return std::nullopt;
}

Verdict read_monitor_span(ParamReader& reader, WallTime now, MonitorSpan& span) {
  WallTime start;
  WallTime end;
  if (auto broken = read_monitor_time(reader, "StartTime", "InvalidStartTime.Malformed", start)) {
    return broken;
  }
  if (auto broken = read_monitor_time(reader, "EndTime", "InvalidEndTime.Malformed", end))
    return broken;
  const std::string period = reader.text("Period", "60");
  if (period != "60" && period != "600" && period != "3600") {
    return Refusal{400, "InvalidPeriod.ValueNotSupported",
                   fmt::format("Period is 60, 600 or 3600, not '{}'.", period)};
  }
  span.period = period == "60" ? 1 : period == "600" ? 10 : 60;
  if (end < start) {
    return Refusal{400, "InvalidParameter.EndTime", "EndTime is earlier than StartTime."};
  }
  if (start < now - kMonitorHistory) {
    return Refusal{400, "InvalidStartTime.TooEarly",
                   "StartTime is more than 30 days ago: nothing is kept longer."};
  }
  const auto asked = static_cast<std::uint64_t>((end - start) / (kMonitorMinute * span.period));
  if (asked > kMonitorPointsMax) {
    return Refusal{400, "InvalidParameter.TooManyDataQueried",
                   fmt::format("{} periods are asked for, {} at the most: take a longer Period.",
                               asked, kMonitorPointsMax)};
  }
  span.start = minute_of(start);
  span.end = minute_of(end);
  return std::nullopt;
}

}  // namespace

Task<Result<std::vector<DiskPoint>>> Control::Impl::points_of(std::string disk_id, Minute first,
                                                              Minute last) {
  PointStore* store = options.points;
  if (store == nullptr) co_return std::vector<DiskPoint>{};
  auto read = [store, disk_id = std::move(disk_id), first, last] {
    return store->read(disk_id, first, last);
  };
  co_return co_await ring.blocking(std::move(read));
}

Task<Outcome> Control::Impl::describe_disk_monitor_data(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("DiskId");
  if (reader.problem()) co_return *reader.problem();
  MonitorSpan span;
  if (auto broken = read_monitor_span(reader, now(), span)) co_return *broken;
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(id, disk)) co_return *broken;
  auto points = co_await points_of(id, span.start, span.end + span.period - 1);
  if (!points) co_return refusal_of(points.error());
  MonitorValues values;
  add_points(*points, span, values);
  Json list = Json::array();
  for (const auto& [begin, value] : values) {
    const IoSums& io = value.io;
    list.push_back({{"DiskId", id},
                    {"TimeStamp", iso_time(time_of(begin))},
                    {"IOPSRead", value.per_second(io.reads)},
                    {"IOPSWrite", value.per_second(io.writes)},
                    {"IOPSTotal", value.per_second(io.reads + io.writes)},
                    {"BPSRead", value.per_second(io.read_bytes)},
                    {"BPSWrite", value.per_second(io.written_bytes)},
                    {"BPSTotal", value.per_second(io.read_bytes + io.written_bytes)},
                    {"LatencyRead", mean_latency_us(io.read_nanoseconds, io.reads)},
                    {"LatencyWrite", mean_latency_us(io.write_nanoseconds, io.writes)}});
  }
  Json answer = {{"TotalCount", list.size()}};
  answer["MonitorData"] = {{"DiskMonitorData", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_instance_monitor_data(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("InstanceId");
  if (reader.problem()) co_return *reader.problem();
  MonitorSpan span;
  if (auto broken = read_monitor_span(reader, now(), span)) co_return *broken;
  const InstanceRecord* instance = nullptr;
  if (auto broken = find_instance(id, instance)) co_return *broken;
  std::vector<std::string> disks;
  for (const auto& [disk_id, disk] : catalog->disks()) {
    if (disk.instance_id == id) disks.push_back(disk_id);
  }
  const std::uint64_t tag = instance_tag(id);
  MonitorValues values;
  for (const std::string& disk_id : disks) {
    auto points = co_await points_of(disk_id, span.start, span.end + span.period - 1);
    if (!points) co_return refusal_of(points.error());
    std::erase_if(*points, [tag](const DiskPoint& point) { return point.instance != tag; });
    add_points(*points, span, values);
  }
  Json list = Json::array();
  for (const auto& [begin, value] : values) {
    Json point = {{"InstanceId", id},
                  {"TimeStamp", iso_time(time_of(begin))},
                  {"IOPSRead", value.per_second(value.io.reads)},
                  {"IOPSWrite", value.per_second(value.io.writes)},
                  {"BPSRead", value.per_second(value.io.read_bytes)},
                  {"BPSWrite", value.per_second(value.io.written_bytes)}};
    // An instance here runs nothing and has no network.
    for (const char* none : {"CPU", "IntranetRX", "IntranetTX", "IntranetBandwidth", "InternetRX",
                             "InternetTX", "InternetBandwidth"}) {
      point[none] = 0;
    }
    list.push_back(std::move(point));
  }
  Json answer = Json::object();
  answer["MonitorData"] = {{"InstanceMonitorData", std::move(list)}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
