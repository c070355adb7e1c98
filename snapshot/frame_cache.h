// frame_cache.h: frames that were read and unpacked, bounded, the one asked for longest ago goes
// first. Thread: one ring's.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "snapshot/frame.h"

namespace clouddisk::snapshot {

using FrameData = std::shared_ptr<const std::vector<std::byte>>;  // raw blocks

class FrameCache {
 public:
  explicit FrameCache(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  FrameData find(PackAddress address);  // null: not here
  void put(PackAddress address, FrameData data);
  void erase(PackAddress address);
  void clear();
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    PackAddress address;
    FrameData data;
  };
  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  // most recently asked for first
  std::unordered_map<PackAddress, std::list<Entry>::iterator> by_address_;
};

}  // namespace clouddisk::snapshot
