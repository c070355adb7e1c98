// Clients of the action API on TCP, all at once, each with a disk's life: how long every action
// takes to its answer. As with the cloud, a change is answered when it is on record; the clients
// ask again and again until it is done.
#include <atomic>
#include <optional>
#include <thread>

#include "tests/load/action_client.h"
#include "tests/load/scenarios.h"

namespace clouddisk::load {
namespace {

using Life = void (ActionClient::*)(Clock::time_point);

constexpr double kMedianMax = 0.050;

void lead(Report& report, const Scale& scale, std::uint16_t port, const auth::Credentials& key,
          Life life, std::optional<double> median_max) {
  ActionTimes times;
  std::atomic<bool> failed{false};
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(scale.action_seconds));
  std::vector<std::thread> clients;
  for (unsigned i = 0; i < scale.action_clients; ++i) {
    clients.emplace_back([&] {
      ActionClient client(port, key);
      (client.*life)(deadline);
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
  std::string refusals;
  for (const auto& [action, latencies] : times.all()) {
    if (latencies.failed > 0) refusals += fmt::format(" {} {}", latencies.failed, action);
  }
  report.claim(refused == 0, "no action is refused" + refusals);
  if (!median_max) return;
  report.claim(slowest < *median_max,
               fmt::format("the median of every action is below {:.0f} ms: at most {:.1f}",
                           *median_max * 1e3, slowest * 1e3));
}

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
  const e2e::Json made = daemon.ok_json({"key", "create"})["AccessKey"];
  const auth::Credentials key{made["AccessKeyId"], made["AccessKeySecret"]};
  std::optional<double> claimed;
  if (scale.claims_times) claimed = kMedianMax;
  lead(report, scale, port, key, &ActionClient::live_with_disks, claimed);
  report.heading(fmt::format("{} clients: what is asked for less often", scale.action_clients));
  lead(report, scale, port, key, &ActionClient::live_otherwise, claimed);
}

}  // namespace clouddisk::load
