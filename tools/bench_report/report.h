// report.h: a conformance report: what was measured of one disk or several, as JSON and as a table
// for a terminal. The page for a browser is html_report.h. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/bench_report/case_result.h"

namespace clouddisk::bench {

struct DiskReport {
  TestedDisk disk;
  std::string made_as;         // "in place", "a throw-away disk like d-…"
  std::string characteristic;  // why a matrix has this size; empty otherwise
  std::vector<CaseResult> cases;

  Verdict verdict() const { return worst(cases); }
};

struct Report {
  std::string version;   // clouddisk's
  std::string fio;       // "fio-3.33"
  std::string measured;  // "2026-03-01T12:00:00Z"
  std::string host;      // "Linux 6.1, 2 processors"
  double seconds = 0;    // of a case
  std::vector<DiskReport> disks;

  Verdict verdict() const;
};

nlohmann::json to_json(const Report& report);
std::string to_text(const Report& report);

// What a table says of one case, shared by terminal and page.
struct CaseCells {
  std::string target, measured, megabytes, ratio, windows, limit, p50, p99, verdict;
};
CaseCells cells_of(const CaseResult& result);
// "the device itself gives 50,000 IOPS …"; empty: not looked at.
std::string device_text(const CaseResult& result);
std::string milliseconds_text(double microseconds);

}  // namespace clouddisk::bench
