// refusal.h: the answer of a rule that is broken: the cloud's HTTP status and error code.
#pragma once

#include <optional>
#include <string>

namespace clouddisk {

struct Refusal {
  int http_status = 400;
  std::string code;     // "IncorrectDiskStatus"
  std::string message;  // what is wrong, with the numbers, and what to do

  bool operator==(const Refusal&) const = default;
};

// Nothing: the rule is kept.
using Verdict = std::optional<Refusal>;

}  // namespace clouddisk
