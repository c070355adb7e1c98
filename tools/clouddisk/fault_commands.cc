#include <charconv>
#include <optional>

#include "engine/base/units.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"
#include "tools/net/quantity.h"

namespace clouddisk::cli {
namespace {

struct FaultArguments {
  std::string disk, kind;
  std::optional<unsigned> replica;
  std::vector<std::string> ops;
  std::optional<std::string> rate, blocks, delay, lifetime;
  std::optional<std::uint64_t> seed;
};

// "0-255", both included, or "7".
Verdict set_fault_blocks(Params& params, const std::string& text) {
  const std::size_t dash = text.find('-');
  const std::string first = text.substr(0, dash);
  const std::string last = dash == std::string::npos ? first : text.substr(dash + 1);
  for (const std::string& part : {first, last}) {
    if (part.empty() || part.find_first_not_of("0123456789") != std::string::npos) {
      return refuse(kWrongUsage,
                    "--lba: '{}' is no range of 4 KiB blocks; write it as 0-255, or 7 for one",
                    text);
    }
  }
  params["FirstBlock"] = first;
  params["LastBlock"] = last;
  return Done{};
}

template <class Unit>
Verdict set_duration(Params& params, const std::string& parameter, const std::string& option,
                     const std::optional<std::string>& text) {
  if (!text) return Done{};
  auto duration = parse_duration(*text);
  if (!duration) return refuse(kWrongUsage, "{}: {}", option, duration.error().message);
  const auto count = std::chrono::ceil<Unit>(*duration).count();
  params[parameter] = std::to_string(count);
  return Done{};
}

Outcome<Params> fault_params(const FaultArguments& arguments) {
  Params params{{"DiskId", arguments.disk}, {"Kind", arguments.kind}};
  if (arguments.replica) params["Replica"] = std::to_string(*arguments.replica);
  for (std::size_t i = 0; i < arguments.ops.size(); ++i) {
    params[fmt::format("Op.{}", i + 1)] = arguments.ops[i];
  }
  if (arguments.rate) params["Rate"] = *arguments.rate;
  if (arguments.seed) params["Seed"] = std::to_string(*arguments.seed);
  if (arguments.blocks) {
    if (auto set = set_fault_blocks(params, *arguments.blocks); !set) return set.failure();
  }
  auto delay =
      set_duration<std::chrono::microseconds>(params, "DelayUs", "--delay", arguments.delay);
  if (!delay) return delay.failure();
  auto lifetime =
      set_duration<std::chrono::milliseconds>(params, "LifetimeMs", "--for", arguments.lifetime);
  if (!lifetime) return lifetime.failure();
  return params;
}

std::string fault_time_left(const Json& fault) {
  if (!fault.contains("TimeLeftMs")) return "until cleared";
  return fmt::format("{:.1f} s", static_cast<double>(number_of(fault, "TimeLeftMs")) / 1000);
}

std::string faults_table(const Json& faults) {
  Table table({{"ID"}, {"DISK"}, {"FAULT"}, {"TIME LEFT"}, {"HITS", true}, {"SEED", true}});
  for (const Json& fault : faults) {
    table.add_row({text_of(fault, "FaultId"), text_of(fault, "DiskId"), text_of(fault, "Text"),
                   fault_time_left(fault), with_thousands(number_of(fault, "Hits")),
                   text_of(fault, "Seed")});
  }
  return table.text();
}

void add_fault_set(CLI::App& fault, Session& session) {
  CLI::App* command =
      add_command(fault, "set", "Break a disk on purpose, and print the fault's id",
                  "  clouddisk fault set d-bp1example --kind error --op read --rate 10% --for 30s\n"
                  "  clouddisk fault set d-bp1example --kind slow --delay 20ms\n"
                  "  clouddisk fault set d-bp1example --kind full --lba 0-255\n"
                  "  clouddisk fault set d-bp1example --kind hang --for 5s\n"
                  "  clouddisk fault set d-bp1example --kind corrupt --replica 2 --op read");
  auto arguments = std::make_shared<FaultArguments>();
  command->add_option("DISK", arguments->disk, "The disk's id, d-…; it must be attached")
      ->required()
      ->type_name("");
  command
      ->add_option("--kind", arguments->kind,
                   "slow, error, corrupt, torn, drop, full or hang; see docs/faults.md")
      ->required()
      ->check(CLI::IsMember({"slow", "error", "corrupt", "torn", "drop", "full", "hang"}))
      ->type_name("KIND");
  command
      ->add_option("--replica", arguments->replica,
                   "Below the engine, at this replica alone, which must be masked; without it the "
                   "disk's clients see the fault")
      ->type_name("N");
  command
      ->add_option("--op", arguments->ops,
                   "read, write or flush; may be repeated; default: all that the kind can meet")
      ->check(CLI::IsMember({"read", "write", "flush"}))
      ->take_all()
      ->expected(1)
      ->type_name("OP");
  command
      ->add_option("--rate", arguments->rate,
                   "Share of these requests, as in 0.1 or 10%; default: all")
      ->type_name("RATE");
  command
      ->add_option("--lba", arguments->blocks,
                   "Only requests that touch these blocks of 4 KiB, both included, as in 0-255")
      ->type_name("A-B");
  command
      ->add_option("--delay", arguments->delay, "Of slow, as in 20ms (default: 100ms), up to 60s")
      ->type_name("TIME");
  command
      ->add_option("--for", arguments->lifetime,
                   "How long, as in 30s, 5m or 2h, up to 168h; default: until it is cleared")
      ->type_name("TIME");
  command
      ->add_option("--seed", arguments->seed,
                   "Of the draws: the same requests meet the fault again; default: random, shown "
                   "by list")
      ->type_name("N");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto params = fault_params(*arguments);
    if (!params) return params.failure();
    auto answer = api.call("SetDiskFault", *params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(text_of(*answer, "FaultId") + "\n");
    }
    return Done{};
  });
}

