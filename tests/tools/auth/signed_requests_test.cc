// What real clients sent, step by step, and the verdict on each.
#include "tests/tools/auth/signed_requests.h"

#include "tools/auth/verifier.h"

namespace clouddisk::auth {
namespace {

SignatureVerifier verifier_of(const Json& entry) {
  return SignatureVerifier([id = entry["accessKeyId"].get<std::string>(),
                            secret = entry["accessKeySecret"].get<std::string>()](
                               std::string_view wanted) -> std::optional<AccessKey> {
    if (wanted != id) return std::nullopt;
    return AccessKey{secret};
  });
}

// Its own time, or the time of those that say none.
WallTime time_of(const HttpRequest& request) {
  const auto read = read_signature(request);
  const auto* signed_request = std::get_if<SignedRequest>(&read);
  return signed_request != nullptr ? signed_request->time : WallTime{};
}

TEST(SignedRequests, EachGetsItsVerdict) {
  int accepted = 0;
  int refused = 0;
  for (const Json& entry : load_signed_requests()) {
    const HttpRequest request = parse_request(entry["request"]);
    SignatureVerifier verifier = verifier_of(entry);
    if (entry["name"].get<std::string>().ends_with("unknown-key")) {
      verifier = SignatureVerifier([](std::string_view) { return std::nullopt; });
    }
    const auto outcome = verifier.verify(request, time_of(request));
    const Refusal* refusal = std::get_if<Refusal>(&outcome);
    if (entry["verdict"] == "accept") {
      ++accepted;
      EXPECT_EQ(refusal, nullptr) << entry["name"] << refusal->message;
    } else {
      ++refused;
      ASSERT_NE(refusal, nullptr) << entry["name"];
      EXPECT_EQ(refusal->code, entry["reason"]) << entry["name"];
    }
  }
  EXPECT_GE(accepted, 15);
  EXPECT_GE(refused, 8);
}

TEST(SignedRequests, EveryStepOfTheSignatureIsTheClients) {
  for (const Json& entry : load_signed_requests()) {
    if (!entry.contains("sign")) continue;
    const Json& sign = entry["sign"];
    const HttpRequest request = parse_request(entry["request"]);
    const auto outcome = read_signature(request);
    const auto* read = std::get_if<SignedRequest>(&outcome);
    ASSERT_NE(read, nullptr) << entry["name"];
    EXPECT_EQ(read->key_id, sign["accessKeyId"]) << entry["name"];
    EXPECT_EQ(read->string_to_sign, sign["stringToSign"]) << entry["name"];
    EXPECT_EQ(read->expected_signature(entry["accessKeySecret"].get<std::string>()),
              sign["signature"])
        << entry["name"];
    if (entry["scheme"] == "v3") {
      EXPECT_EQ(read->canonical_request, sign["canonicalRequest"]) << entry["name"];
    }
  }
}

// Of each accepted request every byte of what is signed is changed once; some other byte is added.
TEST(SignedRequests, NothingThatIsSignedCanBeChanged) {
  for (const Json& entry : load_signed_requests()) {
    if (entry["verdict"] != "accept") continue;
    const HttpRequest request = parse_request(entry["request"]);
    const WallTime now = time_of(request);
    const auto refused = [&](const HttpRequest& changed) {
      SignatureVerifier verifier = verifier_of(entry);
      return std::holds_alternative<Refusal>(verifier.verify(changed, now));
    };
    EXPECT_FALSE(refused(request)) << entry["name"];
    for (std::size_t i = 0; i < request.query.size(); ++i) {
      HttpRequest changed = request;
      changed.query[i] = changed.query[i] == 'x' ? 'y' : 'x';
      EXPECT_TRUE(refused(changed)) << entry["name"] << " query " << i;
    }
    for (std::size_t i = 0; i < request.body.size(); ++i) {
      HttpRequest changed = request;
      changed.body[i] = changed.body[i] == 'x' ? 'y' : 'x';
      EXPECT_TRUE(refused(changed)) << entry["name"] << " body " << i;
    }
    HttpRequest changed = request;
    changed.query += "&Extra=1";
    EXPECT_TRUE(refused(changed)) << entry["name"];
    changed = request;
    changed.method = request.method == "GET" ? "POST" : "GET";
    EXPECT_TRUE(refused(changed)) << entry["name"];
    if (entry["scheme"] != "v3") continue;
    for (auto& [name, value] : changed.headers) {
      if (name != "host" && !name.starts_with("x-acs-")) continue;
      HttpRequest other = request;
      for (auto& header : other.headers) {
        if (header.first == name) header.second += "x";
      }
      EXPECT_TRUE(refused(other)) << entry["name"] << ' ' << name;
    }
  }
}

}  // namespace
}  // namespace clouddisk::auth
