// disk_views.cc: a Disk's frozen moments, and what it borrows from a base.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/base/variant.h"
#include "engine/disk/disk.h"

namespace clouddisk {
namespace {

// Held exclusively at a time while blocks come in: small, so that writers beside it hardly wait.
constexpr std::uint64_t kHydrateBlocks = 64_KiB / kBlockSize;

}  // namespace

// --- Moments ---

Task<Result<Epoch>> Disk::freeze() {
  const Epoch view = begin_freeze();
  if (auto finished = co_await finish_freeze(view); !finished) co_return finished.error();
  co_return view;
}

Epoch Disk::begin_freeze() {
  const Epoch view = log_->epoch();
  log_->set_epoch(view.next());
  return view;
}

Task<Result<void>> Disk::finish_freeze(Epoch view) {
  co_await log_->settle_epoch();
  while (map_->epoch() <= view) map_->freeze();
  if (broken(Variant::kFreezeWithoutFlush)) co_return Result<void>{};
  auto durable = co_await log_->flush();
  if (!durable) {
    map_->drop_view(view);
    co_return fail(durable.error(), "disk {} can't be frozen", id());
  }
  co_return durable;
}

bool Disk::has_view(Epoch view) const {
  return std::binary_search(map_->views().begin(), map_->views().end(), view);
}

Task<Result<void>> Disk::read_view(Epoch view, Lba first, std::span<std::byte> into,
                                   BufferPool& pool) {
  constexpr std::size_t kBlocksAtOnce = kTransferMax / kBlockSize;
  std::array<BlockEntry, kBlocksAtOnce> storage;
  const std::size_t count = into.size() / kBlockSize;
  for (std::size_t at = 0; at < count; at += kBlocksAtOnce) {
    const auto entries = std::span(storage).first(std::min(kBlocksAtOnce, count - at));
    const auto part = into.subspan(at * kBlockSize, entries.size() * kBlockSize);
    const Lba lba(first.value + at);
    const ReadGate::Pass pass(gate_);
    if (!has_view(view)) {
      co_return fail(Errc::kNotFound, "disk {} has no view {}", id(), view.value);
    }
    if (auto found = co_await lookup(view, lba, entries); !found) co_return found.error();
    if (auto read = co_await read_blocks_into(lba, entries, part, pool); !read) co_return read;
  }
  co_return Result<void>{};
}

Task<Result<std::vector<Extent>>> Disk::view_extents(Epoch view, std::uint64_t offset,
                                                     std::uint64_t length,
                                                     std::uint32_t extents_max) {
  if (!has_view(view)) co_return fail(Errc::kNotFound, "disk {} has no view {}", id(), view.value);
  co_return co_await extents_in(view, offset, length, extents_max);
}

Task<Result<void>> Disk::view_page(Epoch view, std::uint64_t page, std::span<BlockEntry> out) {
  if (!has_view(view)) co_return fail(Errc::kNotFound, "disk {} has no view {}", id(), view.value);
  co_return co_await lookup(view, Lba(page * kPageBlocks), out);
}

Task<Result<std::vector<std::uint64_t>>> Disk::changed_pages(Epoch after, Epoch view) {
  if (auto done = co_await checkpoint(); !done) co_return done.error();
  co_return co_await map_->changed_pages(after, view);
}

NextBasePage Disk::view_pages(Epoch view) const {
  return [own = map_->view_pages(view),
          base = base_](std::uint64_t page) -> Result<std::optional<std::uint64_t>> {
    auto next = own(page);
    if (!next || !base) return next;
    auto borrowed = base->next_page(page);
    if (!borrowed || !*borrowed) return borrowed ? next : borrowed;
    if (!*next || **borrowed < **next) return borrowed;
    return next;
  };
}

// --- Borrowing ---

Task<std::uint64_t> Disk::travel_for(Lba first, std::uint64_t count) {
  std::uint64_t borrowed = 0;
  const auto base = base_;
  if (!base || !base->far_away()) co_return borrowed;
  const std::uint64_t end = std::min(first.value + count, blocks_for(base->size_bytes()));
  std::array<BlockEntry, kPageBlocks> storage;
  for (std::uint64_t at = first.value; at < end;) {
    const std::uint64_t page = page_of(Lba(at));
    const auto entries = std::span(storage).first(std::min(end, (page + 1) * kPageBlocks) - at);
    // Errors are for the read that follows to tell.
    if (auto found = co_await lookup(std::nullopt, Lba(at), entries); !found) co_return borrowed;
    const bool any = std::any_of(entries.begin(), entries.end(), [](const BlockEntry& entry) {
      return entry.location.kind() == BlockKind::kUnmapped;
    });
    if (any) {
      auto present = co_await base->present(ring(), page);
      if (!present) co_return borrowed;
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const bool here = entries[i].location.kind() != BlockKind::kUnmapped;
        if (!here && (*present)[index_in_page(Lba(at + i))]) ++borrowed;
      }
    }
    at += entries.size();
  }
  if (borrowed > 0) co_await base->travel(borrowed * kBlockSize);
  co_return borrowed;
}

