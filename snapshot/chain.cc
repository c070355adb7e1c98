#include "snapshot/chain.h"

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/log.h"

namespace clouddisk::snapshot {
namespace {

// More than can ever be written: addresses are not used twice.
constexpr std::uint64_t kPackBytes = std::uint64_t{1} << kAddressBits;
constexpr std::size_t kChunkBytes = BlockDevice::kTransferMax;
constexpr std::size_t kPurgePages = 256;

}  // namespace

Chain::Chain(DiskEnvironment& environment, Identity identity, Options options)
    : environment_(environment),
      identity_(std::move(identity)),
      options_(options),
      tag_(chain_tag(identity_.id)),
      changing_(environment.ring),
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
    if (ready) ready = co_await chain->trim_behind_head();
  }
  if (!ready) {
    static_cast<void>(co_await chain->close());
    co_return fail(ready.error(), "chain {}", chain->id());
  }
  co_return chain;
}

Task<Result<void>> Chain::remove(DiskEnvironment& environment, Identity identity) {
  const Disk::Identity pack{identity.id, kPackBytes, identity.index_directory};
  if (auto removed = co_await Disk::remove(environment, pack); !removed) co_return removed;
  co_return co_await environment.ring.remove_tree(identity.index_directory + "-chain");
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
    return {};
  });
  if (opened) co_return opened;
  if (opened.error().code != Errc::kNotFound && opened.error().code != Errc::kCorrupt) {
    co_return opened;
  }
  co_await ring().blocking([this] { index_.reset(); });
  co_return co_await rebuild();
}

Task<Result<void>> Chain::trim_freed(std::vector<ChainIndex::Freed> freed) {
  if (freed.empty()) co_return Result<void>{};
  for (const ChainIndex::Freed& range : freed) {
    auto gone = co_await pack_->trim(range.offset, range.length, false);
    if (!gone) co_return gone;
  }
  // Forgotten only when it is durable: a trim that a power loss undid is done again.
  if (auto durable = co_await pack_->flush(); !durable) co_return durable;
  const auto index = index_;
  co_return co_await ring().blocking([&index, &freed] { return index->forget_freed(freed); });
}

Task<Result<void>> Chain::trim_behind_head() {
  auto extents = co_await pack_->extents(head_, kPackBytes - head_, 1);
  if (!extents) co_return extents.error();
  const Extent& first = extents->front();
  if (first.state == ExtentState::kHole && head_ + first.length == kPackBytes) {
    co_return Result<void>{};
  }
  co_return co_await pack_->trim(head_, kPackBytes - head_, true);
}

Task<Result<void>> Chain::close() {
  Result<void> closed;
  if (pack_) closed = co_await pack_->close();
  pack_.reset();
  co_await ring().blocking([this] { index_.reset(); });
  co_return closed;
}

// --- Reading ---

