// Segments in three folders of the simulated machine: quorum, stalls, full copies, spares, flushes.
#include "engine/log/local_segment_store.h"

#include <gtest/gtest.h>

#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr SegmentSeq kOne{1};
constexpr SegmentSeq kTwo{2};

Result<void> remove_durably(LogLife& life, const std::string& parent, const std::string& name) {
  auto removed = life.ring->block_on(life.ring->remove_tree(parent + '/' + name));
  if (!removed) return removed;
  return life.ring->block_on(life.ring->sync_directory(parent));
}

class LocalSegmentStoreTest : public testing::Test {
 protected:
  void start(LocalSegmentStore::Options options = {}) {
    life_ = std::make_unique<LogLife>(machine_, options);
    ASSERT_FALSE(life_->error) << life_->error->message;
  }
  LocalSegmentStore& store() { return life_->store(); }
  ReplicaMask in_sync() { return life_->replicas().in_sync_mask(); }
  Result<void> create(SegmentSeq segment) {
    return life_->ring->block_on(store().create(segment, life_->filled_buffer(1, 0xee)));
  }
  Result<void> append(SegmentSeq segment, std::uint32_t block, unsigned value) {
    auto data = std::make_shared<AppendData>();
    Buffer buffer = life_->filled_buffer(1, value);
    data->pieces.push_back({buffer.data(), buffer.size()});
    data->keep_alive.push_back(std::move(buffer));
    return life_->ring->block_on(store().append(segment, block, std::move(data)));
  }
  Result<void> flush() { return life_->ring->block_on(store().flush()); }
  Result<void> remove(SegmentSeq segment) { return life_->ring->block_on(store().remove(segment)); }
  Result<void> read(unsigned copy, SegmentSeq segment, std::uint32_t block, unsigned expected) {
    Buffer into = life_->filled_buffer(1, 0);
    auto got = life_->ring->block_on(store().read(copy, segment, block, into));
    if (got && into.span()[9] != static_cast<std::byte>(expected)) {
      return fail(Errc::kCorrupt, "not what was written");
    }
    return got;
  }
  void fault(unsigned copy, const SimFaults& faults) {
    machine_.set_faults(replica_folder(copy), faults);
  }

  SimMachine machine_{11};
  std::unique_ptr<LogLife> life_;
};

// I1
TEST_F(LocalSegmentStoreTest, AnAppendIsOnEveryCopyWhenItReturns) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 1, 5));
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) EXPECT_OK(read(copy, kOne, 1, 5));
  const auto all = life_->ring->block_on(store().list());
  ASSERT_OK(all);
  EXPECT_EQ(*all, std::vector{kOne});
}

TEST_F(LocalSegmentStoreTest, WhatOpenSawIsListedUntilASegmentComesOrGoes) {
  const auto listed = [this] { return life_->ring->block_on(store().list()); };
  start();
  ASSERT_OK(create(kOne));
  life_->kill();
  start();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    ASSERT_OK(life_->ring->block_on(life_->ring->remove(segment_path(copy, kOne.value))));
  }
  EXPECT_EQ(*listed(), std::vector{kOne}) << "no folder is read again";
  ASSERT_OK(create(kTwo));
  EXPECT_EQ(*listed(), std::vector{kTwo});
  life_->kill();
  start();
  EXPECT_EQ(*listed(), std::vector{kTwo});
  ASSERT_OK(remove(kTwo));
  EXPECT_EQ(*listed(), std::vector<SegmentSeq>{});
}

TEST_F(LocalSegmentStoreTest, ACopyThatLeavesTakesItsNamesWithIt) {
  start();
  ASSERT_OK(create(kOne));
  life_->kill();
  start();
  for (const unsigned copy : {1U, 2U}) {
    ASSERT_OK(life_->ring->block_on(life_->ring->remove(segment_path(copy, kOne.value))));
  }
  life_->kill();
  start();
  EXPECT_EQ(*life_->ring->block_on(store().list()), std::vector{kOne});
  ASSERT_OK(life_->ring->block_on(life_->replicas().drop(*life_->ring, 0, "test")));
  EXPECT_EQ(*life_->ring->block_on(store().list()), std::vector<SegmentSeq>{});
}