Task<void> Disk::fetch(Lba first, std::uint64_t count) {
  const std::uint64_t borrowed = co_await travel_for(first, count);
  if (borrowed == 0) co_return;
  // What can't be kept is read from the base all the same.
  auto kept = co_await bring(first.value * kBlockSize, count * kBlockSize);
  static_cast<void>(kept);
}

Task<void> Disk::fetch_edges(std::uint64_t begin, std::uint64_t end) {
  const Lba first(begin / kBlockSize);
  const Lba last((end - 1) / kBlockSize);
  if (begin % kBlockSize != 0 || first == last) co_await fetch(first, 1);
  if (end % kBlockSize != 0 && first != last) co_await fetch(last, 1);
}

Task<Result<std::uint64_t>> Disk::hydrate(std::uint64_t offset, std::uint64_t length) {
  if (base_is_far() && offset < size_bytes_) {
    const std::uint64_t end = std::min(offset + length, size_bytes_);
    const Lba first(offset / kBlockSize);
    co_await travel_for(first, blocks_for(end) - first.value);
  }
  co_return co_await bring(offset, length);
}

Task<Result<std::uint64_t>> Disk::bring(std::uint64_t offset, std::uint64_t length) {
  std::uint64_t brought = 0;
  const auto base = base_;
  if (!base) co_return brought;
  const std::uint64_t end = std::min({offset + length, size_bytes_, base->size_bytes()});
  std::uint64_t at = offset / kBlockSize;
  const std::uint64_t last = blocks_for(end);
  std::vector<std::byte> fetched(kHydrateBlocks * kBlockSize);
  while (at < last && base_ && !closed_) {
    const std::uint64_t page = page_of(Lba(at));
    auto next = co_await ring().blocking([&base, page] { return base->next_page(page); });
    if (!next) co_return next.error();
    if (!*next) break;
    if (**next > page) {
      at = **next * kPageBlocks;
      continue;
    }
    auto present = co_await base->present(ring(), page);
    if (!present) co_return present.error();
    const std::uint64_t page_end = std::min(last, (page + 1) * kPageBlocks);
    while (at < page_end && base_ && !closed_) {
      const std::uint64_t count = std::min(kHydrateBlocks, page_end - at);
      RangeLock::Hold hold(ranges_, Lba(at), count, true);
      if (!hold.ready()) co_await hold.acquire();
      std::array<BlockEntry, kHydrateBlocks> entries;
      auto found = co_await lookup(std::nullopt, Lba(at), std::span(entries).first(count));
      if (!found) co_return found.error();
      const auto wanted = [&](std::uint64_t i) {
        return (entries[i].location.kind() == BlockKind::kUnmapped ||
                broken(Variant::kHydrateOverNewer)) &&
               (*present)[index_in_page(Lba(at + i))];
      };
      for (std::uint64_t i = 0; i < count;) {
        std::uint64_t run = 0;
        while (i + run < count && wanted(i + run)) ++run;
        if (run == 0) {
          ++i;
          continue;
        }
        if (auto admitted = co_await admit_write(); !admitted) co_return admitted.error();
        // Not into memory of a pool: what the base is read through may need the same one.
        const auto arrived = std::span(fetched).first(run * kBlockSize);
        auto read = co_await base->read(ring(), Lba(at + i), arrived);
        if (!read) co_return read.error();
        Buffer data = co_await environment_.work_buffers.allocate(arrived.size());
        std::memcpy(data.data(), arrived.data(), arrived.size());
        auto written = co_await log_->append_write(Lba(at + i), std::move(data));
        if (!written) co_return written.error();
        brought += run * kBlockSize;
        i += run;
      }
      at += count;
    }
  }
  co_return brought;
}

Task<Result<std::uint64_t>> Disk::next_borrowed_page(std::uint64_t page) {
  const auto base = base_;
  if (!base) co_return size_bytes_;
  auto next = co_await ring().blocking([&base, page] { return base->next_page(page); });
  if (!next) co_return next.error();
  co_return *next ? std::min(size_bytes_, **next * kPageBlocks * kBlockSize) : size_bytes_;
}

Task<void> Disk::forget_base() {
  co_await gate_.drain();  // They may have looked a block up before it came.
  base_.reset();
  map_->forget_base();
  if (map_->reference().value != 0) map_->drop_view(map_->reference());
}

}  // namespace clouddisk
