// modify_snapshots.cc: what may be changed of a snapshot and of a group: what they are called, and
// how long a snapshot stays. Its content never changes.
#include <fmt/format.h>

#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

Task<Outcome> Control::Impl::modify_snapshot_attribute(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("SnapshotId");
  const auto snapshot_name = reader.optional_text("SnapshotName");
  const auto description = reader.optional_text("Description");
  const auto retention = reader.optional_number("RetentionDays");
  // Instant access is always so, and the cloud ignores this as well.
  static_cast<void>(reader.boolean("DisableInstantAccess", false));
  if (reader.problem()) co_return *reader.problem();
  if (snapshot_name) {
    if (auto broken = snapshot_name_must_be_allowed(*snapshot_name)) co_return *broken;
  }
  if (description) {
    if (auto broken =
            description_must_be_well_formed(*description, "InvalidDescription.Malformed", 400)) {
      co_return *broken;
    }
  }
  const SnapshotRecord* found = nullptr;
  if (auto broken = find_snapshot(id, found)) co_return *broken;
  if (retention) {
    if (auto broken = retention_must_fit(*retention)) co_return *broken;
    if (auto broken = retention_must_not_shrink(*found, *retention)) co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();
  SnapshotRecord snapshot = *found;
  if (snapshot_name) snapshot.snapshot_name = *snapshot_name;
  if (description) snapshot.description = *description;
  if (retention) snapshot.retention_days = *retention;
  CatalogChange change;
  change.put(snapshot);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::modify_snapshot_group(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("SnapshotGroupId");
  const auto group_name = reader.optional_text("Name");
  const auto description = reader.optional_text("Description");
  if (reader.problem()) co_return *reader.problem();
  if (group_name) {
    if (auto broken = name_must_be_well_formed(*group_name, "InvalidParameter.Name")) {
      co_return *broken;
    }
  }
  if (description) {
    if (auto broken =
            description_must_be_well_formed(*description, "InvalidParameter.Description", 400)) {
      co_return *broken;
    }
  }
  const GroupRecord* found = catalog->find_group(id);
  if (found == nullptr) {
    co_return Refusal{404, "InvalidSnapshotGroupId.NotFound",
                      fmt::format("There is no snapshot group '{}'.", id)};
  }
  if (request.dry_run) co_return would_succeed();
  GroupRecord group = *found;
  if (group_name) group.group_name = *group_name;
  if (description) group.description = *description;
  CatalogChange change;
  change.put(group);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

// Nothing has to be opened here: snapshots are there from the beginning.
Task<Outcome> Control::Impl::open_snapshot_service(ControlRequest&) {
  co_return done();
}

}  // namespace clouddisk
