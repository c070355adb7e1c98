#include "engine/catalog/token_rules.h"

namespace clouddisk {

bool token_is_good(const TokenRecord& token, WallTime now) {
  return now - token.created < kTokenLife;
}

std::vector<const TokenRecord*> tokens_to_forget(const Catalog::ById<TokenRecord>& tokens,
                                                 WallTime now) {
  std::vector<const TokenRecord*> forgotten;
  const TokenRecord* oldest = nullptr;
  for (const auto& [key, token] : tokens) {
    if (!token_is_good(token, now)) forgotten.push_back(&token);
    if (oldest == nullptr || token.created < oldest->created) oldest = &token;
  }
  if (forgotten.empty() && tokens.size() >= kTokensMax) forgotten.push_back(oldest);
  return forgotten;
}

}  // namespace clouddisk
