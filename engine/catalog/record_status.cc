// How records and the API spell states.
#include <array>

#include "engine/catalog/records.h"

namespace clouddisk {
namespace {

constexpr std::array<std::string_view, 8> kDiskStatusNames = {"Creating",  "Available", "Attaching",
                                                              "In_use",    "Detaching", "ReIniting",
                                                              "Importing", "Deleting"};
constexpr std::array<std::string_view, 6> kInstanceStatusNames = {
    "Pending", "Starting", "Running", "Stopping", "Stopped", "Deleting"};

constexpr std::array<std::string_view, 4> kSnapshotStatusNames = {"progressing", "accomplished",
                                                                  "failed", "deleting"};

constexpr std::array<std::string_view, 3> kTaskStatusNames = {"Processing", "Finished", "Failed"};

template <class Status, std::size_t N>
Result<Status> parse_status(const std::array<std::string_view, N>& names, std::string_view text) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == text) return static_cast<Status>(i);
  }
  return fail(Errc::kInvalid, "no such status: '{}'", text);
}

}  // namespace

std::string_view name(DiskStatus status) {
  return kDiskStatusNames[static_cast<std::size_t>(status)];
}
std::string_view name(InstanceStatus status) {
  return kInstanceStatusNames[static_cast<std::size_t>(status)];
}
Result<DiskStatus> parse_disk_status(std::string_view text) {
  return parse_status<DiskStatus>(kDiskStatusNames, text);
}
Result<InstanceStatus> parse_instance_status(std::string_view text) {
  return parse_status<InstanceStatus>(kInstanceStatusNames, text);
}

std::string_view name(SnapshotStatus status) {
  return kSnapshotStatusNames[static_cast<std::size_t>(status)];
}
Result<SnapshotStatus> parse_snapshot_status(std::string_view text) {
  return parse_status<SnapshotStatus>(kSnapshotStatusNames, text);
}

std::string_view name(TaskStatus status) {
  return kTaskStatusNames[static_cast<std::size_t>(status)];
}
Result<TaskStatus> parse_task_status(std::string_view text) {
  return parse_status<TaskStatus>(kTaskStatusNames, text);
}

}  // namespace clouddisk
