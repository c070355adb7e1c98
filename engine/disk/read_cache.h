// read_cache.h: verified blocks of one ring's disks that were read a short while ago, bounded.
//
// A block is known by its place in the log, where it never changes: overwriting an LBA gives it
// another place, so nothing is ever invalidated, and what is not asked for any more ages out. What
// comes out is checked against the map's checksum once more (I4): the cache may miss, never lie.
//
// Replacement is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP'23):
// a new block enters a short queue of a tenth of the room, and leaves by it unless it was asked for
// again meanwhile, so a scan passes through the tenth; blocks that were asked for again, or come
// back soon after they left, live in the long queue.
//
// Thread: one ring's; the counters may be read from anywhere. Memory of blocks is taken as they
// come.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/map/block_location.h"

namespace clouddisk {

class ReadCache {
 public:
  struct Counters {
    std::uint64_t hits = 0;    // blocks
    std::uint64_t misses = 0;  // blocks
    std::uint64_t bytes = 0;   // held now
  };

  // Below 1 MiB: nothing is kept.
  explicit ReadCache(std::size_t bytes_max);
  ~ReadCache();
  ReadCache(const ReadCache&) = delete;
  ReadCache& operator=(const ReadCache&) = delete;

  // An open disk's own number; its places mean nothing under another.
  std::uint32_t new_disk() { return ++last_disk_; }

  // `entry` is a stored block, `out` has its size. False: not here, and `out` may hold anything.
  bool get(std::uint32_t disk, const BlockEntry& entry, std::span<std::byte> out);
  // `block` was verified against `entry`.
  void put(std::uint32_t disk, const BlockEntry& entry, std::span<const std::byte> block);

  Counters counters() const;

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  struct Slot {
    std::uint64_t place = 0;      // BlockLocation::bits()
    std::uint32_t disk = 0;       // 0: empty
    std::uint32_t chain = kNone;  // next with the same bucket
    std::uint32_t next = kNone;   // behind it in its queue
    std::uint8_t uses = 0;        // since it came in, or came round
  };
  struct Queue {
    std::uint32_t first = kNone;
    std::uint32_t last = kNone;
    std::uint32_t count = 0;
  };
  struct Departed {
    std::uint32_t print = 0;  // 0: none
    std::uint32_t when = 0;   // departures before it
  };
  using DepartedSet = std::array<Departed, 4>;  // those whose hashes end alike

  static std::uint64_t hash(std::uint32_t disk, std::uint64_t place);
  std::span<std::byte> block_of(std::uint32_t slot) const;
  std::uint32_t find(std::uint32_t disk, std::uint64_t place, std::uint64_t hash) const;
  std::uint32_t take_slot();
  std::uint32_t evict();
  void leave_index(std::uint32_t slot);
  void push(Queue& queue, std::uint32_t slot);
  std::uint32_t pop(Queue& queue);
  bool left_lately(std::uint64_t hash) const;
  void note_departure(std::uint64_t hash);

  std::span<std::byte> memory_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> buckets_;
  std::vector<DepartedSet> departed_;
  Queue probation_;
  Queue proven_;
  std::uint32_t probation_max_ = 0;
  std::uint32_t used_ = 0;  // slots that were ever used
  std::uint32_t departures_ = 0;
  std::uint32_t last_disk_ = 0;
  std::atomic<std::uint64_t> hits_{0};
  std::atomic<std::uint64_t> misses_{0};
  std::atomic<std::uint64_t> bytes_{0};
};

}  // namespace clouddisk
