#include "tools/clouddiskd/api_handler.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/ring/uring_ring.h"
#include "tools/clouddiskd/request_throttle.h"
#include "tools/http/xml.h"

namespace clouddisk {
namespace {

Task<Reply> echo(Params params, Caller caller) {
  if (caller == Caller::kSigned) params["Caller"] = "signed";
  Reply reply;
  reply.body = R"({"RequestId":"ID-1","Seen":")" + encode_form(params) + "\"}";
  if (params["Action"] == "Fail") reply.http_status = 403;
  co_return reply;
}
Task<std::string> some_metrics() {
  co_return "clouddisk_up 1\n";
}

class ApiHandlerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto ring = UringRing::create({});
    ASSERT_TRUE(ring) << ring.error().message;
    ring_ = std::move(*ring);
  }
  HttpResponse ask(HttpRequest request) {
    return ring_->block_on(handler_.handle(std::move(request)));
  }
  static HttpRequest request(std::string method, std::string path, std::string query = {}) {
    HttpRequest made;
    made.method = std::move(method);
    made.path = std::move(path);
    made.query = std::move(query);
    return made;
  }

  HttpResponse ask_signed(HttpRequest request) {
    return ring_->block_on(handler_.handle_signed(std::move(request)));
  }

  static bool ends_connection(const HttpResponse& response) {
    const std::pair<std::string, std::string> close{"Connection", "close"};
    return std::find(response.headers.begin(), response.headers.end(), close) !=
           response.headers.end();
  }

  int nonces_used_ = 0;
  std::unique_ptr<UringRing> ring_;
  ApiHandler handler_{{
      .perform = echo,
      .metrics = some_metrics,
      .verify =
          [](const HttpRequest& request) -> Task<std::variant<ApiHandler::Verified, Refusal>> {
        if (request.header("authorization") == nullptr) {
          co_return Refusal{400, "MissingParameter", "Not signed."};
        }
        co_return ApiHandler::Verified{
            *request.header("authorization"), "SignedAction", "2014-05-26", {}};
      },
      .throttle = [](const std::string& key) -> std::optional<Duration> {
        if (key == "busy") return std::chrono::microseconds(99'001);
        return std::nullopt;
      },
      .use_nonce = [this](const ApiHandler::Verified& who) -> Task<Verdict> {
        ++nonces_used_;
        if (who.key_id != "full") co_return std::nullopt;
        co_return Refusal{400, "Throttling", "No room."};
      },
  }};
};

TEST_F(ApiHandlerTest, QueryAndFormBodyAreOneSetOfParameters) {
  HttpRequest post = request("POST", "/", "Action=X&Size=40");
  post.headers.emplace_back("content-type", "application/x-www-form-urlencoded; charset=utf-8");
  post.body = "DiskName=a%20b";
  const HttpResponse response = ask(std::move(post));
  EXPECT_EQ(response.status, 200);
  EXPECT_NE(response.body.find("Action=X&DiskName=a%20b&Size=40"), std::string::npos);
  ASSERT_EQ(response.headers.size(), 1U);
  EXPECT_EQ(response.headers[0].second, "ID-1");
}

TEST_F(ApiHandlerTest, TheActionMayComeInAHeader) {
  HttpRequest post = request("POST", "/", "Size=40");
  post.headers.emplace_back("x-acs-action", "CreateDisk");
  post.headers.emplace_back("x-acs-version", "2014-05-26");
  EXPECT_NE(ask(std::move(post)).body.find("Action=CreateDisk&Size=40&Version=2014-05-26"),
            std::string::npos);
}

// Found by fuzzing: it went on to the action as it was.
TEST_F(ApiHandlerTest, AnActionInAHeaderThatIsNoTextIsRefused) {
  HttpRequest post = request("POST", "/");
  post.headers.emplace_back("x-acs-action", "Cr\xed\x65nt");
  const HttpResponse response = ask(std::move(post));
  EXPECT_EQ(response.status, 400);
  EXPECT_NE(response.body.find("x-acs-action is not UTF-8"), std::string::npos) << response.body;
}

TEST_F(ApiHandlerTest, ARefusalKeepsItsStatus) {
  EXPECT_EQ(ask(request("GET", "/", "Action=Fail")).status, 403);
}

