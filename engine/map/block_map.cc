#include "engine/map/block_map.h"

#include <algorithm>
#include <array>

#include "engine/base/log.h"
#include "engine/map/lazy_kv.h"

namespace clouddisk {
namespace {

Result<std::shared_ptr<PageStore>> open_store(Ring& ring, const std::string& directory) {
  KvOptions options;
  options.create = false;
  auto kv = ring.open_kv(directory, options);
  if (!kv) return fail(kv.error(), "index {}", directory);
  return std::make_shared<PageStore>(std::move(*kv));
}

std::string condemned_path(const std::string& directory) {
  return directory + "/damaged";
}

constexpr std::size_t kCheckedAtOnce = 1024;  // entries; some 4 MiB: no reader holds LMDB up

Task<Result<std::uint64_t>> check_store(Ring& ring, std::shared_ptr<PageStore> store) {
  std::uint64_t bytes = 0;
  std::vector<std::byte> from;
  while (true) {
    auto checked =
        co_await ring.blocking([&store, &from] { return store->check(from, kCheckedAtOnce); });
    if (!checked) co_return checked.error();
    bytes += checked->bytes;
    if (!checked->next) co_return bytes;
    from = std::move(*checked->next);
  }
}

std::shared_ptr<const Relocations> combine(
    const std::vector<std::shared_ptr<const Relocations>>& parts) {
  if (parts.size() == 1) return parts.front();
  auto all = std::make_shared<Relocations>();
  for (const auto& part : parts) {
    for (const auto& [page, list] : *part) {
      auto& into = (*all)[page];
      into.insert(into.end(), list.begin(), list.end());
    }
  }
  return all;
}

}  // namespace

struct BlockMap::Loading {
  Loading(Ring& ring, std::uint64_t begun_in) : generation(begun_in), ended(ring) {}
  const std::uint64_t generation;
  Signal ended;
  bool done = false;
  Result<PageRef> result = PageRef();
};

// What an index has on record.
struct BlockMap::Opened {
  std::shared_ptr<PageStore> store;
  Checkpoint checkpoint;
  std::shared_ptr<const LiveCounts> live;
  bool on_record = true;
};

BlockMap::BlockMap(Ring& ring, PageCache& cache, Opened opened, Options options)
    : ring_(ring),
      cache_(cache),
      store_(std::move(opened.store)),
      on_record_(opened.on_record),
      made_(ring),
      options_(options),
      id_(cache.new_map()),
      active_(std::make_shared<MemTable>()),
      relocations_(std::make_shared<Relocations>()),
      live_(std::make_shared<const LiveCounts>()) {
  take_live(std::move(opened.live));
  checkpoint_ = std::move(opened.checkpoint);
  epoch_ = checkpoint_.epoch;
  views_ = checkpoint_.views;
  reference_ = checkpoint_.reference;
}

BlockMap::~BlockMap() {
  cache_.erase_map(id_);
}

Task<Result<std::unique_ptr<BlockMap>>> BlockMap::open(Ring& ring, PageCache& cache,
                                                       std::string directory, Options options) {
  if (auto condemned = co_await ring.stat(condemned_path(directory)); condemned) {
    co_return fail(Errc::kCorrupt, "index {}: found damaged", directory);
  }
  auto opened = co_await ring.blocking([&ring, &directory]() -> Result<Opened> {
    auto store = open_store(ring, directory);
    if (!store) return store.error();
    auto checkpoint = (*store)->load_checkpoint();
    if (!checkpoint) return checkpoint.error();
    auto live = (*store)->load_live();
    if (!live) return live.error();
    return Opened{*store, *checkpoint, *live};
  });
  if (!opened) co_return opened.error();
  co_return std::unique_ptr<BlockMap>(new BlockMap(ring, cache, std::move(*opened), options));
}

Task<Result<std::unique_ptr<BlockMap>>> BlockMap::create(Ring& ring, PageCache& cache,
                                                         std::string directory, Options options) {
  if (auto removed = co_await ring.remove_tree(directory); !removed) co_return removed.error();
  Checkpoint checkpoint;
  checkpoint.epoch = Epoch(1);
  checkpoint.next_write = WriteSeq(1);
  LazyKv::Make make = [&ring, directory]() -> Result<std::unique_ptr<Kv>> {
    auto kv = ring.open_kv(directory, KvOptions{});
    if (!kv) return fail(kv.error(), "index {}", directory);
    return kv;
  };
  Opened empty{std::make_shared<PageStore>(std::make_unique<LazyKv>(std::move(make))), checkpoint,
               std::make_shared<const LiveCounts>(), false};
  co_return std::unique_ptr<BlockMap>(new BlockMap(ring, cache, std::move(empty), options));
}

Task<void> BlockMap::make_index() {
  // A checkpoint that is under way makes it.
  if (on_record_ || making_ || merging_) co_return;
  making_ = true;
  const auto store = store_;
  const Checkpoint first = checkpoint_;
  auto built = co_await ring_.blocking([&store, &first] { return store->finish_build(first, {}); });
  if (built) {
    on_record_ = true;
  } else {
    log(LogLevel::kWarning, "map", "the index is made later: {}", built.error().message);
  }
  making_ = false;
  made_.wake_all();
}

// --- Changes ---

void BlockMap::put(Lba first, std::span<const BlockEntry> entries) {
  active_->put(first, entries);
}

void BlockMap::put_range(Lba first, std::uint64_t count, BlockLocation zero_or_trimmed) {
  active_->put_range(first, count, zero_or_trimmed);
}

void BlockMap::relocate(Lba lba, BlockLocation from, BlockLocation to) {
  (*relocations_)[page_of(lba)].push_back({from, to});
}

// --- Lookups ---

// Fills `out`, which lies in one page, from memory; with `page` given, that is the index's part.
bool BlockMap::resolve(Epoch view, Lba first, std::span<BlockEntry> out, const PageRef* page) {
  const std::uint64_t number = page_of(first);
  const std::size_t index = index_in_page(first);
  std::array<bool, kPageBlocks> known_blocks{};
  const std::span<bool> known = std::span(known_blocks).first(out.size());
  const bool current = view == PageKey::kCurrent;
  if (current && active_->fill(number, index, out, known) == 0) return true;
  for (auto it = frozen_.rbegin(); it != frozen_.rend(); ++it) {
    if (!current && it->epoch > view) continue;
    if (it->table->fill(number, index, out, known) == 0) return true;
  }
  if (page == nullptr) page = cache_.find({id_, view, number});
  if (page == nullptr) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!known[i]) out[i] = *page ? (*page)->entries[index + i] : BlockEntry{};
  }
  return true;
}

