#include "nbd/protocol.h"

#include <algorithm>

#include "engine/base/bytes.h"

namespace clouddisk::nbd {
namespace {

constexpr std::uint16_t kChunkDone = 1;

// A chunk's header; for the extended form the request's offset goes with it.
void put_chunk(ByteWriter& out, Framing framing, const Request& request, ChunkType type,
               std::uint64_t length, bool done) {
  out.be(framing == Framing::kExtended ? kExtendedChunkMagic : kChunkMagic);
  out.be(static_cast<std::uint16_t>(done ? kChunkDone : 0));
  out.be(static_cast<std::uint16_t>(type));
  out.be(request.cookie);
  if (framing == Framing::kExtended) {
    out.be(request.offset);
    out.be(length);
  } else {
    out.be(static_cast<std::uint32_t>(length));
  }
}

void put_simple(ByteWriter& out, const Request& request, WireError error) {
  out.be(kSimpleReplyMagic);
  out.be(static_cast<std::uint32_t>(error));
  out.be(request.cookie);
}

Result<std::string> take_string(ByteReader& in) {
  const auto length = in.be<std::uint32_t>();
  if (length > kStringMax) return fail(Errc::kInvalid, "a name of {} bytes", length);
  const auto bytes = in.bytes(length);
  if (!in.ok()) return fail(Errc::kInvalid, "option data is too short");
  return std::string(as_text(bytes));
}

}  // namespace

WireError wire_error(Errc code) {
  switch (code) {
    case Errc::kNoSpace:
      return WireError::kNoSpace;
    case Errc::kReadOnly:
    case Errc::kPermission:
      return WireError::kPerm;
    case Errc::kInvalid:
      return WireError::kInvalid;
    case Errc::kShutdown:
      return WireError::kShutdown;
    case Errc::kUnsupported:
      return WireError::kNotSupported;
    case Errc::kLimit:
      return WireError::kNoMemory;
    case Errc::kIo:
    case Errc::kCorrupt:
    case Errc::kReplicasLost:
    case Errc::kNotFound:
    case Errc::kExists:
    case Errc::kBusy:
    case Errc::kTimedOut:
      return WireError::kIo;
  }
  return WireError::kIo;
}

Result<Request> decode_request(std::span<const std::byte> data, Framing framing) {
  CHECK(data.size() == request_size(framing));
  const bool extended = framing == Framing::kExtended;
  ByteReader in(data);
  const auto magic = in.be<std::uint32_t>();
  if (magic != (extended ? kExtendedRequestMagic : kRequestMagic)) {
    return fail(Errc::kCorrupt, "garbage where a request was expected: magic {:#010x}", magic);
  }
  Request request;
  request.flags = in.be<std::uint16_t>();
  request.command = static_cast<Command>(in.be<std::uint16_t>());
  request.cookie = in.be<std::uint64_t>();
  request.offset = in.be<std::uint64_t>();
  request.length = extended ? in.be<std::uint64_t>() : in.be<std::uint32_t>();
  return request;
}

WireError check_request(const Request& request, const RequestRules& rules) {
  const bool inside =
      request.offset <= rules.size_bytes && request.length <= rules.size_bytes - request.offset;
  const bool aligned =
      request.offset % rules.block_size_min == 0 && request.length % rules.block_size_min == 0;
  const bool extended = rules.framing == Framing::kExtended;
  std::uint16_t flags = kFlagFua;  // Harmless, and allowed, on every command.
  switch (request.command) {
    case Command::kRead:
      if (rules.framing != Framing::kSimple) flags |= kFlagDf;
      if (!inside || request.length > kPayloadMax) return WireError::kInvalid;
      break;
    case Command::kWrite:
    case Command::kTrim:
    case Command::kWriteZeroes:
      if (request.command == Command::kWrite && extended) flags |= kFlagPayloadLength;
      if (request.command == Command::kWriteZeroes) flags |= kFlagNoHole | kFlagFastZero;
      if (rules.read_only) return WireError::kPerm;
      if (!inside) {
        return request.command == Command::kTrim ? WireError::kInvalid : WireError::kNoSpace;
      }
      break;
    case Command::kCache:
      if (!inside) return WireError::kInvalid;
      break;
    case Command::kBlockStatus:
      flags |= kFlagReqOne;
      if (!inside) return WireError::kInvalid;
      break;
    case Command::kFlush:
      return (request.flags & ~flags) != 0 ? WireError::kInvalid : WireError::kNone;
    case Command::kDisconnect:
      return WireError::kNone;
    default:
      return WireError::kInvalid;
  }
  if (request.length == 0 || !aligned) return WireError::kInvalid;
  return (request.flags & ~flags) != 0 ? WireError::kInvalid : WireError::kNone;
}

ReplyHead encode_status(Framing framing, const Request& request, WireError error) {
  ReplyHead head;
  ByteWriter out(head.bytes);
  if (framing == Framing::kSimple) {
    put_simple(out, request, error);
  } else if (error == WireError::kNone) {
    put_chunk(out, framing, request, ChunkType::kNone, 0, true);
  } else {
    put_chunk(out, framing, request, ChunkType::kError, 6, true);
    out.be(static_cast<std::uint32_t>(error));
    out.be(std::uint16_t{0});  // no text
  }
  head.size = out.position();
  return head;
}

ReplyHead encode_data_head(Framing framing, const Request& request, std::uint64_t offset,
                           std::uint32_t length, bool last) {
  ReplyHead head;
  ByteWriter out(head.bytes);
  if (framing == Framing::kSimple) {
    put_simple(out, request, WireError::kNone);
  } else {
    put_chunk(out, framing, request, ChunkType::kOffsetData, std::uint64_t{8} + length, last);
    out.be(offset);
  }
  head.size = out.position();
  return head;
}

void append_block_status(std::vector<std::byte>& reply, Framing framing, const Request& request,
                         std::uint32_t context, std::span<const StatusExtent> extents, bool last) {
  const bool wide = framing == Framing::kExtended;
  // The largest length of the protocol's 32 bits that ends on a block.
  constexpr std::uint64_t kShortMax = align_down(0xffffffffU, kBlockSizePreferred);
  std::size_t count = extents.size();
  if (!wide) {
    const auto* too_long = std::find_if(extents.data(), extents.data() + extents.size(),
                                        [](const auto& e) { return e.length > kShortMax; });
    const auto before = static_cast<std::size_t>(too_long - extents.data());
    count = std::min(count, before + 1);
  }
  const std::size_t head = wide ? 32 : 20;
  const std::size_t length = wide ? 8 + count * 16 : 4 + count * 8;
  const std::size_t begin = reply.size();
  reply.resize(begin + head + length);
  ByteWriter out(std::span<std::byte>(reply).subspan(begin));
  put_chunk(out, framing, request, wide ? ChunkType::kBlockStatusExtended : ChunkType::kBlockStatus,
            length, last);
  out.be(context);
  if (wide) out.be(static_cast<std::uint32_t>(count));
  for (const StatusExtent& extent : extents.first(count)) {
    if (wide) {
      out.be(extent.length);
      out.be(extent.flags);
    } else {
      out.be(static_cast<std::uint32_t>(std::min(extent.length, kShortMax)));
      out.be(static_cast<std::uint32_t>(extent.flags));
    }
  }
}

Result<ExportQuery> decode_export_query(std::span<const std::byte> data) {
  ByteReader in(data);
  ExportQuery query;
  auto name = take_string(in);
  if (!name) return name.error();
  query.name = std::move(*name);
  const auto count = in.be<std::uint16_t>();
  if (!in.ok() || in.remaining() != std::size_t{count} * 2) {
    return fail(Errc::kInvalid, "{} infos in {} bytes", count, in.remaining());
  }
  for (std::uint16_t i = 0; i < count; ++i) query.infos.push_back(in.be<std::uint16_t>());
  return query;
}

Result<ContextQuery> decode_context_query(std::span<const std::byte> data) {
  ByteReader in(data);
  ContextQuery query;
  auto name = take_string(in);
  if (!name) return name.error();
  query.name = std::move(*name);
  const auto count = in.be<std::uint32_t>();
  if (!in.ok() || count > in.remaining() / 4) {
    return fail(Errc::kInvalid, "{} queries in {} bytes", count, in.remaining());
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    auto text = take_string(in);
    if (!text) return text.error();
    query.queries.push_back(std::move(*text));
  }
  if (in.remaining() != 0) return fail(Errc::kInvalid, "{} bytes too many", in.remaining());
  return query;
}

std::vector<std::byte> encode_option_reply(std::uint32_t option, OptionReply reply,
                                           std::span<const std::byte> data) {
  std::vector<std::byte> bytes(20 + data.size());
  ByteWriter out(bytes);
  out.be(kOptionReplyMagic);
  out.be(option);
  out.be(static_cast<std::uint32_t>(reply));
  out.be(static_cast<std::uint32_t>(data.size()));
  out.bytes(data);
  return bytes;
}

}  // namespace clouddisk::nbd
