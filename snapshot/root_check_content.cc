// root_check_content.cc: whether what the maps of disks and moments show is in their logs.
#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

Volume& RootChecker::volume_of(const std::string& disk_id) {
  auto& volume = volumes_[disk_id];
  if (volume) return *volume;
  Volume::Options options;
  options.index_root = options_.index_root;
  options.disk.compaction = false;
  options.chain.pack.compaction = false;
  options.chain.repack = false;
  volume = std::make_unique<Volume>(machine_->environment, machine_->pack_environment,
                                    chain_of(disk_id), std::move(options));
  for (const auto& [id, snapshot] : catalog_->snapshots()) {
    if (snapshot.disk_id != disk_id || snapshot.status == SnapshotStatus::kFailed ||
        snapshot.status == SnapshotStatus::kDeleting) {
      continue;
    }
    SnapshotState state;
    state.seq = snapshot.seq;
    state.size_bytes = snapshot.size_bytes;
    state.storage = snapshot.storage;
    state.epoch = Epoch(snapshot.epoch);
    state.parent = snapshot.parent;
    state.captured = snapshot.status == SnapshotStatus::kAccomplished;
    volume->know(std::move(state));
  }
  if (const ChainRecord* chain = catalog_->find_chain(chain_of(disk_id))) {
    volume->set_reference(
        {chain->reference_seq, chain->reference_storage, Epoch(chain->reference_epoch)});
  }
  return *volume;
}

Task<Result<std::shared_ptr<BlockSource>>> RootChecker::base_of(const std::string& snapshot_id) {
  const SnapshotRecord* snapshot = catalog_->find_snapshot(snapshot_id);
  if (snapshot == nullptr) co_return fail(Errc::kNotFound, "{} does not exist", snapshot_id);
  const SnapshotRecord record = *snapshot;
  const bool captured = record.status == SnapshotStatus::kAccomplished;
  if (captured && present_.count(record.chain_id) == 0) {
    co_return fail(Errc::kNotFound, "chain {} is not there", record.chain_id);
  }
  if (record.status == SnapshotStatus::kProgressing) {
    auto held = co_await open_storage(record.storage);
    if (!held) co_return held.error();
  }
  auto source = co_await volume_of(record.disk_id).source(record.seq);
  if (!source) co_return source.error();
  co_return std::shared_ptr<BlockSource>(std::move(*source));
}

Task<Result<std::shared_ptr<Disk>>> RootChecker::open_storage(const std::string& name) {
  const auto known = storages_.find(name);
  if (known == storages_.end() || present_.count(name) == 0 || broken_.count(name) != 0) {
    co_return fail(Errc::kNotFound, "storage {} is not there", name);
  }
  const CheckedStorage storage = known->second;
  Volume& volume = volume_of(storage.owner);
  if (auto open = volume.find(name)) co_return open;
  StorageState state{name, storage.size_bytes, nullptr, 0};
  if (!storage.base.empty()) {
    auto base = co_await base_of(storage.base);
    if (!base) co_return base.error();
    state.base = *base;
    const SnapshotRecord* snapshot = catalog_->find_snapshot(storage.base);
    if (snapshot->disk_id == storage.owner) state.base_seq = snapshot->seq;
  }
  auto opened = co_await volume.open(std::move(state));
  if (opened) opened_.emplace_back(storage.owner, name);
  co_return opened;
}

Task<void> RootChecker::check_contents() {
  for (const auto& [name, storage] : storages_) {
    if (storage.is_pack || present_.count(name) == 0 || !wanted(storage)) continue;
    auto disk = co_await open_storage(name);
    if (!disk) {
      find(Kind::kLost, name, std::nullopt, "can't be opened: {}", disk.error().message);
      continue;
    }
    co_await check_map(name, **disk);
  }
  std::set<std::string> chains;
  for (const auto& [id, snapshot] : catalog_->snapshots()) {
    if (snapshot.status == SnapshotStatus::kAccomplished && wanted(snapshot.disk_id)) {
      chains.insert(snapshot.disk_id);
    }
  }
  for (const std::string& disk_id : chains) co_await check_chain(disk_id);
}

