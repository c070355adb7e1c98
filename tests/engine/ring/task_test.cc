#include "engine/ring/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"

namespace clouddisk {
namespace {

// Tells when it dies, as a coroutine's parameter.
struct Tracked {
  explicit Tracked(int* alive) : alive_(alive) { ++*alive_; }
  Tracked(Tracked&& other) noexcept : alive_(other.alive_) { ++*alive_; }
  Tracked& operator=(Tracked&&) = delete;
  ~Tracked() { --*alive_; }
  int* alive_;
};

Task<void> note(std::vector<std::string>& log, std::string text) {
  log.push_back(std::move(text));
  co_return;
}

Task<int> add_one(int value) {
  co_return value + 1;
}

Task<int> hold(Tracked tracked, int value) {
  EXPECT_GT(*tracked.alive_, 0);
  co_return value;
}

Task<std::unique_ptr<int>> make_unique_int(int value) {
  auto made = std::make_unique<int>(value);
  co_return made;
}

Task<void> sleep_and_hold(Ring& ring, Tracked tracked) {
  EXPECT_GT(*tracked.alive_, 0);
  co_await ring.sleep_for(std::chrono::seconds(1));
}

Task<void> yield_and_note(Ring& ring, std::vector<std::string>& log, std::string text) {
  log.push_back(text + " begins");
  co_await ring.yield();
  log.push_back(text + " ends");
}

class TaskTest : public testing::Test {
 protected:
  SimMachine machine_{1};
  SimRing ring_{machine_};
};

Task<int> count_to(int turns) {
  int sum = 0;
  for (int i = 0; i < turns; ++i) sum = co_await add_one(sum);
  co_return sum;
}

TEST_F(TaskTest, ALoopOverTasksThatEndAtOnceKeepsItsStack) {
  // 2 M turns would need hundreds of megabytes if each left a frame on the stack.
  EXPECT_EQ(ring_.block_on(count_to(2'000'000)), 2'000'000);
}

TEST_F(TaskTest, StartsOnlyWhenAwaited) {
  std::vector<std::string> log;
  {
    auto task = note(log, "ran");
    EXPECT_TRUE(log.empty());
    ring_.block_on(std::move(task));
  }
  EXPECT_EQ(log, std::vector<std::string>{"ran"});
  { auto dropped = note(log, "never"); }
  EXPECT_EQ(log.size(), 1U);
}

TEST_F(TaskTest, ATaskThatNeverRanFreesItsParameters) {
  int alive = 0;
  { auto task = hold(Tracked(&alive), 1); }
  EXPECT_EQ(alive, 0);
}

TEST_F(TaskTest, AssigningFreesTheEarlierTask) {
  int first = 0;
  int second = 0;
  auto task = hold(Tracked(&first), 1);
  task = hold(Tracked(&second), 2);
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
  EXPECT_EQ(ring_.block_on(std::move(task)), 2);
  EXPECT_EQ(second, 0);
}

TEST_F(TaskTest, GivesAValueThatCanOnlyMove) {
  const std::unique_ptr<int> value = ring_.block_on(make_unique_int(7));
  EXPECT_EQ(*value, 7);
}

// The data path awaits tasks that finish at once, millions of times: no stack, no growth.
Task<int> count_up(int to) {
  int value = 0;
  while (value < to) value = co_await add_one(value);
  co_return value;
}
TEST_F(TaskTest, AwaitingInALoopDoesNotUseUpTheStack) {
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  constexpr int kCount = 1'000'000;
#else
  constexpr int kCount = 1'000;  // Without optimisation a transfer of control is a call.
#endif
  EXPECT_EQ(ring_.block_on(count_up(kCount)), kCount);
}

Task<int> nested(int depth) {
  if (depth == 0) co_return 0;
  const int below = co_await nested(depth - 1);
  co_return below + 1;
}
TEST_F(TaskTest, ValuesComeUpThroughManyLevels) {
  EXPECT_EQ(ring_.block_on(nested(500)), 500);
}

TEST_F(TaskTest, SpawnRunsUntilTheFirstWaitAndThenOnItsOwn) {
  std::vector<std::string> log;
  spawn(yield_and_note(ring_, log, "a"));
  spawn(yield_and_note(ring_, log, "b"));
  log.push_back("spawned");
  ring_.run_until([&] { return log.size() == 5; });
  EXPECT_EQ(log, (std::vector<std::string>{"a begins", "b begins", "spawned", "a ends", "b ends"}));
}

TEST_F(TaskTest, ASpawnedTaskFreesItsFrameAtItsEnd) {
  int alive = 0;
  spawn(sleep_and_hold(ring_, Tracked(&alive)));
  EXPECT_EQ(alive, 1);
  ring_.run_for(std::chrono::seconds(2));
  EXPECT_EQ(alive, 0);
}

TEST(FrameCache, FramesOfEverySizeAreUsableAndDistinct) {
  for (const std::size_t size : {1UL, 63UL, 64UL, 65UL, 4095UL, 4096UL, 4097UL, 100'000UL}) {
    void* one = allocate_frame(size);
    void* two = allocate_frame(size);
    ASSERT_NE(one, two);
    std::memset(one, 1, size);
    std::memset(two, 2, size);
    EXPECT_EQ(static_cast<unsigned char*>(one)[size - 1], 1);
    release_frame(one, size);
    void* three = allocate_frame(size);
    std::memset(three, 3, size);
    EXPECT_EQ(static_cast<unsigned char*>(two)[size - 1], 2);
    release_frame(two, size);
    release_frame(three, size);
  }
}

}  // namespace
}  // namespace clouddisk
