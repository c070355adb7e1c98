// server.h: listens, negotiates, and gives each connection to the ring of the disk it chose.
//
// Thread: create(), start(), add_export(), remove_export() and stop() on the server's ring.
// Sessions run
//   on the rings of their devices; counters may be read anywhere.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nbd/listen_address.h"
#include "nbd/session.h"
#include "nbd/tls.h"

namespace clouddisk::nbd {

struct ServerOptions {
  std::vector<ListenAddress> addresses;
  std::shared_ptr<TlsCredentials> tls;  // null: no TLS
  bool tls_required = false;            // on TCP; a unix socket's file has permissions
  unsigned connections_max = 1024;
  Duration negotiation_max = std::chrono::seconds(10);
  Duration drain_max = std::chrono::seconds(10);  // for requests under way when an export goes
};

class Server {
 public:
  // Binds every address; nothing is accepted before start().
  static Result<std::unique_ptr<Server>> create(Ring& ring, ServerOptions options);
  ~Server();  // after stop()

  void start();

  struct Export {
    std::string name;
    std::string description;
    std::shared_ptr<BlockDevice> device;
  };
  // kExists when there is one of that name.
  Result<void> add_export(Export added);
  // New clients are refused; sessions answer what is under way and end. On return no call on the
  // device is under way, and none will come. Fine if there is no such export.
  Task<Result<void>> remove_export(std::string name);
  bool has_export(const std::string& name) const { return exports_.count(name) != 0; }
  std::uint64_t sessions_of(const std::string& name) const;

  // Stops listening, removes every export, waits for negotiations to end.
  Task<void> stop();

  const Counters& counters() const { return counters_; }
  const std::vector<ListenAddress>& addresses() const { return options_.addresses; }

 private:
  struct Served;
  Server(Ring& ring, ServerOptions options);
  Task<void> accept_clients(std::size_t index);
  Task<void> serve_client(int socket, bool on_unix);
  Task<Result<std::unique_ptr<Stream>>> start_tls(int socket);
  Task<Result<void>> run_session(int socket, std::unique_ptr<Stream> stream, Agreement agreement);
  Task<void> hang_up_after(std::shared_ptr<bool> done, int socket);

  Ring& ring_;
  ServerOptions options_;
  std::vector<int> listeners_;
  std::map<std::string, std::shared_ptr<Served>> exports_;
  Counters counters_;
  WaitGroup clients_;
  WaitGroup accepting_;
  std::map<int, bool> negotiating_;  // sockets that have not chosen an export yet
  TimePoint complained_{};
  bool stopping_ = false;
};

}  // namespace clouddisk::nbd
