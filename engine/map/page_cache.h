// page_cache.h: pages of the maps of one ring's disks, bounded in bytes, second chance (CLOCK): a
// page that was never asked for again after it came in is the first to go, so a scan does not flush
// the hot ones. Thread: one ring's.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/map/page.h"

namespace clouddisk {

struct PageKey {
  std::uint32_t map = 0;  // from PageCache::new_map()
  Epoch view;             // kCurrent, or a frozen epoch
  std::uint64_t page = 0;
  bool operator==(const PageKey&) const = default;
  static constexpr Epoch kCurrent = Epoch(~std::uint64_t{0});
};

class PageCache {
 public:
  explicit PageCache(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  std::uint32_t new_map() { return ++last_map_; }
  // Null: not here. An empty page is here as a PageRef that is null inside `found`.
  const PageRef* find(const PageKey& key);
  void put(const PageKey& key, PageRef page);
  void erase(const PageKey& key);
  void erase_map(std::uint32_t map);

  std::size_t bytes() const { return bytes_; }
  std::uint64_t hits() const { return hits_; }
  std::uint64_t misses() const { return misses_; }

 private:
  struct Hash {
    std::size_t operator()(const PageKey& key) const noexcept {
      std::uint64_t mixed = (key.page + (std::uint64_t{key.map} << 44)) * 0x9e3779b97f4a7c15ULL;
      return (mixed ^ (mixed >> 29)) + key.view.value;
    }
  };
  struct Slot {
    PageKey key;
    PageRef page;
    bool used = false;  // holds an entry
    bool asked = false;
  };
  static std::size_t cost(const PageRef& page);
  void release(std::size_t slot);
  void make_room();

  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::unordered_map<PageKey, std::size_t, Hash> index_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> free_;
  std::size_t hand_ = 0;
  std::uint32_t last_map_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
};

}  // namespace clouddisk
