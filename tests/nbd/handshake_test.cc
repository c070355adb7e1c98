#include "nbd/handshake.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "engine/base/bytes.h"
#include "tests/nbd/fixed_contexts.h"
#include "tests/nbd/test_server.h"

namespace clouddisk::nbd {
namespace {

std::vector<std::string> texts_of(const std::vector<OptionAnswer>& answers, OptionReply kind) {
  std::vector<std::string> texts;
  for (const OptionAnswer& answer : answers) {
    if (answer.is(kind)) texts.emplace_back(as_text(std::span(answer.data).subspan(4)));
  }
  return texts;
}

class NbdHandshake : public testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(ServerOptions options) {
    server_.reset();
    server_ = std::make_unique<TestServer>(std::move(options));
    ASSERT_TRUE(server_->works());
    ASSERT_EQ(server_->problem(), "");
    server_->add("disk");
  }
  RawClient greeted() {
    RawClient client = server_->connect();
    EXPECT_TRUE(client.greet());
    return client;
  }
  // The last answer to one option; the client is asked again afterwards whether all is well.
  OptionReply verdict(RawClient& client, Option option, std::span<const std::byte> data = {}) {
    const auto answers = client.ask(option, data);
    if (answers.empty()) return OptionReply{};
    EXPECT_TRUE(client.acked(Option::kList));
    return static_cast<OptionReply>(answers.back().kind);
  }
  void expect_alive() { EXPECT_TRUE(server_->connect().go("disk")); }

  std::unique_ptr<TestServer> server_;
};

TEST_F(NbdHandshake, Greeting) {
  RawClient client = server_->connect();
  Bytes greeting(18);
  ASSERT_TRUE(client.receive(greeting));
  EXPECT_EQ(greeting, ByteList().text("NBDMAGICIHAVEOPT").u16(3).take());
}

TEST_F(NbdHandshake, UnknownClientFlagsEndIt) {
  RawClient client = server_->connect();
  ASSERT_TRUE(client.greet(kFixedNewstyle | 4));
  EXPECT_TRUE(client.ended());
  expect_alive();
}

TEST_F(NbdHandshake, ListNamesEveryExport) {
  server_->add("another");
  RawClient client = greeted();
  const auto answers = client.ask(Option::kList);
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].data, ByteList().u32(7).text("another").text("memory of another").take());
  EXPECT_EQ(answers[1].data, ByteList().u32(4).text("disk").text("memory of disk").take());
  EXPECT_TRUE(answers[0].is(OptionReply::kServer));
  EXPECT_TRUE(answers[2].is(OptionReply::kAck));
}

TEST_F(NbdHandshake, InfoTellsSizeFlagsAndBlockSizes) {
  RawClient client = greeted();
  const auto answers = client.ask(Option::kInfo, go_data("disk"));
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_TRUE(answers[0].is(OptionReply::kInfo));
  // Flags, flush, FUA, trim, zeroes, several connections, cache, fast zero; no DF.
  EXPECT_EQ(answers[0].data, ByteList().u16(0).u64(1_MiB).u16(0x0d6d).take());
  EXPECT_EQ(answers[1].data, ByteList().u16(3).u32(512).u32(4096).u32(32_MiB).take());
  EXPECT_TRUE(answers[2].is(OptionReply::kAck));
}

TEST_F(NbdHandshake, InfoAnswersWhatIsAskedFor) {
  RawClient client = greeted();
  const std::vector<std::uint16_t> all = {0, 1, 2, 3, 4, 0xffff};
  const auto answers = client.ask(Option::kInfo, go_data("disk", all));
  ASSERT_EQ(answers.size(), 5U);
  EXPECT_EQ(answers[2].data, ByteList().u16(1).text("disk").take());
  EXPECT_EQ(answers[3].data, ByteList().u16(2).text("memory of disk").take());
  EXPECT_TRUE(answers[4].is(OptionReply::kAck));
}

TEST_F(NbdHandshake, DfIsOfferedWithStructuredReplies) {
  for (const Option option : {Option::kStructuredReply, Option::kExtendedHeaders}) {
    RawClient client = greeted();
    ASSERT_TRUE(client.acked(option));
    const auto answers = client.ask(Option::kInfo, go_data("disk"));
    ASSERT_EQ(answers.size(), 3U);
    EXPECT_EQ(load_be<std::uint16_t>(answers[0].data.data() + 10) & kSendDf, kSendDf);
  }
}

