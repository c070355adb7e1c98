// engine_host_snapshots.cc: the past of disks: freezing, exporting, capturing, hydrating.
#include <algorithm>

#include "engine/base/log.h"
#include "engine/catalog/ids.h"
#include "snapshot/snapshot_device.h"
#include "tools/clouddiskd/changed_since.h"
#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kHydrateStep = 1_MiB;
constexpr std::uint64_t kHydrateLeast = 16_MiB;  // bytes a second beside busy clients
constexpr Duration kRetryAfter = std::chrono::seconds(2);
constexpr Duration kFirstRetryAfter = std::chrono::milliseconds(100);
constexpr unsigned kHydrateTries = 10;
constexpr unsigned kDamagedTries = 3;  // Damage does not come right by itself.
constexpr unsigned kCaptureTries = 30;

snapshot::SnapshotState state_of(const SnapshotSettings& settings) {
  snapshot::SnapshotState state;
  state.seq = settings.seq;
  state.size_bytes = settings.size_bytes;
  state.storage = settings.storage;
  state.epoch = settings.epoch;
  state.parent = settings.parent;
  state.captured = settings.captured;
  return state;
}

}  // namespace

void EngineHost::know_past(std::string disk_id, ReferenceSettings reference,
                           std::vector<SnapshotSettings> snapshots) {
  Past& past = past_of(disk_id);
  // Nothing is open yet, so no other thread looks at the volume.
  past.volume->set_reference({reference.seq, reference.storage, reference.epoch});
  for (SnapshotSettings& settings : snapshots) {
    past.volume->know(state_of(settings));
    const std::uint64_t seq = settings.seq;
    past.snapshots[seq].settings = std::move(settings);
  }
}

Task<void> EngineHost::open_past() {
  std::vector<std::string> ids;
  for (const auto& [id, past] : pasts_) {
    if (!past.snapshots.empty()) ids.push_back(id);
  }
  for (const std::string& id : ids) {
    auto guard = co_await lock_of(id).lock();
    Past& past = past_of(id);
    std::vector<std::uint64_t> sequences;
    for (const auto& [seq, snapshot] : past.snapshots) sequences.push_back(seq);
    for (const std::uint64_t seq : sequences) {
      auto exported = co_await export_locked(past, seq);
      if (!exported) {
        log(LogLevel::kError, "host", "snapshot={} is not served: {}",
            past.snapshots[seq].settings.id, exported.error().message);
      }
    }
    capture_if_due(id);
  }
}

EngineHost::Past* EngineHost::find_snapshot(std::string_view id, std::uint64_t& seq) {
  for (auto& [disk_id, past] : pasts_) {
    for (const auto& [number, snapshot] : past.snapshots) {
      if (snapshot.settings.id != id) continue;
      seq = number;
      return &past;
    }
  }
  return nullptr;
}

// --- Opening ---

Task<Result<void>> EngineHost::open_chain_locked(Past& past, std::string disk_id) {
  auto opening = co_await opening_.lock_shared();
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  resynced_.erase(chain_id_of(disk_id));
  co_await past.reactor->ring().enter();
  auto opened = co_await past.volume->chain();
  co_await control_.enter();
  if (!opened) co_return opened.error();
  co_return Result<void>{};
}

// A snapshot that is not captured yet needs its storage open.
Task<Result<void>> EngineHost::hold_storage_locked(Past& past, std::uint64_t seq, Locked locked) {
  const Snapshot& snapshot = past.snapshots.at(seq);
  if (snapshot.settings.captured || snapshot.holds_storage) co_return Result<void>{};
  const SnapshotSettings settings = snapshot.settings;
  auto opened = co_await open_locked(past, settings.storage, settings.size_bytes,
                                     settings.storage_base, std::move(locked));
  if (!opened) co_return opened.error();
  past.snapshots.at(seq).holds_storage = true;
  co_return Result<void>{};
}

