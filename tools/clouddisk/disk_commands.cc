#include <optional>

#include "engine/catalog/disk_rules.h"
#include "tools/clouddisk/disk_format.h"
#include "tools/clouddisk/mount.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/clouddisk/tag_arguments.h"
#include "tools/net/quantity.h"

namespace clouddisk::cli {
namespace {

constexpr unsigned kCountMax = 100;
// Keeps "-5" from becoming a huge number; what a disk may have is the API's to say.
constexpr std::uint64_t kSizeGibMax = 1'000'000'000;

template <class T>
void set_if(Params& params, const std::string& name, const std::optional<T>& value) {
  if (!value) return;
  if constexpr (std::is_same_v<T, bool>) {
    params[name] = *value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, std::string>) {
    params[name] = *value;
  } else {
    params[name] = std::to_string(*value);
  }
}

CLI::Option* add_disk_id(CLI::App* command, std::string& id) {
  return command->add_option("DISK", id, "The disk's id, d-…")->required()->type_name("");
}

// The emulated object store of a disk.
struct StoreArguments {
  std::optional<std::string> latency, bandwidth;
  bool as_daemon = false;
  bool any() const { return latency || bandwidth || as_daemon; }
};

void add_store_options(CLI::App* command, StoreArguments& store) {
  command
      ->add_option("--store-latency", store.latency,
                   "Extra latency of each fetch of what the disk borrows, as in 20ms, up to 60s")
      ->type_name("TIME");
  command
      ->add_option("--store-bandwidth", store.bandwidth,
                   "Bytes a second of all its fetches, as in 100M, at least 1M; 0: no limit")
      ->type_name("SIZE");
}

Verdict set_store(Params& params, const StoreArguments& store) {
  if (store.as_daemon) params["StoreDefault"] = "true";
  if (store.latency) {
    auto latency = parse_duration(*store.latency);
    if (!latency) {
      return refuse(kWrongUsage, "--store-latency: {}", latency.error().message);
    }
    if (*latency > std::chrono::microseconds(kStoreLatencyMaxUs)) {
      return refuse(kWrongUsage, "--store-latency: at most 60s, not '{}'", *store.latency);
    }
    params["StoreLatencyUs"] =
        std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(*latency).count());
  }
  if (store.bandwidth) {
    auto bandwidth = parse_size(*store.bandwidth);
    if (!bandwidth) {
      return refuse(kWrongUsage, "--store-bandwidth: {}", bandwidth.error().message);
    }
    if (*bandwidth != 0 && *bandwidth < kStoreBandwidthMin) {
      return refuse(kWrongUsage, "--store-bandwidth: at least 1M, or 0 for no limit");
    }
    params["StoreBytesPerSecond"] = std::to_string(*bandwidth);
  }
  return Done{};
}

// --- create ---

struct CreateArguments {
  std::optional<std::uint64_t> size_gib;
  std::optional<std::string> snapshot;
  std::string category = "cloud_essd";
  std::optional<std::string> level, name, description, zone, token;
  std::vector<std::string> tags;
  StoreArguments store;
  unsigned count = 1;
};

Outcome<Params> create_params(const CreateArguments& arguments) {
  Params params{{"DiskCategory", arguments.category}};
  set_if(params, "Size", arguments.size_gib);
  set_if(params, "SnapshotId", arguments.snapshot);
  set_if(params, "PerformanceLevel", arguments.level);
  set_if(params, "DiskName", arguments.name);
  set_if(params, "Description", arguments.description);
  set_if(params, "ZoneId", arguments.zone);
  set_if(params, "ClientToken", arguments.token);
  if (auto set = set_store(params, arguments.store); !set) return set.failure();
  set_tags(params, arguments.tags);
  return params;
}

Verdict create_disks(const ApiClient& api, const CreateArguments& arguments, bool json) {
  auto params = create_params(arguments);
  if (!params) return params.failure();
  for (unsigned made = 0; made < arguments.count; ++made) {
    if (arguments.token && arguments.count > 1) {
      (*params)["ClientToken"] = fmt::format("{}-{}", *arguments.token, made + 1);
    }
    auto answer = api.call("CreateDisk", *params);
    if (!answer) return answer.failure();
    if (json) {
      print_json(*answer);
    } else {
      print_text(text_of(*answer, "DiskId") + "\n");
    }
  }
  return Done{};
}

void add_create(CLI::App& disk, Session& session) {
  CLI::App* command =
      add_command(disk, "create", "Make disks and print their ids, one a line",
                  "  clouddisk disk create --size 40\n"
                  "  clouddisk disk create --size 40 --performance-level PL1 --name data\n"
                  "  clouddisk disk create --category cloud_efficiency --size 100 --count 3\n"
                  "  clouddisk disk create --size 20 --tag env=test --tag team=storage\n"
                  "  clouddisk disk create --snapshot s-bp1example --size 100");
  auto arguments = std::make_shared<CreateArguments>();
  command->add_option("--size", arguments->size_gib, "Capacity in GiB")
      ->check(CLI::Range(std::uint64_t{0}, kSizeGibMax))
      ->type_name("GIB");
  command
      ->add_option(
          "--snapshot", arguments->snapshot,
          "Make it from this snapshot: ready at once, blocks are loaded as they are needed")
      ->type_name("ID");
  command
      ->add_option("--category", arguments->category,
                   "cloud_essd, cloud_auto, cloud_ssd, cloud_efficiency or cloud; see: clouddisk "
                   "category list")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--performance-level", arguments->level, "PL0, PL1 (default), PL2 or PL3")
      ->type_name("LEVEL");
  command->add_option("--name", arguments->name, "2 to 128 characters, beginning with a letter")
      ->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  command->add_option("--zone", arguments->zone, "Zone to make it in; default: the daemon's")
      ->type_name("ZONE");
  add_tags(command, arguments->tags);
  command
      ->add_option("--client-token", arguments->token,
                   "Repeating the command with the same token makes no second disk")
      ->type_name("TOKEN");
  add_store_options(command, arguments->store);
  command->add_option("--count", arguments->count, "How many to make")
      ->check(CLI::Range(1U, kCountMax))
      ->type_name("N")
      ->capture_default_str();
  command->parse_complete_callback([arguments] {
    if (!arguments->size_gib && !arguments->snapshot) {
      throw CLI::RequiredError("--size, or --snapshot whose size it takes,");
    }
  });
  on_call(command, session, [arguments, &session](const ApiClient& api) {
    return create_disks(api, *arguments, session.json());
  });
}

// --- list, show, export ---

void add_list(CLI::App& disk, Session& session) {
  struct Arguments {
    std::optional<std::string> status, category, instance, name, policy;
    std::vector<std::string> tags;
    bool without_policy = false;
    bool ids_only = false;
  };
  CLI::App* command = add_command(disk, "list", "Show every disk",
                                  "  clouddisk disk list\n"
                                  "  clouddisk disk list --status Available\n"
                                  "  clouddisk disk list --instance i-local --output json\n"
                                  "  clouddisk disk list --without-policy\n"
                                  "  clouddisk disk list --ids");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--status", arguments->status, "In_use, Available, Creating, …")
      ->type_name("STATUS");
  command->add_option("--category", arguments->category, "Only disks of this category")
      ->type_name("NAME");
  command->add_option("--instance", arguments->instance, "Only disks attached to this instance")
      ->type_name("ID");
  command->add_option("--name", arguments->name, "Only disks of this name")->type_name("TEXT");
  add_tag_search(command, arguments->tags);
  CLI::Option* policy =
      command->add_option("--policy", arguments->policy, "Only disks under this snapshot policy")
          ->type_name("ID");
  command
      ->add_flag("--without-policy", arguments->without_policy,
                 "Only disks that are under no snapshot policy")
      ->excludes(policy);
  command->add_flag("--ids", arguments->ids_only, "Print the ids alone, one a line");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    set_if(params, "Status", arguments->status);
    set_if(params, "Category", arguments->category);
    set_if(params, "InstanceId", arguments->instance);
    set_if(params, "DiskName", arguments->name);
    set_if(params, "AutoSnapshotPolicyId", arguments->policy);
    if (arguments->without_policy) params["EnableAutomatedSnapshotPolicy"] = "false";
    set_tags(params, arguments->tags);
    auto answer = api.call_all("DescribeDisks", params, "Disks", "Disk");
    if (!answer) return answer.failure();
    const Json& disks = (*answer)["Disks"]["Disk"];
    if (arguments->ids_only) {
      for (const Json& entry : disks) print_text(text_of(entry, "DiskId") + "\n");
    } else if (session.json()) {
      print_json(*answer);
    } else {
      print_text(disks_table(disks));
    }
    return Done{};
  });
}

