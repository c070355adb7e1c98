#include "tests/load/scenarios.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "tests/support/connect.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::load {
namespace {

using e2e::NbdClient;
using e2e::NbdCommand;
using e2e::TestDaemon;

constexpr unsigned kReactors = 2;
constexpr std::uint32_t kLargest = 32_MiB;

std::unique_ptr<TestDaemon> start(Report& report) {
  auto daemon = std::make_unique<TestDaemon>();
  const bool started = daemon->start({"--no-limits", "--reactors", std::to_string(kReactors)});
  if (!report.claim(started, "the daemon starts")) return nullptr;
  return daemon;
}

void show(Report& report, const std::string& when, const ProcessSample& sample) {
  report.figure(when, fmt::format("{} resident, {} descriptors ({} sockets), {} threads",
                                  mib(sample.resident_bytes), sample.descriptors, sample.sockets,
                                  sample.threads));
}

// One client that reads and writes 4 KiB at a time, and how long that takes.
class Probe {
 public:
  Probe(const TestDaemon& daemon, const std::string& disk)
      : thread_([this, &daemon, disk] {
          auto client = daemon.connect(disk);
          if (!client) {
            ++latencies_.failed;
            return;
          }
          Random random(1);
          std::vector<std::byte> block(4_KiB);
          const auto begin = Clock::now();
          while (!stop_) {
            const auto began = Clock::now();
            const std::uint64_t offset = random.below(4096) * 4_KiB;
            const bool writes = random.one_in(2);
            const auto result = writes ? client->write(offset, block) : client->read(offset, block);
            if (!result) {
              ++latencies_.failed;
              break;
            }
            latencies_.seconds.push_back(seconds_since(began));
          }
          latencies_.total_seconds = seconds_since(begin);
        }) {}
  Latencies finish() {
    stop_ = true;
    thread_.join();
    return std::move(latencies_);
  }

 private:
  std::atomic<bool> stop_{false};
  Latencies latencies_;
  std::thread thread_;
};

Latencies probe_for(const TestDaemon& daemon, const std::string& disk, double seconds) {
  Probe probe(daemon, disk);
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return probe.finish();
}

// Sockets are given back at once; files of segments are kept open, up to 2,048 a reactor.
bool sockets_return(pid_t process, const ProcessSample& before, double seconds) {
  return cli::wait_until(seconds,
                         [&] { return sample_process(process).sockets <= before.sockets; });
}
bool files_return(pid_t process, const ProcessSample& before, double seconds) {
  return cli::wait_until(
      seconds, [&] { return sample_process(process).descriptors <= before.descriptors + 8; });
}

// Threads of the program are a few; those that the kernel adds to its rings are bounded.
constexpr std::uint64_t kThreadsMax = 64;

}  // namespace

// Each reactor's pools (160 MiB), answers that are put together outside of them (64 MiB) and maps
// that checkpoints have yet to merge; the caches of map pages and of blocks; what a connection
// receives into; and the program itself.
std::uint64_t memory_bound(unsigned reactors, unsigned connections) {
  return reactors * (160_MiB + 64_MiB + 64_MiB) + 128_MiB + 128_MiB + connections * 320_KiB +
         96_MiB;
}

