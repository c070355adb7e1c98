#include "engine/map/page_store.h"

#include <algorithm>
#include <array>
#include <set>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

// Keys. Numbers are big-endian, so that byte order is number order.
//   'c'                      checkpoint
//   'm' epoch page           the version of `page` at `epoch` has an older one below it
//   'p' page epoch           a version of a page
//   's' segment              live blocks of a segment
constexpr std::byte kCheckpointKey{'c'};
constexpr char kStacked = 'm';
constexpr char kPage = 'p';
constexpr char kSegment = 's';
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
std::vector<std::byte> seal(std::vector<std::byte> value, KvBytes key) {
  store_le(value.data(), checksum64(std::span(value).subspan(8), checksum64(key)));
  return value;
}
Result<ByteReader> unseal(KvBytes value, KvBytes key, const char* what) {
  if (value.size() < 9 ||
      load_le<std::uint64_t>(value.data()) != checksum64(value.subspan(8), checksum64(key))) {
    return fail(Errc::kCorrupt, "index: {}: checksum mismatch", what);
  }
  ByteReader in(value);
  in.skip(8);
  if (const auto version = in.le<std::uint8_t>(); version > kRecordVersion) {
    return fail(Errc::kUnsupported, "index: {} of format {}, newer than this clouddisk knows ({})",
                what, version, kRecordVersion);
  }
  return in;
}

std::vector<std::byte> encode_checkpoint(const Checkpoint& checkpoint) {
  std::vector<std::byte> value(9 + 4 * 8 + 3 * 8 + 8 + checkpoint.views.size() * 8 + 8);
  ByteWriter out(value);
  out.zeros(8);
  out.le(kRecordVersion);
  out.le(checkpoint.position.segment.value);
  out.le(std::uint64_t{checkpoint.position.block});
  out.le(checkpoint.position.next_batch.value);
  out.le(checkpoint.position.chain);
  out.le(checkpoint.next_write.value);
  out.le(checkpoint.epoch.value);
  out.le(checkpoint.mapped_blocks);
  out.le(std::uint64_t{checkpoint.views.size()});
  for (const Epoch view : checkpoint.views) out.le(view.value);
  out.le(checkpoint.reference.value);
  return seal(std::move(value), std::span(&kCheckpointKey, 1));
}

Result<Checkpoint> decode_checkpoint(KvBytes value) {
  auto in = unseal(value, std::span(&kCheckpointKey, 1), "checkpoint");
  if (!in) return in.error();
  Checkpoint checkpoint;
  checkpoint.position.segment = SegmentSeq(in->le<std::uint64_t>());
  checkpoint.position.block = static_cast<std::uint32_t>(in->le<std::uint64_t>());
  checkpoint.position.next_batch = BatchSeq(in->le<std::uint64_t>());
  checkpoint.position.chain = in->le<std::uint64_t>();
  checkpoint.next_write = WriteSeq(in->le<std::uint64_t>());
  checkpoint.epoch = Epoch(in->le<std::uint64_t>());
  checkpoint.mapped_blocks = in->le<std::uint64_t>();
  const auto views = in->le<std::uint64_t>();
  if (in->remaining() < 8 || views != in->remaining() / 8 - 1)
    return fail(Errc::kCorrupt, "index: checkpoint of {} views", views);
  for (std::uint64_t i = 0; i < views; ++i)
    checkpoint.views.push_back(Epoch(in->le<std::uint64_t>()));
  checkpoint.reference = Epoch(in->le<std::uint64_t>());
  if (!in->ok()) return fail(Errc::kCorrupt, "index: checkpoint too short");
  return checkpoint;
}

Result<void> put_live(KvWriter& txn, SegmentSeq segment, std::uint64_t live) {
  const PairKey key = pair_key(kSegment, segment.value, 0);
  if (live == 0) return txn.erase(key);
  std::vector<std::byte> value(17);
  ByteWriter out(value);
  out.zeros(8);
  out.le(kRecordVersion);
  out.le(live);
  return txn.put(key, seal(std::move(value), key));
}

struct Version {
  Epoch epoch;
  Page content;
  bool stored = false;   // there is a value under this key
  bool changed = false;  // and it differs
};

// One merge under way: walks the pages that change and keeps the accounts.
class Merge {
 public:
  Merge(KvWriter& txn, const MergeInput& input)
      : txn_(txn), input_(input), views_(input.checkpoint.views), live_(*input.live) {}

