// listen_address.h: where the server listens: "unix:PATH", "tcp:HOST:PORT", "tcp:[::1]:PORT".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace clouddisk::nbd {

struct ListenAddress {
  bool is_unix = false;
  std::string path;  // unix
  std::string host;  // tcp
  std::uint16_t port = 0;

  // kInvalid says what would be accepted.
  static Result<ListenAddress> parse(std::string_view text);
  std::string to_string() const;
  // A listening socket, close-on-exec. A stale unix socket file is replaced; one that somebody
  // listens on is kBusy.
  Result<int> listen() const;
};

}  // namespace clouddisk::nbd
