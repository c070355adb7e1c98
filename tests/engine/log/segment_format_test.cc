// The bytes of a segment: what is written comes back, and what was damaged is never believed.
#include "engine/log/segment_format.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

const DiskTag kDisk = disk_tag("d-test");
constexpr SegmentSeq kSegment{7};

LogPosition some_position(Random& random) {
  return {SegmentSeq(random.below(1000)), static_cast<std::uint32_t>(random.below(kSegmentBlocks)),
          BatchSeq(random.below(1'000'000)), random.next()};
}

// A batch as the log would make it: entries of every kind, payload in order.
Batch random_batch(Random& random, std::size_t entries) {
  Batch batch;
  batch.segment = kSegment;
  batch.block = static_cast<std::uint32_t>(1 + random.below(1000));
  batch.batch = BatchSeq(1 + random.below(1'000'000));
  batch.parent = random.next();
  batch.epoch = Epoch(1 + random.below(100));
  batch.wall_ns = random.next();
  batch.durable = some_position(random);
  for (std::size_t i = 0; i < entries; ++i) {
    LogEntry entry;
    entry.kind = static_cast<EntryKind>(1 + random.below(6));
    entry.lba = Lba(random.below(1ULL << 40));
    entry.count = has_payload(entry.kind) ? 1 : 1 + random.below(1ULL << 30);
    entry.write = WriteSeq(1 + random.below(1ULL << 40));
    entry.epoch = is_relocated(entry.kind) ? Epoch(1 + random.below(100)) : batch.epoch;
    if (entry.kind == EntryKind::kRelocatedWrite) {
      entry.from = BlockLocation::stored(SegmentSeq(3), static_cast<std::uint32_t>(i));
    }
    if (has_payload(entry.kind)) {
      entry.block = batch.payload_blocks++;  // from the payload's start: moved below
      batch.checksums.push_back(random.next());
    }
    batch.entries.push_back(entry);
  }
  batch.descriptor_blocks = descriptor_blocks_for(entries, batch.payload_blocks);
  for (LogEntry& entry : batch.entries) {
    if (has_payload(entry.kind)) entry.block += batch.payload_start();
  }
  return batch;
}

std::vector<std::byte> descriptor_of(Batch& batch) {
  std::vector<std::byte> bytes(batch.descriptor_blocks * kBlockSize);
  encode_descriptor(batch, kDisk, bytes);
  return bytes;
}

void expect_same(const LogEntry& a, const LogEntry& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.lba, b.lba);
  EXPECT_EQ(a.count, b.count);
  EXPECT_EQ(a.write, b.write);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.from, b.from);
  EXPECT_EQ(a.block, b.block);
}

Result<Batch> decode(std::span<const std::byte> bytes, const Batch& batch) {
  std::uint32_t needed = 0;
  return decode_descriptor(bytes, kDisk, kSegment, batch.block, &needed);
}

TEST(BatchFormat, ComesBackAsItWas) {
  Random random(announce_seed());
  for (const std::size_t entries : {1U, 2U, 100U, 256U}) {
    Batch batch = random_batch(random, entries);
    const auto bytes = descriptor_of(batch);
    const auto back = decode(bytes, batch);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->batch, batch.batch);
    EXPECT_EQ(back->parent, batch.parent);
    EXPECT_EQ(back->chain, batch.chain);
    EXPECT_EQ(back->epoch, batch.epoch);
    EXPECT_EQ(back->durable, batch.durable);
    EXPECT_EQ(back->payload_blocks, batch.payload_blocks);
    EXPECT_EQ(back->checksums, batch.checksums);
    EXPECT_EQ(back->end(), batch.end());
    ASSERT_EQ(back->entries.size(), entries);
    for (std::size_t i = 0; i < entries; ++i) expect_same(back->entries[i], batch.entries[i]);
  }
}

TEST(BatchFormat, AnyFlippedBitIsNoticed) {
  Random random(announce_seed());
  Batch batch = random_batch(random, 20);
  const auto good = descriptor_of(batch);
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto bad = good;
    bad[at] ^= std::byte{1} << random.below(8);
    const auto back = decode(bad, batch);
    ASSERT_FALSE(back) << "byte " << at;
    EXPECT_NE(back.error().code, Errc::kUnsupported) << "byte " << at;
  }
}

TEST(BatchFormat, OfAnotherDiskSegmentOrPlaceIsNotTaken) {
  Random random(announce_seed());
  Batch batch = random_batch(random, 3);
  const auto bytes = descriptor_of(batch);
  std::uint32_t needed = 0;
  EXPECT_FALSE(decode_descriptor(bytes, disk_tag("d-other"), kSegment, batch.block, &needed));
  EXPECT_FALSE(decode_descriptor(bytes, kDisk, kSegment.next(), batch.block, &needed));
  EXPECT_FALSE(decode_descriptor(bytes, kDisk, kSegment, batch.block + 1, &needed))
      << "it landed in the wrong place";
}

