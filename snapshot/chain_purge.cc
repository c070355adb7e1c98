// chain_purge.cc: which versions of pages go with a snapshot.
#include <algorithm>

#include "engine/base/variant.h"
#include "snapshot/frame_book.h"
#include "snapshot/index_records.h"

namespace clouddisk::snapshot {
namespace {

// A step holds up captures, but no reads: some ten milliseconds.
constexpr std::size_t kLookedAtMax = 8192;

// One purge under way.
class Purger {
 public:
  Purger(KvWriter& txn, std::uint64_t gone, const std::set<std::uint64_t>& live) : txn_(txn) {
    last_ = live.count(gone) != 0 ? gone - 1 : gone;
    const auto after = live.lower_bound(last_ + 1);
    if (after != live.end()) next_ = *after;
    if (after != live.begin()) previous_ = *std::prev(after);
  }

  Result<ChainIndex::Purge> run(std::size_t pages_max, const ChainIndex::Purge& before) {
    struct Candidate {
      std::uint64_t seq;
      std::uint64_t page;
    };
    std::vector<Candidate> candidates;
    ChainIndex::Purge purge;
    Result<void> problem;
    // What was passed over before stays: whoever makes it unseen meanwhile purges by himself.
    const PairKey first = std::max(pair_key(kBySeq, previous_ + 1, 0),
                                   pair_key(kBySeq, before.next_seq, before.next_page));
    std::size_t looked_at = 0;
    auto scanned = txn_.scan(first, pair_key(kBySeq, last_ + 1, 0), [&](KvBytes key, KvBytes) {
      const Candidate candidate{first_of(key), second_of(key)};
      if (candidates.size() == pages_max || looked_at == kLookedAtMax) {
        purge.more = true;
        purge.next_seq = candidate.seq;
        purge.next_page = candidate.page;
        return false;
      }
      ++looked_at;
      auto seen = is_seen(candidate.seq, candidate.page);
      if (!seen) {
        problem = seen.error();
        return false;
      }
      if (*seen) return true;
      candidates.push_back(candidate);
      return true;
    });
    if (!scanned) return scanned.error();
    if (!problem) return problem.error();
    FrameBook book(txn_);
    for (const Candidate& candidate : candidates) {
      auto removed = book.remove_version(candidate.page, candidate.seq);
      if (!removed) return removed.error();
    }
    auto freed = book.settle();
    if (!freed) return freed.error();
    purge.freed = std::move(*freed);
    return purge;
  }

 private:
  // Versions here came after the live snapshot before; the one after sees them unless a newer
  // version came by then.
  Result<bool> is_seen(std::uint64_t seq, std::uint64_t page) {
    if (!next_ || broken(Variant::kPurgeWhatIsSeen)) return false;
    auto successor = txn_.lower_bound(pair_key(kPage, page, seq + 1));
    if (!successor) return successor.error();
    if (!*successor || !is_pair((*successor)->key, kPage) || first_of((*successor)->key) != page) {
      return true;
    }
    return second_of((*successor)->key) > *next_;
  }

  KvWriter& txn_;
  std::uint64_t previous_ = 0;
  std::uint64_t last_ = 0;
  std::optional<std::uint64_t> next_;
};

}  // namespace

Result<ChainIndex::Purge> ChainIndex::purge(std::uint64_t gone, const std::set<std::uint64_t>& live,
                                            std::size_t pages_max, const Purge& before) {
  auto txn = kv_->write();
  if (!txn) return txn.error();
  Purger purger(**txn, gone, live);
  auto purge = purger.run(pages_max, before);
  if (!purge) return purge;
  if (!purge->more && live.count(gone) == 0) {
    if (auto erased = (*txn)->erase(pair_key(kCursor, gone, 0)); !erased) return erased.error();
  }
  if (auto committed = (*txn)->commit(); !committed) return committed.error();
  return purge;
}

}  // namespace clouddisk::snapshot
