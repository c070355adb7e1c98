#include "tools/http/connection.h"

#include <algorithm>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/serializer.hpp>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/ring/listener.h"

namespace clouddisk::http {
namespace {

namespace beast = boost::beast;

constexpr std::size_t kReceiveBytes = 16 * 1024;
constexpr std::size_t kDrainBytesMax = 4 * 1024 * 1024;
constexpr std::string_view kServer = "clouddiskd";
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

std::string text_of(boost::string_view view) {
  return {view.data(), view.size()};
}

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return text;
}

HttpResponse bad_request(std::string_view message) {
  return error_response(400, "InvalidParameter.Format", message, kServer);
}

// For a request that the parser does not take. `in_line`: its first line is not over.
HttpResponse refusal_of(const error_code& error, bool in_line, const HttpServer::Options& options) {
  if (error == beast::http::error::body_limit) {
    return error_response(413, "RequestEntityTooLarge",
                          fmt::format("A body may have {} bytes.", options.body_bytes_max),
                          kServer);
  }
  if (error == beast::http::error::header_limit) {
    return error_response(in_line ? 414 : 431,
                          in_line ? "RequestUriTooLong" : "InvalidParameter.Format",
                          fmt::format("A head may have {} bytes and {} fields.",
                                      options.head_bytes_max, options.fields_max),
                          kServer);
  }
  if (error == beast::http::error::bad_version) {
    return error_response(505, "InvalidParameter.Format",
                          "Only HTTP/1.1 and HTTP/1.0 are spoken here.", kServer);
  }
  return bad_request(fmt::format("This is no request of HTTP/1.1: {}.", error.message()));
}

bool ends_connection(const std::pair<std::string, std::string>& header) {
  return beast::iequals(header.first, "connection") && beast::iequals(header.second, "close");
}

// The parsed message in our form; or, when it can't be served, the answer.
template <class Message>
std::optional<HttpResponse> take(Message& message, HttpRequest& request) {
  const std::string target = text_of(message.target());
  if (!target.starts_with('/')) return bad_request("The request target does not begin with '/'.");
  const auto question = target.find('?');
  auto path = percent_decode(target.substr(0, question), false);
  if (!path) return bad_request("The request's path is not percent-encoded UTF-8.");
  request.method = text_of(message.method_string());
  request.path = std::move(*path);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  for (const auto& field : message) {
    request.headers.emplace_back(lower(text_of(field.name_string())), text_of(field.value()));
  }
  const std::string* coding = request.header("transfer-encoding");
  if (coding != nullptr && lower(*coding) != "chunked") {
    return error_response(501, "InvalidParameter.Format", "The only transfer encoding is chunked.",
                          kServer);
  }
  request.body = std::move(message.body());
  return std::nullopt;
}

std::string encode(HttpResponse response, unsigned version, bool head_only, bool keep_alive) {
  beast::http::response<beast::http::string_body> message(
      static_cast<beast::http::status>(response.status), version);
  message.set(beast::http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) message.insert(name, value);
  message.keep_alive(keep_alive);
  message.content_length(response.body.size());
  if (!head_only) message.body() = std::move(response.body);
  beast::http::response_serializer<beast::http::string_body> serializer(message);
  std::string bytes;
  error_code error;
  do {
    serializer.next(error, [&](error_code&, const auto& parts) {
      const std::size_t before = bytes.size();
      for (const boost::asio::const_buffer part : beast::buffers_range_ref(parts)) {
        bytes.append(static_cast<const char*>(part.data()), part.size());
      }
      serializer.consume(bytes.size() - before);
    });
    CHECK(!error);
  } while (!serializer.is_done());
  return bytes;
}

}  // namespace

void RequestParser::on_field_impl(beast::http::field name, beast::string_view name_text,
                                  beast::string_view value, error_code& error) {
  if (fields_left_ == 0) {
    error = beast::http::error::header_limit;
    return;
  }
  --fields_left_;
  get().insert(name, name_text, value);
}

void Connection::begin(Connections::iterator self) {
  self_ = self;
  if (stream_.is_encrypted()) return shake_hands(&Connection::greeted);
  greeted();
}

void Connection::greeted() {
  expect_within(owner_.options.request_max);
  next_request();
}

void Connection::shake_hands(void (Connection::*then)()) {
  expect_within(owner_.options.handshake_max);
  stream_.handshake([self = shared_from_this(), then](const error_code& error) {
    if (!error) return (self.get()->*then)();
    log(LogLevel::kDebug, "http", "a TLS handshake failed: {}", error.message());
    self->leave();
  });
}

void Connection::turn_away(Connections::iterator self) {
  self_ = self;
  turned_away_ = true;
  if (stream_.is_encrypted()) return shake_hands(&Connection::say_that_there_are_too_many);
  say_that_there_are_too_many();
}

