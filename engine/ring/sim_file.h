// sim_file.h: the content of one simulated file: what a reader sees, and what the medium holds.
//
// The cache in front of the medium is volatile and works in sectors of 512 bytes. A write changes
// what a reader sees; the medium follows when a sync succeeds, or by itself at any time before:
//
//   clean --write--> dirty --sync ok--> clean
//                      \---sync fails--> clean, or stale: readable, but never to reach the medium
//   power_loss(): a dirty sector is as written or as the medium has it (seeded), a stale one is as
//   the medium has it, and so is the size, between the last synced one and the current one.
//
// Thread: the simulation's. Memory is taken in chunks of 64 KiB (sim_chunks.h), for what was
// written.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "engine/base/random.h"
#include "engine/base/units.h"
#include "engine/ring/sim_chunks.h"

namespace clouddisk {

class SimFile {
 public:
  static constexpr std::uint64_t kSector = 512;
  static constexpr std::uint64_t kChunk = kSimChunk;

  // No power will be lost and no sync fail, so that nobody asks what the medium holds: everything
  // is durable at once, for half of the copying.
  void forget_medium() { has_medium_ = false; }

  std::uint64_t size() const { return size_; }
  // Bytes of 4 KiB blocks that are reserved, by writes or ahead of them.
  std::uint64_t allocated_bytes() const { return allocated_; }
  // What reserve() would add to allocated_bytes().
  std::uint64_t missing_bytes(std::uint64_t offset, std::uint64_t length) const;
  void reserve(std::uint64_t offset, std::uint64_t length);
  void grow(std::uint64_t size);

  // Bytes read: fewer than asked for at the end of the file.
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const;
  void write(std::uint64_t offset, std::span<const std::byte> data, Random& random);
  // A torn write: any subset of its sectors.
  void write_some(std::uint64_t offset, std::span<const std::byte> data, Random& random);

  // A sync covers what was written before begin_sync(); it takes effect, or fails, at the end.
  struct Sync {
    std::uint64_t stamp = 0;
    std::uint64_t size = 0;
  };
  Sync begin_sync();
  void finish_sync(const Sync& sync);
  void fail_sync(const Sync& sync, Random& random);
  void abandon_sync() { --syncs_; }
  bool has_unsynced() const {
    return has_medium_ && (!dirty_chunks_.empty() || durable_size_ != size_);
  }

  // As a reader sees it, all of it durable.
  SimFile copy() const;
  // A dirty sector survives with `percent` in 100.
  void power_loss(Random& random, std::uint64_t percent);
  // Rot: turns a bit on the medium and in what a reader sees. Nothing happens past the end.
  void flip_bit(std::uint64_t offset, unsigned bit);

 private:
  static constexpr std::size_t kSectors = kChunk / kSector;
  struct Shadow {                 // of a chunk with unsynced sectors
    SimChunk medium;              // what the medium holds of these; none as long as all are blank
    std::bitset<kSectors> blank;  // zeros on the medium, whatever is in `medium`
    std::bitset<kSectors> dirty;
    std::bitset<kSectors> stale;
    std::array<std::uint64_t, kSectors> stamps{};
    std::uint64_t latest = 0;  // of the stamps
  };
  struct Chunk {
    SimChunk data = take_chunk();
    std::bitset<kSectors> written;  // the others are zeros, whatever is in `data`
    std::unique_ptr<Shadow> shadow;
  };

  void write_piece(std::uint64_t offset, std::span<const std::byte> data, Random& random);
  void make_range_dirty(std::uint64_t index, Chunk& chunk, std::size_t first, std::size_t last,
                        Random& random);
  void make_dirty(std::uint64_t index, Chunk& chunk, std::size_t sector, Random& random);
  Shadow& shadow_of(std::uint64_t index, Chunk& chunk);
  static void read_chunk(const Chunk& chunk, std::size_t within, std::span<std::byte> into);
  static void blank_if_unwritten(Chunk& chunk, std::size_t sector);
  static void to_medium(Chunk& chunk, std::size_t first, std::size_t last);
  static void from_medium(Chunk& chunk, std::size_t sector);
  void drop_shadow_if_clean(std::uint64_t index, Chunk& chunk);
  void truncate_to(std::uint64_t size);

  bool has_medium_ = true;
  std::uint64_t size_ = 0;
  std::uint64_t durable_size_ = 0;
  std::uint64_t allocated_ = 0;
  std::map<std::uint64_t, std::uint64_t> reserved_;  // begin -> end, apart from each other
  std::map<std::uint64_t, Chunk> chunks_;            // by index
  std::set<std::uint64_t> dirty_chunks_;             // those with a shadow
  std::uint64_t stamp_ = 1;                          // of writes since the latest begin_sync()
  std::uint64_t syncs_ = 0;                          // under way
};

}  // namespace clouddisk
