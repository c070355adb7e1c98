#include "tools/auth/nonces.h"

#include <gtest/gtest.h>

#include <string>

namespace clouddisk::auth {
namespace {

using Answer = NonceStore::Answer;
using std::chrono::minutes;
using std::chrono::seconds;

const WallTime kNow{seconds(1'800'000'000)};

TEST(NonceStore, ANonceIsGoodOnceForEachKey) {
  NonceStore nonces(minutes(15), 100);
  EXPECT_EQ(nonces.use("a", "1", kNow, kNow), Answer::kNew);
  EXPECT_EQ(nonces.use("a", "1", kNow, kNow), Answer::kUsed);
  EXPECT_EQ(nonces.use("a", "1", kNow + minutes(3), kNow), Answer::kUsed) << "whatever the time";
  EXPECT_EQ(nonces.use("b", "1", kNow, kNow), Answer::kNew);
  EXPECT_EQ(nonces.use("a", "2", kNow, kNow), Answer::kNew);
  EXPECT_EQ(nonces.count(), 3U);
}

TEST(NonceStore, ItIsRememberedAsLongAsItsRequestWouldBeAccepted) {
  for (const Duration ahead : {Duration(minutes(-15)), Duration(0), Duration(minutes(15))}) {
    NonceStore nonces(minutes(15), 100);
    const WallTime signed_at = kNow + ahead;
    EXPECT_EQ(nonces.use("a", "1", signed_at, kNow), Answer::kNew);
    for (WallTime now = kNow; now <= signed_at + minutes(15); now += seconds(13)) {
      ASSERT_EQ(nonces.use("a", "1", signed_at, now), Answer::kUsed);
    }
    const WallTime later = signed_at + minutes(17);
    EXPECT_EQ(nonces.use("a", "2", later, later), Answer::kNew);
    EXPECT_EQ(nonces.count(), 1U) << "the old one is gone";
  }
}

TEST(NonceStore, FullItRefusesRatherThanForgets) {
  NonceStore nonces(minutes(15), 10);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(nonces.use("a", std::to_string(i), kNow, kNow), Answer::kNew);
  }
  EXPECT_EQ(nonces.use("a", "new", kNow, kNow), Answer::kFull);
  EXPECT_EQ(nonces.use("a", "3", kNow, kNow), Answer::kUsed);
  const WallTime later = kNow + minutes(17);
  EXPECT_EQ(nonces.use("a", "new", later, later), Answer::kNew);
}

TEST(NonceStore, WhatItForgotStaysRefusedWhenTheClockIsPutBack) {
  NonceStore nonces(minutes(15), 10);
  EXPECT_EQ(nonces.use("a", "1", kNow, kNow), Answer::kNew);
  const WallTime later = kNow + minutes(30);
  EXPECT_EQ(nonces.use("a", "2", later, later), Answer::kNew);
  EXPECT_EQ(nonces.use("a", "1", kNow, kNow), Answer::kTooLate);
}

}  // namespace
}  // namespace clouddisk::auth
