// server.h: an HTTP/1.1 server for the action API and for metrics: Boost.Beast on a thread of its
// own, whose handlers are coroutines of a ring.
//
// Why Beast: its parser names what is wrong and leaves the answer to us, so that even what is not
// HTTP gets the API's error body, and every bound is ours. (libmicrohttpd answers malformed
// requests itself, with a page of HTML or not at all; cpp-httplib is built with a request line of 8
// KiB.)
//
// Thread: calls and handlers run on the ring's thread; sockets and parsing on the server's. They
// meet by
//   Ring::post() and asio::post() alone. connections() and requests() may be read anywhere.
// Bounded: connections, the time of a TLS handshake, head, header fields and body of a request, the
// time in which a request has to arrive whole, the
//   time in which an answer has to be taken, and the time a connection may idle. A connection has
//   one request under way; further ones wait in the socket.
// Ownership: borrows the ring; wait for stop() before destroying it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/ring/address.h"
#include "engine/ring/ring.h"
#include "tools/http/message.h"

namespace clouddisk {

class HttpTls;

class HttpServer {
 public:
  // Called for each request; the answer goes back as it is. Must not fail.
  using Handler = std::function<Task<HttpResponse>(HttpRequest)>;

  struct Options {
    std::uint32_t head_bytes_max = 128 * 1024;  // a request line may hold 100 ids and 20 tags
    std::size_t fields_max = 200;               // of a head and a chunked body's trailer together
    std::uint64_t body_bytes_max = 1024 * 1024;
    std::size_t connections_max = 512;
    Duration handshake_max = std::chrono::seconds(10);  // of TLS
    Duration idle_max = std::chrono::seconds(75);       // between requests
    Duration request_max = std::chrono::seconds(15);    // from a request's first byte to its last
    Duration send_max = std::chrono::seconds(15);       // for the client to take an answer
    // Listened on as well, behind the others; nothing but TLS is spoken there.
    std::vector<Address> tls_addresses{};
    std::shared_ptr<const HttpTls> tls{};  // not null if there are any
  };

  // Listens on every address and serves. Fails when one can't be listened on; then none is.
  static Result<std::unique_ptr<HttpServer>> start(Ring& ring,
                                                   const std::vector<Address>& addresses,
                                                   Handler handler, Options options);
  ~HttpServer();

  // Takes no more connections, answers what is under way, gives a request that is half here two
  // seconds, closes idle connections, and removes the socket files.
  Task<void> stop();

  // As they are listened on, those of TLS last: a port that was 0 is filled in.
  const std::vector<Address>& addresses() const;
  std::size_t connections() const;
  std::uint64_t requests() const;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace clouddisk
