// The real daemon, real files, kill -9 at random moments under load; a model compared after each
// restart (I1, I2, I3). Sectors of 512 bytes carry which write they are from, so that a block that
// is old, torn or of another place is told apart.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <thread>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"
#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kSectors = 24 * 1024;  // 12 MiB of the disk are in play
constexpr std::uint64_t kAtomicSectors = 64_KiB / kSector;
constexpr std::uint64_t kStampZero = 0;  // reads as zeros

using Stamp = std::uint64_t;

void fill_sector(std::span<std::byte> sector, std::uint64_t number, Stamp stamp) {
  if (stamp == kStampZero) {
    std::fill(sector.begin(), sector.end(), std::byte{0});
    return;
  }
  Random random(stamp * 1'000'003 + number);
  for (std::size_t at = 0; at < sector.size(); at += 8) {
    const std::uint64_t word = at == 0 ? stamp : at == 8 ? number : random.next();
    std::memcpy(sector.data() + at, &word, 8);
  }
}

struct Request {
  std::uint64_t first = 0;
  std::uint64_t count = 0;  // 0: a flush
  Stamp stamp = kStampZero;
  // There whole or not at all: writes of up to 64 KiB (I3). Clearing parts of blocks takes steps.
  bool atomic() const { return stamp != kStampZero && count <= kAtomicSectors; }
};

// What each sector may hold: the last acknowledged stamp, or that of the one request under way.
class Model {
 public:
  Model() : known_(kSectors, kStampZero) {}

  bool busy(std::uint64_t first, std::uint64_t count) const {
    return std::any_of(pending_.begin(), pending_.end(), [&](const auto& entry) {
      const Request& request = entry.second;
      return request.first < first + count && first < request.first + request.count;
    });
  }
  void sent(std::uint64_t cookie, const Request& request) { pending_[cookie] = request; }
  void acknowledged(std::uint64_t cookie) {
    const Request& request = pending_.at(cookie);
    for (std::uint64_t i = 0; i < request.count; ++i) known_[request.first + i] = request.stamp;
    pending_.erase(cookie);
  }
  std::size_t pending() const { return pending_.size(); }
  bool knows(std::uint64_t cookie) const { return pending_.contains(cookie); }

  // After a crash: compares the disk, and takes over what it says of requests under way.
  void compare(std::span<const std::byte> disk) {
    std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> found;  // cookie: new, old
    std::vector<std::byte> expected(kSector);
    for (std::uint64_t number = 0; number < kSectors; ++number) {
      const auto actual = disk.subspan(number * kSector, kSector);
      fill_sector(expected, number, known_[number]);
      const bool old = same_bytes(actual, expected);
      const auto under_way = std::find_if(pending_.begin(), pending_.end(), [&](const auto& e) {
        return e.second.first <= number && number < e.second.first + e.second.count;
      });
      if (under_way == pending_.end()) {
        ASSERT_TRUE(old) << "sector " << number << ": acknowledged stamp " << known_[number]
                         << " is lost, found " << stamp_of(actual);
        continue;
      }
      const Request& request = under_way->second;
      fill_sector(expected, number, request.stamp);
      const bool fresh = same_bytes(actual, expected);
      ASSERT_TRUE(old || fresh) << "sector " << number << ": neither stamp " << known_[number]
                                << " nor " << request.stamp << ", found " << stamp_of(actual);
      auto& counts = found[under_way->first];
      if (known_[number] == request.stamp) continue;  // can't be told apart
      ++(fresh ? counts.first : counts.second);
      if (fresh) known_[number] = request.stamp;
    }
    for (const auto& [cookie, counts] : found) {
      if (!pending_.at(cookie).atomic()) continue;
      ASSERT_TRUE(counts.first == 0 || counts.second == 0)
          << "a write of " << pending_.at(cookie).count << " sectors at "
          << pending_.at(cookie).first << " is there by half";
    }
    pending_.clear();
  }

 private:
  static Stamp stamp_of(std::span<const std::byte> sector) {
    Stamp stamp = 0;
    std::memcpy(&stamp, sector.data(), sizeof(stamp));
    return stamp;
  }

  std::vector<Stamp> known_;
  std::map<std::uint64_t, Request> pending_;
};

class Load {
 public:
  Load(Random random, Model& model) : random_(random), model_(model) {}

  // Until the connection breaks. Gives the number of answers.
  std::uint64_t run(NbdClient client, std::size_t depth) {
    std::uint64_t answered = 0;
    while (true) {
      while (model_.pending() < depth) {
        if (!send_one(client)) return answered + drain(client);
      }
      do {
        auto answer = client.receive();
        if (!answer) return answered;
        EXPECT_EQ(answer->error, 0U) << errno_text(static_cast<int>(answer->error));
        EXPECT_TRUE(model_.knows(answer->cookie));
        model_.acknowledged(answer->cookie);
        ++answered;
      } while (model_.pending() > 0 && client.readable());
    }
  }

 private:
  // What was answered before the daemon died counts as acknowledged.
  std::uint64_t drain(NbdClient& client) {
    std::uint64_t answered = 0;
    while (model_.pending() > 0) {
      auto answer = client.receive();
      if (!answer) break;
      model_.acknowledged(answer->cookie);
      ++answered;
    }
    return answered;
  }