TEST_F(NbdHandshake, AReadOnlyExportSaysSo) {
  server_->add("snapshot", {.read_only = true});
  RawClient client = server_->go("snapshot");
  EXPECT_EQ(client.flags() & (kReadOnly | kSendTrim | kSendWriteZeroes | kSendFastZero), kReadOnly);
}

TEST_F(NbdHandshake, GoBeginsTransmission) {
  RawClient client = server_->connect();
  ASSERT_TRUE(client.go("disk"));
  EXPECT_EQ(client.size_bytes(), 1_MiB);
  EXPECT_EQ(client.read(0, 512).error, 0U);
}

TEST_F(NbdHandshake, AnUnknownExportIsNoReasonToHangUp) {
  RawClient client = greeted();
  EXPECT_EQ(verdict(client, Option::kGo, go_data("disks")), OptionReply::kUnknown);
  EXPECT_EQ(verdict(client, Option::kInfo, go_data("")), OptionReply::kUnknown);
  EXPECT_EQ(verdict(client, Option::kInfo, go_data(std::string("disk\0", 5))),
            OptionReply::kUnknown);
  EXPECT_TRUE(client.acked(Option::kGo, go_data("disk")));
}

TEST_F(NbdHandshake, ExportNameWithAndWithoutZeroes) {
  for (const std::uint32_t flags : {0U, 1U, 2U, 3U}) {
    RawClient client = server_->connect();
    ASSERT_TRUE(client.greet(flags));
    ASSERT_TRUE(client.send_option(1, as_bytes("disk")));
    Bytes answer((flags & kNoZeroes) != 0 ? 10 : 134);
    ASSERT_TRUE(client.receive(answer));
    Bytes expected = ByteList().u64(1_MiB).u16(0x0d6d).take();
    expected.resize(answer.size());
    EXPECT_EQ(answer, expected);
    client.set_framing(Framing::kSimple);
    EXPECT_EQ(client.read(0, 512).error, 0U);
  }
}

TEST_F(NbdHandshake, ExportNameThatIsUnknownHangsUp) {
  for (const std::string& name : {std::string("nothing"), std::string(), std::string(65537, 'x')}) {
    RawClient client = greeted();
    ASSERT_TRUE(client.send_option(1, as_bytes(name)));
    EXPECT_TRUE(client.ended()) << name.size();
  }
  expect_alive();
}

TEST_F(NbdHandshake, AbortIsAcknowledged) {
  RawClient client = greeted();
  EXPECT_TRUE(client.acked(Option::kAbort));
  EXPECT_TRUE(client.ended());
}

TEST_F(NbdHandshake, UnknownOptionsAreRefusedByNumber) {
  RawClient client = greeted();
  for (const std::uint32_t number : {0U, 4U, 12U, 0x12345678U, 0xffffffffU}) {
    EXPECT_EQ(verdict(client, static_cast<Option>(number), as_bytes("whatever")),
              OptionReply::kUnsupported)
        << number;
  }
}

TEST_F(NbdHandshake, LongOptionsAreSkippedAndVeryLongOnesHangUp) {
  RawClient client = greeted();
  const Bytes much(65536);
  EXPECT_EQ(verdict(client, Option::kGo, much), OptionReply::kInvalid);
  const Bytes more(65537);
  EXPECT_EQ(verdict(client, Option::kGo, more), OptionReply::kTooBig);
  EXPECT_EQ(verdict(client, static_cast<Option>(99), Bytes(1_MiB)), OptionReply::kTooBig);
  ASSERT_TRUE(client.send(ByteList().u64(kOptionMagic).u32(7).u32(1_MiB + 1)));
  EXPECT_TRUE(client.ended());
  expect_alive();
}

TEST_F(NbdHandshake, OptionsWithoutDataRefuseData) {
  for (const Option option :
       {Option::kList, Option::kStartTls, Option::kStructuredReply, Option::kExtendedHeaders}) {
    RawClient client = greeted();
    EXPECT_EQ(verdict(client, option, as_bytes("x")), OptionReply::kInvalid);
    // It had no effect either.
    EXPECT_EQ(verdict(client, Option::kSetMetaContext, context_data("disk", {"base:allocation"})),
              OptionReply::kInvalid);
  }
}

