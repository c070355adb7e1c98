#include "engine/ring/sync.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;

class Sync : public testing::Test {
 protected:
  TimePoint at(int ms) const { return TimePoint(milliseconds(ms)); }

  SimMachine machine_{1};
  SimRing ring_{machine_};
  std::vector<std::string> log_;
};

// --- Signal ---

Task<void> wait_once(Signal& signal, std::vector<std::string>& log, std::string who) {
  co_await signal.wait();
  log.push_back(who);
}

Task<void> wait_until(Ring& ring, Signal& signal, TimePoint deadline, std::vector<std::string>& log,
                      std::string who) {
  const bool woken = co_await signal.wait_until(deadline);
  const auto ms = std::chrono::duration_cast<milliseconds>(ring.now().time_since_epoch()).count();
  log.push_back(who + (woken ? " woken at " : " timed out at ") + std::to_string(ms));
}

Task<void> wake_at(Ring& ring, Signal& signal, TimePoint when, bool all) {
  co_await ring.sleep_until(when);
  if (all) {
    signal.wake_all();
  } else {
    signal.wake_one();
  }
}

TEST_F(Sync, SignalWakesInTheOrderOfWaitingAndNotInsideTheCall) {
  Signal signal(ring_);
  for (const char* who : {"a", "b", "c"}) spawn(wait_once(signal, log_, who));
  signal.wake_one();
  EXPECT_TRUE(log_.empty());
  ring_.run_until([&] { return !log_.empty(); });
  EXPECT_EQ(log_, std::vector<std::string>{"a"});
  signal.wake_all();
  EXPECT_FALSE(signal.has_waiters());
  ring_.run_until([&] { return log_.size() == 3; });
  EXPECT_EQ(log_, (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(Sync, AWakeWithNobodyWaitingIsNotRemembered) {
  Signal signal(ring_);
  signal.wake_all();
  spawn(wait_until(ring_, signal, at(10), log_, "a"));
  ring_.run_for(milliseconds(20));
  EXPECT_EQ(log_, std::vector<std::string>{"a timed out at 10"});
}

TEST_F(Sync, ATimedWaitEndsByWhateverComesFirst) {
  Signal signal(ring_);
  spawn(wait_until(ring_, signal, at(10), log_, "early"));
  spawn(wait_until(ring_, signal, at(30), log_, "late"));
  spawn(wake_at(ring_, signal, at(20), true));
  ring_.run_for(milliseconds(100));
  EXPECT_EQ(log_, (std::vector<std::string>{"early timed out at 10", "late woken at 20"}));
}

TEST_F(Sync, ADeadlineInThePastTimesOutAtOnce) {
  Signal signal(ring_);
  ring_.run_for(milliseconds(50));
  spawn(wait_until(ring_, signal, at(10), log_, "a"));
  ring_.run_for(milliseconds(1));
  EXPECT_EQ(log_, std::vector<std::string>{"a timed out at 50"});
}

TEST_F(Sync, AWaiterThatTimedOutDoesNotEatAWake) {
  Signal signal(ring_);
  spawn(wait_until(ring_, signal, at(10), log_, "a"));
  spawn(wait_once(signal, log_, "b"));
  spawn(wake_at(ring_, signal, at(11), false));
  ring_.run_for(milliseconds(20));
  EXPECT_EQ(log_, (std::vector<std::string>{"a timed out at 10", "b"}));
}

// Wakes and deadlines meet at the same instants, in all orders: each waiter goes on exactly once,
// not before its time, and a wake_one is not lost while somebody waits.
struct Race {
  Ring& ring;
  Signal signal;
  Random random;
  int begun = 0;
  int ended = 0;
  int woken = 0;
};
Task<void> race_waiter(Race& race) {
  for (int i = 0; i < 20; ++i) {
    const TimePoint deadline =
        race.ring.now() + milliseconds(static_cast<int>(race.random.below(4)));
    ++race.begun;
    const bool woken = co_await race.signal.wait_until(deadline);
    ++race.ended;
    if (woken) {
      ++race.woken;
    } else {
      EXPECT_GE(race.ring.now(), deadline);
    }
    if (race.random.one_in(3)) co_await race.ring.sleep_for(milliseconds(1));
  }
}
Task<void> race_waker(Race& race) {
  while (race.ended < 20 * 20) {
    const bool waited = race.signal.has_waiters();
    const bool all = race.random.one_in(2);
    if (all) {
      race.signal.wake_all();
    } else {
      race.signal.wake_one();
    }
    if (waited && all) {
      EXPECT_FALSE(race.signal.has_waiters());
    }
    co_await race.ring.sleep_for(milliseconds(static_cast<int>(race.random.below(3))));
  }
}
TEST_F(Sync, WakesThatRaceWithDeadlinesResumeEachWaiterOnce) {
  const std::uint64_t seed = announce_seed();
  Race race{ring_, Signal(ring_), Random(seed)};
  for (int i = 0; i < 20; ++i) spawn(race_waiter(race));
  spawn(race_waker(race));
  ring_.run_until([&] { return race.ended == 20 * 20; });
  ring_.run_for(milliseconds(10));
  EXPECT_EQ(race.begun, race.ended);
  EXPECT_GT(race.woken, 0);
  EXPECT_LT(race.woken, race.ended);
  EXPECT_FALSE(race.signal.has_waiters());
}

// --- Semaphore ---

Task<void> take(Ring& ring, Semaphore& semaphore, std::uint64_t permits, int held_ms,
                std::vector<std::string>& log, std::string who) {
  co_await semaphore.acquire(permits);
  log.push_back(who);
  co_await ring.sleep_for(milliseconds(held_ms));
  semaphore.release(permits);
}

TEST_F(Sync, ALargeRequestIsNotOvertakenBySmallOnes) {
  Semaphore semaphore(ring_, 4);
  spawn(take(ring_, semaphore, 3, 10, log_, "three"));
  spawn(take(ring_, semaphore, 4, 10, log_, "four"));
  spawn(take(ring_, semaphore, 1, 10, log_, "one"));
  ring_.run_for(milliseconds(5));
  EXPECT_EQ(log_, std::vector<std::string>{"three"}) << "one permit is free, but four is first";
  EXPECT_FALSE(semaphore.try_acquire(1)) << "nor is it to be had without waiting";
  ring_.run_for(milliseconds(100));
  EXPECT_EQ(log_, (std::vector<std::string>{"three", "four", "one"}));
  EXPECT_EQ(semaphore.available(), 4U);
  EXPECT_TRUE(semaphore.try_acquire(4));
}

struct Permits {
  Ring& ring;
  Semaphore semaphore;
  Random random;
  std::uint64_t held = 0;
  std::vector<int> asked;
  std::vector<int> served;
};
Task<void> permit_user(Permits& permits, int id) {
  co_await permits.ring.sleep_for(milliseconds(static_cast<int>(permits.random.below(50))));
  const std::uint64_t wanted = permits.random.between(1, 10);
  permits.asked.push_back(id);
  co_await permits.semaphore.acquire(wanted);
  permits.served.push_back(id);
  permits.held += wanted;
  EXPECT_LE(permits.held, 10U);
  co_await permits.ring.sleep_for(milliseconds(static_cast<int>(permits.random.below(5))));
  permits.held -= wanted;
  permits.semaphore.release(wanted);
}
TEST_F(Sync, PermitsAreNeverExceededAndServedInOrder) {
  const std::uint64_t seed = announce_seed();
  Permits permits{ring_, Semaphore(ring_, 10), Random(seed), 0, {}, {}};
  for (int id = 0; id < 200; ++id) spawn(permit_user(permits, id));
  ring_.run_until([&] { return permits.served.size() == 200 && permits.held == 0; });
  EXPECT_EQ(permits.asked, permits.served);
  EXPECT_EQ(permits.semaphore.available(), 10U);
}

// --- AsyncSharedMutex ---

struct Readers {
  int sharing = 0, most = 0, alone = 0, finished = 0;
  std::vector<int> order;
};

Task<void> share(Ring& ring, AsyncSharedMutex& mutex, int id, Readers& readers) {
  const auto guard = co_await mutex.lock_shared();
  EXPECT_EQ(readers.alone, 0);
  readers.order.push_back(id);
  readers.most = std::max(readers.most, ++readers.sharing);
  co_await ring.sleep_for(milliseconds(1));
  --readers.sharing;
  ++readers.finished;
}

Task<void> be_alone(Ring& ring, AsyncSharedMutex& mutex, int id, Readers& readers) {
  const auto guard = co_await mutex.lock();
  EXPECT_EQ(readers.sharing, 0);
  EXPECT_EQ(readers.alone++, 0);
  readers.order.push_back(id);
  co_await ring.sleep_for(milliseconds(1));
  --readers.alone;
  ++readers.finished;
}

TEST_F(Sync, ManyShareOrOneIsAloneInTheOrderOfAsking) {
  AsyncSharedMutex mutex(ring_);
  Readers readers;
  for (int id = 0; id < 3; ++id) spawn(share(ring_, mutex, id, readers));
  spawn(be_alone(ring_, mutex, 3, readers));
  for (int id = 4; id < 6; ++id) spawn(share(ring_, mutex, id, readers));
  spawn(be_alone(ring_, mutex, 6, readers));
  ring_.run_until([&readers] { return readers.finished == 7; });
  EXPECT_EQ(readers.most, 3) << "who came behind one that is alone waits";
  EXPECT_EQ(readers.order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6}));
}

// --- AsyncMutex ---

Task<void> locked_section(Ring& ring, AsyncMutex& mutex, int& inside, std::vector<int>& order,
                          int id) {
  auto guard = co_await mutex.lock();
  EXPECT_EQ(++inside, 1);
  order.push_back(id);
  co_await ring.sleep_for(milliseconds(1));
  --inside;
}
TEST_F(Sync, OneHolderOfAMutexAtATimeInTheOrderOfAsking) {
  AsyncMutex mutex(ring_);
  int inside = 0;
  std::vector<int> order;
  for (int id = 0; id < 50; ++id) spawn(locked_section(ring_, mutex, inside, order, id));
  EXPECT_TRUE(mutex.locked());
  ring_.run_for(milliseconds(100));
  ASSERT_EQ(order.size(), 50U);
  for (int id = 0; id < 50; ++id) EXPECT_EQ(order[static_cast<std::size_t>(id)], id);
  EXPECT_FALSE(mutex.locked());
}

Task<void> unlock_early(AsyncMutex& mutex, bool& free_inside) {
  auto guard = co_await mutex.lock();
  guard.unlock();
  free_inside = !mutex.locked();
  guard.unlock();  // Nothing is left to unlock.
}
TEST_F(Sync, AGuardUnlocksOnce) {
  AsyncMutex mutex(ring_);
  bool free_inside = false;
  ring_.block_on(unlock_early(mutex, free_inside));
  EXPECT_TRUE(free_inside);
  EXPECT_FALSE(mutex.locked());
}

// --- WaitGroup ---

Task<void> work(Ring& ring, WaitGroup& group, int ms) {
  co_await ring.sleep_for(milliseconds(ms));
  group.done();
}

TEST_F(Sync, AWaitGroupWaitsForTheLast) {
  WaitGroup group(ring_);
  group.add(3);
  for (const int ms : {5, 30, 20}) spawn(work(ring_, group, ms));
  ring_.block_on(group.wait());
  EXPECT_EQ(ring_.now(), at(30));
  ring_.block_on(group.wait());
  EXPECT_EQ(ring_.now(), at(30)) << "nothing is under way: no wait";
}

TEST_F(Sync, AWaitGroupGivesUpAtTheDeadline) {
  WaitGroup group(ring_);
  group.add();
  spawn(work(ring_, group, 50));
  EXPECT_FALSE(ring_.block_on(group.wait_until(at(20))));
  EXPECT_EQ(ring_.now(), at(20));
  EXPECT_TRUE(ring_.block_on(group.wait_until(at(100))));
  EXPECT_EQ(ring_.now(), at(50));
}

}  // namespace
}  // namespace clouddisk
