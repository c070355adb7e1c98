#include "engine/log/removed_disks.h"

#include <gtest/gtest.h>

#include "engine/ring/sim_machine.h"
#include "tests/engine/ring/sim_support.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

class RemovedDisks : public testing::Test {
 protected:
  void make_disk(unsigned files) {
    ASSERT_TRUE(process_.ring->block_on(process_.ring->make_directories("/r/disks/d-1")));
    ASSERT_TRUE(process_.ring->block_on(process_.ring->sync_directory("/r")));
    ASSERT_TRUE(process_.ring->block_on(process_.ring->sync_directory("/r/disks")));
    for (unsigned i = 0; i < files; ++i) {
      process_.make_durable("/r/disks/d-1", "segment-" + std::to_string(i), filled(4096, i));
    }
  }
  void set_aside_whole() {
    auto done = process_.ring->block_on(set_aside(*process_.ring, "/r", "d-1"));
    ASSERT_TRUE(done) << done.error().message;
  }
  void purge(unsigned files_at_most) {
    unsigned left = files_at_most;
    const auto stop = [&left] { return left-- == 0; };
    auto done = process_.ring->block_on(purge_removed(*process_.ring, "/r", stop));
    ASSERT_TRUE(done) << done.error().message;
  }
  std::vector<std::string> names(const std::string& folder) {
    auto listed = process_.ring->block_on(process_.ring->list(folder));
    return listed ? *listed : std::vector<std::string>{"?"};
  }

  SimMachine machine_{announce_seed()};
  Process process_{machine_};
};

TEST_F(RemovedDisks, AreGoneAtOnceAndStayGoneWithoutPower) {
  make_disk(3);
  set_aside_whole();
  EXPECT_TRUE(names("/r/disks").empty());
  process_.kill();
  machine_.power_loss();
  Process after(machine_);
  auto disks = after.ring->block_on(after.ring->list("/r/disks"));
  ASSERT_TRUE(disks);
  EXPECT_TRUE(disks->empty());
}

TEST_F(RemovedDisks, GoOneByOneEvenWithTheSameName) {
  make_disk(3);
  set_aside_whole();
  make_disk(2);
  set_aside_whole();
  EXPECT_EQ(names("/r/removed").size(), 2U);
  EXPECT_EQ(names("/r/removed/d-1-0").size(), 3U);
  purge(1);
  EXPECT_EQ(names("/r/removed/d-1-0").size(), 2U) << "it was told to stop";
  purge(100);
  EXPECT_TRUE(names("/r/removed").empty());
}

TEST_F(RemovedDisks, ThatWereNeverWrittenToLeaveNothingToPurge) {
  make_disk(0);
  set_aside_whole();
  EXPECT_TRUE(names("/r/disks").empty());
  EXPECT_EQ(names("/r/removed"), std::vector<std::string>{"?"}) << "nothing was made";
  process_.kill();
  machine_.power_loss();
  Process after(machine_);
  EXPECT_FALSE(machine_.exists("/r/disks/d-1"));
}

TEST_F(RemovedDisks, AreFineWhereThereWereNone) {
  set_aside_whole();
  purge(1);
  EXPECT_EQ(names("/r/removed"), std::vector<std::string>{"?"}) << "nothing was made";
}

TEST_F(RemovedDisks, StayGoneWithoutPowerAlsoIfTheFirstTryDiedInTheMiddle) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimMachine machine(seed);
    {
      Process first(machine);
      Ring& ring = *first.ring;
      ASSERT_TRUE(ring.block_on(ring.make_directories("/r/disks/d-1")));
      ASSERT_TRUE(ring.block_on(ring.sync_directory("/r")));
      ASSERT_TRUE(ring.block_on(ring.sync_directory("/r/disks")));
      ASSERT_TRUE(ring.block_on(ring.make_directories("/r/removed")));
      ASSERT_TRUE(ring.block_on(ring.rename("/r/disks/d-1", "/r/removed/d-1-0")));
      first.kill();
    }
    Process second(machine);
    ASSERT_TRUE(second.ring->block_on(set_aside(*second.ring, "/r", "d-1")));
    second.kill();
    machine.power_loss();
    EXPECT_FALSE(machine.exists("/r/disks/d-1")) << seed;
  }
}

}  // namespace
}  // namespace clouddisk
