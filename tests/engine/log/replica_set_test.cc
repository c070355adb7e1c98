// Who is believed after drops, returns, restarts and mix-ups, on folders of the simulated machine
// (I5, I6).
#include "engine/log/replica_set.h"

#include <gtest/gtest.h>

#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr ReplicaMask kAll = 0b111;

class ReplicaSetTest : public testing::Test {
 protected:
  using Folders = std::array<std::string, kReplicaCount>;
  static Folders folders(const std::string& root) {
    return {root + "/replica-1", root + "/replica-2", root + "/replica-3"};
  }
  Result<void> open(Folders where = folders("/a"), std::optional<unsigned> trusted = {}) {
    end();
    ring_ = std::make_unique<SimRing>(*machine_);
    auto opened = ring_->block_on(ReplicaSet::open(*ring_, {std::move(where), trusted}));
    if (!opened) return opened.error();
    set_ = std::move(*opened);
    return {};
  }
  void end() {
    set_.reset();
    ring_.reset();
  }
  Result<void> drop(unsigned index) {
    return ring_->block_on(set_->drop(*ring_, index, "on purpose"));
  }
  Result<void> admit(unsigned index) { return ring_->block_on(set_->admit(index)); }
  void gone(unsigned index) {
    SimFaults faults;
    faults.gone = true;
    machine_->set_faults(folders("/a")[index], faults);
  }
  void put_file(const std::string& path, const std::vector<std::byte>& bytes) {
    OpenOptions how;
    how.create = true;
    how.direct = false;
    auto file = ring_->block_on(ring_->open(path, how));
    ASSERT_OK(file);
    ASSERT_EQ(write_at(*ring_, *file, 0, bytes), static_cast<int>(bytes.size()));
  }

  std::unique_ptr<SimMachine> machine_ = std::make_unique<SimMachine>(3);
  std::unique_ptr<SimRing> ring_;
  std::unique_ptr<ReplicaSet> set_;
};

TEST_F(ReplicaSetTest, EmptyFoldersAreNoNewSetWhereSomethingTellsOfDataElsewhere) {
  ring_ = std::make_unique<SimRing>(*machine_);
  auto refused =
      ring_->block_on(ReplicaSet::open(*ring_, {folders("/a"), std::nullopt, "/a/index"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kReplicasLost);
  EXPECT_NE(refused.error().message.find("/a/index"), std::string::npos);
  EXPECT_FALSE(machine_->exists("/a/replica-1/superblock"));
  ASSERT_OK(open());
  ASSERT_OK(ring_->block_on(ReplicaSet::open(*ring_, {folders("/a"), std::nullopt, "/a/index"})))
      << "those that have data are what it tells of";
}

TEST_F(ReplicaSetTest, NewFoldersBecomeASetThatIsThereAfterPowerLoss) {
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), kAll);
  const SetUuid uuid = set_->set_uuid();
  end();
  machine_->power_loss();
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), kAll);
  EXPECT_EQ(set_->set_uuid(), uuid);
  EXPECT_EQ(set_->to_rebuild(), 0U);
}

// What an fdatasync that failed covered may be in a cache alone; the next process has to know.
TEST_F(ReplicaSetTest, AnFdatasyncThatFailedIsRememberedUntilTheReplicaIsBack) {
  ASSERT_OK(open());
  ASSERT_OK(ring_->block_on(set_->drop_unsynced(*ring_, 2, "fdatasync failed")));
  EXPECT_TRUE(set_->unsynced(2));
  ASSERT_OK(open());
  EXPECT_TRUE(set_->unsynced(2));
  EXPECT_FALSE(set_->unsynced(1));
  ASSERT_OK(open());
  EXPECT_TRUE(set_->unsynced(2)) << "for as many lives as it takes";
  ASSERT_OK(set_->begin_receiving(2));
  EXPECT_TRUE(set_->unsynced(2));
  ASSERT_OK(admit(2));
  EXPECT_FALSE(set_->unsynced(2));
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), kAll);
  EXPECT_FALSE(set_->unsynced(2));
}

TEST_F(ReplicaSetTest, AnFdatasyncThatFailedLaterThanTheReplicaIsRememberedToo) {
  ASSERT_OK(open());
  ASSERT_OK(drop(2));
  ASSERT_OK(ring_->block_on(set_->drop_unsynced(*ring_, 2, "fdatasync failed")));
  end();
  machine_->power_loss();
  ASSERT_OK(open());
  EXPECT_TRUE(set_->unsynced(2));
  ASSERT_OK(set_->begin_receiving(2));
  ASSERT_OK(admit(2));
  ASSERT_OK(drop(2));
  ASSERT_OK(set_->begin_receiving(2));
  ASSERT_OK(ring_->block_on(set_->drop_unsynced(*ring_, 2, "fdatasync failed in the resync")));
  ASSERT_OK(open());
  EXPECT_TRUE(set_->unsynced(2));
}

