#include "bench/null_server.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <list>
#include <thread>
#include <vector>

#include "bench/socket_io.h"
#include "engine/base/bytes.h"
#include "nbd/protocol.h"

namespace clouddisk::bench {
namespace {

constexpr std::uint32_t kOptionMax = 64U << 10;
constexpr std::size_t kReceiveSize = 1U << 20;
constexpr std::size_t kZeroSize = 1U << 20;
constexpr std::uint16_t kFlags = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kSendTrim |
                                 nbd::kSendWriteZeroes | nbd::kCanMultiConn;

// --- The handshake ---

class Handshake {
 public:
  Handshake(int socket, std::uint64_t size_bytes) : socket_(socket), size_bytes_(size_bytes) {}

  // Whether requests follow; otherwise the client left or made no sense.
  bool run() {
    std::array<std::byte, 18> greeting;
    ByteWriter out(greeting);
    out.be(nbd::kInitMagic);
    out.be(nbd::kOptionMagic);
    out.be(std::uint16_t{nbd::kFixedNewstyle | nbd::kNoZeroes});
    std::array<std::byte, 4> flags;
    if (!send_all(socket_, greeting) || !receive_all(socket_, flags)) return false;
    no_zeroes_ = (load_be<std::uint32_t>(flags.data()) & nbd::kNoZeroes) != 0;
    Next next = Next::kOption;
    while (next == Next::kOption) next = answer_option();
    return next == Next::kRequests;
  }

 private:
  enum class Next { kOption, kRequests, kEnd };

  Next answer_option() {
    std::array<std::byte, 16> head;
    if (!receive_all(socket_, head)) return Next::kEnd;
    ByteReader in(head);
    const auto magic = in.be<std::uint64_t>();
    option_ = in.be<std::uint32_t>();
    const auto length = in.be<std::uint32_t>();
    if (magic != nbd::kOptionMagic || length > kOptionMax) return Next::kEnd;
    std::vector<std::byte> data(length);
    if (!receive_all(socket_, data)) return Next::kEnd;
    switch (static_cast<nbd::Option>(option_)) {
      case nbd::Option::kExportName:
        return export_name();
      case nbd::Option::kAbort:
        reply(nbd::OptionReply::kAck);
        return Next::kEnd;
      case nbd::Option::kList:
        return list();
      case nbd::Option::kInfo:
      case nbd::Option::kGo:
        return info_or_go(data);
      default:
        return reply(nbd::OptionReply::kUnsupported);
    }
  }

  Next reply(nbd::OptionReply kind, std::span<const std::byte> data = {}) {
    const auto bytes = nbd::encode_option_reply(option_, kind, data);
    return send_all(socket_, bytes) ? Next::kOption : Next::kEnd;
  }

  Next export_name() {
    std::vector<std::byte> bytes(no_zeroes_ ? 10 : 134);
    ByteWriter out(bytes);
    out.be(size_bytes_);
    out.be(kFlags);
    return send_all(socket_, bytes) ? Next::kRequests : Next::kEnd;
  }

  Next list() {
    const std::array<std::byte, 4> nameless{};
    if (reply(nbd::OptionReply::kServer, nameless) == Next::kEnd) return Next::kEnd;
    return reply(nbd::OptionReply::kAck);
  }

  Next info_or_go(std::span<const std::byte> data) {
    if (!nbd::decode_export_query(data)) return reply(nbd::OptionReply::kInvalid);
    std::array<std::byte, 12> info;
    ByteWriter out(info);
    out.be(static_cast<std::uint16_t>(nbd::Info::kExport));
    out.be(size_bytes_);
    out.be(kFlags);
    if (reply(nbd::OptionReply::kInfo, info) == Next::kEnd) return Next::kEnd;
    std::array<std::byte, 14> sizes;
    ByteWriter size_out(sizes);
    size_out.be(static_cast<std::uint16_t>(nbd::Info::kBlockSize));
    size_out.be(std::uint32_t{1});
    size_out.be(nbd::kBlockSizePreferred);
    size_out.be(nbd::kPayloadMax);
    if (reply(nbd::OptionReply::kInfo, sizes) == Next::kEnd) return Next::kEnd;
    if (reply(nbd::OptionReply::kAck) == Next::kEnd) return Next::kEnd;
    return option_ == static_cast<std::uint32_t>(nbd::Option::kGo) ? Next::kRequests
                                                                   : Next::kOption;
  }

  int socket_;
  std::uint64_t size_bytes_;
  std::uint32_t option_ = 0;
  bool no_zeroes_ = false;
};

// --- Requests ---

class Transmission {
 public:
  Transmission(int socket, std::uint64_t size_bytes)
      : socket_(socket), rules_{size_bytes, false, nbd::Framing::kSimple, 1} {
    heads_.reserve(kHeadsMax);  // pieces_ point into it
  }