TEST_F(LocalSegmentStoreTest, ACopyThatIsBackIsListedAnew) {
  start();
  ASSERT_OK(create(kOne));
  life_->kill();
  start();
  ASSERT_OK(life_->ring->block_on(life_->replicas().drop(*life_->ring, 0, "test")));
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    ASSERT_OK(life_->ring->block_on(life_->ring->remove(segment_path(copy, kOne.value))));
  }
  ASSERT_OK(life_->replicas().begin_receiving(0));
  ASSERT_OK(life_->ring->block_on(life_->replicas().admit(0)));
  EXPECT_EQ(in_sync(), 0b111U);
  EXPECT_EQ(*life_->ring->block_on(store().list()), std::vector<SegmentSeq>{});
}

// Of a member's device the superblock tells, of a joiner's its first folder.
TEST_F(LocalSegmentStoreTest, ACopyThatJoinsOnADeviceOfItsOwnIsDroppedWhenItIsFullAlone) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    machine_.add_device(replica_folder(copy), copy == 2 ? 1_MiB : 1_GiB);
  }
  start();
  ASSERT_OK(life_->ring->block_on(life_->replicas().drop(*life_->ring, 2, "lost")));
  ASSERT_OK(life_->replicas().begin_receiving(2));
  ASSERT_OK(create(kOne));
  EXPECT_EQ(life_->replicas().receiving_mask(), 0U);
  EXPECT_EQ(in_sync(), 0b011U);
}

TEST_F(LocalSegmentStoreTest, ACopyThatJoinsOnASharedDeviceThatIsFullStays) {
  machine_.add_device("/root", 20_MiB);  // two copies' first 8 MiB, not the third's
  start();
  ASSERT_OK(life_->ring->block_on(life_->replicas().drop(*life_->ring, 2, "lost")));
  ASSERT_OK(life_->replicas().begin_receiving(2));
  const auto refused = create(kOne);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  EXPECT_EQ(life_->replicas().receiving_mask(), 0b100U);
}

// A crash in the middle of remove() leaves a segment on some copies.
TEST_F(LocalSegmentStoreTest, ASegmentThatACopyHasNotAnyMorePutsItNotOutWhenItIsAdopted) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 1, 5));
  life_->kill();
  start();
  ASSERT_OK(life_->ring->block_on(life_->ring->remove(segment_path(0, kOne.value))));
  life_->ring->block_on(store().adopt(kOne));
  ASSERT_OK(append(kOne, 2, 6));
  ASSERT_OK(flush());
  EXPECT_EQ(in_sync(), 0b111U);
  EXPECT_OK(read(1, kOne, 2, 6));
  EXPECT_OK(read(2, kOne, 2, 6));
  EXPECT_FALSE(machine_.exists(segment_path(0, kOne.value)));
  ASSERT_OK(remove(kOne));
  EXPECT_EQ(in_sync(), 0b111U);
}

// The disk's folder is there, and only the first use in the next process makes that durable.
TEST_F(LocalSegmentStoreTest, AFolderThatAProcessMadeBeforeItDiedStaysWithoutPower) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimMachine machine(seed);
    {
      LogLife first(machine);
      ASSERT_FALSE(first.error);
      for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
        const std::string disks = replica_folder(copy) + "/disks";
        ASSERT_OK(remove_durably(first, replica_folder(copy), "disks"));
        ASSERT_OK(first.ring->block_on(first.ring->make_directories(disks + '/' + kLogDiskId)));
      }
      first.kill();
    }
    {
      LogLife second(machine);
      ASSERT_FALSE(second.error);
      Buffer header = second.filled_buffer(1, 0xee);
      ASSERT_OK(second.ring->block_on(second.store().create(kOne, std::move(header))));
      ASSERT_OK(second.ring->block_on(second.store().flush()));
      second.kill();
    }
    machine.power_loss();
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      EXPECT_TRUE(machine.exists(segment_path(copy, kOne.value))) << seed << ", copy " << copy;
    }
  }
}

// What was known of its names is not, once somebody else had it.
TEST_F(LocalSegmentStoreTest, AFolderOfAReplicaThatIsBackStaysWithoutPower) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimMachine machine(seed);
    const std::string disks = replica_folder(2) + "/disks";
    LogLife life(machine);
    ASSERT_FALSE(life.error);
    ASSERT_OK(life.ring->block_on(life.replicas().drop(*life.ring, 2, "lost")));
    ASSERT_OK(remove_durably(life, replica_folder(2), "disks"));
    ASSERT_OK(life.ring->block_on(life.ring->make_directories(disks + '/' + kLogDiskId)));
    ASSERT_OK(life.replicas().begin_receiving(2));
    ASSERT_OK(life.ring->block_on(life.store().make_folder(2)));
    life.kill();
    machine.power_loss();
    EXPECT_TRUE(machine.exists(disks + '/' + kLogDiskId)) << seed;
  }
}