// It could not be told, and its own superblock says that all is well.
TEST_F(ReplicaSetTest, AReplicaThatWasDroppedWhileAwayIsRecognisedAsStale) {
  ASSERT_OK(open());
  gone(2);
  ASSERT_OK(drop(2));
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
  end();
  machine_->clear_faults();
  machine_->power_loss();
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
  EXPECT_EQ(set_->to_rebuild(), 0b100U);
  EXPECT_EQ(set_->status()[2].state, ReplicaState::kFailed);
}

TEST_F(ReplicaSetTest, TheStaleOneWithOneOfTheOthersIsStillKnownAsStale) {
  ASSERT_OK(open());
  gone(2);
  ASSERT_OK(drop(2));
  end();
  machine_->clear_faults();
  gone(0);
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), 0b010U);
  EXPECT_FALSE(set_->can_write());
}

TEST_F(ReplicaSetTest, DropsAreRepeatableAndRaiseTheGenerationOnce) {
  ASSERT_OK(open());
  ASSERT_OK(drop(1));
  const Generation after = set_->status()[0].generation;
  ASSERT_OK(drop(1));
  EXPECT_EQ(set_->status()[0].generation, after);
}

// I6: nothing will be acknowledged, so nothing has to be known; both are members after a restart.
TEST_F(ReplicaSetTest, WithOneLeftNothingIsWrittenAndNoWriteAllowed) {
  ASSERT_OK(open());
  ASSERT_OK(drop(2));
  const auto before = machine_->content("/a/replica-1/superblock");
  EXPECT_EQ(drop(1).error().code, Errc::kReplicasLost);
  EXPECT_FALSE(set_->can_write());
  EXPECT_EQ(machine_->content("/a/replica-1/superblock"), before);
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
}

TEST_F(ReplicaSetTest, ASurvivorThatCannotBeToldIsOutAsWell) {
  ASSERT_OK(open());
  SimFaults faults;
  faults.write_error = 1;
  machine_->set_faults("/a/replica-2", faults);
  EXPECT_EQ(drop(2).error().code, Errc::kReplicasLost);
  EXPECT_EQ(set_->in_sync_mask(), 0b001U);
}

TEST_F(ReplicaSetTest, AnAdmittedReplicaIsBelievedFromThenOn) {
  ASSERT_OK(open());
  ASSERT_OK(drop(2));
  ASSERT_OK(set_->begin_receiving(2));
  EXPECT_EQ(set_->receiving_mask(), 0b100U);
  EXPECT_EQ(set_->in_sync_mask(), 0b011U) << "not before it is complete";
  EXPECT_EQ(set_->begin_receiving(2).error().code, Errc::kBusy);
  set_->report_progress(2, 5, 10);
  EXPECT_EQ(set_->status()[2].resync_done_bytes, 5U);
  ASSERT_OK(admit(2));
  EXPECT_EQ(set_->in_sync_mask(), kAll);
  end();
  machine_->power_loss();
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), kAll);
}

// I5: its superblock, which lists it, lands when everyone has given up on it and gone on.
TEST_F(ReplicaSetTest, AJoinerWhoseSuperblockLandsTooLateIsNotBelieved) {
  ASSERT_OK(open());
  ASSERT_OK(drop(2));
  ASSERT_OK(set_->begin_receiving(2));
  SimFaults faults;
  faults.hung_until = ring_->now() + std::chrono::seconds(5);
  machine_->set_faults(folders("/a")[2], faults);
  EXPECT_EQ(admit(2).error().code, Errc::kTimedOut);
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
  ring_->run_for(std::chrono::seconds(10));
  end();
  machine_->clear_faults();
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
}

TEST_F(ReplicaSetTest, OneThatStoppedReceivingIsNotAdmitted) {
  ASSERT_OK(open());
  ASSERT_OK(drop(2));
  ASSERT_OK(set_->begin_receiving(2));
  ASSERT_OK(drop(2));
  EXPECT_EQ(admit(2).error().code, Errc::kBusy);
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
  EXPECT_EQ(set_->begin_receiving(0).error().code, Errc::kExists);
  EXPECT_EQ(set_->begin_receiving(7).error().code, Errc::kInvalid);
}

// A resync that goes on after its replica fell out and began anew has brought less than was written
// meanwhile.
TEST_F(ReplicaSetTest, OneThatBeganAnewIsNotAdmittedByTheResyncFromBefore) {
  ASSERT_OK(open());
  ASSERT_OK(drop(2));
  ASSERT_OK(set_->begin_receiving(2));
  const std::uint32_t first = set_->joins(2);
  ASSERT_OK(drop(2));
  ASSERT_OK(set_->begin_receiving(2));
  EXPECT_EQ(ring_->block_on(set_->admit(2, first)).error().code, Errc::kBusy);
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
  EXPECT_EQ(set_->receiving_mask(), 0b100U) << "the other one goes on";
  ASSERT_OK(ring_->block_on(set_->admit(2, set_->joins(2))));
  EXPECT_EQ(set_->in_sync_mask(), kAll);
}

