#include "engine/catalog/token_rules.h"

#include <algorithm>

namespace clouddisk {

bool token_is_good(const TokenRecord& token, WallTime now) {
  return now - token.created < kTokenLife;
}

std::vector<const TokenRecord*> tokens_to_forget(const Catalog::ById<TokenRecord>& tokens,
                                                 WallTime now) {
  std::vector<const TokenRecord*> forgotten;
  std::vector<const TokenRecord*> good;
  for (const auto& [key, token] : tokens) {
    (token_is_good(token, now) ? good : forgotten).push_back(&token);
  }
  if (good.size() < kTokensMax) return forgotten;
  // Actions beside each other may each have made room for one and added one.
  const std::size_t excess = good.size() - kTokensMax + 1;
  std::partial_sort(
      good.begin(), good.begin() + static_cast<std::ptrdiff_t>(excess), good.end(),
      [](const TokenRecord* a, const TokenRecord* b) { return a->created < b->created; });
  forgotten.insert(forgotten.end(), good.begin(),
                   good.begin() + static_cast<std::ptrdiff_t>(excess));
  return forgotten;
}

}  // namespace clouddisk
