#include "engine/base/bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[static_cast<unsigned>(b) >> 4];
    text += kDigits[static_cast<unsigned>(b) & 15];
  }
  return text;
}

TEST(ByteWriter, LittleAndBigEndianBytesStandInTheirOrder) {
  std::array<std::byte, 30> memory{};
  ByteWriter writer(memory);
  writer.le(std::uint8_t{0x01});
  writer.le(std::uint16_t{0x0203});
  writer.le(std::uint32_t{0x04050607});
  writer.le(std::uint64_t{0x08090a0b0c0d0e0f});
  writer.be(std::uint8_t{0x01});
  writer.be(std::uint16_t{0x0203});
  writer.be(std::uint32_t{0x04050607});
  writer.be(std::uint64_t{0x08090a0b0c0d0e0f});
  EXPECT_EQ(writer.position(), 30U);
  EXPECT_EQ(hex(memory), "010302070605040f0e0d0c0b0a09080102030405060708090a0b0c0d0e0f");
}

// A field by its kind, as wide as it comes.
std::uint64_t read_field(ByteReader& reader, unsigned kind) {
  if (kind == 0) return reader.le<std::uint8_t>();
  if (kind == 1) return reader.le<std::uint16_t>();
  if (kind == 2) return reader.be<std::uint16_t>();
  if (kind == 3) return reader.be<std::uint32_t>();
  return kind == 4 ? reader.le<std::uint64_t>() : reader.be<std::uint64_t>();
}
std::uint64_t mask_of(unsigned kind) {
  if (kind == 0) return 0xff;
  if (kind <= 2) return 0xffff;
  return kind == 3 ? 0xffffffff : UINT64_MAX;
}

TEST(ByteReader, ReadsBackWhatTheWriterWrote) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::byte> memory(256);
    ByteWriter writer(memory);
    std::vector<std::pair<unsigned, std::uint64_t>> fields;
    while (memory.size() - writer.position() >= 8) {
      const auto kind = static_cast<unsigned>(random.below(6));
      const std::uint64_t value = random.next();
      if (kind == 0) writer.le(static_cast<std::uint8_t>(value));
      if (kind == 1) writer.le(static_cast<std::uint16_t>(value));
      if (kind == 2) writer.be(static_cast<std::uint16_t>(value));
      if (kind == 3) writer.be(static_cast<std::uint32_t>(value));
      if (kind == 4) writer.le(value);
      if (kind == 5) writer.be(value);
      fields.emplace_back(kind, value);
    }
    ByteReader reader(memory);
    for (const auto& [kind, value] : fields) {
      ASSERT_EQ(read_field(reader, kind), value & mask_of(kind)) << "kind " << kind;
    }
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(reader.position(), writer.position());
  }
}

TEST(ByteReader, PastTheEndGivesZerosAndStaysFailed) {
  const std::array<std::byte, 6> memory{std::byte{1}, std::byte{2}, std::byte{3},
                                        std::byte{4}, std::byte{5}, std::byte{6}};
  ByteReader reader(memory);
  EXPECT_EQ(reader.le<std::uint32_t>(), 0x04030201U);
  EXPECT_EQ(reader.le<std::uint32_t>(), 0U);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.le<std::uint8_t>(), 0U) << "two bytes are left, but the reader has failed";
  EXPECT_TRUE(reader.bytes(1).empty());
}

TEST(ByteReader, ALengthNearTheTopOfItsTypeIsRefused) {
  const std::array<std::byte, 8> memory{};
  for (const std::size_t length : {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 7, std::size_t{9}}) {
    ByteReader reader(memory);
    reader.skip(1);
    EXPECT_TRUE(reader.bytes(length).empty()) << length;
    EXPECT_FALSE(reader.ok()) << length;
    EXPECT_EQ(reader.position(), 1U) << length;
  }
}

TEST(ByteReader, TakesExactlyWhatIsLeft) {
  const std::array<std::byte, 8> memory{};
  ByteReader reader(memory);
  reader.skip(3);
  EXPECT_EQ(reader.remaining(), 5U);
  EXPECT_EQ(reader.bytes(5).size(), 5U);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.remaining(), 0U);
}

TEST(ByteWriterDeathTest, OverrunStopsTheProcess) {
  std::array<std::byte, 4> memory{};
  ByteWriter writer(memory);
  writer.le(std::uint16_t{1});
  EXPECT_DEATH(writer.le(std::uint32_t{1}), "CHECK failed");
  EXPECT_DEATH(writer.zeros(3), "CHECK failed");
  EXPECT_DEATH(writer.bytes(as_bytes("abc")), "CHECK failed");
}

TEST(Bytes, TextAndBytesAreTheSameMemory) {
  const std::string text("a\0b", 3);
  EXPECT_EQ(as_text(as_bytes(text)), text);
  EXPECT_EQ(as_text(as_bytes(text)).data(), text.data());
}

}  // namespace
}  // namespace clouddisk
