// event_fixture.h: an event log on a clock that tests move.
#pragma once

#include <gtest/gtest.h>

#include <optional>

#include "engine/base/log.h"
#include "engine/monitor/event_log.h"
#include "tests/engine/qos/clock_ring.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {

class EventTest : public ::testing::Test {
 protected:
  EventTest() {
    set_log_level(LogLevel::kOff);
    options_.path = folder_.path() + "/events";
    options_.seed = 7;
  }
  ~EventTest() override { close(); }

  EventLog& open() {
    close();
    auto opened = ring_.block_on(EventLog::open(ring_, options_));
    CHECK(opened.has_value());
    events_ = std::move(*opened);
    return *events_;
  }
  void close() {
    if (events_) ring_.block_on(events_->close());
    events_.reset();
  }
  // As kill -9, some milliseconds after the last event.
  void kill() { close(); }
  void pass(Duration time) { ring_.block_on(wait(time)); }

  TemporaryFolder folder_;
  ClockRing ring_;
  EventLog::Options options_;
  std::unique_ptr<EventLog> events_;

 private:
  Task<void> wait(Duration time) { co_await ring_.sleep_for(time); }
};

}  // namespace clouddisk
