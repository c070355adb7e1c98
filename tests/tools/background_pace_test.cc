// How fast resync and scrub go beside clients.
#include "tools/clouddiskd/background_pace.h"

#include <gtest/gtest.h>

#include "engine/ring/sim_ring.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;

ClientLoad load(std::uint64_t requests, milliseconds each, milliseconds throttled) {
  const auto ns = [](milliseconds time) {
    return static_cast<std::uint64_t>(time / std::chrono::nanoseconds(1));
  };
  return {requests, requests * ns(each), requests * ns(throttled)};
}

TEST(BackgroundPace, OnlyADiskBelowItsLevelIsHeldUp) {
  struct Row {
    const char* what;
    ClientLoad now;
    bool limited;
    bool held_up, busy;
  };
  const Row rows[] = {
      {"no requests", load(0, milliseconds(0), milliseconds(0)), true, false, false},
      {"no requests without a level", load(0, milliseconds(0), milliseconds(0)), false, false,
       false},
      {"fast devices", load(100, milliseconds(1), milliseconds(0)), true, false, false},
      {"slow devices", load(100, milliseconds(5), milliseconds(0)), true, true, false},
      {"at its limit", load(100, milliseconds(20), milliseconds(15)), true, false, false},
      {"without a level", load(100, milliseconds(5), milliseconds(0)), false, false, true},
  };
  for (const Row& row : rows) {
    const ClientStrain strain = strain_of(ClientLoad{}, row.now, row.limited);
    EXPECT_EQ(strain.held_up, row.held_up) << row.what;
    EXPECT_EQ(strain.busy, row.busy) << row.what;
  }
}

class ControlledPaceTest : public testing::Test {
 protected:
  // Pieces of 1 MiB that the devices take 10 ms for; gives how long all of it took.
  Duration work(int pieces) {
    const TimePoint begun = ring_.now();
    const auto run = [&]() -> Task<void> {
      ControlledPace pace(ring_, control_, [](std::uint64_t) {});
      for (int i = 0; i < pieces; ++i) {
        co_await ring_.sleep_for(milliseconds(10));
        co_await pace.spent(1_MiB);
      }
    };
    ring_.block_on(run());
    return ring_.now() - begun;
  }

  SimMachine machine_{1};
  SimRing ring_{machine_};
  WorkControl control_;
};

TEST_F(ControlledPaceTest, HalfOfTheTimeIsRestedWhateverTheDevicesDo) {
  EXPECT_EQ(work(20), milliseconds(200)) << "no limit";
  control_.share = WorkControl::kHalf;
  EXPECT_EQ(work(20), milliseconds(400));
}

TEST_F(ControlledPaceTest, TheLowerOfRateAndShareHolds) {
  control_.share = WorkControl::kHalf;
  control_.rate = 10_MiB;  // 100 ms a piece
  EXPECT_NEAR(std::chrono::duration<double>(work(20)).count(), 2.2, 0.2);
  control_.rate = 1_GiB;
  EXPECT_NEAR(std::chrono::duration<double>(work(20)).count(), 0.4, 0.03);
}

TEST_F(ControlledPaceTest, WhoIsStoppedRestsNoMore) {
  control_.share = WorkControl::kHalf;
  control_.stop = true;
  EXPECT_EQ(work(20), milliseconds(200));
}

}  // namespace
}  // namespace clouddisk
