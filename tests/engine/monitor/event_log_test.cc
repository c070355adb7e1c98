#include "engine/monitor/event_log.h"

#include <filesystem>
#include <fstream>

#include "engine/base/random.h"
#include "tests/engine/monitor/event_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class EventLogTest : public EventTest {};

TEST_F(EventLogTest, WhatWasToldIsThereAfterARestart) {
  EventLog& log = open();
  log.begin(EventType::kDegraded, "d-1", "replica 2 is failed");
  pass(seconds(5));
  log.note(EventType::kSnapshotFailed, "d-2", "snapshot s-1: \"odd\"\n\xff");
  log.end(EventType::kDegraded, "d-1");
  log.begin(EventType::kStalled, "d-1", "stuck");
  const std::vector<DiskEvent> told(log.events().begin(), log.events().end());
  ASSERT_EQ(told.size(), 3U);
  EXPECT_EQ(told[0].ended - told[0].created, seconds(5));
  EXPECT_EQ(told[1].ended, told[1].created);
  EXPECT_EQ(log.recorded(EventType::kDegraded), 1U);

  EventLog& next = open();
  ASSERT_EQ(next.events().size(), 3U);
  EXPECT_EQ(next.recorded(EventType::kDegraded), 0U);
  std::map<std::string, DiskEvent> by_id;
  for (const DiskEvent& event : next.events()) by_id[event.id] = event;
  EXPECT_EQ(by_id[told[0].id], told[0]);
  EXPECT_EQ(by_id[told[2].id], told[2]);
  EXPECT_TRUE(by_id[told[1].id].text.starts_with("snapshot s-1: \"odd\"\n"));  // and valid UTF-8
  EXPECT_TRUE(next.goes_on(EventType::kStalled, "d-1"));
  EXPECT_FALSE(next.goes_on(EventType::kDegraded, "d-1"));
  next.end(EventType::kStalled, "d-1");
  EXPECT_FALSE(open().goes_on(EventType::kStalled, "d-1"));
}

TEST_F(EventLogTest, WhatGoesOnIsToldOnceAndEndsOnce) {
  EventLog& log = open();
  log.begin(EventType::kDegraded, "d-1", "a");
  log.begin(EventType::kDegraded, "d-1", "b");
  log.begin(EventType::kDegraded, "d-2", "c");
  log.begin(EventType::kStalled, "d-1", "d");
  EXPECT_EQ(log.events().size(), 3U);
  EXPECT_EQ(log.going_on().size(), 3U);
  log.end(EventType::kDegraded, "d-1");
  log.end(EventType::kDegraded, "d-1");
  log.end(EventType::kDegraded, "d-9");
  EXPECT_EQ(log.going_on().size(), 2U);
  log.begin(EventType::kDegraded, "d-1", "again");
  EXPECT_EQ(log.events().size(), 4U);
}

TEST_F(EventLogTest, IsBoundedInNumberAndInTime) {
  options_.events_max = 50;
  EventLog& log = open();
  for (int i = 0; i < 1000; ++i) {
    log.note(EventType::kRepaired, "d-1", std::string(2000, 'x'));
    if (i % 10 == 0) pass(seconds(1));
  }
  EXPECT_EQ(log.events().size(), 50U);
  pass(seconds(1));
  EXPECT_LT(std::filesystem::file_size(options_.path), 2 * 50 * 800U);
  EXPECT_EQ(open().events().size(), 50U);
  events_->begin(EventType::kDegraded, "d-1", "goes on");
  pass(hours(24 * 31));
  events_->note(EventType::kRepaired, "d-1", "new");
  // What is over for long is gone; what goes on is not.
  EXPECT_EQ(events_->events().size(), 2U);
  EXPECT_TRUE(events_->goes_on(EventType::kDegraded, "d-1"));
  EXPECT_EQ(open().events().size(), 2U);
}

