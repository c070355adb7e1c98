#include <gtest/gtest.h>

#include "engine/base/random.h"
#include "tests/support/seed.h"
#include "tools/http/message.h"

namespace clouddisk {
namespace {

HttpRequestParser parser_with(std::string_view bytes) {
  HttpRequestParser parser{HttpLimits{}};
  parser.feed(bytes);
  return parser;
}

TEST(HttpRequestParser, TakesAGetWithItsQuery) {
  auto parser =
      parser_with("GET /?Action=DescribeDisks&DiskIds=%5B%22d-1%22%5D HTTP/1.1\r\nHost: x\r\n\r\n");
  auto request = parser.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->method, "GET");
  EXPECT_EQ(request->path, "/");
  EXPECT_EQ(request->query, "Action=DescribeDisks&DiskIds=%5B%22d-1%22%5D");
  EXPECT_TRUE(request->keep_alive);
  ASSERT_NE(request->header("host"), nullptr);
  EXPECT_EQ(*request->header("host"), "x");
  EXPECT_FALSE(parser.next());
  EXPECT_FALSE(parser.problem());
  EXPECT_FALSE(parser.in_request());
}

TEST(HttpRequestParser, TakesRequestsThatArriveTogetherOneByOne) {
  auto parser = parser_with(
      "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nx=1\r\n"
      "POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;e=1\r\nx=\r\n3\r\nabc\r\n0\r\nT: "
      "1\r\n\r\n"
      "GET /c HTTP/1.0\r\n\r\n");
  auto first = parser.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->body, "x=1");
  auto second = parser.next();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->path, "/b");
  EXPECT_EQ(second->body, "x=abc");
  auto third = parser.next();
  ASSERT_TRUE(third);
  EXPECT_EQ(third->path, "/c");
  EXPECT_FALSE(third->keep_alive);
  EXPECT_FALSE(parser.problem());
}

TEST(HttpRequestParser, GivesTheSameRequestHoweverTheBytesAreCut) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  const std::string bytes =
      "\r\nPOST /?A=1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: "
      "close\r\n\r\n"
      "5\r\nName=\r\n4\r\nx\r\ny\r\n0\r\n\r\n"
      "GET /next HTTP/1.1\r\n\r\n";
  for (int round = 0; round < 300; ++round) {
    HttpRequestParser parser{HttpLimits{}};
    std::vector<HttpRequest> requests;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random.below(12), bytes.size() - at);
      parser.feed(bytes.substr(at, size));
      at += size;
      while (auto request = parser.next()) requests.push_back(std::move(*request));
      ASSERT_FALSE(parser.problem()) << parser.problem()->message;
    }
    ASSERT_EQ(requests.size(), 2U);
    EXPECT_EQ(requests[0].body, "Name=x\r\ny");
    EXPECT_FALSE(requests[0].keep_alive);
    EXPECT_EQ(requests[1].path, "/next");
  }
}

