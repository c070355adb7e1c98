// capture.h: brings a frozen moment of a disk into its chain: the blocks that differ from the
// snapshot it descends from, exactly, by 4 KiB. Blocks of zeros are holes.
//
// What changed is told by places: the map keeps where everything was at the moment captured last
// (its reference), and a place is written once. Where places differ and the content may be the same
// all the same, or where the map has no reference (the first capture of a storage, a lost index),
// the content is compared with the chain's.
//
// Thread: the ring that disk and chain share. Progress is durable page by page (CaptureCursor), so
// a capture goes on after a crash.
#pragma once

#include <functional>

#include "snapshot/chain.h"
#include "snapshot/pace.h"

namespace clouddisk::snapshot {

struct CaptureSpec {
  std::uint64_t seq = 0;  // of the snapshot
  Epoch view;             // of the disk, frozen for it
  std::uint64_t size_bytes = 0;
  std::uint64_t parent = 0;  // sequence that the disk's content descends from; 0: none
  // Epoch of the disk's storage at which its content was that of `parent`; 0: none.
  Epoch reference;
  // What the disk borrows is the parent's content.
  bool base_is_parent = false;
  PaceLimits pace{};  // of what is read from the disk, beside its clients
};

struct CaptureProgress {
  std::uint64_t pages_done = 0;
  std::uint64_t pages_total = 0;
};

// Until `cancelled` says so (kShutdown), or everything is stored: then what it took.
Task<Result<CaptureCursor>> capture(Disk& disk, Chain& chain, CaptureSpec spec,
                                    std::function<bool()> cancelled,
                                    std::function<void(const CaptureProgress&)> progress);

}  // namespace clouddisk::snapshot
