// signed_requests.h: requests as real clients sent them, with the verdict that a server has to
// reach, and the same in the form in which they reach the code.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/http/message.h"

namespace clouddisk::auth {

using Json = nlohmann::json;

inline Json load_signed_requests() {
  std::ifstream file(CLOUDDISK_TEST_DATA "/signed_requests.json");
  Json list = Json::parse(file, nullptr, false);
  CHECK(list.is_array());
  return list;
}

// Head and body of well-formed requests; chunks are joined.
inline HttpRequest parse_request(const std::string& bytes) {
  HttpRequest request;
  const auto head_end = bytes.find("\r\n\r\n");
  CHECK(head_end != std::string::npos);
  std::string body = bytes.substr(head_end + 4);
  std::string_view head = std::string_view(bytes).substr(0, head_end);
  const auto take_line = [&head] {
    const std::string line(head.substr(0, head.find("\r\n")));
    head.remove_prefix(std::min(line.size() + 2, head.size()));
    return line;
  };
  const std::string first = take_line();
  const auto blank = first.find(' ');
  std::string target = first.substr(blank + 1, first.rfind(' ') - blank - 1);
  const auto question = target.find('?');
  request.method = first.substr(0, blank);
  request.path = target.substr(0, question);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  while (!head.empty()) {
    const std::string line = take_line();
    const auto colon = line.find(':');
    std::string name = line.substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    request.headers.emplace_back(std::move(name),
                                 line.substr(line.find_first_not_of(' ', colon + 1)));
  }
  const std::string* coding = request.header("transfer-encoding");
  if (coding == nullptr) {
    request.body = std::move(body);
    return request;
  }
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t size = std::stoul(body.substr(at), nullptr, 16);
    at = body.find("\r\n", at) + 2;
    if (size == 0) break;
    request.body += body.substr(at, size);
    at += size + 2;
  }
  return request;
}

}  // namespace clouddisk::auth
