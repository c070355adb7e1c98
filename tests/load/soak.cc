#include "tests/load/soak.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/base/random.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::load {
namespace {

using e2e::Json;
using e2e::NbdClient;
using e2e::TestDaemon;

constexpr std::uint64_t kBlocks = 16'384;  // of each disk that are used: 64 MiB
constexpr std::size_t kDisks = 4;
constexpr std::uint64_t kRunMax = 32;     // blocks of one request
constexpr std::size_t kSnapshotsMax = 5;  // of one disk
constexpr std::uint64_t kGrowthMax = 64_MiB;
constexpr double kSecondsToJudge = 300;

// What a disk holds: which write each block has its content of; 0: none, zeros.
using Versions = std::vector<std::uint32_t>;

// Every version of every block differs from every other, in each of its words.
void fill_block(std::span<std::byte> block, std::uint64_t disk, std::uint64_t lba,
                std::uint32_t version) {
  if (version == 0) {
    std::memset(block.data(), 0, block.size());
    return;
  }
  std::uint64_t word = (disk << 56) ^ (lba << 32) ^ version;
  for (std::size_t at = 0; at < block.size(); at += sizeof word) {
    word = word * 6364136223846793005ULL + 1442695040888963407ULL;
    std::memcpy(block.data() + at, &word, sizeof word);
  }
}

struct SoakSnapshot {
  std::string id;
  Versions content;
};

struct SoakDisk {
  std::string id;
  std::string instance;
  std::uint64_t number = 0;
  std::mutex mutex;  // held during a request, and while somebody changes the disk
  std::optional<NbdClient> client;
  Versions content = Versions(kBlocks);
  std::uint32_t last_version = 0;
  std::vector<SoakSnapshot> snapshots;  // the director's alone
};

class Soak {
 public:
  Soak(Report& report, std::uint64_t seed) : report_(report), random_(seed), seed_(seed) {}

  void run(double seconds) {
    if (!report_.claim(daemon_.start({"--no-limits"}), "the daemon starts")) return;
    // Bringing one back beside clients without limits takes its time.
    may_lose_ = seconds >= 60;
    const ProcessSample idle = sample_process(daemon_.pid());
    for (std::size_t i = 0; i < kDisks; ++i) add_disk(i);
    std::vector<std::thread> clients;
    for (auto& disk : disks_) {
      clients.emplace_back([this, &disk = *disk, seed = random_.next()] { use(disk, seed); });
    }
    begin_ = Clock::now();
    std::thread sampler([this, seconds] { sample(seconds); });
    while (seconds_since(begin_) < seconds && !wrong_) direct();
    stop_ = true;
    for (std::thread& client : clients) client.join();
    sampler.join();
    daemon_.ok({"fault", "clear", "--all"});
    bring_back();
    verify_everything("at the end");
    show_figures(idle);
    daemon_.kill_now();
    report_.claim(daemon_.start({"--no-limits"}), "after a kill the daemon starts");
    verify_everything("after the kill");
    report_.claim(daemon_.stop() == 0, "the daemon stops cleanly");
  }

