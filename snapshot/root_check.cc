#include "snapshot/root_check.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/catalog/catalog.h"
#include "engine/catalog/catalog_check.h"
#include "engine/disk/log_check.h"
#include "engine/disk/resync.h"
#include "engine/map/index_check.h"
#include "snapshot/volume.h"

namespace clouddisk::snapshot {
namespace {

using Kind = CheckFinding::Kind;

bool in_mask(ReplicaMask mask, unsigned copy) {
  return (mask >> copy & 1U) != 0;
}

// Pools and caches of one ring, as a reactor has them.
struct Machine {
  Machine(Ring& ring, ReplicaSet& set)
      : files(ring, 256),
        pages(16_MiB),
        client(ring, 32_MiB),
        packs(ring, 16_MiB),
        work(ring, 16_MiB),
        log(ring, 32_MiB),
        environment{ring, set, files, pages, client, work, log},
        pack_environment{ring, set, files, pages, packs, work, log} {}
  FileCache files;
  PageCache pages;
  BufferPool client;
  BufferPool packs;
  BufferPool work;
  BufferPool log;
  DiskEnvironment environment;
  DiskEnvironment pack_environment;
};

// A log that belongs to somebody.
struct Storage {
  std::string owner;  // the disk's id
  bool must_exist = true;
  std::uint64_t size_bytes = 0;
  std::string base;  // snapshot
  bool is_pack = false;
};

class RootChecker {
 public:
  RootChecker(Ring& ring, RootCheckOptions options) : ring_(ring), options_(std::move(options)) {}
  Task<Result<RootCheck>> run();

 private:
  template <class... Args>
  CheckFinding& find(Kind kind, std::string subject, std::optional<unsigned> replica,
                     fmt::format_string<Args...> format, Args&&... args) {
    CheckFinding finding;
    finding.kind = kind;
    finding.subject = std::move(subject);
    if (replica) finding.replica = *replica + 1;
    finding.what = fmt::format(format, std::forward<Args>(args)...);
    result_.findings.push_back(std::move(finding));
    return result_.findings.back();
  }
  bool is_in(unsigned copy) const { return in_mask(replicas_->in_sync_mask(), copy); }
  bool wanted(const std::string& owner) const {
    return options_.disk.empty() || options_.disk == owner;
  }
  std::string index_of(const std::string& storage) const {
    return options_.index_root + "/" + storage;
  }

  Task<Result<void>> check_superblocks();
  Task<void> check_catalog_copies();
  void check_records();
  void check_disk(const DiskRecord& disk);
  void check_snapshot(const SnapshotRecord& snapshot);
  Task<Result<void>> check_names();
  Task<void> check_files(const std::string& storage);
  Task<void> drop_tree(std::string path);
  Task<Result<void>> add_up();
  Task<Result<void>> check_storage(const std::string& name);
  Task<std::optional<LogPosition>> check_map_index(const std::string& name);
  Task<void> check_contents();
  Task<Result<std::shared_ptr<BlockSource>>> base_of(const std::string& snapshot_id);
  Task<Result<std::shared_ptr<Disk>>> open_storage(const std::string& name);
  Task<void> check_map(const std::string& name, Disk& disk);
  Task<void> check_view(const std::string& storage, const std::string& subject, Disk& disk,
                        std::optional<Epoch> view);
  Task<void> check_chain(const std::string& disk_id);
  Task<void> close_all();
  Task<Result<void>> resync_others();
  Volume& volume_of(const std::string& disk_id);
  static std::string chain_of(const std::string& disk_id) { return "sl-" + disk_id.substr(2); }

