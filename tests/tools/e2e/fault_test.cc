// Faults that a user orders, under the real daemon: what a client sees, what the engine masks, and
// that nothing is left of either.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>

#include "engine/base/random.h"
#include "tests/support/bytes.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"
#include "tools/http/client.h"

namespace clouddisk::e2e {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// A disk whose first chunks have known content.
class FaultTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kChunk = 64_KiB;
  static constexpr std::uint64_t kChunks = 32;

  void SetUp() override {
    ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
    id_ = daemon_.make_disk();
    write_all(1);
  }
  std::vector<std::byte> content(std::uint64_t generation, std::uint64_t chunk) const {
    Random random(generation * 1'000'003 + chunk);
    std::vector<std::byte> bytes(kChunk);
    for (std::size_t at = 0; at < kChunk; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random.next();
      std::memcpy(bytes.data() + at, &word, sizeof word);
    }
    return bytes;
  }
  NbdClient connect() {
    auto client = daemon_.connect(id_);
    CHECK(client.has_value());
    return std::move(*client);
  }
  void write_all(std::uint64_t generation) {
    NbdClient client = connect();
    for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      const auto written = client.write(chunk * kChunk, content(generation, chunk));
      ASSERT_TRUE(written) << "chunk " << chunk << ": " << written.error().message;
      if (chunk % 8 == 7) {
        ASSERT_TRUE(client.flush()) << "chunk " << chunk;
      }
    }
    generation_ = generation;
  }
  void expect_all() {
    NbdClient client = connect();
    std::vector<std::byte> back(kChunk);
    for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      const auto read = client.read(chunk * kChunk, back);
      ASSERT_TRUE(read) << "chunk " << chunk << ": " << read.error().message;
      ASSERT_TRUE(same_bytes(back, content(generation_, chunk)))
          << "chunk " << chunk << " has other bytes";
    }
  }
  std::string set(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"fault", "set", id_});
    return daemon_.ok(arguments);
  }
  std::uint64_t hits(const std::string& fault) const {
    const Json answer = daemon_.ok_json({"fault", "list"});
    for (const Json& one : answer["Faults"]["Fault"]) {
      if (one["FaultId"] == fault) return one["Hits"].get<std::uint64_t>();
    }
    return 0;
  }
  std::uint64_t total_hits(const std::string& replica) const {
    const auto index = static_cast<std::size_t>(std::stoi(replica) - 1);
    return daemon_.ok_json({"replica", "status"})[index]["fault_hits"].get<std::uint64_t>();
  }
  std::string metrics() const {
    auto answer = http_get(*parse_address("unix:" + daemon_.root() + "/api.sock"), "/metrics",
                           std::chrono::seconds(10));
    return answer ? answer->body : std::string();
  }

  TestDaemon daemon_;
  std::string id_;
  std::uint64_t generation_ = 0;
};

// Errno, as the client is told it; 0: done.
std::uint32_t errno_of(NbdClient& client, NbdCommand command, std::uint64_t offset,
                       std::uint32_t length) {
  const std::vector<std::byte> data(command == NbdCommand::kWrite ? length : 0);
  std::vector<std::byte> into(command == NbdCommand::kRead ? length : 0);
  EXPECT_TRUE(client.send(command, 0, 1, offset, length, data));
  auto answer = client.receive(into);
  EXPECT_TRUE(answer);
  return answer ? answer->error : 0xffffffff;
}

TEST_F(FaultTest, AClientSeesErrorsAndFullDisksWhereTheyWereOrderedAndNowhereElse) {
  set({"--kind", "error", "--op", "read", "--lba", "0-15"});
  set({"--kind", "full", "--lba", "1024-2047"});
  NbdClient client = connect();
  EXPECT_EQ(errno_of(client, NbdCommand::kRead, 0, 4096), 5U);
  EXPECT_EQ(errno_of(client, NbdCommand::kRead, 16 * 4096, 4096), 0U);
  EXPECT_EQ(errno_of(client, NbdCommand::kWrite, 1024 * 4096, 4096), 28U);
  EXPECT_EQ(errno_of(client, NbdCommand::kWrite, 2048 * 4096, 4096), 0U);
  EXPECT_EQ(errno_of(client, NbdCommand::kWriteZeroes, 2047 * 4096, 8192), 28U);
  EXPECT_EQ(errno_of(client, NbdCommand::kRead, 1024 * 4096, 4096), 0U);
  EXPECT_EQ(errno_of(client, NbdCommand::kFlush, 0, 0), 0U);
  daemon_.ok({"fault", "clear", id_});
  EXPECT_EQ(errno_of(client, NbdCommand::kWrite, 1024 * 4096, 4096), 0U);
  expect_all();
}