void add_show(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(disk, "show", "Show everything about one disk",
                                  "  clouddisk disk show d-bp1example\n"
                                  "  clouddisk disk show d-bp1example --output json");
  auto id = std::make_shared<std::string>();
  add_disk_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto found = api.disk(*id);
    if (!found) return found.failure();
    if (session.json()) {
      print_json(*found);
    } else {
      std::vector<ApiClient::Export> exports;
      if (text_of(*found, "Status") == "In_use") {
        // A disk of a stopped instance has none; that is no reason not to show it.
        if (auto served = api.exports(*id)) exports = std::move(*served);
      }
      print_text(disk_details(*found, exports, mounted_at(session.root, *id).value_or("")));
    }
    return Done{};
  });
}

void add_export(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(disk, "export", "Print the NBD URI of an attached disk",
                                  "  qemu-img info \"$(clouddisk disk export d-bp1example)\"\n"
                                  "  fio --name=t --ioengine=nbd --uri=\"$(clouddisk disk export "
                                  "d-bp1example)\" --rw=randread\n"
                                  "  clouddisk disk export d-bp1example --all");
  auto id = std::make_shared<std::string>();
  auto all = std::make_shared<bool>(false);
  add_disk_id(command, *id);
  command->add_flag("--all", *all, "Every address the daemon listens on, one a line");
  on_call(command, session, [id, all, &session](const ApiClient& api) -> Verdict {
    auto exports = api.exports(*id);
    if (!exports) return exports.failure();
    if (!*all) exports->resize(1);
    Json uris = Json::array();
    for (const ApiClient::Export& entry : *exports) uris.push_back(entry.uri);
    if (session.json()) {
      print_json({{"DiskId", *id}, {"Uris", uris}});
    } else {
      for (const Json& uri : uris) print_text(uri.get<std::string>() + "\n");
    }
    return Done{};
  });
}