Task<Result<ChainPageRef>> Chain::page(std::uint64_t seq, std::uint64_t page) {
  const PageKey key{seq, page};
  if (const auto it = pages_.find(key); it != pages_.end()) co_return it->second;
  const auto index = index_;
  const std::uint64_t generation = generation_;
  auto found = co_await ring().blocking([&index, page, seq] { return index->page(page, seq); });
  if (!found) co_return fail(Errc::kIo, "chain {}: {}", id(), found.error().message);
  if (generation == generation_) {
    if (pages_.size() >= options_.page_cache_pages) pages_.clear();
    pages_[key] = *found;
  }
  co_return found;
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

Task<Result<void>> Chain::read(std::uint64_t seq, Lba first, std::span<std::byte> into) {
  const std::uint64_t count = into.size() / kBlockSize;
  for (std::uint64_t done = 0; done < count;) {
    const Lba lba(first.value + done);
    const std::size_t index = index_in_page(lba);
    const std::uint64_t part = std::min<std::uint64_t>(kPageBlocks - index, count - done);
    const auto target = into.subspan(done * kBlockSize, part * kBlockSize);
    auto found = co_await page(seq, page_of(lba));
    if (!found) co_return found.error();
    if (*found) {
      if (auto read = co_await read_page(**found, index, target); !read) co_return read;
    } else {
      std::memset(target.data(), 0, target.size());
    }
    done += part;
  }
  co_return Result<void>{};
}

Task<Result<std::vector<std::uint64_t>>> Chain::pages_between(std::uint64_t after,
                                                              std::uint64_t up_to) {
  const auto index = index_;
  co_return co_await ring().blocking(
      [&index, after, up_to] { return index->pages_between(after, up_to); });
}

Task<Result<std::optional<CaptureCursor>>> Chain::cursor(std::uint64_t seq) {
  const auto index = index_;
  co_return co_await ring().blocking([&index, seq] { return index->cursor(seq); });
}

// --- Growing ---

// What one add() puts into the pack: chunks of whole frames, each chunk one write.
struct Chain::Packing {
  std::uint64_t seq = 0;
  PackAddress head = 0;  // of the chunk, a multiple of 4 KiB
  std::vector<std::byte> chunk;
  ChainIndex::Addition addition;
  std::uint64_t changed_bytes = 0;
  std::uint64_t stored_bytes = 0;
};

namespace {

// Compresses what changed in a page; each frame's place is relative to the first until it is known.
struct PackedPage {
  std::vector<std::byte> frames;
  std::vector<std::size_t> sizes;
};

PackedPage compress(ChainTag tag, std::uint64_t seq, std::span<const std::byte> data, int level) {
  PackedPage packed;
  for (std::size_t at = 0; at < data.size(); at += kFrameRawMax) {
    const auto raw = data.subspan(at, std::min(kFrameRawMax, data.size() - at));
    packed.sizes.push_back(append_frame(FrameKind::kBlocks, tag, seq, raw, level, packed.frames));
  }
  return packed;
}

// What one worker compresses at a time: about a millisecond, and four of them in a page.
constexpr std::size_t kCompressBytes = 4 * kFrameRawMax;

Task<void> compress_piece(Ring& ring, ChainTag tag, std::uint64_t seq,
                          std::span<const std::byte> data, int level, PackedPage& piece,
                          WaitGroup& group) {
  piece = co_await ring.blocking([=] { return compress(tag, seq, data, level); });
  group.done();
}

// A page's pieces on as many workers as there are.
Task<PackedPage> compress_on_workers(Ring& ring, ChainTag tag, std::uint64_t seq,
                                     std::span<const std::byte> data, int level) {
  std::vector<PackedPage> pieces((data.size() + kCompressBytes - 1) / kCompressBytes);
  WaitGroup group(ring);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::size_t at = i * kCompressBytes;
    const auto part = data.subspan(at, std::min(kCompressBytes, data.size() - at));
    group.add();
    spawn(compress_piece(ring, tag, seq, part, level, pieces[i], group));
  }
  co_await group.wait();
  PackedPage packed;
  for (const PackedPage& piece : pieces) {
    packed.frames.insert(packed.frames.end(), piece.frames.begin(), piece.frames.end());
    packed.sizes.insert(packed.sizes.end(), piece.sizes.begin(), piece.sizes.end());
  }
  co_return packed;
}

}  // namespace

