// The emulated object store, in simulated time.
#include "tools/clouddiskd/far_source.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/ring/sim_ring.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class FarStore : public testing::Test {
 protected:
  // Notes when the fetch came, counted from the start.
  static Task<void> fetch(FarStore& test, std::uint64_t bytes) {
    co_await test.store_.travel(bytes);
    test.came_.push_back(test.ring_.now() - TimePoint{});
  }
  void run_for(Duration time) {
    auto sleeping = [](Ring& ring, TimePoint until) -> Task<void> {
      co_await ring.sleep_until(until);
    };
    ring_.block_on(sleeping(ring_, ring_.now() + time));
  }

  SimMachine machine_{announce_seed()};
  SimRing ring_{machine_};
  StoreEmulation store_{ring_};
  std::vector<Duration> came_;
};

TEST_F(FarStore, IsNearWhenNothingWasSet) {
  EXPECT_FALSE(store_.slows());
  spawn(fetch(*this, 1_GiB));
  EXPECT_EQ(came_, std::vector<Duration>{Duration(0)});
}

TEST_F(FarStore, LatenciesOverlap) {
  store_.set({milliseconds(20), 0});
  EXPECT_TRUE(store_.slows());
  for (int i = 0; i < 3; ++i) spawn(fetch(*this, 1_MiB));
  run_for(seconds(1));
  EXPECT_EQ(came_, (std::vector<Duration>(3, milliseconds(20))));
}

TEST_F(FarStore, TransfersShareTheBandwidthInTheOrderOfAsking) {
  store_.set({milliseconds(20), 100_MiB});
  for (const std::uint64_t bytes : {50_MiB, 10_MiB, 40_MiB}) spawn(fetch(*this, bytes));
  run_for(seconds(10));
  EXPECT_EQ(came_,
            (std::vector<Duration>{milliseconds(520), milliseconds(620), milliseconds(1020)}));
  // What nobody used is not saved up.
  came_.clear();
  spawn(fetch(*this, 100_MiB));
  run_for(seconds(10));
  EXPECT_EQ(came_, std::vector<Duration>{seconds(11) + milliseconds(20)});
}

TEST_F(FarStore, AChangeLetsThoseGoWhoWaitAndHoldsForTheNext) {
  store_.set({seconds(60), 1_MiB});
  spawn(fetch(*this, 1_GiB));
  run_for(seconds(1));
  EXPECT_TRUE(came_.empty());
  store_.set({milliseconds(5), 0});
  run_for(seconds(1));
  EXPECT_EQ(came_, std::vector<Duration>{seconds(1)});
  came_.clear();
  spawn(fetch(*this, 1_GiB));
  run_for(seconds(1));
  EXPECT_EQ(came_, std::vector<Duration>{seconds(2) + milliseconds(5)});
}

}  // namespace
}  // namespace clouddisk
