#include "tests/tools/e2e/tcp_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>

#include "tools/http/message.h"

namespace clouddisk::e2e {

std::string TcpAnswer::header(const std::string& lower_case_name) const {
  std::string lower = head;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const auto at = lower.find("\r\n" + lower_case_name + ": ");
  if (at == std::string::npos) return {};
  const auto begin = at + lower_case_name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

std::string TcpAnswer::code() const {
  const Json parsed = json();
  return parsed.is_object() ? parsed.value("Code", "") : "not JSON";
}

std::optional<TcpClient> TcpClient::connect(std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // A server that does not answer fails a test instead of stopping it.
  const timeval patience{30, 0};
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) return {};
  return TcpClient(std::move(socket), "127.0.0.1:" + std::to_string(port));
}

bool TcpClient::write(const std::string& bytes) {
  std::string_view left = bytes;
  while (!left.empty()) {
    const ssize_t sent = ::send(socket_.fd(), left.data(), left.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    left.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

TcpAnswer TcpClient::read_answer() {
  TcpAnswer answer;
  const auto read_until = [this](auto complete) {
    while (!complete()) {
      char chunk[16384];
      const ssize_t got = ::recv(socket_.fd(), chunk, sizeof chunk, 0);
      if (got <= 0) return false;
      received_.append(chunk, static_cast<std::size_t>(got));
    }
    return true;
  };
  if (!read_until([this] { return received_.find("\r\n\r\n") != std::string::npos; })) return {};
  const auto head_size = received_.find("\r\n\r\n") + 4;
  answer.head = received_.substr(0, head_size);
  std::size_t body_size = 0;
  const std::string length = answer.header("content-length");
  std::from_chars(length.data(), length.data() + length.size(), body_size);
  if (!read_until([&] { return received_.size() >= head_size + body_size; })) return {};
  answer.body = received_.substr(head_size, body_size);
  received_.erase(0, head_size + body_size);
  std::from_chars(answer.head.data() + 9, answer.head.data() + 12, answer.status);
  return answer;
}

TcpAnswer TcpClient::send(const std::string& bytes) {
  if (!write(bytes)) return {};
  return read_answer();
}

std::string TcpClient::signed_request(const std::string& action, Params params,
                                      const auth::Credentials& credentials, Scheme scheme,
                                      std::optional<WallTime> now, std::string nonce) const {
  if (!now) now = std::chrono::system_clock::now();
  if (nonce.empty()) nonce = make_request_id();
  HttpRequest request;
  request.path = "/";
  request.headers.emplace_back("host", host_);
  request.method = scheme == Scheme::kV1Get ? "GET" : "POST";
  if (scheme == Scheme::kV3) {
    request.query = encode_form(params);
    auth::sign_v3(request, action, credentials, *now, nonce);
  } else {
    params["Action"] = action;
    params.try_emplace("Version", "2014-05-26");
    auth::sign_v1(params, request.method, credentials, *now, nonce);
    if (scheme == Scheme::kV1Get) request.query = encode_form(params);
    if (scheme == Scheme::kV1Post) {
      request.body = encode_form(params);
      request.headers.emplace_back("content-type", "application/x-www-form-urlencoded");
    }
  }
  std::string bytes = request.method + " /?" + request.query + " HTTP/1.1\r\n";
  for (const auto& [name, value] : request.headers) bytes += name + ": " + value + "\r\n";
  return bytes + "content-length: " + std::to_string(request.body.size()) + "\r\n\r\n" +
         request.body;
}

TcpAnswer TcpClient::call(const std::string& action, Params params,
                          const auth::Credentials& credentials, Scheme scheme) {
  return send(signed_request(action, std::move(params), credentials, scheme));
}

}  // namespace clouddisk::e2e