  Result<void> run();
  MergeOutput output();

 private:
  Result<std::set<std::uint64_t>> pages();
  Result<void> add_stored_pages(std::uint64_t first, std::uint64_t last,
                                std::set<std::uint64_t>& to);
  Result<void> add_base_pages(std::uint64_t first, std::uint64_t last,
                              std::set<std::uint64_t>& to) const;
  Result<void> merge_page(std::uint64_t number);
  Result<std::vector<Version>> load_versions(std::uint64_t number);
  void relocate(std::uint64_t number, std::vector<Version>& versions) const;
  void apply_tables(std::uint64_t number, std::vector<Version>& versions) const;
  std::vector<Version> prune(std::vector<Version>& versions, std::vector<Epoch>& gone) const;
  void account(const std::vector<Version>& before, const std::vector<Version>& after);
  bool says_nothing(const Page& content) const;
  static bool visible(const std::vector<Epoch>& views, Epoch version, std::optional<Epoch> next);
  // Where a block is in pages that follow each other, each place once.
  static void stored_places(const std::vector<const Page*>& pages, std::size_t index,
                            std::vector<BlockLocation>& places);
  static std::vector<const Page*> readable(const std::vector<Version>& versions,
                                           const std::vector<Epoch>& views);

  KvWriter& txn_;
  const MergeInput& input_;
  std::vector<Epoch> views_;
  LiveCounts live_;
  std::set<SegmentSeq> changed_segments_;
  std::int64_t mapped_delta_ = 0;
};

Result<void> Merge::add_stored_pages(std::uint64_t first, std::uint64_t last,
                                     std::set<std::uint64_t>& to) {
  std::uint64_t at = first;
  while (at < last) {
    auto entry = txn_.lower_bound(pair_key(kPage, at, 0));
    if (!entry) return entry.error();
    if (!*entry || !is_pair((*entry)->key, kPage)) break;
    const std::uint64_t found = first_of((*entry)->key);
    if (found >= last) break;
    to.insert(found);
    at = found + 1;
  }
  return {};
}

Result<void> Merge::add_base_pages(std::uint64_t first, std::uint64_t last,
                                   std::set<std::uint64_t>& to) const {
  if (!input_.next_base_page) return {};
  for (std::uint64_t at = first; at < last; ++at) {
    auto next = input_.next_base_page(at);
    if (!next) return fail(next.error(), "base");
    if (!*next || **next >= last) break;
    at = **next;
    to.insert(at);
  }
  return {};
}

Result<std::set<std::uint64_t>> Merge::pages() {
  std::set<std::uint64_t> pages;
  for (const EpochTable& layer : input_.tables) {
    pages.insert(layer.table->touched().begin(), layer.table->touched().end());
    for (const auto& [first, cleared] : layer.table->cleared()) {
      if (cleared.location.kind() == BlockKind::kZero) {
        for (std::uint64_t page = first; page < cleared.last; ++page) pages.insert(page);
        continue;
      }
      // A trim of what holds nothing leaves no trace, unless it hides what the base holds.
      if (auto added = add_stored_pages(first, cleared.last, pages); !added) return added.error();
      if (auto added = add_base_pages(first, cleared.last, pages); !added) return added.error();
    }
  }
  for (const auto& [page, list] : *input_.relocations) pages.insert(page);
  for (const Epoch dropped : input_.dropped_views) {
    // Versions that only this view saw have a successor made after it and not after the next view.
    const auto next = std::upper_bound(views_.begin(), views_.end(), dropped);
    const Epoch last = next == views_.end() ? input_.checkpoint.epoch : *next;
    bool strange = false;
    auto scanned =
        txn_.scan(pair_key(kStacked, dropped.value + 1, 0), pair_key(kStacked, last.value + 1, 0),
                  [&pages, &strange](KvBytes key, KvBytes) {
                    strange = !is_pair(key, kStacked);
                    if (!strange) pages.insert(second_of(key));
                    return !strange;
                  });
    if (!scanned) return scanned.error();
    if (strange) return fail(Errc::kCorrupt, "index: strange key");
  }
  return pages;
}

Result<void> Merge::run() {
  auto touched = pages();
  if (!touched) return touched.error();
  for (const std::uint64_t page : *touched) {
    if (auto merged = merge_page(page); !merged) return merged.error();
  }
  for (const SegmentSeq segment : changed_segments_) {
    const std::uint64_t live = live_[segment];
    if (auto put = put_live(txn_, segment, live); !put) return put.error();
    if (live == 0) live_.erase(segment);
  }
  return txn_.put(std::span(&kCheckpointKey, 1), encode_checkpoint(output().checkpoint));
}

