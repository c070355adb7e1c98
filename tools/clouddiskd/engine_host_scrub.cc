// engine_host_scrub.cc: a pass over every copy of every segment, every superblock and every index,
// a segment at a time, beside everything else.
//
// The order of a pass is that of the storages' names and of their segments' numbers, so that a
// place in it says what is done: a restart goes on from there. What comes into being behind that
// place meanwhile is for the next pass.
#include <algorithm>
#include <bit>

#include "engine/base/log.h"
#include "engine/disk/scrub.h"
#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {
namespace {

constexpr Duration kSaveEvery = std::chrono::seconds(5);
constexpr Duration kResyncWait = std::chrono::milliseconds(100);
constexpr Duration kScrubRetryAfter = std::chrono::seconds(60);  // nothing to read from

// The first segment of a disk that is not open behind `after`, and the one behind that; 0: none.
Task<Result<std::pair<SegmentSeq, SegmentSeq>>> next_two(LocalSegmentStore& store,
                                                         SegmentSeq after) {
  auto all = co_await store.list();
  if (!all) co_return all.error();
  const auto first = std::upper_bound(all->begin(), all->end(), after);
  std::pair<SegmentSeq, SegmentSeq> two{SegmentSeq(0), SegmentSeq(0)};
  if (first != all->end()) two.first = *first;
  if (first != all->end() && std::next(first) != all->end()) two.second = *std::next(first);
  co_return two;
}

}  // namespace

// --- When ---

Task<void> EngineHost::begin_scrubbing() {
  scrub_most_ = options_.scrub_bytes_per_second;
  const std::string path = scrub_path();
  auto loaded = co_await control_.blocking([&path] { return load_scrub_state(path); });
  if (loaded) {
    scrub_ = std::move(*loaded);
  } else if (loaded.error().code != Errc::kNotFound) {
    log(LogLevel::kWarning, "scrub", "{}: {}: what it said of former passes is lost", path,
        loaded.error().message);
  }
  // A root is scrubbed for the first time when it has been there for as long as one pass is due.
  if (scrub_.pass.begun_ns == 0) {
    scrub_.pass.begun_ns = wall_ns();
    scrub_.pass.ended_ns = scrub_.pass.begun_ns;
    co_await save_scrub();
  }
  background_.add();
  spawn(scrub_when_due());
}

Task<void> EngineHost::scrub_when_due() {
  while (!stopping_) {
    const std::int64_t next = scrub_status().next_ns;
    const bool goes_on = scrub_.under_way && !scrub_.stopped;
    if (goes_on || scrub_wanted_ || (next != 0 && wall_ns() >= next)) {
      scrub_wanted_ = false;
      scrub_.stopped = false;
      scrub_running_ = true;
      co_await scrub_pass();
      scrub_running_ = false;
      continue;
    }
    scrub_running_ = false;  // It was asked for and stopped before it began.
    const auto left = std::chrono::nanoseconds(next - wall_ns());
    const Duration nap =
        next == 0 ? Duration(kScrubRetryAfter) : std::min<Duration>(left, kScrubRetryAfter);
    const bool woken = co_await stopped_.wait_until(control_.now() + nap);
    static_cast<void>(woken);
  }
  background_.done();
}

ScrubStatus EngineHost::scrub_status() const {
  ScrubStatus status;
  if (scrub_running_) {
    status.state = ScrubStatus::State::kRunning;
  } else if (scrub_.under_way) {
    status.state = ScrubStatus::State::kStopped;
  }
  if (scrub_running_ || scrub_.under_way) status.current = scrub_.pass;
  status.last = scrub_.last;
  status.complete_ns = scrub_.complete_ns;
  status.total = scrub_.total;
  status.total_lost_blocks = scrub_.total_lost_blocks;
  status.done_bytes = scrub_done_segments_ * kSegmentSize;
  status.total_bytes = scrub_total_segments_ * kSegmentSize;
  status.bytes_per_second = scrub_most_;
  if (options_.scrub_every > Duration(0)) {
    // One that was stopped waits as long as one that has just begun.
    const std::int64_t from = scrub_.under_way && scrub_.stopped
                                  ? std::max(scrub_.pass.begun_ns, scrub_.stopped_ns)
                                  : scrub_.pass.begun_ns;
    status.next_ns = from + options_.scrub_every.count();
  }
  return status;
}

