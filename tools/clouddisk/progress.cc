#include "tools/clouddisk/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "engine/base/units.h"

namespace clouddisk::cli {

std::string bar_text(std::uint64_t done, std::uint64_t total) {
  constexpr std::size_t kWidth = 40;
  const double part = total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total);
  const auto filled =
      std::min(kWidth, static_cast<std::size_t>(part * static_cast<double>(kWidth)));
  return fmt::format("[{}{}] {} of {}", std::string(filled, '='), std::string(kWidth - filled, ' '),
                     format_bytes(done), format_bytes(total));
}

std::optional<double> qemu_percent(std::string_view output) {
  const std::size_t end = output.rfind("/100%)");
  if (end == std::string_view::npos) return std::nullopt;
  const std::size_t begin = output.rfind('(', end);
  if (begin == std::string_view::npos) return std::nullopt;
  const std::string number(output.substr(begin + 1, end - begin - 1));
  char* stop = nullptr;
  const double percent = std::strtod(number.c_str(), &stop);
  if (number.empty() || *stop != '\0' || percent < 0 || percent > 100) return std::nullopt;
  return percent;
}

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (drawn_) fmt::print(stderr, "\n");
}

void ProgressLine::show(std::uint64_t done, std::uint64_t total) {
  if (!terminal_) return;
  drawn_ = true;
  fmt::print(stderr, "\r{}  ", bar_text(done, total));
  std::fflush(stderr);
}

}  // namespace clouddisk::cli
