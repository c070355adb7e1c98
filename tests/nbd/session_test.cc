#include "nbd/session.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <ostream>
#include <set>

#include "engine/base/bytes.h"
#include "tests/nbd/fixed_contexts.h"
#include "tests/nbd/test_server.h"
#include "tests/support/bytes.h"

namespace clouddisk::nbd {

void PrintTo(Framing framing, std::ostream* out) {
  constexpr const char* kNames[] = {"simple", "structured", "extended"};
  *out << kNames[static_cast<std::size_t>(framing)];
}

namespace {

constexpr std::uint64_t kSize = 40_MiB;

struct Status {
  std::uint64_t length = 0;
  std::uint64_t flags = 0;
  bool operator==(const Status&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Status& status) {
  return out << "{" << status.length << ", " << status.flags << "}";
}

// The extents of one context's chunk.
std::vector<Status> statuses_of(const Bytes& chunk, Framing framing, std::uint32_t context) {
  std::vector<Status> statuses;
  ByteReader in(chunk);
  EXPECT_EQ(in.be<std::uint32_t>(), context);
  if (framing == Framing::kExtended) {
    const auto count = in.be<std::uint32_t>();
    EXPECT_EQ(in.remaining(), std::size_t{count} * 16);
    while (in.remaining() >= 16) {
      const auto length = in.be<std::uint64_t>();
      statuses.push_back({length, in.be<std::uint64_t>()});
    }
  } else {
    while (in.remaining() >= 8) {
      const auto length = in.be<std::uint32_t>();
      statuses.push_back({length, in.be<std::uint32_t>()});
    }
  }
  EXPECT_EQ(in.remaining(), 0U);
  return statuses;
}

class NbdSession : public testing::TestWithParam<Framing> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(server_.works());
    ASSERT_EQ(server_.problem(), "");
    device_ = server_.add("disk", {.size_bytes = kSize});
    client_ = go({});
  }
  RawClient go(RawClient::Wish wish, const std::string& name = "disk") {
    wish.framing = GetParam();
    return server_.go(name, wish);
  }
  Request request(Command command, std::uint64_t offset, std::uint64_t length,
                  std::uint16_t flags = 0) {
    Request made;
    made.command = command;
    made.flags = flags;
    made.cookie = ++cookie_;
    made.offset = offset;
    made.length = length;
    return made;
  }
  Bytes content(std::uint64_t offset, std::uint64_t length) {
    Bytes bytes;
    server_.at_home(device_, [&] {
      const auto begin = device_->content().begin() + static_cast<std::ptrdiff_t>(offset);
      bytes.assign(begin, begin + static_cast<std::ptrdiff_t>(length));
    });
    return bytes;
  }
  void open_gate() {
    server_.at_home(device_, [&] { device_->open_gate(); });
  }
  bool alive(RawClient& client) { return client.read(0, 512).error == 0; }

  TestServer server_;
  std::shared_ptr<MemoryDevice> device_;
  RawClient client_;
  std::uint64_t cookie_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Framings, NbdSession,
                         testing::Values(Framing::kSimple, Framing::kStructured,
                                         Framing::kExtended),
                         testing::PrintToStringParamName());

class NbdStatus : public NbdSession {};
INSTANTIATE_TEST_SUITE_P(Framings, NbdStatus,
                         testing::Values(Framing::kStructured, Framing::kExtended),
                         testing::PrintToStringParamName());

class NbdExtendedSession : public NbdSession {};
INSTANTIATE_TEST_SUITE_P(Framings, NbdExtendedSession, testing::Values(Framing::kExtended),
                         testing::PrintToStringParamName());

// --- Data ---

TEST_P(NbdSession, ReadsWhatWasWrittenAtAnySizeAndPlace) {
  const std::uint64_t sizes[] = {1,      511,       512,   4096,      4097,       64_KiB, 256_KiB,
                                 300000, 1_MiB - 1, 1_MiB, 1_MiB + 1, 3_MiB + 77, 32_MiB};
  std::uint64_t seed = 0;
  for (const std::uint64_t size : sizes) {
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{4095}, kSize - size}) {
      const Bytes data = pattern(size, ++seed);
      ASSERT_EQ(client_.write(offset, data), 0U) << size << " at " << offset;
      ASSERT_TRUE(same_bytes(content(offset, size), data)) << size << " at " << offset;
      const Reply reply = client_.read(offset, size);
      ASSERT_EQ(reply.error, 0U) << size << " at " << offset;
      ASSERT_TRUE(same_bytes(reply.data, data)) << size << " at " << offset;
      ASSERT_LE(reply.chunks, 2 + size / 1_MiB + 1);
    }
  }
}

