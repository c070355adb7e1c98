// rollback_actions.cc: back to a snapshot, back to creation, and back from there.
//
// Metadata alone: the disk gets a new, empty storage that borrows from the snapshot, and one commit
// makes it the disk's. The old storage stays, as it is, until it can't be returned to any more.
//
// Whoever does not wait for all of it is answered as soon as it is on record that the disk is
// ReIniting, with the new storage, which is made then; a crash in between, or a failure that may
// pass, leaves that to settle(). What can't be made is taken back: the disk is as it was, and the
// log says why. Where an earlier rollback can still be undone, the storage is made first: taking
// back would lose that.
#include <fmt/format.h>

#include "engine/catalog/image_rules.h"
#include "engine/catalog/instance_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr Duration kUndoLife = std::chrono::hours(24);

}  // namespace

Verdict Control::Impl::disk_must_be_free_to_change(const DiskRecord& disk) const {
  return disk_must_be_out_of_use(disk, catalog->find_instance(disk.instance_id));
}

Task<Outcome> Control::Impl::begin_anew(DiskRecord disk, const SnapshotRecord* base,
                                        ControlRequest* request) {
  const bool own = base != nullptr && base->disk_id == disk.id;
  const std::string base_id = base != nullptr ? base->id : std::string();
  const std::uint64_t descends_from = own ? base->seq : 0;
  ChainRecord chain = chain_of(disk);
  const bool lets_go = !disk.undo_base.empty();  // of what may be another disk's
  const std::string former = disk.undo_storage;
  const bool had_no_undo = disk.undo_storage.empty();
  disk.undo_storage = disk.storage;
  disk.undo_base = disk.base_snapshot;
  disk.undo_current = chain.current;
  disk.undo_until = now() + kUndoLife;
  disk.storage = fmt::format("{}.{}", disk.id, ++disk.storages);
  disk.base_snapshot = base_id;
  chain.current = descends_from;
  Verdict failed;
  if (request != nullptr && !request->waits && had_no_undo) {
    DiskRecord begun = disk;
    begun.status = DiskStatus::kReIniting;
    CatalogChange change;
    change.put(begun);
    change.put(chain);
    failed = co_await announce(std::move(change), *request, {});
    if (failed) co_return *failed;
    DiskSettings settings = settings_of(begun);
    Result<void> made = co_await host.create_disk(std::move(settings));
    failed = co_await conclude_anew(std::move(begun), std::move(made));
  } else {
    failed = co_await exchange_storage(disk, chain);
    if (!failed && request != nullptr) answer_early(*request, done());
  }
  if (failed) co_return *failed;
  untidy = untidy || lets_go;
  if (!former.empty()) former_storages.insert(former);
  co_await tidy(disk.id);
  co_return done();
}

// The new storage, then the commit.
Task<Verdict> Control::Impl::exchange_storage(DiskRecord disk, ChainRecord chain) {
  DiskSettings settings = settings_of(disk);
  auto made = co_await host.create_disk(std::move(settings));
  if (!made) co_return Verdict(refusal_of(made.error()));
  CatalogChange change;
  change.put(disk);
  change.put(chain);
  auto failed = co_await commit(std::move(change));
  // What a commit that failed left is none of the disk's, as far as the catalog knows.
  if (failed && !co_await drop_storage(disk.storage)) untidy = true;
  co_return failed;
}

Task<Verdict> Control::Impl::conclude_anew(DiskRecord disk, Result<void> made) {
  // Without what it had before there is nothing to go back to.
  const bool only_forward = disk.undo_storage.empty();
  if (!made && (only_forward || may_pass(made.error().code))) {
    log(LogLevel::kWarning, "control", "disk {} is {} until its storage can be made: {}", disk.id,
        name(disk.status), made.error().message);
    unsettled = true;
    co_return Verdict(refusal_of(made.error()));
  }
  CatalogChange change;
  if (!made) {
    log(LogLevel::kError, "control", "disk {} stays as it was before its rollback: {}", disk.id,
        made.error().message);
    ChainRecord chain = chain_of(disk);
    chain.current = std::exchange(disk.undo_current, 0);
    disk.storage = std::exchange(disk.undo_storage, {});
    disk.base_snapshot = std::exchange(disk.undo_base, {});
    disk.undo_until = {};
    change.put(chain);
    untidy = true;
  }
  disk.status = disk.instance_id.empty() ? DiskStatus::kAvailable : DiskStatus::kInUse;
  change.put(disk);
  auto failed = co_await commit(std::move(change));
  if (failed) unsettled = true;
  if (!failed && !made) failed = refusal_of(made.error());
  co_return failed;
}

