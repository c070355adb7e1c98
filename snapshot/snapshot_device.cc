#include "snapshot/snapshot_device.h"

#include <algorithm>

namespace clouddisk::snapshot {
namespace {

Task<Result<void>> refused() {
  co_return fail(Errc::kReadOnly, "a snapshot can't be written to");
}
Task<Result<void>> nothing_to_do() {
  co_return Result<void>{};
}

}  // namespace

Task<Result<Buffer>> SnapshotDevice::read(std::uint64_t offset, std::uint32_t length) {
  CHECK(length > 0 && length <= kTransferMax);
  if (offset > size_bytes() || length > size_bytes() - offset) {
    co_return fail(Errc::kInvalid, "read of {} bytes at {} past the end ({})", length, offset,
                   size_bytes());
  }
  const std::uint64_t first = offset / kBlockSize;
  const std::uint64_t last = blocks_for(offset + length);
  const Buffer blocks = co_await buffers().allocate((last - first) * kBlockSize);
  for (std::uint64_t at = 0; at < last - first;) {
    const std::uint64_t count =
        std::min<std::uint64_t>(kTransferMax / kBlockSize, last - first - at);
    auto read = co_await source_->read(ring(), Lba(first + at),
                                       blocks.span().subspan(at * kBlockSize, count * kBlockSize));
    if (!read) co_return read.error();
    at += count;
  }
  co_return blocks.slice(offset - first * kBlockSize, length);
}

Task<Result<void>> SnapshotDevice::write(std::uint64_t, Buffer, bool) {
  return refused();
}
Task<Result<void>> SnapshotDevice::flush() {
  return nothing_to_do();
}
Task<Result<void>> SnapshotDevice::trim(std::uint64_t, std::uint64_t, bool) {
  return refused();
}
Task<Result<void>> SnapshotDevice::write_zeroes(std::uint64_t, std::uint64_t, ZeroOptions) {
  return refused();
}
Task<Result<void>> SnapshotDevice::prefetch(std::uint64_t, std::uint64_t) {
  return nothing_to_do();
}

Task<Result<std::vector<Extent>>> SnapshotDevice::extents(std::uint64_t offset,
                                                          std::uint64_t length,
                                                          std::uint32_t extents_max) {
  constexpr std::uint64_t kPageBytes = kPageBlocks * kBlockSize;
  std::vector<Extent> extents;
  const auto add = [&extents, extents_max](std::uint64_t bytes, ExtentState state) {
    if (!extents.empty() && extents.back().state == state) {
      extents.back().length += bytes;
    } else if (extents.size() < extents_max) {
      extents.push_back({bytes, state});
    } else {
      return false;
    }
    return true;
  };
  const std::uint64_t end = std::min(offset + length, size_bytes());
  const auto source = source_;
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t page = at / kPageBytes;
    auto next = co_await ring().blocking([&source, page] { return source->next_page(page); });
    if (!next) co_return fail(Errc::kIo, "{}", next.error().message);
    if (!*next || **next > page) {
      const std::uint64_t hole_end = *next ? std::min(end, **next * kPageBytes) : end;
      if (!add(hole_end - at, ExtentState::kHole)) co_return extents;
      at = hole_end;
      continue;
    }
    auto present = co_await source_->present(ring(), page);
    if (!present) co_return present.error();
    const std::uint64_t page_end = std::min(end, (page + 1) * kPageBytes);
    while (at < page_end) {
      const std::uint64_t block_end = std::min(page_end, align_down(at, kBlockSize) + kBlockSize);
      const bool data = (*present)[at % kPageBytes / kBlockSize];
      if (!add(block_end - at, data ? ExtentState::kData : ExtentState::kHole)) co_return extents;
      at = block_end;
    }
  }
  co_return extents;
}

}  // namespace clouddisk::snapshot
