#include "tools/bench_report/fio_output.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/base/random.h"
#include "tests/support/seed.h"
#include "tools/bench_report/fio_job.h"

namespace clouddisk::bench {
namespace {

using Json = nlohmann::json;

// As fio 3.33 prints it, shortened.
Json good() {
  return Json::parse(R"({
    "fio version": "fio-3.33",
    "jobs": [{
      "jobname": "bench", "error": 0,
      "read": {"io_bytes": 21790720, "total_ios": 5320, "runtime": 2001,
        "clat_ns": {"min": 1, "max": 59051670, "mean": 2005598.5,
          "percentile": {"50.000000": 733184, "99.000000": 15400960, "99.900000": 30015488}},
        "lat_ns": {"min": 1, "max": 59053334, "mean": 2016047.6}},
      "write": {"io_bytes": 0, "total_ios": 0, "runtime": 0,
        "clat_ns": {"min": 0, "max": 0, "mean": 0}, "lat_ns": {"min": 0, "max": 0, "mean": 0}}
    }]})");
}

TEST(FioOutput, GivesWhatFioMeasured) {
  const auto result = parse_fio_result("fio: a warning\n" + good().dump());
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->requests(), 5'320U);
  EXPECT_EQ(result->bytes(), 21'790'720U);
  EXPECT_NEAR(result->iops(), 5'320 / 2.001, 0.01);
  EXPECT_DOUBLE_EQ(result->read.max_us, 59'051.67);
  ASSERT_EQ(result->read.percentiles.size(), 3U);
  EXPECT_DOUBLE_EQ(result->read.percentiles[0].percent, 50);
  EXPECT_DOUBLE_EQ(result->read.percentiles[2].microseconds, 30'015.488);
  EXPECT_TRUE(result->write.percentiles.empty());
}

TEST(FioOutput, RequestsThatFailedAreAnErrorOfTheirOwn) {
  Json json = good();
  json["jobs"][0]["error"] = 5;
  const auto result = parse_fio_result(json.dump());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kIo);
  EXPECT_NE(result.error().message.find("Input/output error"), std::string::npos);
}

TEST(FioOutput, WhatIsMissingOrImpossibleIsNamed) {
  struct Row {
    const char* name;
    const char* pointer;
    Json value;  // null: the member is taken out
    const char* message;
  };
  const Row rows[] = {
      {"no jobs", "/jobs", nullptr, "no single group"},
      {"jobs of another type", "/jobs", 3, "no single group"},
      {"two groups", "/jobs", Json::array({1, 2}), "no single group"},
      {"no error", "/jobs/0/error", nullptr, "'error'"},
      {"no read", "/jobs/0/read", nullptr, "'read'"},
      {"read is a number", "/jobs/0/read", 1, "'read'"},
      {"no count", "/jobs/0/read/total_ios", nullptr, "'total_ios'"},
      {"a negative count", "/jobs/0/read/total_ios", -1, "'total_ios'"},
      {"a count that can't be", "/jobs/0/read/io_bytes", 1e300, "'io_bytes'"},
      {"a count in words", "/jobs/0/read/runtime", "2001", "'runtime'"},
      {"no latency", "/jobs/0/read/lat_ns", nullptr, ""},
      {"a mean in words", "/jobs/0/read/clat_ns/mean", "x", "'mean'"},
      {"percentiles as a list", "/jobs/0/read/clat_ns/percentile", Json::array(), "'percentile'"},
      {"a percentile in words", "/jobs/0/read/clat_ns/percentile/50.000000", "x", "'50.000000'"},
  };
  for (const Row& row : rows) {
    Json json = good();
    const Json::json_pointer pointer(row.pointer);
    if (row.value.is_null()) {
      json[pointer.parent_pointer()].erase(pointer.back());
    } else {
      json[pointer] = row.value;
    }
    const auto result = parse_fio_result(json.dump());
    if (*row.message == '\0') {
      EXPECT_TRUE(result) << row.name << ": the other latency is there";
      continue;
    }
    ASSERT_FALSE(result) << row.name;
    EXPECT_EQ(result.error().code, Errc::kCorrupt) << row.name;
    EXPECT_NE(result.error().message.find(row.message), std::string::npos)
        << row.name << ": " << result.error().message;
  }
  Json odd = good();
  odd["jobs"][0]["read"]["clat_ns"]["percentile"]["high"] = 1;
  EXPECT_FALSE(parse_fio_result(odd.dump()));
  for (const char* text : {"", "fio: not found", "{", "{}", "[1]", "{\"jobs\": [null]}"}) {
    EXPECT_FALSE(parse_fio_result(text)) << text;
  }
}

TEST(FioOutput, NoDamageMakesItCrash) {
  Random random(announce_seed());
  const std::string text = good().dump();
  for (int i = 0; i < 3'000; ++i) {
    std::string damaged = text.substr(0, random.between(1, text.size()));
    for (std::uint64_t n = random.below(4); n > 0; --n) {
      damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    }
    static_cast<void>(parse_fio_result(damaged));
    static_cast<void>(parse_fio_log(damaged));
  }
}

TEST(FioLog, LinesGiveTimeValueAndDirection) {
  const auto lines =
      parse_fio_log("1795876755865, 40617, 0, 0, 0\n1795876755966, 17907, 1, 4096\n");
  ASSERT_TRUE(lines);
  ASSERT_EQ(lines->size(), 2U);
  EXPECT_EQ((*lines)[0].unix_ms, 1'795'876'755'865);
  EXPECT_EQ((*lines)[0].value, 40'617);
  EXPECT_EQ((*lines)[1].direction, 1U);
  EXPECT_TRUE(parse_fio_log(""));
  for (const char* text : {"x\n", "1\n", "1, 2\n", "-1, 2, 0\n", "1, nan, 0\n", "1; 2; 0\n",
                           "999999999999999999, 2, 0\n", "1, 1e30, 0\n", "1, 2, -1\n"}) {
    const auto bad = parse_fio_log(std::string("1, 2, 0\n") + text);
    ASSERT_FALSE(bad) << text;
    EXPECT_NE(bad.error().message.find("line 2"), std::string::npos) << bad.error().message;
  }
}

TEST(FioJob, TheCommandNamesWhatIsMeasured) {
  FioJob job;
  job.uri = "nbd+unix:///d-x?socket=/tmp/nbd.sock";
  job.workload = {Access::kRandomMix, 16 * 1024, 64, 4, 500};
  job.region_bytes = 1 << 20;
  job.length = std::chrono::milliseconds(1'500);
  job.output_path = "/tmp/o";
  job.log_prefix = "/tmp/l";
  const auto has = [](const std::vector<std::string>& command, std::string_view word) {
    return std::find(command.begin(), command.end(), word) != command.end();
  };
  const auto nbd = fio_command(job);
  for (const char* word :
       {"--ioengine=nbd", "--uri=nbd+unix:///d-x?socket=/tmp/nbd.sock", "--rw=randrw",
        "--rate_iops=500", "--rwmixread=70", "--bs=16384", "--iodepth=16", "--numjobs=4",
        "--size=1048576", "--runtime=1500ms", "--write_lat_log=/tmp/l", "--output=/tmp/o"}) {
    EXPECT_TRUE(has(nbd, word)) << word;
  }
  EXPECT_EQ(fio_logs(job).size(), 4U);
  EXPECT_EQ(fio_logs(job).back(), "/tmp/l_lat.4.log");
  job.uri.clear();
  job.file = "/a:b/c";
  job.log_each_request = false;
  const auto file = fio_command(job);
  for (const char* word : {"--ioengine=io_uring", "--direct=1", "--filename=/a\\:b/c",
                           "--write_iops_log=/tmp/l", "--log_avg_msec=100"}) {
    EXPECT_TRUE(has(file, word)) << word;
  }
  EXPECT_EQ(fio_logs(job).front(), "/tmp/l_iops.1.log");
}

}  // namespace
}  // namespace clouddisk::bench