Task<void> EngineHost::release_storage_locked(Past& past, Snapshot& snapshot) {
  if (!std::exchange(snapshot.holds_storage, false)) co_return;
  const std::string storage = snapshot.settings.storage;
  co_await past.reactor->ring().enter();
  auto released = co_await past.volume->release(storage);
  co_await control_.enter();
  if (!released) {
    log(LogLevel::kError, "host", "storage={} closed with: {}", storage, released.error().message);
  }
}

Task<Result<EngineHost::Source>> EngineHost::source_locked(Past& past, std::uint64_t seq,
                                                           Locked locked) {
  const std::string disk_id = past.snapshots.at(seq).settings.disk_id;
  if (auto opened = co_await open_chain_locked(past, disk_id); !opened) co_return opened.error();
  auto held = co_await hold_storage_locked(past, seq, std::move(locked));
  if (!held) co_return held.error();
  co_await past.reactor->ring().enter();
  auto source = co_await past.volume->source(seq);
  co_await control_.enter();
  co_return source;
}

Task<Result<EngineHost::Source>> EngineHost::base_of(std::string snapshot_id, Locked locked) {
  std::uint64_t seq = 0;
  Past* past = find_snapshot(snapshot_id, seq);
  if (past == nullptr) co_return fail(Errc::kNotFound, "there is no such snapshot any more");
  const std::string disk_id = past->snapshots.at(seq).settings.disk_id;
  if (locked.count(disk_id) != 0) co_return co_await source_locked(*past, seq, std::move(locked));
  locked.insert(disk_id);
  auto guard = co_await lock_of(disk_id).lock();
  if (find_snapshot(snapshot_id, seq) != past) {
    co_return fail(Errc::kNotFound, "there is no such snapshot any more");
  }
  co_return co_await source_locked(*past, seq, std::move(locked));
}

Task<Result<void>> EngineHost::export_locked(Past& past, std::uint64_t seq) {
  const SnapshotSettings settings = past.snapshots.at(seq).settings;
  // A hidden one is not exported; what it still has to give is opened when it is asked for.
  if (!settings.exported || server_.has_export(settings.id)) co_return Result<void>{};
  Locked locked = {settings.disk_id};
  auto source = co_await source_locked(past, seq, std::move(locked));
  if (!source) co_return source.error();
  nbd::Server::Export added;
  added.name = settings.id;
  added.description =
      fmt::format("Snapshot of {}, {}", settings.disk_id, format_bytes(settings.size_bytes));
  added.device = std::make_shared<snapshot::SnapshotDevice>(
      *source, past.reactor->environment().client_buffers);
  added.contexts = contexts_of(settings.disk_id, seq, added.device);
  co_return server_.add_export(std::move(added));
}

// --- Comparing ---

std::shared_ptr<nbd::MetaContextSource> EngineHost::contexts_of(std::string disk_id,
                                                                std::uint64_t seq,
                                                                std::weak_ptr<BlockDevice> device) {
  Past* past = &past_of(disk_id);  // It stays where it is as long as the export is there.
  const auto snapshots = [past, seq] {
    std::vector<std::string> ids;
    for (const auto& [number, snapshot] : past->snapshots) {
      if (number != seq && snapshot.settings.exported) ids.push_back(snapshot.settings.id);
    }
    return ids;
  };
  const auto open = [this, past, disk_id, seq, device](std::string snapshot_id) {
    return open_diff(past, disk_id, seq, device, std::move(snapshot_id));
  };
  return std::make_shared<ChangedSince>(snapshots, open);
}

