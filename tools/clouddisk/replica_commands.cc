#include <filesystem>

#include "engine/base/units.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

// 0 to 1; what is in sync is complete, what is failed has not begun.
double progress_of(const Json& replica) {
  const std::string state = text_of(replica, "State");
  if (state == "in-sync") return 1;
  const auto total = static_cast<double>(number_of(replica, "ResyncTotalBytes"));
  if (state != "resyncing" || total <= 0) return 0;
  return std::min(static_cast<double>(number_of(replica, "ResyncDoneBytes")) / total, 1.0);
}

double scrub_progress(const Json& scrub) {
  const auto total = static_cast<double>(number_of(scrub, "TotalBytes"));
  if (total <= 0) return 0;
  return std::min(static_cast<double>(number_of(scrub, "DoneBytes")) / total, 1.0);
}

Json scrub_json(const Json& replica) {
  const Json& scrub = replica["Scrub"];
  return {{"state", text_of(scrub, "State")},
          {"progress", scrub_progress(scrub)},
          {"last_complete", text_of(scrub, "LastComplete")},
          {"bad_blocks", number_of(scrub, "BadBlocks")},
          {"mended_blocks", number_of(scrub, "MendedBlocks")}};
}

// "41 %" while it runs, else when it was last complete.
std::string scrub_text(const Json& replica) {
  const Json& scrub = replica["Scrub"];
  const std::string state = text_of(scrub, "State");
  if (state == "running") return fmt::format("{:.0f} %", scrub_progress(scrub) * 100);
  if (state == "stopped") return fmt::format("stopped at {:.0f} %", scrub_progress(scrub) * 100);
  return text_of(scrub, "LastComplete");
}

// The form that the command contract promises to scripts.
Json status_json(const Json& replicas) {
  Json list = Json::array();
  for (const Json& replica : replicas) {
    list.push_back({{"replica", number_of(replica, "Replica")},
                    {"folder", text_of(replica, "Folder")},
                    {"state", text_of(replica, "State")},
                    {"generation", number_of(replica, "Generation")},
                    {"progress", progress_of(replica)},
                    {"resync_done_bytes", number_of(replica, "ResyncDoneBytes")},
                    {"resync_total_bytes", number_of(replica, "ResyncTotalBytes")},
                    {"faults", number_of(replica, "Faults")},
                    {"fault_hits", number_of(replica, "FaultHits")},
                    {"reason", text_of(replica, "Reason")},
                    {"scrub", scrub_json(replica)}});
  }
  return list;
}

std::string progress_text(const Json& replica) {
  const std::string state = text_of(replica, "State");
  if (state != "resyncing") return {};
  return fmt::format("{:.0f} % of {}", progress_of(replica) * 100,
                     format_bytes(number_of(replica, "ResyncTotalBytes")));
}

// Only what is worth a look.
std::string faults_text(const Json& replica) {
  const std::uint64_t set = number_of(replica, "Faults");
  const std::uint64_t hits = number_of(replica, "FaultHits");
  if (set == 0 && hits == 0) return {};
  return fmt::format("{} set, {} hits", set, hits);
}

std::string status_table(const Json& replicas) {
  Table table({{"REPLICA", true},
               {"FOLDER"},
               {"STATE"},
               {"GENERATION", true},
               {"PROGRESS"},
               {"SCRUBBED"},
               {"BAD", true},
               {"MENDED", true},
               {"FAULTS"},
               {"REASON"}});
  for (const Json& replica : replicas) {
    table.add_row(
        {text_of(replica, "Replica"), text_of(replica, "Folder"), text_of(replica, "State"),
         text_of(replica, "Generation"), progress_text(replica), scrub_text(replica),
         text_of(replica["Scrub"], "BadBlocks"), text_of(replica["Scrub"], "MendedBlocks"),
         faults_text(replica), text_of(replica, "Reason")});
  }
  return table.text();
}

void add_replace(CLI::App& replica, Session& session) {
  CLI::App* command = add_command(
      replica, "replace",
      "Put another folder in the place of a replica's, for good; it is brought up to date while "
      "disks go on",
      "  clouddisk replica replace 2 --with /mnt/new-disk/clouddisk\n"
      "  clouddisk replica status        # shows the progress");
  struct Arguments {
    unsigned number = 0;
    std::string folder;
  };
  auto arguments = std::make_shared<Arguments>();
  command->add_option("REPLICA", arguments->number, "Number of the replica, as status shows it")
      ->required()
      ->type_name("");
  command
      ->add_option("--with", arguments->folder,
                   "The new folder, empty or missing, with room for a replica")
      ->required()
      ->type_name("DIR");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    std::string folder = std::filesystem::absolute(arguments->folder).lexically_normal().string();
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    auto answer = api.call("ReplaceReplica",
                           {{"Replica", std::to_string(arguments->number)}, {"Folder", folder}});
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(fmt::format(
          "replica {} is in {} from now on, and is brought up to date; see: clouddisk replica "
          "status\n",
          arguments->number, folder));
    }
    return Done{};
  });
}

}  // namespace

void add_replica_commands(CLI::App& root, Session& session) {
  CLI::App* replica = add_noun(root, "replica", "The three copies of every block",
                               "  clouddisk replica status\n"
                               "  clouddisk replica resync 2\n"
                               "  clouddisk replica replace 2 --with /mnt/new-disk/clouddisk");
  CLI::App* status = add_command(*replica, "status", "Show the replica folders and their state",
                                 "  clouddisk replica status\n"
                                 "  clouddisk replica status --output json");
  on_call(status, session, [&session](const ApiClient& api) -> Verdict {
    auto answer = api.call("DescribeReplicas", {});
    if (!answer) return answer.failure();
    const Json& replicas = (*answer)["Replicas"]["Replica"];
    if (session.json()) {
      print_json(status_json(replicas));
    } else {
      print_text(status_table(replicas));
    }
    return Done{};
  });
  CLI::App* resync =
      add_command(*replica, "resync", "Bring a replica back into the set; disks go on meanwhile",
                  "  clouddisk replica resync 2\n"
                  "  clouddisk replica status        # shows the progress");
  auto number = std::make_shared<unsigned>(0);
  resync->add_option("REPLICA", *number, "Number of the replica, as status shows it")
      ->required()
      ->type_name("");
  on_call(resync, session, [number, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call("ResyncReplica", {{"Replica", std::to_string(*number)}});
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(
          fmt::format("resync of replica {} has begun; see: clouddisk replica status\n", *number));
    }
    return Done{};
  });
  add_replace(*replica, session);
}

}  // namespace clouddisk::cli
