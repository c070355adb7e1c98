#include "tools/http/server.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <thread>

#include "engine/base/log.h"
#include "engine/ring/listener.h"
#include "engine/ring/sync.h"
#include "tools/http/connection.h"

namespace clouddisk {
namespace {

namespace asio = boost::asio;
using http::error_code;

constexpr auto kStopGrace = std::chrono::seconds(2);  // for a request that is half here
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
// Clients beyond the limit that are told so; further ones are cut off without a word.
constexpr std::size_t kTurnedAwayMax = 64;

}  // namespace

class HttpServer::Impl : public http::ConnectionOwner {
 public:
  Impl(Ring& ring, Handler handler, Options options)
      : ConnectionOwner(std::move(options)),
        ring_(ring),
        handler_(std::move(handler)),
        over_signal_(ring) {}
  ~Impl() override { CHECK(!thread_.joinable()); }

  // `tls`: null for plain bytes.
  Result<void> listen(const std::vector<Address>& wanted, const HttpTls* tls);
  void run();
  Task<void> stop();

  std::vector<Address> addresses;
  std::atomic<std::size_t> connections{0};
  std::atomic<std::uint64_t> requests{0};

 private:
  // Listener has the socket file; the acceptor a descriptor of its own for the same socket.
  struct Door {
    Door(asio::io_context& io, Listener made, const HttpTls* credentials)
        : listener(std::move(made)), tls(credentials), acceptor(io), pause(io) {}
    Listener listener;
    const HttpTls* tls;
    asio::basic_socket_acceptor<asio::generic::stream_protocol, http::Executor> acceptor;
    http::Timer pause;
  };

  // On the server's thread.
  void accept(Door& door);
  void accepted(Door& door, const error_code& error, http::Socket socket);
  void serve(http::Connection& connection) override;
  void leave(http::Connections::iterator connection) override;
  void begin_to_stop();
  void end_if_idle();
  // On the ring's.
  Task<void> answer(http::Connection& connection);

  Ring& ring_;
  Handler handler_;
  asio::io_context io_{1};
  asio::executor_work_guard<http::Executor> work_{io_.get_executor()};
  http::Timer grace_{io_};
  std::list<Door> doors_;
  http::Connections connections_;
  std::size_t turned_away_ = 0;  // of them
  std::thread thread_;
  Signal over_signal_;
  bool over_ = false;  // the ring's
};

Result<void> HttpServer::Impl::listen(const std::vector<Address>& wanted, const HttpTls* tls) {
  for (const Address& address : wanted) {
    auto listener = Listener::open(address);
    if (!listener) return listener.error();
    addresses.push_back(listener->address());
    Door& door = doors_.emplace_back(io_, std::move(*listener), tls);
    Socket copy(::fcntl(door.listener.socket(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno(errno, "listen on {}", address.text());
    error_code error;
    door.acceptor.assign({address.is_unix() ? AF_UNIX : AF_INET, 0}, copy.fd(), error);
    if (error) return fail_errno(error.value(), "listen on {}", address.text());
    copy.release();
  }
  return {};
}

void HttpServer::Impl::run() {
  for (Door& door : doors_) accept(door);
  thread_ = std::thread([this] { io_.run(); });
}

void HttpServer::Impl::accept(Door& door) {
  door.acceptor.async_accept([this, &door](const error_code& error, http::Socket socket) {
    accepted(door, error, std::move(socket));
  });
}

void HttpServer::Impl::accepted(Door& door, const error_code& error, http::Socket socket) {
  if (stopping) return;
  if (error && error != asio::error::connection_aborted) {
    // Out of descriptors or memory: let others finish first.
    log(LogLevel::kWarning, "http", "accept on {}: {}", door.listener.address().text(),
        error.message());
    door.pause.expires_after(kAcceptPause);
    door.pause.async_wait([this, &door](const error_code&) {
      if (!stopping) accept(door);
    });
    return;
  }
  const bool room = connections_.size() - turned_away_ < options.connections_max;
  if (!error && (room || turned_away_ < kTurnedAwayMax)) {
    connections_.push_back(
        std::make_shared<http::Connection>(io_, *this, std::move(socket), door.tls));
    ++connections;
    const auto added = std::prev(connections_.end());
    if (room) {
      (*added)->begin(added);
    } else {
      ++turned_away_;
      (*added)->turn_away(added);
    }
  }
  accept(door);
}

void HttpServer::Impl::serve(http::Connection& connection) {
  ++requests;
  ring_.post([this, &connection] { spawn(answer(connection)); });
}

Task<void> HttpServer::Impl::answer(http::Connection& connection) {
  HttpResponse response = co_await handler_(std::move(connection.request));
  asio::post(io_, [&connection, response = std::move(response)]() mutable {
    connection.answer(std::move(response));
  });
}

void HttpServer::Impl::leave(http::Connections::iterator connection) {
  if ((*connection)->is_turned_away()) --turned_away_;
  connections_.erase(connection);
  --connections;
  end_if_idle();
}

void HttpServer::Impl::begin_to_stop() {
  stopping = true;
  for (Door& door : doors_) {
    error_code ignored;
    door.listener.shut();
    door.acceptor.close(ignored);
    door.pause.cancel();
  }
  for (const auto& connection : connections_) {
    if (connection->is_idle()) connection->close();
  }
  grace_.expires_after(kStopGrace);
  grace_.async_wait([this](const error_code& error) {
    if (error) return;
    for (const auto& connection : connections_) {
      if (!connection->is_serving()) connection->close();
    }
  });
  end_if_idle();
}

void HttpServer::Impl::end_if_idle() {
  if (!stopping || !connections_.empty()) return;
  grace_.cancel();
  work_.reset();
  ring_.post([this] {
    over_ = true;
    over_signal_.wake_all();
  });
}

Task<void> HttpServer::Impl::stop() {
  asio::post(io_, [this] { begin_to_stop(); });
  while (!over_) co_await over_signal_.wait();
  thread_.join();
  doors_.clear();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::start(Ring& ring,
                                                      const std::vector<Address>& addresses,
                                                      Handler handler, Options options) {
  try {
    auto impl = std::make_unique<Impl>(ring, std::move(handler), std::move(options));
    if (auto listening = impl->listen(addresses, nullptr); !listening) return listening.error();
    auto encrypted = impl->listen(impl->options.tls_addresses, impl->options.tls.get());
    if (!encrypted) return encrypted.error();
    impl->run();
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
  } catch (const std::exception& error) {  // The library's, when the system has no more to give.
    return fail(Errc::kIo, "start the HTTP server: {}", error.what());
  }
}

Task<void> HttpServer::stop() {
  return impl_->stop();
}

const std::vector<Address>& HttpServer::addresses() const {
  return impl_->addresses;
}
std::size_t HttpServer::connections() const {
  return impl_->connections.load();
}
std::uint64_t HttpServer::requests() const {
  return impl_->requests.load();
}

}  // namespace clouddisk
