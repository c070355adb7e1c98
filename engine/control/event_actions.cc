// event_actions.cc: what happened to disks: the cloud's view by disk, and ours by event.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"
#include "engine/monitor/event_log.h"

namespace clouddisk {
namespace {

// With the codes of the cloud's examples; those from 1000 on are ours.
struct CodedName {
  int code;
  std::string_view text;
};
constexpr CodedName kHealthOk{0, "Ok"};
constexpr CodedName kHealthWarning{64, "Warning"};
constexpr CodedName kHealthImpaired{128, "Impaired"};
constexpr CodedName kHealthInitializing{1000, "Initializing"};
constexpr std::array<std::string_view, 6> kHealthNames = {
    "Ok", "Warning", "Impaired", "Initializing", "InsufficientData", "NotApplicable"};

Json coded_view(const CodedName& coded) {
  return {{"Code", coded.code}, {"Name", coded.text}};
}

int code_of(DiskStatus status) {
  return status == DiskStatus::kAvailable ? 129 : 1000 + static_cast<int>(status);
}

Json event_view(const DiskEvent& event) {
  const EventKind& kind = kind_of(event.type);
  return {{"EventId", event.id},
          {"EventType", {{"Code", kind.code}, {"Name", kind.name}}},
          {"EventTime", iso_time(event.created)},
          {"EventEndTime", iso_time(event.ended)},
          {"ImpactLevel", kind.impact},
          {"Reason", event.text}};
}

Refusal bad_event_filter(std::string message) {
  return {403, "InvalidParameter", std::move(message)};
}

// Which events are asked for.
struct EventFilter {
  std::vector<std::string> ids;
  std::optional<EventType> type;
  TimeRange begun;
  bool given = false;  // something of it

