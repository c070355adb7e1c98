// Images: what instances are made from. Files of them are those of their snapshots
// (snapshot_files.h).
#include <map>
#include <optional>

#include "tools/clouddisk/session.h"
#include "tools/clouddisk/snapshot_files.h"
#include "tools/clouddisk/snapshot_lookup.h"
#include "tools/clouddisk/table.h"
#include "tools/clouddisk/tag_arguments.h"

namespace clouddisk::cli {
namespace {

constexpr const char* kEveryStatus = "Creating,Available,CreateFailed,Deprecated";

void add_image_id(CLI::App* command, std::string& id) {
  command->add_option("IMAGE", id, "The image's id, m-…")->required()->type_name("");
}

// What create, import and modify may say about one.
struct ImageTexts {
  std::optional<std::string> name, description, family;
};
void add_image_texts(CLI::App* command, ImageTexts& texts) {
  command
      ->add_option("--name", texts.name,
                   "2 to 128 characters, beginning with a letter, and not with aliyun, acs:, "
                   "http:// or https://; no other image of the region has it")
      ->type_name("TEXT");
  command->add_option("--description", texts.description, "2 to 256 characters")->type_name("TEXT");
  command->add_option("--family", texts.family, "Images of one line; instances take the newest")
      ->type_name("TEXT");
}
Params params_of(const ImageTexts& texts) {
  Params params;
  if (texts.name) params["ImageName"] = *texts.name;
  if (texts.description) params["Description"] = *texts.description;
  if (texts.family) params["ImageFamily"] = *texts.family;
  return params;
}

Outcome<Json> describe_image(const ApiClient& api, const std::string& id) {
  auto answer = api.call("DescribeImages", {{"ImageId", id}, {"Status", kEveryStatus}});
  if (!answer) return answer.failure();
  const Json& found = (*answer)["Images"]["Image"];
  if (found.is_array() && !found.empty()) return Json(found[0]);
  return refuse("InvalidImageId.NotFound", "There is no image '{}'; see: clouddisk image list", id);
}

const Json& mappings_of(const Json& image) {
  return image["DiskDeviceMappings"]["DiskDeviceMapping"];
}

void add_image_create(CLI::App& image, Session& session) {
  struct Arguments {
    ImageTexts texts;
    std::optional<std::string> snapshot, instance, platform;
    std::vector<std::string> data, tags;
  };
  CLI::App* command = add_command(
      image, "create", "Make an image of an instance, or of snapshots, and print its id",
      "  clouddisk image create --instance i-bp1example --name web-1\n"
      "  clouddisk image create --snapshot s-bp1example --data-snapshot s-bp2example");
  auto arguments = std::make_shared<Arguments>();
  CLI::Option* snapshot =
      command->add_option("--snapshot", arguments->snapshot, "Of a system disk")->type_name("ID");
  command
      ->add_option("--instance", arguments->instance,
                   "All disks of it, at one instant; the image is Available when the snapshots "
                   "are captured")
      ->type_name("ID")
      ->excludes(snapshot);
  command
      ->add_option("--data-snapshot", arguments->data,
                   "Of a data disk that each instance gets as well; may be repeated")
      ->type_name("ID")
      ->needs(snapshot)
      ->take_all()
      ->expected(1);
  add_image_texts(command, arguments->texts);
  command->add_option("--platform", arguments->platform, "The system that it has; any text")
      ->type_name("TEXT");
  add_tags(command, arguments->tags);
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params = params_of(arguments->texts);
    if (arguments->snapshot) params["SnapshotId"] = *arguments->snapshot;
    if (arguments->instance) params["InstanceId"] = *arguments->instance;
    if (arguments->platform) params["Platform"] = *arguments->platform;
    for (std::size_t i = 0; i < arguments->data.size(); ++i) {
      params[fmt::format("DiskDeviceMapping.{}.SnapshotId", i + 1)] = arguments->data[i];
    }
    set_tags(params, arguments->tags);
    auto answer = api.call("CreateImage", params);
    if (!answer) return answer.failure();
    return print_answer(session, *answer, "ImageId");
  });
}

