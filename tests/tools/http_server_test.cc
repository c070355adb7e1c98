#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "engine/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/seed.h"
#include "tests/tools/ring_thread.h"
#include "tools/http/client.h"
#include "tools/http/server.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kBig = 8 * 1024 * 1024;  // more than a socket holds

Task<HttpResponse> answer(Ring& ring, HttpRequest request) {
  if (request.path == "/slow") co_await ring.sleep_for(milliseconds(300));
  HttpResponse response;
  response.body = request.method + ' ' + request.path + '?' + request.query + '#' + request.body;
  if (request.path == "/last") response.headers.emplace_back("Connection", "close");
  if (request.path == "/big") response.body.resize(kBig);
  co_return response;
}

std::string repeated(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
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
    Socket socket = connect_to_unix(unix_.path);
    EXPECT_TRUE(socket);
    return socket;
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
    EXPECT_EQ(receive(socket, body).find("Connection: close"), std::string::npos);
  }
  send(socket, "GET /end HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_NE(receive(socket).find("GET /end?#"), std::string::npos);
}

TEST_F(HttpServerTest, TakesRequestsThatArriveTogetherOneByOneHoweverTheBytesAreCut) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  start({});
  const std::string bytes =
      "\r\nPOST /a?A=%31 HTTP/1.1\r\nContent-Length: 3\r\n\r\nx=1\r\n"
      "POST /%62 HTTP/1.1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n2;e=1\r\nx=\r\n4\r\na\r\nb\r\n0\r\nT: "
      "1\r\n\r\n"
      "HEAD /h HTTP/1.1\r\n\r\nGET /c HTTP/1.0\r\n\r\n";
  for (int round = 0; round < 20; ++round) {
    const Socket socket = connect();
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random.below(30), bytes.size() - at);
      send(socket, bytes.substr(at, size));
      at += size;
      if (random.below(4) == 0) ::usleep(100);
    }
    const std::string all = receive(socket);  // HTTP/1.0 ends the connection
    const auto first = all.find("POST /a?A=%31#x=1");
    const auto second = all.find("POST /b?#x=a\r\nb");
    const auto third = all.find("GET /c?#");
    EXPECT_NE(first, std::string::npos) << all;
    EXPECT_TRUE(first < second && second < third && third != std::string::npos) << all;
    EXPECT_EQ(all.find("HEAD /h"), std::string::npos) << "a HEAD has no body: " << all;
  }
}