// Pushed out, it would be begun again with the next look at the disk, and push out another.
TEST_F(EventLogTest, WhatGoesOnIsNeverPushedOut) {
  options_.events_max = 3;
  EventLog& log = open();
  for (int i = 0; i < 10; ++i) log.begin(EventType::kDegraded, "d-" + std::to_string(i), "");
  for (int i = 0; i < 20; ++i) log.note(EventType::kRepaired, "d-2", std::to_string(i));
  EXPECT_EQ(log.going_on().size(), 10U);
  EXPECT_EQ(log.events().size(), 13U);
  EXPECT_EQ(log.events().back().text, "19");
  for (int i = 0; i < 10; ++i) log.end(EventType::kDegraded, "d-" + std::to_string(i));
  log.note(EventType::kRepaired, "d-2", "one more");
  EXPECT_LE(log.events().size(), 4U);
}

TEST_F(EventLogTest, AJournalThatCantBeReadKeepsNothingBack) {
  std::filesystem::create_directories(options_.path);
  EventLog& log = open();
  log.note(EventType::kRepaired, "d-1", "in memory");
  EXPECT_EQ(log.events().size(), 1U);
}

TEST_F(EventLogTest, LinesThatAreCutOffOrDamagedArePassedOver) {
  EventLog& log = open();
  for (int i = 0; i < 3; ++i) log.note(EventType::kRepaired, "d-1", std::to_string(i));
  kill();
  std::string text;
  {
    std::ifstream file(options_.path);
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  {
    std::string damaged = text;
    damaged[text.find('\n') + 30] = '#';                                 // in the second line
    std::ofstream(options_.path) << damaged.substr(0, text.size() - 4);  // the third is cut off
  }
  {
    EventJournal journal(options_.path);
    const DiskEvent event{"e-x", "d-1", EventType::kStalled, WallTime(seconds(9)), {}, "after"};
    ASSERT_TRUE(journal.append(std::vector<DiskEvent>{event}));
  }
  const auto& events = open().events();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events.front().text, "0");
  EXPECT_EQ(events.back().text, "after");
}

TEST_F(EventLogTest, AFileThatCanNotBeWrittenLosesNothingInMemoryAndIsMadeUpForLater) {
  EventLog& log = open();
  std::filesystem::remove(options_.path);
  std::filesystem::create_directory(options_.path);
  log.note(EventType::kRepaired, "d-1", "one");
  pass(seconds(1));
  std::filesystem::remove(options_.path);
  log.note(EventType::kRepaired, "d-1", "two");
  EXPECT_EQ(log.events().size(), 2U);
  EXPECT_EQ(open().events().size(), 2U);
}

TEST_F(EventLogTest, ToldSinceLooksAtDiskTypeAndTime) {
  EventLog& log = open();
  log.note(EventType::kQuotaReached, "d-1", "");
  pass(hours(2));
  const WallTime hour_ago = ring_.wall_now() - hours(1);
  EXPECT_FALSE(log.told_since(EventType::kQuotaReached, "d-1", hour_ago));
  EXPECT_TRUE(log.told_since(EventType::kQuotaReached, "d-1", hour_ago - hours(1)));
  log.note(EventType::kQuotaReached, "d-1", "");
  EXPECT_TRUE(log.told_since(EventType::kQuotaReached, "d-1", hour_ago));
  EXPECT_FALSE(log.told_since(EventType::kQuotaReached, "d-2", hour_ago));
  EXPECT_FALSE(log.told_since(EventType::kRepaired, "d-1", hour_ago));
}

TEST_F(EventLogTest, AnyLineDecodesToWhatWasEncodedOrToNothing) {
  Random random(announce_seed());
  const DiskEvent event{
      "e-1", "d-1", EventType::kDegraded, WallTime(seconds(5)), WallTime(seconds(6)), "text"};
  std::string line = encode_event(event);
  ASSERT_EQ(line.back(), '\n');
  line.pop_back();
  EXPECT_EQ(decode_event(line), event);
  for (int i = 0; i < 2000; ++i) {
    std::string other = line;
    for (std::uint64_t flips = 1 + random.below(3); flips > 0; --flips) {
      other[random.below(other.size())] = static_cast<char>(random.below(256));
    }
    if (random.one_in(3)) other.resize(random.below(other.size()));
    const auto decoded = decode_event(other);
    EXPECT_TRUE(!decoded || *decoded == event);
  }
}

}  // namespace
}  // namespace clouddisk
