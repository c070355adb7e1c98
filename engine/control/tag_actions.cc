// tag_actions.cc: tags of everything that carries them: set, taken off, listed, searched for. A tag
// is a part of its resource's record, so that one which no resource has any more is gone.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "engine/catalog/name_rules.h"
#include "engine/catalog/tag_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"

namespace clouddisk {
namespace {

constexpr std::size_t kTagsAPage = 50;  // of ListTagResources; a resource is never torn apart

// Of the cloud's resources, as DescribeTags counts them.
constexpr const char* kTypesNotHere[] = {
    "Ddh", "Eni", "KeyPair", "LaunchTemplate", "ReservedInstance", "Securitygroup", "Volume"};

// One resource, as far as tags are concerned. Points into the catalog.
struct Tagged {
  ResourceKind kind = ResourceKind::kDisk;
  std::string id;
  std::string region;
  WallTime created{};
  const std::vector<Tag>* tags = nullptr;
};

template <class Record>
Tagged tagged(ResourceKind kind, const Record& record) {
  return {kind, record.id, record.region, record.created, &record.tags};
}

// What is being deleted has no tags for anybody.
bool is_there(const DiskRecord& disk) {
  return disk.status != DiskStatus::kDeleting;
}
bool is_there(const SnapshotRecord& snapshot) {
  return !snapshot.hidden;
}
bool is_there(const InstanceRecord& instance) {
  return instance.status != InstanceStatus::kDeleting;
}
bool is_there(const GroupRecord&) {
  return true;
}
bool is_there(const PolicyRecord&) {
  return true;
}
bool is_there(const ImageRecord&) {
  return true;
}

// Calls `visit` with the kind and every record of it.
template <class Visit>
void visit_records(const Catalog& catalog, ResourceKind kind, Visit visit) {
  const auto each = [&visit](const auto& records) {
    for (const auto& [id, record] : records) {
      if (is_there(record)) visit(record);
    }
  };
  switch (kind) {
    case ResourceKind::kDisk:
      return each(catalog.disks());
    case ResourceKind::kSnapshot:
      return each(catalog.snapshots());
    case ResourceKind::kInstance:
      return each(catalog.instances());
    case ResourceKind::kImage:
      return each(catalog.images());
    case ResourceKind::kGroup:
      return each(catalog.groups());
    case ResourceKind::kPolicy:
      return each(catalog.policies());
  }
}

std::vector<Tagged> resources(const Catalog& catalog, std::optional<ResourceKind> wanted,
                              const ControlRequest& request) {
  std::vector<Tagged> all;
  for (const ResourceKind kind : kResourceKinds) {
    if (wanted && kind != *wanted) continue;
    visit_records(catalog, kind, [&](const auto& record) {
      if (request.asks_for(record.region)) all.push_back(tagged(kind, record));
    });
  }
  return all;
}

void put_tags(const Catalog& catalog, const Tagged& resource, std::vector<Tag> tags,
              CatalogChange& change) {
  visit_records(catalog, resource.kind, [&](const auto& record) {
    if (record.id != resource.id) return;
    auto changed = record;
    changed.tags = tags;
    change.put(changed);
  });
}

Refusal missing(std::string_view code_tail, std::string_view parameter) {
  return {404, fmt::format("MissingParameter.{}", code_tail),
          fmt::format("The parameter {} is missing.", parameter)};
}

// What TagResources, UntagResources and ListTagResources begin with.
Verdict read_type(const ControlRequest& request, ResourceKind& kind) {
  if (!request.reader.has("RegionId")) return missing("RegionId", "RegionId");
  const auto type = request.reader.optional_text("ResourceType");
  if (!type) return missing("ResourceType", "ResourceType");
  return resource_type_must_be_known(*type, kind);
}

// Each once, in the order given. InvalidResourceId.NotSupported (403): it is there, but of another
// type; InvalidResourceId.NotFound (404).
Verdict find_all(const Catalog& catalog, ResourceKind kind, const std::vector<std::string>& ids,
                 const ControlRequest& request, std::vector<Tagged>& found) {
  const std::vector<Tagged> all = resources(catalog, std::nullopt, request);
  for (const std::string& id : ids) {
    const auto at =
        std::find_if(all.begin(), all.end(), [&id](const Tagged& one) { return one.id == id; });
    if (at == all.end()) {
      return Refusal{404, "InvalidResourceId.NotFound",
                     fmt::format("There is no {} '{}' here.", name(kind), id)};
    }
    if (at->kind != kind) {
      return Refusal{
          403, "InvalidResourceId.NotSupported",
          fmt::format("{} is a {}, and ResourceType says {}.", id, name(at->kind), name(kind))};
    }
    const bool known =
        std::any_of(found.begin(), found.end(), [&id](const Tagged& one) { return one.id == id; });
    if (!known) found.push_back(*at);
  }
  return std::nullopt;
}

// What a search asks for: every condition holds.
struct Conditions {
  std::vector<Tag> tags;  // an empty value stands for any
  struct OneOf {
    std::string key;
    std::vector<std::string> values;  // none: any
  };
  std::vector<OneOf> one_of;

