// log_targets.cc: the structures of superblocks and segments.
//
// A mutated structure fails its checksum, and the code behind that would never be reached. So each
// target tries the bytes as they are, and then with magic, owner and checksum put right.
#include <bit>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/log/replica_set.h"
#include "engine/log/segment_format.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {
namespace {

constexpr DiskTag kDisk = 0x1122'3344'5566'7788;
constexpr SegmentSeq kSegment{7};
constexpr std::uint32_t kBlock = 1;  // where a batch stands

void seal(std::span<std::byte> data) {
  store_le(data.data() + data.size() - 8, checksum64(data.first(data.size() - 8)));
}

// The prologue of every structure in a segment, as if it were one of ours.
void stamp(std::span<std::byte> data, std::string_view magic) {
  std::memcpy(data.data(), magic.data(), 8);
  store_le(data.data() + 16, std::uint64_t{kDisk});
  store_le(data.data() + 24, kSegment.value);
}

void check_entry(const LogEntry& entry) {
  CHECK(entry.count > 0);
  CHECK(entry.lba.value + entry.count <= std::uint64_t{1} << 48);
}

}  // namespace

FUZZ_TARGET(superblock) {
  constexpr std::size_t kHead = 48;
  Feed feed(input);
  const unsigned state = feed.word();
  std::array<FoundReplica, kReplicaCount> found;
  unsigned readable = 0;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    found[i].reachable = (state >> i & 1U) != 0;
    found[i].bare = (state >> (3 + i) & 1U) != 0;
    auto block = padded(feed.bytes(kHead), kSuperblockSize);
    static_cast<void>(decode_superblock(block));
    seal(block);
    auto superblock = decode_superblock(block);
    if (!superblock) continue;
    encode_superblock(*superblock, block);
    auto again = decode_superblock(block);
    CHECK(again.has_value());
    CHECK(again->generation == superblock->generation);
    CHECK(again->in_sync == superblock->in_sync);
    CHECK(again->set_uuid == superblock->set_uuid);
    if (!found[i].reachable) continue;
    found[i].superblock = *superblock;
    ++readable;
  }
  std::optional<unsigned> trusted;
  if ((state & 0x40U) != 0) trusted = state >> 7 & 3U;
  auto decision = decide_set(found, trusted);
  if (!decision) return;
  if (decision->create) {  // Nothing is there but, maybe, what a first start left.
    CHECK(readable < kReplicaCount);
    for (const FoundReplica& replica : found) {
      CHECK(replica.reachable && replica.bare);
      CHECK(!replica.superblock || replica.superblock->generation == kFirstGeneration);
    }
    return;
  }
  CHECK(decision->in_sync != 0);
  CHECK((decision->in_sync & decision->rebuild) == 0);
  CHECK(trusted.has_value() || readable >= 2);  // I5: one alone is never believed
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((decision->in_sync >> i & 1U) == 0) continue;
    CHECK(found[i].superblock.has_value());
    CHECK(trusted || found[i].superblock->generation.value + 1 >= decision->generation.value);
  }
}

FUZZ_TARGET(segment) {
  auto block = padded(input.first(std::min<std::size_t>(input.size(), kBlockSize)), kBlockSize);
  static_cast<void>(decode_header(block, kDisk, kSegment));
  static_cast<void>(decode_trailer(block, kDisk, kSegment));
  stamp(block, "CLDSEG01");
  seal(block);
  if (auto header = decode_header(block, kDisk, kSegment)) {
    encode_header(*header, block);
    auto again = decode_header(block, kDisk, kSegment);
    CHECK(again.has_value());
    CHECK(again->start == header->start);
    CHECK(again->durable == header->durable);
  }
  stamp(block, "CLDTRL01");
  seal(block);
  if (auto trailer = decode_trailer(block, kDisk, kSegment)) {
    CHECK(trailer->footer_blocks <= kSegmentBlocks);
    CHECK(trailer->footer_block <= kTrailerBlock - trailer->footer_blocks);
    encode_trailer(*trailer, kDisk, block);
    CHECK(decode_trailer(block, kDisk, kSegment).has_value());
  }
}

FUZZ_TARGET(batch) {
  std::uint32_t needed = 0;
  static_cast<void>(decode_descriptor(input, kDisk, kSegment, kBlock, &needed));
  auto data = padded(input, std::max<std::size_t>(input.size(), kBlockSize));
  const auto wanted = load_le<std::uint32_t>(data.data() + 12);
  const std::uint32_t blocks = wanted == 0 || wanted > kDescriptorBlocksMax ? 1 : wanted;
  data.resize(blocks * kBlockSize);
  stamp(data, "CLDBAT01");
  store_le(data.data() + 40, std::uint64_t{kBlock});
  seal(data);
  auto batch = decode_descriptor(data, kDisk, kSegment, kBlock, &needed);
  if (!batch) return;
  CHECK(needed == batch->descriptor_blocks);
  CHECK(batch->end_block() <= kTrailerBlock);
  CHECK(batch->checksums.size() == batch->payload_blocks);
  for (const LogEntry& entry : batch->entries) {
    check_entry(entry);
    if (has_payload(entry.kind)) CHECK(batch->checksums_of(entry).size() == entry.count);
  }
  Batch copy = *batch;
  encode_descriptor(copy, kDisk, data);
  auto again = decode_descriptor(data, kDisk, kSegment, kBlock, &needed);
  CHECK(again.has_value());
  CHECK(again->checksums == batch->checksums);
  CHECK(again->entries.size() == batch->entries.size());
}

// A position, then the footer.
FUZZ_TARGET(footer) {
  constexpr std::size_t kPosition = 32;
  if (input.size() < kPosition) return;
  auto trailer_block = padded({}, kBlockSize);
  std::memcpy(trailer_block.data() + 32, input.data(), kPosition);
  const Input body = input.subspan(kPosition);
  auto footer = padded(body, align_up(std::max<std::size_t>(body.size() + 8, 1), kBlockSize));
  const auto blocks = footer.size() / kBlockSize;
  stamp(footer, "CLDFOT01");
  std::memcpy(footer.data() + 48, input.data(), kPosition);
  seal(footer);
  stamp(trailer_block, "CLDTRL01");
  store_le(trailer_block.data() + 12, std::uint32_t{1});
  store_le(trailer_block.data() + 64, std::uint64_t{kTrailerBlock} - blocks);
  store_le(trailer_block.data() + 72, std::uint64_t{blocks});
  store_le(trailer_block.data() + 80, load_le<std::uint64_t>(footer.data() + footer.size() - 8));
  seal(trailer_block);
  auto trailer = decode_trailer(trailer_block, kDisk, kSegment);
  if (!trailer) return;
  auto decoded = decode_footer(footer, kDisk, *trailer);
  if (!decoded) return;
  std::size_t covered = 0;
  decoded->for_each([&](const LogEntry& entry, std::span<const std::uint64_t> checksums) {
    check_entry(entry);
    covered += checksums.size();
    if (!has_payload(entry.kind)) return;
    CHECK(checksums.size() == entry.count);
    CHECK(entry.block + entry.count <= kTrailerBlock);
  });
  CHECK(covered == decoded->checksums.size());
  static_cast<void>(oldest_write(*decoded));
  CHECK(encode_footer(*decoded, kDisk, footer) != 0);
}

}  // namespace clouddisk::fuzz
