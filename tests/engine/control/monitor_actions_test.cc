// Monitoring data through the actions: points on file, what is asked for, what is refused.
#include "engine/control/outcome.h"
#include "engine/monitor/point_store.h"
#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

class MonitorActionsTest : public ControlTest {
 protected:
  MonitorActionsTest() : points_((root_.path() / "monitor").string()) {
    Control::Options options;
    options.seed = 42;
    options.points = &points_;
    daemon_.emplace(root_.path(), options);
    id_ = daemon_->create_disk();
    now_ = std::chrono::floor<minutes>(daemon_->machine.ring->wall_now());
  }

  void add(WallTime at, IoSums io, std::uint32_t covered_ms = 60'000,
           const std::string& instance = "i-local", const std::string& disk = {}) {
    const DiskPoint point{minute_of(at), covered_ms, io, instance_tag(instance)};
    ASSERT_TRUE(points_.add(disk.empty() ? id_ : disk, std::vector<DiskPoint>{point}));
  }
  Answer ask(WallTime start, WallTime end, Params more = {}) {
    more.try_emplace("DiskId", id_);
    more.try_emplace("StartTime", iso_time(start));
    more.try_emplace("EndTime", iso_time(end));
    return daemon_->ask("DescribeDiskMonitorData", std::move(more));
  }
  Json points(WallTime start, WallTime end, Params more = {}) {
    const Answer answer = ask(start, end, std::move(more));
    EXPECT_TRUE(answer.ok()) << answer.body.dump();
    const Json& list = answer.body.at("MonitorData").at("DiskMonitorData");
    EXPECT_EQ(answer.body.at("TotalCount"), list.size());
    return list;
  }

  PointStore points_;
  std::optional<Daemon> daemon_;
  std::string id_;
  WallTime now_;
};

TEST_F(MonitorActionsTest, AMinuteIsRatesAndMeanLatencies) {
  add(now_ - minutes(5), {600, 1200, 600 * 4096, 1200 * 8192, 600 * 250'000, 1200 * 500'000});
  const Json list = points(now_ - minutes(10), now_);
  ASSERT_EQ(list.size(), 1U);
  const Json expected = {{"DiskId", id_},         {"TimeStamp", iso_time(now_ - minutes(5))},
                         {"IOPSRead", 10},        {"IOPSWrite", 20},
                         {"IOPSTotal", 30},       {"BPSRead", 10 * 4096},
                         {"BPSWrite", 20 * 8192}, {"BPSTotal", 10 * 4096 + 20 * 8192},
                         {"LatencyRead", 250},    {"LatencyWrite", 500}};
  EXPECT_EQ(list[0], expected);
}

TEST_F(MonitorActionsTest, WhatWasNotServedHasNoPointAndPartsOfAMinuteCountAsSuch) {
  add(now_ - minutes(3), {}, 60'000);                    // idle
  add(now_ - minutes(1), {100, 0, 0, 0, 0, 0}, 10'000);  // ten seconds of it
  const Json list = points(now_ - minutes(5), now_);
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["IOPSTotal"], 0);
  EXPECT_EQ(list[0]["LatencyRead"], 0);
  EXPECT_EQ(list[1]["IOPSRead"], 10);
  EXPECT_TRUE(points(now_ + hours(1), now_ + hours(2)).empty());
}

TEST_F(MonitorActionsTest, LongerPeriodsAreMeansOfTheirMinutesFromStartTimeOn) {
  const WallTime start = now_ - minutes(125);
  for (int i = 0; i < 120; ++i) {
    add(start + minutes(i), {60, static_cast<std::uint64_t>(60 * i), 0, 0, 0, 0});
  }
  const Json tens = points(start, start + minutes(119), {{"Period", "600"}});
  ASSERT_EQ(tens.size(), 12U);
  EXPECT_EQ(tens[3]["TimeStamp"], iso_time(start + minutes(30)));
  EXPECT_EQ(tens[3]["IOPSRead"], 1);
  EXPECT_EQ(tens[3]["IOPSWrite"], 34);  // the mean of 30 to 39
  const Json hourly = points(start, start + minutes(119), {{"Period", "3600"}});
  ASSERT_EQ(hourly.size(), 2U);
  EXPECT_EQ(hourly[1]["IOPSWrite"], 89);
}

TEST_F(MonitorActionsTest, BothEndsAreIncludedAndSecondsRoundUp) {
  for (int i = 1; i <= 4; ++i) add(now_ - minutes(i), {});
  EXPECT_EQ(points(now_ - minutes(4), now_ - minutes(2)).size(), 3U);
  const Json list = points(now_ - minutes(4) + std::chrono::seconds(1),
                           now_ - minutes(3) + std::chrono::seconds(59));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["TimeStamp"], iso_time(now_ - minutes(3)));
}

