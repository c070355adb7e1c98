#include <fmt/format.h>

#include <cctype>
#include <functional>
#include <map>

#include "engine/catalog/disk_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"

namespace clouddisk {
namespace {

std::string_view usage_of(const Catalog& catalog, const SnapshotRecord& snapshot) {
  const bool image = !catalog.images_of(snapshot.id).empty();
  for (const auto& [id, disk] : catalog.disks()) {
    if (disk.source_snapshot != snapshot.id || disk.status == DiskStatus::kDeleting) continue;
    return image ? "image_disk" : "disk";
  }
  return image ? "image" : "none";
}

// Groups spell tags otherwise.
Json pairs_of(const std::vector<Tag>& tags) {
  Json list = Json::array();
  for (const Tag& tag : tags) list.push_back({{"Key", tag.key}, {"Value", tag.value}});
  return list;
}

struct SnapshotFilter {
  std::optional<std::vector<std::string>> ids;
  std::optional<std::string> disk_id, chain_id, snapshot_name, usage, resource_group, instance_id;
  std::optional<SnapshotStatus> status;
  std::optional<bool> automatic, system;
  bool nothing = false;
  std::vector<Tag> tags;
  TimeRange created;
};

// "System" in requests, "system" in answers.
std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

Verdict read_kind(ParamReader& reader, SnapshotFilter& filter) {
  const std::string type = reader.text("SnapshotType", "all");
  if (type != "all" && type != "auto" && type != "user") {
    return Refusal{404, "InvalidSnapshotType.NotFound",
                   fmt::format("SnapshotType is auto, user or all, not '{}'.", type)};
  }
  if (type != "all") filter.automatic = type == "auto";
  if (const auto given = reader.optional_text("SourceDiskType")) {
    const std::string source = lower(*given);
    if (source != "system" && source != "data") {
      return Refusal{404, "InvalidSourceDiskType",
                     fmt::format("SourceDiskType is system or data, not '{}'.", *given)};
    }
    filter.system = source == "system";
  }
  if (filter.usage && *filter.usage != "none" && *filter.usage != "disk" &&
      *filter.usage != "image" && *filter.usage != "image_disk") {
    return Refusal{
        404, "InvalidUsage",
        fmt::format("Usage is none, disk, image or image_disk, not '{}'.", *filter.usage)};
  }
  const std::string category = reader.text("Category", "standard");
  if (category != "standard" && category != "flash" && category != "archive") {
    return Refusal{403, "InvalidSnapshotCategory.Malformed",
                   fmt::format("Category is standard, flash or archive, not '{}'.", category)};
  }
  if (category != "standard") filter.nothing = true;
  return std::nullopt;
}

Verdict read_filter(ParamReader& reader, SnapshotFilter& filter) {
  filter.ids = reader.json_list("SnapshotIds", kIdsMax, 403, "InvalidSnapshotIds.Malformed");
  filter.disk_id = reader.optional_text("DiskId");
  filter.chain_id = reader.optional_text("SnapshotLinkId");
  filter.snapshot_name = reader.optional_text("SnapshotName");
  filter.resource_group = reader.optional_text("ResourceGroupId");
  filter.instance_id = reader.optional_text("InstanceId");
  filter.usage = reader.optional_text("Usage");
  if (auto broken = read_tag_filter(reader, filter.tags)) return broken;
  filter.nothing = reader.boolean("Encrypted", false) || reader.has("KMSKeyId");
  if (reader.problem()) return reader.problem();
  if (const auto status = reader.optional_text("Status"); status && *status != "all") {
    const auto parsed = parse_snapshot_status(*status);
    if (!parsed || *parsed == SnapshotStatus::kDeleting) {
      return Refusal{
          404, "InvalidStatus.NotFound",
          fmt::format("Status is progressing, accomplished, failed or all, not '{}'.", *status)};
    }
    filter.status = *parsed;
  }
  if (auto broken = read_kind(reader, filter)) return broken;
  return read_filters(reader, filter.created);
}

}  // namespace

std::string Control::Impl::progress_of(const SnapshotRecord& snapshot) const {
  if (snapshot.status == SnapshotStatus::kAccomplished) return "100%";
  const auto progress = host.capture_progress(snapshot.disk_id, snapshot.seq);
  if (!progress || progress->total == 0) return "0%";
  return fmt::format("{}%", std::min<std::uint64_t>(99, progress->done * 100 / progress->total));
}

// As fast as it went until now; 0: done, or nothing is known.
std::int64_t Control::Impl::remaining_seconds(const SnapshotRecord& snapshot) const {
  if (snapshot.status != SnapshotStatus::kProgressing) return 0;
  const auto progress = host.capture_progress(snapshot.disk_id, snapshot.seq);
  if (!progress || progress->done == 0) return 0;
  const std::chrono::duration<double> elapsed = now() - snapshot.created;
  const double left =
      static_cast<double>(progress->total - std::min(progress->done, progress->total));
  return static_cast<std::int64_t>(elapsed.count() * left / static_cast<double>(progress->done));
}

Json Control::Impl::snapshot_view(const SnapshotRecord& snapshot) const {
  const bool failed = snapshot.status == SnapshotStatus::kFailed;
  const WallTime modified =
      snapshot.accomplished == WallTime{} ? snapshot.created : snapshot.accomplished;
  return {
      {"SnapshotId", snapshot.id},
      {"SnapshotName", snapshot.snapshot_name},
      {"Description", snapshot.description},
      {"RegionId", snapshot.region},
      {"SourceDiskId", snapshot.source_chain.empty() ? snapshot.disk_id : ""},
      {"SourceDiskSize", fmt::format("{}", snapshot.size_bytes / 1_GiB)},
      {"SourceDiskType", snapshot.system ? "system" : "data"},
      {"SourceStorageType", "disk"},
      {"SourceRegionId", snapshot.source_region},
      {"SourceSnapshotId", snapshot.source_snapshot},
      {"SnapshotLinkId", snapshot.chain_id},
      {"SnapshotSN", fmt::format("{}", snapshot.seq)},
      {"SnapshotType", snapshot.automatic ? "auto" : "user"},
      {"Status", name(snapshot.status)},
      {"Progress", progress_of(snapshot)},
      {"RemainTime", remaining_seconds(snapshot)},
      {"Available", !failed},
      {"Usage", usage_of(*catalog, snapshot)},
      {"Category", "standard"},
      {"RetentionDays", snapshot.retention_days},
      {"Encrypted", false},
      {"KMSKeyId", ""},
      {"InstantAccess", true},
      {"InstantAccessRetentionDays", 0},
      {"FullSnapshotSizeInBytes", snapshot.size_bytes},
      {"ProductCode", ""},
      {"ResourceGroupId", snapshot.resource_group},
      {"CreationTime", iso_time(snapshot.created)},
      {"LastModifiedTime", iso_time(modified)},
      {"Tags", tags_view(snapshot.tags)},
      // Ours.
      {"ParentSN", fmt::format("{}", snapshot.parent)},
      {"ChangedBytes", snapshot.changed_bytes},
      {"StoredBytes", snapshot.stored_bytes},
      {"Failure", snapshot.failure},
  };
}

Task<Outcome> Control::Impl::describe_snapshots(ControlRequest& request) {
  SnapshotFilter filter;
  if (auto broken = read_filter(request.reader, filter)) co_return *broken;
  if (filter.chain_id && catalog->find_chain(*filter.chain_id) == nullptr) {
    co_return Refusal{404, "InvalidSnapshotLinkId.NotFound",
                      fmt::format("There is no snapshot chain '{}'.", *filter.chain_id)};
  }
  std::vector<const SnapshotRecord*> found;
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (filter.nothing || snapshot.hidden || !request.asks_for(snapshot.region)) continue;
    const auto& ids = filter.ids;
    if (ids && std::find(ids->begin(), ids->end(), id) == ids->end()) continue;
    if (filter.disk_id && snapshot.disk_id != *filter.disk_id) continue;
    if (filter.chain_id && snapshot.chain_id != *filter.chain_id) continue;
    if (filter.snapshot_name && !matches(*filter.snapshot_name, snapshot.snapshot_name)) continue;
    if (filter.resource_group && snapshot.resource_group != *filter.resource_group) continue;
    if (filter.status && snapshot.status != *filter.status) continue;
    if (filter.automatic && snapshot.automatic != *filter.automatic) continue;
    if (filter.system && snapshot.system != *filter.system) continue;
    if (filter.usage && usage_of(*catalog, snapshot) != *filter.usage) continue;
    if (filter.instance_id) {
      const DiskRecord* disk = catalog->find_disk(snapshot.disk_id);
      if (disk == nullptr || disk->instance_id != *filter.instance_id) continue;
    }
    if (snapshot.created < filter.created.from || snapshot.created > filter.created.to) continue;
    if (has_tags(snapshot.tags, filter.tags)) found.push_back(&snapshot);
  }
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const SnapshotRecord&)> view = [this](const SnapshotRecord& snapshot) {
    return snapshot_view(snapshot);
  };
  if (auto broken = page(std::move(found), request.reader, answer, view, list)) co_return *broken;
  answer["Snapshots"] = {{"Snapshot", std::move(list)}};
  co_return Outcome(std::move(answer));
}