Task<Result<void>> EngineHost::start_scrub(std::optional<std::uint64_t> bytes_per_second) {
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  scrub_most_ = bytes_per_second.value_or(options_.scrub_bytes_per_second);
  if (!scrub_running_) {
    scrub_.stopped = false;
    scrub_wanted_ = true;
    // Shown as running from now on: who asked may ask how far it is.
    scrub_running_ = true;
    stopped_.wake_all();
  }
  co_return Result<void>{};
}

Task<Result<void>> EngineHost::stop_scrub() {
  if (scrub_running_) {
    scrub_.stopped = true;
    scrub_.stopped_ns = wall_ns();
    scrub_wanted_ = false;
    scrub_work_.stop = true;
    stopped_.wake_all();
    while (scrub_running_ && !stopping_) {
      const bool woken = co_await stopped_.wait_until(control_.now() + kPaceStep);
      static_cast<void>(woken);
    }
  }
  co_return Result<void>{};
}

// --- A pass ---

Task<void> EngineHost::scrub_pass() {
  scrub_work_.stop = stopping_ || scrub_.stopped;
  pace_background();
  auto storages = co_await stored_disks();
  if (!storages) {
    log(LogLevel::kWarning, "scrub", "not now: {}", storages.error().message);
    co_await sleep_until(control_.now() + kScrubRetryAfter);
    co_return;
  }
  if (!scrub_.under_way) {
    scrub_.under_way = true;
    scrub_.storage.clear();
    scrub_.segment = 0;
    scrub_.pass = ScrubPass{};
    scrub_.pass.begun_ns = wall_ns();
    scrub_done_segments_ = 0;
    log(LogLevel::kInfo, "scrub", "a pass begins");
    co_await scrub_superblocks();
  }
  auto bytes = co_await bytes_of_replica(replicas_.in_sync_mask());
  scrub_total_segments_ = std::max(scrub_done_segments_, bytes ? *bytes / kSegmentSize : 0);
  co_await save_scrub();
  for (const std::string& storage : *storages) {
    if (storage < scrub_.storage) continue;
    if (storage != scrub_.storage) {
      scrub_.storage = storage;
      scrub_.segment = 0;
    }
    if (auto scrubbed = co_await scrub_storage(storage); !scrubbed) {
      if (scrubbed.error().code != Errc::kShutdown) {
        ++scrub_.pass.unread_storages;
        log(LogLevel::kError, "scrub", "{}: not read to its end: {}", storage,
            scrubbed.error().message);
      }
    }
    if (stopping_ || scrub_.stopped) break;
    co_await save_scrub();
  }
  if (!stopping_ && !scrub_.stopped) {
    scrub_.under_way = false;
    scrub_.pass.ended_ns = wall_ns();
    scrub_.last = scrub_.pass;
    if (scrub_.pass.unread_storages == 0) scrub_.complete_ns = scrub_.pass.ended_ns;
    ScrubCounts all;
    for (const ScrubCounts& one : scrub_.pass.replicas) all += one;
    if (scrub_.pass.unread_storages > 0) {
      log(LogLevel::kError, "scrub", "a pass could not read {} of the storages to their end",
          scrub_.pass.unread_storages);
    }
    log(scrub_.pass.lost_blocks > 0 ? LogLevel::kError : LogLevel::kInfo, "scrub",
        "a pass has ended: {} read, {} blocks bad, {} mended, {} lost, {} indexes damaged",
        format_bytes(all.checked_bytes), all.bad_blocks, all.mended_blocks, scrub_.pass.lost_blocks,
        scrub_.pass.indexes_damaged);
  }
  co_await save_scrub();
}

Task<void> EngineHost::save_scrub() {
  const std::string path = scrub_path();
  const ScrubState state = scrub_;
  scrub_saved_ = control_.now();
  auto saved = co_await control_.blocking([&] { return save_scrub_state(path, state); });
  if (!saved) {
    log(LogLevel::kWarning, "scrub", "its place is not on record: {}", saved.error().message);
  }
}

