#include "tools/bench_report/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "engine/base/units.h"

namespace clouddisk::bench {
namespace {

TestedDisk disk_of(std::string category, std::string level, std::uint64_t gib) {
  TestedDisk disk;
  disk.category = std::move(category);
  disk.level = std::move(level);
  disk.size_gib = gib;
  return disk;
}

const Case& find(const std::vector<Case>& plan, std::string_view name) {
  const auto at = std::find_if(plan.begin(), plan.end(),
                               [name](const Case& entry) { return entry.name == name; });
  EXPECT_NE(at, plan.end()) << name;
  return *at;
}

TEST(BenchTarget, IsTheLowerOfBothLimitsWithTheFormulaThatGivesIt) {
  struct Row {
    const char* name;
    TestedDisk disk;
    std::uint64_t bytes;
    double iops;
    Limit limit;
    const char* formula;
  };
  TestedDisk provisioned = disk_of("cloud_auto", "", 40);
  provisioned.profile = Profile::k2024;
  provisioned.provisioned_iops = 1'000;
  TestedDisk capped = disk_of("cloud_essd", "PL1", 40);
  capped.instance = {2'000, 50 * 1_MiB, SizeCost::kPlain};
  const Row rows[] = {
      {"IOPS of a PL1", disk_of("cloud_essd", "PL1", 40), 4_KiB, 3'800, Limit::kIops,
       "min(1,800 + 50 C, 50,000) IOPS at C = 40 GiB: 3,800"},
      {"throughput of a PL1", disk_of("cloud_essd", "PL1", 40), 1_MiB, 140, Limit::kThroughput,
       "min(120 + 0.5 C, 350) MB/s at C = 40 GiB: 140 / 1 MiB"},
      {"a fraction of a MB/s", disk_of("cloud_essd", "PL0", 319), 1_MiB, 179.75, Limit::kThroughput,
       "179.75 / 1 MiB"},
      {"standard SSD, 4 KiB", disk_of("cloud_ssd", "", 800), 4_KiB, 25'000, Limit::kIops, "25,000"},
      {"standard SSD, 16 KiB", disk_of("cloud_ssd", "", 800), 16_KiB, 17'200, Limit::kThroughput,
       "300 / 17.86 KiB, which 16 KiB count on this category"},
      {"standard SSD, 32 KiB", disk_of("cloud_ssd", "", 800), 32_KiB, 9'600, Limit::kThroughput,
       "300 / 32 KiB"},
      {"standard SSD, 64 KiB", disk_of("cloud_ssd", "", 800), 64_KiB, 4'800, Limit::kThroughput,
       "300 / 64 KiB"},
      {"provisioned IOPS", provisioned, 4_KiB, 4'800, Limit::kIops, "+ 1,000 provisioned IOPS"},
      {"the instance's IOPS", capped, 4_KiB, 2'000, Limit::kInstanceIops,
       "2,000 IOPS of the instance, below the disk's 3,800"},
      {"the instance's throughput", capped, 1_MiB, 50, Limit::kInstanceThroughput,
       "50 MB/s of the instance / 1 MiB"},
  };
  for (const Row& row : rows) {
    const auto target = target_of(row.disk, row.bytes);
    ASSERT_TRUE(target) << row.name;
    EXPECT_NEAR(target->iops, row.iops, row.iops / 1'000) << row.name;
    EXPECT_EQ(target->limit, row.limit) << row.name;
    EXPECT_NE(target->formula.find(row.formula), std::string::npos)
        << row.name << ": " << target->formula;
  }
  EXPECT_FALSE(target_of(disk_of("cloud_turbo", "", 40), 4_KiB));
}

TEST(BenchPlan, ADiskHasEveryCaseInOrder) {
  const auto plan = make_plan(disk_of("cloud_essd", "PL1", 40), {});
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->size(), case_names().size());
  for (std::size_t i = 0; i < plan->size(); ++i) {
    EXPECT_EQ((*plan)[i].name, case_names()[i]);
    EXPECT_EQ((*plan)[i].skipped, "") << (*plan)[i].name;
  }
  EXPECT_EQ(find(*plan, "latency-read-4k").workload.depth, 1U);
  EXPECT_EQ(find(*plan, "latency-read-4k").workload.iops_max, 1'900U) << "away from the limit";
  EXPECT_EQ(find(*plan, "randread-4k").workload.iops_max, 0U);
  EXPECT_EQ(find(*plan, "randwrite-4k").workload.depth, 190U) << "50 ms of 3,800 a second";
  EXPECT_TRUE(find(*plan, "mix-4k").workload.reads());
  EXPECT_TRUE(find(*plan, "mix-4k").workload.writes());
}

TEST(BenchPlan, FastDisksGetMoreInFlightInEqualSharesOfTheirConnections) {
  PlanOptions options;
  options.connections = 3;
  const auto plan = make_plan(disk_of("cloud_essd", "PL3", 2'000), options);
  ASSERT_TRUE(plan);
  const Workload& load = find(*plan, "randread-4k").workload;
  EXPECT_EQ(load.connections, 3U);
  EXPECT_GE(load.depth, 256U);
  EXPECT_EQ(load.depth % 3, 0U);
  EXPECT_EQ(find(*plan, "latency-read-4k").workload.connections, 1U);
}

TEST(BenchPlan, AfterResizeTheTargetIsTheLargerDisks) {
  const auto plan = make_plan(disk_of("cloud_essd", "PL1", 40), {});
  ASSERT_TRUE(plan);
  const Case& resize = find(*plan, "after-resize");
  ASSERT_TRUE(resize.becomes);
  EXPECT_TRUE(resize.needs_own_disk());
  EXPECT_EQ(resize.becomes->size_gib, 80U);
  EXPECT_EQ(resize.target.iops, 3'800);
  EXPECT_EQ(resize.target_after->iops, 5'800);
  const auto full = make_plan(disk_of("cloud_essd", "PL1", 1'000), {});
  ASSERT_TRUE(full);
  EXPECT_NE(find(*full, "after-resize").skipped, "") << "its target grows no more";
}

TEST(BenchPlan, ALevelChangeComesFromBelowWhereThereIsSomethingBelow) {
  struct Row {
    TestedDisk disk;
    const char* from;
    const char* to;
  };
  const Row rows[] = {
      {disk_of("cloud_essd", "PL1", 40), "ESSD PL0, 40 GiB", "ESSD PL1, 40 GiB"},
      {disk_of("cloud_essd", "PL0", 40), "Standard SSD, 40 GiB", "ESSD PL0, 40 GiB"},
      {disk_of("cloud_essd", "PL1", 20), "Standard SSD, 20 GiB", "ESSD PL1, 20 GiB"},
      {disk_of("cloud_essd", "PL2", 461), "ESSD PL0, 461 GiB", "ESSD PL2, 461 GiB"},
      {disk_of("cloud_efficiency", "", 40), "Ultra disk, 40 GiB", "Standard SSD, 40 GiB"},
  };
  for (const Row& row : rows) {
    const auto plan = make_plan(row.disk, {});
    ASSERT_TRUE(plan);
    const Case& change = find(*plan, "after-level-change");
    ASSERT_TRUE(change.becomes) << row.to << ": " << change.skipped;
    EXPECT_EQ(change.disk.title(), row.from);
    EXPECT_EQ(change.becomes->title(), row.to);
    EXPECT_NE(change.target.iops, change.target_after->iops);
  }
  const auto basic = make_plan(disk_of("cloud", "", 40), {});
  ASSERT_TRUE(basic);
  EXPECT_NE(find(*basic, "after-level-change").skipped, "");
}

TEST(BenchPlan, ADiskThatIsOnlyReadSkipsWhatWrites) {
  PlanOptions options;
  options.may_write = false;
  const auto plan = make_plan(disk_of("cloud_essd", "PL1", 40), options);
  ASSERT_TRUE(plan);
  for (const Case& entry : *plan) {
    if (entry.needs_own_disk()) continue;
    EXPECT_EQ(entry.skipped.empty(), !entry.workload.writes()) << entry.name;
  }
}

TEST(BenchPlan, UnknownCasesAreRefusedByName) {
  PlanOptions options;
  options.only = {"randread-4k"};
  const auto one = make_plan(disk_of("cloud_essd", "PL1", 40), options);
  ASSERT_TRUE(one);
  EXPECT_EQ(one->size(), 1U);
  options.only = {"randread-5k"};
  const auto none = make_plan(disk_of("cloud_essd", "PL1", 40), options);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kInvalid);
  EXPECT_NE(none.error().message.find("randread-5k"), std::string::npos);
}

TEST(BenchMatrix, HasEachLevelAtItsMinimumAndAroundItsCaps) {
  const auto sizes = [](std::string_view category, std::string_view level) {
    std::vector<std::uint64_t> found;
    for (const TestedDisk& disk : matrix_disks(Profile::k2021)) {
      if (disk.category == category && disk.level == level) found.push_back(disk.size_gib);
    }
    return found;
  };
  using Sizes = std::vector<std::uint64_t>;
  EXPECT_EQ(sizes("cloud_essd", "PL0"), (Sizes{40, 319, 320, 683, 684}));
  EXPECT_EQ(sizes("cloud_essd", "PL1"), (Sizes{20, 459, 460, 963, 964}));
  EXPECT_EQ(sizes("cloud_essd", "PL2"), (Sizes{461, 1'259, 1'260, 1'963, 1'964}));
  EXPECT_EQ(sizes("cloud_essd", "PL3"), (Sizes{1'261, 7'759, 7'760, 19'963, 19'964}));
  EXPECT_EQ(sizes("cloud_ssd", ""), (Sizes{20, 359, 360, 773, 774}));
  EXPECT_EQ(sizes("cloud_efficiency", ""), (Sizes{20, 266, 267, 399, 400}));
  EXPECT_EQ(sizes("cloud", ""), (Sizes{5}));
  const CategoryRow& pl0 = *find_category(Profile::k2021, "cloud_essd", "PL0");
  EXPECT_EQ(characteristic_of(pl0, 40), "minimum");
  EXPECT_EQ(characteristic_of(pl0, 319), "below the throughput cap");
  EXPECT_EQ(characteristic_of(pl0, 684), "at the IOPS cap");
  EXPECT_EQ(characteristic_of(pl0, 100), "");
  for (const Profile profile : {Profile::k2021, Profile::k2024}) {
    for (const TestedDisk& disk : matrix_disks(profile)) {
      EXPECT_NE(characteristic_of(*row_of(disk), disk.size_gib), "") << disk.title();
      PlanOptions options;
      options.only = matrix_case_names();
      EXPECT_TRUE(make_plan(disk, options)) << disk.title();
    }
  }
}

}  // namespace
}  // namespace clouddisk::bench
