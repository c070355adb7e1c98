#include "tools/clouddiskd/engine_host.h"

#include <algorithm>
#include <bit>

#include "engine/base/log.h"
#include "engine/disk/resync.h"

namespace clouddisk {

EngineHost::EngineHost(Ring& control, ReplicaSet& replicas, nbd::Server& server,
                       std::vector<Reactor*> reactors, Options options)
    : control_(control),
      replicas_(replicas),
      server_(server),
      reactors_(std::move(reactors)),
      options_(std::move(options)),
      resyncing_(control),
      opening_(control),
      background_(control) {}

EngineHost::~EngineHost() {
  CHECK(served_.empty() && background_.count() == 0);
}

Disk::Identity EngineHost::identity(const DiskSettings& settings) const {
  return {settings.id, settings.size_bytes, options_.index_root + "/" + settings.id};
}

AsyncMutex& EngineHost::lock_of(const std::string& id) {
  auto& lock = locks_[id];
  if (!lock) lock = std::make_unique<AsyncMutex>(control_);
  return *lock;
}

Reactor* EngineHost::next_reactor() {
  return reactors_[next_++ % reactors_.size()];
}

// --- Disks ---

Task<Result<void>> EngineHost::create_disk(DiskSettings settings) {
  auto guard = co_await lock_of(settings.id).lock();
  Reactor* reactor = next_reactor();
  const Disk::Identity who = identity(settings);
  co_await reactor->ring().enter();
  auto made = co_await Disk::create(reactor->environment(), who, options_.disk);
  co_await control_.enter();
  co_return made;
}

Task<Result<void>> EngineHost::serve_disk(DiskSettings settings) {
  auto guard = co_await lock_of(settings.id).lock();
  if (const auto it = served_.find(settings.id); it != served_.end()) co_return Result<void>{};
  auto opening = co_await opening_.lock();
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  resynced_.erase(settings.id);
  Reactor* reactor = next_reactor();
  const Disk::Identity who = identity(settings);
  const DiskLimits limits = limits_of(settings);
  std::shared_ptr<LimitedDevice> device;
  co_await reactor->ring().enter();
  auto opened = co_await Disk::open(reactor->environment(), who, options_.disk);
  if (opened) device = std::make_shared<LimitedDevice>(**opened, limits);
  co_await control_.enter();
  if (!opened) co_return opened.error();
  nbd::Server::Export added;
  added.name = settings.id;
  added.description = fmt::format("Cloud Disk of {}", format_bytes(settings.size_bytes));
  added.device = device;
  if (auto exported = server_.add_export(std::move(added)); !exported) co_return exported;
  served_[settings.id] = Served{reactor, *opened, device};
  co_return Result<void>{};
}

Task<Result<void>> EngineHost::stop_disk(std::string id) {
  auto guard = co_await lock_of(id).lock();
  co_return co_await stop_locked(std::move(id));
}

Task<Result<void>> EngineHost::stop_locked(std::string id) {
  const auto it = served_.find(id);
  if (it == served_.end()) co_return Result<void>{};
  Served served = it->second;
  co_await served.reactor->ring().enter();
  served.device->set_limits({});  // Nobody waits for a share that will not come.
  co_await control_.enter();
  if (auto removed = co_await server_.remove_export(id); !removed) co_return removed;
  served_.erase(id);
  co_await served.reactor->ring().enter();
  auto closed = co_await served.disk->close();
  served.device.reset();
  served.disk.reset();
  co_await control_.enter();
  if (!closed) log(LogLevel::kError, "host", "disk={} closed with: {}", id, closed.error().message);
  co_return closed;
}

Task<Result<void>> EngineHost::delete_disk(std::string id) {
  auto guard = co_await lock_of(id).lock();
  if (auto stopped = co_await stop_locked(id); !stopped) {
    log(LogLevel::kWarning, "host", "disk={} is deleted all the same", id);
  }
  Reactor* reactor = next_reactor();
  DiskSettings settings;
  settings.id = id;
  const Disk::Identity who = identity(settings);
  co_await reactor->ring().enter();
  auto removed = co_await Disk::remove(reactor->environment(), who);
  co_await control_.enter();
  co_return removed;
}

Task<Result<void>> EngineHost::apply_settings(DiskSettings settings) {
  auto guard = co_await lock_of(settings.id).lock();
  const auto it = served_.find(settings.id);
  if (it == served_.end()) co_return Result<void>{};
  const Served served = it->second;
  const DiskLimits limits = limits_of(settings);
  co_await served.reactor->ring().enter();
  Result<void> result;
  if (settings.size_bytes > served.disk->size_bytes()) {
    result = served.disk->grow(settings.size_bytes);
  }
  if (result) served.device->set_limits(limits);
  co_await control_.enter();
  co_return result;
}

Task<Result<DiskStats>> EngineHost::stats(std::string id) {
  const auto it = served_.find(id);
  if (it == served_.end()) co_return fail(Errc::kNotFound, "disk {} is not open", id);
  const Served served = it->second;  // Keeps both alive over the trip.
  DiskStats stats;
  stats.connections = server_.sessions_of(id);
  auto guard = co_await lock_of(id).lock();
  if (served_.count(id) == 0) co_return fail(Errc::kNotFound, "disk {} is not open", id);
  co_await served.reactor->ring().enter();
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
  const Disk::Usage usage = served.disk->usage();
  stats.mapped_bytes = usage.mapped_bytes;
  stats.stored_bytes = usage.stored_bytes;
  stats.index_bytes = usage.index_bytes;
  stats.checksum_errors = usage.reads.checksum_errors;
  stats.repaired_blocks = usage.reads.repaired_blocks;
  stats.compacted_bytes = usage.compacted_bytes;
  co_await control_.enter();
  co_return stats;
}

std::vector<DiskHost::NbdAddress> EngineHost::nbd_addresses() const {
  std::vector<NbdAddress> addresses;
  for (const auto& address : server_.addresses()) {
    addresses.push_back({address.to_string(), server_.requires_tls(address)});
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
  co_await background_.wait();
  Result<void> result;
  while (!served_.empty()) {
    const std::string id = served_.begin()->first;
    auto stopped = co_await stop_disk(id);
    if (!stopped) result = stopped;
    if (served_.count(id) != 0) break;
  }
  co_return result;
}

// --- Resync ---

void EngineHost::resync_what_is_missing() {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((replicas_.to_rebuild() >> i & 1U) == 0) continue;
    if (replicas_.begin_receiving(i)) {
      background_.add();
      spawn(resync(i));
    }
  }
}

Task<Result<void>> EngineHost::start_resync(unsigned replica) {
  if (auto begun = replicas_.begin_receiving(replica); !begun) co_return begun;
  background_.add();
  spawn(resync(replica));
  co_return Result<void>{};
}

Task<void> EngineHost::resync(unsigned replica) {
  // One at a time: what is done and how far it is belongs to one replica.
  auto turn = co_await resyncing_.lock();
  log(LogLevel::kInfo, "resync", "replica {} begins", replica + 1);
  resync_done_ = resync_total_ = 0;
  resynced_.clear();
  Result<void> result;
  if (replicas_.can_write()) {
    result = co_await resync_everything(replica);
  } else {
    result = fail(Errc::kReplicasLost,
                  "one replica is left, and it is not believed alone: restart the daemon with "
                  "--trust-replica and its number to rebuild the others from it");
  }
  if (!result) {
    log(LogLevel::kError, "resync", "replica {} not brought back: {}", replica + 1,
        result.error().message);
    auto dropped = co_await replicas_.drop(control_, replica, result.error().message);
    static_cast<void>(dropped);
  }
  background_.done();
}

Task<Result<void>> EngineHost::resync_everything(unsigned replica) {
  const std::string folder = replicas_.folder(replica);
  if (auto made = co_await control_.make_directories(folder + "/disks"); !made) co_return made;
  if (copy_catalog_) {
    if (auto copied = co_await copy_catalog_(replica); !copied) co_return copied;
  }
  while (!stopping_) {
    auto ids = co_await stored_disks();
    if (!ids) co_return ids.error();
    auto here = co_await control_.list(folder + "/disks");
    if (!here) co_return here.error();
    for (const std::string& id : *here) {
      if (std::binary_search(ids->begin(), ids->end(), id)) continue;
      auto guard = co_await lock_of(id).lock();
      auto now = co_await stored_disks();
      if (!now || std::binary_search(now->begin(), now->end(), id)) continue;
      if (auto gone = co_await control_.remove_tree(folder + "/disks/" + id); !gone) co_return gone;
    }
    for (const std::string& id : *ids) {
      if (resynced_.count(id) != 0 || stopping_) continue;
      auto guard = co_await lock_of(id).lock();
      if (auto brought = co_await resync_disk(replica, id); !brought) {
        co_return fail(brought.error(), "disk {}", id);
      }
      resynced_.insert(id);
    }
    // A disk opened meanwhile is looked at once more; none can be opened while this one is
    // admitted.
    auto opening = co_await opening_.lock();
    auto again = co_await stored_disks();
    if (!again) co_return again.error();
    const bool complete = std::all_of(again->begin(), again->end(),
                                      [this](const auto& id) { return resynced_.count(id) != 0; });
    if (complete) co_return co_await replicas_.admit(replica);
  }
  co_return fail(Errc::kShutdown, "the daemon stopped in the middle; it goes on at the next start");
}

// Disks that have storage on a replica in sync, sorted.
Task<Result<std::vector<std::string>>> EngineHost::stored_disks() {
  std::vector<std::string> all;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((replicas_.in_sync_mask() >> i & 1U) == 0) continue;
    auto ids = co_await control_.list(replicas_.folder(i) + "/disks");
    if (!ids) {
      if (ids.error().code == Errc::kNotFound) continue;  // No disk was ever made.
      co_return ids.error();
    }
    all.insert(all.end(), ids->begin(), ids->end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  co_return all;
}

Task<Result<void>> EngineHost::resync_disk(unsigned replica, std::string id) {
  const auto it = served_.find(id);
  const bool open = it != served_.end();
  Reactor* reactor = open ? it->second.reactor : next_reactor();
  const std::shared_ptr<Disk> disk = open ? it->second.disk : nullptr;
  std::atomic<std::uint64_t> done{0};
  const std::function<void(std::uint64_t)> progress = [&](std::uint64_t bytes) {
    const std::uint64_t sum = done.fetch_add(bytes) + bytes;
    control_.post([this, replica, sum, before = resync_done_] {
      replicas_.report_progress(replica, before + sum, std::max(resync_total_, before + sum));
    });
  };
  const auto expect = [this, before = resync_done_](std::uint64_t bytes) {
    control_.post(
        [this, total = before + bytes] { resync_total_ = std::max(resync_total_, total); });
  };
  co_await reactor->ring().enter();
  Result<void> result;
  if (disk) {
    disk->hold_segments();
    result = co_await disk->store().make_folder(replica);
    if (result) result = co_await disk->roll();
    if (result) {
      expect(disk->usage().stored_bytes);
      const SegmentSeq active = disk->active_segment();
      result = co_await resync_copy(disk->store(), reactor->environment().work_buffers,
                                    disk_tag(id), replica, active, {}, progress);
    }
    disk->release_segments();
  } else {
    const auto store = std::make_shared<LocalSegmentStore>(
        reactor->ring(), replicas_, reactor->environment().files, id, options_.disk.store);
    auto segments = co_await store->list();
    if (segments) {
      expect(segments->size() * kSegmentSize);
      result = co_await resync_copy(*store, reactor->environment().work_buffers, disk_tag(id),
                                    replica, std::nullopt, {}, progress);
    } else {
      result = segments.error();
    }
    store->close();
  }
  co_await control_.enter();
  resync_done_ += done.load();
  co_return result;
}

}  // namespace clouddisk
