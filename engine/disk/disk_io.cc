// disk_io.cc: the requests of a Disk: reads, writes, trims, zeroes, extents.
#include <algorithm>
#include <array>
#include <cstring>

#include "engine/base/variant.h"
#include "engine/disk/compactor.h"
#include "engine/disk/disk.h"

namespace clouddisk {
namespace {

// A partial write is done in pieces of at most so much, each one batch; up to it, it is atomic
// (I3).
constexpr std::uint64_t kPartialMax = 128_KiB;
static_assert(kPartialMax >= 64_KiB);

// Longer reads go past the read cache: the device is good at them, and they would flush it.
constexpr std::uint64_t kCachedBlocksMax = 64_KiB / kBlockSize;

bool aligned(std::uint64_t value) {
  return value % kBlockSize == 0;
}

bool memory_aligned(const Buffer& buffer) {
  return aligned(reinterpret_cast<std::uintptr_t>(buffer.data()));
}

}  // namespace

// --- Reading ---

Task<Result<Buffer>> Disk::read(std::uint64_t offset, std::uint32_t length) {
  CHECK(length > 0 && length <= kTransferMax);
  if (offset > size_bytes_ || length > size_bytes_ - offset) {
    co_return fail(Errc::kInvalid, "read of {} bytes at {} past the end ({})", length, offset,
                   size_bytes_);
  }
  ++client_requests_;
  const Lba first(offset / kBlockSize);
  const std::uint64_t count = blocks_for(offset + length) - first.value;
  std::array<BlockEntry, kTransferMax / kBlockSize + 1> storage;
  const auto entries = std::span(storage).first(count);
  if (base_is_far()) co_await fetch(first, count);
  Buffer into;
  if (!buffers().awaited()) into = buffers().try_allocate(count * kBlockSize);
  if (!into) into = co_await buffers().allocate(count * kBlockSize);
  const ReadGate::Pass pass(gate_);
  if (!map_->try_lookup(first, entries)) {
    if (auto found = co_await lookup(std::nullopt, first, entries); !found) co_return found.error();
  }
  const std::uint64_t skip = offset - first.value * kBlockSize;
  const bool cached = read_cache_id_ != 0 && count <= kCachedBlocksMax;
  if (cached && recall(entries, into.span())) co_return into.slice(skip, length);
  auto blocks = co_await read_blocks(first, entries, std::move(into));
  if (!blocks) co_return blocks.error();
  if (cached) remember(entries, blocks->span());
  co_return blocks->slice(skip, length);
}

bool Disk::recall(std::span<const BlockEntry> entries, std::span<std::byte> into) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].location.is_stored()) return false;
    const auto block = into.subspan(i * kBlockSize, kBlockSize);
    if (!environment_.reads->get(read_cache_id_, entries[i], block)) return false;
  }
  return true;
}

void Disk::remember(std::span<const BlockEntry> entries, std::span<const std::byte> blocks) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].location.is_stored()) continue;
    environment_.reads->put(read_cache_id_, entries[i], blocks.subspan(i * kBlockSize, kBlockSize));
  }
}

Task<Result<void>> Disk::lookup(std::optional<Epoch> view, Lba first, std::span<BlockEntry> out) {
  Result<void> found;
  if (view) {
    found = co_await map_->lookup_view(*view, first, out);
  } else {
    found = co_await map_->lookup(first, out);
  }
  if (!found) co_return fail(Errc::kIo, "map: {}", found.error().message);
  co_return found;
}

// Several runs of one read. Shared, since each run is a coroutine of its own.
struct Disk::RunRead {
  RunRead(Ring& ring, std::span<const BlockEntry> all, std::span<std::byte> target)
      : entries(all), into(target), group(ring) {}
  std::span<const BlockEntry> entries;
  std::span<std::byte> into;
  Buffer buffer;               // `into` is its memory, and what is stored is read straight there
  BufferPool* pool = nullptr;  // where there is no buffer: of what is stored and copied
  WaitGroup group;
  std::optional<Error> error;
};

