#include "tools/http/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/base/log.h"

namespace clouddisk {
namespace {

constexpr std::size_t kReceiveBytes = 16 * 1024;
constexpr Duration kSweepInterval = std::chrono::seconds(1);
constexpr Duration kStopGrace = std::chrono::seconds(2);  // for a request that is half here
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);
constexpr std::size_t kDrainBytesMax = 4 * 1024 * 1024;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

HttpServer::HttpServer(Ring& ring, Handler handler, Options options)
    : ring_(ring),
      handler_(std::move(handler)),
      options_(options),
      stop_signal_(ring),
      running_(ring) {}

HttpServer::~HttpServer() {
  CHECK(connections_.empty());
  CHECK(running_.count() == 0);
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(Ring& ring, std::vector<Address> addresses,
                                                      Handler handler, Options options) {
  std::unique_ptr<HttpServer> server(new HttpServer(ring, std::move(handler), options));
  for (Address& address : addresses) {
    auto listener = listen_on(address);
    if (!listener) {
      for (const Address& made : server->addresses_) {
        if (made.kind == Address::Kind::kUnix) ::unlink(made.path.c_str());
      }
      return listener.error();
    }
    server->listeners_.push_back(std::move(*listener));
    server->addresses_.push_back(address);
  }
  for (std::size_t i = 0; i < server->listeners_.size(); ++i) {
    server->running_.add();
    spawn(server->accept_loop(i));
  }
  server->running_.add();
  spawn(server->sweep());
  return server;
}

Task<void> HttpServer::stop() {
  stopping_ = true;
  for (const Socket& listener : listeners_) ::shutdown(listener.fd(), SHUT_RDWR);
  for (Connection& connection : connections_) {
    if (connection.serving) continue;
    if (connection.reading_request) {
      connection.deadline = std::min(connection.deadline, ring_.now() + kStopGrace);
    } else {
      ::shutdown(connection.socket.fd(), SHUT_RDWR);
    }
  }
  stop_signal_.wake_all();
  co_await running_.wait();
  for (const Address& address : addresses_) {
    if (address.kind == Address::Kind::kUnix) ::unlink(address.path.c_str());
  }
  listeners_.clear();
  addresses_.clear();
}

Task<void> HttpServer::accept_loop(std::size_t listener) {
  const int fd = listeners_[listener].fd();
  while (!stopping_) {
    const int accepted = co_await ring_.accept(fd);
    if (accepted >= 0) {
      Socket socket(accepted);
      if (stopping_) break;
      if (connections_.size() >= options_.connections_max) {
        turn_away(std::move(socket));
        continue;
      }
      connections_.push_back(
          {.socket = std::move(socket), .deadline = ring_.now() + options_.request_max});
      running_.add();
      spawn(run_connection(std::prev(connections_.end())));
    } else if (!stopping_) {
      // Out of descriptors or memory, or the client went away: let others finish first.
      if (accepted != -ECONNABORTED && accepted != -EINTR) {
        log(LogLevel::kWarning, "http", "accept on {}: {}", addresses_[listener].text(),
            errno_text(-accepted));
        co_await ring_.sleep_for(kAcceptPause);
      }
    }
  }
  running_.done();
}

void HttpServer::turn_away(Socket socket) {
  const std::string answer = encode_response(
      error_response(503, "ServiceUnavailable",
                     fmt::format("The server has its limit of {} connections; try again.",
                                 options_.connections_max),
                     "clouddiskd"),
      false);
  // Best effort: a client that does not take it at once gets a closed connection.
  [[maybe_unused]] const auto sent =
      ::send(socket.fd(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

Task<void> HttpServer::run_connection(ConnectionRef connection) {
  co_await converse(*connection);
  connections_.erase(connection);
  if (stopping_) stop_signal_.wake_all();
  running_.done();
}

Task<void> HttpServer::converse(Connection& connection) {
  HttpRequestParser parser(options_.limits);
  while (true) {
    auto request = parser.next();
    if (parser.problem()) {
      const int status = parser.problem()->status;
      const std::string code = status == 413   ? "RequestEntityTooLarge"
                               : status == 414 ? "RequestUriTooLong"
                                               : "InvalidParameter.Format";
      const HttpResponse response =
          error_response(status, code, parser.problem()->message, "clouddiskd");
      const bool sent = co_await send_all(connection, encode_response(response, false));
      if (sent) co_await drain(connection);
      co_return;
    }
    if (!request) {
      if (stopping_ && !parser.in_request()) co_return;
      if (parser.take_expect_continue()) {
        const bool sent = co_await send_all(connection, std::string(kContinue));
        if (!sent) co_return;
      }
      const bool more = co_await receive_more(connection, parser);
      if (!more) co_return;
      continue;
    }
    ++requests_;
    const bool keep_alive = request->keep_alive;
    connection.serving = true;
    const HttpResponse response = co_await handler_(std::move(*request));
    const bool stay = keep_alive && !stopping_;
    const bool sent = co_await send_all(connection, encode_response(response, stay));
    if (!sent || !stay) co_return;
    connection.reading_request = false;
    connection.deadline = ring_.now() + options_.idle_max;
  }
}

// False when the connection is over.
Task<bool> HttpServer::receive_more(Connection& connection, HttpRequestParser& parser) {
  std::array<std::byte, kReceiveBytes> chunk;
  const int received = co_await ring_.receive(connection.socket.fd(), chunk);
  if (received <= 0) co_return false;
  parser.feed({reinterpret_cast<const char*>(chunk.data()), static_cast<std::size_t>(received)});
  if (!connection.reading_request) {
    connection.reading_request = true;
    connection.deadline = ring_.now() + options_.request_max;
  }
  co_return true;
}

Task<bool> HttpServer::send_all(Connection& connection, std::string bytes) {
  connection.serving = false;
  connection.deadline = ring_.now() + options_.send_max;
  std::size_t done = 0;
  while (done < bytes.size()) {
    const iovec part{bytes.data() + done, bytes.size() - done};
    const int sent = co_await ring_.send(connection.socket.fd(), std::span<const iovec>(&part, 1));
    if (sent <= 0) co_return false;
    done += static_cast<std::size_t>(sent);
  }
  co_return true;
}

// Closing a socket with unread bytes makes the peer lose the answer; so the rest is read first.
Task<void> HttpServer::drain(Connection& connection) {
  ::shutdown(connection.socket.fd(), SHUT_WR);
  std::array<std::byte, kReceiveBytes> chunk;
  std::size_t drained = 0;
  while (drained < kDrainBytesMax) {
    const int received = co_await ring_.receive(connection.socket.fd(), chunk);
    if (received <= 0) break;
    drained += static_cast<std::size_t>(received);
  }
}

// Ends connections whose time is over.
Task<void> HttpServer::sweep() {
  while (!stopping_ || !connections_.empty()) {
    co_await stop_signal_.wait_until(ring_.now() + kSweepInterval);
    const TimePoint now = ring_.now();
    for (Connection& connection : connections_) {
      if (!connection.serving && connection.deadline < now) {
        ::shutdown(connection.socket.fd(), SHUT_RDWR);
      }
    }
  }
  running_.done();
}

}  // namespace clouddisk
