// policy_actions.cc: automatic snapshot policies, and which disks are under them. What becomes of
// them as time goes by is in auto_snapshots.cc.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "engine/catalog/name_rules.h"
#include "engine/catalog/policy_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"

namespace clouddisk {
namespace {

constexpr std::size_t kDisksARequest = 100;

// Whether and where snapshots are copied, and how long copies are kept; what is not given stays.
Verdict read_copies(ParamReader& reader, const Places& places, PolicyRecord& policy) {
  const bool enabled = reader.boolean("EnableCrossRegionCopy", !policy.copy_region.empty());
  if (reader.problem()) return reader.problem();
  const auto regions = reader.optional_text("TargetCopyRegions");
  const auto days = reader.optional_text("CopiedSnapshotsRetentionDays");
  if (!enabled) {
    if (regions) {
      return Refusal{403, "InvalidParameter.TargetCopyRegions",
                     "TargetCopyRegions needs EnableCrossRegionCopy=true."};
    }
    if (days) {
      return Refusal{403, "InvalidParameter.CopiedSnapshotsRetentionDays",
                     "CopiedSnapshotsRetentionDays needs EnableCrossRegionCopy=true."};
    }
    policy.copy_region.clear();
    policy.copied_retention_days = 0;
  } else if (regions || policy.copy_region.empty()) {
    if (auto broken =
            read_copy_region(regions.value_or(""), places, policy.region, policy.copy_region)) {
      return broken;
    }
  }
  if (days) {
    if (auto broken = read_copied_retention(*days, policy.copied_retention_days)) return broken;
  }
  const bool encrypted = reader.boolean("CopyEncryptionConfiguration.Encrypted", false);
  if (reader.problem()) return reader.problem();
  if (encrypted || reader.has("CopyEncryptionConfiguration.KMSKeyId")) {
    return Refusal{403, "ParameterInvalid", "Snapshots are not encrypted here."};
  }
  if (!reader.structures("TargetTags").empty()) {
    return Refusal{403, "ParameterInvalid",
                   "TargetTags are not here: apply the policy to disks by their ids."};
  }
  return std::nullopt;
}

// Those of name, hours, weekdays and retention that are given.
Verdict read_policy(ParamReader& reader, const Places& places, PolicyRecord& policy) {
  if (auto broken = read_copies(reader, places, policy)) return broken;
  if (const auto given = reader.optional_text("autoSnapshotPolicyName")) {
    if (auto broken = policy_name_must_be_well_formed(*given)) return broken;
    policy.policy_name = *given;
  }
  if (const auto given = reader.optional_text("timePoints")) {
    if (auto broken = read_time_points(*given, policy.hours)) return broken;
  }
  if (const auto given = reader.optional_text("repeatWeekdays")) {
    if (auto broken = read_weekdays(*given, policy.weekdays)) return broken;
  }
  if (const auto given = reader.optional_text("retentionDays")) {
    if (auto broken = read_policy_retention(*given, policy.retention_days)) return broken;
  }
  return std::nullopt;
}

Refusal no_such_policy(std::string_view id) {
  return {404, "ParameterInvalid", fmt::format("There is no snapshot policy '{}'.", id)};
}

Refusal not_applicable(std::string_view id) {
  return {400, "InvalidAutoSnapshotPolicyId.NotFound",
          fmt::format("There is no snapshot policy '{}' in the region.", id)};
}

std::int64_t days_view(std::uint64_t days) {
  return days == 0 ? -1 : static_cast<std::int64_t>(days);
}

// One line of DescribeAutoSnapshotPolicyAssociations; `id` is both ids, for the paging alone.
struct Association {
  WallTime created{};
  std::string id;
  std::string policy_id;
  std::string disk_id;
};

}  // namespace

Verdict Control::Impl::find_policy(std::string_view id, const ControlRequest& request,
                                   const PolicyRecord*& policy) const {
  policy = catalog->find_policy(id);
  if (policy != nullptr && request.asks_for(policy->region)) return std::nullopt;
  return no_such_policy(id);
}

// What ApplyAutoSnapshotPolicy and CancelAutoSnapshotPolicy have in common. Copies, to be changed.
Verdict Control::Impl::read_policy_disks(ControlRequest& request,
                                         std::vector<DiskRecord>& disks) const {
  ParamReader& reader = request.reader;
  static_cast<void>(reader.required("diskIds"));
  const auto ids = reader.json_list("diskIds", kDisksARequest, 403, "ParameterInvalid");
  if (reader.problem()) return reader.problem();
  for (const std::string& id : *ids) {
    const DiskRecord* disk = nullptr;
    if (auto broken = find_disk(id, disk)) return broken;
    if (!request.asks_for(disk->region)) {
      return Refusal{404, "InvalidDiskId.NotFound",
                     fmt::format("Disk {} is in region {}.", id, disk->region)};
    }
    const bool known = std::any_of(disks.begin(), disks.end(),
                                   [&id](const DiskRecord& one) { return one.id == id; });
    if (!known) disks.push_back(*disk);
  }
  return std::nullopt;
}

Task<Outcome> Control::Impl::create_auto_snapshot_policy(ControlRequest& request) {
  ParamReader& reader = request.reader;
  for (const char* name : {"timePoints", "repeatWeekdays", "retentionDays"}) {
    static_cast<void>(reader.required(name));
  }
  if (reader.problem()) co_return *reader.problem();
  PolicyRecord policy;
  policy.region = request.at.region;
  if (auto broken = read_policy(reader, options.places, policy)) co_return *broken;
  policy.tags = reader.tags();
  if (auto broken = tags_must_be_valid(policy.tags)) co_return *broken;
  std::size_t others = 0;
  for (const auto& [id, other] : catalog->policies()) {
    if (other.region == policy.region) ++others;
  }
  // Those that are being made beside it count, too.
  for (const auto& [id, region] : planned_policies) {
    if (region == policy.region && catalog->find_policy(id) == nullptr) ++others;
  }
  if (auto broken = policy_quota_must_have_room(others)) co_return *broken;
  if (request.dry_run) co_return would_succeed();

  policy.id = new_id("sp", policy.region);
  policy.resource_group = reader.text("ResourceGroupId");
  policy.created = now();
  policy.changed = policy.created;
  planned_policies[policy.id] = policy.region;
  CatalogChange change;
  change.put(policy);
  auto failed = co_await commit(std::move(change));
  planned_policies.erase(policy.id);
  if (failed) co_return *failed;
  Json answer = {{"AutoSnapshotPolicyId", policy.id}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::modify_auto_snapshot_policy(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string id = reader.required("autoSnapshotPolicyId");
  if (reader.problem()) co_return *reader.problem();
  const PolicyRecord* found = nullptr;
  if (auto broken = find_policy(id, request, found)) co_return *broken;
  PolicyRecord policy = *found;
  if (auto broken = read_policy(reader, options.places, policy)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  // Points that the policy did not have until now are none that were missed.
  const bool moved = policy.hours != found->hours || policy.weekdays != found->weekdays;
  if (moved) policy.changed = now();
  CatalogChange change;
  change.put(policy);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::delete_auto_snapshot_policy(ControlRequest& request) {
  const std::string id = request.reader.required("autoSnapshotPolicyId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const PolicyRecord* policy = nullptr;
  if (auto broken = find_policy(id, request, policy)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  change.erase(*policy);
  for (const auto& [disk_id, found] : catalog->disks()) {
    DiskRecord disk = found;
    if (cancel_policy(disk, id)) change.put(disk);
  }
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::apply_auto_snapshot_policy(ControlRequest& request) {
  const std::string id = request.reader.required("autoSnapshotPolicyId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const PolicyRecord* policy = catalog->find_policy(id);
  if (policy == nullptr || !request.asks_for(policy->region)) co_return not_applicable(id);
  std::vector<DiskRecord> disks;
  if (auto broken = read_policy_disks(request, disks)) co_return *broken;
  CatalogChange change;
  for (DiskRecord& disk : disks) {
    if (disk.region != policy->region) {
      co_return Refusal{404, "InvalidDiskId.NotFound",
                        fmt::format("Disk {} is in region {}, the policy in {}.", disk.id,
                                    disk.region, policy->region)};
    }
    if (auto broken = disk_must_have_room_for_policy(disk, id, profile)) co_return *broken;
    apply_policy(disk, id, profile, now());
    change.put(disk);
  }
  if (request.dry_run) co_return would_succeed();
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Verdict Control::Impl::read_applied_policy(const ParamReader& reader, std::string_view region,
                                           DiskRecord& disk) const {
  const auto id = reader.optional_text("AutoSnapshotPolicyId");
  if (!id) return std::nullopt;
  const PolicyRecord* policy = catalog->find_policy(*id);
  if (policy == nullptr || policy->region != region) return not_applicable(*id);
  apply_policy(disk, *id, profile, now());
  return std::nullopt;
}

Task<Outcome> Control::Impl::cancel_auto_snapshot_policy(ControlRequest& request) {
  const std::string id = request.reader.text("autoSnapshotPolicyId");
  const PolicyRecord* policy = nullptr;
  if (!id.empty()) {
    if (auto broken = find_policy(id, request, policy)) co_return *broken;
  }
  std::vector<DiskRecord> disks;
  if (auto broken = read_policy_disks(request, disks)) co_return *broken;
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  for (DiskRecord& disk : disks) {
    if (cancel_policy(disk, id)) change.put(disk);
  }
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Json Control::Impl::policy_view(const PolicyRecord& policy) const {
  std::size_t disks = 0;
  for (const auto& [id, disk] : catalog->disks()) {
    if (disk.status != DiskStatus::kDeleting && is_under(disk, policy.id)) ++disks;
  }
  const auto next = next_point(policy, now());
  const bool copies = !policy.copy_region.empty();
  return {
      {"AutoSnapshotPolicyId", policy.id},
      {"AutoSnapshotPolicyName", policy.policy_name},
      {"RegionId", policy.region},
      {"TimePoints", time_points_text(policy.hours)},
      {"RepeatWeekdays", weekdays_text(policy.weekdays)},
      {"RetentionDays", days_view(policy.retention_days)},
      {"DiskNums", disks},
      {"VolumeNums", 0},
      {"Status", "Normal"},
      {"Type", "Custom"},
      {"AssociationType", ""},
      {"CreationTime", iso_time(policy.created)},
      {"ResourceGroupId", policy.resource_group},
      {"EnableCrossRegionCopy", copies},
      {"TargetCopyRegions", copies ? Json::array({policy.copy_region}).dump() : ""},
      {"CopiedSnapshotsRetentionDays", days_view(policy.copied_retention_days)},
      {"CopyEncryptionConfiguration", {{"Encrypted", false}, {"KMSKeyId", ""}}},
      {"TargetTags", {{"TargetTag", Json::array()}}},
      {"Tags", tags_view(policy.tags)},
      // Ours.
      {"NextTime", next ? iso_time(*next) : ""},
  };
}

Task<Outcome> Control::Impl::describe_auto_snapshot_policies(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto id = reader.optional_text("AutoSnapshotPolicyId");
  const auto name = reader.optional_text("AutoSnapshotPolicyName");
  const auto resource_group = reader.optional_text("ResourceGroupId");
  std::vector<Tag> tags;
  if (auto broken = read_tag_filter(reader, tags)) co_return *broken;
  std::vector<const PolicyRecord*> found;
  for (const auto& [policy_id, policy] : catalog->policies()) {
    if (!request.asks_for(policy.region)) continue;
    if (id && policy_id != *id) continue;
    if (name && !matches(*name, policy.policy_name)) continue;
    if (resource_group && policy.resource_group != *resource_group) continue;
    if (has_tags(policy.tags, tags)) found.push_back(&policy);
  }
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const PolicyRecord&)> view = [this](const PolicyRecord& policy) {
    return policy_view(policy);
  };
  if (auto broken = page(std::move(found), reader, answer, view, list)) co_return *broken;
  answer.erase("NextToken");
  answer["AutoSnapshotPolicies"] = {{"AutoSnapshotPolicy", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_auto_snapshot_policy_associations(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const auto policy_id = reader.optional_text("AutoSnapshotPolicyId");
  const auto disk_id = reader.optional_text("DiskId");
  std::vector<Association> all;
  for (const auto& [id, disk] : catalog->disks()) {
    if (disk.status == DiskStatus::kDeleting || !request.asks_for(disk.region)) continue;
    if (disk_id && id != *disk_id) continue;
    for (const AppliedPolicy& one : disk.policies) {
      if (policy_id && one.policy_id != *policy_id) continue;
      all.push_back({disk.created, id + "/" + one.policy_id, one.policy_id, id});
    }
  }
  std::vector<const Association*> found;
  for (const Association& one : all) found.push_back(&one);
  Json answer = Json::object();
  Json list = Json::array();
  const std::function<Json(const Association&)> view = [](const Association& one) {
    return Json{{"AutoSnapshotPolicyId", one.policy_id}, {"DiskId", one.disk_id}};
  };
  if (auto broken = page(std::move(found), reader, answer, view, list, Paging::kByToken)) {
    co_return *broken;
  }
  answer["AutoSnapshotPolicyAssociations"] = {{"AutoSnapshotPolicyAssociation", std::move(list)}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
