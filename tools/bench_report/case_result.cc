#include "tools/bench_report/case_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace clouddisk::bench {
namespace {

// The end of a run, while the last requests come back one by one, tells nothing of the rate.
constexpr double kTailSeconds = 0.05;
// What a change may take until it is seen: the answers under way, and a client's batch.
constexpr double kSettleSeconds = 0.3;

struct Span {
  double from = 0, to = 0;
  double length() const { return std::max(to - from, 0.0); }
};

// After the first second, or less of a short run.
Span steady_span(const Observation& seen) {
  const double end = std::min(seen.asked_seconds, seen.timeline.seconds()) - kTailSeconds;
  return {std::min(1.0, seen.asked_seconds / 4), end};
}

enum class Against { kBelow, kWithin, kAbove };
Against compare(double rate, double target, double seconds) {
  // Counting goes to a whole request at each end.
  const double slack = std::max(target * kTolerance, seconds > 0 ? 1 / seconds : 0);
  if (rate < target - slack) return Against::kBelow;
  return rate > target + slack ? Against::kAbove : Against::kWithin;
}

std::string percent_text(double ratio) {
  return fmt::format("{:.1f} %", std::abs(ratio - 1) * 100);
}

bool limits_acted(const Observation& seen) {
  return seen.throttled_share >= kThrottledLeast;
}

// Whether what is missing was lost while the daemon did not run. The count is of the whole run, of
// which `seconds` are looked at: a part of it at the most is blamed on each.
bool stalls_explain(const Observation& seen, const Target& target, double rate, double seconds) {
  const double lost = std::min(seen.stalled_seconds, seconds) * target.iops;
  return compare(rate + lost / seconds, target.iops, seconds) != Against::kBelow;
}

void judge_rate(CaseResult& result, const Target& target, double rate, double seconds) {
  result.ratio = target.iops > 0 ? rate / target.iops : 0;
  result.acted = limits_acted(result.seen) ? target.limit : Limit::kDevice;
  switch (compare(rate, target.iops, seconds)) {
    case Against::kWithin:
      result.verdict = Verdict::kPass;
      return;
    case Against::kAbove:
      result.verdict = Verdict::kFail;
      result.note = percent_text(result.ratio) + " above the target";
      if (!limits_acted(result.seen)) {
        result.note += "; no request waited for a limit: is the daemon run with --no-limits?";
      }
      return;
    case Against::kBelow:
      if (limits_acted(result.seen) && stalls_explain(result.seen, target, rate, seconds)) {
        result.verdict = Verdict::kHost;
        result.note = fmt::format(
            "{} below the target: this host is busy, and the daemon did not run for {:.0f} ms",
            percent_text(result.ratio), result.seen.stalled_seconds * 1'000);
      } else if (limits_acted(result.seen)) {
        result.verdict = Verdict::kFail;
        result.note = percent_text(result.ratio) +
                      " below the target, although requests waited for the limit: the client "
                      "stalled, or the limit is too low; the windows and the chart tell";
      } else {
        result.verdict = Verdict::kHost;
        result.note = percent_text(result.ratio) +
                      " below the target, and requests hardly waited for the limit: this host "
                      "can't reach it";
      }
      return;
  }
}

void judge_latency(CaseResult& result) {
  const FioDirection& direction =
      result.plan.workload.writes() ? result.seen.fio.write : result.seen.fio.read;
  const CategoryRow* row = row_of(result.plan.disk);
  result.verdict = Verdict::kInfo;
  result.ratio = 0;
  result.acted = limits_acted(result.seen) ? result.plan.target.limit : Limit::kDevice;
  if (row == nullptr || row->latency_max_us == 0) return;
  const double stated = (row->latency_min_us + row->latency_max_us) / 2.0;
  const std::string stated_text =
      row->latency_min_us == row->latency_max_us
          ? fmt::format("{:g} ms", row->latency_max_us / 1'000.0)
          : fmt::format("{:g} to {:g} ms", row->latency_min_us / 1'000.0,
                        row->latency_max_us / 1'000.0);
  if (!result.plan.workload.writes()) return;
  result.note = fmt::format("the category states {} for a 4 KiB random write", stated_text);
  if (!result.seen.latency_emulated) {
    result.note += "; clouddiskd --emulate-latency gives that";
    return;
  }
  constexpr double kEmulatedWithin = 0.1;
  const double median = direction.percentiles.empty() ? direction.mean_us
                                                      : direction.percentiles.front().microseconds;
  result.ratio = median / stated;
  const bool within = std::abs(result.ratio - 1) <= kEmulatedWithin;
  // A host that is slower than the category can't be made faster.
  result.verdict = within ? Verdict::kPass : median > stated ? Verdict::kHost : Verdict::kFail;
}

void judge_idle(CaseResult& result) {
  result.burst_ms = burst_ms(result.seen.timeline, result.plan.target.iops, kTolerance);
  // The log's clock ticks in milliseconds, and one request is the grain.
  const double grain = 1'000 / std::max(result.plan.target.iops, 1.0);
  const double within = kBurstMsMax + 1 + grain;
  if (result.verdict == Verdict::kPass && *result.burst_ms > within) {
    result.verdict = Verdict::kFail;
    result.note =
        fmt::format("{:.1f} ms of requests were given at once after idle", *result.burst_ms);
  }
}

void judge_change(CaseResult& result) {
  const Observation& seen = result.seen;
  const Span all = steady_span(seen);
  if (!seen.change_asked_s || !seen.change_done_s || *seen.change_asked_s <= all.from ||
      *seen.change_done_s + kSettleSeconds >= all.to) {
    result.verdict = Verdict::kFail;
    result.note = "the change did not come while the load was running";
    return;
  }
  const Span before{all.from, *seen.change_asked_s};
  const Span after{*seen.change_done_s + kSettleSeconds, all.to};
  result.iops_before = seen.timeline.rate(before.from, before.to);
  CaseResult first = result;
  judge_rate(first, result.plan.target, *result.iops_before, before.length());
  result.iops = seen.timeline.rate(after.from, after.to);
  judge_rate(result, *result.plan.target_after, result.iops, after.length());
  result.windows = one_second_windows(seen.timeline, after.from, after.to);
  if (result.verdict == Verdict::kPass && first.verdict != Verdict::kPass) {
    result.verdict = first.verdict;
    result.note = "before the change: " + first.note;
  }
}

int badness(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSkipped:
      return 0;
    case Verdict::kInfo:
      return 1;
    case Verdict::kPass:
      return 2;
    case Verdict::kHost:
      return 3;
    case Verdict::kFail:
      return 4;
  }
  return 4;
}

}  // namespace

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass";
    case Verdict::kFail:
      return "FAIL";
    case Verdict::kHost:
      return "host";
    case Verdict::kInfo:
      return "info";
    case Verdict::kSkipped:
      return "skipped";
  }
  return "";
}