TEST_P(NbdSession, OneConnectionReadsWhatAnotherWasAcknowledged) {
  RawClient other = go({});
  for (std::uint64_t i = 0; i < 50; ++i) {
    ASSERT_EQ(client_.write(i * 512, pattern(512, i)), 0U);
    ASSERT_EQ(other.read(i * 512, 512).data, pattern(512, i));
  }
}

TEST_P(NbdSession, FlushAndFuaReachTheDevice) {
  EXPECT_EQ(client_.simple_command(Command::kFlush, 0, 0), 0U);
  EXPECT_EQ(device_->flushes(), 1U);
  EXPECT_EQ(client_.write(0, pattern(512, 1), kFlagFua), 0U);
  EXPECT_EQ(device_->fua_writes(), 1U);
  EXPECT_EQ(client_.write(1, pattern(2_MiB, 1), kFlagFua), 0U);
  EXPECT_EQ(device_->fua_writes(), 4U);  // Every piece of it.
  EXPECT_EQ(client_.simple_command(Command::kTrim, 0, 512, kFlagFua), 0U);
  EXPECT_EQ(client_.simple_command(Command::kWriteZeroes, 0, 512, kFlagFua), 0U);
  EXPECT_EQ(device_->fua_writes(), 6U);
  EXPECT_EQ(client_.write(0, pattern(512, 1)), 0U);
  EXPECT_EQ(client_.read(0, 512, kFlagFua).error, 0U);
  EXPECT_EQ(device_->fua_writes(), 6U);
}

TEST_P(NbdSession, TrimAndZeroesOfAnyLength) {
  ASSERT_EQ(client_.write(0, pattern(8192, 1)), 0U);
  EXPECT_EQ(client_.simple_command(Command::kTrim, 0, kSize), 0U);
  EXPECT_EQ(content(0, 8192), Bytes(8192));
  ASSERT_EQ(client_.write(0, pattern(8192, 1)), 0U);
  EXPECT_EQ(client_.simple_command(Command::kWriteZeroes, 1, 4096, kFlagFastZero), 0U);
  Bytes expected = pattern(8192, 1);
  std::fill(expected.begin() + 1, expected.begin() + 4097, std::byte{0});
  EXPECT_EQ(content(0, 8192), expected);
  EXPECT_EQ(device_->no_hole_zeroes(), 0U);
  EXPECT_EQ(client_.simple_command(Command::kWriteZeroes, 0, kSize, kFlagNoHole), 0U);
  EXPECT_EQ(device_->no_hole_zeroes(), 1U);
}

TEST_P(NbdSession, CacheBringsTheRangeNearer) {
  EXPECT_EQ(client_.simple_command(Command::kCache, 0, kSize), 0U);
  EXPECT_EQ(device_->prefetches(), 1U);
}

TEST_P(NbdSession, AReadThatMustNotBeCutIsOneChunk) {
  if (GetParam() == Framing::kSimple) {
    EXPECT_EQ(client_.read(0, 512, kFlagDf).error, wire(WireError::kInvalid));
    return;
  }
  const Bytes data = pattern(5_MiB, 1);
  ASSERT_EQ(client_.write(100, data), 0U);
  const Reply cut = client_.read(100, 5_MiB);
  EXPECT_GT(cut.chunks, 1U);
  const Reply whole = client_.read(100, 5_MiB, kFlagDf);
  EXPECT_EQ(whole.error, 0U);
  EXPECT_EQ(whole.chunks, 1U);
  EXPECT_TRUE(whole.data == data);
}