void add_image_list(CLI::App& image, Session& session) {
  struct Arguments {
    std::optional<std::string> name, family;
    std::vector<std::string> tags;
    bool ids_only = false;
  };
  CLI::App* command = add_command(image, "list", "Show every image",
                                  "  clouddisk image list\n"
                                  "  clouddisk image list --name 'web*' --output json");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--name", arguments->name, "Only these; * stands for any text")
      ->type_name("TEXT");
  command->add_option("--family", arguments->family, "Only of this family")->type_name("TEXT");
  add_tag_search(command, arguments->tags);
  command->add_flag("--ids", arguments->ids_only, "Ids alone, one a line");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"Status", kEveryStatus}};
    if (arguments->name) params["ImageName"] = *arguments->name;
    if (arguments->family) params["ImageFamily"] = *arguments->family;
    set_tags(params, arguments->tags);
    auto answer = api.call_all("DescribeImages", params, "Images", "Image");
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"IMAGE"},
                 {"NAME"},
                 {"FAMILY"},
                 {"SIZE", true},
                 {"DISKS", true},
                 {"STATUS"},
                 {"PROGRESS", true},
                 {"CREATED"}});
    for (const Json& one : (*answer)["Images"]["Image"]) {
      if (arguments->ids_only) print_text(text_of(one, "ImageId") + "\n");
      table.add_row({text_of(one, "ImageId"), text_of(one, "ImageName"),
                     text_of(one, "ImageFamily"), text_of(one, "Size") + " GiB",
                     fmt::format("{}", mappings_of(one).size()), text_of(one, "Status"),
                     text_of(one, "Progress"), text_of(one, "CreationTime")});
    }
    if (!arguments->ids_only) print_text(table.text());
    return Done{};
  });
}

void add_image_show(CLI::App& image, Session& session) {
  CLI::App* command =
      add_command(image, "show", "Show an image, its snapshots and with whom it is shared",
                  "  clouddisk image show m-bp1example");
  auto id = std::make_shared<std::string>();
  add_image_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto found = describe_image(api, *id);
    if (!found) return found.failure();
    if (session.json()) {
      print_json(*found);
      return Done{};
    }
    auto shared = api.call("DescribeImageSharePermission", {{"ImageId", *id}, {"PageSize", "100"}});
    if (!shared) return shared.failure();
    const Json& one = *found;
    const std::string source = text_of(one, "SourceImageId");
    std::vector<std::pair<std::string, std::string>> fields = {
        {"id", text_of(one, "ImageId")},
        {"name", text_of(one, "ImageName")},
        {"description", text_of(one, "Description")},
        {"family", text_of(one, "ImageFamily")},
        {"status", text_of(one, "Status")},
        {"progress", text_of(one, "Progress")},
        {"platform", text_of(one, "Platform")},
        {"used by instances", text_of(one, "Usage") == "instance" ? "yes" : "no"},
        {"created", text_of(one, "CreationTime")},
        {"copy of", source.empty() ? "" : source + " in " + text_of(one, "SourceRegionId")},
        {"tags", tags_text(one)}};
    for (const Json& part : mappings_of(one)) {
      const std::string snapshot = text_of(part, "SnapshotId");
      fields.emplace_back(
          text_of(part, "Device"),
          fmt::format("{} GiB, {} disk, {}", text_of(part, "Size"), text_of(part, "Type"),
                      snapshot.empty() ? "empty" : snapshot));
    }
    for (const Json& account : (*shared)["Accounts"]["Account"]) {
      fields.emplace_back("shared with", text_of(account, "AliyunId"));
    }
    print_text(fields_text(fields));
    return Done{};
  });
}

void add_image_modify(CLI::App& image, Session& session) {
  struct Arguments {
    std::string id;
    ImageTexts texts;
    std::optional<bool> deprecated;
  };
  CLI::App* command = add_command(image, "modify", "Change an image's name and the like",
                                  "  clouddisk image modify m-bp1example --name web-2\n"
                                  "  clouddisk image modify m-bp1example --deprecated true");
  auto arguments = std::make_shared<Arguments>();
  add_image_id(command, arguments->id);
  add_image_texts(command, arguments->texts);
  command
      ->add_option("--deprecated", arguments->deprecated,
                   "true: no instance is made from it; false: they are again")
      ->type_name("BOOL");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params = params_of(arguments->texts);
    if (arguments->deprecated) {
      params["Status"] = *arguments->deprecated ? "Deprecated" : "Available";
    }
    if (params.empty()) {
      return refuse("MissingParameter",
                    "Nothing to change: give --name, --description, --family or --deprecated");
    }
    params["ImageId"] = arguments->id;
    auto answer = api.call("ModifyImageAttribute", params);
    if (!answer) return answer.failure();
    return print_answer(session, *answer, "");
  });
}

void add_image_share(CLI::App& image, Session& session) {
  struct Arguments {
    std::string id;
    std::vector<std::string> with, without;
  };
  CLI::App* command = add_command(
      image, "share", "Share an image with accounts, or cancel that; it is not deleted before",
      "  clouddisk image share m-bp1example --with 1234567890123456\n"
      "  clouddisk image share m-bp1example --without 1234567890123456");
  auto arguments = std::make_shared<Arguments>();
  add_image_id(command, arguments->id);
  command->add_option("--with", arguments->with, "Ids of accounts, up to 10 at a time")
      ->type_name("ACCOUNT");
  command->add_option("--without", arguments->without, "Ids of accounts, up to 10 at a time")
      ->type_name("ACCOUNT");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"ImageId", arguments->id}};
    for (std::size_t i = 0; i < arguments->with.size(); ++i) {
      params[fmt::format("AddAccount.{}", i + 1)] = arguments->with[i];
    }
    for (std::size_t i = 0; i < arguments->without.size(); ++i) {
      params[fmt::format("RemoveAccount.{}", i + 1)] = arguments->without[i];
    }
    auto answer = api.call("ModifyImageSharePermission", params);
    if (!answer) return answer.failure();
    return print_answer(session, *answer, "");
  });
}

