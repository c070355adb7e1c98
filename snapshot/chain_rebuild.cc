// chain_rebuild.cc: a chain's index from its pack alone: every frame of pages says again what the
// index said. Versions that none of the snapshots sees are left out, and their frames are trimmed.
//
// Where a part of the pack can't be read, it may hold pages of which nothing else tells. Then
// nothing is trimmed, versions that nobody sees stay (a later rebuild must not find what the index
// did not know), what is sound in the index before is kept, and the index is marked as incomplete:
// the next open makes it anew, when there may be more to read.
// Memory: some 2 KiB for each version of a page.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "engine/base/bytes.h"
#include "engine/base/log.h"
#include "snapshot/chain.h"

namespace clouddisk::snapshot {
namespace {

constexpr std::size_t kPagesPerRebuildStep = 1024;  // a transaction of some MiB

}  // namespace

// Blocks that no replica has are zeros: what stands around them is found all the same.
Task<Result<Buffer>> Chain::read_whatever_is_there(std::uint64_t offset, std::uint32_t length,
                                                   std::set<std::uint64_t>& unreadable) {
  auto whole = co_await pack_->read(offset, length);
  if (whole || whole.error().code != Errc::kIo) co_return whole;
  Buffer bytes = co_await environment_.client_buffers.allocate(length);
  for (std::uint32_t done = 0; done < length;) {
    const std::uint64_t at = offset + done;
    const auto part = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(length - done, align_down(at, kBlockSize) + kBlockSize - at));
    auto block = co_await pack_->read(at, part);
    if (block) {
      std::memcpy(bytes.data() + done, block->data(), part);
    } else if (block.error().code == Errc::kIo) {
      if (unreadable.insert(align_down(at, kBlockSize)).second) {
        log(LogLevel::kError, "chain", "chain={} the pack's block at {} can't be read", id(),
            align_down(at, kBlockSize));
      }
      std::memset(bytes.data() + done, 0, part);
    } else {
      co_return block.error();
    }
    done += part;
  }
  co_return bytes;
}

// Every frame from `from` on; returns where the last data ends.
Task<Result<PackAddress>> Chain::scan_pack(std::uint64_t from, std::set<std::uint64_t>& unreadable,
                                           std::function<void(const FoundFrame&)> visit) {
  PackAddress head = from;
  for (std::uint64_t at = from; at < pack_->size_bytes();) {
    auto extents = co_await pack_->extents(at, pack_->size_bytes() - at, 1);
    if (!extents) co_return extents.error();
    const std::uint64_t end = at + extents->front().length;
    if (extents->front().state != ExtentState::kData) {
      at = end;
      continue;
    }
    head = end;
    // Frames follow each other; where one is missing, the next begins at some multiple of 8. One
    // may reach across what was trimmed since.
    while (at < end) {
      const auto ask = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(2 * (kFrameHeaderSize + kFrameRawMax), end - at));
      auto data = co_await read_whatever_is_there(at, ask, unreadable);
      if (!data) co_return data.error();
      const Buffer bytes = *data;
      const ChainTag tag = tag_;
      std::uint64_t used = 0;
      const std::uint64_t base = at;
      auto found = co_await ring().blocking([&bytes, &used, tag, base]() {
        std::vector<FoundFrame> found;
        const auto span = std::span<const std::byte>(bytes.span());
        const std::size_t whole = kFrameHeaderSize + kFrameRawMax;
        // What is left when less than a whole frame may follow is looked at again with the next
        // read.
        while (used + kFrameHeaderSize <= span.size()) {
          if (span.size() > whole && used > span.size() - whole) break;
          const auto here = span.subspan(used);
          auto header = decode_header(here, tag, base + used);
          if (!header || here.size() < header->size()) {
            used += kFrameAlignment;
            continue;
          }
          FoundFrame frame;
          frame.header = *header;
          if (header->kind == FrameKind::kPages) {
            auto raw = unpack_frame(here, *header);
            if (raw) frame.pages = std::move(*raw);
          }
          used += header->size();
          found.push_back(std::move(frame));
        }
        return found;
      });
      for (const FoundFrame& frame : found) visit(frame);
      at = std::min(end, base + std::max<std::uint64_t>(used, kFrameAlignment));
    }
  }
  co_return head;
}

Task<Result<bool>> Chain::is_behind_pack() {
  bool more = false;
  std::set<std::uint64_t> unreadable;
  const std::function<void(const FoundFrame&)> look = [&](const FoundFrame& frame) {
    more = more || (!frame.pages.empty() && identity_.live.count(frame.header.seq) != 0);
  };
  auto head = co_await scan_pack(head_, unreadable, look);
  if (!head) co_return head.error();
  co_return more;
}

