// Tags: pairs of key and value on disks, snapshots, snapshot groups, instances, images and snapshot
// policies.
#include <map>
#include <optional>

#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/clouddisk/tag_arguments.h"

namespace clouddisk::cli {
namespace {

// What an id's prefix says.
Outcome<std::string> type_of(const std::string& id) {
  static const std::map<std::string, std::string> kTypes = {
      {"d", "disk"},     {"s", "snapshot"}, {"ssg", "snapshotgroup"},
      {"i", "instance"}, {"m", "image"},    {"sp", "snapshotpolicy"}};
  const auto at = kTypes.find(id.substr(0, id.find('-')));
  if (at != kTypes.end()) return at->second;
  return refuse("InvalidResourceId.NotFound",
                "'{}' is no id of a disk (d-…), a snapshot (s-…), a snapshot group (ssg-…), an "
                "instance (i-…), an image (m-…) or a snapshot policy (sp-…)",
                id);
}

struct Target {
  std::vector<std::string> ids;
  std::optional<std::string> region;
};

void add_ids(CLI::App* command, Target& target, bool needed) {
  CLI::Option* ids =
      command->add_option("RESOURCE", target.ids,
                          "Ids of disks, snapshots, snapshot groups, instances, images, policies");
  ids->type_name("");
  if (needed) ids->required();
  command->add_option("--region", target.region, "Where they are; default: the daemon's first")
      ->type_name("NAME");
}

// One request for each type of resource; `use` sees each answer.
template <class Use>
Verdict for_each_type(const ApiClient& api, const Target& target, const std::string& action,
                      const Params& parameters, Use use) {
  std::map<std::string, std::vector<std::string>> by_type;
  for (const std::string& id : target.ids) {
    auto type = type_of(id);
    if (!type) return type.failure();
    by_type[*type].push_back(id);
  }
  std::string region = target.region.value_or("");
  if (region.empty()) {
    auto home = home_region(api);
    if (!home) return home.failure();
    region = *home;
  }
  for (const auto& [type, ids] : by_type) {
    Params params = parameters;
    params["RegionId"] = region;
    params["ResourceType"] = type;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      params[fmt::format("ResourceId.{}", i + 1)] = ids[i];
    }
    while (true) {
      auto answer = api.call(action, params);
      if (!answer) return answer.failure();
      use(*answer);
      const std::string next = text_of(*answer, "NextToken");
      if (next.empty()) break;
      params["NextToken"] = next;
    }
  }
  return Done{};
}

void add_tag_set(CLI::App& tag, Session& session) {
  struct Arguments {
    Target target;
    std::vector<std::string> tags;
  };
  CLI::App* command =
      add_command(tag, "set", "Give resources tags; a key that is there takes the new value",
                  "  clouddisk tag set d-bp1example --tag env=test\n"
                  "  clouddisk tag set d-bp1example s-bp1example i-local --tag team=storage");
  auto arguments = std::make_shared<Arguments>();
  add_ids(command, arguments->target, true);
  add_tags(command, arguments->tags)->required();
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    set_tags(params, arguments->tags);
    return for_each_type(api, arguments->target, "TagResources", params, [&](const Json& answer) {
      if (session.json()) print_json(answer);
    });
  });
}

void add_tag_remove(CLI::App& tag, Session& session) {
  struct Arguments {
    Target target;
    std::vector<std::string> keys;
    bool all = false;
  };
  CLI::App* command = add_command(tag, "remove", "Take tags off resources",
                                  "  clouddisk tag remove d-bp1example --key env --key team\n"
                                  "  clouddisk tag remove i-local --all");
  auto arguments = std::make_shared<Arguments>();
  add_ids(command, arguments->target, true);
  CLI::Option* keys =
      command->add_option("--key", arguments->keys, "The tag's key; may be given up to 20 times")
          ->type_name("KEY")
          ->take_all()
          ->expected(1);
  command->add_flag("--all", arguments->all, "Every tag that they have")->excludes(keys);
  command->parse_complete_callback([arguments] {
    if (arguments->keys.empty() && !arguments->all) throw CLI::RequiredError("--key or --all");
  });
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->all) params["All"] = "true";
    for (std::size_t i = 0; i < arguments->keys.size(); ++i) {
      params[fmt::format("TagKey.{}", i + 1)] = arguments->keys[i];
    }
    return for_each_type(api, arguments->target, "UntagResources", params, [&](const Json& answer) {
      if (session.json()) print_json(answer);
    });
  });
}

