// The request parser: head, then a body of known size or in chunks. It refuses whatever two
// readers might understand differently (both framings at once, two lengths, folded headers).
#include <algorithm>
#include <charconv>

#include "tools/http/message.h"

namespace clouddisk {
namespace {

constexpr std::size_t kChunkLineMax = 256;

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool is_token(std::string_view text) {
  constexpr std::string_view kSymbols = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kSymbols.find(c) != std::string_view::npos;
  });
}

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  });
}

}  // namespace

const std::string* HttpRequest::header(std::string_view lower_case_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_case_name) return &value;
  }
  return nullptr;
}

bool HttpRequestParser::refuse(int status, std::string message) {
  problem_ = HttpProblem{status, std::move(message)};
  return false;
}

bool HttpRequestParser::take_expect_continue() {
  return std::exchange(expect_continue_, false);
}

std::optional<HttpRequest> HttpRequestParser::next() {
  if (problem_) return std::nullopt;
  if (!head_done_) {
    // An empty line before a request is allowed by the standard and sent by some clients.
    while (buffer_.starts_with("\r\n")) {
      buffer_.erase(0, 2);
      scanned_ = 0;
    }
    const auto end = buffer_.find("\r\n\r\n", scanned_);
    if (std::min(end, buffer_.size()) > limits_.head_bytes_max) {
      refuse(buffer_.find("\r\n") == std::string::npos ? 414 : 431,
             fmt::format("the request's head is larger than {} bytes", limits_.head_bytes_max));
      return std::nullopt;
    }
    if (end == std::string::npos) {
      scanned_ = buffer_.size() < 3 ? 0 : buffer_.size() - 3;
      return std::nullopt;
    }
    request_ = {};
    if (!parse_head(std::string_view(buffer_).substr(0, end)) || !decide_framing()) {
      return std::nullopt;
    }
    buffer_.erase(0, end + 4);
    scanned_ = 0;
    head_done_ = true;
  }
  if (!(chunked_ ? take_chunks() : take_sized_body())) return std::nullopt;
  head_done_ = false;
  expect_continue_ = false;
  return std::move(request_);
}

bool HttpRequestParser::parse_head(std::string_view head) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return refuse(400, "the request line is not 'METHOD TARGET HTTP/1.1'");
  }
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  request_.method = line.substr(0, first);
  if (!is_token(request_.method) || !printable(target) ||
      target.find(' ') != std::string_view::npos) {
    return refuse(400, "the request line has characters that don't belong there");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  }
  request_.keep_alive = version == "HTTP/1.1";
  if (!target.starts_with('/')) return refuse(400, "the request target does not begin with '/'");
  const auto question = target.find('?');
  auto path = percent_decode(target.substr(0, question), false);
  if (!path) return refuse(400, "the path is not percent-encoded UTF-8");
  request_.path = std::move(*path);
  if (question != std::string_view::npos) request_.query = target.substr(question + 1);

  head.remove_prefix(std::min(line.size() + 2, head.size()));
  while (!head.empty()) {
    const std::string_view header = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(header.size() + 2, head.size()));
    if (!parse_header_line(header)) return false;
  }
  return true;
}

bool HttpRequestParser::parse_header_line(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon)) || !printable(line)) {
    return refuse(400, "a header line is malformed");
  }
  if (request_.headers.size() == limits_.headers_max) {
    return refuse(431, fmt::format("a request may have {} headers", limits_.headers_max));
  }
  request_.headers.emplace_back(lower(line.substr(0, colon)), trim(line.substr(colon + 1)));
  return true;
}

bool HttpRequestParser::decide_framing() {
  chunked_ = false;
  in_trailer_ = false;
  trailer_bytes_ = 0;
  body_size_ = 0;
  bool has_length = false;
  for (const auto& [name, value] : request_.headers) {
    if (name == "content-length") {
      std::uint64_t size = 0;
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), size);
      if (value.empty() || parsed.ec != std::errc{} || parsed.ptr != value.data() + value.size() ||
          (has_length && size != body_size_)) {
        return refuse(400, "Content-Length is not one number");
      }
      if (size > limits_.body_bytes_max) {
        return refuse(413, fmt::format("a body may have {} bytes", limits_.body_bytes_max));
      }
      body_size_ = size;
      has_length = true;
    } else if (name == "transfer-encoding") {
      if (lower(value) != "chunked" || chunked_) {
        return refuse(501, "the only transfer encoding is chunked");
      }
      chunked_ = true;
    } else if (name == "connection") {
      const std::string wish = lower(value);
      if (wish.find("close") != std::string::npos) request_.keep_alive = false;
      if (wish.find("keep-alive") != std::string::npos) request_.keep_alive = true;
    } else if (name == "expect") {
      expect_continue_ = lower(value) == "100-continue";
    }
  }
  if (chunked_ && has_length) {
    return refuse(400, "Content-Length and Transfer-Encoding exclude each other");
  }
  return true;
}

bool HttpRequestParser::take_sized_body() {
  if (buffer_.size() < body_size_) return false;
  request_.body = buffer_.substr(0, body_size_);
  buffer_.erase(0, body_size_);
  return true;
}

bool HttpRequestParser::take_chunks() {
  std::size_t at = 0;
  bool complete = false;
  while (!complete) {
    const auto end = buffer_.find("\r\n", at);
    if (end == std::string::npos) {
      if (buffer_.size() - at > kChunkLineMax + limits_.head_bytes_max) {
        return refuse(400, "a chunk's size line is too long");
      }
      break;
    }
    const std::string_view line = std::string_view(buffer_).substr(at, end - at);
    if (in_trailer_) {
      trailer_bytes_ += line.size() + 2;
      if (trailer_bytes_ > limits_.head_bytes_max) return refuse(431, "the trailer is too large");
      at = end + 2;
      complete = line.empty();
      continue;
    }
    std::uint64_t size = 0;
    const std::string_view digits = trim(line.substr(0, line.find(';')));
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), size, 16);
    if (line.size() > kChunkLineMax || digits.empty() || parsed.ec != std::errc{} ||
        parsed.ptr != digits.data() + digits.size()) {
      return refuse(400, "a chunk's size is not a hexadecimal number");
    }
    if (size > limits_.body_bytes_max - request_.body.size()) {
      return refuse(413, fmt::format("a body may have {} bytes", limits_.body_bytes_max));
    }
    if (size == 0) {
      in_trailer_ = true;
      at = end + 2;
      continue;
    }
    if (buffer_.size() - (end + 2) < size + 2) break;
    if (std::string_view(buffer_).substr(end + 2 + size, 2) != "\r\n") {
      return refuse(400, "a chunk is longer than it said");
    }
    request_.body.append(buffer_, end + 2, size);
    at = end + 2 + size + 2;
  }
  buffer_.erase(0, at);
  return complete;
}

}  // namespace clouddisk
