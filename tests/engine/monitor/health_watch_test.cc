#include "engine/monitor/health_watch.h"

#include "tests/engine/monitor/event_fixture.h"

namespace clouddisk {
namespace {

using std::chrono::seconds;

class HealthWatchTest : public EventTest {
 protected:
  HealthWatchTest() { watch_.emplace(open()); }

  static std::vector<ReplicaStatus> replicas(ReplicaState second,
                                             ReplicaState third = ReplicaState::kInSync) {
    std::vector<ReplicaStatus> all(kReplicaCount);
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      all[i].index = i;
      all[i].state = i == 0 ? ReplicaState::kInSync : i == 1 ? second : third;
      if (all[i].state != ReplicaState::kInSync) all[i].reason = "the folder is gone";
    }
    return all;
  }
  static DiskReading disk(std::string id) {
    DiskReading reading;
    reading.disk_id = std::move(id);
    return reading;
  }
  void look(const std::vector<ReplicaStatus>& replicas, const std::vector<DiskReading>& disks) {
    watch_->look(replicas, disks, ring_.now());
    pass(seconds(1));
  }
  // "Degraded d-1" in the order of their beginnings; those that go on with a "+".
  std::vector<std::string> told() const {
    std::vector<std::string> all;
    for (const DiskEvent& event : events_->events()) {
      all.push_back(std::string(kind_of(event.type).name) + " " + event.disk_id +
                    (event.goes_on() ? "+" : ""));
    }
    return all;
  }
  using Told = std::vector<std::string>;

  static constexpr ReplicaState kGood = ReplicaState::kInSync;
  static constexpr ReplicaState kOut = ReplicaState::kFailed;
  static constexpr ReplicaState kComing = ReplicaState::kResyncing;
  std::optional<HealthWatch> watch_;
};

TEST_F(HealthWatchTest, AReplicaThatFailsAndComesBackIsALineOfEvents) {
  look(replicas(kGood), {disk("d-1")});
  EXPECT_EQ(told(), Told{});
  look(replicas(kOut), {disk("d-1")});
  look(replicas(kOut), {disk("d-1")});
  EXPECT_EQ(told(), Told{"Degraded d-1+"});
  EXPECT_EQ(events_->events().front().text, "replica 2 is failed: the folder is gone");
  look(replicas(kComing), {disk("d-1")});
  EXPECT_EQ(told(), (Told{"Degraded d-1+", "Resyncing d-1+"}));
  look(replicas(kGood), {disk("d-1")});
  look(replicas(kGood), {disk("d-1")});
  EXPECT_EQ(told(), (Told{"Degraded d-1", "Resyncing d-1", "Repaired d-1"}));
}

TEST_F(HealthWatchTest, TwoReplicasThatFailAreSevere) {
  look(replicas(kOut), {disk("d-1")});
  look(replicas(kOut, kOut), {disk("d-1")});
  EXPECT_EQ(told(), (Told{"Degraded d-1", "SeverelyDegraded d-1+"}));
  look(replicas(kGood, kComing), {disk("d-1")});
  EXPECT_EQ(told(),
            (Told{"Degraded d-1", "SeverelyDegraded d-1", "Degraded d-1+", "Resyncing d-1+"}));
  look(replicas(kGood), {disk("d-1")});
  EXPECT_EQ(told().back(), "Repaired d-1");
  EXPECT_TRUE(events_->going_on().empty());
}

TEST_F(HealthWatchTest, EventsAreOfDisksThatAreServed) {
  look(replicas(kOut), {});
  EXPECT_EQ(told(), Told{});
  look(replicas(kOut), {disk("d-1")});
  look(replicas(kOut), {disk("d-1"), disk("d-2")});
  EXPECT_EQ(told(), (Told{"Degraded d-1+", "Degraded d-2+"}));
  // Detached while a replica is out: over for it, and not repaired.
  look(replicas(kOut), {disk("d-2")});
  EXPECT_EQ(told(), (Told{"Degraded d-1", "Degraded d-2+"}));
}

TEST_F(HealthWatchTest, WhatWentOnInAnEarlierLifeEndsWhenItIsTrueNoMore) {
  look(replicas(kOut), {disk("d-1"), disk("d-2")});
  watch_.emplace(open());
  look(replicas(kGood), {disk("d-1")});
  EXPECT_TRUE(events_->going_on().empty());
  EXPECT_EQ(events_->events().back().type, EventType::kRepaired);
  EXPECT_EQ(events_->events().size(), 3U);
}

TEST_F(HealthWatchTest, ARequestWithoutAnswerStallsTheDisk) {
  DiskReading stuck = disk("d-1");
  stuck.oldest_request = std::chrono::milliseconds(2900);
  look(replicas(kGood), {stuck});
  EXPECT_EQ(told(), Told{});
  stuck.oldest_request = std::chrono::milliseconds(3900);
  look(replicas(kGood), {stuck});
  EXPECT_EQ(told(), Told{"Stalled d-1+"});
  EXPECT_EQ(events_->events().front().text, "a request has had no answer for 3 s");
  look(replicas(kGood), {disk("d-1")});
  EXPECT_EQ(told(), Told{"Stalled d-1"});
}

TEST_F(HealthWatchTest, RepairsAndLossesAreToldInSumsOnceAMinute) {
  DiskReading reading = disk("d-1");
  reading.opened = TimePoint(seconds(1));
  reading.repaired_blocks = 2;
  look(replicas(kGood), {reading});
  ASSERT_EQ(told(), Told{"Repaired d-1"});
  EXPECT_EQ(events_->events().front().text, "copies of 2 blocks were damaged and are replaced");
  for (int i = 0; i < 30; ++i) {
    ++reading.repaired_blocks;
    look(replicas(kGood), {reading});
  }
  // Opened anew: its counters begin at zero.
  reading.opened = TimePoint(seconds(40));
  reading.repaired_blocks = 5;
  reading.lost_blocks = 1;
  look(replicas(kGood), {reading});
  EXPECT_EQ(told().size(), 1U);
  pass(seconds(60));
  look(replicas(kGood), {reading});
  look(replicas(kGood), {reading});
  ASSERT_EQ(told(), (Told{"Repaired d-1", "Repaired d-1", "ErrorDetected d-1"}));
  EXPECT_EQ(std::next(events_->events().begin())->text,
            "copies of 35 blocks were damaged and are replaced");
  EXPECT_EQ(std::next(events_->events().begin(), 2)->text, "no good copy was found of 1 blocks");
}

TEST_F(HealthWatchTest, WhatScrubFindsIsToldOfDisksThatAreNotServed) {
  watch_->found("d-9", 3, 0);
  watch_->found("d-9", 4, 0);
  look(replicas(kGood), {});
  ASSERT_EQ(told(), Told{"Repaired d-9"});
  EXPECT_EQ(events_->events().front().text, "copies of 7 blocks were damaged and are replaced");
}

}  // namespace
}  // namespace clouddisk
