// chain.h: the snapshots of one disk: a pack with their blocks and an index that tells which
// snapshot has which block where.
//
//   pack    an engine Disk of its own, named after the chain (sl-…): three replicas, checksums,
//   repair,
//           resync and compaction come with it. Frames (frame.h) are appended at ever higher
//           addresses, and trimmed when the last snapshot that shows them is gone.
//   index   ChainIndex, in LMDB, derived from the pack
//
// Snapshots are known by their sequence. Which of them exist is told by whoever opens the chain; a
//   version that none of them sees goes.
// Memory: `environment.client_buffers` is a pool that no client of a disk holds memory of: whoever
//   reads a borrowed block has its own already, and may wait here.
// Thread: the ring of its environment, except the parts marked otherwise.
// Errors: kIo: blocks asked for are lost or damaged on every replica; others are whole.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/disk/block_source.h"
#include "engine/disk/disk.h"
#include "engine/disk/read_gate.h"
#include "engine/ring/sync.h"
#include "snapshot/chain_index.h"
#include "snapshot/compressor.h"
#include "snapshot/frame_cache.h"
#include "snapshot/pace.h"
#include "snapshot/pack_writer.h"

namespace clouddisk::snapshot {

class Chain {
 public:
  struct Options {
    int compression_level = 3;
    std::size_t frame_cache_bytes = 8_MiB;
    std::size_t page_cache_pages = 2048;
    Disk::Options pack;
    // In the background, once so many frames are mostly unused: 64 of them hold 4 MiB at most.
    bool repack = true;
    std::size_t repack_frames_min = 64;
    PaceLimits pace{};
    // Counts what clients of the disk have asked for; the ring's thread.
    std::function<std::uint64_t()> client_requests{};
  };
  struct Identity {
    std::string id;                // sl-…
    std::string index_directory;   // of the pack's map; the chain's index is beside it
    std::set<std::uint64_t> live;  // sequences of snapshots that exist or are being captured
  };

  static Task<Result<std::shared_ptr<Chain>>> open(DiskEnvironment& environment, Identity identity,
                                                   Options options);
  // Removes the storage of a chain that is not open.
  static Task<Result<void>> remove(DiskEnvironment& environment, Identity identity);
  ~Chain();

  const std::string& id() const { return identity_.id; }
  Ring& ring() { return environment_.ring; }
  DiskEnvironment& environment() { return environment_; }
  Disk& pack() { return *pack_; }

  // --- Reading ---
  // Null: all holes. Equal places hold equal content, then and later; what is there may move on
  // (repack.cc), so it is read with read().
  Task<Result<ChainPageRef>> page(std::uint64_t seq, std::uint64_t page);
  // The same of several.
  Task<Result<std::vector<ChainPageRef>>> pages(std::uint64_t seq,
                                                std::vector<std::uint64_t> pages);
  // Fills `into`, a number of whole blocks.
  Task<Result<void>> read(std::uint64_t seq, Lba first, std::span<std::byte> into);
  Task<Result<std::vector<std::uint64_t>>> pages_between(std::uint64_t after, std::uint64_t up_to);
  // The first page >= `page` that some snapshot has anything in. Worker.
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page) {
    return index_->next_page(page);
  }

  // --- Growing: one capture at a time ---
  struct ChangedPage {
    std::uint64_t page = 0;
    std::uint64_t parent = 0;           // the snapshot that has
    PagePresence unchanged;             // these blocks already
    std::vector<std::uint8_t> changed;  // indexes of the blocks whose content is in `frames`
    PackedFrames frames;
    // All other blocks are holes.
  };
  // For pages of `seq`, each with the blocks that change in it. Several calls may be under way.
  Task<std::vector<PackedFrames>> compress(std::uint64_t seq, std::vector<BlockData> pages) {
    return compressor_.compress(seq, std::move(pages));
  }
  Task<Result<std::optional<CaptureCursor>>> cursor(std::uint64_t seq);
  // Stores the pages as versions of `seq`, durably, and moves the cursor. `cursor.changed_bytes`
  // and `stored_bytes` are counted up. Was the index made anew since the cursor was read, it may
  // lack pages before it: then nothing is stored, and the cursor returned is at the beginning.
  Task<Result<CaptureCursor>> add(std::uint64_t seq, std::vector<ChangedPage> pages,
                                  CaptureCursor cursor);
  std::uint64_t heals() const { return heals_; }
  // A snapshot that is about to be captured, or was imported.
  void begin(std::uint64_t seq) { identity_.live.insert(seq); }
  const std::set<std::uint64_t>& live() const { return identity_.live; }
  // Lets go of a snapshot: what only it showed is removed, and the space of it given back.
  Task<Result<void>> drop(std::uint64_t seq);

