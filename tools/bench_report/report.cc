#include "tools/bench_report/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/clouddisk/table.h"

namespace clouddisk::bench {
namespace {

using nlohmann::json;

std::string access_text(Access access) {
  switch (access) {
    case Access::kRead:
      return "sequential read";
    case Access::kWrite:
      return "sequential write";
    case Access::kRandomRead:
      return "random read";
    case Access::kRandomWrite:
      return "random write";
    case Access::kRandomMix:
      return "random mix, 70 % reads";
  }
  return {};
}

json target_json(const Target& target) {
  return {{"IOPS", target.iops},
          {"BytesPerSecond", target.bytes_per_second()},
          {"Limit", name(target.limit)},
          {"Formula", target.formula}};
}

json direction_json(const FioDirection& direction) {
  json percentiles = json::object();
  for (const Percentile& entry : direction.percentiles) {
    percentiles[fmt::format("{:g}", entry.percent)] = entry.microseconds;
  }
  return {{"Requests", direction.requests},
          {"Bytes", direction.bytes},
          {"LatencyMeanUs", direction.mean_us},
          {"LatencyMaxUs", direction.max_us},
          {"LatencyPercentilesUs", std::move(percentiles)}};
}

json disk_json(const TestedDisk& disk) {
  json view = {{"DiskId", disk.id},
               {"Category", disk.category},
               {"PerformanceLevel", disk.level},
               {"Size", disk.size_gib},
               {"ProvisionedIops", disk.provisioned_iops},
               {"Profile", name(disk.profile)}};
  if (disk.instance.iops != 0) view["InstanceIops"] = disk.instance.iops;
  if (disk.instance.bytes_per_second != 0) {
    view["InstanceBytesPerSecond"] = disk.instance.bytes_per_second;
  }
  return view;
}

json measured_json(const CaseResult& result) {
  json view = {{"IOPS", result.iops},
               {"BytesPerSecond", result.bytes_per_second()},
               {"Ratio", result.ratio},
               {"Limit", name(result.acted)},
               {"WaitedForLimits", result.seen.throttled_share},
               {"StalledSeconds", result.seen.stalled_seconds}};
  if (result.iops_before) view["IOPSBefore"] = *result.iops_before;
  if (result.windows) {
    view["OneSecondWindows"] = {{"Least", result.windows->least}, {"Most", result.windows->most}};
  }
  if (result.burst_ms) view["BurstMs"] = *result.burst_ms;
  if (result.plan.workload.reads()) view["Read"] = direction_json(result.seen.fio.read);
  if (result.plan.workload.writes()) view["Write"] = direction_json(result.seen.fio.write);
  if (result.seen.change_done_s) view["ChangedAtSeconds"] = *result.seen.change_done_s;
  view["IOPSEvery100Ms"] = result.seen.timeline.rates(0.1);
  return view;
}

json case_json(const CaseResult& result) {
  const Workload& workload = result.plan.workload;
  json view = {{"Case", result.plan.name},
               {"Title", result.plan.title},
               {"Access", access_text(workload.access)},
               {"BlockBytes", workload.block_bytes},
               {"Depth", workload.depth},
               {"Connections", workload.connections},
               {"Target", target_json(result.final_target())},
               {"Verdict", name(result.verdict)},
               {"Note", result.note}};
  if (result.plan.becomes) {
    view["TargetBefore"] = target_json(result.plan.target);
    view["DiskBefore"] = disk_json(result.plan.disk);
    view["DiskAfter"] = disk_json(*result.plan.becomes);
  }
  if (result.verdict != Verdict::kSkipped) view["Measured"] = measured_json(result);
  if (result.device_iops) view["DeviceIOPS"] = *result.device_iops;
  if (!result.device_note.empty()) view["DeviceNote"] = result.device_note;
  return view;
}

const FioDirection& shown_direction(const CaseResult& result) {
  const FioResult& fio = result.seen.fio;
  return fio.read.requests >= fio.write.requests ? fio.read : fio.write;
}

std::string percentile_text(const CaseResult& result, double percent) {
  for (const Percentile& entry : shown_direction(result).percentiles) {
    if (entry.percent == percent) return milliseconds_text(entry.microseconds);
  }
  return {};
}

std::string disk_text(const DiskReport& disk) {
  std::string text = disk.disk.title();
  if (!disk.characteristic.empty()) text += " (" + disk.characteristic + ")";
  text += fmt::format(", profile {}", name(disk.disk.profile));
  if (!disk.made_as.empty()) text += ": " + disk.made_as;
  text += '\n';
  cli::Table table({{"CASE"},
                    {"TARGET", true},
                    {"MEASURED", true},
                    {"MB/S", true},
                    {"RATIO", true},
                    {"1 S WINDOWS", true},
                    {"LIMIT"},
                    {"P50 MS", true},
                    {"P99 MS", true},
                    {"VERDICT"}});
  for (const CaseResult& result : disk.cases) {
    const CaseCells cells = cells_of(result);
    table.add_row({result.plan.name, cells.target, cells.measured, cells.megabytes, cells.ratio,
                   cells.windows, cells.limit, cells.p50, cells.p99, cells.verdict});
  }
  text += table.text();
  std::vector<std::string> formulas;
  for (const CaseResult& result : disk.cases) {
    for (const Target* target :
         {&result.plan.target,
          result.plan.target_after ? &*result.plan.target_after : &result.plan.target}) {
      if (result.plan.phase == Phase::kLatency || result.verdict == Verdict::kSkipped) continue;
      if (std::find(formulas.begin(), formulas.end(), target->formula) == formulas.end()) {
        formulas.push_back(target->formula);
      }
    }
  }
  for (const std::string& formula : formulas) text += "target: " + formula + "\n";
  for (const CaseResult& result : disk.cases) {
    if (!result.note.empty()) text += fmt::format("{}: {}\n", result.plan.name, result.note);
    if (const std::string device = device_text(result); !device.empty()) {
      text += fmt::format("{}: {}\n", result.plan.name, device);
    }
  }
  return text;
}

std::string verdict_sentence(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass: every target is held within 1 %";
    case Verdict::kFail:
      return "FAIL: a target is not held";
    case Verdict::kHost:
      return "host: this host can't reach every target; no limit was seen to be wrong";
    case Verdict::kInfo:
      return "info: nothing measured has a target";
    case Verdict::kSkipped:
      return "skipped: nothing was measured";
  }
  return {};
}

}  // namespace

