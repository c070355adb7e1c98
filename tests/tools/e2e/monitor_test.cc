// What disks did and what happened to them, through the real daemon and the real command line.
#include <algorithm>
#include <filesystem>

#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"
#include "tools/http/client.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

class MonitorTest : public ::testing::Test {
 protected:
  MonitorTest() {
    EXPECT_TRUE(daemon_.start()) << daemon_.log();
    id_ = daemon_.make_disk();
  }
  Json points(const std::string& kind, const std::string& id) const {
    Json answer = daemon_.ok_json({"monitor", kind, id, "--last", "10m"});
    return answer["MonitorData"][kind == "disk" ? "DiskMonitorData" : "InstanceMonitorData"];
  }
  // IOPS and seconds are rounded; the bytes of all minutes are not lost that easily.
  static double bytes_written(const Json& points) {
    double rate = 0;
    for (const Json& point : points) rate += point["BPSWrite"].get<double>();
    return rate;
  }
  // Type names, newest first.
  std::vector<std::string> events(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"event", "list", "--disk", id_});
    std::vector<std::string> types;
    const Json answer = daemon_.ok_json(std::move(more));
    for (const Json& event : answer["Events"]["Event"]) {
      types.push_back(event["EventType"]["Name"].get<std::string>());
    }
    return types;
  }
  bool wait_for_event(const std::string& type, bool goes_on) const {
    return cli::wait_until(30, [&] {
      std::vector<std::string> wanted = {"--type", type};
      if (goes_on) wanted.emplace_back("--going-on");
      return !events(std::move(wanted)).empty();
    });
  }
  std::string health() const {
    return daemon_.ok_json(
        {"event", "status"})["DiskFullStatusSet"]["DiskFullStatusType"][0]["HealthStatus"]["Name"];
  }
  std::string metrics() const {
    auto answer = http_get(*parse_address("unix:" + daemon_.root() + "/api.sock"), "/metrics",
                           std::chrono::seconds(10));
    return answer ? answer->body : std::string();
  }

  TestDaemon daemon_;
  std::string id_;
};

TEST_F(MonitorTest, WhatADiskDidIsThereAfterARestart) {
  {
    auto client = daemon_.connect(id_);
    ASSERT_TRUE(client);
    const std::vector<std::byte> data(1_MiB, std::byte{7});
    for (std::uint64_t i = 0; i < 32; ++i) ASSERT_TRUE(client->write(i * 1_MiB, data));
    std::vector<std::byte> back(1_MiB);
    for (std::uint64_t i = 0; i < 16; ++i) ASSERT_TRUE(client->read(i * 1_MiB, back));
  }
  ASSERT_EQ(daemon_.stop(), 0);
  ASSERT_TRUE(daemon_.start());
  const Json disk = points("disk", id_);
  ASSERT_GE(disk.size(), 1U);
  // A minute that was served for less than a minute is the mean of what was served.
  EXPECT_GT(bytes_written(disk), 32.0 * 1_MiB / 130);
  double latency = 0;
  for (const Json& point : disk) {
    EXPECT_EQ(point["DiskId"], id_);
    // Each is rounded by itself.
    EXPECT_NEAR(point["BPSTotal"].get<double>(),
                point["BPSRead"].get<double>() + point["BPSWrite"].get<double>(), 1);
    latency = std::max(latency, point["LatencyWrite"].get<double>());
  }
  EXPECT_GT(latency, 0);
  EXPECT_NEAR(bytes_written(points("instance", "i-local")), bytes_written(disk), 2);
  EXPECT_NE(daemon_.ok({"monitor", "disk", id_}).find("WRITTEN/S"), std::string::npos);
  daemon_.refused("InvalidStartTime.TooEarly", {"monitor", "disk", id_, "--last", "31d"});
  daemon_.refused("InvalidParameter.TooManyDataQueried",
                  {"monitor", "disk", id_, "--last", "1d", "--period", "60"});
  daemon_.refused("InvalidDiskId.NotFound", {"monitor", "disk", "d-nobody"});
  EXPECT_GE(daemon_.ok_json({"monitor", "disk", id_, "--last", "16d"})["TotalCount"], 1);
}

TEST_F(MonitorTest, ALostReplicaIsALineOfEventsThatOutlivesTheDaemon) {
  EXPECT_EQ(health(), "Ok");
  fs::remove_all(daemon_.replica(2));
  ASSERT_TRUE(wait_for_event("Degraded", true));
  EXPECT_EQ(health(), "Warning");
  EXPECT_NE(
      metrics().find("clouddisk_disk_event_going_on{disk=\"" + id_ + "\",type=\"Degraded\"} 1\n"),
      std::string::npos);
  EXPECT_NE(metrics().find("clouddisk_disk_events_total{type=\"Degraded\"} 1\n"),
            std::string::npos);
  EXPECT_NE(daemon_.log().find("component=event Degraded disk=" + id_), std::string::npos);
  // Killed while it goes on; the next daemon brings the replica back.
  daemon_.kill_now();
  ASSERT_TRUE(daemon_.start());
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  ASSERT_TRUE(wait_for_event("Repaired", false));
  EXPECT_EQ(health(), "Ok");
  EXPECT_TRUE(events({"--going-on"}).empty());
  const auto all = events();
  EXPECT_EQ(all.front(), "Repaired");
  EXPECT_EQ(std::count(all.begin(), all.end(), "Degraded"), 1);
  EXPECT_NE(daemon_.ok({"event", "list"}).find("all replicas are in sync"), std::string::npos);
}

TEST_F(MonitorTest, ARequestWithoutAnswerIsAStall) {
  daemon_.ok({"fault", "set", id_, "--kind", "hang", "--op", "write"});
  auto client = daemon_.connect(id_);
  ASSERT_TRUE(client);
  const std::vector<std::byte> data(4_KiB);
  ASSERT_TRUE(client->send(NbdCommand::kWrite, 0, 1, 0, 4096, data));
  ASSERT_TRUE(wait_for_event("Stalled", true));
  EXPECT_EQ(health(), "Impaired");
  daemon_.ok({"fault", "clear", id_});
  ASSERT_TRUE(client->receive());
  EXPECT_TRUE(cli::wait_until(30, [&] { return health() == "Ok"; }));
  EXPECT_EQ(events(), std::vector<std::string>{"Stalled"});
}

}  // namespace
}  // namespace clouddisk::e2e
