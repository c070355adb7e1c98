// snapshot_copy_command.cc: a snapshot's copy in another region.
#include <optional>

#include "tools/clouddisk/snapshot_lookup.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {

void add_snapshot_copy(CLI::App& parent, Session& session) {
  struct Arguments {
    std::string snapshot, region;
    std::optional<std::string> name, description, retention;
    bool wait = false;
  };
  CLI::App* command = add_command(
      parent, "copy", "Copy a snapshot to another region and print the copy's id",
      "  clouddisk snapshot copy s-bp1example --to-region cn-shanghai --name offsite\n"
      "  clouddisk snapshot copy s-bp1example --to-region cn-shanghai --retention-days 30 --wait");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("SNAPSHOT", arguments->snapshot, "The snapshot's id, s-…")
      ->required()
      ->type_name("");
  command->add_option("--to-region", arguments->region, "A region of the daemon, not its own")
      ->required()
      ->type_name("REGION");
  command->add_option("--name", arguments->name, "Of the copy; as for create")->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  command
      ->add_option("--retention-days", arguments->retention,
                   "Of the copy, 1 to 65536; default: for ever, whatever the snapshot's")
      ->type_name("DAYS");
  command->add_flag("--wait", arguments->wait, "Return when it no longer depends on the snapshot");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"SnapshotId", arguments->snapshot}, {"DestinationRegionId", arguments->region}};
    if (arguments->name) params["DestinationSnapshotName"] = *arguments->name;
    if (arguments->description) params["DestinationSnapshotDescription"] = *arguments->description;
    if (arguments->retention) params["RetentionDays"] = *arguments->retention;
    auto answer = api.call("CopySnapshot", params);
    if (!answer) return answer.failure();
    const std::string id = text_of(*answer, "SnapshotId");
    if (arguments->wait) {
      if (auto done = wait_until_captured(api, id); !done) return done.failure();
    }
    return print_answer(session, *answer, "SnapshotId");
  });
}

}  // namespace clouddisk::cli
