// policy_copies.cc: what a policy takes is copied to another region, once it is captured.
//
// That a snapshot is to be copied is in its own record, and is taken out of it in the transaction
// that records the copy: after a crash it is copied exactly once. A policy that changes meanwhile
// counts for what is taken from then on. What can't begin is tried again until the snapshot goes;
// what a rule forbids is left out, and a copy whose capture fails for good is shown as failed.
#include "engine/base/log.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr std::string_view kCopies = "policy";
constexpr Duration kCopyRetryAfter = std::chrono::minutes(1);

bool awaits_copy(const SnapshotRecord& snapshot) {
  return !snapshot.copy_region.empty() && !snapshot.hidden &&
         snapshot.status == SnapshotStatus::kAccomplished;
}

}  // namespace

Task<void> Control::Impl::copy_for_policy(std::string snapshot_id, WallTime at) {
  const SnapshotRecord* found = catalog->find_snapshot(snapshot_id);
  if (found == nullptr || !awaits_copy(*found)) co_return;
  SnapshotRecord source = *found;
  const std::string region = std::exchange(source.copy_region, {});
  SnapshotRecord copy;
  copy.snapshot_name = source.snapshot_name;
  copy.automatic = true;
  copy.retention_days = std::exchange(source.copied_retention_days, 0);
  copy.resource_group = source.resource_group;
  CatalogChange change;
  change.put(source);
  Verdict broken;
  Location there{region, {}};
  NewCopies copies{region, {}, {}};
  broken = location_must_exist(options.places, there);
  if (!broken) broken = plan_copy(source, std::move(copy), copies);
  if (broken) {
    log(LogLevel::kWarning, kCopies, "snapshot {} is not copied to {}: {}", snapshot_id, region,
        broken->message);
    if (co_await commit(std::move(change))) retries[snapshot_id] = at + kCopyRetryAfter;
    co_return;
  }
  copies.snapshots.front().created = at;
  const std::string id = copies.snapshots.front().id;
  const std::string chain_disk = copies.snapshots.front().disk_id;
  ControlRequest nobody(ring, {}, Caller::kLocal);
  const Outcome made =
      co_await make_copies(std::move(copies), std::move(change), nobody, Json::object());
  if (made.refusal) {
    log(LogLevel::kWarning, kCopies, "snapshot {} is copied to {} later: {}", snapshot_id, region,
        made.refusal->message);
    retries[snapshot_id] = at + kCopyRetryAfter;
    co_return;
  }
  retries.erase(snapshot_id);
  log(LogLevel::kInfo, kCopies, "snapshot {} is copied to {}: {}", snapshot_id, region, id);
  co_await keep_automatic_quota(chain_disk);
}

Task<void> Control::Impl::copy_what_is_due(WallTime at) {
  std::vector<std::string> due;
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (!awaits_copy(snapshot)) continue;
    const auto retry = retries.find(id);
    if (retry == retries.end() || at >= retry->second) due.push_back(id);
  }
  for (const std::string& id : due) {
    auto guard = co_await changing.lock_all();
    if (closing) co_return;
    co_await copy_for_policy(id, at);
  }
}

}  // namespace clouddisk
