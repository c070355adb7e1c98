#include "engine/map/page_cache.h"

namespace clouddisk {
namespace {

constexpr std::size_t kSlotOverhead = 128;  // slot, index node, control block

}  // namespace

std::size_t PageCache::cost(const PageRef& page) {
  return kSlotOverhead + (page ? sizeof(Page) : 0);
}

const PageRef* PageCache::find(const PageKey& key) {
  const auto it = index_.find(key);
  if (it == index_.end()) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  slots_[it->second].asked = true;
  return &slots_[it->second].page;
}

void PageCache::put(const PageKey& key, PageRef page) {
  erase(key);
  bytes_ += cost(page);
  make_room();
  std::size_t slot = slots_.size();
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else {
    slots_.emplace_back();
  }
  slots_[slot] = Slot{key, std::move(page), true, false};
  index_[key] = slot;
}

void PageCache::erase(const PageKey& key) {
  if (const auto it = index_.find(key); it != index_.end()) release(it->second);
}

void PageCache::erase_map(std::uint32_t map) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].used && slots_[i].key.map == map) release(i);
  }
}

void PageCache::release(std::size_t slot) {
  index_.erase(slots_[slot].key);
  bytes_ -= cost(slots_[slot].page);
  slots_[slot] = Slot{};
  free_.push_back(slot);
}

void PageCache::make_room() {
  while (bytes_ > bytes_max_ && !index_.empty()) {
    hand_ = (hand_ + 1) % slots_.size();
    Slot& slot = slots_[hand_];
    if (!slot.used) continue;
    if (slot.asked) {
      slot.asked = false;
    } else {
      release(hand_);
    }
  }
}

}  // namespace clouddisk
