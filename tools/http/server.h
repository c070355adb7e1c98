// server.h: a small HTTP/1.1 server on a ring, for the action API and for metrics.
//
// Why not a library: Debian's cpp-httplib is compiled with a request line of 8 KiB and a backlog of
// 5, and the cloud's clients send longer lines and many connections; here every bound is ours.
//
// Thread: the ring's, for every call and for the handler. Bounded: connections, head and body of a
// request, time for a request to arrive, time a connection may idle. A connection has one request
// under way; further ones wait in the socket.
// Ownership: borrows the ring; wait for stop() before destroying it.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "engine/ring/ring.h"
#include "engine/ring/sync.h"
#include "tools/http/message.h"
#include "tools/net/address.h"

namespace clouddisk {

class HttpServer {
 public:
  // Called for each request; the answer goes back as it is. Must not fail.
  using Handler = std::function<Task<HttpResponse>(HttpRequest)>;

  struct Options {
    HttpLimits limits;
    std::size_t connections_max = 512;
    Duration idle_max = std::chrono::seconds(75);     // between requests
    Duration request_max = std::chrono::seconds(15);  // from a request's first byte to its last
    Duration send_max = std::chrono::seconds(15);     // for the client to take an answer
  };

  // Listens on every address and serves. Fails when one can't be listened on; then none is.
  static Result<std::unique_ptr<HttpServer>> start(Ring& ring, std::vector<Address> addresses,
                                                   Handler handler, Options options);
  ~HttpServer();

  // Takes no more connections, answers what is under way, closes idle connections, and removes the
  // socket files.
  Task<void> stop();

  // As they are listened on: a port that was 0 is filled in.
  const std::vector<Address>& addresses() const { return addresses_; }
  std::size_t connections() const { return connections_.size(); }
  std::uint64_t requests() const { return requests_; }

 private:
  struct Connection {
    Socket socket;
    TimePoint deadline;
    bool serving = false;  // a handler is at work: the deadline does not count
    bool reading_request = false;
  };
  using ConnectionRef = std::list<Connection>::iterator;

  HttpServer(Ring& ring, Handler handler, Options options);
  Task<void> accept_loop(std::size_t listener);
  Task<void> run_connection(ConnectionRef connection);
  Task<void> converse(Connection& connection);
  Task<bool> receive_more(Connection& connection, HttpRequestParser& parser);
  Task<bool> send_all(Connection& connection, std::string bytes);
  Task<void> drain(Connection& connection);
  Task<void> sweep();
  void turn_away(Socket socket);

  Ring& ring_;
  Handler handler_;
  Options options_;
  std::vector<Address> addresses_;
  std::vector<Socket> listeners_;
  std::list<Connection> connections_;
  std::uint64_t requests_ = 0;
  bool stopping_ = false;
  Signal stop_signal_;
  WaitGroup running_;
};

}  // namespace clouddisk
