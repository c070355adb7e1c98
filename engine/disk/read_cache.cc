#include "engine/disk/read_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

constexpr std::size_t kSmallest = 1_MiB;
constexpr std::uint8_t kUsesMax = 3;

// One thread writes, so no read-modify-write is needed.
void add(std::atomic<std::uint64_t>& counter, std::uint64_t count) {
  counter.store(counter.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
}

std::uint32_t print_of(std::uint64_t hash) {
  return static_cast<std::uint32_t>(hash >> 32) | 1U;  // 0: an empty place
}

}  // namespace

ReadCache::ReadCache(std::size_t bytes_max) {
  if (bytes_max < kSmallest) return;
  // A slot, and up to two buckets and four departed for each.
  constexpr std::size_t kEach =
      kBlockSize + sizeof(Slot) + 2 * sizeof(std::uint32_t) + sizeof(DepartedSet);
  const std::size_t count = bytes_max / kEach;
  void* memory = ::mmap(nullptr, count * kBlockSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;  // Slower without, no worse.
  memory_ = std::span(static_cast<std::byte*>(memory), count * kBlockSize);
  slots_.resize(count);
  buckets_.assign(std::bit_ceil(count), kNone);
  departed_.resize(std::bit_ceil(count) / 2);
  probation_max_ = static_cast<std::uint32_t>(count / 10);
}

ReadCache::~ReadCache() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

std::uint64_t ReadCache::hash(std::uint32_t disk, std::uint64_t place) {
  std::uint64_t mixed = (place ^ (std::uint64_t{disk} << 40)) * 0x9e3779b97f4a7c15ULL;
  mixed ^= mixed >> 32;
  mixed *= 0xd6e8feb86659fd93ULL;
  return mixed ^ (mixed >> 32);
}

std::span<std::byte> ReadCache::block_of(std::uint32_t slot) const {
  return memory_.subspan(std::size_t{slot} * kBlockSize, kBlockSize);
}

std::uint32_t ReadCache::find(std::uint32_t disk, std::uint64_t place, std::uint64_t hash) const {
  std::uint32_t slot = buckets_[hash & (buckets_.size() - 1)];
  while (slot != kNone && (slots_[slot].place != place || slots_[slot].disk != disk)) {
    slot = slots_[slot].chain;
  }
  return slot;
}

bool ReadCache::get(std::uint32_t disk, const BlockEntry& entry, std::span<std::byte> out) {
  if (slots_.empty()) return false;
  const std::uint64_t place = entry.location.bits();
  const std::uint32_t slot = find(disk, place, hash(disk, place));
  if (slot != kNone) {
    std::memcpy(out.data(), block_of(slot).data(), kBlockSize);
    if (checksum64(out) == entry.checksum) {
      if (slots_[slot].uses < kUsesMax) ++slots_[slot].uses;
      add(hits_, 1);
      return true;
    }
  }
  add(misses_, 1);
  return false;
}

void ReadCache::put(std::uint32_t disk, const BlockEntry& entry, std::span<const std::byte> block) {
  if (slots_.empty()) return;
  CHECK(block.size() == kBlockSize);
  const std::uint64_t place = entry.location.bits();
  const std::uint64_t key = hash(disk, place);
  std::uint32_t slot = find(disk, place, key);
  if (slot == kNone) {
    slot = take_slot();
    Slot& taken = slots_[slot];
    std::uint32_t& bucket = buckets_[key & (buckets_.size() - 1)];
    taken = Slot{place, disk, bucket, kNone, 0};
    bucket = slot;
    push(left_lately(key) ? proven_ : probation_, slot);
  }
  // One that is here already was damaged in memory, or read twice at once: the newest is verified.
  std::memcpy(block_of(slot).data(), block.data(), kBlockSize);
}

std::uint32_t ReadCache::take_slot() {
  if (used_ < slots_.size()) {
    add(bytes_, kBlockSize);
    return used_++;
  }
  return evict();
}

std::uint32_t ReadCache::evict() {
  while (true) {
    if (probation_.count > probation_max_ || proven_.count == 0) {
      const std::uint32_t slot = pop(probation_);
      if (slots_[slot].uses > 0) {
        slots_[slot].uses = 0;
        push(proven_, slot);
        continue;
      }
      note_departure(hash(slots_[slot].disk, slots_[slot].place));
      leave_index(slot);
      return slot;
    }
    const std::uint32_t slot = pop(proven_);
    if (slots_[slot].uses > 0) {
      --slots_[slot].uses;
      push(proven_, slot);
      continue;
    }
    leave_index(slot);
    return slot;
  }
}

void ReadCache::leave_index(std::uint32_t slot) {
  const std::uint64_t key = hash(slots_[slot].disk, slots_[slot].place);
  std::uint32_t* link = &buckets_[key & (buckets_.size() - 1)];
  while (*link != slot) link = &slots_[*link].chain;
  *link = slots_[slot].chain;
}

void ReadCache::push(Queue& queue, std::uint32_t slot) {
  slots_[slot].next = kNone;
  if (queue.last == kNone) {
    queue.first = slot;
  } else {
    slots_[queue.last].next = slot;
  }
  queue.last = slot;
  ++queue.count;
}

std::uint32_t ReadCache::pop(Queue& queue) {
  CHECK(queue.first != kNone);
  const std::uint32_t slot = queue.first;
  queue.first = slots_[slot].next;
  if (queue.first == kNone) queue.last = kNone;
  --queue.count;
  return slot;
}

// A departed block is remembered for as many departures as the cache has slots: about as long as a
// stay would have been.
bool ReadCache::left_lately(std::uint64_t hash) const {
  const DepartedSet& set = departed_[hash & (departed_.size() - 1)];
  return std::any_of(set.begin(), set.end(), [&](const Departed& one) {
    return one.print == print_of(hash) && departures_ - one.when <= slots_.size();
  });
}

void ReadCache::note_departure(std::uint64_t hash) {
  DepartedSet& set = departed_[hash & (departed_.size() - 1)];
  const auto age = [this](const Departed& one) {
    return one.print == 0 ? kNone : departures_ - one.when;
  };
  Departed& oldest =
      *std::max_element(set.begin(), set.end(),
                        [&age](const Departed& a, const Departed& b) { return age(a) < age(b); });
  oldest = {print_of(hash), departures_++};
}

ReadCache::Counters ReadCache::counters() const {
  return {hits_.load(std::memory_order_relaxed), misses_.load(std::memory_order_relaxed),
          bytes_.load(std::memory_order_relaxed)};
}

}  // namespace clouddisk