TEST(BatchFormat, CutShortAsksForWhatItNeeds) {
  Random random(announce_seed());
  Batch batch = random_batch(random, 256);
  ASSERT_GT(batch.descriptor_blocks, 1U);
  const auto bytes = descriptor_of(batch);
  std::uint32_t needed = 0;
  const auto first =
      decode_descriptor(std::span(bytes).first(kBlockSize), kDisk, kSegment, batch.block, &needed);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, Errc::kInvalid);
  EXPECT_EQ(needed, batch.descriptor_blocks);
}

// Whatever the bytes say, nothing outside of them is touched (ASan watches) and nothing is
// believed.
TEST(BatchFormat, RandomBytesAreNotABatch) {
  Random random(announce_seed());
  Batch batch = random_batch(random, 30);
  const auto good = descriptor_of(batch);
  for (int round = 0; round < 3000; ++round) {
    auto bytes = good;
    // Keep the beginning, so that parsing gets somewhere.
    const std::size_t from = 8 + random.below(200);
    const std::size_t count = 1 + random.below(64);
    for (std::size_t i = from; i < std::min(bytes.size(), from + count); ++i) {
      bytes[i] = static_cast<std::byte>(random.next());
    }
    if (std::equal(bytes.begin(), bytes.end(), good.begin())) continue;
    bytes.resize((1 + random.below(batch.descriptor_blocks)) * kBlockSize);
    EXPECT_FALSE(decode(bytes, batch));
  }
}

TEST(HeaderFormat, ComesBackAndNoFlippedByteIsBelieved) {
  Random random(announce_seed());
  SegmentHeader header;
  header.disk = kDisk;
  header.segment = kSegment;
  header.start = LogPosition{kSegment, kFirstBatchBlock, BatchSeq(9), random.next()};
  header.durable = some_position(random);
  header.created_ns = random.next();
  std::vector<std::byte> block(kBlockSize);
  encode_header(header, block);
  const auto back = decode_header(block, kDisk, kSegment);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->start, header.start);
  EXPECT_EQ(back->durable, header.durable);
  EXPECT_EQ(back->created_ns, header.created_ns);
  EXPECT_FALSE(decode_header(block, disk_tag("d-other"), kSegment));
  EXPECT_FALSE(decode_header(block, kDisk, kSegment.next())) << "a recycled file's former life";
  for (std::size_t at = 0; at < block.size(); ++at) {
    auto bad = block;
    bad[at] ^= std::byte{0x10};
    EXPECT_FALSE(decode_header(bad, kDisk, kSegment)) << "byte " << at;
  }
}

TEST(FooterFormat, ComesBackWithItsTrailerAndNoFlippedByteIsBelieved) {
  Random random(announce_seed());
  Batch batch = random_batch(random, 200);
  Footer footer;
  footer.segment = kSegment;
  footer.end = batch.end();
  footer.entries = batch.entries;
  footer.checksums = batch.checksums;
  const auto blocks = footer_blocks_for(footer.entries.size(), footer.checksums.size());
  std::vector<std::byte> body(blocks * kBlockSize);
  Trailer trailer;
  trailer.segment = kSegment;
  trailer.end = footer.end;
  trailer.footer_block = batch.end_block();
  trailer.footer_blocks = blocks;
  trailer.footer_checksum = encode_footer(footer, kDisk, body);
  trailer.oldest_write = oldest_write(footer);
  std::vector<std::byte> last(kBlockSize);
  encode_trailer(trailer, kDisk, last);

  const auto found = decode_trailer(last, kDisk, kSegment);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->end, trailer.end);
  EXPECT_EQ(found->oldest_write, trailer.oldest_write);
  const auto back = decode_footer(body, kDisk, *found);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->checksums, footer.checksums);
  ASSERT_EQ(back->entries.size(), footer.entries.size());
  for (std::size_t i = 0; i < footer.entries.size(); ++i) {
    expect_same(back->entries[i], footer.entries[i]);
  }
  for (std::size_t at = 0; at < last.size(); ++at) {
    auto bad = last;
    bad[at] ^= std::byte{0x10};
    EXPECT_FALSE(decode_trailer(bad, kDisk, kSegment)) << "trailer byte " << at;
  }
  for (std::size_t at = 0; at < body.size(); ++at) {
    auto bad = body;
    bad[at] ^= std::byte{0x10};
    EXPECT_FALSE(decode_footer(bad, kDisk, *found)) << "footer byte " << at;
  }
}

}  // namespace
}  // namespace clouddisk
