// Automatic snapshot policies, and the disks that are under them.
#include <map>
#include <optional>

#include "tools/clouddisk/policy_schedule.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/clouddisk/tag_arguments.h"

namespace clouddisk::cli {
namespace {

using Texts = std::vector<std::string>;

// What `apply` makes where no policy is named, as the cloud's console does.
constexpr std::string_view kDefaultPolicy = "default_policy";
const Texts kDefaultTimes = {"6"};
const Texts kDefaultDays = {"all"};
constexpr std::string_view kDefaultRetention = "7";

struct Schedule {
  std::optional<std::string> name, retention, copy_to, copy_retention;
  Texts times, days;
};

void add_policy_schedule(CLI::App* command, Schedule& schedule, const std::string& of_default) {
  const auto purpose = [&of_default](const char* text, const char* otherwise) {
    return of_default.empty() ? std::string(text)
                              : fmt::format("{}; {} {}", text, of_default, otherwise);
  };
  command->add_option("--name", schedule.name, "2 to 128 characters, beginning with a letter")
      ->type_name("TEXT");
  command
      ->add_option("--time", schedule.times,
                   purpose("Hours of the day in UTC+8, as in 6,18 or 06:00; may be repeated", "6"))
      ->type_name("HOUR")
      ->delimiter(',')
      ->take_all()
      ->expected(1, -1)
      ->allow_extra_args(false);
  command
      ->add_option("--weekday", schedule.days,
                   purpose("Days, mon to sun, as in mon,fri, or all; may be repeated", "all"))
      ->type_name("DAY")
      ->delimiter(',')
      ->take_all()
      ->expected(1, -1)
      ->allow_extra_args(false);
  command
      ->add_option("--retention-days", schedule.retention,
                   purpose("How long each snapshot is kept, 1 to 65535, or forever", "7"))
      ->type_name("DAYS");
  command
      ->add_option("--copy-to", schedule.copy_to,
                   "Copy each snapshot to this region too, once it is captured; none: do not")
      ->type_name("REGION");
  command
      ->add_option("--copy-retention-days", schedule.copy_retention,
                   "How long each copy is kept, 1 to 65535, or forever, which is the default")
      ->type_name("DAYS");
}

// Those that are given.
Outcome<Params> schedule_params(const Schedule& schedule) {
  Params params;
  if (schedule.name) params["autoSnapshotPolicyName"] = *schedule.name;
  if (!schedule.times.empty()) {
    auto times = time_points_of(schedule.times);
    if (!times) return times.failure();
    params["timePoints"] = *times;
  }
  if (!schedule.days.empty()) {
    auto days = weekdays_of(schedule.days);
    if (!days) return days.failure();
    params["repeatWeekdays"] = *days;
  }
  if (schedule.retention) {
    auto retention = retention_of(*schedule.retention);
    if (!retention) return retention.failure();
    params["retentionDays"] = *retention;
  }
  if (schedule.copy_to) {
    const bool copies = *schedule.copy_to != "none";
    params["EnableCrossRegionCopy"] = copies ? "true" : "false";
    if (copies) params["TargetCopyRegions"] = Json::array({*schedule.copy_to}).dump();
  }
  if (schedule.copy_retention) {
    auto retention = retention_of(*schedule.copy_retention);
    if (!retention) return retention.failure();
    params["CopiedSnapshotsRetentionDays"] = *retention;
  }
  return params;
}

void fill_defaults(Schedule& schedule) {
  if (schedule.times.empty()) schedule.times = kDefaultTimes;
  if (schedule.days.empty()) schedule.days = kDefaultDays;
  if (!schedule.retention) schedule.retention = std::string(kDefaultRetention);
}

void add_policy_id(CLI::App* command, std::string& id) {
  command->add_option("POLICY", id, "The policy's id, sp-…")->required()->type_name("");
}

Outcome<Json> describe_policy(const ApiClient& api, const std::string& id) {
  auto answer = api.call("DescribeAutoSnapshotPolicyEx", {{"AutoSnapshotPolicyId", id}});
  if (!answer) return answer.failure();
  const Json& found = (*answer)["AutoSnapshotPolicies"]["AutoSnapshotPolicy"];
  if (!found.is_array() || found.empty()) {
    return Failure{"InvalidAutoSnapshotPolicyId.NotFound",
                   fmt::format("There is no policy '{}'; see: clouddisk policy list", id)};
  }
  return Json(found[0]);
}

// The disks' ids as the API takes them, by region.
Outcome<std::map<std::string, Json>> disks_by_region(const ApiClient& api, const Texts& disks) {
  std::map<std::string, Json> by_region;
  for (const std::string& id : disks) {
    auto disk = api.disk(id);
    if (!disk) return disk.failure();
    Json& ids = by_region[text_of(*disk, "RegionId")];
    ids.push_back(id);
  }
  return by_region;
}

// The region's default policy, which is made when there is none.
Outcome<std::string> default_policy(const ApiClient& api, const std::string& region) {
  auto answer =
      api.call("DescribeAutoSnapshotPolicyEx",
               {{"RegionId", region}, {"AutoSnapshotPolicyName", std::string(kDefaultPolicy)}});
  if (!answer) return answer.failure();
  const Json& found = (*answer)["AutoSnapshotPolicies"]["AutoSnapshotPolicy"];
  if (found.is_array() && !found.empty()) return text_of(found[0], "AutoSnapshotPolicyId");
  Schedule schedule;
  schedule.name = std::string(kDefaultPolicy);
  fill_defaults(schedule);
  auto params = schedule_params(schedule);
  if (!params) return params.failure();
  (*params)["RegionId"] = region;
  auto made = api.call("CreateAutoSnapshotPolicy", *params);
  if (!made) return made.failure();
  return text_of(*made, "AutoSnapshotPolicyId");
}

void add_policy_create(CLI::App& policy, Session& session) {
  struct Arguments {
    Schedule schedule;
    Texts tags;
    std::optional<std::string> region;
  };
  CLI::App* command = add_command(
      policy, "create", "Make a policy and print its id; no disk is under it yet",
      "  clouddisk policy create                      # daily at 06:00, kept for 7 days\n"
      "  clouddisk policy create --name nightly --time 2 --retention-days 30\n"
      "  clouddisk policy create --time 8,12,18 --weekday mon,tue,wed,thu,fri\n"
      "  clouddisk policy create --weekday sun --retention-days forever --tag keep=yes\n"
      "  clouddisk policy create --copy-to eu-central-1 --copy-retention-days 30");
  auto arguments = std::make_shared<Arguments>();
  add_policy_schedule(command, arguments->schedule, "default");
  add_tags(command, arguments->tags);
  command->add_option("--region", arguments->region, "Region of its disks; default: the first")
      ->type_name("NAME");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    fill_defaults(arguments->schedule);
    auto params = schedule_params(arguments->schedule);
    if (!params) return params.failure();
    set_tags(*params, arguments->tags);
    if (arguments->region) (*params)["RegionId"] = *arguments->region;
    auto answer = api.call("CreateAutoSnapshotPolicy", *params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(text_of(*answer, "AutoSnapshotPolicyId") + "\n");
    }
    return Done{};
  });
}

