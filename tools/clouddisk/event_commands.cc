// What happened to disks, and how they are.
#include <chrono>
#include <optional>

#include "engine/control/outcome.h"
#include "engine/monitor/disk_event.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/net/quantity.h"

namespace clouddisk::cli {
namespace {

std::string event_type_names() {
  std::string names;
  for (const EventKind& kind : kEventKinds) {
    if (!names.empty()) names += ", ";
    names += kind.name;
  }
  return names;
}

void add_event_list(CLI::App& event, Session& session) {
  struct Arguments {
    std::optional<std::string> disk, type, last;
    bool going_on = false;
  };
  CLI::App* command =
      add_command(event, "list", "Show what happened to disks, newest first",
                  "  clouddisk event list\n"
                  "  clouddisk event list --disk d-bp1example --last 7d\n"
                  "  clouddisk event list --type Degraded --going-on --output json");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--disk", arguments->disk, "Of this disk only")->type_name("ID");
  command->add_option("--type", arguments->type, "Of this type only: " + event_type_names())
      ->type_name("TYPE");
  command
      ->add_option("--last", arguments->last,
                   "What began in this time, as in 12h or 7d; default: all that is kept, 30 days")
      ->type_name("TIME");
  command->add_flag("--going-on", arguments->going_on, "Only what is not over");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->disk) params["DiskId"] = *arguments->disk;
    if (arguments->type) params["EventType"] = *arguments->type;
    if (arguments->going_on) params["GoesOn"] = "true";
    if (arguments->last) {
      auto last = parse_duration(*arguments->last);
      if (!last) return refuse(kWrongUsage, "--last: {}", last.error().message);
      params["EventTime.Start"] = iso_time(std::chrono::system_clock::now() - *last);
    }
    auto answer = api.call_all("DescribeDiskEvents", params, "Events", "Event");
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"BEGAN"}, {"ENDED"}, {"DISK"}, {"TYPE"}, {"REASON"}});
    for (const Json& one : (*answer)["Events"]["Event"]) {
      const std::string ended = text_of(one, "EventEndTime");
      table.add_row({text_of(one, "EventTime"), ended.empty() ? "goes on" : ended,
                     text_of(one, "DiskId"), text_of(one["EventType"], "Name"),
                     text_of(one, "Reason")});
    }
    print_text(table.text());
    return Done{};
  });
}

void add_event_status(CLI::App& event, Session& session) {
  CLI::App* command =
      add_command(event, "status", "Show the health of every disk, and what goes on",
                  "  clouddisk event status\n"
                  "  clouddisk event status --health Impaired --output json");
  auto health = std::make_shared<std::string>();
  command
      ->add_option("--health", *health, "Only disks that are Ok, Warning, Impaired or Initializing")
      ->type_name("HEALTH");
  on_call(command, session, [health, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (!health->empty()) params["HealthStatus"] = *health;
    auto answer =
        api.call_all("DescribeDisksFullStatus", params, "DiskFullStatusSet", "DiskFullStatusType");
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"DISK"}, {"STATUS"}, {"HEALTH"}, {"GOES ON"}});
    for (const Json& disk : (*answer)["DiskFullStatusSet"]["DiskFullStatusType"]) {
      std::string going_on;
      for (const Json& one : disk["DiskEventSet"]["DiskEventType"]) {
        if (!going_on.empty()) going_on += ", ";
        going_on += fmt::format("{} since {}", text_of(one["EventType"], "Name"),
                                text_of(one, "EventTime"));
      }
      table.add_row({text_of(disk, "DiskId"), text_of(disk["Status"], "Name"),
                     text_of(disk["HealthStatus"], "Name"), going_on});
    }
    print_text(table.text());
    return Done{};
  });
}

}  // namespace

void add_event_commands(CLI::App& root, Session& session) {
  CLI::App* event = add_noun(root, "event", "What happened to disks in the last 30 days",
                             "  clouddisk event list --last 1d\n"
                             "  clouddisk event status");
  add_event_list(*event, session);
  add_event_status(*event, session);
}

}  // namespace clouddisk::cli