void add_fault_list(CLI::App& fault, Session& session) {
  CLI::App* command = add_command(fault, "list", "Show the faults that are set",
                                  "  clouddisk fault list\n"
                                  "  clouddisk fault list d-bp1example --output json");
  auto disk = std::make_shared<std::string>();
  command->add_option("DISK", *disk, "Only those of this disk")->type_name("");
  on_call(command, session, [disk, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (!disk->empty()) params["DiskId"] = *disk;
    auto answer = api.call("DescribeDiskFaults", params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(faults_table((*answer)["Faults"]["Fault"]));
    }
    return Done{};
  });
}

void add_fault_clear(CLI::App& fault, Session& session) {
  CLI::App* command = add_command(fault, "clear", "End faults; what hangs on them goes on",
                                  "  clouddisk fault clear f-3\n"
                                  "  clouddisk fault clear d-bp1example\n"
                                  "  clouddisk fault clear --all");
  auto what = std::make_shared<std::string>();
  auto all = std::make_shared<bool>(false);
  auto* id = command->add_option("ID", *what, "A fault, f-…, or all of a disk, d-…")->type_name("");
  auto* flag = command->add_flag("--all", *all, "Every fault of every disk");
  id->excludes(flag);
  command->parse_complete_callback([what, all] {
    if (what->empty() && !*all) throw CLI::RequiredError("The id of a fault or a disk, or --all,");
  });
  on_call(command, session, [what, all, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (*all) {
      params["All"] = "true";
    } else {
      params[what->starts_with("f-") ? "FaultId" : "DiskId"] = *what;
    }
    auto answer = api.call("ClearDiskFaults", params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(fmt::format("{} cleared\n", number_of(*answer, "Cleared")));
    }
    return Done{};
  });
}

}  // namespace

void add_fault_commands(CLI::App& root, Session& session) {
  CLI::App* fault = add_noun(root, "fault", "Failures on purpose, to test what uses the disks",
                             "  clouddisk fault set d-bp1example --kind error --rate 1%\n"
                             "  clouddisk fault list\n"
                             "  clouddisk fault clear --all");
  add_fault_set(*fault, session);
  add_fault_list(*fault, session);
  add_fault_clear(*fault, session);
}

}  // namespace clouddisk::cli
