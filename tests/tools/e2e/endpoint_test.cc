// The action API over TCP, with the real daemon: who gets in, what is refused, and that neither
// strangers nor a crash change anything.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <thread>

#include "engine/base/bytes.h"
#include "tests/tools/e2e/tcp_client.h"
#include "tests/tools/e2e/test_daemon.h"

namespace clouddisk::e2e {
namespace {

using Scheme = TcpClient::Scheme;
using std::chrono::minutes;

constexpr Scheme kSchemes[] = {Scheme::kV1Get, Scheme::kV1Post, Scheme::kV3};

class Endpoint : public testing::Test {
 protected:
  void SetUp() override { begin({}); }

  void begin(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--api", "tcp:127.0.0.1:0"});
    ASSERT_TRUE(daemon_.start(std::move(arguments))) << daemon_.log();
    const std::string log = daemon_.log();
    const std::string_view said = "signed requests, is at tcp:127.0.0.1:";
    const auto at = log.rfind(said);
    ASSERT_NE(at, std::string::npos) << log;
    port_ = static_cast<std::uint16_t>(std::stoul(log.substr(at + said.size())));
  }
  void make_key() {
    const Json made = daemon_.ok_json({"key", "create"})["AccessKey"];
    key_ = {made["AccessKeyId"], made["AccessKeySecret"]};
  }
  TcpClient connect() const {
    auto client = TcpClient::connect(port_);
    CHECK(client.has_value());
    return std::move(*client);
  }
  TcpAnswer call(const std::string& action, Params params = {}, Scheme scheme = Scheme::kV3) const {
    return connect().call(action, std::move(params), key_, scheme);
  }
  std::size_t resident_bytes() const {
    std::ifstream statm("/proc/" + std::to_string(daemon_.pid()) + "/statm");
    std::size_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * 4096;
  }

