#include "engine/disk/block_reader.h"

#include <cstring>

#include "engine/base/checksum.h"
#include "engine/base/log.h"
#include "engine/base/variant.h"
#include "engine/log/segment_format.h"

namespace clouddisk {
namespace {

// Spreads reads over the copies: neighbouring megabytes go to different devices.
unsigned first_choice(ReplicaMask readable, const BlockEntry& entry) {
  const std::uint64_t start = entry.location.segment().value + entry.location.block() / 256;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    const auto copy = static_cast<unsigned>((start + i) % kReplicaCount);
    if (in_mask(readable, copy)) return copy;
  }
  return kReplicaCount;
}

}  // namespace

Task<Result<Buffer>> BlockReader::read(std::span<const BlockEntry> entries, Buffer into) {
  CHECK(!entries.empty() && into.size() == entries.size() * kBlockSize);
  const BlockEntry& first = entries.front();
  const unsigned copy = first_choice(store_.readable(), first);
  if (copy == kReplicaCount) co_return fail(Errc::kReplicasLost, "no replica in sync to read from");
  auto read = co_await store_.read(copy, first.location.segment(), first.location.block(), into);
  if (!read) {
    ++counters_.read_errors;
    log(LogLevel::kWarning, "disk", "disk={} replica {}: {}", disk_id_, copy + 1,
        read.error().message);
    // The late answer of a stalled copy may still arrive in the old buffer.
    if (read.error().code == Errc::kTimedOut) into = co_await pool_.allocate(into.size());
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Buffer block = into.slice(i * kBlockSize, kBlockSize);
    if (read && broken(Variant::kSkipBlockChecksum)) continue;
    if (read && checksum64(block.span()) == entries[i].checksum) continue;
    if (read) {
      ++counters_.checksum_errors;
      log(LogLevel::kWarning, "disk", "disk={} replica {} segment {} block {}: checksum mismatch",
          disk_id_, copy + 1, entries[i].location.segment().value, entries[i].location.block());
    }
    auto again = co_await read_block(entries[i], 1U << copy, block);
    if (!again) co_return again.error();
  }
  co_return into;
}

Task<Result<void>> BlockReader::read_block(const BlockEntry& entry, ReplicaMask tried,
                                           Buffer into) {
  const SegmentSeq segment = entry.location.segment();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (in_mask(tried, copy) || !in_mask(store_.readable(), copy)) continue;
    Buffer attempt = co_await pool_.allocate(kBlockSize);
    auto read = co_await store_.read(copy, segment, entry.location.block(), attempt);
    if (!read) {
      ++counters_.read_errors;
      log(LogLevel::kWarning, "disk", "disk={} replica {}: {}", disk_id_, copy + 1,
          read.error().message);
      tried |= 1U << copy;
      continue;
    }
    if (checksum64(attempt.span()) != entry.checksum) {
      ++counters_.checksum_errors;
      tried |= 1U << copy;
      continue;
    }
    std::memcpy(into.data(), attempt.data(), kBlockSize);
    for (unsigned bad = 0; bad < kReplicaCount; ++bad) {
      if (in_mask(tried, bad)) co_await mend(bad, entry, attempt);
    }
    co_return Result<void>{};
  }
  ++counters_.lost_blocks;
  log(LogLevel::kError, "disk", "disk={} segment {} block {}: no good copy on any replica in sync",
      disk_id_, segment.value, entry.location.block());
  co_return fail(Errc::kIo, "segment {} block {}: no good copy", segment.value,
                 entry.location.block());
}

// Failure to mend is not the reader's: the store drops a copy that can't be written.
Task<void> BlockReader::mend(unsigned copy, const BlockEntry& entry, Buffer good) {
  if (!in_mask(store_.readable(), copy)) co_return;  // It is out: resync brings it back whole.
  const SegmentSeq segment = entry.location.segment();
  Buffer header = co_await pool_.allocate(kBlockSize);
  const auto there = co_await store_.read(copy, segment, 0, header);
  // Gone or cut short: made anew, then what is known is put in. The rest is mended as it is read. A
  // header that only can't be read may be the last good one.
  header = Buffer();
  const bool missing = !there && (there.error().code == Errc::kNotFound ||  //
                                  there.error().code == Errc::kCorrupt);
  if (missing && !co_await make_file(copy, segment)) co_return;
  auto repaired = co_await store_.repair(copy, segment, entry.location.block(), good);
  if (repaired) ++counters_.repaired_blocks;
}

Task<bool> BlockReader::make_file(unsigned copy, SegmentSeq segment) {
  for (unsigned source = 0; source < kReplicaCount; ++source) {
    if (source == copy || !in_mask(store_.readable(), source)) continue;
    Buffer header = co_await pool_.allocate(kBlockSize);
    if (auto read = co_await store_.read(source, segment, 0, header); !read) continue;
    if (!decode_header(header.span(), disk_tag(disk_id_), segment)) continue;
    auto restored = co_await store_.restore(copy, segment, header);
    co_return restored.has_value();
  }
  co_return false;
}

}  // namespace clouddisk
