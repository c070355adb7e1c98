#include "tools/bench_report/timeline.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace clouddisk::bench {
namespace {

constexpr std::int64_t kStepMs = 10;
// Nobody measures longer: lines that claim more are another clock's.
constexpr std::int64_t kLengthMsMax = 24 * 3'600 * 1'000;

std::int64_t first_of(std::span<const std::vector<FioLogLine>> logs) {
  std::int64_t first = std::numeric_limits<std::int64_t>::max();
  for (const auto& log : logs) {
    for (const FioLogLine& line : log) first = std::min(first, line.unix_ms);
  }
  return first;
}

// When the first request was sent.
std::int64_t first_sent(std::span<const std::vector<FioLogLine>> logs) {
  constexpr double kNanosecondsAMs = 1e6;
  std::int64_t first = std::numeric_limits<std::int64_t>::max();
  for (const auto& log : logs) {
    for (const FioLogLine& line : log) {
      const double latency_ms = std::min(line.value / kNanosecondsAMs, double{kLengthMsMax});
      first = std::min(first, line.unix_ms - static_cast<std::int64_t>(std::ceil(latency_ms)));
    }
  }
  return first;
}

}  // namespace

void Timeline::add(std::int64_t unix_ms, double requests) {
  const std::int64_t since = unix_ms - begin_unix_ms_;
  if (since < 0 || since > kLengthMsMax) return;
  const auto step = static_cast<std::size_t>(since / kStepMs);
  if (step >= counts_.size()) counts_.resize(step + 1);
  counts_[step] += requests;
}

Timeline Timeline::from_requests(std::span<const std::vector<FioLogLine>> logs) {
  Timeline timeline;
  timeline.begin_unix_ms_ = first_sent(logs);
  for (const auto& log : logs) {
    for (const FioLogLine& line : log) timeline.add(line.unix_ms, 1);
  }
  return timeline;
}

Timeline Timeline::from_rates(std::span<const std::vector<FioLogLine>> logs) {
  Timeline timeline;
  timeline.begin_unix_ms_ = first_of(logs);
  for (const auto& log : logs) {
    std::map<unsigned, std::int64_t> last;  // by direction
    for (const FioLogLine& line : log) {
      const auto [before, first] = last.try_emplace(line.direction, line.unix_ms);
      if (first) continue;
      const std::int64_t span = std::min(line.unix_ms - before->second, kLengthMsMax);
      for (std::int64_t at = 0; at < span; ++at) {
        timeline.add(before->second + at, line.value / 1'000);
      }
      before->second = line.unix_ms;
    }
  }
  return timeline;
}

std::size_t Timeline::step_of(double seconds) const {
  const double step = std::round(std::max(seconds, 0.0) / kStep);
  return static_cast<std::size_t>(std::min(step, static_cast<double>(counts_.size())));
}

double Timeline::requests(double from, double to) const {
  double sum = 0;
  for (std::size_t i = step_of(from); i < step_of(to); ++i) sum += counts_[i];
  return sum;
}

double Timeline::rate(double from, double to) const {
  const std::size_t steps = step_of(to) - std::min(step_of(from), step_of(to));
  return steps == 0 ? 0 : requests(from, to) / (static_cast<double>(steps) * kStep);
}

std::vector<double> Timeline::rates(double span) const {
  std::vector<double> rates;
  for (std::size_t i = 0; span * static_cast<double>(i + 1) <= seconds() + kStep / 2; ++i) {
    const double from = span * static_cast<double>(i);
    rates.push_back(rate(from, from + span));
  }
  return rates;
}

WindowRange one_second_windows(const Timeline& timeline, double from, double to) {
  WindowRange range{std::numeric_limits<double>::max(), 0};
  const double end = std::min(to, timeline.seconds());
  bool any = false;
  for (double at = from; at + 1 <= end + Timeline::kStep / 2; at += Timeline::kStep) {
    const double rate = timeline.rate(at, at + 1);
    range.least = std::min(range.least, rate);
    range.most = std::max(range.most, rate);
    any = true;
  }
  return any ? range : WindowRange{};
}

double burst_ms(const Timeline& timeline, double iops, double tolerance) {
  if (!(iops > 0)) return 0;
  double ahead = 0, sum = 0;
  const std::size_t steps = std::min<std::size_t>(timeline.counts().size(), 100);
  for (std::size_t i = 0; i < steps; ++i) {
    sum += timeline.counts()[i];
    // At the end of the step; the first request was at its beginning.
    const double elapsed = static_cast<double>(i + 1) * Timeline::kStep;
    ahead = std::max(ahead, sum / iops - elapsed * (1 + tolerance));
  }
  return ahead * 1'000;
}

}  // namespace clouddisk::bench
