#include "engine/ring/folder_syncs.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;

// Folders with a sync that takes 10 ms and makes durable what was in the folder as it began. A
// write that fails is told once, as the kernel does it: the names count as written afterwards.
class FolderSyncsTest : public testing::Test {
 protected:
  Task<Result<void>> sync_now(std::string path) {
    ++syncs_[path];
    std::set<int> seen = names_[path];
    for (const int name : lost_) seen.erase(name);
    co_await ring_.sleep_for(hangs_.erase(path) != 0 ? std::chrono::hours(1) : milliseconds(10));
    if (missing_.count(path) != 0) co_return fail(Errc::kNotFound, "{} is gone", path);
    if (failing_.erase(path) != 0) {
      for (const int name : names_[path]) {
        if (durable_[path].count(name) == 0) lost_.insert(name);
      }
      co_return fail(Errc::kIo, "{} can't be synced", path);
    }
    durable_[path].insert(seen.begin(), seen.end());
    co_return Result<void>{};
  }

  // Changes the folder at a moment and syncs it.
  Task<void> change(int at_ms, std::string path, int name) {
    co_await ring_.sleep_for(milliseconds(at_ms));
    names_[path].insert(name);
    auto synced = co_await folders_.sync(path);
    if (!synced) ++failures_;
    if (synced && durable_[path].count(name) == 0) ++broken_promises_;
    ++ended_;
  }

  Task<void> fail_at_times(Random& random) {
    for (int i = 0; i < 20; ++i) {
      co_await ring_.sleep_for(milliseconds(random.below(50)));
      failing_.insert(std::string(1, static_cast<char>('a' + random.below(3))));
    }
    ++ended_;
  }

  void run_until_ended(int count) {
    ring_.run_until([this, count] { return ended_ == count; });
  }

  SimMachine machine_{1};
  SimRing ring_{machine_};
  FolderSyncs folders_{ring_, [this](std::string path) { return sync_now(std::move(path)); }};
  std::map<std::string, int> syncs_;
  std::map<std::string, std::set<int>> names_, durable_;
  std::set<std::string> failing_;  // the next sync
  std::set<std::string> hangs_;    // the next sync, for an hour
  std::set<std::string> missing_;
  std::set<int> lost_;  // their failure was told
  int ended_ = 0, failures_ = 0, broken_promises_ = 0;
};

TEST_F(FolderSyncsTest, AllWhoComeDuringASyncShareTheNext) {
  spawn(change(0, "a", 0));
  for (int i = 1; i <= 50; ++i) spawn(change(1 + i % 8, "a", i));
  run_until_ended(51);
  EXPECT_EQ(syncs_["a"], 2);
  EXPECT_EQ(broken_promises_, 0) << "one that was under way does not count";
}

TEST_F(FolderSyncsTest, FoldersDoNotWaitForEachOther) {
  spawn(change(0, "a", 1));
  spawn(change(0, "b", 1));
  const TimePoint begun = ring_.now();
  run_until_ended(2);
  EXPECT_EQ(ring_.now() - begun, Duration(milliseconds(10)));
  EXPECT_EQ(syncs_["a"] + syncs_["b"], 2);
}

TEST_F(FolderSyncsTest, AFailureIsThatOfAllWhoSharedTheSyncOrWaitForItsEnd) {
  failing_.insert("a");
  spawn(change(0, "a", 0));
  for (int i = 1; i <= 5; ++i) spawn(change(3, "a", i));
  spawn(change(3, "b", 1));
  run_until_ended(7);
  EXPECT_EQ(failures_, 6);
  EXPECT_EQ(syncs_["a"], 1);
  spawn(change(0, "a", 6));
  run_until_ended(8);
  EXPECT_EQ(failures_, 6) << "the next one is a new one";
  EXPECT_EQ(durable_["a"].count(6), 1U);
  EXPECT_EQ(broken_promises_, 0);
}

TEST_F(FolderSyncsTest, AFolderThatIsGoneIsLookedForByEachRound) {
  missing_.insert("a");
  spawn(change(0, "a", 0));
  spawn(change(3, "a", 1));
  run_until_ended(2);
  EXPECT_EQ(failures_, 2);
  EXPECT_EQ(syncs_["a"], 2);
}

// A device that hung, and another in its place.
TEST_F(FolderSyncsTest, ASyncThatHangsIsNotWaitedFor) {
  hangs_.insert("a");
  spawn(change(0, "a", 0));
  for (int i = 1; i <= 5; ++i) spawn(change(3, "a", i));
  const TimePoint begun = ring_.now();
  run_until_ended(5);
  EXPECT_EQ(ring_.now() - begun, Duration(milliseconds(510)));
  EXPECT_EQ(syncs_["a"], 2);
  for (int i = 6; i <= 9; ++i) spawn(change(3, "a", i));
  run_until_ended(9);
  EXPECT_EQ(ring_.now() - begun, Duration(milliseconds(533))) << "the next are as always";
  run_until_ended(10);
  EXPECT_EQ(failures_ + broken_promises_, 0);
}

TEST_F(FolderSyncsTest, ALateFailureIsThatOfTheSyncThatOvertookIt) {
  hangs_.insert("a");
  spawn(change(0, "a", 0));
  ring_.run_until([this] { return syncs_["a"] == 1; });
  hangs_.insert("a");
  spawn(change(3, "a", 1));  // begins at 500 ms
  ring_.run_until([this] { return syncs_["a"] == 2; });
  for (int i = 2; i <= 4; ++i) spawn(change(3, "a", i));
  spawn(change(3'000'000, "a", 5));
  failing_.insert("a");  // whichever of the two ends first
  run_until_ended(5);
  EXPECT_EQ(syncs_["a"], 2) << "no third beside two that hang";
  EXPECT_EQ(failures_, 5);
  EXPECT_EQ(broken_promises_, 0);
  for (int i = 6; i <= 9; ++i) spawn(change(3, "a", i));
  run_until_ended(9);
  EXPECT_EQ(failures_, 5);
}

TEST_F(FolderSyncsTest, NobodyIsToldOfMoreThanIsDurable) {
  const std::uint64_t seed = announce_seed();
  SCOPED_TRACE(seed);
  Random random(seed);
  constexpr int kChanges = 2000;
  for (int i = 0; i < kChanges; ++i) {
    const std::string path(1, static_cast<char>('a' + random.below(3)));
    spawn(change(static_cast<int>(random.below(1000)), path, i));
  }
  spawn(fail_at_times(random));
  run_until_ended(kChanges + 1);
  EXPECT_EQ(broken_promises_, 0);
  EXPECT_GT(failures_, 0);
  EXPECT_LE(syncs_["a"], 102) << "no more than one after the other";
}

}  // namespace
}  // namespace clouddisk
