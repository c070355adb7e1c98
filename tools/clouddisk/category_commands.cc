#include <optional>

#include "engine/base/units.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

struct Arguments {
  std::optional<std::uint64_t> size_gib;
  std::optional<std::string> profile;
  bool formulas = false;
};

bool is_true(const Json& object, const std::string& member) {
  return text_of(object, member) == "true";
}

std::string range_text(const Json& row) {
  if (number_of(row, "MaxSize") == 0) return {};
  return fmt::format("{}-{}", with_thousands(number_of(row, "MinSize")),
                     with_thousands(number_of(row, "MaxSize")));
}

std::string latency_text(const Json& row) {
  const std::uint64_t min_us = number_of(row, "LatencyMinUs");
  const std::uint64_t max_us = number_of(row, "LatencyMaxUs");
  const auto milliseconds = [](std::uint64_t us) {
    return fmt::format("{:g}", static_cast<double>(us) / 1000);
  };
  if (max_us == 0) return {};
  if (min_us == max_us) return milliseconds(max_us) + " ms";
  return fmt::format("{}-{} ms", milliseconds(min_us), milliseconds(max_us));
}

std::string use_text(const Json& row) {
  if (!is_true(row, "Available")) return "not to be had";
  if (is_true(row, "SystemDisk") && is_true(row, "DataDisk")) return "system, data";
  return is_true(row, "SystemDisk") ? "system" : "data";
}

std::string megabytes_text(const Json& row) {
  const std::uint64_t bytes = number_of(row, "BytesPerSecond");
  if (bytes % 1_MiB == 0) return with_thousands(bytes / 1_MiB);
  return fmt::format("{:g}", static_cast<double>(bytes) / static_cast<double>(1_MiB));
}

std::string table_text(const Json& answer, const Arguments& arguments) {
  const bool formulas = arguments.formulas || !arguments.size_gib;
  std::vector<Table::Column> columns{{"NAME"}, {"CATEGORY"}, {"LEVEL"}, {"GIB", true}};
  if (arguments.size_gib) {
    columns.push_back({"IOPS", true});
    columns.push_back({"MB/S", true});
  }
  if (formulas) {
    columns.push_back({"IOPS OF C GIB"});
    columns.push_back({"MB/S OF C GIB"});
  }
  columns.push_back({"LATENCY"});
  columns.push_back({"USE"});
  Table table(columns);
  for (const Json& row : answer["Categories"]["Category"]) {
    std::vector<std::string> cells{text_of(row, "Title"), text_of(row, "Category"),
                                   text_of(row, "PerformanceLevel"), range_text(row)};
    if (arguments.size_gib) {
      // Limits are shown where a disk of this size can be made.
      const bool possible = is_true(row, "Available") && is_true(row, "SizeInRange");
      cells.push_back(possible ? with_thousands(number_of(row, "IOPS")) : "");
      cells.push_back(possible ? megabytes_text(row) : "");
    }
    if (formulas) {
      cells.push_back(text_of(row, "IopsFormula"));
      cells.push_back(text_of(row, "ThroughputFormula"));
    }
    cells.push_back(latency_text(row));
    cells.push_back(use_text(row));
    table.add_row(std::move(cells));
  }
  std::string text = table.text();
  const std::string profile = text_of(answer, "Profile");
  if (arguments.size_gib) {
    text += fmt::format("Limits of a disk of {}, profile {}; \"-\": not to be had at this size.\n",
                        gib_text(*arguments.size_gib), profile);
  } else {
    text += fmt::format("Profile {}. Figures for a size: clouddisk category list --size GIB\n",
                        profile);
  }
  return text;
}

}  // namespace

void add_category_commands(CLI::App& root, Session& session) {
  CLI::App* category = add_noun(root, "category", "Disk categories and their limits",
                                "  clouddisk category list --size 40");
  CLI::App* list = add_command(*category, "list", "Show categories and levels with their limits",
                               "  clouddisk category list\n"
                               "  clouddisk category list --size 2000\n"
                               "  clouddisk category list --size 2000 --formulas --profile 2024\n"
                               "  clouddisk category list --size 40 --output json");
  auto arguments = std::make_shared<Arguments>();
  list->add_option("--size", arguments->size_gib, "Show the limits of a disk of this capacity")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
      ->type_name("GIB");
  list->add_option("--profile", arguments->profile,
                   "2021: the users' manual; 2024: newer ranges; default: the daemon's")
      ->check(CLI::IsMember({"2021", "2024"}))
      ->type_name("NAME");
  list->add_flag("--formulas", arguments->formulas, "Show the formulas beside the limits");
  on_call(list, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->size_gib) params["Size"] = std::to_string(*arguments->size_gib);
    if (arguments->profile) params["Profile"] = *arguments->profile;
    auto answer = api.call("DescribeCategories", params);
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(table_text(*answer, *arguments));
    }
    return Done{};
  });
}

}  // namespace clouddisk::cli