  Ring& ring_;
  RootCheckOptions options_;
  RootCheck result_;
  std::unique_ptr<ReplicaSet> replicas_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Machine> machine_;
  std::map<std::string, Storage> storages_;
  std::set<std::string> present_;  // storages that some copy has
  std::map<std::string, LogCheck> logs_;
  std::map<std::string, std::unique_ptr<Volume>> volumes_;
  std::vector<std::pair<std::string, std::string>> opened_;  // disk, storage
  std::set<std::string> broken_;                             // storages whose log can't be read
  std::set<std::string> strange_;                            // storages whose index is wrong
  std::set<std::string> untold_;  // storages of whose content the log tells not all
  std::uint64_t total_bytes_ = 0;
};

// --- Replicas ---

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
      found[i].empty = names->empty();
    }
    auto file = co_await ring_.open(path, options);
    if (!file) {
      found[i].problem = file.error().message;
      continue;
    }
    Buffer slots = co_await pool.allocate(2 * kSuperblockSize);
    const int got = co_await ring_.read(*file, 0, slots.span());
    for (unsigned slot = 0; slot < 2; ++slot) {
      const std::size_t end = (slot + 1) * kSuperblockSize;
      if (got < static_cast<int>(end)) {
        find(Kind::kMendable, "superblock", i, "slot {} is cut off", slot);
        continue;
      }
      auto superblock =
          decode_superblock(slots.span().subspan(slot * kSuperblockSize, kSuperblockSize));
      if (!superblock && superblock.error().code == Errc::kUnsupported) {
        co_return fail(superblock.error(), "replica {}", i + 1);
      }
      if (!superblock) {
        found[i].problem = superblock.error().message;
        find(Kind::kMendable, "superblock", i, "slot {}: {}", slot, superblock.error().message);
      } else if (!found[i].superblock || superblock->generation > found[i].superblock->generation) {
        found[i].superblock = *superblock;
      }
    }
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

// --- Catalog ---

Task<void> RootChecker::check_catalog_copies() {
  std::array<std::optional<CatalogCopy>, kReplicaCount> copies;
  std::uint64_t newest = 0;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!is_in(i)) continue;
    auto copy = co_await read_catalog_copy(ring_, *replicas_, i);
    if (!copy) {
      find(Kind::kMendable, "catalog", i, "{}", copy.error().message);
      continue;
    }
    if (!copy->there) {
      find(Kind::kMendable, "catalog", i, "there is none");
      continue;
    }
    copies[i] = *copy;
    newest = std::max(newest, copy->commit);
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!copies[i] || copies[i]->commit == newest) continue;
    // A change counts once it is in all copies; a crash in between leaves it in some.
    const Kind kind = copies[i]->commit + 1 == newest ? Kind::kNote : Kind::kMendable;
    find(kind, "catalog", i, "is at change {}, the newest at {}", copies[i]->commit, newest);
  }
}

void RootChecker::check_disk(const DiskRecord& disk) {
  const bool doomed = disk.status == DiskStatus::kCreating || disk.status == DiskStatus::kDeleting;
  storages_[disk.storage] = {disk.id, !doomed, disk.size_gib * 1_GiB, disk.base_snapshot, false};
  if (!disk.undo_storage.empty()) {
    storages_[disk.undo_storage] = {disk.id, !doomed, disk.size_gib * 1_GiB, disk.undo_base, false};
  }
  if (!disk.instance_id.empty() && catalog_->find_instance(disk.instance_id) == nullptr) {
    find(Kind::kLost, disk.id, std::nullopt, "is attached to {}, which is not in the catalog",
         disk.instance_id);
  }
  for (const std::string& base : {disk.base_snapshot, disk.undo_base}) {
    if (base.empty() || catalog_->find_snapshot(base) != nullptr) continue;
    find(Kind::kLost, disk.id, std::nullopt, "borrows from {}, which is not in the catalog", base);
  }
}

