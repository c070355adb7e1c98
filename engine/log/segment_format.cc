#include "engine/log/segment_format.h"

#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

// Magic numbers read as text in a hex dump.
constexpr std::uint64_t kHeaderMagic = 0x3130'4745'5344'4c43;   // "CLDSEG01"
constexpr std::uint64_t kBatchMagic = 0x3130'5441'4244'4c43;    // "CLDBAT01"
constexpr std::uint64_t kFooterMagic = 0x3130'544f'4644'4c43;   // "CLDFOT01"
constexpr std::uint64_t kTrailerMagic = 0x3130'4c52'5444'4c43;  // "CLDTRL01"

constexpr std::size_t kPrologueSize = 32;  // magic, version, size or zero, disk, segment
constexpr std::size_t kPositionSize = 32;
constexpr std::size_t kEntrySize = 48;
constexpr std::size_t kChecksumSize = 8;
constexpr std::size_t kBatchFixedSize = kPrologueSize + 16 + 32 + kPositionSize;
constexpr std::size_t kFooterFixedSize = kPrologueSize + 16 + kPositionSize;

static_assert(kBatchFixedSize + 64 * (kEntrySize + kChecksumSize) + kChecksumSize <= kBlockSize,
              "64 single-block writes share one descriptor block");
static_assert(kBatchFixedSize + kBatchEntriesMax * kEntrySize +
                      kBatchPayloadBlocksMax * kChecksumSize + kChecksumSize <=
                  kDescriptorBlocksMax * kBlockSize,
              "the largest batch has a descriptor");

void put_prologue(ByteWriter& out, std::uint64_t magic, std::uint32_t blocks, DiskTag disk,
                  SegmentSeq segment) {
  out.le(magic);
  out.le(kLogFormatVersion);
  out.le(blocks);
  out.le(disk);
  out.le(segment.value);
}

void put_position(ByteWriter& out, const LogPosition& position) {
  out.le(position.segment.value);
  out.le(std::uint64_t{position.block});
  out.le(position.next_batch.value);
  out.le(position.chain);
}

LogPosition get_position(ByteReader& in) {
  LogPosition position;
  position.segment = SegmentSeq(in.le<std::uint64_t>());
  position.block = static_cast<std::uint32_t>(in.le<std::uint64_t>());
  position.next_batch = BatchSeq(in.le<std::uint64_t>());
  position.chain = in.le<std::uint64_t>();
  return position;
}

void put_entry(ByteWriter& out, const LogEntry& entry) {
  out.le(entry.lba.value);
  out.le(entry.count);
  out.le(entry.write.value);
  out.le(entry.epoch.value);
  out.le(entry.from.bits() | static_cast<std::uint64_t>(entry.kind) << 56);
  out.le(std::uint64_t{entry.block});
}

LogEntry get_entry(ByteReader& in) {
  LogEntry entry;
  entry.lba = Lba(in.le<std::uint64_t>());
  entry.count = in.le<std::uint64_t>();
  entry.write = WriteSeq(in.le<std::uint64_t>());
  entry.epoch = Epoch(in.le<std::uint64_t>());
  const auto word = in.le<std::uint64_t>();
  entry.from = BlockLocation::from_bits(word & ((std::uint64_t{1} << 48) - 1));
  entry.kind = static_cast<EntryKind>(word >> 56);
  entry.block = static_cast<std::uint32_t>(in.le<std::uint64_t>());
  return entry;
}

// A decoded entry must make sense by itself, and its blocks lie in [first, last) of the segment.
bool plausible(const LogEntry& entry, std::uint32_t first, std::uint32_t last) {
  if (entry.kind < EntryKind::kWrite || entry.kind > EntryKind::kRelocatedTrim) return false;
  constexpr std::uint64_t kLbaMax = std::uint64_t{1} << 48;
  if (entry.count == 0 || entry.lba.value >= kLbaMax || entry.count > kLbaMax - entry.lba.value) {
    return false;
  }
  if (!has_payload(entry.kind)) return true;
  return entry.block >= first && entry.block <= last && entry.count <= last - entry.block;
}

struct Prologue {
  std::uint32_t version = 0;
  std::uint32_t blocks = 0;
};

