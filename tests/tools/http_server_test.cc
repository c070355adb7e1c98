#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "tests/tools/ring_thread.h"
#include "tools/http/client.h"
#include "tools/http/server.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Task<HttpResponse> answer(Ring& ring, HttpRequest request) {
  if (request.path == "/slow") co_await ring.sleep_for(milliseconds(300));
  HttpResponse response;
  response.body = request.method + ' ' + request.path + '?' + request.query + '#' + request.body;
  co_return response;
}

class HttpServerTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(thread_.works());
    char name[] = "/tmp/clouddisk-http-XXXXXX";
    folder_ = ::mkdtemp(name);
    unix_ = *parse_address("unix:" + folder_ + "/s");
  }
  void TearDown() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  void start(HttpServer::Options options) {
    Error error{Errc::kIo, {}};
    thread_.call([&] {
      Ring& ring = thread_.ring();
      auto server = HttpServer::start(
          ring, {unix_, *parse_address("tcp:127.0.0.1:0")},
          [&ring](HttpRequest request) { return answer(ring, std::move(request)); }, options);
      if (server) {
        server_ = std::move(*server);
      } else {
        error = server.error();
      }
    });
    ASSERT_NE(server_, nullptr) << error.message;
    tcp_ = server_->addresses()[1];
  }
  void stop() {
    if (server_ == nullptr) return;
    thread_.run([&] { return server_->stop(); });
    thread_.call([&] { server_.reset(); });
  }

  Socket connect() {
    auto socket = connect_to(unix_, seconds(5));
    EXPECT_TRUE(socket);
    return std::move(*socket);
  }
  static void send(const Socket& socket, std::string_view bytes) {
    ASSERT_EQ(::send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // Until the peer closes or `enough` is in it.
  static std::string receive(const Socket& socket, std::string_view enough = {}) {
    std::string all;
    char chunk[4096];
    while (enough.empty() || all.find(enough) == std::string::npos) {
      pollfd wait{socket.fd(), POLLIN, 0};
      if (::poll(&wait, 1, 10'000) != 1) return all + "<timeout>";
      const ssize_t got = ::recv(socket.fd(), chunk, sizeof(chunk), 0);
      if (got <= 0) break;
      all.append(chunk, static_cast<std::size_t>(got));
    }
    return all;
  }

  RingThread thread_;
  std::string folder_;
  Address unix_, tcp_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ServesUnixAndTcpAndMakesThePrivateSocketFile) {
  start({});
  struct stat info {};
  ASSERT_EQ(::stat(unix_.path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660U);
  for (const Address& address : {unix_, tcp_}) {
    auto reply = http_post(address, "/x?q=1", "a=b", seconds(5));
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(reply->status, 200);
    EXPECT_EQ(reply->body, "POST /x?q=1#a=b");
  }
  stop();
  EXPECT_FALSE(std::filesystem::exists(unix_.path));
}

TEST_F(HttpServerTest, KeepsAConnectionForManyRequests) {
  start({});
  const Socket socket = connect();
  for (int i = 0; i < 100; ++i) {
    send(socket, fmt::format("GET /{} HTTP/1.1\r\n\r\n", i));
    const std::string body = fmt::format("GET /{}?#", i);
    EXPECT_NE(receive(socket, body).find("Connection: keep-alive"), std::string::npos);
  }
  send(socket, "GET /last HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_NE(receive(socket).find("GET /last?#"), std::string::npos);
}

TEST_F(HttpServerTest, AnswersMalformedRequestsInJsonAndCloses) {
  start({});
  const Socket socket = connect();
  send(socket, "NONSENSE\r\n\r\n");
  const std::string reply = receive(socket);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 400 ")) << reply;
  EXPECT_NE(reply.find("\"Code\":"), std::string::npos);
}

TEST_F(HttpServerTest, AnOversizedBodyGetsItsAnswerThoughItIsStillBeingSent) {
  HttpServer::Options options;
  options.limits.body_bytes_max = 1000;
  start(options);
  const Socket socket = connect();
  send(socket, "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
  send(socket, std::string(100'000, 'x'));
  EXPECT_TRUE(receive(socket).starts_with("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, ExpectContinueIsAnsweredBeforeTheBody) {
  start({});
  const Socket socket = connect();
  send(socket, "POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(receive(socket, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
  send(socket, "a=b");
  EXPECT_NE(receive(socket, "#a=b").find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, AHalfRequestIsGivenUpAfterItsTime) {
  HttpServer::Options options;
  options.request_max = milliseconds(200);
  start(options);
  const Socket socket = connect();
  send(socket, "GET / HT");
  EXPECT_EQ(receive(socket), "");
}

TEST_F(HttpServerTest, TooManyConnectionsAreTurnedAwayAndLaterOnesServed) {
  HttpServer::Options options;
  options.connections_max = 2;
  start(options);
  Socket first = connect();
  const Socket second = connect();
  send(first, "GET /1 HTTP/1.1\r\n\r\n");
  receive(first, "GET /1?#");
  send(second, "GET /2 HTTP/1.1\r\n\r\n");
  receive(second, "GET /2?#");
  const Socket third = connect();
  EXPECT_TRUE(receive(third).starts_with("HTTP/1.1 503 "));
  first.close();
  auto reply = http_get(unix_, "/4", seconds(5));
  for (int i = 0; i < 100 && (!reply || reply->status == 503); ++i) {
    ::usleep(10'000);
    reply = http_get(unix_, "/4", seconds(5));
  }
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "GET /4?#");
}

TEST_F(HttpServerTest, StopAnswersWhatIsUnderWayAndClosesWhatIdles) {
  start({});
  const Socket idle = connect();
  send(idle, "GET /1 HTTP/1.1\r\n\r\n");
  receive(idle, "GET /1?#");
  const Socket busy = connect();
  send(busy, "GET /slow HTTP/1.1\r\n\r\n");
  ::usleep(50'000);
  stop();
  EXPECT_NE(receive(busy).find("GET /slow?#"), std::string::npos);
  EXPECT_EQ(receive(idle), "");
  auto refused = http_get(unix_, "/", seconds(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNotFound);
}

TEST_F(HttpServerTest, ManyClientsAtOnceAreAllServed) {
  start({});
  constexpr int kThreads = 16;
  constexpr int kEach = 50;
  std::atomic<int> served{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const Address& address = t % 2 == 0 ? unix_ : tcp_;
        const std::string path = fmt::format("/{}/{}", t, i);
        auto reply = http_post(address, path, "a=1", seconds(20));
        if (reply && reply->body == "POST " + path + "?#a=1") ++served;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served, kThreads * kEach);
}

TEST_F(HttpServerTest, ASocketThatIsServedIsNotTakenOverAndAStaleOneIs) {
  start({});
  Result<std::unique_ptr<HttpServer>> second = fail(Errc::kIo, "not tried");
  thread_.call([&] {
    second = HttpServer::start(
        thread_.ring(), {unix_},
        [this](HttpRequest request) { return answer(thread_.ring(), std::move(request)); }, {});
  });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::kExists);
  stop();
  {
    Address stale = unix_;
    auto left_behind = listen_on(stale);
    ASSERT_TRUE(left_behind);
  }
  ASSERT_TRUE(std::filesystem::exists(unix_.path));
  start({});
  EXPECT_TRUE(http_get(unix_, "/", seconds(5)));
}

}  // namespace
}  // namespace clouddisk
