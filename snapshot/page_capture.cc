#include "snapshot/page_capture.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "engine/base/log.h"
#include "engine/base/variant.h"

namespace clouddisk::snapshot {
namespace {

// What is read at a time for pages of which much changed.
constexpr std::size_t kBlocksAtOnce = 2 * kPageBlocks;

const ChainPage kNothing;

bool all_zero(const std::byte* block) {
  return block[0] == std::byte{0} && std::memcmp(block, block + 1, kBlockSize - 1) == 0;
}

bool is_hole(BlockKind kind) {
  return kind == BlockKind::kTrimmed || kind == BlockKind::kZero;
}

}  // namespace

// A page in work.
struct PageCapture::Work {
  bool reads(std::size_t i) const {
    return fates[i] == Fate::kCompare || fates[i] == Fate::kChanged;
  }
  bool may_be_same(std::size_t i) const {
    return fates[i] == Fate::kCompare && !before().blocks[i].is_hole();
  }
  std::size_t blocks_to_read() const {
    std::size_t blocks = 0;
    for (std::size_t i = 0; i < kPageBlocks; ++i) blocks += reads(i) ? 1 : 0;
    return blocks;
  }
  const ChainPage& before() const { return parent ? *parent : kNothing; }
  const ChainPage& seen() const { return newest ? *newest : kNothing; }