MergeOutput Merge::output() {
  MergeOutput output;
  output.checkpoint = input_.checkpoint;
  // Unsigned: what a damaged index says may be anything.
  output.checkpoint.mapped_blocks += static_cast<std::uint64_t>(mapped_delta_);
  output.live = std::make_shared<const LiveCounts>(live_);
  return output;
}

Result<std::vector<Version>> Merge::load_versions(std::uint64_t number) {
  std::vector<Version> versions;
  Result<void> problem;
  auto scanned = txn_.scan(pair_key(kPage, number, 0), pair_key(kPage, number + 1, 0),
                           [&versions, &problem](KvBytes key, KvBytes value) {
                             auto page = decode_page(value, key);
                             if (!page || !is_pair(key, kPage)) {
                               problem =
                                   page ? fail(Errc::kCorrupt, "index: strange key") : page.error();
                               return false;
                             }
                             versions.push_back({Epoch(second_of(key)), *page, true, false});
                             return true;
                           });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return versions;
}

void Merge::relocate(std::uint64_t number, std::vector<Version>& versions) const {
  const auto it = input_.relocations->find(number);
  if (it == input_.relocations->end()) return;
  for (Version& version : versions) {
    for (BlockEntry& entry : version.content.entries) {
      if (!entry.location.is_stored()) continue;
      for (const Relocation& moved : it->second) {
        if (entry.location == moved.from) {
          entry.location = moved.to;
          version.changed = true;
        }
      }
    }
  }
}

void Merge::apply_tables(std::uint64_t number, std::vector<Version>& versions) const {
  for (const EpochTable& layer : input_.tables) {
    Page content = versions.empty() ? Page{} : versions.back().content;
    const Page before = content;
    layer.table->apply_to(number, content);
    if (content == before) continue;
    if (!versions.empty() && versions.back().epoch >= layer.epoch) {
      versions.back().content = content;
      versions.back().changed = true;
    } else {
      versions.push_back({layer.epoch, content, false, true});
    }
  }
}

// A version is seen until the next one is made: by the views in between, the last also by the
// present.
bool Merge::visible(const std::vector<Epoch>& views, Epoch version, std::optional<Epoch> next) {
  if (!next) return true;
  const auto view = std::lower_bound(views.begin(), views.end(), version);
  return view != views.end() && *view < *next;
}

// Below a page of holes there is nothing, or the base, which only an unmapped block lets through.
bool Merge::says_nothing(const Page& content) const {
  return std::all_of(content.entries.begin(), content.entries.end(), [this](const auto& entry) {
    const BlockKind kind = entry.location.kind();
    return kind == BlockKind::kUnmapped || (kind == BlockKind::kTrimmed && !input_.next_base_page);
  });
}

std::vector<Version> Merge::prune(std::vector<Version>& versions, std::vector<Epoch>& gone) const {
  const Epoch reference = input_.checkpoint.reference;
  std::vector<Version> kept;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    std::optional<Epoch> next;
    if (i + 1 < versions.size()) next = versions[i + 1].epoch;
    bool keep =
        visible(views_, versions[i].epoch, next) ||
        (reference.value != 0 && versions[i].epoch <= reference && next && reference < *next);
    // At the bottom, a page of holes says what no page says.
    if (keep && kept.empty()) keep = !says_nothing(versions[i].content);
    if (keep) {
      kept.push_back(std::move(versions[i]));
    } else if (versions[i].stored) {
      gone.push_back(versions[i].epoch);
    }
  }
  return kept;
}

// Those whose data somebody may read: not the ones that only the reference sees.
std::vector<const Page*> Merge::readable(const std::vector<Version>& versions,
                                         const std::vector<Epoch>& views) {
  std::vector<const Page*> pages;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    std::optional<Epoch> next;
    if (i + 1 < versions.size()) next = versions[i + 1].epoch;
    if (visible(views, versions[i].epoch, next)) pages.push_back(&versions[i].content);
  }
  return pages;
}

// A location counts once, however many versions show it. It only ever stands at one block.
void Merge::stored_places(const std::vector<const Page*>& pages, std::size_t index,
                          std::vector<BlockLocation>& places) {
  places.clear();
  for (std::size_t at = 0; at < pages.size(); ++at) {
    const BlockLocation place = pages[at]->entries[index].location;
    if (!place.is_stored()) continue;
    if (at > 0 && pages[at - 1]->entries[index].location == place) continue;
    places.push_back(place);
  }
}

