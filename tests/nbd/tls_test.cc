// TLS by certificate and by pre-shared key, with the tools of libnbd as the other side.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/base/bytes.h"
#include "tests/nbd/test_server.h"
#include "tests/support/bytes.h"

namespace clouddisk::nbd {
namespace {

constexpr const char* kKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
constexpr const char* kOtherKey =
    "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

// Exit status; what it prints goes to `log`.
int run(const std::string& command, const std::string& log = "/dev/null") {
  const int status = std::system(("timeout 20 " + command + " >" + log + " 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
bool installed(const std::string& program) {
  return run("which " + program) == 0;
}

void write_file(const std::string& path, std::string_view text) {
  std::ofstream(path) << text;
}
Bytes file_content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

// Made once: an authority, a server and a client of it, and a client of a strange authority.
//   server/ is what a server loads; client/, stranger/ and nobody/ what libnbd is given.
class Certificates {
 public:
  static const Certificates& get() {
    static const Certificates certificates;
    return certificates;
  }
  bool made() const { return made_; }
  std::string folder(const std::string& name) const { return folder_.path() + "/" + name; }

 private:
  Certificates() {
    for (const char* name : {"server", "client", "stranger", "nobody", "other"}) {
      std::filesystem::create_directory(folder(name));
    }
    made_ = authority("server") && authority("other") && signed_pair("server", "server") &&
            signed_pair("server", "client") && signed_pair("other", "stranger");
    if (!made_) return;
    std::filesystem::copy_file(folder("server/ca-cert.pem"), folder("client/ca-cert.pem"));
    std::filesystem::copy_file(folder("server/ca-cert.pem"), folder("stranger/ca-cert.pem"));
    std::filesystem::copy_file(folder("other/ca-cert.pem"), folder("nobody/ca-cert.pem"));
  }

  static bool private_key(const std::string& path) {
    return run("certtool --generate-privkey --key-type=ecdsa --outfile " + path) == 0;
  }
  bool authority(const std::string& name) const {
    const std::string base = folder(name);
    write_file(base + "/ca.info", "cn = \"authority\"\nca\ncert_signing_key\n");
    return private_key(base + "/ca-key.pem") &&
           run("certtool --generate-self-signed --load-privkey " + base +
               "/ca-key.pem --template " + base + "/ca.info --outfile " + base + "/ca-cert.pem") ==
               0;
  }
  bool signed_pair(const std::string& authority, const std::string& name) const {
    const std::string kind = name == "server" ? "server" : "client";
    const std::string base = folder(name) + "/" + kind;
    write_file(base + ".info", "cn = \"" + name + "\"\ndns_name = \"localhost\"\n" +
                                   "ip_address = \"127.0.0.1\"\nsigning_key\nencryption_key\n" +
                                   "tls_www_" + kind + "\n");
    return private_key(base + "-key.pem") &&
           run("certtool --generate-certificate --load-ca-certificate " + folder(authority) +
               "/ca-cert.pem --load-ca-privkey " + folder(authority) + "/ca-key.pem" +
               " --load-privkey " + base + "-key.pem --template " + base + ".info --outfile " +
               base + "-cert.pem") == 0;
  }

  TemporaryFolder folder_;
  bool made_ = false;
};

class NbdTls : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* program : {"certtool", "nbdinfo", "nbdcopy"}) {
      ASSERT_TRUE(installed(program)) << program << ": tools/install-packages installs it";
    }
    ASSERT_TRUE(Certificates::get().made());
    keys_ = folder_.path() + "/keys";
    write_file(keys_, std::string("alice:") + kKey + "\n");
  }

  // Listens on a unix socket and on TCP, both with `policy`.
  void start(const std::string& certificates, const std::string& keys, TlsPolicy policy,
             bool verify_clients = false) {
    auto loaded = TlsCredentials::load(certificates, keys, verify_clients);
    ASSERT_TRUE(loaded) << loaded.error().message;
    ServerOptions options;
    options.tls = *loaded;
    options.negotiation_max = std::chrono::seconds(5);
    options.addresses = {{Address::tcp("127.0.0.1", 0), policy},
                         {Address::unix_socket(folder_.path() + "/nbd.sock"), policy}};
    server_ = std::make_unique<TestServer>(std::move(options));
    ASSERT_TRUE(server_->works());
    ASSERT_EQ(server_->problem(), "");
    port_ = server_->server().addresses().front().where.port;
    device_ = server_->add("disk", {.size_bytes = 8_MiB}, true);
  }
  // What libnbd is told about certificates: a folder of them.
  std::string by_certificate(const std::string& who) const {
    return "'nbds://localhost:" + std::to_string(port_) +
           "/disk?tls-certificates=" + Certificates::get().folder(who) + "'";
  }
  std::string by_key(const std::string& user, const std::string& file) const {
    return "'nbds+unix://" + user + "@/disk?socket=" + folder_.path() +
           "/nbd.sock&tls-psk-file=" + file + "'";
  }
  std::string in_the_clear() const {
    return "'nbd+unix:///disk?socket=" + folder_.path() + "/nbd.sock'";
  }
  bool reachable(const std::string& uri) const { return run("nbdinfo --size " + uri) == 0; }
  // Writes through nbdcopy, and reads it back.
  void expect_copies(const std::string& uri) {
    const Bytes data = pattern(8_MiB, 7);
    const std::string from = folder_.path() + "/from";
    const std::string to = folder_.path() + "/to";
    write_file(from, as_text(data));
    EXPECT_EQ(run("nbdcopy --flush " + from + " " + uri), 0);
    server_->at_home(device_, [&] { EXPECT_TRUE(same_bytes(device_->content(), data)); });
    EXPECT_EQ(run("nbdcopy " + uri + " " + to), 0);
    EXPECT_TRUE(same_bytes(file_content(to), data));
  }
  RawClient greeted() {
    RawClient client(folder_.path() + "/nbd.sock");
    EXPECT_TRUE(client.greet());
    return client;
  }

  TemporaryFolder folder_;
  std::string keys_;
  std::uint16_t port_ = 0;
  std::unique_ptr<TestServer> server_;
  std::shared_ptr<MemoryDevice> device_;
};

TEST_F(NbdTls, ByCertificate) {
  start(Certificates::get().folder("server"), "", TlsPolicy::kRequired);
  expect_copies(by_certificate("client"));
  EXPECT_FALSE(reachable(by_certificate("nobody")));  // It does not know our authority.
  EXPECT_FALSE(reachable(in_the_clear()));
  EXPECT_TRUE(reachable(by_certificate("client")));
}

TEST_F(NbdTls, ClientsAreVerified) {
  start(Certificates::get().folder("server"), "", TlsPolicy::kRequired, true);
  expect_copies(by_certificate("client"));
  EXPECT_FALSE(reachable(by_certificate("stranger")));
  EXPECT_TRUE(eventually([&] { return server_->server().counters().refused == 1; }));
  EXPECT_TRUE(reachable(by_certificate("client")));
}

TEST_F(NbdTls, ByKey) {
  start("", keys_, TlsPolicy::kRequired);
  expect_copies(by_key("alice", keys_));
  const std::string wrong = folder_.path() + "/wrong";
  write_file(wrong, std::string("alice:") + kOtherKey + "\nbob:" + kKey + "\n");
  EXPECT_FALSE(reachable(by_key("alice", wrong)));
  EXPECT_FALSE(reachable(by_key("bob", wrong)));
  EXPECT_FALSE(reachable(in_the_clear()));
  EXPECT_TRUE(reachable(by_key("alice", keys_)));
}

TEST_F(NbdTls, ByEither) {
  start(Certificates::get().folder("server"), keys_, TlsPolicy::kRequired, true);
  EXPECT_TRUE(reachable(by_key("alice", keys_)));
  EXPECT_TRUE(reachable(by_certificate("client")));
  EXPECT_FALSE(reachable(by_certificate("stranger")));
}

TEST_F(NbdTls, AllowedTakesBothKinds) {
  start(Certificates::get().folder("server"), keys_, TlsPolicy::kAllowed);
  expect_copies(in_the_clear());
  expect_copies(by_key("alice", keys_));
  EXPECT_TRUE(reachable(by_certificate("client")));
}

TEST_F(NbdTls, SeveralConnectionsAtOnce) {
  start("", keys_, TlsPolicy::kRequired);
  const std::string from = folder_.path() + "/from";
  const Bytes data = pattern(8_MiB, 9);
  write_file(from, as_text(data));
  EXPECT_EQ(run("nbdcopy --connections=4 --requests=32 --request-size=65536 " + from + " " +
                by_key("alice", keys_)),
            0);
  server_->at_home(device_, [&] { EXPECT_TRUE(same_bytes(device_->content(), data)); });
}

// --- Before the encryption ---

TEST_F(NbdTls, RequiredRefusesEverythingInTheClear) {
  start("", keys_, TlsPolicy::kRequired);
  RawClient client = greeted();
  for (const Option option : {Option::kList, Option::kInfo, Option::kGo, Option::kStructuredReply,
                              Option::kExtendedHeaders, Option::kListMetaContext,
                              Option::kSetMetaContext, static_cast<Option>(99)}) {
    const auto answers = client.ask(option, {});
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_TRUE(answers[0].is(OptionReply::kTlsRequired)) << static_cast<unsigned>(option);
  }
  EXPECT_TRUE(client.acked(Option::kAbort));
  RawClient old = greeted();
  ASSERT_TRUE(old.send_option(1, as_bytes("disk")));
  EXPECT_TRUE(old.ended());
}

TEST_F(NbdTls, GarbageInsteadOfTls) {
  start("", keys_, TlsPolicy::kRequired);
  for (const std::string& garbage : {std::string(100'000, 'x'), std::string("IHAVEOPT"),
                                     std::string("\x16\x03\x01\x00\x05hello", 10)}) {
    RawClient client = greeted();
    ASSERT_TRUE(client.acked(Option::kStartTls));
    client.send(as_bytes(garbage));
    ::shutdown(client.socket(), SHUT_WR);
    // It may send an alert, and then it hangs up.
    std::byte one;
    while (client.receive(std::span(&one, 1))) continue;
    EXPECT_TRUE(eventually([&] { return server_->server().counters().connections == 0; }));
  }
  EXPECT_TRUE(reachable(by_key("alice", keys_)));
}

// What comes in the clear behind STARTTLS must not be taken for encrypted options.
TEST_F(NbdTls, NothingSentAheadOfTheHandshakeIsBelieved) {
  start("", keys_, TlsPolicy::kRequired);
  RawClient client = greeted();
  ByteList both;
  both.u64(kOptionMagic).u32(5).u32(0).u64(kOptionMagic).u32(3).u32(0);
  ASSERT_TRUE(client.send(both));
  OptionAnswer answer;
  ASSERT_TRUE(client.receive_answer(answer));
  EXPECT_TRUE(answer.is(OptionReply::kAck));
  EXPECT_FALSE(client.receive_answer(answer));
}

// --- Credentials that are no good ---

TEST_F(NbdTls, FilesThatAreWrong) {
  const auto refused = [](const std::string& folder, const std::string& keys, bool verify = false) {
    const auto loaded = TlsCredentials::load(folder, keys, verify);
    return !loaded && loaded.error().code == Errc::kInvalid ? loaded.error().message : "accepted";
  };
  const std::string folder = folder_.path();
  EXPECT_NE(refused("", ""), "accepted");
  EXPECT_NE(refused("", keys_, true), "accepted");
  EXPECT_NE(refused(folder + "/none", "").find("server-cert.pem"), std::string::npos);
  EXPECT_NE(refused("", folder + "/none").find("psktool"), std::string::npos);

  std::filesystem::copy_file(Certificates::get().folder("server/server-cert.pem"),
                             folder + "/server-cert.pem");
  EXPECT_NE(refused(folder, "").find("server-key.pem"), std::string::npos);
  write_file(folder + "/server-key.pem", "no key");
  EXPECT_NE(refused(folder, "").find("certtool"), std::string::npos);
  std::filesystem::copy_file(Certificates::get().folder("server/ca-key.pem"),
                             folder + "/server-key.pem",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(refused(folder, "").find("matching"), std::string::npos);
  std::filesystem::copy_file(Certificates::get().folder("server/server-key.pem"),
                             folder + "/server-key.pem",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(refused(folder, ""), "accepted");
  EXPECT_NE(refused(folder, "", true).find("ca-cert.pem"), std::string::npos);
  write_file(folder + "/ca-cert.pem", "nothing");
  EXPECT_NE(refused(folder, "", true).find("ca-cert.pem"), std::string::npos);

  const std::string bad = folder + "/bad";
  for (const char* line :
       {"", "# a comment\n", "alice\n", "alice:\n", ":00112233445566778899aabb\n", "alice:0011\n",
        "alice:zz112233445566778899aabbccddeeff\n", "alice:00112233445566778899aabbccddeef\n"}) {
    write_file(bad, line);
    EXPECT_NE(refused("", bad).find(bad), std::string::npos) << line;
  }
  write_file(bad, std::string("# who\n\nalice:") + kKey + "\r\nb:" + kKey + "\nc:0011\n");
  EXPECT_NE(refused("", bad).find("line 5"), std::string::npos);
}

}  // namespace
}  // namespace clouddisk::nbd
