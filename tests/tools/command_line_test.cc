// The command tree itself: usage, help, completion and documentation.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "engine/qos/category.h"
#include "tools/clouddisk/api_words.h"
#include "tools/clouddisk/process.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddiskd/options.h"

namespace clouddisk::cli {
namespace {

struct Printed {
  int status = 0;
  std::string out;
  std::string err;
};

Printed run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "clouddisk");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Printed result;
  result.status = run_command_line(static_cast<int>(arguments.size()), arguments.data());
  result.out = testing::internal::GetCapturedStdout();
  result.err = testing::internal::GetCapturedStderr();
  return result;
}

void for_each_command(const CLI::App& app, const std::function<void(const CLI::App&)>& visit) {
  visit(app);
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    for_each_command(*child, visit);
  }
}

std::string documentation() {
  std::ifstream file(std::string(CLOUDDISK_SOURCE_DIR) + "/docs/cli.md");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(CommandLine, WrongUsageIsStatus2AndNamesTheHelp) {
  const std::vector<std::vector<const char*>> cases = {
      {},
      {"disk"},
      {"nonsense"},
      {"disk", "nonsense"},
      {"disk", "create"},
      {"disk", "create", "--size", "x"},
      {"disk", "create", "--size", "-5"},
      {"disk", "create", "--size", "40", "--count", "0"},
      {"disk", "create", "--size", "40", "extra"},
      {"disk", "show"},
      {"disk", "list", "--unknown"},
      {"--output", "xml", "disk", "list"},
      {"replica", "resync"},
      {"replica", "resync", "two"},
      {"disk", "mount", "d-1", "/mnt", "--mkfs", "fat"},
      {"completion", "tcsh"},
      {"category", "list", "--size", "0"},
  };
  for (const auto& arguments : cases) {
    const Printed result = run(arguments);
    const std::string name = arguments.empty() ? "(nothing)" : arguments.back();
    EXPECT_EQ(result.status, 2) << name;
    EXPECT_EQ(result.out, "") << name;
    EXPECT_TRUE(result.err.starts_with("error: WrongUsage: ")) << name << ": " << result.err;
    EXPECT_NE(result.err.find("--help"), std::string::npos) << name;
  }
}

TEST(CommandLine, AnUnknownCommandIsNamed) {
  EXPECT_EQ(
      run({"disk", "frob"}).err,
      "error: WrongUsage: clouddisk disk has no command 'frob'; see: clouddisk disk --help\n");
  EXPECT_EQ(run({"frob"}).err,
            "error: WrongUsage: clouddisk has no command 'frob'; see: clouddisk --help\n");
  EXPECT_EQ(
      run({"disk", "--frob"}).err,
      "error: WrongUsage: clouddisk disk has no option '--frob'; see: clouddisk disk --help\n");
}

TEST(CommandLine, AValueOfTheWrongFormIsToldTheForm) {
  struct Case {
    std::vector<const char*> arguments;
    const char* said;
  };
  const Case cases[] = {
      {{"disk", "create", "--size", "40G"}, "--size is a whole number of GiB, as in 40, not '40G'"},
      {{"disk", "resize", "d-1", "--size", "1T"}, "--size is a whole number of GiB"},
      {{"category", "list", "--size", "x"}, "--size is a whole number of GiB"},
      {{"instance", "create", "--system-size", "40G"}, "--system-size is a whole number of GiB"},
      {{"instance", "replace-system-disk", "i-1", "--image", "m-1", "--size", "4g"},
       "--size is a whole number of GiB"},
      {{"disk", "modify", "d-1", "--delete-with-instance", "maybe"},
       "--delete-with-instance is true or false, not 'maybe'"},
      {{"fault", "set", "d-1", "--kind", "slow", "--seed", "x"}, "--seed is a number, as in 3"},
      {{"disk", "create", "--sise", "40"}, "clouddisk disk create has no option '--sise'"},
      {{"api", "DescribeDisks", "Foo"}, "'Foo' is not NAME=VALUE"},
      {{"policy", "create", "--time", "25"}, "--time is a whole hour"},
      {{"replica", "resync", "two"}, "REPLICA is a number, as in 3, not 'two'"},
      {{"replica", "resync", "99999999999999999999"}, "REPLICA can't be 99999999999999999999"},
      {{"replica", "resync", "08"}, "REPLICA is a whole number from 0 on"},
      {{"key", "create", "--env=maybe"}, "--env takes no value"},
      {{"category", "list", "--size", "0"}, "not in range 1 to"},
  };
  for (const Case& c : cases) {
    const Printed result = run(c.arguments);
    EXPECT_EQ(result.status, 2) << c.said;
    EXPECT_NE(result.err.find(c.said), std::string::npos) << result.err;
  }
  for (const char* option : {"--from", "--to"}) {
    const Printed result = run({"monitor", "disk", "d-1", option, "yesterday"});
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("'yesterday' is no time; write it as 2026-01-01T00:00:00Z"),
              std::string::npos)
        << result.err;
  }
  const Printed far = run({"disk", "create", "--size", "40", "--store-latency", "2m"});
  EXPECT_NE(far.err.find("--store-latency: at most 60s"), std::string::npos) << far.err;
}

