#include "tools/auth/signature.h"

#include <algorithm>
#include <charconv>

#include "engine/base/percent.h"
#include "tools/auth/digest.h"

namespace clouddisk::auth {
namespace {

constexpr std::string_view kTimeStampForm = "dddd-dd-ddTdd:dd:ddZ";  // d: a digit

int number_at(std::string_view text, std::size_t at, std::size_t digits) {
  int number = 0;
  std::from_chars(text.data() + at, text.data() + at + digits, number);
  return number;
}

}  // namespace

std::string SignedRequest::expected_signature(std::string_view secret) const {
  return scheme == Scheme::kV3 ? hmac_sha256_hex(secret, string_to_sign)
                               : hmac_sha1_base64(std::string(secret) + '&', string_to_sign);
}

ReadSignature read_signature(const HttpRequest& request, const Admit& admit) {
  const std::string* authorization = request.header("authorization");
  return authorization != nullptr ? read_signature_v3(request, *authorization, admit)
                                  : read_signature_v1(request, admit);
}

std::optional<WallTime> parse_time_stamp(std::string_view text) {
  if (text.size() != kTimeStampForm.size()) return std::nullopt;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kTimeStampForm[i] == 'd' ? !digit : text[i] != kTimeStampForm[i]) return std::nullopt;
  }
  const std::chrono::year_month_day date{
      std::chrono::year(number_at(text, 0, 4)),
      std::chrono::month(static_cast<unsigned>(number_at(text, 5, 2))),
      std::chrono::day(static_cast<unsigned>(number_at(text, 8, 2)))};
  const int hour = number_at(text, 11, 2);
  const int minute = number_at(text, 14, 2);
  const int second = number_at(text, 17, 2);
  // Nanoseconds since 1970 end in the year 2262.
  const bool years_fit =
      date.year() >= std::chrono::year(1970) && date.year() < std::chrono::year(2262);
  if (!date.ok() || !years_fit || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  return WallTime(std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(hour) +
                  std::chrono::minutes(minute) + std::chrono::seconds(second));
}

std::string canonical_query(FormFields fields) {
  std::sort(fields.begin(), fields.end());
  std::string text;
  for (const auto& [name, value] : fields) {
    if (!text.empty()) text += '&';
    text += percent_encode(name);
    text += '=';
    text += percent_encode(value);
  }
  return text;
}

std::string string_to_sign_v1(std::string_view method, FormFields fields) {
  return fmt::format("{}&%2F&{}", method, percent_encode(canonical_query(std::move(fields))));
}

Refusal missing_parameter(std::string_view name) {
  return {400, "MissingParameter",
          fmt::format("The input parameter \"{}\" that is mandatory for processing this request is "
                      "not supplied.",
                      name)};
}

Refusal incomplete_signature(std::string_view why) {
  return {400, "IncompleteSignature",
          fmt::format("The request signature does not conform to Aliyun standards: {}.", why)};
}

}  // namespace clouddisk::auth
