// Access keys, with which clients elsewhere sign their requests.
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

// The first line of a file, or of standard input.
Outcome<std::string> read_secret(const std::string& path) {
  std::string line;
  if (path == "-") {
    std::getline(std::cin, line);
    return line;
  }
  std::ifstream file(path);
  if (!std::getline(file, line)) return refuse("InvalidParameter", "{}: can't be read", path);
  return line;
}

void add_key_create(CLI::App& key, Session& session) {
  struct Arguments {
    std::optional<std::string> id, secret_file, description;
    bool env = false;
  };
  CLI::App* command =
      add_command(key, "create",
                  "Make an access key; print its id and its new secret, which is never shown again",
                  "  clouddisk key create\n"
                  "  clouddisk key create --description ci\n"
                  "  eval \"$(clouddisk key create --env)\"\n"
                  "  clouddisk key create --id LTAIexample --secret-file secret.txt");
  auto arguments = std::make_shared<Arguments>();
  CLI::Option* id = command->add_option("--id", arguments->id, "Take this id instead of a new one")
                        ->type_name("ID");
  CLI::Option* secret =
      command
          ->add_option("--secret-file", arguments->secret_file,
                       "With --id: the file whose first line is the secret; - for standard input")
          ->needs(id)
          ->type_name("FILE");
  id->needs(secret);
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  command->add_flag("--env", arguments->env,
                    "Print export lines, as the cloud's client libraries read them");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->id) params["UserAccessKeyId"] = *arguments->id;
    if (arguments->secret_file) {
      auto secret = read_secret(*arguments->secret_file);
      if (!secret) return secret.failure();
      params["UserAccessKeySecret"] = *secret;
    }
    if (arguments->description) params["Description"] = *arguments->description;
    auto answer = api.call("CreateAccessKey", params);
    if (!answer) return answer.failure();
    Json& made = (*answer)["AccessKey"];
    const bool own = arguments->secret_file && !arguments->env;  // Who brought it has it.
    if (own && made.is_object()) made.erase("AccessKeySecret");
    if (session.json()) {
      print_json(*answer);
    } else if (own) {
      print_text(text_of(made, "AccessKeyId") + "\n");
    } else {
      const std::string id = text_of(made, "AccessKeyId");
      const std::string secret = text_of(made, "AccessKeySecret");
      print_text(arguments->env ? fmt::format("export ALIBABA_CLOUD_ACCESS_KEY_ID={}\n"
                                              "export ALIBABA_CLOUD_ACCESS_KEY_SECRET={}\n",
                                              shell_quoted(id), shell_quoted(secret))
                                : fmt::format("{}\n{}\n", id, secret));
    }
    return Done{};
  });
}

void add_key_list(CLI::App& key, Session& session) {
  CLI::App* command = add_command(key, "list", "Show every access key, without the secrets",
                                  "  clouddisk key list\n"
                                  "  clouddisk key list --output json");
  on_call(command, session, [&session](const ApiClient& api) -> Verdict {
    auto answer = api.call("ListAccessKeys", {});
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"ACCESS KEY"}, {"STATUS"}, {"CREATED"}, {"DESCRIPTION"}});
    for (const Json& one : (*answer)["AccessKeys"]["AccessKey"]) {
      table.add_row({text_of(one, "AccessKeyId"), text_of(one, "Status"),
                     text_of(one, "CreateDate"), text_of(one, "Description")});
    }
    print_text(table.text());
    return Done{};
  });
}

// A verb on one key.
void add_key_change(CLI::App& key, Session& session, const std::string& name,
                    const std::string& purpose, const std::string& action, const Params& with) {
  CLI::App* command =
      add_command(key, name, purpose, fmt::format("  clouddisk key {} LTAIexample", name));
  auto id = std::make_shared<std::string>();
  command->add_option("KEY", *id, "The access key's id")->required()->type_name("");
  on_call(command, session, [id, action, with, &session](const ApiClient& api) -> Verdict {
    Params params = with;
    params["UserAccessKeyId"] = *id;
    auto answer = api.call(action, params);
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

}  // namespace

void add_key_commands(CLI::App& root, Session& session) {
  CLI::App* key = add_noun(root, "key", "Access keys, with which requests over TCP are signed",
                           "  clouddisk key create --description ci\n"
                           "  clouddisk key list\n"
                           "  clouddisk key delete LTAIexample");
  add_key_create(*key, session);
  add_key_list(*key, session);
  add_key_change(*key, session, "disable", "Refuse what is signed with a key, until it is enabled",
                 "UpdateAccessKey", {{"Status", "Inactive"}});
  add_key_change(*key, session, "enable", "Accept what is signed with a key again",
                 "UpdateAccessKey", {{"Status", "Active"}});
  add_key_change(*key, session, "delete", "Delete an access key", "DeleteAccessKey", {});
}

}  // namespace clouddisk::cli