TEST_F(LocalSegmentStoreTest, AFolderThatCouldNotBeSyncedIsNotBelievedTheNextTime) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimMachine machine(seed);
    const std::string disks = replica_folder(2) + "/disks";
    LogLife life(machine);
    ASSERT_FALSE(life.error);
    ASSERT_OK(remove_durably(life, disks, kLogDiskId));
    SimFaults failing;
    failing.datasync_error = 1;
    machine.set_faults(replica_folder(2), failing);
    ASSERT_FALSE(life.ring->block_on(life.store().make_folder(2)));
    machine.clear_faults();
    ASSERT_OK(life.ring->block_on(life.store().make_folder(2)));
    life.kill();
    machine.power_loss();
    EXPECT_TRUE(machine.exists(disks + '/' + kLogDiskId)) << seed;
  }
}

// The cleaner goes on while a replica is brought back, and may come to a disk before resync does.
TEST_F(LocalSegmentStoreTest, ASegmentRemovedBeforeResyncMadeTheFolderLeavesTheReplicaReceiving) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(create(kTwo));
  ASSERT_OK(life_->ring->block_on(life_->replicas().drop(*life_->ring, 2, "lost")));
  ASSERT_OK(life_->ring->block_on(life_->ring->remove_tree(replica_folder(2) + "/disks")));
  ASSERT_OK(life_->replicas().begin_receiving(2));
  ASSERT_OK(remove(kOne));
  EXPECT_EQ(life_->replicas().receiving_mask(), 0b100U);
  EXPECT_EQ(in_sync(), 0b011U);
}

TEST_F(LocalSegmentStoreTest, AFolderThatAReplicaInSyncHasLostIsNoticedByARemoval) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(life_->ring->block_on(life_->ring->remove_tree(replica_folder(2) + "/disks")));
  ASSERT_OK(remove(kOne));
  EXPECT_EQ(in_sync(), 0b011U);
}

TEST_F(LocalSegmentStoreTest, ACopyThatStallsIsDroppedAfterTheBoundAndTheWriteSucceeds) {
  start();
  ASSERT_OK(create(kOne));
  SimFaults hung;
  hung.hung_until = SimFaults::kForever;
  fault(2, hung);
  const TimePoint before = life_->ring->now();
  ASSERT_OK(append(kOne, 1, 5));
  const Duration took = life_->ring->now() - before;
  EXPECT_GE(took, seconds(2));
  EXPECT_LT(took, seconds(2) + milliseconds(500));
  EXPECT_EQ(in_sync(), 0b011U);
  const TimePoint again = life_->ring->now();
  ASSERT_OK(append(kOne, 2, 6));
  EXPECT_LT(life_->ring->now() - again, milliseconds(10)) << "nobody waits for it any more";
  machine_.clear_faults();
}

TEST_F(LocalSegmentStoreTest, AReadThatStallsDropsTheCopyAndSaysSo) {
  start();
  ASSERT_OK(create(kOne));
  SimFaults hung;
  hung.hung_until = SimFaults::kForever;
  fault(0, hung);
  const auto answer = read(0, kOne, 0, 0xee);
  EXPECT_EQ(answer.error().code, Errc::kTimedOut);
  EXPECT_EQ(in_sync(), 0b110U);
  machine_.clear_faults();
}

struct Trouble {
  const char* what;
  void (*make)(SimFaults& faults);
};
void PrintTo(const Trouble& trouble, std::ostream* out) {
  *out << trouble.what;
}

class TroubleOnOneCopy : public LocalSegmentStoreTest,
                         public testing::WithParamInterface<Trouble> {};

// I5, I6: one copy in trouble is out and the rest goes on; two, and nothing is acknowledged.
TEST_P(TroubleOnOneCopy, DropsItAndTwoMakeWritesFailWhileReadsGoOn) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 1, 5));
  SimFaults faults;
  GetParam().make(faults);
  fault(1, faults);
  ASSERT_OK(append(kOne, 2, 6));
  ASSERT_OK(flush());
  EXPECT_EQ(in_sync(), 0b101U);
  fault(2, faults);
  auto refused = append(kOne, 3, 7);
  if (refused) refused = flush();
  EXPECT_EQ(refused.error().code, Errc::kReplicasLost);
  EXPECT_EQ(append(kOne, 4, 8).error().code, Errc::kReplicasLost);
  EXPECT_EQ(create(kTwo).error().code, Errc::kReplicasLost);
  EXPECT_EQ(flush().error().code, Errc::kReplicasLost);
  EXPECT_OK(read(0, kOne, 2, 6));
  machine_.clear_faults();
}