  bool send_one(NbdClient& client) {
    const std::uint64_t cookie = ++cookie_;
    if (random_.one_in(20)) {
      model_.sent(cookie, {});
      return static_cast<bool>(client.send(NbdCommand::kFlush, 0, cookie, 0, 0));
    }
    Request request;
    do {
      request.count = choose_count();
      request.first = random_.below(kSectors - request.count + 1);
      if (random_.one_in(2)) {  // Whole blocks, as file systems write.
        request.first = request.first / 8 * 8;
        request.count = std::max<std::uint64_t>(request.count / 8 * 8, 8);
      }
    } while (request.first + request.count > kSectors || model_.busy(request.first, request.count));
    const std::uint64_t offset = request.first * kSector;
    const auto length = static_cast<std::uint32_t>(request.count * kSector);
    const std::uint16_t flags = random_.one_in(10) ? kNbdFua : 0;
    if (random_.one_in(12)) {
      model_.sent(cookie, request);
      const NbdCommand command = random_.one_in(2) ? NbdCommand::kTrim : NbdCommand::kWriteZeroes;
      return static_cast<bool>(client.send(command, flags, cookie, offset, length));
    }
    request.stamp = ++stamp_;
    std::vector<std::byte> data(length);
    for (std::uint64_t i = 0; i < request.count; ++i) {
      fill_sector(std::span(data).subspan(i * kSector, kSector), request.first + i, request.stamp);
    }
    model_.sent(cookie, request);
    return static_cast<bool>(client.send(NbdCommand::kWrite, flags, cookie, offset, length, data));
  }

  std::uint64_t choose_count() {
    switch (random_.below(6)) {
      case 0:
        return 1 + random_.below(8);
      case 1:
        return 1 + random_.below(kAtomicSectors);
      case 2:
        return random_.one_in(4) ? 1 + random_.below(2048) : 8;
      default:
        return 8;
    }
  }

  Random random_;
  Model& model_;
  std::uint64_t cookie_ = 0;
  Stamp stamp_ = 0;
};

void compare_with_disk(const TestDaemon& daemon, const std::string& id, Model& model) {
  auto client = daemon.connect(id);
  ASSERT_TRUE(client) << client.error().message;
  std::vector<std::byte> disk(kSectors * kSector);
  for (std::size_t at = 0; at < disk.size(); at += 1_MiB) {
    auto read = client->read(at, std::span(disk).subspan(at, 1_MiB));
    ASSERT_TRUE(read) << "at " << at << ": " << read.error().message;
  }
  model.compare(disk);
}

struct CrashPlan {
  int rounds = 0;
  bool lose_replicas = false;
  bool lose_index = false;
};

void run_rounds(const CrashPlan& plan) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  TestDaemon daemon;
  const std::vector<std::string> arguments = {"--no-limits", "--log-level", "warning"};
  ASSERT_TRUE(daemon.start(arguments)) << daemon.log();
  const std::string id = daemon.make_disk();
  Model model;
  Load load(random.fork(), model);
  std::uint64_t answered = 0;
  for (int round = 0; round < plan.rounds; ++round) {
    SCOPED_TRACE(fmt::format("seed {} round {}", seed, round));
    auto client = daemon.connect(id);
    ASSERT_TRUE(client) << client.error().message;
    const std::size_t depth = std::size_t{1} << random.below(6);
    const bool gentle = random.one_in(8);
    const auto after_us = static_cast<useconds_t>(random.below(250'000));
    const pid_t pid = daemon.pid();
    std::thread killer([after_us, gentle, pid] {
      ::usleep(after_us);
      ::kill(pid, gentle ? SIGTERM : SIGKILL);
    });
    answered += load.run(std::move(*client), depth);
    killer.join();
    if (gentle) {
      ASSERT_EQ(daemon.wait_for_end(), 0);
    } else {
      daemon.kill_now();
    }
    int lost = 0;
    if (plan.lose_replicas && random.one_in(3)) {
      lost = static_cast<int>(random.between(1, 3));
      std::filesystem::remove_all(daemon.replica(lost));
    }
    if (plan.lose_index && random.one_in(3)) {
      std::filesystem::remove_all(daemon.root() + "/index");
    }
    ASSERT_TRUE(daemon.start(arguments)) << daemon.log();
    compare_with_disk(daemon, id, model);
    if (testing::Test::HasFatalFailure()) return;
    if (lost != 0) {
      ASSERT_TRUE(daemon.wait_for_replicas(3)) << "replica " << lost << " was not rebuilt";
    }
  }
  EXPECT_GT(answered, static_cast<std::uint64_t>(plan.rounds) * 10);
  EXPECT_EQ(daemon.stop(), 0);
}

TEST(CrashUnderLoad, NothingAcknowledgedIsLostInFortyRounds) {
  run_rounds({.rounds = 40});
}

TEST(CrashUnderLoad, NorWhenAReplicaOrTheIndexIsLostAsWell) {
  run_rounds({.rounds = 15, .lose_replicas = true, .lose_index = true});
}

}  // namespace
}  // namespace clouddisk::e2e
