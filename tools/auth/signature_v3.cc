// Version 3: Authorization: ACS3-HMAC-SHA256 Credential=ID,SignedHeaders=a;b;c,Signature=HEX
//
// canonical request = method LF path LF query LF headers LF signed headers LF SHA-256 of the body
// string to sign    = ACS3-HMAC-SHA256 LF SHA-256 of the canonical request
#include <algorithm>
#include <array>

#include "tools/auth/digest.h"
#include "tools/auth/signature.h"

namespace clouddisk::auth {
namespace {

constexpr std::string_view kAlgorithm = "ACS3-HMAC-SHA256";
constexpr std::size_t kHexDigits = 64;
// Whoever changes one of these must not get away with it.
constexpr std::array<std::string_view, 6> kMustBeSigned = {
    "host",       "x-acs-action",          "x-acs-version",
    "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"};

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

struct Authorization {
  std::string credential, signed_headers, signature;
};

// The three members in any order, each once.
std::optional<Authorization> parse_members(std::string_view text) {
  Authorization parsed;
  while (!text.empty()) {
    const std::string_view member = text.substr(0, text.find(','));
    text.remove_prefix(std::min(member.size() + 1, text.size()));
    const auto equals = member.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = trimmed(member.substr(0, equals));
    std::string* into = name == "Credential"      ? &parsed.credential
                        : name == "SignedHeaders" ? &parsed.signed_headers
                        : name == "Signature"     ? &parsed.signature
                                                  : nullptr;
    if (into == nullptr || !into->empty()) return std::nullopt;
    *into = trimmed(member.substr(equals + 1));
  }
  if (parsed.credential.empty() || parsed.signed_headers.empty() || parsed.signature.empty()) {
    return std::nullopt;
  }
  return parsed;
}

std::vector<std::string> split(std::string_view names) {
  std::vector<std::string> list;
  while (!names.empty() && list.size() <= kSignedHeadersMax) {
    const std::string_view one = names.substr(0, names.find(';'));
    names.remove_prefix(std::min(one.size() + 1, names.size()));
    list.push_back(lower(trimmed(one)));
  }
  return list;
}

// A header that is not there counts as empty: then the signature does not match.
std::optional<std::string> canonical_headers(const HttpRequest& request,
                                             const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    const auto is_it = [&name](const auto& header) { return header.first == name; };
    if (std::count_if(request.headers.begin(), request.headers.end(), is_it) > 1) return {};
    const std::string* value = request.header(name);
    text += name;
    text += ':';
    if (value != nullptr) text += trimmed(*value);
    text += '\n';
  }
  return text;
}

}  // namespace

ReadSignature read_signature_v3(const HttpRequest& request, std::string_view authorization,
                                const Admit& admit) {
  const std::string_view algorithm = authorization.substr(0, authorization.find(' '));
  if (algorithm != kAlgorithm) {
    return Refusal{400, "InvalidSignatureMethod",
                   fmt::format("The specified signature method '{}' is not supported; use {}.",
                               algorithm.substr(0, kHexDigits), kAlgorithm)};
  }
  const auto members = parse_members(authorization.substr(algorithm.size()));
  if (!members)
    return incomplete_signature("Authorization has Credential, SignedHeaders, Signature");
  const std::vector<std::string> names = split(members->signed_headers);
  if (names.size() > kSignedHeadersMax) {
    return incomplete_signature(fmt::format("up to {} headers can be signed", kSignedHeadersMax));
  }
  for (const std::string_view name : kMustBeSigned) {
    const std::string* value = request.header(name);
    if (value == nullptr || value->empty()) return missing_parameter(name);
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return incomplete_signature(fmt::format("header {} is not signed", name));
    }
  }
  SignedRequest read;
  read.scheme = SignedRequest::Scheme::kV3;
  read.key_id = members->credential;
  read.nonce = *request.header("x-acs-signature-nonce");
  read.action = *request.header("x-acs-action");
  read.version = *request.header("x-acs-version");
  const auto time = parse_time_stamp(*request.header("x-acs-date"));
  if (!time) {
    return Refusal{400, "InvalidTimeStamp.Format",
                   "Specified time stamp or date value is not well formatted."};
  }
  read.time = *time;
  read.signature = lower(members->signature);
  if (admit) {
    if (auto refused = admit(read)) return std::move(*refused);
  }
  const auto headers = canonical_headers(request, names);
  if (!headers) return incomplete_signature("a signed header comes twice");
  auto fields = parse_form(request.query);
  if (!fields) return Refusal{400, "InvalidParameter.Format", fields.error().message};
  read.canonical_request = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, request.path,
                                       canonical_query(std::move(*fields)), *headers,
                                       members->signed_headers, sha256_hex(request.body));
  read.string_to_sign = fmt::format("{}\n{}", kAlgorithm, sha256_hex(read.canonical_request));
  return read;
}

}  // namespace clouddisk::auth
