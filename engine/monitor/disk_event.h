// disk_event.h: something that happened to a disk, as the cloud's system events tell it. Plain
// data.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/units.h"

namespace clouddisk {

enum class EventType : std::uint8_t {
  kDegraded,          // one replica is not in sync
  kSeverelyDegraded,  // two or more are not: the disk can't be written
  kStalled,           // a request gets no answer
  kErrorDetected,     // content has no good copy left
  // Ours:
  kResyncing,       // a replica is brought up to date
  kRepaired,        // all replicas are in sync again, or damaged copies were replaced
  kSnapshotFailed,  // a snapshot could not be taken or captured
  kQuotaReached,    // a snapshot was refused for the quota
};

struct EventKind {
  EventType type;
  std::string_view name;
  unsigned code;            // the cloud's (2 and 8 are assumed), or one of ours from 1000 on
  std::string_view impact;  // 0 to 100
  bool bad;                 // something is wrong
};
inline constexpr std::array<EventKind, 8> kEventKinds = {{
    {EventType::kDegraded, "Degraded", 1, "50", true},
    {EventType::kSeverelyDegraded, "SeverelyDegraded", 2, "100", true},
    {EventType::kStalled, "Stalled", 7, "100", true},
    {EventType::kErrorDetected, "ErrorDetected", 8, "100", true},
    {EventType::kResyncing, "Resyncing", 1000, "10", false},
    {EventType::kRepaired, "Repaired", 1001, "0", false},
    {EventType::kSnapshotFailed, "SnapshotFailed", 1002, "50", true},
    {EventType::kQuotaReached, "QuotaReached", 1003, "10", true},
}};
constexpr const EventKind& kind_of(EventType type) {
  return kEventKinds[static_cast<std::size_t>(type)];
}
std::optional<EventType> parse_event_type(std::string_view name);  // as written above

struct DiskEvent {
  std::string id;  // e-…
  std::string disk_id;
  EventType type = EventType::kDegraded;
  WallTime created{};  // when it began
  WallTime ended{};    // zero: it goes on
  std::string text;    // what exactly, for people

  bool goes_on() const { return ended == WallTime{}; }
  bool operator==(const DiskEvent&) const = default;
};

}  // namespace clouddisk
