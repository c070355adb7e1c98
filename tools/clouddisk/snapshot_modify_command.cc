// snapshot_modify_command.cc: what a snapshot is called, and how long it stays.
#include <optional>

#include "tools/clouddisk/session.h"

namespace clouddisk::cli {

void add_snapshot_modify(CLI::App& parent, Session& session) {
  struct Arguments {
    std::string snapshot;
    std::optional<std::string> name, description, retention;
  };
  CLI::App* command =
      add_command(parent, "modify", "Change a snapshot's name or description, or keep it longer",
                  "  clouddisk snapshot modify s-bp1example --name before-upgrade\n"
                  "  clouddisk snapshot modify s-bp1example --description 'of the old release' "
                  "--retention-days 90");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("SNAPSHOT", arguments->snapshot, "The snapshot's id, s-…")
      ->required()
      ->type_name("");
  command->add_option("--name", arguments->name, "New name, as for create")->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  command
      ->add_option("--retention-days", arguments->retention,
                   "From its creation on, up to 65536; not fewer than it has")
      ->type_name("DAYS");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    if (!arguments->name && !arguments->description && !arguments->retention) {
      return refuse("MissingParameter",
                    "Nothing to change: give --name, --description or --retention-days");
    }
    Params params{{"SnapshotId", arguments->snapshot}};
    if (arguments->name) params["SnapshotName"] = *arguments->name;
    if (arguments->description) params["Description"] = *arguments->description;
    if (arguments->retention) params["RetentionDays"] = *arguments->retention;
    auto answer = api.call("ModifySnapshotAttribute", params);
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

}  // namespace clouddisk::cli
