#include "tests/nbd/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "engine/base/bytes.h"

namespace clouddisk::nbd {
namespace {

constexpr int kPatienceMs = 10'000;

}  // namespace

ByteList& ByteList::put(std::uint64_t value, unsigned size) {
  for (unsigned i = size; i > 0; --i) {
    bytes_.push_back(static_cast<std::byte>(value >> (8 * (i - 1))));
  }
  return *this;
}

ByteList& ByteList::text(std::string_view text) {
  return bytes(as_bytes(text));
}

ByteList& ByteList::bytes(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

RawClient::RawClient(const std::string& unix_path)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, unix_path.data(),
              std::min(unix_path.size(), sizeof address.sun_path - 1));
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) close();
}

RawClient RawClient::tcp(std::uint16_t port) {
  RawClient client;
  client.socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(client.socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    client.close();
  }
  return client;
}

RawClient::RawClient(RawClient&& other) noexcept {
  *this = std::move(other);
}

RawClient& RawClient::operator=(RawClient&& other) noexcept {
  if (this == &other) return *this;
  close();
  socket_ = std::exchange(other.socket_, -1);
  size_bytes_ = other.size_bytes_;
  flags_ = other.flags_;
  framing_ = other.framing_;
  next_cookie_ = other.next_cookie_;
  read_lengths_ = std::move(other.read_lengths_);
  return *this;
}

RawClient::~RawClient() {
  close();
}

void RawClient::close() {
  if (socket_ >= 0) ::close(std::exchange(socket_, -1));
}

bool RawClient::send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

bool RawClient::readable(int timeout_ms) const {
  pollfd waiting{socket_, POLLIN, 0};
  return ::poll(&waiting, 1, timeout_ms) == 1;
}