// --- Block status ---

TEST_P(NbdSession, BlockStatusWithoutAContextIsInvalid) {
  EXPECT_EQ(client_.simple_command(Command::kBlockStatus, 0, 512), wire(WireError::kInvalid));
  EXPECT_TRUE(alive(client_));
}

TEST_P(NbdStatus, BlockStatusTellsDataZeroesAndHoles) {
  RawClient client = go({.allocation = true});
  ASSERT_EQ(client.write(4096, pattern(4096, 1)), 0U);
  ASSERT_EQ(client.simple_command(Command::kWriteZeroes, 8192, 512, kFlagNoHole), 0U);
  const Reply all = client.call(request(Command::kBlockStatus, 0, kSize));
  ASSERT_EQ(all.statuses.size(), 1U);
  EXPECT_EQ(statuses_of(all.statuses[0], GetParam(), 1),
            (std::vector<Status>{{4096, 3}, {4096, 0}, {512, 2}, {kSize - 8704, 3}}));
  const Reply part = client.call(request(Command::kBlockStatus, 4000, 4200));
  ASSERT_EQ(part.statuses.size(), 1U);
  EXPECT_EQ(statuses_of(part.statuses[0], GetParam(), 1),
            (std::vector<Status>{{96, 3}, {4096, 0}, {8, 2}}));
  const Reply one = client.call(request(Command::kBlockStatus, 4096, kSize - 4096, kFlagReqOne));
  ASSERT_EQ(one.statuses.size(), 1U);
  EXPECT_EQ(statuses_of(one.statuses[0], GetParam(), 1), (std::vector<Status>{{4096, 0}}));
}

TEST_P(NbdStatus, BlockStatusHasABoundOnItsExtents) {
  RawClient client = go({.allocation = true});
  for (std::uint64_t i = 0; i < 1500; ++i) {
    ASSERT_EQ(client.write(i * 1024, pattern(512, i)), 0U);
  }
  const Reply reply = client.call(request(Command::kBlockStatus, 0, kSize));
  ASSERT_EQ(reply.statuses.size(), 1U);
  EXPECT_EQ(statuses_of(reply.statuses[0], GetParam(), 1).size(), 1024U);
}

TEST_P(NbdStatus, BlockStatusOfSeveralContexts) {
  server_.add("rich", {}, true, std::make_shared<FixedContexts>());
  RawClient client = go({.contexts = {"test:parity", "base:allocation"}}, "rich");
  const Reply reply = client.call(request(Command::kBlockStatus, 0, 12288));
  ASSERT_EQ(reply.error, 0U);
  ASSERT_EQ(reply.statuses.size(), 2U);
  EXPECT_EQ(statuses_of(reply.statuses[0], GetParam(), 1),
            (std::vector<Status>{{4096, 0}, {4096, 1}, {4096, 0}}));
  EXPECT_EQ(statuses_of(reply.statuses[1], GetParam(), 2), (std::vector<Status>{{12288, 3}}));
}

TEST_P(NbdStatus, AContextThatFailsFailsTheRequestAlone) {
  server_.add("rich", {}, true, std::make_shared<FixedContexts>());
  RawClient client = go({.contexts = {"test:parity", "test:fails"}}, "rich");
  const Reply reply = client.call(request(Command::kBlockStatus, 0, 12288));
  EXPECT_EQ(reply.error, wire(WireError::kIo));
  EXPECT_TRUE(reply.statuses.empty());
  EXPECT_TRUE(alive(client));
}

