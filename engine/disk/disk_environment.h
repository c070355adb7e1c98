// disk_environment.h: what the disks of one ring share.
#pragma once

#include "engine/disk/read_cache.h"
#include "engine/log/file_cache.h"
#include "engine/log/replica_set.h"
#include "engine/map/page_cache.h"
#include "engine/ring/buffer_pool.h"
#include "engine/ring/ring.h"

namespace clouddisk {

// Pools in a line: who holds client memory may wait for work memory, who holds work memory for log
// memory, who holds log memory for the header of a segment, and that is given back by the device
// alone. What snapshots are packed in has an environment with client memory of its own, in the line
// behind work: a read of a borrowed block holds client or work memory already. docs/architecture.md
// names what is outside the line.
struct DiskEnvironment {
  Ring& ring;
  ReplicaSet& replicas;
  FileCache& files;
  PageCache& pages;
  BufferPool& client_buffers;  // requests' payloads and answers
  BufferPool& work_buffers;    // read-modify-write, repair, compaction
  BufferPool& log_buffers;     // batches, footers, what is read of the log
  BufferPool& header_buffers;  // of new segments: batches that hold log memory wait for these
  ReadCache* reads = nullptr;  // what clients read lately; null: nothing is kept
};

}  // namespace clouddisk
