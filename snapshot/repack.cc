// repack.cc: wins back the space of frames that are mostly unused.
//
// A frame of 16 blocks is free when no snapshot shows any of them, so snapshots that are deleted
// may leave frames behind that hold one block each. Where a purge leaves a frame of which half or
// less is shown, it marks it (ChainIndex::sparse). Here marked frames are emptied, a step at a
// time:
//
//   1. their blocks are read, and put together in new frames behind the head, page by page
//   2. every version that shows one of them is recorded anew behind those, a record for each
//   snapshot
//   3. flush; the index turns to the new places and frees the old ones in one transaction
//   4. who looked an old place up has read it (the gate); then the old frames are trimmed
//
// Crash: until 3 nothing refers to what was written, and the next open trims it. After 3 the freed
//   ranges are on record, and trimmed at the next open. An index rebuilt from the pack takes of
//   each version the record at the highest address, so it may find either place, and both hold the
//   same.
// Bound: more than half of the blocks that frames hold are shown by a snapshot, but for the frames
//   that still wait: fewer than `repack_frames_min` of them, when nothing else is left to do. A
//   block is copied when as many or more are freed, so the work is no more than that of the
//   deletions.
// Damage: a frame that no replica has whole stays where it is, and its blocks fail as before.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/base/log.h"
#include "snapshot/chain.h"

namespace clouddisk::snapshot {
namespace {

constexpr std::size_t kFramesPerStep = 16;      // 1 MiB of blocks
constexpr std::size_t kVersionsPerStep = 4096;  // 8 MiB of memory

// What a record of pages names; nothing if it makes no sense.
std::vector<std::uint64_t> pages_in(std::span<const std::byte> record) {
  std::vector<std::uint64_t> pages;
  while (record.size() > 8) {
    pages.push_back(load_le<std::uint64_t>(record.data()));
    record = record.subspan(8);
    if (!decode_runs(record)) return {};
  }
  return pages;
}

}  // namespace

struct Chain::Repacking {
  Repacking(Disk& pack, BufferPool& buffers, PackAddress head) : writer(pack, buffers, head) {}
  PackWriter writer;
  ChainIndex::Move move;
  std::map<std::uint64_t, std::map<PackAddress, FrameData>> pages;  // frames of blocks to empty
  std::set<PackAddress> records;                                    // frames of pages to empty
};

Task<Result<void>> Chain::gather(Repacking& work, ChainIndex::Sparse sparse) {
  auto data = co_await frame(PackedBlock(sparse.address, sparse.size, 0));
  if (!data && data.error().code != Errc::kIo) co_return data.error();
  if (!data) co_return Result<void>{};
  if (sparse.kind == FrameKind::kBlocks) {
    work.pages[sparse.page][sparse.address] = *data;
    co_return Result<void>{};
  }
  work.records.insert(sparse.address);
  for (const std::uint64_t page : pages_in(**data)) work.pages.try_emplace(page);
  co_return Result<void>{};
}

Task<Result<void>> Chain::move_page(Repacking& work, std::uint64_t page) {
  const auto index = index_;
  auto versions = co_await ring().blocking([&index, page] { return index->versions(page); });
  if (!versions) co_return note(versions.error());
  const auto& frames = work.pages.at(page);
  std::vector<std::byte> data;
  std::map<std::pair<PackAddress, unsigned>, std::size_t> moved;  // to an index in `data`
  std::uint64_t first_seq = 0;
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    for (const ChainIndex::Version& version : *versions) {
      const PackedBlock block = version.content.blocks[i];
      const auto from = block.is_hole() ? frames.end() : frames.find(block.frame());
      if (from == frames.end()) continue;
      const std::size_t begin = block.index() * kBlockSize;
      if (begin + kBlockSize > from->second->size()) continue;
      if (moved.empty()) first_seq = version.seq;
      if (!moved.try_emplace({block.frame(), block.index()}, moved.size()).second) continue;
      const auto content = std::span(*from->second).subspan(begin, kBlockSize);
      data.insert(data.end(), content.begin(), content.end());
    }
  }
  std::vector<PackedBlock> places;
  if (!data.empty()) {
    auto packed = co_await compress(first_seq, std::vector(1, BlockData(data)));
    auto placed = co_await place_blocks(work.writer, page, data.size() / kBlockSize,
                                        std::move(packed.front()), work.move.frames);
    if (!placed) co_return placed.error();
    places = std::move(*placed);
  }
  for (ChainIndex::Version& version : *versions) {
    bool changes = work.records.count(version.record) != 0;
    for (PackedBlock& block : version.content.blocks) {
      if (block.is_hole()) continue;
      const auto to = moved.find({block.frame(), block.index()});
      if (to == moved.end()) continue;
      block = places[to->second];
      changes = true;
    }
    if (changes) work.move.versions.push_back(version);
  }
  co_return Result<void>{};
}

