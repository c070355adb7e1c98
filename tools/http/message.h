// message.h: HTTP/1.1 requests and responses as the action API uses them, and the form encoding of
// parameters. Pure functions of bytes: nothing here reads a socket or a clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/control/control.h"

namespace clouddisk {

// What a client may make us hold.
struct HttpLimits {
  std::size_t head_bytes_max =
      128 * 1024;  // a request line can reach tens of KiB: 100 ids, 20 tags
  std::size_t headers_max = 100;
  std::size_t body_bytes_max = 1024 * 1024;
};

struct HttpRequest {
  std::string method;
  std::string path;                                          // decoded, without the query
  std::string query;                                         // as it came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // chunks joined
  bool keep_alive = true;

  // Null when the header is not there.
  const std::string* header(std::string_view lower_case_name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json;charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

std::string_view reason_phrase(int status);
// Status line, headers and body, ready to send.
std::string encode_response(const HttpResponse& response, bool keep_alive);

// Why a request can't be served.
struct HttpProblem {
  int status = 400;
  std::string message;
};

// Takes bytes as they arrive and gives requests, one after the other, as they are complete.
class HttpRequestParser {
 public:
  explicit HttpRequestParser(HttpLimits limits) : limits_(limits) {}

  void feed(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole request, if there is one. After a problem the connection is of no more use.
  std::optional<HttpRequest> next();
  const std::optional<HttpProblem>& problem() const { return problem_; }
  // Part of a request is here and the rest is missing.
  bool in_request() const { return head_done_ || !buffer_.empty(); }
  // The client waits for "100 Continue" before it sends the body. True once a request.
  bool take_expect_continue();

 private:
  bool parse_head(std::string_view head);
  bool parse_header_line(std::string_view line);
  bool decide_framing();
  bool take_sized_body();
  bool take_chunks();
  bool refuse(int status, std::string message);

  HttpLimits limits_;
  std::string buffer_;
  std::size_t scanned_ = 0;  // no end of head before this
  bool head_done_ = false;
  bool expect_continue_ = false;
  bool chunked_ = false;
  bool in_trailer_ = false;
  std::size_t body_size_ = 0;
  std::size_t trailer_bytes_ = 0;
  HttpRequest request_;
  std::optional<HttpProblem> problem_;
};

// "%41+b" -> "A b". Nothing for a broken escape or when the result is not UTF-8.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);
// Only A-Z a-z 0-9 - _ . ~ stay bare.
std::string percent_encode(std::string_view text);

// Adds name=value&… to `params`. kInvalid for a broken escape, an empty name, more than
// kParamsMax parameters, or a name that comes twice with different values.
inline constexpr std::size_t kParamsMax = 2000;
Result<void> add_form_params(std::string_view form, Params& params);
std::string encode_form(const Params& params);

// An upper-case UUID, as the cloud writes request ids.
std::string make_request_id();

// The cloud's error body.
HttpResponse error_response(int status, std::string_view code, std::string_view message,
                            std::string_view host);

}  // namespace clouddisk
