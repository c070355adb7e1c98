// ids.h: identifiers as the cloud makes them: a prefix, a dash, two letters for the region and
// eighteen lower-case letters or digits: "d-bp131n0q38u3a4zi0001".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/base/random.h"

namespace clouddisk {

inline constexpr std::string_view kLocalInstanceId = "i-local";  // the daemon's own host
inline constexpr std::size_t kIdRunLength = 20;                  // after the dash

// "bp" for cn-hangzhou and so on; for a region the cloud does not have, letters of its name.
std::string region_letters(std::string_view region);

// A chain is named after its disk: "d-x…" has "sl-x…".
std::string chain_id_of(std::string_view disk_id);

// `prefix`: "d", "i", "m", "s", "sl", "sp", "ssg", "t".
std::string make_id(std::string_view prefix, std::string_view region, Random& random);

}  // namespace clouddisk
