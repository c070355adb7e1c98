// case_result.h: what a case gave, and the verdict. Pure.
//
// The verdict never says more than what was seen: a target that was not reached is no pass,
// whatever the reason. Reasons are told apart by how long requests waited for the limits: a disk
// that hardly waits is as fast as its host, and no limit can show; and by how long the daemon did
// not run although limits had more to give, which it counts.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench_report/fio_output.h"
#include "tools/bench_report/plan.h"
#include "tools/bench_report/timeline.h"

namespace clouddisk::bench {

// Within this of the target is what is asked for; and one request, the grain of counting.
inline constexpr double kTolerance = 0.01;
// Less of a request's time than this spent waiting for limits: they do not act.
inline constexpr double kThrottledLeast = 0.1;
inline constexpr double kBurstMsMax = 2;

enum class Verdict {
  kPass,
  kFail,     // not the target, although the limits acted, or more than the target
  kHost,     // the host can't reach the target, so the limits can't be seen
  kInfo,     // a figure without a target
  kSkipped,  // not run
};
std::string_view name(Verdict verdict);  // "pass", "FAIL", "host", "info", "skipped"

// What was seen while a case ran.
struct Observation {
  FioResult fio;
  Timeline timeline;
  double asked_seconds = 0;  // how long fio was told to run
  // From the daemon's counters, over the run.
  double throttled_share = 0;  // of the time that requests took: waiting for limits
  double stalled_seconds = 0;  // limits had more to give, and the daemon did not run
  // When the disk was made into another, since the timeline's time zero.
  std::optional<double> change_asked_s, change_done_s;
  bool latency_emulated = false;
};

struct CaseResult {
  Case plan;
  Verdict verdict = Verdict::kSkipped;
  std::string note;  // why; empty for a plain pass
  double iops = 0;   // measured after the first second; after the change where there is one
  std::optional<double> iops_before;   // the change
  double ratio = 0;                    // to the target that `iops` is measured against
  std::optional<WindowRange> windows;  // of a second each; against the same target
  Limit acted = Limit::kDevice;
  std::optional<double> burst_ms;
  Observation seen;
  // The same job on a file beside a replica, without a daemon: requests a second.
  std::optional<double> device_iops;
  std::string device_note;

  const Target& final_target() const {
    return plan.target_after ? *plan.target_after : plan.target;
  }
  double bytes_per_second() const { return iops * static_cast<double>(plan.workload.block_bytes); }
  // Whether the report is to say what the device gives.
  bool wants_device_figure() const { return verdict == Verdict::kHost && acted == Limit::kDevice; }
};

CaseResult skipped(Case plan, std::string why);
CaseResult judge(Case plan, Observation seen);
// Of several: the worst. Nothing measured is no pass.
Verdict worst(const std::vector<CaseResult>& results);

}  // namespace clouddisk::bench
