#include "snapshot/chain_index.h"

#include <algorithm>
#include <array>

#include "engine/base/checksum.h"
#include "snapshot/frame_book.h"
#include "snapshot/index_records.h"

namespace clouddisk::snapshot {

Result<PackAddress> ChainIndex::head() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  return read_head(**txn);
}

Result<bool> ChainIndex::incomplete() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  return is_incomplete(**txn);
}

ChainIndex::Sound ChainIndex::sound() {
  Sound sound;
  auto txn = kv_->read();
  if (!txn) return sound;
  // An error ends a scan: what came before it counts.
  static_cast<void>((*txn)->scan(
      pair_key(kPage, 0, 0), pair_key(kPage + 1, 0, 0), [&sound](KvBytes key, KvBytes value) {
        if (!is_pair(key, kPage)) return true;
        auto version = decode_version(key, value);
        if (!version) return true;
        sound.versions.push_back({version->seq, first_of(key), version->record, version->content});
        return true;
      }));
  static_cast<void>((*txn)->scan(
      pair_key(kFrame, 0, 0), pair_key(kFrame + 1, 0, 0), [&sound](KvBytes key, KvBytes value) {
        if (!is_pair(key, kFrame)) return true;
        auto use = decode_frame(key, value);
        if (!use) return true;
        sound.frames.push_back({first_of(key), use->size, use->kind, use->holds, use->page});
        return true;
      }));
  return sound;
}

Result<void> ChainIndex::verify() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  const std::array<std::byte, 1> first{std::byte{0}};
  const std::array<std::byte, 1> last{std::byte{0xff}};
  // Which versions there are, by page and by sequence, added up: marks have no checksum.
  std::uint64_t by_page = 0;
  std::uint64_t by_seq = 0;
  Result<void> problem;
  auto scanned = (*txn)->scan(first, last, [&](KvBytes key, KvBytes value) {
    if (key.size() != kPairKeySize) {
      problem = fail(Errc::kCorrupt, "chain index: a key of {} bytes", key.size());
    } else if (is_pair(key, kBySeq)) {
      by_seq += checksum64(pair_key(kPage, second_of(key), first_of(key)));
    } else if (!is_pair(key, kSparse) && !is_pair(key, kIncomplete)) {
      if (is_pair(key, kPage)) by_page += checksum64(key);
      const auto version = is_pair(key, kFrame) ? kFrameRecordVersion : kRecordVersion;
      if (auto sound = unseal(value, key, version); !sound) problem = sound.error();
    }
    return problem.has_value();
  });
  if (!scanned) return scanned;
  if (problem && by_page != by_seq) {
    problem = fail(Errc::kCorrupt, "chain index: the lists of versions differ");
  }
  return problem;
}

Result<std::vector<ChainPageRef>> ChainIndex::pages(std::span<const std::uint64_t> pages,
                                                    std::uint64_t seq) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  std::vector<ChainPageRef> found;
  found.reserve(pages.size());
  for (const std::uint64_t page : pages) {
    auto entry = (*txn)->floor(pair_key(kPage, page, seq));
    if (!entry) return entry.error();
    ChainPageRef& content = found.emplace_back();
    if (!*entry || !is_pair((*entry)->key, kPage) || first_of((*entry)->key) != page) continue;
    auto version = decode_version((*entry)->key, (*entry)->value);
    if (!version) return fail(version.error(), "page {}", page);
    if (!version->content.empty()) content = std::make_shared<const ChainPage>(version->content);
  }
  return found;
}

Result<std::optional<std::uint64_t>> ChainIndex::next_page(std::uint64_t page) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto entry = (*txn)->lower_bound(pair_key(kPage, page, 0));
  if (!entry) return entry.error();
  std::optional<std::uint64_t> found;
  if (*entry && is_pair((*entry)->key, kPage)) found = first_of((*entry)->key);
  return found;
}