TEST_F(MonitorActionsTest, WhatBreaksARuleIsRefusedWithTheCloudsCode) {
  const WallTime hour_ago = now_ - hours(1);
  EXPECT_REFUSED(daemon_->ask("DescribeDiskMonitorData"), 400, "MissingParameter");
  EXPECT_REFUSED(ask(hour_ago, now_, {{"StartTime", ""}}), 400, "MissingParameter");
  EXPECT_REFUSED(ask(hour_ago, now_, {{"EndTime", ""}}), 400, "MissingParameter");
  EXPECT_REFUSED(ask(hour_ago, now_, {{"DiskId", "d-nobody"}}), 404, "InvalidDiskId.NotFound");
  for (const char* time : {"yesterday", "2026-01-01", "2026-13-01T00:00:00Z",
                           "9999-01-01T00:00:00Z", "1950-01-01T00:00:00Z", "\xc3\xa4"}) {
    EXPECT_REFUSED(ask(hour_ago, now_, {{"StartTime", time}}), 400, "InvalidStartTime.Malformed");
    EXPECT_REFUSED(ask(hour_ago, now_, {{"EndTime", time}}), 400, "InvalidEndTime.Malformed");
  }
  for (const char* period : {"0", "61", "-60", "one", "600.0", "99999999999999999999"}) {
    EXPECT_REFUSED(ask(hour_ago, now_, {{"Period", period}}), 400,
                   "InvalidPeriod.ValueNotSupported");
  }
  EXPECT_REFUSED(ask(now_, hour_ago), 400, "InvalidParameter.EndTime");
  EXPECT_REFUSED(ask(now_ - hours(24 * 30) - minutes(1), now_ - hours(24 * 30)), 400,
                 "InvalidStartTime.TooEarly");
  EXPECT_TRUE(ask(now_ - hours(24 * 30) + minutes(2), now_ - hours(24 * 30) + hours(1)).ok());
  EXPECT_TRUE(ask(now_ - minutes(400), now_).ok());
  EXPECT_REFUSED(ask(now_ - minutes(401), now_), 400, "InvalidParameter.TooManyDataQueried");
  EXPECT_TRUE(ask(now_ - minutes(4000), now_, {{"Period", "600"}}).ok());
  EXPECT_REFUSED(ask(now_ - minutes(4010), now_, {{"Period", "600"}}), 400,
                 "InvalidParameter.TooManyDataQueried");
  EXPECT_TRUE(ask(now_ - hours(400), now_, {{"Period", "3600"}}).ok());
  EXPECT_REFUSED(ask(now_ - hours(401), now_, {{"Period", "3600"}}), 400,
                 "InvalidParameter.TooManyDataQueried");
  EXPECT_REFUSED(ask(hour_ago, now_, {{"DryRun", "true"}}), 400, "DryRunOperation");
}

TEST_F(MonitorActionsTest, AnInstanceHasTheSumOfItsDisksWhileTheyWereItsOwn) {
  const std::string other = daemon_->create_disk();
  daemon_->attach(id_);
  daemon_->attach(other);
  const IoSums io = {60, 120, 60 * 4096, 120 * 4096, 0, 0};
  add(now_ - minutes(3), io);
  add(now_ - minutes(3), io, 60'000, "i-local", other);
  add(now_ - minutes(2), io);
  add(now_ - minutes(1), io, 60'000, "i-before");
  const auto ask = [&](Params more = {}) {
    more.try_emplace("InstanceId", "i-local");
    more.try_emplace("StartTime", iso_time(now_ - minutes(10)));
    more.try_emplace("EndTime", iso_time(now_));
    return daemon_->ask("DescribeInstanceMonitorData", std::move(more));
  };
  const Answer answer = ask();
  ASSERT_TRUE(answer.ok()) << answer.body.dump();
  const Json& list = answer.body.at("MonitorData").at("InstanceMonitorData");
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["InstanceId"], "i-local");
  EXPECT_EQ(list[0]["IOPSRead"], 2);
  EXPECT_EQ(list[0]["IOPSWrite"], 4);
  EXPECT_EQ(list[0]["BPSRead"], 2 * 4096);
  EXPECT_EQ(list[1]["IOPSRead"], 1);
  EXPECT_EQ(list[1]["BPSWrite"], 2 * 4096);
  EXPECT_EQ(list[1]["CPU"], 0);
  EXPECT_REFUSED(ask({{"InstanceId", "i-nobody"}}), 404, "InvalidInstanceId.NotFound");
  EXPECT_REFUSED(ask({{"Period", "7"}}), 400, "InvalidPeriod.ValueNotSupported");
  EXPECT_REFUSED(ask({{"StartTime", iso_time(now_ - hours(7))}}), 400,
                 "InvalidParameter.TooManyDataQueried");
}

TEST_F(MonitorActionsTest, WithoutAStoreThereIsNothing) {
  daemon_.reset();
  Daemon plain(root_.path());
  const Json body =
      plain.must("DescribeDiskMonitorData",
                 {{"DiskId", id_}, {"StartTime", iso_time(now_)}, {"EndTime", iso_time(now_)}});
  EXPECT_EQ(body.at("TotalCount"), 0);
}

}  // namespace
}  // namespace clouddisk