void Merge::account(const std::vector<Version>& before, const std::vector<Version>& after) {
  const std::vector<const Page*> read_before = readable(before, input_.views_before);
  const std::vector<const Page*> read_after = readable(after, views_);
  std::vector<BlockLocation> old_places;
  std::vector<BlockLocation> new_places;
  for (std::size_t index = 0; index < kPageBlocks; ++index) {
    stored_places(read_before, index, old_places);
    stored_places(read_after, index, new_places);
    const bool was = !before.empty() && before.back().content.entries[index].location.is_stored();
    const bool is = !after.empty() && after.back().content.entries[index].location.is_stored();
    mapped_delta_ += static_cast<int>(is) - static_cast<int>(was);
    if (old_places == new_places) continue;  // most blocks of most pages
    for (const BlockLocation place : old_places) {
      --live_[place.segment()];
      changed_segments_.insert(place.segment());
    }
    for (const BlockLocation place : new_places) {
      ++live_[place.segment()];
      changed_segments_.insert(place.segment());
    }
  }
}

Result<void> Merge::merge_page(std::uint64_t number) {
  auto loaded = load_versions(number);
  if (!loaded) return loaded.error();
  const std::vector<Version> before = *loaded;
  std::vector<Version>& versions = *loaded;
  apply_tables(number, versions);
  relocate(number, versions);  // After the tables: they may refer to what has moved.
  std::vector<Epoch> gone;
  const std::vector<Version> after = prune(versions, gone);
  account(before, after);
  for (const Epoch epoch : gone) {
    if (auto erased = txn_.erase(pair_key(kPage, number, epoch.value)); !erased) return erased;
    if (auto erased = txn_.erase(pair_key(kStacked, epoch.value, number)); !erased) return erased;
  }
  for (std::size_t i = 0; i < after.size(); ++i) {
    const Version& version = after[i];
    if (version.changed || !version.stored) {
      const PairKey key = pair_key(kPage, number, version.epoch.value);
      if (auto put = txn_.put(key, encode_page(version.content, key)); !put) return put;
    }
    const PairKey stacked = pair_key(kStacked, version.epoch.value, number);
    const std::byte one{1};
    Result<void> marked;
    if (i > 0) {
      marked = txn_.put(stacked, std::span(&one, 1));
    } else if (before.size() > 1) {
      marked = txn_.erase(stacked);
    }
    if (!marked) return marked;
  }
  return {};
}

}  // namespace

Result<Checkpoint> PageStore::load_checkpoint() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto value = (*txn)->get(std::span(&kCheckpointKey, 1));
  if (!value) return value.error();
  if (!*value) return fail(Errc::kNotFound, "the index has no checkpoint");
  return decode_checkpoint(**value);
}

Result<std::shared_ptr<const LiveCounts>> PageStore::load_live() {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto live = std::make_shared<LiveCounts>();
  Result<void> problem;
  auto scanned = (*txn)->scan(
      pair_key(kSegment, 0, 0), pair_key(kSegment + 1, 0, 0), [&](KvBytes key, KvBytes value) {
        auto in = unseal(value, key, "live count");
        if (!in || !is_pair(key, kSegment)) {
          problem = in ? fail(Errc::kCorrupt, "index: strange key") : in.error();
          return false;
        }
        (*live)[SegmentSeq(first_of(key))] = in->le<std::uint64_t>();
        return true;
      });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return std::shared_ptr<const LiveCounts>(std::move(live));
}

Result<PageRef> PageStore::load_page(std::uint64_t page, Epoch view) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto entry = (*txn)->floor(pair_key(kPage, page, view.value));
  if (!entry) return entry.error();
  if (!*entry || !is_pair((*entry)->key, kPage) || first_of((*entry)->key) != page) {
    return PageRef();
  }
  auto decoded = decode_page((*entry)->value, (*entry)->key);
  if (!decoded) return fail(decoded.error(), "index: page {}", page);
  return std::make_shared<const Page>(*decoded);
}

Result<std::optional<std::uint64_t>> PageStore::next_page(std::uint64_t page) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  auto entry = (*txn)->lower_bound(pair_key(kPage, page, 0));
  if (!entry) return entry.error();
  std::optional<std::uint64_t> found;
  if (*entry && is_pair((*entry)->key, kPage)) found = first_of((*entry)->key);
  return found;
}