void add_policy_list(CLI::App& policy, Session& session) {
  struct Arguments {
    bool without_disks = false;
    bool ids_only = false;
  };
  CLI::App* command = add_command(policy, "list", "Show every policy",
                                  "  clouddisk policy list\n"
                                  "  clouddisk policy list --without-disks\n"
                                  "  clouddisk disk list --without-policy");
  auto arguments = std::make_shared<Arguments>();
  command->add_flag("--without-disks", arguments->without_disks,
                    "Only those that no disk is under");
  command->add_flag("--ids", arguments->ids_only, "Print the ids alone, one a line");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call_all("DescribeAutoSnapshotPolicyEx", {}, "AutoSnapshotPolicies",
                               "AutoSnapshotPolicy");
    if (!answer) return answer.failure();
    Json& policies = (*answer)["AutoSnapshotPolicies"]["AutoSnapshotPolicy"];
    if (arguments->without_disks) {
      Json idle = Json::array();
      for (const Json& one : policies) {
        if (number_of(one, "DiskNums") == 0) idle.push_back(one);
      }
      (*answer)["TotalCount"] = idle.size();
      policies = std::move(idle);
    }
    if (session.json() && !arguments->ids_only) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"POLICY"},
                 {"NAME"},
                 {"TIMES (UTC+8)"},
                 {"DAYS"},
                 {"KEPT", true},
                 {"DISKS", true},
                 {"NEXT"}});
    for (const Json& one : policies) {
      if (arguments->ids_only) print_text(text_of(one, "AutoSnapshotPolicyId") + "\n");
      table.add_row({text_of(one, "AutoSnapshotPolicyId"), text_of(one, "AutoSnapshotPolicyName"),
                     times_text(one), weekdays_text(one), kept_text(one), text_of(one, "DiskNums"),
                     text_of(one, "NextTime")});
    }
    if (!arguments->ids_only) print_text(table.text());
    return Done{};
  });
}

void add_policy_show(CLI::App& policy, Session& session) {
  CLI::App* command = add_command(policy, "show", "Show a policy and the disks that are under it",
                                  "  clouddisk policy show sp-bp1example");
  auto id = std::make_shared<std::string>();
  add_policy_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto found = describe_policy(api, *id);
    if (!found) return found.failure();
    if (session.json()) {
      print_json(*found);
      return Done{};
    }
    auto disks = api.call_all("DescribeDisks", {{"AutoSnapshotPolicyId", *id}}, "Disks", "Disk");
    if (!disks) return disks.failure();
    const Json& one = *found;
    std::vector<std::pair<std::string, std::string>> fields = {
        {"id", text_of(one, "AutoSnapshotPolicyId")},
        {"name", text_of(one, "AutoSnapshotPolicyName")},
        {"region", text_of(one, "RegionId")},
        {"times (UTC+8)", times_text(one)},
        {"days", weekdays_text(one)},
        {"snapshots are kept", kept_text(one)},
        {"copied to", copies_text(one)},
        {"next", text_of(one, "NextTime")},
        {"created", text_of(one, "CreationTime")},
        {"tags", tags_text(one)}};
    for (const Json& disk : (*disks)["Disks"]["Disk"]) {
      const std::string name = text_of(disk, "DiskName");
      fields.emplace_back("disk",
                          text_of(disk, "DiskId") + (name.empty() ? "" : " (" + name + ")"));
    }
    print_text(fields_text(fields));
    return Done{};
  });
}

