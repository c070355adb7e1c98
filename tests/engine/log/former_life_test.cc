// A segment that was sealed, cut by a crash and written on: the trailer and footer of its former
// life are there still, and are not believed.
#include <gtest/gtest.h>

#include "engine/log/segment_reader.h"
#include "tests/engine/log/log_fixture.h"

namespace clouddisk {
namespace {

TEST(FormerLife, AFooterFromBeforeTheCutIsNotTakenForTheContents) {
  SimMachine machine(5);
  std::vector<std::byte> trailer;
  std::uint32_t last_batch = 0;
  {
    LogLife life(machine);
    ASSERT_OK(life.recover());
    for (unsigned lba = 0; lba < 3; ++lba) ASSERT_OK(life.write(lba * 100, 1 + lba, 40));
    last_batch = life.log().acked().block - 41;
    ASSERT_OK(life.ring->block_on(life.log().roll()));
    trailer = block_of(*life.ring, segment_path(0, 1), kTrailerBlock);
    life.kill();
  }
  // The crash takes the last batch, which was never flushed, and the segment behind.
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    damage_block(machine, segment_path(copy, 1), last_batch);
    SimRing ring(machine);
    ASSERT_OK(ring.block_on(ring.remove(segment_path(copy, 2))));
  }
  LogLife life(machine);
  auto recovered = life.recover();
  ASSERT_OK(recovered);
  ASSERT_EQ(recovered->tail.block, last_batch);
  // As many batches, less of each, so that the old footer stays whole.
  ASSERT_OK(life.write(7000, 9, 2));
  ASSERT_OK(life.ring->block_on(life.log().roll()));
  SegmentReader next(life.store(), life.pool(), kLogDisk, life.log().active_segment());
  auto header = life.ring->block_on(next.header());
  ASSERT_OK(header);
  const auto lbas_of = [](const Footer& contents) {
    std::vector<std::uint64_t> lbas;
    for (const LogEntry& entry : contents.entries) lbas.push_back(entry.lba.value);
    return lbas;
  };
  const std::vector<std::uint64_t> wanted{0, 100, 7000};
  const auto contents_now = [&] {
    return life.ring->block_on(
        read_contents(life.store(), life.pool(), kLogDisk, SegmentSeq(1), header->start));
  };
  auto sealed = contents_now();
  ASSERT_OK(sealed);
  EXPECT_EQ(lbas_of(*sealed), wanted);
  // A crash before the new trailer is durable leaves the old one.
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    overwrite(*life.ring, segment_path(copy, 1), kTrailerBlock * kBlockSize, trailer);
  }
  auto unsealed = contents_now();
  ASSERT_OK(unsealed);
  EXPECT_EQ(lbas_of(*unsealed), wanted) << "not those of the former life";
}

}  // namespace
}  // namespace clouddisk