TEST_F(ApiHandlerTest, EverythingElseIsRefusedInJsonToo) {
  struct Case {
    const char* method;
    const char* path;
    const char* query;
    int status;
    const char* code;
  };
  for (const Case& c : {Case{"PUT", "/", "", 405, "UnsupportedHTTPMethod"},
                        {"HEAD", "/", "", 405, "UnsupportedHTTPMethod"},
                        {"POST", "/metrics", "", 405, "UnsupportedHTTPMethod"},
                        {"GET", "/other", "", 404, "InvalidPath.NotFound"},
                        {"GET", "/", "a=%zz", 400, "InvalidParameter.Format"},
                        {"GET", "/", "a=1&A=2", 400, "InvalidParameter.Format"}}) {
    const HttpResponse response = ask(request(c.method, c.path, c.query));
    EXPECT_EQ(response.status, c.status) << c.method << c.path;
    EXPECT_NE(response.body.find(fmt::format("\"Code\":\"{}\"", c.code)), std::string::npos)
        << response.body;
  }
  HttpRequest json = request("POST", "/");
  json.headers.emplace_back("content-type", "application/json");
  json.body = "{}";
  EXPECT_EQ(ask(std::move(json)).status, 400);
}

TEST_F(ApiHandlerTest, MetricsAndHealthAreServedBesideTheActions) {
  const HttpResponse metrics = ask(request("GET", "/metrics"));
  EXPECT_EQ(metrics.body, "clouddisk_up 1\n");
  EXPECT_TRUE(metrics.content_type.starts_with("text/plain"));
  EXPECT_EQ(ask(request("GET", "/healthz")).status, 200);
  const HttpResponse hidden =
      ring_->block_on(handler_.handle_metrics(request("POST", "/", "Action=DeleteDisk")));
  EXPECT_EQ(hidden.status, 404);
}

TEST_F(ApiHandlerTest, WithoutASignatureNothingIsPerformed) {
  const HttpResponse response = ask_signed(request("POST", "/", "Action=X"));
  EXPECT_EQ(response.status, 400);
  EXPECT_NE(response.body.find("\"Code\":\"MissingParameter\""), std::string::npos);
  EXPECT_EQ(response.body.find("Seen"), std::string::npos);
}

TEST_F(ApiHandlerTest, TheActionThatWasSignedIsPerformed) {
  HttpRequest post = request("POST", "/", "Size=40");
  post.headers.emplace_back("authorization", "key");
  EXPECT_NE(
      ask_signed(post).body.find("Action=SignedAction&Caller=signed&Size=40&Version=2014-05-26"),
      std::string::npos);
  // Headers that the signature of parameters does not cover.
  post.headers.emplace_back("x-acs-action", "DeleteDisk");
  EXPECT_NE(ask_signed(post).body.find("Action=SignedAction&"), std::string::npos);
  post.query = "Action=DeleteDisk";
  const HttpResponse two = ask_signed(post);
  EXPECT_EQ(two.status, 400);
  EXPECT_NE(two.body.find("Action is given twice"), std::string::npos);
}

TEST_F(ApiHandlerTest, AKeyThatAsksTooMuchIsToldWhenToComeBack) {
  HttpRequest post = request("POST", "/");
  post.headers.emplace_back("authorization", "busy");
  const HttpResponse response = ask_signed(std::move(post));
  EXPECT_EQ(response.status, 400);
  EXPECT_NE(response.body.find("\"Code\":\"Throttling.User\""), std::string::npos);
  const std::pair<std::string, std::string> wait{"x-acs-retry-after", "100"};
  EXPECT_NE(std::find(response.headers.begin(), response.headers.end(), wait),
            response.headers.end());
}

TEST_F(ApiHandlerTest, NoncesAreUsedByWhatIsSignedAndNotThrottledAlone) {
  const auto ask_as = [&](const char* key) {
    HttpRequest post = request("POST", "/");
    if (*key != '\0') post.headers.emplace_back("authorization", key);
    return ask_signed(std::move(post));
  };
  EXPECT_TRUE(ends_connection(ask_as(""))) << "nobody tries again and again";
  EXPECT_FALSE(ends_connection(ask_as("busy")));
  EXPECT_EQ(nonces_used_, 0);
  EXPECT_FALSE(ends_connection(ask_as("key")));
  EXPECT_EQ(nonces_used_, 1);
  const HttpResponse full = ask_as("full");
  EXPECT_NE(full.body.find("\"Code\":\"Throttling\""), std::string::npos) << full.body;
  EXPECT_EQ(full.body.find("Seen"), std::string::npos) << "it is not performed";
  EXPECT_FALSE(ends_connection(full));
}

