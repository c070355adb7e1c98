#include "snapshot/frame_book.h"

#include <algorithm>
#include <bit>

#include "engine/base/check.h"

namespace clouddisk::snapshot {
namespace {

Result<ChainIndex::Freed> whole_blocks(std::uint64_t first, std::uint64_t last) {
  first = align_up(first, kBlockSize);
  last = align_down(last, kBlockSize);
  if (first >= last) return ChainIndex::Freed{};
  return ChainIndex::Freed{first, last - first};
}

// The unused whole blocks around a frame that is gone.
Result<ChainIndex::Freed> gap_around(KvReader& txn, PackAddress address, PackAddress head) {
  std::uint64_t first = 0;
  auto before = txn.floor(pair_key(kFrame, address, 0));
  if (!before) return before.error();
  if (*before && is_pair((*before)->key, kFrame)) {
    auto use = decode_frame((*before)->key, (*before)->value);
    if (!use) return use.error();
    first = first_of((*before)->key) + use->size;
  }
  std::uint64_t last = head;
  auto after = txn.lower_bound(pair_key(kFrame, address, 0));
  if (!after) return after.error();
  if (*after && is_pair((*after)->key, kFrame)) last = first_of((*after)->key);
  return whole_blocks(first, last);
}

Result<void> put_frame(KvWriter& txn, PackAddress address, const FrameUse& use) {
  auto value = new_value(kFrameRecordVersion);
  put_le(value, use.size);
  put_le(value, static_cast<std::uint8_t>(use.kind));
  put_le(value, use.holds);
  put_le(value, use.page);
  put_le(value, use.used);
  return put(txn, pair_key(kFrame, address, 0), std::move(value));
}

}  // namespace

std::uint64_t FrameUse::used_count() const {
  return kind == FrameKind::kBlocks ? static_cast<std::uint64_t>(std::popcount(used)) : used;
}

Result<FrameUse> decode_frame(KvBytes key, KvBytes value) {
  auto fields = unseal(value, key, kFrameRecordVersion);
  if (!fields) return fields.error();
  ByteReader in(*fields);
  FrameUse use;
  use.size = in.le<std::uint64_t>();
  use.kind = static_cast<FrameKind>(in.le<std::uint8_t>());
  use.holds = in.le<std::uint32_t>();
  use.page = in.le<std::uint64_t>();
  use.used = in.le<std::uint64_t>();
  if (!in.ok()) return fail(Errc::kCorrupt, "chain index: frame cut off");
  return use;
}

void FrameBook::create(const ChainIndex::NewFrame& frame) {
  Open& open = frames_[frame.address];
  open.use = {frame.size, frame.kind, frame.holds, frame.page, 0};
  open.is_new = true;
}

bool FrameBook::created(PackAddress address) const {
  const auto it = frames_.find(address);
  return it != frames_.end() && it->second.is_new;
}

Result<FrameUse*> FrameBook::open(PackAddress address) {
  if (const auto it = frames_.find(address); it != frames_.end()) return &it->second.use;
  const PairKey key = pair_key(kFrame, address, 0);
  auto value = txn_.get(key);
  if (!value) return value.error();
  if (!*value) return fail(Errc::kCorrupt, "chain index: frame {} is missing", address);
  auto use = decode_frame(key, **value);
  if (!use) return use.error();
  Open& opened = frames_[address];
  opened.use = *use;
  opened.was_sparse = use->sparse();
  return &opened.use;
}

Result<void> FrameBook::use_block(PackedBlock block) {
  auto use = open(block.frame());
  if (!use) return use.error();
  (*use)->used |= std::uint64_t{1} << block.index();
  return {};
}

Result<void> FrameBook::use_record(PackAddress address) {
  auto use = open(address);
  if (!use) return use.error();
  CHECK((*use)->kind == FrameKind::kPages);
  ++(*use)->used;
  return {};
}

Result<void> FrameBook::free_block(PackedBlock block) {
  auto use = open(block.frame());
  if (!use) return use.error();
  (*use)->used &= ~(std::uint64_t{1} << block.index());
  return {};
}

Result<void> FrameBook::free_record(PackAddress address) {
  auto use = open(address);
  if (!use) return use.error();
  if ((*use)->kind != FrameKind::kPages || (*use)->used == 0) {
    return fail(Errc::kCorrupt, "chain index: frame {} holds no pages", address);
  }
  --(*use)->used;
  return {};
}

Result<void> FrameBook::remove_version(std::uint64_t page, std::uint64_t seq) {
  auto versions = load_versions(txn_, page);
  if (!versions) return versions.error();
  const auto it = std::find_if(versions->begin(), versions->end(),
                               [seq](const auto& version) { return version.seq == seq; });
  if (it == versions->end()) return fail(Errc::kCorrupt, "chain index: a version is missing");
  const PageVersion gone = *it;
  versions->erase(it);
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    const PackedBlock block = gone.content.blocks[i];
    if (block.is_hole()) continue;
    const bool needed =
        std::any_of(versions->begin(), versions->end(),
                    [i, block](const auto& version) { return version.content.blocks[i] == block; });
    if (needed) continue;
    if (auto freed = free_block(block); !freed) return freed;
  }
  if (auto freed = free_record(gone.record); !freed) return freed;
  if (auto erased = txn_.erase(pair_key(kPage, page, seq)); !erased) return erased;
  return txn_.erase(pair_key(kBySeq, seq, page));
}