TEST_F(FaultTest, AClientSeesLatencyAndLyingWritesUntilTheTimeIsOver) {
  const std::string slow = set({"--kind", "slow", "--delay", "80ms", "--op", "read"});
  NbdClient client = connect();
  std::vector<std::byte> block(4096);
  auto begin = Clock::now();
  ASSERT_TRUE(client.read(0, block));
  EXPECT_GE(seconds_since(begin), 0.08);
  EXPECT_EQ(hits(slow), 1U);
  daemon_.ok({"fault", "clear", slow});
  begin = Clock::now();
  ASSERT_TRUE(client.read(0, block));
  EXPECT_LT(seconds_since(begin), 0.08);
  // A lost write is reported as done, and so is a flush.
  const std::string drop = set({"--kind", "drop", "--for", "800ms"});
  const std::vector<std::byte> other(4096, std::byte{0x5a});
  ASSERT_TRUE(client.write(0, other));
  ASSERT_TRUE(client.flush());
  ASSERT_TRUE(cli::wait_until(10, [&] {
    return daemon_.ok_json({"fault", "list"})["Faults"]["Fault"].empty();
  })) << "over after its time";
  expect_all();
  // Corruption above the engine is none that it could notice.
  set({"--kind", "corrupt", "--op", "write", "--lba", "0", "--seed", "5"});
  ASSERT_TRUE(client.write(0, content(generation_, 0)));
  daemon_.ok({"fault", "clear", "--all"});
  std::vector<std::byte> back(kChunk);
  ASSERT_TRUE(client.read(0, back));
  const auto right = content(generation_, 0);
  unsigned different = 0;
  for (std::size_t i = 0; i < kChunk; ++i) {
    if (back[i] == right[i]) continue;
    ++different;
    EXPECT_LT(i, 4096U);
  }
  EXPECT_EQ(different, 1U);
}

TEST_F(FaultTest, AFrozenDiskAnswersWhenTheFaultIsClearedAndOthersGoOnMeanwhile) {
  const std::string other = daemon_.make_disk();
  set({"--kind", "hang"});
  NbdClient client = connect();
  const auto data = content(2, 0);
  ASSERT_TRUE(client.send(NbdCommand::kWrite, 0, 7, 0, kChunk, data));
  auto beside = daemon_.connect(other);
  ASSERT_TRUE(beside);
  ASSERT_TRUE(beside->write(0, data));
  EXPECT_FALSE(client.readable());
  daemon_.ok({"fault", "clear", id_});
  const auto answer = client.receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->error, 0U);
  std::vector<std::byte> back(kChunk);
  ASSERT_TRUE(client.read(0, back));
  EXPECT_EQ(back, data);
}

TEST_F(FaultTest, AFrozenDiskCanBeDetachedAndDeletedAndTheDaemonStops) {
  set({"--kind", "hang"});
  set({"--kind", "hang", "--replica", "1"});
  NbdClient client = connect();
  ASSERT_TRUE(client.send(NbdCommand::kRead, 0, 7, 0, 4096));
  auto begin = Clock::now();
  daemon_.ok({"disk", "detach", id_});
  EXPECT_LT(seconds_since(begin), 5);
  EXPECT_TRUE(daemon_.ok_json({"fault", "list"})["Faults"]["Fault"].empty());
  daemon_.ok({"disk", "delete", id_});
  id_ = daemon_.make_disk();
  set({"--kind", "hang"});
  NbdClient again = connect();
  ASSERT_TRUE(again.send(NbdCommand::kFlush, 0, 7, 0, 0));
  begin = Clock::now();
  EXPECT_EQ(daemon_.stop(), 0);
  EXPECT_LT(seconds_since(begin), 5);
  ASSERT_TRUE(daemon_.start());
  EXPECT_TRUE(daemon_.ok_json({"fault", "list"})["Faults"]["Fault"].empty())
      << "faults do not outlive the daemon";
}

// The engine's promise: whatever one replica does, the client sees nothing of it.
TEST_F(FaultTest, OneReplicasFaultsAreMaskedAndAllContentIsRight) {
  const struct {
    std::vector<std::string> fault;
    std::string state;  // of the replica afterwards
  } kRows[] = {
      {{"--kind", "error", "--op", "write", "--rate", "10%"}, "failed"},
      {{"--kind", "error", "--op", "flush"}, "failed"},
      {{"--kind", "error", "--op", "read"}, "in-sync"},
      {{"--kind", "slow", "--delay", "10ms"}, "in-sync"},
      {{"--kind", "corrupt", "--rate", "30%"}, "in-sync"},
      {{"--kind", "torn", "--rate", "30%"}, "in-sync"},
      {{"--kind", "drop", "--rate", "30%"}, "in-sync"},
  };
  std::uint64_t generation = 1;
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.fault[1]);
    const std::string replica = std::to_string(generation % 3 + 1);
    auto arguments = row.fault;
    arguments.insert(arguments.end(), {"--replica", replica});
    const std::uint64_t hits_before = total_hits(replica);
    const std::string fault = set(arguments);
    for (int round = 0; round < 20 && hits(fault) == 0; ++round) {
      write_all(++generation);
      expect_all();
    }
    EXPECT_GT(hits(fault), 0U);
    EXPECT_EQ(daemon_.replica_state(std::stoi(replica)), row.state);
    daemon_.ok({"fault", "clear", fault});
    EXPECT_GT(total_hits(replica), hits_before) << "replica status counts";
    expect_all();
    if (row.state == "failed") {
      daemon_.ok({"replica", "resync", replica});
      ASSERT_TRUE(daemon_.wait_for_replicas(3));
    }
  }
  daemon_.kill_now();  // The log's end is damaged on one copy.
  ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
  expect_all();
}

