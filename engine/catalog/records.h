// records.h: what the catalog holds about a disk, an instance and a client token, and its form on
// disk: JSON in a checked frame. Plain data. Bytes: docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"

namespace clouddisk {

// In_use is spelled as the API spells it. Deleted disks are no longer in the catalog.
enum class DiskStatus : std::uint8_t {
  kCreating,
  kAvailable,
  kAttaching,
  kInUse,
  kDetaching,
  kReIniting,
  kDeleting,
};
std::string_view name(DiskStatus status);
Result<DiskStatus> parse_disk_status(std::string_view text);

enum class InstanceStatus : std::uint8_t {
  kPending,
  kStarting,
  kRunning,
  kStopping,
  kStopped,
  kDeleting,  // ours alone, never shown: the release of its disks is under way
};
std::string_view name(InstanceStatus status);
Result<InstanceStatus> parse_instance_status(std::string_view text);

struct Tag {
  std::string key;
  std::string value;
  bool operator==(const Tag&) const = default;
};

struct DiskRecord {
  std::string id;
  std::string region;
  std::string zone;
  std::string disk_name;
  std::string description;
  std::string category;  // "cloud_essd"
  std::string level;     // "PL1"; empty where the category has none
  std::uint64_t size_gib = 0;
  // What is exported: smaller than size_gib between an offline resize and the restart it needs.
  std::uint64_t visible_gib = 0;
  std::uint64_t provisioned_iops = 0;
  bool system = false;
  DiskStatus status = DiskStatus::kCreating;
  std::string instance_id;  // empty: not attached
  std::string device;       // "/dev/xvdb"; empty: not attached
  bool delete_with_instance = false;
  bool delete_auto_snapshot = true;
  bool enable_auto_snapshot = true;
  bool prepaid = false;
  std::string resource_group;
  std::string image_id;
  WallTime created{};
  WallTime attached{};      // zero: never
  WallTime detached{};      // zero: never
  WallTime spec_changed{};  // of category or level; zero: never
  std::vector<Tag> tags;

  std::uint64_t visible_bytes() const { return visible_gib * 1_GiB; }
  bool operator==(const DiskRecord&) const = default;
};

struct InstanceRecord {
  std::string id;
  std::string region;
  std::string zone;
  std::string instance_name;
  std::string description;
  std::string host_name;
  std::string image_id;
  std::string type;  // "ecs.g7.large"; any text
  InstanceStatus status = InstanceStatus::kPending;
  bool deletion_protection = false;
  bool prepaid = false;
  std::string resource_group;
  WallTime created{};
  WallTime started{};  // zero: never
  std::vector<Tag> tags;
  bool operator==(const InstanceRecord&) const = default;
};

// Remembers what a ClientToken was answered, so that a repeated request changes nothing.
struct TokenRecord {
  std::string action;
  std::string token;
  std::uint64_t parameters_checksum = 0;
  std::string reply_json;  // the answer without its RequestId
  WallTime created{};
  bool operator==(const TokenRecord&) const = default;
};

// Keys: "disk/d-…", "instance/i-…", "token/CreateDisk/…".
inline constexpr std::string_view kDiskKeys = "disk/";
inline constexpr std::string_view kInstanceKeys = "instance/";
inline constexpr std::string_view kTokenKeys = "token/";
std::string key_of(const DiskRecord& disk);
std::string key_of(const InstanceRecord& instance);
std::string key_of(const TokenRecord& token);

std::string to_json(const DiskRecord& disk);
std::string to_json(const InstanceRecord& instance);
std::string to_json(const TokenRecord& token);
// kCorrupt names the member that is missing or of the wrong type.
Result<DiskRecord> disk_from_json(std::string_view json);
Result<InstanceRecord> instance_from_json(std::string_view json);
Result<TokenRecord> token_from_json(std::string_view json);

// The frame around each record's JSON. The checksum covers the key as well, so a record filed under
// another's key is noticed.
inline constexpr std::uint32_t kRecordVersion = 1;
std::vector<std::byte> encode_record(std::string_view key, std::string_view json);
// kCorrupt: damaged; kUnsupported: whole, but written by a newer clouddisk.
Result<std::string> decode_record(std::string_view key, std::span<const std::byte> bytes);

}  // namespace clouddisk
