// auto_snapshots.cc: what happens by itself as time goes by: automatic snapshots at the points of
// their policies, and the end of every snapshot whose retention has passed.
//
// Each disk has on record, for each of its policies, up to when points are done with, and that
// changes in the transaction that records the snapshot: after a crash a point is taken exactly
// once. A daemon that was away finds the last point only, however many it slept through. What fails
// (no room, too few replicas) is tried again until the next point takes its place; what a rule
// forbids is skipped.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "engine/base/log.h"
#include "engine/catalog/policy_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr std::string_view kComponent = "policy";
constexpr Duration kRetryAfter = std::chrono::minutes(1);
constexpr Duration kSettleAgainAfter = std::chrono::seconds(5);
constexpr Duration kSettleAgainAtLast = std::chrono::minutes(5);

using Snapshots = std::vector<const SnapshotRecord*>;

// Snapshots that disks were made from do not go by themselves, as those could not be re-initialised
// any more; nor do those that images have.
std::set<std::string> sources_in_use(const Catalog& catalog) {
  std::set<std::string> sources;
  for (const auto& [id, disk] : catalog.disks()) {
    if (disk.status != DiskStatus::kDeleting) sources.insert(disk.source_snapshot);
  }
  for (const auto& [id, image] : catalog.images()) {
    for (const ImageDisk& disk : image.disks) sources.insert(disk.snapshot_id);
  }
  return sources;
}

// The disk's automatic snapshots: how many have to stay, and those that may go.
struct Automatic {
  std::size_t held = 0;
  Snapshots free;
};
Automatic automatic_of(const Catalog& catalog, const std::string& disk_id) {
  const std::set<std::string> sources = sources_in_use(catalog);
  Automatic automatic;
  for (const SnapshotRecord* one : catalog.snapshots_of_disk(disk_id)) {
    if (!one->automatic || one->hidden) continue;
    if (sources.count(one->id) != 0) {
      ++automatic.held;
    } else {
      automatic.free.push_back(one);
    }
  }
  return automatic;
}

}  // namespace

// Why the disk's point is left out; empty: it is not.
std::string Control::Impl::reason_to_skip(const DiskRecord& disk) const {
  if (!disk.enable_auto_snapshot) return "its EnableAutoSnapshot is false";
  for (const SnapshotRecord* one : catalog->snapshots_of_disk(disk.id)) {
    if (one->status == SnapshotStatus::kProgressing) {
      return fmt::format("snapshot {} of it is in progress", one->id);
    }
  }
  if (auto broken = disk_must_allow_snapshot(disk)) return broken->message;
  const InstanceRecord* instance = catalog->find_instance(disk.instance_id);
  if (auto broken = disk_must_have_been_used(disk, instance)) return broken->message;
  if (automatic_of(*catalog, disk.id).held >= options.auto_snapshot_quota) {
    return "it has as many automatic snapshots as it may, and disks or images have each";
  }
  return {};
}

Task<void> Control::Impl::take_if_due(std::string disk_id, std::string policy_id, WallTime at) {
  const DiskRecord* found = catalog->find_disk(disk_id);
  const PolicyRecord* policy = catalog->find_policy(policy_id);
  if (found == nullptr || policy == nullptr) co_return;
  DiskRecord disk = *found;
  const auto applied = std::find_if(disk.policies.begin(), disk.policies.end(),
                                    [&](const auto& one) { return one.policy_id == policy_id; });
  if (applied == disk.policies.end()) co_return;
  const auto point = due_point(*policy, *applied, at);
  if (!point) co_return;
  applied->done_until = *point;
  if (const std::string reason = reason_to_skip(disk); !reason.empty()) {
    log(LogLevel::kInfo, kComponent, "disk {}: {} skips {}: {}", disk_id, policy_id,
        iso_time(*point), reason);
    CatalogChange change;
    change.put(disk);
    if (co_await commit(std::move(change))) retries[disk_id] = at + kRetryAfter;
    co_return;
  }
  SnapshotRecord snapshot;
  snapshot.id = new_id("s", disk.region);
  snapshot.region = disk.region;
  snapshot.disk_id = disk_id;
  snapshot.snapshot_name = automatic_snapshot_name(at, catalog->snapshots_of_disk(disk_id));
  snapshot.automatic = true;
  snapshot.retention_days = policy->retention_days;
  snapshot.copy_region = policy->copy_region;
  snapshot.copied_retention_days = policy->copied_retention_days;
  snapshot.resource_group = disk.resource_group;
  snapshot.created = at;
  const std::string id = snapshot.id;
  std::vector<NewSnapshot> taken;
  taken.push_back({std::move(disk), std::move(snapshot)});
  ControlRequest nobody(ring, {}, Caller::kLocal);
  if (auto failed = co_await take(taken, {}, nobody, Json::object())) {
    log(LogLevel::kWarning, kComponent, "disk {}: {} tries {} again later: {}", disk_id, policy_id,
        iso_time(*point), failed->message);
    retries[disk_id] = at + kRetryAfter;
    co_return;
  }
  retries.erase(disk_id);
  log(LogLevel::kInfo, kComponent, "disk {}: {} takes {} for {}", disk_id, policy_id, id,
      iso_time(*point));
  co_await keep_automatic_quota(disk_id);
}