 private:
  // --- Clients ---
  void add_disk(std::size_t number) {
    auto disk = std::make_unique<SoakDisk>();
    disk->number = number;
    disk->instance = daemon_.ok({"instance", "create", "--name", "soak"});
    daemon_.cli({"instance", "start", disk->instance});
    disk->id = daemon_.ok({"disk", "create", "--size", "40"});
    daemon_.ok({"disk", "attach", disk->id, "--instance", disk->instance});
    disks_.push_back(std::move(disk));
  }
  void use(SoakDisk& disk, std::uint64_t seed) {
    Random random(seed);
    std::vector<std::byte> data(kRunMax * kBlockSize);
    while (!stop_ && !wrong_) {
      const std::lock_guard lock(disk.mutex);
      if (!disk.client) {
        auto client = daemon_.connect(disk.id);
        if (!client) {
          broken(fmt::format("{} can't be reached: {}", disk.id, client.error().message));
          return;
        }
        disk.client.emplace(std::move(*client));
      }
      // Half of it on a sixteenth of the disk.
      const std::uint64_t count = random.between(1, kRunMax);
      const std::uint64_t range = random.one_in(2) ? kBlocks / 16 : kBlocks;
      const std::uint64_t first = random.below(range - count + 1);
      const std::span<std::byte> part(data.data(), count * kBlockSize);
      const std::uint64_t dice = random.below(100);
      if (dice < 50) {
        verify(*disk.client, disk.number, disk.content, first, part, disk.id);
      } else if (dice < 90) {
        write(disk, first, part, dice < 55);
      } else if (dice < 95) {
        clear(disk, first, count);
      } else if (const auto flushed = disk.client->flush(); !flushed) {
        broken(fmt::format("{}: flush: {}", disk.id, flushed.error().message));
      }
      ++requests_;
    }
  }
  void write(SoakDisk& disk, std::uint64_t first, std::span<std::byte> part, bool fua) {
    const std::uint32_t version = ++disk.last_version;
    for (std::uint64_t i = 0; i < part.size() / kBlockSize; ++i) {
      fill_block(part.subspan(i * kBlockSize, kBlockSize), disk.number, first + i, version);
      disk.content[first + i] = version;
    }
    const auto written = disk.client->write(first * kBlockSize, part, fua);
    if (!written) broken(fmt::format("{}: write: {}", disk.id, written.error().message));
    written_bytes_ += part.size();
  }
  void clear(SoakDisk& disk, std::uint64_t first, std::uint64_t count) {
    std::fill_n(disk.content.begin() + static_cast<std::ptrdiff_t>(first), count, 0);
    const auto sent = disk.client->send(e2e::NbdCommand::kTrim, 0, 1, first * kBlockSize,
                                        static_cast<std::uint32_t>(count * kBlockSize));
    const auto answer = disk.client->receive();
    if (!sent || !answer || answer->error != 0) broken(disk.id + ": trim failed");
  }
  void verify(NbdClient& client, std::uint64_t number, const Versions& content, std::uint64_t first,
              std::span<std::byte> into, const std::string& what) {
    const auto read = client.read(first * kBlockSize, into);
    if (!read) {
      broken(fmt::format("{}: read: {}", what, read.error().message));
      return;
    }
    std::array<std::byte, kBlockSize> right;
    for (std::uint64_t i = 0; i < into.size() / kBlockSize; ++i) {
      fill_block(right, number, first + i, content[first + i]);
      if (std::memcmp(right.data(), into.data() + i * kBlockSize, kBlockSize) != 0) {
        broken(
            fmt::format("{}: block {} is not its version {}", what, first + i, content[first + i]));
        return;
      }
    }
    verified_bytes_ += into.size();
  }
  void verify_all(const std::string& export_name, std::uint64_t number, const Versions& content) {
    auto client = daemon_.connect(export_name);
    if (!client) {
      broken(fmt::format("{} can't be reached: {}", export_name, client.error().message));
      return;
    }
    std::vector<std::byte> data(256 * kBlockSize);
    for (std::uint64_t first = 0; first < kBlocks && !wrong_; first += 256) {
      verify(*client, number, content, first, data, export_name);
    }
  }
  void verify_everything(const std::string& when) {
    for (auto& disk : disks_) {
      verify_all(disk->id, disk->number, disk->content);
      for (const SoakSnapshot& snapshot : disk->snapshots) {
        verify_all(snapshot.id, disk->number, snapshot.content);
      }
    }
    report_.claim(!wrong_, fmt::format("every block of every disk and snapshot is right {}", when));
  }

