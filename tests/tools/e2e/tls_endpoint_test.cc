// The action API through TLS, with the real daemon and curl: who is talked to, who gets in, and
// what a wrong folder of certificates does.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/tools/certificates.h"
#include "tests/tools/e2e/tcp_client.h"
#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

using Scheme = TcpClient::Scheme;

class TlsEndpoint : public testing::Test {
 protected:
  void SetUp() override {
    CLOUDDISK_NEEDS("certtool");
    CLOUDDISK_NEEDS("curl");
    certificates_ = daemon_.root() + "-tls";
    ASSERT_TRUE(make_certificates(certificates_, authority(), "server"));
  }
  std::string authority() const { return daemon_.root() + "-ca"; }
  // "tcp" or "tls".
  std::uint16_t port_of(const std::string& kind) const {
    const std::string log = daemon_.log();
    const std::string said = "signed requests, is at " + kind + ":127.0.0.1:";
    const auto at = log.rfind(said);
    if (at == std::string::npos) return 0;
    return static_cast<std::uint16_t>(std::stoul(log.substr(at + said.size())));
  }
  void make_key() {
    const Json made = daemon_.ok_json({"key", "create"})["AccessKey"];
    key_ = {made["AccessKeyId"], made["AccessKeySecret"]};
  }
  // The path and query of a request that is signed; what it signs is good for any host.
  std::string path_of(const std::string& action, Params params = {}) const {
    auto client = TcpClient::connect(port_of("tls"));
    CHECK(client.has_value());
    const std::string bytes =
        client->signed_request(action, std::move(params), key_, Scheme::kV1Get);
    const auto begin = bytes.find(' ') + 1;
    return bytes.substr(begin, bytes.find(' ', begin) - begin);
  }
  ProgramResult curl(const std::string& path, std::vector<std::string> more) const {
    std::vector<std::string> command{"curl", "-s", "-S", "--max-time", "20"};
    command.insert(command.end(), more.begin(), more.end());
    command.push_back(fmt::format("https://127.0.0.1:{}{}", port_of("tls"), path));
    auto result = cli::run_program(command, std::chrono::seconds(30));
    CHECK(result);
    return *result;
  }
  Json call(const std::string& path) const {
    const auto result = curl(path, {"--cacert", authority() + "/ca-cert.pem"});
    EXPECT_EQ(result.exit_status, 0) << result.output;
    return Json::parse(result.output, nullptr, false);
  }

  TestDaemon daemon_;
  std::string certificates_;
  auth::Credentials key_;
};

TEST_F(TlsEndpoint, SignedRequestsBesideThoseInTheClear) {
  ASSERT_TRUE(daemon_.start(
      {"--api", "tls:127.0.0.1:0", "--api", "tcp:127.0.0.1:0", "--api-tls-dir", certificates_}))
      << daemon_.log();
  make_key();
  const std::string create =
      path_of("CreateDisk",
              {{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"DiskName", "a+b=c&d ~!'()"}});
  const std::string disk = call(create).value("DiskId", "");
  EXPECT_EQ(daemon_.ok_json({"disk", "show", disk})["DiskName"], "a+b=c&d ~!'()");
  EXPECT_EQ(call(create)["Code"], "SignatureNonceUsed");
  auto plain = TcpClient::connect(port_of("tcp"));
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->send("GET " + create + " HTTP/1.1\r\n\r\n").code(), "SignatureNonceUsed")
      << "one daemon, one memory of nonces";
  EXPECT_EQ(
      TcpClient::connect(port_of("tcp"))->call("DescribeDisks", {}, key_).json()["TotalCount"], 1);
  EXPECT_EQ(call("/?Action=DescribeDisks")["Code"], "MissingParameter");
  EXPECT_EQ(call("/metrics").value("Code", ""), "InvalidPath.NotFound");
  EXPECT_NE(curl(path_of("DescribeDisks"), {}).exit_status, 0)
      << "curl does not know this authority";
  // Disks are served as before.
  EXPECT_EQ(daemon_.ok({"disk", "attach", disk}).find("nbds"), std::string::npos);
  EXPECT_EQ(daemon_.stop(), 0);
}

TEST_F(TlsEndpoint, TheFolderOfNbdWillDoAndItsAuthorityAsksClientsForACertificate) {
  std::filesystem::copy_file(authority() + "/ca-cert.pem", certificates_ + "/ca-cert.pem");
  ASSERT_TRUE(make_certificates(certificates_, authority(), "client"));
  ASSERT_TRUE(daemon_.start({"--api", "tls:127.0.0.1:0", "--tls-dir", certificates_}))
      << daemon_.log();
  make_key();
  const std::string base = certificates_ + "/client";
  const std::vector<std::string> trusting{"--cacert", authority() + "/ca-cert.pem"};
  EXPECT_NE(curl(path_of("DescribeDisks"), trusting).exit_status, 0);
  std::vector<std::string> known = trusting;
  known.insert(known.end(), {"--cert", base + "-cert.pem", "--key", base + "-key.pem"});
  const auto answer = curl(path_of("DescribeDisks"), known);
  EXPECT_EQ(Json::parse(answer.output, nullptr, false).value("TotalCount", -1), 0) << answer.output;
}

TEST_F(TlsEndpoint, AFolderThatWillNotDoIsNamedAtTheStart) {
  const std::vector<std::string> wanted{"--api", "tls:127.0.0.1:0", "--api-tls-dir", certificates_};
  std::filesystem::resize_file(certificates_ + "/server-cert.pem", 100);
  EXPECT_FALSE(daemon_.start(wanted));
  EXPECT_NE(daemon_.log().find("TLS: " + certificates_ + "/server-cert.pem: "), std::string::npos)
      << daemon_.log();
  std::filesystem::remove(certificates_ + "/server-key.pem");
  EXPECT_FALSE(daemon_.start(wanted));
  EXPECT_NE(daemon_.log().find(certificates_ + "/server-key.pem: No such file"), std::string::npos)
      << daemon_.log();
}

}  // namespace
}  // namespace clouddisk::e2e