// Asked only once the checksum holds: a flipped bit must not pass for a newer format.
Result<void> check_version(const Prologue& prologue, const char* what, SegmentSeq segment) {
  if (prologue.version <= kLogFormatVersion) return {};
  return fail(
      Errc::kUnsupported,
      "segment {}: {} of format {}, newer than this clouddisk knows ({}): upgrade clouddisk",
      segment.value, what, prologue.version, kLogFormatVersion);
}

Result<Prologue> get_prologue(ByteReader& in, std::uint64_t magic, const char* what, DiskTag disk,
                              SegmentSeq segment) {
  const auto found_magic = in.le<std::uint64_t>();
  Prologue prologue;
  prologue.version = in.le<std::uint32_t>();
  prologue.blocks = in.le<std::uint32_t>();
  const auto found_disk = in.le<std::uint64_t>();
  const auto found_segment = in.le<std::uint64_t>();
  if (!in.ok() || found_magic != magic) {
    return fail(Errc::kCorrupt, "segment {}: no {}", segment.value, what);
  }
  if (found_disk != disk) {
    return fail(Errc::kCorrupt, "segment {}: {} of another disk", segment.value, what);
  }
  if (found_segment != segment.value) {
    return fail(Errc::kCorrupt, "segment {}: {} of segment {}", segment.value, what, found_segment);
  }
  return prologue;
}

// The last 8 bytes hold the checksum of everything before them.
void seal_checksum(std::span<std::byte> data) {
  store_le(data.data() + data.size() - kChecksumSize,
           checksum64(data.first(data.size() - kChecksumSize)));
}
bool checksum_holds(std::span<const std::byte> data) {
  return load_le<std::uint64_t>(data.data() + data.size() - kChecksumSize) ==
         checksum64(data.first(data.size() - kChecksumSize));
}

}  // namespace

DiskTag disk_tag(std::string_view disk_id) {
  return checksum64(as_bytes(disk_id));
}

void encode_header(const SegmentHeader& header, std::span<std::byte> block) {
  CHECK(block.size() == kBlockSize);
  ByteWriter out(block);
  put_prologue(out, kHeaderMagic, 1, header.disk, header.segment);
  put_position(out, header.start);
  put_position(out, header.durable);
  out.le(header.created_ns);
  out.zeros(block.size() - out.position());
  seal_checksum(block);
}

Result<SegmentHeader> decode_header(std::span<const std::byte> block, DiskTag disk,
                                    SegmentSeq segment) {
  CHECK(block.size() == kBlockSize);
  ByteReader in(block);
  auto prologue = get_prologue(in, kHeaderMagic, "header", disk, segment);
  if (!prologue) return prologue.error();
  if (!checksum_holds(block)) {
    return fail(Errc::kCorrupt, "segment {}: header checksum", segment.value);
  }
  if (auto known = check_version(*prologue, "header", segment); !known) return known.error();
  SegmentHeader header;
  header.disk = disk;
  header.segment = segment;
  header.start = get_position(in);
  header.durable = get_position(in);
  header.created_ns = in.le<std::uint64_t>();
  if (header.start.segment != segment || header.start.block != kFirstBatchBlock) {
    return fail(Errc::kCorrupt, "segment {}: header starts at {}/{}", segment.value,
                header.start.segment.value, header.start.block);
  }
  return header;
}

std::uint32_t descriptor_blocks_for(std::size_t entries, std::size_t payload_blocks) {
  return static_cast<std::uint32_t>(blocks_for(kBatchFixedSize + entries * kEntrySize +
                                               payload_blocks * kChecksumSize + kChecksumSize));
}

void encode_descriptor(Batch& batch, DiskTag disk, std::span<std::byte> into) {
  CHECK(into.size() == batch.descriptor_blocks * kBlockSize);
  CHECK(batch.checksums.size() == batch.payload_blocks);
  ByteWriter out(into);
  put_prologue(out, kBatchMagic, batch.descriptor_blocks, disk, batch.segment);
  out.le(static_cast<std::uint32_t>(batch.entries.size()));
  out.le(batch.payload_blocks);
  out.le(std::uint64_t{batch.block});
  out.le(batch.batch.value);
  out.le(batch.parent);
  out.le(batch.epoch.value);
  out.le(batch.wall_ns);
  put_position(out, batch.durable);
  for (const LogEntry& entry : batch.entries) put_entry(out, entry);
  out.bytes(std::as_bytes(std::span(batch.checksums)));
  out.zeros(into.size() - out.position());
  seal_checksum(into);
  batch.chain = load_le<std::uint64_t>(into.data() + into.size() - kChecksumSize);
}