void RootChecker::check_snapshot(const SnapshotRecord& snapshot) {
  const ChainRecord* chain = catalog_->find_chain(snapshot.chain_id);
  if (chain == nullptr) {
    find(Kind::kLost, snapshot.id, std::nullopt, "is of chain {}, which is not in the catalog",
         snapshot.chain_id);
  } else if (chain->disk_id != snapshot.disk_id || snapshot.seq == 0 ||
             snapshot.seq >= chain->next_seq || snapshot.parent >= snapshot.seq) {
    find(Kind::kLost, snapshot.id, std::nullopt,
         "sequence {}, parent {}, disk {} do not fit its chain: next {}, disk {}", snapshot.seq,
         snapshot.parent, snapshot.disk_id, chain->next_seq, chain->disk_id);
  }
  if (!snapshot.group_id.empty() && catalog_->find_group(snapshot.group_id) == nullptr) {
    find(Kind::kLost, snapshot.id, std::nullopt, "is of group {}, which is not in the catalog",
         snapshot.group_id);
  }
  const bool captured = snapshot.status == SnapshotStatus::kAccomplished;
  if (snapshot.status == SnapshotStatus::kProgressing) {
    storages_.try_emplace(snapshot.storage, Storage{snapshot.disk_id, true, snapshot.size_bytes,
                                                    snapshot.storage_base, false});
  }
  Storage& pack = storages_[snapshot.chain_id];
  pack.owner = snapshot.disk_id;
  pack.is_pack = true;
  pack.must_exist = captured || (pack.size_bytes != 0 && pack.must_exist);
  pack.size_bytes = 1;
}

void RootChecker::check_records() {
  for (const auto& [id, disk] : catalog_->disks()) check_disk(disk);
  for (const auto& [id, snapshot] : catalog_->snapshots()) check_snapshot(snapshot);
  for (const auto& [id, chain] : catalog_->chains()) {
    storages_.try_emplace(id, Storage{chain.disk_id, false, 0, {}, true});
  }
  result_.disks = catalog_->disks().size();
  result_.snapshots = catalog_->snapshots().size();
}

// --- Folders and files ---

Task<void> RootChecker::drop_tree(std::string path) {
  if (!options_.repair) co_return;
  static_cast<void>(co_await ring_.remove_tree(std::move(path)));
}

Task<Result<void>> RootChecker::check_names() {
  std::map<std::string, ReplicaMask> found;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!is_in(i)) continue;
    auto names = co_await ring_.list(options_.folders[i] + "/disks");
    if (!names && names.error().code != Errc::kNotFound) co_return names.error();
    if (!names) continue;
    for (const std::string& name : *names) found[name] |= 1U << i;
  }
  for (const auto& [name, copies] : found) {
    if (storages_.count(name) != 0) {
      present_.insert(name);
      continue;
    }
    // Left alone: it is the catalog that may be wrong. The daemon removes what is surely a former
    // storage of a disk.
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if (!in_mask(copies, i)) continue;
      find(Kind::kNote, name, i, "an orphan: no disk and no snapshot has this storage");
    }
  }
  for (const auto& [name, storage] : storages_) {
    if (present_.count(name) == 0 && storage.must_exist) {
      find(Kind::kLost, name, std::nullopt, "no replica in sync has the storage of {}",
           storage.owner);
    }
  }
  for (const std::string& name : present_) co_await check_files(name);
  auto indexes = co_await ring_.list(options_.index_root);
  if (!indexes) co_return Result<void>{};
  for (const std::string& name : *indexes) {
    std::string storage = name;
    if (storage.ends_with("-chain")) storage.resize(storage.size() - 6);
    if (storages_.count(storage) != 0) continue;
    find(Kind::kNote, name, std::nullopt, "an orphan: an index of no storage");
  }
  co_return Result<void>{};
}

Task<void> RootChecker::check_files(const std::string& storage) {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!is_in(i)) continue;
    const std::string folder = options_.folders[i] + "/disks/" + storage;
    auto names = co_await ring_.list(folder);
    if (!names) continue;
    for (const std::string& name : *names) {
      const bool digits = name.find_first_not_of("0123456789abcdef", 8) == std::string::npos;
      if (name.starts_with("segment-") && name.size() == 24 && digits) continue;
      if (name.starts_with("spare-")) continue;
      find(Kind::kNote, storage, i, "an orphan: {} is no file of ours", name);
    }
  }
}

// --- Logs ---

