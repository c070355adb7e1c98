// limited_device.h: a BlockDevice that gives another one's service within limits, and counts it.
//
// Thread: the device's ring. Ownership: borrows the device below, which outlives this one. Nothing
//   is under way when it is destroyed.
// Costs: read and write: one operation and their bytes. Trim and write-zeroes: one operation.
//   Flush, extents and prefetch: free. Counted times are what the client sees, waiting included.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/disk/block_device.h"
#include "engine/qos/throttle.h"

namespace clouddisk {

// Sums since the device was made.
struct DeviceCounters {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t trims = 0;  // write-zeroes too
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t errors = 0;
  std::uint64_t read_nanoseconds = 0;
  std::uint64_t write_nanoseconds = 0;
  std::uint64_t flush_nanoseconds = 0;
  std::uint64_t throttled_nanoseconds = 0;
  std::uint64_t emulated_nanoseconds = 0;  // that requests were held back for the nominal latency
};

class LimitedDevice final : public BlockDevice {
 public:
  LimitedDevice(BlockDevice& below, DiskLimits limits);

  Ring& ring() override { return below_.ring(); }
  BufferPool& buffers() override { return below_.buffers(); }
  std::uint64_t size_bytes() const override { return below_.size_bytes(); }
  bool read_only() const override { return below_.read_only(); }

  Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) override;
  Task<Result<void>> write(std::uint64_t offset, Buffer data, bool fua) override;
  std::optional<Task<Result<void>>> write_now(std::uint64_t offset, std::span<const std::byte> data,
                                              bool fua) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool fua) override;
  Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                  ZeroOptions options) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                            std::uint32_t extents_max) override;
  Task<Result<void>> prefetch(std::uint64_t offset, std::uint64_t length) override;

  const DiskLimits& limits() const { return gate_.limits(); }
  // At once, for requests that wait as well. DiskLimits{} lets everyone go: do that before closing.
  void set_limits(DiskLimits limits) { gate_.set_limits(limits); }
  // Limits that the disk shares with others, above its own; null: none. Anew when they were
  // changed.
  void share(std::shared_ptr<SharedThrottle> shared) { gate_.share(std::move(shared)); }
  // Reads and writes take at least this long from when they were let go; zero, the default: as
  // long as they take.
  void set_nominal_latency(Duration latency) { nominal_latency_ = latency; }

  const DeviceCounters& counters() const { return counters_; }
  // Of the limits' time, lost because the process did not run: Throttle::stalled().
  Duration stalled() const { return gate_.stalled(); }
  // How long the oldest request that was let go has been under way below; zero: none is.
  Duration oldest_request(TimePoint now) const {
    return first_ == nullptr ? Duration::zero() : now - first_->since;
  }

 private:
  // A request while the device below has it, in a list in the order in which they came to it.
  class UnderWay {
   public:
    UnderWay(LimitedDevice& device, TimePoint admitted);
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;
    ~UnderWay() { end(); }
    void end();

    const TimePoint since;

   private:
    LimitedDevice* device_;  // null: it has ended
    UnderWay* next_ = nullptr;
    UnderWay* previous_;
  };

  Task<Result<void>> finish_write(TimePoint arrived, std::uint64_t length,
                                  Task<Result<void>> begun);
  void count_write(TimePoint arrived, const Result<void>& result, std::uint64_t length);
  Task<TimePoint> enter(IoCost cost);
  Task<void> emulate_latency(TimePoint admitted);

  BlockDevice& below_;
  ThrottleGate gate_;
  Duration nominal_latency_{0};
  DeviceCounters counters_;
  UnderWay* first_ = nullptr;
  UnderWay* last_ = nullptr;
};

}  // namespace clouddisk