// --- attach, detach, delete ---

void add_attach(CLI::App& disk, Session& session) {
  struct Arguments {
    std::string id;
    std::string instance = std::string(kLocalInstance);
    std::optional<std::string> device;
    std::optional<bool> delete_with_instance;
  };
  CLI::App* command = add_command(
      disk, "attach", "Attach a disk to an instance and print its NBD URI",
      "  clouddisk disk attach d-bp1example\n"
      "  clouddisk disk attach d-bp1example --instance i-bp1example --device /dev/xvdc\n"
      "  qemu-img info \"$(clouddisk disk attach d-bp1example)\"");
  auto arguments = std::make_shared<Arguments>();
  add_disk_id(command, arguments->id);
  command->add_option("--instance", arguments->instance, "Instance; i-local is this host")
      ->type_name("ID")
      ->capture_default_str();
  command->add_option("--device", arguments->device, "Device name; default: the first free one")
      ->type_name("NAME");
  command
      ->add_option("--delete-with-instance", arguments->delete_with_instance,
                   "true: the disk is deleted when its instance is")
      ->type_name("BOOL");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"DiskId", arguments->id}, {"InstanceId", arguments->instance}};
    set_if(params, "Device", arguments->device);
    set_if(params, "DeleteWithInstance", arguments->delete_with_instance);
    auto answer = api.call("AttachDisk", params);
    if (!answer) return answer.failure();
    auto exports = api.exports(arguments->id);
    if (!exports) {
      // The disk is attached all the same: its instance is stopped.
      fmt::print(stderr, "note: no export yet: {}\n", exports.failure().message);
    }
    if (session.json()) {
      (*answer)["DiskId"] = arguments->id;
      (*answer)["InstanceId"] = arguments->instance;
      if (exports) (*answer)["Uri"] = exports->front().uri;
      print_json(*answer);
    } else if (exports) {
      print_text(exports->front().uri + "\n");
    }
    return Done{};
  });
}