void connections_scenario(Report& report, const Scale& scale) {
  report.heading(fmt::format("{} connections at once", scale.connections));
  const auto daemon = start(report);
  if (!daemon) return;
  std::vector<std::string> disks;
  for (int i = 0; i < 8; ++i) disks.push_back(daemon->make_disk());
  const ProcessSample before = sample_process(daemon->pid());
  show(report, "before", before);
  const auto begin = Clock::now();
  {
    std::vector<NbdClient> clients;
    for (unsigned i = 0; i < scale.connections; ++i) {
      auto client = daemon->connect(disks[i % disks.size()]);
      if (!client) break;
      clients.push_back(std::move(*client));
    }
    report.claim(clients.size() == scale.connections,
                 fmt::format("{} clients are connected", clients.size()));
    report.figure("connecting them took", fmt::format("{:.2f} s", seconds_since(begin)));
    // Each writes a block of its own, all at once, and reads it back.
    unsigned wrong = 0;
    std::vector<std::byte> block(4_KiB);
    for (unsigned i = 0; i < clients.size(); ++i) {
      std::memset(block.data(), static_cast<int>(i % 251 + 1), block.size());
      wrong += clients[i].send(NbdCommand::kWrite, 0, i, i * 4_KiB, 4_KiB, block) ? 0 : 1;
    }
    for (NbdClient& client : clients) {
      const auto answer = client.receive();
      wrong += answer && answer->error == 0 ? 0 : 1;
    }
    for (unsigned i = 0; i < clients.size(); ++i) {
      const bool read = clients[i].read(i * 4_KiB, block).has_value();
      const auto value = static_cast<std::byte>(i % 251 + 1);
      wrong += read && block.front() == value && block.back() == value ? 0 : 1;
    }
    report.claim(wrong == 0, fmt::format("every client reads what it wrote ({} do not)", wrong));
    const ProcessSample during = sample_process(daemon->pid());
    show(report, "with all of them", during);
    report.claim(
        during.resident_bytes < memory_bound(kReactors, scale.connections),
        fmt::format("memory stays below {}", mib(memory_bound(kReactors, scale.connections))));
    report.claim(during.threads < kThreadsMax, "threads are few");
  }
  report.claim(sockets_return(daemon->pid(), before, 10),
               "every socket is given back when they leave");
  show(report, "after", sample_process(daemon->pid()));
  report.claim(daemon->stop() == 0, "the daemon stops cleanly");
}

void disks_scenario(Report& report, const Scale& scale) {
  report.heading(fmt::format("{} attached disks", scale.disks));
  const auto daemon = start(report);
  if (!daemon) return;
  const ProcessSample before = sample_process(daemon->pid());
  show(report, "before", before);
  auto begin = Clock::now();
  std::vector<std::string> instances, disks;
  for (unsigned i = 0; i < scale.disks; ++i) {
    if (i % 16 == 0) instances.push_back(daemon->ok({"instance", "create", "--name", "load"}));
    const std::string id = daemon->ok({"disk", "create", "--size", "40"});
    daemon->ok({"disk", "attach", id, "--instance", instances.back()});
    disks.push_back(id);
  }
  for (const std::string& instance : instances) daemon->cli({"instance", "start", instance});
  report.figure("creating and attaching one took",
                fmt::format("{:.0f} ms", seconds_since(begin) / scale.disks * 1e3));
  unsigned wrong = 0;
  for (unsigned i = 0; i < disks.size(); ++i) {
    auto client = daemon->connect(disks[i]);
    const std::vector<std::byte> data(64_KiB, static_cast<std::byte>(i % 251 + 1));
    std::vector<std::byte> back(data.size());
    const bool same =
        client && client->write(1_MiB, data, true) && client->read(1_MiB, back) && back == data;
    wrong += same ? 0 : 1;
  }
  report.claim(wrong == 0, fmt::format("every disk is written and read back ({} are not)", wrong));
  const ProcessSample during = sample_process(daemon->pid());
  show(report, "with all of them", during);
  report.figure(
      "memory of one",
      fmt::format("{:.0f} KiB", static_cast<double>(during.resident_bytes - before.resident_bytes) /
                                    1024 / scale.disks));
  report.claim(during.threads < kThreadsMax, "threads are few");
  begin = Clock::now();
  daemon->kill_now();
  const bool again = daemon->start({"--no-limits", "--reactors", std::to_string(kReactors)});
  report.claim(again, fmt::format("after a kill it serves them all again within {:.1f} s",
                                  seconds_since(begin)));
  if (!again) return;
  wrong = 0;
  for (unsigned i = 0; i < disks.size(); ++i) {
    auto client = daemon->connect(disks[i]);
    std::vector<std::byte> back(64_KiB);
    const bool same =
        client && client->read(1_MiB, back) && back.back() == static_cast<std::byte>(i % 251 + 1);
    wrong += same ? 0 : 1;
  }
  report.claim(wrong == 0, fmt::format("every disk still reads back ({} do not)", wrong));
  begin = Clock::now();
  for (const std::string& instance : instances) {
    daemon->ok({"instance", "delete", instance, "--force"});
  }
  for (const std::string& id : disks) daemon->cli({"disk", "delete", id});
  report.figure("deleting one took",
                fmt::format("{:.0f} ms", seconds_since(begin) / scale.disks * 1e3));
  report.claim(files_return(daemon->pid(), before, 10),
               "every descriptor is given back when they are gone");
  show(report, "after", sample_process(daemon->pid()));
  report.claim(daemon->stop() == 0, "the daemon stops cleanly");
}

