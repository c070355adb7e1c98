// What happened to disks, through the actions.
#include "engine/control/outcome.h"
#include "engine/monitor/event_log.h"
#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

class EventActionsTest : public ControlTest {
 protected:
  EventActionsTest() {
    EventLog::Options events;
    events.path = (root_.path() / "events").string();
    // On a ring of its own: the log outlives one life of the control plane.
    auto opened = machine_.ring->block_on(EventLog::open(*machine_.ring, events));
    CHECK(opened.has_value());
    log_ = std::move(*opened);
    Control::Options options;
    options.seed = 42;
    options.events = log_.get();
    options.snapshot_quota = 1;
    daemon_.emplace(root_.path() / "root", options);
    first_ = daemon_->create_disk();
    second_ = daemon_->create_disk();
  }
  ~EventActionsTest() override { machine_.ring->block_on(log_->close()); }

  Json disks(Params params = {}) {
    const Json body = daemon_->must("DescribeDisksFullStatus", std::move(params));
    const Json list = body.at("DiskFullStatusSet").at("DiskFullStatusType");
    EXPECT_EQ(body.at("TotalCount"), list.size());
    return list;
  }
  // Of the first disk.
  Json status(Params params = {}) {
    params.try_emplace("DiskId.1", first_);
    const Json list = disks(std::move(params));
    return list.empty() ? Json() : list[0];
  }
  static const Json& events_in(const Json& status) {
    return status.at("DiskEventSet").at("DiskEventType");
  }
  Json events(Params params = {}) {
    return daemon_->must("DescribeDiskEvents", std::move(params)).at("Events").at("Event");
  }

  Machine machine_{root_.path() / "log"};
  std::unique_ptr<EventLog> log_;
  std::optional<Daemon> daemon_;
  std::string first_, second_;
};

TEST_F(EventActionsTest, AHealthyDiskHasItsStateAndNoEvents) {
  const Json expected = {{"DiskId", first_},
                         {"InstanceId", ""},
                         {"Device", ""},
                         {"Status", {{"Code", 129}, {"Name", "Available"}}},
                         {"HealthStatus", {{"Code", 0}, {"Name", "Ok"}}},
                         {"DiskEventSet", {{"DiskEventType", Json::array()}}}};
  EXPECT_EQ(status(), expected);
  EXPECT_EQ(disks().size(), 2U);
  daemon_->attach(first_);
  EXPECT_EQ(status()["InstanceId"], "i-local");
  EXPECT_EQ(status()["Device"], "/dev/xvdb");
  EXPECT_EQ(status()["Status"]["Name"], "In_use");
}

TEST_F(EventActionsTest, WhatGoesOnMakesTheHealth) {
  const std::vector<std::pair<EventType, std::string>> cases = {
      {EventType::kDegraded, "Warning"},
      {EventType::kResyncing, "Warning"},
      {EventType::kSeverelyDegraded, "Impaired"},
      {EventType::kStalled, "Impaired"}};
  for (const auto& [type, health] : cases) {
    log_->begin(type, first_, "why");
    EXPECT_EQ(status()["HealthStatus"]["Name"], health);
    const Json shown = events_in(status());
    ASSERT_EQ(shown.size(), 1U);
    EXPECT_EQ(shown[0]["EventType"]["Name"], kind_of(type).name);
    EXPECT_EQ(shown[0]["EventEndTime"], "");
    EXPECT_EQ(shown[0]["Reason"], "why");
    EXPECT_TRUE(shown[0]["ImpactLevel"].is_string());
    EXPECT_EQ(disks({{"HealthStatus", health}}).size(), 1U);
    EXPECT_EQ(disks({{"HealthStatus", "Ok"}}).size(), 1U);
    log_->end(type, first_);
    EXPECT_EQ(status()["HealthStatus"]["Name"], "Ok");
    EXPECT_TRUE(events_in(status()).empty());
  }
  log_->begin(EventType::kStalled, first_, "");
  EXPECT_EQ(events_in(status())[0]["EventType"]["Code"], 7);
}

TEST_F(EventActionsTest, WhatIsOverIsShownToWhoAsksForTimeTypeOrId) {
  log_->note(EventType::kRepaired, first_, "done");
  const Json all = events();
  ASSERT_EQ(all.size(), 1U);
  const std::string id = all[0]["EventId"];
  EXPECT_TRUE(id.starts_with("e-"));
  const WallTime now = machine_.ring->wall_now();
  const std::string before = iso_time(now - std::chrono::hours(1));
  const std::string after = iso_time(now + std::chrono::hours(1));
  EXPECT_TRUE(events_in(status()).empty());
  EXPECT_EQ(events_in(status({{"EventTime.Start", before}, {"EventTime.End", after}})).size(), 1U);
  EXPECT_EQ(events_in(status({{"EventTime.Start", after}})).size(), 0U);
  EXPECT_EQ(events_in(status({{"EventType", "Repaired"}})).size(), 1U);
  EXPECT_EQ(events_in(status({{"EventId.1", id}})).size(), 1U);
  // Only disks that have such an event.
  EXPECT_EQ(disks({{"EventType", "Repaired"}}).size(), 1U);
  EXPECT_EQ(disks({{"EventType", "Stalled"}}).size(), 0U);
  EXPECT_EQ(disks({{"EventId.1", id}}).size(), 1U);
  EXPECT_EQ(disks({{"EventTime.Start", before}}).size(), 2U);
}

