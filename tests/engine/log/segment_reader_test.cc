// Readers of segments in little memory: they take turns, and end.
#include "engine/log/segment_reader.h"

#include <gtest/gtest.h>

#include "tests/engine/log/log_fixture.h"

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

// A recovery that mends has read three copies, and needs more for what it mends.
TEST(SegmentReaderTest, ARecoveryMendsInTheMemoryOfItsWindows) {
  SimMachine machine(12);
  {
    LogLife life(machine);
    ASSERT_NO_FATAL_FAILURE(write_much(life));
    life.kill();
  }
  damage_block(machine, segment_path(1, 1), 0);
  damage_block(machine, segment_path(1, 1), 9 * (kWrites - 1) + 2);  // of the last batch's payload
  LogLife life(machine);
  BufferPool pool(*life.ring, 6_MiB);
  BufferPool headers(*life.ring, 2_MiB);
  RememberedReplay replay;
  const LogMemory memory{pool, headers};
  auto recovered =
      life.ring->block_on(recover_log(life.store(), memory, kLogDisk, std::nullopt, replay));
  ASSERT_OK(recovered);
  EXPECT_EQ(replay.batches.size(), kWrites);
  EXPECT_GT(recovered->repaired_batches, 0U);
  EXPECT_EQ(block_of(*life.ring, segment_path(1, 1), 0),
            block_of(*life.ring, segment_path(0, 1), 0));
}

}  // namespace
}  // namespace clouddisk