INSTANTIATE_TEST_SUITE_P(
    LocalSegmentStore, TroubleOnOneCopy,
    testing::Values(Trouble{"ReadOnly", [](SimFaults& f) { f.read_only = true; }},
                    Trouble{"Gone", [](SimFaults& f) { f.gone = true; }},
                    Trouble{"WritesFail", [](SimFaults& f) { f.write_error = 1; }},
                    Trouble{"DatasyncFails", [](SimFaults& f) { f.datasync_error = 1; }}),
    [](const auto& info) { return info.param.what; });

TEST_F(LocalSegmentStoreTest, AFolderThatVanishedDropsItsCopyAtTheNextSegment) {
  start();
  ASSERT_OK(life_->ring->block_on(life_->ring->remove_tree(replica_folder(0) + "/disks")));
  ASSERT_OK(create(kOne));
  EXPECT_EQ(in_sync(), 0b110U);
}

// A failed fdatasync is reported once, and the next can succeed although the data is gone: the copy
// has to be out by then.
TEST_F(LocalSegmentStoreTest, AFailedDatasyncIsNeverRepeated) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 1, 5));
  SimFaults once;
  once.datasync_error = 1;
  machine_.set_faults(segment_path(1, 1), once);
  ASSERT_OK(flush());
  machine_.clear_faults();
  EXPECT_EQ(in_sync(), 0b101U);
  ASSERT_OK(append(kOne, 2, 6));
  ASSERT_OK(flush());
  life_->kill();
  machine_.power_loss();
  start();
  EXPECT_EQ(in_sync(), 0b101U) << "it is known to be behind";
  EXPECT_OK(read(0, kOne, 1, 5));
  EXPECT_OK(read(2, kOne, 2, 6));
}

// I2
Task<void> flush_into(LocalSegmentStore& store, std::optional<Result<void>>& result) {
  result = co_await store.flush();
}

// One made ahead is removed when the log rolls; a flush may be at the segment before it.
TEST_F(LocalSegmentStoreTest, ASegmentRemovedDuringAFlushDropsNoCopy) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(create(kTwo));
  ASSERT_OK(append(kOne, 1, 5));
  std::optional<Result<void>> flushed;
  SimFaults slow;
  slow.slow = milliseconds(100);
  fault(1, slow);
  spawn(flush_into(store(), flushed));
  life_->ring->run_for(milliseconds(1));
  ASSERT_FALSE(flushed);
  machine_.clear_faults();
  ASSERT_OK(remove(kTwo));
  life_->ring->run_until([&] { return flushed.has_value(); });
  EXPECT_OK(*flushed);
  EXPECT_EQ(in_sync(), 0b111U);
}

TEST_F(LocalSegmentStoreTest, FlushedAppendsSurvivePowerLoss) {
  start();
  ASSERT_OK(create(kOne));
  for (std::uint32_t block = 1; block < 20; ++block) ASSERT_OK(append(kOne, block, block));
  ASSERT_OK(create(kTwo));
  ASSERT_OK(append(kTwo, 1, 77));
  ASSERT_OK(flush());
  life_->kill();
  machine_.power_loss();
  start();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    for (std::uint32_t block = 1; block < 20; ++block) EXPECT_OK(read(copy, kOne, block, block));
    EXPECT_OK(read(copy, kTwo, 1, 77));
  }
}

// --- Space ---

TEST_F(LocalSegmentStoreTest, ACopyThatIsFullAloneIsDropped) {
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    machine_.add_device(replica_folder(copy), copy == 1 ? 1_MiB : 1_GiB);
  }
  start();
  ASSERT_OK(create(kOne));
  EXPECT_EQ(in_sync(), 0b101U);
}