TEST_F(NbdHandshake, TruncatedOptionDataIsInvalid) {
  RawClient client = greeted();
  ASSERT_TRUE(client.acked(Option::kStructuredReply));
  const Bytes go = go_data("disk", std::vector<std::uint16_t>{3});
  for (std::size_t size = 0; size < go.size(); ++size) {
    const Bytes part(go.begin(), go.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(verdict(client, Option::kGo, part), OptionReply::kInvalid) << size;
    EXPECT_EQ(verdict(client, Option::kInfo, part), OptionReply::kInvalid) << size;
  }
  const Bytes contexts = context_data("disk", {"base:allocation"});
  for (std::size_t size = 0; size < contexts.size(); ++size) {
    const Bytes part(contexts.begin(), contexts.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(verdict(client, Option::kSetMetaContext, part), OptionReply::kInvalid) << size;
    EXPECT_EQ(verdict(client, Option::kListMetaContext, part), OptionReply::kInvalid) << size;
  }
  EXPECT_TRUE(client.acked(Option::kGo, go));
}

TEST_F(NbdHandshake, FramingIsChosenOnce) {
  RawClient client = greeted();
  EXPECT_EQ(verdict(client, Option::kStructuredReply), OptionReply::kAck);
  EXPECT_EQ(verdict(client, Option::kStructuredReply), OptionReply::kInvalid);
  EXPECT_EQ(verdict(client, Option::kExtendedHeaders), OptionReply::kAck);
  EXPECT_EQ(verdict(client, Option::kExtendedHeaders), OptionReply::kInvalid);
  EXPECT_EQ(verdict(client, Option::kStructuredReply), OptionReply::kExtendedHeadersRequired);
}

TEST_F(NbdHandshake, OptionsAndRequestsInOneSend) {
  ByteList all;
  all.u32(3);
  const auto option = [&all](Option number, const Bytes& data) {
    all.u64(kOptionMagic).u32(static_cast<std::uint32_t>(number)).u32(data.size()).bytes(data);
  };
  option(Option::kStructuredReply, {});
  option(Option::kSetMetaContext, context_data("disk", {"base:allocation"}));
  option(Option::kGo, go_data("disk"));
  all.u32(kRequestMagic).u16(0).u16(0).u64(77).u64(4096).u32(512);
  RawClient client = server_->connect();
  ASSERT_TRUE(client.send(all));
  Bytes greeting(18);
  ASSERT_TRUE(client.receive(greeting));
  const std::pair<Option, OptionReply> expected[] = {
      {Option::kStructuredReply, OptionReply::kAck},
      {Option::kSetMetaContext, OptionReply::kMetaContext},
      {Option::kSetMetaContext, OptionReply::kAck},
      {Option::kGo, OptionReply::kInfo},
      {Option::kGo, OptionReply::kInfo},
      {Option::kGo, OptionReply::kAck},
  };
  for (const auto& [number, kind] : expected) {
    OptionAnswer answer;
    ASSERT_TRUE(client.receive_answer(answer));
    EXPECT_EQ(answer.option, static_cast<std::uint32_t>(number));
    EXPECT_TRUE(answer.is(kind));
  }
  client.set_framing(Framing::kStructured);
  Chunk chunk;
  ASSERT_TRUE(client.receive_chunk(chunk));
  EXPECT_EQ(chunk.cookie, 77U);
  EXPECT_EQ(chunk.data.size(), 512U);
}

TEST_F(NbdHandshake, GarbageInsteadOfAnOptionHangsUp) {
  RawClient client = greeted();
  ASSERT_TRUE(client.send(as_bytes("GET / HTTP/1.1\r\nHost: disk\r\n\r\n")));
  EXPECT_TRUE(client.ended());
  EXPECT_TRUE(eventually([&] { return server_->server().counters().refused == 1; }));
  expect_alive();
}

TEST_F(NbdHandshake, OptionsWithoutEndHangUp) {
  RawClient client = greeted();
  ByteList many;
  for (unsigned i = 0; i < 4096; ++i) many.u64(kOptionMagic).u32(99).u32(0);
  std::thread sender([&] { client.send(many); });
  OptionAnswer answer;
  for (unsigned i = 0; i < 4096; ++i) {
    if (!client.receive_answer(answer)) break;
    EXPECT_TRUE(answer.is(OptionReply::kUnsupported));
  }
  sender.join();
  EXPECT_TRUE(client.ended());
  expect_alive();
}

// --- Meta contexts ---

class NbdContexts : public NbdHandshake {
 protected:
  void SetUp() override {
    NbdHandshake::SetUp();
    server_->add("rich", {}, false, std::make_shared<FixedContexts>());
    client_ = greeted();
    ASSERT_TRUE(client_.acked(Option::kStructuredReply));
  }
  std::vector<std::string> names(Option option, const std::string& export_name,
                                 const std::vector<std::string>& queries) {
    const auto answers = client_.ask(option, context_data(export_name, queries));
    EXPECT_TRUE(!answers.empty() && answers.back().is(OptionReply::kAck));
    return texts_of(answers, OptionReply::kMetaContext);
  }
  using Names = std::vector<std::string>;
  RawClient client_;
};

TEST_F(NbdContexts, NeedStructuredReplies) {
  RawClient client = greeted();
  const Bytes data = context_data("disk", {"base:allocation"});
  EXPECT_EQ(verdict(client, Option::kListMetaContext, data), OptionReply::kInvalid);
  EXPECT_EQ(verdict(client, Option::kSetMetaContext, data), OptionReply::kInvalid);
}

TEST_F(NbdContexts, ListKnowsWildcards) {
  EXPECT_EQ(names(Option::kListMetaContext, "disk", {}), Names{"base:allocation"});
  EXPECT_EQ(names(Option::kListMetaContext, "disk", {"base:"}), Names{"base:allocation"});
  EXPECT_EQ(names(Option::kListMetaContext, "disk", {"base:allocation"}), Names{"base:allocation"});
  EXPECT_EQ(names(Option::kListMetaContext, "disk", {"base:alloc"}), Names{});
  EXPECT_EQ(names(Option::kListMetaContext, "disk", {"qemu:", "x"}), Names{});
}

TEST_F(NbdContexts, ListAsksTheSourceOfTheExport) {
  const Names all = {"base:allocation", "test:parity", "test:fails"};
  EXPECT_EQ(names(Option::kListMetaContext, "rich", {}), all);
  EXPECT_EQ(names(Option::kListMetaContext, "rich", {""}), all);
  EXPECT_EQ(names(Option::kListMetaContext, "rich", {"test:"}),
            (Names{"test:parity", "test:fails"}));
  EXPECT_EQ(names(Option::kListMetaContext, "rich", {"test:parity", "test:", "base:"}),
            (Names{"test:parity", "test:fails", "base:allocation"}));
}

TEST_F(NbdContexts, SetTakesFullNamesOnly) {
  EXPECT_EQ(names(Option::kSetMetaContext, "rich", {"test:", "base:", ""}), Names{});
  EXPECT_EQ(names(Option::kSetMetaContext, "rich", {}), Names{});
  EXPECT_EQ(names(Option::kSetMetaContext, "disk", {"test:parity"}), Names{});
  const auto answers = client_.ask(
      Option::kSetMetaContext,
      context_data("rich", {"test:parity", "none:such", "base:allocation", "test:parity"}));
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].data, ByteList().u32(1).text("test:parity").take());
  EXPECT_EQ(answers[1].data, ByteList().u32(2).text("base:allocation").take());
}

