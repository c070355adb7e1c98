// plan.h: which cases a disk is measured in, and the target of each. Pure: the plan is made from
// what the disk is, before anything runs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench_report/tested_disk.h"

namespace clouddisk::bench {

enum class Access { kRead, kWrite, kRandomRead, kRandomWrite, kRandomMix };  // the mix: 70 % reads

struct Workload {
  Access access = Access::kRandomRead;
  std::uint64_t block_bytes = 0;
  unsigned depth = 1;        // requests in flight on all connections together
  unsigned connections = 1;  // to the export
  unsigned iops_max = 0;     // the client asks for no more; 0: for as much as it can

  bool writes() const { return access != Access::kRead && access != Access::kRandomRead; }
  bool reads() const { return access != Access::kWrite && access != Access::kRandomWrite; }
};

// What a case looks at.
enum class Phase {
  kRate,              // what it gives while it is asked for more than it may
  kLatency,           // one request at a time
  kAfterIdle,         // the first seconds after a pause: no more than 2 ms of burst
  kAfterResize,       // the new target holds at once
  kAfterLevelChange,  // the same
};

struct Case {
  std::string name;   // "randwrite-4k", as --case takes it
  std::string title;  // "4 KiB random write"
  Phase phase = Phase::kRate;
  Workload workload;
  TestedDisk disk;                    // what it is when the case begins
  std::optional<TestedDisk> becomes;  // what it is made into while the case runs
  Target target;
  std::optional<Target> target_after;  // of `becomes`
  std::string skipped;                 // why this disk has no such case; empty: it has

  // A change makes another disk of it, so it is never done to the disk itself.
  bool needs_own_disk() const { return becomes.has_value(); }
};

struct PlanOptions {
  std::vector<std::string> only;  // names of cases; empty: all
  unsigned connections = 1;
  bool may_write = true;  // false: cases that write are skipped
};

// Every case's name, in the order in which they run.
std::vector<std::string_view> case_names();
// Those of --matrix when none are named.
std::vector<std::string> matrix_case_names();

// kNotFound: no figures for such a disk; kInvalid: a name of `only` is no case.
Result<std::vector<Case>> make_plan(const TestedDisk& disk, const PlanOptions& options);

// Every category and level that the profile has, at its smallest size and just below and at each
// size where a cap is reached.
std::vector<TestedDisk> matrix_disks(Profile profile);
// "minimum", "below the IOPS cap", …: why the matrix has this size; empty: it has not.
std::string characteristic_of(const CategoryRow& row, std::uint64_t size_gib);

}  // namespace clouddisk::bench
