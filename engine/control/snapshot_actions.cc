// snapshot_actions.cc: taking and deleting snapshots, of one disk and of several at one instant.
//
// The order: the disks are frozen, then the catalog records the snapshots in one transaction, then
// the captures begin. A crash before the commit leaves an epoch that nobody asks for; after it, the
// next start exports the snapshots and captures them.
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "engine/catalog/image_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

Verdict Control::Impl::find_snapshot(std::string_view id, const SnapshotRecord*& snapshot) const {
  snapshot = catalog->find_snapshot(id);
  if (snapshot != nullptr && !snapshot->hidden) return std::nullopt;
  return Refusal{404, "InvalidSnapshotId.NotFound", fmt::format("There is no snapshot '{}'.", id)};
}

ChainRecord Control::Impl::chain_of(const DiskRecord& disk) const {
  const std::string id = chain_id_of(disk.id);
  if (const ChainRecord* known = catalog->find_chain(id)) return *known;
  ChainRecord chain;
  chain.id = id;
  chain.region = disk.region;
  chain.disk_id = disk.id;
  chain.created = now();
  return chain;
}

Task<Verdict> Control::Impl::take(std::vector<NewSnapshot>& taken, CatalogChange change,
                                  ControlRequest& request, Json answer) {
  // What is made from one waits until the host knows it.
  for (const NewSnapshot& one : taken) request.hold(one.snapshot.id);
  std::vector<DiskSettings> disks;
  for (const NewSnapshot& one : taken) disks.push_back(settings_of(one.disk));
  std::vector<DiskSettings> to_freeze = disks;
  auto epochs = co_await host.freeze(std::move(to_freeze));
  if (!epochs) {
    for (const NewSnapshot& one : taken) {
      note_at_times(EventType::kSnapshotFailed, one.disk.id,
                    fmt::format("no snapshot was taken: {}", epochs.error().message));
    }
    co_return Verdict(refusal_of(epochs.error()));
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    NewSnapshot& one = taken[i];
    ChainRecord chain = chain_of(one.disk);
    SnapshotRecord& snapshot = one.snapshot;
    snapshot.chain_id = chain.id;
    snapshot.seq = chain.next_seq++;
    const auto others = catalog->snapshots_of_disk(one.disk.id);
    const bool parent_exists =
        std::any_of(others.begin(), others.end(), [&chain](const SnapshotRecord* other) {
          return other->seq == chain.current && other->status != SnapshotStatus::kFailed;
        });
    snapshot.parent = parent_exists ? chain.current : 0;
    snapshot.storage = one.disk.storage;
    snapshot.storage_base = one.disk.base_snapshot;
    snapshot.epoch = (*epochs)[i].value;
    snapshot.size_bytes = one.disk.visible_bytes();
    snapshot.system = one.disk.system;
    chain.current = snapshot.seq;
    // There is a newer state now: what was before the last rollback can't be returned to.
    DiskRecord disk = one.disk;
    untidy = untidy || !disk.undo_base.empty();
    if (!disk.undo_storage.empty()) former_storages.insert(disk.undo_storage);
    disk.undo_storage.clear();
    disk.undo_base.clear();
    disk.undo_current = 0;
    disk.undo_until = {};
    change.put(disk);
    change.put(chain);
    change.put(snapshot);
  }
  Outcome outcome = co_await commit_and_answer(std::move(change), request, std::move(answer));
  if (outcome.refusal) {
    for (std::size_t i = 0; i < disks.size(); ++i) {
      DiskSettings disk = disks[i];
      co_await host.unfreeze(std::move(disk), (*epochs)[i]);
    }
    co_return outcome.refusal;
  }
  answer_early(request, std::move(outcome));
  for (const NewSnapshot& one : taken) {
    SnapshotSettings settings = settings_of(one.snapshot);
    auto added = co_await host.add_snapshot(std::move(settings));
    // It is recorded, so it exists; the next start exports and captures it.
    if (!added) {
      log(LogLevel::kError, "control", "snapshot {}: {}", one.snapshot.id, added.error().message);
    }
  }
  for (const NewSnapshot& one : taken) co_await tidy(one.disk.id);
  co_return Verdict();
}