  // --- The director: one thing after the other ---
  void direct() {
    SoakDisk& disk = *disks_[random_.below(disks_.size())];
    switch (random_.below(8)) {
      case 0:
      case 1:
        return take_snapshot(disk);
      case 2:
        return look_at_snapshot(disk);
      case 3:
        return delete_snapshot(disk);
      case 4:
        return roll_back(disk);
      case 5:
        return clone(disk);
      case 6:
        return may_lose_ ? break_a_replica(disk) : scrub();
      case 7:
        return may_lose_ && random_.one_in(3) ? lose_a_replica() : scrub();
    }
  }
  void take_snapshot(SoakDisk& disk) {
    if (disk.snapshots.size() >= kSnapshotsMax) return delete_snapshot(disk);
    const std::lock_guard lock(disk.mutex);
    const auto made = daemon_.cli({"snapshot", "create", disk.id});
    if (made.exit_status != 0) return broken("snapshot create: " + made.errors);
    std::string id = made.output;
    id.erase(id.find_last_not_of('\n') + 1);
    disk.snapshots.push_back({id, disk.content});
    ++counts_.snapshots;
  }
  void look_at_snapshot(SoakDisk& disk) {
    if (disk.snapshots.empty()) return;
    const SoakSnapshot& snapshot = pick(disk);
    verify_all(snapshot.id, disk.number, snapshot.content);
    ++counts_.looks;
  }
  void delete_snapshot(SoakDisk& disk) {
    if (disk.snapshots.empty()) return;
    const std::size_t index = random_.below(disk.snapshots.size());
    if (!captured(disk.snapshots[index].id)) return;
    const auto gone = daemon_.cli({"snapshot", "delete", disk.snapshots[index].id, "--force"});
    if (gone.exit_status != 0) return broken("snapshot delete: " + gone.errors);
    disk.snapshots.erase(disk.snapshots.begin() + static_cast<std::ptrdiff_t>(index));
    ++counts_.deletions;
  }
  void roll_back(SoakDisk& disk) {
    if (disk.snapshots.empty()) return;
    for (const SoakSnapshot& snapshot : disk.snapshots) {
      if (!captured(snapshot.id)) return;
    }
    const SoakSnapshot& snapshot = pick(disk);
    const std::lock_guard lock(disk.mutex);
    disk.client.reset();
    const auto back =
        daemon_.cli({"disk", "rollback", disk.id, "--snapshot", snapshot.id, "--restart-instance"});
    if (back.exit_status != 0) return broken("rollback: " + back.errors);
    disk.content = snapshot.content;
    ++counts_.rollbacks;
  }
  void clone(SoakDisk& disk) {
    if (disk.snapshots.empty()) return;
    const SoakSnapshot& snapshot = pick(disk);
    if (!captured(snapshot.id)) return;
    const std::string copy = daemon_.ok({"disk", "create", "--snapshot", snapshot.id});
    daemon_.ok({"disk", "attach", copy});
    verify_all(copy, disk.number, snapshot.content);
    daemon_.ok({"disk", "detach", copy});
    daemon_.ok({"disk", "delete", copy});
    ++counts_.clones;
  }
  // One replica at a time, and only when the others are whole.
  void break_a_replica(SoakDisk& disk) {
    if (!all_in_sync()) return bring_back();
    if (daemon_.ok({"fault", "clear", "--all"}).empty()) return;
    static constexpr std::array<const char*, 6> kKinds = {"slow", "corrupt", "torn",
                                                          "drop", "error",   "hang"};
    const std::string kind = kKinds[random_.below(kKinds.size())];
    const std::string replica = std::to_string(random_.between(1, 3));
    std::vector<std::string> command = {"fault", "set",    disk.id, "--kind", kind, "--replica",
                                        replica, "--rate", "5%",    "--for",  "3s"};
    if (kind == "slow") command.insert(command.end(), {"--delay", "20ms"});
    const auto set = daemon_.cli(command);
    if (set.exit_status != 0) return broken("fault set: " + set.errors);
    ++counts_.faults;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  void lose_a_replica() {
    if (!all_in_sync()) return bring_back();
    daemon_.ok({"fault", "clear", "--all"});
    const int lost = static_cast<int>(random_.between(1, 3));
    // At once: removing file by file beside a daemon that makes new ones may leave a part.
    const std::string gone = daemon_.replica(lost) + ".gone";
    std::filesystem::rename(daemon_.replica(lost), gone);
    std::filesystem::remove_all(gone);
    const bool noticed =
        cli::wait_until(10, [&] { return daemon_.replica_state(lost) == "failed"; });
    if (!noticed) return broken("a replica that is gone is not noticed");
    bring_back();
    ++counts_.losses;
  }
  // Begun again where it ended early: a replica that stalls, as on a busy machine, is put out.
  void bring_back() {
    daemon_.ok({"fault", "clear", "--all"});
    const bool back = cli::wait_until(120, [&] {
      bool whole = true;
      for (int replica = 1; replica <= 3; ++replica) {
        const std::string state = daemon_.replica_state(replica);
        whole = whole && state == "in-sync";
        if (state == "failed") {
          daemon_.cli({"replica", "resync", std::to_string(replica)});
          ++counts_.resyncs;
        }
      }
      return whole;
    });
    if (!back) broken("a replica is not brought back in 120 s");
  }
  // Where this build has the command; 2 is wrong usage.
  void scrub() {
    if (!scrubs_) return;
    const auto begun = daemon_.cli({"scrub", "start"});
    scrubs_ = begun.exit_status != 2;
    if (begun.exit_status == 0) ++counts_.scrubs;
  }

  const SoakSnapshot& pick(const SoakDisk& disk) {
    return disk.snapshots[random_.below(disk.snapshots.size())];
  }
  bool captured(const std::string& snapshot) {
    const Json shown = daemon_.ok_json({"snapshot", "show", snapshot});
    return shown.value("Status", "") == "accomplished";
  }
  bool all_in_sync() {
    for (int replica = 1; replica <= 3; ++replica) {
      if (daemon_.replica_state(replica) != "in-sync") return false;
    }
    return true;
  }
  void broken(const std::string& what) {
    if (!wrong_.exchange(true)) {
      report_.claim(false,
                    fmt::format("{:.0f} s, seed {}: {}", seconds_since(begin_), seed_, what));
    }
  }

  // --- Figures ---
  void sample(double seconds) {
    const double every = std::clamp(seconds / 120, 0.5, 10.0);
    while (!stop_ && !wrong_) {
      ProcessSample now = sample_process(daemon_.pid());
      now.at_seconds = seconds_since(begin_);
      now.stored_bytes = folder_bytes(daemon_.root());
      samples_.push_back(now);
      std::this_thread::sleep_for(std::chrono::duration<double>(every));
    }
  }
  // The middle of a part of the run, from `from` to `to` of its samples.
  std::uint64_t median(double from, double to, std::uint64_t ProcessSample::*member) const {
    const auto size = static_cast<double>(samples_.size());
    std::vector<std::uint64_t> values;
    for (auto i = static_cast<std::size_t>(size * from); i < static_cast<std::size_t>(size * to);
         ++i) {
      values.push_back(samples_[i].*member);
    }
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  void show_figures(const ProcessSample& idle) {
    const double seconds = seconds_since(begin_);
    report_.figure("seed", std::to_string(seed_));
    report_.figure("time", fmt::format("{:.0f} s", seconds));
    report_.figure("requests", fmt::format("{} ({:.0f}/s)", requests_.load(),
                                           static_cast<double>(requests_.load()) / seconds));
    report_.figure("written, read and verified", mib(written_bytes_) + ", " + mib(verified_bytes_));
    report_.figure("snapshots taken, deleted, read whole",
                   fmt::format("{}, {}, {}", counts_.snapshots, counts_.deletions, counts_.looks));
    report_.figure("rollbacks, clones", fmt::format("{}, {}", counts_.rollbacks, counts_.clones));
    report_.figure("faults, replicas lost, resyncs, scrubs",
                   fmt::format("{}, {}, {}, {}", counts_.faults, counts_.losses, counts_.resyncs,
                               counts_.scrubs));
    if (seconds < kSecondsToJudge) return;  // It warms up for longer.
    const std::vector<ProcessSample> second_half(
        samples_.begin() + static_cast<std::ptrdiff_t>(samples_.size() / 2), samples_.end());
    const struct {
      const char* name;
      std::uint64_t ProcessSample::*member;
      double unit;
      const char* unit_name;
    } kRows[] = {
        {"memory", &ProcessSample::resident_bytes, 1 << 20, "MiB"},
        {"descriptors", &ProcessSample::descriptors, 1, ""},
        {"threads", &ProcessSample::threads, 1, ""},
        {"stored, all replicas and indexes", &ProcessSample::stored_bytes, 1 << 20, "MiB"},
    };
    for (const auto& row : kRows) {
      const auto in_unit = [&](std::uint64_t value) {
        return static_cast<double>(value) / row.unit;
      };
      std::uint64_t most = 0;
      for (const ProcessSample& one : samples_) most = std::max(most, one.*row.member);
      report_.figure(row.name,
                     fmt::format("idle {:.0f}, 2nd quarter {:.0f}, last {:.0f}, most {:.0f} {}; "
                                 "slope of the second half {:+.1f} {} an hour",
                                 in_unit(idle.*row.member), in_unit(median(0.25, 0.5, row.member)),
                                 in_unit(median(0.75, 1, row.member)), in_unit(most), row.unit_name,
                                 slope(second_half, row.member) * 3600 / row.unit, row.unit_name));
    }
    const auto early = median(0.25, 0.5, &ProcessSample::resident_bytes);
    const auto late = median(0.75, 1, &ProcessSample::resident_bytes);
    report_.claim(late < early + kGrowthMax,
                  fmt::format("memory is flat: the last quarter takes less than {} more than the "
                              "second",
                              mib(kGrowthMax)));
    const auto early_files = median(0.25, 0.5, &ProcessSample::descriptors);
    const auto late_files = median(0.75, 1, &ProcessSample::descriptors);
    report_.claim(late_files < early_files + early_files / 2 + 64, "descriptors are");
  }

  Report& report_;
  Random random_;
  const std::uint64_t seed_;
  TestDaemon daemon_;
  std::vector<std::unique_ptr<SoakDisk>> disks_;
  Clock::time_point begin_ = Clock::now();
  std::atomic<bool> stop_{false}, wrong_{false};
  std::atomic<std::uint64_t> requests_{0}, written_bytes_{0}, verified_bytes_{0};
  struct Counts {
    unsigned snapshots = 0, deletions = 0, looks = 0, rollbacks = 0, clones = 0;
    unsigned faults = 0, losses = 0, resyncs = 0, scrubs = 0;
  } counts_;
  std::vector<ProcessSample> samples_;
  bool scrubs_ = true;
  bool may_lose_ = false;
};

}  // namespace

void soak(Report& report, Duration duration, std::uint64_t seed) {
  const double seconds = std::chrono::duration<double>(duration).count();
  report.heading(fmt::format("soak of {:.0f} s, seed {}", seconds, seed));
  Soak(report, seed).run(seconds);
}

}  // namespace clouddisk::load
