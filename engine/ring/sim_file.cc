#include "engine/ring/sim_file.h"

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"

namespace clouddisk {

std::uint64_t SimFile::missing_bytes(std::uint64_t offset, std::uint64_t length) const {
  if (length == 0) return 0;
  const std::uint64_t begin = align_down(offset, kBlockSize);
  const std::uint64_t end = align_up(offset + length, kBlockSize);
  std::uint64_t there = 0;
  auto it = reserved_.upper_bound(begin);
  if (it != reserved_.begin()) --it;
  for (; it != reserved_.end() && it->first < end; ++it) {
    const std::uint64_t from = std::max(begin, it->first);
    const std::uint64_t to = std::min(end, it->second);
    if (from < to) there += to - from;
  }
  return end - begin - there;
}

void SimFile::reserve(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t missing = missing_bytes(offset, length);
  if (missing == 0) return;
  allocated_ += missing;
  std::uint64_t begin = align_down(offset, kBlockSize);
  std::uint64_t end = align_up(offset + length, kBlockSize);
  auto it = reserved_.upper_bound(begin);
  if (it != reserved_.begin() && std::prev(it)->second >= begin) --it;
  while (it != reserved_.end() && it->first <= end) {
    begin = std::min(begin, it->first);
    end = std::max(end, it->second);
    it = reserved_.erase(it);
  }
  reserved_[begin] = end;
}

void SimFile::grow(std::uint64_t size) {
  size_ = std::max(size_, size);
}

std::size_t SimFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (offset >= size_) return 0;
  into = into.first(std::min<std::uint64_t>(into.size(), size_ - offset));
  for (std::size_t done = 0; done < into.size();) {
    const std::uint64_t at = offset + done;
    const std::size_t length = std::min<std::size_t>(kChunk - at % kChunk, into.size() - done);
    const auto chunk = chunks_.find(at / kChunk);
    if (chunk == chunks_.end()) {
      std::memset(into.data() + done, 0, length);
    } else {
      read_chunk(chunk->second, at % kChunk, into.subspan(done, length));
    }
    done += length;
  }
  return into.size();
}

void SimFile::read_chunk(const Chunk& chunk, std::size_t within, std::span<std::byte> into) {
  if (chunk.written.all()) {
    std::memcpy(into.data(), chunk.data.get() + within, into.size());
    return;
  }
  for (std::size_t done = 0; done < into.size();) {
    const std::size_t at = within + done;
    const std::size_t length = std::min<std::size_t>(kSector - at % kSector, into.size() - done);
    if (chunk.written[at / kSector]) {
      std::memcpy(into.data() + done, chunk.data.get() + at, length);
    } else {
      std::memset(into.data() + done, 0, length);
    }
    done += length;
  }
}

// Before a part of it is written.
void SimFile::blank_if_unwritten(Chunk& chunk, std::size_t sector) {
  if (!chunk.written[sector]) std::memset(chunk.data.get() + sector * kSector, 0, kSector);
}

void SimFile::write(std::uint64_t offset, std::span<const std::byte> data, Random& random) {
  write_piece(offset, data, random);
  grow(offset + data.size());
}

void SimFile::write_some(std::uint64_t offset, std::span<const std::byte> data, Random& random) {
  // Mostly a prefix, as a device that loses power mid-transfer leaves; else anything.
  const bool prefix = random.below(4) != 0;
  const std::uint64_t cut = random.below(data.size() / kSector + 1);
  std::uint64_t sector = 0;
  for (std::size_t done = 0; done < data.size(); ++sector) {
    const std::size_t length =
        std::min<std::size_t>(kSector - (offset + done) % kSector, data.size() - done);
    if (prefix ? sector < cut : random.one_in(2)) {
      write_piece(offset + done, data.subspan(done, length), random);
      grow(offset + done + length);
    }
    done += length;
  }
}

