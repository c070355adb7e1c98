// Random requests against a model, and random bytes against a server that must not mind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <map>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "tests/nbd/test_server.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"

namespace clouddisk::nbd {
namespace {

constexpr std::uint64_t kSize = 6_MiB;
constexpr std::uint64_t kSector = MemoryDevice::kSector;
constexpr Framing kFramings[] = {Framing::kSimple, Framing::kStructured, Framing::kExtended};

void append(Bytes& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// What the disk must hold: bytes, and the state of each sector as base:allocation has it.
struct Model {
  Bytes bytes = Bytes(kSize);
  std::vector<std::uint64_t> states = std::vector<std::uint64_t>(kSize / kSector, 3);

  void set(std::uint64_t offset, std::span<const std::byte> data, std::uint64_t state) {
    std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    for (std::uint64_t i = offset / kSector; i * kSector < offset + data.size(); ++i) {
      states[i] = state;
    }
  }
  Bytes read(std::uint64_t offset, std::uint64_t length) const {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(offset);
    return Bytes(begin, begin + static_cast<std::ptrdiff_t>(length));
  }
};

struct Expected {
  Request request;
  std::uint32_t error = 0;
  Bytes data;  // of a read, as it comes in
  bool status_seen = false;
};

// One connection's part of a round: what is sent, and what must come back.
struct Side {
  RawClient client;
  Bytes outgoing;
  std::map<std::uint64_t, Expected> expected;
};

class Rounds {
 public:
  Rounds(TestServer& server, std::shared_ptr<MemoryDevice> device, Random& random)
      : server_(server), device_(std::move(device)), random_(random) {
    const std::uint64_t count = random_.between(1, 3);
    for (std::uint64_t i = 0; i < count; ++i) {
      RawClient::Wish wish;
      wish.framing = kFramings[random_.below(3)];
      wish.allocation = wish.framing != Framing::kSimple;
      sides_.emplace_back().client = server_.go("disk", wish);
    }
  }

  void run() {
    written_.assign(kSize / kSector, false);
    seen_.assign(kSize / kSector, false);
    const Model before = model_;
    for (std::uint64_t left = random_.between(1, 120); left > 0; --left) {
      add_request(sides_[random_.below(sides_.size())]);
    }
    const bool gate = random_.one_in(3);
    if (gate) device_->close_gate();
    std::vector<std::thread> senders;
    for (Side& side : sides_) {
      senders.emplace_back([this, &side, random = random_.fork()] { send(side, random); });
    }
    if (gate) server_.at_home(device_, [this] { device_->open_gate(); });
    for (Side& side : sides_) {
      while (!side.expected.empty() && take_answer(side, before)) continue;
      EXPECT_TRUE(side.expected.empty());
    }
    for (std::thread& sender : senders) sender.join();
    for (Side& side : sides_) side.outgoing.clear();
  }

  void compare_all() {
    server_.at_home(device_, [this] { EXPECT_TRUE(same_bytes(device_->content(), model_.bytes)); });
  }

 private:
  // In pieces that end anywhere, so that the server meets heads and payloads cut in two.
  static void send(Side& side, Random random) {
    std::span<const std::byte> rest = side.outgoing;
    const std::uint64_t most = std::uint64_t{1} << random.between(4, 22);
    while (!rest.empty()) {
      const std::size_t count = std::min<std::size_t>(rest.size(), random.between(1, most));
      if (!side.client.send(rest.first(count))) return;
      rest = rest.subspan(count);
    }
  }

  std::uint64_t random_length() {
    switch (random_.below(6)) {
      case 0:
        return random_.between(1, 600);
      case 1:
        return random_.between(1, 3_MiB);
      case 2:
        return random_.between(1, 300) * 1000;
      default:
        return random_.between(1, 16) * 4096;
    }
  }

  // Within one round nothing that changes a sector meets another request on it, so that the order
  // in which they are carried out makes no difference.
  bool claim(std::uint64_t offset, std::uint64_t length, bool changes) {
    const std::uint64_t last = (offset + length - 1) / kSector;
    for (std::uint64_t i = offset / kSector; i <= last; ++i) {
      if (written_[i] || (changes && seen_[i])) return false;
    }
    for (std::uint64_t i = offset / kSector; i <= last; ++i) {
      (changes ? written_ : seen_)[i] = true;
    }
    return true;
  }

  void add_request(Side& side) {
    constexpr Command kKinds[] = {Command::kRead,  Command::kRead,        Command::kWrite,
                                  Command::kWrite, Command::kWrite,       Command::kTrim,
                                  Command::kFlush, Command::kWriteZeroes, Command::kBlockStatus,
                                  Command::kCache};
    Expected one;
    Request& request = one.request;
    request.command = kKinds[random_.below(std::size(kKinds))];
    request.cookie = random_.next();
    request.length = random_length();
    request.offset = random_.below(kSize - request.length + 1);
    if (random_.below(2) == 0) request.offset = align_down(request.offset, 4096);
    const bool simple = side.client.framing() == Framing::kSimple;
    if (request.command == Command::kBlockStatus && simple) request.command = Command::kRead;
    const bool changes = request.command == Command::kWrite || request.command == Command::kTrim ||
                         request.command == Command::kWriteZeroes;
    if (random_.one_in(4)) request.flags |= kFlagFua;
    if (request.command == Command::kRead && !simple && random_.one_in(4)) request.flags |= kFlagDf;
    if (request.command == Command::kWriteZeroes && random_.one_in(2)) {
      request.flags |= kFlagNoHole;
    }
    if (request.command == Command::kBlockStatus && random_.one_in(3)) {
      request.flags |= kFlagReqOne;
    }
    if (request.command == Command::kFlush) {
      request.offset = request.length = 0;
    } else if (random_.one_in(12)) {
      make_wrong(one);
    } else if (!claim(request.offset, request.length, changes)) {
      return;
    }
    Bytes payload;
    if (request.command == Command::kWrite) {
      payload = pattern(request.length, random_.next());
      if (side.client.framing() == Framing::kExtended) request.flags |= kFlagPayloadLength;
      if (one.error == 0) model_.set(request.offset, payload, 0);
    } else if (changes && one.error == 0) {
      model_.set(request.offset, Bytes(request.length),
                 (request.flags & kFlagNoHole) != 0 ? kStateZero : 3);
    }
    append(side.outgoing, side.client.encode(request));
    append(side.outgoing, payload);
    if (request.command == Command::kRead) {
      if (simple) side.client.expect_read(request.cookie, request.length);
      one.data.resize(request.length);
    }
    side.expected.emplace(request.cookie, std::move(one));
  }

  void make_wrong(Expected& one) {
    Request& request = one.request;
    const bool no_space =
        request.command == Command::kWrite || request.command == Command::kWriteZeroes;
    if (random_.one_in(2)) {
      request.offset = kSize - random_.below(request.length);
      one.error = wire(no_space ? WireError::kNoSpace : WireError::kInvalid);
    } else {
      request.flags |= 0x400;
      one.error = wire(WireError::kInvalid);
    }
  }

  bool take_answer(Side& side, const Model& before) {
    Chunk chunk;
    if (!side.client.receive_chunk(chunk)) {
      ADD_FAILURE() << side.expected.size() << " answers did not come";
      return false;
    }
    const auto it = side.expected.find(chunk.cookie);
    if (it == side.expected.end()) {
      ADD_FAILURE() << "an answer that nobody waits for";
      return false;
    }
    Expected& one = it->second;
    const Request& request = one.request;
    EXPECT_EQ(chunk.error, one.error) << "command " << static_cast<int>(request.command);
    if (chunk.error == 0 && !chunk.data.empty() && request.command == Command::kRead) {
      const std::uint64_t at =
          side.client.framing() == Framing::kSimple ? 0 : chunk.offset - request.offset;
      if (at > one.data.size() || chunk.data.size() > one.data.size() - at) {
        ADD_FAILURE() << "data beside the request";
        return false;
      }
      std::memcpy(one.data.data() + at, chunk.data.data(), chunk.data.size());
    }
    if (chunk.type == ChunkType::kBlockStatus || chunk.type == ChunkType::kBlockStatusExtended) {
      one.status_seen = true;
      check_status(chunk.data, request, side.client.framing() == Framing::kExtended, before);
    }
    if (!chunk.done) return true;
    if (one.error == 0 && request.command == Command::kRead) {
      EXPECT_TRUE(one.data == before.read(request.offset, request.length))
          << request.length << " bytes at " << request.offset;
    }
    if (one.error == 0 && request.command == Command::kBlockStatus) {
      EXPECT_TRUE(one.status_seen);
    }
    side.expected.erase(it);
    return true;
  }

  static void check_status(const Bytes& data, const Request& request, bool wide,
                           const Model& before) {
    ByteReader in(data);
    EXPECT_EQ(in.be<std::uint32_t>(), 1U);
    if (wide) in.skip(4);
    std::uint64_t at = request.offset;
    std::uint64_t count = 0;
    while (in.remaining() > 0) {
      const std::uint64_t length = wide ? in.be<std::uint64_t>() : in.be<std::uint32_t>();
      const std::uint64_t state = wide ? in.be<std::uint64_t>() : in.be<std::uint32_t>();
      ASSERT_TRUE(in.ok());
      ASSERT_GT(length, 0U);
      ASSERT_LE(length, request.offset + request.length - at);
      for (std::uint64_t i = at / kSector; i * kSector < at + length; ++i) {
        ASSERT_EQ(before.states[i], state) << "sector " << i;
      }
      at += length;
      ++count;
    }
    EXPECT_GT(count, 0U);
    if ((request.flags & kFlagReqOne) != 0) {
      EXPECT_EQ(count, 1U);
    } else {
      EXPECT_EQ(at, request.offset + request.length);  // Far fewer than the bound.
    }
  }

  TestServer& server_;
  std::shared_ptr<MemoryDevice> device_;
  Random& random_;
  std::deque<Side> sides_;
  Model model_;
  std::vector<bool> written_;
  std::vector<bool> seen_;
};

#ifdef __SANITIZE_THREAD__
constexpr int kServers = 3;  // each takes ten times as long
#else
constexpr int kServers = 8;
#endif

TEST(NbdProperty, PipelinedRequestsDoWhatTheModelSays) {
  Random random(announce_seed());
  for (int attempt = 0; attempt < kServers && !testing::Test::HasFailure(); ++attempt) {
    ServerOptions options;
    options.stall_max = std::chrono::minutes(10);  // We read one connection after the other.
    TestServer server(options);
    ASSERT_TRUE(server.works());
    // Sometimes so little memory that requests wait for it.
    const std::size_t pool = random.one_in(2) ? 64_MiB : 6_MiB;
    auto device = server.add("disk", {.size_bytes = kSize, .pool_bytes = pool}, random.one_in(2));
    Rounds rounds(server, device, random);
    for (int i = 0; i < 12 && !testing::Test::HasFailure(); ++i) rounds.run();
    rounds.compare_all();
  }
}

// --- Garbage ---

// Sends all of it, reads whatever comes meanwhile, says that no more follows, and waits for the
// server to hang up. False when it does not within ten seconds.
bool feed(const RawClient& client, std::span<const std::byte> bytes) {
  const int socket = client.socket();
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
  Bytes sink(256_KiB);
  bool sending = true;
  while (true) {
    if (sending && bytes.empty()) {
      ::shutdown(socket, SHUT_WR);
      sending = false;
    }
    pollfd waiting{socket, static_cast<short>(POLLIN | (sending ? POLLOUT : 0)), 0};
    if (::poll(&waiting, 1, 10'000) != 1) return false;
    if ((waiting.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      const ssize_t got = ::recv(socket, sink.data(), sink.size(), 0);
      if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
    }
    if (sending && (waiting.revents & POLLOUT) != 0) {
      const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
      if (sent < 0 && errno != EAGAIN) bytes = {};
    }
  }
}

Bytes valid_negotiation(Random& random, Framing framing) {
  ByteList list;
  list.u32(3);
  const auto option = [&list](Option number, const Bytes& data) {
    list.u64(kOptionMagic).u32(static_cast<std::uint32_t>(number)).u32(data.size()).bytes(data);
  };
  if (random.one_in(3)) option(Option::kList, {});
  if (framing == Framing::kStructured) option(Option::kStructuredReply, {});
  if (framing == Framing::kExtended) option(Option::kExtendedHeaders, {});
  if (random.one_in(3)) option(Option::kListMetaContext, context_data("victim", {}));
  if (random.one_in(2)) {
    option(Option::kSetMetaContext, context_data("victim", {"base:allocation"}));
  }
  if (random.one_in(3)) option(Option::kInfo, go_data("victim", std::vector<std::uint16_t>{1, 2}));
  if (random.one_in(8)) {
    option(Option::kExportName, Bytes(as_bytes("victim").begin(), as_bytes("victim").end()));
  } else {
    option(Option::kGo, go_data("victim", std::vector<std::uint16_t>{3}));
  }
  return list.take();
}

Bytes valid_requests(Random& random, Framing framing) {
  RawClient encoder;
  encoder.set_framing(framing);
  Bytes bytes;
  for (std::uint64_t left = random.below(30); left > 0; --left) {
    Request request;
    request.command = static_cast<Command>(random.below(8));
    if (request.command == Command::kDisconnect && !random.one_in(8)) continue;
    request.flags = static_cast<std::uint16_t>(random.below(4) == 0 ? random.below(64) : 0);
    request.cookie = random.next();
    request.offset = random.below(2048) * 512;
    request.length = random.between(1, 128) * 512;
    append(bytes, encoder.encode(request));
    if (request.command == Command::kWrite) append(bytes, pattern(request.length, left));
  }
  return bytes;
}

void mutate(Bytes& bytes, Random& random) {
  const auto place = [&] { return static_cast<std::ptrdiff_t>(random.below(bytes.size())); };
  for (std::uint64_t left = random.between(1, 4); left > 0 && !bytes.empty(); --left) {
    const auto at = bytes.begin() + place();
    const auto run = static_cast<std::ptrdiff_t>(random.between(1, 40));
    const auto end = at + std::min(run, bytes.end() - at);
    switch (random.below(5)) {
      case 0:
        *at ^= static_cast<std::byte>(1U << random.below(8));
        break;
      case 1:
        *at = std::byte{0xff};
        break;
      case 2:
        bytes.erase(at, end);
        break;
      case 3:
        bytes.insert(at, static_cast<std::size_t>(run), static_cast<std::byte>(random.next()));
        break;
      default:
        bytes.resize(random.below(bytes.size()));
    }
  }
}

TEST(NbdProperty, GarbageEndsItsOwnConnectionAlone) {
  Random random(announce_seed());
  TestServer server;
  ASSERT_TRUE(server.works());
  server.add("victim", {.size_bytes = 1_MiB, .pool_bytes = 8_MiB}, true);
  server.add("good");
  RawClient good = server.go("good");
  const Bytes kept = pattern(64_KiB, 1);
  ASSERT_EQ(good.write(4096, kept), 0U);
  for (int i = 0; i < 600; ++i) {
    const Framing framing = kFramings[random.below(3)];
    Bytes bytes;
    if (!random.one_in(10)) bytes = valid_negotiation(random, framing);
    // Half of them reach transmission, the others are wrong from the start.
    Bytes requests = valid_requests(random, framing);
    if (random.one_in(2)) {
      append(bytes, requests);
      mutate(bytes, random);
    } else {
      mutate(requests, random);
      append(bytes, requests);
    }
    if (random.one_in(4)) append(bytes, pattern(random.below(100'000), random.next()));
    RawClient client = server.connect();
    ASSERT_TRUE(feed(client, bytes)) << "round " << i;
    if (i % 20 == 0) {
      ASSERT_EQ(good.read(4096, kept.size()).data, kept);
    }
  }
  EXPECT_EQ(good.read(4096, kept.size()).data, kept);
  EXPECT_TRUE(eventually([&] { return server.server().counters().connections == 1; }));
  RawClient again = server.go("victim");
  EXPECT_EQ(again.write(0, kept), 0U);
  EXPECT_EQ(again.read(0, kept.size()).data, kept);
}

}  // namespace
}  // namespace clouddisk::nbd