Task<Result<std::unique_ptr<snapshot::Diff>>> EngineHost::open_diff(
    Past* past, std::string disk_id, std::uint64_t seq, std::weak_ptr<BlockDevice> device,
    std::string snapshot_id) {
  Ring& home = past->reactor->ring();
  co_await control_.enter();
  // Not under the disk's lock: who stops the disk or drops the snapshot holds it, and waits for the
  // session that asks. What is exported has its source already.
  std::uint64_t older_seq = 0;
  const bool known = find_snapshot(snapshot_id, older_seq) == past;
  const auto served = served_.find(disk_id);
  const std::string storage =
      seq == 0 && served != served_.end() ? served->second.settings.storage : std::string();
  co_await home.enter();
  const std::shared_ptr<BlockDevice> open_device = device.lock();
  if (!open_device) co_return fail(Errc::kShutdown, "the export is gone");
  const Source older = known ? past->volume->find_source(older_seq) : nullptr;
  if (!older) co_return fail(Errc::kNotFound, "snapshot {} is gone", snapshot_id);
  snapshot::Diff::SameBlocks same;
  if (seq != 0) {
    if (const Source newer = past->volume->find_source(seq)) {
      same = snapshot::same_in_chain(older, newer);
    }
  } else if (const std::shared_ptr<Disk> disk = past->volume->find(storage)) {
    if (past->volume->is_reference(older->seq(), *disk)) {
      same = snapshot::same_as_reference(disk, disk->reference());
    }
  }
  co_return std::make_unique<snapshot::Diff>(older, *open_device, std::move(same));
}

// --- Taking ---

Task<Result<std::vector<Epoch>>> EngineHost::freeze(std::vector<DiskSettings> disks) {
  struct Frozen {
    Past* past = nullptr;
    std::shared_ptr<Disk> disk;
    Epoch epoch;
  };
  // Each is locked while it is opened and let go, never two at once: a capture holds a disk's lock
  // and may ask for that of the disk it borrows from. In between they stay open, and control
  // actions, which alone close them, wait: taking a snapshot has the lock of all of them.
  std::map<std::string, Frozen> frozen;
  Result<void> result;
  for (const DiskSettings& settings : disks) {
    auto guard = co_await lock_of(settings.id).lock();
    Past& past = past_of(settings.id);
    Locked locked = {settings.id};
    auto opened = co_await open_locked(past, settings.storage, settings.size_bytes,
                                       settings.base_snapshot, std::move(locked));
    if (!opened) {
      result = opened.error();
      break;
    }
    frozen[settings.id] = {&past, *opened, Epoch()};
  }
  if (result) {
    // All hold, all begin, all go on: no write of any is between the moments of two.
    const bool several = frozen.size() > 1;
    if (several) {
      for (auto& [id, one] : frozen) {
        co_await one.past->reactor->ring().enter();
        one.disk->hold_writes();
      }
    }
    for (auto& [id, one] : frozen) {
      co_await one.past->reactor->ring().enter();
      one.epoch = one.disk->begin_freeze();
    }
    if (several) {
      for (auto& [id, one] : frozen) {
        co_await one.past->reactor->ring().enter();
        one.disk->release_writes();
      }
    }
    for (auto& [id, one] : frozen) {
      co_await one.past->reactor->ring().enter();
      auto finished = co_await one.disk->finish_freeze(one.epoch);
      if (!finished) result = finished;
    }
    co_await control_.enter();
  }
  std::vector<Epoch> epochs;
  for (auto& [id, one] : frozen) {
    auto guard = co_await lock_of(id).lock();
    co_await one.past->reactor->ring().enter();
    if (!result && one.epoch.value != 0) one.disk->drop_view(one.epoch);
    const std::string storage = one.disk->id();
    one.disk.reset();
    // Served or held by another snapshot it stays open; else the view is on record, and the
    // snapshot opens it again.
    auto released = co_await one.past->volume->release(storage);
    co_await control_.enter();
    if (!released && result) result = released;
  }
  if (!result) co_return result.error();
  for (const DiskSettings& settings : disks) epochs.push_back(frozen.at(settings.id).epoch);
  co_return epochs;
}

