#include "engine/disk/range_lock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;

constexpr bool kShared = false;
constexpr bool kExclusive = true;

class RangeLocking : public testing::Test {
 protected:
  void TearDown() override { all(); }

  // Asks at once, in the order of the calls; "a+" in the log when it is held, "a-" when it no
  // longer is.
  void ask(const std::string& who, std::uint64_t first, std::uint64_t count, bool exclusive,
           int held_ms = 10) {
    spawn(hold(who, Lba(first), count, exclusive, held_ms));
  }
  Task<void> hold(std::string who, Lba first, std::uint64_t count, bool exclusive, int held_ms) {
    RangeLock::Hold hold(lock_, first, count, exclusive);
    co_await hold.acquire();
    log_ += who + "+ ";
    co_await ring_.sleep_for(milliseconds(held_ms));
    log_ += who + "- ";
  }
  // What is held without anybody letting go.
  std::string held_now() {
    ring_.run_for(milliseconds(1));
    return log_;
  }
  std::string all() {
    ring_.run_for(std::chrono::seconds(1));
    return log_;
  }

  SimMachine machine_{1};
  SimRing ring_{machine_};
  RangeLock lock_{ring_};
  std::string log_;
};

TEST_F(RangeLocking, SharedHoldsOfTheSameBlocksGoTogether) {
  ask("a", 0, 8, kShared);
  ask("b", 0, 8, kShared);
  ask("c", 4, 100, kShared);
  EXPECT_EQ(held_now(), "a+ b+ c+ ");
}

TEST_F(RangeLocking, AnExclusiveHoldKeepsOthersOfItsBlocksOut) {
  ask("a", 4, 4, kExclusive);
  ask("shared", 7, 1, kShared);
  ask("exclusive", 4, 1, kExclusive);
  EXPECT_EQ(held_now(), "a+ ");
  EXPECT_EQ(all(), "a+ a- shared+ exclusive+ shared- exclusive- ");
}

TEST_F(RangeLocking, AnExclusiveHoldWaitsForAllSharedOnesBeforeIt) {
  ask("a", 0, 4, kShared, 10);
  ask("b", 2, 4, kShared, 20);
  ask("x", 3, 1, kExclusive);
  EXPECT_EQ(all(), "a+ b+ a- b- x+ x- ");
}

// [begin, end): neighbours don't touch, one shared block is enough.
TEST_F(RangeLocking, OnlyOverlapConflicts) {
  const struct {
    const char* name;
    std::uint64_t first;
    std::uint64_t count;
    bool waits;
  } rows[] = {
      {"ends where it begins", 0, 10, false},
      {"begins where it ends", 20, 5, false},
      {"far away", 1'000'000, 1, false},
      {"its first block", 0, 11, true},
      {"its last block", 19, 50, true},
      {"inside", 15, 1, true},
      {"the same", 10, 10, true},
      {"all around", 0, 100, true},
      {"the whole disk", 0, std::uint64_t{1} << 52, true},
  };
  for (const auto& row : rows) {
    RangeLock::Hold held(lock_, Lba(10), 10, kExclusive);
    ASSERT_TRUE(held.ready()) << row.name;
    for (const bool exclusive : {kShared, kExclusive}) {
      RangeLock::Hold next(lock_, Lba(row.first), row.count, exclusive);
      EXPECT_EQ(next.ready(), !row.waits) << row.name << (exclusive ? ", exclusive" : ", shared");
    }
  }
}

// Otherwise small writes that keep coming would starve a partial one.
TEST_F(RangeLocking, ASharedHoldDoesNotOvertakeAnExclusiveOneThatWaits) {
  ask("a", 0, 4, kShared);
  ask("x", 0, 4, kExclusive);
  ask("b", 0, 4, kShared);
  ask("elsewhere", 4, 4, kShared);
  EXPECT_EQ(held_now(), "a+ elsewhere+ ");
  EXPECT_EQ(all(), "a+ elsewhere+ a- elsewhere- x+ x- b+ b- ");
}

TEST_F(RangeLocking, ExclusiveHoldsOfOneBlockAreServedInTheOrderOfAsking) {
  for (const char* who : {"a", "b", "c", "d"}) ask(who, 7, 1, kExclusive);
  EXPECT_EQ(all(), "a+ a- b+ b- c+ c- d+ d- ");
}

// The place in line is taken by the constructor, not by acquire().
TEST_F(RangeLocking, PlacesAreTakenByConstruction) {
  RangeLock::Hold first(lock_, Lba(0), 1, kExclusive);
  RangeLock::Hold second(lock_, Lba(0), 1, kExclusive);
  EXPECT_FALSE(second.ready());
  ring_.block_on(first.acquire());
  EXPECT_FALSE(second.ready());
}