Task<Outcome> Control::Impl::create_snapshot(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string disk_id = reader.required("DiskId");
  SnapshotRecord snapshot;
  snapshot.snapshot_name = reader.text("SnapshotName");
  snapshot.description = reader.text("Description");
  const auto retention = reader.optional_number("RetentionDays");
  if (reader.problem()) co_return *reader.problem();
  if (!snapshot.snapshot_name.empty()) {
    if (auto broken = snapshot_name_must_be_allowed(snapshot.snapshot_name)) co_return *broken;
  }
  if (!snapshot.description.empty()) {
    if (auto broken = description_must_be_well_formed(snapshot.description,
                                                      "InvalidDescription.Malformed", 404)) {
      co_return *broken;
    }
  }
  if (retention) {
    if (auto broken = retention_must_fit(*retention)) co_return *broken;
    snapshot.retention_days = *retention;
  }
  snapshot.tags = reader.tags();
  if (auto broken = tags_must_be_valid(snapshot.tags)) co_return *broken;
  const std::string category = reader.text("Category", "standard");
  if (auto broken = snapshot_category_must_be_known(category)) co_return *broken;
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(disk_id, disk)) co_return *broken;
  if (auto broken = disk_must_allow_snapshot(*disk)) co_return *broken;
  const InstanceRecord* instance = catalog->find_instance(disk->instance_id);
  if (auto broken = disk_must_have_been_used(*disk, instance)) co_return *broken;
  const auto others = catalog->snapshots_of_disk(disk_id);
  if (auto broken = capture_must_have_room(*disk, others)) co_return *broken;
  if (auto broken = quota_must_have_room(others, options.snapshot_quota)) {
    if (!request.dry_run) note_at_times(EventType::kQuotaReached, disk_id, broken->message);
    co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();

  snapshot.id = new_id("s", disk->region);
  snapshot.region = disk->region;
  snapshot.disk_id = disk_id;
  snapshot.resource_group = reader.text("ResourceGroupId");
  snapshot.created = now();
  Json answer = {{"SnapshotId", snapshot.id}};
  std::vector<NewSnapshot> taken;
  taken.push_back({*disk, std::move(snapshot)});
  if (auto failed = co_await take(taken, {}, request, answer)) co_return *failed;
  co_return Outcome(std::move(answer));
}

// Hidden at once, for everybody; what nothing needs of it goes with tidy().
Task<Verdict> Control::Impl::remove_snapshot(SnapshotRecord snapshot, ControlRequest* request) {
  snapshot.hidden = true;
  CatalogChange change;
  change.put(snapshot);
  if (auto failed = co_await commit(std::move(change))) co_return failed;
  if (request != nullptr) answer_early(*request, done());
  co_await hide(snapshot.id);
  co_return Verdict();
}

Task<void> Control::Impl::hide(std::string snapshot_id) {
  auto hidden = co_await host.hide_snapshot(snapshot_id);
  if (!hidden) {
    log(LogLevel::kError, "control", "snapshot {}: {}", snapshot_id, hidden.error().message);
  }
}

Task<void> Control::Impl::remove_automatic_snapshots(DiskRecord disk) {
  std::vector<SnapshotRecord> gone;  // copies: the catalog changes below
  const auto snapshots = catalog->snapshots_of_disk(disk.id);
  for (const SnapshotRecord* one : snapshots_that_go_with(disk, snapshots)) {
    if (catalog->images_of(one->id).empty()) gone.push_back(*one);
  }
  for (const SnapshotRecord& snapshot : gone) {
    if (co_await remove_snapshot(snapshot)) unsettled = true;
  }
}

