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
  kImporting,  // ours: a client fills it, and it becomes a snapshot
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

// Shown as the API spells them; kDeleting is ours alone: its content is being removed.
enum class SnapshotStatus : std::uint8_t { kProgressing, kAccomplished, kFailed, kDeleting };
std::string_view name(SnapshotStatus status);
Result<SnapshotStatus> parse_snapshot_status(std::string_view text);

enum class TaskStatus : std::uint8_t { kProcessing, kFinished, kFailed };
std::string_view name(TaskStatus status);
Result<TaskStatus> parse_task_status(std::string_view text);

struct Tag {
  std::string key;
  std::string value;
  bool operator==(const Tag&) const = default;
};

// An automatic snapshot policy that a disk is under.
struct AppliedPolicy {
  std::string policy_id;
  // Points of time up to here are done with: when it was applied, or the last that was taken or
  // skipped.
  WallTime done_until{};
  bool operator==(const AppliedPolicy&) const = default;
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
  bool promised = false;    // Creating or Attaching: the client has its answer already
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
  std::vector<AppliedPolicy> policies;  // in the order in which they were applied

  // --- Where its content is ---
  std::string storage;          // folder in each replica
  std::uint64_t storages = 0;   // how many it has had: names are not used twice
  std::string source_snapshot;  // that it was made from, for life; empty: made empty
  std::string base_snapshot;    // that it still borrows blocks from; empty: none
  // Before the last rollback; empty: nothing to undo.
  std::string undo_storage;
  std::string undo_base;
  std::uint64_t undo_current = 0;  // ChainRecord::current then
  WallTime undo_until{};

  // --- How far away what it borrows is made to be; `own_store` false: as the daemon says ---
  bool own_store = false;
  std::uint64_t store_latency_us = 0;
  std::uint64_t store_bytes_per_second = 0;  // 0: no limit

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
  bool promised = false;  // Pending: the client has its answer already
  bool starts = false;    // Pending: Running when it is made, else Stopped
  bool deletion_protection = false;
  bool prepaid = false;
  std::string resource_group;
  WallTime created{};
  WallTime started{};  // zero: never
  std::vector<Tag> tags;
  // --- Of all its disks together, above their own; 0: no limit ---
  std::uint64_t iops_limit = 0;
  std::uint64_t throughput_limit = 0;  // MB/s
  bool operator==(const InstanceRecord&) const = default;
};

// A moment of a disk. How the content is kept: snapshot/README.md.
struct SnapshotRecord {
  std::string id;
  std::string region;
  std::string disk_id;  // of its source
  std::string chain_id;
  std::uint64_t seq = 0;     // in the chain, from 1
  std::uint64_t parent = 0;  // sequence that its content descends from; 0: none
  std::string storage;       // of the disk, where it was frozen
  std::string storage_base;  // snapshot that this storage borrowed from then; empty: none
  std::uint64_t epoch = 0;   // of the storage
  std::string snapshot_name;
  std::string description;
  std::uint64_t size_bytes = 0;  // of the disk, then
  bool system = false;           // of a system disk
  SnapshotStatus status = SnapshotStatus::kProgressing;
  std::string failure;  // why it failed
  bool hidden = false;  // deleted, but others still need its content
  bool automatic = false;
  std::uint64_t retention_days = 0;         // 0: for ever
  std::string copy_region;                  // where its policy wants a copy that is not made yet
  std::uint64_t copied_retention_days = 0;  // of that copy; 0: for ever
  std::uint64_t changed_bytes = 0;          // against its parent, once captured
  std::uint64_t stored_bytes = 0;           // what they take, compressed
  // --- Of a copy; empty: it is none. Its disk_id is one that no disk has. ---
  std::string source_snapshot;  // that it was copied from; may be gone
  std::string source_region;
  std::string source_chain;
  std::string group_id;
  std::string resource_group;
  WallTime created{};
  WallTime accomplished{};  // zero: not yet
  std::vector<Tag> tags;
  bool operator==(const SnapshotRecord&) const = default;
};

// The snapshots of one disk. Outlives the disk as long as one of them is left.
struct ChainRecord {
  std::string id;
  std::string region;
  std::string disk_id;
  std::uint64_t next_seq = 1;  // never given twice
  std::uint64_t current = 0;   // sequence that the disk's content descends from; 0: none
  // When the disk last had the content of a captured snapshot.
  std::uint64_t reference_seq = 0;  // 0: unknown
  std::string reference_storage;
  std::uint64_t reference_epoch = 0;
  WallTime created{};
  bool operator==(const ChainRecord&) const = default;
};

// Snapshots of several disks at one instant.
struct GroupRecord {
  std::string id;
  std::string region;
  std::string group_name;
  std::string description;
  std::string instance_id;
  std::string resource_group;
  WallTime created{};
  std::vector<Tag> tags;
  bool operator==(const GroupRecord&) const = default;
};

// When snapshots of disks are taken by themselves, and how long they stay.
struct PolicyRecord {
  std::string id;
  std::string region;
  std::string policy_name;                  // empty: none
  std::uint64_t hours = 0;                  // bit 0: 00:00, bit 23: 23:00
  std::uint64_t weekdays = 0;               // bit 0: Monday, bit 6: Sunday
  std::uint64_t retention_days = 0;         // of the snapshots; 0: for ever
  std::string copy_region;                  // that each snapshot is copied to; empty: none
  std::uint64_t copied_retention_days = 0;  // of the copies; 0: for ever
  std::string resource_group;
  WallTime created{};
  WallTime changed{};  // of hours or weekdays: points before it are no longer due
  std::vector<Tag> tags;
  bool operator==(const PolicyRecord&) const = default;
};