void add_detach(CLI::App& disk, Session& session) {
  struct Arguments {
    std::string id;
    std::optional<std::string> instance;
  };
  CLI::App* command = add_command(disk, "detach", "Detach a disk from its instance",
                                  "  clouddisk disk detach d-bp1example\n"
                                  "  clouddisk disk detach d-bp1example --instance i-bp1example");
  auto arguments = std::make_shared<Arguments>();
  add_disk_id(command, arguments->id);
  command
      ->add_option("--instance", arguments->instance,
                   "Refuse unless it is attached to this instance; default: wherever it is")
      ->type_name("ID");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    if (const auto mounted = mounted_at(session.root, arguments->id)) {
      return refuse("DiskMounted", "Disk {} is mounted at {}; first: clouddisk disk umount {}",
                    arguments->id, *mounted, arguments->id);
    }
    auto found = api.disk(arguments->id);
    if (!found) return found.failure();
    std::string instance = arguments->instance.value_or(text_of(*found, "InstanceId"));
    if (instance.empty()) instance = kLocalInstance;
    auto answer = api.call("DetachDisk", {{"DiskId", arguments->id}, {"InstanceId", instance}});
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

void add_delete(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(disk, "delete", "Delete detached disks and what is on them",
                                  "  clouddisk disk delete d-bp1example\n"
                                  "  clouddisk disk delete d-bp1example d-bp1another");
  auto ids = std::make_shared<std::vector<std::string>>();
  command->add_option("DISK", *ids, "The disks' ids, d-…")->required()->type_name("");
  on_call(command, session, [ids, &session](const ApiClient& api) -> Verdict {
    for (const std::string& id : *ids) {
      auto answer = api.call("DeleteDisk", {{"DiskId", id}});
      if (!answer) return answer.failure();
      if (session.json()) print_json(*answer);
    }
    return Done{};
  });
}

// --- resize, modify ---

void add_resize(CLI::App& disk, Session& session) {
  struct Arguments {
    std::string id;
    std::uint64_t size_gib = 0;
    std::string type = "online";
  };
  CLI::App* command =
      add_command(disk, "resize", "Grow a disk; it never shrinks",
                  "  clouddisk disk resize d-bp1example --size 80\n"
                  "  clouddisk disk resize d-bp1example --size 80 --type offline\n"
                  "The file system inside grows with: clouddisk disk umount and disk mount --grow");
  auto arguments = std::make_shared<Arguments>();
  add_disk_id(command, arguments->id);
  command->add_option("--size", arguments->size_gib, "New capacity in GiB")
      ->check(CLI::Range(std::uint64_t{0}, kSizeGibMax))
      ->required()
      ->type_name("GIB");
  command
      ->add_option("--type", arguments->type,
                   "online: at once; offline: seen after the instance was stopped and started")
      ->check(CLI::IsMember({"online", "offline"}))
      ->type_name("TYPE")
      ->capture_default_str();
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto found = api.disk(arguments->id);
    if (!found) return found.failure();
    Params params{{"DiskId", arguments->id}, {"NewSize", std::to_string(arguments->size_gib)}};
    // A detached disk has no instance that could be running: the cloud knows only offline there.
    if (text_of(*found, "Status") == "In_use") params["Type"] = arguments->type;
    auto answer = api.call("ResizeDisk", params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    if (text_of(*found, "Status") == "In_use") {
      print_text(arguments->type == "online"
                     ? "Clients that are connected see the new size when they connect again.\n"
                     : "Clients see the new size after the instance was stopped and started.\n");
    }
    if (const auto mounted = mounted_at(session.root, arguments->id)) {
      print_text(
          fmt::format("The file system at {} keeps its size until it is mounted anew: "
                      "clouddisk disk umount {}; clouddisk disk mount {} {} --grow\n",
                      *mounted, arguments->id, arguments->id, *mounted));
    }
    return Done{};
  });
}

