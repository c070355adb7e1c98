// Requests signed here, right and wrong.
#include "tools/auth/verifier.h"

#include <gtest/gtest.h>

#include "engine/base/percent.h"
#include "tools/auth/digest.h"

namespace clouddisk::auth {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::string_view kSecret = "exampleSecretForVectors0123456";
const WallTime kNow = *parse_time_stamp("2026-01-01T00:00:00Z");

std::optional<AccessKey> find_key(std::string_view id) {
  if (id == "LTAIexampleKeyId01") return AccessKey{std::string(kSecret)};
  if (id == "LTAIdisabled") return AccessKey{std::string(kSecret), false};
  return std::nullopt;
}

// The documentation's worked example.
HttpRequest v3_example() {
  HttpRequest request;
  request.method = "POST";
  request.path = "/";
  request.query = "DiskId=d-bp1example0001&DiskName=a%20b%2A~";
  request.headers = {
      {"host", "127.0.0.1:18080"},
      {"x-acs-action", "ModifyDiskAttribute"},
      {"x-acs-content-sha256", sha256_hex("")},
      {"x-acs-date", "2026-01-01T00:00:00Z"},
      {"x-acs-signature-nonce", "nonce-1"},
      {"x-acs-version", "2014-05-26"},
      {"authorization",
       "ACS3-HMAC-SHA256 Credential=LTAIexampleKeyId01,SignedHeaders=host;x-acs-action;"
       "x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature="
       "ed8884d52d82790ae206821b0a379f308f09fb756543089d6f9df400bfcbb865"}};
  return request;
}

HttpRequest v1_example() {
  HttpRequest request;
  request.method = "POST";
  request.path = "/";
  request.query =
      "AccessKeyId=LTAIexampleKeyId01&Action=ModifyDiskAttribute&DiskId=d-bp1example0001&DiskName="
      "a%20b%2A~&Format=JSON&SignatureMethod=HMAC-SHA1&SignatureNonce=nonce-1&SignatureVersion=1.0"
      "&Timestamp=2026-01-01T00%3A00%3A00Z&Version=2014-05-26";
  request.body = "Signature=UahkvmddKdIei4Emw%2FO4z5XOgEk%3D";
  return request;
}

void set_header(HttpRequest& request, std::string_view name, std::string value) {
  for (auto& header : request.headers) {
    if (header.first == name) header.second = std::move(value);
  }
}

void replace(std::string& text, std::string_view what, std::string_view by) {
  const auto at = text.find(what);
  ASSERT_NE(at, std::string::npos) << what;
  text.replace(at, what.size(), by);
}

std::string code_of(const HttpRequest& request, WallTime now = kNow) {
  SignatureVerifier verifier(find_key);
  const auto outcome = verifier.verify(request, now);
  const auto* refusal = std::get_if<Refusal>(&outcome);
  if (refusal == nullptr) return "accepted";
  EXPECT_EQ(refusal->http_status, refusal->code == "InvalidAccessKeyId.NotFound" ? 404 : 400);
  EXPECT_FALSE(refusal->message.empty());
  return refusal->code;
}

TEST(SignatureVerifier, TheWorkedExamplesAreAcceptedOnce) {
  for (const HttpRequest& request : {v3_example(), v1_example()}) {
    SignatureVerifier verifier(find_key);
    const auto first = verifier.verify(request, kNow);
    ASSERT_TRUE(std::holds_alternative<SignatureVerifier::Verified>(first));
    const auto& verified = std::get<SignatureVerifier::Verified>(first);
    EXPECT_EQ(verified.key_id, "LTAIexampleKeyId01");
    EXPECT_EQ(verified.action, "ModifyDiskAttribute");
    EXPECT_EQ(verified.version, "2014-05-26");
    EXPECT_TRUE(std::holds_alternative<SignatureVerifier::Verified>(verifier.verify(request, kNow)))
        << "until its nonce is used";
    EXPECT_FALSE(verifier.use_nonce(verified.nonce, kNow));
    EXPECT_EQ(verifier.use_nonce(verified.nonce, kNow)->code, "SignatureNonceUsed");
    const auto second = verifier.verify(request, kNow + minutes(14));
    ASSERT_TRUE(std::holds_alternative<Refusal>(second));
    EXPECT_EQ(std::get<Refusal>(second).code, "SignatureNonceUsed");
  }
}

TEST(SignatureVerifier, AWrongSignatureDoesNotUseUpTheNonce) {
  SignatureVerifier verifier(find_key);
  HttpRequest wrong = v3_example();
  wrong.query += "&More=1";
  EXPECT_TRUE(std::holds_alternative<Refusal>(verifier.verify(wrong, kNow)));
  EXPECT_TRUE(
      std::holds_alternative<SignatureVerifier::Verified>(verifier.verify(v3_example(), kNow)));
}

TEST(SignatureVerifier, ClocksMayDifferByAQuarterOfAnHour) {
  for (const HttpRequest& request : {v3_example(), v1_example()}) {
    EXPECT_EQ(code_of(request, kNow + minutes(15)), "accepted");
    EXPECT_EQ(code_of(request, kNow - minutes(15)), "accepted");
    EXPECT_EQ(code_of(request, kNow + minutes(15) + seconds(1)), "InvalidTimeStamp.Expired");
    EXPECT_EQ(code_of(request, kNow - minutes(15) - seconds(1)), "InvalidTimeStamp.Expired");
  }
}

TEST(SignatureVerifier, WithoutRoomForNoncesRequestsWait) {
  SignatureVerifier verifier(find_key, 0);
  const auto outcome = verifier.verify(v3_example(), kNow);
  ASSERT_TRUE(std::holds_alternative<SignatureVerifier::Verified>(outcome));
  const auto refused =
      verifier.use_nonce(std::get<SignatureVerifier::Verified>(outcome).nonce, kNow);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->code, "Throttling");
}

