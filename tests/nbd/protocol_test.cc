#include "nbd/protocol.h"

#include <gtest/gtest.h>

#include <ostream>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "engine/base/units.h"
#include "tests/nbd/raw_client.h"
#include "tests/support/seed.h"

namespace clouddisk::nbd {
namespace {

constexpr Framing kFramings[] = {Framing::kSimple, Framing::kStructured, Framing::kExtended};
constexpr std::uint64_t kCookie = 0x0102030405060708;
constexpr std::uint64_t kOffset = 0x1122334455667788;

Request request_of(Command command, std::uint64_t offset, std::uint64_t length,
                   std::uint16_t flags = 0) {
  Request request;
  request.command = command;
  request.flags = flags;
  request.cookie = kCookie;
  request.offset = offset;
  request.length = length;
  return request;
}

Bytes request_bytes(Framing framing, std::uint64_t length) {
  ByteList list;
  const bool extended = framing == Framing::kExtended;
  list.u32(extended ? 0x21e41c71U : 0x25609513U).u16(0x0021).u16(1).u64(kCookie).u64(kOffset);
  return extended ? list.u64(length).take() : list.u32(length).take();
}

Bytes bytes_of(const ReplyHead& head) {
  return Bytes(head.span().begin(), head.span().end());
}

// --- Requests ---

TEST(NbdRequest, IsReadFieldByField) {
  for (const Framing framing : kFramings) {
    const std::uint64_t length = framing == Framing::kExtended ? 0x99aabbccddeeff00 : 0xddeeff00;
    const Bytes bytes = request_bytes(framing, length);
    ASSERT_EQ(bytes.size(), request_size(framing));
    const auto request = decode_request(bytes, framing);
    ASSERT_TRUE(request);
    EXPECT_EQ(request->command, Command::kWrite);
    EXPECT_EQ(request->flags, kFlagFua | kFlagPayloadLength);
    EXPECT_EQ(request->cookie, kCookie);
    EXPECT_EQ(request->offset, kOffset);
    EXPECT_EQ(request->length, length);
  }
}

TEST(NbdRequest, AnyWrongBitOfTheMagicIsGarbage) {
  for (const Framing framing : kFramings) {
    const Bytes good = request_bytes(framing, 4096);
    for (unsigned bit = 0; bit < 8 * good.size(); ++bit) {
      Bytes bad = good;
      bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      const auto request = decode_request(bad, framing);
      ASSERT_EQ(request.has_value(), bit >= 32) << "bit " << bit;
      if (!request) {
        EXPECT_EQ(request.error().code, Errc::kCorrupt);
      }
    }
  }
}

TEST(NbdRequest, TheMagicOfTheOtherFramingIsGarbage) {
  Bytes compact = request_bytes(Framing::kSimple, 512);
  compact.resize(kExtendedRequestSize);
  EXPECT_FALSE(decode_request(compact, Framing::kExtended));
  Bytes extended = request_bytes(Framing::kExtended, 512);
  extended.resize(kRequestSize);
  EXPECT_FALSE(decode_request(extended, Framing::kSimple));
  EXPECT_FALSE(decode_request(extended, Framing::kStructured));
}

TEST(NbdRequest, PayloadFollowsWritesAndWhatAnnouncesIt) {
  const Request write = request_of(Command::kWrite, 0, 512);
  const Request announced = request_of(Command::kBlockStatus, 0, 512, kFlagPayloadLength);
  const Request read = request_of(Command::kRead, 0, 512);
  for (const Framing framing : kFramings) {
    EXPECT_EQ(payload_length(write, framing), 512U);
    EXPECT_EQ(payload_length(read, framing), 0U);
    EXPECT_EQ(payload_length(announced, framing), framing == Framing::kExtended ? 512U : 0U);
  }
}

// --- What is allowed ---

constexpr std::uint64_t kSize = 64_MiB;
constexpr std::uint64_t kAlmostAll = ~std::uint64_t{0};

struct RuleCase {
  const char* name;
  Command command;
  std::uint64_t offset;
  std::uint64_t length;
  std::uint16_t flags;
  RequestRules rules;
  WireError expected;
};
void PrintTo(const RuleCase& one, std::ostream* out) {
  *out << one.name;
}

constexpr RequestRules kSimpleRules{kSize, false, Framing::kSimple, 1};
constexpr RequestRules kStructuredRules{kSize, false, Framing::kStructured, 1};
constexpr RequestRules kExtendedRules{kSize, false, Framing::kExtended, 1};
constexpr RequestRules kAlignedRules{kSize, false, Framing::kStructured, 512};
constexpr RequestRules kReadOnlyRules{kSize, true, Framing::kStructured, 1};
constexpr auto kUnknown = static_cast<Command>(8);
constexpr auto kFar = static_cast<Command>(0xffff);
constexpr WireError kOk = WireError::kNone;
constexpr WireError kBad = WireError::kInvalid;

constexpr RuleCase kRules[] = {
    {"read", Command::kRead, 0, 512, 0, kSimpleRules, kOk},
    {"read odd bytes", Command::kRead, 3, 7, 0, kSimpleRules, kOk},
    {"read the last byte", Command::kRead, kSize - 1, 1, 0, kSimpleRules, kOk},
    {"read past the end", Command::kRead, kSize - 1, 2, 0, kSimpleRules, kBad},
    {"read at the end", Command::kRead, kSize, 1, 0, kSimpleRules, kBad},
    {"read where the sum wraps", Command::kRead, kAlmostAll, 2, 0, kSimpleRules, kBad},
    {"read nothing", Command::kRead, 0, 0, 0, kSimpleRules, kBad},
    {"read the maximum", Command::kRead, 0, kPayloadMax, 0, kSimpleRules, kOk},
    {"read more than that", Command::kRead, 0, kPayloadMax + 1, 0, kSimpleRules, kBad},
    {"read with FUA", Command::kRead, 0, 512, kFlagFua, kSimpleRules, kOk},
    {"read with DF", Command::kRead, 0, 512, kFlagDf, kStructuredRules, kOk},
    {"read with DF, extended", Command::kRead, 0, 512, kFlagDf, kExtendedRules, kOk},
    {"read with DF in simple replies", Command::kRead, 0, 512, kFlagDf, kSimpleRules, kBad},
    {"read with NO_HOLE", Command::kRead, 0, 512, kFlagNoHole, kSimpleRules, kBad},
    {"read with a payload", Command::kRead, 0, 512, kFlagPayloadLength, kExtendedRules, kBad},
    {"read of a read-only disk", Command::kRead, 0, 512, 0, kReadOnlyRules, kOk},
    {"read from an odd place", Command::kRead, 1, 512, 0, kAlignedRules, kBad},
    {"read an odd length", Command::kRead, 512, 513, 0, kAlignedRules, kBad},
    {"read whole sectors", Command::kRead, 512, 1024, 0, kAlignedRules, kOk},
    {"write", Command::kWrite, 0, 512, 0, kSimpleRules, kOk},
    {"write with FUA", Command::kWrite, 0, 512, kFlagFua, kSimpleRules, kOk},
    {"write with DF", Command::kWrite, 0, 512, kFlagDf, kStructuredRules, kBad},
    {"write past the end", Command::kWrite, kSize, 1, 0, kSimpleRules, WireError::kNoSpace},
    {"write nothing", Command::kWrite, 0, 0, 0, kSimpleRules, kBad},
    {"write an odd length", Command::kWrite, 0, 100, 0, kAlignedRules, kBad},
    {"write read-only", Command::kWrite, 0, 512, 0, kReadOnlyRules, WireError::kPerm},
    {"write read-only past the end", Command::kWrite, kSize, 512, 0, kReadOnlyRules,
     WireError::kPerm},
    {"write with its flag", Command::kWrite, 0, 512, kFlagPayloadLength, kExtendedRules, kOk},
    {"write without its flag", Command::kWrite, 0, 512, 0, kExtendedRules, kOk},
    {"write with that flag elsewhere", Command::kWrite, 0, 512, kFlagPayloadLength,
     kStructuredRules, kBad},
    {"write with an unknown flag", Command::kWrite, 0, 512, 0x8000, kExtendedRules, kBad},
    {"trim all", Command::kTrim, 0, kSize, 0, kSimpleRules, kOk},
    {"trim past the end", Command::kTrim, 1, kSize, 0, kSimpleRules, kBad},
    {"trim read-only", Command::kTrim, 0, 512, 0, kReadOnlyRules, WireError::kPerm},
    {"trim with FUA", Command::kTrim, 0, 512, kFlagFua, kSimpleRules, kOk},
    {"trim with NO_HOLE", Command::kTrim, 0, 512, kFlagNoHole, kSimpleRules, kBad},
    {"zero all", Command::kWriteZeroes, 0, kSize, kFlagNoHole | kFlagFua, kSimpleRules, kOk},
    {"zero fast", Command::kWriteZeroes, 0, 512, kFlagFastZero, kSimpleRules, kOk},
    {"zero past the end", Command::kWriteZeroes, kSize, 1, 0, kSimpleRules, WireError::kNoSpace},
    {"zero read-only", Command::kWriteZeroes, 0, 1, 0, kReadOnlyRules, WireError::kPerm},
    {"zero with REQ_ONE", Command::kWriteZeroes, 0, 1, kFlagReqOne, kSimpleRules, kBad},
    {"cache all", Command::kCache, 0, kSize, 0, kSimpleRules, kOk},
    {"cache past the end", Command::kCache, kSize, 1, 0, kSimpleRules, kBad},
    {"status", Command::kBlockStatus, 0, kSize, kFlagReqOne, kStructuredRules, kOk},
    {"status of nothing", Command::kBlockStatus, 0, 0, 0, kStructuredRules, kBad},
    {"status past the end", Command::kBlockStatus, kSize, 1, 0, kStructuredRules, kBad},
    {"status with a payload", Command::kBlockStatus, 0, 8, kFlagPayloadLength, kExtendedRules,
     kBad},
    {"flush", Command::kFlush, 0, 0, 0, kSimpleRules, kOk},
    {"flush of a range that is none", Command::kFlush, kAlmostAll, 9, 0, kAlignedRules, kOk},
    {"flush with an unknown flag", Command::kFlush, 0, 0, 0x40, kSimpleRules, kBad},
    {"flush read-only", Command::kFlush, 0, 0, 0, kReadOnlyRules, kOk},
    {"disconnect", Command::kDisconnect, 0, 0, 0xffff, kSimpleRules, kOk},
    {"an unknown command", kUnknown, 0, 512, 0, kSimpleRules, kBad},
    {"a far command", kFar, 0, 512, 0, kExtendedRules, kBad},
};

class NbdRules : public testing::TestWithParam<RuleCase> {};
TEST_P(NbdRules, Hold) {
  const RuleCase& one = GetParam();
  const Request request = request_of(one.command, one.offset, one.length, one.flags);
  EXPECT_EQ(wire(check_request(request, one.rules)), wire(one.expected));
}
INSTANTIATE_TEST_SUITE_P(Table, NbdRules, testing::ValuesIn(kRules));

// What passes the rules may go to a device, whatever the numbers were.
TEST(NbdRulesProperty, NothingThatPassesLeavesTheDisk) {
  Random random(announce_seed());
  unsigned passed = 0;
  for (unsigned i = 0; i < 200'000; ++i) {
    Request request;
    request.command = static_cast<Command>(random.below(10));
    request.flags = static_cast<std::uint16_t>(random.below(4) == 0 ? random.next() : 0);
    request.offset = random.next() >> random.below(64);
    request.length = random.next() >> random.below(64);
    RequestRules rules;
    rules.size_bytes = random.next() >> random.below(64);
    rules.read_only = random.below(4) == 0;
    rules.framing = kFramings[random.below(3)];
    rules.block_size_min = random.below(2) == 0 ? 1 : kBlockSizeMin;
    if (check_request(request, rules) != WireError::kNone) continue;
    if (request.command == Command::kFlush || request.command == Command::kDisconnect) continue;
    ++passed;
    ASSERT_GT(request.length, 0U);
    ASSERT_LE(request.offset, rules.size_bytes);
    ASSERT_LE(request.length, rules.size_bytes - request.offset);
    ASSERT_EQ((request.offset | request.length) % rules.block_size_min, 0U);
    ASSERT_TRUE(request.command != Command::kRead || request.length <= kPayloadMax);
  }
  EXPECT_GT(passed, 1000U);
}

TEST(NbdErrors, EveryCodeHasItsNumberOnTheWire) {
  const std::pair<Errc, std::uint32_t> table[] = {
      {Errc::kIo, 5},         {Errc::kCorrupt, 5},      {Errc::kNoSpace, 28},
      {Errc::kNotFound, 5},   {Errc::kReplicasLost, 5}, {Errc::kInvalid, 22},
      {Errc::kExists, 5},     {Errc::kBusy, 5},         {Errc::kReadOnly, 1},
      {Errc::kTimedOut, 5},   {Errc::kPermission, 1},   {Errc::kUnsupported, 95},
      {Errc::kShutdown, 108}, {Errc::kLimit, 12},
  };
  for (const auto& [code, number] : table) {
    EXPECT_EQ(wire(wire_error(code)), number) << name(code);
  }
}

// --- Replies ---

TEST(NbdReply, StatusWithoutError) {
  const Request request = request_of(Command::kWrite, kOffset, 512);
  EXPECT_EQ(bytes_of(encode_status(Framing::kSimple, request, WireError::kNone)),
            ByteList().u32(0x67446698).u32(0).u64(kCookie).take());
  EXPECT_EQ(bytes_of(encode_status(Framing::kStructured, request, WireError::kNone)),
            ByteList().u32(0x668e33ef).u16(1).u16(0).u64(kCookie).u32(0).take());
  EXPECT_EQ(bytes_of(encode_status(Framing::kExtended, request, WireError::kNone)),
            ByteList().u32(0x6e8a278c).u16(1).u16(0).u64(kCookie).u64(kOffset).u64(0).take());
}

TEST(NbdReply, StatusWithError) {
  const Request request = request_of(Command::kWrite, kOffset, 512);
  EXPECT_EQ(bytes_of(encode_status(Framing::kSimple, request, WireError::kNoSpace)),
            ByteList().u32(0x67446698).u32(28).u64(kCookie).take());
  EXPECT_EQ(
      bytes_of(encode_status(Framing::kStructured, request, WireError::kNoSpace)),
      ByteList().u32(0x668e33ef).u16(1).u16(0x8001).u64(kCookie).u32(6).u32(28).u16(0).take());
  EXPECT_EQ(bytes_of(encode_status(Framing::kExtended, request, WireError::kNoSpace)),
            ByteList()
                .u32(0x6e8a278c)
                .u16(1)
                .u16(0x8001)
                .u64(kCookie)
                .u64(kOffset)
                .u64(6)
                .u32(28)
                .u16(0)
                .take());
}

TEST(NbdReply, DataHeads) {
  const Request request = request_of(Command::kRead, kOffset, 8192);
  EXPECT_EQ(bytes_of(encode_data_head(Framing::kSimple, request, kOffset, 8192, true)),
            ByteList().u32(0x67446698).u32(0).u64(kCookie).take());
  EXPECT_EQ(
      bytes_of(encode_data_head(Framing::kStructured, request, kOffset + 4096, 4096, false)),
      ByteList().u32(0x668e33ef).u16(0).u16(1).u64(kCookie).u32(4104).u64(kOffset + 4096).take());
  EXPECT_EQ(bytes_of(encode_data_head(Framing::kExtended, request, kOffset + 4096, 4096, true)),
            ByteList()
                .u32(0x6e8a278c)
                .u16(1)
                .u16(1)
                .u64(kCookie)
                .u64(kOffset)
                .u64(4104)
                .u64(kOffset + 4096)
                .take());
}

TEST(NbdReply, BlockStatusOfTwoContexts) {
  const Request request = request_of(Command::kBlockStatus, kOffset, 12288);
  const StatusExtent first[] = {{4096, 3}, {8192, 0}};
  const StatusExtent second[] = {{12288, 0xa'0000'0001}};
  Bytes reply;
  append_block_status(reply, Framing::kStructured, request, 1, first, false);
  append_block_status(reply, Framing::kStructured, request, 2, second, true);
  EXPECT_EQ(reply, ByteList()
                       .u32(0x668e33ef)
                       .u16(0)
                       .u16(5)
                       .u64(kCookie)
                       .u32(20)
                       .u32(1)
                       .u32(4096)
                       .u32(3)
                       .u32(8192)
                       .u32(0)
                       .u32(0x668e33ef)
                       .u16(1)
                       .u16(5)
                       .u64(kCookie)
                       .u32(12)
                       .u32(2)
                       .u32(12288)
                       .u32(1)
                       .take());
  reply.clear();
  append_block_status(reply, Framing::kExtended, request, 2, second, true);
  EXPECT_EQ(reply, ByteList()
                       .u32(0x6e8a278c)
                       .u16(1)
                       .u16(6)
                       .u64(kCookie)
                       .u64(kOffset)
                       .u64(24)
                       .u32(2)
                       .u32(1)
                       .u64(12288)
                       .u64(0xa'0000'0001)
                       .take());
}

// 32 bits hold less than 4 GiB: the reply stops there, on a block, and the client asks again.
TEST(NbdReply, ALongExtentEndsAShortReply) {
  const Request request = request_of(Command::kBlockStatus, 0, 16_GiB);
  const StatusExtent extents[] = {{4096, 0}, {4_GiB, 3}, {4096, 0}};
  Bytes reply;
  append_block_status(reply, Framing::kStructured, request, 1, extents, true);
  EXPECT_EQ(reply, ByteList()
                       .u32(0x668e33ef)
                       .u16(1)
                       .u16(5)
                       .u64(kCookie)
                       .u32(20)
                       .u32(1)
                       .u32(4096)
                       .u32(0)
                       .u32(0xfffff000)
                       .u32(3)
                       .take());
  reply.clear();
  append_block_status(reply, Framing::kExtended, request, 1, extents, true);
  ASSERT_EQ(reply.size(), 32U + 8 + 3 * 16);
  EXPECT_EQ(load_be<std::uint64_t>(reply.data() + 32 + 8 + 16), 4_GiB);
}

// --- Options ---

TEST(NbdOptions, ExportQuery) {
  const auto query = decode_export_query(go_data("disk", std::vector<std::uint16_t>{3, 1, 0xffff}));
  ASSERT_TRUE(query);
  EXPECT_EQ(query->name, "disk");
  EXPECT_EQ(query->infos, (std::vector<std::uint16_t>{3, 1, 0xffff}));
  const auto empty = decode_export_query(go_data(""));
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->name, "");
  EXPECT_TRUE(decode_export_query(go_data(std::string(kStringMax, 'x'))));
  EXPECT_FALSE(decode_export_query(go_data(std::string(kStringMax + 1, 'x'))));
}

TEST(NbdOptions, ContextQuery) {
  const auto query = decode_context_query(context_data("disk", {"base:", "", "a:b"}));
  ASSERT_TRUE(query);
  EXPECT_EQ(query->name, "disk");
  EXPECT_EQ(query->queries, (std::vector<std::string>{"base:", "", "a:b"}));
  EXPECT_TRUE(decode_context_query(context_data("disk", {})));
  EXPECT_TRUE(decode_context_query(context_data("", {std::string(kStringMax, 'x')})));
  EXPECT_FALSE(decode_context_query(context_data("", {std::string(kStringMax + 1, 'x')})));
}

TEST(NbdOptions, TruncatedAndTooLongDataIsRefused) {
  const Bytes go = go_data("disk", std::vector<std::uint16_t>{0, 3});
  for (std::size_t size = 0; size < go.size(); ++size) {
    EXPECT_FALSE(decode_export_query(std::span(go).first(size))) << size;
  }
  const Bytes contexts = context_data("disk", {"base:allocation", "x:"});
  for (std::size_t size = 0; size < contexts.size(); ++size) {
    EXPECT_FALSE(decode_context_query(std::span(contexts).first(size))) << size;
  }
  for (Bytes longer : {go, contexts}) {
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_export_query(longer));
    EXPECT_FALSE(decode_context_query(longer));
  }
}