TEST_F(ReplicaSetTest, ABackupOfAMemberPutBackInItsPlaceIsNotBelieved) {
  ASSERT_OK(open());
  const auto old = machine_->content("/a/replica-3/superblock");
  ASSERT_OK(open());
  put_file("/a/replica-3/superblock", *old);
  ASSERT_OK(open());
  EXPECT_EQ(set_->in_sync_mask(), 0b011U);
  EXPECT_EQ(set_->to_rebuild(), 0b100U);
}

TEST_F(ReplicaSetTest, FoldersOfTwoSetsAreRefused) {
  ASSERT_OK(open(folders("/a")));
  ASSERT_OK(open(folders("/b")));
  const auto mixed = open({"/a/replica-1", "/b/replica-2", "/a/replica-3"});
  EXPECT_EQ(mixed.error().code, Errc::kInvalid);
  EXPECT_OK(open(folders("/a"))) << "and nothing was changed";
  EXPECT_EQ(set_->in_sync_mask(), kAll);
}

TEST_F(ReplicaSetTest, FoldersInAnotherOrderAreRefused) {
  ASSERT_OK(open());
  const auto swapped = open({"/a/replica-2", "/a/replica-1", "/a/replica-3"});
  EXPECT_EQ(swapped.error().code, Errc::kInvalid);
}

TEST_F(ReplicaSetTest, AFolderAloneIsNotBelievedUnlessNamed) {
  ASSERT_OK(open());
  const Folders alone = {"/a/replica-1", "/empty/2", "/empty/3"};
  EXPECT_EQ(open(alone).error().code, Errc::kReplicasLost);
  ASSERT_OK(open(alone, 0U));
  EXPECT_EQ(set_->in_sync_mask(), 0b001U);
  EXPECT_TRUE(set_->can_write()) << "the operator said so";
  EXPECT_EQ(set_->to_rebuild(), 0b110U);
}

TEST_F(ReplicaSetTest, AFolderReplacedUnderUsIsDropped) {
  ASSERT_OK(open());
  ring_->block_on(set_->check_folders());
  EXPECT_EQ(set_->in_sync_mask(), kAll);
  const auto superblock = machine_->content("/a/replica-2/superblock");
  ASSERT_OK(ring_->block_on(ring_->remove("/a/replica-2/superblock")));
  put_file("/a/replica-2/superblock", *superblock);
  ring_->block_on(set_->check_folders());
  EXPECT_EQ(set_->in_sync_mask(), 0b101U);
}

// A superblock anew, with the inode that the last one had, would pass for a folder that is whole.
TEST_F(ReplicaSetTest, AFolderThatIsBeingRemovedIsDroppedAndGetsNoSuperblock) {
  ASSERT_OK(open());
  ASSERT_OK(ring_->block_on(ring_->remove("/a/replica-2/superblock")));
  EXPECT_FALSE(ring_->block_on(set_->check_superblock(1)));
  EXPECT_EQ(set_->in_sync_mask(), 0b101U);
  EXPECT_FALSE(machine_->exists("/a/replica-2/superblock"));
}

Task<void> drop_and_tell(ReplicaSet& set, Ring& ring, bool& told) {
  told = static_cast<bool>(co_await set.drop(ring, 2, "on purpose"));
}

// A power cut at any moment of a drop: once it was answered, the replica is never believed again;
// before, either is fine, and the set always starts.
TEST_F(ReplicaSetTest, APowerCutAtAnyMomentOfADropLeavesASetThatKnows) {
  Random random(announce_seed());
  unsigned answered = 0;
  for (int round = 0; round < 60; ++round) {
    machine_ = std::make_unique<SimMachine>(random.next());
    ASSERT_OK(open());
    bool told = false;
    spawn(drop_and_tell(*set_, *ring_, told));
    ring_->run_for(std::chrono::microseconds(random.below(15'000)));
    Graveyard::bury(std::move(set_));
    ring_.reset();
    machine_->power_loss();
    ASSERT_OK(open());
    ASSERT_EQ(set_->in_sync_mask() & 0b011U, 0b011U);
    if (told) {
      ASSERT_EQ(set_->in_sync_mask(), 0b011U) << "round " << round;
    }
    answered += told ? 1 : 0;
    end();
  }
  EXPECT_GT(answered, 0U) << "the test cuts too early to say anything";
  EXPECT_LT(answered, 60U) << "the test cuts too late to say anything";
}

}  // namespace
}  // namespace clouddisk
