// tcp_client.h: an HTTP client that sends whatever it is told to, over one TCP connection that it
// keeps, and signs requests.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/control/control.h"
#include "engine/ring/listener.h"
#include "tools/auth/signer.h"

namespace clouddisk::e2e {

using Json = nlohmann::json;

struct TcpAnswer {
  int status = 0;  // 0: there was none
  std::string head;
  std::string body;

  std::string header(const std::string& lower_case_name) const;
  Json json() const { return Json::parse(body, nullptr, false); }
  std::string code() const;
};

class TcpClient {
 public:
  // Empty where nobody listens.
  static std::optional<TcpClient> connect(std::uint16_t port);

  // Sends the bytes as they are and reads one answer.
  TcpAnswer send(const std::string& bytes);
  TcpAnswer read_answer();
  bool write(const std::string& bytes);

  enum class Scheme { kV1Get, kV1Post, kV3 };
  TcpAnswer call(const std::string& action, Params params, const auth::Credentials& credentials,
                 Scheme scheme = Scheme::kV3);

  // The bytes of such a request. `now` and `nonce`: of the system when missing.
  std::string signed_request(const std::string& action, Params params,
                             const auth::Credentials& credentials, Scheme scheme,
                             std::optional<WallTime> now = {}, std::string nonce = {}) const;
  const std::string& host() const { return host_; }

 private:
  TcpClient(Socket socket, std::string host) : socket_(std::move(socket)), host_(std::move(host)) {}

  Socket socket_;
  std::string host_;
  std::string received_;
};

}  // namespace clouddisk::e2e