Task<Result<void>> Chain::rebuild() {
  if (!fresh_) {
    log(LogLevel::kWarning, "chain", "chain={} rebuilding the index from the pack", id());
  }
  struct Known {
    std::uint64_t size = kFrameAlignment;  // of what is not there any more
    FrameKind kind = FrameKind::kBlocks;
    std::uint32_t holds = 1;
  };
  std::map<PackAddress, Known> frames;
  struct Version {
    ChainPage content;
    PackAddress record = 0;
  };
  std::map<std::uint64_t, std::map<std::uint64_t, Version>> versions;  // by page, then sequence
  std::set<std::uint64_t> unreadable;                                  // blocks
  const std::function<void(const FoundFrame&)> note_frame = [&](const FoundFrame& frame) {
    Known& known = frames[frame.header.address];
    known = {frame.header.size(), frame.header.kind,
             frame.header.raw_bytes / static_cast<std::uint32_t>(kBlockSize)};
    if (frame.header.kind == FrameKind::kPages) known.holds = 0;
    std::span<const std::byte> rest(frame.pages);
    while (rest.size() > 8) {
      ++known.holds;
      const std::uint64_t page = load_le<std::uint64_t>(rest.data());
      rest = rest.subspan(8);
      auto content = decode_runs(rest);
      if (!content) break;
      versions[page][frame.header.seq] = {*content, frame.header.address};
    }
  };
  auto scanned = co_await scan_pack(0, unreadable, note_frame);
  if (!scanned) co_return scanned.error();
  PackAddress head = *scanned;
  // The inside of a frame of blocks hides nothing. Readable bytes are those that were written, so a
  // record in them that can't be unpacked was cleared in part.
  const auto hidden = std::count_if(unreadable.begin(), unreadable.end(), [&frames](auto block) {
    const auto after = frames.upper_bound(block);
    if (after == frames.begin()) return true;
    const auto& [address, known] = *std::prev(after);
    return known.kind != FrameKind::kBlocks || block + kBlockSize > address + known.size;
  });
  if (hidden > 0 && index_) {
    const auto index = index_;
    const auto sound = co_await ring().blocking([&index] { return index->sound(); });
    for (const auto& frame : sound.frames) {
      frames.try_emplace(frame.address, Known{frame.size, frame.kind, frame.holds});
    }
    for (const auto& version : sound.versions) {
      const Known gone{kFrameAlignment, FrameKind::kPages, 1};
      const auto record = frames.try_emplace(version.record, gone).first;
      if (record->second.kind != FrameKind::kPages) continue;
      versions[version.page][version.seq] = {version.content, version.record};
    }
  }
  const auto is_seen = [this](const auto& by_seq, auto it) {
    const auto next = std::next(it);
    const auto seen_by = identity_.live.lower_bound(it->first);
    return seen_by != identity_.live.end() && (next == by_seq.end() || *seen_by < next->first);
  };
  std::uint64_t lost = 0;
  for (const auto& [page, by_seq] : versions) {
    for (auto it = by_seq.begin(); it != by_seq.end(); ++it) {
      if (!is_seen(by_seq, it)) continue;
      for (const PackedBlock block : it->second.content.blocks) {
        if (block.is_hole() || frames.count(block.frame()) != 0) continue;
        ++lost;  // Stays as it is: reading it fails, rather than giving zeros.
      }
    }
  }
  const bool can_trim = environment_.replicas.can_write();
  const bool trims = can_trim && lost == 0 && hidden == 0;
  // By sequence: what add() did, done again.
  std::map<std::uint64_t, ChainIndex::Addition> additions;
  for (const auto& [page, by_seq] : versions) {
    for (auto it = by_seq.begin(); it != by_seq.end(); ++it) {
      if (trims && !is_seen(by_seq, it)) continue;
      auto& addition = additions[it->first];
      addition.seq = it->first;
      addition.pages.push_back({page, it->second.content, it->second.record});
    }
  }
  std::map<PackAddress, std::uint64_t> needed;  // frames, and a page that each is of
  for (const auto& [seq, addition] : additions) {
    for (const auto& page : addition.pages) {
      needed.try_emplace(page.record, page.page);
      for (const PackedBlock block : page.content.blocks) {
        if (!block.is_hole()) needed.try_emplace(block.frame(), page.page);
      }
    }
  }
  // Addresses that something refers to are not used twice, whether it is still there or not.
  for (const auto& [page, by_seq] : versions) {
    for (const auto& [seq, version] : by_seq) {
      for (const PackedBlock block : version.content.blocks) {
        if (!block.is_hole()) head = std::max(head, block.frame() + block.frame_bytes());
      }
    }
  }
  const PackAddress new_head = std::max(head_, align_up(head, kBlockSize));
  // Records that count for nothing go to the byte, as when they were freed (FrameBook::settle).
  for (const auto& [address, known] : frames) {
    if (!trims || known.kind != FrameKind::kPages || needed.count(address) != 0) continue;
    auto gone = co_await pack_->trim(address, known.size, false);
    if (!gone && gone.error().code != Errc::kIo) co_return gone;
  }
  // What no version shows gives its space back.
  std::uint64_t unused_from = 0;
  for (auto it = needed.begin(); trims && it != needed.end(); ++it) {
    const auto frame = frames.find(it->first);
    const std::uint64_t first = align_up(unused_from, kBlockSize);
    const std::uint64_t last = align_down(it->first, kBlockSize);
    if (first < last) {
      auto gone = co_await pack_->trim(first, last - first, false);
      if (!gone) co_return gone;
    }
    unused_from = it->first + (frame != frames.end() ? frame->second.size : kFrameAlignment);
  }
  if (const std::uint64_t first = align_up(unused_from, kBlockSize); trims && first < new_head) {
    auto gone = co_await pack_->trim(first, new_head - first, false);
    if (!gone) co_return gone;
  }
  if (can_trim) {
    if (auto durable = co_await pack_->flush(); !durable) co_return durable;
  }

  const std::string directory = chain_index_directory();
  if (auto removed = co_await ring().remove_tree(directory); !removed) co_return removed;
  // Nobody reads it before it is finished.
  std::shared_ptr<ChainIndex> fresh;
  const auto made = co_await ring().blocking([this, &directory, &fresh]() -> Result<void> {
    auto kv = ring().open_kv(directory, KvOptions{});
    if (!kv) return kv.error();
    fresh = std::make_shared<ChainIndex>(std::move(*kv));
    return {};
  });
  if (!made) co_return made;

  // A frame comes with the first page that needs it.
  std::set<PackAddress> booked;
  const auto book = [&](PackAddress address, ChainIndex::Addition& addition) {
    if (!booked.insert(address).second) return;
    const auto frame = frames.find(address);
    const Known known = frame != frames.end() ? frame->second : Known{};
    addition.frames.push_back({address, known.size, known.kind, known.holds, needed.at(address)});
  };
  // In steps: the memory of a transaction is bounded. The head comes last, by itself: until then
  // the index is not finished.
  for (auto& [seq, addition] : additions) {
    const std::vector<ChainIndex::NewPage> pages = std::move(addition.pages);
    for (std::size_t at = 0; at < pages.size(); at += kPagesPerRebuildStep) {
      const std::size_t end = std::min(pages.size(), at + kPagesPerRebuildStep);
      ChainIndex::Addition step;
      step.seq = seq;
      step.any_frames = true;
      step.pages.assign(pages.begin() + static_cast<std::ptrdiff_t>(at),
                        pages.begin() + static_cast<std::ptrdiff_t>(end));
      for (const auto& page : step.pages) {
        book(page.record, step);
        for (const PackedBlock block : page.content.blocks) {
          if (!block.is_hole()) book(block.frame(), step);
        }
      }
      auto added = co_await ring().blocking([&fresh, &step] { return fresh->add(step); });
      if (!added) co_return added.error();
    }
  }
  ChainIndex::Addition finished;
  finished.head = new_head;
  finished.incomplete = hidden > 0 || !can_trim;
  auto added = co_await ring().blocking([&fresh, &finished] { return fresh->add(finished); });
  if (!added) co_return added.error();
  // Or a loss of power might bring an older index of the same name back.
  const std::string parent = directory.substr(0, directory.rfind('/'));
  if (auto synced = co_await ring().sync_directory(directory); !synced) co_return synced;
  if (auto synced = co_await ring().sync_directory(parent); !synced) co_return synced;
  head_ = new_head;
  std::swap(index_, fresh);
  // The old one's last holder, unless a worker still reads it.
  co_await ring().blocking([&fresh] { fresh.reset(); });
  if (hidden > 0) {
    log(LogLevel::kError, "chain",
        "chain={} {} blocks of the pack can't be read: snapshots may show an earlier content of "
        "what index pages in them said; nothing is trimmed, and the next start tries again",
        id(), hidden);
  }
  if (lost > 0) {
    log(LogLevel::kError, "chain", "chain={} {} blocks of its snapshots are lost", id(), lost);
  }
  if (!fresh_) {
    log(LogLevel::kInfo, "chain", "chain={} index rebuilt: {} frames, {} pages", id(),
        frames.size(), versions.size());
  }
  co_return Result<void>{};
}

}  // namespace clouddisk::snapshot
