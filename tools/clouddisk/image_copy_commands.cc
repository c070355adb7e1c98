// image_copy_commands.cc: an image's copy in another region, and giving it up.
#include <optional>

#include "tools/clouddisk/snapshot_lookup.h"
#include "tools/clouddisk/table.h"
#include "tools/clouddisk/tag_arguments.h"

namespace clouddisk::cli {
namespace {

Verdict wait_until_copied(const ApiClient& api, const std::string& id) {
  const Params wanted{{"ImageId", id}, {"Status", "Creating,Available,CreateFailed"}};
  auto answer = api.call("DescribeImages", wanted);
  if (!answer) return answer.failure();
  for (const Json& image : (*answer)["Images"]["Image"]) {
    for (const Json& part : image["DiskDeviceMappings"]["DiskDeviceMapping"]) {
      const std::string snapshot = text_of(part, "SnapshotId");
      if (snapshot.empty()) continue;
      if (auto done = wait_until_captured(api, snapshot); !done) return done.failure();
    }
  }
  return Done{};
}

void add_copy(CLI::App& image, Session& session) {
  struct Arguments {
    std::string image, region;
    std::optional<std::string> name, description;
    std::vector<std::string> tags;
    bool wait = false;
  };
  CLI::App* command =
      add_command(image, "copy", "Copy an image to another region of the daemon; print its id",
                  "  clouddisk image copy m-bp1example --to-region cn-shanghai --name web\n"
                  "  clouddisk image copy m-bp1example --to-region cn-shanghai --wait");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("IMAGE", arguments->image, "The image's id, m-…")->required()->type_name("");
  command->add_option("--to-region", arguments->region, "A region of the daemon, not its own")
      ->required()
      ->type_name("REGION");
  command->add_option("--name", arguments->name, "Of the copy; as for create")->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  add_tags(command, arguments->tags);
  command->add_flag("--wait", arguments->wait, "Return when instances can be made from it");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"ImageId", arguments->image}, {"DestinationRegionId", arguments->region}};
    if (arguments->name) params["DestinationImageName"] = *arguments->name;
    if (arguments->description) params["DestinationDescription"] = *arguments->description;
    set_tags(params, arguments->tags);
    auto answer = api.call("CopyImage", params);
    if (!answer) return answer.failure();
    const std::string id = text_of(*answer, "ImageId");
    if (arguments->wait) {
      if (auto done = wait_until_copied(api, id); !done) return done.failure();
    }
    return print_answer(session, *answer, "ImageId");
  });
}

void add_cancel_copy(CLI::App& image, Session& session) {
  CLI::App* command = add_command(image, "cancel-copy",
                                  "Give up a copy that is not finished; it goes with its snapshots",
                                  "  clouddisk image cancel-copy m-bp1example");
  auto id = std::make_shared<std::string>();
  command->add_option("IMAGE", *id, "The copy's id, m-…")->required()->type_name("");
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call("CancelCopyImage", {{"ImageId", *id}});
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

}  // namespace

void add_image_copy(CLI::App& image, Session& session) {
  add_copy(image, session);
  add_cancel_copy(image, session);
}

}  // namespace clouddisk::cli
