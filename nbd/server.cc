#include "nbd/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <set>

#include "engine/base/log.h"

namespace clouddisk::nbd {
namespace {

constexpr Duration kAcceptBackOff = std::chrono::milliseconds(50);
constexpr Duration kComplainEvery = std::chrono::seconds(1);

}  // namespace

struct Server::Served {
  Served(Ring& ring, Export what) : entry(std::move(what)), changed(ring) {}
  Export entry;
  std::set<int> sockets;  // of its sessions
  bool closing = false;
  Signal changed;
};

Server::Server(Ring& ring, ServerOptions options)
    : ring_(ring), options_(std::move(options)), clients_(ring), accepting_(ring) {}

Server::~Server() {
  CHECK(clients_.count() == 0);
  for (const int listener : listeners_) ::close(listener);
}

Result<std::unique_ptr<Server>> Server::create(Ring& ring, ServerOptions options) {
  std::unique_ptr<Server> server(new Server(ring, std::move(options)));
  for (const ListenAddress& address : server->options_.addresses) {
    auto listener = address.listen();
    if (!listener) return listener.error();
    server->listeners_.push_back(*listener);
  }
  return server;
}

void Server::start() {
  for (std::size_t index = 0; index < listeners_.size(); ++index) {
    accepting_.add();
    spawn(accept_clients(index));
  }
}

Result<void> Server::add_export(Export added) {
  if (exports_.count(added.name) != 0) {
    return fail(Errc::kExists, "an export '{}' is there already", added.name);
  }
  const std::string name = added.name;
  exports_[name] = std::make_shared<Served>(ring_, std::move(added));
  return {};
}

std::uint64_t Server::sessions_of(const std::string& name) const {
  const auto it = exports_.find(name);
  return it == exports_.end() ? 0 : it->second->sockets.size();
}

Task<Result<void>> Server::remove_export(std::string name) {
  const auto it = exports_.find(name);
  if (it == exports_.end()) co_return Result<void>{};
  const std::shared_ptr<Served> served = it->second;
  exports_.erase(it);
  served->closing = true;
  for (const int socket : served->sockets) ::shutdown(socket, SHUT_RD);
  const TimePoint deadline = ring_.now() + options_.drain_max;
  bool forced = false;
  while (!served->sockets.empty()) {
    if (forced) {
      co_await served->changed.wait();
      continue;
    }
    const bool woken = co_await served->changed.wait_until(deadline);
    if (woken || served->sockets.empty()) continue;
    // A client that does not take its answers is cut off; what it asked for still ends by itself.
    for (const int socket : served->sockets) ::shutdown(socket, SHUT_RDWR);
    forced = true;
  }
  co_return Result<void>{};
}

Task<void> Server::accept_clients(std::size_t index) {
  const int listener = listeners_[index];
  const bool on_unix = options_.addresses[index].is_unix;
  while (!stopping_) {
    const int socket = co_await ring_.accept(listener);
    if (stopping_) {
      if (socket >= 0) ::close(socket);
      break;
    }
    if (socket < 0) {
      log(LogLevel::kWarning, "nbd", "accept: {}", errno_text(-socket));
      co_await ring_.sleep_for(kAcceptBackOff);  // Out of descriptors: not again at once.
      continue;
    }
    counters_.connections_total.fetch_add(1, std::memory_order_relaxed);
    if (clients_.count() >= options_.connections_max) {
      counters_.refused.fetch_add(1, std::memory_order_relaxed);
      ::close(socket);
      if (ring_.now() - complained_ > kComplainEvery) {
        complained_ = ring_.now();
        log(LogLevel::kWarning, "nbd", "connection refused: {} are open, the limit",
            options_.connections_max);
      }
      continue;
    }
    clients_.add();
    counters_.connections.fetch_add(1, std::memory_order_relaxed);
    spawn(serve_client(socket, on_unix));
  }
  accepting_.done();
}

// Ends a negotiation that takes too long. `done` turns true when it is over, and the socket may
// then be another's.
Task<void> Server::hang_up_after(std::shared_ptr<bool> done, int socket) {
  const TimePoint deadline = ring_.now() + options_.negotiation_max;
  while (!*done && !stopping_ && ring_.now() < deadline) {
    co_await ring_.sleep_for(
        std::min<Duration>(options_.negotiation_max, std::chrono::milliseconds(250)));
  }
  if (!*done) ::shutdown(socket, SHUT_RDWR);
  clients_.done();
}

Task<Result<std::unique_ptr<Stream>>> Server::start_tls(int socket) {
  co_return co_await accept_tls(std::make_unique<PlainStream>(ring_, socket), options_.tls);
}

Task<void> Server::serve_client(int socket, bool on_unix) {
  std::unique_ptr<Stream> stream = std::make_unique<PlainStream>(ring_, socket);
  Offer offer;
  offer.list = [this] {
    std::vector<ExportInfo> infos;
    for (const auto& [name, served] : exports_)
      infos.push_back({name, served->entry.description, 0, 0});
    return infos;
  };
  offer.find = [this](const std::string& name) -> std::optional<ExportInfo> {
    const auto it = exports_.find(name);
    if (it == exports_.end()) return std::nullopt;
    const Export& entry = it->second->entry;
    return ExportInfo{name, entry.description, entry.device->size_bytes(),
                      transmission_flags(entry.device->read_only())};
  };
  if (options_.tls) {
    offer.tls = options_.tls_required && !on_unix ? TlsPolicy::kRequired : TlsPolicy::kAllowed;
    offer.start_tls = [this, socket] { return start_tls(socket); };
  }
  const auto negotiated = std::make_shared<bool>(false);
  clients_.add();
  spawn(hang_up_after(negotiated, socket));
  negotiating_[socket] = true;
  auto agreement = co_await negotiate(stream, offer);
  *negotiated = true;
  negotiating_.erase(socket);
  if (agreement) {
    auto ended = co_await run_session(socket, std::move(stream), *agreement);
    if (!ended) log(LogLevel::kWarning, "nbd", "connection ended: {}", ended.error().message);
  } else {
    if (agreement.error().code != Errc::kShutdown) {
      counters_.refused.fetch_add(1, std::memory_order_relaxed);
      log(LogLevel::kWarning, "nbd", "negotiation failed: {}", agreement.error().message);
    }
    stream.reset();
  }
  ::close(socket);
  counters_.connections.fetch_sub(1, std::memory_order_relaxed);
  clients_.done();
}

Task<Result<void>> Server::run_session(int socket, std::unique_ptr<Stream> stream,
                                       Agreement agreement) {
  const auto it = exports_.find(agreement.export_name);
  if (it == exports_.end()) co_return Result<void>{};  // It went between the answer and now.
  const std::shared_ptr<Served> served = it->second;
  served->sockets.insert(socket);
  const std::shared_ptr<BlockDevice> device = served->entry.device;
  Ring& home = device->ring();
  if (&home != &ring_) co_await home.enter();
  auto session =
      std::make_unique<Session>(*device, std::move(stream), std::move(agreement), counters_);
  auto ended = co_await session->run();
  session.reset();
  if (&home != &ring_) co_await ring_.enter();
  served->sockets.erase(socket);
  served->changed.wake_all();
  co_return ended;
}

Task<void> Server::stop() {
  stopping_ = true;
  for (const int listener : listeners_) ::shutdown(listener, SHUT_RDWR);
  for (const auto& [socket, waiting] : negotiating_) ::shutdown(socket, SHUT_RDWR);
  while (!exports_.empty()) {
    const std::string name = exports_.begin()->first;
    auto removed = co_await remove_export(name);
    static_cast<void>(removed);
  }
  co_await accepting_.wait();
  co_await clients_.wait();
  for (const int listener : listeners_) ::close(listener);
  listeners_.clear();
  for (const ListenAddress& address : options_.addresses) {
    if (address.is_unix) ::unlink(address.path.c_str());
  }
}

}  // namespace clouddisk::nbd
