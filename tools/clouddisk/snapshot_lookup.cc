#include "tools/clouddisk/snapshot_lookup.h"

#include <chrono>
#include <thread>

#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

constexpr std::chrono::milliseconds kCapturePoll(200);

}  // namespace

Outcome<Json> describe_snapshot(const ApiClient& api, const std::string& id) {
  auto answer = api.call("DescribeSnapshots", {{"SnapshotIds", Json::array({id}).dump()}});
  if (!answer) return answer.failure();
  const Json& found = (*answer)["Snapshots"]["Snapshot"];
  if (!found.is_array() || found.empty()) {
    return Failure{"InvalidSnapshotId.NotFound",
                   fmt::format("There is no snapshot '{}'; see: clouddisk snapshot list", id)};
  }
  return Json(found[0]);
}

Outcome<Json> wait_until_captured(const ApiClient& api, const std::string& id) {
  while (true) {
    auto snapshot = describe_snapshot(api, id);
    if (!snapshot) return snapshot;
    const std::string status = text_of(*snapshot, "Status");
    if (status == "failed") {
      return Failure{"CreateSnapshot.Failed", text_of(*snapshot, "Failure")};
    }
    if (status == "accomplished") return snapshot;
    std::this_thread::sleep_for(kCapturePoll);
  }
}

}  // namespace clouddisk::cli