void Connection::say_that_there_are_too_many() {
  refuse(error_response(503, "ServiceUnavailable",
                        fmt::format("The server has its limit of {} connections; try again.",
                                    owner_.options.connections_max),
                        kServer));
}

void Connection::close() {
  stream_.close();
  deadline_.cancel();
}

void Connection::expect_within(Duration time) {
  deadline_.expires_after(time);
  deadline_.async_wait([self = shared_from_this()](const error_code& error) {
    // An expiry that was under way when the deadline moved does not count.
    if (!error && self->deadline_.expiry() <= Clock::now()) self->close();
  });
}

std::string_view Connection::received() const {
  return {static_cast<const char*>(buffer_.data().data()), buffer_.size()};
}

void Connection::next_request() {
  state_ = State::kReading;
  started_ = false;
  line_done_ = false;
  continued_ = false;
  head_only_ = false;  // A refusal of it is no answer to the one before.
  version_ = 11;
  parser_.emplace(owner_.options.fields_max);
  parser_->eager(true);
  parser_->header_limit(owner_.options.head_bytes_max);
  parser_->body_limit(owner_.options.body_bytes_max);
  if (buffer_.size() == 0) return receive();
  parse();
}

void Connection::receive() {
  stream_.read_some(buffer_.prepare(kReceiveBytes),
                    [self = shared_from_this()](const error_code& error, std::size_t count) {
                      if (error) return self->leave();
                      self->buffer_.commit(count);
                      self->parse();
                    });
}

void Connection::parse() {
  if (!started_) {
    started_ = true;
    expect_within(owner_.options.request_max);
  }
  // Empty lines before a request are allowed by the standard and sent by some clients.
  while (!parser_->got_some() && received().starts_with("\r\n")) buffer_.consume(2);
  if (!parser_->got_some() && received() == "\r") return receive();
  while (buffer_.size() > 0 && !parser_->is_done()) {
    const bool in_line = !line_done_ && received().find('\n') == std::string_view::npos;
    error_code error;
    const std::size_t taken = parser_->put(buffer_.data(), error);
    buffer_.consume(taken);
    line_done_ = line_done_ || taken > 0;
    if (error == beast::http::error::need_more) break;
    if (error) return refuse(refusal_of(error, in_line, owner_.options));
  }
  if (parser_->is_done()) return hand_over();
  if (parser_->is_header_done() && !continued_ &&
      beast::iequals(parser_->get()[beast::http::field::expect], "100-continue")) {
    continued_ = true;
    return send(std::string(kContinue), &Connection::receive);
  }
  receive();
}

void Connection::hand_over() {
  auto message = parser_->release();
  keep_alive_ = message.keep_alive();
  version_ = message.version();
  head_only_ = message.method() == beast::http::verb::head;
  request = {};
  request.peer = peer_name(stream_.descriptor());
  if (auto problem = take(message, request)) return refuse(*problem);
  state_ = State::kServing;
  deadline_.expires_at(Clock::time_point::max());  // The client has done its part.
  owner_.serve(*this);
}

void Connection::answer(HttpResponse response) {
  if (std::any_of(response.headers.begin(), response.headers.end(), ends_connection)) {
    return refuse(response);
  }
  state_ = State::kSending;
  keep_alive_ = keep_alive_ && !owner_.stopping;
  expect_within(owner_.options.send_max);
  send(encode(std::move(response), version_, head_only_, keep_alive_), &Connection::answered);
}

void Connection::answered() {
  if (!keep_alive_ || owner_.stopping) return stream_.is_encrypted() ? finish() : leave();
  expect_within(owner_.options.idle_max);
  next_request();
}

// The connection is of no more use after this.
void Connection::refuse(const HttpResponse& response) {
  state_ = State::kDraining;
  expect_within(owner_.options.send_max);
  send(encode(response, version_, head_only_, false), &Connection::finish);
}

void Connection::send(std::string bytes, void (Connection::*then)()) {
  out_ = std::move(bytes);
  stream_.write(boost::asio::buffer(out_),
                [self = shared_from_this(), then](const error_code& error, std::size_t) {
                  if (error) return self->leave();
                  (self.get()->*then)();
                });
}

// Closing a socket with unread bytes makes the peer lose the answer; so the rest is read first.
void Connection::finish() {
  state_ = State::kDraining;
  stream_.finish([self = shared_from_this()](const error_code&) { self->drain(); });
}

void Connection::drain() {
  buffer_.clear();
  stream_.drain_some(buffer_.prepare(kReceiveBytes),
                     [self = shared_from_this()](const error_code& error, std::size_t count) {
                       self->drained_ += count;
                       if (error || self->drained_ > kDrainBytesMax) return self->leave();
                       self->drain();
                     });
}

void Connection::leave() {
  close();
  owner_.leave(self_);
}

}  // namespace clouddisk::http
