// import_actions.cc: a file becomes a snapshot.
//
// Begin makes a disk that nobody is attached to and no limit slows, and exports it; the client
// fills it over NBD; finish freezes it and lets it go in the same commit that records the snapshot.
// Given up with DeleteDisk, and by a restart of the daemon, as the client lost its connection then.
// Until then it is shown as Importing.
#include <fmt/format.h>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr std::string_view kImportCategory = "cloud_essd";
constexpr std::string_view kImportLevel = "PL1";

// DiskType: what the snapshot is of; an image begins with a system disk's.
Verdict read_import_type(const ParamReader& reader, DiskRecord& disk) {
  const std::string type = reader.text("DiskType", "data");
  disk.system = type == "system";
  if (disk.system || type == "data") return std::nullopt;
  return Refusal{400, "InvalidDiskType.ValueNotSupported",
                 fmt::format("DiskType is system or data, not '{}'.", type)};
}

}  // namespace

Task<Outcome> Control::Impl::begin_snapshot_import(ControlRequest& request) {
  ParamReader& reader = request.reader;
  static_cast<void>(reader.required("ImageSize"));
  const std::uint64_t image_bytes = reader.number("ImageSize", 0);
  DiskRecord disk;
  disk.disk_name = reader.text("SnapshotName");
  disk.description = reader.text("Description");
  disk.tags = reader.tags();
  if (reader.problem()) co_return *reader.problem();
  if (!disk.disk_name.empty()) {
    if (auto broken = snapshot_name_must_be_allowed(disk.disk_name)) co_return *broken;
  }
  if (!disk.description.empty()) {
    if (auto broken = description_must_be_well_formed(disk.description,
                                                      "InvalidDescription.Malformed", 404)) {
      co_return *broken;
    }
  }
  if (auto broken = tags_must_be_valid(disk.tags)) co_return *broken;
  const CategoryRow* row = find_category(profile, kImportCategory, kImportLevel);
  CHECK(row != nullptr);
  if (auto broken = image_must_fit_a_disk(image_bytes, *row)) co_return *broken;
  if (auto broken = read_import_type(reader, disk)) co_return *broken;
  if (disk.system) {
    const std::uint64_t size = size_gib_for_image(image_bytes, *row);
    if (auto broken = system_disk_size_must_fit(*row, size)) co_return *broken;
  }
  if (request.dry_run) co_return would_succeed();

  disk.region = request.at.region;
  disk.zone = request.at.zone;
  disk.id = new_id("d", disk.region);
  disk.storage = disk.id;
  disk.category = kImportCategory;
  disk.level = kImportLevel;
  disk.size_gib = size_gib_for_image(image_bytes, *row);
  disk.visible_gib = disk.size_gib;
  disk.resource_group = reader.text("ResourceGroupId");
  disk.created = now();
  disk.status = DiskStatus::kCreating;
  CatalogChange announced;
  announced.put(disk);
  if (auto failed = co_await commit(std::move(announced))) co_return *failed;
  std::vector<DiskRecord> new_disks(1, disk);
  if (auto failed = co_await make_storage(std::move(new_disks), request)) co_return *failed;
  disk.status = DiskStatus::kImporting;
  DiskSettings settings = settings_of(disk);
  auto served = co_await host.serve_disk(std::move(settings));
  if (!served) {
    unsettled = true;  // Still Creating in the catalog: settle() removes it.
    co_return refusal_of(served.error());
  }
  CatalogChange finished;
  finished.put(disk);
  Json answer = {{"DiskId", disk.id}, {"Size", disk.size_gib}};
  Outcome outcome = co_await commit_and_answer(std::move(finished), request, std::move(answer));
  if (outcome.refusal) unsettled = true;
  co_return outcome;
}

Task<Outcome> Control::Impl::finish_snapshot_import(ControlRequest& request) {
  const std::string disk_id = request.reader.required("DiskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(disk_id, disk)) co_return *broken;
  if (auto broken = disk_must_be_importing(*disk)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  SnapshotRecord snapshot;
  snapshot.id = new_id("s", disk->region);
  snapshot.region = disk->region;
  snapshot.disk_id = disk_id;
  snapshot.snapshot_name = disk->disk_name;
  snapshot.description = disk->description;
  snapshot.tags = disk->tags;
  snapshot.resource_group = disk->resource_group;
  snapshot.created = now();
  Json answer = {{"SnapshotId", snapshot.id}};
  std::vector<NewSnapshot> taken;
  taken.push_back({*disk, std::move(snapshot)});
  taken.front().disk.status = DiskStatus::kDeleting;
  if (auto failed = co_await take(taken, {}, request, answer)) co_return *failed;
  // Nobody writes to it any more. Its storage waits for the capture; settle() removes it then.
  auto stopped = co_await host.stop_disk(disk_id);
  if (!stopped) unsettled = true;
  awaits_captures = true;
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
