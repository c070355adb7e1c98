#include "engine/map/index_check.h"

#include <algorithm>
#include <array>

#include "engine/base/bytes.h"

namespace clouddisk {
namespace {

// A Kv that belongs to somebody else, for who wants one of his own.
class Borrowed final : public Kv {
 public:
  explicit Borrowed(Kv& kv) : kv_(kv) {}
  Result<std::unique_ptr<KvReader>> read() override { return kv_.read(); }
  Result<std::unique_ptr<KvWriter>> write() override { return kv_.write(); }
  Result<void> sync() override { return kv_.sync(); }
  std::uint64_t size_bytes() const override { return kv_.size_bytes(); }

 private:
  Kv& kv_;
};

struct CheckedVersion {
  Epoch epoch;
  Page page;
};

// The accounts, from the pages alone.
struct Accounts {
  const Checkpoint& checkpoint;
  LiveCounts live;
  std::uint64_t mapped = 0;

  // Seen by a view, or by the present; not by the reference alone.
  bool readable(Epoch version, const Epoch* next) const {
    if (next == nullptr) return true;
    const auto& views = checkpoint.views;
    const auto view = std::lower_bound(views.begin(), views.end(), version);
    return view != views.end() && *view < *next;
  }
  void add(const std::vector<CheckedVersion>& versions) {
    const Page* below = nullptr;
    for (std::size_t i = 0; i < versions.size(); ++i) {
      const Epoch* next = i + 1 < versions.size() ? &versions[i + 1].epoch : nullptr;
      if (!readable(versions[i].epoch, next)) continue;
      for (std::size_t at = 0; at < kPageBlocks; ++at) {
        const BlockLocation location = versions[i].page.entries[at].location;
        if (!location.is_stored()) continue;
        if (next == nullptr) ++mapped;
        if (below != nullptr && below->entries[at].location == location) continue;
        ++live[location.segment()];
      }
      below = &versions[i].page;
    }
  }
};

}  // namespace

Result<Checkpoint> check_index(Kv& kv) {
  PageStore store(std::make_unique<Borrowed>(kv));
  auto checkpoint = store.load_checkpoint();
  if (!checkpoint) return checkpoint;
  auto live = store.load_live();
  if (!live) return live.error();
  auto txn = kv.read();
  if (!txn) return txn.error();
  Accounts accounts{*checkpoint, {}, 0};
  std::vector<CheckedVersion> versions;  // of one page
  std::uint64_t number = 0;
  Result<void> problem;
  const std::array<std::byte, 1> first{std::byte{'p'}};
  const std::array<std::byte, 1> last{std::byte{'q'}};
  auto scanned = (*txn)->scan(first, last, [&](KvBytes key, KvBytes value) {
    if (key.size() != 17) {
      problem = fail(Errc::kCorrupt, "index: strange key");
      return false;
    }
    auto page = decode_page(value, key);
    if (!page) {
      problem = page.error();
      return false;
    }
    const auto found = load_be<std::uint64_t>(key.data() + 1);
    if (found != number) {
      accounts.add(versions);
      versions.clear();
      number = found;
    }
    versions.push_back({Epoch(load_be<std::uint64_t>(key.data() + 9)), *page});
    return true;
  });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  accounts.add(versions);
  if (accounts.mapped != checkpoint->mapped_blocks) {
    return fail(Errc::kCorrupt, "index: {} blocks are mapped, its checkpoint says {}",
                accounts.mapped, checkpoint->mapped_blocks);
  }
  if (accounts.live != **live) {
    return fail(Errc::kCorrupt, "index: its counts of live blocks are not those of its pages");
  }
  return checkpoint;
}

}  // namespace clouddisk