Task<void> EngineHost::unfreeze(DiskSettings disk, Epoch epoch) {
  auto guard = co_await lock_of(disk.id).lock();
  Past& past = past_of(disk.id);
  co_await past.reactor->ring().enter();
  if (const auto open = past.volume->find(disk.storage)) open->drop_view(epoch);
  co_await control_.enter();
}

Task<Result<void>> EngineHost::add_snapshot(SnapshotSettings settings) {
  auto guard = co_await lock_of(settings.disk_id).lock();
  Past& past = past_of(settings.disk_id);
  const std::string disk_id = settings.disk_id;
  const std::uint64_t seq = settings.seq;
  const snapshot::SnapshotState state = state_of(settings);
  past.snapshots[seq].settings = std::move(settings);
  co_await past.reactor->ring().enter();
  past.volume->know(state);
  co_await control_.enter();
  auto exported = co_await export_locked(past, seq);
  capture_if_due(disk_id);
  co_return exported;
}

Task<Result<void>> EngineHost::hide_snapshot(std::string id) {
  std::uint64_t seq = 0;
  if (Past* past = find_snapshot(id, seq)) past->snapshots.at(seq).settings.exported = false;
  co_return co_await server_.remove_export(id);
}

Task<Result<void>> EngineHost::drop_snapshot(std::string disk_id, std::uint64_t seq) {
  auto guard = co_await lock_of(disk_id).lock();
  Past& past = past_of(disk_id);
  const auto it = past.snapshots.find(seq);
  if (it == past.snapshots.end()) co_return Result<void>{};
  const std::string id = it->second.settings.id;
  if (auto removed = co_await server_.remove_export(id); !removed) co_return removed;
  if (auto opened = co_await open_chain_locked(past, disk_id); !opened) co_return opened;
  co_await past.reactor->ring().enter();
  auto dropped = co_await past.volume->drop(seq);
  co_await control_.enter();
  const auto still = past.snapshots.find(seq);
  if (still != past.snapshots.end() && dropped) {
    Snapshot gone = still->second;
    past.snapshots.erase(still);
    // A capture under way notices at its next page, and holds the storage itself until then.
    if (!past.capturing) {
      co_await release_storage_locked(past, gone);
    } else if (gone.holds_storage) {
      past.abandoned.push_back(gone);
    }
  }
  co_return dropped;
}

Task<Result<void>> EngineHost::remove_chain(std::string disk_id) {
  auto guard = co_await lock_of(disk_id).lock();
  Past& past = past_of(disk_id);
  if (past.capturing || !past.snapshots.empty()) {
    co_return fail(Errc::kBusy, "the chain of {} is in use", disk_id);
  }
  co_await past.reactor->ring().enter();
  auto removed = co_await past.volume->remove_chain();
  co_await control_.enter();
  co_return removed;
}

// Others wake up by the same signal: being woken alone is no reason to go on.
Task<void> EngineHost::sleep_until(TimePoint due, std::shared_ptr<Hydration> hydration) {
  while (!stopping_ && !(hydration && hydration->stop) && control_.now() < due) {
    const bool woken = co_await stopped_.wait_until(due);
    static_cast<void>(woken);
  }
}

// --- Capturing ---

void EngineHost::capture_if_due(const std::string& disk_id) {
  Past& past = past_of(disk_id);
  const bool due = std::any_of(past.snapshots.begin(), past.snapshots.end(),
                               [](const auto& one) { return !one.second.settings.captured; });
  if (!due || past.capturing || stopping_) return;
  past.capturing = true;
  background_.add();
  spawn(capture_all(disk_id));
}

