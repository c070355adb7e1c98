#include "tests/tools/e2e/nbd_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "tests/support/connect.h"

namespace clouddisk::e2e {
namespace {

constexpr std::uint64_t kMagic = 0x4e42444d41474943;  // NBDMAGIC
constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;
constexpr std::uint64_t kOptionReplyMagic = 0x3e889045565a9;
constexpr std::uint32_t kRequestMagic = 0x25609513;
constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
constexpr std::uint32_t kOptionGo = 7;
constexpr std::uint32_t kReplyAck = 1;
constexpr std::uint32_t kReplyInfo = 3;

class Packer {
 public:
  template <class T>
  Packer& put(T value) {
    for (std::size_t shift = sizeof(T) * 8; shift > 0; shift -= 8) {
      bytes_.push_back(static_cast<std::byte>(value >> (shift - 8)));
    }
    return *this;
  }
  Packer& text(const std::string& value) {
    for (const char c : value) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Packer& data(std::span<const std::byte> value) {
    bytes_.insert(bytes_.end(), value.begin(), value.end());
    return *this;
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

template <class T>
T unpack(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value << 8 | static_cast<T>(bytes[offset + i]));
  }
  return value;
}

}  // namespace

Result<NbdClient> NbdClient::connect(const std::string& socket_path,
                                     const std::string& export_name) {
  Socket socket = connect_to_unix(socket_path);
  if (!socket) return fail(Errc::kShutdown, "nobody serves {}", socket_path);
  NbdClient client(std::move(socket));
  if (auto agreed = client.negotiate(export_name); !agreed) return agreed.error();
  return client;
}

Result<void> NbdClient::negotiate(const std::string& export_name) {
  std::array<std::byte, 18> greeting;
  if (auto got = receive_bytes(greeting); !got) return got;
  if (unpack<std::uint64_t>(greeting, 0) != kMagic ||
      unpack<std::uint64_t>(greeting, 8) != kOptionMagic) {
    return fail(Errc::kCorrupt, "not an NBD server");
  }
  const auto name_size = static_cast<std::uint32_t>(export_name.size());
  Packer go;
  go.put<std::uint32_t>(3);  // fixed newstyle, no zeroes
  go.put(kOptionMagic).put(kOptionGo).put<std::uint32_t>(4 + name_size + 2);
  go.put(name_size).text(export_name).put<std::uint16_t>(0);
  if (auto sent = send_bytes(go.bytes()); !sent) return sent;
  while (true) {
    std::array<std::byte, 20> head;
    if (auto got = receive_bytes(head); !got) return got;
    if (unpack<std::uint64_t>(head, 0) != kOptionReplyMagic) {
      return fail(Errc::kCorrupt, "not an option reply");
    }
    const auto type = unpack<std::uint32_t>(head, 12);
    std::vector<std::byte> payload(unpack<std::uint32_t>(head, 16));
    if (auto got = receive_bytes(payload); !got) return got;
    if (type == kReplyAck) return {};
    if (type != kReplyInfo) return fail(Errc::kNotFound, "export refused: reply {:#x}", type);
    if (payload.size() >= 12 && unpack<std::uint16_t>(payload, 0) == 0) {
      size_bytes_ = unpack<std::uint64_t>(payload, 2);
    }
  }
}

Result<void> NbdClient::send(NbdCommand command, std::uint16_t flags, std::uint64_t cookie,
                             std::uint64_t offset, std::uint32_t length,
                             std::span<const std::byte> data) {
  Packer request;
  request.put(kRequestMagic).put(flags).put(static_cast<std::uint16_t>(command));
  request.put(cookie).put(offset).put(length).data(data);
  return send_bytes(request.bytes());
}

Result<NbdAnswer> NbdClient::receive(std::span<std::byte> into) {
  std::array<std::byte, 16> head;
  if (auto got = receive_bytes(head); !got) return got.error();
  if (unpack<std::uint32_t>(head, 0) != kSimpleReplyMagic) {
    return fail(Errc::kCorrupt, "not a simple reply");
  }
  NbdAnswer answer;
  answer.error = unpack<std::uint32_t>(head, 4);
  answer.cookie = unpack<std::uint64_t>(head, 8);
  if (answer.error == 0 && !into.empty()) {
    if (auto got = receive_bytes(into); !got) return got.error();
  }
  return answer;
}

bool NbdClient::readable() const {
  pollfd wait{socket_.fd(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

Result<void> NbdClient::expect_done(std::span<std::byte> into) {
  auto answer = receive(into);
  if (!answer) return answer.error();
  if (answer->error != 0) return fail_errno(static_cast<int>(answer->error), "NBD error");
  return {};
}

Result<void> NbdClient::read(std::uint64_t offset, std::span<std::byte> into) {
  if (auto sent = send(NbdCommand::kRead, 0, 1, offset, static_cast<std::uint32_t>(into.size()));
      !sent) {
    return sent;
  }
  return expect_done(into);
}

Result<void> NbdClient::write(std::uint64_t offset, std::span<const std::byte> data, bool fua) {
  if (auto sent = send(NbdCommand::kWrite, fua ? kNbdFua : std::uint16_t{0}, 1, offset,
                       static_cast<std::uint32_t>(data.size()), data);
      !sent) {
    return sent;
  }
  return expect_done({});
}

Result<void> NbdClient::flush() {
  if (auto sent = send(NbdCommand::kFlush, 0, 1, 0, 0); !sent) return sent;
  return expect_done({});
}

Result<void> NbdClient::send_bytes(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return fail_errno(errno, "send");
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

Result<void> NbdClient::receive_bytes(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    pollfd wait{socket_.fd(), POLLIN, 0};
    if (::poll(&wait, 1, 60'000) == 0) return fail(Errc::kTimedOut, "no answer in 60 s");
    const ssize_t got = ::recv(socket_.fd(), bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) return fail(Errc::kShutdown, "the server hung up");
    if (got < 0) return fail_errno(errno, "receive");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

}  // namespace clouddisk::e2e