TEST_P(NbdStatus, AContextThatWentEndsTheSession) {
  server_.add("rich", {}, true, std::make_shared<FixedContexts>());
  RawClient client = go({.contexts = {"test:gone"}}, "rich");
  EXPECT_TRUE(client.ended());
  EXPECT_TRUE(alive(client_));
}

// --- Requests that are wrong ---

TEST_P(NbdSession, WritesPastTheEndAreSwallowedAndRefused) {
  for (const std::uint64_t size : {std::uint64_t{512}, 64_KiB, 256_KiB, 2_MiB, 32_MiB}) {
    EXPECT_EQ(client_.write(kSize - 256, pattern(size, 1)), wire(WireError::kNoSpace)) << size;
    EXPECT_EQ(client_.write(~std::uint64_t{0}, pattern(size, 1)), wire(WireError::kNoSpace));
    ASSERT_TRUE(alive(client_)) << size;
  }
  EXPECT_EQ(content(kSize - 512, 512), Bytes(512));
}

TEST_P(NbdSession, WritesToAReadOnlyDiskAreSwallowedAndRefused) {
  server_.add("snapshot", {.read_only = true});
  RawClient client = go({}, "snapshot");
  for (const std::uint64_t size : {std::uint64_t{512}, 300_KiB, 3_MiB}) {
    EXPECT_EQ(client.write(0, pattern(size, 1)), wire(WireError::kPerm)) << size;
  }
  EXPECT_EQ(client.simple_command(Command::kTrim, 0, 512), wire(WireError::kPerm));
  EXPECT_EQ(client.simple_command(Command::kWriteZeroes, 0, 512), wire(WireError::kPerm));
  EXPECT_EQ(client.simple_command(Command::kFlush, 0, 0), 0U);
  EXPECT_EQ(client.read(0, 512).data, Bytes(512));
}

TEST_P(NbdSession, WrongRequestsAreAnsweredAndTheConnectionLives) {
  const std::uint32_t invalid = wire(WireError::kInvalid);
  EXPECT_EQ(client_.read(kSize, 1).error, invalid);
  EXPECT_EQ(client_.read(kSize - 1, 2).error, invalid);
  EXPECT_EQ(client_.read(0, 0).error, invalid);
  EXPECT_EQ(client_.read(0, 32_MiB + 1).error, invalid);
  EXPECT_EQ(client_.read(0, 0xffffffff).error, invalid);
  EXPECT_EQ(client_.read(0, 512, 0x100).error, invalid);
  EXPECT_EQ(client_.write(0, {}), invalid);
  EXPECT_EQ(client_.write(0, pattern(2_MiB, 1), 0x100), invalid);
  EXPECT_EQ(client_.simple_command(Command::kTrim, kSize, 1), invalid);
  EXPECT_EQ(client_.simple_command(Command::kWriteZeroes, kSize, 1), wire(WireError::kNoSpace));
  EXPECT_EQ(client_.simple_command(Command::kCache, 1, kSize), invalid);
  EXPECT_EQ(client_.simple_command(Command::kFlush, 0, 0, kFlagReqOne), invalid);
  for (const unsigned command : {8U, 9U, 255U, 65535U}) {
    EXPECT_EQ(client_.simple_command(static_cast<Command>(command), 0, 512), invalid) << command;
  }
  EXPECT_TRUE(alive(client_));
  EXPECT_EQ(content(0, 512), Bytes(512));
  EXPECT_EQ(device_->prefetches(), 0U);
}

TEST_P(NbdSession, AClientThatKnowsTheBlockSizeIsHeldToIt) {
  RawClient client = go({.block_sizes = true});
  EXPECT_EQ(client.write(1, pattern(512, 1)), wire(WireError::kInvalid));
  EXPECT_EQ(client.write(0, pattern(100, 1)), wire(WireError::kInvalid));
  EXPECT_EQ(client.write(0, pattern(2_MiB + 1, 1)), wire(WireError::kInvalid));
  EXPECT_EQ(client.read(512, 511).error, wire(WireError::kInvalid));
  EXPECT_EQ(client.write(512, pattern(1536, 1)), 0U);
}

