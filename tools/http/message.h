// message.h: HTTP requests and responses as the action API uses them, and the form encoding of
// parameters. Pure: nothing here reads a socket or a clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/percent.h"
#include "engine/base/result.h"
#include "engine/control/control.h"

namespace clouddisk {

struct HttpRequest {
  std::string method;
  std::string path;                                          // decoded, without the query
  std::string query;                                         // as it came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // chunks joined
  std::string peer;                                          // who asks, as peer_name() has it

  // Null when the header is not there.
  const std::string* header(std::string_view lower_case_name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json;charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

bool valid_utf8(std::string_view text);

// "%41+b" -> "A b". Nothing for a broken escape or when the result is not UTF-8.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

// name=value&…, decoded, in their order. kInvalid for a broken escape, an empty name, or more than
// kParamsMax of them.
inline constexpr std::size_t kParamsMax = 2000;
using FormFields = std::vector<std::pair<std::string, std::string>>;
Result<FormFields> parse_form(std::string_view form);
// Adds the fields to `params`. kInvalid as above, and for a name that comes twice with different
// values.
Result<void> add_form_params(std::string_view form, Params& params);
std::string encode_form(const Params& params);

// An upper-case UUID, as the cloud writes request ids.
std::string make_request_id();

// The cloud's error body.
HttpResponse error_response(int status, std::string_view code, std::string_view message,
                            std::string_view host);

}  // namespace clouddisk