Task<void> Disk::read_run(std::shared_ptr<RunRead> shared, std::size_t first, std::size_t count) {
  const auto into = shared->into.subspan(first * kBlockSize, count * kBlockSize);
  Buffer part;
  if (shared->pool != nullptr) {
    part = co_await shared->pool->allocate(into.size());
  } else {
    part = shared->buffer.slice(first * kBlockSize, into.size());
  }
  auto read = co_await reader_.read(shared->entries.subspan(first, count), part);
  if (!read) {
    shared->error = read.error();
  } else if (read->data() != into.data()) {
    std::memcpy(into.data(), read->data(), into.size());
  }
  shared->group.done();
}

Task<void> Disk::borrow_run(std::shared_ptr<RunRead> shared, Lba lba, std::size_t first,
                            std::size_t count) {
  const auto part = shared->into.subspan(first * kBlockSize, count * kBlockSize);
  const auto base = base_;
  CHECK(base != nullptr);  // forget_base() waits for us.
  const std::uint64_t base_blocks = blocks_for(base->size_bytes());
  const std::uint64_t here =
      std::min<std::uint64_t>(count, base_blocks > lba.value ? base_blocks - lba.value : 0);
  if (here < count) {
    std::memset(part.data() + here * kBlockSize, 0, (count - here) * kBlockSize);
  }
  if (broken(Variant::kReadBorrowedAsZero)) {
    std::memset(part.data(), 0, part.size());
  } else if (here > 0) {
    auto read = co_await base->read(ring(), lba, part.first(here * kBlockSize));
    if (!read) shared->error = read.error();
  }
  shared->group.done();
}

Task<Result<void>> Disk::read_runs(std::shared_ptr<RunRead> shared, Lba lba) {
  const auto entries = shared->entries;
  const bool over_base = base_ != nullptr;
  const auto borrowed = [over_base](BlockLocation location) {
    return over_base && location.kind() == BlockKind::kUnmapped;
  };
  const auto run_length = [entries, &borrowed](std::size_t at) {
    const BlockLocation start = entries[at].location;
    std::size_t count = 1;
    while (at + count < entries.size()) {
      const BlockLocation next = entries[at + count].location;
      bool follows = false;
      if (start.is_stored()) {
        follows = next.is_stored() && next.segment() == start.segment() &&
                  next.block() == start.block() + count;
      } else {
        follows = !next.is_stored() && borrowed(next) == borrowed(start);
      }
      if (!follows) break;
      ++count;
    }
    return count;
  };
  for (std::size_t at = 0; at < entries.size();) {
    const std::size_t count = run_length(at);
    if (entries[at].location.is_stored()) {
      shared->group.add();
      spawn(read_run(shared, at, count));
    } else if (borrowed(entries[at].location)) {
      shared->group.add();
      spawn(borrow_run(shared, Lba(lba.value + at), at, count));
    } else {
      std::memset(shared->into.data() + at * kBlockSize, 0, count * kBlockSize);
    }
    at += count;
  }
  co_await shared->group.wait();
  if (shared->error) co_return *shared->error;
  co_return Result<void>{};
}

Task<Result<Buffer>> Disk::read_blocks(Lba lba, std::span<const BlockEntry> entries, Buffer into) {
  const BlockLocation start = entries[0].location;
  std::size_t together = start.is_stored() ? 1 : 0;
  while (together > 0 && together < entries.size()) {
    const BlockLocation next = entries[together].location;
    const bool follows = next.is_stored() && next.segment() == start.segment() &&
                         next.block() == start.block() + together;
    if (!follows) break;
    ++together;
  }
  if (together == entries.size()) co_return co_await reader_.read(entries, std::move(into));
  auto shared = std::make_shared<RunRead>(ring(), entries, into.span());
  shared->buffer = into;
  auto read = co_await read_runs(shared, lba);
  if (!read) co_return read.error();
  co_return into;
}

