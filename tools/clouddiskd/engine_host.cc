#include "tools/clouddiskd/engine_host.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/log.h"
#include "engine/catalog/ids.h"

namespace clouddisk {
namespace {

// Of a request between a client on this host and the device, both ways: sockets and sessions.
constexpr Duration kTransport = std::chrono::microseconds(40);

}  // namespace

EngineHost::EngineHost(Ring& control, ReplicaSet& replicas, nbd::Server& server,
                       std::vector<Reactor*> reactors, Options options)
    : control_(control),
      replicas_(replicas),
      server_(server),
      reactors_(std::move(reactors)),
      options_(std::move(options)),
      resyncing_(control),
      opening_(control),
      background_(control),
      stopped_(control) {}

EngineHost::~EngineHost() {
  CHECK(served_.empty() && background_.count() == 0);
}

AsyncMutex& EngineHost::lock_of(const std::string& id) {
  auto& lock = locks_[id];
  if (!lock) lock = std::make_unique<AsyncMutex>(control_);
  return *lock;
}

std::string EngineHost::owner_of(const std::string& storage) {
  if (storage.starts_with("sl-")) return "d-" + storage.substr(3);
  return storage.substr(0, storage.find('.'));
}

Duration EngineHost::latency_of(const DiskSettings& settings) const {
  if (!options_.emulate_latency) return Duration::zero();
  return std::max(settings.nominal_latency - kTransport, Duration::zero());
}

std::shared_ptr<SharedThrottle> EngineHost::shared_limits_of(const DiskSettings& settings) {
  // Of instances whose disks are gone.
  std::erase_if(shared_limits_, [&](const auto& entry) {
    return entry.second.use_count() == 1 && entry.first != settings.instance_id;
  });
  if (!options_.limits || settings.instance_limits == DiskLimits{}) {
    shared_limits_.erase(settings.instance_id);
    return nullptr;
  }
  auto& shared = shared_limits_[settings.instance_id];
  if (!shared) {
    shared = std::make_shared<SharedThrottle>(settings.instance_limits, control_.now());
  } else if (shared->limits() != settings.instance_limits) {
    shared->set_limits(settings.instance_limits, control_.now());
  }
  return shared;
}

snapshot::Volume::Options EngineHost::volume_options() const {
  snapshot::Volume::Options options;
  options.disk = options_.disk;
  options.index_root = options_.index_root;
  options.pace = options_.capture_pace;
  return options;
}

EngineHost::Past& EngineHost::past_of(const std::string& disk_id) {
  Past& past = pasts_[disk_id];
  if (past.volume) return past;
  past.reactor = reactors_[checksum64(as_bytes(disk_id)) % reactors_.size()];
  past.volume = std::make_unique<snapshot::Volume>(past.reactor->environment(),
                                                   past.reactor->pack_environment(),
                                                   chain_id_of(disk_id), volume_options());
  past.store = std::make_shared<StoreEmulation>(past.reactor->ring());
  return past;
}

void EngineHost::forget_idle() {
  if (stopping_) return;
  const auto is_held = [this](const std::string& id) {
    const auto lock = locks_.find(id);
    const bool locked = lock != locks_.end() && (lock->second->locked() || lock->second->awaited());
    return locked || served_.count(id) != 0;
  };
  std::erase_if(pasts_, [&](const auto& entry) {
    const auto& [id, past] = entry;
    const bool at_rest = past.snapshots.empty() && past.abandoned.empty() && !past.capturing;
    return at_rest && !is_held(id) && past.volume->is_idle();
  });
  std::erase_if(locks_, [&](const auto& entry) {
    return !is_held(entry.first) && pasts_.count(entry.first) == 0;
  });
  std::erase_if(loads_, [this](const auto& entry) { return served_.count(entry.first) == 0; });
}

// --- Disks ---

Task<Result<void>> EngineHost::create_disk(DiskSettings settings) {
  auto guard = co_await lock_of(settings.id).lock();
  Past& past = past_of(settings.id);
  const snapshot::StorageState storage{settings.storage, settings.size_bytes, nullptr, 0};
  const snapshot::Volume::Options volume = volume_options();
  co_await past.reactor->ring().enter();
  auto made =
      co_await snapshot::Volume::create_storage(past.reactor->environment(), volume, storage);
  co_await control_.enter();
  co_return made;
}

// Opens a storage of the disk, over its base if it has one. Every open needs its release.
Task<Result<std::shared_ptr<Disk>>> EngineHost::open_locked(Past& past, std::string storage,
                                                            std::uint64_t size_bytes,
                                                            std::string base, Locked locked) {
  snapshot::StorageState state{storage, size_bytes, nullptr, 0};
  if (!base.empty()) {
    auto source = co_await base_of(base, std::move(locked));
    if (!source) co_return fail(source.error(), "snapshot {}", base);
    std::uint64_t seq = 0;
    if (find_snapshot(base, seq) == &past) state.base_seq = seq;
    state.base = std::make_shared<FarSource>(*source, past.store);
  }
  auto opening = co_await opening_.lock_shared();
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  resynced_.erase(storage);
  co_await past.reactor->ring().enter();
  auto opened = co_await past.volume->open(state);
  co_await control_.enter();
  co_return opened;
}

Task<Result<void>> EngineHost::serve_disk(DiskSettings settings) {
  auto guard = co_await lock_of(settings.id).lock();
  if (served_.count(settings.id) != 0) co_return Result<void>{};
  Past& past = past_of(settings.id);
  Locked locked = {settings.id};
  auto opened = co_await open_locked(past, settings.storage, settings.size_bytes,
                                     settings.base_snapshot, std::move(locked));
  if (!opened) co_return opened.error();
  Served served;
  served.settings = settings;
  served.opened = control_.now();
  served.disk = *opened;
  const DiskLimits limits = limits_of(settings);
  auto shared = shared_limits_of(settings);
  co_await past.reactor->ring().enter();
  past.store->set(settings.store);
  served.faulty = std::make_shared<FaultyDevice>(*served.disk);
  served.device = std::make_shared<LimitedDevice>(*served.faulty, limits);
  served.device->share(std::move(shared));
  served.device->set_nominal_latency(latency_of(settings));
  co_await control_.enter();
  nbd::Server::Export added;
  added.name = settings.id;
  added.description = fmt::format("Cloud Disk of {}", format_bytes(settings.size_bytes));
  added.device = served.device;
  added.contexts = contexts_of(settings.id, 0, added.device);
  if (auto exported = server_.add_export(std::move(added)); !exported) {
    co_await past.reactor->ring().enter();
    served.device.reset();
    served.faulty.reset();
    static_cast<void>(co_await past.volume->release(settings.storage));
    co_await control_.enter();
    co_return exported;
  }
  if (!settings.base_snapshot.empty()) {
    begin_hydration(served, options_.hydrate_bytes_per_second);
  }
  served_[settings.id] = std::move(served);
  co_return Result<void>{};
}

Task<Result<void>> EngineHost::stop_disk(std::string id) {
  // First: a resync that holds the lock would wait for a fault that was set meanwhile.
  if (const auto it = served_.find(id); it != served_.end()) it->second.stopping = true;
  co_await end_faults(id);
  auto guard = co_await lock_of(id).lock();
  auto stopped = co_await stop_locked(id);
  if (const auto it = served_.find(id); it != served_.end()) it->second.stopping = false;
  co_return stopped;
}

Task<Result<void>> EngineHost::stop_locked(std::string id) {
  const auto it = served_.find(id);
  if (it == served_.end()) co_return Result<void>{};
  it->second.stopping = true;
  Served served = it->second;
  Past& past = past_of(id);
  // Nobody waits for a share that will not come, or for a store that is far away.
  if (served.hydration) served.hydration->stop = true;
  co_await past.reactor->ring().enter();
  past.store->set({});
  co_await control_.enter();
  if (served.hydration) {
    stopped_.wake_all();
    co_await served.hydration->running.wait();
  }
  co_await past.reactor->ring().enter();
  served.device->set_limits({});
  served.device->share(nullptr);
  co_await control_.enter();
  co_await end_faults(id);
  if (auto removed = co_await server_.remove_export(id); !removed) co_return removed;
  served_.erase(id);
  co_await past.reactor->ring().enter();
  co_await served.disk->store().end_faults();
  DiskReading last = reading_of(served, past.reactor->ring().now());
  last.closing = true;
  served.device.reset();
  served.faulty.reset();
  served.disk.reset();
  auto closed = co_await past.volume->release(served.settings.storage);
  co_await control_.enter();
  if (closing_) closing_(std::move(last));
  if (!closed) log(LogLevel::kError, "host", "disk={} closed with: {}", id, closed.error().message);
  co_return closed;
}

Task<Result<void>> EngineHost::delete_storage(std::string storage) {
  const std::string id = owner_of(storage);
  auto guard = co_await lock_of(id).lock();
  Past& past = past_of(id);
  const snapshot::Volume::Options volume = volume_options();
  co_await past.reactor->ring().enter();
  Result<void> removed;
  if (past.volume->find(storage)) {
    removed = fail(Errc::kBusy, "storage {} is open", storage);
  } else {
    removed =
        co_await snapshot::Volume::remove_storage(past.reactor->environment(), volume, storage);
  }
  co_await control_.enter();
  co_return removed;
}

Task<Result<void>> EngineHost::apply_settings(DiskSettings settings) {
  auto guard = co_await lock_of(settings.id).lock();
  const auto it = served_.find(settings.id);
  if (it == served_.end()) co_return Result<void>{};
  const bool same_store = it->second.settings.store == settings.store;
  it->second.settings = settings;
  const Served served = it->second;
  const DiskLimits limits = limits_of(settings);
  auto shared = shared_limits_of(settings);
  Past& past = past_of(settings.id);
  co_await past.reactor->ring().enter();
  if (!same_store) past.store->set(settings.store);
  Result<void> result;
  if (settings.size_bytes > served.disk->size_bytes()) {
    result = served.disk->grow(settings.size_bytes);
  }
  if (result) {
    served.device->set_limits(limits);
    served.device->share(std::move(shared));
    served.device->set_nominal_latency(latency_of(settings));
  }
  co_await control_.enter();
  co_return result;
}

// Without the disk's lock, which a resync of it may hold for long.
Task<Result<DiskStats>> EngineHost::stats(std::string id) {
  const auto it = served_.find(id);
  if (it == served_.end()) co_return fail(Errc::kNotFound, "disk {} is not open", id);
  Served served = it->second;  // Keeps both alive over the trip.
  DiskStats stats;
  stats.connections = server_.sessions_of(id);
  co_await past_of(id).reactor->ring().enter();
  const DeviceCounters& counters = served.device->counters();
  stats.reads = counters.reads;
  stats.writes = counters.writes;
  stats.flushes = counters.flushes;
  stats.trims = counters.trims;
  stats.read_bytes = counters.read_bytes;
  stats.written_bytes = counters.written_bytes;
  stats.errors = counters.errors;
  stats.read_nanoseconds = counters.read_nanoseconds;
  stats.write_nanoseconds = counters.write_nanoseconds;
  stats.throttled_nanoseconds = counters.throttled_nanoseconds;
  stats.stalled_nanoseconds = static_cast<std::uint64_t>(served.device->stalled().count());
  const Disk::Usage usage = served.disk->usage();
  stats.mapped_bytes = usage.mapped_bytes;
  stats.stored_bytes = usage.stored_bytes;
  stats.index_bytes = usage.index_bytes;
  stats.checksum_errors = usage.reads.checksum_errors;
  stats.repaired_blocks = usage.reads.repaired_blocks;
  stats.compacted_bytes = usage.compacted_bytes;
  served.device.reset();  // Maybe the last: they die where they lived.
  served.disk.reset();
  co_await control_.enter();
  co_return stats;
}

std::vector<DiskHost::NbdAddress> EngineHost::nbd_addresses() const {
  std::vector<NbdAddress> addresses;
  for (const nbd::ListenAddress& address : server_.addresses()) {
    addresses.push_back({address.where, server_.requires_tls(address)});
  }
  return addresses;
}

std::vector<std::string> EngineHost::served_disks() const {
  std::vector<std::string> ids;
  for (const auto& [id, served] : served_) ids.push_back(id);
  return ids;
}

Task<Result<void>> EngineHost::stop() {
  stopping_ = true;
  resync_work_.stop = true;
  scrub_work_.stop = true;
  stopped_.wake_all();
  for (auto& [id, past] : pasts_) {
    if (!past.volume) continue;
    past.reactor->ring().post([volume = past.volume.get()] { volume->stop_captures(); });
  }
  for (auto& [id, served] : served_) {
    if (!served.hydration) continue;
    served.hydration->stop = true;
    past_of(id).reactor->ring().post([store = past_of(id).store] { store->set({}); });
  }
  while (!faults_.empty()) {
    const std::string id = faults_.front()->spec.disk_id;
    co_await end_faults(id);
  }
  co_await background_.wait();
  Result<void> result;
  while (!served_.empty()) {
    const std::string id = served_.begin()->first;
    auto stopped = co_await stop_disk(id);
    if (!stopped) result = stopped;
    if (served_.count(id) != 0) break;
  }
  for (auto& [id, past] : pasts_) {
    for (auto& [seq, snapshot] : past.snapshots) {
      auto removed = co_await server_.remove_export(snapshot.settings.id);
      if (!removed) result = removed;
    }
  }
  // They may borrow from each other's chains until all are closed.
  for (const bool chains : {false, true}) {
    for (auto& [id, past] : pasts_) {
      if (!past.volume) continue;
      co_await past.reactor->ring().enter();
      Result<void> closed;
      if (chains) {
        closed = co_await past.volume->close();
      } else {
        closed = co_await past.volume->close_storages();
      }
      co_await control_.enter();
      if (!closed) {
        log(LogLevel::kError, "host", "disk={} closed with: {}", id, closed.error().message);
        result = closed;
      }
    }
  }
  co_return result;
}

}  // namespace clouddisk