void add_modify(CLI::App& disk, Session& session) {
  struct Arguments {
    std::string id;
    std::optional<std::string> category, level, name, description;
    std::optional<bool> delete_with_instance;
    StoreArguments store;
    bool changes_spec() const { return category || level; }
    bool changes_attribute() const {
      return name || description || delete_with_instance || store.any();
    }
  };
  CLI::App* command = add_command(
      disk, "modify", "Change a disk's category, performance level, name or description",
      "  clouddisk disk modify d-bp1example --performance-level PL2\n"
      "  clouddisk disk modify d-bp1example --category cloud_essd --performance-level PL1\n"
      "  clouddisk disk modify d-bp1example --name logs --description 'of the web servers'\n"
      "  clouddisk disk modify d-bp1example --delete-with-instance true\n"
      "  clouddisk disk modify d-bp1example --store-latency 20ms --store-bandwidth 100M");
  auto arguments = std::make_shared<Arguments>();
  add_disk_id(command, arguments->id);
  command->add_option("--category", arguments->category, "New category")->type_name("NAME");
  command->add_option("--performance-level", arguments->level, "PL0, PL1, PL2 or PL3")
      ->type_name("LEVEL");
  command->add_option("--name", arguments->name, "New name")->type_name("TEXT");
  command->add_option("--description", arguments->description, "New description")
      ->type_name("TEXT");
  command
      ->add_option("--delete-with-instance", arguments->delete_with_instance,
                   "true: the disk is deleted when its instance is")
      ->type_name("BOOL");
  add_store_options(command, arguments->store);
  command->add_flag("--store-default", arguments->store.as_daemon,
                    "Fetch what the disk borrows as the daemon says, not as the disk does");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    if (!arguments->changes_spec() && !arguments->changes_attribute()) {
      return refuse(kWrongUsage,
                    "Nothing to change: give --category, --performance-level, --name, "
                    "--description, --delete-with-instance or --store-latency");
    }
    if (arguments->changes_attribute()) {
      Params params{{"DiskId", arguments->id}};
      set_if(params, "DiskName", arguments->name);
      set_if(params, "Description", arguments->description);
      set_if(params, "DeleteWithInstance", arguments->delete_with_instance);
      if (auto set = set_store(params, arguments->store); !set) return set;
      auto answer = api.call("ModifyDiskAttribute", params);
      if (!answer) return answer.failure();
      if (session.json()) print_json(*answer);
    }
    if (arguments->changes_spec()) {
      Params params{{"DiskId", arguments->id}};
      set_if(params, "DiskCategory", arguments->category);
      set_if(params, "PerformanceLevel", arguments->level);
      auto answer = api.call("ModifyDiskSpec", params);
      if (!answer) return answer.failure();
      if (session.json()) print_json(*answer);
    }
    return Done{};
  });
}

}  // namespace

void add_disk_commands(CLI::App& root, Session& session) {
  CLI::App* disk = add_noun(root, "disk", "Make, attach, mount, grow and delete disks",
                            "  clouddisk disk create --size 40 --name data\n"
                            "  clouddisk disk attach d-bp1example\n"
                            "  clouddisk disk list");
  add_create(*disk, session);
  add_list(*disk, session);
  add_show(*disk, session);
  add_attach(*disk, session);
  add_detach(*disk, session);
  add_delete(*disk, session);
  add_resize(*disk, session);
  add_modify(*disk, session);
  add_export(*disk, session);
  add_mount_commands(*disk, session);
  add_rollback_commands(*disk, session);
}

}  // namespace clouddisk::cli
