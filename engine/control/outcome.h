// outcome.h: what an action comes to, and how it looks on the wire.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "engine/base/random.h"
#include "engine/base/units.h"
#include "engine/catalog/refusal.h"
#include "engine/control/control.h"

namespace clouddisk {

using Json = nlohmann::json;

// The members of a success beside RequestId, or a refusal.
struct Outcome {
  Outcome(Json json) : body(std::move(json)) {}
  Outcome(Refusal broken) : refusal(std::move(broken)) {}

  Json body = Json::object();
  Verdict refusal;
};

inline Outcome done() {
  return Outcome(Json::object());
}

// The storage below could not do it: InternalError (500), or ServiceUnavailable (503) where the
// same request may succeed later.
Refusal refusal_of(const Error& error);

std::string make_request_id(Random& random);  // a UUID in capitals
Reply to_reply(const Outcome& outcome, std::string request_id);

// "2026-01-01T00:00:00Z"; empty for the zero time.
std::string iso_time(WallTime time);
// "2026-01-01T00:00Z" or with seconds; nothing when it is neither,
// or beyond 2255.
std::optional<WallTime> parse_iso_time(std::string_view text);

}  // namespace clouddisk