// What canonicalising would find is not found: it is not come to.
TEST(SignatureVerifier, TimeAndKeyAreLookedAtBeforeAnythingIsSortedOrHashed) {
  HttpRequest broken = v3_example();
  broken.query += "&a=%zz";
  broken.headers.emplace_back("x-acs-action", "DeleteDisk");
  EXPECT_EQ(code_of(broken), "IncompleteSignature");
  EXPECT_EQ(code_of(broken, kNow + minutes(16)), "InvalidTimeStamp.Expired");
  replace(broken.headers[6].second, "LTAIexampleKeyId01", "LTAInobody");
  EXPECT_EQ(code_of(broken), "InvalidAccessKeyId.NotFound");
  for (const HttpRequest& request : {v3_example(), v1_example()}) {
    int asked = 0;
    const auto outcome = read_signature(request, [&](const SignedRequest& read) -> Verdict {
      ++asked;
      EXPECT_EQ(read.key_id, "LTAIexampleKeyId01");
      EXPECT_EQ(read.time, kNow);
      EXPECT_TRUE(read.string_to_sign.empty());
      return Refusal{400, "No", "not today"};
    });
    EXPECT_EQ(asked, 1);
    ASSERT_TRUE(std::holds_alternative<Refusal>(outcome));
    EXPECT_EQ(std::get<Refusal>(outcome).code, "No");
  }
}

TEST(SignatureVerifier, MalformedHeadersAreNamed) {
  struct Case {
    const char* header;
    std::string value;
    const char* code;
  };
  const std::string members =
      "Credential=LTAIexampleKeyId01,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-"
      "date;"
      "x-acs-signature-nonce;x-acs-version,Signature=";
  const std::string right = "ed8884d52d82790ae206821b0a379f308f09fb756543089d6f9df400bfcbb865";
  const Case cases[] = {
      {"authorization", "", "InvalidSignatureMethod"},
      {"authorization", "Basic dXNlcjpwYXNz", "InvalidSignatureMethod"},
      {"authorization", "ACS3-HMAC-SM3 " + members + right, "InvalidSignatureMethod"},
      {"authorization", "ACS3-HMAC-SHA256", "IncompleteSignature"},
      {"authorization", "ACS3-HMAC-SHA256 nonsense", "IncompleteSignature"},
      {"authorization", "ACS3-HMAC-SHA256 " + members, "IncompleteSignature"},
      {"authorization", "ACS3-HMAC-SHA256 " + members + right + ",Signature=" + right,
       "IncompleteSignature"},
      {"authorization", "ACS3-HMAC-SHA256 " + members + right + ",Other=1", "IncompleteSignature"},
      {"authorization",
       "ACS3-HMAC-SHA256 Credential=LTAIexampleKeyId01,SignedHeaders=host,Signature=" + right,
       "IncompleteSignature"},
      {"authorization",
       "ACS3-HMAC-SHA256 Credential=LTAIexampleKeyId01,SignedHeaders=" + std::string(200, ';') +
           ",Signature=" + right,
       "IncompleteSignature"},
      {"authorization", "ACS3-HMAC-SHA256 " + members + right.substr(1), "SignatureDoesNotMatch"},
      {"authorization", "ACS3-HMAC-SHA256 " + members + right + "0", "SignatureDoesNotMatch"},
      {"x-acs-date", "2026-01-01T00:00:00", "InvalidTimeStamp.Format"},
      {"x-acs-date", "2026-02-30T00:00:00Z", "InvalidTimeStamp.Format"},
      {"x-acs-date", "2026-01-01 00:00:00Z", "InvalidTimeStamp.Format"},
      {"x-acs-date", "Thu, 01 Jan 2026 00:00:00 GMT", "InvalidTimeStamp.Format"},
      {"x-acs-date", "9999-01-01T00:00:00Z", "InvalidTimeStamp.Format"},
      {"x-acs-date", "", "MissingParameter"},
      {"x-acs-signature-nonce", "", "MissingParameter"},
      {"x-acs-signature-nonce", std::string(257, 'n'), "InvalidParameter"},
      {"x-acs-action", "", "MissingParameter"},
      {"host", "", "MissingParameter"},
      {"host", "127.0.0.1", "SignatureDoesNotMatch"},
  };
  for (const Case& c : cases) {
    HttpRequest request = v3_example();
    set_header(request, c.header, c.value);
    EXPECT_EQ(code_of(request), c.code) << c.header << ": " << c.value;
  }
  HttpRequest twice = v3_example();
  twice.headers.emplace_back("x-acs-action", "DeleteDisk");
  EXPECT_EQ(code_of(twice), "IncompleteSignature");
  HttpRequest broken = v3_example();
  broken.query += "&a=%zz";
  EXPECT_EQ(code_of(broken), "InvalidParameter.Format");
  HttpRequest loud = v3_example();
  replace(loud.headers.back().second, right,
          "ED8884D52D82790AE206821B0A379F308F09FB756543089D6F9DF400BFCBB865");
  EXPECT_EQ(code_of(loud), "accepted") << "hexadecimal in capitals is the same number";
}

