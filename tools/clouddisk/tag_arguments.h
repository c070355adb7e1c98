// tag_arguments.h: KEY=VALUE on the command line, as the Tag.N of an action, and back as text.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "tools/clouddisk/api_client.h"

namespace clouddisk::cli {

inline void set_tags(Params& params, const std::vector<std::string>& tags) {
  for (std::size_t i = 0; i < tags.size(); ++i) {
    const std::size_t equals = tags[i].find('=');
    const std::string prefix = fmt::format("Tag.{}.", i + 1);
    params[prefix + "Key"] = tags[i].substr(0, equals);
    params[prefix + "Value"] = equals == std::string::npos ? "" : tags[i].substr(equals + 1);
  }
}

// Of a resource as a Describe action shows it: "env=test, team=storage".
inline std::string tags_text(const Json& resource) {
  std::string out;
  const auto tags = resource.find("Tags");
  if (tags == resource.end() || !tags->is_object() || !tags->contains("Tag")) return out;
  for (const Json& tag : (*tags)["Tag"]) {
    if (!out.empty()) out += ", ";
    out += text_of(tag, "TagKey") + "=" + text_of(tag, "TagValue");
  }
  return out;
}

// The daemon's first region, where things are that say no other.
inline Outcome<std::string> home_region(const ApiClient& api) {
  auto answer = api.call("DescribeRegions", {});
  if (!answer) return answer.failure();
  return text_of((*answer)["Regions"]["Region"][0], "RegionId");
}

}  // namespace clouddisk::cli
