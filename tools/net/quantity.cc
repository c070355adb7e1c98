#include "tools/net/quantity.h"

#include <charconv>

namespace clouddisk {

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit(parsed.ptr,
                        static_cast<std::size_t>(text.data() + text.size() - parsed.ptr));
  int shift = -1;
  if (parsed.ec == std::errc{}) {
    for (const char* suffix : {"iB", "B"}) {
      if (unit.size() > 1 && unit.ends_with(suffix)) {
        unit.remove_suffix(std::string_view(suffix).size());
        break;
      }
    }
    constexpr std::string_view kUnits = "KMGT";
    if (unit.empty()) shift = 0;
    if (unit.size() == 1) {
      const auto at = kUnits.find(static_cast<char>(unit[0] & ~0x20));
      if (at != std::string_view::npos) shift = static_cast<int>(at + 1) * 10;
    }
  }
  if (shift < 0 || (shift > 0 && value >> (64 - shift) != 0)) {
    return fail(Errc::kInvalid, "'{}' is not a size; write it as 512M or 2G", text);
  }
  return value << shift;
}

Result<Duration> parse_duration(std::string_view text) {
  constexpr std::uint64_t kMost = 1'000'000'000;
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(parsed.ptr,
                              static_cast<std::size_t>(text.data() + text.size() - parsed.ptr));
  if (parsed.ec == std::errc{} && value <= kMost) {
    const auto count = static_cast<std::int64_t>(value);
    if (unit == "us") return Duration(std::chrono::microseconds(count));
    if (unit == "ms") return Duration(std::chrono::milliseconds(count));
    if (unit == "s") return Duration(std::chrono::seconds(count));
    // More would not fit into nanoseconds.
    constexpr std::int64_t kDaysMost = 36'500;
    if (unit == "m" && count <= kDaysMost * 1440) return Duration(std::chrono::minutes(count));
    if (unit == "h" && count <= kDaysMost * 24) return Duration(std::chrono::hours(count));
    if (unit == "d" && count <= kDaysMost) return Duration(std::chrono::hours(24 * count));
    if (unit.empty() && value == 0) return Duration(0);
  }
  return fail(Errc::kInvalid, "'{}' is not a duration; write it as 20ms, 500us, 1s, 5m, 2h or 7d",
              text);
}

}  // namespace clouddisk
