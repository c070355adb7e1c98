#include "snapshot/diff.h"

#include <algorithm>
#include <cstring>

namespace clouddisk::snapshot {
namespace {

constexpr std::uint64_t kPageBytes = kPageBlocks * kBlockSize;

Task<Result<PagePresence>> compare_pages(std::shared_ptr<SnapshotSource> a,
                                         std::shared_ptr<SnapshotSource> b, std::uint64_t page) {
  PagePresence same;
  if (!a->captured() || !b->captured()) co_return same;
  auto of_a = co_await a->chain().page(a->seq(), page);
  if (!of_a) co_return of_a.error();
  auto of_b = co_await b->chain().page(b->seq(), page);
  if (!of_b) co_return of_b.error();
  for (const auto& one : {a, b}) {
    if (auto there = one->exists(); !there) co_return there.error();
  }
  const ChainPage nothing;
  const ChainPage& left = *of_a ? **of_a : nothing;
  const ChainPage& right = *of_b ? **of_b : nothing;
  for (std::size_t i = 0; i < kPageBlocks; ++i) same[i] = left.blocks[i] == right.blocks[i];
  co_return same;
}

Task<Result<PagePresence>> compare_with_reference(std::shared_ptr<Disk> disk, Epoch reference,
                                                  std::uint64_t page) {
  PagePresence same;
  std::array<BlockEntry, kPageBlocks> now;
  if (auto found = co_await disk->present_page(page, now); !found) co_return found.error();
  if (reference.value == 0 || disk->reference() != reference) co_return same;
  auto then = co_await disk->page_pairs(std::vector(1, page), reference, reference);
  if (!then) co_return fail(Errc::kIo, "map: {}", then.error().message);
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    same[i] = now[i].location == then->front().before.entries[i].location;
  }
  co_return same;
}

}  // namespace

Diff::SameBlocks same_in_chain(std::shared_ptr<SnapshotSource> a,
                               std::shared_ptr<SnapshotSource> b) {
  return [a = std::move(a), b = std::move(b)](std::uint64_t page) {
    return compare_pages(a, b, page);
  };
}

Diff::SameBlocks same_as_reference(std::shared_ptr<Disk> disk, Epoch reference) {
  return [disk = std::move(disk), reference](std::uint64_t page) {
    return compare_with_reference(disk, reference, page);
  };
}

Task<Result<PagePresence>> Diff::changed_in(std::uint64_t page) {
  PagePresence changed;
  const std::uint64_t offset = page * kPageBytes;
  const std::uint64_t end = std::min(newer_.size_bytes(), offset + kPageBytes);
  const std::uint64_t count = blocks_for(end - offset);
  PagePresence same;
  if (same_) {
    auto known = co_await same_(page);
    if (!known) co_return known.error();
    same = *known;
  }
  const std::uint64_t older_blocks = blocks_for(older_->size_bytes());
  std::vector<std::byte> old;
  for (std::uint64_t at = 0; at < count;) {
    if (same[at]) {
      ++at;
      continue;
    }
    std::uint64_t run = 1;
    while (at + run < count && !same[at + run]) ++run;
    const std::uint64_t first = page * kPageBlocks + at;
    const std::uint64_t begin = first * kBlockSize;
    const auto bytes = static_cast<std::uint32_t>(std::min(run * kBlockSize, end - begin));
    auto data = co_await newer_.read(begin, bytes);
    if (!data) co_return data.error();
    old.assign(run * kBlockSize, std::byte{0});
    const std::uint64_t there =
        std::min(run, older_blocks > first ? older_blocks - first : std::uint64_t{0});
    if (there > 0) {
      auto read = co_await older_->read(newer_.ring(), Lba(first),
                                        std::span(old).first(there * kBlockSize));
      if (!read) co_return read.error();
    }
    for (std::uint64_t i = 0; i < run; ++i) {
      const std::size_t size = std::min<std::size_t>(kBlockSize, bytes - i * kBlockSize);
      changed[at + i] =
          std::memcmp(data->data() + i * kBlockSize, old.data() + i * kBlockSize, size) != 0;
    }
    at += run;
  }
  co_return changed;
}

Task<Result<std::vector<DiffExtent>>> Diff::extents(std::uint64_t offset, std::uint64_t length,
                                                    std::uint32_t extents_max) {
  std::vector<DiffExtent> extents;
  const std::uint64_t end = std::min(offset + length, newer_.size_bytes());
  const auto add = [&extents, extents_max](std::uint64_t bytes, bool changed) {
    if (!extents.empty() && extents.back().changed == changed) {
      extents.back().length += bytes;
    } else if (extents.size() < extents_max) {
      extents.push_back({bytes, changed});
    } else {
      return false;
    }
    return true;
  };
  const auto older = older_;
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t page = at / kPageBytes;
    // Where neither has anything, nothing differs.
    auto holes = co_await newer_.extents(at, end - at, 1);
    if (!holes) co_return holes.error();
    if (holes->front().state != ExtentState::kData) {
      auto next =
          co_await newer_.ring().blocking([&older, page] { return older->next_page(page); });
      if (!next) co_return fail(Errc::kIo, "{}", next.error().message);
      const std::uint64_t hole_end = at + holes->front().length;
      const std::uint64_t empty_end =
          std::min(hole_end, *next ? std::max(**next * kPageBytes, at) : hole_end);
      if (empty_end > at) {
        if (!add(empty_end - at, false)) co_return extents;
        at = empty_end;
        continue;
      }
    }
    auto changed = co_await changed_in(page);
    if (!changed) co_return changed.error();
    const std::uint64_t page_end = std::min(end, (page + 1) * kPageBytes);
    while (at < page_end) {
      const std::uint64_t block_end = std::min(page_end, align_down(at, kBlockSize) + kBlockSize);
      if (!add(block_end - at, (*changed)[at % kPageBytes / kBlockSize])) co_return extents;
      at = block_end;
    }
  }
  co_return extents;
}

}  // namespace clouddisk::snapshot