TEST_F(NbdContexts, UnknownExport) {
  const Bytes data = context_data("nothing", {"base:allocation"});
  EXPECT_EQ(verdict(client_, Option::kListMetaContext, data), OptionReply::kUnknown);
  EXPECT_EQ(verdict(client_, Option::kSetMetaContext, data), OptionReply::kUnknown);
}

TEST_F(NbdContexts, TooManyAtOnce) {
  Names many;
  for (int i = 0; i < 17; ++i) many.push_back("test:any" + std::to_string(i));
  EXPECT_EQ(verdict(client_, Option::kSetMetaContext, context_data("rich", many)),
            OptionReply::kTooBig);
  many.pop_back();
  EXPECT_EQ(names(Option::kSetMetaContext, "rich", many), many);
}

// What was chosen for one export says nothing of another.
TEST_F(NbdContexts, AreOfOneExport) {
  EXPECT_EQ(names(Option::kSetMetaContext, "rich", {"base:allocation"}).size(), 1U);
  ASSERT_TRUE(client_.acked(Option::kGo, go_data("disk")));
  client_.set_framing(Framing::kStructured);
  EXPECT_EQ(client_.simple_command(Command::kBlockStatus, 0, 512), wire(WireError::kInvalid));
}

TEST_F(NbdContexts, AFailedSetVoidsTheEarlierOne) {
  EXPECT_EQ(names(Option::kSetMetaContext, "disk", {"base:allocation"}).size(), 1U);
  EXPECT_EQ(verdict(client_, Option::kSetMetaContext, as_bytes("xx")), OptionReply::kInvalid);
  ASSERT_TRUE(client_.acked(Option::kGo, go_data("disk")));
  client_.set_framing(Framing::kStructured);
  EXPECT_EQ(client_.simple_command(Command::kBlockStatus, 0, 512), wire(WireError::kInvalid));
}

