// world.cc: lives and what is compared at the begin of each.
#include "tests/simulation/world.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "engine/base/log.h"

namespace clouddisk::simulation {
namespace {

constexpr std::uint64_t kReadAtOnce = 256_KiB;
constexpr Duration kPhaseMax = std::chrono::minutes(10);

// The memory of pools. Nobody touches what a process had once its ring is gone, so the next one
// gets the same, instead of making the kernel clear as much anew. Each history begins with the same
// rubbish in all of it.
class Arenas {
 public:
  std::span<std::byte> take(std::size_t size) {
    const auto same = [size](std::span<std::byte> arena) { return arena.size() == size; };
    const auto found = std::find_if(free_.begin(), free_.end(), same);
    if (found != free_.end()) {
      taken_.push_back(*found);
      free_.erase(found);
    } else {
      void* memory = std::aligned_alloc(BufferPool::kLargest, size);
      CHECK(memory != nullptr);
      madvise(memory, size, MADV_HUGEPAGE);
      taken_.emplace_back(static_cast<std::byte*>(memory), size);
      fill(taken_.back());
    }
    return taken_.back();
  }
  void begin_history() {
    CHECK(taken_.empty());
    for (const std::span<std::byte> arena : free_) fill(arena);
  }
  void end_process() {
    free_.insert(free_.end(), taken_.begin(), taken_.end());
    taken_.clear();
  }

 private:
  static void fill(std::span<std::byte> arena) { std::memset(arena.data(), 0xa5, arena.size()); }

