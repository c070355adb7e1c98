// policy_rules.h: the cloud's rules for automatic snapshot policies, and the calendar of one: which
// points of time it has. Pure functions; the clock is an argument.
//
// Points are whole hours of UTC+8, whatever the region, as the cloud has it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/catalog/places.h"
#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"
#include "engine/qos/category.h"

namespace clouddisk {

inline constexpr std::size_t kPoliciesMax = 100;              // a region
inline constexpr std::uint64_t kPolicyRetentionMax = 65'535;  // days
inline constexpr Duration kPolicyUtcOffset = std::chrono::hours(8);

// How many policies a disk may be under. 2021: one, and another takes its place; 2024: ten.
std::size_t policies_of_disk_max(Profile profile);

// --- What a policy may be ---

// InvalidSnapshotPolicyName.Malformed (400): a name as for disks.
Verdict policy_name_must_be_well_formed(std::string_view name);
// ParameterInvalid (403): a JSON list of "0" to "23", or of "1" (Monday) to "7"; at least one.
Verdict read_time_points(std::string_view json, std::uint64_t& hours);
Verdict read_weekdays(std::string_view json, std::uint64_t& weekdays);
// ParameterInvalid (403): -1 (for ever), or 1 to 65,535. `days` 0: for ever.
Verdict read_policy_retention(std::string_view text, std::uint64_t& days);
// InvalidParameter.CopiedSnapshotsRetentionDays (403): the same of copies.
Verdict read_copied_retention(std::string_view text, std::uint64_t& days);
// InvalidParameter.TargetCopyRegions (403): a JSON list of one region of ours, other than `home`.
Verdict read_copy_region(std::string_view json, const Places& places, std::string_view home,
                         std::string& region);
// AutoSnapshotPolicy.QuotaExceed (403): the region has 100. `policies`: of the region.
Verdict policy_quota_must_have_room(std::size_t policies);
// The form of read_time_points() and read_weekdays().
std::string time_points_text(std::uint64_t hours);
std::string weekdays_text(std::uint64_t weekdays);

// --- Disks under policies ---

// QuotaExceed.AppliedAutoSnapshotPolicyQuota (403): the disk is under ten others.
Verdict disk_must_have_room_for_policy(const DiskRecord& disk, std::string_view policy_id,
                                       Profile profile);
// `policy_id` empty: under any.
bool is_under(const DiskRecord& disk, std::string_view policy_id);
// The disk under the policy from `now` on; again: nothing changes.
void apply_policy(DiskRecord& disk, std::string_view policy_id, Profile profile, WallTime now);
// False: it was not under it. `policy_id` empty: of all.
bool cancel_policy(DiskRecord& disk, std::string_view policy_id);

// --- The calendar ---

// The last point at or before `at`; nothing: the policy has no hours or no weekdays.
std::optional<WallTime> last_point(const PolicyRecord& policy, WallTime at);
std::optional<WallTime> next_point(const PolicyRecord& policy, WallTime after);
// The point that is due for the disk: the last one, unless it is done with already. However many
// were slept through, one snapshot stands for them.
std::optional<WallTime> due_point(const PolicyRecord& policy, const AppliedPolicy& applied,
                                  WallTime now);

// "auto_20260131_1": day and number of the disk's automatic snapshots on it. `snapshots`: all of
// the disk.
std::string automatic_snapshot_name(WallTime now, std::span<const SnapshotRecord* const> snapshots);
// Its retention has passed. One in progress is let finish.
bool has_expired(const SnapshotRecord& snapshot, WallTime now);

}  // namespace clouddisk