  bool any() const { return !tags.empty() || !one_of.empty(); }
  bool accept(const std::vector<Tag>& have) const {
    if (!has_tags(have, tags)) return false;
    return std::all_of(one_of.begin(), one_of.end(), [&have](const OneOf& want) {
      return std::any_of(have.begin(), have.end(), [&want](const Tag& tag) {
        return tag.key == want.key &&
               (want.values.empty() ||
                std::find(want.values.begin(), want.values.end(), tag.value) != want.values.end());
      });
    });
  }
};

Verdict read_conditions(ParamReader& reader, Conditions& conditions) {
  if (auto broken = read_tag_filter(reader, conditions.tags)) return broken;
  for (const Params& members : reader.structures("TagFilter")) {
    const ParamReader filter(members);
    Conditions::OneOf one{filter.text("TagKey"), filter.list("TagValues")};
    if (one.key.empty()) {
      return Refusal{400, "InvalidTag.Mismatch", "TagFilter.N has TagValues, but no TagKey."};
    }
    conditions.one_of.push_back(std::move(one));
  }
  if (conditions.one_of.size() > kTagsMax) {
    return Refusal{
        400, "InvalidTagCount",
        fmt::format("{} tag filters, {} at the most.", conditions.one_of.size(), kTagsMax)};
  }
  return std::nullopt;
}

// By page number; AddTags' generation knows no tokens.
Verdict page_by_number(ParamReader& reader, const std::vector<Json>& all, Json& answer,
                       Json& into) {
  const std::uint64_t number = reader.number("PageNumber", 1);
  const std::uint64_t size = reader.number("PageSize", kPageSizeDefault);
  if (reader.problem()) return reader.problem();
  if (number < 1 || size < 1 || size > kPageSizeMax) {
    return Refusal{400, "InvalidParameter",
                   fmt::format("PageNumber {} starts at 1, PageSize {} is 1 to {}.", number, size,
                               kPageSizeMax)};
  }
  const std::size_t begin =
      number - 1 < all.size() ? std::min<std::size_t>((number - 1) * size, all.size()) : all.size();
  const std::size_t end = std::min<std::size_t>(all.size(), begin + size);
  for (std::size_t i = begin; i < end; ++i) into.push_back(all[i]);
  answer["TotalCount"] = all.size();
  answer["PageNumber"] = number;
  answer["PageSize"] = size;
  return std::nullopt;
}

}  // namespace

Task<Outcome> Control::Impl::add_tags_to(const ControlRequest& request, ResourceKind kind,
                                         std::vector<std::string> ids, std::vector<Tag> tags) {
  if (tags.empty()) co_return missing("Tags", "Tag.1.Key");
  if (auto broken = tag_count_must_fit(tags.size())) co_return *broken;
  if (auto broken = tag_pairs_must_match(tags)) co_return *broken;
  if (auto broken = tags_must_be_valid(tags)) co_return *broken;
  std::vector<Tagged> found;
  if (auto broken = find_all(*catalog, kind, ids, request, found)) co_return *broken;
  CatalogChange change;
  for (const Tagged& resource : found) {
    std::vector<Tag> all = with_tags(*resource.tags, tags);
    if (auto broken = tags_of_resource_must_fit(resource.id, all)) co_return *broken;
    put_tags(*catalog, resource, std::move(all), change);
  }
  if (request.dry_run) co_return would_succeed();
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::tag_resources(ControlRequest& request) {
  ResourceKind kind{};
  if (auto broken = read_type(request, kind)) co_return *broken;
  std::vector<std::string> ids = request.reader.list("ResourceId");
  if (ids.empty()) co_return missing("ResourceIds", "ResourceId.1");
  if (auto broken = resource_count_must_fit(ids.size())) co_return *broken;
  co_return co_await add_tags_to(request, kind, std::move(ids), request.reader.tags());
}

Task<Outcome> Control::Impl::add_tags(ControlRequest& request) {
  const std::string type = request.reader.required("ResourceType");
  const std::string id = request.reader.required("ResourceId");
  if (request.reader.problem()) co_return *request.reader.problem();
  ResourceKind kind{};
  if (auto broken = resource_type_must_be_known(type, kind)) co_return *broken;
  std::vector<std::string> ids(1, id);
  co_return co_await add_tags_to(request, kind, std::move(ids), request.reader.tags());
}

Task<Outcome> Control::Impl::untag_resources(ControlRequest& request) {
  ParamReader& reader = request.reader;
  ResourceKind kind{};
  if (auto broken = read_type(request, kind)) co_return *broken;
  const std::vector<std::string> ids = reader.list("ResourceId");
  const std::vector<std::string> keys = reader.list("TagKey");
  const bool everything = reader.boolean("All", false);
  if (reader.problem()) co_return *reader.problem();
  if (ids.empty()) co_return missing("ResourceIds", "ResourceId.1");
  if (auto broken = resource_count_must_fit(ids.size())) co_return *broken;
  if (keys.empty() && !everything) co_return missing("Tags", "TagKey.1, or All=true,");
  if (auto broken = tag_count_must_fit(keys.size())) co_return *broken;
  std::vector<Tagged> found;
  if (auto broken = find_all(*catalog, kind, ids, request, found)) co_return *broken;
  CatalogChange change;
  for (const Tagged& resource : found) {
    // All counts only where no key is given.
    std::vector<Tag> rest;
    if (!keys.empty()) rest = without_keys(*resource.tags, keys);
    if (rest.size() == resource.tags->size()) continue;
    put_tags(*catalog, resource, std::move(rest), change);
  }
  if (request.dry_run) co_return would_succeed();
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

// A key alone takes the tag off whatever its value, a pair only where both are so.
Task<Outcome> Control::Impl::remove_tags(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const std::string type = reader.required("ResourceType");
  const std::vector<std::string> ids(1, reader.required("ResourceId"));
  const std::vector<Tag> tags = reader.tags();
  if (reader.problem()) co_return *reader.problem();
  ResourceKind kind{};
  if (auto broken = resource_type_must_be_known(type, kind)) co_return *broken;
  if (tags.empty()) co_return missing("Tags", "Tag.1.Key");
  if (auto broken = tag_filter_must_be_valid(tags)) co_return *broken;
  std::vector<Tagged> found;
  if (auto broken = find_all(*catalog, kind, ids, request, found)) co_return *broken;
  std::vector<Tag> rest = *found.front().tags;
  std::erase_if(rest, [&tags](const Tag& tag) {
    return std::any_of(tags.begin(), tags.end(), [&tag](const Tag& gone) {
      return gone.key == tag.key && (gone.value.empty() || gone.value == tag.value);
    });
  });
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  if (rest.size() != found.front().tags->size()) {
    put_tags(*catalog, found.front(), std::move(rest), change);
  }
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  co_return done();
}

Task<Outcome> Control::Impl::list_tag_resources(ControlRequest& request) {
  ParamReader& reader = request.reader;
  ResourceKind kind{};
  if (auto broken = read_type(request, kind)) co_return *broken;
  const std::vector<std::string> ids = reader.list("ResourceId");
  Conditions conditions;
  if (auto broken = read_conditions(reader, conditions)) co_return *broken;
  if (ids.empty() && !conditions.any()) {
    co_return missing("Tags", "ResourceId.1, Tag.1.Key or TagFilter.1.TagKey");
  }
  if (auto broken = resource_count_must_fit(ids.size())) co_return *broken;
  std::string after;  // the last resource of the page before
  if (const auto token = reader.optional_text("NextToken")) {
    const auto place = from_token(*token);
    if (!place) co_return Refusal{400, "InvalidParameter", "NextToken is none of ours."};
    after = place->id;
  }
  std::vector<Tagged> found;
  if (ids.empty()) {
    found = resources(*catalog, kind, request);
  } else if (auto broken = find_all(*catalog, kind, ids, request, found)) {
    co_return *broken;
  }
  std::sort(found.begin(), found.end(),
            [](const Tagged& a, const Tagged& b) { return a.id < b.id; });
  Json list = Json::array();
  std::string last;
  std::string next;
  for (const Tagged& resource : found) {
    if (resource.tags->empty() || resource.id <= after) continue;
    if (!conditions.accept(*resource.tags)) continue;
    if (!list.empty() && list.size() + resource.tags->size() > kTagsAPage) {
      next = to_token({}, last);
      break;
    }
    last = resource.id;
    for (const Tag& tag : *resource.tags) {
      list.push_back({{"ResourceId", resource.id},
                      {"ResourceType", name(kind)},
                      {"TagKey", tag.key},
                      {"TagValue", tag.value}});
    }
  }
  Json answer = {{"TagResources", {{"TagResource", std::move(list)}}}, {"NextToken", next}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_tags(ControlRequest& request) {
  ParamReader& reader = request.reader;
  std::optional<ResourceKind> wanted;
  if (const auto type = reader.optional_text("ResourceType")) {
    ResourceKind kind{};
    if (auto broken = resource_type_must_be_known(*type, kind)) co_return *broken;
    wanted = kind;
  }
  const auto id = reader.optional_text("ResourceId");
  std::vector<Tag> tags;
  if (auto broken = read_tag_filter(reader, tags)) co_return *broken;
  std::map<std::pair<std::string, std::string>, std::map<ResourceKind, std::uint64_t>> in_use;
  for (const Tagged& resource : resources(*catalog, wanted, request)) {
    if (id && resource.id != *id) continue;
    for (const Tag& tag : *resource.tags) {
      const bool asked =
          tags.empty() || std::any_of(tags.begin(), tags.end(), [&tag](const Tag& want) {
            return want.key == tag.key && (want.value.empty() || want.value == tag.value);
          });
      if (asked) ++in_use[{tag.key, tag.value}][resource.kind];
    }
  }
  std::vector<Json> all;
  for (auto& [tag, counts] : in_use) {
    Json of_types = {{"Disk", counts[ResourceKind::kDisk]},
                     {"Snapshot", counts[ResourceKind::kSnapshot]},
                     {"Instance", counts[ResourceKind::kInstance]},
                     {"Image", counts[ResourceKind::kImage]},
                     {"SnapshotPolicy", counts[ResourceKind::kPolicy]},
                     // Ours.
                     {"SnapshotGroup", counts[ResourceKind::kGroup]}};
    for (const char* type : kTypesNotHere) of_types[type] = 0;
    all.push_back({{"TagKey", tag.first},
                   {"TagValue", tag.second},
                   {"ResourceTypeCount", std::move(of_types)}});
  }
  Json answer = Json::object();
  Json list = Json::array();
  if (auto broken = page_by_number(reader, all, answer, list)) co_return *broken;
  answer["Tags"] = {{"Tag", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_resource_by_tags(ControlRequest& request) {
  ParamReader& reader = request.reader;
  std::optional<ResourceKind> wanted;
  if (const auto type = reader.optional_text("ResourceType")) {
    ResourceKind kind{};
    if (auto broken = resource_type_must_be_known(*type, kind)) co_return *broken;
    wanted = kind;
  }
  std::vector<Tag> tags;
  if (auto broken = read_tag_filter(reader, tags)) co_return *broken;
  if (tags.empty()) co_return missing("Tags", "Tag.1.Key");
  std::vector<Tagged> found = resources(*catalog, wanted, request);
  std::erase_if(found, [&tags](const Tagged& one) { return !has_tags(*one.tags, tags); });
  std::sort(found.begin(), found.end(), [](const Tagged& a, const Tagged& b) {
    return before(a.created, a.id, b.created, b.id);
  });
  std::vector<Json> all;
  for (const Tagged& one : found) {
    all.push_back(
        {{"ResourceId", one.id}, {"ResourceType", name(one.kind)}, {"RegionId", one.region}});
  }
  Json answer = Json::object();
  Json list = Json::array();
  if (auto broken = page_by_number(reader, all, answer, list)) co_return *broken;
  answer["Resources"] = {{"Resource", std::move(list)}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
