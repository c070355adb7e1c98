// protocol.h: the NBD wire format: numbers, requests, replies. Pure functions over bytes, no I/O.
// Source of numbers and layouts: the NBD protocol document, github.com/NetworkBlockDevice/nbd,
// doc/proto.md. Everything on the wire is big-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "nbd/meta_context.h"

namespace clouddisk::nbd {

inline constexpr std::uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454F5054;  // "IHAVEOPT"
inline constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kChunkMagic = 0x668e33ef;
inline constexpr std::uint32_t kExtendedChunkMagic = 0x6e8a278c;

inline constexpr std::uint16_t kFixedNewstyle = 1;  // handshake flags, both directions
inline constexpr std::uint16_t kNoZeroes = 2;

enum class Option : std::uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
  kExtendedHeaders = 11,
};

enum class OptionReply : std::uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kUnsupported = 0x80000001,
  kPolicy = 0x80000002,
  kInvalid = 0x80000003,
  kPlatform = 0x80000004,
  kTlsRequired = 0x80000005,
  kUnknown = 0x80000006,
  kShutdown = 0x80000007,
  kBlockSizeRequired = 0x80000008,
  kTooBig = 0x80000009,
  kExtendedHeadersRequired = 0x8000000a,
};

enum class Info : std::uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

// Transmission flags of an export.
inline constexpr std::uint16_t kHasFlags = 1;
inline constexpr std::uint16_t kReadOnly = 2;
inline constexpr std::uint16_t kSendFlush = 4;
inline constexpr std::uint16_t kSendFua = 8;
inline constexpr std::uint16_t kSendTrim = 32;
inline constexpr std::uint16_t kSendWriteZeroes = 64;
inline constexpr std::uint16_t kSendDf = 128;
inline constexpr std::uint16_t kCanMultiConn = 256;
inline constexpr std::uint16_t kSendCache = 1024;
inline constexpr std::uint16_t kSendFastZero = 2048;

enum class Command : std::uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

inline constexpr std::uint16_t kFlagFua = 1;
inline constexpr std::uint16_t kFlagNoHole = 2;
inline constexpr std::uint16_t kFlagDf = 4;
inline constexpr std::uint16_t kFlagReqOne = 8;
inline constexpr std::uint16_t kFlagFastZero = 16;
inline constexpr std::uint16_t kFlagPayloadLength = 32;

inline constexpr std::uint32_t kBlockSizeMin = 512;
inline constexpr std::uint32_t kBlockSizePreferred = 4096;
inline constexpr std::uint32_t kPayloadMax = 32U << 20;  // advertised maximum

inline constexpr std::size_t kStringMax = 4096;  // names, as the protocol has it

// Error numbers on the wire.
enum class WireError : std::uint32_t {
  kNone = 0,
  kPerm = 1,
  kIo = 5,
  kNoMemory = 12,
  kInvalid = 22,
  kNoSpace = 28,
  kOverflow = 75,
  kNotSupported = 95,
  kShutdown = 108,
};
WireError wire_error(Errc code);

// How requests and replies are framed on a connection.
enum class Framing { kSimple, kStructured, kExtended };

struct Request {
  Command command{};
  std::uint16_t flags = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};
inline constexpr std::size_t kRequestSize = 28;
inline constexpr std::size_t kExtendedRequestSize = 32;
constexpr std::size_t request_size(Framing framing) {
  return framing == Framing::kExtended ? kExtendedRequestSize : kRequestSize;
}
// `data` has the size of a request of that kind. kCorrupt: the magic is wrong; nothing after it can
// be believed.
Result<Request> decode_request(std::span<const std::byte> data, Framing framing);
// What a session's requests are held to.
struct RequestRules {
  std::uint64_t size_bytes = 0;
  bool read_only = false;
  Framing framing = Framing::kSimple;
  std::uint32_t block_size_min = 1;  // kBlockSizeMin for a client that asked for block sizes
};
// kNone when the request is in order, otherwise how to answer it. A payload beyond kPayloadMax is
// not judged here: it ends the connection.
WireError check_request(const Request& request, const RequestRules& rules);
// Payload that follows the request on the wire. With extended headers a write should say so by its
// flag; one that doesn't is taken to have one all the same, as other servers do.
inline std::uint64_t payload_length(const Request& request, Framing framing) {
  if (request.command == Command::kWrite) return request.length;
  const bool announced = (request.flags & kFlagPayloadLength) != 0;
  return framing == Framing::kExtended && announced ? request.length : 0;
}

enum class ChunkType : std::uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kBlockStatusExtended = 6,
  kError = 0x8001,
};

// The bytes in front of a reply's data.
struct ReplyHead {
  static constexpr std::size_t kCapacity = 48;
  std::array<std::byte, kCapacity> bytes;
  std::size_t size = 0;
  std::span<const std::byte> span() const { return std::span(bytes).first(size); }
};
// A reply without data: success, or an error.
ReplyHead encode_status(Framing framing, const Request& request, WireError error);
// In front of `length` bytes read at `offset`; `last`: no more chunks follow for this request.
// kSimple: one for the whole request, and `offset` and `last` say nothing.
ReplyHead encode_data_head(Framing framing, const Request& request, std::uint64_t offset,
                           std::uint32_t length, bool last);
// Appends the chunk of one context to a block status reply; `last`: no other context follows. A
// 32-bit reply ends behind the first extent that does not fit in it: the client asks again.
void append_block_status(std::vector<std::byte>& reply, Framing framing, const Request& request,
                         std::uint32_t context, std::span<const StatusExtent> extents, bool last);

// --- Option haggling ---
struct ExportQuery {  // of INFO and GO
  std::string name;
  std::vector<std::uint16_t> infos;
};
Result<ExportQuery> decode_export_query(std::span<const std::byte> data);
struct ContextQuery {  // of LIST_META_CONTEXT and SET_META_CONTEXT
  std::string name;
  std::vector<std::string> queries;
};
Result<ContextQuery> decode_context_query(std::span<const std::byte> data);

std::vector<std::byte> encode_option_reply(std::uint32_t option, OptionReply reply,
                                           std::span<const std::byte> data = {});

}  // namespace clouddisk::nbd