TEST(NbdOptions, CountsBeyondTheDataAreRefusedBeforeMemoryIsTaken) {
  EXPECT_FALSE(decode_export_query(ByteList().u32(0xffffffff).text("disk")));
  EXPECT_FALSE(decode_export_query(ByteList().u32(0).u16(0xffff)));
  EXPECT_FALSE(decode_context_query(ByteList().u32(0).u32(0xffffffff)));
  EXPECT_FALSE(decode_context_query(ByteList().u32(0).u32(1).u32(0xffffffff)));
}

TEST(NbdOptions, GarbageIsRefusedOrUnderstood) {
  Random random(announce_seed());
  const Bytes seeds[] = {go_data("disk", std::vector<std::uint16_t>{0, 3}),
                         context_data("disk", {"base:allocation", "x:y"})};
  unsigned understood = 0;
  for (unsigned i = 0; i < 50'000; ++i) {
    Bytes bytes = seeds[random.below(2)];
    for (std::uint64_t flips = random.below(4); flips > 0; --flips) {
      bytes[random.below(bytes.size())] = static_cast<std::byte>(random.next());
    }
    if (random.below(3) == 0) bytes.resize(random.below(bytes.size() + 8));
    const auto go = decode_export_query(bytes);
    if (go) {
      ++understood;
      ASSERT_EQ(4 + go->name.size() + 2 + 2 * go->infos.size(), bytes.size());
    }
    const auto contexts = decode_context_query(bytes);
    if (!contexts) continue;
    ++understood;
    std::size_t size = 8 + contexts->name.size();
    for (const std::string& query : contexts->queries) size += 4 + query.size();
    ASSERT_EQ(size, bytes.size());
  }
  EXPECT_GT(understood, 1000U);
}

TEST(NbdOptions, Reply) {
  const Bytes data = ByteList().text("why").take();
  EXPECT_EQ(encode_option_reply(77, OptionReply::kUnsupported, data),
            ByteList().u64(0x0003e889045565a9).u32(77).u32(0x80000001).u32(3).text("why").take());
  EXPECT_EQ(encode_option_reply(7, OptionReply::kAck),
            ByteList().u64(0x0003e889045565a9).u32(7).u32(1).u32(0).take());
}

}  // namespace
}  // namespace clouddisk::nbd
