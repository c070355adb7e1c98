#include "tools/clouddiskd/api_handler.h"

#include <cctype>

#include "tools/clouddiskd/metrics.h"
#include "tools/http/xml.h"

namespace clouddisk {
namespace {

constexpr std::string_view kFormType = "application/x-www-form-urlencoded";

HttpResponse method_not_allowed(const HttpRequest& request, std::string allowed,
                                const std::string& host) {
  HttpResponse response =
      error_response(405, "UnsupportedHTTPMethod",
                     fmt::format("{} is not served here; use {}.", request.method, allowed), host);
  response.headers.emplace_back("Allow", std::move(allowed));
  return response;
}

std::string host_of(const HttpRequest& request) {
  const std::string* host = request.header("host");
  return host != nullptr ? *host : "clouddiskd";
}

// Control writes the id into the body; clients look for it in a header too.
std::string request_id_in(const std::string& body) {
  constexpr std::string_view kMember = "\"RequestId\":\"";
  const auto at = body.find(kMember);
  if (at == std::string::npos) return {};
  const auto begin = at + kMember.size();
  return body.substr(begin, body.find('"', begin) - begin);
}

enum class Format { kJson, kXml };

// Nothing: none that we have.
std::optional<Format> format_of(const Params& params) {
  const auto at = params.find("Format");
  if (at == params.end() || at->second.empty()) return Format::kJson;
  std::string text = at->second;
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (text == "JSON") return Format::kJson;
  if (text == "XML") return Format::kXml;
  return std::nullopt;
}

std::string action_of(const Params& params) {
  const auto at = params.find("Action");
  return at != params.end() ? at->second : std::string();
}

// Only for an answer in JSON. The root's name is the action's, which has succeeded and so is one of
// ours: letters.
void turn_into_xml(HttpResponse& response, const std::string& action) {
  response.body = to_xml(response.body, response.status == 200 ? action + "Response" : "Error");
  response.content_type = "text/xml;charset=utf-8";
}

HttpResponse refusal_response(const HttpRequest& request, const Refusal& refusal) {
  return error_response(refusal.http_status, refusal.code, refusal.message, host_of(request));
}

// The parameters of the query and of the form body.
Result<Params> form_params(const HttpRequest& request) {
  Params params;
  if (auto added = add_form_params(request.query, params); !added) return added.error();
  if (request.body.empty()) return params;
  const std::string* type = request.header("content-type");
  if (type != nullptr && !type->starts_with(kFormType)) {
    return fail(Errc::kInvalid, "a body must be {}", kFormType);
  }
  if (auto added = add_form_params(request.body, params); !added) return added.error();
  return params;
}

// The same with the action that was signed, wherever that was.
Result<Params> signed_params(const HttpRequest& request, const ApiHandler::Verified& verified) {
  auto params = form_params(request);
  if (!params) return params;
  for (const auto& [name, value] :
       {std::pair{"Action", &verified.action}, {"Version", &verified.version}}) {
    if (!valid_utf8(*value)) return fail(Errc::kInvalid, "{} is not UTF-8", name);
    const auto [at, added] = params->try_emplace(name, *value);
    if (!added && at->second != *value) {
      return fail(Errc::kInvalid, "{} is given twice with different values", name);
    }
  }
  return params;
}

}  // namespace

Result<Params> params_of(const HttpRequest& request) {
  auto params = form_params(request);
  if (!params) return params;
  for (const auto& [header, name] :
       {std::pair{"x-acs-action", "Action"}, {"x-acs-version", "Version"}}) {
    const std::string* value = request.header(header);
    if (value == nullptr) continue;
    // Others are checked as they are decoded; what comes on from here is text.
    if (!valid_utf8(*value)) return fail(Errc::kInvalid, "header {} is not UTF-8", header);
    params->try_emplace(name, *value);
  }
  return params;
}

Task<HttpResponse> ApiHandler::handle(HttpRequest request) {
  if (request.path != "/") co_return co_await handle_metrics(std::move(request));
  if (request.method != "GET" && request.method != "POST") {
    co_return method_not_allowed(request, "GET, POST", host_of(request));
  }
  auto params = params_of(request);
  if (!params) {
    co_return refusal_response(request, {400, "InvalidParameter.Format", params.error().message});
  }
  co_return co_await perform(request, std::move(*params), Caller::kLocal);
}

Task<HttpResponse> ApiHandler::handle_signed(HttpRequest request) {
  if (request.path != "/") {
    co_return error_response(
        404, "InvalidPath.NotFound",
        fmt::format("Nothing is served at '{}'; actions are at '/'.", request.path),
        host_of(request));
  }
  if (request.method != "GET" && request.method != "POST") {
    co_return method_not_allowed(request, "GET, POST", host_of(request));
  }
  const auto who = co_await parts_.verify(request);
  auto params = std::holds_alternative<Verified>(who)
                    ? signed_params(request, std::get<Verified>(who))
                    : form_params(request);
  HttpResponse response;
  if (const auto* refusal = std::get_if<Refusal>(&who)) {
    response = refusal_response(request, *refusal);
    response.headers.emplace_back("Connection", "close");
  } else if (const auto wait = parts_.throttle(std::get<Verified>(who).key_id)) {
    response = error_response(400, "Throttling.User",
                              "Request was denied due to user flow control.", host_of(request));
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(*wait).count();
    response.headers.emplace_back("x-acs-retry-after", std::to_string(milliseconds));
  } else if (!params) {
    response = refusal_response(request, {400, "InvalidParameter.Format", params.error().message});
  } else if (const auto unused = co_await parts_.use_nonce(std::get<Verified>(who))) {
    response = refusal_response(request, *unused);
  } else {
    co_return co_await perform(request, std::move(*params), Caller::kSigned);
  }
  if (params && format_of(*params) == Format::kXml) turn_into_xml(response, {});
  co_return response;
}

Task<HttpResponse> ApiHandler::perform(const HttpRequest& request, Params params, Caller caller) {
  const auto format = format_of(params);
  if (!format) {
    co_return refusal_response(request,
                               {400, "InvalidParameter.Format",
                                fmt::format("Format is JSON or XML, not '{}'.", params["Format"])});
  }
  const std::string action = action_of(params);
  Reply reply = co_await parts_.perform(std::move(params), caller);
  HttpResponse response;
  response.status = reply.http_status;
  response.headers.emplace_back("x-acs-request-id", request_id_in(reply.body));
  response.body = std::move(reply.body);
  if (*format == Format::kXml) turn_into_xml(response, action);
  co_return response;
}

Task<HttpResponse> ApiHandler::handle_metrics(HttpRequest request) {
  const std::string host = host_of(request);
  const bool known = request.path == "/metrics" || request.path == "/healthz";
  if (!known) {
    co_return error_response(
        404, "InvalidPath.NotFound",
        fmt::format("Nothing is served at '{}'; actions are at '/'.", request.path), host);
  }
  if (request.method != "GET") co_return method_not_allowed(request, "GET", host);
  HttpResponse response;
  if (request.path == "/healthz") {
    response.body = R"({"Status":"serving"})";
    co_return response;
  }
  response.content_type = kMetricsContentType;
  response.body = co_await parts_.metrics();
  co_return response;
}

}  // namespace clouddisk