namespace {

// Sends without waiting, as much as the socket takes.
void send_some(int fd, std::span<const std::byte> bytes) {
  static_cast<void>(::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

std::vector<std::byte> request_bytes(NbdCommand command, std::uint64_t offset,
                                     std::uint32_t length) {
  std::vector<std::byte> bytes(28);
  ByteWriter out(bytes);
  out.be(std::uint32_t{0x25609513});
  out.be(std::uint16_t{0});
  out.be(static_cast<std::uint16_t>(command));
  out.be(std::uint64_t{1});
  out.be(offset);
  out.be(length);
  return bytes;
}

// Clients that stop in the middle of something and keep the connection.
struct StalledClients {
  std::vector<Socket> raw;
  std::vector<NbdClient> negotiated;
};

void stall_before_the_handshake(const TestDaemon& daemon, StalledClients& out) {
  out.raw.push_back(connect_to_unix(daemon.nbd_socket()));
}

void stall_in_an_option(const TestDaemon& daemon, StalledClients& out) {
  Socket socket = connect_to_unix(daemon.nbd_socket());
  std::vector<std::byte> bytes(4 + 10);
  ByteWriter writer(bytes);
  writer.be(std::uint32_t{3});
  writer.be(std::uint64_t{0x49484156454f5054});  // IHAVEOPT, and half of the option's number
  writer.be(std::uint16_t{0});
  send_some(socket.fd(), bytes);
  out.raw.push_back(std::move(socket));
}

void stall_in_a_request(const TestDaemon& daemon, const std::string& disk, StalledClients& out) {
  auto client = daemon.connect(disk);
  if (!client) return;
  const auto bytes = request_bytes(NbdCommand::kRead, 0, 4_KiB);
  send_some(client->fd(), std::span(bytes).first(11));
  out.negotiated.push_back(std::move(*client));
}

void stall_in_a_payload(const TestDaemon& daemon, const std::string& disk, StalledClients& out) {
  auto client = daemon.connect(disk);
  if (!client) return;
  auto bytes = request_bytes(NbdCommand::kWrite, 64_MiB, 1_MiB);
  bytes.resize(bytes.size() + 100);
  send_some(client->fd(), bytes);
  out.negotiated.push_back(std::move(*client));
}

void never_read_answers(const TestDaemon& daemon, const std::string& disk, StalledClients& out) {
  auto client = daemon.connect(disk);
  if (!client) return;
  const auto bytes = request_bytes(NbdCommand::kRead, 0, 1_MiB);
  for (int i = 0; i < 64; ++i) send_some(client->fd(), bytes);
  out.negotiated.push_back(std::move(*client));
}

bool hung_up(int fd) {
  pollfd wait{fd, POLLIN | POLLHUP, 0};
  return ::poll(&wait, 1, 0) == 1 && (wait.revents & POLLHUP) != 0;
}

}  // namespace

void stalled_scenario(Report& report, const Scale& scale) {
  report.heading(fmt::format("{} clients stalled in each of five states", scale.stalled_each));
  const auto daemon = start(report);
  if (!daemon) return;
  const std::string disk = daemon->make_disk();
  Latencies alone = probe_for(*daemon, disk, std::min(scale.stalled_seconds, 3.0));
  report.figure("a client alone", alone.text());
  const ProcessSample before = sample_process(daemon->pid());
  show(report, "before", before);
  StalledClients stalled;
  Probe probe(*daemon, disk);
  for (unsigned i = 0; i < scale.stalled_each; ++i) {
    stall_before_the_handshake(*daemon, stalled);
    stall_in_an_option(*daemon, stalled);
    stall_in_a_request(*daemon, disk, stalled);
    stall_in_a_payload(*daemon, disk, stalled);
    never_read_answers(*daemon, disk, stalled);
  }
  const auto begin = Clock::now();
  std::uint64_t peak = 0;
  while (seconds_since(begin) < scale.stalled_seconds) {
    peak = std::max(peak, sample_process(daemon->pid()).resident_bytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  Latencies beside = probe.finish();
  report.figure("a client beside them", beside.text());
  report.figure("most memory", mib(peak));
  report.claim(beside.failed == 0 && !beside.seconds.empty(), "its requests succeed");
  report.claim(beside.percentile(100) < 1.0, "none of its requests waits for a second");
  report.claim(
      peak < memory_bound(kReactors, scale.stalled_each * 5),
      fmt::format("memory stays below {}", mib(memory_bound(kReactors, scale.stalled_each * 5))));
  if (scale.stalled_seconds > 11) {
    // Of a short run it is a figure: whatever else the machine does is in it.
    report.claim(beside.per_second() > alone.per_second() / 4,
                 "it keeps a quarter of its rate or more");
    unsigned open = 0;
    for (const Socket& socket : stalled.raw) open += hung_up(socket.fd()) ? 0 : 1;
    report.claim(open == 0,
                 fmt::format("who does not negotiate is cut off in 10 s ({} are not)", open));
  }
  stalled = {};
  report.claim(sockets_return(daemon->pid(), before, 10),
               "every socket is given back when they leave");
  Latencies afterwards = probe_for(*daemon, disk, std::min(scale.stalled_seconds, 2.0));
  report.figure("a client afterwards", afterwards.text());
  report.claim(daemon->stop() == 0, "the daemon stops cleanly");
}

namespace {

// Asks for as much as the protocol allows, and takes what comes; counts what went through its
// socket.
class GreedyClient {
 public:
  GreedyClient(const TestDaemon& daemon, const std::string& disk, unsigned depth, bool writes,
               const std::vector<std::byte>& payload) {
    auto client = daemon.connect(disk);
    if (!client) return;
    client_.emplace(std::move(*client));
    sender_ = std::thread([this, depth, writes, &payload] { send(depth, writes, payload); });
    receiver_ = std::thread([this, writes] { receive(writes); });
  }
  bool connected() const { return client_.has_value(); }
  std::uint64_t bytes() const { return bytes_; }
  void stop() {
    if (!client_) return;
    ::shutdown(client_->fd(), SHUT_RDWR);
    sender_.join();
    receiver_.join();
  }

 private:
  bool send_all(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(client_->fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes_ += static_cast<std::uint64_t>(sent);
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void send(unsigned depth, bool writes, const std::vector<std::byte>& payload) {
    const NbdCommand command = writes ? NbdCommand::kWrite : NbdCommand::kRead;
    for (std::uint64_t sent = 0;; ++sent) {
      while (sent >= answered_ + depth) {
        if (ended_) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      const std::uint64_t offset = sent % 16 * kLargest;
      if (!send_all(request_bytes(command, offset, kLargest))) return;
      if (writes && !send_all(payload)) return;
    }
  }
  bool receive_all(std::byte* into, std::uint64_t wanted, std::size_t room) {
    while (wanted > 0) {
      const ssize_t got = ::recv(client_->fd(), into, std::min<std::uint64_t>(wanted, room), 0);
      if (got <= 0) return false;
      bytes_ += static_cast<std::uint64_t>(got);
      wanted -= static_cast<std::uint64_t>(got);
    }
    return true;
  }
  void receive(bool writes) {
    std::vector<std::byte> scratch(256_KiB);
    while (receive_all(scratch.data(), 16, 16)) {
      ++answered_;
      if (!writes && !receive_all(scratch.data(), kLargest, scratch.size())) break;
    }
    ended_ = true;
  }

  std::optional<NbdClient> client_;
  std::atomic<std::uint64_t> bytes_{0}, answered_{0};
  std::atomic<bool> ended_{false};
  std::thread sender_, receiver_;
};

void be_greedy(Report& report, const Scale& scale, bool writes) {
  report.heading(fmt::format("{} connections, each with {} {}s of 32 MiB under way", scale.greedy,
                             scale.greedy_depth, writes ? "write" : "read"));
  const auto daemon = start(report);
  if (!daemon) return;
  // Two disks on one reactor or on two: where they are is their ids' to say.
  const std::string greedy_disk = daemon->make_disk();
  const std::string other_disk = daemon->make_disk();
  std::vector<std::byte> payload(kLargest);
  Random random(7);
  for (std::size_t at = 0; at < payload.size(); at += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(payload.data() + at, &word, 8);
  }
  {
    auto client = daemon->connect(greedy_disk);
    bool filled = client.has_value();
    for (std::uint64_t i = 0; filled && i < 16; ++i) {
      filled = client->write(i * kLargest, payload).has_value();
    }
    report.claim(filled, "the disk is filled");
  }
  Latencies alone = probe_for(*daemon, other_disk, std::min(scale.greedy_seconds, 3.0));
  report.figure("a client of another disk alone", alone.text());
  const ProcessSample before = sample_process(daemon->pid());
  show(report, "before", before);
  std::vector<std::unique_ptr<GreedyClient>> greedy;
  for (unsigned i = 0; i < scale.greedy; ++i) {
    greedy.push_back(
        std::make_unique<GreedyClient>(*daemon, greedy_disk, scale.greedy_depth, writes, payload));
  }
  Probe same_disk(*daemon, greedy_disk), other(*daemon, other_disk);
  const auto begin = Clock::now();
  std::uint64_t peak = 0;
  while (seconds_since(begin) < scale.greedy_seconds) {
    peak = std::max(peak, sample_process(daemon->pid()).resident_bytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const double took = seconds_since(begin);
  Latencies beside = other.finish(), within = same_disk.finish();
  std::uint64_t total = 0, least = ~std::uint64_t{0}, most = 0;
  for (const auto& client : greedy) {
    total += client->bytes();
    least = std::min(least, client->bytes());
    most = std::max(most, client->bytes());
  }
  for (const auto& client : greedy) client->stop();
  report.figure("together they get",
                fmt::format("{:.0f} MiB/s", static_cast<double>(total) / took / (1 << 20)));
  report.figure("the least and the most of one", mib(least) + ", " + mib(most));
  report.figure("a client of the same disk beside them", within.text());
  report.figure("a client of another disk beside them", beside.text());
  report.figure("most memory", mib(peak));
  report.claim(peak < memory_bound(kReactors, scale.greedy),
               fmt::format("memory stays below {}", mib(memory_bound(kReactors, scale.greedy))));
  report.claim(within.failed == 0 && beside.failed == 0, "the others' requests succeed");
  report.claim(!beside.seconds.empty() && beside.percentile(100) < 3.0,
               "none on the other disk waits for 3 s");
  report.claim(!within.seconds.empty() && within.percentile(100) < 5.0,
               "none on the same disk waits for 5 s");
  report.claim(sockets_return(daemon->pid(), before, 15),
               "every socket is given back when they leave");
  show(report, "after", sample_process(daemon->pid()));
  report.claim(daemon->stop() == 0, "the daemon stops cleanly");
}

}  // namespace

void greedy_scenario(Report& report, const Scale& scale) {
  be_greedy(report, scale, false);
  be_greedy(report, scale, true);
}

}  // namespace clouddisk::load
