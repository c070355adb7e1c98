// token_rules.h: how long a ClientToken is good for, and how many are kept. Pure functions.
#pragma once

#include <vector>

#include "engine/catalog/catalog.h"

namespace clouddisk {

inline constexpr Duration kTokenLife = std::chrono::hours(24);
inline constexpr std::size_t kTokensMax = 10'000;

bool token_is_good(const TokenRecord& token, WallTime now);

// What makes room for one more: all that are good no longer, and the oldest if need be.
std::vector<const TokenRecord*> tokens_to_forget(const Catalog::ById<TokenRecord>& tokens,
                                                 WallTime now);

}  // namespace clouddisk
