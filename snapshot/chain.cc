#include "snapshot/chain.h"

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/log.h"

namespace clouddisk::snapshot {
namespace {

// More than can ever be written: addresses are not used twice.
constexpr std::uint64_t kPackBytes = std::uint64_t{1} << kAddressBits;
constexpr std::size_t kPurgePages = 256;

}  // namespace

Chain::Chain(DiskEnvironment& environment, Identity identity, Options options)
    : environment_(environment),
      identity_(std::move(identity)),
      options_(std::move(options)),
      tag_(chain_tag(identity_.id)),
      changing_(environment.ring),
      gate_(environment.ring),
      background_(environment.ring),
      closing_signal_(environment.ring),
      pace_(options.pace),
      compressor_(environment.ring, tag_, options.compression_level),
      frames_(options.frame_cache_bytes) {}

Chain::~Chain() {
  CHECK(pack_ == nullptr);
}

Task<Result<std::shared_ptr<Chain>>> Chain::open(DiskEnvironment& environment, Identity identity,
                                                 Options options) {
  std::shared_ptr<Chain> chain(new Chain(environment, std::move(identity), options));
  const Disk::Identity pack{chain->id(), kPackBytes, chain->identity_.index_directory};
  auto made = co_await Disk::create(environment, pack, options.pack);
  if (!made && made.error().code != Errc::kExists) co_return made.error();
  chain->fresh_ = made.has_value();
  auto opened = co_await Disk::open(environment, pack, options.pack);
  if (!opened) co_return fail(opened.error(), "pack of chain {}", chain->id());
  chain->pack_ = std::move(*opened);
  auto ready = co_await chain->open_index();
  if (ready) {
    // A crash may have come between a change of the index and the trim that follows it.
    const auto index = chain->index_;
    auto freed = co_await environment.ring.blocking([&index] { return index->freed(); });
    if (freed) {
      ready = co_await chain->trim_freed(std::move(*freed));
    } else {
      ready = freed.error();
    }
    // With too few replicas to write there is all to read (I6). What was freed stays on record.
    if (!ready && ready.error().code == Errc::kReplicasLost) ready = {};
    if (ready) ready = co_await chain->trim_behind_head();
    if (!ready && ready.error().code == Errc::kReplicasLost) ready = {};
  }
  if (!ready) {
    static_cast<void>(co_await chain->close());
    co_return fail(ready.error(), "chain {}", chain->id());
  }
  chain->repack_if_due();
  co_return chain;
}

Task<Result<void>> Chain::remove(DiskEnvironment& environment, Identity identity) {
  auto gone = co_await environment.ring.remove_tree(identity.index_directory + "-chain");
  if (!gone) co_return gone;
  Disk::Identity pack{identity.id, kPackBytes, identity.index_directory};
  co_return co_await Disk::remove(environment, std::move(pack));
}

Task<Result<void>> Chain::open_index() {
  auto opened = co_await ring().blocking([this]() -> Result<void> {
    KvOptions options;
    options.create = false;
    auto kv = ring().open_kv(chain_index_directory(), options);
    if (!kv) return kv.error();
    index_ = std::make_shared<ChainIndex>(std::move(*kv));
    auto head = index_->head();
    if (!head) return head.error();
    head_ = *head;
    auto incomplete = index_->incomplete();
    if (!incomplete) return incomplete.error();
    if (*incomplete) return fail(Errc::kCorrupt, "an incomplete index");
    return index_->verify();
  });
  if (opened) {
    auto behind = co_await is_behind_pack();
    if (!behind) co_return behind.error();
    if (!*behind) co_return opened;
    opened = fail(Errc::kCorrupt, "an older index than the pack");
  }
  if (opened.error().code != Errc::kNotFound && opened.error().code != Errc::kCorrupt) {
    co_return opened;
  }
  co_return co_await rebuild();
}

Task<Result<void>> Chain::trim_freed(std::vector<ChainIndex::Freed> freed) {
  if (freed.empty()) co_return Result<void>{};
  // Whole blocks last: clearing a part of one writes it.
  std::stable_partition(freed.begin(), freed.end(), [](const ChainIndex::Freed& range) {
    return range.offset % kBlockSize != 0 || range.length % kBlockSize != 0;
  });
  for (const ChainIndex::Freed& range : freed) {
    auto gone = co_await pack_->trim(range.offset, range.length, false);
    // Part of a block that is lost on every replica: what was there can't be found again.
    if (!gone && gone.error().code != Errc::kIo) co_return gone;
  }
  // Forgotten only when it is durable: a trim that a power loss undid is done again.
  if (auto durable = co_await pack_->flush(); !durable) co_return durable;
  const auto index = index_;
  co_return co_await ring().blocking([&index, &freed] { return index->forget_freed(freed); });
}

Task<Result<void>> Chain::trim_behind_head() {
  behind_head_ = true;
  auto extents = co_await pack_->extents(head_, kPackBytes - head_, 1);
  if (!extents) co_return extents.error();
  const Extent& first = extents->front();
  if (first.state != ExtentState::kHole || head_ + first.length != kPackBytes) {
    auto gone = co_await pack_->trim(head_, kPackBytes - head_, true);
    if (!gone) co_return gone;
  }
  behind_head_ = false;
  co_return Result<void>{};
}

Task<Result<void>> Chain::check_index() {
  const auto index = index_;
  auto sound = co_await ring().blocking([&index] { return index->verify(); });
  if (sound || sound.error().code != Errc::kCorrupt) co_return sound;
  if (index == index_) static_cast<void>(note(sound.error()));
  auto guard = co_await lock();
  if (!guard) co_return fail(Errc::kIo, "{}", guard.error().message);
  co_return sound;
}

Task<Result<void>> Chain::close() {
  Result<void> closed;
  closing_ = true;
  closing_signal_.wake_all();
  co_await background_.wait();
  if (pack_) closed = co_await pack_->close();
  pack_.reset();
  co_await ring().blocking([this] { index_.reset(); });
  co_return closed;
}

// --- Reading ---

Error Chain::note(Error error) {
  if (error.code == Errc::kCorrupt && !damaged_) {
    damaged_ = true;
    log(LogLevel::kError, "chain", "chain={} index damaged: {}", id(), error.message);
  }
  return fail(error, "chain {}", id());
}

Task<Result<AsyncMutex::Guard>> Chain::lock() {
  auto guard = co_await changing_.lock();
  if (damaged_) {
    if (auto made = co_await rebuild(); !made) co_return fail(made.error(), "chain {}", id());
    damaged_ = false;
    ++heals_;
    pages_.clear();
    ++generation_;
  }
  co_return Result<AsyncMutex::Guard>(std::move(guard));
}

Task<Result<ChainPageRef>> Chain::page(std::uint64_t seq, std::uint64_t page) {
  const PageKey key{seq, page};
  if (const auto it = pages_.find(key); it != pages_.end()) co_return it->second;
  auto found = co_await pages(seq, std::vector(1, page));
  if (!found) co_return found.error();
  co_return found->front();
}

Task<Result<std::vector<ChainPageRef>>> Chain::pages(std::uint64_t seq,
                                                     std::vector<std::uint64_t> pages) {
  auto found = co_await lookup(seq, pages);
  if (!found && found.error().code == Errc::kCorrupt) {
    auto guard = co_await lock();
    if (!guard) co_return fail(Errc::kIo, "{}", guard.error().message);
    found = co_await lookup(seq, pages);
  }
  if (!found) co_return fail(Errc::kIo, "{}", found.error().message);
  co_return found;
}

Task<Result<std::vector<ChainPageRef>>> Chain::lookup(std::uint64_t seq,
                                                      const std::vector<std::uint64_t>& pages) {
  while (true) {
    const auto index = index_;
    const std::uint64_t generation = generation_;
    auto found =
        co_await ring().blocking([&index, &pages, seq] { return index->pages(pages, seq); });
    if (!found && generation != generation_) continue;  // of an index that is replaced already
    if (!found) co_return note(found.error());
    if (generation == generation_) {
      for (std::size_t i = 0; i < pages.size(); ++i) keep({seq, pages[i]}, (*found)[i]);
    }
    co_return found;
  }
}

Task<Result<ChainPageRef>> Chain::lookup(std::uint64_t seq, std::uint64_t page) {
  const PageKey key{seq, page};
  if (const auto it = pages_.find(key); it != pages_.end()) co_return it->second;
  auto found = co_await lookup(seq, std::vector(1, page));
  if (!found) co_return found.error();
  co_return found->front();
}

void Chain::keep(PageKey key, ChainPageRef content) {
  if (pages_.size() >= options_.page_cache_pages) pages_.clear();
  pages_[key] = std::move(content);
}

Task<Result<FrameData>> Chain::frame(PackedBlock block) {
  const PackAddress address = block.frame();
  if (auto cached = frames_.find(address)) co_return cached;
  if (address >= head_) co_return fail(Errc::kIo, "chain {}: no frame at {}", id(), address);
  const auto ask =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(block.frame_bytes(), head_ - address));
  auto data = co_await pack_->read(address, ask);
  if (!data) co_return fail(data.error(), "chain {}", id());
  const ChainTag tag = tag_;
  const Buffer bytes = *data;
  auto unpacked =
      co_await ring().blocking([&bytes, tag, address]() -> Result<std::vector<std::byte>> {
        auto header = decode_header(bytes.span(), tag, address);
        if (!header) return header.error();
        return unpack_frame(bytes.span(), *header);
      });
  if (!unpacked) {
    log(LogLevel::kError, "chain", "chain={} {}", id(), unpacked.error().message);
    co_return fail(Errc::kIo, "chain {}: {}", id(), unpacked.error().message);
  }
  auto frame = std::make_shared<const std::vector<std::byte>>(std::move(*unpacked));
  frames_.put(address, frame);
  co_return FrameData(frame);
}