Verdict list_of_resources(const ApiClient& api, const Target& target, bool json) {
  Json all = Json::array();
  auto listed = for_each_type(api, target, "ListTagResources", {}, [&all](Json& answer) {
    for (Json& one : answer["TagResources"]["TagResource"]) all.push_back(std::move(one));
  });
  if (!listed) return listed;
  if (json) {
    print_json({{"TagResources", {{"TagResource", all}}}});
    return Done{};
  }
  Table table({{"RESOURCE"}, {"TYPE"}, {"KEY"}, {"VALUE"}});
  for (const Json& one : all) {
    table.add_row({text_of(one, "ResourceId"), text_of(one, "ResourceType"), text_of(one, "TagKey"),
                   text_of(one, "TagValue")});
  }
  print_text(table.text());
  return Done{};
}

Verdict list_in_use(const ApiClient& api, const std::optional<std::string>& region, bool json) {
  Params params;
  if (region) params["RegionId"] = *region;
  auto answer = api.call_all("DescribeTags", params, "Tags", "Tag");
  if (!answer) return answer.failure();
  if (json) {
    print_json(*answer);
    return Done{};
  }
  Table table({{"KEY"},
               {"VALUE"},
               {"DISKS", true},
               {"SNAPSHOTS", true},
               {"GROUPS", true},
               {"INSTANCES", true},
               {"IMAGES", true},
               {"POLICIES", true}});
  for (const Json& one : (*answer)["Tags"]["Tag"]) {
    const Json& counts = one["ResourceTypeCount"];
    const auto count = [&counts](const char* type) {
      const std::uint64_t number = number_of(counts, type);
      return number == 0 ? std::string() : with_thousands(number);
    };
    table.add_row({text_of(one, "TagKey"), text_of(one, "TagValue"), count("Disk"),
                   count("Snapshot"), count("SnapshotGroup"), count("Instance"), count("Image"),
                   count("SnapshotPolicy")});
  }
  print_text(table.text());
  return Done{};
}

void add_tag_list(CLI::App& tag, Session& session) {
  CLI::App* command =
      add_command(tag, "list", "Show the tags of resources; without any, every tag that is in use",
                  "  clouddisk tag list\n"
                  "  clouddisk tag list d-bp1example i-local");
  auto target = std::make_shared<Target>();
  add_ids(command, *target, false);
  on_call(command, session, [target, &session](const ApiClient& api) -> Verdict {
    if (target->ids.empty()) return list_in_use(api, target->region, session.json());
    return list_of_resources(api, *target, session.json());
  });
}

void add_tag_find(CLI::App& tag, Session& session) {
  struct Arguments {
    std::vector<std::string> tags;
    std::optional<std::string> type, region;
    bool ids_only = false;
  };
  CLI::App* command =
      add_command(tag, "find", "Show the resources that have every one of some tags",
                  "  clouddisk tag find --tag env=test\n"
                  "  clouddisk tag find --tag env --type disk --ids");
  auto arguments = std::make_shared<Arguments>();
  add_tag_search(command, arguments->tags)->required();
  command
      ->add_option("--type", arguments->type,
                   "disk, snapshot, snapshotgroup, instance, image or snapshotpolicy; default: all")
      ->type_name("TYPE");
  command->add_option("--region", arguments->region, "Only those of this region")
      ->type_name("NAME");
  command->add_flag("--ids", arguments->ids_only, "Print the ids alone, one a line");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    set_tags(params, arguments->tags);
    if (arguments->type) params["ResourceType"] = *arguments->type;
    if (arguments->region) params["RegionId"] = *arguments->region;
    auto answer = api.call_all("DescribeResourceByTags", params, "Resources", "Resource");
    if (!answer) return answer.failure();
    if (session.json() && !arguments->ids_only) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"RESOURCE"}, {"TYPE"}, {"REGION"}});
    for (const Json& one : (*answer)["Resources"]["Resource"]) {
      if (arguments->ids_only) print_text(text_of(one, "ResourceId") + "\n");
      table.add_row(
          {text_of(one, "ResourceId"), text_of(one, "ResourceType"), text_of(one, "RegionId")});
    }
    if (!arguments->ids_only) print_text(table.text());
    return Done{};
  });
}

}  // namespace

void add_tag_commands(CLI::App& root, Session& session) {
  CLI::App* tag = add_noun(root, "tag", "Tags: set, remove, list, and find what has them",
                           "  clouddisk tag set d-bp1example --tag env=test\n"
                           "  clouddisk tag find --tag env=test");
  add_tag_set(*tag, session);
  add_tag_remove(*tag, session);
  add_tag_list(*tag, session);
  add_tag_find(*tag, session);
}

}  // namespace clouddisk::cli
