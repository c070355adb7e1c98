// far_source.h: an emulated object store: what a disk borrows comes with extra latency, and no
// faster than a bandwidth that all fetches of the disk share. Both can be changed while the disk is
// used.
//
// Thread: the disk's ring. Who waits holds nothing (block_source.h).
#pragma once

#include <memory>

#include "engine/control/disk_host.h"
#include "engine/disk/block_source.h"
#include "engine/ring/sync.h"

namespace clouddisk {

// The store as one disk sees it.
class StoreEmulation {
 public:
  explicit StoreEmulation(Ring& ring) : changed_(ring), ring_(ring) {}

  // At once; fetches under way are let go.
  void set(StoreSettings settings);
  bool slows() const { return settings_ != StoreSettings{}; }
  // Transfers go one after the other, in the order of the calls; latencies overlap.
  Task<void> travel(std::uint64_t bytes);

 private:
  Signal changed_;
  Ring& ring_;
  StoreSettings settings_;
  std::uint64_t changes_ = 0;
  TimePoint free_at_{};  // when the last transfer that was booked ends
};

class FarSource final : public BlockSource {
 public:
  FarSource(std::shared_ptr<BlockSource> source, std::shared_ptr<StoreEmulation> store)
      : source_(std::move(source)), store_(std::move(store)) {}

  bool far_away() const override { return store_->slows(); }
  Task<void> travel(std::uint64_t bytes) override { return store_->travel(bytes); }
  std::uint64_t size_bytes() const override { return source_->size_bytes(); }
  Task<Result<void>> read(Ring& caller, Lba first, std::span<std::byte> into) override {
    return source_->read(caller, first, into);
  }
  Task<Result<PagePresence>> present(Ring& caller, std::uint64_t page) override {
    return source_->present(caller, page);
  }
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page) override {
    return source_->next_page(page);
  }

 private:
  std::shared_ptr<BlockSource> source_;
  std::shared_ptr<StoreEmulation> store_;
};

}  // namespace clouddisk
