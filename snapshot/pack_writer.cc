#include "snapshot/pack_writer.h"

#include <cstring>

namespace clouddisk::snapshot {

Task<Result<void>> PackWriter::write_chunk() {
  if (chunk_.empty()) co_return Result<void>{};
  Buffer data = co_await buffers_.allocate(align_up(chunk_.size(), kBlockSize));
  std::memcpy(data.data(), chunk_.data(), chunk_.size());
  std::memset(data.data() + chunk_.size(), 0, data.size() - chunk_.size());
  const std::uint64_t size = data.size();
  auto written = co_await pack_.write(head_, std::move(data), false);
  if (!written) co_return written;
  head_ += size;
  chunk_.clear();
  co_return written;
}

Task<Result<PackAddress>> PackWriter::place(std::span<std::byte> frame) {
  if (chunk_.size() + frame.size() > BlockDevice::kTransferMax) {
    if (auto written = co_await write_chunk(); !written) co_return written.error();
  }
  const PackAddress address = head_ + chunk_.size();
  place_frame(frame, address);
  chunk_.insert(chunk_.end(), frame.begin(), frame.end());
  stored_bytes_ += frame.size();
  co_return address;
}

Task<Result<void>> PackWriter::finish() {
  if (auto written = co_await write_chunk(); !written) co_return written;
  co_return co_await pack_.flush();
}

}  // namespace clouddisk::snapshot
