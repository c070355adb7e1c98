// Reading every copy of everything, and mending what is damaged.
#include <chrono>
#include <thread>

#include "engine/base/units.h"
#include "tools/clouddisk/progress.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/net/quantity.h"

namespace clouddisk::cli {
namespace {

constexpr std::chrono::milliseconds kPoll{500};

std::string pass_text(const Json& pass) {
  std::vector<std::pair<std::string, std::string>> fields;
  fields.emplace_back("begun", text_of(pass, "Begun"));
  fields.emplace_back("ended", text_of(pass, "Ended"));
  fields.emplace_back("lost blocks", text_of(pass, "LostBlocks"));
  fields.emplace_back("unread storages", text_of(pass, "UnreadStorages"));
  fields.emplace_back("damaged indexes", text_of(pass, "IndexesDamaged"));
  Table table({{"REPLICA", true}, {"READ", true}, {"BAD BLOCKS", true}, {"MENDED", true}});
  for (const Json& replica : pass["Replicas"]["Replica"]) {
    table.add_row({text_of(replica, "Replica"), format_bytes(number_of(replica, "CheckedBytes")),
                   text_of(replica, "BadBlocks"), text_of(replica, "MendedBlocks")});
  }
  std::string text = fields_text(fields) + table.text();
  if (pass["Losses"]["Loss"].empty()) return text;
  Table losses({{"LOST ON"}, {"SEGMENT", true}, {"OFFSET", true}, {"BYTES", true}});
  for (const Json& loss : pass["Losses"]["Loss"]) {
    losses.add_row({text_of(loss, "Storage"), text_of(loss, "Segment"), text_of(loss, "Offset"),
                    text_of(loss, "Bytes")});
  }
  return text + losses.text();
}

std::string report_text(const Json& scrub) {
  const std::string status = text_of(scrub, "Status");
  std::string text = "scrub: " + status + "\n";
  if (status != "idle") {
    text += bar_text(number_of(scrub, "DoneBytes"), number_of(scrub, "TotalBytes")) + "\n";
    text += "\nthis pass\n" + pass_text(scrub["Current"]);
  }
  if (scrub.contains("Last")) {
    text += "\nlast pass\n" + pass_text(scrub["Last"]);
  }
  const std::string complete = text_of(scrub, "LastComplete");
  text += complete.empty() ? "no pass was ever complete\n" : "last complete: " + complete + "\n";
  const std::string next = text_of(scrub, "Next");
  return text + "\nnext by itself: " + (next.empty() ? "never" : next) + "\n";
}

// Until the pass ends; it fails if content is lost.
Verdict wait_for_end(const ApiClient& api, const Session& session) {
  ProgressLine line;
  while (true) {
    auto scrub = api.call("DescribeScrub", {});
    if (!scrub) return scrub.failure();
    const std::string status = text_of(*scrub, "Status");
    if (status == "running") {
      line.show(number_of(*scrub, "DoneBytes"), number_of(*scrub, "TotalBytes"));
      std::this_thread::sleep_for(kPoll);
      continue;
    }
    if (status == "stopped") return refuse("ScrubStopped", "It was stopped; start goes on with it");
    if (session.json()) {
      print_json(*scrub);
    } else {
      print_text(pass_text((*scrub)["Last"]));
    }
    if (number_of((*scrub)["Last"], "LostBlocks") > 0) {
      return refuse("ContentLost",
                    "{} blocks have no good copy left; what they were is listed above and in the "
                    "daemon's log",
                    number_of((*scrub)["Last"], "LostBlocks"));
    }
    if (number_of((*scrub)["Last"], "UnreadStorages") > 0) {
      return refuse("Incomplete",
                    "{} storages could not be read to their end; the daemon's log says "
                    "which and why",
                    number_of((*scrub)["Last"], "UnreadStorages"));
    }
    return Done{};
  }
}

void add_start(CLI::App& scrub, Session& session) {
  CLI::App* command = add_command(
      scrub, "start", "Begin a pass, or go on with one that was stopped; disks go on meanwhile",
      "  clouddisk scrub start\n"
      "  clouddisk scrub start --rate 50M\n"
      "  clouddisk scrub start --rate 0 --wait");
  struct Arguments {
    std::optional<std::string> rate;
    bool wait = false;
  };
  auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("--rate", arguments->rate,
                   "Bytes a second read of all replicas together, at most, as in 50M, at least 1M; "
                   "0: no limit; default: the daemon's. Also changes the pass under way")
      ->type_name("SIZE");
  command->add_flag(
      "--wait", arguments->wait,
      "Wait for the end of the pass, and fail if content is lost or could not be read");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->rate) {
      auto rate = parse_size(*arguments->rate);
      if (!rate) return refuse(kWrongUsage, "--rate: {}", rate.error().message);
      params["BytesPerSecond"] = std::to_string(*rate);
    }
    auto started = api.call("StartScrub", params);
    if (!started) return started.failure();
    if (arguments->wait) return wait_for_end(api, session);
    if (session.json()) {
      print_json(*started);
    } else {
      print_text("scrub runs; see: clouddisk scrub status\n");
    }
    return Done{};
  });
}

}  // namespace

void add_scrub_commands(CLI::App& root, Session& session) {
  CLI::App* scrub =
      add_noun(root, "scrub", "Read every copy of everything, and mend what is damaged",
               "  clouddisk scrub start --wait\n"
               "  clouddisk scrub status");
  add_start(*scrub, session);
  CLI::App* status = add_command(*scrub, "status", "Show how far it is, and what it found",
                                 "  clouddisk scrub status\n"
                                 "  clouddisk scrub status --output json");
  on_call(status, session, [&session](const ApiClient& api) -> Verdict {
    auto answer = api.call("DescribeScrub", {});
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(report_text(*answer));
    }
    return Done{};
  });
  CLI::App* stop = add_command(*scrub, "stop", "Stop the pass where it is; start goes on with it",
                               "  clouddisk scrub stop");
  on_call(stop, session, [&session](const ApiClient& api) -> Verdict {
    auto answer = api.call("StopScrub", {});
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text("scrub is stopped\n");
    }
    return Done{};
  });
}

}  // namespace clouddisk::cli
