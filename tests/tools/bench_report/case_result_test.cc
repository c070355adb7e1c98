#include "tools/bench_report/case_result.h"

#include <gtest/gtest.h>

#include "tests/tools/bench_report/observations.h"

namespace clouddisk::bench {
namespace {

TEST(BenchVerdict, OnlyTheTargetWithinOnePercentPasses) {
  struct Row {
    const char* name;
    double iops;
    double throttled;
    Verdict verdict;
    Limit acted;
    const char* note;
  };
  const Row rows[] = {
      {"the target", 3'800, 0.95, Verdict::kPass, Limit::kIops, ""},
      {"just within, below", 3'765, 0.95, Verdict::kPass, Limit::kIops, ""},
      {"just within, above", 3'835, 0.95, Verdict::kPass, Limit::kIops, ""},
      {"above", 3'860, 0.95, Verdict::kFail, Limit::kIops, "1.6 % above"},
      {"far above, without limits", 50'000, 0, Verdict::kFail, Limit::kDevice, "--no-limits"},
      {"below although it waited", 3'700, 0.5, Verdict::kFail, Limit::kIops, "2.6 % below"},
      {"a slow host", 1'900, 0.02, Verdict::kHost, Limit::kDevice, "this host can't reach it"},
      {"a slow host, by little", 3'740, 0.02, Verdict::kHost, Limit::kDevice, "1.6 % below"},
  };
  for (const Row& row : rows) {
    const CaseResult result =
        judge(case_of("randwrite-4k", pl1_disk()), observe({{5, row.iops}}, row.throttled));
    EXPECT_EQ(result.verdict, row.verdict) << row.name << ": " << result.note;
    EXPECT_EQ(result.acted, row.acted) << row.name;
    EXPECT_NEAR(result.iops, row.iops, row.iops * 0.001 + 1) << row.name;
    EXPECT_NEAR(result.ratio, row.iops / 3'800, 0.002) << row.name;
    EXPECT_NE(result.note.find(row.note), std::string::npos) << row.name << ": " << result.note;
    EXPECT_EQ(result.wants_device_figure(), row.verdict == Verdict::kHost) << row.name;
  }
}

TEST(BenchVerdict, ADaemonThatDidNotRunIsTheHostsDoing) {
  const auto stalled = [](double iops, double seconds) {
    Observation seen = observe({{5, iops}}, 0.9);
    seen.stalled_seconds = seconds;
    return judge(case_of("randwrite-4k", pl1_disk()), std::move(seen));
  };
  const CaseResult busy = stalled(3'700, 0.12);
  EXPECT_EQ(busy.verdict, Verdict::kHost);
  EXPECT_NE(busy.note.find("did not run for 120 ms"), std::string::npos) << busy.note;
  EXPECT_FALSE(busy.wants_device_figure()) << "the device is not the reason";
  EXPECT_EQ(stalled(3'700, 0.01).verdict, Verdict::kFail) << "too little to explain it";
  EXPECT_EQ(stalled(3'800, 0.12).verdict, Verdict::kPass);
}

TEST(BenchVerdict, TheFirstSecondDoesNotCount) {
  const CaseResult result =
      judge(case_of("randwrite-4k", pl1_disk()), observe({{1, 9'000}, {4, 3'800}}));
  EXPECT_EQ(result.verdict, Verdict::kPass) << result.note;
  ASSERT_TRUE(result.windows);
  EXPECT_NEAR(result.windows->most, 3'800, 10);
}

TEST(BenchVerdict, AStallIsSeenInTheWindowsAndInTheVerdict) {
  const CaseResult result =
      judge(case_of("randwrite-4k", pl1_disk()), observe({{3, 3'800}, {0.3, 0}, {1.7, 3'800}}));
  EXPECT_EQ(result.verdict, Verdict::kFail);
  EXPECT_NEAR(result.windows->least, 3'800 * 0.7, 20);
}

TEST(BenchVerdict, AFewLargeRequestsAreCountedToTheWholeRequest) {
  TestedDisk basic = pl1_disk();
  basic.category = "cloud";
  basic.level = "";
  const Case plan = case_of("write-1m", basic);
  EXPECT_EQ(judge(plan, observe({{2, 40.4}})).verdict, Verdict::kPass);
  EXPECT_EQ(judge(plan, observe({{2, 44}})).verdict, Verdict::kFail);
}

TEST(BenchVerdict, NothingMeasuredIsNoPass) {
  const CaseResult none = judge(case_of("randwrite-4k", pl1_disk()), Observation{});
  EXPECT_EQ(none.verdict, Verdict::kFail);
  EXPECT_EQ(worst({}), Verdict::kSkipped);
  const CaseResult left_out = skipped(case_of("randwrite-4k", pl1_disk()), "why");
  EXPECT_EQ(worst({left_out}), Verdict::kSkipped);
}

TEST(BenchVerdict, TheWorstOfAllIsTheReports) {
  const auto with = [](Verdict verdict) {
    CaseResult result;
    result.verdict = verdict;
    return result;
  };
  const CaseResult pass = with(Verdict::kPass), fail = with(Verdict::kFail),
                   host = with(Verdict::kHost), info = with(Verdict::kInfo),
                   left_out = with(Verdict::kSkipped);
  EXPECT_EQ(worst({info, pass, left_out}), Verdict::kPass);
  EXPECT_EQ(worst({pass, host}), Verdict::kHost);
  EXPECT_EQ(worst({host, fail, pass}), Verdict::kFail);
  EXPECT_EQ(worst({info, left_out}), Verdict::kInfo);
}

TEST(BenchVerdict, AfterIdleNoMoreThanTwoMillisecondsAreGivenAtOnce) {
  const Case plan = case_of("after-idle", pl1_disk());
  const CaseResult good = judge(plan, observe({{5, 3'800}}, 0.9, 7));
  EXPECT_EQ(good.verdict, Verdict::kPass) << good.note;
  EXPECT_NEAR(*good.burst_ms, 1.9, 0.5);
  const CaseResult bad = judge(plan, observe({{5, 3'800}}, 0.9, 100));
  EXPECT_EQ(bad.verdict, Verdict::kFail);
  EXPECT_NE(bad.note.find("at once"), std::string::npos) << bad.note;
}

TEST(BenchVerdict, AChangeIsMeasuredOnBothSides) {
  const Case plan = case_of("after-resize", pl1_disk());
  const auto changed = [&](double before, double after, double at = 5) {
    Observation seen = observe({{5, before}, {5, after}});
    seen.change_asked_s = at;
    seen.change_done_s = at + 0.01;
    return judge(plan, std::move(seen));
  };
  const CaseResult good = changed(3'800, 5'800);
  EXPECT_EQ(good.verdict, Verdict::kPass) << good.note;
  EXPECT_NEAR(*good.iops_before, 3'800, 10);
  EXPECT_NEAR(good.iops, 5'800, 10);
  EXPECT_NEAR(good.ratio, 1, 0.003);
  EXPECT_EQ(changed(3'800, 3'800).verdict, Verdict::kFail) << "the new limit did not come";
  const CaseResult early = changed(5'800, 5'800);
  EXPECT_EQ(early.verdict, Verdict::kFail);
  EXPECT_TRUE(early.note.starts_with("before the change")) << early.note;
  EXPECT_EQ(changed(3'800, 5'800, 9.9).verdict, Verdict::kFail) << "nothing was seen after it";
  EXPECT_EQ(judge(plan, observe({{5, 3'800}, {5, 5'800}})).verdict, Verdict::kFail)
      << "it was never made";
}

TEST(BenchVerdict, LatencyIsHeldToItsFigureOnlyWhereItIsEmulated) {
  const Case plan = case_of("latency-write-4k", pl1_disk());
  Observation seen = observe({{5, 4'000}}, 0);
  const CaseResult as_it_is = judge(plan, seen);
  EXPECT_EQ(as_it_is.verdict, Verdict::kInfo);
  EXPECT_NE(as_it_is.note.find("0.2 ms"), std::string::npos) << as_it_is.note;
  seen.latency_emulated = true;
  EXPECT_EQ(judge(plan, seen).verdict, Verdict::kPass);
  seen.fio.write.percentiles[0].microseconds = 150;
  EXPECT_EQ(judge(plan, seen).verdict, Verdict::kFail);
  seen.fio.write.percentiles[0].microseconds = 250;
  EXPECT_EQ(judge(plan, seen).verdict, Verdict::kHost) << "nothing makes a host faster";
}

}  // namespace
}  // namespace clouddisk::bench
