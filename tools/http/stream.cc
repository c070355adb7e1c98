#include "tools/http/stream.h"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>

#include "tools/http/tls.h"

namespace clouddisk::http {

namespace asio = boost::asio;

struct Stream::Layer {
  Layer(Socket& below, asio::ssl::context& context) : encrypted(below, context) {}
  asio::ssl::stream<Socket&> encrypted;
};

Stream::Stream(Socket socket, const HttpTls* tls) : socket_(std::move(socket)) {
  if (tls == nullptr) return;
  layer_ = std::make_unique<Layer>(socket_, *static_cast<asio::ssl::context*>(tls->context()));
}

Stream::~Stream() = default;

void Stream::handshake(Done done) {
  layer_->encrypted.async_handshake(asio::ssl::stream_base::server, std::move(done));
}

void Stream::read_some(asio::mutable_buffer into, Transferred done) {
  if (!layer_) return socket_.async_read_some(into, std::move(done));
  layer_->encrypted.async_read_some(into, std::move(done));
}

void Stream::write(asio::const_buffer from, Transferred done) {
  if (!layer_) return asio::async_write(socket_, asio::buffer(from), std::move(done));
  asio::async_write(layer_->encrypted, asio::buffer(from), std::move(done));
}

void Stream::finish(Done done) {
  const auto end = [this, done = std::move(done)](const error_code&) {
    error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    done({});
  };
  if (!layer_) return asio::post(socket_.get_executor(), [end] { end({}); });
  // Ends when the peer has said the same, or sent anything else.
  layer_->encrypted.async_shutdown(end);
}

void Stream::drain_some(asio::mutable_buffer into, Transferred done) {
  socket_.async_read_some(into, std::move(done));
}

void Stream::close() {
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace clouddisk::http