Task<Result<void>> Chain::pack_pages(Packing& packing, std::vector<ChangedPage>& pages) {
  const auto write_chunk = [this, &packing]() -> Task<Result<void>> {
    if (packing.chunk.empty()) co_return Result<void>{};
    Buffer data =
        co_await environment_.client_buffers.allocate(align_up(packing.chunk.size(), kBlockSize));
    std::memcpy(data.data(), packing.chunk.data(), packing.chunk.size());
    std::memset(data.data() + packing.chunk.size(), 0, data.size() - packing.chunk.size());
    const std::uint64_t size = data.size();
    auto written = co_await pack_->write(packing.head, std::move(data), false);
    if (!written) co_return written;
    packing.head += size;
    packing.chunk.clear();
    co_return written;
  };
  // Gives a frame its address and a place in the chunk.
  const auto place = [this, &packing, &write_chunk](std::span<std::byte> frame,
                                                    FrameKind kind) -> Task<Result<PackAddress>> {
    if (packing.chunk.size() + frame.size() > kChunkBytes) {
      if (auto written = co_await write_chunk(); !written) co_return written.error();
    }
    const PackAddress address = packing.head + packing.chunk.size();
    place_frame(frame, address);
    packing.chunk.insert(packing.chunk.end(), frame.begin(), frame.end());
    packing.addition.frames.push_back({address, frame.size(), kind});
    packing.stored_bytes += frame.size();
    co_return address;
  };

  std::vector<std::byte> record;
  std::vector<std::size_t> recorded;
  const auto place_record = [&]() -> Task<Result<void>> {
    if (record.empty()) co_return Result<void>{};
    std::vector<std::byte> frame;
    append_frame(FrameKind::kPages, tag_, packing.seq, record, options_.compression_level, frame);
    auto address = co_await place(frame, FrameKind::kPages);
    if (!address) co_return address.error();
    for (const std::size_t i : recorded) packing.addition.pages[i].record = *address;
    record.clear();
    recorded.clear();
    co_return Result<void>{};
  };

  for (ChangedPage& page : pages) {
    const auto data = std::span<const std::byte>(page.data);
    const int level = options_.compression_level;
    PackedPage packed = co_await compress_on_workers(ring(), tag_, packing.seq, data, level);
    std::size_t at = 0;
    std::size_t next = 0;
    for (const std::size_t size : packed.sizes) {
      auto address = co_await place(std::span(packed.frames).subspan(at, size), FrameKind::kBlocks);
      if (!address) co_return address.error();
      for (unsigned i = 0; i < kFrameBlocks && next < page.changed.size(); ++i, ++next) {
        page.content.blocks[page.changed[next]] = PackedBlock(*address, size, i);
      }
      at += size;
    }
    packing.changed_bytes += page.data.size();
    std::vector<std::byte> entry(8);
    ByteWriter(entry).le(page.page);
    encode_runs(page.content, entry);
    if (record.size() + entry.size() > kFrameRawMax) {
      if (auto placed = co_await place_record(); !placed) co_return placed;
    }
    record.insert(record.end(), entry.begin(), entry.end());
    recorded.push_back(packing.addition.pages.size());
    packing.addition.pages.push_back({page.page, page.content, 0});
  }
  if (auto placed = co_await place_record(); !placed) co_return placed;
  co_return co_await write_chunk();
}

Task<Result<CaptureCursor>> Chain::add(std::uint64_t seq, std::vector<ChangedPage> pages,
                                       CaptureCursor cursor) {
  auto guard = co_await changing_.lock();
  if (identity_.live.count(seq) == 0) co_return fail(Errc::kShutdown, "the snapshot was deleted");
  Packing packing;
  packing.seq = seq;
  packing.head = head_;
  packing.addition.seq = seq;
  if (head_ + pages.size() * 2_MiB >= kPackBytes) {
    co_return fail(Errc::kNoSpace, "chain {} is full", id());
  }
  auto written = co_await pack_pages(packing, pages);
  // The index may not know more than what survives a power loss.
  if (written) written = co_await pack_->flush();
  if (!written) {
    static_cast<void>(co_await trim_behind_head());
    co_return written.error();
  }
  cursor.changed_bytes += packing.changed_bytes;
  cursor.stored_bytes += packing.stored_bytes;
  packing.addition.head = packing.head;
  packing.addition.cursor = cursor;
  const auto index = index_;
  auto added =
      co_await ring().blocking([&index, &packing] { return index->add(packing.addition); });
  if (!added) {
    static_cast<void>(co_await trim_behind_head());
    co_return added.error();
  }
  head_ = packing.head;
  // Later snapshots than `seq` do not exist, earlier ones don't see it.
  for (const auto& page : packing.addition.pages) pages_.erase({seq, page.page});
  ++generation_;
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
  while (true) {
    auto guard = co_await changing_.lock();
    const auto index = index_;
    const std::set<std::uint64_t> live = identity_.live;
    auto purge = co_await ring().blocking(
        [&index, seq, &live] { return index->purge(seq, live, kPurgePages); });
    if (!purge) co_return fail(purge.error(), "chain {}", id());
    pages_.clear();
    ++generation_;
    if (auto gone = co_await trim_freed(std::move(purge->freed)); !gone) co_return gone;
    if (!purge->more) break;
  }
  frames_.clear();
  co_return Result<void>{};
}

Task<Result<Chain::Usage>> Chain::usage() {
  const auto index = index_;
  auto found = co_await ring().blocking([&index] { return index->usage(); });
  if (!found) co_return found.error();
  Usage usage;
  usage.frame_bytes = found->frame_bytes;
  usage.stored_bytes = pack_->usage().stored_bytes;
  usage.index_bytes = index->size_bytes() + pack_->usage().index_bytes;
  co_return usage;
}

}  // namespace clouddisk::snapshot