Task<void> EngineHost::capture_all(std::string disk_id) {
  Past& past = past_of(disk_id);
  std::uint64_t tried = 0;  // which snapshot `tries` is about
  unsigned tries = 0;
  while (!stopping_) {
    std::uint64_t seq = 0;
    for (const auto& [number, snapshot] : past.snapshots) {
      if (!snapshot.settings.captured) {
        seq = number;
        break;
      }
    }
    if (seq == 0) break;
    if (std::exchange(tried, seq) != seq) tries = 0;
    const std::string id = past.snapshots.at(seq).settings.id;
    if (past.snapshots.at(seq).given_up) {
      // Those after it are captured once nothing of it is left.
      auto dropped = co_await drop_snapshot(disk_id, seq);
      if (dropped) continue;
      log(LogLevel::kWarning, "snapshot", "snapshot={} failed and is not removed yet: {}", id,
          dropped.error().message);
      co_await sleep_until(control_.now() + kRetryAfter);
      continue;
    }
    auto captured = co_await capture_one(past, seq);
    auto guard = co_await lock_of(disk_id).lock();
    const std::vector<Snapshot> abandoned = std::exchange(past.abandoned, {});
    for (Snapshot gone : abandoned) co_await release_storage_locked(past, gone);
    const bool exists = past.snapshots.count(seq) != 0;
    if (captured) {
      tries = 0;
      if (exists) co_await release_storage_locked(past, past.snapshots.at(seq));
      guard.unlock();
      if (events_.released) co_await events_.released(disk_id);
      continue;
    }
    guard.unlock();
    if (stopping_ || !exists) continue;
    log(LogLevel::kWarning, "snapshot", "snapshot={} capture: {}", id, captured.error().message);
    past.snapshots.at(seq).progress.failure = captured.error().message;
    // A full filesystem or replicas that are out may come right again; damage does not.
    const Errc code = captured.error().code;
    if (code == Errc::kIo || code == Errc::kCorrupt || code == Errc::kNotFound) ++tries;
    if (tries >= kCaptureTries) {
      // It would hold up those after it for ever.
      std::string reason = captured.error().message;
      const bool recorded = co_await events_.capture_failed(id, std::move(reason));
      if (recorded) {
        const auto still = past.snapshots.find(seq);
        if (still != past.snapshots.end()) still->second.given_up = true;
        continue;
      }
    }
    co_await sleep_until(control_.now() + kRetryAfter);
  }
  past.capturing = false;
  {
    auto guard = co_await lock_of(disk_id).lock();
    const std::vector<Snapshot> abandoned = std::exchange(past.abandoned, {});
    for (Snapshot gone : abandoned) co_await release_storage_locked(past, gone);
  }
  if (!stopping_) {
    if (events_.released) co_await events_.released(disk_id);
    capture_if_due(disk_id);
  }
  background_.done();
}

Task<Result<void>> EngineHost::capture_one(Past& past, std::uint64_t seq) {
  const SnapshotSettings settings = past.snapshots.at(seq).settings;
  {
    auto guard = co_await lock_of(settings.disk_id).lock();
    if (past.snapshots.count(seq) == 0) co_return fail(Errc::kShutdown, "it was deleted");
    auto opened = co_await open_chain_locked(past, settings.disk_id);
    if (!opened) co_return opened;
    Locked locked = {settings.disk_id};
    auto held = co_await hold_storage_locked(past, seq, std::move(locked));
    if (!held) co_return held;
  }
  const std::function<void(const snapshot::CaptureProgress&)> progress =
      [this, &past, seq](const snapshot::CaptureProgress& now) {
        control_.post([&past, seq, now] {
          const auto it = past.snapshots.find(seq);
          if (it != past.snapshots.end()) {
            it->second.progress = {now.pages_done, now.pages_total, {}};
          }
        });
      };
  co_await past.reactor->ring().enter();
  auto cursor = co_await past.volume->capture(seq, progress);
  co_await control_.enter();
  if (!cursor) co_return cursor.error();
  CaptureResult result{settings.id, cursor->changed_bytes, cursor->stored_bytes};
  const bool recorded = co_await events_.captured(std::move(result));
  if (!recorded) co_return fail(Errc::kBusy, "the catalog could not record it");
  auto guard = co_await lock_of(settings.disk_id).lock();
  const auto it = past.snapshots.find(seq);
  if (it == past.snapshots.end()) co_return Result<void>{};
  it->second.settings.captured = true;
  co_await past.reactor->ring().enter();
  past.volume->captured(seq);
  co_await control_.enter();
  log(LogLevel::kInfo, "snapshot", "snapshot={} accomplished changed={} stored={}", settings.id,
      cursor->changed_bytes, cursor->stored_bytes);
  co_return Result<void>{};
}