// A disk that an image makes for each of its instances.
struct ImageDisk {
  std::string device;  // "/dev/xvda"; one for the system
  bool system = false;
  std::uint64_t size_gib = 0;
  std::string snapshot_id;  // whose content it has; empty: it is made empty
  bool operator==(const ImageDisk&) const = default;
};

// What instances are made from: snapshots of a system disk and of data disks, which can't be
// deleted as long as it is there. How far it is follows from how far they are.
struct ImageRecord {
  std::string id;
  std::string region;
  std::string image_name;
  std::string description;
  std::string family;
  std::string version;
  std::string architecture;  // "x86_64"
  std::string platform;      // "Aliyun"
  std::string boot_mode;     // "BIOS"
  std::string license;
  bool deprecated = false;  // no instance is made from it any more
  std::string resource_group;
  WallTime created{};
  std::vector<ImageDisk> disks;       // the system's first
  std::vector<std::string> accounts;  // that it is shared with, by id
  std::vector<Tag> tags;
  // --- Of a copy; empty: it is none ---
  std::string source_image;  // that it was copied from; may be gone
  std::string source_region;

  // The system's. A CHECK that it is there.
  const ImageDisk& system_disk() const;
  bool operator==(const ImageRecord&) const = default;
};

// What goes on after its answer, and what came of it. Not kept for ever: task_rules.h.
struct TaskRecord {
  std::string id;
  std::string region;
  std::string action;       // that began it: "ModifyDiskSpec"
  std::string resource_id;  // that it is about; may be gone
  TaskStatus status = TaskStatus::kProcessing;
  std::string error_code;  // why it failed
  std::string error_message;
  WallTime created{};
  WallTime finished{};  // zero: not yet
  bool operator==(const TaskRecord&) const = default;
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

// Lets whoever has the secret sign requests. The file that this is in is its owner's alone to read.
struct KeyRecord {
  std::string id;      // "LTAI" and twenty letters or digits, or as the user had it
  std::string secret;  // never shown again
  std::string description;
  bool active = true;
  WallTime created{};
  bool operator==(const KeyRecord&) const = default;
};

// Keys: "disk/d-…", "instance/i-…", "token/CreateDisk/…".
inline constexpr std::string_view kDiskKeys = "disk/";
inline constexpr std::string_view kInstanceKeys = "instance/";
inline constexpr std::string_view kTokenKeys = "token/";
inline constexpr std::string_view kSnapshotKeys = "snapshot/";
inline constexpr std::string_view kChainKeys = "chain/";
inline constexpr std::string_view kGroupKeys = "group/";
inline constexpr std::string_view kAccessKeys = "key/";
inline constexpr std::string_view kPolicyKeys = "policy/";
inline constexpr std::string_view kImageKeys = "image/";
inline constexpr std::string_view kTaskKeys = "task/";
std::string key_of(const DiskRecord& disk);
std::string key_of(const InstanceRecord& instance);
std::string key_of(const TokenRecord& token);
std::string key_of(const SnapshotRecord& snapshot);
std::string key_of(const ChainRecord& chain);
std::string key_of(const GroupRecord& group);
std::string key_of(const KeyRecord& key);
std::string key_of(const PolicyRecord& policy);
std::string key_of(const ImageRecord& image);
std::string key_of(const TaskRecord& task);

std::string to_json(const DiskRecord& disk);
std::string to_json(const InstanceRecord& instance);
std::string to_json(const TokenRecord& token);
std::string to_json(const SnapshotRecord& snapshot);
std::string to_json(const ChainRecord& chain);
std::string to_json(const GroupRecord& group);
std::string to_json(const KeyRecord& key);
std::string to_json(const PolicyRecord& policy);
std::string to_json(const ImageRecord& image);
std::string to_json(const TaskRecord& task);
// kCorrupt names the member that is missing or of the wrong type.
Result<DiskRecord> disk_from_json(std::string_view json);
Result<InstanceRecord> instance_from_json(std::string_view json);
Result<TokenRecord> token_from_json(std::string_view json);
Result<SnapshotRecord> snapshot_from_json(std::string_view json);
Result<ChainRecord> chain_from_json(std::string_view json);
Result<GroupRecord> group_from_json(std::string_view json);
Result<KeyRecord> key_from_json(std::string_view json);
Result<PolicyRecord> policy_from_json(std::string_view json);
Result<ImageRecord> image_from_json(std::string_view json);
Result<TaskRecord> task_from_json(std::string_view json);

// The frame around each record's JSON. The checksum covers the key as well, so a record filed under
// another's key is noticed.
inline constexpr std::uint32_t kRecordVersion = 1;
std::vector<std::byte> encode_record(std::string_view key, std::string_view json);
// kCorrupt: damaged; kUnsupported: whole, but written by a newer clouddisk.
Result<std::string> decode_record(std::string_view key, std::span<const std::byte> bytes);

}  // namespace clouddisk