void add_image_delete(CLI::App& image, Session& session) {
  struct Arguments {
    std::string id;
    bool force = false;
  };
  CLI::App* command = add_command(image, "delete", "Delete an image; its snapshots stay",
                                  "  clouddisk image delete m-bp1example");
  auto arguments = std::make_shared<Arguments>();
  add_image_id(command, arguments->id);
  command->add_flag("--force", arguments->force,
                    "Even if there are instances of it: they go on, but their system disks can't "
                    "be re-initialised");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"ImageId", arguments->id}};
    if (arguments->force) params["Force"] = "true";
    auto answer = api.call("DeleteImage", params);
    if (!answer) return answer.failure();
    return print_answer(session, *answer, "");
  });
}

void add_image_import(CLI::App& image, Session& session) {
  struct Arguments {
    ImportArguments file;
    ImageTexts texts;
  };
  CLI::App* command =
      add_command(image, "import", "Make an image of a raw or qcow2 file and print its id",
                  "  clouddisk image import debian.qcow2 --name debian\n"
                  "  clouddisk instance create --image \"$(clouddisk image import debian.qcow2)\"");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("FILE", arguments->file.file, "The image: *.qcow2, *.raw or *.img")
      ->required()
      ->type_name("");
  add_file_format(command, arguments->file.format);
  add_image_texts(command, arguments->texts);
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params = params_of(arguments->texts);
    ImportArguments file = arguments->file;
    file.of_system_disk = true;
    auto snapshot = import_snapshot(api, file);
    if (!snapshot) return snapshot.failure();
    const std::string id = text_of(*snapshot, "SnapshotId");
    params["SnapshotId"] = id;
    auto captured = wait_until_captured(api, id);
    if (!captured) {
      const Failure& why = captured.failure();
      return refuse(why.code, "{} What was copied is in snapshot {}", why.message, id);
    }
    auto answer = api.call("CreateImage", params);
    if (!answer) {
      const Failure& why = answer.failure();
      auto deleted = api.call("DeleteSnapshot", {{"SnapshotId", id}});
      if (deleted) return why;
      return refuse(why.code, "{} What was copied is left in snapshot {}", why.message, id);
    }
    return print_answer(session, *answer, "ImageId");
  });
}

void add_image_export(CLI::App& image, Session& session) {
  struct Arguments {
    ExportArguments file;
    std::string image;
    std::string device = "/dev/xvda";
  };
  CLI::App* command =
      add_command(image, "export", "Copy a disk of an image to a file, raw or qcow2",
                  "  clouddisk image export m-bp1example --to base.qcow2\n"
                  "  clouddisk image export m-bp1example --device /dev/xvdb --to data.raw");
  auto arguments = std::make_shared<Arguments>();
  add_image_id(command, arguments->image);
  command->add_option("--to", arguments->file.to, "The file: *.qcow2, *.raw or *.img")
      ->required()
      ->type_name("FILE");
  command->add_option("--device", arguments->device, "Which disk of it")
      ->type_name("DEVICE")
      ->capture_default_str();
  add_file_format(command, arguments->file.format);
  command->add_flag("--force", arguments->file.force, "Replace a file that is there already");
  on_call(command, session, [arguments](const ApiClient& api) -> Verdict {
    auto found = describe_image(api, arguments->image);
    if (!found) return found.failure();
    ExportArguments file = arguments->file;
    for (const Json& part : mappings_of(*found)) {
      if (text_of(part, "Device") == arguments->device) file.id = text_of(part, "SnapshotId");
    }
    if (file.id.empty()) {
      return refuse("InvalidDevice.NotFound",
                    "Image {} has nothing at {}; see: clouddisk image show {}", arguments->image,
                    arguments->device, arguments->image);
    }
    return export_snapshot(api, file);
  });
}

}  // namespace

void add_image_commands(CLI::App& root, Session& session) {
  CLI::App* image = add_noun(root, "image", "Images, which instances and their disks are made from",
                             "  clouddisk image create --instance i-bp1example --name web-1\n"
                             "  clouddisk instance create --image m-bp1example\n"
                             "  clouddisk image import debian.qcow2 --name debian");
  add_image_create(*image, session);
  add_image_list(*image, session);
  add_image_show(*image, session);
  add_image_modify(*image, session);
  add_image_share(*image, session);
  add_image_copy(*image, session);
  add_image_delete(*image, session);
  add_image_import(*image, session);
  add_image_export(*image, session);
}

}  // namespace clouddisk::cli