Result<void> FrameBook::note_freed(ChainIndex::Freed range, Ranges& freed) {
  // Two ranges may begin at the same place: the longer holds the other.
  const PairKey key = pair_key(kFreed, range.offset, 0);
  auto noted = txn_.get(key);
  if (!noted) return noted.error();
  if (*noted) {
    auto fields = unseal(**noted, key);
    if (!fields) return fields.error();
    if (fields->size() != 8) return fail(Errc::kCorrupt, "chain index: freed range");
    range.length = std::max(range.length, load_le<std::uint64_t>(fields->data()));
  }
  freed[range.offset] = range.length;
  auto value = new_value();
  put_le(value, range.length);
  return put(txn_, key, std::move(value));
}

Result<std::vector<ChainIndex::Freed>> FrameBook::settle() {
  std::vector<std::pair<PackAddress, FrameUse>> dead;
  for (const auto& [address, open] : frames_) {
    const PairKey mark = pair_key(kSparse, open.use.page, address);
    Result<void> done;
    if (open.use.used == 0) {
      dead.emplace_back(address, open.use);
      done = txn_.erase(pair_key(kFrame, address, 0));
    } else {
      done = put_frame(txn_, address, open.use);
    }
    if (done && open.use.sparse()) {
      done = put_mark(txn_, mark);
    } else if (done && open.was_sparse) {
      done = txn_.erase(mark);
    }
    if (!done) return done.error();
  }
  if (dead.empty()) return std::vector<ChainIndex::Freed>();
  Ranges freed;  // neighbours that go together leave one gap
  auto head = read_head(txn_);
  if (!head) return head.error();
  auto incomplete = is_incomplete(txn_);
  if (!incomplete) return incomplete.error();
  for (const auto& [address, use] : dead) {
    // What lies between the frames of an incomplete index may be needed.
    auto gap =
        *incomplete ? whole_blocks(address, address + use.size) : gap_around(txn_, address, *head);
    if (!gap) return gap.error();
    if (gap->length > 0) {
      if (auto noted = note_freed(*gap, freed); !noted) return noted.error();
    }
    if (use.kind != FrameKind::kPages) continue;
    // Every byte of a record goes, even in a block that it shares: a rebuild of the index must not
    // find again what a later snapshot of the same page would then show.
    const std::uint64_t end = address + use.size;
    const std::uint64_t gap_end = gap->offset + gap->length;
    const bool has_gap = gap->length > 0;
    const ChainIndex::Freed before{address, (has_gap ? std::min(end, gap->offset) : end) - address};
    if (!has_gap || address < gap->offset) {
      if (auto noted = note_freed(before, freed); !noted) return noted.error();
    }
    if (has_gap && end > gap_end) {
      const std::uint64_t from = std::max(address, gap_end);
      if (auto noted = note_freed({from, end - from}, freed); !noted) return noted.error();
    }
  }
  std::vector<ChainIndex::Freed> ranges;
  for (const auto& [offset, length] : freed) ranges.push_back({offset, length});
  return ranges;
}

}  // namespace clouddisk::snapshot