// After the new one is on record: whatever fails, the disk never has fewer than it may.
Task<void> Control::Impl::keep_automatic_quota(std::string disk_id) {
  while (true) {
    const Automatic automatic = automatic_of(*catalog, disk_id);
    const std::size_t room =
        options.auto_snapshot_quota - std::min(automatic.held, options.auto_snapshot_quota);
    const SnapshotRecord* oldest = oldest_automatic_over_quota(automatic.free, room + 1);
    if (oldest == nullptr) break;
    log(LogLevel::kInfo, kComponent, "disk {}: {} makes room for a newer one", disk_id, oldest->id);
    if (co_await remove_snapshot(*oldest)) co_return;  // The next point comes by here again.
  }
  co_await tidy();
}

Task<void> Control::Impl::remove_expired(WallTime at) {
  const std::set<std::string> sources = sources_in_use(*catalog);
  std::vector<std::string> expired;
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (has_expired(snapshot, at) && sources.count(id) == 0) expired.push_back(id);
  }
  if (expired.empty() || at < expiry_retry) co_return;
  auto guard = co_await changing.lock_all();
  if (closing) co_return;
  for (const std::string& id : expired) {
    const SnapshotRecord* found = catalog->find_snapshot(id);
    const bool still =
        found != nullptr && has_expired(*found, at) && sources_in_use(*catalog).count(id) == 0;
    if (!still) continue;
    log(LogLevel::kInfo, kComponent, "disk {}: {} goes after {} days", found->disk_id, id,
        found->retention_days);
    if (auto failed = co_await remove_snapshot(*found)) {
      log(LogLevel::kWarning, kComponent, "snapshot {} stays for now: {}", id, failed->message);
      expiry_retry = at + kRetryAfter;
    }
  }
  co_await tidy();
}

// What nobody asks for: it would wait for the next change otherwise.
Task<void> Control::Impl::finish_what_was_left(WallTime at) {
  if (!unsettled && !untidy) {
    settle_pause = {};
    co_return;
  }
  // A wall clock that was set back is no reason to wait.
  if (at < settle_retry && settle_retry - at <= settle_pause) co_return;
  co_await settle_if_need_be();
  if (untidy) {
    auto all = co_await changing.lock_all();
    if (!closing) co_await tidy();
  }
  // What can't be done is tried ever less often.
  const bool is_left = unsettled || untidy;
  settle_pause = is_left ? std::clamp(2 * settle_pause, kSettleAgainAfter, kSettleAgainAtLast)
                         : kSettleAgainAfter;
  settle_retry = at + settle_pause;
}

Task<void> Control::Impl::keep_schedule(WallTime at) {
  co_await finish_what_was_left(at);
  std::vector<std::pair<std::string, std::string>> due;
  for (const auto& [id, disk] : catalog->disks()) {
    // What was before a rollback goes when it can't be returned to any more.
    untidy = untidy || (!disk.undo_storage.empty() && disk.undo_until < at);
    if (disk.status == DiskStatus::kDeleting) continue;
    const auto retry = retries.find(id);
    if (retry != retries.end() && at < retry->second) continue;
    for (const AppliedPolicy& applied : disk.policies) {
      const PolicyRecord* policy = catalog->find_policy(applied.policy_id);
      if (policy != nullptr && due_point(*policy, applied, at)) {
        due.emplace_back(id, applied.policy_id);
      }
    }
  }
  for (const auto& [disk_id, policy_id] : due) {
    // One at a time, so that actions come in between.
    auto guard = co_await changing.lock_all();
    if (closing) co_return;
    if (unsettled) co_await settle();
    co_await take_if_due(disk_id, policy_id, at);
  }
  if (!closing) co_await copy_what_is_due(at);
  if (!closing) co_await remove_expired(at);
}

Task<void> Control::keep_schedule(WallTime at) {
  impl_->performing.add();
  co_await impl_->keep_schedule(at);
  impl_->performing.done();
}

}  // namespace clouddisk
