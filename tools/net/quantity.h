// quantity.h: sizes and durations as people write them on a command line.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/base/result.h"
#include "engine/base/units.h"

namespace clouddisk {

// "512M", "1GiB", "4096": bytes, with units of 1024. kInvalid says what would be accepted.
Result<std::uint64_t> parse_size(std::string_view text);

// "20ms", "500us", "1s", "5m", "2h", "0". kInvalid says what would be accepted.
Result<Duration> parse_duration(std::string_view text);

}  // namespace clouddisk
