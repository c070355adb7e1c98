#include "snapshot/frame_cache.h"

namespace clouddisk::snapshot {

FrameData FrameCache::find(PackAddress address) {
  const auto it = by_address_.find(address);
  if (it == by_address_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, it->second);
  return it->second->data;
}

void FrameCache::put(PackAddress address, FrameData data) {
  erase(address);
  bytes_ += data->size();
  entries_.push_front({address, std::move(data)});
  by_address_[address] = entries_.begin();
  while (bytes_ > bytes_max_) {
    const PackAddress oldest = entries_.back().address;
    erase(oldest);
  }
}

void FrameCache::erase(PackAddress address) {
  const auto it = by_address_.find(address);
  if (it == by_address_.end()) return;
  bytes_ -= it->second->data->size();
  entries_.erase(it->second);
  by_address_.erase(it);
}

void FrameCache::clear() {
  entries_.clear();
  by_address_.clear();
  bytes_ = 0;
}

}  // namespace clouddisk::snapshot
