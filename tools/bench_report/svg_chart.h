// svg_chart.h: the charts of a report's page, as inline SVG that takes its colours from the page's
// style sheet (classes: measured, target, band, grid, axis, read, write). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace clouddisk::bench {

// Requests a second over time against the target line, with MB/s on the right: at one block size
// both are the same line.
struct RateChart {
  struct Step {
    double from_s = 0;  // until the next step
    double iops = 0;
  };
  std::string label;  // for those who can't see it
  std::vector<double> iops;
  double step_seconds = 0.1;
  std::vector<Step> target;  // at least one; the first from 0
  std::uint64_t block_bytes = 0;
  double tolerance = 0;  // the band around the target
};
std::string to_svg(const RateChart& chart);

// Latency percentiles on a logarithmic scale, a row each.
struct LatencyChart {
  struct Series {
    std::string name;                  // "read"
    std::string style;                 // its class
    std::vector<double> microseconds;  // one a row
  };
  std::string label;
  std::vector<std::string> rows;  // "50 %"
  std::vector<Series> series;
  std::optional<double> stated_us;  // what the category states
};
std::string to_svg(const LatencyChart& chart);

// Of 1, 2 or 5 times a power of ten: so that at most `most` of them reach `value`.
double nice_step(double value, unsigned most);
std::string escape_html(std::string_view text);

}  // namespace clouddisk::bench