void add_policy_modify(CLI::App& policy, Session& session) {
  struct Arguments {
    std::string id;
    Schedule schedule;
  };
  CLI::App* command = add_command(
      policy, "modify", "Change a policy; snapshots that are there keep their retention",
      "  clouddisk policy modify sp-bp1example --time 2,14\n"
      "  clouddisk policy modify sp-bp1example --retention-days forever\n"
      "  clouddisk policy modify sp-bp1example --copy-to none");
  auto arguments = std::make_shared<Arguments>();
  add_policy_id(command, arguments->id);
  add_policy_schedule(command, arguments->schedule, "");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto params = schedule_params(arguments->schedule);
    if (!params) return params.failure();
    if (params->empty()) {
      return refuse(kWrongUsage,
                    "Nothing to change: give --name, --time, --weekday, --retention-days, "
                    "--copy-to or --copy-retention-days");
    }
    (*params)["autoSnapshotPolicyId"] = arguments->id;
    auto answer = api.call("ModifyAutoSnapshotPolicyEx", *params);
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

struct DisksAndPolicy {
  Texts disks;
  std::optional<std::string> policy;
};

CLI::Option* add_policy_disks(CLI::App* command, DisksAndPolicy& arguments) {
  return command->add_option("DISK", arguments.disks, "Ids of disks, d-…")
      ->required()
      ->type_name("");
}

void add_policy_apply(CLI::App& policy, Session& session) {
  CLI::App* command = add_command(
      policy, "apply", "Put disks under a policy, in the place of the one they are under",
      "  clouddisk policy apply d-bp1example --policy sp-bp1example\n"
      "  clouddisk policy apply d-bp1example d-bp2example    # daily at 06:00, 7 days");
  auto arguments = std::make_shared<DisksAndPolicy>();
  add_policy_disks(command, *arguments);
  command
      ->add_option("--policy", arguments->policy,
                   "The policy's id; default: the one named default_policy, which is made if need "
                   "be: daily at 06:00, kept for 7 days")
      ->type_name("ID");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto by_region = disks_by_region(api, arguments->disks);
    if (!by_region) return by_region.failure();
    for (const auto& [region, ids] : *by_region) {
      std::string id = arguments->policy.value_or("");
      if (id.empty()) {
        auto found = default_policy(api, region);
        if (!found) return found.failure();
        id = *found;
      }
      auto answer =
          api.call("ApplyAutoSnapshotPolicy",
                   {{"RegionId", region}, {"autoSnapshotPolicyId", id}, {"diskIds", ids.dump()}});
      if (!answer) return answer.failure();
      if (session.json()) print_json(*answer);
    }
    return Done{};
  });
}

void add_policy_cancel(CLI::App& policy, Session& session) {
  CLI::App* command =
      add_command(policy, "cancel", "Take disks from under their policies; their snapshots stay",
                  "  clouddisk policy cancel d-bp1example d-bp2example\n"
                  "  clouddisk policy cancel d-bp1example --policy sp-bp1example");
  auto arguments = std::make_shared<DisksAndPolicy>();
  add_policy_disks(command, *arguments);
  command->add_option("--policy", arguments->policy, "Only this one; default: all of theirs")
      ->type_name("ID");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"diskIds", Json(arguments->disks).dump()}};
    if (arguments->policy) params["autoSnapshotPolicyId"] = *arguments->policy;
    auto answer = api.call("CancelAutoSnapshotPolicy", params);
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

void add_policy_delete(CLI::App& policy, Session& session) {
  CLI::App* command = add_command(
      policy, "delete", "Delete a policy; snapshots that it took stay, and keep their retention",
      "  clouddisk policy delete sp-bp1example");
  auto id = std::make_shared<std::string>();
  add_policy_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call("DeleteAutoSnapshotPolicy", {{"autoSnapshotPolicyId", *id}});
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

}  // namespace

void add_policy_commands(CLI::App& root, Session& session) {
  CLI::App* policy = add_noun(
      root, "policy", "Policies, by which snapshots of disks are taken and go by themselves",
      "  clouddisk policy create --name nightly --time 2 --retention-days 30\n"
      "  clouddisk policy apply d-bp1example --policy sp-bp1example\n"
      "  clouddisk policy list");
  add_policy_create(*policy, session);
  add_policy_list(*policy, session);
  add_policy_show(*policy, session);
  add_policy_modify(*policy, session);
  add_policy_apply(*policy, session);
  add_policy_cancel(*policy, session);
  add_policy_delete(*policy, session);
}

}  // namespace clouddisk::cli