  Fates fates;
  ChainPageRef parent;
  ChainPageRef newest;  // what this snapshot would see if nothing were stored for it
  Chain::ChangedPage changed;
  std::unique_ptr<std::byte[]> data;  // of the blocks that changed
  Result<void> outcome;
};

Task<Result<std::vector<std::uint64_t>>> PageCapture::pages() {
  std::vector<std::uint64_t> pages;  // 8 bytes for a MiB of disk
  const std::uint64_t end = (blocks_for(spec_.size_bytes) + kPageBlocks - 1) / kPageBlocks;
  if (by_place()) {
    auto changed = co_await disk_.changed_pages(spec_.reference, spec_.view);
    if (!changed) co_return changed.error();
    pages = std::move(*changed);
  } else {
    // Whatever the disk has, borrows, or the parent had.
    std::uint64_t at = 0;
    while (at < end) {
      auto next = co_await disk_.next_page_anywhere(at, spec_.base_is_parent);
      if (!next) co_return next.error();
      if (*next >= end) break;
      pages.push_back(*next);
      at = *next + 1;
    }
    auto known = co_await chain_.pages_between(0, spec_.parent);
    if (!known) co_return known.error();
    pages.insert(pages.end(), known->begin(), known->end());
  }
  // After a rollback there are versions in between, of snapshots or of what is left of deleted
  // ones, that this one must not see.
  auto skipped = co_await chain_.pages_between(spec_.parent, spec_.seq - 1);
  if (!skipped) co_return skipped.error();
  pages.insert(pages.end(), skipped->begin(), skipped->end());
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  pages.erase(std::lower_bound(pages.begin(), pages.end(), end), pages.end());
  co_return pages;
}

Task<Result<void>> PageCapture::fates_by_place(std::vector<Work>& works,
                                               const std::vector<std::uint64_t>& numbers) {
  auto pairs = co_await disk_.page_pairs(numbers, spec_.reference, spec_.view);
  if (!pairs) co_return fail(Errc::kIo, "map: {}", pairs.error().message);
  const bool over_base = disk_.has_base();
  for (std::size_t n = 0; n < works.size(); ++n) {
    Fates& fates = works[n].fates;
    const std::uint64_t count = blocks_of(numbers[n]);
    for (std::size_t i = 0; i < count; ++i) {
      const BlockEntry& before = (*pairs)[n].before.entries[i];
      const BlockEntry& after = (*pairs)[n].after.entries[i];
      if (before.location == after.location) {
        fates[i] = Fate::kSame;
      } else if (broken(Variant::kCaptureMissesTrims) && is_hole(after.location.kind())) {
        fates[i] = Fate::kSame;
      } else if (is_hole(after.location.kind()) ||
                 (after.location.kind() == BlockKind::kUnmapped && !over_base)) {
        fates[i] = Fate::kHole;
      } else if (before.location.is_stored() && after.location.is_stored() &&
                 before.checksum != after.checksum) {
        fates[i] = Fate::kChanged;
      } else {
        fates[i] = Fate::kCompare;
      }
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> PageCapture::fates_by_content(Work& work) {
  std::array<BlockEntry, kPageBlocks> storage;
  const auto entries = std::span(storage).first(blocks_of(work.changed.page));
  auto found = co_await disk_.view_page(spec_.view, work.changed.page, entries);
  if (!found) co_return found;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const BlockKind kind = entries[i].location.kind();
    if (kind == BlockKind::kStored) {
      work.fates[i] = Fate::kCompare;
    } else if (kind == BlockKind::kUnmapped && disk_.has_base()) {
      work.fates[i] = spec_.base_is_parent ? Fate::kSame : Fate::kCompare;
    }
  }
  co_return found;
}

Task<Result<void>> PageCapture::look_up(std::vector<Work>& works,
                                        const std::vector<std::uint64_t>& numbers) {
  for (std::size_t n = 0; n < works.size(); ++n) {
    works[n].fates.fill(Fate::kHole);
    works[n].changed.page = numbers[n];
    works[n].changed.parent = spec_.parent;
  }
  if (by_place()) {
    if (auto found = co_await fates_by_place(works, numbers); !found) co_return found;
  } else {
    for (Work& work : works) {
      if (auto found = co_await fates_by_content(work); !found) co_return found;
    }
  }
  if (spec_.parent != 0) {
    auto parents = co_await chain_.pages(spec_.parent, numbers);
    if (!parents) co_return parents.error();
    for (std::size_t n = 0; n < works.size(); ++n) works[n].parent = (*parents)[n];
  }
  if (spec_.seq - 1 == spec_.parent) {
    for (Work& work : works) work.newest = work.parent;
  } else {
    auto newest = co_await chain_.pages(spec_.seq - 1, numbers);
    if (!newest) co_return newest.error();
    for (std::size_t n = 0; n < works.size(); ++n) works[n].newest = (*newest)[n];
  }
  for (Work& work : works) {
    for (std::size_t i = 0; i < kPageBlocks; ++i) {
      work.changed.unchanged[i] =
          work.fates[i] != Fate::kHole && !work.before().blocks[i].is_hole();
    }
  }
  co_return Result<void>{};
}

// Of a run of blocks, what the parent has where that may be the same. What can't be read any more
// on any replica is stored anew: an older snapshot's loss must not become the loss of the next.
Task<Result<PageCapture::Old>> PageCapture::read_old(const Work& work, std::size_t begin,
                                                     std::size_t count) {
  Old old;
  for (std::size_t i = begin; i < begin + count; ++i) old.readable[i] = work.may_be_same(i);
  if (old.readable.none()) co_return old;
  old.bytes.resize(count * kBlockSize);
  const Lba first(work.changed.page * kPageBlocks + begin);
  auto whole = co_await chain_.read(spec_.parent, first, old.bytes);
  if (whole) co_return old;
  if (whole.error().code != Errc::kIo) co_return whole.error();
  log(LogLevel::kError, "capture", "chain={} snapshot={} page {}: stored anew in snapshot {}: {}",
      chain_.id(), spec_.parent, work.changed.page, spec_.seq, whole.error().message);
  std::set<PackAddress> lost;
  for (std::size_t i = 0; i < count; ++i) {
    if (!old.readable[begin + i]) continue;
    const PackAddress frame = work.before().blocks[begin + i].frame();
    if (lost.count(frame) != 0) {
      old.readable.reset(begin + i);
      continue;
    }
    const std::span<std::byte> into(old.bytes.data() + i * kBlockSize, kBlockSize);
    auto read = co_await chain_.read(spec_.parent, Lba(first.value + i), into);
    if (!read && read.error().code != Errc::kIo) co_return read.error();
    if (read) continue;
    old.readable.reset(begin + i);
    lost.insert(frame);
  }
  co_return old;
}

// Reads a run of blocks that may have changed, and keeps those that did.
Task<Result<void>> PageCapture::read_run(Work& work, std::size_t begin, std::size_t count) {
  Chain::ChangedPage& changed = work.changed;
  std::byte* kept = work.data.get() + changed.changed.size() * kBlockSize;
  const std::span<std::byte> fresh(kept, count * kBlockSize);
  const Lba first(changed.page * kPageBlocks + begin);
  auto fetched = co_await disk_.read_view(spec_.view, first, fresh, disk_.buffers());
  if (!fetched) co_return fetched;
  bytes_read_ += fresh.size();
  auto old = co_await read_old(work, begin, count);
  if (!old) co_return old.error();
  for (std::size_t i = begin; i < begin + count; ++i) {
    const std::size_t at = (i - begin) * kBlockSize;
    const std::byte* block = fresh.data() + at;
    if (all_zero(block)) {
      changed.unchanged.reset(i);
      continue;
    }
    const bool compares = old->readable[i];
    if (compares && std::memcmp(block, old->bytes.data() + at, kBlockSize) == 0) continue;
    changed.unchanged.reset(i);
    changed.changed.push_back(static_cast<std::uint8_t>(i));
    if (kept != block) std::memcpy(kept, block, kBlockSize);
    kept += kBlockSize;
  }
  co_return fetched;
}

Task<Result<void>> PageCapture::read_page(Work& work) {
  const std::size_t blocks = work.blocks_to_read();
  if (blocks == 0) co_return Result<void>{};
  work.data = std::make_unique_for_overwrite<std::byte[]>(blocks * kBlockSize);
  for (std::size_t at = 0; at < kPageBlocks; ++at) {
    std::size_t count = 0;
    while (at + count < kPageBlocks && work.reads(at + count)) ++count;
    if (count == 0) continue;
    if (auto read = co_await read_run(work, at, count); !read) co_return read;
    at += count;
  }
  co_return Result<void>{};
}

Task<void> PageCapture::read_beside(Work& work, WaitGroup& group) {
  work.outcome = co_await read_page(work);
  group.done();
}

Task<Result<void>> PageCapture::read_pages(std::span<Work> works) {
  WaitGroup group(disk_.ring());
  for (Work& work : works) {
    group.add();
    spawn(read_beside(work, group));
  }
  co_await group.wait();
  std::vector<BlockData> blocks;
  for (const Work& work : works) {
    if (!work.outcome) co_return work.outcome;
    blocks.emplace_back(work.data.get(), work.changed.changed.size() * kBlockSize);
  }
  auto packed = co_await chain_.compress(spec_.seq, std::move(blocks));
  for (std::size_t n = 0; n < works.size(); ++n) {
    works[n].changed.frames = std::move(packed[n]);
    works[n].data.reset();
  }
  co_return Result<void>{};
}

// Of two look-ups with repacking in between it may not be told: then a page is stored once more.
bool PageCapture::differs(const Work& work) const {
  if (!work.changed.changed.empty()) return true;
  ChainPage content = work.before();
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    if (!work.changed.unchanged[i]) content.blocks[i] = PackedBlock();
  }
  return content != work.seen();
}

Task<Result<PageCapture::Changes>> PageCapture::changes(std::vector<std::uint64_t> numbers) {
  std::vector<Work> works(numbers.size());
  if (auto found = co_await look_up(works, numbers); !found) co_return found.error();
  for (std::size_t begin = 0; begin < works.size();) {
    std::size_t end = begin;
    std::size_t blocks = 0;
    do {
      blocks += works[end++].blocks_to_read();
    } while (end < works.size() && blocks + works[end].blocks_to_read() <= kBlocksAtOnce);
    auto read = co_await read_pages(std::span(works).subspan(begin, end - begin));
    if (!read) co_return read.error();
    begin = end;
  }
  Changes changes;
  for (Work& work : works) {
    if (differs(work)) changes.push_back(std::move(work.changed));
  }
  co_return changes;
}

}  // namespace clouddisk::snapshot
