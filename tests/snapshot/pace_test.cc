// How background work yields to the clients of its disk.
#include "snapshot/pace.h"

#include <gtest/gtest.h>

namespace clouddisk::snapshot {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr PaceLimits kLimits{32_MiB, 1_GiB};

TEST(Pace, TheNextRateHalvesBesideClientsAndDoublesWithoutThem) {
  struct Case {
    const char* name;
    std::uint64_t rate;
    bool active;
    PaceLimits limits;
    std::uint64_t next;
  };
  const Case cases[] = {
      {"full speed stays", 1_GiB, false, kLimits, 1_GiB},
      {"clients halve it", 1_GiB, true, kLimits, 512_MiB},
      {"never below the least", 40_MiB, true, kLimits, 32_MiB},
      {"the least stays", 32_MiB, true, kLimits, 32_MiB},
      {"it comes back", 32_MiB, false, kLimits, 64_MiB},
      {"never above the most", 600_MiB, false, kLimits, 1_GiB},
      {"a most below the least wins", 8_MiB, true, {32_MiB, 8_MiB}, 8_MiB},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(next_rate(one.rate, one.active, one.limits), one.next) << one.name;
  }
}

// Steps of 1 MiB that take no time themselves, for ten seconds; a request of a client before each
// with `every` 1, before every other with 2, never with 0.
std::uint64_t bytes_in_ten_seconds(unsigned every) {
  Pace pace(kLimits);
  std::uint64_t bytes = 0;
  std::uint64_t requests = 0;
  const TimePoint begin{seconds(1000)};
  for (TimePoint now = begin; now < begin + seconds(10); bytes += 1_MiB) {
    if (every != 0 && bytes / 1_MiB % every == 0) ++requests;
    now = pace.book(1_MiB, requests, now);
  }
  return bytes;
}

TEST(Pace, AnIdleDiskIsWorkedOnAtFullSpeed) {
  EXPECT_GT(bytes_in_ten_seconds(0), 10 * 1_GiB * 98 / 100);
  EXPECT_LT(bytes_in_ten_seconds(0), 10 * 1_GiB * 102 / 100);
}

TEST(Pace, ABusyDiskIsWorkedOnAtTheLeastRateAndNoLess) {
  EXPECT_GE(bytes_in_ten_seconds(1), 10 * 32_MiB);
  EXPECT_LT(bytes_in_ten_seconds(1), 10 * 32_MiB + 10_MiB);
}

TEST(Pace, ALoneRequestCostsAStepAndNoMore) {
  Pace pace(kLimits);
  TimePoint now{seconds(1)};
  now = pace.book(1_MiB, 0, now);
  now = pace.book(1_MiB, 1, now);
  EXPECT_EQ(pace.rate(), 512_MiB);
  now = pace.book(1_MiB, 1, now);
  EXPECT_EQ(pace.rate(), 1_GiB);
}

TEST(Pace, WorkThatIsSlowerThanItsRateNeverWaitsAndSavesNothingUp) {
  Pace pace(kLimits);
  TimePoint now{seconds(1)};
  for (int i = 0; i < 10; ++i) {
    now += milliseconds(100);
    EXPECT_EQ(pace.book(1_MiB, 0, now), now);
  }
  EXPECT_GT(pace.book(1_GiB, 0, now), now + milliseconds(999));
}

}  // namespace
}  // namespace clouddisk::snapshot
