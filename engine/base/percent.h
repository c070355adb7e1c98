// percent.h: percent-encoding, as URIs and forms have it. Pure.
#pragma once

#include <string>
#include <string_view>

namespace clouddisk {

// Only A-Z a-z 0-9 - _ . ~ and what is in `bare` stay as they are.
std::string percent_encode(std::string_view text, std::string_view bare = {});

}  // namespace clouddisk