void SimFile::write_piece(std::uint64_t offset, std::span<const std::byte> data, Random& random) {
  while (!data.empty()) {
    const std::uint64_t index = offset / kChunk;
    const std::size_t within = offset % kChunk;
    const std::size_t length = std::min<std::size_t>(kChunk - within, data.size());
    Chunk& chunk = chunks_[index];
    if (within % kSector != 0) blank_if_unwritten(chunk, within / kSector);
    if ((within + length) % kSector != 0) blank_if_unwritten(chunk, (within + length) / kSector);
    make_range_dirty(index, chunk, within / kSector, (within + length - 1) / kSector, random);
    std::memcpy(chunk.data.get() + within, data.data(), length);
    offset += length;
    data = data.subspan(length);
  }
}

void SimFile::make_range_dirty(std::uint64_t index, Chunk& chunk, std::size_t first,
                               std::size_t last, Random& random) {
  if (!has_medium_) {
    for (std::size_t s = first; s <= last; ++s) chunk.written[s] = true;
    return;
  }
  bool clean = true;
  if (chunk.shadow != nullptr) {
    for (std::size_t s = first; s <= last && clean; ++s) {
      clean = !chunk.shadow->dirty[s] && !chunk.shadow->stale[s];
    }
  }
  if (!clean) {
    for (std::size_t s = first; s <= last; ++s) make_dirty(index, chunk, s, random);
    return;
  }
  // Most writes are to sectors that nothing unsynced is in.
  Shadow& shadow = shadow_of(index, chunk);
  to_medium(chunk, first, last);
  for (std::size_t s = first; s <= last; ++s) {
    chunk.written[s] = true;
    shadow.dirty[s] = true;
    shadow.stamps[s] = stamp_;
  }
}

void SimFile::make_dirty(std::uint64_t index, Chunk& chunk, std::size_t sector, Random& random) {
  Shadow& shadow = shadow_of(index, chunk);
  // The cache may write a sector back whenever it likes, so that any version since the last sync
  // can be the surviving one. A sync under way owes the version that it found.
  const bool clean = !shadow.dirty[sector] && !shadow.stale[sector];
  const bool written_back = shadow.dirty[sector] && (syncs_ > 0 || random.one_in(2));
  if (clean || written_back) to_medium(chunk, sector, sector);
  chunk.written[sector] = true;
  shadow.dirty[sector] = true;
  shadow.stale[sector] = false;
  shadow.stamps[sector] = stamp_;
}

SimFile::Shadow& SimFile::shadow_of(std::uint64_t index, Chunk& chunk) {
  if (chunk.shadow == nullptr) {
    chunk.shadow = std::make_unique<Shadow>();
    dirty_chunks_.insert(index);
  }
  chunk.shadow->latest = stamp_;
  return *chunk.shadow;
}

// The medium has, of these sectors, what a reader sees now.
void SimFile::to_medium(Chunk& chunk, std::size_t first, std::size_t last) {
  Shadow& shadow = *chunk.shadow;
  for (std::size_t s = first; s <= last; ++s) {
    shadow.blank[s] = !chunk.written[s];
    if (shadow.blank[s]) continue;
    if (shadow.medium == nullptr) shadow.medium = take_chunk();
    std::memcpy(shadow.medium.get() + s * kSector, chunk.data.get() + s * kSector, kSector);
  }
}

void SimFile::from_medium(Chunk& chunk, std::size_t sector) {
  std::byte* data = chunk.data.get() + sector * kSector;
  if (chunk.shadow->blank[sector]) {
    std::memset(data, 0, kSector);
  } else {
    std::memcpy(data, chunk.shadow->medium.get() + sector * kSector, kSector);
  }
}

SimFile::Sync SimFile::begin_sync() {
  ++syncs_;
  return Sync{stamp_++, size_};
}

void SimFile::finish_sync(const Sync& sync) {
  --syncs_;
  durable_size_ = std::max(durable_size_, sync.size);
  const std::vector<std::uint64_t> indexes(dirty_chunks_.begin(), dirty_chunks_.end());
  for (const std::uint64_t index : indexes) {
    Chunk& chunk = chunks_.at(index);
    Shadow& shadow = *chunk.shadow;
    if (shadow.latest <= sync.stamp) {
      shadow.dirty.reset();
    } else {
      for (std::size_t s = 0; s < kSectors; ++s) {
        if (shadow.dirty[s] && shadow.stamps[s] <= sync.stamp) shadow.dirty[s] = false;
      }
    }
    drop_shadow_if_clean(index, chunk);
  }
}

