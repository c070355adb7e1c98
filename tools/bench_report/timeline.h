// timeline.h: how many requests ended when, in steps of 10 ms, from fio's logs. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tools/bench_report/fio_output.h"

namespace clouddisk::bench {

class Timeline {
 public:
  static constexpr double kStep = 0.01;  // seconds

  // A line for each request, with its latency in nanoseconds. The time zero is when the first one
  // was sent: what a disk gives at once is to be told from answers that came late.
  static Timeline from_requests(std::span<const std::vector<FioLogLine>> logs);
  // A line for each 100 ms and direction: requests a second since the line before. What came before
  // the first line is not known, so it counts from there.
  static Timeline from_rates(std::span<const std::vector<FioLogLine>> logs);

  bool empty() const { return counts_.empty(); }
  std::int64_t begin_unix_ms() const { return begin_unix_ms_; }
  double seconds() const { return static_cast<double>(counts_.size()) * kStep; }
  // Requests of each step.
  const std::vector<double>& counts() const { return counts_; }
  // Requests answered in [from, to), in seconds since the time zero, to whole steps.
  double requests(double from, double to) const;
  // A second, in [from, to); 0 when that is empty.
  double rate(double from, double to) const;
  // Rates of consecutive spans of `span` seconds, for a chart; the last one is whole.
  std::vector<double> rates(double span) const;

 private:
  std::size_t step_of(double seconds) const;
  void add(std::int64_t unix_ms, double requests);

  std::int64_t begin_unix_ms_ = 0;
  std::vector<double> counts_;
};

// The least and the most that any one-second window within [from, to) gave, a second; zeros when it
// is shorter than a second.
struct WindowRange {
  double least = 0;
  double most = 0;
};
WindowRange one_second_windows(const Timeline& timeline, double from, double to);

// How many milliseconds of the target rate were given at once at the beginning: the most by which
// the requests until some moment of the first second were ahead of the rate and `tolerance` of it.
double burst_ms(const Timeline& timeline, double iops, double tolerance);

}  // namespace clouddisk::bench
