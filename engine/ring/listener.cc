#include "engine/ring/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace clouddisk {
namespace {

constexpr int kBacklog = 512;
constexpr mode_t kSocketMode = 0660;
// A silent client is asked after a minute, and given up after six questions ten seconds apart or
// when what was sent to it is not acknowledged for as long.
constexpr int kIdleSeconds = 60;
constexpr int kProbeSeconds = 10;
constexpr int kProbes = 6;
constexpr int kUnacknowledgedMs = 120'000;
// A process that was killed is gone before its sockets are: the kernel still ends the requests that
// its io_uring had under way, which takes seconds on a busy host. Who starts at once in its place
// has to wait for that; for one that lives, only as long as it may take to die.
constexpr int kTakenTries = 50;
constexpr int kDeadTries = 1500;
constexpr useconds_t kTakenWaitUs = 20'000;

sockaddr_un unix_name(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), std::min(path.size(), sizeof name.sun_path - 1));
  return name;
}

// Whether who listens at the other end is gone.
bool is_dead(const Socket& connected) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(connected.fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.pid > 0 && ::kill(peer.pid, 0) != 0 && errno == ESRCH;
}

// Makes room for a socket at `path`. kTimedOut: it is a dead process's, and not free yet.
Result<void> remove_stale(const std::string& path, const sockaddr_un& name) {
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
  const Socket probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return fail_errno(errno, "socket");
  const int rc = ::connect(probe.fd(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
  const int error = errno;
  if (rc == 0 && is_dead(probe)) {
    return fail(Errc::kTimedOut, "{} is that of a process that was killed: try again later", path);
  }
  if (rc == 0 || error == EAGAIN || error == EPROTOTYPE) {
    return fail(Errc::kBusy, "{} is served by another process: stop it or name another path", path);
  }
  if (error == ENOENT) return {};  // Gone since.
  if (error != ECONNREFUSED) return fail_errno(error, "{}", path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail_errno(errno, "remove stale socket {}", path);
  }
  return {};
}

Result<Socket> listen_unix(const Address& where) {
  if (auto possible = parse_address(where.text()); !possible) return possible.error();
  const sockaddr_un name = unix_name(where.path);
  if (auto free = remove_stale(where.path, name); !free) return free.error();
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket");
  // The file gets the socket's mode at bind: nobody else connects before it has its own.
  if (::fchmod(socket.fd(), 0600) != 0 ||
      ::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(socket.fd(), kBacklog) != 0 || ::chmod(where.path.c_str(), kSocketMode) != 0) {
    return fail_errno(errno, "listen on {}", where.text());
  }
  return socket;
}

std::uint16_t port_of(int socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
}

Result<Socket> listen_tcp(Address& where) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int rc =
      ::getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (rc != 0) return fail(Errc::kInvalid, "{}: {}", where.text(), gai_strerror(rc));
  int saved = EADDRNOTAVAIL;
  Socket listening;
  for (const addrinfo* one = found; one != nullptr && !listening; one = one->ai_next) {
    Socket socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) continue;
    const auto set = [&socket](int level, int option, int value) {
      ::setsockopt(socket.fd(), level, option, &value, sizeof value);
    };
    set(SOL_SOCKET, SO_REUSEADDR, 1);
    // Inherited by what is accepted.
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, kIdleSeconds);
    set(IPPROTO_TCP, TCP_KEEPINTVL, kProbeSeconds);
    set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, kUnacknowledgedMs);
    if (::bind(socket.fd(), one->ai_addr, one->ai_addrlen) == 0 &&
        ::listen(socket.fd(), kBacklog) == 0) {
      listening = std::move(socket);
    } else {
      saved = errno;
    }
  }
  ::freeaddrinfo(found);
  if (!listening) return fail_errno(saved, "listen on {}", where.text());
  if (where.port == 0) where.port = port_of(listening.fd());
  return listening;
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

Listener::Listener(Socket socket, Address address)
    : socket_(std::move(socket)), address_(std::move(address)) {
  struct stat info {};
  if (address_.is_unix() && ::lstat(address_.path.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

Listener::~Listener() {
  if (socket_) remove_file();
}

// While the socket still listens: whoever finds the file of one that no longer does takes it for
// stale and puts a file of its own there, which is not ours to remove.
void Listener::remove_file() {
  const ino_t own = std::exchange(inode_, 0);
  struct stat info {};
  if (own == 0 || ::lstat(address_.path.c_str(), &info) != 0) return;
  if (info.st_dev == device_ && info.st_ino == own) ::unlink(address_.path.c_str());
}

Result<Listener> Listener::open(Address address) {
  bool dead = false;  // Once seen it stays: our own probes fill its queue, and then none tells.
  for (int tries = 1;; ++tries) {
    auto socket = address.is_unix() ? listen_unix(address) : listen_tcp(address);
    if (socket) return Listener(std::move(*socket), std::move(address));
    const Errc code = socket.error().code;
    dead = dead || code == Errc::kTimedOut;
    const bool taken = code == Errc::kBusy || code == Errc::kTimedOut;
    if (!taken || tries >= (dead ? kDeadTries : kTakenTries)) return socket.error();
    ::usleep(kTakenWaitUs);
  }
}

void Listener::shut() {
  remove_file();
  ::shutdown(socket(), SHUT_RDWR);
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

}  // namespace clouddisk