  TestDaemon daemon_;
  std::uint16_t port_ = 0;
  auth::Credentials key_;
};

TEST_F(Endpoint, EitherSignatureDrivesADiskAndTheBytesAreReal) {
  make_key();
  for (const Scheme scheme : kSchemes) {
    TcpClient client = connect();  // One connection for all of it.
    const auto must = [&](const std::string& action, Params params) {
      const TcpAnswer answer = client.call(action, std::move(params), key_, scheme);
      EXPECT_EQ(answer.status, 200) << action << answer.body;
      const Json json = answer.json();
      EXPECT_EQ(answer.header("x-acs-request-id"), json.value("RequestId", "")) << action;
      EXPECT_EQ(answer.header("content-type"), "application/json;charset=utf-8");
      return json;
    };
    const std::string disk = must("CreateDisk", {{"RegionId", "cn-local"},
                                                 {"ZoneId", "cn-local-a"},
                                                 {"DiskCategory", "cloud_essd"},
                                                 {"DiskName", "a+b=c&d *~!'() 数据盘"},
                                                 {"Size", "40"}})["DiskId"];
    must("AttachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
    // Answered when it is on record; it is exported a little later.
    const Params of_disk{{"RegionId", "cn-local"}, {"DiskIds", "[\"" + disk + "\"]"}};
    for (int i = 0; i < 200; ++i) {
      if (must("DescribeDisks", of_disk)["Disks"]["Disk"][0]["Status"] == "In_use") break;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    auto nbd = daemon_.connect(disk);
    ASSERT_TRUE(nbd) << nbd.error().message;
    EXPECT_EQ(nbd->size_bytes(), 40_GiB);
    const std::vector<std::byte> content(8192, std::byte{0x5a});
    ASSERT_TRUE(nbd->write(4096, content));
    ASSERT_TRUE(nbd->flush());
    std::vector<std::byte> seen(8192);
    ASSERT_TRUE(nbd->read(4096, seen));
    EXPECT_EQ(seen, content);
    const Json list = must("DescribeDisks", of_disk);
    ASSERT_EQ(list["Disks"]["Disk"].size(), 1U);
    EXPECT_EQ(list["Disks"]["Disk"][0]["DiskName"], "a+b=c&d *~!'() 数据盘");
    EXPECT_EQ(list["Disks"]["Disk"][0]["Status"], "In_use");
    must("DetachDisk", {{"DiskId", disk}, {"InstanceId", "i-local"}});
    must("DeleteDisk", {{"DiskId", disk}});
    const TcpAnswer gone = client.call("DeleteDisk", {{"DiskId", disk}}, key_, scheme);
    EXPECT_EQ(gone.status, 404);
    EXPECT_EQ(gone.code(), "InvalidDiskId.NotFound");
    for (const char* member : {"RequestId", "HostId", "Code", "Message"}) {
      EXPECT_TRUE(gone.json()[member].is_string()) << member;
    }
  }
}

TEST_F(Endpoint, WhoHasNoKeyGetsNothingAndChangesNothing) {
  make_key();
  const Json before = daemon_.ok_json({"disk", "list"});
  const Params disk{{"Size", "40"}, {"DiskCategory", "cloud_essd"}};
  const WallTime now = std::chrono::system_clock::now();
  auth::Credentials wrong = key_;
  wrong.secret += "x";
  const auth::Credentials nobody{"LTAInobody", key_.secret};
  for (const Scheme scheme : kSchemes) {
    TcpClient client = connect();
    const auto refused = [&](const std::string& bytes, int status, const char* code) {
      TcpClient stranger = connect();
      const TcpAnswer answer = stranger.send(bytes);
      EXPECT_EQ(answer.header("connection"), "close") << answer.head;
      EXPECT_EQ(stranger.read_answer().status, 0) << "nor is anything more answered";
      EXPECT_EQ(answer.status, status) << answer.body;
      EXPECT_EQ(answer.code(), code) << answer.body;
      EXPECT_FALSE(answer.header("x-acs-request-id").empty());
    };
    const auto sign = [&](const auth::Credentials& who, WallTime when = {},
                          std::string nonce = {}) {
      return client.signed_request("CreateDisk", disk, who, scheme, when == WallTime{} ? now : when,
                                   std::move(nonce));
    };
    refused(sign(wrong), 400, "SignatureDoesNotMatch");
    refused(sign(nobody), 404, "InvalidAccessKeyId.NotFound");
    refused(sign(key_, now - minutes(16)), 400, "InvalidTimeStamp.Expired");
    refused(sign(key_, now + minutes(16)), 400, "InvalidTimeStamp.Expired");
    // Sent again as it was, by somebody who saw it.
    const std::string good =
        client.signed_request("DescribeDisks", {}, key_, scheme, now,
                              "nonce-" + std::to_string(static_cast<int>(scheme)));
    EXPECT_EQ(client.send(good).status, 200);
    refused(good, 400, "SignatureNonceUsed");
    refused(good, 400, "SignatureNonceUsed");
    // Something changed on the way.
    std::string changed = sign(key_);
    const auto at = changed.find("Size=40");
    ASSERT_NE(at, std::string::npos);
    changed.replace(at, 7, "Size=80");
    refused(changed, 400, "SignatureDoesNotMatch");
  }
  const TcpClient client = connect();
  const std::string host = "Host: " + client.host() + "\r\n";
  const auto plain = [&](const std::string& first_line) {
    return connect().send(first_line + " HTTP/1.1\r\n" + host + "\r\n");
  };
  EXPECT_EQ(plain("GET /?Action=CreateDisk&Size=40&Version=2014-05-26").code(), "MissingParameter");
  EXPECT_EQ(plain("GET /?Action=CreateDisk&AccessKeyId=" + key_.key_id).code(), "MissingParameter");
  EXPECT_EQ(plain("GET /metrics").status, 404);
  EXPECT_EQ(plain("GET /healthz").status, 404);
  EXPECT_EQ(plain("PUT /").status, 405);
  EXPECT_EQ(daemon_.ok_json({"disk", "list"})["Disks"], before["Disks"]);
}

TEST_F(Endpoint, KeysAreMadeOnTheUnixSocketAloneAndEndWhenTheyAreDeleted) {
  make_key();
  for (const char* action : {"CreateAccessKey", "ListAccessKeys", "DeleteAccessKey"}) {
    const TcpAnswer answer = call(action, {{"UserAccessKeyId", key_.key_id}});
    EXPECT_EQ(answer.status, 403) << action;
    EXPECT_EQ(answer.code(), "Forbidden.RAM") << action;
  }
  const std::string table = daemon_.ok({"key", "list"});
  EXPECT_NE(table.find(key_.key_id), std::string::npos);
  EXPECT_EQ(table.find(key_.secret), std::string::npos);
  EXPECT_EQ(daemon_.log().find(key_.secret), std::string::npos);
  EXPECT_EQ(call("DescribeDisks").status, 200);
  daemon_.ok({"key", "disable", key_.key_id});
  EXPECT_EQ(call("DescribeDisks").code(), "InvalidAccessKeyId.Inactive");
  daemon_.ok({"key", "enable", key_.key_id});
  EXPECT_EQ(call("DescribeDisks").status, 200);
  daemon_.ok({"key", "delete", key_.key_id});
  EXPECT_EQ(call("DescribeDisks").code(), "InvalidAccessKeyId.NotFound");
  daemon_.refused("EntityNotExist.User.AccessKey", {"key", "delete", key_.key_id});
  // The user's own, from a file.
  const std::string file = daemon_.root() + "/secret";
  std::ofstream(file) << "exampleSecretForVectors0123456\n";
  EXPECT_EQ(daemon_.ok({"key", "create", "--id", "LTAIexampleKeyId01", "--secret-file", file}),
            "LTAIexampleKeyId01")
      << "who brings a secret has it";
  key_ = {"LTAIexampleKeyId01", "exampleSecretForVectors0123456"};
  EXPECT_EQ(call("DescribeDisks").status, 200);
  for (int replica = 1; replica <= 3; ++replica) {
    struct stat info {};
    ASSERT_EQ(::stat((daemon_.replica(replica) + "/catalog/data.mdb").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U) << "secrets are in it";
  }
}

TEST_F(Endpoint, KeysAndClientTokensOutliveACrash) {
  make_key();
  const Params disk{{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"ClientToken", "token-1"}};
  const std::string first = call("CreateDisk", disk).json()["DiskId"];
  const TcpClient before = connect();  // The port is another after the restart: the host is signed.
  const std::string seen = before.signed_request("DescribeDisks", {}, key_, Scheme::kV1Get);
  EXPECT_EQ(connect().send(seen).status, 200);
  daemon_.kill_now();
  begin({});
  EXPECT_EQ(connect().send(seen).code(), "SignatureNonceUsed") << "across the crash, too";
  EXPECT_EQ(call("CreateDisk", disk, Scheme::kV1Post).json()["DiskId"], first);
  Params other = disk;
  other["Size"] = "80";
  const TcpAnswer refused = call("CreateDisk", other);
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.code(), "IdempotentParameterMismatch");
  EXPECT_EQ(call("CreateDisk", {{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"DryRun", "true"}})
                .code(),
            "DryRunOperation");
  EXPECT_EQ(call("DescribeDisks").json()["TotalCount"], 1);
}

TEST_F(Endpoint, FormsChunksLetterCaseAndXml) {
  make_key();
  TcpClient client = connect();
  // A body in chunks, cut anywhere.
  const std::string post = client.signed_request(
      "CreateDisk", {{"sIZE", "40"}, {"DISKCATEGORY", "cloud_essd"}, {"disknAme", "data disk"}},
      key_, Scheme::kV1Post);
  const auto head_end = post.find("content-length");
  const std::string body = post.substr(post.find("\r\n\r\n") + 4);
  std::string chunked = post.substr(0, head_end) + "Transfer-Encoding: chunked\r\n\r\n";
  for (std::size_t i = 0; i < body.size(); i += 7) {
    const std::string part = body.substr(i, 7);
    chunked += fmt::format("{:x}\r\n{}\r\n", part.size(), part);
  }
  const TcpAnswer made = client.send(chunked + "0\r\n\r\n");
  ASSERT_EQ(made.status, 200) << made.body;
  const std::string disk = made.json()["DiskId"];
  EXPECT_EQ(daemon_.ok_json({"disk", "show", disk})["DiskName"], "data disk");
  for (const Scheme scheme : kSchemes) {
    const TcpAnswer xml = client.call("DescribeDisks", {{"Format", "XML"}}, key_, scheme);
    EXPECT_EQ(xml.status, 200);
    EXPECT_EQ(xml.header("content-type"), "text/xml;charset=utf-8");
    EXPECT_NE(xml.body.find("<DescribeDisksResponse><Disks><Disk>"), std::string::npos) << xml.body;
    EXPECT_NE(xml.body.find("<DiskId>" + disk + "</DiskId>"), std::string::npos);
    const TcpAnswer error =
        client.call("DeleteDisk", {{"Format", "XML"}, {"DiskId", "d-<&"}}, key_, scheme);
    EXPECT_EQ(error.status, 404);
    EXPECT_TRUE(error.body.starts_with("<?xml version='1.0' encoding='UTF-8'?><Error><Code>"))
        << error.body;
    EXPECT_EQ(client.call("DescribeDisks", {{"Format", "json"}}, key_, scheme).status, 200);
    EXPECT_EQ(client.call("describedisks", {}, key_, scheme).status, 200);
    EXPECT_EQ(client.call("Conquer", {}, key_, scheme).code(), "InvalidAction.NotFound");
    const TcpAnswer absent = client.call("LockSnapshot", {}, key_, scheme);
    EXPECT_EQ(absent.status, 404);
    EXPECT_EQ(absent.code(), "InvalidAction.NotFound");
  }
  // Two requests in one go get two answers.
  ASSERT_TRUE(client.write(client.signed_request("DescribeRegions", {}, key_, Scheme::kV3) +
                           client.signed_request("DescribeZones", {}, key_, Scheme::kV3)));
  EXPECT_TRUE(client.read_answer().json().contains("Regions"));
  EXPECT_TRUE(client.read_answer().json().contains("Zones"));
}

TEST_F(Endpoint, MalformedRequestsAreRefusedInJsonAndChangeNothing) {
  make_key();
  const Json before = daemon_.ok_json({"disk", "list"});
  std::string deep = "Size";
  for (int i = 0; i < 1000; ++i) deep += ".1";
  Params many;
  for (int i = 0; i < 3000; ++i) many["P" + std::to_string(i)] = "1";
  const Params large{{"DiskName", std::string(200'000, 'x')}, {"Size", "40"}};
  const Params tags{
      {"Size", "40"}, {deep, "1"}, {"Tag.1.Key", ""}, {"Tag.99999999999999999999.Key", "x"}};
  struct Case {
    const char* name;
    Params params;
    Scheme scheme;
    int status;
  };
  const Case cases[] = {
      {"too many parameters", many, Scheme::kV1Post, 400},
      {"a head that is too large", large, Scheme::kV3, 431},
      {"a head that is too large for TCP",
       {{"DiskName", std::string(17'000, 'x')}},
       Scheme::kV3,
       431},
      {"a name that is too long", large, Scheme::kV1Post, 400},
      {"a size that is none", {{"Size", "4o"}}, Scheme::kV3, 400},
      {"a size beyond 64 bits", {{"Size", "99999999999999999999999"}}, Scheme::kV3, 400},
      {"tags without a key", tags, Scheme::kV1Post, 400},
      {"ids that are no list", {{"DiskIds", "[[[[["}, {"DryRun", "maybe"}}, Scheme::kV3, 400},
  };
  for (const Case& c : cases) {
    const TcpAnswer answer = call("CreateDisk", c.params, c.scheme);
    EXPECT_TRUE(answer.json().is_object()) << c.name << ": " << answer.body;
    // A line that is too long has a status of its own.
    EXPECT_TRUE(answer.status == c.status || (c.status == 431 && answer.status == 414))
        << c.name << ": " << answer.status << answer.body;
  }
  const std::vector<std::pair<const char*, std::string>> raw = {
      {"no HTTP", "hello\r\n\r\n"},
      {"another version", "GET / HTTP/3.0\r\n\r\n"},
      {"no target", "GET  HTTP/1.1\r\n\r\n"},
      {"invalid UTF-8", "GET /?Action=%ff&AccessKeyId=a&Signature=b HTTP/1.1\r\n\r\n"},
      {"a broken escape", "GET /?Action=%4 HTTP/1.1\r\n\r\n"},
      {"a parameter twice", "GET /?Size=40&size=80&Signature=b HTTP/1.1\r\n\r\n"},
      {"a null byte", std::string("GET /?Action=\0 HTTP/1.1\r\n\r\n", 28)},
      {"an odd coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"},
      {"a body that is too large", "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"},
      {"a chunk without a size", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
      {"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
      {"a JSON body",
       "POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"},
      {"half a signature", "POST / HTTP/1.1\r\nAuthorization: ACS3-HMAC-SHA256\r\n\r\n"},
      {"more fields than are taken", "POST / HTTP/1.1\r\n" +
                                         [] {
                                           std::string lines;
                                           for (int i = 0; i < 201; ++i) lines += "a:\r\n";
                                           return lines;
                                         }() +
                                         "\r\n"},
      {"many headers", "POST / HTTP/1.1\r\n" +
                           [] {
                             std::string lines;
                             for (int i = 0; i < 20'000; ++i) lines += "x-acs-a: b\r\n";
                             return lines;
                           }() +
                           "\r\n"},
  };
  for (const auto& [name, bytes] : raw) {
    const TcpAnswer answer = connect().send(bytes);
    EXPECT_GE(answer.status, 400) << name;
    EXPECT_LT(answer.status, 600) << name;
    EXPECT_TRUE(answer.json().is_object()) << name << ": " << answer.body;
    EXPECT_FALSE(answer.code().empty()) << name;
  }
  EXPECT_EQ(daemon_.ok_json({"disk", "list"})["Disks"], before["Disks"]);
}

class ManyConnections : public Endpoint {
 protected:
  void SetUp() override { begin({"--api-rate", "0"}); }
};

TEST_F(ManyConnections, TenThousandInSequenceCostNothing) {
  make_key();
  const Params none;
  const auto round = [&](int count) {
    for (int i = 0; i < count; ++i) {
      auto client = TcpClient::connect(port_);
      ASSERT_TRUE(client) << i;
      switch (i % 4) {
        case 0:  // Gone at once.
          break;
        case 1:
          ASSERT_TRUE(client->write("GET /?Action=Descr"));
          break;
        case 2:
          EXPECT_EQ(client->send("GET /?Action=CreateDisk HTTP/1.1\r\n\r\n").status, 400);
          break;
        default:
          EXPECT_EQ(client->call("DescribeRegions", none, key_).status, 200);
      }
    }
  };
  round(1'000);
  const std::size_t before = resident_bytes();
  round(9'000);
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t kKept = 256_MiB;  // what was freed, for a while
#else
  constexpr std::size_t kKept = 0;
#endif
  EXPECT_LT(resident_bytes(), before + 16_MiB + kKept);
  EXPECT_EQ(call("DescribeDisks").status, 200);
}

TEST_F(Endpoint, StrangersCanNotTakeTheConnectionsOfTheUnixSocket) {
  std::vector<TcpClient> open;
  for (int i = 0; i < 560; ++i) {
    auto client = TcpClient::connect(port_);
    ASSERT_TRUE(client);
    open.push_back(std::move(*client));
  }
  const TcpAnswer turned_away = open[540].read_answer();
  EXPECT_EQ(turned_away.status, 503);
  EXPECT_EQ(turned_away.code(), "ServiceUnavailable");
  daemon_.ok({"disk", "list"});
  open.clear();
  make_key();
  TcpAnswer answer;
  for (int i = 0; i < 100 && answer.status != 200; ++i) answer = call("DescribeDisks");
  EXPECT_EQ(answer.status, 200);
}

TEST_F(Endpoint, TheCommandLineSignsOverTcp) {
  make_key();
  const std::string api = "tcp:127.0.0.1:" + std::to_string(port_);
  ::unsetenv("ALIBABA_CLOUD_ACCESS_KEY_ID");
  daemon_.refused("NoAccessKey", {"--api", api, "disk", "list"});
  ::setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", key_.key_id.c_str(), 1);
  ::setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key_.secret.c_str(), 1);
  const std::string disk = daemon_.ok({"--api", api, "disk", "create", "--size", "40"});
  EXPECT_EQ(daemon_.ok({"disk", "list", "--ids"}), disk);
  // It waits until the disk can be used.
  const std::string uri = daemon_.ok({"--api", api, "disk", "attach", disk});
  EXPECT_EQ(uri.substr(0, 3), "nbd") << uri;
  ::setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "another", 1);
  daemon_.refused("SignatureDoesNotMatch", {"--api", api, "disk", "list"});
  const std::string why = daemon_.cli({"--api", api, "disk", "list"}).errors;
  EXPECT_TRUE(why.ends_with("\nCheck the secret of the access key\n"))
      << "apart from the text that was signed: " << why;
  const std::string lines = daemon_.ok({"key", "create", "--env"});
  EXPECT_TRUE(
      std::regex_match(lines, std::regex("export ALIBABA_CLOUD_ACCESS_KEY_ID='LTAI\\w{20}'\n"
                                         "export ALIBABA_CLOUD_ACCESS_KEY_SECRET='\\w{30}'")))
      << lines;
  // A secret of the user's own may be anything.
  const std::string secret = "it's-'\"$(false)`x`\\'";
  std::ofstream(daemon_.root() + "/secret") << secret << '\n';
  const std::string script = daemon_.root() + "/script";
  std::ofstream(script) << daemon_.ok({"key", "create", "--env", "--id", "LTAIexampleKeyId02",
                                       "--secret-file", daemon_.root() + "/secret"})
                        << "\nprintf %s \"$ALIBABA_CLOUD_ACCESS_KEY_SECRET\" >" << script
                        << ".out\n";
  ASSERT_EQ(std::system(("sh " + script).c_str()), 0);
  std::string seen;
  std::getline(std::ifstream(script + ".out"), seen);
  EXPECT_EQ(seen, secret);
}

class ThrottledEndpoint : public Endpoint {
 protected:
  void SetUp() override { begin({"--api-rate", "5"}); }
};

TEST_F(ThrottledEndpoint, AKeyThatAsksTooMuchIsToldWhenToComeBack) {
  make_key();
  TcpClient client = connect();
  int granted = 0;
  TcpAnswer refused;
  for (int i = 0; i < 50; ++i) {
    refused = client.call("DescribeRegions", {}, key_);
    if (refused.status != 200) break;
    ++granted;
  }
  EXPECT_GE(granted, 5);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.code(), "Throttling.User");
  const int wait = std::stoi("0" + refused.header("x-acs-retry-after"));
  EXPECT_GE(wait, 1);
  EXPECT_LE(wait, 200);
  for (int i = 0; i < 20; ++i) daemon_.ok({"disk", "list"});  // The unix socket has no limit.
  ::usleep(static_cast<useconds_t>(wait) * 1000);
  EXPECT_EQ(client.call("DescribeRegions", {}, key_).status, 200);
}

}  // namespace
}  // namespace clouddisk::e2e
