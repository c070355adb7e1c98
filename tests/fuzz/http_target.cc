// http_target.cc: a client of the HTTP server that sends anything: a real connection over a pair of
// sockets, and the handler behind it, down to typed parameters. What comes back must be HTTP.
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/local/stream_protocol.hpp>

#include "engine/base/bytes.h"
#include "engine/control/params.h"
#include "engine/ring/sim_ring.h"
#include "tests/fuzz/fuzz_target.h"
#include "tools/clouddiskd/api_handler.h"
#include "tools/http/connection.h"

namespace clouddisk::fuzz {
namespace {

using Boost = boost::asio::generic::stream_protocol;

// Reads every parameter as every type; the answer repeats some.
Reply read_all(const Params& params) {
  ParamReader reader(params);
  std::string texts;
  for (const auto& [name, value] : params) {
    texts += reader.text(name);
    static_cast<void>(reader.number(name, 1));
    static_cast<void>(reader.optional_boolean(name));
    static_cast<void>(reader.json_list(name, 10, 400, "InvalidParameter"));
    const std::string first = name.substr(0, name.find('.'));
    static_cast<void>(reader.list(first));
    static_cast<void>(reader.structures(first));
  }
  static_cast<void>(reader.tags());
  static_cast<void>(parameters_checksum(params));
  if (params.size() > kParamsMax) return {200, R"({"RequestId":"1"})"};
  Params again;
  CHECK(add_form_params(encode_form(params), again).has_value());
  CHECK(again == params);
  return {200, R"({"RequestId":"1"})"};
}

class Owner final : public http::ConnectionOwner {
 public:
  Owner() : ConnectionOwner(bounds()), machine_(1), ring_(machine_) {
    ApiHandler::Parts parts;
    parts.perform = [](Params params, Caller) -> Task<Reply> { co_return read_all(params); };
    parts.metrics = []() -> Task<std::string> { co_return "up 1\n"; };
    parts.verify =
        [this](const HttpRequest& request) -> Task<std::variant<ApiHandler::Verified, Refusal>> {
      co_return verifier_.verify(request, WallTime(std::chrono::seconds(1'767'225'600)));
    };
    parts.throttle = [](const std::string&) { return std::optional<Duration>(); };
    parts.use_nonce = [](const ApiHandler::Verified&) -> Task<Verdict> { co_return std::nullopt; };
    handler_ = std::make_unique<ApiHandler>(std::move(parts));
  }
  void serve(http::Connection& connection) override {
    // Nobody guesses a signature.
    CHECK(ring_.block_on(handler_->handle_signed(connection.request)).status >= 400);
    connection.answer(ring_.block_on(handler_->handle(std::move(connection.request))));
  }
  void leave(http::Connections::iterator) override { over = true; }

  bool over = false;

 private:
  static HttpServer::Options bounds() {
    HttpServer::Options bounds;
    bounds.head_bytes_max = 4096;
    bounds.body_bytes_max = 8192;
    return bounds;
  }
  auth::SignatureVerifier verifier_{
      [](std::string_view) { return auth::AccessKey{"0123456789abcdef"}; }};
  SimMachine machine_;
  SimRing ring_;
  std::unique_ptr<ApiHandler> handler_;
};

}  // namespace

FUZZ_TARGET(http) {
  int pair[2];
  CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  std::string answers;
  {
    boost::asio::io_context io(1);
    Owner owner;
    http::Connections connections;
    http::Socket socket(io.get_executor(), Boost(AF_UNIX, SOCK_STREAM), pair[0]);
    connections.push_back(
        std::make_shared<http::Connection>(io, owner, std::move(socket), nullptr));
    connections.front()->begin(connections.begin());
    Input left = input;
    bool ended = false;
    for (unsigned idle = 0; !owner.over && idle < 1000; ++idle) {
      if (!left.empty()) {
        const auto sent = ::send(pair[1], left.data(), left.size(), MSG_NOSIGNAL);
        if (sent > 0) left = left.subspan(static_cast<std::size_t>(sent));
        if (sent < 0 && errno != EAGAIN) left = {};
      }
      if (left.empty() && !std::exchange(ended, true)) ::shutdown(pair[1], SHUT_WR);
      io.restart();
      if (io.poll() > 0) idle = 0;
      std::array<char, 4096> buffer;
      for (ssize_t got = 0; (got = ::recv(pair[1], buffer.data(), buffer.size(), 0)) > 0;) {
        answers.append(buffer.data(), static_cast<std::size_t>(got));
        idle = 0;
      }
    }
    CHECK(owner.over);
    connections.clear();
    io.restart();
    io.poll();
  }
  ::close(pair[1]);
  CHECK(answers.empty() || answers.starts_with("HTTP/1."));
}

}  // namespace clouddisk::fuzz