Verdict Control::Impl::plan_reset(std::string_view disk_id, std::string_view snapshot_id,
                                  const DiskRecord*& disk, const SnapshotRecord*& snapshot) const {
  if (auto broken = find_disk(disk_id, disk)) return broken;
  if (auto broken = find_snapshot(snapshot_id, snapshot)) return broken;
  if (auto broken = snapshot_must_be_of_disk(*snapshot, *disk)) return broken;
  if (auto broken = snapshot_must_be_usable(*snapshot)) return broken;
  const auto snapshots = catalog->snapshots_of_disk(disk_id);
  if (auto broken = rollback_must_wait_for_captures(*snapshot, snapshots)) return broken;
  // Last, here and below: whoever is refused for it needs only to stop the instance.
  return disk_must_be_free_to_change(*disk);
}

Task<Outcome> Control::Impl::reset_disk(ControlRequest& request) {
  const std::string disk_id = request.reader.required("DiskId");
  const std::string snapshot_id = request.reader.required("SnapshotId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  const SnapshotRecord* snapshot = nullptr;
  if (auto broken = plan_reset(disk_id, snapshot_id, disk, snapshot)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  const SnapshotRecord base = *snapshot;
  co_return co_await begin_anew(*disk, &base, &request);
}

Task<Outcome> Control::Impl::reinit_disk(ControlRequest& request) {
  const std::string disk_id = request.reader.required("DiskId");
  const bool start_instance = request.reader.boolean("AutoStartInstance", false);
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(disk_id, disk)) co_return *broken;
  const SnapshotRecord* source = nullptr;
  if (!disk->source_snapshot.empty() && find_snapshot(disk->source_snapshot, source)) {
    source = nullptr;  // Hidden is gone.
  }
  if (auto broken = image_of_disk_must_remain(*disk, catalog->find_image(disk->image_id))) {
    co_return *broken;
  }
  if (auto broken = source_snapshot_must_remain(*disk, source)) co_return *broken;
  const auto snapshots = catalog->snapshots_of_disk(disk_id);
  if (auto broken = disk_must_not_be_captured(snapshots)) co_return *broken;
  if (auto broken = disk_must_be_free_to_change(*disk)) co_return *broken;
  const auto attached = catalog->disks_of(disk->instance_id);
  if (start_instance && !disk->instance_id.empty()) {
    if (auto broken = attached_disks_must_be_in_use(attached)) co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();
  SnapshotRecord base;
  if (source != nullptr) base = *source;
  const std::string instance_id = disk->instance_id;
  const SnapshotRecord* from = source != nullptr ? &base : nullptr;
  const bool starts = start_instance && !instance_id.empty();
  ControlRequest* answered = starts ? nullptr : &request;
  Outcome outcome = co_await begin_anew(*disk, from, answered);
  if (outcome.refusal || !starts) co_return outcome;
  if (auto failed = co_await start(instance_id, request)) co_return *failed;
  co_return outcome;
}

Task<Outcome> Control::Impl::undo_reset_disk(ControlRequest& request) {
  const std::string disk_id = request.reader.required("DiskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* found = nullptr;
  if (auto broken = find_disk(disk_id, found)) co_return *broken;
  if (found->undo_storage.empty() || found->undo_until < now()) {
    co_return Refusal{403, "IncorrectDiskStatus.NothingToUndo",
                      fmt::format("Disk {} was not rolled back or re-initialised since its last "
                                  "snapshot and within 24 hours.",
                                  disk_id)};
  }
  const auto snapshots = catalog->snapshots_of_disk(disk_id);
  if (auto broken = disk_must_not_be_captured(snapshots)) co_return *broken;
  if (auto broken = disk_must_be_free_to_change(*found)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  DiskRecord disk = *found;
  ChainRecord chain = chain_of(disk);
  chain.current = disk.undo_current;
  untidy = untidy || !disk.base_snapshot.empty();  // It may be another disk's.
  const std::string former = disk.storage;
  disk.storage = disk.undo_storage;
  disk.base_snapshot = disk.undo_base;
  disk.undo_storage.clear();
  disk.undo_base.clear();
  disk.undo_current = 0;
  disk.undo_until = {};
  CatalogChange change;
  change.put(disk);
  change.put(chain);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  answer_early(request, done());
  former_storages.insert(former);
  co_await tidy(disk_id);
  co_return done();
}

Task<Outcome> Control::Impl::hydrate_disk(ControlRequest& request) {
  const std::string disk_id = request.reader.required("DiskId");
  const auto pace = request.reader.optional_number("BytesPerSecond");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(disk_id, disk)) co_return *broken;
  if (auto broken = hydration_pace_must_be_sensible(pace.value_or(0))) co_return *broken;
  const bool borrows = !disk->base_snapshot.empty();
  if (borrows && !is_served(*disk)) {
    co_return Refusal{403, "IncorrectDiskStatus",
                      fmt::format("Disk {} is {}: it loads while it is attached to a running "
                                  "instance. Attach it first.",
                                  disk_id, name(disk->status))};
  }
  if (request.dry_run) co_return would_succeed();
  if (borrows) {
    auto begun = co_await host.hydrate_disk(disk_id, pace);
    if (!begun) co_return refusal_of(begun.error());
  }
  co_return done();
}

}  // namespace clouddisk
