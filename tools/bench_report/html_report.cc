#include "tools/bench_report/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/bench_report/svg_chart.h"

namespace clouddisk::bench {
namespace {

constexpr std::string_view kStyle = R"(
:root {
  color-scheme: light dark;
  --page: #fcfcfb; --ink: #1b1b19; --soft: #5d5c57; --line: #e3e2dc; --panel: #f4f3ef;
  --measured: #2a6fc4; --band: #2a6fc422; --target: #1b1b19; --read: #2a6fc4; --write: #c05621;
  --pass: #1d7a46; --fail: #b42318; --host: #96610a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #1a1a19; --ink: #efeeea; --soft: #a9a8a1; --line: #37362f; --panel: #232321;
    --measured: #6ba6ee; --band: #6ba6ee2e; --target: #efeeea; --read: #6ba6ee; --write: #ec8f5a;
    --pass: #62c48d; --fail: #f2847a; --host: #e0ad55;
  }
}
@media print {
  :root {
    color-scheme: light;
    --page: #ffffff; --ink: #000000; --soft: #444444; --line: #cccccc; --panel: #ffffff;
    --measured: #1f5fae; --band: #1f5fae22; --target: #000000; --read: #1f5fae; --write: #a8440f;
    --pass: #145c33; --fail: #8f1a11; --host: #6f4700;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 44px 0 4px; }
h3 { font-size: 1rem; margin: 0; }
p { margin: 6px 0; max-width: 80ch; }
.soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 12px 0; width: 100%; font-size: 0.87rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
.pass { color: var(--pass); font-weight: 600; }
.FAIL { color: var(--fail); font-weight: 700; }
.host { color: var(--host); font-weight: 600; }
.info, .skipped { color: var(--soft); }
.cases { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 20px; margin-top: 16px; }
figure { margin: 0; padding: 14px 16px 10px; background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; min-width: 0; }
figcaption { font-size: 0.85rem; color: var(--soft); overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; margin: 8px 0 2px; }
svg .axis { fill: var(--soft); font-size: 12px; }
svg .note { fill: var(--ink); font-size: 12px; paint-order: stroke; stroke: var(--panel);
  stroke-width: 4px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .tick { stroke: var(--soft); stroke-width: 1; }
svg .measured { fill: none; stroke: var(--measured); stroke-width: 2; stroke-linejoin: round; }
svg .target { fill: none; stroke: var(--target); stroke-width: 1.3; stroke-dasharray: 6 4; }
svg .band { fill: var(--band); }
svg .read, .key.read { fill: var(--read); background: var(--read); }
svg .write, .key.write { fill: var(--write); background: var(--write); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin: 0 4px 0 10px; }
@media print {
  body { font-size: 11px; }
  main { max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  h2 { margin-top: 20px; }
  .cases { grid-template-columns: 1fr 1fr; gap: 10px; }
  .scroll { overflow: visible; }
  th, td { padding: 3px 7px 3px 0; }
}
)";

std::string verdict_mark(Verdict verdict) {
  return fmt::format("<span class=\"{0}\">{0}</span>", name(verdict));
}

std::string cell(std::string_view text, std::string_view style = "figure") {
  return fmt::format("<td class=\"{}\">{}</td>", style, text.empty() ? "–" : escape_html(text));
}

std::string summary_table(const DiskReport& disk) {
  std::string html =
      "<div class=\"scroll\"><table><thead><tr><th>case</th><th class=\"figure\">target IOPS</th>"
      "<th class=\"figure\">measured</th><th class=\"figure\">MB/s</th>"
      "<th class=\"figure\">ratio</th><th class=\"figure\">1 s windows</th><th>limit</th>"
      "<th class=\"figure\">p50 ms</th><th class=\"figure\">p99 "
      "ms</th><th>verdict</th></tr></thead>"
      "<tbody>\n";
  for (const CaseResult& result : disk.cases) {
    const CaseCells cells = cells_of(result);
    html += "<tr>" + cell(result.plan.title, "") + cell(cells.target) + cell(cells.measured) +
            cell(cells.megabytes) + cell(cells.ratio) + cell(cells.windows) +
            cell(cells.limit, "") + cell(cells.p50) + cell(cells.p99) + "<td>" +
            verdict_mark(result.verdict) + "</td></tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

RateChart chart_of(const CaseResult& result) {
  RateChart chart;
  // Some 600 points are as many as the page can show, and 20 requests a point make a line of steps.
  const double seconds = std::min(result.seen.asked_seconds, result.seen.timeline.seconds());
  const double least = std::max(seconds / 600, 20 / std::max(result.plan.target.iops, 20.0));
  const double span = std::max(0.1, std::ceil(least * 10) / 10);
  chart.iops = result.seen.timeline.rates(span);
  const auto whole = static_cast<std::size_t>(std::round(seconds / span));
  if (chart.iops.size() > whole && whole > 0) chart.iops.resize(whole);
  chart.step_seconds = span;
  chart.label = result.plan.title + ": requests a second over time";
  chart.block_bytes = result.plan.workload.block_bytes;
  chart.tolerance = kTolerance;
  chart.target.push_back({0, result.plan.target.iops});
  if (result.plan.target_after && result.seen.change_done_s) {
    chart.target.push_back({*result.seen.change_done_s, result.plan.target_after->iops});
  }
  return chart;
}

std::string sentence(std::string text) {
  if (!text.empty()) text.front() = static_cast<char>(std::toupper(text.front()));
  return text;
}

std::string rate_figure(const CaseResult& result) {
  std::string caption = fmt::format("Depth {}", result.plan.workload.depth);
  if (result.plan.workload.connections > 1) {
    caption += fmt::format(" on {} connections", result.plan.workload.connections);
  }
  caption += ". Target: " + result.final_target().formula + ".";
  if (result.plan.becomes) {
    caption +=
        fmt::format(" From {} to {}.", result.plan.disk.title(), result.plan.becomes->title());
  }
  if (result.burst_ms) {
    caption += fmt::format(" Given at once after idle: {:.1f} ms of the rate.", *result.burst_ms);
  }
  for (const std::string& more : {result.note, device_text(result)}) {
    if (!more.empty()) caption += " " + sentence(more) + ".";
  }
  return fmt::format("<figure><h3>{} {}</h3>\n{}<figcaption>{}</figcaption></figure>\n",
                     escape_html(result.plan.title), verdict_mark(result.verdict),
                     to_svg(chart_of(result)), escape_html(caption));
}

std::string latency_figure(const DiskReport& disk) {
  LatencyChart chart;
  std::string keys, notes;
  for (const CaseResult& result : disk.cases) {
    if (result.plan.phase != Phase::kLatency || result.verdict == Verdict::kSkipped) continue;
    const bool writes = result.plan.workload.writes();
    const FioDirection& direction = writes ? result.seen.fio.write : result.seen.fio.read;
    if (direction.percentiles.empty()) continue;
    LatencyChart::Series series{writes ? "write" : "read", writes ? "write" : "read", {}};
    chart.rows.clear();
    for (const Percentile& entry : direction.percentiles) {
      chart.rows.push_back(fmt::format("{:g} %", entry.percent));
      series.microseconds.push_back(entry.microseconds);
    }
    keys += fmt::format("<span class=\"key {0}\"></span>{0}", series.name);
    if (!result.note.empty()) notes += " " + sentence(result.note) + ".";
    chart.series.push_back(std::move(series));
    const CategoryRow* row = row_of(result.plan.disk);
    if (writes && row != nullptr && row->latency_max_us != 0) {
      chart.stated_us = (row->latency_min_us + row->latency_max_us) / 2.0;
    }
  }
  if (chart.series.empty()) return {};
  chart.label = "latency percentiles of 4 KiB requests, one at a time";
  return fmt::format(
      "<figure><h3>4 KiB, one at a time: latency percentiles</h3>\n{}<figcaption>{}{}"
      "</figcaption></figure>\n",
      to_svg(chart), keys, escape_html(notes));
}

std::string disk_section(const DiskReport& disk) {
  std::string html = fmt::format("<section><h2>{}: {}</h2>\n", escape_html(disk.disk.title()),
                                 verdict_mark(disk.verdict()));
  std::string about = fmt::format("Profile {}", name(disk.disk.profile));
  if (const CategoryRow* row = row_of(disk.disk)) about += fmt::format(", {}", row->source);
  if (!disk.characteristic.empty()) about += ". Size: " + disk.characteristic;
  if (!disk.made_as.empty()) about += ". Measured: " + disk.made_as;
  html += fmt::format("<p class=\"soft\">{}.</p>\n", escape_html(about));
  html += summary_table(disk);
  std::string figures, left_out;
  for (const CaseResult& result : disk.cases) {
    if (result.verdict == Verdict::kSkipped) {
      left_out += fmt::format("<p class=\"soft\">{}: skipped, {}.</p>\n",
                              escape_html(result.plan.title), escape_html(result.note));
    } else if (result.plan.phase != Phase::kLatency) {
      figures += rate_figure(result);
    }
  }
  figures += latency_figure(disk);
  return html + left_out + "<div class=\"cases\">\n" + figures + "</div></section>\n";
}

}  // namespace

std::string to_html(const Report& report) {
  const std::string title =
      report.disks.size() == 1 ? report.disks.front().disk.title() : "categories and levels";
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>clouddisk bench: {}</title>\n<style>{}</style></head>\n<body><main>\n",
      escape_html(title), kStyle);
  html += fmt::format("<h1>Conformance of {}: {}</h1>\n", escape_html(title),
                      verdict_mark(report.verdict()));
  html += fmt::format(
      "<p class=\"soft\">clouddisk {}, {}, {}. {}. {:g} s a case. MB/s are 2<sup>20</sup> bytes a "
      "second.</p>\n",
      escape_html(report.version), escape_html(report.fio), escape_html(report.host),
      escape_html(report.measured), report.seconds);
  html +=
      "<p>A <span class=\"pass\">pass</span> is a rate within 1 % of the formula's target, "
      "measured "
      "by the client after the first second. <span class=\"host\">host</span>: this machine can't "
      "reach the target or was too busy, so nothing is shown about the limit. 1 s windows: the "
      "lowest and the highest rate over any second, to the target. Lines "
      "are measured, dashed lines the target.</p>\n";
  for (const DiskReport& disk : report.disks) html += disk_section(disk);
  return html + "</main></body></html>\n";
}

}  // namespace clouddisk::bench