// One that failed makes it failed, one in progress keeps it so.
SnapshotStatus Control::Impl::status_of(const GroupRecord& group) const {
  SnapshotStatus status = SnapshotStatus::kAccomplished;
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (snapshot.group_id != group.id || snapshot.hidden) continue;
    if (snapshot.status == SnapshotStatus::kFailed) return SnapshotStatus::kFailed;
    if (snapshot.status == SnapshotStatus::kProgressing) status = SnapshotStatus::kProgressing;
  }
  return status;
}

Task<Outcome> Control::Impl::describe_snapshot_groups(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::vector<std::string> ids = reader.list("SnapshotGroupId");
  const auto instance_id = reader.optional_text("InstanceId");
  const auto group_name = reader.optional_text("Name");
  const auto resource_group = reader.optional_text("ResourceGroupId");
  const std::vector<std::string> statuses = reader.list("Status");
  for (const std::string& status : statuses) {
    const auto parsed = parse_snapshot_status(status);
    if (!parsed || *parsed == SnapshotStatus::kDeleting) {
      co_return Refusal{
          400, "InvalidParameter",
          fmt::format("Status.N is progressing, accomplished or failed, not '{}'.", status)};
    }
  }
  std::vector<Tag> tags;
  if (auto broken = read_tag_filter(reader, tags)) co_return *broken;
  if (reader.problem()) co_return *reader.problem();
  std::vector<const GroupRecord*> found;
  for (const auto& [id, group] : catalog->groups()) {
    if (!request.asks_for(group.region)) continue;
    if (!ids.empty() && std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
    if (instance_id && group.instance_id != *instance_id) continue;
    if (group_name && !matches(*group_name, group.group_name)) continue;
    if (resource_group && group.resource_group != *resource_group) continue;
    const std::string status(name(status_of(group)));
    if (!statuses.empty() &&
        std::find(statuses.begin(), statuses.end(), status) == statuses.end()) {
      continue;
    }
    if (has_tags(group.tags, tags)) found.push_back(&group);
  }
  const std::function<Json(const GroupRecord&)> view = [this](const GroupRecord& group) {
    Json snapshots = Json::array();
    for (const auto& [id, snapshot] : catalog->snapshots()) {
      if (snapshot.group_id != group.id || snapshot.hidden) continue;
      snapshots.push_back({{"SnapshotId", id},
                           {"SourceDiskId", snapshot.disk_id},
                           {"SourceDiskType", snapshot.system ? "system" : "data"},
                           {"Progress", progress_of(snapshot)},
                           {"Available", snapshot.status != SnapshotStatus::kFailed},
                           {"InstantAccess", true},
                           {"InstantAccessRetentionDays", 0},
                           {"Tags", {{"Tag", pairs_of(snapshot.tags)}}}});
    }
    return Json{{"SnapshotGroupId", group.id},
                {"Name", group.group_name},
                {"Description", group.description},
                {"InstanceId", group.instance_id},
                {"ResourceGroupId", group.resource_group},
                {"CreationTime", iso_time(group.created)},
                {"Status", name(status_of(group))},
                {"ProgressStatus", ""},
                {"Snapshots", {{"Snapshot", std::move(snapshots)}}},
                {"Tags", {{"Tag", pairs_of(group.tags)}}}};
  };
  Json answer = Json::object();
  Json list = Json::array();
  if (auto broken = page(std::move(found), reader, answer, view, list, Paging::kByToken)) {
    co_return *broken;
  }
  answer["SnapshotGroups"] = {{"SnapshotGroup", std::move(list)}};
  co_return Outcome(std::move(answer));
}

// At once: each takes a trip to its disk's ring.
Task<std::map<std::string, std::uint64_t>> Control::Impl::stored_bytes_of(
    std::function<bool(const ChainRecord&)> is_wanted) {
  struct Asked {
    explicit Asked(Ring& ring) : under_way(ring) {}
    WaitGroup under_way;
    std::map<std::string, std::uint64_t> bytes;  // by chain
  };
  const auto ask = [](DiskHost& host, ChainRecord chain, Asked& asked) -> Task<void> {
    auto bytes = co_await host.chain_stored_bytes(chain.disk_id);
    asked.bytes[chain.id] = bytes ? *bytes : 0;
    asked.under_way.done();
  };
  Asked asked(ring);
  for (const auto& [id, chain] : catalog->chains()) {
    if (!is_wanted(chain)) continue;
    asked.under_way.add();
    spawn(ask(host, chain, asked));
  }
  co_await asked.under_way.wait();
  co_return std::move(asked.bytes);
}

Task<Outcome> Control::Impl::describe_snapshot_links(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto disks = reader.json_list("DiskIds", kIdsMax, 403, "InvalidDiskIds.Malformed");
  const auto ids = reader.json_list("SnapshotLinkIds", kIdsMax, 403, "InvalidParameter");
  const auto instance_id = reader.optional_text("InstanceId");
  if (reader.problem()) co_return *reader.problem();
  const auto visible = [this](const ChainRecord& chain) {
    std::size_t count = 0;
    for (const SnapshotRecord* one : catalog->snapshots_of_disk(chain.disk_id)) {
      if (!one->hidden) ++count;
    }
    return count;
  };
  const std::function<bool(const ChainRecord&)> is_wanted = [&](const ChainRecord& chain) {
    if (visible(chain) == 0 || !request.asks_for(chain.region)) return false;
    if (disks && std::find(disks->begin(), disks->end(), chain.disk_id) == disks->end()) {
      return false;
    }
    if (ids && std::find(ids->begin(), ids->end(), chain.id) == ids->end()) return false;
    const DiskRecord* disk = catalog->find_disk(chain.disk_id);
    return !instance_id || (disk != nullptr && disk->instance_id == *instance_id);
  };
  // Asked for before the page is made; what is there may be others by then.
  std::map<std::string, std::uint64_t> stored = co_await stored_bytes_of(is_wanted);
  std::vector<const ChainRecord*> found;
  for (const auto& [id, chain] : catalog->chains()) {
    if (is_wanted(chain)) found.push_back(&chain);
  }
  const std::function<Json(const ChainRecord&)> view = [&](const ChainRecord& chain) {
    const DiskRecord* disk = catalog->find_disk(chain.disk_id);
    const InstanceRecord* instance =
        disk != nullptr ? catalog->find_instance(disk->instance_id) : nullptr;
    // Of a disk that is gone its newest snapshot tells.
    std::uint64_t size_gib = disk != nullptr ? disk->size_gib : 0;
    bool system = disk != nullptr && disk->system;
    bool of_copies = false;
    if (disk == nullptr) {
      for (const SnapshotRecord* one : catalog->snapshots_of_disk(chain.disk_id)) {
        size_gib = one->size_bytes / 1_GiB;
        system = one->system;
        of_copies = !one->source_chain.empty();
      }
    }
    return Json{{"SnapshotLinkId", chain.id},
                {"RegionId", chain.region},
                {"SourceDiskId", of_copies ? "" : chain.disk_id},
                {"SourceDiskName", disk != nullptr ? disk->disk_name : ""},
                {"SourceDiskSize", size_gib},
                {"SourceDiskType", system ? "system" : "data"},
                {"InstanceId", instance != nullptr ? instance->id : ""},
                {"InstanceName", instance != nullptr ? instance->instance_name : ""},
                {"InstantAccess", true},
                {"Category", "standard"},
                {"TotalCount", visible(chain)},
                {"TotalSize", stored[chain.id]},
                {"CurrentSN", chain.current}};
  };
  Json answer = Json::object();
  Json list = Json::array();
  if (auto broken = page(std::move(found), reader, answer, view, list)) co_return *broken;
  answer["SnapshotLinks"] = {{"SnapshotLink", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_snapshots_usage(ControlRequest& request) {
  std::size_t count = 0;
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (!snapshot.hidden && request.asks_for(snapshot.region)) ++count;
  }
  const std::function<bool(const ChainRecord&)> is_there = [&request](const ChainRecord& chain) {
    return request.asks_for(chain.region);
  };
  std::uint64_t bytes = 0;
  const auto stored = co_await stored_bytes_of(is_there);
  for (const auto& [id, of_one] : stored) bytes += of_one;
  Json answer = {{"SnapshotCount", count}, {"SnapshotSize", bytes}};
  co_return Outcome(std::move(answer));
}

Json Control::Impl::hydration_view(const DiskRecord& disk) const {
  const bool borrows = !disk.base_snapshot.empty();
  const auto progress = borrows ? host.hydration_progress(disk.id) : std::nullopt;
  std::string status = borrows ? "waiting" : "done";
  if (progress) status = progress->failure.empty() ? "loading" : "failed";
  return {{"Status", status},
          {"SnapshotId", disk.base_snapshot},
          {"DoneBytes", progress ? progress->done : 0},
          {"TotalBytes", progress ? progress->total : 0},
          {"Failure", progress ? progress->failure : ""}};
}

Task<Outcome> Control::Impl::describe_disk_hydration(ControlRequest& request) {
  const std::string id = request.reader.required("DiskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(id, disk)) co_return *broken;
  Json answer = hydration_view(*disk);
  answer["DiskId"] = id;
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