TEST_F(EventActionsTest, DisksAreFilteredAndPaged) {
  daemon_->attach(first_);
  EXPECT_EQ(disks({{"Status", "In_use"}}).size(), 1U);
  EXPECT_EQ(disks({{"Status", "In_Use"}}).size(), 1U);
  EXPECT_EQ(disks({{"Status", "ReIniting"}}).size(), 0U);
  EXPECT_EQ(disks({{"HealthStatus", "InsufficientData"}}).size(), 0U);
  EXPECT_EQ(disks({{"Tag.1.Key", "none"}}).size(), 0U);
  EXPECT_EQ(disks({{"DiskId.1", "d-nobody"}}).size(), 0U);
  const Json page =
      daemon_->must("DescribeDisksFullStatus", {{"PageSize", "1"}, {"PageNumber", "2"}});
  EXPECT_EQ(page.at("TotalCount"), 2);
  EXPECT_EQ(page.at("PageNumber"), 2);
  EXPECT_EQ(page.at("PageSize"), 1);
  EXPECT_EQ(page.at("DiskFullStatusSet").at("DiskFullStatusType").size(), 1U);
}

TEST_F(EventActionsTest, WhatBreaksARuleIsRefusedWithTheCloudsCode) {
  const auto ask = [&](Params params) {
    return daemon_->ask("DescribeDisksFullStatus", std::move(params));
  };
  EXPECT_REFUSED(ask({{"EventType", "Bored"}}), 403, "InvalidParameter");
  EXPECT_REFUSED(ask({{"HealthStatus", "Fine"}}), 403, "InvalidParameter");
  EXPECT_REFUSED(ask({{"Status", "Deleting"}}), 403, "InvalidParameter");
  EXPECT_REFUSED(ask({{"EventTime.Start", "yesterday"}}), 403, "InvalidParameter");
  EXPECT_REFUSED(ask({{"EventTime.End", "9999-01-01T00:00:00Z"}}), 403, "InvalidParameter");
  EXPECT_REFUSED(
      ask({{"EventTime.Start", "2026-01-02T00:00:00Z"}, {"EventTime.End", "2026-01-01T00:00:00Z"}}),
      403, "InvalidParameter.TimeEndBeforeStart");
  Params disks;
  Params events;
  for (int i = 1; i <= 101; ++i) {
    disks["DiskId." + std::to_string(i)] = "d-x";
    events["EventId." + std::to_string(i)] = "e-x";
  }
  EXPECT_REFUSED(ask(disks), 403, "DiskIdLimitExceeded");
  EXPECT_REFUSED(ask(events), 403, "EventIdLimitExceeded");
  EXPECT_REFUSED(ask({{"PageSize", "101"}}), 400, "InvalidParameter");
  EXPECT_REFUSED(ask({{"RegionId", "cn-nowhere"}}), 404, "InvalidRegionId.NotFound");
  EXPECT_REFUSED(ask({{"DryRun", "true"}}), 400, "DryRunOperation");
  EXPECT_REFUSED(daemon_->ask("DescribeDiskEvents", {{"GoesOn", "maybe"}}), 400,
                 "InvalidParameter");
}

TEST_F(EventActionsTest, TheQuotaIsToldOnceAnHourAndNotForADryRun) {
  daemon_->attach(first_);
  daemon_->must("CreateSnapshot", {{"DiskId", first_}});
  EXPECT_TRUE(events().empty());
  EXPECT_REFUSED(daemon_->ask("CreateSnapshot", {{"DiskId", first_}, {"DryRun", "true"}}), 403,
                 "QuotaExceed.Snapshot");
  EXPECT_TRUE(events().empty());
  for (int i = 0; i < 3; ++i) {
    EXPECT_REFUSED(daemon_->ask("CreateSnapshot", {{"DiskId", first_}}), 403,
                   "QuotaExceed.Snapshot");
  }
  ASSERT_EQ(events().size(), 1U);
  EXPECT_EQ(events()[0]["EventType"]["Name"], "QuotaReached");
  EXPECT_EQ(events()[0]["DiskId"], first_);
}

TEST_F(EventActionsTest, ASnapshotThatFailsIsAnEventOfItsDisk) {
  daemon_->attach(first_);
  daemon_->host.fail_next("freeze", Errc::kIo);
  EXPECT_FALSE(daemon_->ask("CreateSnapshot", {{"DiskId", first_}}).ok());
  ASSERT_EQ(events({{"EventType", "SnapshotFailed"}}).size(), 1U);
  const std::string snapshot =
      daemon_->must("CreateSnapshot", {{"DiskId", first_}}).value("SnapshotId", "");
  EXPECT_TRUE(daemon_->machine.ring->block_on(
      daemon_->host.events().capture_failed(snapshot, "the pack is full")));
  const Json failed = events({{"EventType", "SnapshotFailed"}, {"DiskId", first_}});
  ASSERT_EQ(failed.size(), 2U);
  EXPECT_EQ(failed[0]["Reason"], "snapshot " + snapshot + ": the pack is full");
}

TEST_F(EventActionsTest, EventsAreListedNewestFirstByPageAndToken) {
  for (int i = 0; i < 5; ++i) log_->note(EventType::kRepaired, "d-gone", std::to_string(i));
  log_->begin(EventType::kStalled, second_, "");
  EXPECT_EQ(events({{"GoesOn", "true"}}).size(), 1U);
  EXPECT_EQ(events({{"GoesOn", "false"}}).size(), 5U);
  EXPECT_EQ(events({{"DiskId", second_}}).size(), 1U);
  std::vector<std::string> seen;
  Params params = {{"DiskId", "d-gone"}, {"MaxResults", "2"}};
  for (int i = 0; i < 3; ++i) {
    const Json body = daemon_->must("DescribeDiskEvents", params);
    for (const Json& event : body.at("Events").at("Event")) seen.push_back(event.at("Reason"));
    params["NextToken"] = body.at("NextToken");
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"4", "3", "2", "1", "0"}));
  EXPECT_EQ(params["NextToken"], "");
}

}  // namespace
}  // namespace clouddisk
