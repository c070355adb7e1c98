#include "tools/auth/nonces.h"

#include <gtest/gtest.h>

#include <string>

namespace clouddisk::auth {
namespace {

using Answer = NonceStore::Answer;
using std::chrono::minutes;
using std::chrono::seconds;

const WallTime kNow{seconds(1'800'000'000)};

Answer use(NonceStore& nonces, std::string_view key, std::string_view nonce, WallTime signed_at,
           WallTime now) {
  return nonces.use(nonces.make(key, nonce, signed_at), now);
}

TEST(NonceStore, ANonceIsGoodOnceForEachKey) {
  NonceStore nonces(minutes(15), 100);
  EXPECT_EQ(use(nonces, "a", "1", kNow, kNow), Answer::kNew);
  EXPECT_EQ(use(nonces, "a", "1", kNow, kNow), Answer::kUsed);
  EXPECT_EQ(use(nonces, "a", "1", kNow + minutes(3), kNow), Answer::kUsed) << "whatever the time";
  EXPECT_EQ(use(nonces, "b", "1", kNow, kNow), Answer::kNew);
  EXPECT_EQ(use(nonces, "a", "2", kNow, kNow), Answer::kNew);
  EXPECT_EQ(nonces.count(), 3U);
}

TEST(NonceStore, ItIsRememberedAsLongAsItsRequestWouldBeAccepted) {
  for (const Duration ahead : {Duration(minutes(-15)), Duration(0), Duration(minutes(15))}) {
    NonceStore nonces(minutes(15), 100);
    const WallTime signed_at = kNow + ahead;
    EXPECT_EQ(use(nonces, "a", "1", signed_at, kNow), Answer::kNew);
    for (WallTime now = kNow; now <= signed_at + minutes(15); now += seconds(13)) {
      ASSERT_EQ(use(nonces, "a", "1", signed_at, now), Answer::kUsed);
    }
    const WallTime later = signed_at + minutes(17);
    EXPECT_EQ(use(nonces, "a", "2", later, later), Answer::kNew);
    EXPECT_EQ(nonces.count(), 1U) << "the old one is gone";
  }
}

TEST(NonceStore, AKeyGetsNoMoreThanIsLeftForAllOthersAndIsRefusedRatherThanForgotten) {
  NonceStore nonces(minutes(15), 12);
  const auto fill = [&](std::string_view key, WallTime now) {
    int taken = 0;
    while (use(nonces, key, std::to_string(taken), now, now) == Answer::kNew) ++taken;
    return taken;
  };
  EXPECT_EQ(fill("a", kNow), 6);
  EXPECT_EQ(use(nonces, "a", "new", kNow, kNow), Answer::kFull);
  EXPECT_EQ(use(nonces, "a", "3", kNow, kNow), Answer::kUsed);
  EXPECT_EQ(fill("b", kNow), 3) << "another key has room";
  EXPECT_EQ(fill("c", kNow), 2);
  EXPECT_EQ(fill("d", kNow), 1);
  EXPECT_EQ(fill("e", kNow), 0);
  EXPECT_EQ(nonces.count(), 12U);
  const WallTime later = kNow + minutes(17);
  EXPECT_EQ(fill("e", later), 6);
  EXPECT_EQ(nonces.count(), 6U);
}

TEST(NonceStore, WhatIsTakenBackCountsForItsKey) {
  NonceStore nonces(minutes(15), 4);
  for (const char* nonce : {"1", "2"}) nonces.remember(nonces.make("a", nonce, kNow), kNow);
  EXPECT_EQ(use(nonces, "a", "1", kNow, kNow), Answer::kUsed);
  EXPECT_EQ(use(nonces, "a", "3", kNow, kNow), Answer::kFull);
  EXPECT_EQ(use(nonces, "b", "1", kNow, kNow), Answer::kNew);
}

TEST(NonceStore, LookingUsesNothingUp) {
  NonceStore nonces(minutes(15), 4);
  const UsedNonce nonce = nonces.make("a", "1", kNow);
  EXPECT_EQ(nonces.look(nonce, kNow), Answer::kNew);
  EXPECT_EQ(nonces.look(nonce, kNow), Answer::kNew);
  EXPECT_EQ(nonces.use(nonce, kNow), Answer::kNew);
  EXPECT_EQ(nonces.look(nonce, kNow), Answer::kUsed);
}

TEST(NonceStore, WhatItForgotStaysRefusedWhenTheClockIsPutBack) {
  NonceStore nonces(minutes(15), 10);
  EXPECT_EQ(use(nonces, "a", "1", kNow, kNow), Answer::kNew);
  const WallTime later = kNow + minutes(30);
  EXPECT_EQ(use(nonces, "a", "2", later, later), Answer::kNew);
  EXPECT_EQ(use(nonces, "a", "1", kNow, kNow), Answer::kTooLate);
}

}  // namespace
}  // namespace clouddisk::auth
