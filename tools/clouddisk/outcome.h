// outcome.h: a value, or why the command was refused: the cloud's code and what to do.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>

#include "engine/base/check.h"

namespace clouddisk::cli {

struct Failure {
  std::string code;     // "IncorrectDiskStatus"
  std::string message;  // what is wrong and what to do
};

// What was asked for has the wrong form, and nothing was changed; the exit status is 2.
inline constexpr const char* kWrongUsage = "WrongUsage";

template <class... Args>
[[nodiscard]] Failure refuse(std::string code, fmt::format_string<Args...> format, Args&&... args) {
  return Failure{std::move(code), fmt::format(format, std::forward<Args>(args)...)};
}

template <class T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Outcome(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() {
    CHECK(state_.index() == 0);
    return *std::get_if<0>(&state_);
  }
  T* operator->() { return &**this; }
  const Failure& failure() const {
    CHECK(state_.index() == 1);
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Failure> state_;
};

struct Done {};
using Verdict = Outcome<Done>;

}  // namespace clouddisk::cli