void SimFile::fail_sync(const Sync& sync, Random& random) {
  CHECK(has_medium_);
  --syncs_;
  const std::vector<std::uint64_t> indexes(dirty_chunks_.begin(), dirty_chunks_.end());
  for (const std::uint64_t index : indexes) {
    Chunk& chunk = chunks_.at(index);
    Shadow& shadow = *chunk.shadow;
    for (std::size_t s = 0; s < kSectors; ++s) {
      if (!shadow.dirty[s] || shadow.stamps[s] > sync.stamp) continue;
      shadow.dirty[s] = false;
      shadow.stale[s] = random.one_in(2);
    }
    drop_shadow_if_clean(index, chunk);
  }
}

void SimFile::drop_shadow_if_clean(std::uint64_t index, Chunk& chunk) {
  if (chunk.shadow->dirty.any() || chunk.shadow->stale.any()) return;
  chunk.shadow.reset();
  dirty_chunks_.erase(index);
}

SimFile SimFile::copy() const {
  SimFile file;
  file.has_medium_ = has_medium_;
  file.size_ = file.durable_size_ = size_;
  file.allocated_ = allocated_;
  file.reserved_ = reserved_;
  for (const auto& [index, chunk] : chunks_) {
    Chunk& copied = file.chunks_[index];
    std::memcpy(copied.data.get(), chunk.data.get(), kChunk);
    copied.written = chunk.written;
  }
  return file;
}

void SimFile::power_loss(Random& random, std::uint64_t percent) {
  CHECK(has_medium_ && syncs_ == 0);
  for (const std::uint64_t index : dirty_chunks_) {
    Chunk& chunk = chunks_.at(index);
    for (std::size_t s = 0; s < kSectors; ++s) {
      const bool unsynced = chunk.shadow->dirty[s];
      if (!unsynced && !chunk.shadow->stale[s]) continue;
      if (unsynced && random.below(100) < percent) continue;
      from_medium(chunk, s);
    }
    chunk.shadow.reset();
  }
  dirty_chunks_.clear();
  if (size_ > durable_size_ && random.below(100) >= percent) {
    const std::uint64_t sectors = (size_ - durable_size_) / kSector;
    truncate_to(durable_size_ + random.below(sectors + 1) * kSector);
  }
  durable_size_ = size_;
}

void SimFile::truncate_to(std::uint64_t size) {
  size_ = size;
  chunks_.erase(chunks_.lower_bound(align_up(size, kChunk) / kChunk), chunks_.end());
  if (const auto last = chunks_.find(size / kChunk); last != chunks_.end()) {
    std::memset(last->second.data.get() + size % kChunk, 0, kChunk - size % kChunk);
  }
  const std::uint64_t end = align_up(size, kBlockSize);
  for (auto it = reserved_.begin(); it != reserved_.end();) {
    if (it->second > end) {
      const std::uint64_t kept = std::max(it->first, end);
      allocated_ -= it->second - kept;
      it->second = kept;
    }
    it = it->first >= it->second ? reserved_.erase(it) : std::next(it);
  }
}

void SimFile::flip_bit(std::uint64_t offset, unsigned bit) {
  if (offset >= size_) return;
  Chunk& chunk = chunks_[offset / kChunk];
  const auto mask = static_cast<std::byte>(1U << (bit % 8));
  const std::size_t sector = offset % kChunk / kSector;
  Shadow* shadow = chunk.shadow.get();
  if (shadow != nullptr && (shadow->dirty[sector] || shadow->stale[sector])) {
    if (shadow->medium == nullptr) shadow->medium = take_chunk();
    if (shadow->blank[sector]) std::memset(shadow->medium.get() + sector * kSector, 0, kSector);
    shadow->blank[sector] = false;
    shadow->medium[offset % kChunk] ^= mask;
  }
  blank_if_unwritten(chunk, sector);
  chunk.data[offset % kChunk] ^= mask;
  chunk.written[sector] = true;
}

}  // namespace clouddisk
