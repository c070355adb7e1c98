// session.h: what one run of the command line shares: the global options, the API, and how results
// and refusals are printed. Commands register themselves on the CLI11 tree; parsing chooses one.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "tools/clouddisk/api_client.h"
#include "tools/clouddisk/outcome.h"

namespace clouddisk::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitFsckUsage = 16;

inline constexpr std::string_view kDefaultRoot = "/var/lib/clouddisk";
inline constexpr std::string_view kLocalInstance = "i-local";

enum class Output { kTable, kJson };

struct Session {
  std::string root = std::string(kDefaultRoot);
  std::string api;  // an address; empty: unix:ROOT/api.sock
  Output output = Output::kTable;
  // The chosen command, set while parsing; gives the exit status.
  std::function<int()> command;

  bool json() const { return output == Output::kJson; }
  // kExitUsage is for a bad --api; that is why this can fail.
  Outcome<ApiClient> client() const;
};

// "error: CODE: what to do" on stderr; gives kExitRefused, or kExitUsage for wrong usage.
int print_failure(const Failure& failure);
void print_json(const Json& json);
void print_text(std::string_view text);
// An action's answer: all of it as JSON, or the member alone; empty: nothing.
Verdict print_answer(const Session& session, const Json& answer, const std::string& member);

// A subcommand with its examples, one a line, shown at the end of its --help.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& purpose,
                      const std::string& examples);
// The parent of a noun's verbs.
CLI::App* add_noun(CLI::App& root, const std::string& name, const std::string& purpose,
                   const std::string& examples);

// Makes `run` the command's action: it gets the API and gives a Verdict.
template <class Run>
void on_call(CLI::App* command, Session& session, Run run) {
  command->callback([&session, run] {
    session.command = [&session, run] {
      auto client = session.client();
      if (!client) return print_failure(client.failure());
      Verdict verdict = run(*client);
      return verdict ? kExitOk : print_failure(verdict.failure());
    };
  });
}

void add_disk_commands(CLI::App& root, Session& session);
void add_mount_commands(CLI::App& disk, Session& session);
void add_rollback_commands(CLI::App& disk, Session& session);
void add_snapshot_commands(CLI::App& root, Session& session);
void add_snapshot_files(CLI::App& snapshot, Session& session);
void add_image_commands(CLI::App& root, Session& session);
void add_image_copy(CLI::App& image, Session& session);
void add_snapshot_copy(CLI::App& snapshot, Session& session);
void add_snapshot_modify(CLI::App& snapshot, Session& session);
void add_instance_commands(CLI::App& root, Session& session);
void add_category_commands(CLI::App& root, Session& session);
void add_replica_commands(CLI::App& root, Session& session);
void add_fault_commands(CLI::App& root, Session& session);
void add_fsck_command(CLI::App& root, Session& session);
void add_scrub_commands(CLI::App& root, Session& session);
void add_policy_commands(CLI::App& root, Session& session);
void add_tag_commands(CLI::App& root, Session& session);
void add_key_commands(CLI::App& root, Session& session);
void add_monitor_commands(CLI::App& root, Session& session);
void add_event_commands(CLI::App& root, Session& session);
void add_task_commands(CLI::App& root, Session& session);
void add_bench_command(CLI::App& root, Session& session);
void add_api_command(CLI::App& root, Session& session);
void add_completion_command(CLI::App& root, Session& session);

// The whole tree.
std::unique_ptr<CLI::App> make_app(Session& session);
// Parses and runs; gives the exit status of the contract: 0, 1 or 2.
int run_command_line(int argc, const char* const* argv);

}  // namespace clouddisk::cli