std::optional<Progress> EngineHost::capture_progress(const std::string& disk_id,
                                                     std::uint64_t seq) const {
  const auto past = pasts_.find(disk_id);
  if (past == pasts_.end()) return std::nullopt;
  const auto it = past->second.snapshots.find(seq);
  if (it == past->second.snapshots.end() || it->second.settings.captured) return std::nullopt;
  return it->second.progress;
}

Task<Result<std::uint64_t>> EngineHost::chain_stored_bytes(std::string disk_id) {
  AsyncMutex& lock = lock_of(disk_id);
  if (lock.locked() && past_of(disk_id).stored_bytes) co_return *past_of(disk_id).stored_bytes;
  auto guard = co_await lock.lock();
  Past& past = past_of(disk_id);
  co_await past.reactor->ring().enter();
  Result<std::uint64_t> bytes = std::uint64_t{0};
  if (const auto chain = past.volume->open_chain()) {
    auto usage = co_await chain->usage();
    if (usage) {
      bytes = usage->frame_bytes;
    } else {
      bytes = usage.error();
    }
  }
  co_await control_.enter();
  if (bytes) past.stored_bytes = *bytes;
  co_return bytes;
}

// --- Hydrating ---

namespace {

// `rate` 0: as fast as it goes.
snapshot::PaceLimits hydration_limits(std::uint64_t rate) {
  snapshot::PaceLimits limits;
  if (rate != 0) limits.most = rate;
  limits.least = kHydrateLeast;
  return limits;
}

}  // namespace

void EngineHost::begin_hydration(Served& served, std::uint64_t bytes_per_second) {
  served.hydration = std::make_shared<Hydration>(control_, bytes_per_second);
  served.hydration->progress.total = served.settings.size_bytes;
  served.hydration->running.add();
  background_.add();
  spawn(hydrate(served.settings.id, served.settings, served.disk, served.hydration));
}

Task<Result<void>> EngineHost::hydrate_disk(std::string disk_id,
                                            std::optional<std::uint64_t> bytes_per_second) {
  auto guard = co_await lock_of(disk_id).lock();
  const auto it = served_.find(disk_id);
  if (it == served_.end()) co_return fail(Errc::kNotFound, "disk {} is not open", disk_id);
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  Served& served = it->second;
  if (!served.hydration) co_return Result<void>{};
  const std::uint64_t pace = bytes_per_second.value_or(options_.hydrate_bytes_per_second);
  served.hydration->bytes_per_second = pace;
  stopped_.wake_all();  // Who sleeps at the old pace.
  const bool failed = !served.hydration->progress.failure.empty();
  if (!failed) co_return Result<void>{};
  co_await served.hydration->running.wait();  // It may just be ending.
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  begin_hydration(served, pace);
  co_return Result<void>{};
}

