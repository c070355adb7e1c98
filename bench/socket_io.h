// socket_io.h: blocking sends and receives of whole byte strings, and unix sockets, for the
// programs here that speak NBD by themselves. Errors are values; no state.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "engine/base/result.h"

namespace clouddisk::bench {

// A file descriptor with one owner; -1: none.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  int get() const { return number_; }

 private:
  int number_ = -1;
};

// A stream socket that is connected to, or listens at, a path.
Result<Descriptor> connect_unix(const std::string& path);
// A socket that a server left behind at the path is replaced.
Result<Descriptor> listen_unix(const std::string& path);

// All of it, or false: the peer left, or the socket failed.
bool send_all(int socket, std::span<const std::byte> bytes);
bool receive_all(int socket, std::span<std::byte> into);

}  // namespace clouddisk::bench
