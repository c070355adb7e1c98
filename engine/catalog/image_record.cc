// image_record.cc: the JSON form of an image.
#include "engine/base/check.h"
#include "engine/catalog/record_json.h"
#include "engine/catalog/records.h"

namespace clouddisk {

using namespace record_json;

namespace {

Json disks_to_json(const std::vector<ImageDisk>& disks) {
  Json list = Json::array();
  for (const ImageDisk& disk : disks) {
    list.push_back({{"device", disk.device},
                    {"system", disk.system},
                    {"size_gib", disk.size_gib},
                    {"snapshot", disk.snapshot_id}});
  }
  return list;
}

Result<ImageDisk> image_disk_from_json(const std::string& json) {
  MemberReader reader("disk of an image", json);
  ImageDisk disk;
  reader.read("device", disk.device);
  reader.read("system", disk.system);
  reader.read("size_gib", disk.size_gib);
  reader.read("snapshot", disk.snapshot_id);
  return reader.finish(std::move(disk));
}

}  // namespace

const ImageDisk& ImageRecord::system_disk() const {
  CHECK(!disks.empty() && disks.front().system);
  return disks.front();
}

std::string key_of(const ImageRecord& image) {
  return std::string(kImageKeys) + image.id;
}

std::string to_json(const ImageRecord& image) {
  const Json json = {
      {"id", image.id},
      {"region", image.region},
      {"name", image.image_name},
      {"description", image.description},
      {"family", image.family},
      {"version", image.version},
      {"architecture", image.architecture},
      {"platform", image.platform},
      {"boot_mode", image.boot_mode},
      {"license", image.license},
      {"deprecated", image.deprecated},
      {"resource_group", image.resource_group},
      {"created", to_number(image.created)},
      {"disks", disks_to_json(image.disks)},
      {"accounts", image.accounts},
      {"tags", to_json_list(image.tags)},
      {"source_image", image.source_image},
      {"source_region", image.source_region},
  };
  return json.dump();
}

Result<ImageRecord> image_from_json(std::string_view json) {
  MemberReader reader("image", json);
  ImageRecord image;
  reader.read("id", image.id);
  reader.read("region", image.region);
  reader.read("name", image.image_name);
  reader.read("description", image.description);
  reader.read("family", image.family);
  reader.read("version", image.version);
  reader.read("architecture", image.architecture);
  reader.read("platform", image.platform);
  reader.read("boot_mode", image.boot_mode);
  reader.read("license", image.license);
  reader.read("deprecated", image.deprecated);
  reader.read("resource_group", image.resource_group);
  reader.read("created", image.created);
  reader.read("accounts", image.accounts);
  reader.read("tags", image.tags);
  reader.read_newer("source_image", image.source_image);
  reader.read_newer("source_region", image.source_region);
  for (const std::string& text : reader.objects("disks")) {
    auto disk = image_disk_from_json(text);
    if (!disk) return disk.error();
    image.disks.push_back(std::move(*disk));
  }
  if (image.disks.empty() || !image.disks.front().system) reader.refuse("disks");
  return reader.finish(std::move(image));
}

}  // namespace clouddisk
