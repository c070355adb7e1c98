#include "tools/bench_report/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/base/units.h"
#include "tools/bench_report/tested_disk.h"

namespace clouddisk::bench {
namespace {

constexpr double kWidth = 560;
constexpr double kLeft = 62, kRight = 54, kTop = 26, kBottom = 34;
constexpr double kPlotWidth = kWidth - kLeft - kRight;
constexpr double kRateHeight = 220;
constexpr double kRowHeight = 30;

std::string line(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format(
      "<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", style, x1,
      y1, x2, y2);
}

std::string words(double x, double y, std::string_view anchor, std::string_view text,
                  std::string_view style = "axis") {
  return fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n",
                     style, x, y, anchor, escape_html(text));
}

std::string opening(std::string_view label, double height) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\" "
      "xmlns=\"http://www.w3.org/2000/svg\">\n",
      kWidth, height, escape_html(label));
}

// A tick of an axis whose steps are `step`: as many decimals as they need.
std::string tick_text(double value, double step) {
  if (value == 0) return "0";
  if (step >= 1) return value < 1'000 ? fmt::format("{:.0f}", value) : figure_text(value);
  return fmt::format("{:.{}f}", value, static_cast<int>(std::ceil(-std::log10(step))));
}

struct RateScale {
  double seconds = 1, iops = 1;
  double x(double at) const { return kLeft + kPlotWidth * std::min(at / seconds, 1.0); }
  double y(double rate) const {
    const double height = kRateHeight - kTop - kBottom;
    return kRateHeight - kBottom - height * std::min(rate / iops, 1.0);
  }
};

std::string rate_axes(const RateChart& chart, const RateScale& scale) {
  std::string svg;
  const double step = nice_step(scale.iops, 5);
  for (double rate = 0; rate <= scale.iops; rate += step) {
    svg += line(kLeft, scale.y(rate), kLeft + kPlotWidth, scale.y(rate), "grid");
    svg += words(kLeft - 8, scale.y(rate) + 4, "end", tick_text(rate, step));
    const double megabytes = static_cast<double>(chart.block_bytes) / double{1_MiB};
    svg += words(kLeft + kPlotWidth + 8, scale.y(rate) + 4, "start",
                 tick_text(rate * megabytes, step * megabytes));
  }
  svg += words(kLeft - 8, 14, "end", "IOPS");
  svg += words(kLeft + kPlotWidth + 8, 14, "start", "MB/s");
  const double second = nice_step(scale.seconds, 8);
  for (double at = 0; at <= scale.seconds + second / 100; at += second) {
    svg += line(scale.x(at), kRateHeight - kBottom, scale.x(at), kRateHeight - kBottom + 4, "tick");
    svg += words(scale.x(at), kRateHeight - kBottom + 18, "middle",
                 tick_text(at, second) + (at == 0 ? " s" : ""));
  }
  return svg;
}

std::string target_line(const RateChart& chart, const RateScale& scale) {
  std::string path, band;
  for (std::size_t i = 0; i < chart.target.size(); ++i) {
    const RateChart::Step& step = chart.target[i];
    const double to = i + 1 < chart.target.size() ? chart.target[i + 1].from_s : scale.seconds;
    path += fmt::format("{}{:.1f},{:.1f} L{:.1f},{:.1f} ", i == 0 ? "M" : "L", scale.x(step.from_s),
                        scale.y(step.iops), scale.x(to), scale.y(step.iops));
    const double top = scale.y(step.iops * (1 + chart.tolerance));
    const double bottom = scale.y(step.iops * (1 - chart.tolerance));
    band += fmt::format(
        "<rect class=\"band\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>\n",
        scale.x(step.from_s), top, scale.x(to) - scale.x(step.from_s), bottom - top);
  }
  std::string figures;
  for (const RateChart::Step& step : chart.target) {
    figures += (figures.empty() ? "" : ", then ") + figure_text(step.iops);
  }
  return band + fmt::format("<path class=\"target\" d=\"{}\"/>\n", path) +
         words(kLeft + kPlotWidth / 2, 14, "middle", "dashed: target " + figures, "note");
}