Result<Batch> decode_descriptor(std::span<const std::byte> data, DiskTag disk, SegmentSeq segment,
                                std::uint32_t block, std::uint32_t* blocks_needed) {
  *blocks_needed = 1;
  if (data.size() < kBlockSize) return fail(Errc::kInvalid, "batch: less than a block");
  ByteReader in(data);
  auto prologue = get_prologue(in, kBatchMagic, "batch", disk, segment);
  if (!prologue) return prologue.error();
  if (prologue->blocks == 0 || prologue->blocks > kDescriptorBlocksMax) {
    return fail(Errc::kCorrupt, "segment {} block {}: descriptor of {} blocks", segment.value,
                block, prologue->blocks);
  }
  *blocks_needed = prologue->blocks;
  const std::size_t size = prologue->blocks * kBlockSize;
  if (data.size() < size) return fail(Errc::kInvalid, "batch: descriptor is longer");
  if (!checksum_holds(data.first(size))) {
    return fail(Errc::kCorrupt, "segment {} block {}: batch checksum", segment.value, block);
  }
  if (auto known = check_version(*prologue, "batch", segment); !known) return known.error();

  Batch batch;
  batch.segment = segment;
  batch.block = block;
  batch.descriptor_blocks = prologue->blocks;
  const auto entry_count = in.le<std::uint32_t>();
  batch.payload_blocks = in.le<std::uint32_t>();
  const auto own_block = in.le<std::uint64_t>();
  batch.batch = BatchSeq(in.le<std::uint64_t>());
  batch.parent = in.le<std::uint64_t>();
  batch.epoch = Epoch(in.le<std::uint64_t>());
  batch.wall_ns = in.le<std::uint64_t>();
  batch.durable = get_position(in);
  batch.chain = load_le<std::uint64_t>(data.data() + size - kChecksumSize);
  if (own_block != block) {
    return fail(Errc::kCorrupt, "segment {} block {}: batch of block {}", segment.value, block,
                own_block);
  }
  if (entry_count > kBatchEntriesMax || batch.payload_blocks > kBatchPayloadBlocksMax ||
      descriptor_blocks_for(entry_count, batch.payload_blocks) != batch.descriptor_blocks ||
      batch.end_block() > kTrailerBlock) {
    return fail(Errc::kCorrupt, "segment {} block {}: {} entries, {} payload blocks", segment.value,
                block, entry_count, batch.payload_blocks);
  }
  batch.entries.reserve(entry_count);
  for (std::uint32_t i = 0; i < entry_count; ++i) {
    batch.entries.push_back(get_entry(in));
    if (!plausible(batch.entries.back(), batch.payload_start(), batch.end_block())) {
      return fail(Errc::kCorrupt, "segment {} block {}: entry {} makes no sense", segment.value,
                  block, i);
    }
  }
  batch.checksums.resize(batch.payload_blocks);
  const auto raw = in.bytes(batch.payload_blocks * kChecksumSize);
  if (!raw.empty()) std::memcpy(batch.checksums.data(), raw.data(), raw.size());
  return batch;
}

std::uint32_t footer_blocks_for(std::size_t entries, std::size_t checksums) {
  return static_cast<std::uint32_t>(blocks_for(kFooterFixedSize + entries * kEntrySize +
                                               checksums * kChecksumSize + kChecksumSize));
}

WriteSeq oldest_write(const Footer& footer) {
  WriteSeq oldest;
  for (const LogEntry& entry : footer.entries) {
    if (!has_payload(entry.kind)) continue;
    if (oldest.value == 0 || entry.write < oldest) oldest = entry.write;
  }
  return oldest;
}

std::uint64_t encode_footer(const Footer& footer, DiskTag disk, std::span<std::byte> into) {
  const std::uint32_t blocks = footer_blocks_for(footer.entries.size(), footer.checksums.size());
  CHECK(into.size() == blocks * kBlockSize);
  ByteWriter out(into);
  put_prologue(out, kFooterMagic, blocks, disk, footer.segment);
  out.le(std::uint64_t{footer.entries.size()});
  out.le(std::uint64_t{footer.checksums.size()});
  put_position(out, footer.end);
  for (const LogEntry& entry : footer.entries) put_entry(out, entry);
  out.bytes(std::as_bytes(std::span(footer.checksums)));
  out.zeros(into.size() - out.position());
  seal_checksum(into);
  return load_le<std::uint64_t>(into.data() + into.size() - kChecksumSize);
}