Task<Result<void>> Disk::read_blocks_into(Lba lba, std::span<const BlockEntry> entries,
                                          std::span<std::byte> into, BufferPool& pool) {
  auto shared = std::make_shared<RunRead>(ring(), entries, into);
  shared->pool = &pool;
  co_return co_await read_runs(std::move(shared), lba);
}

// --- Writing ---

// Holds writers back while memory or space has to be won first: slower before an error (I9).
Task<Result<void>> Disk::admit_write() {
  maintain_if_due();
  while (!closed_ && map_->must_wait()) {
    if (!checkpoint_result_ && checkpoint_result_.error().code == Errc::kNoSpace) {
      co_return checkpoint_result_.error();
    }
    co_await maintained_.wait();
  }
  if (compactor_) {
    auto admitted = co_await compactor_->admit();
    if (!admitted) co_return admitted;
  }
  if (closed_) co_return fail(Errc::kShutdown, "disk {} is closed", id());
  co_return Result<void>{};
}

bool Disk::admit_write_at_once() {
  maintain_if_due();
  return !closed_ && !map_->must_wait() && (!compactor_ || compactor_->admits_at_once());
}

Task<Result<void>> Disk::write(std::uint64_t offset, Buffer data, bool fua) {
  CHECK(data.size() > 0 && data.size() <= kTransferMax);
  if (offset > size_bytes_ || data.size() > size_bytes_ - offset) {
    co_return fail(Errc::kInvalid, "write of {} bytes at {} past the end ({})", data.size(), offset,
                   size_bytes_);
  }
  ++client_requests_;
  const bool whole = aligned(offset) && aligned(data.size());
  if (!whole && base_is_far()) co_await fetch_edges(offset, offset + data.size());
  RangeLock::Hold hold(ranges_, Lba(offset / kBlockSize),
                       blocks_for(offset + data.size()) - offset / kBlockSize, !whole);
  if (!hold.ready()) co_await hold.acquire();
  if (!admit_write_at_once()) {
    if (auto admitted = co_await admit_write(); !admitted) co_return admitted;
  }
  Result<void> result;
  if (whole) {
    const bool copied = data.size() <= DiskLog::kCopyMax;  // by the log
    if (!copied && !memory_aligned(data)) data = co_await aligned_copy(std::move(data));
    result = co_await log_->append_write(Lba(offset / kBlockSize), std::move(data));
  } else {
    result = co_await write_partial(offset, std::move(data));
  }
  if (result && fua && !broken(Variant::kFuaWithoutFlush)) result = co_await log_->flush();
  co_return result;
}

// Whole blocks, few, that overlap no write of part of a block. The batch has them before the range
// is held, but nothing runs in between.
std::optional<Task<Result<void>>> Disk::write_now(std::uint64_t offset,
                                                  std::span<const std::byte> data, bool fua) {
  CHECK(!data.empty() && data.size() <= kTransferMax);
  if (!aligned(offset) || !aligned(data.size()) || data.size() > DiskLog::kCopyMax) return {};
  if (offset > size_bytes_ || data.size() > size_bytes_ - offset) return {};
  const Lba first(offset / kBlockSize);
  const std::uint64_t count = data.size() / kBlockSize;
  if (ranges_.has_exclusive() || !admit_write_at_once()) return {};
  DiskLog::PendingRef batch = log_->try_append_write(first, data);
  if (!batch) return {};
  ++client_requests_;
  return finish_write(std::move(batch), first, count, fua);
}

Task<Result<void>> Disk::finish_write(DiskLog::PendingRef batch, Lba first, std::uint64_t count,
                                      bool fua) {
  const RangeLock::Hold hold(ranges_, first, count, false);
  auto result = co_await log_->finish(std::move(batch));
  if (result && fua && !broken(Variant::kFuaWithoutFlush)) result = co_await log_->flush();
  co_return result;
}

