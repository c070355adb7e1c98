// result.h: errors as values. A Result<T> holds a T or an Error; every function that can fail for a
// reason outside our code returns one.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "engine/base/check.h"

namespace clouddisk {

enum class Errc {
  kIo,            // a device or file failed
  kCorrupt,       // what was read is not what was written
  kNoSpace,       // no room; nothing changed, and the call can be made again (I9)
  kReplicasLost,  // too few replicas in sync for this request (I6)
  kInvalid,       // the caller asked for something that makes no sense
  kNotFound,
  kExists,
  kBusy,
  kReadOnly,
  kPermission,
  kTimedOut,
  kUnsupported,  // a format or feature newer than this program, or one the kernel lacks
  kShutdown,     // the program or the object is being closed
  kLimit,        // a configured bound was reached
};

// "io", "no-space", …: for logs and metrics.
std::string_view name(Errc code);

struct Error {
  Errc code;
  std::string message;  // what failed, where, with the numbers that disagree
};

// Errno of the operating system as an Errc; `value` is positive.
Errc errc_from_errno(int value);

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & {
    CHECK(has_value());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    CHECK(has_value());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    CHECK(has_value());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    CHECK(!has_value());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}

  bool has_value() const { return !failed_; }
  explicit operator bool() const { return has_value(); }
  void value() const { CHECK(!failed_); }
  const Error& error() const {
    CHECK(failed_);
    return error_;
  }

 private:
  Error error_{Errc::kIo, {}};
  bool failed_ = false;
};

template <class... Args>
[[nodiscard]] Error fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

// The same error with what was being done in front: "segment 7: header unreadable: …".
template <class... Args>
[[nodiscard]] Error fail(const Error& cause, fmt::format_string<Args...> format, Args&&... args) {
  return Error{cause.code, fmt::format(format, std::forward<Args>(args)...) + ": " + cause.message};
}

// From a system call's errno (positive or negative).
template <class... Args>
[[nodiscard]] Error fail_errno(int error_number, fmt::format_string<Args...> format,
                               Args&&... args);

std::string errno_text(int error_number);

template <class... Args>
Error fail_errno(int error_number, fmt::format_string<Args...> format, Args&&... args) {
  const int positive = error_number < 0 ? -error_number : error_number;
  return Error{errc_from_errno(positive),
               fmt::format(format, std::forward<Args>(args)...) + ": " + errno_text(positive)};
}

}  // namespace clouddisk