TEST(CommandLine, TheHelpOfCreateNamesEveryCategoryThatCanBeHad) {
  const std::string help = run({"disk", "create", "--help"}).out;
  for (const CategoryRow* row : category_table(Profile::k2021)) {
    if (!row->creatable()) continue;
    EXPECT_NE(help.find(row->category), std::string::npos) << row->category;
  }
}

TEST(CommandLine, AnOwnKeyIsAnIdAndASecret) {
  EXPECT_EQ(run({"key", "create", "--id", "LTAIexample"}).status, 2);
  EXPECT_NE(run({"key", "create", "--id", "LTAIexample"}).err.find("--secret-file"),
            std::string::npos);
  EXPECT_EQ(run({"key", "create", "--secret-file", "-"}).status, 2);
}

TEST(CommandLine, WordsOfTheApiBecomeOptions) {
  EXPECT_EQ(in_words_of_the_command_line("stop it, or use Force=true."),
            "stop it, or use --force.");
  EXPECT_EQ(in_words_of_the_command_line("CopiedSnapshotsRetentionDays needs "
                                         "EnableCrossRegionCopy=true."),
            "--copy-retention-days needs --copy-to.");
  EXPECT_EQ(in_words_of_the_command_line("RetentionDays is a whole number, not 'x'."),
            "--retention-days is a whole number, not 'x'.");
  const std::string mine = "There is no disk 'ResourceType', nor MyClientToken2.";
  EXPECT_EQ(in_words_of_the_command_line(mine), mine);
}

TEST(CommandLine, ADaemonThatDoesNotRunIsStatus1AndSaysHowToStartIt) {
  const std::vector<std::vector<const char*>> cases = {
      {"disk", "list"},          {"disk", "create", "--size", "40"},
      {"disk", "attach", "d-1"}, {"replica", "status"},
      {"instance", "list"},      {"category", "list"},
      {"api", "DescribeRegions"}};
  for (auto arguments : cases) {
    arguments.insert(arguments.begin(), {"--root", "/tmp/clouddisk-nobody-here"});
    const Printed result = run(arguments);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("error: DaemonNotRunning: ")) << result.err;
    EXPECT_NE(result.err.find("clouddiskd --root /tmp/clouddisk-nobody-here\n"), std::string::npos);
  }
  const Printed elsewhere =
      run({"--root", "/tmp/x", "--api", "unix:/tmp/clouddisk-nobody-here.sock", "disk", "list"});
  const char* const command =
      "clouddiskd --root /tmp/x --api unix:/tmp/clouddisk-nobody-here.sock\n";
  EXPECT_NE(elsewhere.err.find(command), std::string::npos) << elsewhere.err;
}

TEST(CommandLine, GlobalOptionsMayFollowTheCommandAndComeFromTheEnvironment) {
  const Printed after = run({"disk", "list", "--root", "/tmp/clouddisk-nobody-here"});
  EXPECT_NE(after.err.find("/tmp/clouddisk-nobody-here"), std::string::npos);
  ::setenv("CLOUDDISK_ROOT", "/tmp/clouddisk-from-environment", 1);
  const Printed environment = run({"disk", "list"});
  ::unsetenv("CLOUDDISK_ROOT");
  EXPECT_NE(environment.err.find("/tmp/clouddisk-from-environment"), std::string::npos);
  const Printed bad = run({"--api", "nonsense", "disk", "list"});
  EXPECT_EQ(bad.status, 2);
  EXPECT_TRUE(bad.err.starts_with("error: WrongUsage: ")) << bad.err;
  const Printed tls = run({"--api", "tls:127.0.0.1:1", "disk", "list"});
  EXPECT_NE(tls.err.find("This program does not speak TLS"), std::string::npos) << tls.err;
}