bool BlockMap::try_lookup(Lba first, std::span<BlockEntry> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const Lba lba(first.value + done);
    const std::size_t count =
        std::min<std::size_t>(kPageBlocks - index_in_page(lba), out.size() - done);
    if (!resolve(PageKey::kCurrent, lba, out.subspan(done, count), nullptr)) return false;
    done += count;
  }
  return true;
}

Task<Result<void>> BlockMap::lookup(Lba first, std::span<BlockEntry> out) {
  return lookup_in(PageKey::kCurrent, first, out);
}

Task<Result<void>> BlockMap::lookup_view(Epoch view, Lba first, std::span<BlockEntry> out) {
  return lookup_in(view, first, out);
}

Task<Result<void>> BlockMap::lookup_in(Epoch view, Lba first, std::span<BlockEntry> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const Lba lba(first.value + done);
    const std::size_t count =
        std::min<std::size_t>(kPageBlocks - index_in_page(lba), out.size() - done);
    const std::span<BlockEntry> part = out.subspan(done, count);
    while (!resolve(view, lba, part, nullptr)) {
      const std::uint64_t generation = generation_;
      auto page = co_await load(page_of(lba), view);
      if (!page) co_return page.error();
      // A checkpoint may have moved entries from memory to the index meanwhile: then look again.
      if (generation == generation_ && resolve(view, lba, part, &*page)) break;
    }
    done += count;
  }
  co_return Result<void>{};
}

Task<Result<PageRef>> BlockMap::load(std::uint64_t page, Epoch view) {
  const auto key = std::make_pair(page, view.value);
  // One that began before the last checkpoint may bring what that replaced, however late it ends.
  const auto it = loading_.find(key);
  if (it != loading_.end() && it->second->generation == generation_) {
    const auto other = it->second;
    while (!other->done) co_await other->ended.wait();
    co_return other->result;
  }
  auto loading = std::make_shared<Loading>(ring_, generation_);
  loading_[key] = loading;
  const auto store = store_;
  loading->result =
      co_await ring_.blocking([&store, page, view] { return store->load_page(page, view); });
  loading->done = true;
  if (const auto mine = loading_.find(key); mine != loading_.end() && mine->second == loading) {
    loading_.erase(mine);
  }
  if (loading->result && loading->generation == generation_) {
    cache_.put({id_, view, page}, *loading->result);
  }
  loading->ended.wake_all();
  co_return loading->result;
}