// In memory that the device takes.
Task<Buffer> Disk::aligned_copy(Buffer data) {
  Buffer copy = co_await environment_.work_buffers.allocate(data.size());
  std::memcpy(copy.data(), data.data(), data.size());
  co_return copy;
}

// Reads what the first and the last block keep, puts the new bytes over it, writes whole blocks.
// The caller holds the range exclusively.
Task<Result<void>> Disk::write_partial(std::uint64_t offset, Buffer data) {
  std::uint64_t done = 0;
  while (done < data.size()) {
    const std::uint64_t begin = offset + done;
    const std::uint64_t end =
        std::min(offset + data.size(), align_down(begin, kBlockSize) + kPartialMax);
    const Lba first(begin / kBlockSize);
    const std::uint64_t count = blocks_for(end) - first.value;
    Buffer cover = co_await environment_.work_buffers.allocate(count * kBlockSize);
    const auto fill_edge = [this](Lba lba, Buffer into) -> Task<Result<void>> {
      const ReadGate::Pass pass(gate_);
      BlockEntry entry;
      if (auto found = co_await lookup(std::nullopt, lba, std::span(&entry, 1)); !found) {
        co_return found;
      }
      if (broken(Variant::kPartialWithoutRead)) {
        std::memset(into.data(), 0, into.size());
        co_return Result<void>{};
      }
      auto read = co_await read_blocks(lba, std::span(&entry, 1), into);
      if (!read) co_return read.error();
      if (read->data() != into.data()) std::memcpy(into.data(), read->data(), kBlockSize);
      co_return Result<void>{};
    };
    if (!aligned(begin)) {
      auto filled = co_await fill_edge(first, cover.slice(0, kBlockSize));
      if (!filled) co_return filled;
    }
    if (!aligned(end) && (count > 1 || aligned(begin))) {
      const std::uint64_t at = (count - 1) * kBlockSize;
      auto filled = co_await fill_edge(Lba(first.value + count - 1), cover.slice(at, kBlockSize));
      if (!filled) co_return filled;
    }
    std::memcpy(cover.data() + (begin - first.value * kBlockSize), data.data() + done, end - begin);
    auto appended = co_await log_->append_write(first, std::move(cover));
    if (!appended) co_return appended;
    done = end - offset;
  }
  co_return Result<void>{};
}

Task<Result<void>> Disk::flush() {
  return log_->flush();
}

// --- Trimming and zeroing ---

Task<Result<void>> Disk::trim(std::uint64_t offset, std::uint64_t length, bool fua) {
  return clear(offset, length, EntryKind::kTrim, fua);
}

Task<Result<void>> Disk::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                      ZeroOptions options) {
  return clear(offset, length, options.no_hole ? EntryKind::kZero : EntryKind::kTrim, options.fua);
}

Task<Result<void>> Disk::clear(std::uint64_t offset, std::uint64_t length, EntryKind kind,
                               bool fua) {
  if (offset > size_bytes_ || length > size_bytes_ - offset) {
    co_return fail(Errc::kInvalid, "{} bytes at {} past the end ({})", length, offset, size_bytes_);
  }
  ++client_requests_;
  const std::uint64_t end = offset + length;
  // The last block of a disk whose size is no multiple of 4 KiB ends with the disk.
  const std::uint64_t whole_end =
      end == size_bytes_ ? align_up(end, kBlockSize) : align_down(end, kBlockSize);
  const std::uint64_t whole_begin = align_up(offset, kBlockSize);
  if (length > 0) {
    const bool whole = whole_begin == offset && whole_end >= end;
    if (!whole && base_is_far()) co_await fetch_edges(offset, end);
    RangeLock::Hold hold(ranges_, Lba(offset / kBlockSize), blocks_for(end) - offset / kBlockSize,
                         !whole);
    if (!hold.ready()) co_await hold.acquire();
    if (auto admitted = co_await admit_write(); !admitted) co_return admitted;
    if (whole_begin < whole_end) {
      if (offset < whole_begin) {
        auto edge = co_await clear_partial(offset, whole_begin - offset);
        if (!edge) co_return edge;
      }
      auto appended = co_await log_->append_range(kind, Lba(whole_begin / kBlockSize),
                                                  (whole_end - whole_begin) / kBlockSize);
      if (!appended) co_return appended;
      if (whole_end < end) {
        auto edge = co_await clear_partial(whole_end, end - whole_end);
        if (!edge) co_return edge;
      }
    } else {
      auto edge = co_await clear_partial(offset, length);
      if (!edge) co_return edge;
    }
  }
  if (fua) co_return co_await log_->flush();
  co_return Result<void>{};
}