Task<Result<void>> Chain::commit(Repacking& work) {
  std::map<std::uint64_t, std::vector<RecordedPage>> by_seq;
  for (ChainIndex::Version& version : work.move.versions) {
    by_seq[version.seq].push_back({version.page, &version.content, &version.record});
  }
  for (auto& [seq, pages] : by_seq) {
    auto placed = co_await place_records(work.writer, seq, std::move(pages), work.move.frames);
    if (!placed) co_return placed;
  }
  if (auto written = co_await work.writer.finish(); !written) co_return written;
  work.move.head = work.writer.head();
  // Before the index says so: who looks a new place up at once reads it at once.
  const PackAddress head_before = head_;
  head_ = work.writer.head();
  const auto index = index_;
  auto freed = co_await ring().blocking([&index, &work] { return index->move(work.move); });
  if (!freed) {
    head_ = head_before;
    co_return note(freed.error());
  }
  pages_.clear();
  ++generation_;
  for (const auto& [page, frames] : work.pages) {
    for (const auto& [address, data] : frames) frames_.erase(address);
  }
  co_await gate_.drain();
  co_return co_await trim_freed(std::move(*freed));
}

// The caller holds the lock.
Task<Result<void>> Chain::repack_step(std::vector<ChainIndex::Sparse> sparse) {
  if (behind_head_) {
    if (auto gone = co_await trim_behind_head(); !gone) co_return gone;
  }
  Repacking work(*pack_, environment_.client_buffers, head_);
  for (const ChainIndex::Sparse& one : sparse) {
    if (auto gathered = co_await gather(work, one); !gathered) co_return gathered;
  }
  Result<void> moved;
  std::set<std::uint64_t> done;
  for (const auto& [page, frames] : work.pages) {
    if (work.move.versions.size() >= kVersionsPerStep) break;
    moved = co_await move_page(work, page);
    if (!moved) break;
    done.insert(page);
  }
  const bool all = done.size() == work.pages.size();
  for (const ChainIndex::Sparse& one : sparse) {
    // Done with, even where something of it can't be moved.
    const bool waits = one.kind == FrameKind::kPages || work.pages.count(one.page) != 0;
    if (all || !waits || (one.kind == FrameKind::kBlocks && done.count(one.page) != 0)) {
      work.move.done.push_back(one);
    }
  }
  if (moved) moved = co_await commit(work);
  if (!moved && head_ != work.writer.head()) static_cast<void>(co_await trim_behind_head());
  co_return moved;
}

Task<Result<std::uint64_t>> Chain::repack(std::size_t frames_min) {
  std::uint64_t count = 0;
  bool healed = false;
  while (!closing_) {
    std::uint64_t bytes = 0;
    {
      auto guard = co_await lock();
      if (!guard) co_return guard.error();
      const auto index = index_;
      const std::size_t wanted = count == 0 ? std::max<std::size_t>(frames_min, 1) : 1;
      const std::size_t look_at = std::max(wanted, kFramesPerStep);
      auto sparse = co_await ring().blocking([&index, look_at] { return index->sparse(look_at); });
      if (!sparse) co_return note(sparse.error());
      if (sparse->size() < wanted) break;
      sparse->resize(std::min(sparse->size(), kFramesPerStep));
      const std::size_t step = sparse->size();
      for (const ChainIndex::Sparse& one : *sparse) bytes += one.size;
      auto moved = co_await repack_step(std::move(*sparse));
      // Where it is the index that is damaged, the next lock() makes it anew.
      if (!moved && damaged_ && !std::exchange(healed, true)) continue;
      if (!moved) co_return fail(moved.error(), "chain {}", id());
      count += step;
    }
    co_await pause(bytes);
  }
  co_return count;
}

// Leaves the disk's clients what is theirs.
Task<void> Chain::pause(std::uint64_t bytes) {
  const auto& requests = options_.client_requests;
  const TimePoint until = pace_.book(bytes, requests ? requests() : 0, ring().now());
  while (!closing_ && until > ring().now()) {
    const bool woken = co_await closing_signal_.wait_until(until);
    static_cast<void>(woken);
  }
}

void Chain::repack_if_due() {
  if (!options_.repack || repacking_ || closing_) return;
  repacking_ = true;
  background_.add();
  spawn(repack_in_background());
}

Task<void> Chain::repack_in_background() {
  auto repacked = co_await repack(options_.repack_frames_min);
  repacking_ = false;
  if (!repacked) {
    // The next deletion, or the next start, tries again.
    log(LogLevel::kWarning, "chain", "repacking: {}", repacked.error().message);
  } else if (*repacked > 0) {
    log(LogLevel::kInfo, "chain", "chain={} repacked {} frames", id(), *repacked);
  }
  background_.done();
}

}  // namespace clouddisk::snapshot
