#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "engine/catalog/image_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"

namespace clouddisk {
namespace {

constexpr std::string_view kOwnAlias = "self";

struct ImageFilter {
  std::vector<std::string> ids, statuses;
  std::optional<std::string> image_name, family, snapshot_id, architecture, resource_group, usage,
      os_type;
  bool nothing = false;  // asks for what no image here is
  std::vector<Tag> tags;
  TimeRange created;
};

bool is_windows(const ImageRecord& image) {
  return image.platform.starts_with("Windows");
}

Verdict one_of(std::string_view parameter, const std::string& given,
               std::initializer_list<std::string_view> known) {
  if (std::find(known.begin(), known.end(), given) != known.end()) return std::nullopt;
  return Refusal{
      400, fmt::format("Invalid{}.ValueNotSupported", parameter),
      fmt::format("{} is one of {}, not '{}'.", parameter, fmt::join(known, ", "), given)};
}

Verdict read_image_filter(ParamReader& reader, ImageFilter& filter) {
  filter.ids = split_at_commas(reader.text("ImageId"));
  if (filter.ids.size() > kIdsMax) {
    return Refusal{400, "InvalidParameter",
                   fmt::format("{} image ids, {} at the most.", filter.ids.size(), kIdsMax)};
  }
  // As the cloud has it: others are found only when they are asked for.
  filter.statuses = split_at_commas(reader.text("Status", "Available"));
  for (const std::string& status : filter.statuses) {
    if (auto broken = one_of(
            "Status", status,
            {"Creating", "Waiting", "Available", "UnAvailable", "CreateFailed", "Deprecated"})) {
      return broken;
    }
  }
  filter.image_name = reader.optional_text("ImageName");
  filter.family = reader.optional_text("ImageFamily");
  filter.snapshot_id = reader.optional_text("SnapshotId");
  filter.architecture = reader.optional_text("Architecture");
  filter.resource_group = reader.optional_text("ResourceGroupId");
  if (auto broken = one_of("ImageOwnerAlias", reader.text("ImageOwnerAlias", "self"),
                           {"self", "system", "others", "marketplace"})) {
    return broken;
  }
  filter.usage = reader.optional_text("Usage");
  if (filter.usage) {
    if (auto broken = one_of("Usage", *filter.usage, {"instance", "none"})) return broken;
  }
  filter.os_type = reader.optional_text("OSType");
  if (filter.os_type) {
    if (auto broken = one_of("OSType", *filter.os_type, {"linux", "windows"})) return broken;
  }
  filter.nothing =
      reader.text("ImageOwnerAlias", "self") != kOwnAlias || reader.boolean("IsPublic", false);
  if (auto broken = read_tag_filter(reader, filter.tags)) return broken;
  if (reader.problem()) return reader.problem();
  return read_filters(reader, filter.created);
}

}  // namespace

Json Control::Impl::image_view(const ImageRecord& image) const {
  const ImageStatus status = status_of_image(image);
  Json mappings = Json::array();
  std::string slowest = "100%";
  for (const ImageDisk& disk : image.disks) {
    std::string progress = "100%";
    std::int64_t remaining = 0;
    const SnapshotRecord* snapshot = catalog->find_snapshot(disk.snapshot_id);
    if (snapshot != nullptr) {
      progress = progress_of(*snapshot);
      remaining = remaining_seconds(*snapshot);
    }
    if (progress != "100%") slowest = progress;
    mappings.push_back({{"Device", disk.device},
                        {"Type", disk.system ? "system" : "data"},
                        {"Size", fmt::format("{}", disk.size_gib)},
                        {"SnapshotId", disk.snapshot_id},
                        {"Encrypted", false},
                        {"Format", ""},
                        {"ImportOSSBucket", ""},
                        {"ImportOSSObject", ""},
                        {"Progress", progress},
                        {"RemainTime", remaining}});
  }
  return {
      {"ImageId", image.id},
      {"ImageName", image.image_name},
      {"Description", image.description},
      {"ImageFamily", image.family},
      {"ImageVersion", image.version},
      {"ImageOwnerAlias", kOwnAlias},
      {"ImageOwnerId", 0},
      {"Status", name(status)},
      {"Usable", status == ImageStatus::kAvailable},
      {"Usage", instances_of_image(image.id) != 0 ? "instance" : "none"},
      {"Progress", slowest},
      {"Size", image.system_disk().size_gib},
      {"Architecture", image.architecture},
      {"Platform", image.platform},
      {"OSType", is_windows(image) ? "windows" : "linux"},
      {"OSName", image.platform},
      {"OSNameEn", image.platform},
      {"BootMode", image.boot_mode},
      {"LicenseType", image.license},
      {"LoginAsNonRootSupported", false},
      {"IsCopied", !image.source_image.empty()},
      {"SourceImageId", image.source_image},
      {"SourceRegionId", image.source_region},
      {"IsPublic", false},
      {"IsSelfShared", image.accounts.empty() ? "" : "True"},
      {"IsSubscribed", false},
      {"IsSupportCloudinit", true},
      {"IsSupportIoOptimized", true},
      {"ProductCode", ""},
      {"SupplierName", ""},
      {"ResourceGroupId", image.resource_group},
      {"CreationTime", iso_time(image.created)},
      {"DetectionOptions", {{"Items", {{"Item", Json::array()}}}, {"Status", ""}}},
      {"Features", {{"ImdsSupport", "v1"}, {"NvmeSupport", "unsupported"}}},
      {"SecureBootOptions", {{"SecureBootSupport", "unsupported"}}},
      {"DiskDeviceMappings", {{"DiskDeviceMapping", std::move(mappings)}}},
      {"Tags", tags_view(image.tags)},
  };
}

Task<Outcome> Control::Impl::describe_images(ControlRequest& request) {
  ImageFilter filter;
  if (auto broken = read_image_filter(request.reader, filter)) co_return *broken;
  const auto usable = request.reader.optional_boolean("Usable");
  if (request.reader.problem()) co_return *request.reader.problem();
  const auto has = [](const std::vector<std::string>& list, std::string_view one) {
    return std::find(list.begin(), list.end(), one) != list.end();
  };
  std::vector<const ImageRecord*> found;
  for (const auto& [id, image] : catalog->images()) {
    if (filter.nothing || !request.asks_for(image.region)) continue;
    if (!filter.ids.empty() && !has(filter.ids, id)) continue;
    const ImageStatus status = status_of_image(image);
    if (!has(filter.statuses, name(status))) continue;
    if (usable && *usable != (status == ImageStatus::kAvailable)) continue;
    if (filter.image_name && !matches(*filter.image_name, image.image_name)) continue;
    if (filter.family && image.family != *filter.family) continue;
    if (filter.architecture && image.architecture != *filter.architecture) continue;
    if (filter.resource_group && image.resource_group != *filter.resource_group) continue;
    if (filter.os_type && (*filter.os_type == "windows") != is_windows(image)) continue;
    if (filter.usage && (*filter.usage == "instance") != (instances_of_image(id) != 0)) continue;
    if (filter.snapshot_id) {
      const auto with = catalog->images_of(*filter.snapshot_id);
      if (std::find(with.begin(), with.end(), &image) == with.end()) continue;
    }
    if (image.created < filter.created.from || image.created > filter.created.to) continue;
    if (has_tags(image.tags, filter.tags)) found.push_back(&image);
  }
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const ImageRecord&)> view = [this](const ImageRecord& image) {
    return image_view(image);
  };
  if (auto broken = page(std::move(found), request.reader, answer, view, list)) co_return *broken;
  answer["RegionId"] = request.at.region;
  answer["Images"] = {{"Image", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_image_share_permission(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("ImageId");
  const std::uint64_t number = reader.number("PageNumber", 1);
  const std::uint64_t size = reader.number("PageSize", kPageSizeDefault);
  if (reader.problem()) co_return *reader.problem();
  if (number < 1 || size < 1 || size > kPageSizeMax) {
    co_return Refusal{400, "InvalidParameter",
                      fmt::format("PageNumber {} starts at 1, PageSize {} is 1 to {}.", number,
                                  size, kPageSizeMax)};
  }
  const ImageRecord* image = nullptr;
  if (auto broken = find_image(id, request, image)) co_return *broken;
  const std::size_t count = image->accounts.size();
  const std::size_t begin =
      number - 1 < count ? std::min<std::size_t>((number - 1) * size, count) : count;
  Json accounts = Json::array();
  for (std::size_t i = begin; i < std::min<std::size_t>(count, begin + size); ++i) {
    accounts.push_back({{"AliyunId", image->accounts[i]}});
  }
  Json answer = {{"ImageId", id},
                 {"RegionId", image->region},
                 {"TotalCount", count},
                 {"PageNumber", number},
                 {"PageSize", size},
                 {"Accounts", {{"Account", std::move(accounts)}}},
                 {"ShareGroups", {{"ShareGroup", Json::array()}}}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
