// faulty_device.h: a BlockDevice that does to requests what faults of the client's level say, and
// otherwise is the one below. Sits below the limits, whose counters thus show what a client sees.
//
// Thread: the device's ring. Ownership: borrows the device below, which outlives this one.
// Cost: without a fault one test and one call a request.
// Not met by faults: extents and prefetch, which move no data.
#pragma once

#include <vector>

#include "engine/disk/block_device.h"
#include "engine/fault/fault_plan.h"

namespace clouddisk {

class FaultyDevice final : public BlockDevice {
 public:
  explicit FaultyDevice(BlockDevice& below) : below_(below), plan_(below.ring()) {}

  // Clear it before closing: requests that hang on it go on then.
  FaultPlan& plan() { return plan_; }

  Ring& ring() override { return below_.ring(); }
  BufferPool& buffers() override { return below_.buffers(); }
  std::uint64_t size_bytes() const override { return below_.size_bytes(); }
  bool read_only() const override { return below_.read_only(); }

  Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) override {
    if (plan_.armed()) return faulty_read(offset, length);
    return below_.read(offset, length);
  }
  Task<Result<void>> write(std::uint64_t offset, Buffer data, bool fua) override {
    if (plan_.armed()) return faulty_write(offset, std::move(data), fua);
    return below_.write(offset, std::move(data), fua);
  }
  std::optional<Task<Result<void>>> write_now(std::uint64_t offset, std::span<const std::byte> data,
                                              bool fua) override {
    if (plan_.armed()) return std::nullopt;
    return below_.write_now(offset, data, fua);
  }
  Task<Result<void>> flush() override {
    if (plan_.armed()) return faulty_flush();
    return below_.flush();
  }
  Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool fua) override {
    if (plan_.armed()) return faulty_trim(offset, length, fua);
    return below_.trim(offset, length, fua);
  }
  Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                  ZeroOptions options) override {
    if (plan_.armed()) return faulty_zeroes(offset, length, options);
    return below_.write_zeroes(offset, length, options);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                            std::uint32_t extents_max) override {
    return below_.extents(offset, length, extents_max);
  }
  Task<Result<void>> prefetch(std::uint64_t offset, std::uint64_t length) override {
    return below_.prefetch(offset, length);
  }

 private:
  Task<Result<Buffer>> faulty_read(std::uint64_t offset, std::uint32_t length);
  Task<Result<void>> faulty_write(std::uint64_t offset, Buffer data, bool fua);
  Task<Result<void>> faulty_flush();
  Task<Result<void>> faulty_trim(std::uint64_t offset, std::uint64_t length, bool fua);
  Task<Result<void>> faulty_zeroes(std::uint64_t offset, std::uint64_t length, ZeroOptions options);

  BlockDevice& below_;
  FaultPlan plan_;
};

}  // namespace clouddisk
