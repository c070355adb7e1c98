#include "engine/disk/disk.h"

#include <algorithm>
#include <filesystem>

#include "engine/base/log.h"
#include "engine/base/variant.h"
#include "engine/disk/compactor.h"
#include "engine/map/index_builder.h"

namespace clouddisk {
namespace {

constexpr Duration kRetryAfter = std::chrono::seconds(1);

// Feeds recovered batches to the map, with a checkpoint when the map has had enough.
class Replay final : public LogReplay {
 public:
  Replay(std::function<void(const Batch&)> apply,
         std::function<Task<Result<void>>(LogPosition, WriteSeq)> pause)
      : apply_(std::move(apply)), pause_(std::move(pause)) {}
  void apply(const Batch& batch) override { apply_(batch); }
  Task<Result<void>> after_batch(LogPosition position, WriteSeq next_write) override {
    return pause_(position, next_write);
  }

 private:
  std::function<void(const Batch&)> apply_;
  std::function<Task<Result<void>>(LogPosition, WriteSeq)> pause_;
};

Task<Result<void>> nothing_to_do() {
  co_return Result<void>{};
}

}  // namespace

Disk::Disk(DiskEnvironment& environment, Identity identity, Options options)
    : environment_(environment),
      identity_(std::move(identity)),
      options_(options),
      size_bytes_(identity_.size_bytes),
      store_(std::make_shared<LocalSegmentStore>(environment.ring, environment.replicas,
                                                 environment.files, identity_.id, options.store)),
      reader_(*store_, environment.work_buffers, identity_.id),
      read_cache_id_(environment.reads != nullptr ? environment.reads->new_disk() : 0),
      ranges_(environment.ring),
      gate_(environment.ring),
      checkpointing_(environment.ring),
      maintained_(environment.ring),
      background_(environment.ring) {
  base_ = identity_.base;
  if (base_) {
    options_.map.next_base_page = [base = base_](std::uint64_t page) {
      return base->next_page(page);
    };
  }
}

Disk::~Disk() {
  CHECK(background_.count() == 0);
}

Task<Result<void>> Disk::create(DiskEnvironment& environment, Identity identity, Options options) {
  const auto store = std::make_shared<LocalSegmentStore>(
      environment.ring, environment.replicas, environment.files, identity.id, options.store);
  if (auto opened = co_await store->open(); !opened) co_return opened;
  if (store->was_there()) {
    auto segments = co_await store->list();
    if (!segments) co_return segments.error();
    if (!segments->empty()) {
      co_return fail(Errc::kExists, "disk {} has storage already", identity.id);
    }
  }
  // The first write makes its index. What is there is of a former disk of that name.
  co_return co_await environment.ring.remove_tree(identity.index_directory);
}

// The folders, by which it is found, go last: after a crash in between it is found, and removed.
Task<Result<void>> Disk::remove(DiskEnvironment& environment, Identity identity) {
  auto index = co_await environment.ring.stat(identity.index_directory);
  if (!index && index.error().code != Errc::kNotFound) co_return index.error();
  if (index) {  // One that was never written to has none.
    auto gone = co_await environment.ring.remove_tree(identity.index_directory);
    if (!gone) co_return gone;
    const std::string indexes = std::filesystem::path(identity.index_directory).parent_path();
    if (auto synced = co_await environment.ring.sync_directory(indexes); !synced) co_return synced;
  }
  co_return co_await LocalSegmentStore::remove_disk(environment.ring, environment.replicas,
                                                    identity.id);
}

Task<Result<std::shared_ptr<Disk>>> Disk::open(DiskEnvironment& environment, Identity identity,
                                               Options options) {
  CHECK(identity.size_bytes > 0 && identity.size_bytes % 512 == 0);
  std::shared_ptr<Disk> disk(new Disk(environment, std::move(identity), options));
  if (auto recovered = co_await disk->recover(); !recovered) {
    disk->store_->close();
    co_return fail(recovered.error(), "disk {}", disk->id());
  }
  co_return disk;
}

Task<Result<void>> Disk::recover() {
  if (auto opened = co_await store_->open(); !opened) co_return opened;
  auto map =
      co_await BlockMap::open(ring(), environment_.pages, identity_.index_directory, options_.map);
  if (!map && map.error().code == Errc::kNotFound) {
    auto segments = co_await store_->list();
    if (!segments) co_return segments.error();
    if (segments->empty()) {
      map = co_await BlockMap::create(ring(), environment_.pages, identity_.index_directory,
                                      options_.map);
    }
  }
  const LogMemory memory{environment_.log_buffers, environment_.header_buffers};
  std::optional<RecoveredLog> recovered;
  if (map) {
    map_ = std::move(*map);
    Replay replay([this](const Batch& batch) { apply(batch); },
                  [this](LogPosition position, WriteSeq next_write) {
                    return checkpoint_in_replay(position, next_write);
                  });
    auto log = co_await recover_log(*store_, memory, disk_tag(id()),
                                    map_->last_checkpoint().position, replay);
    if (log) {
      recovered = std::move(*log);
    } else if (log.error().code != Errc::kCorrupt) {
      co_return log.error();
    } else {
      clouddisk::log(LogLevel::kWarning, "disk", "disk={} index and log disagree, rebuilding: {}",
                     id(), log.error().message);
      map_.reset();
    }
  } else if (map.error().code != Errc::kNotFound && map.error().code != Errc::kCorrupt) {
    co_return map.error();
  } else {
    clouddisk::log(LogLevel::kWarning, "disk", "disk={} rebuilding the index from the log: {}",
                   id(), map.error().message);
  }
  if (!recovered) {
    Replay replay([](const Batch&) {}, [](LogPosition, WriteSeq) { return nothing_to_do(); });
    auto log = co_await recover_log(*store_, memory, disk_tag(id()), std::nullopt, replay);
    if (!log) co_return log.error();
    recovered = std::move(*log);
    auto rebuilt = co_await rebuild_index_from(*recovered);
    if (!rebuilt) co_return rebuilt;
  }
  settle_views();
  const Checkpoint& checkpoint = map_->last_checkpoint();
  const WriteSeq next_write = std::max(recovered->next_write, checkpoint.next_write);
  const std::vector<SegmentSeq> unreachable = recovered->unreachable;
  auto started =
      co_await DiskLog::start(*store_, {environment_.log_buffers, environment_.header_buffers},
                              disk_tag(id()), std::move(*recovered), next_write, map_->epoch(),
                              options_.log, [this](const Batch& batch) { apply(batch); });
  if (!started) co_return started.error();
  log_ = std::move(*started);
  log_->before_segments([this] { return map_->make_index(); });
  auto segments = co_await store_->list();
  if (!segments) co_return segments.error();
  segments_.insert(segments->begin(), segments->end());
  for (const SegmentSeq segment : unreachable) segments_.erase(segment);
  store_->forget_listing();
  if (options_.compaction) compactor_ = std::make_unique<Compactor>(*this);
  co_return Result<void>{};
}

// The views that are wanted, and no others. One that was frozen just before the crash may have left
// no trace in the log yet: then everything recovered belongs to it.
void Disk::settle_views() {
  Epoch newest = identity_.reference;
  for (const Epoch view : identity_.views) newest = std::max(newest, view);
  while (map_->epoch() <= newest) map_->freeze();
  const std::vector<Epoch> views = map_->views();
  for (const Epoch view : views) {
    const auto& wanted = identity_.views;
    if (std::find(wanted.begin(), wanted.end(), view) != wanted.end()) continue;
    if (view == identity_.reference) {
      map_->make_reference(view);
    } else {
      map_->drop_view(view);
    }
  }
  const Epoch reference = map_->reference();
  if (reference.value != 0 && reference != identity_.reference) map_->drop_view(reference);
}

// Recovery made everything durable that it replays, or there are too few copies to write at all.
Task<Result<void>> Disk::checkpoint_in_replay(LogPosition position, WriteSeq next_write) {
  if (!map_->wants_checkpoint() || !environment_.replicas.can_write()) co_return Result<void>{};
  co_return co_await map_->checkpoint(position, next_write, nothing_to_do());
}

// Every index file may be lost (I8): the segments' footers say all that it said.
Task<Result<void>> Disk::rebuild_index_from(const RecoveredLog& recovered) {
  auto segments = co_await store_->list();
  if (!segments) co_return segments.error();
  const auto& unreachable = recovered.unreachable;
  std::erase_if(*segments, [&](SegmentSeq segment) {
    return std::find(unreachable.begin(), unreachable.end(), segment) != unreachable.end();
  });
  IndexBuild build;
  build.disk_blocks = block_count();
  build.checkpoint.position = recovered.tail;
  build.checkpoint.next_write = recovered.next_write;
  build.checkpoint.epoch = recovered.epoch;
  build.checkpoint.views = identity_.views;
  std::sort(build.checkpoint.views.begin(), build.checkpoint.views.end());
  for (const Epoch view : identity_.views) {
    build.checkpoint.epoch = std::max(build.checkpoint.epoch, view.next());
  }

  // Where a segment that was never sealed ends: at the first batch of the next one.
  std::map<SegmentSeq, LogPosition> cuts;
  for (std::size_t i = 0; i + 1 < segments->size(); ++i) {
    SegmentReader next(*store_, environment_.log_buffers, disk_tag(id()), (*segments)[i + 1]);
    auto header = co_await next.header();
    if (header) {
      cuts[(*segments)[i]] = header->start;
      continue;
    }
    // Its footer tells what it holds. One that was not sealed could end anywhere.
    auto sealed = co_await find_trailer(*store_, environment_.log_buffers, disk_tag(id()),
                                        (*segments)[i], std::nullopt);
    if (!sealed) co_return header.error();
    cuts[(*segments)[i]] = sealed->end;
  }
  const RunSource source = [&](Lba first, Lba last, const RunVisitor& visit) -> Task<Result<void>> {
    for (const SegmentSeq segment : *segments) {
      Footer contents = recovered.contents;
      if (segment != recovered.tail.segment) {
        SegmentCut cut;
        if (const auto it = cuts.find(segment); it != cuts.end()) cut = it->second;
        auto read =
            co_await read_contents(*store_, environment_.log_buffers, disk_tag(id()), segment, cut);
        if (!read) co_return read.error();
        contents = std::move(*read);
      }
      contents.for_each([&](const LogEntry& entry, std::span<const std::uint64_t> checksums) {
        if (!is_relocated(entry.kind)) {
          build.checkpoint.next_write = std::max(build.checkpoint.next_write, entry.write.next());
        }
        build.checkpoint.epoch = std::max(build.checkpoint.epoch, entry.epoch);
        // Who opens a former storage may know an earlier size of the disk.
        if (has_payload(entry.kind)) {
          build.disk_blocks = std::max(build.disk_blocks, entry.lba.value + entry.count);
        }
        if (entry.lba.value >= last.value || entry.lba.value + entry.count <= first.value) return;
        LoggedRun run;
        run.first = entry.lba;
        run.count = entry.count;
        run.write = entry.write;
        run.epoch = entry.epoch;
        run.checksums = checksums;
        if (has_payload(entry.kind)) {
          run.location = BlockLocation::stored(segment, entry.block);
        } else if (entry.kind == EntryKind::kZero || entry.kind == EntryKind::kRelocatedZero) {
          run.location = BlockLocation::zero();
        } else {
          run.location = BlockLocation::trimmed();
        }
        visit(run);
      });
    }
    co_return Result<void>{};
  };
  // Once over everything before the first window, for the highest epoch and sequence.
  const RunVisitor ignore = [](const LoggedRun&) {};
  if (auto seen = co_await source(Lba(0), Lba(0), ignore); !seen) co_return seen;
  auto map = co_await build_index(ring(), environment_.pages, identity_.index_directory,
                                  options_.map, build, source);
  if (!map) co_return map.error();
  map_ = std::move(*map);
  clouddisk::log(LogLevel::kInfo, "disk", "disk={} index rebuilt from {} segments", id(),
                 segments->size());
  co_return Result<void>{};
}

// In the order of the log: as batches are acknowledged, and again in replay.
void Disk::apply(const Batch& batch) {
  while (map_->epoch() < batch.epoch) map_->freeze();
  std::array<BlockEntry, kBatchPayloadBlocksMax> storage;
  for (const LogEntry& entry : batch.entries) {
    switch (entry.kind) {
      case EntryKind::kWrite: {
        const auto checksums = batch.checksums_of(entry);
        const auto entries = std::span(storage).first(entry.count);
        for (std::uint32_t i = 0; i < entry.count; ++i) {
          entries[i] = {BlockLocation::stored(batch.segment, entry.block + i), checksums[i]};
        }
        map_->put(entry.lba, entries);
        break;
      }
      case EntryKind::kZero:
        map_->put_range(entry.lba, entry.count, BlockLocation::zero());
        break;
      case EntryKind::kTrim:
        if (broken(Variant::kForgetTrimInReplay) && !log_) break;
        map_->put_range(entry.lba, entry.count, BlockLocation::trimmed());
        break;
      case EntryKind::kRelocatedWrite:
        if (broken(Variant::kRelocateOverNewer)) {
          const auto checksums = batch.checksums_of(entry);
          for (std::uint32_t i = 0; i < entry.count; ++i) {
            const BlockEntry moved{BlockLocation::stored(batch.segment, entry.block + i),
                                   checksums[i]};
            map_->put(Lba(entry.lba.value + i), std::span(&moved, 1));
          }
        }
        for (std::uint32_t i = 0; i < entry.count; ++i) {
          map_->relocate(Lba(entry.lba.value + i),
                         BlockLocation::stored(entry.from.segment(), entry.from.block() + i),
                         BlockLocation::stored(batch.segment, entry.block + i));
        }
        break;
      case EntryKind::kRelocatedZero:
      case EntryKind::kRelocatedTrim:
        break;  // The map knows; they are for rebuilding it.
    }
  }
}

Result<void> Disk::grow(std::uint64_t size_bytes) {
  if (size_bytes < size_bytes_) {
    return fail(Errc::kInvalid, "a disk never shrinks: {} is less than {}", size_bytes,
                size_bytes_);
  }
  size_bytes_ = size_bytes;
  return {};
}

// --- Maintenance ---

Task<Result<void>> Disk::checkpoint() {
  auto guard = co_await checkpointing_.lock();
  // Position, sequence and map belong together: no suspension between them and the map's cut.
  const std::uint64_t bytes = log_->acked_bytes();
  auto durable = broken(Variant::kCheckpointBeforeFlush) ? nothing_to_do() : log_->flush();
  auto result =
      co_await map_->checkpoint(log_->acked(), log_->acked_next_write(), std::move(durable));
  if (result) {
    checkpoint_at_bytes_ = bytes;
    note_segments();
  } else {
    clouddisk::log(LogLevel::kWarning, "disk", "disk={} checkpoint failed: {}", id(),
                   result.error().message);
  }
  co_return result;
}

void Disk::note_segments() {
  const std::vector<SegmentSeq> begun = log_->take_begun();
  segments_.insert(begun.begin(), begun.end());
}

void Disk::maintain_if_due() {
  if (maintaining_ || closed_ || ring().now() < retry_after_) return;
  const bool checkpoint_due =
      map_->wants_checkpoint() ||
      log_->acked_bytes() - checkpoint_at_bytes_ >= options_.checkpoint_bytes;
  if (!checkpoint_due && !(compactor_ && compactor_->due())) return;
  maintaining_ = true;
  background_.add();
  spawn(maintain());
}

Task<void> Disk::maintain() {
  checkpoint_result_ = co_await checkpoint();
  maintained_.wake_all();
  if (checkpoint_result_ && compactor_ && !closed_) {
    auto compacted = co_await compactor_->run();
    if (!compacted) checkpoint_result_ = compacted;
  }
  // After trouble (a full filesystem, replicas gone) not at once again.
  if (!checkpoint_result_) retry_after_ = ring().now() + kRetryAfter;
  maintaining_ = false;
  maintained_.wake_all();
  background_.done();
}

Task<Result<void>> Disk::close() {
  closed_ = true;
  maintained_.wake_all();
  co_await background_.wait();
  co_await log_->quiesce();
  Result<void> result = co_await checkpoint();
  if (!result && result.error().code == Errc::kNoSpace) {
    // The log has everything; replay is longer next time, and nothing is lost.
    result = co_await log_->flush();
  }
  co_await log_->close();
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if ((environment_.replicas.in_sync_mask() >> copy & 1U) != 0) co_await store_->settle(copy);
  }
  store_->close();
  co_return result;
}

Disk::Usage Disk::usage() const {
  Usage usage;
  usage.mapped_bytes = map_->last_checkpoint().mapped_blocks * kBlockSize;
  // The one being written is known to the set as of the next checkpoint.
  const SegmentSeq active = log_->active_segment();
  const bool one_more = active.value != 0 && segments_.count(active) == 0;
  usage.stored_bytes =
      (segments_.size() + (one_more ? 1 : 0)) * kSegmentSize + store_->spare_bytes();
  usage.index_bytes = map_->index_bytes();
  usage.checkpoints = map_->checkpoints();
  usage.log_batches = log_->batches();
  usage.reads = reader_.counters();
  if (compactor_) usage.compacted_bytes = compactor_->moved_bytes();
  return usage;
}

const ReadCounters& Disk::read_counters() const {
  return reader_.counters();
}

}  // namespace clouddisk
