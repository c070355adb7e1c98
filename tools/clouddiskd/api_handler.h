// api_handler.h: from an HTTP request to an action, /metrics or /healthz, and back.
//
// Thread: the control ring. Whatever comes in, the answer is a JSON object, except for metrics.
#pragma once

#include <functional>
#include <string>

#include "engine/control/control.h"
#include "engine/ring/task.h"
#include "tools/http/message.h"

namespace clouddisk {

class ApiHandler {
 public:
  struct Parts {
    std::function<Task<Reply>(Params)> perform;
    std::function<Task<std::string>()> metrics;
  };
  explicit ApiHandler(Parts parts) : parts_(std::move(parts)) {}

  Task<HttpResponse> handle(HttpRequest request);
  // The same without actions: for addresses that anybody may reach.
  Task<HttpResponse> handle_metrics(HttpRequest request);

 private:
  Task<HttpResponse> perform(HttpRequest request);

  Parts parts_;
};

// The action's parameters: of the query, the form body, and header x-acs-action.
Result<Params> params_of(const HttpRequest& request);

}  // namespace clouddisk
