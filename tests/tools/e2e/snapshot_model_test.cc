// The real daemon against a model of disks and snapshots: random sequences of writes, trims,
// snapshots, deletions, rollbacks, re-initialisations, their undoing, disks made from a snapshot,
// resizes, restarts, lost replicas and indexes, and kill -9 in the middle of any of them. Every
// byte of every disk and snapshot is compared. MODEL_SECONDS=3600 runs it for an hour with ever
// new seeds.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/histories.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

// What is in play of each disk: a piece at its beginning and one in its middle.
constexpr std::uint64_t kPieceBytes = 2_MiB;
constexpr std::uint64_t kPieces = 2;
constexpr std::uint64_t kPieceDistance = 9_GiB + 12_KiB;
constexpr std::uint64_t kPlayBytes = kPieces * kPieceBytes;
constexpr std::uint64_t kReadBytes = 512_KiB;
constexpr std::uint64_t kAtomicBytes = 64_KiB;
constexpr int kFirstGib = 20;

// Never changed once shared: snapshots and disks of the same content share one.
using Content = std::shared_ptr<const std::vector<std::byte>>;

struct State {
  Content content;
  int size_gib = kFirstGib;
};

struct Snapshot {
  State state;
  std::string disk;
};

struct Disk {
  State now;
  State origin;        // what a re-initialisation gives
  std::string source;  // snapshot that it was made from
  // What undo-rollback gives; `undo_unknown`: a kill left open whether there is one.
  std::optional<Content> undo;
  bool undo_unknown = false;
};

std::uint64_t place_of(std::uint64_t at) {
  return at / kPieceBytes * kPieceDistance + at % kPieceBytes;
}

class History {
 public:
  History() : random_(announce_seed()), zeros_(content_of_zeros()) {}

