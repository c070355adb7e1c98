#include "engine/catalog/name_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

namespace clouddisk {
namespace {

constexpr std::size_t kNameMin = 2;
constexpr std::size_t kNameMax = 128;
constexpr std::size_t kDescriptionMax = 256;
constexpr std::size_t kTagKeyMax = 128;
constexpr std::size_t kTagValueMax = 128;
constexpr std::size_t kClientTokenMax = 64;

// Takes the first code point off `text`; nothing when it is not UTF-8 (overlong and surrogate forms
// are not).
std::optional<char32_t> next_code_point(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) {
    text.remove_prefix(1);
    return lead;
  }
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return std::nullopt;
  char32_t code = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0U) != 0x80) return std::nullopt;
    code = code << 6 | (byte & 0x3fU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
    return std::nullopt;
  }
  text.remove_prefix(length);
  return code;
}

struct Shape {
  std::size_t characters = 0;
  char32_t first = 0;
  bool control = false;
};

std::optional<Shape> shape_of(std::string_view text) {
  Shape shape;
  while (!text.empty()) {
    const auto code = next_code_point(text);
    if (!code) return std::nullopt;
    if (shape.characters++ == 0) shape.first = *code;
    if (*code < 0x20 || *code == 0x7f) shape.control = true;
  }
  return shape;
}

bool is_letter(char32_t code) {
  return (code >= U'a' && code <= U'z') || (code >= U'A' && code <= U'Z') || code >= 0xaa;
}

bool starts_with_url(std::string_view text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

bool tag_text_is_well_formed(std::string_view text, std::size_t characters_max) {
  const auto shape = shape_of(text);
  return shape && shape->characters <= characters_max && !shape->control &&
         text.find("http://") == std::string_view::npos &&
         text.find("https://") == std::string_view::npos;
}

}  // namespace

bool is_utf8(std::string_view text) {
  return shape_of(text).has_value();
}

bool name_is_well_formed(std::string_view text) {
  const auto shape = shape_of(text);
  return shape && shape->characters >= kNameMin && shape->characters <= kNameMax &&
         is_letter(shape->first) && !shape->control && !starts_with_url(text);
}

bool description_is_well_formed(std::string_view text) {
  const auto shape = shape_of(text);
  return shape && shape->characters >= kNameMin && shape->characters <= kDescriptionMax &&
         !starts_with_url(text);
}

Verdict name_must_be_well_formed(std::string_view text, std::string_view code) {
  if (name_is_well_formed(text)) return std::nullopt;
  return Refusal{400, std::string(code),
                 "A name has 2 to 128 characters, begins with a letter and not with http:// or "
                 "https://."};
}

Verdict description_must_be_well_formed(std::string_view text, std::string_view code,
                                        int http_status) {
  if (description_is_well_formed(text)) return std::nullopt;
  return Refusal{http_status, std::string(code),
                 "A description has 2 to 256 characters and does not begin with http:// or "
                 "https://."};
}

Verdict tags_must_be_valid(const std::vector<Tag>& tags) {
  if (tags.size() > kTagsMax) {
    return Refusal{403, "QuotaExceed.Tags",
                   fmt::format("{} tags, a resource has {} at the most.", tags.size(), kTagsMax)};
  }
  std::set<std::string_view> keys;
  for (const Tag& tag : tags) {
    if (tag.key.empty() || !tag_text_is_well_formed(tag.key, kTagKeyMax) ||
        tag.key.starts_with("aliyun") || tag.key.starts_with("acs:")) {
      return Refusal{400, "InvalidTagKey.Malformed",
                     "A tag's key has 1 to 128 characters, begins with neither aliyun nor acs: and "
                     "holds no http:// or https://."};
    }
    if (!tag_text_is_well_formed(tag.value, kTagValueMax)) {
      return Refusal{400, "InvalidTagValue.Malformed",
                     "A tag's value has at most 128 characters and holds no http:// or https://."};
    }
    if (!keys.insert(tag.key).second) {
      return Refusal{400, "Duplicate.TagKey", fmt::format("Tag key {} is given twice.", tag.key)};
    }
  }
  return std::nullopt;
}

Verdict client_token_must_be_valid(std::string_view token) {
  const bool printable =
      std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!token.empty() && token.size() <= kClientTokenMax && printable) return std::nullopt;
  return Refusal{403, "InvalidClientToken.Malformed",
                 "A ClientToken has 1 to 64 printable ASCII characters."};
}

}  // namespace clouddisk
