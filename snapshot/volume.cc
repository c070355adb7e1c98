#include "snapshot/volume.h"

#include <algorithm>

#include "engine/base/log.h"

namespace clouddisk::snapshot {

Volume::Volume(DiskEnvironment& environment, DiskEnvironment& pack_environment,
               std::string chain_id, Options options)
    : environment_(environment),
      pack_environment_(pack_environment),
      chain_id_(std::move(chain_id)),
      options_(std::move(options)),
      opening_(environment.ring) {}

Volume::~Volume() {
  CHECK(storages_.empty() && chain_ == nullptr);
}

void Volume::know(SnapshotState snapshot) {
  if (chain_) chain_->begin(snapshot.seq);
  const std::uint64_t seq = snapshot.seq;
  snapshots_[seq] = std::move(snapshot);
}

Chain::Identity Volume::chain_identity() const {
  Chain::Identity identity;
  identity.id = chain_id_;
  identity.index_directory = options_.index_root + "/" + chain_id_;
  for (const auto& [seq, snapshot] : snapshots_) identity.live.insert(seq);
  return identity;
}

Task<Result<std::shared_ptr<Chain>>> Volume::chain() {
  auto guard = co_await opening_.lock();
  if (!chain_) {
    Chain::Options options = options_.chain;
    options.pace = options_.pace;
    options.client_requests = [this] { return client_requests(); };
    auto opened = co_await Chain::open(pack_environment_, chain_identity(), std::move(options));
    if (!opened) co_return opened.error();
    chain_ = std::move(*opened);
  }
  co_return chain_;
}

std::uint64_t Volume::client_requests() const {
  std::uint64_t requests = 0;
  for (const auto& [name, storage] : storages_) requests += storage.disk->client_requests();
  return requests;
}

// --- Storages ---

Disk::Identity Volume::identity(const StorageState& storage) const {
  Disk::Identity identity;
  identity.id = storage.name;
  identity.size_bytes = storage.size_bytes;
  identity.index_directory = options_.index_root + "/" + storage.name;
  identity.base = storage.base;
  for (const auto& [seq, snapshot] : snapshots_) {
    if (!snapshot.captured && snapshot.storage == storage.name) {
      identity.views.push_back(snapshot.epoch);
    }
  }
  if (reference_.seq != 0 && reference_.storage == storage.name) {
    identity.reference = reference_.epoch;
  }
  return identity;
}

Task<Result<void>> Volume::create_storage(DiskEnvironment& environment, const Options& options,
                                          const StorageState& storage) {
  Disk::Identity identity;
  identity.id = storage.name;
  identity.size_bytes = storage.size_bytes;
  identity.index_directory = options.index_root + "/" + storage.name;
  co_return co_await Disk::create(environment, std::move(identity), options.disk);
}

Task<Result<void>> Volume::remove_storage(DiskEnvironment& environment, const Options& options,
                                          std::string name) {
  Disk::Identity identity;
  identity.index_directory = options.index_root + "/" + name;
  identity.id = std::move(name);
  co_return co_await Disk::remove(environment, std::move(identity));
}

Task<Result<std::shared_ptr<Disk>>> Volume::open(StorageState storage) {
  auto guard = co_await opening_.lock();
  const std::string name = storage.name;
  if (const auto it = storages_.find(name); it != storages_.end()) {
    // Whoever opened it first may have known an earlier size.
    Disk& disk = *it->second.disk;
    if (storage.size_bytes > disk.size_bytes()) {
      if (auto grown = disk.grow(storage.size_bytes); !grown) co_return grown.error();
    }
    ++it->second.holders;
    co_return it->second.disk;
  }
  Disk::Identity who = identity(storage);
  auto opened = co_await Disk::open(environment_, std::move(who), options_.disk);
  if (!opened) co_return opened.error();
  storages_[name] = {*opened, std::move(storage), 1};
  co_return *opened;
}

Task<Result<void>> Volume::release(std::string name) {
  auto guard = co_await opening_.lock();
  const auto it = storages_.find(name);
  CHECK(it != storages_.end() && it->second.holders > 0);
  if (--it->second.holders > 0) co_return Result<void>{};
  const std::shared_ptr<Disk> disk = it->second.disk;
  storages_.erase(it);
  co_return co_await disk->close();
}

std::shared_ptr<Disk> Volume::find(const std::string& name) const {
  const auto it = storages_.find(name);
  return it == storages_.end() ? nullptr : it->second.disk;
}

bool Volume::has_uncaptured(const std::string& storage) const {
  return std::any_of(snapshots_.begin(), snapshots_.end(), [&storage](const auto& entry) {
    return !entry.second.captured && entry.second.storage == storage;
  });
}

// --- Snapshots ---

Task<Result<std::shared_ptr<SnapshotSource>>> Volume::source(std::uint64_t seq) {
  if (const auto it = sources_.find(seq); it != sources_.end()) co_return it->second;
  const auto known = snapshots_.find(seq);
  if (known == snapshots_.end()) {
    co_return fail(Errc::kNotFound, "chain {} has no snapshot {}", chain_id_, seq);
  }
  const SnapshotState snapshot = known->second;
  auto opened = co_await chain();
  if (!opened) co_return opened.error();
  auto source = std::make_shared<SnapshotSource>(*opened, seq, snapshot.size_bytes);
  if (!snapshot.captured) {
    const std::shared_ptr<Disk> disk = find(snapshot.storage);
    const auto still = snapshots_.find(seq);
    if (still == snapshots_.end()) co_return fail(Errc::kNotFound, "the snapshot was deleted");
    if (!still->second.captured) {
      if (disk == nullptr || !disk->has_view(snapshot.epoch)) {
        co_return fail(Errc::kNotFound, "storage {} has no moment {} of snapshot {}",
                       snapshot.storage, snapshot.epoch.value, seq);
      }
      source->set_view(disk, snapshot.epoch);
    }
  }
  // Somebody else may have made it meanwhile.
  co_return sources_.try_emplace(seq, source).first->second;
}

Task<Result<CaptureCursor>> Volume::capture(std::uint64_t seq,
                                            std::function<void(const CaptureProgress&)> progress) {
  auto opened = co_await chain();
  if (!opened) co_return opened.error();
  const std::shared_ptr<Chain> chain = *opened;
  const auto known = snapshots_.find(seq);
  if (known == snapshots_.end()) co_return fail(Errc::kShutdown, "snapshot {} was deleted", seq);
  const SnapshotState snapshot = known->second;
  CHECK(!snapshot.captured);
  const auto storage = storages_.find(snapshot.storage);
  if (storage == storages_.end()) {
    co_return fail(Errc::kShutdown, "storage {} was closed", snapshot.storage);
  }
  const std::shared_ptr<Disk> disk = storage->second.disk;
  if (!disk->has_view(snapshot.epoch)) {
    co_return fail(Errc::kCorrupt, "storage {} has lost the moment {} of snapshot {}",
                   snapshot.storage, snapshot.epoch.value, seq);
  }
  CaptureSpec spec;
  spec.seq = seq;
  spec.view = snapshot.epoch;
  spec.size_bytes = snapshot.size_bytes;
  spec.parent = snapshots_.count(snapshot.parent) != 0 ? snapshot.parent : 0;
  spec.pace = options_.pace;
  for (const auto& [other, state] : snapshots_) {
    CHECK(other >= seq || state.captured);  // the oldest first
  }
  if (reference_.seq != 0 && reference_.seq == spec.parent &&
      reference_.storage == snapshot.storage && disk->reference() == reference_.epoch) {
    spec.reference = reference_.epoch;
  }
  const auto parent = snapshots_.find(spec.parent);
  const std::uint64_t base_seq = storage->second.state.base_seq;
  // What memory had of it goes to the index, and is not kept twice.
  if (auto written = co_await disk->checkpoint(); !written) co_return written.error();
  if (const auto it = sources_.find(seq); it != sources_.end()) it->second->refresh_pages();
  spec.base_is_parent =
      spec.parent != 0 && (base_seq == spec.parent || (parent != snapshots_.end() &&
                                                       parent->second.storage == snapshot.storage));
  const auto cancelled = [this, seq] { return stopping_ || snapshots_.count(seq) == 0; };
  auto cursor = co_await snapshot::capture(*disk, *chain, spec, cancelled, std::move(progress));
  co_return cursor;
}

void Volume::captured(std::uint64_t seq) {
  SnapshotState& snapshot = snapshots_.at(seq);
  if (snapshot.captured) return;
  snapshot.captured = true;
  if (const auto it = sources_.find(seq); it != sources_.end()) it->second->set_captured();
  if (const std::shared_ptr<Disk> disk = find(snapshot.storage)) {
    if (reference_.seq != 0 && reference_.storage != snapshot.storage) {
      if (const auto other = find(reference_.storage)) other->drop_view(reference_.epoch);
    }
    disk->make_reference(snapshot.epoch);
  }
  reference_ = {seq, snapshot.storage, snapshot.epoch};
}

Task<Result<void>> Volume::remove_chain() {
  CHECK(snapshots_.empty());
  auto guard = co_await opening_.lock();
  if (const auto chain = std::exchange(chain_, nullptr)) {
    if (auto closed = co_await chain->close(); !closed) co_return closed;
  }
  Chain::Identity who = chain_identity();
  co_return co_await Chain::remove(pack_environment_, std::move(who));
}

Task<Result<void>> Volume::drop(std::uint64_t seq) {
  const auto known = snapshots_.find(seq);
  if (known == snapshots_.end()) co_return co_await drop_from_chain(seq);
  const SnapshotState snapshot = known->second;
  snapshots_.erase(known);
  if (const auto it = sources_.find(seq); it != sources_.end()) {
    it->second->set_gone();
    sources_.erase(it);
  }
  const std::shared_ptr<Disk> disk = find(snapshot.storage);
  if (reference_.seq == seq) {
    if (disk) disk->drop_view(reference_.epoch);
    reference_ = {};
  }
  if (disk && !snapshot.captured) disk->drop_view(snapshot.epoch);
  co_return co_await drop_from_chain(seq);
}

// Again after an error: what went already is passed over.
Task<Result<void>> Volume::drop_from_chain(std::uint64_t seq) {
  auto opened = co_await chain();
  if (!opened) co_return opened.error();
  co_return co_await (*opened)->drop(seq);
}

bool Volume::is_reference(std::uint64_t seq, const Disk& disk) const {
  return reference_.seq == seq && reference_.epoch.value != 0 && reference_.storage == disk.id() &&
         reference_.epoch == disk.reference();
}

std::shared_ptr<SnapshotSource> Volume::find_source(std::uint64_t seq) const {
  const auto it = sources_.find(seq);
  return it == sources_.end() ? nullptr : it->second;
}

Task<void> Volume::forget_base(std::string storage) {
  if (const std::shared_ptr<Disk> disk = find(storage)) {
    co_await disk->forget_base();
    const auto it = storages_.find(storage);
    if (it != storages_.end()) {
      it->second.state.base.reset();
      it->second.state.base_seq = 0;
    }
  }
  if (reference_.storage == storage) reference_ = {};
}

Task<Result<void>> Volume::close_storages() {
  stopping_ = true;
  auto guard = co_await opening_.lock();
  Result<void> result;
  sources_.clear();
  const auto storages = std::exchange(storages_, {});
  for (const auto& [name, storage] : storages) {
    const std::shared_ptr<Disk> disk = storage.disk;
    auto closed = co_await disk->close();
    if (!closed) result = closed;
  }
  co_return result;
}

Task<Result<void>> Volume::close() {
  Result<void> result = co_await close_storages();
  auto guard = co_await opening_.lock();
  if (const auto chain = std::exchange(chain_, nullptr)) {
    auto closed = co_await chain->close();
    if (!closed) result = closed;
  }
  co_return result;
}

}  // namespace clouddisk::snapshot
