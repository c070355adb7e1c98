#include "snapshot/capture.h"

#include <algorithm>
#include <cstring>

namespace clouddisk::snapshot {
namespace {

// A step is one flush of the pack and one commit of the index. It ends at either bound: memory for
// whole pages, and what a crash repeats for those of which a block or two changed.
constexpr std::size_t kBytesPerStep = 16_MiB;
constexpr std::size_t kPagesPerStep = 512;

bool all_zero(const std::byte* block) {
  return block[0] == std::byte{0} && std::memcmp(block, block + 1, kBlockSize - 1) == 0;
}

bool is_hole(BlockKind kind) {
  return kind == BlockKind::kTrimmed || kind == BlockKind::kZero;
}

// What there is to do with a block.
enum class Fate : std::uint8_t { kSame, kHole, kCompare, kChanged };
using Fates = std::array<Fate, kPageBlocks>;

class Capture {
 public:
  Capture(Disk& disk, Chain& chain, const CaptureSpec& spec)
      : disk_(disk), chain_(chain), spec_(spec) {}

  Task<Result<std::vector<std::uint64_t>>> pages();
  // Nothing: the page is as the newest snapshot has it.
  Task<Result<std::optional<Chain::ChangedPage>>> page(std::uint64_t number);
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  bool by_place() const { return spec_.reference.value != 0; }
  std::uint64_t blocks_of(std::uint64_t page) const {
    return std::min(kPageBlocks, blocks_for(spec_.size_bytes) - page * kPageBlocks);
  }
  Task<Result<Fates>> fates(std::uint64_t number);
  Task<Result<void>> read_changes(std::uint64_t number, const Fates& fates, const ChainPage& parent,
                                  Chain::ChangedPage& changed);

