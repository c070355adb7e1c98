// signer.h: signs requests, as the cloud's client libraries do. Pure: time and nonce are arguments.
#pragma once

#include <string>
#include <string_view>

#include "engine/base/units.h"
#include "engine/control/control.h"
#include "tools/http/message.h"

namespace clouddisk::auth {

struct Credentials {
  std::string key_id;
  std::string secret;
};

// Version 1: adds the signature's parameters to those of a request with `method`, "GET" or "POST".
void sign_v1(Params& params, std::string_view method, const Credentials& credentials, WallTime now,
             std::string_view nonce);

// Version 3: adds the signature's headers. The request has its host header already, and "Action"
// and "Version" are not among its parameters.
void sign_v3(HttpRequest& request, std::string_view action, const Credentials& credentials,
             WallTime now, std::string_view nonce);

}  // namespace clouddisk::auth
