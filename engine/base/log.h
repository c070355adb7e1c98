// log.h: structured log lines on stderr: time, level, component, message, all on one line.
// Any thread. A message is logged once, by whoever acts on it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace clouddisk {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// "debug", "info", "warning", "error", "off"; kInvalid names what would be accepted.
Result<LogLevel> parse_log_level(std::string_view text);
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view component, std::string_view message);

template <class... Args>
void log(LogLevel level, std::string_view component, fmt::format_string<Args...> format,
         Args&&... args) {
  if (log_enabled(level)) {
    log_line(level, component, fmt::format(format, std::forward<Args>(args)...));
  }
}

}  // namespace clouddisk
