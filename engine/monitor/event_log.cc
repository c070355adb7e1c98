#include "engine/monitor/event_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"

namespace clouddisk {
namespace {

constexpr std::size_t kEventTextMax = 500;
constexpr Duration kOneMoment = std::chrono::milliseconds(1);

LogLevel log_level_of(EventType type) {
  return kind_of(type).bad ? LogLevel::kWarning : LogLevel::kInfo;
}

}  // namespace

EventLog::EventLog(Ring& ring, Options options)
    : ring_(ring),
      options_(std::move(options)),
      journal_(options_.path),
      random_(options_.seed),
      writers_(ring) {}

Task<Result<std::unique_ptr<EventLog>>> EventLog::open(Ring& ring, Options options) {
  std::unique_ptr<EventLog> made(new EventLog(ring, std::move(options)));
  EventLog& events = *made;
  auto known = co_await ring.blocking([&events] { return events.journal_.read(); });
  if (!known) {
    // The disks are worth more than their history.
    log(LogLevel::kError, "event", "events of before can't be read: {}", known.error().message);
    events.failed_ = true;
    co_return std::move(made);
  }
  for (DiskEvent& event : *known) {
    events.events_.push_back(std::move(event));
    DiskEvent& kept = events.events_.back();
    if (!kept.goes_on()) continue;
    const auto [at, added] = events.going_on_.try_emplace({kept.disk_id, kept.type}, &kept);
    if (!added) kept.ended = kept.created;
  }
  events.forget_old();
  const std::vector<DiskEvent> all(events.events_.begin(), events.events_.end());
  events.lines_ = all.size();
  auto put = co_await ring.blocking([&events, &all] { return events.journal_.replace(all); });
  if (!put) {
    log(LogLevel::kError, "event", "not kept for the next start: {}", put.error().message);
    events.failed_ = true;
  }
  co_return std::move(made);
}

DiskEvent& EventLog::add(EventType type, const std::string& disk_id, std::string text) {
  if (text.size() > kEventTextMax) text.resize(kEventTextMax);
  DiskEvent event;
  event.id = make_id("e", options_.region, random_);
  event.disk_id = disk_id;
  event.type = type;
  event.created = ring_.wall_now();
  // One after the other, so that they are listed as they came; not where the clock was put back.
  if (!events_.empty()) {
    const WallTime last = events_.back().created;
    if (event.created <= last && last - event.created < kOneMoment) {
      event.created = last + Duration(1);
    }
  }
  event.text = std::move(text);
  ++recorded_[static_cast<std::size_t>(type)];
  log(log_level_of(type), "event", "{} disk={} event={}: {}", kind_of(type).name, disk_id, event.id,
      event.text);
  events_.push_back(std::move(event));
  forget_old();
  return events_.back();
}

void EventLog::begin(EventType type, const std::string& disk_id, std::string text) {
  if (goes_on(type, disk_id)) return;
  DiskEvent& event = add(type, disk_id, std::move(text));
  going_on_[{disk_id, type}] = &event;
  write_later(event);
}

void EventLog::end(EventType type, const std::string& disk_id) {
  const auto at = going_on_.find({disk_id, type});
  if (at == going_on_.end()) return;
  DiskEvent& event = *at->second;
  going_on_.erase(at);
  event.ended = std::max(ring_.wall_now(), event.created + Duration(1));
  log(LogLevel::kInfo, "event", "{} disk={} event={} is over", kind_of(type).name, disk_id,
      event.id);
  write_later(event);
}

void EventLog::note(EventType type, const std::string& disk_id, std::string text) {
  DiskEvent& event = add(type, disk_id, std::move(text));
  event.ended = event.created;
  write_later(event);
}

bool EventLog::told_since(EventType type, const std::string& disk_id, WallTime since) const {
  for (auto event = events_.rbegin(); event != events_.rend(); ++event) {
    if (event->created < since) return false;
    if (event->type == type && event->disk_id == disk_id) return true;
  }
  return false;
}

// What goes on stays, or the next look would begin it once more: as many as there are disks.
void EventLog::forget_old() {
  const WallTime oldest = ring_.wall_now() - options_.kept;
  const auto may_go = [&](const DiskEvent& event) { return !event.goes_on(); };
  while (!events_.empty() && events_.front().created < oldest && may_go(events_.front())) {
    events_.pop_front();
  }
  while (events_.size() > options_.events_max + going_on_.size()) {
    const auto first = std::find_if(events_.begin(), events_.end(), may_go);
    if (first == events_.end()) break;
    events_.erase(first);
  }
}

void EventLog::write_later(const DiskEvent& event) {
  to_write_.push_back(event);
  if (writing_) return;
  writing_ = true;
  writers_.add();
  spawn(write_out());
}

Task<void> EventLog::write_out() {
  while (!to_write_.empty()) {
    std::vector<DiskEvent> batch = std::exchange(to_write_, {});
    const bool replace = failed_ || lines_ + batch.size() > 2 * options_.events_max;
    if (replace) batch.assign(events_.begin(), events_.end());
    auto put = co_await ring_.blocking(
        [&] { return replace ? journal_.replace(batch) : journal_.append(batch); });
    if (put) {
      lines_ = replace ? batch.size() : lines_ + batch.size();
    } else if (!failed_) {
      log(LogLevel::kError, "event", "not kept for the next start: {}", put.error().message);
    }
    failed_ = !put;
  }
  writing_ = false;
  writers_.done();
}

Task<void> EventLog::close() {
  co_await writers_.wait();
}

}  // namespace clouddisk
