#include "engine/ring/buffer_pool.h"

#include <sys/mman.h>

#include <bit>
#include <cstring>
#include <new>

namespace clouddisk {

Buffer::Buffer(const Buffer& other) : pool_(other.pool_), piece_(other.piece_), data_(other.data_) {
  if (pool_ != nullptr) pool_->retain(piece_);
}

Buffer::~Buffer() {
  if (pool_ != nullptr) pool_->release(piece_);
}

Buffer Buffer::slice(std::size_t offset, std::size_t length) const {
  CHECK(offset <= data_.size() && length <= data_.size() - offset);
  Buffer part = *this;
  part.data_ = data_.subspan(offset, length);
  return part;
}

namespace {

std::span<std::byte> map_arena(std::size_t size) {
  CHECK(size > 0);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return {static_cast<std::byte*>(memory), size};
}

}  // namespace

BufferPool::BufferPool(Ring& ring, std::size_t bytes)
    : BufferPool(ring, map_arena(align_up(bytes, kLargest))) {
  owns_arena_ = true;
}

BufferPool::BufferPool(Ring& ring, std::span<std::byte> arena) : room_(ring), arena_(arena) {
  CHECK(!arena.empty() && arena.size() % kLargest == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(arena.data()) % kUnit == 0);
  units_.resize(arena.size() / kUnit);
  free_.fill(kNone);
  const auto top = static_cast<std::uint8_t>(kOrders - 1);
  for (std::size_t at = units_.size(); at > 0; at -= kLargest / kUnit) {
    push_free(static_cast<std::uint32_t>(at - kLargest / kUnit), top);
  }
}

BufferPool::~BufferPool() {
  CHECK(used_ == 0);  // A buffer that outlives its pool would point nowhere.
  if (owns_arena_) munmap(arena_.data(), arena_.size());
}

Task<Buffer> BufferPool::allocate(std::size_t size) {
  const std::uint64_t ticket = next_ticket_++;
  while (true) {
    if (ticket == serving_) {
      if (Buffer buffer = try_allocate(size)) {
        ++serving_;
        room_.wake_all();
        co_return buffer;
      }
    }
    co_await room_.wait();
  }
}

Buffer BufferPool::try_allocate(std::size_t size) {
  CHECK(size > 0 && size <= kLargest);
  const auto order = static_cast<std::uint8_t>(std::bit_width((size - 1) / kUnit));
  std::uint8_t found = order;
  while (found < kOrders && free_[found] == kNone) ++found;
  if (found == kOrders) return {};
  const std::uint32_t piece = free_[found];
  remove_free(piece, found);
  while (found > order) {  // Give the upper halves back.
    --found;
    push_free(piece + (1U << found), found);
  }
  Unit& unit = units_[piece];
  unit.order = order;
  unit.references = 1;
  used_ += kUnit << order;
  return Buffer(this, piece, arena_.subspan(piece * kUnit, size));
}

void BufferPool::lock_memory() {
  for (std::size_t at = 0; at < arena_.size(); at += kUnit) arena_[at] = std::byte{0};
  static_cast<void>(
      mlock(arena_.data(), arena_.size()));  // Best effort: RLIMIT_MEMLOCK may forbid.
}

void BufferPool::retain(std::uint32_t piece) {
  ++units_[piece].references;
}

void BufferPool::release(std::uint32_t piece) {
  CHECK(units_[piece].references > 0);
  if (--units_[piece].references > 0) return;
  std::uint8_t order = units_[piece].order;
  used_ -= kUnit << order;
  while (order + 1U < kOrders) {  // Merge with the neighbour of the same size while it is free.
    const std::uint32_t buddy = piece ^ (1U << order);
    if (!units_[buddy].free || units_[buddy].order != order) break;
    remove_free(buddy, order);
    piece = piece < buddy ? piece : buddy;
    ++order;
  }
  push_free(piece, order);
  room_.wake_all();
}

void BufferPool::push_free(std::uint32_t piece, std::uint8_t order) {
  Unit& unit = units_[piece];
  unit.free = true;
  unit.order = order;
  unit.previous = kNone;
  unit.next = free_[order];
  if (unit.next != kNone) units_[unit.next].previous = piece;
  free_[order] = piece;
}

void BufferPool::remove_free(std::uint32_t piece, std::uint8_t order) {
  Unit& unit = units_[piece];
  unit.free = false;
  (unit.previous != kNone ? units_[unit.previous].next : free_[order]) = unit.next;
  if (unit.next != kNone) units_[unit.next].previous = unit.previous;
}

}  // namespace clouddisk
