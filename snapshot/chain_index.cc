#include "snapshot/chain_index.h"

#include <algorithm>
#include <array>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/checksum.h"

namespace clouddisk::snapshot {
namespace {

// Keys. Numbers are big-endian, so that byte order is number order.
//   'c'                 head of the pack
//   'f' address zero    a frame: size, kind, what of it is used
//   'g' seq zero        how far a capture is
//   'p' page seq        a version of a page
//   'q' seq page        the single byte 1: that version exists
//   't' offset zero     a range of the pack to be trimmed: its length
constexpr char kHead = 'c';
constexpr char kFrame = 'f';
constexpr char kCursor = 'g';
constexpr char kPage = 'p';
constexpr char kBySeq = 'q';
constexpr char kFreed = 't';
constexpr std::uint8_t kRecordVersion = 1;
constexpr std::size_t kPairKeySize = 17;

using PairKey = std::array<std::byte, kPairKeySize>;

PairKey pair_key(char kind, std::uint64_t first, std::uint64_t second) {
  PairKey key;
  key[0] = static_cast<std::byte>(kind);
  store_be(key.data() + 1, first);
  store_be(key.data() + 9, second);
  return key;
}
std::uint64_t first_of(KvBytes key) {
  return load_be<std::uint64_t>(key.data() + 1);
}
std::uint64_t second_of(KvBytes key) {
  return load_be<std::uint64_t>(key.data() + 9);
}
bool is_pair(KvBytes key, char kind) {
  return key.size() == kPairKeySize && key[0] == static_cast<std::byte>(kind);
}

// value = checksum (of key and the rest) | version | fields
std::vector<std::byte> new_value() {
  std::vector<std::byte> value(9);
  value[8] = std::byte{kRecordVersion};
  return value;
}
template <class T>
void put_le(std::vector<std::byte>& value, T number) {
  value.resize(value.size() + sizeof number);
  store_le(value.data() + value.size() - sizeof number, number);
}
Result<void> put(KvWriter& txn, const PairKey& key, std::vector<std::byte> value) {
  store_le(value.data(), checksum64(std::span(value).subspan(8), checksum64(key)));
  return txn.put(key, value);
}
Result<std::span<const std::byte>> unseal(KvBytes value, KvBytes key) {
  if (value.size() < 9 ||
      load_le<std::uint64_t>(value.data()) != checksum64(value.subspan(8), checksum64(key))) {
    return fail(Errc::kCorrupt, "chain index: checksum mismatch");
  }
  if (const auto version = std::to_integer<unsigned>(value[8]); version > kRecordVersion) {
    return fail(Errc::kUnsupported,
                "chain index of format {}, newer than this clouddisk knows ({}): upgrade clouddisk",
                version, kRecordVersion);
  }
  return value.subspan(9);
}

struct PageVersion {
  std::uint64_t seq = 0;
  PackAddress record = 0;
  ChainPage content;
};

Result<PageVersion> decode_version(KvBytes key, KvBytes value) {
  auto fields = unseal(value, key);
  if (!fields) return fields.error();
  if (fields->size() < 8) return fail(Errc::kCorrupt, "chain index: page cut off");
  PageVersion version;
  version.seq = second_of(key);
  version.record = load_le<std::uint64_t>(fields->data());
  auto runs = fields->subspan(8);
  auto page = decode_runs(runs);
  if (!page) return page.error();
  version.content = *page;
  return version;
}

struct FrameUse {
  std::uint64_t size = 0;
  FrameKind kind = FrameKind::kBlocks;
  std::uint64_t used = 0;  // blocks: a bit for each; pages: how many
};

Result<FrameUse> decode_frame(KvBytes key, KvBytes value) {
  auto fields = unseal(value, key);
  if (!fields) return fields.error();
  ByteReader in(*fields);
  FrameUse use;
  use.size = in.le<std::uint64_t>();
  use.kind = static_cast<FrameKind>(in.le<std::uint8_t>());
  use.used = in.le<std::uint64_t>();
  if (!in.ok()) return fail(Errc::kCorrupt, "chain index: frame cut off");
  return use;
}

Result<void> put_frame(KvWriter& txn, PackAddress address, const FrameUse& use) {
  auto value = new_value();
  put_le(value, use.size);
  put_le(value, static_cast<std::uint8_t>(use.kind));
  put_le(value, use.used);
  return put(txn, pair_key(kFrame, address, 0), std::move(value));
}

Result<PackAddress> read_head(KvReader& txn) {
  const PairKey key = pair_key(kHead, 0, 0);
  auto value = txn.get(key);
  if (!value) return value.error();
  if (!*value) return fail(Errc::kNotFound, "the chain's index is not finished");
  auto fields = unseal(**value, key);
  if (!fields) return fields.error();
  if (fields->size() != 8) return fail(Errc::kCorrupt, "chain index: head cut off");
  return load_le<std::uint64_t>(fields->data());
}

Result<std::vector<PageVersion>> load_versions(KvReader& txn, std::uint64_t page) {
  std::vector<PageVersion> versions;
  Result<void> problem;
  auto scanned = txn.scan(pair_key(kPage, page, 0), pair_key(kPage, page + 1, 0),
                          [&](KvBytes key, KvBytes value) {
                            auto version = decode_version(key, value);
                            if (!version) {
                              problem = version.error();
                              return false;
                            }
                            versions.push_back(std::move(*version));
                            return true;
                          });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return versions;
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
  first = align_up(first, kBlockSize);
  last = align_down(last, kBlockSize);
  if (first >= last) return ChainIndex::Freed{};
  return ChainIndex::Freed{first, last - first};
}

// One purge under way.
class Purger {
 public:
  Purger(KvWriter& txn, std::uint64_t gone, const std::set<std::uint64_t>& live)
      : txn_(txn), live_(live) {
    last_ = live.count(gone) != 0 ? gone - 1 : gone;
    const auto after = live.lower_bound(last_ + 1);
    if (after != live.end()) next_ = *after;
    if (after != live.begin()) previous_ = *std::prev(after);
  }