TEST_P(NbdSession, APayloadBeyondTheMaximumEndsTheConnection) {
  ASSERT_TRUE(client_.send_request(request(Command::kWrite, 0, 32_MiB + 1)));
  EXPECT_TRUE(client_.ended());
  RawClient other = go({});
  EXPECT_TRUE(alive(other));
}

TEST_P(NbdExtendedSession, LengthsOfSixtyFourBits) {
  EXPECT_EQ(client_.read(0, 1_TiB).error, wire(WireError::kInvalid));
  EXPECT_EQ(client_.read(0, ~std::uint64_t{0}).error, wire(WireError::kInvalid));
  EXPECT_EQ(client_.simple_command(Command::kTrim, 0, ~std::uint64_t{0}),
            wire(WireError::kInvalid));
  EXPECT_EQ(client_.simple_command(Command::kWriteZeroes, 1, ~std::uint64_t{0}),
            wire(WireError::kNoSpace));
  // Payload where none belongs is swallowed like any other.
  EXPECT_EQ(client_.call(request(Command::kRead, 0, 600, kFlagPayloadLength), Bytes(600)).error,
            wire(WireError::kInvalid));
  EXPECT_TRUE(alive(client_));
  ASSERT_TRUE(client_.send_request(request(Command::kRead, 0, 1_TiB, kFlagPayloadLength)));
  EXPECT_TRUE(client_.ended());
}

TEST_P(NbdSession, GarbageEndsTheConnectionAfterWhatCameBefore) {
  const Request good = request(Command::kWrite, 0, 512);
  Bytes bytes = client_.encode(good);
  const Bytes data = pattern(512, 1);
  bytes.insert(bytes.end(), data.begin(), data.end());
  Bytes bad = client_.encode(request(Command::kFlush, 0, 0));
  bad[1] ^= std::byte{1};
  bytes.insert(bytes.end(), bad.begin(), bad.end());
  ASSERT_TRUE(client_.send(bytes));
  Chunk chunk;
  ASSERT_TRUE(client_.receive_chunk(chunk));
  EXPECT_EQ(chunk.cookie, good.cookie);
  EXPECT_EQ(chunk.error, 0U);
  EXPECT_TRUE(client_.ended());
  EXPECT_EQ(device_->flushes(), 0U);
}

// --- Devices that fail ---

TEST_P(NbdSession, ErrorsOfTheDeviceReachTheClient) {
  const std::pair<Errc, WireError> table[] = {
      {Errc::kIo, WireError::kIo},           {Errc::kReplicasLost, WireError::kIo},
      {Errc::kNoSpace, WireError::kNoSpace}, {Errc::kReadOnly, WireError::kPerm},
      {Errc::kLimit, WireError::kNoMemory},  {Errc::kShutdown, WireError::kShutdown},
  };
  for (const auto& [code, error] : table) {
    device_->fail_with(code);
    EXPECT_EQ(client_.read(0, 512).error, wire(error)) << name(code);
    EXPECT_EQ(client_.read(0, 5_MiB).error, wire(error)) << name(code);
    EXPECT_EQ(client_.write(0, pattern(512, 1)), wire(error)) << name(code);
    EXPECT_EQ(client_.write(0, pattern(5_MiB, 1)), wire(error)) << name(code);
    EXPECT_EQ(client_.simple_command(Command::kFlush, 0, 0), wire(error)) << name(code);
    EXPECT_EQ(client_.simple_command(Command::kTrim, 0, 512), wire(error)) << name(code);
    EXPECT_EQ(client_.simple_command(Command::kWriteZeroes, 0, 512), wire(error)) << name(code);
    EXPECT_EQ(client_.simple_command(Command::kCache, 0, 512), wire(error)) << name(code);
  }
  device_->fail_with(std::nullopt);
  EXPECT_TRUE(alive(client_));
  EXPECT_TRUE(eventually([&] { return server_.server().counters().errors == 6 * 8; }));
}

