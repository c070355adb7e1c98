#include "nbd/listen_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace clouddisk::nbd {
namespace {

constexpr int kBacklog = 256;

Result<int> listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::kInvalid,
                "unix socket path of {} bytes: {} are possible; choose a shorter one", path.size(),
                sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return fail_errno(errno, "socket");
  const bool alive = ::connect(probe, generic, sizeof address) == 0;
  ::close(probe);
  if (alive) return fail(Errc::kBusy, "{}: somebody is listening there already", path);
  ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "socket");
  if (::bind(fd, generic, sizeof address) != 0 || ::chmod(path.c_str(), 0660) != 0 ||
      ::listen(fd, kBacklog) != 0) {
    const int saved = errno;
    ::close(fd);
    return fail_errno(saved, "listen on {}", path);
  }
  return fd;
}

Result<int> listen_tcp(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int rc = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (rc != 0) return fail(Errc::kInvalid, "{}: {}", host, gai_strerror(rc));
  int saved = EADDRNOTAVAIL;
  int listening = -1;
  for (const addrinfo* one = found; one != nullptr && listening < 0; one = one->ai_next) {
    const int fd = ::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // inherited by what is accepted
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // finds half-open clients
    if (::bind(fd, one->ai_addr, one->ai_addrlen) == 0 && ::listen(fd, kBacklog) == 0) {
      listening = fd;
    } else {
      saved = errno;
      ::close(fd);
    }
  }
  ::freeaddrinfo(found);
  if (listening < 0) return fail_errno(saved, "listen on {}:{}", host, port);
  return listening;
}

}  // namespace

Result<ListenAddress> ListenAddress::parse(std::string_view text) {
  ListenAddress address;
  if (text.starts_with("unix:") && text.size() > 5) {
    address.is_unix = true;
    address.path = text.substr(5);
    return address;
  }
  const auto colon = text.rfind(':');
  if (text.starts_with("tcp:") && colon != std::string_view::npos && colon > 4) {
    std::string_view host = text.substr(4, colon - 4);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
      host = host.substr(1, host.size() - 2);
    }
    const std::string_view port = text.substr(colon + 1);
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (parsed.ec == std::errc{} && parsed.ptr == port.data() + port.size() && address.port != 0 &&
        !host.empty()) {
      address.host = host;
      return address;
    }
  }
  return fail(Errc::kInvalid, "address '{}': give unix:PATH or tcp:HOST:PORT", text);
}

std::string ListenAddress::to_string() const {
  if (is_unix) return "unix:" + path;
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("tcp:{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

Result<int> ListenAddress::listen() const {
  return is_unix ? listen_unix(path) : listen_tcp(host, port);
}

}  // namespace clouddisk::nbd
