#include "nbd/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <set>

#include "engine/base/log.h"
#include "nbd/tls_stream.h"

namespace clouddisk::nbd {
namespace {

constexpr Duration kAcceptBackOff = std::chrono::milliseconds(50);
constexpr Duration kComplainEvery = std::chrono::seconds(1);
constexpr std::uint64_t kAssemblyBytes = 2 * std::uint64_t{kPayloadMax};

// Some of a pool stays free: what is handed out is in pieces, and a large one needs neighbours.
std::uint64_t payload_bytes(const BufferPool& pool) {
  return std::max<std::uint64_t>(pool.capacity_bytes() / 4 * 3, BlockDevice::kTransferMax);
}

}  // namespace

// An export and who uses it.
struct Server::Served {
  Served(Ring& ring, Export what, std::uint64_t number)
      : entry(std::move(what)), id(number), changed(ring) {}
  Export entry;
  const std::uint64_t id;
  std::set<int> sockets;    // of its sessions
  std::uint64_t users = 0;  // sessions, and looks at the device during negotiations
  std::atomic<bool> stop{false};
  Signal changed;
};

struct Server::Connection {
  Connection(Ring& ring, int fd, TlsPolicy tls_policy)
      : socket(fd), policy(tls_policy), peer(peer_name(fd)), negotiated(ring) {}
  const int socket;
  const TlsPolicy policy;
  const std::string peer;
  Signal negotiated;
  bool negotiating = true;
};

// What the sessions over one pool share. Lives on the pool's ring, as long as they do.
struct Server::Budgets {
  Budgets(Ring& ring, const BufferPool& pool, Duration stall_max)
      : payloads(ring, payload_bytes(pool), stall_max),
        assemblies(ring, kAssemblyBytes, stall_max) {}
  PayloadBudget payloads;
  PayloadBudget assemblies;
};

class Server::ConnectionOffer final : public Offer {
 public:
  ConnectionOffer(Server& server, const Connection& connection)
      : server_(server), connection_(connection) {}

  std::vector<ExportInfo> list() override {
    std::vector<ExportInfo> infos;
    for (const auto& [name, served] : server_.exports_) {
      ExportInfo info;
      info.name = name;
      info.description = served->entry.description;
      infos.push_back(std::move(info));
    }
    return infos;
  }

  Task<std::optional<ExportInfo>> find(std::string name) override {
    return server_.describe(std::move(name));
  }

  std::vector<std::string> contexts(const std::string& export_name, std::string_view query,
                                    bool exact) override {
    std::vector<std::string> names;
    const auto it = server_.exports_.find(export_name);
    if (it == server_.exports_.end()) return names;
    if (query == kAllocationContext || (!exact && (query.empty() || query == "base:"))) {
      names.emplace_back(kAllocationContext);
    }
    const auto& more = it->second->entry.contexts;
    if (!more) return names;
    if (!exact) {
      for (std::string& name : more->list(query)) names.push_back(std::move(name));
    } else if (more->has(query)) {
      names.emplace_back(query);
    }
    return names;
  }

  TlsPolicy tls() const override { return connection_.policy; }

  Task<Result<std::unique_ptr<Stream>>> start_tls(std::unique_ptr<Stream> stream) override {
    return accept_tls(std::move(stream), server_.options_.tls);
  }

 private:
  Server& server_;
  const Connection& connection_;
};

Server::Server(Ring& ring, ServerOptions options)
    : ring_(ring), options_(std::move(options)), clients_(ring), accepting_(ring) {}

Server::~Server() {
  CHECK(clients_.count() == 0);
  CHECK(accepting_.count() == 0);
}

Result<std::unique_ptr<Server>> Server::create(Ring& ring, ServerOptions options) {
  std::unique_ptr<Server> server(new Server(ring, std::move(options)));
  for (ListenAddress& address : server->options_.addresses) {
    if (server->policy_of(address) != TlsPolicy::kOff && !server->options_.tls) {
      return fail(Errc::kInvalid, "{}: TLS is wanted, and there are no credentials for it",
                  address.where.text());
    }
    auto listener = Listener::open(address.where);
    if (!listener) return listener.error();
    address.where = listener->address();
    server->listeners_.push_back(*std::move(listener));
  }
  // A client that is gone must be an error of one send, not the end of the process.
  struct sigaction action {};
  if (::sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
  }
  return server;
}

TlsPolicy Server::policy_of(const ListenAddress& address) const {
  if (address.tls) return *address.tls;
  if (!options_.tls) return TlsPolicy::kOff;
  return options_.tls_required && !address.where.is_unix() ? TlsPolicy::kRequired
                                                           : TlsPolicy::kAllowed;
}

void Server::start() {
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    accepting_.add();
    spawn(accept_clients(listeners_[i], policy_of(options_.addresses[i])));
  }
}

