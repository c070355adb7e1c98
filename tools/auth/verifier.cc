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
  auto outcome = read_signature(request);
  if (auto* broken = std::get_if<Refusal>(&outcome)) return std::move(*broken);
  const SignedRequest& read = std::get<SignedRequest>(outcome);
  if (read.nonce.size() > kNonceSizeMax) {
    return Refusal{400, "InvalidParameter",
                   fmt::format("A nonce has at most {} bytes.", kNonceSizeMax)};
  }
  if (read.time > now + kSkewMax || read.time < now - kSkewMax) return expired();
  const auto key = find_key_(read.key_id);
  if (!key) {
    return Refusal{404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."};
  }
  if (!equal_in_constant_time(read.expected_signature(key->secret), read.signature)) {
    return does_not_match(read);
  }
  if (!key->active) {
    return Refusal{400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled."};
  }
  Verified verified{read.key_id, read.action, read.version, {}};
  if (auto broken = use_nonce(read, now, verified.nonce)) return std::move(*broken);
  return verified;
}

Verdict SignatureVerifier::use_nonce(const SignedRequest& read, WallTime now, UsedNonce& recorded) {
  switch (nonces_.use(read.key_id, read.nonce, read.time, now, &recorded)) {
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