Task<Result<void>> Chain::read_page(const ChainPage& page, std::size_t first_index,
                                    std::span<std::byte> into) {
  FrameData data;
  PackAddress at = 0;
  for (std::size_t i = 0; i < into.size() / kBlockSize; ++i) {
    const PackedBlock block = page.blocks[first_index + i];
    std::byte* target = into.data() + i * kBlockSize;
    if (block.is_hole()) {
      std::memset(target, 0, kBlockSize);
      continue;
    }
    if (!data || at != block.frame()) {
      auto loaded = co_await frame(block);
      if (!loaded) co_return loaded.error();
      data = *loaded;
      at = block.frame();
    }
    if ((block.index() + 1) * kBlockSize > data->size()) {
      co_return fail(Errc::kIo, "chain {}: the frame at {} is too short", id(), at);
    }
    std::memcpy(target, data->data() + block.index() * kBlockSize, kBlockSize);
  }
  co_return Result<void>{};
}

Task<Result<void>> Chain::read_in_page(std::uint64_t seq, std::uint64_t page,
                                       std::size_t first_index, std::span<std::byte> into) {
  const ReadGate::Pass pass(gate_);
  auto found = co_await lookup(seq, page);
  if (!found) co_return found.error();
  if (*found) co_return co_await read_page(**found, first_index, into);
  std::memset(into.data(), 0, into.size());
  co_return Result<void>{};
}

