// observations.h: runs that never were: a client that was given certain rates.
#pragma once

#include <vector>

#include "tools/bench_report/case_result.h"

namespace clouddisk::bench {

struct Stretch {
  double seconds = 0;
  double iops = 0;
};

inline Observation observe(const std::vector<Stretch>& stretches, double throttled_share = 0.9,
                           std::size_t at_once = 0) {
  constexpr std::int64_t kBegin = 1'795'876'755'000;
  std::vector<FioLogLine> log(at_once, FioLogLine{kBegin, 0, 1});
  Observation seen;
  double at = 0;
  for (const Stretch& stretch : stretches) {
    for (double i = 0; i < stretch.seconds * stretch.iops; ++i) {
      const double ms = (at + i / stretch.iops) * 1'000;
      log.push_back({kBegin + static_cast<std::int64_t>(ms), 0, 1});
    }
    at += stretch.seconds;
  }
  seen.asked_seconds = at;
  seen.throttled_share = throttled_share;
  seen.fio.write = {
      log.size(), log.size() * 4'096,      static_cast<std::uint64_t>(at * 1'000), 900,
      2'000,      {{50, 200}, {99, 1'000}}};
  const std::vector<std::vector<FioLogLine>> logs{std::move(log)};
  seen.timeline = Timeline::from_requests(logs);
  return seen;
}

inline Case case_of(const std::string& name, const TestedDisk& disk) {
  PlanOptions options;
  options.only = {name};
  auto plan = make_plan(disk, options);
  CHECK(plan);
  return plan->front();
}

inline TestedDisk pl1_disk() {
  TestedDisk disk;
  disk.id = "d-tested";
  disk.category = "cloud_essd";
  disk.level = "PL1";
  disk.size_gib = 40;
  return disk;
}

}  // namespace clouddisk::bench
