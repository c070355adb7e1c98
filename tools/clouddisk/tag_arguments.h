// tag_arguments.h: KEY=VALUE on the command line, as the Tag.N of an action, and back as text.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "tools/clouddisk/api_client.h"

namespace clouddisk::cli {

// Of what is made: up to 20. Of a search: they all hold, and a key alone stands for any value.
inline CLI::Option* add_tags(CLI::App* command, std::vector<std::string>& tags) {
  return command->add_option("--tag", tags, "A tag; may be given up to 20 times")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->expected(1);
}
inline CLI::Option* add_tag_search(CLI::App* command, std::vector<std::string>& tags) {
  return command
      ->add_option("--tag", tags,
                   "Only what has this tag; the key alone for any value; may be repeated")
      ->type_name("KEY[=VALUE]")
      ->take_all()
      ->expected(1);
}

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