TEST(HttpRequestParser, RefusesWhatTwoReadersCouldUnderstandDifferently) {
  struct Case {
    const char* name;
    std::string bytes;
    int status;
  };
  const Case cases[] = {
      {"no version", "GET /\r\n\r\n", 400},
      {"old version", "GET / HTTP/0.9\r\n\r\n", 505},
      {"new version", "GET / HTTP/2.0\r\n\r\n", 505},
      {"no slash", "GET x HTTP/1.1\r\n\r\n", 400},
      {"a blank in the target", "GET /a b HTTP/1.1\r\n\r\n", 400},
      {"control byte in the target", "GET /\x01 HTTP/1.1\r\n\r\n", 400},
      {"broken escape in the path", "GET /%zz HTTP/1.1\r\n\r\n", 400},
      {"path that is not UTF-8", "GET /%ff HTTP/1.1\r\n\r\n", 400},
      {"folded header", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400},
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
      {"unknown coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"chunk size is no number", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
       400},
      {"chunk longer than it said",
       "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400},
      {"chunk too large", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413},
      {"chunk size past 64 bits",
       "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", 400},
      {"endless request line", "GET /" + std::string(200'000, 'a'), 414},
      {"endless headers", "GET / HTTP/1.1\r\nA: " + std::string(200'000, 'a'), 431},
      {"endless chunk extension",
       "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + std::string(200'000, 'a'), 400},
  };
  for (const Case& c : cases) {
    auto parser = parser_with(c.bytes);
    EXPECT_FALSE(parser.next()) << c.name;
    ASSERT_TRUE(parser.problem()) << c.name;
    EXPECT_EQ(parser.problem()->status, c.status) << c.name << ": " << parser.problem()->message;
    parser.feed("GET / HTTP/1.1\r\n\r\n");
    EXPECT_FALSE(parser.next()) << c.name << ": a refused connection serves nothing more";
  }
}

TEST(HttpRequestParser, BoundsTheNumberOfHeaders) {
  std::string bytes = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 101; ++i) bytes += "A: b\r\n";
  auto parser = parser_with(bytes + "\r\n");
  EXPECT_FALSE(parser.next());
  ASSERT_TRUE(parser.problem());
  EXPECT_EQ(parser.problem()->status, 431);
}

TEST(HttpRequestParser, TakesARequestLineOfManyIds) {
  const std::string query = "DiskIds=" + std::string(100'000, 'x');
  auto parser = parser_with("GET /?" + query + " HTTP/1.1\r\n\r\n");
  auto request = parser.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->query, query);
}

TEST(HttpRequestParser, AnyBytesEndInRequestsOrAProblemAndNeverInACrash) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  const std::string base =
      "POST /?Action=X HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na=bc"
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n";
  int whole = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = base;
    for (std::uint64_t changes = random.below(4); changes > 0; --changes) {
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    }
    auto parser = parser_with(bytes);
    while (parser.next()) ++whole;
  }
  EXPECT_GT(whole, 1000);
}

TEST(FormEncoding, EncodesAndDecodesEveryByteSequenceOfUtf8) {
  Params params{{"Name", "a+b=c&d/e?f #%~*!'()[]{} 数据盘"}, {"Empty", ""}, {"Tag.1.Key", "k"}};
  Params back;
  ASSERT_TRUE(add_form_params(encode_form(params), back));
  EXPECT_EQ(params, back);
  Params plus;
  ASSERT_TRUE(add_form_params("a=x+y%20z&&b", plus));
  EXPECT_EQ(plus["a"], "x y z");
  EXPECT_EQ(plus["b"], "");
}

TEST(FormEncoding, MergesQueryAndBodyWithoutRegardToCaseAndRefusesContradictions) {
  Params params;
  ASSERT_TRUE(add_form_params("DiskId=d-1", params));
  ASSERT_TRUE(add_form_params("diskid=d-1&Size=40", params));
  EXPECT_EQ(params.size(), 2U);
  EXPECT_FALSE(add_form_params("DISKID=d-2", params));
  EXPECT_FALSE(add_form_params("=x", params));
  EXPECT_FALSE(add_form_params("a=%f", params));
  EXPECT_FALSE(add_form_params("a=%c0%af", params)) << "overlong UTF-8";
  EXPECT_FALSE(add_form_params("a=%ed%a0%80", params)) << "a surrogate";
  std::string many;
  for (int i = 0; i < 2001; ++i) many += "p" + std::to_string(i) + "=&";
  Params too_many;
  EXPECT_FALSE(add_form_params(many, too_many));
}

TEST(ErrorResponse, HasTheFourMembersOfTheCloud) {
  const HttpResponse response = error_response(404, "X.NotFound", "no \xff such", "h:1");
  EXPECT_EQ(response.status, 404);
  EXPECT_NE(response.body.find("\"Code\":\"X.NotFound\""), std::string::npos);
  EXPECT_NE(response.body.find("\"HostId\":\"h:1\""), std::string::npos);
  EXPECT_NE(response.body.find("\"RequestId\":\""), std::string::npos);
  EXPECT_NE(response.body.find("\"Message\":\""), std::string::npos);
  const std::string id = make_request_id();
  EXPECT_EQ(id.size(), 36U);
  EXPECT_NE(id, make_request_id());
}

}  // namespace
}  // namespace clouddisk
