#include "tools/clouddisk/session.h"

namespace clouddisk::cli {

void add_api_command(CLI::App& root, Session& session) {
  struct Arguments {
    std::string action;
    std::vector<std::string> parameters;
  };
  CLI::App* command = add_command(root, "api", "Call any action of the API; prints its JSON",
                                  "  clouddisk api DescribeRegions\n"
                                  "  clouddisk api DescribeDisks Status=Available PageSize=10\n"
                                  "  clouddisk api CreateDisk Size=40 DiskCategory=cloud_essd "
                                  "Tag.1.Key=env Tag.1.Value=test");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("ACTION", arguments->action, "As in docs/api.md")->required()->type_name("");
  command->add_option("PARAMETER", arguments->parameters, "Parameters as NAME=VALUE")
      ->type_name("");
  on_call(command, session, [arguments](const ApiClient& api) -> Verdict {
    Params params;
    for (const std::string& parameter : arguments->parameters) {
      const std::size_t equals = parameter.find('=');
      if (equals == std::string::npos || equals == 0) {
        return refuse(kWrongUsage, "'{}' is not NAME=VALUE", parameter);
      }
      params[parameter.substr(0, equals)] = parameter.substr(equals + 1);
    }
    auto answer = api.perform(arguments->action, params);
    if (!answer) return answer.failure();
    print_json(*answer);
    return Done{};
  });
}

}  // namespace clouddisk::cli
