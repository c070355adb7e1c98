// action_names.h: every action of the cloud's interface (version 2014-05-26) that we know of,
// whether we have it or not. Data.
#pragma once

#include <string_view>

namespace clouddisk {

inline constexpr std::string_view kApiVersion = "2014-05-26";

bool cloud_has_action(std::string_view name);

}  // namespace clouddisk