Task<Result<std::uint64_t>> BlockMap::next_mapped_page(std::uint64_t page) {
  const auto store = store_;
  std::uint64_t found = kNoPage;
  while (true) {
    const std::uint64_t generation = generation_;
    auto stored = co_await ring_.blocking([&store, page] { return store->next_page(page); });
    if (!stored) co_return stored.error();
    found = stored->value_or(kNoPage);
    // A checkpoint may have moved pages from memory to the index meanwhile: then ask again.
    if (generation == generation_) break;
  }
  if (const auto next = active_->next_page(page)) found = std::min(found, *next);
  for (const EpochTable& layer : frozen_) {
    if (const auto next = layer.table->next_page(page)) found = std::min(found, *next);
  }
  co_return found;
}

// --- Epochs ---

Epoch BlockMap::freeze() {
  const Epoch frozen = epoch_;
  if (!active_->empty()) {
    frozen_.push_back({epoch_, active_});
    active_ = std::make_shared<MemTable>();
  }
  views_.push_back(frozen);
  epoch_ = epoch_.next();
  return frozen;
}

void BlockMap::drop_view(Epoch view) {
  if (view == reference_) {
    reference_ = Epoch(0);
    dropped_views_.push_back(view);
    return;
  }
  const auto it = std::find(views_.begin(), views_.end(), view);
  if (it == views_.end()) return;
  views_.erase(it);
  dropped_views_.push_back(view);
}

void BlockMap::make_reference(Epoch view) {
  if (reference_ == view) return;
  if (reference_.value != 0) drop_view(reference_);
  drop_view(view);
  reference_ = view;
}

Task<Result<std::vector<std::uint64_t>>> BlockMap::changed_pages(Epoch after, Epoch view) {
  const auto store = store_;
  co_return co_await ring_.blocking(
      [&store, after, view] { return store->changed_pages(after, view); });
}

Task<Result<std::vector<PageStore::PagePair>>> BlockMap::page_pairs(
    std::vector<std::uint64_t> pages, Epoch before, Epoch after) {
  const auto store = store_;
  const std::uint64_t generation = generation_;
  auto pairs = co_await ring_.blocking(
      [&store, &pages, before, after] { return store->load_pairs(pages, before, after); });
  if (pairs && before != after && generation == generation_) {
    // Who asks for places reads there next.
    for (std::size_t i = 0; i < pages.size(); ++i) {
      cache_.put({id_, after, pages[i]}, std::make_shared<const Page>((*pairs)[i].after));
    }
  }
  co_return pairs;
}

NextBasePage BlockMap::view_pages(Epoch view) const {
  std::vector<std::shared_ptr<const MemTable>> tables;
  for (const EpochTable& layer : frozen_) {
    if (layer.epoch <= view) tables.push_back(layer.table);
  }
  return [store = store_,
          tables = std::move(tables)](std::uint64_t page) -> Result<std::optional<std::uint64_t>> {
    auto next = store->next_page(page);
    if (!next) return next;
    for (const auto& table : tables) {
      const auto own = table->next_page(page);
      if (own && (!*next || *own < **next)) *next = own;
    }
    return next;
  };
}

// --- Checkpoints ---

std::size_t BlockMap::memory_bytes() const {
  std::size_t bytes = active_->memory_bytes();
  for (const EpochTable& layer : frozen_) bytes += layer.table->memory_bytes();
  return bytes;
}

std::size_t BlockMap::memory_pages() const {
  std::size_t pages = active_->page_count();
  for (const EpochTable& layer : frozen_) pages += layer.table->page_count();
  return pages;
}

bool BlockMap::wants_checkpoint() const {
  return memory_bytes() * 2 >= options_.memtable_bytes_max ||
         memory_pages() * 2 >= options_.memtable_pages_max;
}

bool BlockMap::must_wait() const {
  return memory_bytes() >= options_.memtable_bytes_max ||
         memory_pages() >= options_.memtable_pages_max;
}

std::uint64_t BlockMap::live_blocks(SegmentSeq segment) const {
  const auto it = live_->find(segment);
  return it == live_->end() ? 0 : it->second;
}

void BlockMap::take_live(std::shared_ptr<const LiveCounts> live) {
  live_ = std::move(live);
  live_blocks_ = 0;
  for (const auto& [segment, count] : *live_) live_blocks_ += count;
}

