#include "tools/clouddiskd/api_handler.h"

#include "tools/clouddiskd/metrics.h"

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

}  // namespace

Result<Params> params_of(const HttpRequest& request) {
  Params params;
  if (auto added = add_form_params(request.query, params); !added) return added.error();
  if (!request.body.empty()) {
    const std::string* type = request.header("content-type");
    if (type != nullptr && !type->starts_with(kFormType)) {
      return fail(Errc::kInvalid, "a body must be {}", kFormType);
    }
    if (auto added = add_form_params(request.body, params); !added) return added.error();
  }
  for (const auto& [header, name] :
       {std::pair{"x-acs-action", "Action"}, {"x-acs-version", "Version"}}) {
    const std::string* value = request.header(header);
    if (value == nullptr) continue;
    // Others are checked as they are decoded; what comes on from here is text.
    if (!valid_utf8(*value)) return fail(Errc::kInvalid, "header {} is not UTF-8", header);
    params.try_emplace(name, *value);
  }
  return params;
}

Task<HttpResponse> ApiHandler::handle(HttpRequest request) {
  if (request.path != "/") co_return co_await handle_metrics(std::move(request));
  if (request.method != "GET" && request.method != "POST") {
    co_return method_not_allowed(request, "GET, POST", host_of(request));
  }
  co_return co_await perform(std::move(request));
}

Task<HttpResponse> ApiHandler::perform(HttpRequest request) {
  auto params = params_of(request);
  if (!params) {
    co_return error_response(400, "InvalidParameter.Format", params.error().message,
                             host_of(request));
  }
  Reply reply = co_await parts_.perform(std::move(*params));
  HttpResponse response;
  response.status = reply.http_status;
  response.headers.emplace_back("x-acs-request-id", request_id_in(reply.body));
  response.body = std::move(reply.body);
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
