// snapshot_device.h: a snapshot as a read-only BlockDevice: what an NBD export shows.
// Thread: the ring of its chain.
#pragma once

#include <memory>

#include "engine/disk/block_device.h"
#include "snapshot/snapshot_source.h"

namespace clouddisk::snapshot {

class SnapshotDevice final : public BlockDevice {
 public:
  // `buffers`: of the source's ring, for what is read.
  SnapshotDevice(std::shared_ptr<SnapshotSource> source, BufferPool& buffers)
      : source_(std::move(source)), buffers_(buffers) {}

  Ring& ring() override { return source_->home(); }
  BufferPool& buffers() override { return buffers_; }
  std::uint64_t size_bytes() const override { return source_->size_bytes(); }
  bool read_only() const override { return true; }

  Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) override;
  Task<Result<void>> write(std::uint64_t offset, Buffer data, bool fua) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool fua) override;
  Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                  ZeroOptions options) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                            std::uint32_t extents_max) override;
  Task<Result<void>> prefetch(std::uint64_t offset, std::uint64_t length) override;

 private:
  std::shared_ptr<SnapshotSource> source_;
  BufferPool& buffers_;
};

}  // namespace clouddisk::snapshot