Task<Result<void>> Disk::clear_partial(std::uint64_t offset, std::uint64_t length) {
  Buffer zeros = co_await environment_.work_buffers.allocate(length);
  std::memset(zeros.data(), 0, zeros.size());
  co_return co_await write_partial(offset, std::move(zeros));
}

// --- States ---

Task<Result<std::vector<Extent>>> Disk::extents(std::uint64_t offset, std::uint64_t length,
                                                std::uint32_t extents_max) {
  return extents_in(std::nullopt, offset, length, extents_max);
}

Task<Result<std::uint64_t>> Disk::next_page_anywhere(std::uint64_t page, bool own_only) {
  auto next = co_await map_->next_mapped_page(page);
  if (!next) co_return fail(Errc::kIo, "map: {}", next.error().message);
  const auto base = base_;
  if (base && !own_only) {
    auto borrowed = co_await ring().blocking([&base, page] { return base->next_page(page); });
    if (!borrowed) co_return borrowed.error();
    if (*borrowed) *next = std::min(*next, **borrowed);
  }
  co_return next;
}

Task<Result<std::vector<Extent>>> Disk::extents_in(std::optional<Epoch> view, std::uint64_t offset,
                                                   std::uint64_t length,
                                                   std::uint32_t extents_max) {
  std::vector<Extent> extents;
  const std::uint64_t end = std::min(offset + length, size_bytes_);
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
  std::array<BlockEntry, kPageBlocks> storage;
  std::uint64_t at = offset;
  while (at < end) {
    const std::uint64_t page = page_of(Lba(at / kBlockSize));
    auto next = co_await next_page_anywhere(page, false);
    if (!next) co_return next.error();
    if (*next > page) {
      const std::uint64_t hole_end =
          *next > end / (kPageBlocks * kBlockSize) ? end : *next * kPageBlocks * kBlockSize;
      if (!add(std::min(hole_end, end) - at, ExtentState::kHole)) co_return extents;
      at = std::min(hole_end, end);
      continue;
    }
    const std::uint64_t page_end = std::min(end, (page + 1) * kPageBlocks * kBlockSize);
    const Lba first(at / kBlockSize);
    const auto entries = std::span(storage).first(blocks_for(page_end) - first.value);
    if (auto found = co_await lookup(view, first, entries); !found) co_return found.error();
    PagePresence in_base;
    if (const auto base = base_) {
      auto present = co_await base->present(ring(), page);
      if (!present) co_return present.error();
      in_base = *present;
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const std::uint64_t block_end = std::min(page_end, (first.value + i + 1) * kBlockSize);
      ExtentState state = ExtentState::kHole;
      const BlockKind kind = entries[i].location.kind();
      if (kind == BlockKind::kStored) state = ExtentState::kData;
      if (kind == BlockKind::kZero) state = ExtentState::kZero;
      if (kind == BlockKind::kUnmapped && in_base[index_in_page(first) + i]) {
        state = ExtentState::kData;
      }
      if (!add(block_end - at, state)) co_return extents;
      at = block_end;
    }
  }
  co_return extents;
}

Task<Result<void>> Disk::prefetch(std::uint64_t offset, std::uint64_t length) {
  if (!base_) co_return Result<void>{};  // Every block is here.
  auto brought = co_await hydrate(offset, length);
  if (!brought) co_return brought.error();
  co_return Result<void>{};
}

}  // namespace clouddisk
