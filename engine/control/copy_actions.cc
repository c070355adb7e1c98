// copy_actions.cc: a snapshot's copy in another region.
//
// A copy is a snapshot of a storage that nobody writes to: empty, over the source. It is frozen at
// once and captured into a chain of its own like any other, so a crash makes it go on, every block
// is checked where it is read and stored under a checksum of its own, and until it is accomplished
// the source's content stays, deleted or not. Copies of one chain in one region share a chain: each
// is compared with the newest of those before it, and holds what is not there yet.
//
// That chain has a disk's id that no disk has. A storage of it is named "ID.cSEQ"; one that was
// made when a crash came goes with tidy().
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

ChainRecord Control::Impl::chain_of_copies(const SnapshotRecord& source,
                                           const std::string& region) {
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (snapshot.source_chain != source.chain_id || snapshot.region != region) continue;
    if (const ChainRecord* known = catalog->find_chain(snapshot.chain_id)) return *known;
  }
  ChainRecord chain;
  chain.region = region;
  chain.disk_id = new_id("d", region);
  chain.id = chain_id_of(chain.disk_id);
  chain.created = now();
  return chain;
}

Task<Outcome> Control::Impl::copy_snapshot(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string source_id = reader.required("SnapshotId");
  const std::string region = reader.required("DestinationRegionId");
  SnapshotRecord copy;
  copy.snapshot_name = reader.text("DestinationSnapshotName");
  copy.description = reader.text("DestinationSnapshotDescription");
  copy.resource_group = reader.text("ResourceGroupId");
  const auto retention = reader.optional_number("RetentionDays");
  const bool encrypted = reader.boolean("Encrypted", false) || reader.has("KMSKeyId");
  copy.tags = reader.tags();
  if (reader.problem()) co_return *reader.problem();
  if (encrypted) {
    co_return Refusal{403, "InvalidParameter.EncryptedNotSupported",
                      "Snapshots are not encrypted here."};
  }
  if (!copy.snapshot_name.empty()) {
    if (auto broken = snapshot_name_must_be_allowed(copy.snapshot_name)) co_return *broken;
  }
  if (!copy.description.empty()) {
    if (auto broken = description_must_be_well_formed(copy.description,
                                                      "InvalidDescription.Malformed", 404)) {
      co_return *broken;
    }
  }
  if (retention) {
    if (auto broken = retention_must_fit(*retention)) co_return *broken;
    copy.retention_days = *retention;
  }
  if (auto broken = tags_must_be_valid(copy.tags)) co_return *broken;
  Location destination{region, {}};
  if (auto broken = location_must_exist(options.places, destination)) co_return *broken;
  const SnapshotRecord* found = nullptr;
  if (auto broken = find_snapshot(source_id, found)) co_return *broken;
  if (reader.has("RegionId")) {
    if (auto broken = snapshot_must_be_in_region(*found, request.at.region)) co_return *broken;
  }
  if (auto broken = copy_must_go_elsewhere(*found, region)) co_return *broken;
  if (auto broken = snapshot_must_be_accomplished(*found)) co_return *broken;
  NewCopies copies{region, {}, {}};
  if (auto broken = plan_copy(*found, std::move(copy), copies)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  Json answer = {{"SnapshotId", copies.snapshots.front().id}};
  CatalogChange change;
  co_return co_await make_copies(std::move(copies), std::move(change), request, std::move(answer));
}

Verdict Control::Impl::plan_copy(const SnapshotRecord& source, SnapshotRecord copy,
                                 NewCopies& copies) {
  const auto known = copies.chains.find(source.chain_id);
  ChainRecord chain =
      known != copies.chains.end() ? known->second : chain_of_copies(source, copies.region);
  auto others = catalog->snapshots_of_disk(chain.disk_id);
  for (const SnapshotRecord& planned : copies.snapshots) {
    if (planned.chain_id == chain.id) others.push_back(&planned);
  }
  // A policy's copies have a quota of their own, at which the oldest goes.
  if (!copy.automatic) {
    if (auto broken = quota_must_have_room(others, options.snapshot_quota)) return broken;
  }
  copy.id = new_id("s", copies.region);
  copy.region = copies.region;
  copy.disk_id = chain.disk_id;
  copy.chain_id = chain.id;
  copy.seq = chain.next_seq++;
  for (const SnapshotRecord* other : others) {
    if (other->hidden || other->status == SnapshotStatus::kFailed) continue;
    copy.parent = std::max(copy.parent, other->seq);
  }
  chain.current = copy.seq;
  copy.storage = fmt::format("{}.c{}", chain.disk_id, copy.seq);
  copy.storage_base = source.id;
  copy.size_bytes = source.size_bytes;
  copy.system = source.system;
  copy.source_snapshot = source.id;
  copy.source_region = source.region;
  copy.source_chain = source.chain_id;
  copy.created = now();
  copies.snapshots.push_back(std::move(copy));
  copies.chains.insert_or_assign(source.chain_id, std::move(chain));
  return std::nullopt;
}

// A storage over the source, frozen; gives the epoch.
Task<Result<Epoch>> Control::Impl::freeze_over_source(SnapshotRecord copy) {
  DiskSettings storage;
  storage.id = copy.disk_id;
  storage.size_bytes = copy.size_bytes;
  storage.storage = copy.storage;
  storage.base_snapshot = copy.storage_base;
  DiskSettings to_make = storage;
  auto made = co_await host.create_disk(std::move(to_make));
  if (!made && made.error().code == Errc::kExists) {  // Of an attempt that a crash ended.
    auto gone = co_await host.delete_storage(copy.storage);
    if (!gone) co_return gone.error();
    to_make = storage;
    made = co_await host.create_disk(std::move(to_make));
  }
  if (!made) co_return made.error();
  std::vector<DiskSettings> to_freeze(1, storage);
  auto epochs = co_await host.freeze(std::move(to_freeze));
  if (!epochs) co_return epochs.error();
  co_return epochs->front();
}

Task<Outcome> Control::Impl::make_copies(NewCopies copies, CatalogChange change,
                                         ControlRequest& request, Json answer) {
  for (SnapshotRecord& copy : copies.snapshots) {
    SnapshotRecord to_freeze = copy;
    auto epoch = co_await freeze_over_source(std::move(to_freeze));
    if (!epoch) {
      co_await tidy();  // The storages go.
      co_return refusal_of(epoch.error());
    }
    copy.epoch = epoch->value;
    change.put(copy);
  }
  for (const auto& [source, chain] : copies.chains) change.put(chain);
  Outcome outcome = co_await commit_and_answer(std::move(change), request, std::move(answer));
  if (outcome.refusal) {
    co_await tidy();
    co_return outcome;
  }
  for (const SnapshotRecord& copy : copies.snapshots) {
    SnapshotSettings settings = settings_of(copy);
    auto added = co_await host.add_snapshot(std::move(settings));
    // It is recorded, so it exists; the next start exports and captures it.
    if (!added) log(LogLevel::kError, "control", "copy {}: {}", copy.id, added.error().message);
  }
  co_return outcome;
}

}  // namespace clouddisk