  Result<ChainIndex::Purge> run(std::size_t pages_max) {
    struct Candidate {
      std::uint64_t seq;
      std::uint64_t page;
    };
    std::vector<Candidate> candidates;
    ChainIndex::Purge purge;
    Result<void> problem;
    auto scanned = txn_.scan(pair_key(kBySeq, previous_ + 1, 0), pair_key(kBySeq, last_ + 1, 0),
                             [&](KvBytes key, KvBytes) {
                               const Candidate candidate{first_of(key), second_of(key)};
                               auto seen = is_seen(candidate.seq, candidate.page);
                               if (!seen) {
                                 problem = seen.error();
                                 return false;
                               }
                               if (*seen) return true;
                               if (candidates.size() == pages_max) {
                                 purge.more = true;
                                 return false;
                               }
                               candidates.push_back(candidate);
                               return true;
                             });
    if (!scanned) return scanned.error();
    if (!problem) return problem.error();
    for (const Candidate& candidate : candidates) {
      if (auto removed = remove(candidate.seq, candidate.page); !removed) return removed.error();
    }
    auto head = read_head(txn_);
    if (!head) return head.error();
    for (const PackAddress address : dead_) {
      auto gap = gap_around(txn_, address, *head);
      if (!gap) return gap.error();
      if (gap->length == 0) continue;
      purge.freed.push_back(*gap);
      auto value = new_value();
      put_le(value, gap->length);
      auto noted = put(txn_, pair_key(kFreed, gap->offset, 0), std::move(value));
      if (!noted) return noted.error();
    }
    return purge;
  }

 private:
  // Versions here came after the live snapshot before; the one after sees them unless a newer
  // version came by then.
  Result<bool> is_seen(std::uint64_t seq, std::uint64_t page) {
    if (!next_) return false;
    auto successor = txn_.lower_bound(pair_key(kPage, page, seq + 1));
    if (!successor) return successor.error();
    if (!*successor || !is_pair((*successor)->key, kPage) || first_of((*successor)->key) != page) {
      return true;
    }
    return second_of((*successor)->key) > *next_;
  }

  Result<void> remove(std::uint64_t seq, std::uint64_t page) {
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
      const bool needed = std::any_of(
          versions->begin(), versions->end(),
          [i, block](const auto& version) { return version.content.blocks[i] == block; });
      if (needed) continue;
      if (auto freed = free_block(block); !freed) return freed;
    }
    if (auto freed = free_record(gone.record); !freed) return freed;
    if (auto erased = txn_.erase(pair_key(kPage, page, seq)); !erased) return erased;
    return txn_.erase(pair_key(kBySeq, seq, page));
  }

  Result<FrameUse> frame(PackAddress address) {
    const PairKey key = pair_key(kFrame, address, 0);
    auto value = txn_.get(key);
    if (!value) return value.error();
    if (!*value) return fail(Errc::kCorrupt, "chain index: frame {} is missing", address);
    return decode_frame(key, **value);
  }
  Result<void> keep_or_erase(PackAddress address, const FrameUse& use) {
    if (use.used != 0) return put_frame(txn_, address, use);
    dead_.push_back(address);
    return txn_.erase(pair_key(kFrame, address, 0));
  }
  Result<void> free_block(PackedBlock block) {
    auto use = frame(block.frame());
    if (!use) return use.error();
    use->used &= ~(std::uint64_t{1} << block.index());
    return keep_or_erase(block.frame(), *use);
  }
  Result<void> free_record(PackAddress address) {
    auto use = frame(address);
    if (!use) return use.error();
    if (use->kind != FrameKind::kPages || use->used == 0) {
      return fail(Errc::kCorrupt, "chain index: frame {} holds no pages", address);
    }
    --use->used;
    return keep_or_erase(address, *use);
  }

