// root_check_chain.cc: a chain of snapshots: its index, its pack, and each frame that is shown.
#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

Task<void> RootChecker::check_chain(const std::string& disk_id) {
  const std::string chain_id = chain_of(disk_id);
  if (present_.count(chain_id) == 0 || logs_.count(chain_id) == 0) co_return;  // Told already.
  const std::string directory = index_of(chain_id) + "-chain";
  auto there = co_await ring_.stat(directory + "/data.mdb");
  if (!there) {
    find(Kind::kMendable, chain_id, std::nullopt, "the index of its snapshots is missing");
  } else {
    Ring* ring = &ring_;
    auto work = [ring, directory]() -> Result<void> {
      KvOptions options;
      options.create = false;
      auto kv = ring->open_kv(directory, options);
      if (!kv) return kv.error();
      ChainIndex index(std::move(*kv));
      if (auto sound = index.verify(); !sound) return sound;
      if (auto usage = index.usage(); !usage) return usage.error();
      auto head = index.head();
      if (!head) return head.error();
      return {};
    };
    auto sound = co_await ring_.blocking(std::move(work));
    if (!sound) {
      find(Kind::kMendable, chain_id, std::nullopt, "the index of its snapshots is damaged: {}",
           sound.error().message);
    }
  }
  Volume& volume = volume_of(disk_id);
  auto opened = co_await volume.chain();
  if (!opened) {
    find(Kind::kLost, chain_id, std::nullopt, "can't be opened: {}", opened.error().message);
    co_return;
  }
  const std::shared_ptr<Chain> chain = *opened;
  co_await check_view(chain_id, chain_id, chain->pack(), std::nullopt);
  std::map<std::uint64_t, const SnapshotRecord*> by_seq;
  for (const auto& [id, snapshot] : catalog_->snapshots()) {
    if (snapshot.disk_id == disk_id && snapshot.status == SnapshotStatus::kAccomplished) {
      by_seq[snapshot.seq] = &snapshot;
    }
  }
  std::vector<std::byte> content(kPageBlocks * kBlockSize);
  std::map<std::uint64_t, ChainPageRef> before;  // by page: what an older snapshot had there
  for (const auto& [seq, snapshot] : by_seq) {
    auto pages = co_await chain->pages_between(0, seq);
    if (!pages) {
      find(Kind::kLost, snapshot->id, std::nullopt, "its pages can't be listed: {}",
           pages.error().message);
      continue;
    }
    std::uint64_t end_of_last = 0;
    std::size_t last = 0;
    for (const std::uint64_t page : *pages) {
      auto shown = co_await chain->page(seq, page);
      if (!shown) {
        find(Kind::kLost, snapshot->id, std::nullopt, "page {} can't be read: {}", page,
             shown.error().message);
        continue;
      }
      if (!*shown) continue;
      // Frames that were read for an older snapshot are fine for this one, if they were.
      auto& known = before[page];
      if (known && *known == **shown) continue;
      auto read = co_await chain->read(seq, Lba(page * kPageBlocks), content);
      if (read) {
        known = *shown;
        continue;
      }
      for (std::size_t i = 0; i < kPageBlocks; ++i) {
        if ((*shown)->blocks[i].is_hole()) continue;
        const Lba lba(page * kPageBlocks + i);
        auto block = co_await chain->read(seq, lba, std::span(content).first(kBlockSize));
        if (block) continue;
        if (end_of_last == lba.value && last != 0) {
          ++result_.findings[last - 1].lbas;
          ++end_of_last;
          continue;
        }
        CheckFinding& lost = find(Kind::kLost, snapshot->id, std::nullopt,
                                  "content is lost: no replica has it intact");
        lost.first_lba = lba.value;
        lost.lbas = 1;
        last = result_.findings.size();
        end_of_last = lba.value + 1;
      }
    }
  }
}

}  // namespace clouddisk::snapshot
