// HTTP through TLS: the same server, the same bounds, and who gets in.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "engine/ring/listener.h"
#include "tests/tools/certificates.h"
#include "tests/tools/ring_thread.h"
#include "tools/http/client.h"
#include "tools/http/server.h"
#include "tools/http/tls.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A blocking client.
class TlsClient {
 public:
  // `certificates`: a folder with client-cert.pem and client-key.pem; empty: shows none.
  TlsClient(const Address& address, const std::string& authority,
            const std::string& certificates = {}, int version_max = 0)
      : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_load_verify_locations(context_, (authority + "/ca-cert.pem").c_str(), nullptr);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    if (version_max != 0) {
      SSL_CTX_set_security_level(context_, 0);
      SSL_CTX_set_max_proto_version(context_, version_max);
    }
    if (!certificates.empty()) {
      const std::string base = certificates + "/client";
      SSL_CTX_use_certificate_file(context_, (base + "-cert.pem").c_str(), SSL_FILETYPE_PEM);
      SSL_CTX_use_PrivateKey_file(context_, (base + "-key.pem").c_str(), SSL_FILETYPE_PEM);
    }
    socket_ = connect_to_tcp(address.port);
    const timeval patience{10, 0};
    ::setsockopt(socket_.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    session_ = SSL_new(context_);
    SSL_set_fd(session_, socket_.fd());
  }
  ~TlsClient() {
    SSL_free(session_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  bool shake_hands() { return SSL_connect(session_) == 1; }
  bool send(std::string_view bytes) {
    return SSL_write(session_, bytes.data(), static_cast<int>(bytes.size())) ==
           static_cast<int>(bytes.size());
  }
  // Until the server ends or `enough` is in it.
  std::string receive(std::string_view enough = {}) {
    std::string all;
    char chunk[4096];
    while (enough.empty() || all.find(enough) == std::string::npos) {
      const int got = SSL_read(session_, chunk, sizeof chunk);
      if (got <= 0) {
        ended_well_ = SSL_get_error(session_, got) == SSL_ERROR_ZERO_RETURN;
        break;
      }
      all.append(chunk, static_cast<std::size_t>(got));
    }
    return all;
  }
  // The server said that it was the end, so nothing was cut off.
  bool ended_well() const { return ended_well_; }
  const Socket& socket() const { return socket_; }

 private:
  static Socket connect_to_tcp(std::uint16_t port) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    return socket;
  }

  SSL_CTX* context_;
  SSL* session_ = nullptr;
  Socket socket_;
  bool ended_well_ = false;
};

class HttpTlsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ::signal(SIGPIPE, SIG_IGN);
    char name[] = "/tmp/clouddisk-https-XXXXXX";
    folder_ = ::mkdtemp(name);
    for (const char* folder : {"/plain", "/strict"}) {
      ASSERT_TRUE(make_certificates(folder_ + folder, folder_ + "/ca", "server")) << "certtool";
    }
    ASSERT_TRUE(make_certificates(folder_ + "/client", folder_ + "/ca", "client"));
    ASSERT_TRUE(make_certificates(folder_ + "/stranger", folder_ + "/other-ca", "client"));
    std::filesystem::copy_file(folder_ + "/ca/ca-cert.pem", folder_ + "/strict/ca-cert.pem");
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }
  void SetUp() override { ASSERT_TRUE(thread_.works()); }
  void TearDown() override {
    if (server_ == nullptr) return;
    thread_.run([&] { return server_->stop(); });
    thread_.call([&] { server_.reset(); });
  }

  void start(const std::string& certificates, HttpServer::Options options = {}) {
    auto tls = HttpTls::load(folder_ + certificates);
    ASSERT_TRUE(tls) << tls.error().message;
    options.tls = *tls;
    options.tls_addresses = {*parse_address("tcp:127.0.0.1:0")};
    const auto answer = [](HttpRequest request) -> Task<HttpResponse> {
      HttpResponse response;
      response.body = request.method + ' ' + request.path + '#' + request.body;
      response.body += '\n' + request.peer;
      if (request.path == "/big") response.body.resize(8 * 1024 * 1024, 'b');
      co_return response;
    };
    thread_.call([&] {
      auto server = HttpServer::start(thread_.ring(), {*parse_address("tcp:127.0.0.1:0")}, answer,
                                      std::move(options));
      if (server) server_ = std::move(*server);
    });
    ASSERT_NE(server_, nullptr);
    plain_ = server_->addresses()[0];
    tls_ = server_->addresses()[1];
  }
  std::string ca() const { return folder_ + "/ca"; }

  static inline std::string folder_;
  RingThread thread_;
  std::unique_ptr<HttpServer> server_;
  Address plain_, tls_;
};

TEST_F(HttpTlsTest, ServesManyRequestsOfAConnectionBesideOnesInTheClear) {
  start("/plain");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClient client(tls_, ca(), {}, version);
    ASSERT_TRUE(client.shake_hands());
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(client.send(fmt::format("POST /{} HTTP/1.1\r\nContent-Length: 3\r\n\r\n", i)));
      ASSERT_TRUE(client.send("a=b"));
      const std::string reply = client.receive("127.0.0.1:");
      EXPECT_NE(reply.find(fmt::format("POST /{}#a=b\n", i)), std::string::npos) << reply;
    }
    ASSERT_TRUE(client.send("GET /big HTTP/1.1\r\nConnection: close\r\n\r\n"));
    EXPECT_GT(client.receive().size(), 8U * 1024 * 1024);
    EXPECT_TRUE(client.ended_well());
  }
  auto plain = http_post(plain_, "/p", "a=b", seconds(5));
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_TRUE(plain->body.starts_with("POST /p#a=b"));
}