TEST_F(RangeLocking, WhoGivesUpItsPlaceLetsTheNextOneGo) {
  auto a = std::make_unique<RangeLock::Hold>(lock_, Lba(0), 4, kShared);
  auto x = std::make_unique<RangeLock::Hold>(lock_, Lba(0), 4, kExclusive);
  ask("b", 0, 4, kShared);
  EXPECT_EQ(held_now(), "");
  x.reset();  // Never held.
  EXPECT_EQ(held_now(), "b+ ");
  EXPECT_TRUE(a->ready());
  EXPECT_EQ(all(), "b+ b- ");
}

// --- Many at random ---

struct Asked {
  std::uint64_t id;
  std::uint64_t first;
  std::uint64_t count;
  bool exclusive;
  bool held = false;

  bool conflicts(const Asked& other) const {
    const bool overlap = first < other.first + other.count && other.first < first + count;
    return overlap && (exclusive || other.exclusive);
  }
};

// The rules, spelt out over everyone who asked and has not let go, in the order of asking.
struct Crowd {
  Ring& ring;
  RangeLock& lock;
  Random random;
  std::uint64_t exclusive_one_in;
  std::list<Asked> line{};
  std::uint64_t next_id = 0;
  std::uint64_t served = 0;
  std::uint64_t waited = 0;

  // Who may hold: nobody before it in line is in its way.
  bool may_hold(const Asked& asked) const {
    for (const Asked& other : line) {
      if (other.id == asked.id) return true;
      if (other.conflicts(asked)) return false;
    }
    return false;
  }
};

Task<void> one_of_the_crowd(Crowd& crowd) {
  co_await crowd.ring.sleep_for(milliseconds(static_cast<int>(crowd.random.below(500))));
  const std::uint64_t first = crowd.random.below(64);
  const std::uint64_t count = crowd.random.one_in(5) ? 1 + crowd.random.below(64) : 1;
  const bool exclusive = crowd.random.one_in(crowd.exclusive_one_in);
  const auto me = crowd.line.insert(crowd.line.end(), {crowd.next_id++, first, count, exclusive});
  {
    RangeLock::Hold hold(crowd.lock, Lba(first), count, exclusive);
    EXPECT_EQ(hold.ready(), crowd.may_hold(*me)) << "request " << me->id;
    if (!hold.ready()) ++crowd.waited;
    co_await hold.acquire();
    EXPECT_TRUE(crowd.may_hold(*me)) << "request " << me->id;
    for (const Asked& other : crowd.line) {
      if (other.id != me->id && other.held) {
        EXPECT_FALSE(other.conflicts(*me)) << other.id << " and " << me->id << " hold together";
      }
    }
    me->held = true;
    co_await crowd.ring.sleep_for(milliseconds(static_cast<int>(crowd.random.below(8))));
    crowd.line.erase(me);
  }
  ++crowd.served;
}

// Beside the waiters: whoever may hold does so soon, not just whenever the next one lets go.
Task<void> watch_the_line(Crowd& crowd, std::uint64_t last) {
  const auto settled = [&crowd] {
    return std::ranges::all_of(
        crowd.line, [&crowd](const Asked& asked) { return asked.held == crowd.may_hold(asked); });
  };
  while (crowd.served < last) {
    // A Signal's waiters are resumed through the ring's queue, and others may let go at this very
    // moment: let them run first. No time goes by meanwhile.
    for (int i = 0; i < 100 && !settled(); ++i) co_await crowd.ring.yield();
    for (const Asked& asked : crowd.line) {
      EXPECT_EQ(asked.held, crowd.may_hold(asked)) << "request " << asked.id;
    }
    co_await crowd.ring.sleep_for(std::chrono::microseconds(100));
  }
}

TEST_F(RangeLocking, ManyAtRandomHoldExactlyWhenNobodyBeforeThemIsInTheWay) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  for (const std::uint64_t exclusive_one_in : {std::uint64_t{1}, random.between(2, 9)}) {
    constexpr std::uint64_t kRequests = 1000;
    Crowd crowd{ring_, lock_, random.fork(), exclusive_one_in};
    for (std::uint64_t i = 0; i < kRequests; ++i) spawn(one_of_the_crowd(crowd));
    ring_.block_on(watch_the_line(crowd, kRequests));
    EXPECT_EQ(crowd.served, kRequests);
    EXPECT_GT(crowd.waited, 0U);
    EXPECT_LT(crowd.waited, kRequests);
  }
}

}  // namespace
}  // namespace clouddisk
