// Readers of segments in little memory: they take turns, and end.
#include "engine/log/segment_reader.h"

#include <gtest/gtest.h>

#include "tests/engine/log/log_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr unsigned kWrites = 300;

void write_much(LogLife& life) {
  ASSERT_OK(life.recover());
  for (unsigned i = 0; i < kWrites; ++i) ASSERT_OK(life.write(i, i % 200 + 1, 8));
}

Task<void> walk(LogLife* life, BufferPool* pool, std::vector<std::size_t>* entries) {
  auto contents =
      co_await walk_contents(life->store(), *pool, kLogDisk, SegmentSeq(1), std::nullopt);
  EXPECT_OK(contents);
  entries->push_back(contents ? contents->entries.size() : 0);
}

// Each looks at three copies at once, 2 MiB of each if it can: 36 MiB for six of them.
TEST(SegmentReaderTest, ManyWalksEndInTheMemoryOfTwoWindows) {
  SimMachine machine(11);
  LogLife life(machine);
  ASSERT_NO_FATAL_FAILURE(write_much(life));
  BufferPool pool(*life.ring, 4_MiB);
  std::vector<std::size_t> entries;
  for (int i = 0; i < 6; ++i) spawn(walk(&life, &pool, &entries));
  life.ring->run_until([&] { return entries.size() == 6; });
  EXPECT_EQ(entries, std::vector<std::size_t>(6, kWrites));
  EXPECT_EQ(pool.used_bytes(), 0U);
}

constexpr std::uint32_t kLastPayload = kFirstBatchBlock + 9 * kWrites + 1;

// A log whose header and last batch, which is longer than a short window, are damaged on the second
// copy, and what they should be.
struct Damaged {
  explicit Damaged(std::uint64_t seed) : machine(seed) {
    LogLife life(machine);
    write_much(life);
    EXPECT_OK(life.write(5000, 77, 60));
    header = block_of(*life.ring, segment_path(1, 1), 0);
    payload = block_of(*life.ring, segment_path(1, 1), kLastPayload);
    life.kill();
    damage_block(machine, segment_path(1, 1), 0);
    damage_block(machine, segment_path(1, 1), kLastPayload);
  }
  SimMachine machine;
  std::vector<std::byte> header;
  std::vector<std::byte> payload;
};

Result<RecoveredLog> recover_in(LogLife& life, std::size_t bytes, RememberedReplay& replay) {
  BufferPool pool(*life.ring, bytes);
  BufferPool headers(*life.ring, 2_MiB);
  return life.ring->block_on(
      recover_log(life.store(), {pool, headers}, kLogDisk, std::nullopt, replay));
}

// It has read three copies, and needs more for what it mends.
TEST(SegmentReaderTest, ARecoveryMendsInTheMemoryOfItsWindows) {
  for (const std::size_t memory : {2_MiB, 4_MiB, 6_MiB, 8_MiB}) {
    Damaged damaged(12);
    LogLife life(damaged.machine);
    RememberedReplay replay;
    const auto recovered = recover_in(life, memory, replay);
    ASSERT_OK(recovered);
    EXPECT_EQ(replay.batches.size(), kWrites + 1);
    EXPECT_EQ(recovered->repaired_batches, 1U);
    EXPECT_EQ(block_of(*life.ring, segment_path(1, 1), 0), damaged.header);
    EXPECT_EQ(block_of(*life.ring, segment_path(1, 1), kLastPayload), damaged.payload);
  }
}

// What was found right is read again where memory is short, and not believed a second time.
TEST(SegmentReaderTest, NothingIsMendedFromACopyThatReadsWrongTheSecondTime) {
  const std::uint64_t seed = announce_seed();
  unsigned mended = 0;
  for (std::uint64_t round = 0; round < 40; ++round) {
    Damaged damaged(seed + round);
    SimFaults flips;
    flips.read_flip = 3;
    damaged.machine.set_faults(replica_folder(0), flips);
    LogLife life(damaged.machine);
    ASSERT_FALSE(life.error) << life.error->message;
    RememberedReplay replay;
    const auto recovered = recover_in(life, 2_MiB, replay);
    damaged.machine.clear_faults();
    if (!recovered || (life.replicas().in_sync_mask() & 0b010U) == 0) continue;
    for (std::uint32_t block = kLastPayload - 1; block < kLastPayload + 60; ++block) {
      ASSERT_EQ(block_of(*life.ring, segment_path(1, 1), block),
                block_of(*life.ring, segment_path(2, 1), block))
          << "block " << block << " in round " << round;
    }
    ++mended;
  }
  EXPECT_GT(mended, 0U);
}

}  // namespace
}  // namespace clouddisk