  // --- Upkeep ---
  // After the capture of `seq`: versions of deleted snapshots before it that it might have needed.
  Task<Result<void>> tidy(std::uint64_t seq);
  // Moves the blocks of frames that are mostly unused together (repack.cc), a step at a time, until
  // no such frame is left; nothing while there are fewer than `frames_min`. Returns how many there
  // were.
  Task<Result<std::uint64_t>> repack(std::size_t frames_min);
  struct Usage {
    std::uint64_t frame_bytes = 0;   // of frames in use
    std::uint64_t held_blocks = 0;   // blocks in them
    std::uint64_t shown_blocks = 0;  // those that some snapshot shows
    std::uint64_t stored_bytes = 0;  // segments on one replica
    std::uint64_t index_bytes = 0;
  };
  Task<Result<Usage>> usage();
  // Scrub: reads the whole index. kCorrupt: it was damaged, and is made anew from the pack by now.
  Task<Result<void>> check_index();
  // No call may be under way.
  Task<Result<void>> close();

 private:
  struct PageKey {
    std::uint64_t seq;
    std::uint64_t page;
    auto operator<=>(const PageKey&) const = default;
  };

  Chain(DiskEnvironment& environment, Identity identity, Options options);
  std::string chain_index_directory() const { return identity_.index_directory + "-chain"; }
  Task<Result<void>> open_index();
  // chain_rebuild.cc
  Task<Result<void>> rebuild();
  // Whether the pack has pages of snapshots that the index has not: it is an older one, put back by
  // hand or by a loss of power, or a crash came between the pack's flush and the index's commit.
  Task<Result<bool>> is_behind_pack();
  struct FoundFrame {
    FrameHeader header;
    std::vector<std::byte> pages;  // raw, of a frame of pages
  };
  Task<Result<PackAddress>> scan_pack(std::uint64_t from, std::set<std::uint64_t>& unreadable,
                                      std::function<void(const FoundFrame&)> visit);
  Task<Result<Buffer>> read_whatever_is_there(std::uint64_t offset, std::uint32_t length,
                                              std::set<std::uint64_t>& unreadable);
  // For a change: one at a time, and an index that was found damaged is made anew first.
  Task<Result<AsyncMutex::Guard>> lock();
  // What an answer of the index says of it; passes the error on.
  Error note(Error error);
  Task<Result<ChainPageRef>> lookup(std::uint64_t seq, std::uint64_t page);
  Task<Result<std::vector<ChainPageRef>>> lookup(std::uint64_t seq,
                                                 const std::vector<std::uint64_t>& pages);
  void keep(PageKey key, ChainPageRef content);
  Task<Result<void>> purge(std::uint64_t seq);
  Task<Result<void>> trim_freed(std::vector<ChainIndex::Freed> freed);
  // What was written behind the head belongs to no version: an add() that failed, or a crash.
  Task<Result<void>> trim_behind_head();
  Task<Result<FrameData>> frame(PackedBlock block);
  // Blocks of one page, from `first_index` on. The caller holds a pass since it looked the page up.
  Task<Result<void>> read_page(const ChainPage& page, std::size_t first_index,
                               std::span<std::byte> into);
  // The same of a snapshot, in one pass. kCorrupt: of the index.
  Task<Result<void>> read_in_page(std::uint64_t seq, std::uint64_t page, std::size_t first_index,
                                  std::span<std::byte> into);
  // Writes the frames of `count` blocks of a page; where each block is.
  Task<Result<std::vector<PackedBlock>>> place_blocks(PackWriter& writer, std::uint64_t page,
                                                      std::size_t count, PackedFrames packed,
                                                      std::vector<ChainIndex::NewFrame>& frames);
  // Repeats pages of a snapshot in the pack, and says in which frame.
  struct RecordedPage {
    std::uint64_t page = 0;
    const ChainPage* content = nullptr;
    PackAddress* record = nullptr;
  };
  Task<Result<void>> place_records(PackWriter& writer, std::uint64_t seq,
                                   std::vector<RecordedPage> pages,
                                   std::vector<ChainIndex::NewFrame>& frames);
  Task<Result<void>> pack_pages(PackWriter& writer, std::vector<ChangedPage>& pages,
                                ChainIndex::Addition& addition);
  // repack.cc
  struct Repacking;
  void repack_if_due();
  Task<void> repack_in_background();
  Task<void> pause(std::uint64_t bytes);
  Task<Result<void>> repack_step(std::vector<ChainIndex::Sparse> sparse);
  Task<Result<void>> gather(Repacking& work, ChainIndex::Sparse sparse);
  Task<Result<void>> move_page(Repacking& work, std::uint64_t page);
  Task<Result<void>> commit(Repacking& work);

  DiskEnvironment& environment_;
  Identity identity_;
  Options options_;
  ChainTag tag_;
  std::shared_ptr<Disk> pack_;
  std::shared_ptr<ChainIndex> index_;  // shared with workers
  bool fresh_ = false;                 // there was no pack before
  bool damaged_ = false;               // the index; it is made anew before the next change
  PackAddress head_ = 0;
  bool behind_head_ = false;  // something may stand there: it goes before anything is written
  std::uint64_t heals_ = 0;   // how often the index was made anew since the open
  AsyncMutex changing_;
  ReadGate gate_;  // those who looked a place up and have not read it yet
  WaitGroup background_;
  Signal closing_signal_;
  Pace pace_;
  bool closing_ = false;
  bool repacking_ = false;
  Compressor compressor_;
  FrameCache frames_;
  std::map<PageKey, ChainPageRef> pages_;  // cleared when it is full
  std::uint64_t generation_ = 0;           // grows when pages may have moved
};

}  // namespace clouddisk::snapshot
