// frame_book.h: what of each frame of a pack is in use, kept with the versions that use it: one
// change of a chain's index. Internal to snapshot/; a worker's, within one transaction.
//
// A frame is free when nothing uses it, and sparse when a version uses at most half of what it
// holds; sparse frames are marked for repacking (repack.cc).
#pragma once

#include <map>

#include "snapshot/chain_index.h"
#include "snapshot/index_records.h"

namespace clouddisk::snapshot {

struct FrameUse {
  std::uint64_t size = 0;
  FrameKind kind = FrameKind::kBlocks;
  std::uint32_t holds = 0;  // blocks or pages
  std::uint64_t page = 0;   // whose blocks, or the first of the pages
  std::uint64_t used = 0;   // blocks: a bit for each; pages: how many
  std::uint64_t used_count() const;
  bool sparse() const { return used != 0 && used_count() * 2 <= holds; }
};
Result<FrameUse> decode_frame(KvBytes key, KvBytes value);

class FrameBook {
 public:
  explicit FrameBook(KvWriter& txn) : txn_(txn) {}

  void create(const ChainIndex::NewFrame& frame);
  bool created(PackAddress address) const;
  Result<void> use_block(PackedBlock block);
  Result<void> use_record(PackAddress address);
  Result<void> free_block(PackedBlock block);
  Result<void> free_record(PackAddress address);
  // Removes a version of a page, and frees what no other version of it shows.
  Result<void> remove_version(std::uint64_t page, std::uint64_t seq);
  // Writes down what changed; the last call. The ranges of the pack that nothing needs any more are
  // noted as such in the index too.
  Result<std::vector<ChainIndex::Freed>> settle();

 private:
  struct Open {
    FrameUse use;
    bool was_sparse = false;
    bool is_new = false;
  };
  Result<FrameUse*> open(PackAddress address);
  using Ranges = std::map<std::uint64_t, std::uint64_t>;  // offset to length
  Result<void> note_freed(ChainIndex::Freed range, Ranges& freed);

  KvWriter& txn_;
  std::map<PackAddress, Open> frames_;
};

}  // namespace clouddisk::snapshot
