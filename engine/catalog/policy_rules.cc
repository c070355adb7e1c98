#include "engine/catalog/policy_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "engine/catalog/name_rules.h"

namespace clouddisk {
namespace {

using Json = nlohmann::json;
using Days = std::chrono::sys_days;

constexpr unsigned kHours = 24;
constexpr unsigned kWeekdays = 7;
constexpr Duration kDay = std::chrono::hours(24);

template <class Number>
std::optional<Number> whole_number(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// A JSON list of numbers as strings, `least` to `most`, as bits from 0 on.
Verdict read_numbers(std::string_view what, std::string_view json, unsigned least, unsigned most,
                     std::uint64_t& bits) {
  const Json list = Json::parse(json, nullptr, false);
  bits = 0;
  bool fine = list.is_array() && !list.empty() && list.size() <= most - least + 1;
  for (std::size_t i = 0; fine && i < list.size(); ++i) {
    const auto number = list[i].is_string()
                            ? whole_number<unsigned>(list[i].get_ref<const std::string&>())
                            : std::nullopt;
    fine = number && *number >= least && *number <= most;
    if (fine) bits |= std::uint64_t{1} << (*number - least);
  }
  if (fine) return std::nullopt;
  return Refusal{
      403, "ParameterInvalid",
      fmt::format("{} is a JSON list of \"{}\" to \"{}\", not '{}'.", what, least, most, json)};
}

std::string numbers_text(std::uint64_t bits, unsigned least, unsigned count) {
  Json list = Json::array();
  for (unsigned i = 0; i < count; ++i) {
    if ((bits >> i & 1U) != 0) list.push_back(std::to_string(i + least));
  }
  return list.dump();
}

// A moment in the policies' own time.
struct Local {
  Days day;
  unsigned hour = 0;
};
Local local_of(WallTime at) {
  const WallTime shifted = at + kPolicyUtcOffset;
  const Days day = std::chrono::floor<std::chrono::days>(shifted);
  return {day, static_cast<unsigned>((shifted - day) / std::chrono::hours(1))};
}

std::uint64_t weekday_bit(Days day) {
  return std::uint64_t{1} << (std::chrono::weekday(day).iso_encoding() - 1);
}

WallTime point(Days day, unsigned hour) {
  return WallTime(day) + std::chrono::hours(hour) - kPolicyUtcOffset;
}

}  // namespace

std::size_t policies_of_disk_max(Profile profile) {
  return profile == Profile::k2021 ? 1 : 10;
}

Verdict policy_name_must_be_well_formed(std::string_view name) {
  return name_must_be_well_formed(name, "InvalidSnapshotPolicyName.Malformed");
}

Verdict read_time_points(std::string_view json, std::uint64_t& hours) {
  return read_numbers("timePoints", json, 0, kHours - 1, hours);
}

Verdict read_weekdays(std::string_view json, std::uint64_t& weekdays) {
  return read_numbers("repeatWeekdays", json, 1, kWeekdays, weekdays);
}

namespace {

bool read_days(std::string_view text, std::uint64_t& days) {
  const auto number = whole_number<std::int64_t>(text);
  if (!number || *number < -1 || *number == 0) return false;
  if (*number > static_cast<std::int64_t>(kPolicyRetentionMax)) return false;
  days = *number == -1 ? 0 : static_cast<std::uint64_t>(*number);
  return true;
}

}  // namespace

Verdict read_policy_retention(std::string_view text, std::uint64_t& days) {
  if (read_days(text, days)) return std::nullopt;
  return Refusal{403, "ParameterInvalid",
                 fmt::format("retentionDays is -1, for ever, or 1 to {}, not '{}'.",
                             kPolicyRetentionMax, text)};
}

Verdict read_copied_retention(std::string_view text, std::uint64_t& days) {
  if (read_days(text, days)) return std::nullopt;
  return Refusal{403, "InvalidParameter.CopiedSnapshotsRetentionDays",
                 fmt::format("CopiedSnapshotsRetentionDays is -1, for ever, or 1 to {}, not '{}'.",
                             kPolicyRetentionMax, text)};
}

Verdict read_copy_region(std::string_view json, const Places& places, std::string_view home,
                         std::string& region) {
  const auto refuse = [json](std::string_view why) {
    return Refusal{
        403, "InvalidParameter.TargetCopyRegions",
        fmt::format("TargetCopyRegions is a JSON list of one region, not '{}': {}.", json, why)};
  };
  const auto list = nlohmann::json::parse(json, nullptr, false);
  if (!list.is_array() || list.size() != 1 || !list[0].is_string()) return refuse("another form");
  Location there{list[0].get<std::string>(), {}};
  if (there.region.empty() || location_must_exist(places, there)) return refuse("none of ours");
  if (there.region == home) return refuse("the policy's own region");
  region = there.region;
  return std::nullopt;
}

Verdict policy_quota_must_have_room(std::size_t policies) {
  if (policies < kPoliciesMax) return std::nullopt;
  return Refusal{403, "AutoSnapshotPolicy.QuotaExceed",
                 fmt::format("The region has {} policies, as many as it may. Delete one first.",
                             kPoliciesMax)};
}

std::string time_points_text(std::uint64_t hours) {
  return numbers_text(hours, 0, kHours);
}

std::string weekdays_text(std::uint64_t weekdays) {
  return numbers_text(weekdays, 1, kWeekdays);
}

bool is_under(const DiskRecord& disk, std::string_view policy_id) {
  return std::any_of(disk.policies.begin(), disk.policies.end(), [policy_id](const auto& one) {
    return policy_id.empty() || one.policy_id == policy_id;
  });
}

Verdict disk_must_have_room_for_policy(const DiskRecord& disk, std::string_view policy_id,
                                       Profile profile) {
  const std::size_t most = policies_of_disk_max(profile);
  if (most == 1 || disk.policies.size() < most) return std::nullopt;
  if (is_under(disk, policy_id)) return std::nullopt;
  return Refusal{403, "QuotaExceed.AppliedAutoSnapshotPolicyQuota",
                 fmt::format("Disk {} is under {} policies, as many as it may. Cancel one first.",
                             disk.id, most)};
}

void apply_policy(DiskRecord& disk, std::string_view policy_id, Profile profile, WallTime now) {
  if (is_under(disk, policy_id)) return;
  if (policies_of_disk_max(profile) == 1) disk.policies.clear();
  disk.policies.push_back({std::string(policy_id), now});
}

bool cancel_policy(DiskRecord& disk, std::string_view policy_id) {
  return std::erase_if(disk.policies, [policy_id](const AppliedPolicy& one) {
           return policy_id.empty() || one.policy_id == policy_id;
         }) != 0;
}

std::optional<WallTime> last_point(const PolicyRecord& policy, WallTime at) {
  const Local now = local_of(at);
  // Eight days: today's hours may all be later.
  for (unsigned back = 0; back <= kWeekdays; ++back) {
    const Days day = now.day - std::chrono::days(back);
    if ((policy.weekdays & weekday_bit(day)) == 0) continue;
    for (unsigned hour = back == 0 ? now.hour + 1 : kHours; hour-- > 0;) {
      if ((policy.hours >> hour & 1U) != 0) return point(day, hour);
    }
  }
  return std::nullopt;
}

std::optional<WallTime> next_point(const PolicyRecord& policy, WallTime after) {
  const Local now = local_of(after);
  for (unsigned ahead = 0; ahead <= kWeekdays; ++ahead) {
    const Days day = now.day + std::chrono::days(ahead);
    if ((policy.weekdays & weekday_bit(day)) == 0) continue;
    for (unsigned hour = ahead == 0 ? now.hour + 1 : 0; hour < kHours; ++hour) {
      if ((policy.hours >> hour & 1U) != 0) return point(day, hour);
    }
  }
  return std::nullopt;
}

std::optional<WallTime> due_point(const PolicyRecord& policy, const AppliedPolicy& applied,
                                  WallTime now) {
  const auto last = last_point(policy, now);
  if (!last || *last <= applied.done_until || *last <= policy.changed) return std::nullopt;
  return last;
}

std::string automatic_snapshot_name(WallTime now,
                                    std::span<const SnapshotRecord* const> snapshots) {
  const std::chrono::year_month_day day(local_of(now).day);
  const std::string prefix =
      fmt::format("auto_{:04}{:02}{:02}_", static_cast<int>(day.year()),
                  static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
  std::uint64_t number = 0;
  for (const SnapshotRecord* one : snapshots) {
    const std::string_view name = one->snapshot_name;
    if (!one->automatic || !name.starts_with(prefix)) continue;
    number = std::max(number, whole_number<std::uint64_t>(name.substr(prefix.size())).value_or(0));
  }
  return fmt::format("{}{}", prefix, number + 1);
}

bool has_expired(const SnapshotRecord& snapshot, WallTime now) {
  if (snapshot.retention_days == 0 || snapshot.hidden) return false;
  if (snapshot.status == SnapshotStatus::kProgressing) return false;
  return now - snapshot.created >= static_cast<std::int64_t>(snapshot.retention_days) * kDay;
}

}  // namespace clouddisk
