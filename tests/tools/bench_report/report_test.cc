// The report as JSON, as text and as a page.
#include "tools/bench_report/report.h"

#include <gtest/gtest.h>

#include <regex>

#include "engine/base/units.h"
#include "tests/tools/bench_report/observations.h"
#include "tools/bench_report/html_report.h"
#include "tools/bench_report/svg_chart.h"

namespace clouddisk::bench {
namespace {

Report report_of(std::vector<CaseResult> cases) {
  Report report;
  report.version = "1.0";
  report.fio = "fio-3.33";
  report.measured = "2026-03-01T12:00:00Z";
  report.host = "Linux <6.1> & co";
  report.seconds = 5;
  report.disks.push_back({pl1_disk(), "a throw-away disk like d-tested", "", std::move(cases)});
  return report;
}

Report full_report() {
  std::vector<CaseResult> cases;
  cases.push_back(judge(case_of("randwrite-4k", pl1_disk()), observe({{5, 3'800}})));
  cases.push_back(judge(case_of("write-1m", pl1_disk()), observe({{5, 70}}, 0.01)));
  cases.back().device_iops = 90;
  cases.back().device_note = "3 replicas are on that device";
  cases.push_back(judge(case_of("latency-write-4k", pl1_disk()), observe({{5, 4'000}}, 0)));
  Observation changed = observe({{5, 3'800}, {5, 5'800}});
  changed.change_asked_s = 5;
  changed.change_done_s = 5.01;
  cases.push_back(judge(case_of("after-resize", pl1_disk()), std::move(changed)));
  cases.push_back(skipped(case_of("mix-4k", pl1_disk()), "of <no> use"));
  return report_of(std::move(cases));
}

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

TEST(BenchReport, JsonHasTargetMeasuredRatioLimitAndVerdictOfEachCase) {
  const nlohmann::json json = to_json(full_report());
  EXPECT_EQ(json["Verdict"], "host");
  const auto& disk = json["Disks"][0];
  EXPECT_EQ(disk["DiskId"], "d-tested");
  EXPECT_EQ(disk["Profile"], "2021");
  const auto& cases = disk["Cases"];
  ASSERT_EQ(cases.size(), 5U);
  EXPECT_EQ(cases[0]["Target"]["IOPS"], 3'800);
  EXPECT_EQ(cases[0]["Target"]["Limit"], "IOPS");
  EXPECT_EQ(cases[0]["Target"]["Formula"], "min(1,800 + 50 C, 50,000) IOPS at C = 40 GiB: 3,800");
  EXPECT_NEAR(cases[0]["Measured"]["Ratio"].get<double>(), 1, 0.003);
  EXPECT_EQ(cases[0]["Measured"]["Limit"], "IOPS");
  EXPECT_EQ(cases[0]["Measured"]["Write"]["LatencyPercentilesUs"]["99"], 1'000);
  EXPECT_GE(cases[0]["Measured"]["IOPSEvery100Ms"].size(), 49U);
  EXPECT_EQ(cases[1]["Verdict"], "host");
  EXPECT_EQ(cases[1]["DeviceIOPS"], 90);
  EXPECT_EQ(cases[3]["TargetBefore"]["IOPS"], 3'800);
  EXPECT_EQ(cases[3]["Target"]["IOPS"], 5'800);
  EXPECT_EQ(cases[3]["DiskAfter"]["Size"], 80);
  EXPECT_EQ(cases[4]["Verdict"], "skipped");
  EXPECT_FALSE(cases[4].contains("Measured"));
}

TEST(BenchReport, TextSaysWhatFellShortAndWhatTheDeviceGives) {
  const std::string text = to_text(full_report());
  for (const char* part :
       {"ESSD PL1, 40 GiB, profile 2021: a throw-away disk like d-tested", "randwrite-4k",
        "target: min(1,800 + 50 C, 50,000) IOPS at C = 40 GiB: 3,800", "write-1m: 50.",
        "this host can't reach it",
        "write-1m: the device itself, one file without a daemon: 90.0 IOPS, 90.0 MB/s; 3 replicas",
        "mix-4k: of <no> use", "host: this host can't reach every target"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  const Report good = report_of({judge(case_of("mix-4k", pl1_disk()), observe({{5, 3'800}}))});
  EXPECT_NE(to_text(good).find("pass: every target is held"), std::string::npos);
}

TEST(BenchPage, IsOneFileThatAsksForNothingElse) {
  const std::string page = to_html(full_report());
  const std::regex outside("(src|href)=|url\\(|@import|<script|<link|<iframe|javascript:");
  EXPECT_FALSE(std::regex_search(page, outside));
  // The one address is the name of SVG.
  EXPECT_EQ(count(page, "http://"), count(page, "http://www.w3.org/2000/svg"));
  EXPECT_EQ(count(page, "https://"), 0U);
  EXPECT_NE(page.find("@media print"), std::string::npos);
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
}

TEST(BenchPage, HasAChartForEachRateAndOneOfLatencies) {
  const std::string page = to_html(full_report());
  EXPECT_EQ(count(page, "<svg"), 4U);
  EXPECT_EQ(count(page, "</svg>"), 4U);
  EXPECT_EQ(count(page, "class=\"measured\" points"), 3U);
  EXPECT_EQ(count(page, "target 3,800, then 5,800"), 1U);
  EXPECT_EQ(count(page, "99 %"), 2U) << "a row, and what hovers over its point";
  EXPECT_NE(page.find("stated 200 us"), std::string::npos);
  for (const char* tag : {"section", "figure", "table", "tr", "td", "main", "html", "p", "span"}) {
    EXPECT_EQ(count(page, fmt::format("<{}>", tag)) + count(page, fmt::format("<{} ", tag)),
              count(page, fmt::format("</{}>", tag)))
        << tag;
  }
}

TEST(BenchPage, TextFromOutsideIsEscaped) {
  const std::string page = to_html(full_report());
  EXPECT_NE(page.find("Linux &lt;6.1&gt; &amp; co"), std::string::npos);
  EXPECT_NE(page.find("of &lt;no&gt; use"), std::string::npos);
  EXPECT_EQ(escape_html("<a b=\"c\" d='e'>&"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
}

TEST(BenchPage, AReportOfNothingIsAPageToo) {
  EXPECT_NE(to_html(Report{}).find("</html>"), std::string::npos);
  CaseResult empty = judge(case_of("randread-4k", pl1_disk()), Observation{});
  EXPECT_NE(to_html(report_of({empty})).find("No request was answered"), std::string::npos);
}

TEST(SvgChart, StepsOfAnAxisAreRound) {
  EXPECT_DOUBLE_EQ(nice_step(3'800, 5), 1'000);
  EXPECT_DOUBLE_EQ(nice_step(5, 10), 0.5);
  EXPECT_DOUBLE_EQ(nice_step(10, 5), 2);
  EXPECT_DOUBLE_EQ(nice_step(1'000'000, 5), 200'000);
  EXPECT_DOUBLE_EQ(nice_step(0, 5), 1);
}

}  // namespace
}  // namespace clouddisk::bench
