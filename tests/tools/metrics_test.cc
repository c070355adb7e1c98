#include "tools/clouddiskd/metrics.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>

namespace clouddisk {
namespace {

MetricsSnapshot sample() {
  MetricsSnapshot snapshot;
  snapshot.version = "1.2.3";
  snapshot.disks.push_back({"d-1", {}, Progress{3, 8, "the pack is damaged"}});
  snapshot.disks.back().stats.writes = 7;
  snapshot.disks.back().stats.read_nanoseconds = 1'500'000'000;
  snapshot.disks.back().stats.stalled_nanoseconds = 250'000'000;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    ReplicaStatus replica;
    replica.index = i;
    replica.folder = i == 0 ? "/a \"quoted\\\" folder\n" : "/b";
    replica.state = i == 2 ? ReplicaState::kResyncing : ReplicaState::kInSync;
    snapshot.replicas.push_back(replica);
  }
  FaultStatus fault;
  fault.id = "f-3";
  fault.spec.disk_id = "d-1";
  fault.spec.kind = FaultKind::kHang;
  fault.spec.replica = 1;
  fault.hits = 9;
  snapshot.faults.push_back(fault);
  snapshot.events.recorded = {{EventType::kDegraded, 4}, {EventType::kStalled, 0}};
  snapshot.events.going_on = {{"d-1", EventType::kDegraded}};
  return snapshot;
}

TEST(Metrics, EveryLineIsWellFormedAndEveryMetricIsDescribedOnce) {
  const std::string text = to_prometheus(sample());
  const std::regex line_form(
      R"re((# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="([^"\\\n]|\\.)*"(,[a-z]+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+))re");
  std::istringstream lines(text);
  std::set<std::string> described;
  std::set<std::string> samples;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(std::regex_match(line, line_form)) << line;
    if (line.starts_with("# TYPE ")) {
      const std::string name = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(described.insert(name).second) << name;
    } else if (!line.starts_with("#")) {
      const std::string name = line.substr(0, line.find_first_of("{ "));
      EXPECT_TRUE(described.contains(name)) << line;
      EXPECT_TRUE(samples.insert(line.substr(0, line.rfind(' '))).second) << "twice: " << line;
    }
  }
  EXPECT_GT(samples.size(), 30U);
}

TEST(Metrics, ValuesAndLabelsAreThoseOfTheSnapshot) {
  const std::string text = to_prometheus(sample());
  EXPECT_NE(text.find("clouddisk_disk_operations_total{disk=\"d-1\",op=\"write\"} 7\n"),
            std::string::npos);
  EXPECT_NE(text.find("clouddisk_disk_seconds_total{disk=\"d-1\",op=\"read\"} 1.5\n"),
            std::string::npos);
  EXPECT_NE(text.find("clouddisk_disk_stalled_seconds_total{disk=\"d-1\"} 0.25\n"),
            std::string::npos);
  EXPECT_NE(text.find("clouddisk_disk_hydration_done_bytes{disk=\"d-1\"} 3\n"), std::string::npos);
  EXPECT_NE(text.find("clouddisk_disk_hydration_failed{disk=\"d-1\"} 1\n"), std::string::npos);
  EXPECT_NE(text.find("clouddisk_replicas_in_sync 2\n"), std::string::npos);
  EXPECT_NE(text.find("clouddisk_faults 1\n"), std::string::npos);
  EXPECT_NE(text.find("clouddisk_fault_hits{fault=\"f-3\",disk=\"d-1\",kind=\"hang\","
                      "level=\"replica-2\"} 9\n"),
            std::string::npos);
  EXPECT_NE(text.find("clouddisk_disk_events_total{type=\"Degraded\"} 4\n"), std::string::npos);
  EXPECT_NE(text.find("clouddisk_disk_event_going_on{disk=\"d-1\",type=\"Degraded\"} 1\n"),
            std::string::npos);
  EXPECT_NE(text.find("clouddisk_build_info{version=\"1.2.3\"} 1\n"), std::string::npos);
}

TEST(Metrics, ProcessCountersAreRead) {
  MetricsSnapshot snapshot;
  read_process_counters(snapshot);
  EXPECT_GT(snapshot.resident_bytes, 1'000'000U);
  EXPECT_GE(snapshot.open_descriptors, 3U);
}

}  // namespace
}  // namespace clouddisk
