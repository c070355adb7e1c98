#include "engine/map/mem_table.h"

#include <algorithm>
#include <bit>

#include "engine/base/check.h"

namespace clouddisk {
namespace {

// What a page costs beside its entries: hash node, set node, bitmap, vector.
constexpr std::size_t kPageOverhead = 160;

}  // namespace

std::size_t MemTable::Sparse::rank(std::size_t index) const {
  std::size_t before = 0;
  for (std::size_t word = 0; word < index / 64; ++word) {
    before += static_cast<std::size_t>(std::popcount(known[word]));
  }
  const std::uint64_t below = (std::uint64_t{1} << (index % 64)) - 1;
  return before + static_cast<std::size_t>(std::popcount(known[index / 64] & below));
}

void MemTable::Sparse::set(std::size_t index, const BlockEntry& entry) {
  const std::size_t at = rank(index);
  if (has(index)) {
    entries[at] = entry;
    return;
  }
  known[index / 64] |= std::uint64_t{1} << (index % 64);
  entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(at), entry);
}

MemTable::Sparse& MemTable::page(std::uint64_t number) {
  const auto [it, added] = pages_.try_emplace(number);
  if (added) order_.insert(number);
  return it->second;
}

void MemTable::put(Lba first, std::span<const BlockEntry> entries) {
  std::size_t done = 0;
  while (done < entries.size()) {
    const Lba lba(first.value + done);
    const std::size_t index = index_in_page(lba);
    const std::size_t count = std::min<std::size_t>(kPageBlocks - index, entries.size() - done);
    Sparse& sparse = page(page_of(lba));
    const std::size_t before = sparse.entries.size();
    if (before == 0) sparse.entries.reserve(count);
    for (std::size_t i = 0; i < count; ++i) sparse.set(index + i, entries[done + i]);
    entries_ += sparse.entries.size() - before;
    done += count;
  }
}

void MemTable::put_range(Lba first, std::uint64_t count, BlockLocation location) {
  CHECK(!location.is_stored());
  const std::uint64_t last = first.value + count;
  const std::uint64_t first_whole = (first.value + kPageBlocks - 1) / kPageBlocks;
  const std::uint64_t last_whole = last / kPageBlocks;
  const BlockEntry entry{location, 0};
  if (first_whole >= last_whole) {
    for (std::uint64_t lba = first.value; lba < last; ++lba) put(Lba(lba), std::span(&entry, 1));
    return;
  }
  for (std::uint64_t lba = first.value; lba < first_whole * kPageBlocks; ++lba) {
    put(Lba(lba), std::span(&entry, 1));
  }
  clear_pages(first_whole, last_whole, location);
  for (std::uint64_t lba = last_whole * kPageBlocks; lba < last; ++lba) {
    put(Lba(lba), std::span(&entry, 1));
  }
}

void MemTable::clear_pages(std::uint64_t first, std::uint64_t last, BlockLocation location) {
  for (auto it = order_.lower_bound(first); it != order_.end() && *it < last;
       it = order_.erase(it)) {
    const auto page = pages_.find(*it);
    entries_ -= page->second.entries.size();
    pages_.erase(page);
  }
  // Cut what overlaps, then put the new interval in its place.
  auto it = cleared_.upper_bound(first);
  if (it != cleared_.begin() && std::prev(it)->second.last > first) --it;
  while (it != cleared_.end() && it->first < last) {
    const std::uint64_t old_first = it->first;
    const Cleared old = it->second;
    it = cleared_.erase(it);
    if (old_first < first) cleared_[old_first] = Cleared{first, old.location};
    if (old.last > last) cleared_[last] = old;
  }
  cleared_[first] = Cleared{last, location};
}

const MemTable::Cleared* MemTable::cleared_at(std::uint64_t page) const {
  auto it = cleared_.upper_bound(page);
  if (it == cleared_.begin()) return nullptr;
  --it;
  return it->second.last > page ? &it->second : nullptr;
}

std::size_t MemTable::fill(std::uint64_t number, std::size_t index, std::span<BlockEntry> out,
                           std::span<bool> known) const {
  std::size_t unknown = 0;
  const auto it = pages_.find(number);
  const Cleared* cleared = cleared_.empty() ? nullptr : cleared_at(number);
  std::size_t rank = it == pages_.end() ? 0 : it->second.rank(index);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool here = it != pages_.end() && it->second.has(index + i);
    if (!known[i]) {
      if (here) {
        out[i] = it->second.entries[rank];
        known[i] = true;
      } else if (cleared != nullptr) {
        out[i] = BlockEntry{cleared->location, 0};
        known[i] = true;
      } else {
        ++unknown;
      }
    }
    if (here) ++rank;
  }
  return unknown;
}

void MemTable::apply_to(std::uint64_t number, Page& page) const {
  if (const Cleared* cleared = cleared_at(number)) {
    page.entries.fill(BlockEntry{cleared->location, 0});
  }
  const auto it = pages_.find(number);
  if (it == pages_.end()) return;
  std::size_t rank = 0;
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    if (it->second.has(i)) page.entries[i] = it->second.entries[rank++];
  }
}

std::size_t MemTable::memory_bytes() const {
  return pages_.size() * kPageOverhead + entries_ * sizeof(BlockEntry) + cleared_.size() * 64;
}

std::optional<std::uint64_t> MemTable::next_page(std::uint64_t page) const {
  std::optional<std::uint64_t> found;
  if (const auto it = order_.lower_bound(page); it != order_.end()) found = *it;
  auto it = cleared_.upper_bound(page);
  if (it != cleared_.begin() && std::prev(it)->second.last > page) --it;
  for (; it != cleared_.end(); ++it) {
    const std::uint64_t first = std::max(page, it->first);
    if (found && first >= *found) break;
    if (it->second.location.kind() == BlockKind::kZero) return first;
  }
  return found;
}

}  // namespace clouddisk
