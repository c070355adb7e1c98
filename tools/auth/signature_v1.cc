// Version 1: parameters of query and form body together; all but Signature are signed.
//
// string to sign = method & %2F & encode(canonical query); the key is the secret and '&'.
#include <algorithm>
#include <array>

#include "tools/auth/signature.h"

namespace clouddisk::auth {
namespace {

constexpr std::array<std::string_view, 7> kRequired = {
    "AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce",
    "Timestamp",   "Action",          "Version"};

const std::string& value_of(const Params& params, std::string_view name) {
  static const std::string kNone;
  const auto at = params.find(name);
  return at != params.end() ? at->second : kNone;
}

}  // namespace

ReadSignature read_signature_v1(const HttpRequest& request, const Admit& admit) {
  Params params;
  FormFields fields;
  for (const std::string& form : {std::cref(request.query), std::cref(request.body)}) {
    auto parsed = parse_form(form);
    if (parsed) {
      fields.insert(fields.end(), parsed->begin(), parsed->end());
      auto added = add_form_params(form, params);
      if (added) continue;
      return Refusal{400, "InvalidParameter.Format", added.error().message};
    }
    return Refusal{400, "InvalidParameter.Format", parsed.error().message};
  }
  if (value_of(params, "Signature").empty()) {
    return missing_parameter(value_of(params, "AccessKeyId").empty() ? "AccessKeyId" : "Signature");
  }
  for (const std::string_view name : kRequired) {
    if (value_of(params, name).empty()) return missing_parameter(name);
  }
  if (value_of(params, "SignatureMethod") != "HMAC-SHA1") {
    return Refusal{400, "InvalidSignatureMethod",
                   "The specified signature method is not supported; use HMAC-SHA1."};
  }
  if (value_of(params, "SignatureVersion") != "1.0") {
    return Refusal{400, "InvalidParameter", "SignatureVersion is 1.0."};
  }
  SignedRequest read;
  read.scheme = SignedRequest::Scheme::kV1;
  read.key_id = value_of(params, "AccessKeyId");
  read.nonce = value_of(params, "SignatureNonce");
  read.action = value_of(params, "Action");
  read.version = value_of(params, "Version");
  read.signature = value_of(params, "Signature");
  const auto time = parse_time_stamp(value_of(params, "Timestamp"));
  if (!time) {
    return Refusal{400, "InvalidTimeStamp.Format",
                   "Specified time stamp or date value is not well formatted."};
  }
  read.time = *time;
  if (admit) {
    if (auto refused = admit(read)) return std::move(*refused);
  }
  // What is in the query and in the body was signed once.
  std::sort(fields.begin(), fields.end());
  fields.erase(std::unique(fields.begin(), fields.end()), fields.end());
  std::erase_if(fields, [](const auto& field) {
    const NameLess less;
    return !less(field.first, "Signature") && !less("Signature", field.first);
  });
  read.string_to_sign = string_to_sign_v1(request.method, std::move(fields));
  return read;
}

}  // namespace clouddisk::auth