TEST_F(HttpServerTest, WhateverIsWrongIsAnsweredInJsonAndEndsTheConnection) {
  start({});
  struct Case {
    const char* name;
    std::string bytes;
    int status;
  };
  const std::string chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  const Case cases[] = {
      {"nonsense", "NONSENSE\r\n\r\n", 400},
      {"TLS", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 15), 400},
      {"no version", "GET /\r\n\r\n", 400},
      {"old version", "GET / HTTP/0.9\r\n\r\n", 505},
      {"new version", "GET / HTTP/2.0\r\n\r\n", 505},
      {"no slash", "GET x HTTP/1.1\r\n\r\n", 400},
      {"a blank in the target", "GET /a b HTTP/1.1\r\n\r\n", 505},
      {"control byte in the target", "GET /\x01 HTTP/1.1\r\n\r\n", 400},
      {"broken escape in the path", "GET /%zz HTTP/1.1\r\n\r\n", 400},
      {"path that is not UTF-8", "GET /%ff HTTP/1.1\r\n\r\n", 400},
      {"blank before the colon", "GET / HTTP/1.1\r\nA : b\r\n\r\n", 400},
      {"header without colon", "GET / HTTP/1.1\r\nA\r\n\r\n", 400},
      {"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"length and chunks",
       "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
      {"length with a sign", "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400},
      {"length past 64 bits", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
       400},
      {"body too large", "POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413},
      {"unknown coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
       501},
      {"chunk size is no number", chunked + "zz\r\n", 400},
      {"chunk longer than it said", chunked + "1\r\nab\r\n", 400},
      {"chunk too large", chunked + "ffffffff\r\n", 413},
      {"chunk size past 64 bits", chunked + "11111111111111111\r\n", 400},
      {"endless request line", "GET /" + std::string(200'000, 'a'), 414},
      {"endless headers", "GET / HTTP/1.1\r\nA: " + std::string(200'000, 'a'), 431},
      {"many headers", "GET / HTTP/1.1\r\n" + repeated("A: b\r\n", 40'000) + "\r\n", 431},
      {"endless chunk extension", chunked + "1;" + std::string(200'000, 'a'), 400},
  };
  for (const Case& c : cases) {
    const Socket socket = connect();
    send(socket, c.bytes + "GET /after HTTP/1.1\r\n\r\n");
    ::shutdown(socket.fd(), SHUT_WR);
    const std::string reply = receive(socket);
    EXPECT_TRUE(reply.starts_with(fmt::format("HTTP/1.1 {} ", c.status)))
        << c.name << ": " << reply;
    EXPECT_NE(reply.find("Content-Type: application/json"), std::string::npos) << c.name;
    EXPECT_NE(reply.find("\"Code\":\""), std::string::npos) << c.name << ": " << reply;
    EXPECT_EQ(reply.find("/after"), std::string::npos) << c.name << " serves nothing more";
  }
}

TEST_F(HttpServerTest, ARefusalSaysWhyWhateverCameBeforeOnTheConnection) {
  start({});
  const Socket socket = connect();
  send(socket, "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  receive(socket, "\r\n\r\n");
  send(socket, "NONSENSE\r\n\r\n");
  const std::string reply = receive(socket);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 400 ")) << reply;
  EXPECT_NE(reply.find("\"Code\":\""), std::string::npos) << reply;
}

TEST_F(HttpServerTest, AnyBytesAreAnsweredOrCutOffAndTheServerGoesOn) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  start({});
  const std::string base =
      "POST /?Action=X HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na=bc"
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n";
  int whole = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = base;
    for (std::uint64_t changes = random.below(4); changes > 0; --changes) {
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    }
    const Socket socket = connect();
    send(socket, bytes);
    ::shutdown(socket.fd(), SHUT_WR);
    const std::string reply = receive(socket);
    ASSERT_EQ(reply.find("<timeout>"), std::string::npos) << bytes;
    if (reply.find("200 OK") != std::string::npos) ++whole;
  }
  EXPECT_GT(whole, 500);
  EXPECT_TRUE(http_get(unix_, "/", seconds(5)));
}

TEST_F(HttpServerTest, AnAnswerMayBeTheLast) {
  start({});
  const Socket socket = connect();
  send(socket, "GET /last HTTP/1.1\r\n\r\nGET /after HTTP/1.1\r\n\r\n");
  const std::string reply = receive(socket);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 200 ")) << reply;
  EXPECT_NE(reply.find("Connection: close"), std::string::npos) << reply;
  EXPECT_NE(reply.find("GET /last?#"), std::string::npos) << reply;
  EXPECT_EQ(reply.find("/after"), std::string::npos) << reply;
  EXPECT_EQ(reply.find("<timeout>"), std::string::npos) << reply;
}

TEST_F(HttpServerTest, AHeadHasSoManyFieldsHoweverSmallTheyAre) {
  start({});
  const auto status_of = [&](std::string_view bytes) {
    const Socket socket = connect();
    send(socket, bytes);
    ::shutdown(socket.fd(), SHUT_WR);
    return receive(socket).substr(0, 13);
  };
  const std::string head = "GET / HTTP/1.1\r\n";
  EXPECT_EQ(status_of(head + repeated("a:\r\n", 200) + "\r\n"), "HTTP/1.1 200 ");
  EXPECT_EQ(status_of(head + repeated("a:\r\n", 201) + "\r\n"), "HTTP/1.1 431 ");
  const std::string chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
  EXPECT_EQ(status_of(chunked + repeated("a:\r\n", 199) + "\r\n"), "HTTP/1.1 200 ");
  EXPECT_EQ(status_of(chunked + repeated("a:\r\n", 200) + "\r\n"), "HTTP/1.1 431 ");
}

TEST_F(HttpServerTest, TakesARequestLineOfManyIds) {
  start({});
  const std::string query = "DiskIds=" + std::string(100'000, 'x');
  auto reply = http_get(unix_, "/?" + query, seconds(5));
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "GET /?" + query + "#");
}

TEST_F(HttpServerTest, AnOversizedBodyGetsItsAnswerThoughItIsStillBeingSent) {
  HttpServer::Options options;
  options.body_bytes_max = 1000;
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

TEST_F(HttpServerTest, ARequestHasToArriveInTimeHoweverItTrickles) {
  HttpServer::Options options;
  options.request_max = milliseconds(200);
  start(options);
  const Socket silent = connect();
  const Socket half = connect();
  const Socket trickling = connect();
  send(half, "GET / HT");
  const auto began = std::chrono::steady_clock::now();
  ssize_t sent = 1;
  while (sent == 1 && std::chrono::steady_clock::now() - began < seconds(5)) {
    sent = ::send(trickling.fd(), "G", 1, MSG_NOSIGNAL);
    ::usleep(10'000);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(5)) << "it may trickle for ever";
  EXPECT_EQ(receive(silent), "");
  EXPECT_EQ(receive(half), "");
}

TEST_F(HttpServerTest, AClientThatDoesNotTakeItsAnswerIsCutOff) {
  HttpServer::Options options;
  options.send_max = milliseconds(200);
  start(options);
  const Socket deaf = connect();
  send(deaf, "GET /big HTTP/1.1\r\n\r\n");
  for (int i = 0; i < 500 && server_->requests() == 0; ++i) ::usleep(10'000);
  for (int i = 0; i < 500 && server_->connections() > 0; ++i) ::usleep(10'000);
  EXPECT_EQ(server_->connections(), 0U);
  EXPECT_LT(receive(deaf).size(), kBig);
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
  const Socket half = connect();
  send(half, "GET /2 HT");
  ::usleep(50'000);
  std::thread finisher([&half] {
    ::usleep(100'000);
    send(half, "TP/1.1\r\n\r\n");
  });
  stop();
  finisher.join();
  EXPECT_NE(receive(busy).find("GET /slow?#"), std::string::npos);
  EXPECT_NE(receive(half).find("GET /2?#"), std::string::npos);
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

TEST_F(HttpServerTest, WhatIsServedIsNotTakenOverAndClientsLearnWhyNobodyAnswers) {
  EXPECT_EQ(http_get(unix_, "/", seconds(5)).error().code, Errc::kNotFound);
  start({});
  Result<std::unique_ptr<HttpServer>> second = fail(Errc::kIo, "not tried");
  thread_.call([&] {
    second = HttpServer::start(
        thread_.ring(), {*parse_address("tcp:127.0.0.1:0"), unix_},
        [this](HttpRequest request) { return answer(thread_.ring(), std::move(request)); }, {});
  });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::kBusy);
  EXPECT_EQ(http_get(unix_, "/slow", milliseconds(50)).error().code, Errc::kTimedOut);
  EXPECT_TRUE(http_get(unix_, "/", seconds(5))) << "the first goes on";
  stop();
  EXPECT_EQ(http_get(tcp_, "/", seconds(5)).error().code, Errc::kShutdown);
}

}  // namespace
}  // namespace clouddisk
