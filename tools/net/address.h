// address.h: where a server listens and a client connects: "unix:PATH" or "tcp:HOST:PORT".
// Any thread. The calls block only as long as the kernel needs; name look-ups take literal
// addresses and names of /etc/hosts as well as DNS.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace clouddisk {

struct Address {
  enum class Kind { kUnix, kTcp };
  Kind kind = Kind::kUnix;
  std::string path;        // kUnix
  std::string host;        // kTcp; without the brackets of an IPv6 address
  std::uint16_t port = 0;  // kTcp; 0: the kernel chooses when listening

  std::string text() const;  // the form that parse_address() takes
};

// kInvalid says what would be accepted.
Result<Address> parse_address(std::string_view text);

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
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void close();

 private:
  int fd_ = -1;
};

// A listening stream socket. A unix socket's file gets mode 0660; a file left behind by a process
// that is gone is replaced, one that somebody still serves is kExists. `address.port` is filled in
// when it was 0.
Result<Socket> listen_on(Address& address);

// Blocks up to `timeout`. kNotFound: no socket file; kShutdown: nobody listens there.
Result<Socket> connect_to(const Address& address, std::chrono::milliseconds timeout);

}  // namespace clouddisk
