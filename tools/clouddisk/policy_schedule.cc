#include "tools/clouddisk/policy_schedule.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <optional>

namespace clouddisk::cli {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

std::optional<unsigned> number_in(std::string_view text, unsigned least, unsigned most) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty();
  if (!whole || number < least || number > most) return std::nullopt;
  return number;
}

std::optional<unsigned> weekday_of(std::string_view text) {
  if (const auto number = number_in(text, 1, 7)) return number;
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::array<std::string_view, 7> kNames = {
      "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"};
  for (unsigned day = 0; day < kNames.size(); ++day) {
    if (lower == kNames[day] || lower == kNames[day].substr(0, 3)) return day + 1;
  }
  return std::nullopt;
}

// The numbers in a member that is a JSON list of strings.
std::vector<unsigned> numbers_in(const Json& policy, const char* member) {
  std::vector<unsigned> numbers;
  const Json list = Json::parse(text_of(policy, member), nullptr, false);
  if (!list.is_array()) return numbers;
  for (const Json& one : list) {
    if (!one.is_string()) continue;
    if (const auto number = number_in(one.get<std::string>(), 0, 23)) numbers.push_back(*number);
  }
  return numbers;
}

}  // namespace

Outcome<std::string> time_points_of(const std::vector<std::string>& times) {
  Json list = Json::array();
  for (const std::string& text : times) {
    std::string_view hour = text;
    if (hour.ends_with(":00")) hour.remove_suffix(3);
    const auto number = number_in(hour, 0, 23);
    if (!number || hour.size() > 2) {
      return refuse(kWrongUsage, "--time is a whole hour, 0 to 23 or 06:00, not '{}'", text);
    }
    list.push_back(std::to_string(*number));
  }
  return list.dump();
}

Outcome<std::string> weekdays_of(const std::vector<std::string>& days) {
  Json list = Json::array();
  for (const std::string& text : days) {
    if (text == "all") {
      for (int day = 1; day <= 7; ++day) list.push_back(std::to_string(day));
      continue;
    }
    const auto day = weekday_of(text);
    if (!day) {
      return refuse(kWrongUsage, "--weekday is mon to sun, 1 (Monday) to 7 or all, not '{}'", text);
    }
    list.push_back(std::to_string(*day));
  }
  // The API takes no more than a week has.
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list.dump();
}

Outcome<std::string> retention_of(const std::string& text) {
  if (text == "forever") return std::string("-1");
  if (const auto days = number_in(text, 1, 65'535)) return std::to_string(*days);
  return refuse(kWrongUsage, "--retention-days is 1 to 65535, or forever, not '{}'", text);
}

std::string times_text(const Json& policy) {
  std::string out;
  for (const unsigned hour : numbers_in(policy, "TimePoints")) {
    out += fmt::format("{}{:02}:00", out.empty() ? "" : ", ", hour);
  }
  return out;
}

std::string weekdays_text(const Json& policy) {
  const std::vector<unsigned> days = numbers_in(policy, "RepeatWeekdays");
  if (days.size() == kDays.size()) return "every day";
  std::string out;
  for (const unsigned day : days) {
    if (day < 1 || day > kDays.size()) continue;
    if (!out.empty()) out += ", ";
    out += kDays[day - 1];
  }
  return out;
}

namespace {

std::string days_text(std::uint64_t days) {
  if (days == 0) return "for ever";
  return fmt::format("{} {}", days, days == 1 ? "day" : "days");
}

}  // namespace

std::string kept_text(const Json& policy) {
  return days_text(number_of(policy, "RetentionDays"));
}

std::string copies_text(const Json& policy) {
  const Json regions = Json::parse(text_of(policy, "TargetCopyRegions"), nullptr, false);
  if (!regions.is_array() || regions.empty() || !regions[0].is_string()) return {};
  return fmt::format("{}, kept {}", regions[0].get<std::string>(),
                     days_text(number_of(policy, "CopiedSnapshotsRetentionDays")));
}

}  // namespace clouddisk::cli
