// mem_table.h: changes of a map since some moment, of one epoch, newest wins.
// Not thread-safe while it changes; once frozen, any thread may read it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/map/page.h"

namespace clouddisk {

class MemTable {
 public:
  void put(Lba first, std::span<const BlockEntry> entries);
  // Whole pages are kept as one interval however long, the ragged ends block by block.
  void put_range(Lba first, std::uint64_t count, BlockLocation location);

  // What the table knows of blocks [index, index + out.size()) of a page; sets bits in `known` (one
  // a block, those set already are left alone) and counts the blocks still unknown.
  std::size_t fill(std::uint64_t page, std::size_t index, std::span<BlockEntry> out,
                   std::span<bool> known) const;
  // Writes what it knows of a page over `page`.
  void apply_to(std::uint64_t number, Page& page) const;

  bool empty() const { return pages_.empty() && cleared_.empty(); }
  std::size_t page_count() const { return pages_.size(); }
  std::size_t memory_bytes() const;

  // Pages with single blocks, ascending, and intervals of whole pages [first, last).
  const std::set<std::uint64_t>& touched() const { return order_; }
  struct Cleared {
    std::uint64_t last = 0;
    BlockLocation location;
  };
  const std::map<std::uint64_t, Cleared>& cleared() const { return cleared_; }
  // The first page >= `page` of which it knows anything but holes.
  std::optional<std::uint64_t> next_page(std::uint64_t page) const;

 private:
  // The blocks known, packed: entry k belongs to the k-th set bit.
  struct Sparse {
    std::array<std::uint64_t, kPageBlocks / 64> known{};
    std::vector<BlockEntry> entries;

    bool has(std::size_t index) const { return (known[index / 64] >> (index % 64) & 1U) != 0; }
    std::size_t rank(std::size_t index) const;
    void set(std::size_t index, const BlockEntry& entry);
  };
  Sparse& page(std::uint64_t number);
  void clear_pages(std::uint64_t first, std::uint64_t last, BlockLocation location);
  const Cleared* cleared_at(std::uint64_t page) const;

  std::unordered_map<std::uint64_t, Sparse> pages_;  // over cleared_
  std::set<std::uint64_t> order_;                    // keys of pages_
  std::map<std::uint64_t, Cleared> cleared_;         // by first page; disjoint
  std::size_t entries_ = 0;
};

}  // namespace clouddisk
