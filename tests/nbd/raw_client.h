// raw_client.h: an NBD client made of bytes: it sends whatever a test wants, right or wrong, and
// takes replies apart without trusting them. Blocking, with a limit of ten seconds on each wait.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "nbd/protocol.h"

namespace clouddisk::nbd {

using Bytes = std::vector<std::byte>;

// Big-endian bytes, one call after the other.
class ByteList {
 public:
  ByteList& u16(std::uint64_t value) { return put(value, 2); }
  ByteList& u32(std::uint64_t value) { return put(value, 4); }
  ByteList& u64(std::uint64_t value) { return put(value, 8); }
  ByteList& text(std::string_view text);
  ByteList& bytes(std::span<const std::byte> bytes);
  const Bytes& take() const { return bytes_; }
  operator std::span<const std::byte>() const { return bytes_; }

 private:
  ByteList& put(std::uint64_t value, unsigned size);
  Bytes bytes_;
};

struct OptionAnswer {
  std::uint32_t option = 0;
  std::uint32_t kind = 0;
  Bytes data;
  bool is(OptionReply reply) const { return kind == static_cast<std::uint32_t>(reply); }
};

// One simple reply, or one chunk.
struct Chunk {
  std::uint64_t cookie = 0;
  ChunkType type = ChunkType::kNone;
  bool done = true;
  std::uint32_t error = 0;
  std::uint64_t offset = 0;  // of data; in an extended reply checked to be the request's as well
  std::uint64_t reply_offset = 0;
  Bytes data;  // what was read, or the raw block status
};

// All of one reply.
struct Reply {
  std::uint32_t error = 0;
  Bytes data;  // read data in its place
  std::vector<Bytes> statuses;
  unsigned chunks = 0;
};

class RawClient {
 public:
  RawClient() = default;
  explicit RawClient(const std::string& unix_path);
  static RawClient tcp(std::uint16_t port);
  RawClient(RawClient&& other) noexcept;
  RawClient& operator=(RawClient&& other) noexcept;
  ~RawClient();

  int socket() const { return socket_; }
  void close();
  bool send(std::span<const std::byte> bytes);
  // Fills `into`; false when the server hung up (or ten seconds passed) before.
  bool receive(std::span<std::byte> into);
  // Whether the server hangs up, having sent nothing more.
  bool ended();
  bool readable(int timeout_ms) const;

  // --- Negotiation ---
  bool greet(std::uint32_t flags = kFixedNewstyle | kNoZeroes);
  bool send_option(std::uint32_t option, std::span<const std::byte> data = {});
  bool receive_answer(OptionAnswer& answer);
  // The answers to one option, the last one being an ack or an error.
  std::vector<OptionAnswer> ask(Option option, std::span<const std::byte> data = {});
  bool acked(Option option, std::span<const std::byte> data = {});

  struct Wish {
    Framing framing = Framing::kStructured;
    bool allocation = false;
    bool block_sizes = false;
    std::vector<std::string> contexts{};
  };
  // Greets, negotiates and goes; true when transmission has begun.
  bool go(const std::string& export_name, const Wish& wish);
  bool go(const std::string& export_name) { return go(export_name, Wish()); }
  std::uint64_t size_bytes() const { return size_bytes_; }
  std::uint16_t flags() const { return flags_; }
  Framing framing() const { return framing_; }
  void set_framing(Framing framing) { framing_ = framing; }

  // --- Transmission ---
  Bytes encode(const Request& request) const;
  bool send_request(const Request& request, std::span<const std::byte> payload = {});
  // The next simple reply or chunk. `read_lengths` tells what simple replies to reads hold.
  bool receive_chunk(Chunk& chunk);
  // One request and its whole reply; nothing else may be under way.
  Reply call(Request request, std::span<const std::byte> payload = {});
  Reply read(std::uint64_t offset, std::uint64_t length, std::uint16_t flags = 0);
  std::uint32_t write(std::uint64_t offset, std::span<const std::byte> data,
                      std::uint16_t flags = 0);
  std::uint32_t simple_command(Command command, std::uint64_t offset, std::uint64_t length,
                               std::uint16_t flags = 0);
  // Says what simple replies to come will hold.
  void expect_read(std::uint64_t cookie, std::uint64_t length) { read_lengths_[cookie] = length; }

 private:
  int socket_ = -1;
  std::uint64_t size_bytes_ = 0;
  std::uint16_t flags_ = 0;
  Framing framing_ = Framing::kSimple;
  std::uint64_t next_cookie_ = 1;
  std::map<std::uint64_t, std::uint64_t> read_lengths_;
};

Bytes go_data(std::string_view name, std::span<const std::uint16_t> infos = {});
Bytes context_data(std::string_view name, const std::vector<std::string>& queries);

inline constexpr std::uint32_t kReplyLost = 0xdead;  // the error of a call that got no answer

inline std::uint32_t wire(WireError error) {
  return static_cast<std::uint32_t>(error);
}

}  // namespace clouddisk::nbd
