// block_reader.h: reads stored blocks and lets nothing unverified out (I4). A copy that fails or
// whose checksum differs is passed over for another, and mended from it. Thread: the disk's ring.
#pragma once

#include <cstdint>
#include <span>

#include "engine/log/segment_store.h"
#include "engine/map/block_location.h"
#include "engine/ring/buffer_pool.h"

namespace clouddisk {

struct ReadCounters {
  std::uint64_t checksum_errors = 0;  // copies of blocks that did not match
  std::uint64_t read_errors = 0;      // copies that could not be read
  std::uint64_t repaired_blocks = 0;
  std::uint64_t lost_blocks = 0;  // no good copy: the client got EIO
};

class BlockReader {
 public:
  // `pool` gives the buffers for second attempts and repairs.
  BlockReader(SegmentStore& store, BufferPool& pool, std::string disk_id)
      : store_(store), pool_(pool), disk_id_(std::move(disk_id)) {}

  // `entries` are stored blocks that follow each other in one segment; `into` has their size. After
  // a stalled first attempt the data may be in another buffer: the result is what to use. kIo: some
  // block has no good copy.
  Task<Result<Buffer>> read(std::span<const BlockEntry> entries, Buffer into);

  const ReadCounters& counters() const { return counters_; }

 private:
  Task<Result<void>> read_block(const BlockEntry& entry, ReplicaMask tried, Buffer into);
  Task<void> mend(unsigned copy, const BlockEntry& entry, Buffer good);
  // False: no other copy has a header that holds, or this one can't be written.
  Task<bool> make_file(unsigned copy, SegmentSeq segment);

  SegmentStore& store_;
  BufferPool& pool_;
  std::string disk_id_;
  ReadCounters counters_;
};

}  // namespace clouddisk