Result<std::vector<std::uint64_t>> ChainIndex::pages_between(std::uint64_t after,
                                                             std::uint64_t up_to) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  std::vector<std::uint64_t> pages;
  bool strange = false;
  auto scanned = (*txn)->scan(pair_key(kBySeq, after + 1, 0), pair_key(kBySeq, up_to + 1, 0),
                              [&pages, &strange](KvBytes key, KvBytes) {
                                strange = !is_pair(key, kBySeq);
                                if (!strange) pages.push_back(second_of(key));
                                return !strange;
                              });
  if (!scanned) return scanned.error();
  if (strange) return fail(Errc::kCorrupt, "chain index: a strange key");
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  return pages;
}

Result<std::optional<CaptureCursor>> ChainIndex::cursor(std::uint64_t seq) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  const PairKey key = pair_key(kCursor, seq, 0);
  auto value = (*txn)->get(key);
  if (!value) return value.error();
  if (!*value) return std::optional<CaptureCursor>();
  auto fields = unseal(**value, key);
  if (!fields) return fields.error();
  ByteReader in(*fields);
  CaptureCursor cursor;
  cursor.next_page = in.le<std::uint64_t>();
  cursor.changed_bytes = in.le<std::uint64_t>();
  cursor.stored_bytes = in.le<std::uint64_t>();
  if (!in.ok()) return fail(Errc::kCorrupt, "chain index: cursor cut off");
  return std::optional(cursor);
}

Result<std::vector<ChainIndex::Freed>> ChainIndex::add(const Addition& addition) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  FrameBook book(**txn);
  for (const NewFrame& frame : addition.frames) book.create(frame);
  for (const NewPage& added : addition.pages) {
    // After a rebuild a capture that was under way begins anew.
    auto before = (*txn)->get(pair_key(kPage, added.page, addition.seq));
    if (!before) return before.error();
    if (*before) {
      auto removed = book.remove_version(added.page, addition.seq);
      if (!removed) return removed.error();
    }
    auto done = put_version(**txn, added.page, {addition.seq, added.record, added.content});
    if (done) done = put_mark(**txn, pair_key(kBySeq, addition.seq, added.page));
    for (const PackedBlock block : added.content.blocks) {
      // Blocks of older frames are in use already: an older version of this page shows them.
      if (block.is_hole() || (!addition.any_frames && !book.created(block.frame()))) continue;
      if (done) done = book.use_block(block);
    }
    if (done) done = book.use_record(added.record);
    if (!done) return done.error();
  }
  if (addition.head) {
    auto done = put_head(**txn, *addition.head);
    if (done && addition.incomplete) done = put_mark(**txn, pair_key(kIncomplete, 0, 0));
    if (!done) return done.error();
  }
  if (addition.seq != 0) {
    auto cursor = new_value();
    put_le(cursor, addition.cursor.next_page);
    put_le(cursor, addition.cursor.changed_bytes);
    put_le(cursor, addition.cursor.stored_bytes);
    auto done = put(**txn, pair_key(kCursor, addition.seq, 0), std::move(cursor));
    if (!done) return done.error();
  }
  auto freed = book.settle();
  if (!freed) return freed;
  if (auto committed = (*txn)->commit(); !committed) return committed.error();
  return freed;
}

Result<std::vector<ChainIndex::Sparse>> ChainIndex::sparse(std::size_t frames_max) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  std::vector<Sparse> found;
  bool strange = false;
  auto scanned = (*txn)->scan(pair_key(kSparse, 0, 0), pair_key(kSparse + 1, 0, 0),
                              [&found, &strange, frames_max](KvBytes key, KvBytes) {
                                if (found.size() == frames_max) return false;
                                strange = !is_pair(key, kSparse);
                                if (strange) return false;
                                Sparse sparse;
                                sparse.page = first_of(key);
                                sparse.address = second_of(key);
                                found.push_back(sparse);
                                return true;
                              });
  if (!scanned) return scanned.error();
  if (strange) return fail(Errc::kCorrupt, "chain index: a strange key");
  for (Sparse& sparse : found) {
    const PairKey key = pair_key(kFrame, sparse.address, 0);
    auto value = (*txn)->get(key);
    if (!value) return value.error();
    if (!*value) return fail(Errc::kCorrupt, "chain index: frame {} is missing", sparse.address);
    auto use = decode_frame(key, **value);
    if (!use) return use.error();
    sparse.size = use->size;
    sparse.kind = use->kind;
  }
  return found;
}