bool RawClient::receive(std::span<std::byte> into) {
  while (!into.empty()) {
    if (!readable(kPatienceMs)) return false;
    const ssize_t got = ::recv(socket_, into.data(), into.size(), 0);
    if (got <= 0) return false;
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

bool RawClient::ended() {
  std::byte more;
  if (!readable(kPatienceMs)) return false;
  return ::recv(socket_, &more, 1, 0) <= 0;
}

// --- Negotiation ---

bool RawClient::greet(std::uint32_t flags) {
  std::array<std::byte, 18> greeting;
  if (!receive(greeting)) return false;
  ByteReader in(greeting);
  if (in.be<std::uint64_t>() != kInitMagic || in.be<std::uint64_t>() != kOptionMagic) return false;
  if (in.be<std::uint16_t>() != (kFixedNewstyle | kNoZeroes)) return false;
  return send(ByteList().u32(flags));
}

bool RawClient::send_option(std::uint32_t option, std::span<const std::byte> data) {
  return send(ByteList().u64(kOptionMagic).u32(option).u32(data.size()).bytes(data));
}

bool RawClient::receive_answer(OptionAnswer& answer) {
  std::array<std::byte, 20> head;
  if (!receive(head)) return false;
  ByteReader in(head);
  if (in.be<std::uint64_t>() != kOptionReplyMagic) return false;
  answer.option = in.be<std::uint32_t>();
  answer.kind = in.be<std::uint32_t>();
  answer.data.resize(in.be<std::uint32_t>());
  return receive(answer.data);
}

std::vector<OptionAnswer> RawClient::ask(Option option, std::span<const std::byte> data) {
  std::vector<OptionAnswer> answers;
  if (!send_option(static_cast<std::uint32_t>(option), data)) return answers;
  while (true) {
    OptionAnswer answer;
    if (!receive_answer(answer)) return {};
    if (answer.option != static_cast<std::uint32_t>(option)) return {};
    answers.push_back(answer);
    if (answer.is(OptionReply::kAck) || (answer.kind & 0x80000000U) != 0) return answers;
  }
}

bool RawClient::acked(Option option, std::span<const std::byte> data) {
  const auto answers = ask(option, data);
  return !answers.empty() && answers.back().is(OptionReply::kAck);
}

Bytes go_data(std::string_view name, std::span<const std::uint16_t> infos) {
  ByteList list;
  list.u32(name.size()).text(name).u16(infos.size());
  for (const std::uint16_t info : infos) list.u16(info);
  return list.take();
}

Bytes context_data(std::string_view name, const std::vector<std::string>& queries) {
  ByteList list;
  list.u32(name.size()).text(name).u32(queries.size());
  for (const std::string& query : queries) list.u32(query.size()).text(query);
  return list.take();
}

bool RawClient::go(const std::string& export_name, const Wish& wish) {
  if (!greet()) return false;
  framing_ = wish.framing;
  if (framing_ == Framing::kStructured && !acked(Option::kStructuredReply)) return false;
  if (framing_ == Framing::kExtended && !acked(Option::kExtendedHeaders)) return false;
  std::vector<std::string> contexts = wish.contexts;
  if (wish.allocation) contexts.insert(contexts.begin(), "base:allocation");
  if (!contexts.empty() && !acked(Option::kSetMetaContext, context_data(export_name, contexts))) {
    return false;
  }
  std::vector<std::uint16_t> infos;
  if (wish.block_sizes) infos.push_back(static_cast<std::uint16_t>(Info::kBlockSize));
  const auto answers = ask(Option::kGo, go_data(export_name, infos));
  if (answers.empty() || !answers.back().is(OptionReply::kAck)) return false;
  for (const OptionAnswer& answer : answers) {
    ByteReader in(answer.data);
    if (!answer.is(OptionReply::kInfo)) continue;
    if (in.be<std::uint16_t>() != static_cast<std::uint16_t>(Info::kExport)) continue;
    size_bytes_ = in.be<std::uint64_t>();
    flags_ = in.be<std::uint16_t>();
  }
  return true;
}

// --- Transmission ---

Bytes RawClient::encode(const Request& request) const {
  ByteList list;
  list.u32(framing_ == Framing::kExtended ? kExtendedRequestMagic : kRequestMagic);
  list.u16(request.flags).u16(static_cast<std::uint16_t>(request.command));
  list.u64(request.cookie).u64(request.offset);
  if (framing_ == Framing::kExtended) {
    list.u64(request.length);
  } else {
    list.u32(request.length);
  }
  return list.take();
}

bool RawClient::send_request(const Request& request, std::span<const std::byte> payload) {
  Bytes bytes = encode(request);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return send(bytes);
}

bool RawClient::receive_chunk(Chunk& chunk) {
  chunk = Chunk();
  std::array<std::byte, 4> magic_bytes;
  if (!receive(magic_bytes)) return false;
  const auto magic = load_be<std::uint32_t>(magic_bytes.data());
  if (magic == kSimpleReplyMagic) {
    std::array<std::byte, 12> rest;
    if (framing_ != Framing::kSimple || !receive(rest)) return false;
    ByteReader in(rest);
    chunk.error = in.be<std::uint32_t>();
    chunk.cookie = in.be<std::uint64_t>();
    const auto it = read_lengths_.find(chunk.cookie);
    if (it == read_lengths_.end()) return true;
    chunk.data.resize(chunk.error == 0 ? it->second : 0);
    read_lengths_.erase(it);
    return receive(chunk.data);
  }
  const bool extended = framing_ == Framing::kExtended;
  if (magic != (extended ? kExtendedChunkMagic : kChunkMagic)) return false;
  std::array<std::byte, 28> rest;
  if (!receive(std::span<std::byte>(rest).first(extended ? 28 : 16))) return false;
  ByteReader in(rest);
  chunk.done = (in.be<std::uint16_t>() & 1) != 0;
  chunk.type = static_cast<ChunkType>(in.be<std::uint16_t>());
  chunk.cookie = in.be<std::uint64_t>();
  if (extended) chunk.reply_offset = in.be<std::uint64_t>();
  const std::uint64_t length = extended ? in.be<std::uint64_t>() : in.be<std::uint32_t>();
  if (length > 64_MiB) return false;
  chunk.data.resize(length);
  if (!receive(chunk.data)) return false;
  ByteReader payload(chunk.data);
  if (chunk.type == ChunkType::kOffsetData) {
    chunk.offset = payload.be<std::uint64_t>();
    if (!payload.ok() || payload.remaining() == 0) return false;
    chunk.data.erase(chunk.data.begin(), chunk.data.begin() + 8);
  } else if (chunk.type == ChunkType::kError) {
    chunk.error = payload.be<std::uint32_t>();
    const auto text = payload.be<std::uint16_t>();
    if (!payload.ok() || payload.remaining() != text || chunk.error == 0) return false;
  } else if (chunk.type == ChunkType::kNone) {
    if (length != 0 || !chunk.done) return false;
  }
  return true;
}

Reply RawClient::call(Request request, std::span<const std::byte> payload) {
  Reply reply;
  reply.error = kReplyLost;
  request.cookie = next_cookie_++;
  const bool reads = request.command == Command::kRead;
  if (reads && framing_ == Framing::kSimple) expect_read(request.cookie, request.length);
  if (!send_request(request, payload)) return reply;
  if (reads && request.length <= 64_MiB) reply.data.resize(request.length, std::byte{0xee});
  std::uint32_t error = 0;
  std::uint64_t covered = 0;
  Chunk chunk;
  do {
    if (!receive_chunk(chunk) || chunk.cookie != request.cookie) return reply;
    if (framing_ == Framing::kExtended && chunk.reply_offset != request.offset) return reply;
    ++reply.chunks;
    if (chunk.error != 0) error = chunk.error;
    if (framing_ == Framing::kSimple) {
      if (reads && error == 0) reply.data = chunk.data;
      covered = chunk.data.size();
    } else if (chunk.type == ChunkType::kOffsetData) {
      if (!reads || chunk.offset < request.offset ||
          chunk.offset + chunk.data.size() > request.offset + request.length) {
        return reply;
      }
      std::memcpy(reply.data.data() + (chunk.offset - request.offset), chunk.data.data(),
                  chunk.data.size());
      covered += chunk.data.size();
    } else if (chunk.type == ChunkType::kBlockStatus ||
               chunk.type == ChunkType::kBlockStatusExtended) {
      reply.statuses.push_back(chunk.data);
    }
  } while (!chunk.done);
  if (error == 0 && reads && covered != request.length) return reply;
  reply.error = error;
  return reply;
}

Reply RawClient::read(std::uint64_t offset, std::uint64_t length, std::uint16_t flags) {
  Request request;
  request.command = Command::kRead;
  request.flags = flags;
  request.offset = offset;
  request.length = length;
  return call(request);
}

std::uint32_t RawClient::write(std::uint64_t offset, std::span<const std::byte> data,
                               std::uint16_t flags) {
  Request request;
  request.command = Command::kWrite;
  request.flags = flags;
  if (framing_ == Framing::kExtended) request.flags |= kFlagPayloadLength;
  request.offset = offset;
  request.length = data.size();
  return call(request, data).error;
}

std::uint32_t RawClient::simple_command(Command command, std::uint64_t offset, std::uint64_t length,
                                        std::uint16_t flags) {
  Request request;
  request.command = command;
  request.flags = flags;
  request.offset = offset;
  request.length = length;
  return call(request).error;
}

}  // namespace clouddisk::nbd
