#include <optional>

#include "engine/catalog/instance_rules.h"
#include "tools/clouddisk/disk_format.h"
#include "tools/clouddisk/mounted_disks.h"
#include "tools/clouddisk/session.h"

namespace clouddisk::cli {
namespace {

// Of all disks of an instance together.
void add_limits(CLI::App* command, std::optional<std::uint64_t>& iops,
                std::optional<std::uint64_t>& throughput) {
  command->add_option("--iops", iops, "Operations a second of all its disks together; 0: no limit")
      ->check(CLI::Range(std::uint64_t{0}, kInstanceIopsMax))
      ->type_name("N");
  command->add_option("--throughput", throughput, "MB/s of all its disks together; 0: no limit")
      ->check(CLI::Range(std::uint64_t{0}, kInstanceThroughputMax))
      ->type_name("N");
}

void set_limits(Params& params, const std::optional<std::uint64_t>& iops,
                const std::optional<std::uint64_t>& throughput) {
  if (iops) params["IopsLimit"] = std::to_string(*iops);
  if (throughput) params["ThroughputLimit"] = std::to_string(*throughput);
}

void add_instance_create(CLI::App& instance, Session& session) {
  struct Arguments {
    std::string type = "ecs.local";
    std::string image = "local";
    std::optional<std::string> name, description, zone;
    std::optional<std::string> category, level;  // of the system disk
    std::optional<std::uint64_t> iops, throughput, system_size;
    unsigned count = 1;
  };
  CLI::App* command = add_command(
      instance, "create", "Make instances, which own disks as a server would; print ids",
      "  clouddisk instance create --name web\n"
      "  clouddisk instance create --name db --count 3\n"
      "  clouddisk instance create --image m-bp1example --system-size 60\n"
      "  clouddisk instance create --iops 60000 --throughput 500\n"
      "  clouddisk disk attach d-bp1example --instance i-bp1example");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--name", arguments->name, "2 to 128 characters, beginning with a letter")
      ->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  command->add_option("--type", arguments->type, "Instance type; any text, it runs nothing")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--zone", arguments->zone, "Zone; default: the daemon's")->type_name("ZONE");
  command
      ->add_option("--image", arguments->image,
                   "An image, m-…, whose disks each instance gets; any other text is a name")
      ->type_name("ID")
      ->capture_default_str();
  command
      ->add_option("--system-size", arguments->system_size,
                   "Of the system disk, in GiB: 20 to 500, at least the image's; default: 40, or "
                   "the image's")
      ->type_name("GIB");
  command->add_option("--system-category", arguments->category, "Of the system disk")
      ->type_name("CATEGORY");
  command->add_option("--system-level", arguments->level, "Of the system disk: PL0 to PL3")
      ->type_name("LEVEL");
  add_limits(command, arguments->iops, arguments->throughput);
  command->add_option("--count", arguments->count, "How many to make")
      ->check(CLI::Range(1U, 100U))
      ->type_name("N")
      ->capture_default_str();
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"InstanceType", arguments->type},
                  {"ImageId", arguments->image},
                  {"Amount", std::to_string(arguments->count)}};
    if (arguments->name) params["InstanceName"] = *arguments->name;
    if (arguments->description) params["Description"] = *arguments->description;
    if (arguments->zone) params["ZoneId"] = *arguments->zone;
    if (arguments->system_size) {
      params["SystemDisk.Size"] = std::to_string(*arguments->system_size);
    }
    if (arguments->category) params["SystemDisk.Category"] = *arguments->category;
    if (arguments->level) params["SystemDisk.PerformanceLevel"] = *arguments->level;
    set_limits(params, arguments->iops, arguments->throughput);
    auto answer = api.call("RunInstances", params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      for (const Json& id : (*answer)["InstanceIdSets"]["InstanceIdSet"]) {
        print_text(id.get<std::string>() + "\n");
      }
    }
    return Done{};
  });
}

void add_instance_list(CLI::App& instance, Session& session) {
  CLI::App* command = add_command(instance, "list", "Show every instance; i-local is this host",
                                  "  clouddisk instance list\n"
                                  "  clouddisk instance list --status Stopped --output json");
  auto status = std::make_shared<std::optional<std::string>>();
  command->add_option("--status", *status, "Running, Stopped, …")->type_name("STATUS");
  on_call(command, session, [status, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (*status) params["Status"] = **status;
    auto answer = api.call_all("DescribeInstances", params, "Instances", "Instance");
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(instances_table((*answer)["Instances"]["Instance"]));
    }
    return Done{};
  });
}