Result<std::vector<std::uint64_t>> PageStore::changed_pages(Epoch after, Epoch view) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  std::vector<std::uint64_t> pages;
  bool strange = false;
  auto scanned =
      (*txn)->scan(pair_key(kPage, 0, 0), pair_key(kPage + 1, 0, 0), [&](KvBytes key, KvBytes) {
        strange = !is_pair(key, kPage);
        if (strange) return false;
        const Epoch epoch(second_of(key));
        const std::uint64_t page = first_of(key);
        if (epoch > after && epoch <= view && (pages.empty() || pages.back() != page)) {
          pages.push_back(page);
        }
        return true;
      });
  if (!scanned) return scanned.error();
  if (strange) return fail(Errc::kCorrupt, "index: strange key");
  return pages;
}

Result<std::vector<PageStore::PagePair>> PageStore::load_pairs(std::span<const std::uint64_t> pages,
                                                               Epoch before, Epoch after) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  const auto load = [&txn](std::uint64_t page, Epoch view, Page& into) -> Result<void> {
    auto entry = (*txn)->floor(pair_key(kPage, page, view.value));
    if (!entry) return entry.error();
    if (!*entry || !is_pair((*entry)->key, kPage) || first_of((*entry)->key) != page) return {};
    auto decoded = decode_page((*entry)->value, (*entry)->key);
    if (!decoded) return fail(decoded.error(), "index: page {}", page);
    into = *decoded;
    return {};
  };
  std::vector<PagePair> pairs(pages.size());
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (auto old = load(pages[i], before, pairs[i].before); !old) return old.error();
    if (auto now = load(pages[i], after, pairs[i].after); !now) return now.error();
  }
  return pairs;
}

Result<PageStore::Checked> PageStore::check(std::vector<std::byte> from, std::size_t entries_max) {
  auto txn = kv_->read();
  if (!txn) return txn.error();
  const std::array<std::byte, 1> last{std::byte{0xff}};
  if (from.empty()) from.push_back(std::byte{0});
  Checked checked;
  std::size_t entries = 0;
  Result<void> problem;
  auto scanned = (*txn)->scan(from, last, [&](KvBytes key, KvBytes value) {
    if (entries == entries_max) {
      checked.next.emplace(key.begin(), key.end());
      return false;
    }
    ++entries;
    checked.bytes += key.size() + value.size();
    if (is_pair(key, kPage)) {
      if (auto page = decode_page(value, key); !page) {
        problem = fail(page.error(), "index: page {}", first_of(key));
      }
    } else if (is_pair(key, kSegment)) {
      if (auto live = unseal(value, key, "live count"); !live) problem = live.error();
    } else if (key.size() == 1 && key[0] == kCheckpointKey) {
      if (auto checkpoint = decode_checkpoint(value); !checkpoint) problem = checkpoint.error();
    } else if (!is_pair(key, kStacked)) {
      problem = fail(Errc::kCorrupt, "index: a strange key of {} bytes", key.size());
    }
    return problem.has_value();
  });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return checked;
}

Result<MergeOutput> PageStore::merge(const MergeInput& input) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  Merge merge(**txn, input);
  if (auto run = merge.run(); !run) return run.error();
  if (auto committed = (*txn)->commit(); !committed) return committed.error();
  return merge.output();
}

Result<void> PageStore::add_built(const std::vector<BuiltPage>& pages) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  const std::byte one{1};
  for (const BuiltPage& built : pages) {
    const PairKey key = pair_key(kPage, built.page, built.epoch.value);
    if (auto put = (*txn)->put(key, encode_page(built.content, key)); !put) return put;
    if (!built.over_older) continue;
    const PairKey stacked = pair_key(kStacked, built.epoch.value, built.page);
    if (auto put = (*txn)->put(stacked, std::span(&one, 1)); !put) return put;
  }
  return (*txn)->commit();
}

Result<void> PageStore::finish_build(const Checkpoint& checkpoint, const LiveCounts& live) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  for (const auto& [segment, count] : live) {
    if (auto put = put_live(**txn, segment, count); !put) return put;
  }
  if (auto put = (*txn)->put(std::span(&kCheckpointKey, 1), encode_checkpoint(checkpoint)); !put) {
    return put;
  }
  return (*txn)->commit();
}

}  // namespace clouddisk