TEST_F(HttpTlsTest, ARefusalArrivesThoughTheRequestIsStillBeingSent) {
  HttpServer::Options options;
  options.body_bytes_max = 1000;
  start("/plain", options);
  TlsClient client(tls_, ca());
  ASSERT_TRUE(client.shake_hands());
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"));
  client.send(std::string(500'000, 'x'));
  const std::string reply = client.receive();
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 413 ")) << reply;
  EXPECT_TRUE(client.ended_well());
}

TEST_F(HttpTlsTest, WhatIsNoTlsIsCutOff) {
  start("/plain");
  TlsClient client(tls_, ca());
  const std::string_view plain = "GET / HTTP/1.1\r\n\r\n";
  ASSERT_GT(::send(client.socket().fd(), plain.data(), plain.size(), MSG_NOSIGNAL), 0);
  char bytes[4096];
  ssize_t got = 0;
  std::string all;
  while ((got = ::recv(client.socket().fd(), bytes, sizeof bytes, 0)) > 0) {
    all.append(bytes, static_cast<std::size_t>(got));
  }
  EXPECT_EQ(all.find("HTTP"), std::string::npos);
  EXPECT_FALSE(http_get(tls_, "/", seconds(5)));
  TlsClient old(tls_, ca(), {}, TLS1_1_VERSION);
  EXPECT_FALSE(old.shake_hands());
  EXPECT_EQ(server_->requests(), 0U);
}

TEST_F(HttpTlsTest, AHandshakeHasToBeOverInTime) {
  HttpServer::Options options;
  options.handshake_max = milliseconds(200);
  start("/plain", options);
  TlsClient silent(tls_, ca());
  TlsClient half(tls_, ca());
  const std::string_view begun("\x16\x03\x01\x02\x00\x01\x00", 7);
  ASSERT_GT(::send(half.socket().fd(), begun.data(), begun.size(), MSG_NOSIGNAL), 0);
  char byte = 0;
  for (const TlsClient* client : {&silent, &half}) {
    const auto began = std::chrono::steady_clock::now();
    EXPECT_LE(::recv(client->socket().fd(), &byte, 1, 0), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(5));
  }
  // Whoever was in time may take as long as any other for the request.
  TlsClient good(tls_, ca());
  ASSERT_TRUE(good.shake_hands());
  ::usleep(400'000);
  ASSERT_TRUE(good.send("GET /1 HTTP/1.1\r\n\r\n"));
  EXPECT_NE(good.receive("GET /1#").find("200 OK"), std::string::npos);
}

TEST_F(HttpTlsTest, TooManyAreToldSoThroughTlsAsWell) {
  HttpServer::Options options;
  options.connections_max = 1;
  start("/plain", options);
  TlsClient first(tls_, ca());
  ASSERT_TRUE(first.shake_hands());
  TlsClient second(tls_, ca());
  ASSERT_TRUE(second.shake_hands());
  EXPECT_TRUE(second.receive().starts_with("HTTP/1.1 503 "));
}

TEST_F(HttpTlsTest, WithAnAuthorityClientsNeedACertificateOfIt) {
  start("/strict");
  const auto gets_in = [&](const std::string& certificates) {
    TlsClient client(tls_, ca(), certificates.empty() ? "" : folder_ + certificates);
    if (!client.shake_hands()) return false;
    client.send("GET /in HTTP/1.1\r\n\r\n");  // With TLS 1.3 a refusal comes behind the handshake.
    return client.receive("GET /in#").find("GET /in#") != std::string::npos;
  };
  EXPECT_TRUE(gets_in("/client"));
  EXPECT_FALSE(gets_in(""));
  EXPECT_FALSE(gets_in("/stranger"));
  EXPECT_EQ(server_->requests(), 1U);
}

TEST_F(HttpTlsTest, StopEndsConnectionsInAnyState) {
  start("/plain");
  TlsClient silent(tls_, ca());
  TlsClient idle(tls_, ca());
  ASSERT_TRUE(idle.shake_hands());
  ASSERT_TRUE(idle.send("GET /1 HTTP/1.1\r\n\r\n"));
  idle.receive("GET /1#");
  const auto began = std::chrono::steady_clock::now();
  thread_.run([&] { return server_->stop(); });
  thread_.call([&] { server_.reset(); });
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(5));
  EXPECT_EQ(idle.receive(), "");
}

TEST_F(HttpTlsTest, BadFilesAreNamed) {
  const std::string folder = folder_ + "/bad";
  const std::string strict = folder_ + "/strict";
  const auto problem = [&](const std::string& file, const std::string& content) {
    std::filesystem::remove_all(folder);
    std::filesystem::copy(strict, folder);
    std::filesystem::remove(folder + "/" + file);
    if (!content.empty()) std::ofstream(folder + "/" + file) << content;
    auto loaded = HttpTls::load(folder);
    return loaded ? std::string() : loaded.error().message;
  };
  for (const char* file : {"server-cert.pem", "server-key.pem", "ca-cert.pem", "ca-crl.pem"}) {
    const std::string said = problem(file, "nothing of a certificate\n");
    EXPECT_NE(said.find(folder + "/" + file), std::string::npos) << said;
  }
  for (const char* file : {"server-cert.pem", "server-key.pem"}) {
    const std::string said = problem(file, "");
    EXPECT_NE(said.find(folder + "/" + file), std::string::npos) << said;
  }
  std::ifstream other(folder_ + "/plain/server-key.pem");
  const std::string key{std::istreambuf_iterator<char>(other), {}};
  EXPECT_NE(problem("server-key.pem", key).find("matching pair"), std::string::npos);
  EXPECT_EQ(problem("ca-cert.pem", ""), "") << "without one clients are not checked";
}

}  // namespace
}  // namespace clouddisk
