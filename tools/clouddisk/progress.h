// progress.h: how far something that takes long is, on one line of a terminal.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace clouddisk::cli {

// "[====      ] 1.0 GiB of 4.0 GiB".
std::string bar_text(std::uint64_t done, std::uint64_t total);

// The last "(12.34/100%)" of what qemu-img -p printed.
std::optional<double> qemu_percent(std::string_view output);

// Draws on stderr while that is a terminal, else nothing. The line is ended with the object.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(std::uint64_t done, std::uint64_t total);

 private:
  bool terminal_;
  bool drawn_ = false;
};

}  // namespace clouddisk::cli
