// address.h: where a server listens and a client connects: "unix:PATH", "tcp:HOST:PORT",
// "tcp:[::1]:PORT". Pure.
#pragma once

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

  static Address unix_socket(std::string path) { return {Kind::kUnix, std::move(path), {}, 0}; }
  static Address tcp(std::string host, std::uint16_t port) {
    return {Kind::kTcp, {}, std::move(host), port};
  }

  bool is_unix() const { return kind == Kind::kUnix; }
  std::string text() const;  // the form that parse_address() takes
};

// kInvalid says what would be accepted.
Result<Address> parse_address(std::string_view text);

// "d-1" at an address as an NBD URI (the NBD project's doc/uri.md). A server that listens on every
// interface is reached at localhost.
std::string nbd_uri(const Address& address, bool tls, std::string_view export_name);

}  // namespace clouddisk