TEST(SignatureVerifier, MalformedParametersAreNamed) {
  struct Case {
    const char* what;
    const char* by;
    const char* code;
  };
  const Case cases[] = {
      {"AccessKeyId=LTAIexampleKeyId01&", "", "MissingParameter"},
      {"LTAIexampleKeyId01", "LTAInobody", "InvalidAccessKeyId.NotFound"},
      {"Action=ModifyDiskAttribute&", "", "MissingParameter"},
      {"Version=2014-05-26", "", "MissingParameter"},
      {"SignatureNonce=nonce-1&", "", "MissingParameter"},
      {"SignatureNonce=nonce-1", "SignatureNonce=", "MissingParameter"},
      {"Timestamp=2026-01-01T00%3A00%3A00Z&", "", "MissingParameter"},
      {"2026-01-01T00%3A00%3A00Z", "2026-01-01", "InvalidTimeStamp.Format"},
      {"SignatureMethod=HMAC-SHA1", "SignatureMethod=HMAC-SHA256", "InvalidSignatureMethod"},
      {"SignatureVersion=1.0", "SignatureVersion=2.0", "InvalidParameter"},
      {"DiskId=", "diskid=", "SignatureDoesNotMatch"},
      {"DiskId=d-bp1example0001", "DiskId=d-bp1example0001&diskid=other",
       "InvalidParameter.Format"},
      {"DiskId=d-bp1example0001", "DiskId=%ff", "InvalidParameter.Format"},
      {"DiskId=d-bp1example0001", "=1", "InvalidParameter.Format"},
  };
  for (const Case& c : cases) {
    HttpRequest request = v1_example();
    replace(request.query, c.what, c.by);
    EXPECT_EQ(code_of(request), c.code) << c.what << " -> " << c.by;
  }
  HttpRequest unsigned_request = v1_example();
  unsigned_request.body.clear();
  EXPECT_EQ(code_of(unsigned_request), "MissingParameter");
  HttpRequest repeated = v1_example();
  repeated.body += "&Action=ModifyDiskAttribute";
  EXPECT_EQ(code_of(repeated), "accepted") << "the same again, in the body";
}

TEST(SignatureVerifier, ADisabledKeyIsToldSoOnlyWithTheRightSignature) {
  HttpRequest request = v1_example();
  replace(request.query, "LTAIexampleKeyId01", "LTAIdisabled");
  EXPECT_EQ(code_of(request), "SignatureDoesNotMatch");
  const auto read = read_signature(request);
  request.body =
      "Signature=" + percent_encode(std::get<SignedRequest>(read).expected_signature(kSecret));
  EXPECT_EQ(code_of(request), "InvalidAccessKeyId.Inactive");
}

TEST(Digests, AreThoseOfTheirStandards) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // RFC 4231 and RFC 2202, case 2.
  EXPECT_EQ(hmac_sha256_hex("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hmac_sha1_base64("Jefe", "what do ya want for nothing?"),
            "7/zfauXrL6LSdBbV8YTfnCWafHk=");
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abcd"));
}

}  // namespace
}  // namespace clouddisk::auth