double log_position(double value, double low, double high) {
  const double bounded = std::clamp(value, low, high);
  return kLeft + kPlotWidth * (std::log10(bounded / low) / std::log10(high / low));
}

std::string microseconds_text(double value) {
  if (value < 1'000) return fmt::format("{:g} us", value);
  if (value < 1'000'000) return fmt::format("{:g} ms", value / 1'000);
  return fmt::format("{:g} s", value / 1'000'000);
}

}  // namespace

double nice_step(double value, unsigned most) {
  if (!(value > 0) || most == 0) return 1;
  const double rough = value / most;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string to_svg(const RateChart& chart) {
  RateScale scale;
  scale.seconds = std::max(static_cast<double>(chart.iops.size()) * chart.step_seconds, 0.1);
  double most = 1;
  for (const double rate : chart.iops) most = std::max(most, rate);
  for (const RateChart::Step& step : chart.target) most = std::max(most, step.iops);
  scale.iops = most * 1.15;
  std::string svg = opening(chart.label, kRateHeight) + rate_axes(chart, scale);
  if (!chart.target.empty()) svg += target_line(chart, scale);
  std::string points;
  for (std::size_t i = 0; i < chart.iops.size(); ++i) {
    const double middle = (static_cast<double>(i) + 0.5) * chart.step_seconds;
    points += fmt::format("{:.1f},{:.1f} ", scale.x(middle), scale.y(chart.iops[i]));
  }
  svg += fmt::format("<polyline class=\"measured\" points=\"{}\"/>\n</svg>\n", points);
  return svg;
}

std::string to_svg(const LatencyChart& chart) {
  double low = 1e12, high = 1;
  const auto take = [&](double value) {
    if (!(value > 0)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  };
  for (const LatencyChart::Series& series : chart.series) {
    for (const double value : series.microseconds) take(value);
  }
  if (chart.stated_us) take(*chart.stated_us);
  if (low > high) low = high;
  low = std::pow(10, std::floor(std::log10(low)));
  high = std::pow(10, std::floor(std::log10(high)) + 1);
  const double rows = static_cast<double>(chart.rows.size());
  const double bottom = kTop + rows * kRowHeight;
  std::string svg = opening(chart.label, bottom + kBottom);
  for (double at = low; at <= high * 1.01; at *= 10) {
    const double x = log_position(at, low, high);
    svg += line(x, kTop, x, bottom, "grid");
    svg += words(x, bottom + 18, "middle", microseconds_text(at));
  }
  for (std::size_t row = 0; row < chart.rows.size(); ++row) {
    const double y = kTop + (static_cast<double>(row) + 0.5) * kRowHeight;
    svg += line(kLeft, y, kLeft + kPlotWidth, y, "grid");
    svg += words(kLeft - 8, y + 4, "end", chart.rows[row]);
    for (std::size_t s = 0; s < chart.series.size(); ++s) {
      const LatencyChart::Series& series = chart.series[s];
      if (row >= series.microseconds.size()) continue;
      const double value = series.microseconds[row];
      const double x = log_position(value, low, high);
      // One above the line and one below, so that equal ones are both seen.
      const double dy = chart.series.size() == 1 ? 0 : s == 0 ? -5 : 5;
      svg += fmt::format(
          "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\"><title>{}: {}, {:.0f} "
          "us</title></circle>\n",
          escape_html(series.style), x, y + dy, escape_html(series.name),
          escape_html(chart.rows[row]), value);
    }
  }
  if (chart.stated_us) {
    const double x = log_position(*chart.stated_us, low, high);
    svg += line(x, kTop, x, bottom, "target");
    svg += words(x, kTop - 8, "middle", "stated " + microseconds_text(*chart.stated_us), "note");
  }
  return svg + "</svg>\n";
}

}  // namespace clouddisk::bench
