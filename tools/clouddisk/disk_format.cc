#include "tools/clouddisk/disk_format.h"

#include <algorithm>

#include "engine/base/units.h"
#include "tools/clouddisk/progress.h"
#include "tools/clouddisk/table.h"
#include "tools/clouddisk/tag_arguments.h"

namespace clouddisk::cli {
namespace {

std::string number_text(const Json& object, const std::string& member) {
  const std::uint64_t value = number_of(object, member);
  return value == 0 ? std::string() : with_thousands(value);
}

std::string yes_no(const Json& object, const std::string& member) {
  const std::string value = text_of(object, member);
  return value == "true" ? "yes" : value == "false" ? "no" : value;
}

// A disk that fails on purpose is not to be taken for a good one.
std::string status_text(const Json& disk) {
  const std::uint64_t faults = number_of(disk, "Faults");
  const std::string status = text_of(disk, "Status");
  if (faults == 0) return status;
  return fmt::format("{} ({} fault{} set)", status, faults, faults == 1 ? "" : "s");
}

// Empty: it borrows nothing.
std::string hydration_text(const Json& disk) {
  const auto at = disk.find("Hydration");
  if (at == disk.end() || text_of(*at, "Status") == "done") return {};
  const std::string status = text_of(*at, "Status");
  std::string out = fmt::format("{}: {}", text_of(*at, "SnapshotId"), status);
  if (status == "loading") {
    out += " " + bar_text(number_of(*at, "DoneBytes"), number_of(*at, "TotalBytes"));
  }
  if (status == "failed") out += fmt::format(" ({})", text_of(*at, "Failure"));
  return out;
}

// Empty: none.
std::string store_text(const Json& disk) {
  const auto at = disk.find("Store");
  if (at == disk.end()) return {};
  const std::uint64_t latency_us = number_of(*at, "LatencyUs");
  const std::uint64_t bandwidth = number_of(*at, "BytesPerSecond");
  if (latency_us == 0 && bandwidth == 0) return {};
  std::string out = fmt::format("{} us", with_thousands(latency_us));
  if (bandwidth != 0) out += fmt::format(", {}/s", format_bytes(bandwidth));
  return out;
}

}  // namespace

std::string disks_table(const Json& disks) {
  Table table({{"ID"},
               {"NAME"},
               {"STATUS"},
               {"CATEGORY"},
               {"LEVEL"},
               {"SIZE", true},
               {"IOPS", true},
               {"MB/S", true},
               {"INSTANCE"},
               {"DEVICE"}});
  for (const Json& disk : disks) {
    table.add_row({text_of(disk, "DiskId"), text_of(disk, "DiskName"), status_text(disk),
                   text_of(disk, "Category"), text_of(disk, "PerformanceLevel"),
                   gib_text(number_of(disk, "Size")), number_text(disk, "IOPS"),
                   number_text(disk, "Throughput"), text_of(disk, "InstanceId"),
                   text_of(disk, "Device")});
  }
  return table.text();
}

std::string disk_details(const Json& disk, const std::vector<ApiClient::Export>& exports,
                         const std::string& mounted_at) {
  std::vector<std::pair<std::string, std::string>> fields = {
      {"id", text_of(disk, "DiskId")},
      {"name", text_of(disk, "DiskName")},
      {"description", text_of(disk, "Description")},
      {"status", status_text(disk)},
      {"category", text_of(disk, "Category")},
      {"performance level", text_of(disk, "PerformanceLevel")},
      {"size", gib_text(number_of(disk, "Size"))},
      {"IOPS limit", number_text(disk, "IOPS")},
      {"throughput limit", number_of(disk, "Throughput") == 0
                               ? std::string()
                               : number_text(disk, "Throughput") + " MB/s"},
      {"type", text_of(disk, "Type")},
      {"instance", text_of(disk, "InstanceId")},
      {"device", text_of(disk, "Device")},
      {"delete with instance", yes_no(disk, "DeleteWithInstance")},
      {"region, zone", text_of(disk, "RegionId") + ", " + text_of(disk, "ZoneId")},
      {"created", text_of(disk, "CreationTime")},
      {"attached", text_of(disk, "AttachedTime")},
      {"detached", text_of(disk, "DetachedTime")},
      {"snapshot policy", text_of(disk, "AutoSnapshotPolicyId")},
      {"tags", tags_text(disk)},
  };
  if (const std::string text = hydration_text(disk); !text.empty()) {
    fields.emplace_back("loads from", text);
  }
  if (const std::string text = store_text(disk); !text.empty()) {
    fields.emplace_back("emulated store", text);
  }
  for (const ApiClient::Export& entry : exports) fields.emplace_back("NBD", entry.uri);
  fields.emplace_back("mounted at", mounted_at);
  return fields_text(fields);
}

std::string instances_table(const Json& instances) {
  Table table({{"ID"},
               {"NAME"},
               {"STATUS"},
               {"TYPE"},
               {"ZONE"},
               {"IOPS", true},
               {"MB/S", true},
               {"CREATED"}});
  for (const Json& instance : instances) {
    table.add_row({text_of(instance, "InstanceId"), text_of(instance, "InstanceName"),
                   text_of(instance, "Status"), text_of(instance, "InstanceType"),
                   text_of(instance, "ZoneId"), number_text(instance, "IopsLimit"),
                   number_text(instance, "ThroughputLimit"), text_of(instance, "CreationTime")});
  }
  return table.text();
}

}  // namespace clouddisk::cli
