// log_position.h: a place in one disk's log, from which recovery can go on.
#pragma once

#include <cstdint>

#include "engine/base/units.h"

namespace clouddisk {

// Names the first byte after a batch (or a segment's first batch), and what must follow there.
struct LogPosition {
  SegmentSeq segment;       // 0: the log is empty
  std::uint32_t block = 0;  // in 4 KiB blocks from the start of the segment
  BatchSeq next_batch;      // the batch that starts here
  std::uint64_t chain = 0;  // checksum of the batch before it: each batch names its parent
  constexpr bool operator==(const LogPosition&) const = default;
  constexpr bool before(const LogPosition& other) const { return next_batch < other.next_batch; }
  // The same moment of the log: what ends at one goes on at the other, maybe in another segment.
  constexpr bool meets(const LogPosition& other) const {
    return next_batch == other.next_batch && chain == other.chain;
  }
};

}  // namespace clouddisk
