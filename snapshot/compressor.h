// compressor.h: makes frames out of blocks on a ring's workers. What comes out has no place in a
// pack yet; pack_writer.h gives it one.
//
// A job for a worker is a few frames, about a millisecond, and only so many jobs of a chain are
// with the workers at a time: look-ups of clients wait behind them.
// Thread: the ring's. What is to be compressed outlives the wait.
#pragma once

#include <span>
#include <vector>

#include "engine/ring/ring.h"
#include "engine/ring/sync.h"
#include "snapshot/frame.h"

namespace clouddisk::snapshot {

// Whole blocks, one after the other.
using BlockData = std::span<const std::byte>;

// Frames of one kind, one after the other.
struct PackedFrames {
  std::vector<std::byte> bytes;
  std::vector<std::size_t> sizes;
};

class Compressor {
 public:
  Compressor(Ring& ring, ChainTag tag, int level)
      : ring_(ring), tag_(tag), level_(level), turns_(ring, kJobsAtOnce) {}

  // Frames for each of `parts`, with 16 blocks to a frame, brought by snapshot `seq`.
  Task<std::vector<PackedFrames>> compress(std::uint64_t seq, std::vector<BlockData> parts);

 private:
  static constexpr std::size_t kJobBytes = 4 * kFrameRawMax;
  static constexpr std::uint64_t kJobsAtOnce = 3;

  // A part, or some frames of a large one.
  struct Piece {
    std::size_t part;
    BlockData data;
    PackedFrames packed{};
  };
  Task<void> work(std::uint64_t seq, std::span<Piece> job, WaitGroup& group);

  Ring& ring_;
  ChainTag tag_;
  int level_;
  Semaphore turns_;
};

}  // namespace clouddisk::snapshot
