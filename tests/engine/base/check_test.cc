#include "engine/base/check.h"

#include <gtest/gtest.h>

namespace clouddisk {
namespace {

TEST(CheckDeathTest, NamesTheConditionAndThePlace) {
  const int answer = 41;
  EXPECT_DEATH(CHECK(answer == 42), "check_test.cc:[0-9]+: CHECK failed: answer == 42");
}

TEST(Check, EvaluatesItsConditionOnce) {
  int count = 0;
  CHECK(++count == 1);
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace clouddisk
