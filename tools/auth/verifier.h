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
// 40 MB. A key that is alone gets half of them (see nonces.h): of 250 requests a second of clients
// with the right time, who are remembered for 16 minutes, 240,000; and of any clients', who are
// remembered for 31, 465,000.
inline constexpr std::size_t kNoncesMax = 1'000'000;

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
  // The signature is right and the nonce was not used; it is only by use_nonce(). Beside what
  // read_signature() finds: InvalidTimeStamp.Expired, SignatureDoesNotMatch, SignatureNonceUsed,
  // InvalidAccessKeyId.Inactive (400) and InvalidAccessKeyId.NotFound (404). Time and key are
  // looked at before anything is hashed.
  std::variant<Verified, Refusal> verify(const HttpRequest& request, WallTime now);
  // What the request may do before, it may do again: so not without this. SignatureNonceUsed,
  // InvalidTimeStamp.Expired, and Throttling without room for the nonce (400).
  Verdict use_nonce(const UsedNonce& nonce, WallTime now);

  // Of an earlier life.
  void remember(const UsedNonce& nonce, WallTime now) { nonces_.remember(nonce, now); }

 private:
  static Verdict refusal_of(NonceStore::Answer answer);

  FindKey find_key_;
  NonceStore nonces_;
};

}  // namespace clouddisk::auth