Task<void> EngineHost::scrub_superblocks() {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if ((replicas_.in_sync_mask() >> i & 1U) == 0) continue;
    auto mended = co_await replicas_.check_superblock(i);
    if (!mended || !*mended) continue;
    const ScrubCounts one{0, 1, 1};
    scrub_.pass.replicas[i] += one;
    scrub_.total[i] += one;
  }
}

Task<Result<void>> EngineHost::scrub_storage(std::string storage) {
  while (!stopping_ && !scrub_.stopped) {
    auto next = co_await scrub_step(storage, SegmentSeq(scrub_.segment));
    if (!next) co_return next.error();
    if (next->value == 0) break;
    scrub_.segment = next->value;
    ++scrub_done_segments_;
    scrub_total_segments_ = std::max(scrub_total_segments_, scrub_done_segments_);
    if (control_.now() - scrub_saved_ >= kSaveEvery) co_await save_scrub();
  }
  if (stopping_ || scrub_.stopped) co_return fail(Errc::kShutdown, "stopped");
  co_return co_await scrub_index(storage);
}

// One segment of the storage; gives which, 0 when there is none any more.
Task<Result<SegmentSeq>> EngineHost::scrub_step(std::string storage, SegmentSeq after) {
  const std::string owner = owner_of(storage);
  // Resync lends the lock to whoever waits, at the price of a segment's check that begins anew.
  while (resync_owner_ == owner && !stopping_ && !scrub_.stopped) {
    const bool woken = co_await stopped_.wait_until(control_.now() + kResyncWait);
    static_cast<void>(woken);
  }
  auto guard = co_await lock_of(owner).lock();
  auto now = co_await stored_disks();
  if (!now) co_return now.error();
  if (!std::binary_search(now->begin(), now->end(), storage)) co_return SegmentSeq(0);
  scrub_lock_ = owner;
  Past& past = past_of(owner);
  Reactor* reactor = past.reactor;
  const std::uint64_t spent_before = scrub_work_.spent;
  ControlledPace pace(reactor->ring(), scrub_work_, [](std::uint64_t) {});
  co_await reactor->ring().enter();
  const std::shared_ptr<snapshot::Chain> chain = past.volume->open_chain();
  const std::shared_ptr<Disk> own = past.volume->find(storage);
  Disk* disk = own.get();
  if (chain && chain->id() == storage) disk = &chain->pack();
  SegmentSeq segment;
  Result<SegmentFindings> found = SegmentFindings{};
  if (disk != nullptr) {
    segment = disk->next_segment(after);
    if (segment > disk->acked_segment()) segment = SegmentSeq(0);  // Prepared, not begun.
    if (segment.value != 0) found = co_await disk->scrub_segment(segment, pace);
  } else {
    const auto store = std::make_shared<LocalSegmentStore>(
        reactor->ring(), replicas_, reactor->environment().files, storage, options_.disk.store);
    auto two = co_await next_two(*store, after);
    if (!two) {
      found = two.error();
    } else if (two->first.value != 0) {
      segment = two->first;
      std::optional<LogPosition> settled;
      if (two->second.value == 0) {
        auto position =
            co_await closed_position(reactor->ring(), options_.index_root + "/" + storage);
        if (position) settled = *position;
      }
      found = co_await scrub_closed_segment(*store, reactor->environment().work_buffers,
                                            disk_tag(storage), segment, two->second, settled, pace);
    }
    store->close();
  }
  co_await control_.enter();
  scrub_lock_.clear();
  if (found) {
    if (segment.value != 0) {
      take_findings(storage, segment, *found, scrub_work_.spent - spent_before);
    }
    co_return segment;
  }
  if (found.error().code == Errc::kNotFound) co_return segment;  // The cleaner had it meanwhile.
  co_return found.error();
}

