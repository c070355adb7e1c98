// block_device.h: a virtual disk as a protocol server sees it. A live disk, a throttled one and a
// read-only snapshot export all look like this, and nbd/ knows nothing else of the engine.
//
// Thread: the device belongs to ring(); every call is made on that ring's thread.
// Units: bytes, any alignment. [offset, offset + length) lies inside size_bytes(), which the caller
//   checks first (a request past the end is the client's error, not the device's).
// Errors: values. kIo: no good copy is left (I4). kReplicasLost: too few replicas to write (I6).
//   kNoSpace: nothing was written and the same write may succeed later (I9). kReadOnly, kShutdown.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/ring/buffer_pool.h"
#include "engine/ring/ring.h"

namespace clouddisk {

enum class ExtentState : std::uint8_t {
  kData,
  kZero,  // reads as zeros and counts as allocated: a write-zeroes that forbade a hole
  kHole,  // reads as zeros, never written or trimmed
};

struct Extent {
  std::uint64_t length = 0;  // bytes
  ExtentState state = ExtentState::kHole;
};

struct ZeroOptions {
  bool fua = false;
  bool no_hole = false;  // NBD_CMD_FLAG_NO_HOLE
};

class BlockDevice {
 public:
  // The largest read() or write(); callers split what is larger.
  static constexpr std::uint32_t kTransferMax = 1_MiB;

  virtual ~BlockDevice() = default;

  virtual Ring& ring() = 0;
  // Where write payloads for this device are best received: memory it can write without a copy.
  virtual BufferPool& buffers() = 0;
  virtual std::uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;

  // 0 < length <= kTransferMax. The buffer holds exactly `length` bytes.
  virtual Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) = 0;
  // Returns when the write is on every in-sync replica (I1), with `fua` when it is durable too
  // (I2). Writes of up to 64 KiB are atomic (I3). 0 < data.size() <= kTransferMax; the memory must
  // not change until the call returns.
  virtual Task<Result<void>> write(std::uint64_t offset, Buffer data, bool fua) = 0;
  // The same for a payload that nobody keeps: it is used before the call returns, and the task, to
  // be awaited at once, waits for the rest. Nothing: it can't be begun without waiting, and nothing
  // happened; write() can.
  virtual std::optional<Task<Result<void>>> write_now(std::uint64_t /*offset*/,
                                                      std::span<const std::byte> /*data*/,
                                                      bool /*fua*/) {
    return std::nullopt;
  }
  // Everything acknowledged before the call, on any connection, is durable when it returns.
  virtual Task<Result<void>> flush() = 0;
  // Any length. The range reads as zeros afterwards.
  virtual Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool fua) = 0;
  virtual Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                          ZeroOptions options) = 0;
  // States from `offset` on, front to back, neighbours merged; covers at least one byte and at most
  // `length`, and stops after `extents_max`. Sees writes that are acknowledged but not flushed.
  virtual Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                                    std::uint32_t extents_max) = 0;
  // Brings the range nearer (a borrowed block is hydrated); no effect on content.
  virtual Task<Result<void>> prefetch(std::uint64_t offset, std::uint64_t length) = 0;
};

}  // namespace clouddisk
