// log_fixture.h: a simulated machine with three replica folders, and one life of a process after
// the other over them: replica set, store, recovery, log.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/log/disk_log.h"
#include "engine/log/local_segment_store.h"
#include "engine/log/log_recovery.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"

namespace clouddisk {

inline const std::string kLogDiskId = "d-log";
inline const DiskTag kLogDisk = disk_tag(kLogDiskId);

inline std::string replica_folder(unsigned copy) {
  return "/root/replica-" + std::to_string(copy + 1);
}
inline std::string segment_path(unsigned copy, std::uint64_t segment) {
  return fmt::format("{}/disks/{}/segment-{:016x}", replica_folder(copy), kLogDiskId, segment);
}

// What replays: only remembers.
class RememberedReplay final : public LogReplay {
 public:
  void apply(const Batch& batch) override { batches.push_back(batch); }
  Task<Result<void>> after_batch(LogPosition, WriteSeq) override { co_return Result<void>{}; }
  std::vector<Batch> batches;
};

// One life of a process. Its end is kill() (nothing is told) or the destructor (an orderly end).
class LogLife {
 public:
  explicit LogLife(SimMachine& machine, LocalSegmentStore::Options store_options = {},
                   std::optional<unsigned> trusted = std::nullopt)
      : ring(std::make_unique<SimRing>(machine)), parts_(std::make_unique<Parts>(*ring)) {
    ReplicaSet::Options options;
    for (unsigned i = 0; i < kReplicaCount; ++i) options.folders[i] = replica_folder(i);
    options.trusted_single = trusted;
    auto opened = ring->block_on(ReplicaSet::open(*ring, options));
    if (!opened) {
      error = opened.error();
      return;
    }
    parts_->replicas = std::move(*opened);
    parts_->store = std::make_shared<LocalSegmentStore>(*ring, *parts_->replicas, parts_->files,
                                                        kLogDiskId, store_options);
    auto made = ring->block_on(parts_->store->open());
    if (!made) error = made.error();
  }
  ~LogLife() {
    if (!ring) return;
    if (parts_->log) ring->block_on(parts_->log->close());
    parts_->log.reset();
    // Copies that hang may still be at it.
    ring->run_for(std::chrono::seconds(30));
    if (parts_->store) parts_->store->close();
  }
  void kill() {
    Graveyard::bury(std::move(parts_));
    ring.reset();
  }

  // Replays from `from` and starts the log.
  Result<RecoveredLog> recover(std::optional<LogPosition> from = std::nullopt) {
    const LogMemory memory{pool(), headers()};
    auto recovered = ring->block_on(recover_log(store(), memory, kLogDisk, from, parts_->replay));
    if (!recovered) return recovered;
    auto started = ring->block_on(DiskLog::start(store(), {pool(), headers()}, kLogDisk, *recovered,
                                                 recovered->next_write, recovered->epoch, {},
                                                 [](const Batch&) {}));
    if (!started) return started.error();
    parts_->log = std::move(*started);
    return recovered;
  }
  Result<void> write(std::uint64_t lba, unsigned value, std::uint32_t blocks = 1) {
    return ring->block_on(log().append_write(Lba(lba), filled_buffer(blocks, value)));
  }
  Result<void> flush() { return ring->block_on(log().flush()); }
  Buffer filled_buffer(std::uint32_t blocks, unsigned value) {
    Buffer buffer = pool().try_allocate(blocks * kBlockSize);
    CHECK(buffer);
    std::memset(buffer.data(), static_cast<int>(value), buffer.size());
    return buffer;
  }
  // Of the writes that recovery replayed, in order.
  std::vector<std::uint64_t> replayed_lbas() const {
    std::vector<std::uint64_t> lbas;
    for (const Batch& batch : parts_->replay.batches) {
      for (const LogEntry& entry : batch.entries) lbas.push_back(entry.lba.value);
    }
    return lbas;
  }

  ReplicaSet& replicas() { return *parts_->replicas; }
  LocalSegmentStore& store() { return *parts_->store; }
  DiskLog& log() { return *parts_->log; }
  BufferPool& pool() { return parts_->pool; }
  BufferPool& headers() { return parts_->headers; }
  FileCache& files() { return parts_->files; }

  std::unique_ptr<SimRing> ring;
  std::optional<Error> error;

 private:
  struct Parts {
    explicit Parts(Ring& ring) : files(ring, 64), pool(ring, 32_MiB), headers(ring, 2_MiB) {}
    FileCache files;
    BufferPool pool;
    BufferPool headers;
    std::unique_ptr<ReplicaSet> replicas;
    std::shared_ptr<LocalSegmentStore> store;
    RememberedReplay replay;
    std::unique_ptr<DiskLog> log;
  };
  std::unique_ptr<Parts> parts_;
};

// Changes bytes of a file behind everyone's back.
inline void overwrite(Ring& ring, const std::string& path, std::uint64_t offset,
                      std::span<const std::byte> bytes) {
  OpenOptions how;
  how.direct = false;
  auto file = ring.block_on(ring.open(path, how));
  ASSERT_OK(file);
  ASSERT_EQ(write_at(ring, *file, offset, bytes), static_cast<int>(bytes.size()));
  ASSERT_EQ(datasync(ring, *file), 0);
}
inline void damage_block(Ring& ring, const std::string& path, std::uint32_t block) {
  const std::vector<std::byte> rubbish(kBlockSize, std::byte{0x5a});
  overwrite(ring, path, block * kBlockSize, rubbish);
}
// The same of a machine on which nothing runs.
inline void overwrite(SimMachine& machine, const std::string& path, std::uint64_t offset,
                      std::span<const std::byte> bytes) {
  SimRing ring(machine);
  overwrite(ring, path, offset, bytes);
}
inline void damage_block(SimMachine& machine, const std::string& path, std::uint32_t block) {
  SimRing ring(machine);
  damage_block(ring, path, block);
}
// Cuts a file, as a power cut does with a length that nobody flushed.
inline void shorten(SimMachine& machine, const std::string& path, std::uint64_t bytes) {
  SimRing ring(machine);
  auto content = machine.content(path);
  ASSERT_TRUE(content && content->size() > bytes);
  ASSERT_OK(ring.block_on(ring.remove(path)));
  OpenOptions how;
  how.create = true;
  how.direct = false;
  auto file = ring.block_on(ring.open(path, how));
  ASSERT_OK(file);
  content->resize(bytes);
  ASSERT_EQ(write_at(ring, *file, 0, *content), static_cast<int>(bytes));
}
// Blocks of a file as they are on the medium of a machine without faults; fewer past its end.
inline std::vector<std::byte> blocks_of(Ring& ring, const std::string& path, std::uint32_t first,
                                        std::uint32_t count) {
  OpenOptions how;
  how.direct = false;
  const auto file = ring.block_on(ring.open(path, how));
  if (!file) return {};
  std::vector<std::byte> bytes(count * kBlockSize);
  const int got = read_at(ring, *file, first * kBlockSize, bytes);
  bytes.resize(static_cast<std::size_t>(std::max(got, 0)));
  return bytes;
}
inline std::vector<std::byte> block_of(Ring& ring, const std::string& path, std::uint32_t block) {
  return blocks_of(ring, path, block, 1);
}
// Whether two files hold the same, whole, in [first, last).
inline bool same_blocks(Ring& ring, const std::string& a, const std::string& b, std::uint32_t first,
                        std::uint32_t last) {
  const auto left = blocks_of(ring, a, first, last - first);
  return left.size() == (last - first) * kBlockSize &&
         left == blocks_of(ring, b, first, last - first);
}

}  // namespace clouddisk