Task<Outcome> Control::Impl::delete_snapshot(ControlRequest& request) {
  const std::string id = request.reader.required("SnapshotId");
  const bool force = request.reader.boolean("Force", false);
  if (request.reader.problem()) co_return *request.reader.problem();
  const SnapshotRecord* snapshot = nullptr;
  if (auto broken = find_snapshot(id, snapshot)) co_return *broken;
  std::vector<std::string> made;
  for (const auto& [disk_id, disk] : catalog->disks()) {
    const bool from_it = disk.source_snapshot == id && disk.status != DiskStatus::kDeleting;
    if (from_it) made.push_back(disk_id);
  }
  if (auto broken = snapshot_must_not_have_images(*snapshot, catalog->images_of(id))) {
    co_return *broken;
  }
  if (auto broken = snapshot_must_not_have_disks(*snapshot, made, force)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  const std::string disk_id = snapshot->disk_id;
  if (auto failed = co_await remove_snapshot(*snapshot, &request)) co_return *failed;
  // It is hidden. Whether its content goes is a matter of its disk, which others may have now.
  co_await tidy_after(disk_id, request);
  co_return done();
}

// Lets go of all that the request has, and tidies the disk when it has its turn.
Task<void> Control::Impl::tidy_after(std::string disk_id, ControlRequest& request) {
  request.guard->unlock();
  ChangeLocks::Keys keys{disk_id};
  *request.guard = co_await changing.lock(std::move(keys));
  co_await tidy(std::move(disk_id));
}

Task<Outcome> Control::Impl::create_snapshot_group(ControlRequest& request) {
  ParamReader& reader = request.reader;
  GroupRecord group;
  group.instance_id = reader.text("InstanceId");
  group.group_name = reader.text("Name");
  group.description = reader.text("Description");
  const std::vector<std::string> wanted = reader.list("DiskId");
  const std::vector<std::string> excluded = reader.list("ExcludeDiskId");
  group.tags = reader.tags();
  if (reader.problem()) co_return *reader.problem();
  if (auto broken = tags_must_be_valid(group.tags)) co_return *broken;
  if (!group.group_name.empty()) {
    if (auto broken = name_must_be_well_formed(group.group_name, "InvalidParameter.Name")) {
      co_return *broken;
    }
  }
  if (!group.description.empty()) {
    if (auto broken = description_must_be_well_formed(group.description,
                                                      "InvalidParameter.Description", 400)) {
      co_return *broken;
    }
  }
  if (group.instance_id.empty() && wanted.empty()) {
    co_return Refusal{400, "MissingParamter.InstanceId", "Give InstanceId, or DiskId.1 and so on."};
  }
  if (!wanted.empty() && !excluded.empty()) {
    co_return Refusal{400, "InvalidParam.ExcludeDiskIdsAndDiskIds.Conflict",
                      "Give DiskId or ExcludeDiskId, not both."};
  }
  std::vector<const DiskRecord*> disks;
  if (wanted.empty()) {
    const InstanceRecord* instance = nullptr;
    if (auto broken = find_instance(group.instance_id, instance)) co_return *broken;
    for (const DiskRecord* disk : catalog->disks_of(group.instance_id)) {
      const bool out = std::find(excluded.begin(), excluded.end(), disk->id) != excluded.end();
      if (!out) disks.push_back(disk);
    }
  }
  for (const std::string& id : wanted) {
    const DiskRecord* disk = nullptr;
    if (auto broken = find_disk(id, disk)) co_return *broken;
    if (std::find(disks.begin(), disks.end(), disk) == disks.end()) disks.push_back(disk);
  }
  if (auto broken = group_must_have_a_fitting_number(disks.size())) co_return *broken;
  if (auto broken = group_disks_must_share_a_zone(disks)) co_return *broken;
  if (group.instance_id.empty()) group.instance_id = disks.front()->instance_id;
  if (auto broken = group_disks_must_be_in_use_at(disks, group.instance_id)) co_return *broken;
  if (auto broken = group_disks_must_be_essd(disks)) co_return *broken;
  if (auto broken = group_must_have_a_fitting_size(disks)) co_return *broken;
  const InstanceRecord* instance = catalog->find_instance(group.instance_id);
  for (const DiskRecord* disk : disks) {
    const auto others = catalog->snapshots_of_disk(disk->id);
    if (auto broken = disk_must_allow_snapshot(*disk)) co_return *broken;
    if (auto broken = disk_must_have_been_used(*disk, instance)) co_return *broken;
    if (auto broken = capture_must_have_room(*disk, others)) co_return *broken;
    if (auto broken = quota_must_have_room(others, options.snapshot_quota)) {
      if (!request.dry_run) note_at_times(EventType::kQuotaReached, disk->id, broken->message);
      co_return *broken;
    }
  }
  if (request.dry_run) co_return would_succeed();

  group.region = disks.front()->region;
  group.id = new_id("ssg", group.region);
  group.resource_group = reader.text("ResourceGroupId");
  group.created = now();
  std::vector<NewSnapshot> taken;
  for (const DiskRecord* disk : disks) {
    SnapshotRecord snapshot;
    snapshot.id = new_id("s", group.region);
    snapshot.region = group.region;
    snapshot.disk_id = disk->id;
    snapshot.snapshot_name = group.group_name;
    snapshot.group_id = group.id;
    snapshot.resource_group = group.resource_group;
    snapshot.created = group.created;
    taken.push_back({*disk, std::move(snapshot)});
  }
  CatalogChange change;
  change.put(group);
  Json answer = {{"SnapshotGroupId", group.id}};
  if (auto failed = co_await take(taken, std::move(change), request, answer)) co_return *failed;
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::delete_snapshot_group(ControlRequest& request) {
  const std::string id = request.reader.required("SnapshotGroupId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const GroupRecord* found = catalog->find_group(id);
  if (found == nullptr) {
    co_return Refusal{404, "InvalidSnapshotGroupId.NotFound",
                      fmt::format("There is no snapshot group '{}'.", id)};
  }
  for (const auto& [snapshot_id, snapshot] : catalog->snapshots()) {
    if (snapshot.group_id != id || snapshot.hidden) continue;
    if (auto broken = snapshot_must_not_have_images(snapshot, catalog->images_of(snapshot_id))) {
      co_return *broken;
    }
  }
  if (request.dry_run) co_return would_succeed();
  // All of it or nothing: then what nothing needs of them goes, a disk at a time.
  CatalogChange change;
  change.erase(*found);
  std::vector<SnapshotRecord> gone;
  for (const auto& [snapshot_id, snapshot] : catalog->snapshots()) {
    if (snapshot.group_id != id || snapshot.hidden) continue;
    gone.push_back(snapshot);
    gone.back().hidden = true;
    change.put(gone.back());
  }
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  answer_early(request, done());
  std::set<std::string> disks;
  for (const SnapshotRecord& snapshot : gone) {
    co_await hide(snapshot.id);
    disks.insert(snapshot.disk_id);
  }
  for (const std::string& disk_id : disks) co_await tidy_after(disk_id, request);
  co_return done();
}

}  // namespace clouddisk
