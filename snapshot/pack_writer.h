// pack_writer.h: puts frames behind the head of a pack: chunks of whole frames, each chunk one
// write that begins at a multiple of 4 KiB. What it wrote belongs to nothing until the index says
// so. Thread: one ring's.
#pragma once

#include "engine/disk/disk.h"
#include "snapshot/frame.h"

namespace clouddisk::snapshot {

class PackWriter {
 public:
  PackWriter(Disk& pack, BufferPool& buffers, PackAddress head)
      : pack_(pack), buffers_(buffers), head_(head) {}

  // Gives a frame its address, and writes it now or later.
  Task<Result<PackAddress>> place(std::span<std::byte> frame);
  // Writes what is left and makes everything durable.
  Task<Result<void>> finish();
  // After finish(): where the next chunk may begin.
  PackAddress head() const { return head_; }
  std::uint64_t stored_bytes() const { return stored_bytes_; }

 private:
  Task<Result<void>> write_chunk();

  Disk& pack_;
  BufferPool& buffers_;
  PackAddress head_;  // of the chunk
  std::vector<std::byte> chunk_;
  std::uint64_t stored_bytes_ = 0;
};

}  // namespace clouddisk::snapshot
