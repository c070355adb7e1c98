// snapshot_source.h: the content of one snapshot, wherever it is: in the frozen view of its disk
// until the capture is done, in the chain from then on. What reads it does not notice the change.
//
// Thread: read() and present() hop to the ring of disk and chain, and back to the caller's;
//   next_page() is for workers. what sets its state runs on the ring of disk and chain.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "engine/disk/block_source.h"
#include "snapshot/chain.h"

namespace clouddisk::snapshot {

class SnapshotSource final : public BlockSource {
 public:
  SnapshotSource(std::shared_ptr<Chain> chain, std::uint64_t seq, std::uint64_t size_bytes)
      : chain_(std::move(chain)), seq_(seq), size_bytes_(size_bytes) {}

  // Not captured yet: read from the disk.
  void set_view(std::shared_ptr<Disk> disk, Epoch view);
  // After a checkpoint of the disk: lets go of what it kept in memory.
  void refresh_pages();
  // From here on the chain has everything; the disk's view may be let go.
  void set_captured();
  // The snapshot is deleted: whoever still reads gets kNotFound, and never what was before it.
  void set_gone();
  Result<void> exists() const;  // kNotFound from then on
  bool captured() const { return captured_.load(std::memory_order_acquire); }

  Ring& home() { return chain_->ring(); }
  Chain& chain() { return *chain_; }
  std::uint64_t seq() const { return seq_; }

  std::uint64_t size_bytes() const override { return size_bytes_; }
  Task<Result<void>> read(Ring& caller, Lba first, std::span<std::byte> into) override;
  Task<Result<PagePresence>> present(Ring& caller, std::uint64_t page) override;
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page) override;

 private:
  Task<Result<void>> read_at_home(Lba first, std::span<std::byte> into);
  Task<Result<PagePresence>> present_at_home(std::uint64_t page);

  std::shared_ptr<Chain> chain_;
  std::uint64_t seq_;
  std::uint64_t size_bytes_;
  std::shared_ptr<Disk> disk_;  // until it is captured
  Epoch view_;
  std::mutex pages_mutex_;   // workers ask while it changes
  NextBasePage view_pages_;  // until it is captured
  std::atomic<bool> captured_{true};
  std::atomic<bool> gone_{false};
};

}  // namespace clouddisk::snapshot
