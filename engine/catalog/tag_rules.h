// tag_rules.h: which resources carry tags, and the rules of tagging, untagging and searching. What
// a key and a value may be is in name_rules.h. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

inline constexpr std::size_t kTagResourcesMax = 50;  // a request

enum class ResourceKind : std::uint8_t { kDisk, kSnapshot, kInstance, kImage, kGroup, kPolicy };
inline constexpr ResourceKind kResourceKinds[] = {ResourceKind::kDisk,     ResourceKind::kSnapshot,
                                                  ResourceKind::kInstance, ResourceKind::kImage,
                                                  ResourceKind::kGroup,    ResourceKind::kPolicy};
std::string_view name(ResourceKind kind);  // as ResourceType has it: "disk"

// InvalidResourceType.NotFound (404): none, or one that the cloud has and clouddisk has not.
Verdict resource_type_must_be_known(std::string_view type, ResourceKind& kind);
// NumberExceed.ResourceIds (400): more than 50.
Verdict resource_count_must_fit(std::size_t resources);
// NumberExceed.Tags (400): more than 20 in a request.
Verdict tag_count_must_fit(std::size_t tags);
// InvalidTag.Mismatch (400): a value without its key.
Verdict tag_pairs_must_match(std::span<const Tag> tags);
// Of a search. InvalidTagCount (400): more than 20; InvalidTag.Mismatch (400).
Verdict tag_filter_must_be_valid(std::span<const Tag> tags);
// OperationDenied.QuotaExceed (400): more than 20 on one resource. `tags`: all that it would have.
Verdict tags_of_resource_must_fit(std::string_view resource_id, std::span<const Tag> tags);

// What a resource has after tags were added: a key that it has already takes the new value.
std::vector<Tag> with_tags(std::vector<Tag> tags, std::span<const Tag> added);
std::vector<Tag> without_keys(std::vector<Tag> tags, std::span<const std::string> keys);

}  // namespace clouddisk
