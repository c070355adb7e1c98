// root_check_logs.cc: every log on every copy, and the indexes made from them.
#include <algorithm>

#include "engine/map/index_check.h"
#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

// Of one that is there. Gives where its checkpoint stands.
Task<Result<LogPosition>> RootChecker::check_map_index(const std::string& name) {
  const std::string directory = index_of(name);
  Ring* ring = &ring_;
  auto work = [ring, directory]() -> Result<Checkpoint> {
    KvOptions options;
    options.create = false;
    auto kv = ring->open_kv(directory, options);
    if (!kv) return kv.error();
    return check_index(**kv);
  };
  auto checkpoint = co_await ring_.blocking(std::move(work));
  if (!checkpoint) co_return checkpoint.error();
  co_return checkpoint->position;
}

Task<Result<void>> RootChecker::check_storage(const std::string& name) {
  LogCheckOptions options;
  options.repair = options_.repair;
  const auto index = co_await ring_.stat(index_of(name) + "/data.mdb");
  std::optional<LogPosition> position;
  std::optional<Error> damage;
  if (index) {
    auto checked = co_await check_map_index(name);
    if (checked) {
      position = *checked;
    } else {
      damage = checked.error();
    }
  }
  if (position) options.settled = position->next_batch;
  options.progress = [this](std::uint64_t bytes) {
    result_.bytes += bytes;
    if (options_.progress) options_.progress(std::min(result_.bytes, total_bytes_), total_bytes_);
  };
  const auto store = std::make_shared<LocalSegmentStore>(ring_, *replicas_, machine_->files, name,
                                                         LocalSegmentStore::Options{});
  if (auto opened = co_await store->open(); !opened) co_return opened;
  auto checked = co_await check_log(*store, machine_->log, disk_tag(name), std::move(options));
  store->close();
  if (!checked) {
    find(Kind::kLost, name, std::nullopt, "its log can't be read: {}", checked.error().message);
    broken_.insert(name);
    co_return Result<void>{};
  }
  ++result_.storages;
  result_.segments += checked->checksums.size();
  // A disk has none before it is first written to, and no segment either.
  const bool is_new = checked->checksums.empty();
  if (!index && !is_new) find(Kind::kMendable, name, std::nullopt, "its index is missing");
  if (damage && is_new) {
    find(Kind::kNote, name, std::nullopt,
         "its index is not finished (a crash): the next start makes it anew");
  } else if (damage) {
    find(Kind::kMendable, name, std::nullopt, "its index is damaged: {}", damage->message);
    strange_.insert(name);
  }
  if (position && position->segment.value != 0 &&
      checked->checksums.count(position->segment) == 0) {
    find(Kind::kLost, name, std::nullopt,
         "segment {}, where its index stands, is on no replica: what came since is gone",
         position->segment.value);
    // Not opened: recovery would take what is left for all that there was.
    broken_.insert(name);
  }
  const bool tells_all =
      std::all_of(checked->damage.begin(), checked->damage.end(), [](const LogDamage& damage) {
        return damage.mendable || damage.unfinished || damage.what == "payload";
      });
  if (!tells_all) untold_.insert(name);
  for (const LogDamage& damage : checked->damage) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (!in_mask(damage.copies, copy)) continue;
      Kind kind = damage.mendable ? Kind::kMendable : Kind::kLost;
      // Whether it loses anything depends on whether something still shows it: see check_view().
      if (damage.unfinished || (damage.what == "payload" && !damage.mendable)) kind = Kind::kNote;
      CheckFinding& finding = find(kind, name, copy, "{} {}", damage.what,
                                   damage.unfinished              ? "is not finished (a crash)"
                                   : damage.what == "the segment" ? "is missing"
                                                                  : "is damaged");
      finding.segment = damage.segment.value;
      finding.first_block = damage.first;
      finding.blocks = damage.count;
      if (!damage.problem.empty()) result_.failed.emplace_back(finding, damage.problem);
    }
  }
  logs_[name] = std::move(*checked);
  co_return Result<void>{};
}

}  // namespace clouddisk::snapshot
