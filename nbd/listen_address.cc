#include "nbd/listen_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace clouddisk::nbd {
namespace {

constexpr int kBacklog = 256;
// A silent client is asked after a minute, and given up after six questions ten seconds apart or
// when what was sent to it is not acknowledged for as long.
constexpr int kIdleSeconds = 60;
constexpr int kProbeSeconds = 10;
constexpr int kProbes = 6;
constexpr int kUnacknowledgedMs = 120'000;

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::kInvalid,
                "unix socket path of {} bytes, {} are possible: choose a shorter one", path.size(),
                sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Makes room for a socket at `path`.
Result<void> remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "{}", path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fail(Errc::kExists, "{} is there and is no socket: choose another path, or remove it",
                path);
  }
  // Not blocking: a server whose queue is full is alive too, and would keep us waiting.
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return fail_errno(errno, "socket");
  const int rc = ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::close(probe);
  if (rc == 0 || error == EAGAIN || error == EPROTOTYPE) {
    return fail(Errc::kBusy, "{}: somebody is listening there already", path);
  }
  if (error != ECONNREFUSED) return fail_errno(error, "{}", path);
  if (::unlink(path.c_str()) != 0) return fail_errno(errno, "remove stale socket {}", path);
  return {};
}

Result<int> listen_unix(const ListenAddress& where) {
  auto address = unix_address(where.path);
  if (!address) return address.error();
  if (auto free = remove_stale(where.path, *address); !free) return free.error();
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "socket");
  // The file gets the socket's mode at bind: nobody else connects before it has its own.
  if (::fchmod(fd, 0600) != 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 ||
      ::listen(fd, kBacklog) != 0 || ::chmod(where.path.c_str(), where.mode) != 0) {
    const int saved = errno;
    ::close(fd);
    return fail_errno(saved, "listen on {}", where.to_string());
  }
  return fd;
}

Result<int> listen_tcp(const ListenAddress& where) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int rc =
      ::getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (rc != 0) return fail(Errc::kInvalid, "{}: {}", where.to_string(), gai_strerror(rc));
  int saved = EADDRNOTAVAIL;
  int listening = -1;
  for (const addrinfo* one = found; one != nullptr && listening < 0; one = one->ai_next) {
    const int fd = ::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const auto set = [fd](int level, int option, int value) {
      ::setsockopt(fd, level, option, &value, sizeof value);
    };
    set(SOL_SOCKET, SO_REUSEADDR, 1);
    // Inherited by what is accepted.
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, kIdleSeconds);
    set(IPPROTO_TCP, TCP_KEEPINTVL, kProbeSeconds);
    set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, kUnacknowledgedMs);
    if (::bind(fd, one->ai_addr, one->ai_addrlen) == 0 && ::listen(fd, kBacklog) == 0) {
      listening = fd;
    } else {
      saved = errno;
      ::close(fd);
    }
  }
  ::freeaddrinfo(found);
  if (listening < 0) return fail_errno(saved, "listen on {}", where.to_string());
  return listening;
}

}  // namespace

Result<ListenAddress> ListenAddress::parse(std::string_view text) {
  ListenAddress address;
  if (text.starts_with("unix:") && text.size() > 5) {
    address.is_unix = true;
    address.path = text.substr(5);
    if (auto possible = unix_address(address.path); !possible) return possible.error();
    return address;
  }
  const auto colon = text.rfind(':');
  if (text.starts_with("tcp:") && colon != std::string_view::npos && colon > 4) {
    std::string_view host = text.substr(4, colon - 4);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    const bool plain = host.find_first_of("[]") == std::string_view::npos &&
                       (bracketed || host.find(':') == std::string_view::npos);
    const std::string_view port = text.substr(colon + 1);
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (parsed.ec == std::errc{} && parsed.ptr == port.data() + port.size() && address.port != 0 &&
        plain) {
      address.host = host;
      return address;
    }
  }
  return fail(Errc::kInvalid, "address '{}': give unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT",
              text);
}

std::string ListenAddress::to_string() const {
  if (is_unix) return "unix:" + path;
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("tcp:{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

Listener::Listener(int socket, ListenAddress address)
    : socket_(socket), address_(std::move(address)) {
  struct stat info {};
  if (address_.is_unix && ::lstat(address_.path.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

Listener::Listener(Listener&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      address_(std::move(other.address_)),
      device_(other.device_),
      inode_(other.inode_) {}

Listener::~Listener() {
  if (socket_ < 0) return;
  ::close(socket_);
  struct stat info {};
  if (!address_.is_unix || ::lstat(address_.path.c_str(), &info) != 0) return;
  if (info.st_dev == device_ && info.st_ino == inode_) ::unlink(address_.path.c_str());
}

Result<Listener> Listener::open(const ListenAddress& address) {
  auto socket = address.is_unix ? listen_unix(address) : listen_tcp(address);
  if (!socket) return socket.error();
  return Listener(*socket, address);
}

std::string peer_name(int socket) {
  sockaddr_storage storage{};
  auto* generic = reinterpret_cast<sockaddr*>(&storage);
  socklen_t size = sizeof storage;
  if (::getpeername(socket, generic, &size) != 0) return "gone";
  if (storage.ss_family == AF_UNIX) {
    ucred who{};
    socklen_t who_size = sizeof who;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0) return "unix";
    return fmt::format("pid {} uid {}", who.pid, who.uid);
  }
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(generic, size, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  return fmt::format("{}:{}", host.data(), port.data());
}

}  // namespace clouddisk::nbd
