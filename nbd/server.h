// server.h: listens, negotiates, and gives each connection to the ring of the disk it chose.
//
// Thread: the server's ring makes every call; sessions run on the rings of their devices, and
//   counters() may be read anywhere.
// Ownership: borrows its ring; exports share their devices until remove_export() returns.
// Errors: values. A client's errors end its own connection and are logged here.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/ring/listener.h"
#include "nbd/meta_context.h"
#include "nbd/metrics.h"
#include "nbd/payload_budget.h"
#include "nbd/session.h"
#include "nbd/tls_config.h"

namespace clouddisk::nbd {

struct ListenAddress {
  Address where;
  std::optional<TlsPolicy> tls;  // unset: as ServerOptions says
};

struct ServerOptions {
  std::vector<ListenAddress> addresses;
  std::shared_ptr<TlsCredentials> tls;  // null: no TLS
  bool tls_required = false;            // on TCP; a unix socket's file has permissions
  unsigned connections_max = 1024;
  Duration negotiation_max = std::chrono::seconds(10);
  Duration drain_max = std::chrono::seconds(10);  // for requests under way when an export goes
  // A client that moves no byte for so long while others wait for the memory it holds is cut off.
  Duration stall_max = std::chrono::seconds(3);
};

class Server {
 public:
  // Binds every address (a port that is 0 becomes what the kernel chose); nothing is accepted
  // before start(). Has the process ignore SIGPIPE, unless it handles it.
  static Result<std::unique_ptr<Server>> create(Ring& ring, ServerOptions options);
  ~Server();  // after stop()

  void start();

  struct Export {
    std::string name;
    std::string description;
    std::shared_ptr<BlockDevice> device;
    std::shared_ptr<MetaContextSource> contexts;  // beside base:allocation; may be null
  };
  // kExists when there is one of that name; kInvalid for a name that no client could ask for.
  Result<void> add_export(Export added);
  // New clients are refused; sessions answer what they have begun and end. Clients that don't take
  // their answers within drain_max are cut off. On return no call on the device is under way, none
  // will come, and the server shares it no more. Fine if there is no such export.
  Task<Result<void>> remove_export(std::string name);
  bool has_export(const std::string& name) const { return exports_.count(name) != 0; }
  std::uint64_t sessions_of(const std::string& name) const;

  // Stops listening, removes every export, waits for negotiations to end.
  Task<void> stop();

  const Counters& counters() const { return counters_; }
  const std::vector<ListenAddress>& addresses() const { return options_.addresses; }
  bool requires_tls(const ListenAddress& address) const {
    return policy_of(address) == TlsPolicy::kRequired;
  }

 private:
  struct Served;
  struct Connection;
  struct Budgets;
  class ConnectionOffer;
  using SharedServed = std::shared_ptr<Served>;
  using SharedConnection = std::shared_ptr<Connection>;

  Server(Ring& ring, ServerOptions options);
  TlsPolicy policy_of(const ListenAddress& address) const;
  Task<void> accept_clients(const Listener& listener, TlsPolicy policy);
  void complain(std::string_view what);
  Task<void> serve_client(SharedConnection connection);
  Task<void> hang_up_after(SharedConnection connection);
  Task<Result<void>> talk(SharedConnection connection);
  Task<Result<void>> run_session(SharedConnection connection, std::unique_ptr<Stream> stream,
                                 Agreement agreement);
  Task<Result<void>> run_at_home(Served& served, std::shared_ptr<Budgets> budgets,
                                 std::unique_ptr<Stream> stream, const Agreement& agreement);
  Task<std::optional<ExportInfo>> describe(std::string name);
  std::shared_ptr<Budgets> budgets_of(BlockDevice& device);
  static void ask_to_end(Served& served);
  void leave(Served& served);

  Ring& ring_;
  ServerOptions options_;
  std::vector<Listener> listeners_;
  std::map<std::string, SharedServed> exports_;
  std::vector<SharedServed> leaving_;  // removed, sessions still there
  std::map<BufferPool*, std::weak_ptr<Budgets>> budgets_;
  std::vector<SharedConnection> negotiating_;
  Counters counters_;
  WaitGroup clients_;
  WaitGroup accepting_;
  std::uint64_t next_id_ = 1;
  TimePoint complained_{};
  bool complained_before_ = false;
  bool stopping_ = false;
};

}  // namespace clouddisk::nbd