TEST_F(FaultTest, AFullReplicaAloneIsDroppedAndTheDiskGoesOn) {
  set({"--kind", "full", "--replica", "2"});
  for (std::uint64_t generation = 2; generation < 6; ++generation) write_all(generation);
  expect_all();
  EXPECT_EQ(daemon_.replica_state(2), "failed");
  EXPECT_NE(daemon_.ok({"replica", "status"}).find("full on purpose"), std::string::npos);
}

// A resync of a replica on which something still hangs waits for it; nobody else may wait for that.
TEST_F(FaultTest, ADetachIsNotHeldUpByAResyncThatWaitsForWhatHangs) {
  set({"--kind", "hang", "--replica", "3"});
  write_all(2);
  ASSERT_EQ(daemon_.replica_state(3), "failed");
  daemon_.ok({"replica", "resync", "3"});
  daemon_.ok({"disk", "detach", id_});
  daemon_.ok({"disk", "attach", id_});
  ASSERT_TRUE(daemon_.wait_for_replicas(3));
  expect_all();
}

TEST_F(FaultTest, NobodyForgetsAFault) {
  const std::string client_fault = set({"--kind", "slow", "--delay", "1ms", "--for", "5m"});
  const std::string replica_fault = set({"--kind", "slow", "--delay", "1ms", "--replica", "2"});
  write_all(2);
  EXPECT_NE(daemon_.ok({"disk", "list"}).find("In_use (2 faults set)"), std::string::npos);
  EXPECT_NE(daemon_.ok({"disk", "show", id_}).find("In_use (2 faults set)"), std::string::npos);
  EXPECT_EQ(daemon_.ok_json({"disk", "show", id_})["Faults"], 2);
  const Json replica = daemon_.ok_json({"replica", "status"})[1];
  EXPECT_EQ(replica["faults"], 1);
  EXPECT_GT(replica["fault_hits"], 0);
  const Json list = daemon_.ok_json({"fault", "list", id_})["Faults"]["Fault"];
  ASSERT_EQ(list.size(), 2U);
  EXPECT_GT(list[0]["TimeLeftMs"], 200'000);
  EXPECT_FALSE(list[1].contains("TimeLeftMs"));
  const std::string text = metrics();
  EXPECT_NE(text.find("clouddisk_faults 2\n"), std::string::npos);
  EXPECT_NE(text.find("clouddisk_fault_hits{fault=\"" + replica_fault + "\",disk=\"" + id_ +
                      "\",kind=\"slow\",level=\"replica-2\"} "),
            std::string::npos);
  EXPECT_NE(daemon_.log().find(client_fault + " set: slow on read, write, flush"),
            std::string::npos);
}

TEST_F(FaultTest, WhatMakesNoSenseIsRefused) {
  daemon_.refused("InvalidFault", {"fault", "set", id_, "--kind", "torn", "--op", "read"});
  daemon_.refused("InvalidFault",
                  {"fault", "set", id_, "--kind", "error", "--replica", "1", "--lba", "0-7"});
  daemon_.refused("InvalidFault", {"fault", "set", id_, "--kind", "error", "--rate", "110%"});
  daemon_.refused("InvalidFault", {"fault", "set", id_, "--kind", "error", "--lba", "99999999"});
  daemon_.refused("WrongUsage", {"fault", "set", id_, "--kind", "error", "--lba", "x"});
  daemon_.refused("WrongUsage", {"fault", "set", id_, "--kind", "error", "--for", "soon"});
  daemon_.refused("InvalidReplica.NotFound",
                  {"fault", "set", id_, "--kind", "error", "--replica", "4"});
  daemon_.refused("InvalidDiskId.NotFound", {"fault", "set", "d-none", "--kind", "error"});
  daemon_.refused("InvalidFaultId.NotFound", {"fault", "clear", "f-99"});
  set({"--kind", "drop", "--replica", "1"});
  daemon_.refused("FaultWouldLoseData", {"fault", "set", id_, "--kind", "torn", "--replica", "2"});
  const std::string idle = daemon_.ok({"disk", "create", "--size", "40"});
  daemon_.refused("IncorrectDiskStatus", {"fault", "set", idle, "--kind", "error"});
  for (int i = 1; i < 16; ++i) set({"--kind", "slow", "--delay", "1ms", "--rate", "1%"});
  daemon_.refused("QuotaExceed.Fault", {"fault", "set", id_, "--kind", "error"});
}

}  // namespace
}  // namespace clouddisk::e2e
