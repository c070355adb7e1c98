#include "engine/catalog/tag_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/catalog/name_rules.h"

namespace clouddisk {

std::string_view name(ResourceKind kind) {
  switch (kind) {
    case ResourceKind::kDisk:
      return "disk";
    case ResourceKind::kSnapshot:
      return "snapshot";
    case ResourceKind::kInstance:
      return "instance";
    case ResourceKind::kImage:
      return "image";
    case ResourceKind::kGroup:
      return "snapshotgroup";
    case ResourceKind::kPolicy:
      break;
  }
  return "snapshotpolicy";
}

Verdict resource_type_must_be_known(std::string_view type, ResourceKind& kind) {
  std::string known;
  for (const ResourceKind one : kResourceKinds) {
    if (name(one) == type) {
      kind = one;
      return std::nullopt;
    }
    known += known.empty() ? "" : ", ";
    known += name(one);
  }
  return Refusal{404, "InvalidResourceType.NotFound",
                 fmt::format("ResourceType is one of {}, not '{}'.", known, type)};
}

Verdict resource_count_must_fit(std::size_t resources) {
  if (resources <= kTagResourcesMax) return std::nullopt;
  return Refusal{
      400, "NumberExceed.ResourceIds",
      fmt::format("{} resources, a request has {} at the most.", resources, kTagResourcesMax)};
}

Verdict tag_count_must_fit(std::size_t tags) {
  if (tags <= kTagsMax) return std::nullopt;
  return Refusal{400, "NumberExceed.Tags",
                 fmt::format("{} tags, a request has {} at the most.", tags, kTagsMax)};
}

Verdict tag_pairs_must_match(std::span<const Tag> tags) {
  for (const Tag& tag : tags) {
    if (!tag.key.empty() || tag.value.empty()) continue;
    return Refusal{400, "InvalidTag.Mismatch",
                   fmt::format("The tag value '{}' comes without a key.", tag.value)};
  }
  return std::nullopt;
}

Verdict tag_filter_must_be_valid(std::span<const Tag> tags) {
  if (tags.size() > kTagsMax) {
    return Refusal{400, "InvalidTagCount",
                   fmt::format("{} tags, {} are searched for at the most.", tags.size(), kTagsMax)};
  }
  return tag_pairs_must_match(tags);
}

Verdict tags_of_resource_must_fit(std::string_view resource_id, std::span<const Tag> tags) {
  if (tags.size() <= kTagsMax) return std::nullopt;
  return Refusal{400, "OperationDenied.QuotaExceed",
                 fmt::format("{} would have {} tags; a resource has {} at the most.", resource_id,
                             tags.size(), kTagsMax)};
}

std::vector<Tag> with_tags(std::vector<Tag> tags, std::span<const Tag> added) {
  for (const Tag& tag : added) {
    const auto at = std::find_if(tags.begin(), tags.end(),
                                 [&tag](const Tag& known) { return known.key == tag.key; });
    if (at != tags.end()) {
      at->value = tag.value;
    } else {
      tags.push_back(tag);
    }
  }
  return tags;
}

std::vector<Tag> without_keys(std::vector<Tag> tags, std::span<const std::string> keys) {
  std::erase_if(tags, [keys](const Tag& tag) {
    return std::find(keys.begin(), keys.end(), tag.key) != keys.end();
  });
  return tags;
}

}  // namespace clouddisk
