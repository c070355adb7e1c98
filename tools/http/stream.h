// stream.h: the bytes of one connection of the HTTP server, in the clear or through TLS. Only the
// server's connection includes this. Thread: the server's. One operation at a time.
#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

namespace clouddisk {
class HttpTls;
}

namespace clouddisk::http {

using Executor = boost::asio::io_context::executor_type;
using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol, Executor>;
using boost::system::error_code;

class Stream {
 public:
  using Transferred = std::function<void(const error_code&, std::size_t)>;
  using Done = std::function<void(const error_code&)>;

  // `tls`: null for plain bytes; else it outlives the stream.
  Stream(Socket socket, const HttpTls* tls);
  ~Stream();

  bool is_encrypted() const { return layer_ != nullptr; }
  // Before anything else where it is encrypted.
  void handshake(Done done);
  void read_some(boost::asio::mutable_buffer into, Transferred done);
  // All of it.
  void write(boost::asio::const_buffer from, Transferred done);
  // Says that nothing more is sent. What comes then is read by drain_some() alone.
  void finish(Done done);
  // Whatever the peer sends, as it comes from the socket.
  void drain_some(boost::asio::mutable_buffer into, Transferred done);
  // Operations under way end with an error. Fine if it is closed.
  void close();
  int descriptor() { return socket_.native_handle(); }

 private:
  struct Layer;
  Socket socket_;
  std::unique_ptr<Layer> layer_;
};

}  // namespace clouddisk::http
