#include <gtest/gtest.h>

#include "tools/http/message.h"

namespace clouddisk {
namespace {

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
