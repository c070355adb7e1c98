// Clients of the action API on TCP, all at once, each with a disk's life: how long every action
// takes. Questions are answered beside each other. Changes are made one at a time, so what is
// claimed of them is that all are made.
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
    while (Clock::now() < deadline && client_) {
      const std::string disk =
          call("CreateDisk", {{"Size", "40"}, {"DiskCategory", "cloud_essd"}}, "DiskId");
      call("DescribeDisks", {{"DiskIds", "[\"" + disk + "\"]"}});
      call("DescribeRegions", {});
      call("DescribeInstances", {});
      call("AttachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
      call("ModifyDiskAttribute", {{"DiskId", disk}, {"DiskName", "renamed"}});
      call("ResizeDisk", {{"DiskId", disk}, {"NewSize", "60"}, {"Type", "online"}});
      call("DescribeSnapshots", {});
      call("DetachDisk", {{"DiskId", disk}, {"InstanceId", instance_}});
      call("DeleteDisk", {{"DiskId", disk}});
    }
  }
  bool begin() {
    instance_ = call("RunInstances", {{"ImageId", "local"}, {"InstanceType", "ecs.g7.large"}}, "");
    times_.clear();
    return !instance_.empty();
  }
  const std::map<std::string, Latencies>& times() const { return times_; }

 private:
  std::string call(const std::string& action, Params params, const std::string& member = "none") {
    const auto began = Clock::now();
    const TcpAnswer answer = client_->call(action, std::move(params), key_);
    Latencies& latencies = times_[action];
    latencies.seconds.push_back(seconds_since(began));
    if (answer.status != 200) ++latencies.failed;
    const Json body = answer.json();
    if (!body.is_object()) return {};
    if (member.empty()) {
      return answer.status == 200 ? body["InstanceIdSets"]["InstanceIdSet"][0].get<std::string>()
                                  : "";
    }
    return body.value(member, "");
  }

  std::optional<TcpClient> client_;
  auth::Credentials key_;
  std::string instance_;
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
      if (!client.begin()) failed = true;
      client.live(deadline);
      times.add(client.times());
    });
  }
  for (std::thread& client : clients) client.join();
  report.claim(!failed, "every client got an instance");
  std::uint64_t refused = 0;
  std::size_t count = 0;
  double slowest = 0;
  for (auto& [action, latencies] : times.all()) {
    report.figure(action,
                  fmt::format("{} times: median {:.1f} ms, p99 {:.1f} ms", latencies.seconds.size(),
                              latencies.percentile(50) * 1e3, latencies.percentile(99) * 1e3));
    refused += latencies.failed;
    count += latencies.seconds.size();
    if (action.starts_with("Describe")) slowest = std::max(slowest, latencies.percentile(50));
  }
  report.figure("actions a second",
                fmt::format("{:.0f}", static_cast<double>(count) / scale.action_seconds));
  report.claim(refused == 0, "no action is refused");
  report.claim(slowest < kMedianMax,
               fmt::format("the median of every question is below {:.0f} ms: at most {:.1f}",
                           kMedianMax * 1e3, slowest * 1e3));
}

}  // namespace clouddisk::load
