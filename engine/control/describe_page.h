// describe_page.h: what the Describe actions share: name patterns, lists, tags, times of creation,
// pages by number and by token.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/catalog/records.h"
#include "engine/catalog/tag_rules.h"
#include "engine/control/outcome.h"
#include "engine/control/params.h"

namespace clouddisk {

inline constexpr std::uint64_t kPageSizeDefault = 10;
inline constexpr std::uint64_t kPageSizeMax = 100;
inline constexpr std::uint64_t kMaxResultsMax = 500;
inline constexpr std::size_t kIdsMax = 100;
inline constexpr std::size_t kTokenSizeMax = 200;

// '*' stands for any text, as the cloud's name filters have it. What lies between two stars is
// taken where it first fits: never wrong, and no pattern takes longer than its length times the
// text's.
inline bool matches(std::string_view pattern, std::string_view text) {
  std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  while ((star = pattern.find('*')) != std::string_view::npos) {
    const std::size_t at = text.find(pattern.substr(0, star));
    if (at == std::string_view::npos) return false;
    text.remove_prefix(at + star);
    pattern.remove_prefix(star + 1);
  }
  return text.ends_with(pattern);
}

// "a,b" as the older filters have it.
inline std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    if (!part.empty()) parts.emplace_back(part);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return parts;
}

inline Json tags_view(const std::vector<Tag>& tags) {
  Json list = Json::array();
  for (const Tag& tag : tags) list.push_back({{"TagKey", tag.key}, {"TagValue", tag.value}});
  return {{"Tag", std::move(list)}};
}

inline bool has_tags(const std::vector<Tag>& tags, const std::vector<Tag>& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const Tag& want) {
    return std::any_of(tags.begin(), tags.end(), [&](const Tag& tag) {
      return tag.key == want.key && (want.value.empty() || tag.value == want.value);
    });
  });
}

// Tag.N of a search; pairs of nothing are left out.
inline Verdict read_tag_filter(ParamReader& reader, std::vector<Tag>& tags) {
  tags = reader.tags();
  std::erase(tags, Tag{});
  return tag_filter_must_be_valid(tags);
}

// A NextToken names the last thing shown, in hexadecimal; what was created or deleted meanwhile
// does not disturb it.
inline std::string to_token(WallTime created, std::string_view id) {
  std::string token;
  for (const char c : fmt::format("{:020}{}", created.time_since_epoch().count(), id)) {
    token += fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  return token;
}
struct Place {
  WallTime created;
  std::string id;
};
inline std::optional<Place> from_token(std::string_view token) {
  constexpr std::size_t kDigits = 20;
  if (token.size() % 2 != 0 || token.size() <= 2 * kDigits || token.size() > kTokenSizeMax) {
    return std::nullopt;
  }
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < token.size(); i += 2) {
    const std::size_t high = kHex.find(token[i]);
    const std::size_t low = kHex.find(token[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    text += static_cast<char>(high << 4 | low);
  }
  Place place;
  std::int64_t nanoseconds = 0;
  for (std::size_t i = 0; i < kDigits; ++i) {
    if (text[i] < '0' || text[i] > '9' || nanoseconds > (INT64_MAX - 9) / 10) return std::nullopt;
    nanoseconds = nanoseconds * 10 + (text[i] - '0');
  }
  place.created = WallTime(Duration(nanoseconds));
  place.id = text.substr(kDigits);
  return place;
}

// Newest first; among those of one moment by id.
inline bool before(WallTime created_a, std::string_view id_a, WallTime created_b,
                   std::string_view id_b) {
  return created_a != created_b ? created_a > created_b : id_a < id_b;
}

// Some actions know no page numbers.
enum class Paging { kEither, kByToken };

// Takes one page out of the records found and adds it to the answer, with the members that tell
// about pages.
template <class Record>
Verdict page(std::vector<const Record*> found, ParamReader& reader, Json& answer,
             const std::function<Json(const Record&)>& view, Json& into,
             Paging paging = Paging::kEither) {
  std::sort(found.begin(), found.end(), [](const Record* a, const Record* b) {
    return before(a->created, a->id, b->created, b->id);
  });
  const bool by_token =
      paging == Paging::kByToken || reader.has("NextToken") || reader.has("MaxResults");
  const std::uint64_t number = reader.number("PageNumber", 1);
  const std::uint64_t size = reader.number("PageSize", kPageSizeDefault);
  const std::uint64_t results = reader.number("MaxResults", kPageSizeDefault);
  if (reader.problem()) return reader.problem();
  if (number < 1 || size < 1 || size > kPageSizeMax) {
    return Refusal{400, "InvalidParameter",
                   fmt::format("PageNumber {} starts at 1, PageSize {} is 1 to {}.", number, size,
                               kPageSizeMax)};
  }
  if (results < 1 || results > kMaxResultsMax) {
    return Refusal{400, "InvalidParameter",
                   fmt::format("MaxResults {} is none of 1 to {}.", results, kMaxResultsMax)};
  }
  std::size_t begin = 0;
  std::size_t count = size;
  if (by_token) {
    count = results;
    if (auto token = reader.optional_text("NextToken")) {
      const auto place = from_token(*token);
      if (!place) return Refusal{400, "InvalidParameter", "NextToken is none of ours."};
      while (begin < found.size() &&
             !before(place->created, place->id, found[begin]->created, found[begin]->id)) {
        ++begin;
      }
    }
  } else {
    begin = number - 1 < found.size() ? (number - 1) * size : found.size();
    begin = std::min(begin, found.size());
  }
  const std::size_t end = std::min(found.size(), begin + count);
  for (std::size_t i = begin; i < end; ++i) into.push_back(view(*found[i]));
  if (paging == Paging::kEither) {
    answer["TotalCount"] = found.size();
    answer["PageNumber"] = number;
    answer["PageSize"] = by_token ? results : size;
  }
  const bool more = by_token && end < found.size();
  answer["NextToken"] = more ? to_token(found[end - 1]->created, found[end - 1]->id) : "";
  return std::nullopt;
}

struct TimeRange {
  WallTime from = WallTime::min();
  WallTime to = WallTime::max();
};

// Filter.N.Key: CreationStartTime and CreationEndTime.
inline Verdict read_filters(const ParamReader& reader, TimeRange& created) {
  for (const Params& filter : reader.structures("Filter")) {
    const ParamReader members(filter);
    const std::string key = members.text("Key");
    if (key.empty()) continue;
    if (key != "CreationStartTime" && key != "CreationEndTime") {
      return Refusal{404, "InvalidFilterKey.NotFound",
                     fmt::format("'{}' is none of CreationStartTime, CreationEndTime.", key)};
    }
    const auto time = parse_iso_time(members.text("Value"));
    if (!time) {
      return Refusal{404, "InvalidFilterValue",
                     fmt::format("'{}' is no time like 2026-01-01T00:00Z.", members.text("Value"))};
    }
    (key == "CreationStartTime" ? created.from : created.to) = *time;
  }
  return std::nullopt;
}

}  // namespace clouddisk