Result<Footer> decode_footer(std::span<const std::byte> data, DiskTag disk,
                             const Trailer& trailer) {
  ByteReader in(data);
  auto prologue = get_prologue(in, kFooterMagic, "footer", disk, trailer.segment);
  if (!prologue) return prologue.error();
  if (data.size() != std::size_t{trailer.footer_blocks} * kBlockSize || !checksum_holds(data) ||
      load_le<std::uint64_t>(data.data() + data.size() - kChecksumSize) !=
          trailer.footer_checksum) {
    return fail(Errc::kCorrupt, "segment {}: footer checksum", trailer.segment.value);
  }
  if (auto known = check_version(*prologue, "footer", trailer.segment); !known) {
    return known.error();
  }
  Footer footer;
  footer.segment = trailer.segment;
  const auto entries = in.le<std::uint64_t>();
  const auto checksums = in.le<std::uint64_t>();
  footer.end = get_position(in);
  if (entries > data.size() / kEntrySize || checksums > kSegmentBlocks ||
      footer_blocks_for(entries, checksums) != trailer.footer_blocks ||
      !(footer.end == trailer.end)) {
    return fail(Errc::kCorrupt, "segment {}: footer of {} entries, {} checksums",
                trailer.segment.value, entries, checksums);
  }
  std::uint64_t covered = 0;
  footer.entries.reserve(entries);
  for (std::uint64_t i = 0; i < entries; ++i) {
    footer.entries.push_back(get_entry(in));
    const LogEntry& entry = footer.entries.back();
    if (!plausible(entry, kFirstBatchBlock, footer.end.block)) {
      return fail(Errc::kCorrupt, "segment {}: footer entry {} makes no sense",
                  trailer.segment.value, i);
    }
    if (has_payload(entry.kind)) covered += entry.count;
  }
  if (covered != checksums) {
    return fail(Errc::kCorrupt, "segment {}: footer covers {} blocks with {} checksums",
                trailer.segment.value, covered, checksums);
  }
  footer.checksums.resize(checksums);
  const auto raw = in.bytes(checksums * kChecksumSize);
  if (!raw.empty()) std::memcpy(footer.checksums.data(), raw.data(), raw.size());
  return footer;
}

void encode_trailer(const Trailer& trailer, DiskTag disk, std::span<std::byte> block) {
  CHECK(block.size() == kBlockSize);
  ByteWriter out(block);
  put_prologue(out, kTrailerMagic, 1, disk, trailer.segment);
  put_position(out, trailer.end);
  out.le(std::uint64_t{trailer.footer_block});
  out.le(std::uint64_t{trailer.footer_blocks});
  out.le(trailer.footer_checksum);
  out.le(trailer.oldest_write.value);
  out.zeros(block.size() - out.position());
  seal_checksum(block);
}

Result<Trailer> decode_trailer(std::span<const std::byte> block, DiskTag disk, SegmentSeq segment) {
  CHECK(block.size() == kBlockSize);
  ByteReader in(block);
  auto prologue = get_prologue(in, kTrailerMagic, "trailer", disk, segment);
  if (!prologue) return prologue.error();
  if (!checksum_holds(block)) {
    return fail(Errc::kCorrupt, "segment {}: trailer checksum", segment.value);
  }
  if (auto known = check_version(*prologue, "trailer", segment); !known) return known.error();
  Trailer trailer;
  trailer.segment = segment;
  trailer.end = get_position(in);
  const auto footer_block = in.le<std::uint64_t>();
  const auto footer_blocks = in.le<std::uint64_t>();
  trailer.footer_checksum = in.le<std::uint64_t>();
  trailer.oldest_write = WriteSeq(in.le<std::uint64_t>());
  if (trailer.end.segment != segment || trailer.end.block < kFirstBatchBlock ||
      footer_block < trailer.end.block || footer_block > kTrailerBlock || footer_blocks == 0 ||
      footer_blocks > kTrailerBlock - footer_block) {
    return fail(Errc::kCorrupt, "segment {}: trailer points to {}+{}", segment.value, footer_block,
                footer_blocks);
  }
  trailer.footer_block = static_cast<std::uint32_t>(footer_block);
  trailer.footer_blocks = static_cast<std::uint32_t>(footer_blocks);
  return trailer;
}

}  // namespace clouddisk
