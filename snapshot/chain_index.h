// chain_index.h: the index of a chain: which snapshot has which block where. Versioned pages, as in
// the map of a disk: key (page, snapshot), and a snapshot sees the newest version <= its own. One
// seek finds any page of any snapshot, however many there are.
//
// Derived data: the pack holds the pages as well (FrameKind::kPages), and rebuilds it.
// Thread: workers; reads beside each other and beside one change. Changes are one transaction each.
// Errors: kCorrupt: rebuild it from the pack. kNoSpace: nothing changed.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "engine/ring/kv.h"
#include "snapshot/chain_page.h"

namespace clouddisk::snapshot {

// How far the capture of a snapshot is; kept with the pages that it names.
struct CaptureCursor {
  std::uint64_t next_page = 0;
  std::uint64_t changed_bytes = 0;  // blocks stored, before compression
  std::uint64_t stored_bytes = 0;   // what they take in the pack
  std::uint64_t heals = 0;          // Chain::heals() when it was read; not stored
};

class ChainIndex {
 public:
  explicit ChainIndex(std::unique_ptr<Kv> kv) : kv_(std::move(kv)) {}

  // Reads everything once. A version whose key is damaged would not be missed by those who look it
  // up: they would see an older one. Here its checksum, which covers the key, tells.
  Result<void> verify();
  // Where the next frame goes. kNotFound: the index was never finished.
  Result<PackAddress> head();
  // See Addition: it is to be made anew at the next open.
  Result<bool> incomplete();
  // Pages of a snapshot. Null: all holes.
  Result<std::vector<ChainPageRef>> pages(std::span<const std::uint64_t> pages, std::uint64_t seq);
  // The first page >= `page` with any version.
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page);
  // Pages with a version of a snapshot in (after, up_to], ascending.
  Result<std::vector<std::uint64_t>> pages_between(std::uint64_t after, std::uint64_t up_to);
  Result<std::optional<CaptureCursor>> cursor(std::uint64_t seq);

  struct NewFrame {
    PackAddress address = 0;
    std::uint64_t size = 0;
    FrameKind kind = FrameKind::kBlocks;
    std::uint32_t holds = 0;  // blocks or pages
    std::uint64_t page = 0;   // whose blocks, or the first of the pages
  };
  struct NewPage {
    std::uint64_t page = 0;
    ChainPage content;
    PackAddress record = 0;  // the frame that repeats it
  };
  // What one step of a capture brought.
  struct Addition {
    std::uint64_t seq = 0;
    std::vector<NewPage> pages;
    std::vector<NewFrame> frames;
    std::optional<PackAddress>
        head;  // a rebuild sets it last: without it the index is not finished
    CaptureCursor cursor;
    // With `head`, of a rebuild: the pack may hold what is not in the index. Nothing around a frame
    // is freed with it then.
    bool incomplete = false;
    // A rebuild: blocks of frames that came with another addition are booked as well.
    bool any_frames = false;
  };
  // Whole blocks of the pack that nothing needs any more, and records of pages, to the byte.
  struct Freed {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  // What a version that is replaced held is freed: remembered until forget_freed().
  Result<std::vector<Freed>> add(const Addition& addition);

  struct Purge {
    std::vector<Freed> freed;  // remembered until forget_freed()
    bool more = false;         // call again, from there on
    std::uint64_t next_seq = 0;
    std::uint64_t next_page = 0;
  };
  // Removes versions that none of `live` sees and that came with a snapshot up to `gone`, or before
  // it if it is live itself: a step that removes at most `pages_max` of them. `before` is what the
  // step before gave.
  Result<Purge> purge(std::uint64_t gone, const std::set<std::uint64_t>& live,
                      std::size_t pages_max, const Purge& before);

  // What was freed and perhaps not trimmed before a crash.
  Result<std::vector<Freed>> freed();
  Result<void> forget_freed(const std::vector<Freed>& trimmed);

  // --- Repacking (repack.cc) ---
  // Frames of which no version shows more than half, by page.
  struct Sparse {
    std::uint64_t page = 0;
    PackAddress address = 0;
    std::uint64_t size = 0;
    FrameKind kind = FrameKind::kBlocks;
  };
  Result<std::vector<Sparse>> sparse(std::size_t frames_max);
  struct Version {
    std::uint64_t seq = 0;
    std::uint64_t page = 0;
    PackAddress record = 0;
    ChainPage content;
  };
  // Of a page, the oldest first.
  Result<std::vector<Version>> versions(std::uint64_t page);
  struct Move {
    std::vector<Version> versions;  // as they are from now on: same blocks, other places
    std::vector<NewFrame> frames;
    std::vector<Sparse> done;  // moved, or stay where they are: not listed as sparse any more
    PackAddress head = 0;
  };
  // Of a damaged index: what is sound, as far as it can be read.
  struct Sound {
    std::vector<Version> versions;
    std::vector<NewFrame> frames;
  };
  Sound sound();
  // Every version that shows a moved block moves with it. What was freed: see add().
  Result<std::vector<Freed>> move(const Move& move);

  // Frames that hold something.
  struct Usage {
    std::uint64_t frame_bytes = 0;
    std::uint64_t frames = 0;
    std::uint64_t held_blocks = 0;   // in frames
    std::uint64_t shown_blocks = 0;  // of them, by some snapshot
  };
  Result<Usage> usage();

  std::uint64_t size_bytes() const { return kv_->size_bytes(); }

 private:
  std::unique_ptr<Kv> kv_;
};

}  // namespace clouddisk::snapshot