// --- Exports ---

Result<void> Server::add_export(Export added) {
  if (added.name.empty() || added.name.size() > kStringMax) {
    return fail(Errc::kInvalid, "an export name has 1 to {} bytes, not {}", kStringMax,
                added.name.size());
  }
  if (exports_.count(added.name) != 0) {
    return fail(Errc::kExists, "an export '{}' is there already", added.name);
  }
  const std::string name = added.name;
  exports_[name] = std::make_shared<Served>(ring_, std::move(added), next_id_++);
  return {};
}

std::uint64_t Server::sessions_of(const std::string& name) const {
  const auto it = exports_.find(name);
  return it == exports_.end() ? 0 : it->second->sockets.size();
}

void Server::ask_to_end(Served& served) {
  served.stop.store(true, std::memory_order_relaxed);
  for (const int socket : served.sockets) ::shutdown(socket, SHUT_RD);
}

void Server::leave(Served& served) {
  CHECK(served.users > 0);
  --served.users;
  served.changed.wake_all();
}

Task<Result<void>> Server::remove_export(std::string name) {
  if (const auto it = exports_.find(name); it != exports_.end()) {
    leaving_.push_back(it->second);
    exports_.erase(it);
  }
  // Others may be removing one of that name, too: nobody returns before it is gone.
  std::vector<SharedServed> mine;
  for (const SharedServed& served : leaving_) {
    if (served->entry.name == name) mine.push_back(served);
  }
  const TimePoint deadline = ring_.now() + options_.drain_max;
  for (const SharedServed& served : mine) {
    ask_to_end(*served);
    bool forced = false;
    while (served->users > 0) {
      if (forced) {
        co_await served->changed.wait();
        continue;
      }
      const bool woken = co_await served->changed.wait_until(deadline);
      if (woken || served->users == 0) continue;
      log(LogLevel::kWarning, "nbd", "export={} {} clients don't take their answers: cut off", name,
          served->sockets.size());
      // What they asked for still ends by itself.
      for (const int socket : served->sockets) ::shutdown(socket, SHUT_RDWR);
      forced = true;
    }
    served->entry.device.reset();
    served->entry.contexts.reset();
    leaving_.erase(std::remove(leaving_.begin(), leaving_.end(), served), leaving_.end());
  }
  co_return Result<void>{};
}

// Looks at the device on its own ring.
Task<std::optional<ExportInfo>> Server::describe(std::string name) {
  const auto it = exports_.find(name);
  if (it == exports_.end()) co_return std::nullopt;
  const SharedServed served = it->second;
  ++served->users;
  ExportInfo info;
  info.name = std::move(name);
  info.description = served->entry.description;
  info.id = served->id;
  BlockDevice& device = *served->entry.device;
  Ring& home = device.ring();
  if (&home != &ring_) co_await home.enter();
  info.size_bytes = device.size_bytes();
  info.read_only = device.read_only();
  if (&home != &ring_) co_await ring_.enter();
  leave(*served);
  co_return info;
}

// --- Connections ---

void Server::complain(std::string_view what) {
  const TimePoint now = ring_.now();
  if (complained_before_ && now - complained_ < kComplainEvery) return;
  complained_before_ = true;
  complained_ = now;
  log(LogLevel::kWarning, "nbd", "{}", what);
}

Task<void> Server::accept_clients(const Listener& listener, TlsPolicy policy) {
  while (!stopping_) {
    const int socket = co_await ring_.accept(listener.socket());
    if (stopping_) {
      if (socket >= 0) ::close(socket);
      break;
    }
    if (socket == -ECONNABORTED || socket == -EINTR) continue;
    if (socket < 0) {
      complain(fmt::format("accept on {}: {}", listener.address().text(), errno_text(-socket)));
      co_await ring_.sleep_for(kAcceptBackOff);  // Out of descriptors: not again at once.
      continue;
    }
    counters_.connections_total.fetch_add(1, std::memory_order_relaxed);
    if (counters_.connections.load(std::memory_order_relaxed) >= options_.connections_max) {
      counters_.refused.fetch_add(1, std::memory_order_relaxed);
      ::close(socket);
      complain(fmt::format("connection refused: {} are open, the limit", options_.connections_max));
      continue;
    }
    clients_.add();
    counters_.connections.fetch_add(1, std::memory_order_relaxed);
    spawn(serve_client(std::make_shared<Connection>(ring_, socket, policy)));
  }
  accepting_.done();
}

Task<void> Server::serve_client(SharedConnection connection) {
  auto ended = co_await talk(connection);
  if (!ended) {
    log(LogLevel::kWarning, "nbd", "client={} {}", connection->peer, ended.error().message);
  }
  ::close(connection->socket);
  counters_.connections.fetch_sub(1, std::memory_order_relaxed);
  clients_.done();
}

