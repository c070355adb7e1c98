#include "snapshot/frame.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk::snapshot {
namespace {

std::vector<std::byte> data_of(std::size_t size, bool compressible, Random& random) {
  std::vector<std::byte> data(size);
  for (auto& byte : data) {
    byte = compressible ? std::byte{'a'} : static_cast<std::byte>(random.next());
  }
  return data;
}

class Frames : public testing::Test {
 protected:
  std::vector<std::byte> make(std::span<const std::byte> raw, PackAddress address) {
    std::vector<std::byte> frame;
    append_frame(FrameKind::kBlocks, kChain, 7, raw, 3, frame);
    place_frame(frame, address);
    return frame;
  }
  static constexpr ChainTag kChain = 0x1234;
  Random random_{announce_seed()};
};

TEST_F(Frames, ComeBackAsTheyWere) {
  for (const bool compressible : {true, false}) {
    for (const std::size_t size : {kBlockSize, 3 * kBlockSize, kFrameRawMax}) {
      const auto raw = data_of(size, compressible, random_);
      const auto frame = make(raw, 8192);
      auto header = decode_header(frame, kChain, 8192);
      ASSERT_TRUE(header) << header.error().message;
      EXPECT_EQ(header->seq, 7U);
      EXPECT_EQ(header->size(), frame.size());
      EXPECT_EQ(frame.size() % kFrameAlignment, 0U);
      auto unpacked = unpack_frame(frame, *header);
      ASSERT_TRUE(unpacked) << unpacked.error().message;
      EXPECT_EQ(*unpacked, raw);
      if (compressible) {
        EXPECT_LT(frame.size(), raw.size() / 4);
      } else {
        EXPECT_LE(frame.size(), raw.size() + kFrameHeaderSize);
      }
    }
  }
}

TEST_F(Frames, OfAnotherChainOrPlaceAreNotTaken) {
  const auto frame = make(data_of(kBlockSize, true, random_), 8192);
  EXPECT_FALSE(decode_header(frame, kChain + 1, 8192));
  EXPECT_FALSE(decode_header(frame, kChain, 8200));
  EXPECT_FALSE(decode_header(std::span(frame).first(kFrameHeaderSize - 1), kChain, 8192));
}

TEST_F(Frames, AnyFlippedBitIsNoticed) {
  for (const bool compressible : {true, false}) {
    const auto raw = data_of(kBlockSize, compressible, random_);
    const auto frame = make(raw, 0);
    auto whole = decode_header(frame, kChain, 0);
    ASSERT_TRUE(whole);
    const std::size_t used = kFrameHeaderSize + whole->stored_bytes;
    for (std::size_t at = 0; at < used; ++at) {
      auto damaged = frame;
      damaged[at] ^= static_cast<std::byte>(1U << random_.below(8));
      auto header = decode_header(damaged, kChain, 0);
      if (!header) continue;
      EXPECT_GE(at, kFrameHeaderSize) << "byte " << at;
      // A bit that means nothing to zstd may be flipped; the content never is.
      auto unpacked = unpack_frame(damaged, *header);
      EXPECT_TRUE(!unpacked || *unpacked == raw) << "byte " << at;
    }
  }
}

TEST_F(Frames, CutOffPayloadIsAnError) {
  const auto frame = make(data_of(kBlockSize, false, random_), 0);
  auto header = decode_header(frame, kChain, 0);
  ASSERT_TRUE(header);
  EXPECT_FALSE(unpack_frame(std::span(frame).first(kFrameHeaderSize + 100), *header));
}

}  // namespace
}  // namespace clouddisk::snapshot