  void run(int steps) {
    start();
    make_disk();
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) one_step();
    if (!testing::Test::HasFailure()) compare_everything();
    if (!testing::Test::HasFailure()) {
      restart(true);
      compare_everything();
    }
    if (!testing::Test::HasFailure()) return;
    for (const std::string& line : trace_) std::fprintf(stderr, "  %s\n", line.c_str());
  }

 private:
  static Content content_of_zeros() {
    return std::make_shared<const std::vector<std::byte>>(kPlayBytes);
  }
  // What was done, shown when it went wrong.
  template <class... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    trace_.push_back(fmt::format(format, std::forward<Args>(args)...));
    if (trace_.size() > 60) trace_.pop_front();
  }

  void one_step() {
    const std::uint64_t what = random_.below(100);
    if (what < 34) {
      scribble();
    } else if (what < 40) {
      trim();
    } else if (what < 56) {
      change([this] { return plan_snapshot(); });
    } else if (what < 64) {
      change([this] { return plan_delete(); });
    } else if (what < 71) {
      change([this] { return plan_rollback(); });
    } else if (what < 74) {
      change([this] { return plan_reinit(); });
    } else if (what < 78) {
      change([this] { return plan_undo(); });
    } else if (what < 82) {
      change([this] { return plan_clone(); });
    } else if (what < 84) {
      delete_disk();
    } else if (what < 86) {
      resize();
    } else if (what < 89) {
      hydrate();
    } else if (what < 92) {
      restart(random_.one_in(2));
    } else {
      compare_one();
    }
  }

  // --- The daemon ---

  void start() {
    ASSERT_TRUE(daemon_.start({"--no-limits", "--log-level", "warning"})) << daemon_.log();
  }
  // Ends it, one way or the other; now and then a replica or the indexes are gone.
  void restart(bool gently) {
    note("restart, {}", gently ? "SIGTERM" : "kill -9");
    if (gently) {
      ASSERT_EQ(daemon_.stop(), 0);
    } else {
      daemon_.kill_now();
    }
    begin_again();
  }
  void begin_again() {
    bool lost_replica = false;
    if (random_.one_in(4)) {
      const int number = static_cast<int>(random_.between(1, 3));
      note("replica {} is lost", number);
      fs::remove_all(daemon_.replica(number));
      lost_replica = true;
    } else if (random_.one_in(4)) {
      note("indexes are lost");
      fs::remove_all(daemon_.root() + "/index");
    }
    start();
    if (testing::Test::HasFailure()) return;
    if (lost_replica) {
      ASSERT_TRUE(daemon_.wait_for_replicas(3)) << "not rebuilt";
    }
    // A command that was cut off may have left it stopped.
    const Json instances = Json::parse(daemon_.ok({"api", "DescribeInstances"}), nullptr, false);
    for (const Json& instance : instances["Instances"]["Instance"]) {
      if (instance["InstanceId"] == "i-local" && instance["Status"] != "Running") {
        daemon_.ok({"instance", "start", "i-local"});
      }
    }
  }

  NbdClient connect(const std::string& name) {
    auto client = daemon_.connect(name);
    EXPECT_TRUE(client) << name << ": " << client.error().message;
    CHECK(client);
    return std::move(*client);
  }
  void wait_until_captured() {
    ASSERT_TRUE(cli::wait_until(60, [this] {
      return daemon_.ok({"snapshot", "list", "--status", "progressing", "--ids"}).empty();
    })) << "snapshots are still in progress";
  }

  // --- Content ---

  std::string any_disk() {
    auto it = disks_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(disks_.size())));
    return it->first;
  }
  std::string any_snapshot() {
    auto it = snapshots_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(snapshots_.size())));
    return it->first;
  }
  // A range within one piece, in sectors or in whole blocks.
  std::pair<std::uint64_t, std::uint64_t> range(std::uint64_t longest) {
    const std::uint64_t grain = random_.one_in(3) ? 512 : 4096;
    const std::uint64_t length = grain * random_.between(1, std::max(longest / grain, 1UL));
    const std::uint64_t in_piece = grain * random_.below((kPieceBytes - length) / grain + 1);
    return {random_.below(kPieces) * kPieceBytes + in_piece, length};
  }
  // Half of it compresses. Now and then zeros, or what is there already.
  std::vector<std::byte> data_for(const Content& now, std::uint64_t at, std::uint64_t length) {
    const std::uint64_t kind = random_.below(10);
    std::vector<std::byte> data(length);
    if (kind == 0) return data;
    if (kind == 1) {
      std::copy_n(now->begin() + static_cast<std::ptrdiff_t>(at), length, data.begin());
      return data;
    }
    for (std::size_t i = 0; i < length; i += 8) {
      const std::uint64_t word = i / 256 % 2 == 0 ? random_.next() : kind;
      std::memcpy(data.data() + i, &word, 8);
    }
    return data;
  }
  static Content with(const Content& old, std::uint64_t at, std::span<const std::byte> data) {
    auto changed = std::make_shared<std::vector<std::byte>>(*old);
    std::copy(data.begin(), data.end(), changed->begin() + static_cast<std::ptrdiff_t>(at));
    return changed;
  }

  void scribble() {
    const std::string id = any_disk();
    Disk& disk = disks_.at(id);
    auto content = std::make_shared<std::vector<std::byte>>(*disk.now.content);
    NbdClient client = connect(id);
    const std::uint64_t writes = random_.between(1, 30);
    note("{} writes to {}", writes, id);
    for (std::uint64_t i = 0; i < writes; ++i) {
      const auto [at, length] = range(random_.one_in(6) ? 512_KiB : 32_KiB);
      const auto data = data_for(content, at, length);
      const auto written = client.write(place_of(at), data, random_.one_in(8));
      ASSERT_TRUE(written) << id << ": " << written.error().message;
      std::copy(data.begin(), data.end(), content->begin() + static_cast<std::ptrdiff_t>(at));
    }
    disk.now.content = content;
    if (random_.one_in(6)) write_and_kill(id, std::move(client));
  }
  // A write that may or may not have been taken when the daemon dies.
  void write_and_kill(const std::string& id, NbdClient client) {
    Disk& disk = disks_.at(id);
    const auto [at, length] = range(kAtomicBytes);
    const auto data = data_for(disk.now.content, at, length);
    note("kill -9 during a write to {}", id);
    ASSERT_TRUE(client.send(NbdCommand::kWrite, 0, 1, place_of(at),
                            static_cast<std::uint32_t>(data.size()), data));
    ::usleep(static_cast<useconds_t>(random_.below(500)));
    daemon_.kill_now();
    const bool answered = client.receive().has_value();
    begin_again();
    if (testing::Test::HasFailure()) return;
    const Content written = with(disk.now.content, at, data);
    const Content found = read(id, disk.now.size_gib);
    if (*found == *written) {
      disk.now.content = written;
    } else {
      ASSERT_FALSE(answered) << "an acknowledged write is lost";
      expect_same(found, disk.now.content, id);
    }
  }
  void trim() {
    const std::string id = any_disk();
    Disk& disk = disks_.at(id);
    const auto [at, length] = range(random_.one_in(3) ? kPieceBytes : 128_KiB);
    note("trim {}+{} of {}", at, length, id);
    NbdClient client = connect(id);
    const NbdCommand command = random_.one_in(2) ? NbdCommand::kTrim : NbdCommand::kWriteZeroes;
    ASSERT_TRUE(client.send(command, 0, 1, place_of(at), static_cast<std::uint32_t>(length)));
    const auto answer = client.receive();
    ASSERT_TRUE(answer) << answer.error().message;
    ASSERT_EQ(answer->error, 0U);
    disk.now.content = with(disk.now.content, at, std::vector<std::byte>(length));
  }

  // --- Changes that a kill may cut off ---

  // A command, and what the model is once it was carried out. Called when it was, and after a kill
  // when what the daemon shows says so.
  struct Plan {
    std::vector<std::string> command;
    std::function<void(const std::string& output)> apply;
    std::function<void()> after_kill;
    // Codes with which it may be refused.
    std::set<std::string> refusals;
  };

  template <class Planner>
  void change(Planner planner) {
    std::optional<Plan> plan = planner();
    if (!plan || testing::Test::HasFailure()) return;
    std::string words;
    for (const std::string& word : plan->command) words += ' ' + word;
    const bool killed = random_.one_in(4);
    note("{}{}", killed ? "kill -9 during" : "", words);
    std::thread killer;
    if (killed) {
      const auto delay = static_cast<useconds_t>(random_.below(25'000));
      killer = std::thread([delay, pid = daemon_.pid()] {
        ::usleep(delay);
        ::kill(pid, SIGKILL);
      });
    }
    const ProgramResult result = daemon_.cli(plan->command);
    if (killed) killer.join();
    if (result.exit_status == 0) {
      std::string output = result.output;
      output.erase(output.find_last_not_of('\n') + 1);
      plan->apply(output);
    } else {
      const bool allowed =
          killed ||
          std::any_of(plan->refusals.begin(), plan->refusals.end(), [&](const std::string& code) {
            return result.errors.starts_with("error: " + code + ": ");
          });
      ASSERT_TRUE(allowed) << words << ": " << result.errors;
      note("  {}", result.errors.substr(0, result.errors.find('\n')));
    }
    if (!killed) return;
    daemon_.kill_now();
    begin_again();
    if (testing::Test::HasFailure()) return;
    if (result.exit_status != 0) plan->after_kill();
    attach_all();
    if (random_.one_in(2)) compare_everything();
  }

  std::set<std::string> ids(std::vector<std::string> command) {
    command.emplace_back("--ids");
    std::istringstream lines(daemon_.ok(command));
    return {std::istream_iterator<std::string>(lines), std::istream_iterator<std::string>()};
  }

  void make_disk() {
    const std::string id = daemon_.make_disk(kFirstGib);
    disks_[id].now.content = zeros_;
    disks_[id].origin.content = zeros_;
    note("disk {}", id);
  }
  std::optional<Plan> plan_snapshot() {
    if (snapshots_.size() >= 12) return {};
    const std::string disk = any_disk();
    const auto apply = [this, disk](const std::string& id) {
      note("  {}", id);
      snapshots_[id] = {disks_.at(disk).now, disk};
      disks_.at(disk).undo.reset();
      disks_.at(disk).undo_unknown = false;
    };
    const auto after_kill = [this, apply] {
      for (const std::string& id : ids({"snapshot", "list"})) {
        if (!snapshots_.contains(id)) apply(id);
      }
    };
    return Plan{
        {"snapshot", "create", disk}, apply, after_kill, {"QuotaExceed.ConcurrentSnapshotQuota"}};
  }
  std::optional<Plan> plan_delete() {
    if (snapshots_.empty()) return {};
    const std::string id = any_snapshot();
    const bool has_disks = std::any_of(disks_.begin(), disks_.end(),
                                       [&](const auto& one) { return one.second.source == id; });
    Plan plan{{"snapshot", "delete", id}, {}, {}, {}};
    if (has_disks) {
      if (random_.one_in(2)) {
        plan.command.emplace_back("--force");
      } else {
        plan.refusals.insert("SnapshotCreatedDisk");
      }
    }
    plan.apply = [this, id](const std::string&) { snapshots_.erase(id); };
    plan.after_kill = [this, id] {
      if (!ids({"snapshot", "list"}).contains(id)) snapshots_.erase(id);
    };
    return plan;
  }
  // To what a disk goes back, with the content that it has until then as what can be undone.
  Plan plan_reset(std::vector<std::string> command, const std::string& disk, Content content,
                  bool undoable) {
    command.emplace_back("--restart-instance");
    Plan plan{std::move(command), {}, {}, {}};
    plan.apply = [this, disk, content, undoable](const std::string&) {
      Disk& one = disks_.at(disk);
      one.undo.reset();
      if (undoable) one.undo = one.now.content;
      one.undo_unknown = false;
      one.now.content = content;
    };
    plan.after_kill = [this, disk, content, apply = plan.apply] {
      Disk& one = disks_.at(disk);
      const bool same = *content == *one.now.content;
      const Content found = read(disk, one.now.size_gib);
      if (same) {
        expect_same(found, content, disk);
        one.undo.reset();
        one.undo_unknown = true;
      } else if (*found == *content) {
        apply({});
      } else {
        expect_same(found, one.now.content, disk);
      }
    };
    return plan;
  }
  std::optional<Plan> plan_rollback() {
    if (snapshots_.empty()) return {};
    const std::string id = any_snapshot();
    const Snapshot& snapshot = snapshots_.at(id);
    if (!disks_.contains(snapshot.disk)) return {};
    wait_until_captured();
    return plan_reset({"disk", "rollback", snapshot.disk, "--snapshot", id}, snapshot.disk,
                      snapshot.state.content, true);
  }
  std::optional<Plan> plan_reinit() {
    const std::string id = any_disk();
    const Disk& disk = disks_.at(id);
    wait_until_captured();
    Plan plan = plan_reset({"disk", "reinit", id}, id, disk.origin.content, true);
    if (!disk.source.empty() && !snapshots_.contains(disk.source)) {
      plan.refusals.insert("InvalidSourceSnapshot");
    }
    return plan;
  }
  std::optional<Plan> plan_undo() {
    const std::string id = any_disk();
    const Disk& disk = disks_.at(id);
    if (disk.undo_unknown) return {};
    wait_until_captured();
    if (!disk.undo) {
      Plan plan = plan_reset({"disk", "undo-rollback", id}, id, disk.now.content, false);
      plan.refusals.insert("IncorrectDiskStatus.NothingToUndo");
      plan.apply = [](const std::string&) { FAIL() << "there was nothing to undo"; };
      plan.after_kill = [] {};
      return plan;
    }
    return plan_reset({"disk", "undo-rollback", id}, id, *disk.undo, false);
  }
  std::optional<Plan> plan_clone() {
    if (snapshots_.empty() || disks_.size() >= 4) return {};
    const std::string source = any_snapshot();
    const auto apply = [this, source](const std::string& id) {
      note("  {}", id);
      daemon_.cli({"disk", "attach", id});  // The kill may come first.
      Disk& disk = disks_[id];
      disk.now = snapshots_.at(source).state;
      disk.origin = disk.now;
      disk.source = source;
    };
    const auto after_kill = [this, apply] {
      for (const std::string& id : ids({"disk", "list"})) {
        if (!disks_.contains(id)) apply(id);
      }
    };
    return Plan{{"disk", "create", "--snapshot", source}, apply, after_kill, {}};
  }
  void attach_all() {
    for (const std::string& id : ids({"disk", "list", "--status", "Available"})) {
      daemon_.ok({"disk", "attach", id});
    }
  }
  // Its snapshots stay.
  void delete_disk() {
    if (disks_.size() < 2) return;
    wait_until_captured();
    const std::string id = any_disk();
    note("delete {}", id);
    daemon_.ok({"disk", "detach", id});
    daemon_.ok({"disk", "delete", id});
    disks_.erase(id);
  }
  void resize() {
    const std::string id = any_disk();
    Disk& disk = disks_.at(id);
    disk.now.size_gib += 10;
    note("resize {} to {}", id, disk.now.size_gib);
    wait_until_captured();
    daemon_.ok({"disk", "resize", id, "--size", std::to_string(disk.now.size_gib)});
  }
  void hydrate() {
    const std::string id = any_disk();
    note("hydrate {}", id);
    daemon_.ok({"disk", "hydrate", id});
  }

  // --- Comparing ---

  Content read(const std::string& name, int size_gib) {
    NbdClient client = connect(name);
    EXPECT_EQ(client.size_bytes(), static_cast<std::uint64_t>(size_gib) * 1_GiB) << name;
    auto content = std::make_shared<std::vector<std::byte>>(kPlayBytes);
    for (std::uint64_t at = 0; at < kPlayBytes; at += kReadBytes) {
      const auto done = client.read(place_of(at), std::span(*content).subspan(at, kReadBytes));
      EXPECT_TRUE(done) << name << ": " << done.error().message;
    }
    // Nobody ever wrote at the end.
    std::vector<std::byte> end(64_KiB, std::byte{1});
    const auto done = client.read(client.size_bytes() - end.size(), end);
    EXPECT_TRUE(done) << name << ": " << done.error().message;
    EXPECT_EQ(end, std::vector<std::byte>(end.size())) << name << ": its end";
    return content;
  }
  static void expect_same(const Content& found, const Content& expected, const std::string& what) {
    EXPECT_EQ(first_difference(*found, *expected), found->size())
        << what << " differs at that byte";
  }
  void compare(const std::string& name, const State& state) {
    expect_same(read(name, state.size_gib), state.content, name);
  }
  void compare_one() {
    if (snapshots_.empty() || random_.one_in(2)) {
      const std::string id = any_disk();
      compare(id, disks_.at(id).now);
    } else {
      const std::string id = any_snapshot();
      compare(id, snapshots_.at(id).state);
    }
  }
  void compare_everything() {
    note("compare everything");
    attach_all();
    for (const auto& [id, disk] : disks_) compare(id, disk.now);
    for (const auto& [id, snapshot] : snapshots_) compare(id, snapshot.state);
    std::set<std::string> expected;
    for (const auto& [id, snapshot] : snapshots_) expected.insert(id);
    EXPECT_EQ(ids({"snapshot", "list"}), expected);
  }

  Random random_;
  const Content zeros_;
  TestDaemon daemon_;
  std::map<std::string, Disk> disks_;
  std::map<std::string, Snapshot> snapshots_;
  std::deque<std::string> trace_;
};

TEST(SnapshotModel, EveryDiskAndSnapshotKeepsItsContentWhateverIsCutOff) {
  // Short ones in the suite.
  const int steps = model_seconds().count() > 0 ? 120 : 45;
  run_histories([steps] {
    History history;
    history.run(steps);
  });
}

}  // namespace
}  // namespace clouddisk::e2e
