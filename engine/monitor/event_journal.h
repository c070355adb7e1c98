// event_journal.h: events of disks on file, one line each, so that they outlive the daemon. Bytes:
// docs/format.md.
//
// A line that does not check, as the last one after a crash, is passed over. An event that is
// written again replaces what was written of it before.
// One thread at a time; the calls block. Errors: values of the file system.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/monitor/disk_event.h"

namespace clouddisk {

class EventJournal {
 public:
  explicit EventJournal(std::string path) : path_(std::move(path)) {}

  // In the order in which they began; none where there is no file.
  Result<std::vector<DiskEvent>> read();
  // Durable when it returns.
  Result<void> append(std::span<const DiskEvent> events);
  // These and no others, in one step.
  Result<void> replace(std::span<const DiskEvent> events);

 private:
  const std::string path_;
};

std::string encode_event(const DiskEvent& event);  // with the newline
std::optional<DiskEvent> decode_event(std::string_view line);

}  // namespace clouddisk
