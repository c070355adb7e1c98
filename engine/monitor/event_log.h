// event_log.h: the events of all disks: in memory for who asks, in a journal for the next start, in
// the daemon's log for people. Bounded: the newest kEventsMax of the last 30 days.
//
// Thread: the ring's. Nobody waits for the journal: an event is on file some milliseconds after it
// was told. Errors: a journal that can't be written is logged; the events stay in memory.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/random.h"
#include "engine/base/result.h"
#include "engine/monitor/disk_event.h"
#include "engine/monitor/event_journal.h"
#include "engine/ring/ring.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class EventLog {
 public:
  struct Options {
    std::string path;
    std::string region = "cn-local";  // part of the ids
    std::size_t events_max = 10'000;  // beside those that go on
    Duration kept = std::chrono::hours(30 * 24);
    std::uint64_t seed = 0;  // of the ids
  };
  // What an earlier daemon recorded is there again; what went on then goes on until end().
  static Task<Result<std::unique_ptr<EventLog>>> open(Ring& ring, Options options);

  // Something that goes on until end(). Nothing happens if it does already.
  void begin(EventType type, const std::string& disk_id, std::string text);
  // Fine if it does not go on.
  void end(EventType type, const std::string& disk_id);
  // Something that is over as it is told.
  void note(EventType type, const std::string& disk_id, std::string text);

  const std::list<DiskEvent>& events() const { return events_; }  // oldest first
  bool goes_on(EventType type, const std::string& disk_id) const {
    return going_on_.contains({disk_id, type});
  }
  // By disk and type.
  const std::map<std::pair<std::string, EventType>, DiskEvent*>& going_on() const {
    return going_on_;
  }
  // Whether one of them began since then.
  bool told_since(EventType type, const std::string& disk_id, WallTime since) const;
  // Begun or noted since the start.
  std::uint64_t recorded(EventType type) const { return recorded_[static_cast<std::size_t>(type)]; }

  // On return all that was told is on file. Nothing may be told afterwards.
  Task<void> close();

 private:
  EventLog(Ring& ring, Options options);
  DiskEvent& add(EventType type, const std::string& disk_id, std::string text);
  void forget_old();
  void write_later(const DiskEvent& event);
  Task<void> write_out();

  Ring& ring_;
  const Options options_;
  EventJournal journal_;
  Random random_;
  std::list<DiskEvent> events_;  // elements stay where they are
  std::map<std::pair<std::string, EventType>, DiskEvent*> going_on_;
  std::array<std::uint64_t, kEventKinds.size()> recorded_{};
  std::vector<DiskEvent> to_write_;
  std::size_t lines_ = 0;  // in the journal
  bool writing_ = false;
  bool failed_ = false;
  WaitGroup writers_;
};

}  // namespace clouddisk
