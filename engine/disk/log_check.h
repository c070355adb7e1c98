// log_check.h: reads every byte of one log that means anything, on every copy that is believed, and
// compares it with its checksum: headers, descriptors, payload, footers. On request a copy that is
// damaged is mended from one that is not; what no copy has intact is left alone, as it is.
//
// What a crash may leave is told apart: batches behind the last point that anything in the log or
// the index knows to be durable, a segment begun at that point, a seal that was under way.
//
// Before the log is opened: recovery mends too, and would hide what it found.
// Thread: the store's ring, with nothing else on the log. Memory: 8 bytes for each block stored.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/log/segment_format.h"
#include "engine/log/segment_store.h"

namespace clouddisk {

struct LogDamage {
  SegmentSeq segment;
  std::uint32_t first = 0;  // block in the segment
  std::uint32_t count = 0;
  ReplicaMask copies = 0;  // that are damaged there, or lack it
  bool mendable = false;   // some other copy has it, or it can be made from what is intact
  // Not known durable: a crash may have left it so, and recovery settles it.
  bool unfinished = false;
  std::string what;     // "payload", "descriptor", "header", "footer", "the segment"
  std::string problem;  // why it could not be mended; empty: it was, or was not to be
};

struct LogCheck {
  std::vector<LogDamage> damage;
  // Of each block with payload, 0 for all others, by segment.
  std::map<SegmentSeq, std::vector<std::uint64_t>> checksums;
  // Payload that no copy has intact.
  std::set<std::pair<SegmentSeq, std::uint32_t>> lost;
  std::uint64_t bytes = 0;   // looked at, on all copies
  std::uint64_t mended = 0;  // blocks
};

struct LogCheckOptions {
  bool repair = false;
  // The first batch that is not known durable from elsewhere (the index's checkpoint); none: the
  // log alone says.
  std::optional<BatchSeq> settled;
  std::function<void(std::uint64_t bytes)> progress;
};

// An error: the log could not be looked at. Damage is no error.
Task<Result<LogCheck>> check_log(SegmentStore& store, BufferPool& pool, DiskTag disk,
                                 LogCheckOptions options);

}  // namespace clouddisk