Task<Result<void>> Chain::read(std::uint64_t seq, Lba first, std::span<std::byte> into) {
  const std::uint64_t count = into.size() / kBlockSize;
  for (std::uint64_t done = 0; done < count;) {
    const Lba lba(first.value + done);
    const std::size_t index = index_in_page(lba);
    const std::uint64_t part = std::min<std::uint64_t>(kPageBlocks - index, count - done);
    const auto target = into.subspan(done * kBlockSize, part * kBlockSize);
    auto read = co_await read_in_page(seq, page_of(lba), index, target);
    if (!read && read.error().code == Errc::kCorrupt) {
      // Made anew without a pass: who holds the lock may wait for all passes.
      auto guard = co_await lock();
      if (!guard) co_return fail(Errc::kIo, "{}", guard.error().message);
      read = co_await read_in_page(seq, page_of(lba), index, target);
    }
    if (!read && read.error().code == Errc::kCorrupt) {
      co_return fail(Errc::kIo, "{}", read.error().message);
    }
    if (!read) co_return read;
    done += part;
  }
  co_return Result<void>{};
}

Task<Result<std::vector<std::uint64_t>>> Chain::pages_between(std::uint64_t after,
                                                              std::uint64_t up_to) {
  const auto index = index_;
  auto pages = co_await ring().blocking(
      [&index, after, up_to] { return index->pages_between(after, up_to); });
  if (!pages) co_return note(pages.error());
  co_return pages;
}

