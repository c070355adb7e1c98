#include "engine/base/random.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/support/seed.h"

namespace clouddisk {
namespace {

std::vector<std::uint64_t> numbers(Random random, int count) {
  std::vector<std::uint64_t> result;
  for (int i = 0; i < count; ++i) result.push_back(random.next());
  return result;
}

// A seed that failed on one machine must fail on another, so the stream itself is a promise:
// xoshiro256** over splitmix64, here the first numbers of seed 0.
TEST(Random, TheStreamOfASeedIsFixed) {
  const std::vector<std::uint64_t> expected = {0x99ec5f36cb75f2b4, 0xbf6e1f784956452a,
                                               0x1a5f849d4933e6e0, 0x6aa594f1262d2d2c};
  EXPECT_EQ(numbers(Random(0), 4), expected);
}

TEST(Random, SeedsDiffer) {
  EXPECT_EQ(numbers(Random(7719), 50), numbers(Random(7719), 50));
  EXPECT_NE(numbers(Random(7719), 50), numbers(Random(7720), 50));
}

TEST(Random, AForkDoesNotDependOnLaterUseOfItsParent) {
  Random one(5);
  Random two(5);
  Random fork_of_one = one.fork();
  Random fork_of_two = two.fork();
  static_cast<void>(numbers(two, 10));
  EXPECT_EQ(numbers(fork_of_one, 20), numbers(fork_of_two, 20));
  EXPECT_NE(numbers(one, 20), numbers(Random(5).fork(), 20));
}

TEST(Random, BelowStaysBelowAndIsEven) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::map<std::uint64_t, int> counts;
  constexpr int kDraws = 60'000;
  for (int i = 0; i < kDraws; ++i) ++counts[random.below(6)];
  ASSERT_EQ(counts.size(), 6U);
  EXPECT_EQ(counts.rbegin()->first, 5U);
  // 10,000 expected, 91 the standard deviation: seven of them are one failure in 10^11 runs.
  for (const auto& [value, count] : counts) EXPECT_NEAR(count, kDraws / 6, 640) << value;
  EXPECT_EQ(random.below(1), 0U);
}

TEST(Random, BetweenReachesBothEnds) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  bool first = false;
  bool last = false;
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t value = random.between(10, 13);
    ASSERT_GE(value, 10U);
    ASSERT_LE(value, 13U);
    first |= value == 10;
    last |= value == 13;
  }
  EXPECT_TRUE(first);
  EXPECT_TRUE(last);
}

TEST(Random, OneInZeroNeverHappensAndOneInOneAlways) {
  Random random(1);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(random.one_in(0));
    EXPECT_TRUE(random.one_in(1));
  }
}

TEST(Random, UnitLiesInTheHalfOpenInterval) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double value = random.unit();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.03);
}

}  // namespace
}  // namespace clouddisk
