// What sessions share and compete for: exports that go, memory, clients that stall.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>

#include "nbd/session.h"
#include "tests/nbd/test_server.h"

namespace clouddisk::nbd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class NbdLimits : public testing::Test {
 protected:
  void start(const ServerOptions& options) {
    server_ = std::make_unique<TestServer>(options);
    ASSERT_TRUE(server_->works());
    ASSERT_EQ(server_->problem(), "");
  }
  std::uint64_t sessions(const std::string& name) {
    std::uint64_t count = 0;
    server_->call([&] { count = server_->server().sessions_of(name); });
    return count;
  }
  bool has_export(const std::string& name) {
    bool has = false;
    server_->call([&] { has = server_->server().has_export(name); });
    return has;
  }
  static Request request(Command command, std::uint64_t offset, std::uint64_t length) {
    Request made;
    made.command = command;
    made.cookie = 1;
    made.offset = offset;
    made.length = length;
    return made;
  }
  const Counters& counters() { return server_->server().counters(); }

  std::unique_ptr<TestServer> server_;
};

// What was begun is answered, the device is let go, and nobody new gets in.
TEST_F(NbdLimits, RemovingAnExportWaitsForItsRequests) {
  for (const bool own_ring : {false, true}) {
    start({});
    auto device = server_->add("disk", {}, own_ring);
    server_->add("other");
    RawClient client = server_->go("disk");
    RawClient idle = server_->go("disk");
    RawClient other = server_->go("other");
    device->close_gate();
    const Bytes data = pattern(512, 1);
    ASSERT_TRUE(client.send_request(request(Command::kWrite, 512, 512), data));
    ASSERT_TRUE(eventually([&] { return device->under_way() == 1; }));
    auto removed = std::async(std::launch::async, [&] { server_->remove("disk"); });
    EXPECT_TRUE(idle.ended());
    EXPECT_FALSE(has_export("disk"));
    EXPECT_FALSE(server_->connect().go("disk"));
    EXPECT_EQ(removed.wait_for(milliseconds(0)), std::future_status::timeout);
    server_->at_home(device, [&] { device->open_gate(); });
    Chunk chunk;
    EXPECT_TRUE(client.receive_chunk(chunk));
    EXPECT_EQ(chunk.error, 0U);
    EXPECT_TRUE(client.ended());
    removed.get();
    EXPECT_EQ(device->under_way(), 0U);
    EXPECT_EQ(device.use_count(), 2);  // Ours, and the test server's.
    EXPECT_EQ(other.read(0, 512).error, 0U);
    server_->remove("nothing");  // Fine, too.
  }
}

TEST_F(NbdLimits, RemovingAnExportUnderLoad) {
  start({});
  auto device = server_->add("disk", {}, true);
  constexpr unsigned kClients = 8;
  std::atomic<unsigned> busy{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i] {
      RawClient client = server_->connect();
      if (!client.go("disk")) return;
      const Bytes data = pattern(4096, i);
      for (bool first = true; client.write(i * 4096, data) == 0; first = false) {
        if (first) ++busy;
      }
    });
  }
  EXPECT_TRUE(eventually([&] { return busy == kClients; }));
  server_->remove("disk");
  EXPECT_EQ(device->under_way(), 0U);
  EXPECT_EQ(device.use_count(), 2);
  for (std::thread& thread : threads) thread.join();
}

