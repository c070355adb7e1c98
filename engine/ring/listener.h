// listener.h: sockets that listen, and descriptors with one owner.
// Any thread. The calls block only as long as the kernel needs; name look-ups take literal
// addresses and names of /etc/hosts as well as DNS.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "engine/ring/address.h"

namespace clouddisk {

// A descriptor with one owner.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { close(); }

  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void close();

 private:
  int fd_ = -1;
};

// A listening socket; closing it removes the unix socket's file, if it is still its own.
class Listener {
 public:
  // Close-on-exec. A unix socket's file gets mode 0660 and nobody connects before it has it; a
  // stale one is replaced, and a path that is no socket is kExists: it is left alone. kBusy:
  // somebody still listens there after a second of waiting. Accepted TCP sockets send at once and
  // find out within two minutes when their client is gone.
  static Result<Listener> open(Address address);
  Listener(Listener&& other) noexcept = default;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  int socket() const { return socket_.fd(); }
  const Address& address() const { return address_; }  // a port that was 0 is filled in
  // Refuses clients from now on, ends what waits for one, and leaves the path to others.
  void shut();

 private:
  Listener(Socket socket, Address address);
  void remove_file();

  Socket socket_;
  Address address_;
  std::uint64_t device_ = 0;  // of the unix socket's file
  std::uint64_t inode_ = 0;   // 0: there is none, or it was removed
};

// Who is at the other end, for log lines: "pid 17 uid 0", "192.0.2.7:41234".
std::string peer_name(int socket);

}  // namespace clouddisk
