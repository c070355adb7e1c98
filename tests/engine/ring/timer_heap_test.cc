#include "engine/ring/timer_heap.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

TimePoint at(std::uint64_t ns) {
  return TimePoint(Duration(static_cast<std::int64_t>(ns)));
}

TEST(TimerHeap, EqualTimesLeaveInTheOrderOfAdding) {
  TimerHeap heap;
  std::vector<Completion> timers(50);
  for (Completion& timer : timers) heap.add(at(7), timer);
  EXPECT_EQ(heap.pop_due(at(6)), nullptr);
  for (Completion& timer : timers) EXPECT_EQ(heap.pop_due(at(7)), &timer);
  EXPECT_TRUE(heap.empty());
}

TEST(TimerHeap, ATimerThatIsOutCannotBeRemovedAndCanBeAddedAgain) {
  TimerHeap heap;
  Completion timer;
  EXPECT_FALSE(heap.remove(timer));
  heap.add(at(1), timer);
  EXPECT_TRUE(heap.remove(timer));
  EXPECT_FALSE(heap.remove(timer));
  heap.add(at(2), timer);
  EXPECT_EQ(heap.next(), at(2));
  EXPECT_EQ(heap.pop_due(at(2)), &timer);
  EXPECT_FALSE(heap.remove(timer));
}

TEST(TimerHeapModel, BehavesAsASortedSet) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  TimerHeap heap;
  std::set<std::pair<std::pair<TimePoint, int>, std::size_t>> model;  // time, order, index
  std::vector<std::unique_ptr<Completion>> timers;
  std::vector<std::pair<TimePoint, int>> keys;
  for (int i = 0; i < 100; ++i) timers.push_back(std::make_unique<Completion>());
  keys.resize(timers.size());
  TimePoint now = at(0);
  for (int step = 0; step < 50'000; ++step) {
    const std::size_t index = random.below(timers.size());
    Completion& timer = *timers[index];
    const bool there = model.contains({keys[index], index});
    ASSERT_EQ(timer.timer_slot != Completion::kNoTimer, there) << "step " << step;
    if (!there && random.below(3) != 0) {
      keys[index] = {now + Duration(static_cast<std::int64_t>(random.below(40))), step};
      heap.add(keys[index].first, timer);
      model.insert({keys[index], index});
    } else if (random.one_in(4)) {
      ASSERT_EQ(heap.remove(timer), there) << "step " << step;
      model.erase({keys[index], index});
    } else {
      now += Duration(static_cast<std::int64_t>(random.below(4)));
      while (Completion* due = heap.pop_due(now)) {
        ASSERT_FALSE(model.empty());
        ASSERT_EQ(due, timers[model.begin()->second].get()) << "step " << step;
        ASSERT_LE(model.begin()->first.first, now);
        model.erase(model.begin());
      }
      ASSERT_TRUE(model.empty() || model.begin()->first.first > now) << "step " << step;
    }
    ASSERT_EQ(heap.empty(), model.empty());
    if (!model.empty()) {
      ASSERT_EQ(heap.next(), model.begin()->first.first);
    }
  }
}

}  // namespace
}  // namespace clouddisk
