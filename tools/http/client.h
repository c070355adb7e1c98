// client.h: one blocking HTTP request on a connection of its own; what the command line needs.
#pragma once

#include <chrono>
#include <string>

#include "engine/base/result.h"
#include "engine/ring/address.h"

namespace clouddisk {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// Sends `form` (application/x-www-form-urlencoded) by POST and reads the whole answer. Proxies
// named in the environment are passed by. kNotFound, kShutdown, kPermission: there is nobody to
// ask, or we may not. kTimedOut: no complete answer in `timeout`; the request may have been carried
// out. kIo: the connection broke.
Result<HttpAnswer> http_post(const Address& address, const std::string& path,
                             const std::string& form, std::chrono::milliseconds timeout);
Result<HttpAnswer> http_get(const Address& address, const std::string& path,
                            std::chrono::milliseconds timeout);

}  // namespace clouddisk