TEST_P(NbdSession, ALongReadThatFailsInTheMiddle) {
  device_->fail_reads_from(3_MiB);
  EXPECT_EQ(client_.read(0, 3_MiB).error, 0U);
  EXPECT_EQ(client_.read(0, 3_MiB + 1).error, wire(WireError::kIo));
  EXPECT_EQ(client_.read(1, 16_MiB).error, wire(WireError::kIo));
  if (GetParam() != Framing::kSimple) {
    const Reply whole = client_.read(0, 16_MiB, kFlagDf);
    EXPECT_EQ(whole.error, wire(WireError::kIo));
    EXPECT_EQ(whole.chunks, 1U);
  }
  EXPECT_TRUE(alive(client_));
}

// --- Many requests, and clients that leave ---

TEST_P(NbdSession, ManyRequestsInOneSend) {
  device_->keep_write_order(true);
  constexpr std::uint64_t kCount = 2000;
  Bytes bytes;
  std::set<std::uint64_t> expected;
  std::uint64_t failing = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Request one = request(i % 2 == 0 ? Command::kWrite : Command::kFlush, i * 512, 512);
    if (i % 100 == 98) one.offset = kSize;
    if (i % 100 == 98) failing = one.cookie;
    const Bytes head = client_.encode(one);
    bytes.insert(bytes.end(), head.begin(), head.end());
    if (one.command == Command::kWrite) {
      const Bytes data = pattern(512, i);
      bytes.insert(bytes.end(), data.begin(), data.end());
    }
    expected.insert(one.cookie);
  }
  std::thread sender([&] { EXPECT_TRUE(client_.send(bytes)); });
  unsigned errors = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Chunk chunk;
    ASSERT_TRUE(client_.receive_chunk(chunk));
    ASSERT_EQ(expected.erase(chunk.cookie), 1U);
    if (chunk.error != 0) ++errors;
    if (chunk.cookie == failing) {
      EXPECT_EQ(chunk.error, wire(WireError::kNoSpace));
    }
  }
  sender.join();
  EXPECT_EQ(errors, kCount / 100);
  std::vector<std::uint64_t> order;
  server_.at_home(device_, [&] { order = device_->write_order(); });
  EXPECT_EQ(order.size(), kCount / 2 - kCount / 100);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  for (std::uint64_t i = 0; i < kCount; i += 20) {
    ASSERT_EQ(client_.read(i * 512, 512).data, pattern(512, i));
  }
}

TEST_P(NbdSession, RequestsUnderWayAreBounded) {
  device_->close_gate();
  constexpr std::uint64_t kCount = 3000;
  Bytes bytes;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const Bytes head = client_.encode(request(Command::kTrim, i * 512, 512));
    bytes.insert(bytes.end(), head.begin(), head.end());
  }
  std::thread sender([&] { EXPECT_TRUE(client_.send(bytes)); });
  EXPECT_TRUE(eventually([&] { return device_->under_way() == Session::kRequestsMax; }));
  open_gate();
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Chunk chunk;
    ASSERT_TRUE(client_.receive_chunk(chunk));
    ASSERT_EQ(chunk.error, 0U);
  }
  sender.join();
  EXPECT_EQ(device_->most_under_way(), Session::kRequestsMax);
}

TEST_P(NbdSession, AClientThatOnlyListensGetsItsAnswers) {
  Bytes bytes;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const Request one = request(Command::kRead, i * 4096, 4096);
    client_.expect_read(one.cookie, 4096);
    const Bytes head = client_.encode(one);
    bytes.insert(bytes.end(), head.begin(), head.end());
  }
  ASSERT_TRUE(client_.send(bytes));
  ASSERT_EQ(::shutdown(client_.socket(), SHUT_WR), 0);
  for (std::uint64_t i = 0; i < 100; ++i) {
    Chunk chunk;
    ASSERT_TRUE(client_.receive_chunk(chunk));
    EXPECT_EQ(chunk.data.size(), 4096U);
  }
  EXPECT_TRUE(client_.ended());
}

