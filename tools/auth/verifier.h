// verifier.h: whether a request was signed, just now, by somebody who has an access key.
//
// Thread: one; it remembers nonces. Time is an argument. Bounded: see nonces.h.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>

#include "engine/base/units.h"
#include "engine/catalog/refusal.h"
#include "tools/auth/nonces.h"
#include "tools/auth/signature.h"
#include "tools/http/message.h"

namespace clouddisk::auth {

inline constexpr Duration kSkewMax = std::chrono::minutes(15);
// How long after its use a nonce may matter: its request was signed at most so far ahead.
inline constexpr Duration kNonceLife = 2 * kSkewMax + std::chrono::minutes(2);
inline constexpr std::size_t kNoncesMax =
    1'000'000;  // 40 MB; half an hour of 550 requests a second

struct AccessKey {
  std::string secret;
  bool active = true;
};

class SignatureVerifier {
 public:
  // Null for a key that there is not; asked during verify() only.
  using FindKey = std::function<std::optional<AccessKey>(std::string_view id)>;
  explicit SignatureVerifier(FindKey find_key, std::size_t nonces_max = kNoncesMax)
      : find_key_(std::move(find_key)), nonces_(kSkewMax, nonces_max) {}

  struct Verified {
    std::string key_id;
    std::string action;
    std::string version;
    UsedNonce nonce;
  };
  // Only a request whose signature is right uses up its nonce. Beside what read_signature() finds:
  // InvalidTimeStamp.Expired, SignatureDoesNotMatch, SignatureNonceUsed,
  // InvalidAccessKeyId.Inactive (400), InvalidAccessKeyId.NotFound (404), and Throttling (400)
  // without room for the nonce.
  std::variant<Verified, Refusal> verify(const HttpRequest& request, WallTime now);

  // Of an earlier life.
  void remember(const UsedNonce& nonce, WallTime now) { nonces_.remember(nonce, now); }

 private:
  Verdict use_nonce(const SignedRequest& read, WallTime now, UsedNonce& recorded);

  FindKey find_key_;
  NonceStore nonces_;
};

}  // namespace clouddisk::auth