void EngineHost::take_findings(const std::string& storage, SegmentSeq segment,
                               const SegmentFindings& findings, std::uint64_t bytes) {
  const auto copies = static_cast<std::uint64_t>(std::popcount(findings.checked));
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    ScrubCounts counts;
    if ((findings.checked >> i & 1U) != 0 && copies > 0) counts.checked_bytes = bytes / copies;
    counts.bad_blocks = findings.copies[i].bad_blocks;
    counts.mended_blocks = findings.copies[i].mended_blocks;
    scrub_.pass.replicas[i] += counts;
    scrub_.total[i] += counts;
    if (counts.bad_blocks == 0) continue;
    log(LogLevel::kWarning, "scrub", "{} segment {}: replica {} had {} bad blocks, {} are mended",
        storage, segment.value, i + 1, counts.bad_blocks, counts.mended_blocks);
  }
  std::uint64_t lost = findings.lost_other;
  if (findings.untold) {
    lost = std::max<std::uint64_t>(lost, 1);
    log(LogLevel::kError, "scrub",
        "{} segment {}: damaged on every replica in sync so that not all it held can be told, {} "
        "blocks at most",
        storage, segment.value, lost);
    if (scrub_.pass.losses.size() < kScrubLossesMax) {
      scrub_.pass.losses.push_back({storage, segment.value, 0, 0});
    }
  } else if (findings.lost_other > 0) {
    log(LogLevel::kError, "scrub",
        "{} segment {}: {} blocks of header or descriptors have no good copy on any replica in "
        "sync; they hold no content",
        storage, segment.value, findings.lost_other);
  }
  for (const SegmentFindings::LostRun& run : findings.lost) {
    lost += run.blocks;
    log(LogLevel::kError, "scrub",
        "{} segment {}: no good copy on any replica in sync of LBA {} to {} (bytes {} to {})",
        storage, segment.value, run.lba.value, run.lba.value + run.blocks - 1,
        run.lba.value * kBlockSize, (run.lba.value + run.blocks) * kBlockSize - 1);
    if (scrub_.pass.losses.size() >= kScrubLossesMax) continue;
    scrub_.pass.losses.push_back({storage, segment.value, run.lba.value, run.blocks});
  }
  scrub_.pass.lost_blocks += lost;
  scrub_.total_lost_blocks += lost;
  std::uint64_t mended = 0;
  for (const auto& copy : findings.copies) mended += copy.mended_blocks;
  if (found_ && mended + lost > 0) found_(owner_of(storage), mended, lost);
}

// The map of the storage; of a chain that is open its index too (every open of one reads it whole).
Task<Result<void>> EngineHost::scrub_index(std::string storage) {
  const std::string owner = owner_of(storage);
  auto guard = co_await lock_of(owner).lock();
  Past& past = past_of(owner);
  Reactor* reactor = past.reactor;
  co_await reactor->ring().enter();
  std::shared_ptr<snapshot::Chain> chain = past.volume->open_chain();
  std::shared_ptr<Disk> own = past.volume->find(storage);
  const bool is_chain = chain && chain->id() == storage;
  Disk* disk = is_chain ? &chain->pack() : own.get();
  const std::string directory = options_.index_root + "/" + storage;
  Result<std::uint64_t> checked = std::uint64_t{0};
  if (disk != nullptr) {
    checked = co_await disk->check_index();
  } else {
    checked = co_await check_closed_index(reactor->ring(), directory);
    if (!checked && checked.error().code == Errc::kCorrupt) {
      auto condemned = co_await condemn_index(reactor->ring(), directory);
      if (!condemned) checked = condemned.error();
    }
  }
  Result<void> chain_sound;
  if (is_chain) chain_sound = co_await chain->check_index();
  own.reset();  // Maybe the last: it dies where it lived.
  co_await control_.enter();
  if (checked) scrub_.pass.index_bytes += *checked;
  if (!checked && checked.error().code == Errc::kCorrupt) {
    ++scrub_.pass.indexes_damaged;
    log(LogLevel::kError, "scrub", "{}: {}; {}", storage, checked.error().message,
        disk == nullptr ? "it is made anew from the log when it is next opened"
        : is_chain ? "it is made anew from its log at the next start of the daemon: restart it soon"
                   : "it is made anew from the log when the disk is attached again: detach and "
                     "attach it soon, or restart the daemon");
  } else if (!checked && checked.error().code != Errc::kNotFound) {
    co_return checked
        .error();  // None is no damage: it was never written to, or the next open makes one.
  }
  if (!chain_sound && chain_sound.error().code == Errc::kCorrupt) {
    ++scrub_.pass.indexes_damaged;
    log(LogLevel::kError, "scrub", "{}: {}; made anew from the pack", storage,
        chain_sound.error().message);
  } else if (!chain_sound) {
    co_return chain_sound;
  }
  co_return Result<void>{};
}

}  // namespace clouddisk
