#include "engine/disk/read_gate.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "engine/ring/sim_ring.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;

class ReadGates : public testing::Test {
 protected:
  Task<void> read(std::string who, int ms) {
    const ReadGate::Pass pass(gate_);
    co_await ring_.sleep_for(milliseconds(ms));
    log_ += who + " left ";
  }
  Task<void> drain(std::string who) {
    co_await gate_.drain();
    log_ += who + " drained ";
  }
  const std::string& all() {
    ring_.run_for(std::chrono::seconds(10));
    return log_;
  }

  SimMachine machine_{3};
  SimRing ring_{machine_};
  ReadGate gate_{ring_};
  std::string log_;
};

TEST_F(ReadGates, WithNobodyInsideThereIsNothingToWaitFor) {
  spawn(drain("a"));
  EXPECT_EQ(log_, "a drained ");
}

TEST_F(ReadGates, ADrainWaitsForAllThatWereInside) {
  spawn(read("first", 30));
  spawn(read("second", 10));
  spawn(drain("a"));
  EXPECT_EQ(log_, "");
  EXPECT_EQ(all(), "second left first left a drained ");
}

TEST_F(ReadGates, ADrainDoesNotWaitForThoseThatCameLater) {
  spawn(read("first", 10));
  spawn(drain("a"));
  spawn(read("later", 30));
  EXPECT_EQ(all(), "first left a drained later left ");
}

// The second takes the side that those of the first are leaving.
TEST_F(ReadGates, ASecondDrainWaitsForThoseThatCameDuringTheFirst) {
  spawn(read("first", 10));
  spawn(drain("a"));
  spawn(read("later", 30));
  spawn(drain("b"));
  EXPECT_EQ(all(), "first left a drained later left b drained ");
}

}  // namespace
}  // namespace clouddisk