Task<Result<void>> RootChecker::add_up() {
  for (const std::string& name : present_) {
    if (!wanted(storages_.at(name).owner)) continue;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if (!is_in(i)) continue;
      auto names = co_await ring_.list(options_.folders[i] + "/disks/" + name);
      if (names)
        total_bytes_ += static_cast<std::uint64_t>(std::count_if(
                            names->begin(), names->end(),
                            [](const auto& one) { return one.starts_with("segment-"); })) *
                        kSegmentSize;
    }
  }
  co_return Result<void>{};
}

// Gives where its checkpoint stands.
Task<std::optional<LogPosition>> RootChecker::check_map_index(const std::string& name) {
  const std::string directory = index_of(name);
  auto info = co_await ring_.stat(directory + "/data.mdb");
  if (!info) {
    find(Kind::kMendable, name, std::nullopt, "its index is missing");
    co_return std::nullopt;
  }
  Ring* ring = &ring_;
  auto work = [ring, directory]() -> Result<Checkpoint> {
    KvOptions options;
    options.create = false;
    auto kv = ring->open_kv(directory, options);
    if (!kv) return kv.error();
    return check_index(**kv);
  };
  auto checkpoint = co_await ring_.blocking(std::move(work));
  if (checkpoint) co_return checkpoint->position;
  find(Kind::kMendable, name, std::nullopt, "its index is damaged: {}", checkpoint.error().message);
  strange_.insert(name);
  co_return std::nullopt;
}

Task<Result<void>> RootChecker::check_storage(const std::string& name) {
  LogCheckOptions options;
  options.repair = options_.repair;
  const auto position = co_await check_map_index(name);
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
    }
  }
  logs_[name] = std::move(*checked);
  co_return Result<void>{};
}

// --- Contents ---

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
  const Storage storage = known->second;
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
    if (storage.is_pack || present_.count(name) == 0 || !wanted(storage.owner)) continue;
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

// --- Replicas that are out ---

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

Task<Result<RootCheck>> RootChecker::run() {
  if (auto checked = co_await check_superblocks(); !checked) co_return checked.error();
  if (!replicas_) co_return std::move(result_);
  machine_ = std::make_unique<Machine>(ring_, *replicas_);
  co_await check_catalog_copies();
  auto catalog = co_await Catalog::open(ring_, *replicas_, {});
  if (!catalog) {
    find(Kind::kLost, "catalog", std::nullopt, "{}", catalog.error().message);
    co_return std::move(result_);
  }
  catalog_ = std::move(*catalog);
  if (!options_.disk.empty() && catalog_->find_disk(options_.disk) == nullptr &&
      catalog_->find_chain(chain_of(options_.disk)) == nullptr) {
    co_return fail(Errc::kNotFound, "there is no disk {}, nor a snapshot of it", options_.disk);
  }
  check_records();
  if (auto named = co_await check_names(); !named) co_return named.error();
  if (auto added = co_await add_up(); !added) co_return added.error();
  for (const std::string& name : present_) {
    if (!wanted(storages_.at(name).owner)) continue;
    if (auto checked = co_await check_storage(name); !checked) co_return checked.error();
  }
  co_await check_contents();
  co_await close_all();
  if (options_.repair) {
    // The next start makes it anew from the log, which must be able to.
    for (const std::string& name : strange_) {
      if (untold_.count(name) == 0 && broken_.count(name) == 0) co_await drop_tree(index_of(name));
    }
    const bool lost =
        std::any_of(result_.findings.begin(), result_.findings.end(),
                    [](const CheckFinding& finding) { return finding.kind == Kind::kLost; });
    if (lost) {
      find(Kind::kNote, "replica", std::nullopt,
           "those that are out are left as they are: one may hold what the others have lost");
    } else if (auto resynced = co_await resync_others(); !resynced) {
      find(Kind::kNote, "replica", std::nullopt, "not brought back: {}", resynced.error().message);
    }
  }
  co_return std::move(result_);
}

}  // namespace

Task<Result<RootCheck>> check_root(Ring& ring, RootCheckOptions options) {
  RootChecker checker(ring, std::move(options));
  co_return co_await checker.run();
}

}  // namespace clouddisk::snapshot
