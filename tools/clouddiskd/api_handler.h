// api_handler.h: from an HTTP request to an action, /metrics or /healthz, and back.
//
// Thread: the control ring. Whatever comes in, the answer is a JSON object, or XML where that was
// asked for, except for metrics.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "engine/control/control.h"
#include "engine/ring/task.h"
#include "tools/auth/verifier.h"
#include "tools/http/message.h"

namespace clouddisk {

class ApiHandler {
 public:
  using Verified = auth::SignatureVerifier::Verified;
  struct Parts {
    std::function<Task<Reply>(Params, Caller)> perform;
    std::function<Task<std::string>()> metrics;
    // Who signed it, or why that is not known. Its nonce was not used before, and still is not.
    std::function<Task<std::variant<Verified, Refusal>>(const HttpRequest&)> verify;
    // How long this key has to wait, if it has to.
    std::function<std::optional<Duration>(const std::string& key_id)> throttle;
    // Last, so that a key takes no more nonces than it may make requests. Why not, if not.
    std::function<Task<Verdict>(const Verified&)> use_nonce;
  };
  explicit ApiHandler(Parts parts) : parts_(std::move(parts)) {}

  // From whoever may use the unix socket.
  Task<HttpResponse> handle(HttpRequest request);
  // From anybody: actions alone, and only with a signature. The answer to another
  // request is the last one on its connection: header Connection says so.
  Task<HttpResponse> handle_signed(HttpRequest request);
  // Without actions: for addresses that anybody may reach.
  Task<HttpResponse> handle_metrics(HttpRequest request);

 private:
  Task<HttpResponse> perform(const HttpRequest& request, Params params, Caller caller);

  Parts parts_;
};

// The action's parameters: of the query, the form body, and header x-acs-action.
Result<Params> params_of(const HttpRequest& request);

}  // namespace clouddisk