  void run() {
    std::size_t held = 0;  // of a request that is not whole yet
    while (true) {
      const ssize_t got = ::recv(socket_, received_.data() + held, received_.size() - held, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return;
      const auto bytes = std::span(received_).first(held + static_cast<std::size_t>(got));
      const auto used = take(bytes);
      if (!going_on_ || !send_answers()) return;
      held = bytes.size() - used;
      std::memmove(received_.data(), received_.data() + used, held);
    }
  }

 private:
  static constexpr std::size_t kHeadSize = 16;
  static constexpr std::size_t kPiecesMax = IOV_MAX;
  static constexpr std::size_t kHeadsMax = kPiecesMax * kHeadSize;

  // How many bytes are done with.
  std::size_t take(std::span<const std::byte> bytes) {
    std::size_t used = 0;
    while (going_on_) {
      if (payload_left_ > 0) {
        const auto skipped = std::min<std::uint64_t>(payload_left_, bytes.size() - used);
        payload_left_ -= skipped;
        used += static_cast<std::size_t>(skipped);
        if (payload_left_ > 0) break;
        answer();
        continue;
      }
      if (bytes.size() - used < nbd::kRequestSize) break;
      auto decoded = nbd::decode_request(bytes.subspan(used, nbd::kRequestSize), rules_.framing);
      if (!decoded || decoded->command == nbd::Command::kDisconnect) {
        going_on_ = false;
        break;
      }
      request_ = *decoded;
      used += nbd::kRequestSize;
      payload_left_ = nbd::payload_length(request_, rules_.framing);
      if (payload_left_ > nbd::kPayloadMax) going_on_ = false;
      if (payload_left_ == 0) answer();
    }
    return used;
  }

  void answer() {
    const nbd::WireError error = nbd::check_request(request_, rules_);
    const bool reads = error == nbd::WireError::kNone && request_.command == nbd::Command::kRead;
    const std::size_t zeros =
        reads ? static_cast<std::size_t>((request_.length + kZeroSize - 1) / kZeroSize) : 0;
    if (pieces_.size() + 1 + zeros > kPiecesMax || heads_.size() + kHeadSize > kHeadsMax) {
      if (!send_answers()) going_on_ = false;
    }
    const auto head = reads
                          ? nbd::encode_data_head(rules_.framing, request_, request_.offset,
                                                  static_cast<std::uint32_t>(request_.length), true)
                          : nbd::encode_status(rules_.framing, request_, error);
    std::byte* const place = heads_.data() + heads_.size();
    heads_.insert(heads_.end(), head.span().begin(), head.span().end());
    // Heads without data between them are one piece.
    if (!pieces_.empty() &&
        static_cast<std::byte*>(pieces_.back().iov_base) + pieces_.back().iov_len == place) {
      pieces_.back().iov_len += kHeadSize;
    } else {
      pieces_.push_back({place, kHeadSize});
    }
    for (std::uint64_t left = reads ? request_.length : 0; left > 0;) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, kZeroSize));
      pieces_.push_back({zeros_.data(), size});
      left -= size;
    }
  }

  // One send of all answers, or as many as the socket makes of it.
  bool send_answers() {
    std::size_t next = 0;
    while (next < pieces_.size()) {
      msghdr message{};
      message.msg_iov = pieces_.data() + next;
      message.msg_iovlen = pieces_.size() - next;
      const ssize_t sent = ::sendmsg(socket_, &message, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      auto left = static_cast<std::size_t>(sent);
      while (next < pieces_.size() && left >= pieces_[next].iov_len)
        left -= pieces_[next++].iov_len;
      if (left > 0) {
        pieces_[next].iov_base = static_cast<std::byte*>(pieces_[next].iov_base) + left;
        pieces_[next].iov_len -= left;
      }
    }
    pieces_.clear();
    heads_.clear();
    return true;
  }

  int socket_;
  nbd::RequestRules rules_;
  std::vector<std::byte> received_ = std::vector<std::byte>(kReceiveSize);
  std::vector<std::byte> zeros_ = std::vector<std::byte>(kZeroSize);
  std::vector<std::byte> heads_;
  std::vector<iovec> pieces_;
  nbd::Request request_;  // the one whose payload is awaited
  std::uint64_t payload_left_ = 0;
  bool going_on_ = true;
};

struct Session {
  Descriptor socket;
  std::thread thread;
};

}  // namespace

void serve_null(int listening, std::uint64_t size_bytes, int stop) {
  std::list<Session> sessions;  // kept until the end: a benchmark makes few
  while (true) {
    std::array<pollfd, 2> waiting{{{listening, POLLIN, 0}, {stop, POLLIN, 0}}};
    if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) break;
    if (waiting[1].revents != 0) break;
    if (waiting[0].revents == 0) continue;
    Descriptor accepted(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
    if (accepted.get() < 0) continue;
    Session& session = sessions.emplace_back();
    session.socket = std::move(accepted);
    session.thread = std::thread([socket = session.socket.get(), size_bytes] {
      if (Handshake(socket, size_bytes).run()) Transmission(socket, size_bytes).run();
      ::shutdown(socket, SHUT_RDWR);  // the peer sees the end at once
    });
  }
  for (Session& session : sessions) ::shutdown(session.socket.get(), SHUT_RDWR);
  for (Session& session : sessions) session.thread.join();
}

}  // namespace clouddisk::bench