Task<Result<std::optional<CaptureCursor>>> Chain::cursor(std::uint64_t seq) {
  const auto index = index_;
  const std::uint64_t heals = heals_;
  auto cursor = co_await ring().blocking([&index, seq] { return index->cursor(seq); });
  if (!cursor) co_return note(cursor.error());
  if (*cursor) (*cursor)->heals = heals;
  co_return cursor;
}

// --- Growing ---

Task<Result<std::vector<PackedBlock>>> Chain::place_blocks(
    PackWriter& writer, std::uint64_t page, std::size_t count, PackedFrames packed,
    std::vector<ChainIndex::NewFrame>& frames) {
  std::vector<PackedBlock> blocks;
  std::size_t at = 0;
  for (const std::size_t size : packed.sizes) {
    auto address = co_await writer.place(std::span(packed.bytes).subspan(at, size));
    if (!address) co_return address.error();
    const auto held = static_cast<std::uint32_t>(std::min(kFrameBlocks, count - blocks.size()));
    for (unsigned i = 0; i < held; ++i) blocks.emplace_back(*address, size, i);
    frames.push_back({*address, size, FrameKind::kBlocks, held, page});
    at += size;
  }
  co_return blocks;
}

Task<Result<void>> Chain::place_records(PackWriter& writer, std::uint64_t seq,
                                        std::vector<RecordedPage> pages,
                                        std::vector<ChainIndex::NewFrame>& frames) {
  std::vector<std::byte> raw;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= pages.size(); ++i) {
    std::vector<std::byte> entry;
    if (i < pages.size()) {
      entry.resize(8);
      ByteWriter(entry).le(pages[i].page);
      encode_runs(*pages[i].content, entry);
    }
    if (i > begin && (i == pages.size() || raw.size() + entry.size() > kFrameRawMax)) {
      std::vector<std::byte> frame;
      append_frame(FrameKind::kPages, tag_, seq, raw, options_.compression_level, frame);
      auto address = co_await writer.place(frame);
      if (!address) co_return address.error();
      for (std::size_t k = begin; k < i; ++k) *pages[k].record = *address;
      frames.push_back({*address, frame.size(), FrameKind::kPages,
                        static_cast<std::uint32_t>(i - begin), pages[begin].page});
      raw.clear();
      begin = i;
    }
    raw.insert(raw.end(), entry.begin(), entry.end());
  }
  co_return Result<void>{};
}

Task<Result<void>> Chain::pack_pages(PackWriter& writer, std::vector<ChangedPage>& pages,
                                     ChainIndex::Addition& addition) {
  addition.pages.reserve(pages.size());
  std::vector<RecordedPage> records;
  for (ChangedPage& page : pages) {
    ChainIndex::NewPage added;
    added.page = page.page;
    if (page.unchanged.any()) {
      // Looked up here and not before: repacking moves blocks.
      auto parent = co_await lookup(page.parent, page.page);
      if (!parent) co_return parent.error();
      for (std::size_t i = 0; *parent && i < kPageBlocks; ++i) {
        if (page.unchanged[i]) added.content.blocks[i] = (*parent)->blocks[i];
      }
    }
    auto blocks = co_await place_blocks(writer, page.page, page.changed.size(),
                                        std::move(page.frames), addition.frames);
    if (!blocks) co_return blocks.error();
    for (std::size_t i = 0; i < page.changed.size(); ++i) {
      added.content.blocks[page.changed[i]] = (*blocks)[i];
    }
    addition.pages.push_back(added);
  }
  for (ChainIndex::NewPage& added : addition.pages) {
    records.push_back({added.page, &added.content, &added.record});
  }
  auto placed = co_await place_records(writer, addition.seq, std::move(records), addition.frames);
  if (!placed) co_return placed;
  co_return co_await writer.finish();
}