TEST_F(NbdLimits, AClientThatTakesNoAnswersIsCutOffWhenItsExportGoes) {
  ServerOptions options;
  options.drain_max = milliseconds(100);
  start(options);
  auto device = server_->add("disk", {.size_bytes = 8_MiB});
  RawClient deaf = server_->go("disk");
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(deaf.send_request(request(Command::kRead, 0, 8_MiB)));
  }
  ASSERT_TRUE(deaf.readable(10'000));
  server_->remove("disk");
  EXPECT_EQ(device.use_count(), 2);
  EXPECT_TRUE(eventually([&] { return counters().connections == 0; }));
}

// A small pool, all of it held by clients that neither send nor receive.
TEST_F(NbdLimits, StalledClientsMakeRoomForOthers) {
  ServerOptions options;
  options.stall_max = milliseconds(200);
  start(options);
  server_->add("disk", {.size_bytes = 8_MiB, .pool_bytes = 4_MiB}, true);
  std::vector<RawClient> stalled;
  for (int i = 0; i < 2; ++i) {
    RawClient deaf = server_->go("disk");
    for (int k = 0; k < 4; ++k) {
      ASSERT_TRUE(deaf.send_request(request(Command::kRead, 0, 1_MiB)));
    }
    ASSERT_TRUE(deaf.readable(10'000));
    stalled.push_back(std::move(deaf));
    RawClient mute = server_->go("disk");
    ASSERT_TRUE(mute.send_request(request(Command::kWrite, 0, 1_MiB)));
    stalled.push_back(std::move(mute));
  }
  RawClient good = server_->go("disk");
  const Bytes data = pattern(1_MiB, 1);
  EXPECT_EQ(good.write(2_MiB, data), 0U);
  EXPECT_TRUE(good.read(2_MiB, 1_MiB).data == data);
  EXPECT_GE(counters().evicted, 1U);
}

// Each holds one large answer that it does not take, and would be cut off after minutes.
TEST_F(NbdLimits, AnyNumberOfClientsThatTakeNoAnswersLeavesRoomForSmallRequests) {
  ServerOptions options;
  options.stall_max = std::chrono::minutes(5);
  start(options);
  server_->add("disk", {.size_bytes = 8_MiB, .pool_bytes = 16_MiB}, true);
  std::vector<RawClient> stalled;
  for (int i = 0; i < 16; ++i) {
    RawClient deaf = server_->go("disk");
    for (int k = 0; k < 4; ++k) {
      ASSERT_TRUE(deaf.send_request(request(Command::kRead, 0, 1_MiB)));
    }
    stalled.push_back(std::move(deaf));
  }
  ASSERT_TRUE(stalled[0].readable(10'000));
  RawClient good = server_->go("disk");
  const Bytes data = pattern(4_KiB, 1);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(good.write(2_MiB, data), 0U);
    ASSERT_TRUE(good.read(2_MiB, 4_KiB).data == data);
  }
  EXPECT_EQ(counters().evicted, 0U);
}

TEST_F(NbdLimits, WhatAClientThatLeftHadAskedForIsNotReadAnyMore) {
  start({});
  auto device = server_->add("disk", {.size_bytes = 8_MiB, .pool_bytes = 4_MiB}, true);
  {
    RawClient deaf = server_->go("disk");
    for (int k = 0; k < 200; ++k) {
      ASSERT_TRUE(deaf.send_request(request(Command::kRead, 0, 1_MiB)));
    }
    ASSERT_TRUE(deaf.readable(10'000));
  }
  ASSERT_TRUE(eventually([&] { return counters().connections == 0; }));
  EXPECT_LT(device->reads(), 100U);
}

// Stalling harms nobody while nobody waits.
TEST_F(NbdLimits, AStalledClientStaysWhileThereIsRoom) {
  ServerOptions options;
  options.stall_max = milliseconds(1);
  start(options);
  server_->add("disk", {.size_bytes = 8_MiB}, true);
  RawClient slow = server_->go("disk");
  slow.expect_read(1, 1_MiB);
  ASSERT_TRUE(slow.send_request(request(Command::kRead, 0, 1_MiB)));
  ASSERT_TRUE(slow.readable(10'000));
  RawClient good = server_->go("disk");
  for (int i = 0; i < 20; ++i) ASSERT_EQ(good.write(0, pattern(1_MiB, 1)), 0U);
  Chunk chunk;
  EXPECT_TRUE(slow.receive_chunk(chunk));
  EXPECT_EQ(chunk.data.size(), 1_MiB);
  EXPECT_EQ(counters().evicted, 0U);
}

// Long requests of many clients over a pool that holds few of them: slow, but all of them end.
TEST_F(NbdLimits, ManyLongRequestsOverASmallPool) {
  start({});
  server_->add("disk", {.size_bytes = 16_MiB, .pool_bytes = 4_MiB}, true);
  constexpr Framing kFramings[] = {Framing::kSimple, Framing::kStructured, Framing::kExtended};
  std::vector<std::thread> threads;
  std::atomic<unsigned> good{0};
  for (unsigned i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      RawClient::Wish wish;
      wish.framing = kFramings[i % 3];
      RawClient client = server_->connect();
      if (!client.go("disk", wish)) return;
      const std::uint64_t offset = i * 2_MiB + i;
      const Bytes data = pattern(2_MiB - 7, i);
      for (int round = 0; round < 3; ++round) {
        if (client.write(offset, data) != 0) return;
        if (client.read(offset, data.size()).data != data) return;
        if (client.read(0, 16_MiB).error != 0) return;
      }
      ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 6U);
  EXPECT_EQ(counters().evicted, 0U);
}

TEST_F(NbdLimits, SessionsAreCountedPerExport) {
  start({});
  server_->add("disk");
  server_->add("other", {}, true);
  RawClient first = server_->go("disk");
  RawClient second = server_->go("disk");
  RawClient third = server_->go("other");
  EXPECT_TRUE(eventually([&] { return sessions("disk") == 2 && sessions("other") == 1; }));
  first.close();
  EXPECT_TRUE(eventually([&] { return sessions("disk") == 1; }));
  EXPECT_EQ(sessions("nothing"), 0U);
}

}  // namespace
}  // namespace clouddisk::nbd