  bool accepts(const DiskEvent& event) const {
    if (!ids.empty() && std::find(ids.begin(), ids.end(), event.id) == ids.end()) return false;
    if (type && event.type != *type) return false;
    return event.created >= begun.from && event.created <= begun.to;
  }
};

Verdict read_event_filter(ParamReader& reader, EventFilter& filter) {
  filter.ids = reader.list("EventId");
  if (filter.ids.size() > kIdsMax) {
    return Refusal{403, "EventIdLimitExceeded",
                   fmt::format("{} events are named, {} at the most.", filter.ids.size(), kIdsMax)};
  }
  if (const auto text = reader.optional_text("EventType")) {
    filter.type = parse_event_type(*text);
    if (!filter.type) return bad_event_filter(fmt::format("'{}' is no type of event.", *text));
  }
  for (const auto& [name, into] :
       {std::pair{"EventTime.Start", &filter.begun.from}, {"EventTime.End", &filter.begun.to}}) {
    const auto text = reader.optional_text(name);
    if (!text) continue;
    const auto time = parse_iso_time(*text);
    if (!time) {
      return bad_event_filter(
          fmt::format("{} '{}' is no time like 2026-01-01T00:00:00Z.", name, *text));
    }
    *into = *time;
    filter.given = true;
  }
  if (filter.begun.to < filter.begun.from) {
    return Refusal{403, "InvalidParameter.TimeEndBeforeStart",
                   "EventTime.End is before EventTime.Start."};
  }
  filter.given = filter.given || filter.type || !filter.ids.empty();
  return std::nullopt;
}

}  // namespace

void Control::Impl::note_event(EventType type, const std::string& disk_id, std::string text) {
  if (options.events != nullptr) options.events->note(type, disk_id, std::move(text));
}

void Control::Impl::note_at_times(EventType type, const std::string& disk_id, std::string text) {
  constexpr Duration kToldEvery = std::chrono::hours(1);
  if (options.events == nullptr) return;
  if (options.events->told_since(type, disk_id, now() - kToldEvery)) return;
  note_event(type, disk_id, std::move(text));
}

Task<Outcome> Control::Impl::describe_disks_full_status(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::vector<std::string> ids = reader.list("DiskId");
  const auto resource_group = reader.optional_text("ResourceGroupId");
  const auto tags = reader.tags();
  if (reader.problem()) co_return *reader.problem();
  if (ids.size() > kIdsMax) {
    co_return Refusal{403, "DiskIdLimitExceeded",
                      fmt::format("{} disks are named, {} at the most.", ids.size(), kIdsMax)};
  }
  EventFilter filter;
  if (auto broken = read_event_filter(reader, filter)) co_return *broken;
  const auto health = reader.optional_text("HealthStatus");
  if (health &&
      std::find(kHealthNames.begin(), kHealthNames.end(), *health) == kHealthNames.end()) {
    co_return bad_event_filter(fmt::format("'{}' is no health status.", *health));
  }
  const auto status = reader.optional_text("Status");
  if (status) {
    const auto known = parse_disk_status(*status == "In_Use" ? "In_use" : *status);
    if (!known || *known == DiskStatus::kDeleting) {
      co_return bad_event_filter(fmt::format("'{}' is no status of a disk.", *status));
    }
  }

  // Of each disk what is asked for, and what goes on.
  std::map<std::string, std::vector<const DiskEvent*>> events;
  std::set<std::pair<std::string, EventType>> going_on;
  if (options.events != nullptr) {
    for (const DiskEvent& event : options.events->events()) {
      if (event.goes_on()) going_on.emplace(event.disk_id, event.type);
      const bool wanted = filter.given ? filter.accepts(event) : event.goes_on();
      if (wanted) events[event.disk_id].push_back(&event);
    }
  }
  const auto health_of_disk = [&going_on](const DiskRecord& disk) {
    const auto on = [&](EventType type) { return going_on.contains({disk.id, type}); };
    if (disk.status == DiskStatus::kCreating || disk.status == DiskStatus::kReIniting) {
      return kHealthInitializing;
    }
    if (on(EventType::kSeverelyDegraded) || on(EventType::kStalled)) return kHealthImpaired;
    if (on(EventType::kDegraded) || on(EventType::kResyncing)) return kHealthWarning;
    return kHealthOk;
  };
  const bool with_events_alone = filter.type || !filter.ids.empty();
  std::vector<const DiskRecord*> found;
  for (const auto& [id, disk] : catalog->disks()) {
    if (disk.status == DiskStatus::kDeleting || disk.status == DiskStatus::kImporting) continue;
    if (!request.asks_for(disk.region, disk.zone)) continue;
    if (!ids.empty() && std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
    if (resource_group && disk.resource_group != *resource_group) continue;
    if (status && name(disk.status) != (*status == "In_Use" ? "In_use" : *status)) continue;
    if (health && health_of_disk(disk).text != *health) continue;
    if (with_events_alone && !events.contains(id)) continue;
    if (!has_tags(disk.tags, tags)) continue;
    found.push_back(&disk);
  }
  const std::function<Json(const DiskRecord&)> view = [&](const DiskRecord& disk) {
    Json list = Json::array();
    for (const DiskEvent* event : events[disk.id]) list.push_back(event_view(*event));
    return Json{{"DiskId", disk.id},
                {"InstanceId", disk.instance_id},
                {"Device", disk.device},
                {"Status", coded_view({code_of(disk.status), name(disk.status)})},
                {"HealthStatus", coded_view(health_of_disk(disk))},
                {"DiskEventSet", {{"DiskEventType", std::move(list)}}}};
  };
  Json answer = Json::object();
  Json list = Json::array();
  if (auto broken = page(std::move(found), reader, answer, view, list)) co_return *broken;
  answer.erase("NextToken");
  answer["DiskFullStatusSet"] = {{"DiskFullStatusType", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_disk_events(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto disk_id = reader.optional_text("DiskId");
  const auto goes_on = reader.optional_boolean("GoesOn");
  EventFilter filter;
  if (auto broken = read_event_filter(reader, filter)) co_return *broken;
  if (reader.problem()) co_return *reader.problem();
  std::vector<const DiskEvent*> found;
  if (options.events != nullptr) {
    for (const DiskEvent& event : options.events->events()) {
      if (disk_id && event.disk_id != *disk_id) continue;
      if (goes_on && event.goes_on() != *goes_on) continue;
      if (filter.accepts(event)) found.push_back(&event);
    }
  }
  const std::function<Json(const DiskEvent&)> view = [](const DiskEvent& event) {
    Json shown = event_view(event);
    shown["DiskId"] = event.disk_id;
    return shown;
  };
  Json answer = Json::object();
  Json list = Json::array();
  if (auto broken = page(std::move(found), reader, answer, view, list)) co_return *broken;
  answer["Events"] = {{"Event", std::move(list)}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
