#include "engine/control/outcome.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <ctime>

namespace clouddisk {
namespace {

constexpr std::string_view kHostId = "clouddisk";
// Of a WallTime: up to the year 2255, and as far back.
constexpr std::time_t kSecondsMax = 9'000'000'000;

}  // namespace

Refusal refusal_of(const Error& error) {
  switch (error.code) {
    case Errc::kReplicasLost:
    case Errc::kNoSpace:
    case Errc::kBusy:
    case Errc::kShutdown:
    case Errc::kTimedOut:
      return {503, "ServiceUnavailable", error.message};
    default:
      return {500, "InternalError", error.message};
  }
}

std::string make_request_id(Random& random) {
  const std::uint64_t a = random.next();
  const std::uint64_t b = random.next();
  // Version 4, variant 1 (RFC 4122).
  return fmt::format("{:08X}-{:04X}-4{:03X}-{:04X}-{:012X}", a >> 32, (a >> 16) & 0xffff, a & 0xfff,
                     0x8000 | (b >> 48 & 0x3fff), b & 0xffff'ffff'ffff);
}

Reply to_reply(const Outcome& outcome, std::string request_id) {
  Json body = outcome.refusal ? Json::object() : outcome.body;
  body["RequestId"] = std::move(request_id);
  Reply reply;
  if (outcome.refusal) {
    reply.http_status = outcome.refusal->http_status;
    body["HostId"] = kHostId;
    body["Code"] = outcome.refusal->code;
    body["Message"] = outcome.refusal->message;
  }
  // A message may quote bytes that are no UTF-8.
  reply.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return reply;
}

std::string iso_time(WallTime time) {
  if (time == WallTime{}) return {};
  const std::time_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  std::tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) return {};
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return std::string(text.data(), length);
}

std::optional<WallTime> parse_iso_time(std::string_view text) {
  const std::string copy(text);
  for (const char* format : {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"}) {
    std::tm parts{};
    const char* end = strptime(copy.c_str(), format, &parts);
    if (end == nullptr || *end != '\0') continue;
    const std::time_t seconds = timegm(&parts);
    if (seconds < -kSecondsMax || seconds > kSecondsMax) return std::nullopt;
    return WallTime(std::chrono::seconds(seconds));
  }
  return std::nullopt;
}

}  // namespace clouddisk
