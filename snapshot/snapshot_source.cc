#include "snapshot/snapshot_source.h"

namespace clouddisk::snapshot {

void SnapshotSource::set_view(std::shared_ptr<Disk> disk, Epoch view) {
  disk_ = std::move(disk);
  view_ = view;
  refresh_pages();
  captured_.store(false, std::memory_order_release);
}

void SnapshotSource::refresh_pages() {
  if (!disk_) return;
  NextBasePage pages = disk_->view_pages(view_);
  const std::lock_guard lock(pages_mutex_);
  view_pages_ = std::move(pages);
}

void SnapshotSource::set_gone() {
  gone_.store(true, std::memory_order_release);
  disk_.reset();
  const std::lock_guard lock(pages_mutex_);
  view_pages_ = nullptr;
}

Result<void> SnapshotSource::exists() const {
  if (!gone_.load(std::memory_order_acquire)) return {};
  return fail(Errc::kNotFound, "snapshot {} of chain {} was deleted", seq_, chain_->id());
}

void SnapshotSource::set_captured() {
  captured_.store(true, std::memory_order_release);
  disk_.reset();
  // The disk's index may be closed and opened again from now on; one process opens it once.
  const std::lock_guard lock(pages_mutex_);
  view_pages_ = nullptr;
}

Task<Result<void>> SnapshotSource::read(Ring& caller, Lba first, std::span<std::byte> into) {
  Ring& home_ring = home();
  const bool away = &caller != &home_ring;
  if (away) co_await home_ring.enter();
  auto result = co_await read_at_home(first, into);
  if (away) co_await caller.enter();
  co_return result;
}

Task<Result<void>> SnapshotSource::read_at_home(Lba first, std::span<std::byte> into) {
  if (const auto disk = disk_) {
    auto read = co_await disk->read_view(view_, first, into, chain_->environment().client_buffers);
    if (read) co_return read;
    // Captured and let go of between our looking and its reading.
    if (read.error().code != Errc::kNotFound || !captured()) co_return read;
  }
  if (auto there = exists(); !there) co_return there;
  auto read = co_await chain_->read(seq_, first, into);
  // The chain may have shown what was before it.
  if (auto there = exists(); !there) co_return there;
  co_return read;
}

Task<Result<PagePresence>> SnapshotSource::present(Ring& caller, std::uint64_t page) {
  Ring& home_ring = home();
  const bool away = &caller != &home_ring;
  if (away) co_await home_ring.enter();
  auto result = co_await present_at_home(page);
  if (away) co_await caller.enter();
  co_return result;
}

Task<Result<PagePresence>> SnapshotSource::present_at_home(std::uint64_t page) {
  PagePresence present;
  constexpr std::uint64_t kPageBytes = kPageBlocks * kBlockSize;
  if (const auto disk = disk_) {
    const std::uint64_t offset = page * kPageBytes;
    if (offset >= size_bytes_) co_return present;
    const std::uint64_t length = std::min(kPageBytes, size_bytes_ - offset);
    auto extents = co_await disk->view_extents(view_, offset, length, kPageBlocks);
    if (extents) {
      std::uint64_t at = 0;
      for (const Extent& extent : *extents) {
        const std::uint64_t end = at + extent.length;
        for (; at < end; at += kBlockSize) {
          if (extent.state == ExtentState::kData) present.set(at / kBlockSize);
        }
        at = end;
      }
      co_return present;
    }
    if (extents.error().code != Errc::kNotFound || !captured()) co_return extents.error();
  }
  if (auto there = exists(); !there) co_return there.error();
  auto found = co_await chain_->page(seq_, page);
  if (auto there = exists(); !there) co_return there.error();
  if (!found) co_return found.error();
  if (!*found) co_return present;
  for (std::size_t i = 0; i < kPageBlocks; ++i) present[i] = !(*found)->blocks[i].is_hole();
  co_return present;
}

Result<std::optional<std::uint64_t>> SnapshotSource::next_page(std::uint64_t page) {
  const std::uint64_t end = (blocks_for(size_bytes_) + kPageBlocks - 1) / kPageBlocks;
  if (auto there = exists(); !there) return there.error();
  Result<std::optional<std::uint64_t>> next = std::optional<std::uint64_t>();
  NextBasePage view_pages;
  {
    const std::lock_guard lock(pages_mutex_);
    view_pages = view_pages_;
  }
  if (view_pages) {
    next = view_pages(page);
  } else {
    next = chain_->next_page(page);
  }
  if (next && *next && **next >= end) return std::optional<std::uint64_t>();
  return next;
}

}  // namespace clouddisk::snapshot