Verdict Report::verdict() const {
  std::vector<CaseResult> all;
  for (const DiskReport& disk : disks) {
    CaseResult one;
    one.verdict = disk.verdict();
    all.push_back(std::move(one));
  }
  return worst(all);
}

std::string milliseconds_text(double microseconds) {
  const double ms = microseconds / 1'000;
  return ms < 10 ? fmt::format("{:.2f}", ms) : fmt::format("{:.0f}", ms);
}

CaseCells cells_of(const CaseResult& result) {
  CaseCells cells;
  cells.verdict = name(result.verdict);
  const Target& target = result.final_target();
  const bool has_target = result.plan.phase != Phase::kLatency;
  if (has_target) cells.target = figure_text(target.iops);
  if (result.verdict == Verdict::kSkipped) return cells;
  cells.measured = figure_text(result.iops);
  cells.megabytes = figure_text(megabytes(result.bytes_per_second()));
  if (result.ratio > 0) cells.ratio = fmt::format("{:.3f}", result.ratio);
  if (has_target && result.windows && result.windows->most > 0 && target.iops > 0) {
    cells.windows = fmt::format("{:.3f}-{:.3f}", result.windows->least / target.iops,
                                result.windows->most / target.iops);
  }
  cells.limit = name(result.acted);
  cells.p50 = percentile_text(result, 50);
  cells.p99 = percentile_text(result, 99);
  return cells;
}

std::string device_text(const CaseResult& result) {
  std::string text;
  if (result.device_iops) {
    const double bytes =
        *result.device_iops * static_cast<double>(result.plan.workload.block_bytes);
    text = fmt::format("the device itself, one file without a daemon: {} IOPS, {} MB/s",
                       figure_text(*result.device_iops), figure_text(megabytes(bytes)));
  }
  if (!result.device_note.empty()) text += (text.empty() ? "" : "; ") + result.device_note;
  return text;
}

json to_json(const Report& report) {
  json disks = json::array();
  for (const DiskReport& disk : report.disks) {
    json cases = json::array();
    for (const CaseResult& result : disk.cases) cases.push_back(case_json(result));
    json view = disk_json(disk.disk);
    view["MadeAs"] = disk.made_as;
    view["Characteristic"] = disk.characteristic;
    view["Verdict"] = name(disk.verdict());
    view["Cases"] = std::move(cases);
    disks.push_back(std::move(view));
  }
  return {{"Version", report.version},        {"Fio", report.fio},
          {"Measured", report.measured},      {"Host", report.host},
          {"SecondsPerCase", report.seconds}, {"Verdict", name(report.verdict())},
          {"Disks", std::move(disks)}};
}

std::string to_text(const Report& report) {
  std::string text;
  for (const DiskReport& disk : report.disks) {
    if (!text.empty()) text += '\n';
    text += disk_text(disk);
  }
  text += verdict_sentence(report.verdict()) + '\n';
  return text;
}

}  // namespace clouddisk::bench