Task<void> EngineHost::hydrate(std::string disk_id, DiskSettings settings,
                               std::shared_ptr<Disk> disk, std::shared_ptr<Hydration> hydration) {
  Reactor* reactor = past_of(disk_id).reactor;
  unsigned tries = 0;
  std::uint64_t at = 0;
  std::uint64_t rate = hydration->bytes_per_second;
  snapshot::Pace pace(hydration_limits(rate));
  while (at < settings.size_bytes && !hydration->stop) {
    co_await reactor->ring().enter();
    auto brought = co_await disk->hydrate(at, kHydrateStep);
    const std::uint64_t client_requests = disk->client_requests();
    // Long stretches that the snapshot has nothing in are skipped at once.
    std::uint64_t next = at + kHydrateStep;
    if (brought && *brought == 0) {
      auto page = co_await disk->next_borrowed_page(next / (kPageBlocks * kBlockSize));
      if (page) next = std::max(next, std::min(settings.size_bytes, *page));
    }
    co_await control_.enter();
    if (brought) {
      tries = 0;
      at = next;
      hydration->progress = {std::min(at, settings.size_bytes), settings.size_bytes, {}};
      if (*brought == 0) continue;
      if (rate != hydration->bytes_per_second) {  // asked for meanwhile
        rate = hydration->bytes_per_second;
        pace = snapshot::Pace(hydration_limits(rate));
      }
      const TimePoint due = pace.book(*brought, client_requests, control_.now());
      while (!hydration->stop && hydration->bytes_per_second == rate && control_.now() < due) {
        const bool woken = co_await stopped_.wait_until(due);
        static_cast<void>(woken);
      }
      continue;
    }
    log(LogLevel::kWarning, "hydrate", "disk={} at {}: {}", disk_id, at, brought.error().message);
    const Errc code = brought.error().code;  // as for captures
    const bool damage = code == Errc::kIo || code == Errc::kCorrupt || code == Errc::kNotFound;
    if (++tries >= (damage ? kDamagedTries : kHydrateTries)) {
      hydration->progress.failure = brought.error().message;
      break;
    }
    const Duration pause = std::min<Duration>(kRetryAfter, kFirstRetryAfter * (1U << tries));
    co_await sleep_until(control_.now() + pause, hydration);
  }
  const bool complete = at >= settings.size_bytes;
  co_await reactor->ring().enter();
  disk.reset();  // Maybe the last: it dies where it lived.
  co_await control_.enter();
  hydration->running.done();
  if (complete && !stopping_) co_await end_hydration(disk_id, settings.storage, hydration);
  background_.done();
}

// Until the catalog has it on record, or the disk is stopped or opened anew. It refuses while a
// moment that is not captured yet still borrows.
Task<void> EngineHost::end_hydration(std::string disk_id, std::string storage,
                                     std::shared_ptr<Hydration> hydration) {
  std::string lender;  // the disk whose snapshot it borrowed from
  while (!stopping_) {
    bool durable = false;
    {
      auto guard = co_await lock_of(disk_id).lock();
      const auto it = served_.find(disk_id);
      if (it == served_.end() || it->second.hydration != hydration) co_return;
      const std::shared_ptr<Disk> disk = it->second.disk;
      std::uint64_t seq = 0;
      if (const Past* past = find_snapshot(it->second.settings.base_snapshot, seq)) {
        lender = past->snapshots.at(seq).settings.disk_id;
      }
      co_await past_of(disk_id).reactor->ring().enter();
      durable = (co_await disk->flush()).has_value();
      co_await control_.enter();
    }
    if (durable && co_await events_.hydrated(disk_id, storage)) break;
    co_await sleep_until(control_.now() + kRetryAfter);
  }
  if (!stopping_ && events_.released) co_await events_.released(lender);
}

Task<void> EngineHost::forget_base(std::string disk_id, std::string storage) {
  auto guard = co_await lock_of(disk_id).lock();
  const auto it = served_.find(disk_id);
  if (it != served_.end() && it->second.settings.storage == storage) {
    it->second.hydration.reset();
    it->second.settings.base_snapshot.clear();
  }
  Past& past = past_of(disk_id);
  co_await past.reactor->ring().enter();
  co_await past.volume->forget_base(storage);
  co_await control_.enter();
  log(LogLevel::kInfo, "hydrate", "disk={} borrows nothing any more", disk_id);
}

std::optional<Progress> EngineHost::hydration_progress(std::string_view disk_id) const {
  const auto it = served_.find(std::string(disk_id));
  if (it == served_.end() || !it->second.hydration) return std::nullopt;
  return it->second.hydration->progress;
}

}  // namespace clouddisk
