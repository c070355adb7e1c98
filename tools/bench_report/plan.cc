#include "tools/bench_report/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "engine/base/units.h"

namespace clouddisk::bench {
namespace {

struct Shape {
  std::string_view name;
  std::string_view title;
  Phase phase;
  Access access;
  std::uint64_t block_bytes;
  unsigned depth;  // 0: as many as the target needs
};

constexpr std::array kShapes = {
    Shape{"write-1m", "1 MiB sequential write", Phase::kRate, Access::kWrite, 1_MiB, 8},
    Shape{"read-1m", "1 MiB sequential read", Phase::kRate, Access::kRead, 1_MiB, 8},
    Shape{"randwrite-4k", "4 KiB random write", Phase::kRate, Access::kRandomWrite, 4_KiB, 0},
    Shape{"randread-4k", "4 KiB random read", Phase::kRate, Access::kRandomRead, 4_KiB, 0},
    Shape{"mix-4k", "4 KiB random, 70 % reads", Phase::kRate, Access::kRandomMix, 4_KiB, 0},
    Shape{"mix-16k", "16 KiB random, 70 % reads", Phase::kRate, Access::kRandomMix, 16_KiB, 0},
    Shape{"mix-32k", "32 KiB random, 70 % reads", Phase::kRate, Access::kRandomMix, 32_KiB, 0},
    Shape{"mix-64k", "64 KiB random, 70 % reads", Phase::kRate, Access::kRandomMix, 64_KiB, 0},
    Shape{"latency-write-4k", "4 KiB random write, one at a time", Phase::kLatency,
          Access::kRandomWrite, 4_KiB, 1},
    Shape{"latency-read-4k", "4 KiB random read, one at a time", Phase::kLatency,
          Access::kRandomRead, 4_KiB, 1},
    Shape{"after-idle", "4 KiB random write, first seconds after idle", Phase::kAfterIdle,
          Access::kRandomWrite, 4_KiB, 0},
    Shape{"after-resize", "4 KiB random write while the disk grows", Phase::kAfterResize,
          Access::kRandomWrite, 4_KiB, 0},
    Shape{"after-level-change", "4 KiB random write while the level changes",
          Phase::kAfterLevelChange, Access::kRandomWrite, 4_KiB, 0},
};

// What the target takes in 50 ms, so that a client that is held up for a moment still has requests
// waiting; 64 as the usual measure; more than 256 would measure the client's queues.
unsigned depth_for(double iops, unsigned connections) {
  const double wanted = std::clamp(iops * 0.05, 64.0, 256.0);
  const unsigned depth = static_cast<unsigned>(std::ceil(wanted));
  return (depth + connections - 1) / connections * connections;
}

// A change shows when it moves the target by more than what a measurement is off.
constexpr double kVisible = 0.05;
bool differs(const Target& a, const Target& b) {
  return std::abs(a.iops - b.iops) > kVisible * std::min(a.iops, b.iops);
}

std::optional<TestedDisk> grown(const TestedDisk& disk, const Target& before) {
  const CategoryRow* row = row_of(disk);
  for (std::uint64_t gib = disk.size_gib * 2; row->capacity.contains(gib); gib *= 2) {
    TestedDisk larger = disk;
    larger.size_gib = gib;
    auto after = target_of(larger, before.block_bytes);
    if (after && differs(before, *after)) return larger;
  }
  return std::nullopt;
}

// What a disk of this spec could have been before, or could become: the nearest first.
std::vector<TestedDisk> neighbours(const TestedDisk& disk) {
  std::vector<TestedDisk> found;
  for (const CategoryRow* row : category_table(disk.profile)) {
    if (!row->creatable() || !row->capacity.contains(disk.size_gib)) continue;
    TestedDisk other = disk;
    other.category = row->category;
    other.level = row->level;
    other.provisioned_iops = 0;
    found.push_back(std::move(other));
  }
  return found;
}

// Where a disk stands among those that it can be changed to: changes go upwards. 0: nowhere.
int standing(const TestedDisk& disk) {
  if (disk.category == "cloud_efficiency") return 1;
  if (disk.category == "cloud_ssd") return 2;
  if (disk.category != "cloud_essd") return 0;
  return 3 + (disk.level.empty() ? 0 : disk.level.back() - '0');
}

struct LevelChange {
  TestedDisk from, to;
};
// To the tested level if there is one below, else from it.
std::optional<LevelChange> level_change(const TestedDisk& disk, std::uint64_t block_bytes) {
  const int here = standing(disk);
  if (here == 0) return std::nullopt;
  const auto own = target_of(disk, block_bytes);
  std::optional<LevelChange> best;
  std::pair<bool, int> best_order;  // upwards from here is second choice; then the nearest
  for (const TestedDisk& other : neighbours(disk)) {
    const int there = standing(other);
    const auto target = target_of(other, block_bytes);
    if (there == 0 || there == here || !target || !own || !differs(*own, *target)) continue;
    const std::pair<bool, int> order{there > here, std::abs(there - here)};
    if (best && order >= best_order) continue;
    best = there < here ? LevelChange{other, disk} : LevelChange{disk, other};
    best_order = order;
  }
  return best;
}

void plan_change(Case& made, const TestedDisk& disk) {
  if (made.phase == Phase::kAfterResize) {
    made.becomes = grown(disk, made.target);
    if (!made.becomes) made.skipped = "the disk's target does not grow with its size any more";
  } else {
    auto change = level_change(disk, made.workload.block_bytes);
    if (change) {
      made.disk = change->from;
      made.becomes = change->to;
    } else {
      made.skipped = "no other category or level of this size has another target";
    }
  }
  if (!made.becomes) return;
  made.disk.id.clear();
  made.becomes->id.clear();
  auto before = target_of(made.disk, made.workload.block_bytes);
  auto after = target_of(*made.becomes, made.workload.block_bytes);
  CHECK(before);
  CHECK(after);
  made.target = *before;
  made.target_after = *after;
}

Case make_case(const Shape& shape, const TestedDisk& disk, Target target,
               const PlanOptions& options) {
  Case made;
  made.name = shape.name;
  made.title = shape.title;
  made.phase = shape.phase;
  made.disk = disk;
  made.target = std::move(target);
  made.workload = {shape.access, shape.block_bytes, shape.depth, 1, 0};
  if (shape.phase == Phase::kLatency) {
    // Far from the limit, which would add to the latency.
    made.workload.iops_max = static_cast<unsigned>(std::max(made.target.iops / 2, 1.0));
  } else {
    made.workload.connections = options.connections;
  }
  if (shape.phase == Phase::kAfterResize || shape.phase == Phase::kAfterLevelChange) {
    plan_change(made, disk);
  }
  if (shape.depth == 0) {
    const double most =
        made.target_after ? std::max(made.target.iops, made.target_after->iops) : made.target.iops;
    made.workload.depth = depth_for(most, made.workload.connections);
  }
  made.workload.depth = std::max(made.workload.depth, made.workload.connections);
  if (!options.may_write && made.workload.writes() && made.skipped.empty() &&
      !made.needs_own_disk()) {
    made.skipped = "it writes, and the disk is only read";
  }
  return made;
}

// The smallest size at which a formula has reached its cap; 0: it has none.
std::uint64_t size_of_cap(const LinearFormula& formula) {
  if (formula.cap == 0 || formula.slope_hundredths == 0 || formula.cap <= formula.base) return 0;
  const std::uint64_t missing = (formula.cap - formula.base) * 100;
  return (missing + formula.slope_hundredths - 1) / formula.slope_hundredths;
}

}  // namespace

std::vector<std::string_view> case_names() {
  std::vector<std::string_view> names;
  for (const Shape& shape : kShapes) names.push_back(shape.name);
  return names;
}

std::vector<std::string> matrix_case_names() {
  return {"write-1m", "mix-4k"};
}

Result<std::vector<Case>> make_plan(const TestedDisk& disk, const PlanOptions& options) {
  const auto names = case_names();
  for (const std::string& wanted : options.only) {
    if (std::find(names.begin(), names.end(), wanted) == names.end()) {
      return fail(Errc::kInvalid, "'{}' is no case; there are {}", wanted, fmt::join(names, ", "));
    }
  }
  std::vector<Case> plan;
  for (const Shape& shape : kShapes) {
    if (!options.only.empty() &&
        std::find(options.only.begin(), options.only.end(), shape.name) == options.only.end()) {
      continue;
    }
    auto target = target_of(disk, shape.block_bytes);
    if (!target) return target.error();
    plan.push_back(make_case(shape, disk, *target, options));
  }
  return plan;
}

std::string characteristic_of(const CategoryRow& row, std::uint64_t size_gib) {
  std::vector<std::string> reasons;
  if (size_gib == row.capacity.min_gib) reasons.push_back("minimum");
  const auto add = [&](const LinearFormula& formula, std::string_view what) {
    const std::uint64_t cap = size_of_cap(formula);
    if (cap <= row.capacity.min_gib) return;
    if (size_gib + 1 == cap) reasons.push_back(fmt::format("below the {} cap", what));
    if (size_gib == cap) reasons.push_back(fmt::format("at the {} cap", what));
  };
  add(row.iops, "IOPS");
  add(row.throughput, "throughput");
  return fmt::format("{}", fmt::join(reasons, ", "));
}

std::vector<TestedDisk> matrix_disks(Profile profile) {
  std::vector<TestedDisk> disks;
  for (const CategoryRow* row : category_table(profile)) {
    if (!row->creatable()) continue;
    std::set<std::uint64_t> sizes{row->capacity.min_gib};
    for (const LinearFormula& formula : {row->iops, row->throughput}) {
      const std::uint64_t cap = size_of_cap(formula);
      for (const std::uint64_t gib : {cap - std::min<std::uint64_t>(cap, 1), cap}) {
        if (row->capacity.contains(gib)) sizes.insert(gib);
      }
    }
    for (const std::uint64_t gib : sizes) {
      TestedDisk disk;
      disk.category = row->category;
      disk.level = row->level;
      disk.size_gib = gib;
      disk.profile = profile;
      disks.push_back(std::move(disk));
    }
  }
  return disks;
}

}  // namespace clouddisk::bench
