// Clients of the action API on TCP, all at once, each with a disk's life: how long every action
// takes to its answer. As with the cloud, a change is answered when it is on record; the clients
// ask again and again until it is done.
#include <atomic>
#include <map>
#include <thread>

#include "tests/load/scenarios.h"
#include "tests/tools/e2e/tcp_client.h"

namespace clouddisk::load {
namespace {

using e2e::Json;
using e2e::TcpAnswer;
using e2e::TcpClient;
using namespace nlohmann::literals;

constexpr double kMedianMax = 0.050;

// What each client measured, by action.
class ActionTimes {
 public:
  void add(const std::map<std::string, Latencies>& times) {
    const std::lock_guard guard(mutex_);
    for (const auto& [action, latencies] : times) {
      auto& into = times_[action];
      into.seconds.insert(into.seconds.end(), latencies.seconds.begin(), latencies.seconds.end());
      into.failed += latencies.failed;
    }
  }
  std::map<std::string, Latencies>& all() { return times_; }

 private:
  std::mutex mutex_;
  std::map<std::string, Latencies> times_;
};

class ActionClient {
 public:
  ActionClient(std::uint16_t port, auth::Credentials key)
      : client_(TcpClient::connect(port)), key_(std::move(key)) {}

  // Again until the deadline; what it made is gone at the end.
  void live(Clock::time_point deadline) {
    for (unsigned lives = 0; Clock::now() < deadline && client_; ++lives) {
      // Seldom, as for a machine: an instance comes and goes.
      if (lives % kLivesOfAnInstance == 0) change_instance();
      const std::string disk =
          text(call("CreateDisk", {{"Size", "40"}, {"DiskCategory", "cloud_essd"}}), "DiskId");
      await_disk(disk, "Available");
      call("DescribeRegions", {});
      call("DescribeInstances", {});
      call("AttachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
      await_disk(disk, "In_use");
      call("ModifyDiskAttribute", {{"DiskId", disk}, {"DiskName", "renamed"}});
      call("ResizeDisk", {{"DiskId", disk}, {"NewSize", "60"}, {"Type", "online"}});
      call("TagResources", {{"RegionId", "cn-local"},
                            {"ResourceType", "disk"},
                            {"ResourceId.1", disk},
                            {"Tag.1.Key", "kind"},
                            {"Tag.1.Value", "load"}});
      const std::string snapshot = text(call("CreateSnapshot", {{"DiskId", disk}}), "SnapshotId");
      await_snapshot(snapshot);
      call("DescribeSnapshots", {});
      call("DeleteSnapshot", {{"SnapshotId", snapshot}});
      call("DetachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
      await_disk(disk, "Available");
      call("DeleteDisk", {{"DiskId", disk}});
    }
    if (!instance_.empty()) remove_instance();
  }
  const std::map<std::string, Latencies>& times() const { return times_; }
  // Something took a minute, or was not what it should be.
  bool lost() const { return lost_ || !client_; }

 private:
  static constexpr unsigned kLivesOfAnInstance = 4;
  static constexpr std::chrono::milliseconds kPoll{200};
  static constexpr std::chrono::minutes kPatience{1};

  Json call(const std::string& action, Params params) {
    const auto began = Clock::now();
    const TcpAnswer answer = client_->call(action, std::move(params), key_);
    Latencies& latencies = times_[action];
    latencies.seconds.push_back(seconds_since(began));
    if (answer.status != 200) ++latencies.failed;
    const Json body = answer.json();
    return body.is_object() ? body : Json::object();
  }
  static std::string text(const Json& body, const char* member) { return body.value(member, ""); }
  // Asks until the first of `list` has the status.
  void await(const std::string& action, const Params& which, const Json::json_pointer& list,
             const std::string& status) {
    for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline && client_;) {
      const Json body = call(action, which);
      if (body.contains(list) && body[list].value("Status", "") == status) return;
      std::this_thread::sleep_for(kPoll);
    }
    lost_ = true;
  }
  void await_disk(const std::string& disk, const std::string& status) {
    await("DescribeDisks", {{"DiskIds", "[\"" + disk + "\"]"}}, "/Disks/Disk/0"_json_pointer,
          status);
  }
  void await_snapshot(const std::string& snapshot) {
    await("DescribeSnapshots", {{"SnapshotIds", "[\"" + snapshot + "\"]"}},
          "/Snapshots/Snapshot/0"_json_pointer, "accomplished");
  }
  void await_instance(const std::string& status) {
    await("DescribeInstances", {{"InstanceIds", "[\"" + instance_ + "\"]"}},
          "/Instances/Instance/0"_json_pointer, status);
  }
  void change_instance() {
    if (!instance_.empty()) remove_instance();
    const Json made =
        call("RunInstances", {{"ImageId", "local"}, {"InstanceType", "ecs.g7.large"}});
    const auto id = "/InstanceIdSets/InstanceIdSet/0"_json_pointer;
    if (made.contains(id)) instance_ = made[id].get<std::string>();
    await_instance("Running");
  }
  void remove_instance() {
    call("StopInstance", {{"InstanceId", instance_}});
    await_instance("Stopped");
    call("DeleteInstance", {{"InstanceId", instance_}});
    instance_.clear();
  }

  std::optional<TcpClient> client_;
  auth::Credentials key_;
  std::string instance_;
  bool lost_ = false;
  std::map<std::string, Latencies> times_;
};

}  // namespace

void actions_scenario(Report& report, const Scale& scale) {
  report.heading(fmt::format("{} clients of the action API", scale.action_clients));
  e2e::TestDaemon daemon;
  const bool started = daemon.start({"--no-limits", "--api", "tcp:127.0.0.1:0", "--api-rate", "0"});
  if (!report.claim(started, "the daemon starts")) return;
  const std::string log = daemon.log();
  const std::string_view said = "signed requests, is at tcp:127.0.0.1:";
  const auto port =
      static_cast<std::uint16_t>(std::stoul(log.substr(log.find(said) + said.size())));
  const Json made = daemon.ok_json({"key", "create"})["AccessKey"];
  const auth::Credentials key{made["AccessKeyId"], made["AccessKeySecret"]};
  ActionTimes times;
  std::atomic<bool> failed{false};
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(scale.action_seconds));
  std::vector<std::thread> clients;
  for (unsigned i = 0; i < scale.action_clients; ++i) {
    clients.emplace_back([&] {
      ActionClient client(port, key);
      client.live(deadline);
      if (client.lost()) failed = true;
      times.add(client.times());
    });
  }
  for (std::thread& client : clients) client.join();
  report.claim(!failed, "everything came to the state that was waited for");
  std::uint64_t refused = 0;
  std::size_t count = 0;
  double slowest = 0;
  for (auto& [action, latencies] : times.all()) {
    report.figure(action,
                  fmt::format("{} times: median {:.1f} ms, p99 {:.1f} ms", latencies.seconds.size(),
                              latencies.percentile(50) * 1e3, latencies.percentile(99) * 1e3));
    refused += latencies.failed;
    count += latencies.seconds.size();
    slowest = std::max(slowest, latencies.percentile(50));
  }
  report.figure("actions a second",
                fmt::format("{:.0f}", static_cast<double>(count) / scale.action_seconds));
  report.claim(refused == 0, "no action is refused");
  report.claim(slowest < kMedianMax,
               fmt::format("the median of every action is below {:.0f} ms: at most {:.1f}",
                           kMedianMax * 1e3, slowest * 1e3));
}

}  // namespace clouddisk::load