TEST_P(NbdSession, DisconnectAnswersWhatCameBefore) {
  device_->close_gate();
  const Request flush = request(Command::kFlush, 0, 0);
  ASSERT_TRUE(client_.send_request(flush));
  ASSERT_TRUE(client_.send_request(request(Command::kDisconnect, 0, 0)));
  ASSERT_TRUE(client_.send_request(request(Command::kFlush, 0, 0)));
  EXPECT_TRUE(eventually([&] { return device_->under_way() == 1; }));
  EXPECT_FALSE(client_.readable(0));
  open_gate();
  Chunk chunk;
  ASSERT_TRUE(client_.receive_chunk(chunk));
  EXPECT_EQ(chunk.cookie, flush.cookie);
  EXPECT_TRUE(client_.ended());
  EXPECT_EQ(device_->flushes(), 1U);
}

TEST_P(NbdSession, ClientsThatLeaveInTheMiddle) {
  const auto gone = [&] {
    return eventually([&] { return server_.server().counters().connections == 1; });
  };
  const Bytes head = client_.encode(request(Command::kWrite, 0, 600_KiB));
  for (const std::size_t part : {std::size_t{1}, head.size() - 1, head.size()}) {
    RawClient leaving = go({});
    ASSERT_TRUE(leaving.send(std::span(head).first(part)));
    leaving.close();
    EXPECT_TRUE(gone()) << part;
  }
  RawClient in_payload = go({});
  ASSERT_TRUE(in_payload.send(head));
  ASSERT_TRUE(in_payload.send(pattern(500_KiB, 1)));
  in_payload.close();
  EXPECT_TRUE(gone());
  EXPECT_EQ(content(0, 512), Bytes(512));  // Half a request is none.
  // Answers that nobody takes.
  RawClient deaf = go({});
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(deaf.send_request(request(Command::kRead, 0, 1_MiB)));
  }
  deaf.close();
  EXPECT_TRUE(gone());
  EXPECT_TRUE(alive(client_));
  EXPECT_TRUE(eventually([&] { return device_->under_way() == 0; }));
}

TEST_P(NbdSession, ADiskThatGrowsIsUsedAtOnce) {
  device_->set_size(1_MiB);
  EXPECT_EQ(client_.write(1_MiB, pattern(512, 1)), wire(WireError::kNoSpace));
  device_->set_size(2_MiB);
  EXPECT_EQ(client_.write(1_MiB, pattern(512, 1)), 0U);
}

TEST_P(NbdSession, RequestsAreCounted) {
  EXPECT_EQ(client_.write(0, pattern(3_MiB, 1)), 0U);
  EXPECT_EQ(client_.write(kSize, pattern(512, 1)), wire(WireError::kNoSpace));
  EXPECT_EQ(client_.read(0, 512).error, 0U);
  EXPECT_EQ(client_.simple_command(static_cast<Command>(77), 0, 0), wire(WireError::kInvalid));
  ASSERT_TRUE(client_.send_request(request(Command::kDisconnect, 0, 0)));
  EXPECT_TRUE(client_.ended());
  const Counters& counters = server_.server().counters();
  EXPECT_TRUE(eventually([&] { return counters.connections == 0; }));
  EXPECT_EQ(counters.connections_total, 1U);
  EXPECT_EQ(counters.requests, 5U);
  EXPECT_EQ(counters.requests_by_command[1], 2U);
  EXPECT_EQ(counters.requests_by_command[8], 1U);
  EXPECT_EQ(counters.errors, 2U);
  EXPECT_GE(counters.bytes_received, 3_MiB + 512);
  EXPECT_LE(counters.bytes_received, 3_MiB + 1024);
  EXPECT_GE(counters.bytes_sent, 512U);
  EXPECT_LE(counters.bytes_sent, 1024U);
}

}  // namespace
}  // namespace clouddisk::nbd
