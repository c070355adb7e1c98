#include "tools/clouddiskd/api_handler.h"

#include <gtest/gtest.h>

#include "engine/ring/uring_ring.h"

namespace clouddisk {
namespace {

Task<Reply> echo(Params params) {
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

  std::unique_ptr<UringRing> ring_;
  ApiHandler handler_{{.perform = echo, .metrics = some_metrics}};
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

}  // namespace
}  // namespace clouddisk