TEST_F(ApiHandlerTest, OnTcpThereAreActionsAlone) {
  EXPECT_EQ(ask_signed(request("GET", "/metrics")).status, 404);
  EXPECT_EQ(ask_signed(request("GET", "/healthz")).status, 404);
  EXPECT_EQ(ask_signed(request("DELETE", "/")).status, 405);
}

TEST_F(ApiHandlerTest, FormatChoosesJsonOrXml) {
  EXPECT_TRUE(ask(request("GET", "/", "Action=X&Format=json")).body.starts_with("{"));
  const HttpResponse xml = ask(request("GET", "/", "Action=DescribeX&format=xml"));
  EXPECT_EQ(xml.content_type, "text/xml;charset=utf-8");
  EXPECT_TRUE(
      xml.body.starts_with("<?xml version='1.0' encoding='UTF-8'?><DescribeXResponse>"
                           "<RequestId>ID-1</RequestId>"))
      << xml.body;
  const HttpResponse refused = ask(request("GET", "/", "Action=Fail&Format=XML"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_NE(refused.body.find("?><Error>"), std::string::npos);
  const HttpResponse not_signed = ask_signed(request("GET", "/", "Format=XML"));
  EXPECT_NE(not_signed.body.find("<Code>MissingParameter</Code>"), std::string::npos);
  const HttpResponse other = ask(request("GET", "/", "Action=X&Format=YAML"));
  EXPECT_EQ(other.status, 400);
  EXPECT_NE(other.body.find("\"Code\":\"InvalidParameter.Format\""), std::string::npos);
}

TEST(Xml, ListsRepeatTheirElementAndTextIsEscaped) {
  EXPECT_EQ(
      to_xml(R"({"Disks":{"Disk":[{"Size":40,"Portable":true},{"Name":"a<b>&\u0001"}]},"None":
                       null,"Empty":[]})",
             "R"),
      "<?xml version='1.0' encoding='UTF-8'?><R><Disks><Disk><Portable>true</Portable><Size>40"
      "</Size></Disk><Disk><Name>a&lt;b&gt;&amp;?</Name></Disk></Disks><None></None></R>");
}

TEST(Xml, WhatXmlCanNotSayAndWhatIsNoJsonStillMakeADocument) {
  const std::string start = "<?xml version='1.0' encoding='UTF-8'?>";
  EXPECT_EQ(to_xml("{\"A\":\"a\\uFFFEb\\uFFFFc\\uFFFDd\xef\xbf\xbf\"}", "R"),
            start +
                "<R><A>a?b?c\xef\xbf\xbd"
                "d?</A></R>");
  EXPECT_EQ(to_xml("{\"A\":", "R"), start + "<R>{\"A\":</R>");
  EXPECT_EQ(to_xml("<\xff\xef\xbf\xbf\xc3\xa9>", "R"), start + "<R>&lt;????&gt;</R>");
  EXPECT_EQ(to_xml("", "R"), start + "<R></R>");
}

TEST(RequestThrottle, LetsEachKeyHaveItsRateAndASecondOfSavings) {
  RequestThrottle throttle(10);
  TimePoint now{};
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(throttle.admit("a", now)) << i;
  const auto wait = throttle.admit("a", now);
  ASSERT_TRUE(wait);
  EXPECT_EQ(std::chrono::round<std::chrono::milliseconds>(*wait).count(), 100);
  EXPECT_FALSE(throttle.admit("b", now)) << "another key has its own";
  EXPECT_TRUE(throttle.admit("a", now + std::chrono::milliseconds(99)));
  EXPECT_FALSE(throttle.admit("a", now + std::chrono::milliseconds(101)));
  now += std::chrono::hours(1);
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(throttle.admit("a", now));
  EXPECT_TRUE(throttle.admit("a", now)) << "a second's worth is saved, not an hour's";
  RequestThrottle unlimited(0);
  for (int i = 0; i < 10'000; ++i) ASSERT_FALSE(unlimited.admit("a", now));
}

}  // namespace
}  // namespace clouddisk
