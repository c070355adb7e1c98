// index_targets.cc: the indexes: pages of a disk's map, pages of a chain, and everything else that
// stands in their environments under a key. Checksums are put right, as in log_targets.cc.
#include <memory>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/map/page_store.h"
#include "engine/ring/sim_kv.h"
#include "engine/ring/sim_machine.h"
#include "snapshot/chain_index.h"
#include "snapshot/index_records.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {
namespace {

// An environment with the records of an input: kind of key, two small numbers of it, how long the
// value is, and the value without its checksum.
class Environment {
 public:
  explicit Environment(Feed feed) : machine_(1) {
    CHECK(open());
    auto txn = kv_->write();
    CHECK(txn.has_value());
    while (!feed.empty()) {
      const std::byte kind{feed.byte()};
      const std::uint64_t first = feed.byte();
      const std::uint64_t second = feed.byte();
      const Input fields = feed.bytes(feed.word());
      std::array<std::byte, 17> pair{};
      pair[0] = kind;
      store_be(pair.data() + 1, first);
      store_be(pair.data() + 9, second);
      // A disk's checkpoint alone has a key of one byte; 0xff of `first` asks for it.
      const KvBytes key = std::span(pair).first(first == 0xff ? 1 : pair.size());
      std::vector<std::byte> value(fields.begin(), fields.end());
      if (value.size() >= 8) {
        store_le(value.data(), checksum64(std::span(value).subspan(8), checksum64(key)));
      }
      CHECK((*txn)->put(key, value).has_value());
    }
    CHECK((*txn)->commit().has_value());
  }
  std::unique_ptr<Kv> take() { return std::move(kv_); }

 private:
  bool open() {
    auto opened = SimKv::open(machine_, "/", KvOptions{});
    if (opened) kv_ = std::move(*opened);
    return opened.has_value();
  }

  SimMachine machine_;
  std::unique_ptr<Kv> kv_;
};

}  // namespace

FUZZ_TARGET(map_page) {
  const std::string_view key = "p-a-key-of-17-by.";
  static_cast<void>(decode_page(input, as_bytes(key)));
  if (input.size() < 8) return;
  std::vector<std::byte> value(input.begin(), input.end());
  const auto seeded = checksum64(std::span(value).subspan(8), checksum64(as_bytes(key)));
  store_le(value.data(), seeded);
  auto page = decode_page(value, as_bytes(key));
  if (!page) return;
  auto again = decode_page(encode_page(*page, as_bytes(key)), as_bytes(key));
  CHECK(again.has_value());
  for (std::size_t i = 0; i < kPageBlocks; ++i) {
    CHECK(again->entries[i].location == page->entries[i].location);
  }
}

FUZZ_TARGET(map_index) {
  Feed feed(input);
  Environment environment(feed);
  PageStore store(environment.take());
  auto checkpoint = store.load_checkpoint();
  auto live = store.load_live();
  for (std::uint64_t page = 0; page < 4; ++page) {
    static_cast<void>(store.load_page(page, Epoch(3)));
    static_cast<void>(store.next_page(page));
    static_cast<void>(store.load_pairs(std::array{page}, Epoch(1), Epoch(2)));
  }
  static_cast<void>(store.changed_pages(Epoch(1), Epoch(9)));
  if (!checkpoint || !live) return;
  // A checkpoint over it, that drops a view and moves a block.
  MergeInput merge;
  auto table = std::make_shared<MemTable>();
  table->put_range(Lba(100), 300, BlockLocation::zero());
  merge.tables.push_back({checkpoint->epoch, table});
  auto relocations = std::make_shared<Relocations>();
  (*relocations)[0].push_back(
      {BlockLocation::stored(SegmentSeq(1), 2), BlockLocation::stored(SegmentSeq(2), 3)});
  merge.relocations = relocations;
  merge.views_before = checkpoint->views;
  merge.checkpoint = *checkpoint;
  if (!checkpoint->views.empty()) {
    merge.dropped_views.push_back(checkpoint->views.back());
    merge.checkpoint.views.pop_back();
  }
  merge.live = *live;
  static_cast<void>(store.merge(merge));
}

FUZZ_TARGET(chain_page) {
  Input rest = input;
  while (!rest.empty()) {
    const std::size_t before = rest.size();
    auto page = snapshot::decode_runs(rest);
    if (!page) return;
    CHECK(rest.size() < before);
    std::vector<std::byte> encoded;
    snapshot::encode_runs(*page, encoded);
    Input again(encoded);
    auto decoded = snapshot::decode_runs(again);
    CHECK(decoded.has_value());
    CHECK(*decoded == *page);
    CHECK(again.empty());
  }
}

FUZZ_TARGET(chain_index) {
  Feed feed(input);
  const std::uint64_t gone = feed.byte() % 4;
  Environment environment(feed);
  snapshot::ChainIndex index(environment.take());
  static_cast<void>(index.verify());
  static_cast<void>(index.head());
  static_cast<void>(index.incomplete());
  static_cast<void>(index.next_page(0));
  static_cast<void>(index.pages_between(0, 4));
  static_cast<void>(index.freed());
  static_cast<void>(index.sparse(8));
  static_cast<void>(index.usage());
  static_cast<void>(index.sound());
  for (std::uint64_t i = 0; i < 4; ++i) {
    static_cast<void>(index.pages(std::array{i}, 3));
    static_cast<void>(index.cursor(i));
    static_cast<void>(index.versions(i));
  }
  snapshot::ChainIndex::Purge before;
  const std::set<std::uint64_t> live = {2, 5};
  for (unsigned step = 0; step < 8; ++step) {
    auto purge = index.purge(gone, live, 2, before);
    if (!purge || !purge->more) break;
    before = *purge;
  }
}

}  // namespace clouddisk::fuzz
