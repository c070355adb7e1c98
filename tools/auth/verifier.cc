#include "tools/auth/verifier.h"

#include "tools/auth/digest.h"

namespace clouddisk::auth {
namespace {

// What we signed helps who gets it wrong; a long one only as far as its beginning.
constexpr std::size_t kQuoteMax = 4096;

Refusal does_not_match(const SignedRequest& read) {
  std::string message =
      "Specified signature is not matched with our calculation. server string to sign is:" +
      read.string_to_sign.substr(0, kQuoteMax);
  if (read.scheme == SignedRequest::Scheme::kV3) {
    message += " server canonical request is:" + read.canonical_request.substr(0, kQuoteMax);
  }
  return {400, "SignatureDoesNotMatch", std::move(message)};
}

Refusal expired() {
  return {400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."};
}

}  // namespace

std::variant<SignatureVerifier::Verified, Refusal> SignatureVerifier::verify(
    const HttpRequest& request, WallTime now) {
  std::optional<AccessKey> key;
  auto outcome = read_signature(request, [&](const SignedRequest& read) -> Verdict {
    if (read.nonce.size() > kNonceSizeMax) {
      return Refusal{400, "InvalidParameter",
                     fmt::format("A nonce has at most {} bytes.", kNonceSizeMax)};
    }
    if (read.time > now + kSkewMax || read.time < now - kSkewMax) return expired();
    key = find_key_(read.key_id);
    if (key) return std::nullopt;
    return Refusal{404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."};
  });
  if (auto* broken = std::get_if<Refusal>(&outcome)) return std::move(*broken);
  const SignedRequest& read = std::get<SignedRequest>(outcome);
  if (!equal_in_constant_time(read.expected_signature(key->secret), read.signature)) {
    return does_not_match(read);
  }
  if (!key->active) {
    return Refusal{400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled."};
  }
  const UsedNonce nonce = nonces_.make(read.key_id, read.nonce, read.time);
  if (auto broken = refusal_of(nonces_.look(nonce, now))) return std::move(*broken);
  return Verified{read.key_id, read.action, read.version, nonce};
}

Verdict SignatureVerifier::use_nonce(const UsedNonce& nonce, WallTime now) {
  return refusal_of(nonces_.use(nonce, now));
}

Verdict SignatureVerifier::refusal_of(NonceStore::Answer answer) {
  switch (answer) {
    case NonceStore::Answer::kNew:
      return std::nullopt;
    case NonceStore::Answer::kUsed:
      return Refusal{400, "SignatureNonceUsed", "Specified signature nonce was used already."};
    case NonceStore::Answer::kTooLate:
      return expired();
    case NonceStore::Answer::kFull:
      break;
  }
  return Refusal{400, "Throttling", "Request was denied due to request throttling."};
}

}  // namespace clouddisk::auth
