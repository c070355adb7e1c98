#include "engine/control/params.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

constexpr std::size_t kDigitsMax = 18;
constexpr std::size_t kListMax = 1'000;

// Not part of what is asked for.
constexpr std::array<std::string_view, 19> kCommonNames = {
    "Action",           "Version",        "Format",        "ClientToken",
    "AccessKeyId",      "SecurityToken",  "Signature",     "SignatureMethod",
    "SignatureVersion", "SignatureNonce", "SignatureType", "Timestamp",
    "DryRun",           "OwnerAccount",   "OwnerId",       "ResourceOwnerAccount",
    "ResourceOwnerId",  "RegionId",       "Wait",
};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_name(std::string_view a, std::string_view b) {
  const NameLess less;
  return !less(a, b) && !less(b, a);
}

bool has_prefix(std::string_view name, std::string_view prefix) {
  return name.size() >= prefix.size() && same_name(name.substr(0, prefix.size()), prefix);
}

}  // namespace

bool NameLess::operator()(std::string_view a, std::string_view b) const {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [](char x, char y) { return lower(x) < lower(y); });
}

const std::string* ParamReader::find(std::string_view name) const {
  const auto at = params_.find(name);
  return at != params_.end() && !at->second.empty() ? &at->second : nullptr;
}

std::string ParamReader::text(std::string_view name, std::string_view otherwise) const {
  const std::string* value = find(name);
  return value != nullptr ? *value : std::string(otherwise);
}

std::optional<std::string> ParamReader::optional_text(std::string_view name) const {
  const std::string* value = find(name);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::string ParamReader::required(std::string_view name) {
  const std::string* value = find(name);
  if (value != nullptr) return *value;
  refuse({400, "MissingParameter", fmt::format("The parameter {} is missing.", name)});
  return {};
}

std::optional<std::uint64_t> ParamReader::optional_number(std::string_view name) {
  const std::string* value = find(name);
  if (value == nullptr) return std::nullopt;
  const bool digits =
      std::all_of(value->begin(), value->end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || value->size() > kDigitsMax) {
    refuse({400, "InvalidParameter", fmt::format("{} is a whole number, not '{}'.", name, *value)});
    return std::nullopt;
  }
  std::uint64_t number = 0;
  for (const char c : *value) number = number * 10 + static_cast<std::uint64_t>(c - '0');
  return number;
}

std::uint64_t ParamReader::number(std::string_view name, std::uint64_t otherwise) {
  return optional_number(name).value_or(otherwise);
}

std::optional<bool> ParamReader::optional_boolean(std::string_view name) {
  const std::string* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (same_name(*value, "true")) return true;
  if (same_name(*value, "false")) return false;
  refuse({400, "InvalidParameter", fmt::format("{} is true or false, not '{}'.", name, *value)});
  return std::nullopt;
}

bool ParamReader::boolean(std::string_view name, bool otherwise) {
  return optional_boolean(name).value_or(otherwise);
}

std::vector<std::string> ParamReader::list(std::string_view name) const {
  std::vector<std::string> values;
  while (values.size() < kListMax) {
    const auto at = params_.find(fmt::format("{}.{}", name, values.size() + 1));
    if (at == params_.end()) break;
    values.push_back(at->second);
  }
  return values;
}

std::vector<Params> ParamReader::structures(std::string_view name) const {
  std::vector<Params> structures;
  while (structures.size() < kListMax) {
    const std::string prefix = fmt::format("{}.{}.", name, structures.size() + 1);
    Params members;
    for (auto at = params_.lower_bound(prefix);
         at != params_.end() && has_prefix(at->first, prefix); ++at) {
      members.emplace(at->first.substr(prefix.size()), at->second);
    }
    if (members.empty()) break;
    structures.push_back(std::move(members));
  }
  return structures;
}

std::optional<std::vector<std::string>> ParamReader::json_list(std::string_view name,
                                                               std::size_t count_max,
                                                               int http_status,
                                                               std::string_view code) {
  const std::string* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto json = nlohmann::json::parse(*value, nullptr, false);
  bool fine = json.is_array() && json.size() <= count_max;
  std::vector<std::string> items;
  for (std::size_t i = 0; fine && i < json.size(); ++i) {
    fine = json[i].is_string();
    if (fine) items.push_back(json[i].get<std::string>());
  }
  if (!fine) {
    refuse({http_status, std::string(code),
            fmt::format("{} is a JSON list of up to {} strings.", name, count_max)});
    return std::nullopt;
  }
  return items;
}

std::vector<Tag> ParamReader::tags() {
  std::vector<Tag> tags;
  for (const Params& members : structures("Tag")) {
    const auto key = members.find("Key");
    const auto value = members.find("Value");
    tags.push_back({key != members.end() ? key->second : std::string(),
                    value != members.end() ? value->second : std::string()});
  }
  return tags;
}

void ParamReader::refuse(Refusal refusal) {
  if (!problem_) problem_ = std::move(refusal);
}

std::uint64_t parameters_checksum(const Params& params) {
  std::string joined;
  for (const auto& [name, value] : params) {
    const bool common =
        std::any_of(kCommonNames.begin(), kCommonNames.end(),
                    [&wanted = name](std::string_view known) { return same_name(known, wanted); });
    if (common || value.empty()) continue;
    for (const char c : name) joined += lower(c);
    joined += fmt::format("={}:", value.size());
    joined += value;
    joined += '&';
  }
  return checksum64(as_bytes(joined));
}

}  // namespace clouddisk