Task<Result<CaptureCursor>> Chain::add(std::uint64_t seq, std::vector<ChangedPage> pages,
                                       CaptureCursor cursor) {
  auto guard = co_await lock();
  if (!guard) co_return guard.error();
  if (identity_.live.count(seq) == 0) co_return fail(Errc::kShutdown, "the snapshot was deleted");
  if (cursor.heals != heals_) {
    CaptureCursor anew;
    anew.heals = heals_;
    co_return anew;
  }
  if (head_ + pages.size() * 2_MiB >= kPackBytes) {
    co_return fail(Errc::kNoSpace, "chain {} is full", id());
  }
  if (behind_head_) {
    if (auto gone = co_await trim_behind_head(); !gone) co_return gone.error();
  }
  PackWriter writer(*pack_, environment_.client_buffers, head_);
  ChainIndex::Addition addition;
  addition.seq = seq;
  std::uint64_t changed_bytes = 0;
  for (const ChangedPage& page : pages) changed_bytes += page.changed.size() * kBlockSize;
  auto written = co_await pack_pages(writer, pages, addition);
  if (!written) {
    static_cast<void>(co_await trim_behind_head());
    co_return written.error();
  }
  cursor.changed_bytes += changed_bytes;
  cursor.stored_bytes += writer.stored_bytes();
  addition.head = writer.head();
  addition.cursor = cursor;
  // Before the index says so: who looks a new place up at once reads it at once.
  const PackAddress head_before = head_;
  head_ = writer.head();
  const auto index = index_;
  auto added = co_await ring().blocking([&index, &addition] { return index->add(addition); });
  if (!added) {
    head_ = head_before;
    static_cast<void>(co_await trim_behind_head());
    co_return note(added.error());
  }
  // Earlier snapshots don't see it. Later ones, that are taken and not captured yet, may.
  pages_.erase(pages_.lower_bound({seq, 0}), pages_.end());
  ++generation_;
  if (auto gone = co_await trim_freed(std::move(*added)); !gone) co_return gone.error();
  co_return cursor;
}

Task<Result<void>> Chain::drop(std::uint64_t seq) {
  identity_.live.erase(seq);
  co_return co_await purge(seq);
}

Task<Result<void>> Chain::tidy(std::uint64_t seq) {
  if (identity_.live.count(seq) == 0) {
    co_return fail(Errc::kShutdown, "snapshot {} was deleted during its capture", seq);
  }
  co_return co_await purge(seq);
}

Task<Result<void>> Chain::purge(std::uint64_t seq) {
  ChainIndex::Purge before;
  while (true) {
    auto guard = co_await lock();
    if (!guard) co_return guard.error();
    const auto index = index_;
    const std::set<std::uint64_t> live = identity_.live;
    auto purge = co_await ring().blocking(
        [&index, seq, &live, &before] { return index->purge(seq, live, kPurgePages, before); });
    if (!purge) co_return note(purge.error());
    pages_.clear();
    ++generation_;
    if (auto gone = co_await trim_freed(std::move(purge->freed)); !gone) co_return gone;
    if (!purge->more) break;
    before.next_seq = purge->next_seq;
    before.next_page = purge->next_page;
  }
  frames_.clear();
  repack_if_due();
  co_return Result<void>{};
}

Task<Result<Chain::Usage>> Chain::usage() {
  const auto index = index_;
  auto found = co_await ring().blocking([&index] { return index->usage(); });
  if (!found) co_return note(found.error());
  Usage usage;
  usage.frame_bytes = found->frame_bytes;
  usage.held_blocks = found->held_blocks;
  usage.shown_blocks = found->shown_blocks;
  usage.stored_bytes = pack_->usage().stored_bytes;
  usage.index_bytes = index->size_bytes() + pack_->usage().index_bytes;
  co_return usage;
}

}  // namespace clouddisk::snapshot
