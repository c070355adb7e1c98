// listen_address.h: where the server listens: "unix:PATH", "tcp:HOST:PORT", "tcp:[::1]:PORT".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "nbd/tls_config.h"

namespace clouddisk::nbd {

struct ListenAddress {
  bool is_unix = false;
  std::string path;  // unix
  std::string host;  // tcp
  std::uint16_t port = 0;
  unsigned mode = 0660;          // of the unix socket's file
  std::optional<TlsPolicy> tls;  // unset: as ServerOptions says

  // kInvalid says what would be accepted.
  static Result<ListenAddress> parse(std::string_view text);
  std::string to_string() const;
};

// A listening socket; closing it removes the unix socket's file, if it is still its own.
class Listener {
 public:
  // Close-on-exec. A stale unix socket file is replaced; one that somebody listens on is kBusy, and
  // a path that is no socket is kExists: it is left alone. Accepted TCP sockets send at once and
  // find out within two minutes when their client is gone.
  static Result<Listener> open(const ListenAddress& address);
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  int socket() const { return socket_; }
  const ListenAddress& address() const { return address_; }

 private:
  Listener(int socket, ListenAddress address);

  int socket_;
  ListenAddress address_;
  std::uint64_t device_ = 0;  // of the unix socket's file
  std::uint64_t inode_ = 0;
};

// Who is at the other end, for log lines: "pid 17 uid 0", "192.0.2.7:41234".
std::string peer_name(int socket);

}  // namespace clouddisk::nbd
