// scrub_status.h: how far scrub is and what it found, as the API, metrics and the state file have
// it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/log/replica_set.h"

namespace clouddisk {

struct ScrubCounts {
  std::uint64_t checked_bytes = 0;  // read from media
  std::uint64_t bad_blocks = 0;     // blocks of 4 KiB, or superblocks
  std::uint64_t mended_blocks = 0;
  ScrubCounts& operator+=(const ScrubCounts& other) {
    checked_bytes += other.checked_bytes;
    bad_blocks += other.bad_blocks;
    mended_blocks += other.mended_blocks;
    return *this;
  }
};

// Content that no replica in sync has intact.
struct ScrubLoss {
  std::string storage;  // of a disk (d-…), or the pack of a chain (sl-…)
  std::uint64_t segment = 0;
  std::uint64_t lba = 0;  // blocks of 4 KiB
  std::uint64_t blocks = 0;
};

// One pass over everything.
struct ScrubPass {
  std::int64_t begun_ns = 0;  // since 1970
  std::int64_t ended_ns = 0;  // 0: not yet
  std::array<ScrubCounts, kReplicaCount> replicas;
  std::uint64_t index_bytes = 0;
  std::uint64_t indexes_damaged = 0;  // each is made anew from the log
  std::uint64_t unread_storages = 0;  // that could not be read to their end
  std::uint64_t lost_blocks = 0;
  std::vector<ScrubLoss> losses;  // at most kScrubLossesMax runs
};
inline constexpr std::size_t kScrubLossesMax = 1000;

struct ScrubStatus {
  enum class State { kIdle, kRunning, kStopped };
  State state = State::kIdle;
  ScrubPass current;                             // running or stopped
  std::optional<ScrubPass> last;                 // the last one that has ended
  std::int64_t complete_ns = 0;                  // when the last one that left nothing out did
  std::array<ScrubCounts, kReplicaCount> total;  // of all passes
  std::uint64_t total_lost_blocks = 0;
  std::uint64_t done_bytes = 0;  // of the segments of one replica, in whole segments
  std::uint64_t total_bytes = 0;
  std::uint64_t bytes_per_second = 0;  // at most; 0: no limit
  std::int64_t next_ns = 0;            // when the next pass begins by itself; 0: never
};
constexpr std::string_view name(ScrubStatus::State state) {
  switch (state) {
    case ScrubStatus::State::kRunning:
      return "running";
    case ScrubStatus::State::kStopped:
      return "stopped";
    case ScrubStatus::State::kIdle:
      break;
  }
  return "idle";
}

}  // namespace clouddisk