  KvWriter& txn_;
  const std::set<std::uint64_t>& live_;
  std::uint64_t previous_ = 0;
  std::uint64_t last_ = 0;
  std::optional<std::uint64_t> next_;
  std::vector<PackAddress> dead_;
};

}  // namespace

Result<PackAddress> ChainIndex::head() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  return read_head(**txn);
}

Result<ChainPageRef> ChainIndex::page(std::uint64_t page, std::uint64_t seq) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto entry = (*txn)->floor(pair_key(kPage, page, seq));
  if (!entry) return entry.error();
  if (!*entry || !is_pair((*entry)->key, kPage) || first_of((*entry)->key) != page) {
    return ChainPageRef();
  }
  auto version = decode_version((*entry)->key, (*entry)->value);
  if (!version) return fail(version.error(), "page {}", page);
  if (version->content.empty()) return ChainPageRef();
  return std::make_shared<const ChainPage>(version->content);
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
  std::set<std::uint64_t> pages;
  auto scanned = (*txn)->scan(pair_key(kBySeq, after + 1, 0), pair_key(kBySeq, up_to + 1, 0),
                              [&pages](KvBytes key, KvBytes) {
                                pages.insert(second_of(key));
                                return true;
                              });
  if (!scanned) return scanned.error();
  return std::vector<std::uint64_t>(pages.begin(), pages.end());
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

Result<void> ChainIndex::add(const Addition& addition) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  std::map<PackAddress, FrameUse> frames;
  for (const NewFrame& frame : addition.frames) frames[frame.address] = {frame.size, frame.kind, 0};
  const std::byte one{1};
  for (const NewPage& added : addition.pages) {
    const PairKey key = pair_key(kPage, added.page, addition.seq);
    auto value = new_value();
    put_le(value, added.record);
    encode_runs(added.content, value);
    if (auto done = put(**txn, key, std::move(value)); !done) return done;
    const PairKey by_seq = pair_key(kBySeq, addition.seq, added.page);
    if (auto done = (*txn)->put(by_seq, std::span(&one, 1)); !done) return done;
    for (const PackedBlock block : added.content.blocks) {
      if (block.is_hole()) continue;
      // Blocks of older frames are in use already: an older version of this page shows them.
      auto frame = frames.find(block.frame());
      if (frame == frames.end() && addition.any_frames) {
        const PairKey frame_key = pair_key(kFrame, block.frame(), 0);
        auto known = (*txn)->get(frame_key);
        if (!known) return known.error();
        if (!*known) return fail(Errc::kCorrupt, "chain index: frame {} is missing", block.frame());
        auto use = decode_frame(frame_key, **known);
        if (!use) return use.error();
        frame = frames.emplace(block.frame(), *use).first;
      }
      if (frame != frames.end()) frame->second.used |= std::uint64_t{1} << block.index();
    }
    const auto record = frames.find(added.record);
    CHECK(record != frames.end() && record->second.kind == FrameKind::kPages);
    ++record->second.used;
  }
  for (const auto& [address, use] : frames) {
    if (auto done = put_frame(**txn, address, use); !done) return done;
  }
  if (addition.head) {
    auto head = new_value();
    put_le(head, *addition.head);
    if (auto done = put(**txn, pair_key(kHead, 0, 0), std::move(head)); !done) return done;
  }
  if (addition.seq != 0) {
    auto cursor = new_value();
    put_le(cursor, addition.cursor.next_page);
    put_le(cursor, addition.cursor.changed_bytes);
    put_le(cursor, addition.cursor.stored_bytes);
    auto done = put(**txn, pair_key(kCursor, addition.seq, 0), std::move(cursor));
    if (!done) return done;
  }
  return (*txn)->commit();
}

Result<ChainIndex::Purge> ChainIndex::purge(std::uint64_t gone, const std::set<std::uint64_t>& live,
                                            std::size_t pages_max) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  Purger purger(**txn, gone, live);
  auto purge = purger.run(pages_max);
  if (!purge) return purge;
  if (!purge->more && live.count(gone) == 0) {
    if (auto erased = (*txn)->erase(pair_key(kCursor, gone, 0)); !erased) return erased.error();
  }
  if (auto committed = (*txn)->commit(); !committed) return committed.error();
  return purge;
}

Result<ChainIndex::Usage> ChainIndex::usage() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  Usage usage;
  Result<void> problem;
  auto scanned = (*txn)->scan(pair_key(kFrame, 0, 0), pair_key(kFrame + 1, 0, 0),
                              [&](KvBytes key, KvBytes value) {
                                auto use = decode_frame(key, value);
                                if (!use) {
                                  problem = use.error();
                                  return false;
                                }
                                usage.frame_bytes += use->size;
                                ++usage.frames;
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
        if (!fields || fields->size() != 8) {
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