  Disk& disk_;
  Chain& chain_;
  const CaptureSpec& spec_;
  std::vector<std::byte> read_ = std::vector<std::byte>(kPageBlocks * kBlockSize);
  std::uint64_t bytes_read_ = 0;
};

Task<Result<std::vector<std::uint64_t>>> Capture::pages() {
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

Task<Result<Fates>> Capture::fates(std::uint64_t number) {
  Fates fates;
  fates.fill(Fate::kHole);
  const std::uint64_t count = blocks_of(number);
  const bool over_base = disk_.has_base();
  if (by_place()) {
    auto pair = co_await disk_.page_pair(number, spec_.reference, spec_.view);
    if (!pair) co_return fail(Errc::kIo, "map: {}", pair.error().message);
    for (std::size_t i = 0; i < count; ++i) {
      const BlockEntry& before = pair->before.entries[i];
      const BlockEntry& after = pair->after.entries[i];
      if (before.location == after.location) {
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
    co_return fates;
  }
  std::array<BlockEntry, kPageBlocks> storage;
  const auto entries = std::span(storage).first(count);
  if (auto found = co_await disk_.view_page(spec_.view, number, entries); !found) {
    co_return found.error();
  }
  for (std::size_t i = 0; i < count; ++i) {
    const BlockKind kind = entries[i].location.kind();
    if (kind == BlockKind::kStored) {
      fates[i] = Fate::kCompare;
    } else if (kind == BlockKind::kUnmapped && over_base) {
      fates[i] = spec_.base_is_parent ? Fate::kSame : Fate::kCompare;
    }
  }
  co_return fates;
}

// Reads what may have changed, in runs, and keeps what did.
Task<Result<void>> Capture::read_changes(std::uint64_t number, const Fates& fates,
                                         const ChainPage& parent, Chain::ChangedPage& changed) {
  const auto wanted = [&fates](std::size_t i) {
    return fates[i] == Fate::kCompare || fates[i] == Fate::kChanged;
  };
  for (std::size_t at = 0; at < kPageBlocks;) {
    if (!wanted(at)) {
      ++at;
      continue;
    }
    std::size_t count = 1;
    while (at + count < kPageBlocks && wanted(at + count)) ++count;
    const Lba first(number * kPageBlocks + at);
    const auto data = std::span(read_).first(count * kBlockSize);
    auto fetched = co_await disk_.read_view(spec_.view, first, data, disk_.buffers());
    if (!fetched) co_return fetched;
    bytes_read_ += data.size();
    bool compares = false;
    for (std::size_t i = at; i < at + count; ++i) {
      compares = compares || (fates[i] == Fate::kCompare && !parent.blocks[i].is_hole());
    }
    std::vector<std::byte> old;
    if (compares) {
      old.resize(data.size());
      if (auto read = co_await chain_.read(spec_.parent, first, old); !read) co_return read;
    }
    for (std::size_t i = at; i < at + count; ++i) {
      const std::byte* block = data.data() + (i - at) * kBlockSize;
      if (all_zero(block)) {
        changed.unchanged.reset(i);
        continue;
      }
      const bool same = compares && fates[i] == Fate::kCompare && !parent.blocks[i].is_hole() &&
                        std::memcmp(block, old.data() + (i - at) * kBlockSize, kBlockSize) == 0;
      if (same) continue;
      changed.unchanged.reset(i);
      changed.changed.push_back(static_cast<std::uint8_t>(i));
      changed.data.insert(changed.data.end(), block, block + kBlockSize);
    }
    at += count;
  }
  co_return Result<void>{};
}

Task<Result<std::optional<Chain::ChangedPage>>> Capture::page(std::uint64_t number) {
  auto wanted = co_await fates(number);
  if (!wanted) co_return wanted.error();
  ChainPageRef parent;
  if (spec_.parent != 0) {
    auto found = co_await chain_.page(spec_.parent, number);
    if (!found) co_return found.error();
    parent = *found;
  }
  // What this snapshot would see if nothing were stored for it.
  auto newest = co_await chain_.page(spec_.seq - 1, number);
  if (!newest) co_return newest.error();
  const ChainPage nothing;
  const ChainPage& before = parent ? *parent : nothing;
  Chain::ChangedPage changed;
  changed.page = number;
  changed.parent = spec_.parent;
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    changed.unchanged[i] = (*wanted)[i] != Fate::kHole && !before.blocks[i].is_hole();
  }
  auto read = co_await read_changes(number, *wanted, before, changed);
  if (!read) co_return read.error();
  if (changed.changed.empty()) {
    ChainPage content = before;
    for (std::size_t i = 0; i < kPageBlocks; ++i) {
      if (!changed.unchanged[i]) content.blocks[i] = PackedBlock();
    }
    // Of two look-ups with repacking in between it may not be told: then it is stored once more.
    if (content == (*newest ? **newest : nothing)) co_return std::optional<Chain::ChangedPage>();
  }
  co_return std::optional(std::move(changed));
}

}  // namespace

Task<Result<CaptureCursor>> capture(Disk& disk, Chain& chain, CaptureSpec spec,
                                    std::function<bool()> cancelled,
                                    std::function<void(const CaptureProgress&)> progress) {
  Capture work(disk, chain, spec);
  auto pages = co_await work.pages();
  if (!pages) co_return pages.error();
  auto known = co_await chain.cursor(spec.seq);
  if (!known) co_return known.error();
  CaptureCursor cursor;
  cursor.heals = chain.heals();
  if (*known) cursor = **known;
  auto next = std::lower_bound(pages->begin(), pages->end(), cursor.next_page);
  CaptureProgress state;
  state.pages_total = pages->size();
  state.pages_done = static_cast<std::uint64_t>(next - pages->begin());
  Pace pace(spec.pace);
  std::vector<Chain::ChangedPage> gathered;
  std::size_t gathered_bytes = 0;
  const auto begin_anew = [&] {
    cursor = {};
    cursor.heals = chain.heals();
    next = pages->begin();
    state.pages_done = 0;
    gathered.clear();
    gathered_bytes = 0;
  };
  while (true) {
    if (next == pages->end()) {
      if (auto tidied = co_await chain.tidy(spec.seq); !tidied) co_return tidied.error();
      if (cursor.heals == chain.heals()) co_return cursor;
      begin_anew();
      continue;
    }
    if (cancelled()) co_return fail(Errc::kShutdown, "the capture goes on at the next start");
    const std::uint64_t read_before = work.bytes_read();
    auto changed = co_await work.page(*next);
    if (!changed) co_return changed.error();
    cursor.next_page = *next + 1;
    if (*changed) {
      gathered_bytes += (*changed)->data.size();
      gathered.push_back(std::move(**changed));
    }
    ++next;
    ++state.pages_done;
    const bool full = gathered.size() >= kPagesPerStep || gathered_bytes >= kBytesPerStep;
    if (full || (next == pages->end() && !gathered.empty())) {
      auto added = co_await chain.add(spec.seq, std::move(gathered), cursor);
      if (!added) co_return added.error();
      if (added->heals != cursor.heals) {
        begin_anew();
        continue;
      }
      cursor = *added;
      gathered.clear();
      gathered_bytes = 0;
    }
    progress(state);
    const TimePoint may_go_on =
        pace.book(work.bytes_read() - read_before, disk.client_requests(), disk.ring().now());
    if (may_go_on > disk.ring().now()) co_await disk.ring().sleep_until(may_go_on);
  }
}

}  // namespace clouddisk::snapshot
