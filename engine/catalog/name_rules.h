// name_rules.h: how names, descriptions, tags and tokens may look. Pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

inline constexpr std::size_t kTagsMax = 20;  // a resource

bool is_utf8(std::string_view text);

// 2 to 128 characters, the first a letter, no http:// or https:// in front, no control characters.
bool name_is_well_formed(std::string_view text);
// 2 to 256 characters, no http:// or https:// in front.
bool description_is_well_formed(std::string_view text);

// InvalidDiskName.Malformed, InvalidInstanceName.Malformed, … (400): `code` is given.
Verdict name_must_be_well_formed(std::string_view text, std::string_view code);
Verdict description_must_be_well_formed(std::string_view text, std::string_view code,
                                        int http_status);

// Duplicate.TagKey, InvalidTagKey.Malformed, InvalidTagValue.Malformed (400), QuotaExceed.Tags
// (403).
Verdict tags_must_be_valid(const std::vector<Tag>& tags);

// At most 64 ASCII characters: InvalidClientToken.Malformed (403).
Verdict client_token_must_be_valid(std::string_view token);

}  // namespace clouddisk