TEST_F(LocalSegmentStoreTest, CopiesThatShareAFullDeviceStayAndTheWriteFails) {
  machine_.add_device("/root", 20_MiB);  // two copies' first 8 MiB, not the third's
  start();
  const auto refused = create(kOne);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  EXPECT_EQ(in_sync(), 0b111U);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    EXPECT_FALSE(machine_.exists(segment_path(copy, 1))) << "kNoSpace: nothing was made " << copy;
  }
  machine_.set_capacity("/root", 1_GiB);
  EXPECT_OK(create(kTwo));
}

TEST_F(LocalSegmentStoreTest, SpaceIsReservedAheadInSteps) {
  machine_.add_device("/root", 60_MiB);
  start();
  ASSERT_OK(create(kOne));
  constexpr std::uint32_t kStep = 8_MiB / kBlockSize;
  EXPECT_TRUE(store().has_space(kOne, kStep));
  EXPECT_FALSE(store().has_space(kOne, kStep + 1));
  ASSERT_OK(life_->ring->block_on(store().ensure_space(kOne, kStep + 1)));
  EXPECT_TRUE(store().has_space(kOne, 2 * kStep));
  const auto refused = life_->ring->block_on(store().ensure_space(kOne, 2 * kStep + 1));
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  EXPECT_FALSE(store().has_space(kOne, 2 * kStep + 1));
  EXPECT_OK(append(kOne, 2 * kStep - 1, 3)) << "what was reserved can't run out";
  EXPECT_EQ(in_sync(), 0b111U);
}

// --- Spares ---

TEST_F(LocalSegmentStoreTest, ARemovedSegmentIsKeptAndUsedForTheNext) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 5, 0x55));
  ASSERT_OK(remove(kOne));
  EXPECT_FALSE(machine_.exists(segment_path(0, 1)));
  EXPECT_EQ(store().spare_bytes(), kSegmentSize);
  ASSERT_OK(create(kTwo));
  EXPECT_EQ(store().spare_bytes(), 0U);
  EXPECT_OK(read(0, kTwo, 5, 0x55)) << "the same file";
  EXPECT_OK(read(0, kTwo, 0, 0xee)) << "with a header of its own";
}

TEST_F(LocalSegmentStoreTest, NoMoreSparesAreKeptThanAllowedAndTheyOutliveTheProcess) {
  LocalSegmentStore::Options options;
  options.spares_max = 2;
  start(options);
  for (std::uint64_t i = 1; i <= 4; ++i) ASSERT_OK(create(SegmentSeq(i)));
  for (std::uint64_t i = 1; i <= 4; ++i) ASSERT_OK(remove(SegmentSeq(i)));
  EXPECT_EQ(store().spare_bytes(), 2 * kSegmentSize);
  life_.reset();
  start(options);
  EXPECT_EQ(store().spare_bytes(), 2 * kSegmentSize);
}

TEST_F(LocalSegmentStoreTest, ASpareThatOneCopyLacksIsNoReasonToFail) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(remove(kOne));
  ASSERT_OK(life_->ring->block_on(
      life_->ring->remove(replica_folder(1) + "/disks/" + kLogDiskId + "/spare-1")));
  ASSERT_OK(create(kTwo));
  EXPECT_EQ(in_sync(), 0b111U);
  ASSERT_OK(append(kTwo, 1, 9));
  EXPECT_OK(read(1, kTwo, 1, 9));
}

// --- Repair ---

TEST_F(LocalSegmentStoreTest, RepairOverwritesOneCopyDurably) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 1, 5));
  ASSERT_OK(life_->ring->block_on(store().repair(2, kOne, 1, life_->filled_buffer(1, 6))));
  life_->kill();
  machine_.power_loss();
  start();
  EXPECT_OK(read(2, kOne, 1, 6));
}

TEST_F(LocalSegmentStoreTest, ACopyThatCannotBeRepairedIsDropped) {
  start();
  ASSERT_OK(create(kOne));
  ASSERT_OK(append(kOne, 1, 5));
  SimFaults faults;
  faults.write_error = 1;
  fault(2, faults);
  EXPECT_FALSE(life_->ring->block_on(store().repair(2, kOne, 1, life_->filled_buffer(1, 6))));
  EXPECT_EQ(in_sync(), 0b011U);
  machine_.clear_faults();
}

TEST_F(LocalSegmentStoreTest, AShortFileIsDamageOfThatCopy) {
  start();
  ASSERT_OK(create(kOne));
  const auto answer = read(0, kOne, kSegmentBlocks + 5, 0);
  EXPECT_EQ(answer.error().code, Errc::kCorrupt);
}

}  // namespace
}  // namespace clouddisk
