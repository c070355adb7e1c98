#include "tools/auth/signer.h"

#include <algorithm>

#include "engine/control/action_names.h"
#include "engine/control/outcome.h"
#include "tools/auth/digest.h"
#include "tools/auth/signature.h"

namespace clouddisk::auth {

void sign_v1(Params& params, std::string_view method, const Credentials& credentials, WallTime now,
             std::string_view nonce) {
  params["AccessKeyId"] = credentials.key_id;
  params["SignatureMethod"] = "HMAC-SHA1";
  params["SignatureVersion"] = "1.0";
  params["SignatureNonce"] = nonce;
  params["Timestamp"] = iso_time(now);
  params.erase("Signature");
  SignedRequest to_sign;
  to_sign.scheme = SignedRequest::Scheme::kV1;
  to_sign.string_to_sign = string_to_sign_v1(method, FormFields(params.begin(), params.end()));
  params["Signature"] = to_sign.expected_signature(credentials.secret);
}

void sign_v3(HttpRequest& request, std::string_view action, const Credentials& credentials,
             WallTime now, std::string_view nonce) {
  request.headers.emplace_back("x-acs-action", action);
  request.headers.emplace_back("x-acs-version", kApiVersion);
  request.headers.emplace_back("x-acs-date", iso_time(now));
  request.headers.emplace_back("x-acs-signature-nonce", nonce);
  request.headers.emplace_back("x-acs-content-sha256", sha256_hex(request.body));
  std::vector<std::string> names;
  for (const auto& [name, value] : request.headers) {
    const bool is_signed = name == "host" || name == "content-type" || name.starts_with("x-acs-");
    if (is_signed) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ";") + name;
  const std::string start = fmt::format(
      "ACS3-HMAC-SHA256 Credential={},SignedHeaders={},Signature=", credentials.key_id, joined);
  const auto read = read_signature_v3(request, start + "unknown-yet");
  const auto* to_sign = std::get_if<SignedRequest>(&read);
  CHECK(to_sign != nullptr);  // We have just made it.
  request.headers.emplace_back("authorization",
                               start + to_sign->expected_signature(credentials.secret));
}

}  // namespace clouddisk::auth
