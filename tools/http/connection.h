// connection.h: one connection of the HTTP server: reads a request, hands it over, sends the
// answer, and again, until the client or a bound ends it. Only the server includes this.
//
// Thread: the server's, for every call; `request` is whoever serves it's until answer().
#pragma once

#include <atomic>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tools/http/server.h"
#include "tools/http/stream.h"

namespace clouddisk::http {

using Clock = std::chrono::steady_clock;
using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Executor>;

class Connection;
using Connections = std::list<std::shared_ptr<Connection>>;

// What a connection needs of its server.
class ConnectionOwner {
 public:
  explicit ConnectionOwner(HttpServer::Options bounds) : options(std::move(bounds)) {}
  virtual ~ConnectionOwner() = default;
  // Has `connection.request` served; answer() follows.
  virtual void serve(Connection& connection) = 0;
  // The connection is over; called once, last.
  virtual void leave(Connections::iterator connection) = 0;

  const HttpServer::Options options;
  bool stopping = false;
};

// Beast's parser, which bounds a head by its bytes alone: a field of three bytes takes a hundred
// once it is parsed.
class RequestParser final
    : public boost::beast::http::request_parser<boost::beast::http::string_body> {
 public:
  explicit RequestParser(std::size_t fields_max) : fields_left_(fields_max) {}

 private:
  void on_field_impl(boost::beast::http::field name, boost::beast::string_view name_text,
                     boost::beast::string_view value, error_code& error) override;

  std::size_t fields_left_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `tls`: null for one in the clear.
  Connection(boost::asio::io_context& io, ConnectionOwner& owner, Socket socket, const HttpTls* tls)
      : owner_(owner), stream_(std::move(socket), tls), deadline_(io) {}

  // Begins to read requests. `self`: for leave().
  void begin(Connections::iterator self);
  // Says that there are too many, and ends.
  void turn_away(Connections::iterator self);
  // With header `Connection: close` it is the last.
  void answer(HttpResponse response);
  // For a stop. Idle: no byte of a request is here, and nothing is to be sent.
  bool is_idle() const { return state_ == State::kReading && !started_; }
  bool is_serving() const { return state_ == State::kServing; }
  bool is_turned_away() const { return turned_away_; }
  void close();

  HttpRequest request;

 private:
  enum class State { kReading, kServing, kSending, kDraining };

  std::string_view received() const;
  void greeted();
  void shake_hands(void (Connection::*then)());
  void say_that_there_are_too_many();
  void next_request();
  void receive();
  void parse();
  void hand_over();
  void refuse(const HttpResponse& response);
  void send(std::string bytes, void (Connection::*then)());
  void answered();
  void finish();
  void drain();
  void leave();
  void expect_within(Duration time);

  ConnectionOwner& owner_;
  Stream stream_;
  Timer deadline_;  // of what is expected from the client; at it the socket is closed
  Connections::iterator self_;
  State state_ = State::kReading;
  boost::beast::flat_buffer buffer_;
  std::optional<RequestParser> parser_;
  std::string out_;
  bool turned_away_ = false;
  bool started_ = false;    // the request's first byte is here
  bool line_done_ = false;  // its first line is parsed
  bool continued_ = false;  // it has been told to send the body
  bool head_only_ = false;
  bool keep_alive_ = true;
  unsigned version_ = 11;
  std::size_t drained_ = 0;
};

}  // namespace clouddisk::http
