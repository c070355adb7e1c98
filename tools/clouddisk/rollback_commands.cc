#include <chrono>
#include <optional>
#include <thread>

#include "engine/base/units.h"
#include "tools/clouddisk/mount.h"
#include "tools/clouddisk/mounted_disks.h"
#include "tools/clouddisk/progress.h"
#include "tools/clouddisk/session.h"
#include "tools/net/quantity.h"

namespace clouddisk::cli {
namespace {

constexpr std::chrono::milliseconds kHydrationPoll(200);
constexpr std::uint64_t kRateMin = 1_MiB;
constexpr std::string_view kInstanceRuns = "IncorrectInstanceStatus";

CLI::Option* add_disk_argument(CLI::App* command, std::string& id) {
  return command->add_option("DISK", id, "The disk's id, d-…")->required()->type_name("");
}

struct Going {
  std::string id;
  std::optional<std::string> snapshot;
  bool restart = false;
};

// The instance that has to be stopped for it, if it runs; empty: none.
Outcome<std::string> running_instance_of(const ApiClient& api, const std::string& disk_id) {
  auto disks = api.call("DescribeDisks", {{"DiskIds", Json::array({disk_id}).dump()}});
  if (!disks) return disks.failure();
  const Json& found = (*disks)["Disks"]["Disk"];
  if (found.empty()) return std::string();  // The action itself says so best.
  const std::string instance = text_of(found[0], "InstanceId");
  if (instance.empty()) return instance;
  auto states = api.call("DescribeInstances", {{"InstanceIds", Json::array({instance}).dump()}});
  if (!states) return states.failure();
  const Json& instances = (*states)["Instances"]["Instance"];
  const bool runs = !instances.empty() && text_of(instances[0], "Status") == "Running";
  return runs ? instance : std::string();
}

// Whether the action would be refused for another reason than that the instance runs: nobody's
// sessions are closed for nothing.
Verdict must_be_possible(const ApiClient& api, const std::string& action, Params params) {
  params["DryRun"] = "true";
  auto tried = api.call(action, params);
  if (tried) return Done{};
  const std::string& code = tried.failure().code;
  if (code == "DryRunOperation" || code == kInstanceRuns) return Done{};
  return tried.failure();
}

// Stops the disk's instance around the action when asked to.
Verdict go(const ApiClient& api, const Session& session, const Going& going,
           const std::string& action, Params params) {
  if (const auto mounted = mounted_at(session.root, going.id)) {
    return Failure{"DiskMounted",
                   fmt::format("Disk {} is mounted at {}. First: clouddisk disk umount {}",
                               going.id, *mounted, going.id)};
  }
  std::string instance;
  if (going.restart) {
    auto running = running_instance_of(api, going.id);
    if (!running) return running.failure();
    instance = *running;
    if (!instance.empty()) {
      if (auto possible = must_be_possible(api, action, params); !possible) return possible;
      auto safe = instance_mounts_must_ride_out(api, session.root, instance);
      if (!safe) return safe;
      auto stopped = api.call("StopInstance", {{"InstanceId", instance}});
      if (!stopped) return stopped.failure();
    }
  }
  auto answer = api.call(action, params);
  if (!instance.empty()) {
    auto started = api.call("StartInstance", {{"InstanceId", instance}});
    if (answer && !started) return started.failure();
  }
  if (!answer) {
    Failure failure = answer.failure();
    if (failure.code != kInstanceRuns) return failure;
    auto running = running_instance_of(api, going.id);
    if (running && !running->empty()) {
      failure.message += fmt::format(
          " Do that with --restart-instance, or with: clouddisk instance stop {}", *running);
    }
    return failure;
  }
  if (session.json()) print_json(*answer);
  return Done{};
}

void add_restart(CLI::App* command, bool& restart) {
  command->add_flag(
      "--restart-instance", restart,
      "Stop the instance that it is attached to, and start it again afterwards: all its "
      "disks lose their clients meanwhile");
}

void add_rollback(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(
      disk, "rollback", "Bring a disk back to one of its snapshots; its instance is stopped",
      "  clouddisk disk rollback d-bp1example --snapshot s-bp1example\n"
      "  clouddisk disk rollback d-bp1example --snapshot s-bp1example --restart-instance\n"
      "  clouddisk disk undo-rollback d-bp1example");
  auto going = std::make_shared<Going>();
  add_disk_argument(command, going->id);
  command->add_option("--snapshot", going->snapshot, "The snapshot's id, s-…")
      ->required()
      ->type_name("ID");
  add_restart(command, going->restart);
  on_call(command, session, [going, &session](const ApiClient& api) {
    return go(api, session, *going, "ResetDisk",
              {{"DiskId", going->id}, {"SnapshotId", *going->snapshot}});
  });
}

void add_reinit(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(
      disk, "reinit", "Bring a disk back to its creation: empty, or the snapshot it was made from",
      "  clouddisk disk reinit d-bp1example --restart-instance");
  auto going = std::make_shared<Going>();
  add_disk_argument(command, going->id);
  add_restart(command, going->restart);
  on_call(command, session, [going, &session](const ApiClient& api) {
    return go(api, session, *going, "ReInitDisk", {{"DiskId", going->id}});
  });
}

void add_undo(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(
      disk, "undo-rollback",
      "Bring back what a rollback or reinit replaced, within 24 hours and before the next "
      "snapshot",
      "  clouddisk disk undo-rollback d-bp1example --restart-instance");
  auto going = std::make_shared<Going>();
  add_disk_argument(command, going->id);
  add_restart(command, going->restart);
  on_call(command, session, [going, &session](const ApiClient& api) {
    return go(api, session, *going, "UndoResetDisk", {{"DiskId", going->id}});
  });
}

std::string hydration_line(const std::string& status, std::uint64_t done, std::uint64_t total) {
  if (status == "loading") return bar_text(done, total);
  if (status == "waiting") return "waiting: it loads while it is attached to a running instance";
  return status;
}

void add_hydrate(CLI::App& disk, Session& session) {
  CLI::App* command = add_command(
      disk, "hydrate", "Wait until a disk has loaded all that it borrows from a snapshot",
      "  clouddisk disk hydrate d-bp1example\n"
      "  clouddisk disk hydrate d-bp1example --rate 50M\n"
      "  clouddisk disk hydrate d-bp1example --no-wait --output json");
  struct Arguments {
    std::string id;
    bool no_wait = false;
    std::optional<std::string> rate;
  };
  auto arguments = std::make_shared<Arguments>();
  add_disk_argument(command, arguments->id);
  command->add_flag("--no-wait", arguments->no_wait, "Only tell how far it is");
  command
      ->add_option("--rate", arguments->rate,
                   "Bytes a second, as in 100M, at least 1M; 0: as fast as it goes; default: the "
                   "daemon's")
      ->type_name("SIZE");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    if (!arguments->no_wait || arguments->rate) {
      // What failed begins again.
      Params params{{"DiskId", arguments->id}};
      if (arguments->rate) {
        auto rate = parse_size(*arguments->rate);
        if (!rate) return refuse(kWrongUsage, "--rate: {}", rate.error().message);
        if (*rate != 0 && *rate < kRateMin) {
          return refuse(kWrongUsage, "--rate: at least 1M, or 0: as fast as it goes");
        }
        params["BytesPerSecond"] = std::to_string(*rate);
      }
      auto begun = api.call("HydrateDisk", params);
      if (!begun) return begun.failure();
    }
    ProgressLine line;
    while (true) {
      auto answer = api.call("DescribeDiskHydration", {{"DiskId", arguments->id}});
      if (!answer) return answer.failure();
      const std::string status = text_of(*answer, "Status");
      const std::uint64_t done = number_of(*answer, "DoneBytes");
      const std::uint64_t total = number_of(*answer, "TotalBytes");
      if (status == "loading") line.show(done, total);
      if (status == "done" || arguments->no_wait) {
        if (session.json()) {
          print_json(*answer);
        } else {
          print_text(hydration_line(status, done, total) + "\n");
        }
        return Done{};
      }
      if (status == "failed") {
        return refuse("HydrationFailed", "{}. Once that is mended: clouddisk disk hydrate {}",
                      text_of(*answer, "Failure"), arguments->id);
      }
      if (status == "waiting") {
        return refuse("IncorrectDiskStatus",
                      "The disk loads while it is attached to a running instance: attach it first");
      }
      std::this_thread::sleep_for(kHydrationPoll);
    }
  });
}

}  // namespace

void add_rollback_commands(CLI::App& disk, Session& session) {
  add_rollback(disk, session);
  add_reinit(disk, session);
  add_undo(disk, session);
  add_hydrate(disk, session);
}

}  // namespace clouddisk::cli