Task<Result<void>> BlockMap::checkpoint(LogPosition position, WriteSeq next_write,
                                        Task<Result<void>> log_durable) {
  if (merging_) co_return fail(Errc::kBusy, "a checkpoint is under way");
  merging_ = true;
  if (!active_->empty()) {
    frozen_.push_back({epoch_, active_});
    active_ = std::make_shared<MemTable>();
  }
  if (!relocations_->empty() || frozen_relocations_.empty()) {
    frozen_relocations_.push_back(std::move(relocations_));
    relocations_ = std::make_shared<Relocations>();
  }
  MergeInput input;
  input.tables = frozen_;
  input.relocations = combine(frozen_relocations_);
  input.dropped_views = std::exchange(dropped_views_, {});
  input.checkpoint = checkpoint_;
  input.checkpoint.position = position;
  input.checkpoint.next_write = next_write;
  input.checkpoint.epoch = epoch_;
  input.checkpoint.views = views_;
  input.checkpoint.reference = reference_;
  input.views_before = checkpoint_.views;
  input.next_base_page = options_.next_base_page;
  input.live = live_;
  const std::size_t relocation_parts = frozen_relocations_.size();

  Result<void> result = co_await std::move(log_durable);
  while (making_) co_await made_.wait();
  if (result && !on_record_ && says_nothing(input)) {
    checkpoint_ = input.checkpoint;
  } else if (result) {
    // Even one whose commit fails may be on the device: the first checkpoint must not come after.
    on_record_ = true;
    const auto store = store_;
    auto merged = co_await ring_.blocking([&store, &input] { return store->merge(input); });
    if (merged) {
      checkpoint_ = merged->checkpoint;
      take_live(merged->live);
      ++generation_;
      ++checkpoint_count_;
      update_cache(input);
      frozen_.erase(frozen_.begin(),
                    frozen_.begin() + static_cast<std::ptrdiff_t>(input.tables.size()));
      frozen_relocations_.erase(
          frozen_relocations_.begin(),
          frozen_relocations_.begin() + static_cast<std::ptrdiff_t>(relocation_parts));
    } else {
      result = merged.error();
    }
  }
  if (!result) {
    dropped_views_.insert(dropped_views_.begin(), input.dropped_views.begin(),
                          input.dropped_views.end());
  }
  merging_ = false;
  co_return result;
}

// That nothing was ever written, which no index says as well. Views and the like are on record
// elsewhere.
bool BlockMap::says_nothing(const MergeInput& input) {
  const bool log_is_empty = input.checkpoint.position.segment.value == 0;
  return log_is_empty && input.tables.empty() && input.relocations->empty();
}

// What the merge did to the pages, done to those in the cache; the rest is read when it is needed.
void BlockMap::update_cache(const MergeInput& input) {
  const auto renew = [this, &input](std::uint64_t number) {
    const PageKey key{id_, PageKey::kCurrent, number};
    const PageRef* cached = cache_.find(key);
    if (cached == nullptr) return;
    auto page = std::make_shared<Page>(*cached ? **cached : Page{});
    for (const EpochTable& layer : input.tables) layer.table->apply_to(number, *page);
    if (const auto moved = input.relocations->find(number); moved != input.relocations->end()) {
      for (BlockEntry& entry : page->entries) {
        for (const Relocation& one : moved->second) {
          if (entry.location == one.from) entry.location = one.to;
        }
      }
    }
    cache_.put(key, std::move(page));
  };
  for (const EpochTable& layer : input.tables) {
    for (const std::uint64_t number : layer.table->touched()) renew(number);
    if (!layer.table->cleared().empty()) {
      cache_.erase_map(id_);  // Long ranges: cheaper to read anew than to walk.
      return;
    }
  }
  for (const auto& [number, list] : *input.relocations) renew(number);
  // Frozen views are read rarely; their pages may have moved, been replaced or have gone.
  if (!views_.empty()) cache_.erase_map(id_);
}

// --- Scrub ---

Task<Result<std::uint64_t>> BlockMap::check() {
  co_return co_await check_store(ring_, store_);
}

Task<Result<void>> condemn_index(Ring& ring, std::string directory) {
  OpenOptions options;
  options.create = true;
  options.direct = false;
  auto made = co_await ring.open(condemned_path(directory), options);
  if (!made) co_return made.error();
  co_return co_await ring.sync_directory(directory);
}

Task<Result<LogPosition>> closed_position(Ring& ring, std::string directory) {
  co_return co_await ring.blocking([&ring, &directory]() -> Result<LogPosition> {
    auto store = open_store(ring, directory);
    if (!store) return store.error();
    auto checkpoint = (*store)->load_checkpoint();
    if (!checkpoint) return checkpoint.error();
    return checkpoint->position;
  });
}

Task<Result<std::uint64_t>> check_closed_index(Ring& ring, std::string directory) {
  auto opened = co_await ring.blocking([&ring, &directory]() -> Result<std::shared_ptr<PageStore>> {
    auto store = open_store(ring, directory);
    if (!store) return store.error();
    // Without a checkpoint it was never finished, which the next open sees as well.
    auto checkpoint = (*store)->load_checkpoint();
    if (!checkpoint) return checkpoint.error();
    return *store;
  });
  if (!opened) co_return opened.error();
  std::shared_ptr<PageStore> store = std::move(opened).value();
  auto checked = co_await check_store(ring, store);
  co_await ring.blocking([&store] { store.reset(); });
  co_return checked;
}

}  // namespace clouddisk
