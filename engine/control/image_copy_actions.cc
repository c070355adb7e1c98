// image_copy_actions.cc: an image's copy in another region.
//
// The copy is an image over copies of the source's snapshots (copy_actions.cc), which are recorded
// in the commit that records the image. So it is Creating until they are accomplished, goes on
// after a crash, and depends on nothing of the source then. Given up before, it goes with its
// snapshots, but for those that disks or other images were made from meanwhile.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "engine/base/log.h"
#include "engine/catalog/image_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {

// The copy, but its disks are still the source's.
Verdict Control::Impl::read_image_copy(ControlRequest& request, const ImageRecord& source,
                                       const std::string& region, ImageRecord& copy) {
  ParamReader& reader = request.reader;
  copy = source;
  copy.region = region;
  copy.id = new_id("m", region);
  copy.image_name = copy.id;
  copy.description.clear();
  copy.family.clear();
  copy.accounts.clear();
  copy.resource_group = reader.text("ResourceGroupId");
  copy.source_image = source.id;
  copy.source_region = source.region;
  copy.created = now();
  copy.tags = reader.tags();
  if (auto broken = tags_must_be_valid(copy.tags)) return broken;
  const Params texts = {{"ImageName", reader.text("DestinationImageName")},
                        {"Description", reader.text("DestinationDescription")}};
  ParamReader text_reader(texts);
  return read_image_texts(text_reader, copy);
}

Task<Outcome> Control::Impl::copy_image(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string source_id = reader.required("ImageId");
  const std::string region = reader.required("DestinationRegionId");
  const bool encrypted = reader.boolean("Encrypted", false) || reader.has("KMSKeyId") ||
                         reader.has("EncryptAlgorithm");
  if (reader.problem()) co_return *reader.problem();
  if (encrypted) {
    co_return Refusal{403, "InvalidParameter.EncryptedNotSupported",
                      "Images are not encrypted here."};
  }
  Location destination{region, {}};
  if (auto unknown = location_must_exist(options.places, destination)) {
    co_return Refusal{400, "DestinationRegion.NotFound", unknown->message};
  }
  const ImageRecord* source = nullptr;
  if (auto broken = find_image(source_id, request, source)) co_return *broken;
  if (auto broken = image_copy_must_go_elsewhere(*source, region)) co_return *broken;
  if (auto broken = image_must_be_copyable(*source, status_of_image(*source))) co_return *broken;
  ImageRecord image;
  if (auto broken = read_image_copy(request, *source, region, image)) co_return *broken;
  if (auto broken = images_must_have_room(images_in(region))) co_return *broken;
  NewCopies copies{region, {}, {}};
  std::map<std::string, std::string> copied;  // a snapshot may be there for several disks
  for (ImageDisk& disk : image.disks) {
    if (disk.snapshot_id.empty()) continue;
    const auto [at, is_new] = copied.try_emplace(disk.snapshot_id);
    if (is_new) {
      const SnapshotRecord* snapshot = nullptr;
      if (auto broken = find_snapshot(disk.snapshot_id, snapshot)) co_return *broken;
      SnapshotRecord copy;
      copy.description = fmt::format("of image {}", image.id);
      copy.resource_group = image.resource_group;
      if (auto broken = plan_copy(*snapshot, std::move(copy), copies)) co_return *broken;
      at->second = copies.snapshots.back().id;
    }
    disk.snapshot_id = at->second;
  }
  if (request.dry_run) co_return would_succeed();

  Json answer = {{"ImageId", image.id}};
  CatalogChange change;
  change.put(image);
  co_return co_await make_copies(std::move(copies), std::move(change), request, std::move(answer));
}

Task<Outcome> Control::Impl::cancel_copy_image(ControlRequest& request) {
  const std::string id = request.reader.required("ImageId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const ImageRecord* found = nullptr;
  if (auto broken = find_image(id, request, found)) co_return *broken;
  if (auto broken = image_must_be_copying(*found, status_of_image(*found))) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  CatalogChange change;
  change.erase(*found);
  std::vector<std::string> gone;
  for (const ImageDisk& part : found->disks) {
    const SnapshotRecord* snapshot = catalog->find_snapshot(part.snapshot_id);
    if (snapshot == nullptr || catalog->images_of(snapshot->id).size() > 1) continue;
    const auto& disks = catalog->disks();
    const bool has_disks = std::any_of(disks.begin(), disks.end(), [&](const auto& entry) {
      return entry.second.source_snapshot == snapshot->id;
    });
    if (has_disks) continue;
    SnapshotRecord hidden = *snapshot;
    hidden.hidden = true;
    change.put(hidden);
    gone.push_back(hidden.id);
  }
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  for (const std::string& one : gone) {
    auto hidden = co_await host.hide_snapshot(one);
    if (!hidden) log(LogLevel::kError, "control", "snapshot {}: {}", one, hidden.error().message);
  }
  co_await tidy();
  co_return done();
}

}  // namespace clouddisk
