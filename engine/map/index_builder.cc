#include "engine/map/index_builder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <unordered_map>

namespace clouddisk {
namespace {

struct Candidate {
  WriteSeq write;
  BlockEntry entry;
};
using CandidatePage = std::array<Candidate, kPageBlocks>;

// A trim or zero run, kept until the window's data is known: it only matters where there is some.
struct RangeRun {
  Lba first;
  std::uint64_t count = 0;
  WriteSeq write;
  Epoch epoch;
  BlockLocation location;
};

// One window of the disk, as every view sees it.
class Window {
 public:
  // `base_pages`: those in which the disk's base holds something, and a trim has to hide it.
  Window(Lba first, Lba last, const std::vector<Epoch>& views,
         std::optional<std::set<std::uint64_t>> base_pages)
      : first_(first),
        last_(last),
        views_(views),
        pages_(views.size()),
        base_pages_(std::move(base_pages)) {}

  void add(const LoggedRun& run);
  void finish();
  std::vector<PageStore::BuiltPage> take(LiveCounts& live, std::uint64_t& mapped);

 private:
  void offer(std::size_t view, Lba lba, const Candidate& candidate, bool make_page);

  Lba first_;
  Lba last_;
  const std::vector<Epoch>& views_;  // ascending; the last one is the present
  std::vector<std::unordered_map<std::uint64_t, CandidatePage>> pages_;  // by view
  std::optional<std::set<std::uint64_t>> base_pages_;
  std::vector<RangeRun> ranges_;
};

void Window::offer(std::size_t view, Lba lba, const Candidate& candidate, bool make_page) {
  auto& pages = pages_[view];
  auto it = pages.find(page_of(lba));
  if (it == pages.end()) {
    if (!make_page) return;
    it = pages.try_emplace(page_of(lba)).first;
  }
  Candidate& best = it->second[index_in_page(lba)];
  const bool newer = candidate.write > best.write ||
                     (candidate.write == best.write &&
                      candidate.entry.location.bits() > best.entry.location.bits());
  if (newer) best = candidate;
}

void Window::add(const LoggedRun& run) {
  const Lba from = std::max(run.first, first_);
  const Lba to = std::min(Lba(run.first.value + run.count), last_);
  if (from >= to) return;
  if (!run.location.is_stored()) {
    ranges_.push_back({from, to.value - from.value, run.write, run.epoch, run.location});
    return;
  }
  for (std::uint64_t lba = from.value; lba < to.value; ++lba) {
    const std::uint64_t at = lba - run.first.value;
    Candidate candidate;
    candidate.write = run.write;
    candidate.entry.location = BlockLocation::stored(
        run.location.segment(), run.location.block() + static_cast<std::uint32_t>(at));
    candidate.entry.checksum = run.checksums[at];
    for (std::size_t view = 0; view < views_.size(); ++view) {
      if (run.epoch <= views_[view]) offer(view, Lba(lba), candidate, true);
    }
  }
}

void Window::finish() {
  // A trim looks at the pages that are there: those that zeroes make have to come first.
  std::stable_partition(ranges_.begin(), ranges_.end(), [](const RangeRun& range) {
    return range.location.kind() == BlockKind::kZero;
  });
  for (const RangeRun& range : ranges_) {
    const bool zero = range.location.kind() == BlockKind::kZero;
    Candidate candidate;
    candidate.write = range.write;
    candidate.entry.location = range.location;
    const std::uint64_t last = range.first.value + range.count;
    for (std::size_t view = 0; view < views_.size(); ++view) {
      if (range.epoch > views_[view]) continue;
      if (zero) {
        for (std::uint64_t lba = range.first.value; lba < last; ++lba) {
          offer(view, Lba(lba), candidate, true);
        }
        continue;
      }
      if (base_pages_) {
        const auto begin = base_pages_->lower_bound(page_of(range.first));
        for (auto it = begin; it != base_pages_->end() && *it * kPageBlocks < last; ++it) {
          pages_[view].try_emplace(*it);
        }
      }
      for (auto& [number, page] : pages_[view]) {
        const std::uint64_t begin = std::max(range.first.value, number * kPageBlocks);
        const std::uint64_t end = std::min(last, (number + 1) * kPageBlocks);
        for (std::uint64_t lba = begin; lba < end; ++lba) offer(view, Lba(lba), candidate, false);
      }
    }
  }
}

std::vector<PageStore::BuiltPage> Window::take(LiveCounts& live, std::uint64_t& mapped) {
  std::vector<PageStore::BuiltPage> built;
  std::vector<std::uint64_t> numbers;
  for (const auto& pages : pages_) {
    for (const auto& [number, page] : pages) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  for (const std::uint64_t number : numbers) {
    Page below;
    bool any_below = false;
    for (std::size_t view = 0; view < views_.size(); ++view) {
      Page content;
      if (const auto it = pages_[view].find(number); it != pages_[view].end()) {
        for (std::size_t i = 0; i < kPageBlocks; ++i) content.entries[i] = it->second[i].entry;
      }
      for (std::size_t i = 0; i < kPageBlocks; ++i) {
        const BlockLocation location = content.entries[i].location;
        if (!location.is_stored()) continue;
        if (view + 1 == views_.size()) ++mapped;
        if (!any_below || below.entries[i].location != location) ++live[location.segment()];
      }
      const bool holes_only = std::all_of(
          content.entries.begin(), content.entries.end(), [this](const BlockEntry& entry) {
            const BlockKind kind = entry.location.kind();
            return kind == BlockKind::kUnmapped || (kind == BlockKind::kTrimmed && !base_pages_);
          });
      if (any_below ? content == below : holes_only) continue;
      built.push_back({number, views_[view], content, any_below});
      below = content;
      any_below = true;
    }
  }
  return built;
}

Result<std::set<std::uint64_t>> base_pages_in(const NextBasePage& next_page, std::uint64_t first,
                                              std::uint64_t last) {
  std::set<std::uint64_t> pages;
  for (std::uint64_t at = first; at < last; ++at) {
    auto next = next_page(at);
    if (!next) return fail(next.error(), "base");
    if (!*next || **next >= last) break;
    at = **next;
    pages.insert(at);
  }
  return pages;
}

// The numbers of the windows that any entry may leave something in. A disk is mostly empty, and a
// snapshot chain's pack has 256 TiB of addresses: going through all of them would take minutes.
Task<Result<std::set<std::uint64_t>>> windows_in_use(const IndexBuild& build, bool has_base,
                                                     const RunSource& source) {
  std::set<std::uint64_t> windows;
  const RunVisitor note = [&](const LoggedRun& run) {
    // A trim only matters where there is something to hide.
    if (run.count == 0 || (run.location.kind() == BlockKind::kTrimmed && !has_base)) return;
    const std::uint64_t end = std::min(run.first.value + run.count, build.disk_blocks);
    for (std::uint64_t at = run.first.value; at < end;) {
      const std::uint64_t window = at / build.window_blocks;
      windows.insert(window);
      at = (window + 1) * build.window_blocks;
    }
  };
  auto visited = co_await source(Lba(0), Lba(build.disk_blocks), note);
  if (!visited) co_return visited.error();
  co_return windows;
}

std::string parent_of(const std::string& directory) {
  const auto slash = directory.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : directory.substr(0, slash);
}

}  // namespace

Task<Result<std::unique_ptr<BlockMap>>> build_index(Ring& ring, PageCache& cache,
                                                    std::string directory,
                                                    BlockMap::Options options, IndexBuild build,
                                                    RunSource source) {
  if (auto removed = co_await ring.remove_tree(directory); !removed) co_return removed.error();
  auto opened = co_await ring.blocking([&]() -> Result<std::shared_ptr<PageStore>> {
    auto kv = ring.open_kv(directory, KvOptions{});
    if (!kv) return kv.error();
    return std::make_shared<PageStore>(std::move(*kv));
  });
  if (!opened) co_return fail(opened.error(), "build index {}", directory);
  std::shared_ptr<PageStore> store = std::move(opened).value();
  std::vector<Epoch> views = build.checkpoint.views;
  views.push_back(build.checkpoint.epoch);
  LiveCounts live;
  std::uint64_t mapped = 0;
  auto windows = co_await windows_in_use(build, options.next_base_page != nullptr, source);
  if (!windows) co_return windows.error();
  for (const std::uint64_t number : *windows) {
    const Lba first(number * build.window_blocks);
    const Lba last(std::min(first.value + build.window_blocks, build.disk_blocks));
    std::optional<std::set<std::uint64_t>> base_pages;
    if (options.next_base_page) {
      auto found = co_await ring.blocking(
          [&] { return base_pages_in(options.next_base_page, page_of(first), page_of(last) + 1); });
      if (!found) co_return fail(found.error(), "build index {}", directory);
      base_pages = std::move(*found);
    }
    Window window(first, last, views, std::move(base_pages));
    const RunVisitor visit = [&window](const LoggedRun& run) { window.add(run); };
    auto visited = co_await source(first, last, visit);
    if (!visited) co_return visited.error();
    window.finish();
    const auto pages = window.take(live, mapped);
    auto added = co_await ring.blocking([&store, &pages] { return store->add_built(pages); });
    if (!added) co_return fail(added.error(), "build index {}", directory);
  }
  build.checkpoint.mapped_blocks = mapped;
  auto finished =
      co_await ring.blocking([&] { return store->finish_build(build.checkpoint, live); });
  if (!finished) co_return fail(finished.error(), "build index {}", directory);
  // One environment is opened once: let go before it is opened as a map.
  co_await ring.blocking([&store] { store.reset(); });
  // Segments are removed on its word: a power loss must not bring back the one before it.
  if (auto synced = co_await ring.sync_directory(directory); !synced) co_return synced.error();
  if (auto synced = co_await ring.sync_directory(parent_of(directory)); !synced) {
    co_return synced.error();
  }
  co_return co_await BlockMap::open(ring, cache, std::move(directory), options);
}

}  // namespace clouddisk
