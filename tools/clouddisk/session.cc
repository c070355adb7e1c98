#include "tools/clouddisk/session.h"

#include <cstdio>
#include <cstdlib>
#include <map>

namespace clouddisk::cli {
namespace {

// What options of that type take, whatever the parser says of what they were given.
std::string_view form_of(std::string_view type) {
  if (type == "GIB") return "a whole number of GiB, as in 40";
  if (type == "BOOL") return "true or false";
  if (type == "N" || type.empty()) return "a number, as in 3";
  return {};
}

// Of a value that is not of the option's form; empty: the parser's own message says what is wrong.
std::string wrong_form(const CLI::App& command, const CLI::Error& error) {
  const bool no_conversion = dynamic_cast<const CLI::ConversionError*>(&error) != nullptr;
  if (!no_conversion && dynamic_cast<const CLI::ValidationError*>(&error) == nullptr) return {};
  const std::string_view text = error.what();
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    const std::string_view about =
        no_conversion ? text.substr(std::min(text.size(), text.find(": ") + 2)) : text;
    if (!about.starts_with(name + (no_conversion ? " = " : ": ")) || option->empty()) continue;
    if (option->get_items_expected_max() == 0) return fmt::format("{} takes no value", name);
    const std::string given = option->results().back();
    const std::string declared = option->get_type_name();
    const std::string type = declared.substr(0, declared.find(':'));
    const std::string_view form = form_of(type);
    const bool number = given.find_first_not_of("-0123456789") == std::string::npos;
    if (no_conversion && number && !given.empty()) {
      const bool large = given.size() >= 10 && given.find_first_of("-0") != 0;
      if (large) return fmt::format("{} can't be {}: that is more than any", name, given);
      return fmt::format("{} is a whole number from 0 on without zeros before it, not '{}'", name,
                         given);
    }
    // A number that is out of range is told the range.
    if (form.empty() || (!no_conversion && (type != "GIB" || number))) return {};
    return fmt::format("{} is {}, not '{}'", name, form, given);
  }
  return {};
}

std::string usage_message(const CLI::App* app, const CLI::Error& error) {
  const std::vector<std::string> left = app->remaining(true);
  std::string command = app->get_name();
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    command += ' ' + app->get_name();
  }
  std::string problem = error.what();
  const bool incomplete = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  const bool misspelt =
      incomplete && !left.empty() && left.front().starts_with("--") && left.front().size() > 2;
  if ((app->get_require_subcommand_min() > 0 && !left.empty()) || misspelt) {
    const char* kind = left.front().starts_with('-') ? "option" : "command";
    problem = fmt::format("{} has no {} '{}'", command, kind, left.front());
  }
  if (const std::string form = wrong_form(*app, error); !form.empty()) problem = form;
  return fmt::format("error: WrongUsage: {}; see: {} --help\n", problem, command);
}

}  // namespace

Outcome<ApiClient> Session::client() const {
  auto address = parse_address(api.empty() ? "unix:" + root + "/api.sock" : api);
  if (!address) {
    const char* hint = api.starts_with("tls:") ? ". This program does not speak TLS" : "";
    return refuse(kWrongUsage, "{}{}", address.error().message, hint);
  }
  return ApiClient(*address, root);
}

int print_failure(const Failure& failure) {
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s: %s\n", failure.code.c_str(), failure.message.c_str());
  return failure.code == kWrongUsage ? kExitUsage : kExitRefused;
}

void print_json(const Json& json) {
  print_text(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void print_text(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& purpose,
                      const std::string& examples) {
  CLI::App* command = parent.add_subcommand(name, purpose);
  command->fallthrough();
  command->footer("Examples:\n" + examples);
  return command;
}

CLI::App* add_noun(CLI::App& root, const std::string& name, const std::string& purpose,
                   const std::string& examples) {
  CLI::App* noun = add_command(root, name, purpose, examples);
  noun->require_subcommand(1);
  return noun;
}

std::unique_ptr<CLI::App> make_app(Session& session) {
  auto app = std::make_unique<CLI::App>(
      "clouddisk: virtual disks of known category and performance level, on this machine",
      "clouddisk");
  app->require_subcommand(1);
  app->set_version_flag("--version", CLOUDDISK_VERSION);
  app->add_option("--root", session.root,
                  "Folder of the daemon (its sockets are in it); CLOUDDISK_ROOT stands in for it")
      ->envname("CLOUDDISK_ROOT")
      ->type_name("DIR")
      ->capture_default_str();
  app->add_option(
         "--api", session.api,
         "The daemon's API when it is not unix:DIR/api.sock; CLOUDDISK_API stands in for it. "
         "Requests over tcp:HOST:PORT are signed with the access key in "
         "ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET")
      ->envname("CLOUDDISK_API")
      ->type_name("ADDR");
  static const std::map<std::string, Output> kOutputs{{"table", Output::kTable},
                                                      {"json", Output::kJson}};
  app->add_option_function<std::string>(
         "--output", [&session](const std::string& text) { session.output = kOutputs.at(text); },
         "table (default) or json: what the API answered")
      ->check(CLI::IsMember({"table", "json"}))
      ->type_name("FORMAT");
  app->footer(
      "Examples:\n"
      "  clouddisk disk create --size 40 --performance-level PL1 --name data\n"
      "  clouddisk disk attach d-bp1example\n"
      "  sudo clouddisk disk mount d-bp1example /mnt/data --mkfs ext4\n"
      "  clouddisk disk list\n"
      "  clouddisk snapshot create d-bp1example --name before-upgrade\n"
      "  clouddisk replica status --output json\n"
      "Each command shows more with --help.");
  add_disk_commands(*app, session);
  add_snapshot_commands(*app, session);
  add_image_commands(*app, session);
  add_instance_commands(*app, session);
  add_category_commands(*app, session);
  add_replica_commands(*app, session);
  add_fault_commands(*app, session);
  add_fsck_command(*app, session);
  add_scrub_commands(*app, session);
  add_policy_commands(*app, session);
  add_tag_commands(*app, session);
  add_monitor_commands(*app, session);
  add_event_commands(*app, session);
  add_task_commands(*app, session);
  add_key_commands(*app, session);
  add_bench_command(*app, session);
  add_api_command(*app, session);
  add_completion_command(*app, session);
  // After the commands, which would inherit it.
  app->set_help_all_flag("--help-all", "The help of every command");
  app->failure_message(usage_message);
  return app;
}

Verdict print_answer(const Session& session, const Json& answer, const std::string& member) {
  if (session.json()) {
    print_json(answer);
  } else if (!member.empty()) {
    print_text(text_of(answer, member) + "\n");
  }
  return Done{};
}

int run_command_line(int argc, const char* const* argv) {
  Session session;
  auto app = make_app(session);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app->exit(error, std::cout, std::cerr);
    if (status == 0) return kExitOk;
    // Its statuses are those of fsck(8).
    return app->got_subcommand("fsck") ? kExitFsckUsage : kExitUsage;
  }
  const int status = session.command ? session.command() : kExitUsage;
  if (std::fflush(stdout) != 0) return print_failure({"OutputFailed", "stdout can't be written"});
  return status;
}

}  // namespace clouddisk::cli