TEST(CommandLine, EveryCommandHasAPurposeAndExamples) {
  Session session;
  const auto app = make_app(session);
  int commands = 0;
  for_each_command(*app, [&](const CLI::App& command) {
    ++commands;
    EXPECT_FALSE(command.get_description().empty()) << command.get_name();
    EXPECT_TRUE(command.get_footer().starts_with("Examples:\n  ")) << command.get_name();
    for (const CLI::Option* option : command.get_options()) {
      EXPECT_FALSE(option->get_description().empty())
          << command.get_name() << " " << option->get_name();
    }
  });
  EXPECT_GT(commands, 20);
}

TEST(CommandLine, EveryCommandAndFlagIsDocumented) {
  const std::string text = documentation();
  ASSERT_FALSE(text.empty()) << "docs/cli.md";
  Session session;
  const auto app = make_app(session);
  for_each_command(*app, [&](const CLI::App& command) {
    std::string path = command.get_name();
    for (const CLI::App* parent = command.get_parent(); parent != nullptr;
         parent = parent->get_parent()) {
      path = parent->get_name() + " " + path;
    }
    const std::size_t section = text.find("# `" + path + "`\n");
    ASSERT_NE(section, std::string::npos) << "no section about " << path;
    const std::size_t next = text.find("\n##", section);
    const std::string about = text.substr(section, next - section);
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        if (name == "help") continue;
        EXPECT_NE(about.find("`--" + name), std::string::npos) << path << " --" << name;
      }
    }
  });
}

TEST(CommandLine, EveryFlagOfTheDaemonIsDocumented) {
  const std::string text = documentation();
  testing::internal::CaptureStdout();
  const char* const arguments[] = {"clouddiskd", "--help"};
  auto parsed = parse_daemon_options(2, arguments);
  const std::string help = testing::internal::GetCapturedStdout();
  ASSERT_EQ(parsed.index(), 1U);
  EXPECT_EQ(std::get<1>(parsed), 0);
  int flags = 0;
  for (std::size_t at = help.find("\n  "); at != std::string::npos;
       at = help.find("\n  ", at + 1)) {
    const std::size_t dashes = help.find("--", at);
    if (dashes == std::string::npos) break;
    if (dashes > at + 7) continue;  // "  --x" or "  -h,--x"
    const std::string flag = help.substr(dashes, help.find_first_of(" ,\n", dashes) - dashes);
    EXPECT_NE(text.find("`" + flag), std::string::npos) << flag;
    ++flags;
  }
  EXPECT_GE(flags, 15);
}

TEST(Completion, TheBashScriptParsesAndOffersWhatFits) {
  ASSERT_FALSE(find_program("bash").empty());
  const Printed script = run({"completion", "bash"});
  ASSERT_EQ(script.status, 0);
  const auto complete = [&](const std::string& words) {
    auto result = run_program(
        {"bash", "-c",
         script.out + "\nCOMP_WORDS=(" + words +
             " '')\nCOMP_CWORD=$((${#COMP_WORDS[@]}-1))\n_clouddisk\necho \"${COMPREPLY[@]}\""});
    EXPECT_TRUE(result);
    EXPECT_EQ(result->errors, "");
    return result->output;
  };
  EXPECT_NE(complete("clouddisk").find("disk snapshot image instance category"), std::string::npos);
  EXPECT_NE(complete("clouddisk --root /x disk").find("create list show"), std::string::npos);
  EXPECT_NE(complete("clouddisk disk create --size 40").find("--performance-level"),
            std::string::npos);
  EXPECT_EQ(complete("clouddisk disk create").find("instance"), std::string::npos);
}

TEST(Completion, EveryShellGetsEveryVerb) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Printed script = run({"completion", shell});
    ASSERT_EQ(script.status, 0) << shell;
    for (const char* word : {"create", "umount", "resync", "performance-level", "formulas"}) {
      EXPECT_NE(script.out.find(word), std::string::npos) << shell << " " << word;
    }
  }
}

}  // namespace
}  // namespace clouddisk::cli
