// signature.h: what a request says about who signed it, and what had to be signed: version 3
// (ACS3-HMAC-SHA256, in headers) and version 1 (HMAC-SHA1, in parameters) of the cloud's
// signatures. Pure: no key, no clock.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "engine/base/units.h"
#include "engine/catalog/refusal.h"
#include "tools/http/message.h"

namespace clouddisk::auth {

struct SignedRequest {
  enum class Scheme { kV1, kV3 };
  Scheme scheme = Scheme::kV3;
  std::string key_id;
  std::string nonce;
  WallTime time{};
  std::string action;             // as it was signed
  std::string version;            // of the API
  std::string signature;          // as it came: hexadecimal of v3, base64 of v1
  std::string canonical_request;  // v3
  std::string string_to_sign;

  // What `signature` is when it was made with `secret`.
  std::string expected_signature(std::string_view secret) const;
};

inline constexpr std::size_t kNonceSizeMax = 256;
inline constexpr std::size_t kSignedHeadersMax = 64;

// By header Authorization or parameter Signature. Without either MissingParameter (400); what is
// there but not as it has to be IncompleteSignature, InvalidSignatureMethod,
// InvalidTimeStamp.Format or InvalidParameter.Format (400).
//
// `admit` is asked when all but the strings that were signed is known; what it refuses costs no
// sorting, encoding or hashing. Without one nothing is.
using ReadSignature = std::variant<SignedRequest, Refusal>;
using Admit = std::function<Verdict(const SignedRequest& read)>;
ReadSignature read_signature(const HttpRequest& request, const Admit& admit = {});

// The two kinds.
ReadSignature read_signature_v3(const HttpRequest& request, std::string_view authorization,
                                const Admit& admit = {});
ReadSignature read_signature_v1(const HttpRequest& request, const Admit& admit = {});

// "2026-01-01T00:00:00Z" to the letter; nothing for anything else.
std::optional<WallTime> parse_time_stamp(std::string_view text);

// Names and values encoded by RFC 3986, sorted by name, joined by '&'.
std::string canonical_query(FormFields fields);
// Of version 1: all fields but Signature.
std::string string_to_sign_v1(std::string_view method, FormFields fields);

Refusal missing_parameter(std::string_view name);
Refusal incomplete_signature(std::string_view why);

}  // namespace clouddisk::auth