Result<std::vector<ChainIndex::Version>> ChainIndex::versions(std::uint64_t page) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto loaded = load_versions(**txn, page);
  if (!loaded) return loaded.error();
  std::vector<Version> versions;
  for (const PageVersion& version : *loaded) {
    versions.push_back({version.seq, page, version.record, version.content});
  }
  return versions;
}

Result<std::vector<ChainIndex::Freed>> ChainIndex::move(const Move& move) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  FrameBook book(**txn);
  for (const NewFrame& frame : move.frames) book.create(frame);
  for (const Version& version : move.versions) {
    const PairKey key = pair_key(kPage, version.page, version.seq);
    auto value = (*txn)->get(key);
    if (!value) return value.error();
    if (!*value) return fail(Errc::kCorrupt, "chain index: a version is missing");
    auto before = decode_version(key, **value);
    if (!before) return before.error();
    Result<void> done;
    for (std::size_t i = 0; i < kPageBlocks; ++i) {
      const PackedBlock from = before->content.blocks[i];
      const PackedBlock to = version.content.blocks[i];
      if (from == to) continue;
      if (done) done = book.free_block(from);
      if (done) done = book.use_block(to);
    }
    if (done) done = book.free_record(before->record);
    if (done) done = book.use_record(version.record);
    if (done)
      done = put_version(**txn, version.page, {version.seq, version.record, version.content});
    if (!done) return done.error();
  }
  if (auto done = put_head(**txn, move.head); !done) return done.error();
  auto freed = book.settle();
  if (!freed) return freed;
  for (const Sparse& done : move.done) {
    auto erased = (*txn)->erase(pair_key(kSparse, done.page, done.address));
    if (!erased) return erased.error();
  }
  if (auto committed = (*txn)->commit(); !committed) return committed.error();
  return freed;
}

Result<ChainIndex::Usage> ChainIndex::usage() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  Usage usage;
  Result<void> problem;
  auto scanned = (*txn)->scan(
      pair_key(kFrame, 0, 0), pair_key(kFrame + 1, 0, 0), [&](KvBytes key, KvBytes value) {
        auto use = decode_frame(key, value);
        if (!use || !is_pair(key, kFrame)) {
          problem = use ? fail(Errc::kCorrupt, "chain index: a strange key") : use.error();
          return false;
        }
        usage.frame_bytes += use->size;
        ++usage.frames;
        if (use->kind == FrameKind::kBlocks) {
          usage.held_blocks += use->holds;
          usage.shown_blocks += use->used_count();
        }
        return true;
      });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return usage;
}

Result<std::vector<ChainIndex::Freed>> ChainIndex::freed() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  std::vector<Freed> freed;
  Result<void> problem;
  auto scanned = (*txn)->scan(
      pair_key(kFreed, 0, 0), pair_key(kFreed + 1, 0, 0), [&](KvBytes key, KvBytes value) {
        auto fields = unseal(value, key);
        if (!fields || fields->size() != 8 || !is_pair(key, kFreed)) {
          problem = fail(Errc::kCorrupt, "chain index: freed range");
          return false;
        }
        freed.push_back({first_of(key), load_le<std::uint64_t>(fields->data())});
        return true;
      });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return freed;
}

Result<void> ChainIndex::forget_freed(const std::vector<Freed>& trimmed) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  for (const Freed& range : trimmed) {
    auto erased = (*txn)->erase(pair_key(kFreed, range.offset, 0));
    if (!erased) return erased;
  }
  return (*txn)->commit();
}

}  // namespace clouddisk::snapshot
