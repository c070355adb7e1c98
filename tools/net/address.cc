#include "tools/net/address.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace clouddisk {
namespace {

constexpr int kBacklog = 512;

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return fail(Errc::kInvalid,
                "socket path {} has {} bytes and the system allows {}: choose a shorter folder",
                path, path.size(), sizeof(address.sun_path) - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<AddressList> look_up(const Address& address, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int rc =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (rc != 0) return fail(Errc::kNotFound, "{}: {}", address.text(), gai_strerror(rc));
  return AddressList(found, &freeaddrinfo);
}

// Waits for a connect() under way; `socket` does not block.
Result<void> finish_connect(int socket, std::chrono::milliseconds timeout, const Address& address) {
  pollfd wait{socket, POLLOUT, 0};
  const int ready = ::poll(&wait, 1, static_cast<int>(timeout.count()));
  if (ready == 0) return fail(Errc::kTimedOut, "{}: no answer", address.text());
  if (ready < 0) return fail_errno(errno, "{}", address.text());
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error == ECONNREFUSED) return fail(Errc::kShutdown, "{}: nobody listens", address.text());
  if (error != 0) return fail_errno(error, "{}", address.text());
  return {};
}

Result<void> set_blocking(int socket) {
  const int flags = ::fcntl(socket, F_GETFL);
  if (flags < 0 || ::fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return fail_errno(errno, "fcntl");
  }
  return {};
}

Result<Socket> connect_unix(const Address& address, std::chrono::milliseconds timeout) {
  auto name = unix_address(address.path);
  if (!name) return name.error();
  // A unix connect() waits for room in the backlog only on a blocking socket.
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket");
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timeval limit{.tv_sec = seconds.count(),
                      .tv_usec = std::chrono::microseconds(timeout - seconds).count()};
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (::connect(socket.fd(), reinterpret_cast<sockaddr*>(&*name), sizeof(*name)) != 0) {
    const int error = errno;
    if (error == ECONNREFUSED) return fail(Errc::kShutdown, "{}: nobody listens", address.text());
    return fail_errno(error, "{}", address.text());
  }
  const timeval no_limit{};
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &no_limit, sizeof(no_limit));
  return socket;
}

Result<Socket> connect_tcp(const Address& address, std::chrono::milliseconds timeout) {
  auto list = look_up(address, 0);
  if (!list) return list.error();
  Error last = fail(Errc::kNotFound, "{}: no address", address.text());
  for (const addrinfo* at = list->get(); at != nullptr; at = at->ai_next) {
    Socket socket(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) {
      last = fail_errno(errno, "socket");
      continue;
    }
    if (::connect(socket.fd(), at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) {
      last = fail_errno(errno, "{}", address.text());
      continue;
    }
    if (auto connected = finish_connect(socket.fd(), timeout, address); !connected) {
      last = connected.error();
      continue;
    }
    if (auto blocking = set_blocking(socket.fd()); !blocking) return blocking.error();
    return socket;
  }
  return last;
}

// Removes a socket file that nobody serves any more.
Result<void> clear_stale(const Address& address) {
  struct stat info {};
  if (::lstat(address.path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "{}", address.path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fail(Errc::kExists, "{} exists and is not a socket: remove it or name another path",
                address.path);
  }
  if (auto probe = connect_to(address, std::chrono::seconds(1)); probe) {
    return fail(Errc::kExists, "{} is served by another process: stop it or name another path",
                address.path);
  } else if (probe.error().code != Errc::kShutdown) {
    return fail(Errc::kBusy, "{} is held by a process that does not answer: stop it ({})",
                address.path, probe.error().message);
  }
  if (::unlink(address.path.c_str()) != 0) return fail_errno(errno, "remove {}", address.path);
  return {};
}

Result<Socket> listen_unix(const Address& address) {
  auto name = unix_address(address.path);
  if (!name) return name.error();
  if (auto cleared = clear_stale(address); !cleared) return cleared.error();
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket");
  // The mode is set before listen(): nobody can connect in between.
  if (::bind(socket.fd(), reinterpret_cast<sockaddr*>(&*name), sizeof(*name)) != 0) {
    return fail_errno(errno, "bind {}", address.text());
  }
  if (::chmod(address.path.c_str(), 0660) != 0) return fail_errno(errno, "chmod {}", address.path);
  if (::listen(socket.fd(), kBacklog) != 0) return fail_errno(errno, "listen {}", address.text());
  return socket;
}

Result<Socket> listen_tcp(Address& address) {
  auto list = look_up(address, AI_PASSIVE);
  if (!list) return list.error();
  const addrinfo* first = list->get();
  Socket socket(::socket(first->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket");
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(socket.fd(), first->ai_addr, first->ai_addrlen) != 0) {
    return fail_errno(errno, "bind {}", address.text());
  }
  if (::listen(socket.fd(), kBacklog) != 0) return fail_errno(errno, "listen {}", address.text());
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    return fail_errno(errno, "getsockname");
  }
  address.port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
  return socket;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.release();
  }
  return *this;
}

void Socket::close() {
  if (fd_ >= 0) ::close(release());
}

std::string Address::text() const {
  if (kind == Kind::kUnix) return "unix:" + path;
  const bool bracket = host.find(':') != std::string::npos;
  return fmt::format("tcp:{}{}{}:{}", bracket ? "[" : "", host, bracket ? "]" : "", port);
}

Result<Address> parse_address(std::string_view text) {
  constexpr std::string_view kForms = "unix:PATH or tcp:HOST:PORT";
  Address address;
  if (text.starts_with("unix:")) {
    address.path = text.substr(5);
    if (address.path.empty() || address.path.find('\0') != std::string::npos) {
      return fail(Errc::kInvalid, "'{}' names no path: expected {}", text, kForms);
    }
    if (auto fits = unix_address(address.path); !fits) return fits.error();
    return address;
  }
  if (!text.starts_with("tcp:")) {
    return fail(Errc::kInvalid, "'{}' is not an address: expected {}", text, kForms);
  }
  address.kind = Address::Kind::kTcp;
  const std::string_view rest = text.substr(4);
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos) {
    return fail(Errc::kInvalid, "'{}' has no port: expected {}", text, kForms);
  }
  std::string_view host = rest.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const std::string_view port = rest.substr(colon + 1);
  const auto parsed = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (host.empty() || port.empty() || parsed.ec != std::errc{} ||
      parsed.ptr != port.data() + port.size()) {
    return fail(Errc::kInvalid, "'{}' is not an address: expected {}, port 0 to 65535", text,
                kForms);
  }
  address.host = host;
  return address;
}

Result<Socket> listen_on(Address& address) {
  return address.kind == Address::Kind::kUnix ? listen_unix(address) : listen_tcp(address);
}

Result<Socket> connect_to(const Address& address, std::chrono::milliseconds timeout) {
  return address.kind == Address::Kind::kUnix ? connect_unix(address, timeout)
                                              : connect_tcp(address, timeout);
}

}  // namespace clouddisk