// Ends a negotiation that takes too long.
Task<void> Server::hang_up_after(SharedConnection connection) {
  const TimePoint deadline = ring_.now() + options_.negotiation_max;
  while (connection->negotiating) {
    const bool woken = co_await connection->negotiated.wait_until(deadline);
    if (woken || !connection->negotiating) continue;
    log(LogLevel::kWarning, "nbd", "client={} took too long to negotiate", connection->peer);
    ::shutdown(connection->socket, SHUT_RDWR);
    break;
  }
  clients_.done();
}

// A connection from the greeting to its end.
Task<Result<void>> Server::talk(SharedConnection connection) {
  clients_.add();
  spawn(hang_up_after(connection));
  negotiating_.push_back(connection);
  std::unique_ptr<Stream> stream = std::make_unique<PlainStream>(ring_, connection->socket);
  ConnectionOffer offer(*this, *connection);
  auto agreement = co_await negotiate(stream, offer);
  connection->negotiating = false;
  connection->negotiated.wake_all();
  negotiating_.erase(std::remove(negotiating_.begin(), negotiating_.end(), connection),
                     negotiating_.end());
  if (agreement) co_return co_await run_session(connection, std::move(stream), *agreement);
  if (agreement.error().code == Errc::kShutdown) co_return Result<void>{};
  counters_.refused.fetch_add(1, std::memory_order_relaxed);
  co_return fail(agreement.error(), "negotiation failed");
}

std::shared_ptr<Server::Budgets> Server::budgets_of(BlockDevice& device) {
  std::erase_if(budgets_, [](const auto& entry) { return entry.second.expired(); });
  BufferPool& pool = device.buffers();
  auto& known = budgets_[&pool];
  std::shared_ptr<Budgets> budgets = known.lock();
  if (!budgets) {
    budgets = std::make_shared<Budgets>(device.ring(), pool, options_.stall_max);
    known = budgets;
  }
  return budgets;
}

Task<Result<void>> Server::run_session(SharedConnection connection, std::unique_ptr<Stream> stream,
                                       Agreement agreement) {
  const auto it = exports_.find(agreement.export_name);
  // It went, or was replaced by another, between the answer and now.
  if (it == exports_.end() || it->second->id != agreement.export_id) co_return Result<void>{};
  const SharedServed served = it->second;
  ++served->users;
  served->sockets.insert(connection->socket);
  log(LogLevel::kDebug, "nbd", "client={} export={} opened", connection->peer,
      agreement.export_name);
  Ring& home = served->entry.device->ring();
  auto budgets = budgets_of(*served->entry.device);
  if (&home != &ring_) co_await home.enter();
  auto ended = co_await run_at_home(*served, std::move(budgets), std::move(stream), agreement);
  if (&home != &ring_) co_await ring_.enter();
  served->sockets.erase(connection->socket);
  leave(*served);
  if (!ended) co_return fail(ended.error(), "export={}", agreement.export_name);
  log(LogLevel::kDebug, "nbd", "client={} export={} closed", connection->peer,
      agreement.export_name);
  co_return ended;
}

// On the device's ring, and nothing of the session is left when it returns.
Task<Result<void>> Server::run_at_home(Served& served, std::shared_ptr<Budgets> budgets,
                                       std::unique_ptr<Stream> stream, const Agreement& agreement) {
  BlockDevice& device = *served.entry.device;
  std::vector<Session::OpenContext> contexts;
  for (const ContextChoice& choice : agreement.contexts) {
    Session::OpenContext open;
    open.id = choice.id;
    if (choice.name == kAllocationContext) {
      open.context = std::make_unique<AllocationContext>(device);
    } else {
      auto opened = co_await served.entry.contexts->open(choice.name);
      if (!opened) co_return opened.error();
      open.context = std::move(*opened);
    }
    contexts.push_back(std::move(open));
  }
  Session session({device, budgets->payloads, budgets->assemblies, served.stop, counters_},
                  std::move(stream), agreement, std::move(contexts));
  co_return co_await session.run();
}

Task<void> Server::stop() {
  stopping_ = true;
  for (Listener& listener : listeners_) listener.shut();
  for (const SharedConnection& connection : negotiating_) {
    ::shutdown(connection->socket, SHUT_RDWR);
  }
  for (const auto& [name, served] : exports_) ask_to_end(*served);
  while (!exports_.empty()) {
    const std::string name = exports_.begin()->first;
    auto removed = co_await remove_export(name);
    static_cast<void>(removed);
  }
  co_await accepting_.wait();
  co_await clients_.wait();
  listeners_.clear();
}

}  // namespace clouddisk::nbd