CaseResult skipped(Case plan, std::string why) {
  CaseResult result;
  result.plan = std::move(plan);
  result.note = std::move(why);
  return result;
}

CaseResult judge(Case plan, Observation seen) {
  CaseResult result;
  result.plan = std::move(plan);
  result.seen = std::move(seen);
  if (result.seen.fio.requests() == 0 || result.seen.timeline.empty()) {
    result.verdict = Verdict::kFail;
    result.note = "no request was answered";
    return result;
  }
  if (result.plan.becomes) {
    judge_change(result);
    return result;
  }
  const Span span = steady_span(result.seen);
  result.iops = result.seen.timeline.rate(span.from, span.to);
  result.windows = one_second_windows(result.seen.timeline, span.from, span.to);
  if (result.windows->most == 0) result.windows.reset();  // The run was shorter than a window.
  if (result.plan.phase == Phase::kLatency) {
    judge_latency(result);
    return result;
  }
  judge_rate(result, result.plan.target, result.iops, span.length());
  if (result.plan.phase == Phase::kAfterIdle) judge_idle(result);
  return result;
}

Verdict worst(const std::vector<CaseResult>& results) {
  Verdict verdict = Verdict::kSkipped;
  for (const CaseResult& result : results) {
    if (badness(result.verdict) > badness(verdict)) verdict = result.verdict;
  }
  return verdict;
}

}  // namespace clouddisk::bench