  std::vector<std::span<std::byte>> free_;
  std::vector<std::span<std::byte>> taken_;
};

Arenas& arenas() {
  static Arenas& all = *new Arenas;
  return all;
}

std::string key_of(std::uint64_t volume) {
  return "disk/" + std::to_string(volume);
}

}  // namespace

std::string VolumeRecord::encode() const {
  std::ostringstream out;
  out << size << ' ' << storage << ' ' << current << ' ' << last_seq << ' ' << reference.seq << ' '
      << (reference.storage.empty() ? "-" : reference.storage) << ' ' << reference.epoch.value
      << ' ' << storages.size();
  for (const auto& [name, base] : storages)
    out << ' ' << name << ' ' << base.volume << ' ' << base.seq;
  out << ' ' << snapshots.size();
  for (const auto& [seq, state] : snapshots) {
    out << ' ' << seq << ' ' << state.size_bytes << ' ' << state.storage << ' ' << state.epoch.value
        << ' ' << state.parent << ' ' << state.captured;
  }
  out << ' ' << leaving.size();
  for (const std::uint64_t seq : leaving) out << ' ' << seq;
  return out.str();
}

VolumeRecord VolumeRecord::decode(const std::string& text) {
  std::istringstream in(text);
  VolumeRecord record;
  std::size_t count = 0;
  in >> record.size >> record.storage >> record.current >> record.last_seq >>
      record.reference.seq >> record.reference.storage >> record.reference.epoch.value >> count;
  if (record.reference.storage == "-") record.reference.storage.clear();
  while (count-- > 0) {
    std::string name;
    Base base;
    in >> name >> base.volume >> base.seq;
    record.storages[name] = base;
  }
  in >> count;
  while (count-- > 0) {
    snapshot::SnapshotState state;
    in >> state.seq >> state.size_bytes >> state.storage >> state.epoch.value >> state.parent >>
        state.captured;
    record.snapshots[state.seq] = state;
  }
  in >> count;
  while (count-- > 0) {
    std::uint64_t seq = 0;
    in >> seq;
    record.leaving.insert(seq);
  }
  CHECK(!in.fail());
  return record;
}

// Small, so that caches miss, files are opened again and full pools make callers wait.
Life::Life(Ring& ring)
    : files(ring, 24),
      pages(256_KiB),
      client_buffers(ring, arenas().take(16_MiB)),
      pack_buffers(ring, arenas().take(8_MiB)),
      work_buffers(ring, arenas().take(8_MiB)),
      log_buffers(ring, arenas().take(8_MiB)),
      header_buffers(ring, arenas().take(2_MiB)) {}

World::World(const Options& options)
    : options_(options),
      random_(options.seed * 0x9e3779b97f4a7c15ULL + 1),
      machine_(random_.next()) {
  arenas().begin_history();
  Faults mild;
  mild.add(Fault::kDeath);
  if (options.faults.empty() || options.faults == mild) machine_.never_lose_power();
  for (const char* replica : kReplica) machine_.add_device(replica, 4_GiB);
  machine_.add_device("/root/index", 4_GiB);
  volume_options_.index_root = "/root/index";
  volume_options_.disk.checkpoint_bytes = 6_MiB;
  volume_options_.disk.map.memtable_bytes_max = 1_MiB;
  volume_options_.disk.store.allocate_step_blocks = 256_KiB / kBlockSize;
  volume_options_.disk.store.spares_max = 1;
  volume_options_.disk.log.flush_bytes_max = 2_MiB;
  volume_options_.disk.log.unflushed_bytes_max = 8_MiB;
  volume_options_.chain.pack = volume_options_.disk;
  volume_options_.chain.frame_cache_bytes = 512_KiB;
  volume_options_.chain.page_cache_pages = 8;
  volume_options_.chain.repack_frames_min = 2;
  silent_ = static_cast<unsigned>(random_.below(kReplicaCount));
  static constexpr std::uint64_t kBusyPhases[] = {3, 10, 40};
  busy_one_in_ = kBusyPhases[random_.below(std::size(kBusyPhases))];
  broken_variant = options.variant;
}

World::~World() {
  if (!life_) return;
  Graveyard::bury(std::move(life_));
  Graveyard::bury(std::move(managing_));
  end_ring();
}

void World::fail_history(std::string message) {
  if (!failure_) failure_ = std::move(message);
}

World::Done& World::note(Action action, std::uint64_t volume, std::uint64_t first,
                         std::uint64_t count) {
  ++counts_[static_cast<std::size_t>(action)];
  if (last_.size() >= 30) last_.pop_front();
  last_.push_back({step_, action, volume, first, count, tick_, {}});
  if (options_.trace) {
    fmt::print(stderr, "step {} {} disk {} [{}, {}) at {}\n", step_, name(action), volume, first,
               first + count, tick_);
  }
  return last_.back();
}

void World::remark(std::string text) {
  if (options_.trace) fmt::print(stderr, "step {} {}\n", step_, text);
  if (last_.size() >= 30) last_.pop_front();
  last_.push_back({step_, Action::kCount, 0, 0, 0, tick_, std::move(text)});
}

void World::print_last(std::FILE* out) const {
  for (const Done& done : last_) {
    if (done.action == Action::kCount) {
      fmt::print(out, "  step {} (at {}): {}\n", done.step, done.begin, done.text);
    } else {
      fmt::print(out, "  step {} (at {}): {} disk {} sectors [{}, {})\n", done.step, done.begin,
                 name(done.action), done.volume, done.first, done.first + done.count);
    }
  }
}

// --- A process ---

void World::end_ring() {
  ring_.reset();
  arenas().end_process();
}

void World::start_process() {
  ++lives_;
  SimRing::Options options;
  options.payload_check_one_in = 16;
  ring_ = std::make_unique<SimRing>(machine_, options);
  life_ = std::make_unique<Life>(*ring_);
  managing_ = std::make_unique<AsyncMutex>(*ring_);
  turns_ = 0;
}

Task<void> World::mark_done(Task<void> task, std::shared_ptr<bool> done) {
  co_await std::move(task);
  *done = true;
}

bool World::run_task(Task<void> task) {
  const auto done = std::make_shared<bool>(false);
  spawn(mark_done(std::move(task), done));
  const TimePoint limit = ring_->now() + kPhaseMax;
  ring_->run_until([&] {
    ++turns_;
    if (*done || turns_ >= crash_at_) return true;
    if (failure_) return true;
    if (ring_->now() > limit) fail_history("stuck: what was asked for has not ended in 10 minutes");
    return failure_.has_value();
  });
  return *done && !failure_;
}

// Whether each replica but one that may be replaced is whole.
void World::note_soundness() {
  const ReplicaMask all = (1U << kReplicaCount) - 1;
  former_sound_ = life_->replicas && life_->replicas->in_sync_mask() == all;
}

void World::end_life(bool power) {
  note_soundness();
  remark(power ? "power lost" : "process died");
  digest_ = (digest_ ^ ring_->trace()) * 0x9e3779b97f4a7c15ULL;
  Graveyard::bury(std::move(life_));
  Graveyard::bury(std::move(managing_));
  end_ring();
  if (power) {
    machine_.power_loss();
    power_lost_ = true;
  }
}

// Without this a crash could come while the last one is being recovered from, for ever.
void World::plan_crash() {
  crash_at_ = kNever;
  if (!options_.faults.has(Fault::kDeath) && !options_.faults.has(Fault::kPower)) return;
  if (random_.one_in(6)) {
    crash_at_ = random_.below(4000);  // most likely while it starts
  } else {
    crash_at_ = random_.below(random_.one_in(4) ? 400'000 : 60'000);
  }
}

void World::close_life() {
  remark("restart");
  note_soundness();
  run_task([](World* world) -> Task<void> {
    auto turn = co_await world->managing_->lock();
    for (auto& [id, volume] : world->life_->volumes) {
      auto closed = co_await volume->close_storages();
      if (!closed && !world->excused(closed.error())) {
        world->fail_history("close: " + closed.error().message);
      }
    }
    for (auto& [id, volume] : world->life_->volumes) {
      auto closed = co_await volume->close();
      if (!closed && !world->excused(closed.error())) {
        world->fail_history("close: " + closed.error().message);
      }
    }
  }(this));
}

Outcome World::run() {
  while (!failure_) {
    const bool last = step_ >= options_.steps;
    if (last) {
      clear_all_faults();
      crash_at_ = kNever;
    } else {
      faults_between();
      plan_crash();
    }
    start_process();
    bool alive = run_task(start());
    if (alive && last) {
      run_task(end_phase());
      const std::set<std::uint64_t> nothing;
      close_life();
      digest_ = (digest_ ^ ring_->trace()) * 0x9e3779b97f4a7c15ULL;
      life_->volumes.clear();
      life_.reset();
      managing_.reset();
      end_ring();
      break;
    }
    // Each start reads everything: it is done often only where that is what is looked at.
    const bool crashes = options_.faults.has(Fault::kDeath) || options_.faults.has(Fault::kPower);
    std::uint64_t phases = 1 + random_.below(crashes ? 24 : 200);
    while (alive && phases-- > 0 && step_ < options_.steps && !lost_disk_) {
      choose_faults();
      const auto clients = static_cast<unsigned>(1 + random_.below(options_.depth));
      const std::uint64_t requests = 50 + random_.below(1000);
      alive =
          run_task(phase(clients, requests)) && run_task(end_phase()) && run_task(between_phases());
    }
    if (failure_) break;
    if (alive && (std::exchange(lost_disk_, false) || random_.one_in(3))) {
      close_life();
      if (failure_ || turns_ >= crash_at_) alive = false;
      if (!failure_ && turns_ < crash_at_) {
        digest_ = (digest_ ^ ring_->trace()) * 0x9e3779b97f4a7c15ULL;
        life_->volumes.clear();
        life_->catalog.reset();
        // A device that hangs may still have something of it under way.
        Graveyard::bury(std::move(life_));
        Graveyard::bury(std::move(managing_));
        end_ring();
        continue;
      }
      if (failure_) break;
    }
    lost_disk_ = false;
    const bool may_power = options_.faults.has(Fault::kPower) && recovered_durably_;
    const bool may_die = options_.faults.has(Fault::kDeath);
    if (!may_power && !may_die) {
      // Without such faults every life ends by itself.
      close_life();
      if (failure_) break;
      digest_ = (digest_ ^ ring_->trace()) * 0x9e3779b97f4a7c15ULL;
      life_->volumes.clear();
      Graveyard::bury(std::move(life_));
      Graveyard::bury(std::move(managing_));
      end_ring();
      continue;
    }
    end_life(may_power && (!may_die || random_.one_in(2)));
  }
  Outcome outcome;
  outcome.failure = failure_;
  outcome.step = step_;
  outcome.requests = requests_;
  outcome.lives = lives_;
  outcome.digest = digest_ ^ tick_;
  std::copy(std::begin(counts_), std::end(counts_), std::begin(outcome.counts));
  return outcome;
}

// --- Start ---

Task<void> World::start() {
  for (int attempt = 0;; ++attempt) {
    auto opened = co_await open_everything();
    if (opened) break;
    if (failure_) co_return;
    remark("start failed: " + opened.error().message);
    // The operator looks what is wrong, and mends it.
    if (attempt >= 2 || !(told_active_ || full_active_ || excused(opened.error()))) {
      fail_history("start: " + opened.error().message);
      co_return;
    }
    if (attempt == 0) clear_told_faults();
    if (attempt == 1) clear_all_faults();
    for (auto& [id, volume] : life_->volumes) {
      auto closed = co_await volume->close();
      static_cast<void>(closed);
    }
    life_->volumes.clear();
    life_->catalog.reset();
    life_->environment.reset();
    life_->packs.reset();
    // An operation of the attempt that still hangs keeps what it needs.
    Graveyard::bury(std::move(life_));
    life_ = std::make_unique<Life>(*ring_);
  }
  recovered_durably_ = life_->replicas->can_write();
  co_await compare_everything();
  if (volumes_.empty() && !failure_) co_await create_volume();
}

Task<Result<void>> World::open_everything() {
  ReplicaSet::Options options;
  for (unsigned i = 0; i < kReplicaCount; ++i) options.folders[i] = kReplica[i];
  auto replicas = co_await ReplicaSet::open(*ring_, options);
  if (!replicas) co_return replicas.error();
  Life& life = *life_;
  life.replicas = std::move(*replicas);
  life.environment.emplace(DiskEnvironment{*ring_, *life.replicas, life.files, life.pages,
                                           life.client_buffers, life.work_buffers, life.log_buffers,
                                           life.header_buffers});
  life.packs.emplace(DiskEnvironment{*ring_, *life.replicas, life.files, life.pages,
                                     life.pack_buffers, life.work_buffers, life.log_buffers,
                                     life.header_buffers});
  auto catalog = co_await CatalogStore::open(*ring_, *life.replicas, {});
  if (!catalog) co_return catalog.error();
  life.catalog = std::move(*catalog);
  if (auto taken = take_records(); !taken) co_return taken;
  for (auto& [id, state] : volumes_) {
    auto volume = std::make_unique<snapshot::Volume>(*life.environment, *life.packs,
                                                     "sl-" + std::to_string(id), volume_options_);
    for (const auto& [seq, snapshot] : state->record.snapshots) volume->know(snapshot);
    volume->set_reference(state->record.reference);
    life.volumes[id] = std::move(volume);
  }
  if (auto gone = co_await remove_strangers(); !gone) co_return gone;
  for (auto& [id, state] : volumes_) {
    for (const auto& [name, base] : state->record.storages) {
      auto opened = co_await open_storage(*state, name);
      if (!opened) co_return opened.error();
    }
  }
  co_return Result<void>{};
}

// What the catalog says is what counts; it must be what was committed last, or what was on its way.
Result<void> World::take_records() {
  const CatalogStore::Records& records = life_->catalog->records();
  for (const auto& [key, text] : records) {
    const auto known = confirmed_.find(key);
    const auto other = pending_.find(key);
    const bool is_known = known != confirmed_.end() && known->second == text;
    const bool is_other = other != pending_.end() && other->second == text;
    if (is_known || is_other) continue;
    fail_history(fmt::format("catalog: {} is '{}', and should be '{}'", key, text,
                             known == confirmed_.end() ? "missing" : known->second));
    return fail(Errc::kCorrupt, "catalog");
  }
  for (const auto& [key, text] : confirmed_) {
    if (records.contains(key)) continue;
    const auto other = pending_.find(key);
    if (other != pending_.end() && !other->second) continue;
    fail_history(fmt::format("catalog: {} is gone", key));
    return fail(Errc::kCorrupt, "catalog");
  }
  confirmed_ = records;
  pending_.clear();
  if (unborn_) {
    const std::uint64_t id = unborn_->id;
    volumes_[id] = std::move(unborn_);
  }
  for (auto it = volumes_.begin(); it != volumes_.end();) {
    VolumeState& volume = *it->second;
    const auto found = records.find(key_of(volume.id));
    if (found == records.end()) {
      it = volumes_.erase(it);
      continue;
    }
    volume.record = VolumeRecord::decode(found->second);
    std::erase_if(volume.pasts, [&volume](const auto& past) {
      return !volume.record.snapshots.contains(past.first);
    });
    ++it;
  }
  CHECK(volumes_.size() == records.size());
  return {};
}

// Storages that were made, or were about to be removed, when the process died.
Task<Result<void>> World::remove_strangers() {
  if (!life_->replicas->can_write()) co_return Result<void>{};
  auto ids = co_await stored_disks();
  if (!ids) co_return ids.error();
  for (const std::string& id : *ids) {
    bool known = false;
    for (const auto& [number, volume] : volumes_) {
      known |= volume->record.storages.contains(id) || id == "sl-" + std::to_string(number);
    }
    if (known) continue;
    auto gone = co_await snapshot::Volume::remove_storage(*life_->environment, volume_options_, id);
    if (!gone) co_return gone;
  }
  co_return Result<void>{};
}

Task<Result<std::shared_ptr<Disk>>> World::open_storage(VolumeState& volume, std::string name) {
  const VolumeRecord::Base base = volume.record.storages.at(name);
  snapshot::StorageState state;
  state.name = name;
  state.size_bytes = volume.record.size;
  if (base.volume != 0) {
    if (open_volume(base.volume).open_chain() == nullptr) {
      life_->resynced.erase("sl-" + std::to_string(base.volume));
    }
    auto source = co_await open_volume(base.volume).source(base.seq);
    if (!source) co_return source.error();
    state.base = *source;
    state.base_seq = base.volume == volume.id ? base.seq : 0;
  }
  life_->resynced.erase(name);
  co_return co_await open_volume(volume.id).open(std::move(state));
}

Task<Result<std::shared_ptr<Disk>>> World::open_new_storage(VolumeState& volume, std::string name) {
  constexpr unsigned kTries = 100;
  for (unsigned tried = 1;; ++tried) {
    auto opened = co_await open_storage(volume, name);
    if (opened || tried == kTries || !excused(opened.error())) co_return opened;
    co_await ring_->sleep_for(std::chrono::milliseconds(10));
  }
}

// --- Comparing ---

Task<std::optional<Content>> World::read_disk(VolumeState& volume) {
  const std::shared_ptr<Disk> disk = disk_of(volume);
  Content content(volume.record.size / kSectorSize);
  for (std::uint64_t at = 0; at < volume.record.size; at += kReadAtOnce) {
    const auto length = static_cast<std::uint32_t>(std::min(kReadAtOnce, volume.record.size - at));
    auto data = co_await disk->read(at, length);
    if (!data) {
      fail_history(fmt::format("disk {}: read at {}: {}", volume.id, at, data.error().message));
      co_return std::nullopt;
    }
    for (std::uint64_t s = 0; s < length / kSectorSize; ++s) {
      const std::uint64_t sector = at / kSectorSize + s;
      content[sector] = read_stamp(data->data() + s * kSectorSize, sector);
    }
  }
  co_return content;
}

Task<std::optional<Content>> World::read_snapshot(VolumeState& volume, std::uint64_t seq) {
  const std::uint64_t sectors = volume.pasts.at(seq).sectors;
  auto source = co_await open_volume(volume.id).source(seq);
  if (!source && is_of_index(source.error())) {
    machine_.set_faults("/root/index", {});
    source = co_await open_volume(volume.id).source(seq);
  }
  if (!source) {
    fail_history(fmt::format("disk {}, snapshot {}: {}", volume.id, seq, source.error().message));
    co_return std::nullopt;
  }
  Content content(sectors);
  std::vector<std::byte> data(kReadAtOnce);
  for (std::uint64_t at = 0; at < sectors * kSectorSize; at += kReadAtOnce) {
    const std::uint64_t length =
        std::min(kReadAtOnce, align_up(sectors * kSectorSize - at, kBlockSize));
    auto read =
        co_await (*source)->read(*ring_, Lba(at / kBlockSize), std::span(data).first(length));
    if (!read) {
      fail_history(fmt::format("disk {}, snapshot {}: read at {}: {}", volume.id, seq, at,
                               read.error().message));
      co_return std::nullopt;
    }
    const std::uint64_t first = at / kSectorSize;
    for (std::uint64_t s = 0; s < length / kSectorSize && first + s < sectors; ++s) {
      content[first + s] = read_stamp(data.data() + s * kSectorSize, first + s);
    }
  }
  co_return content;
}

Task<void> World::compare_everything() {
  for (auto& [id, pointer] : volumes_) {
    VolumeState& volume = *pointer;
    for (const auto& [seq, state] : volume.record.snapshots) {
      VolumeState::Past& past = volume.pasts.at(seq);
      auto content = co_await read_snapshot(volume, seq);
      if (!content) co_return;
      if (!past.content) {
        // It was taken of the storage that the model still is of.
        if (auto wrong = volume.model.check_cut(*content, past.must, past.may)) {
          fail_history(fmt::format("disk {}, snapshot {}: {}", id, seq, *wrong));
          co_return;
        }
        past.content = std::move(*content);
      } else if (*past.content != *content) {
        std::uint64_t s = 0;
        while ((*past.content)[s] == (*content)[s]) ++s;
        fail_history(fmt::format("disk {}, snapshot {}: sector {} was {:#x} and is {:#x}", id, seq,
                                 s, (*past.content)[s], (*content)[s]));
        co_return;
      }
    }
  }
  for (auto& [id, pointer] : volumes_) {
    VolumeState& volume = *pointer;
    if (volume.modelled != volume.record.storage) {
      // A rollback was on its way when the process died, and it came through.
      Content content = *volume.pasts.at(volume.record.current).content;
      content.resize(volume.record.size / kSectorSize, 0);
      volume.model.become(std::move(content));
      volume.modelled = volume.record.storage;
    }
    const std::uint64_t sectors = volume.record.size / kSectorSize;
    if (volume.model.sectors() < sectors) volume.model.resize(sectors);
    auto content = co_await read_disk(volume);
    if (!content) co_return;
    content->resize(volume.model.sectors(), 0);  // A resize that did not come through.
    const std::uint64_t must = power_lost_ ? volume.model.durable() : kNever;
    if (auto wrong = volume.model.check_cut(*content, must, kNever)) {
      fail_history(
          fmt::format("disk {} after {}: {}", id, power_lost_ ? "power loss" : "restart", *wrong));
      co_return;
    }
    content->resize(sectors);
    volume.model.become(std::move(*content));
  }
  power_lost_ = false;
}

// What overlapped is read, to see how it came out; now and then everything, and made durable.
Task<void> World::end_phase() {
  for (auto& [id, pointer] : volumes_) {
    VolumeState& volume = *pointer;
    const std::shared_ptr<Disk> disk = disk_of(volume);
    const auto unsure = volume.model.take_unsure();
    for (const auto& [first, count] : unsure) {
      const std::uint64_t begin = align_down(first, 8);
      const std::uint64_t end = std::min(align_up(first + count, 8), volume.model.sectors());
      for (std::uint64_t at = begin; at < end; at += kReadAtOnce / kSectorSize) {
        const std::uint64_t sectors = std::min<std::uint64_t>(kReadAtOnce / kSectorSize, end - at);
        auto data = co_await disk->read(at * kSectorSize,
                                        static_cast<std::uint32_t>(sectors * kSectorSize));
        const std::uint64_t now = tick();
        if (!data) {
          fail_history(fmt::format("disk {}: read at {}: {}", id, at, data.error().message));
          co_return;
        }
        if (auto wrong = volume.model.check_read(at, data->span(), now, now)) {
          fail_history(fmt::format("disk {}: {}", id, *wrong));
          co_return;
        }
        volume.model.learn(at, data->span());
      }
    }
    if (volume.model.history() > 1500 || random_.one_in(4)) co_await settle(volume);
    if (failure_) co_return;
    if (!random_.one_in(30) && step_ < options_.steps) continue;
    auto content = co_await read_disk(volume);
    if (!content) co_return;
    const Content expected = volume.model.content();
    for (std::uint64_t s = 0; s < expected.size(); ++s) {
      if ((*content)[s] == expected[s]) continue;
      fail_history(fmt::format("disk {}: sector {} is {:#x} and should be {:#x}", id, s,
                               (*content)[s], expected[s]));
      co_return;
    }
  }
}

Task<void> World::settle(VolumeState& volume) {
  auto flushed = co_await disk_of(volume)->flush();
  if (flushed) {
    volume.model.settle();
  } else if (!excused(flushed.error())) {
    fail_history(fmt::format("disk {}: flush: {}", volume.id, flushed.error().message));
  }
}

}  // namespace clouddisk::simulation
