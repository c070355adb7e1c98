#include "snapshot/compressor.h"

#include <gtest/gtest.h>

#include "engine/base/random.h"
#include "engine/ring/sim_machine.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/seed.h"

namespace clouddisk::snapshot {
namespace {

constexpr ChainTag kChain = 0x1234;

// The frames of a part, unpacked.
std::vector<std::byte> unpacked(PackedFrames& frames) {
  std::vector<std::byte> all;
  std::size_t at = 0;
  for (const std::size_t size : frames.sizes) {
    const auto frame = std::span(frames.bytes).subspan(at, size);
    place_frame(frame, at);
    auto header = decode_header(frame, kChain, at);
    EXPECT_TRUE(header) << header.error().message;
    if (!header) break;
    EXPECT_EQ(header->seq, 9U);
    auto raw = unpack_frame(frame, *header);
    EXPECT_TRUE(raw) << raw.error().message;
    if (!raw) break;
    all.insert(all.end(), raw->begin(), raw->end());
    at += size;
  }
  EXPECT_EQ(at, frames.bytes.size());
  return all;
}

TEST(Compressor, GivesEachPartItsOwnFramesWhateverItShares) {
  Random random(announce_seed());
  SimMachine machine(random.next());
  SimRing ring(machine);
  Compressor compressor(ring, kChain, 3);
  // None, smaller than a frame, of a job, and of several jobs, in any order.
  std::vector<std::vector<std::byte>> parts(40);
  for (auto& part : parts) {
    static constexpr std::array<std::size_t, 6> kBlocks{0, 1, 7, 16, 64, 256};
    part.resize(kBlocks[random.below(kBlocks.size())] * kBlockSize);
    const bool noise = random.below(2) == 0;
    for (auto& byte : part) byte = static_cast<std::byte>(noise ? random.next() : part.size());
  }
  const std::vector<BlockData> asked(parts.begin(), parts.end());
  auto packed = ring.block_on(compressor.compress(9, asked));
  ASSERT_EQ(packed.size(), parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t frames = (parts[i].size() + kFrameRawMax - 1) / kFrameRawMax;
    EXPECT_EQ(packed[i].sizes.size(), frames) << "part " << i;
    EXPECT_EQ(unpacked(packed[i]), parts[i]) << "part " << i;
  }
}

}  // namespace
}  // namespace clouddisk::snapshot