void add_instance_start(CLI::App& instance, Session& session) {
  CLI::App* command =
      add_command(instance, "start", "Start an instance: its disks are exported again",
                  "  clouddisk instance start i-bp1example");
  auto id = std::make_shared<std::string>();
  command->add_option("INSTANCE", *id, "The instance's id, i-…")->required()->type_name("");
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call("StartInstance", {{"InstanceId", *id}});
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

void add_instance_limit(CLI::App& instance, Session& session) {
  struct Arguments {
    std::string id;
    std::optional<std::uint64_t> iops, throughput;
  };
  CLI::App* command = add_command(
      instance, "limit", "Limit what all disks of an instance do together, above their own limits",
      "  clouddisk instance limit i-bp1example --iops 60000\n"
      "  clouddisk instance limit i-local --iops 0 --throughput 200");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("INSTANCE", arguments->id, "The instance's id, i-…")
      ->required()
      ->type_name("");
  add_limits(command, arguments->iops, arguments->throughput);
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    if (!arguments->iops && !arguments->throughput) {
      return refuse("MissingParameter", "Nothing to limit: give --iops or --throughput");
    }
    Params params{{"InstanceId", arguments->id}};
    set_limits(params, arguments->iops, arguments->throughput);
    auto answer = api.call("ModifyInstanceLimits", params);
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

void add_instance_replace(CLI::App& instance, Session& session) {
  struct Arguments {
    std::string id, image;
    std::optional<std::uint64_t> size;
  };
  CLI::App* command =
      add_command(instance, "replace-system-disk",
                  "Give a stopped instance a new system disk, made from an image; print its id",
                  "  clouddisk instance replace-system-disk i-bp1example --image m-bp1example");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("INSTANCE", arguments->id, "The instance's id, i-…")
      ->required()
      ->type_name("");
  command->add_option("--image", arguments->image, "The image, m-…")->required()->type_name("ID");
  command
      ->add_option("--size", arguments->size,
                   "In GiB, at least the image's; default: as the old one, or the image's")
      ->type_name("GIB");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"InstanceId", arguments->id}, {"ImageId", arguments->image}};
    if (arguments->size) params["SystemDisk.Size"] = std::to_string(*arguments->size);
    auto answer = api.call("ReplaceSystemDisk", params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(text_of(*answer, "DiskId") + "\n");
    }
    return Done{};
  });
}

// Of stop and delete: both take the instance's disks away from those who use them.
void add_instance_ending(CLI::App& instance, Session& session, const std::string& name,
                         const std::string& purpose, const std::string& action,
                         const std::string& force) {
  struct Arguments {
    std::string id;
    bool force = false;
  };
  CLI::App* command = add_command(instance, name, purpose,
                                  fmt::format("  clouddisk instance {0} i-bp1example\n"
                                              "  clouddisk instance {0} i-bp1example --force",
                                              name));
  auto arguments = std::make_shared<Arguments>();
  command->add_option("INSTANCE", arguments->id, "The instance's id, i-…")
      ->required()
      ->type_name("");
  command->add_flag("--force", arguments->force, force);
  on_call(command, session, [arguments, action, &session](const ApiClient& api) -> Verdict {
    Params params{{"InstanceId", arguments->id}};
    if (!arguments->force) {
      auto free = instance_must_not_be_mounted(api, session.root, arguments->id);
      if (!free) return free;
    } else if (action == "DeleteInstance") {
      params["Force"] = "true";
    }
    auto answer = api.call(action, params);
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

}  // namespace

void add_instance_commands(CLI::App& root, Session& session) {
  CLI::App* instance =
      add_noun(root, "instance", "Make, start, stop and delete instances, which own disks",
               "  clouddisk instance list\n"
               "  clouddisk instance create --name web");
  add_instance_create(*instance, session);
  add_instance_list(*instance, session);
  add_instance_start(*instance, session);
  add_instance_limit(*instance, session);
  add_instance_replace(*instance, session);
  add_instance_ending(*instance, session, "stop",
                      "Stop an instance: the NBD sessions of its disks are closed", "StopInstance",
                      "Also when this host has disks of it mounted; their file systems fail");
  add_instance_ending(*instance, session, "delete",
                      "Delete a stopped instance and the disks that go with it", "DeleteInstance",
                      "Also when it is running, or this host has disks of it mounted");
}

}  // namespace clouddisk::cli
