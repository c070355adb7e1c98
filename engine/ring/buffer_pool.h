// buffer_pool.h: 4 KiB-aligned memory for I/O, with a bound.
//
// One arena per pool, handed out by the buddy system in sizes from 4 KiB to 2 MiB. A full pool
// makes callers wait their turn: back-pressure, never growth. The arena's pages are touched at once
// when `locked`, so that serving the kernel's own block device never waits for memory. Thread: one
// ring's. Ownership: a Buffer is counted; copies share the memory; all die before the pool.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/ring/sync.h"

namespace clouddisk {

class BufferPool;

// A counted piece of a pool's arena, or a part of such a piece.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer& other);
  Buffer(Buffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        piece_(other.piece_),
        data_(std::exchange(other.data_, {})) {}
  Buffer& operator=(Buffer other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(piece_, other.piece_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer();

  std::byte* data() const { return data_.data(); }
  std::size_t size() const { return data_.size(); }
  std::span<std::byte> span() const { return data_; }
  explicit operator bool() const { return pool_ != nullptr; }
  // A part that shares the memory and keeps it alive.
  Buffer slice(std::size_t offset, std::size_t length) const;

 private:
  friend class BufferPool;
  Buffer(BufferPool* pool, std::uint32_t piece, std::span<std::byte> data)
      : pool_(pool), piece_(piece), data_(data) {}

  BufferPool* pool_ = nullptr;
  std::uint32_t piece_ = 0;  // first 4 KiB unit of the piece
  std::span<std::byte> data_;
};

class BufferPool {
 public:
  static constexpr std::size_t kUnit = kBlockSize;
  static constexpr std::size_t kLargest = 2_MiB;

  // `bytes` is rounded up to a multiple of kLargest.
  BufferPool(Ring& ring, std::size_t bytes);
  // In memory of the caller's that outlives it: aligned to kUnit, a multiple of kLargest.
  BufferPool(Ring& ring, std::span<std::byte> arena);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // `size` in [1, kLargest]; the buffer has exactly that size, its memory is aligned to 4 KiB and
  // holds whatever was there. Waits while the pool is full.
  Task<Buffer> allocate(std::size_t size);
  // Without waiting; an empty Buffer when there is no room.
  Buffer try_allocate(std::size_t size);
  // Somebody waits for room: who is fair does not take any before them.
  bool awaited() const { return next_ticket_ != serving_; }

  std::span<std::byte> arena() const { return arena_; }
  std::size_t used_bytes() const { return used_; }
  std::size_t capacity_bytes() const { return arena_.size(); }
  // Touches every page now and keeps it in memory where the process may (mlock).
  void lock_memory();

 private:
  friend class Buffer;
  static constexpr std::size_t kOrders = 10;  // 4 KiB << 9 = 2 MiB
  static_assert(kUnit << (kOrders - 1) == kLargest);

  void retain(std::uint32_t piece);
  void release(std::uint32_t piece);
  void push_free(std::uint32_t piece, std::uint8_t order);
  void remove_free(std::uint32_t piece, std::uint8_t order);

  struct Unit {
    std::uint32_t references = 0;  // of the piece that starts here
    std::uint8_t order = 0;
    bool free = false;  // a free piece starts here
    std::uint32_t next = kNone;
    std::uint32_t previous = kNone;
  };
  static constexpr std::uint32_t kNone = 0xffffffff;

  Signal room_;
  std::span<std::byte> arena_;
  bool owns_arena_ = false;
  std::vector<Unit> units_;
  std::array<std::uint32_t, kOrders> free_{};
  std::size_t used_ = 0;
  std::uint64_t next_ticket_ = 0;
  std::uint64_t serving_ = 0;
};

}  // namespace clouddisk