Task<void> RootChecker::check_map(const std::string& name, Disk& disk) {
  const std::string owner = storages_.at(name).owner;
  const DiskRecord* record = catalog_->find_disk(owner);
  if (record != nullptr && record->storage == name) {
    co_await check_view(name, owner, disk, std::nullopt);
  } else {
    co_await check_view(name, name, disk, std::nullopt);
  }
  for (const auto& [id, snapshot] : catalog_->snapshots()) {
    if (snapshot.storage != name || snapshot.status != SnapshotStatus::kProgressing) continue;
    if (!disk.has_view(Epoch(snapshot.epoch))) {
      find(Kind::kLost, id, std::nullopt, "storage {} has lost its moment {}", name,
           snapshot.epoch);
      continue;
    }
    co_await check_view(name, id, disk, Epoch(snapshot.epoch));
  }
}

// Every block that the map shows must be in the log, with the checksum that the map has.
Task<void> RootChecker::check_view(const std::string& storage, const std::string& subject,
                                   Disk& disk, std::optional<Epoch> view) {
  const auto checked = logs_.find(storage);
  if (checked == logs_.end()) co_return;  // Told already.
  const LogCheck& log = checked->second;
  std::vector<BlockEntry> entries(kPageBlocks);
  std::uint64_t strange = 0;
  CheckFinding* last = nullptr;
  std::uint64_t end_of_last = 0;
  for (std::uint64_t page = 0;; ++page) {
    auto next = co_await disk.next_page_anywhere(page, true);
    if (!next) {
      find(Kind::kLost, subject, std::nullopt, "its map can't be read: {}", next.error().message);
      co_return;
    }
    if (*next == BlockMap::kNoPage) break;
    page = *next;
    Result<void> looked;
    if (view) {
      looked = co_await disk.view_page(*view, page, entries);
    } else {
      looked = co_await disk.present_page(page, entries);
    }
    if (!looked) {
      find(Kind::kLost, subject, std::nullopt, "page {} of its map can't be read: {}", page,
           looked.error().message);
      continue;
    }
    for (std::size_t i = 0; i < kPageBlocks; ++i) {
      const BlockLocation at = entries[i].location;
      if (!at.is_stored()) continue;
      const std::uint64_t lba = page * kPageBlocks + i;
      const auto segment = log.checksums.find(at.segment());
      const bool gone =
          segment == log.checksums.end() || log.lost.count({at.segment(), at.block()}) != 0;
      if (!gone && segment->second[at.block()] != entries[i].checksum) ++strange;
      if (!gone) continue;
      if (last != nullptr && end_of_last == lba) {
        ++end_of_last;
        ++last->lbas;
        continue;
      }
      find(Kind::kLost, subject, std::nullopt, "content is lost: no replica has it intact");
      last = &result_.findings.back();
      last->first_lba = lba;
      last->lbas = 1;
      end_of_last = lba + 1;
    }
  }
  if (strange > 0) {
    // Where the log does not tell all that it has, only the index does.
    const bool told = untold_.count(storage) == 0;
    if (told) {
      find(Kind::kMendable, storage, std::nullopt,
           "its index is damaged: {} blocks are not where it says", strange);
    } else {
      find(Kind::kNote, storage, std::nullopt, "{} blocks can't be compared with the log", strange);
    }
    strange_.insert(storage);
  }
}

Task<void> RootChecker::close_all() {
  for (auto it = opened_.rbegin(); it != opened_.rend(); ++it) {
    auto released = co_await volumes_.at(it->first)->release(it->second);
    if (!released) {
      find(Kind::kNote, it->second, std::nullopt, "closed with: {}", released.error().message);
    }
  }
  opened_.clear();
  for (auto& [id, volume] : volumes_) static_cast<void>(co_await volume->close_storages());
  for (auto& [id, volume] : volumes_) {
    auto closed = co_await volume->close();
    if (!closed) find(Kind::kNote, id, std::nullopt, "closed with: {}", closed.error().message);
  }
  volumes_.clear();
}

}  // namespace clouddisk::snapshot
