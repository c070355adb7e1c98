// root_check_replicas.cc: superblocks, who is believed, and those who are to be brought back.
#include <algorithm>

#include "engine/disk/resync.h"
#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

Task<Result<void>> RootChecker::check_superblocks() {
  BufferPool pool(ring_, BufferPool::kLargest);
  std::array<FoundReplica, kReplicaCount> found;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    const std::string path = options_.folders[i] + "/superblock";
    OpenOptions options;
    options.access = Access::kRead;
    auto names = co_await ring_.list(options_.folders[i]);
    found[i].reachable = names.has_value();
    if (names) {
      std::erase(*names, "lost+found");
      std::erase(*names, "superblock");
      found[i].bare = names->empty();
    }
    auto file = co_await ring_.open(path, options);
    if (!file) {
      found[i].problem = file.error().message;
      continue;
    }
    Buffer slots = co_await pool.allocate(2 * kSuperblockSize);
    const int got = co_await ring_.read(*file, 0, slots.span());
    found[i].problem = "its superblock is empty";
    std::vector<std::string> torn;
    for (unsigned slot = 0; slot < 2; ++slot) {
      const std::size_t end = (slot + 1) * kSuperblockSize;
      // A folder that was brought up to date has one slot until the next change.
      const auto bytes = slots.span().subspan(slot * kSuperblockSize, kSuperblockSize);
      const bool blank = std::all_of(bytes.begin(), bytes.end(),
                                     [](std::byte byte) { return byte == std::byte{0}; });
      if (got < static_cast<int>(end) || blank) continue;
      auto superblock =
          decode_superblock(slots.span().subspan(slot * kSuperblockSize, kSuperblockSize));
      if (!superblock && superblock.error().code == Errc::kUnsupported) {
        co_return fail(superblock.error(), "replica {}", i + 1);
      }
      if (!superblock) {
        found[i].problem = superblock.error().message;
        torn.push_back(fmt::format("slot {}: {}", slot, superblock.error().message));
      } else if (!found[i].superblock || superblock->generation > found[i].superblock->generation) {
        found[i].superblock = *superblock;
      }
    }
    // They are written in turn, so a crash may tear one; the next start writes both.
    const Kind kind = found[i].superblock ? Kind::kNote : Kind::kMendable;
    for (const std::string& what : torn) find(kind, "superblock", i, "{}", what);
  }
  auto decision = decide_set(found, std::nullopt);
  if (!decision) {
    find(Kind::kLost, "superblock", std::nullopt, "the set can't be believed: {}",
         decision.error().message);
    co_return Result<void>{};
  }
  if (decision->create) co_return fail(Errc::kNotFound, "there is no replica set in these folders");
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (in_mask(decision->in_sync, i)) continue;
    if (!found[i].superblock) {
      find(Kind::kMendable, "replica", i, "is missing: {}", found[i].problem);
    } else {
      find(Kind::kMendable, "replica", i, "is stale: of generation {}, the set is at {}",
           found[i].superblock->generation.value, decision->generation.value);
    }
  }
  ReplicaSet::Options set;
  set.folders = options_.folders;
  auto opened = co_await ReplicaSet::open(ring_, std::move(set));
  if (!opened) co_return opened.error();
  replicas_ = std::move(*opened);
  co_return Result<void>{};
}

// --- Those that are out ---

Task<Result<void>> RootChecker::resync_others() {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (is_in(i) || !replicas_->can_write()) continue;
    if (auto begun = replicas_->begin_receiving(i); !begun) co_return begun;
    for (const std::string& name : present_) {
      const auto store = std::make_shared<LocalSegmentStore>(ring_, *replicas_, machine_->files,
                                                             name, LocalSegmentStore::Options{});
      FullSpeed pace;
      std::set<SegmentSeq> done;
      auto brought =
          co_await resync_copy(*store, machine_->work, disk_tag(name), i, std::nullopt, pace, done);
      store->close();
      if (!brought) co_return fail(brought.error(), "{} to replica {}", name, i + 1);
    }
    if (auto copied = co_await catalog_->copy_to(i); !copied) co_return copied;
    if (auto admitted = co_await replicas_->admit(i); !admitted) co_return admitted;
  }
  co_return Result<void>{};
}

}  // namespace clouddisk::snapshot
