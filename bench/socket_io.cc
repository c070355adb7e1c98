#include "bench/socket_io.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace clouddisk::bench {
namespace {

struct UnixSocket {
  Descriptor socket;
  sockaddr_un address{};
};

Result<UnixSocket> make_socket(const std::string& path) {
  UnixSocket made;
  made.address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof made.address.sun_path) {
    return fail(Errc::kInvalid, "'{}' is no path of a unix socket: it takes 1 to {} bytes", path,
                sizeof made.address.sun_path - 1);
  }
  std::memcpy(made.address.sun_path, path.data(), path.size());
  made.socket = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (made.socket.get() < 0) return fail_errno(errno, "no socket");
  return made;
}

}  // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

Result<Descriptor> connect_unix(const std::string& path) {
  auto made = make_socket(path);
  if (!made) return made.error();
  if (::connect(made->socket.get(), reinterpret_cast<const sockaddr*>(&made->address),
                sizeof made->address) != 0) {
    return fail_errno(errno, "connecting to {}", path);
  }
  return std::move(made->socket);
}

Result<Descriptor> listen_unix(const std::string& path) {
  auto made = make_socket(path);
  if (!made) return made.error();
  ::unlink(path.c_str());
  if (::bind(made->socket.get(), reinterpret_cast<const sockaddr*>(&made->address),
             sizeof made->address) != 0) {
    return fail_errno(errno, "binding {}", path);
  }
  if (::listen(made->socket.get(), SOMAXCONN) != 0)
    return fail_errno(errno, "listening at {}", path);
  return std::move(made->socket);
}

bool send_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

bool receive_all(int socket, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t got = ::recv(socket, into.data(), into.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

}  // namespace clouddisk::bench