// --- Bounds, and exports that come and go ---

TEST_F(NbdHandshake, SilentClientsAreHungUpOn) {
  ServerOptions options;
  options.negotiation_max = std::chrono::milliseconds(100);
  start(options);
  RawClient silent = server_->connect();
  RawClient halfway = greeted();
  ASSERT_TRUE(halfway.send(ByteList().u64(kOptionMagic).u32(7)));
  RawClient in_data = greeted();
  ASSERT_TRUE(in_data.send(ByteList().u64(kOptionMagic).u32(7).u32(100).u32(1)));
  RawClient negotiated = server_->go("disk");
  Bytes greeting(18);
  ASSERT_TRUE(silent.receive(greeting));
  EXPECT_TRUE(silent.ended());
  EXPECT_TRUE(halfway.ended());
  EXPECT_TRUE(in_data.ended());
  EXPECT_TRUE(eventually([&] { return server_->server().counters().connections == 1; }));
  EXPECT_EQ(negotiated.read(0, 512).error, 0U);  // The limit is on negotiation alone.
}

TEST_F(NbdHandshake, ConnectionsBeyondTheLimitAreClosed) {
  ServerOptions options;
  options.connections_max = 2;
  start(options);
  RawClient first = server_->go("disk");
  RawClient second = server_->go("disk");
  RawClient third = server_->connect();
  EXPECT_TRUE(third.ended());
  EXPECT_EQ(server_->server().counters().refused, 1U);
  first.close();
  EXPECT_TRUE(eventually([&] { return server_->connect().go("disk"); }));
  EXPECT_EQ(second.read(0, 512).error, 0U);
}

TEST_F(NbdHandshake, AnExportThatWentIsUnknown) {
  RawClient client = greeted();
  ASSERT_TRUE(client.acked(Option::kInfo, go_data("disk")));
  server_->remove("disk");
  EXPECT_EQ(verdict(client, Option::kGo, go_data("disk")), OptionReply::kUnknown);
  server_->add("disk");
  EXPECT_TRUE(client.acked(Option::kGo, go_data("disk")));
}

TEST_F(NbdHandshake, NamesOfExports) {
  const auto add = [&](const std::string& name) {
    std::optional<Errc> code;
    server_->call([&] {
      Server::Export added;
      added.name = name;
      auto result = server_->server().add_export(std::move(added));
      if (!result) code = result.error().code;
    });
    return code;
  };
  EXPECT_EQ(add(""), Errc::kInvalid);
  EXPECT_EQ(add(std::string(4097, 'x')), Errc::kInvalid);
  EXPECT_EQ(add("disk"), Errc::kExists);
  const std::string longest(4096, 'x');
  server_->add(longest);
  EXPECT_TRUE(server_->connect().go(longest));
}

TEST_F(NbdHandshake, ADiskOnARingOfItsOwn) {
  server_->add("away", {.size_bytes = 2_MiB}, true);
  RawClient client = server_->go("away");
  EXPECT_EQ(client.size_bytes(), 2_MiB);
  EXPECT_EQ(client.write(512, pattern(512, 1)), 0U);
  EXPECT_EQ(client.read(512, 512).data, pattern(512, 1));
}

TEST_F(NbdHandshake, WithoutCredentialsThereIsNoTls) {
  RawClient client = greeted();
  EXPECT_EQ(verdict(client, Option::kStartTls), OptionReply::kPolicy);
  ListenAddress secret = server_->unix_address();
  secret.where.path += "2";
  secret.tls = TlsPolicy::kRequired;
  server_->call([&] {
    ServerOptions options;
    options.addresses.push_back(secret);
    const auto refused = Server::create(server_->ring(), std::move(options));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kInvalid);
  });
}

TEST_F(NbdHandshake, StopEndsNegotiationsAndSessions) {
  RawClient negotiating = greeted();
  RawClient session = server_->go("disk");
  server_->stop();
  EXPECT_TRUE(negotiating.ended());
  EXPECT_TRUE(session.ended());
  RawClient late = server_->connect();
  EXPECT_LT(late.socket(), 0);
}

}  // namespace
}  // namespace clouddisk::nbd
