// memory_device.h: a disk in memory: what a server's tests and the null server of the benchmarks
// serve. Remembers which 512-byte sectors are data, zeroed or holes, counts flushes, and fails or
// stalls on request.
// Thread: its ring's, but for size_bytes() and the knobs, which are atomic.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>

#include "engine/disk/block_device.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class MemoryDevice final : public BlockDevice {
 public:
  static constexpr std::uint64_t kSector = 512;

  struct Options {
    std::uint64_t size_bytes = 1_MiB;
    bool read_only = false;
    std::size_t pool_bytes = 64_MiB;
  };
  MemoryDevice(Ring& ring, Options options)
      : ring_(ring),
        pool_(ring, options.pool_bytes),
        size_(options.size_bytes),
        read_only_(options.read_only),
        data_(options.size_bytes),
        states_((options.size_bytes + kSector - 1) / kSector, ExtentState::kHole),
        gate_(ring) {}

  // --- Knobs: any thread ---
  void fail_with(std::optional<Errc> code) { failure_ = code ? static_cast<int>(*code) : -1; }
  // Requests wait until it is opened again. Opening is the ring's.
  void close_gate() { gate_closed_ = true; }
  void open_gate() {
    gate_closed_ = false;
    gate_.wake_all();
  }
  void set_size(std::uint64_t size_bytes) { size_ = size_bytes; }  // at most the initial one
  // Reads from there on fail.
  void fail_reads_from(std::uint64_t offset) { bad_from_ = offset; }

  std::uint64_t reads() const { return reads_; }
  std::uint64_t flushes() const { return flushes_; }
  std::uint64_t fua_writes() const { return fua_writes_; }
  std::uint64_t prefetches() const { return prefetches_; }
  std::uint64_t no_hole_zeroes() const { return no_hole_zeroes_; }
  std::uint64_t under_way() const { return under_way_; }
  std::uint64_t most_under_way() const { return most_under_way_; }
  // Offsets of writes in the order in which they began.
  const std::vector<std::uint64_t>& write_order() const { return write_order_; }
  void keep_write_order(bool keep) { keep_order_ = keep; }
  const std::vector<std::byte>& content() const { return data_; }

  // --- BlockDevice ---
  Ring& ring() override { return ring_; }
  BufferPool& buffers() override { return pool_; }
  std::uint64_t size_bytes() const override { return size_; }
  bool read_only() const override { return read_only_; }

  Task<Result<Buffer>> read(std::uint64_t offset, std::uint32_t length) override {
    const Busy busy(*this);
    check_range(offset, length);
    CHECK(length <= kTransferMax);
    ++reads_;
    if (auto failed = co_await wait(); !failed) co_return failed.error();
    if (offset + length > bad_from_) co_return fail(Errc::kCorrupt, "bad on purpose");
    Buffer buffer = co_await pool_.allocate(length);
    std::memcpy(buffer.data(), data_.data() + offset, length);
    co_return buffer;
  }

  Task<Result<void>> write(std::uint64_t offset, Buffer data, bool fua) override {
    const Busy busy(*this);
    check_range(offset, data.size());
    CHECK(data.size() <= kTransferMax);
    if (keep_order_) write_order_.push_back(offset);
    if (fua) ++fua_writes_;
    if (auto failed = co_await wait(); !failed) co_return failed;
    std::memcpy(data_.data() + offset, data.data(), data.size());
    mark(offset, data.size(), ExtentState::kData);
    co_return Result<void>{};
  }

  // About half of them are taken at once; the rest is write()'s.
  std::optional<Task<Result<void>>> write_now(std::uint64_t offset, std::span<const std::byte> data,
                                              bool fua) override {
    if (!taken_at_once(offset) || gate_closed_) return std::nullopt;
    check_range(offset, data.size());
    if (keep_order_) write_order_.push_back(offset);
    if (fua) ++fua_writes_;
    if (failure_ < 0) {
      std::memcpy(data_.data() + offset, data.data(), data.size());
      mark(offset, data.size(), ExtentState::kData);
    }
    return wait();
  }

  Task<Result<void>> flush() override {
    const Busy busy(*this);
    ++flushes_;
    co_return co_await wait();
  }

  Task<Result<void>> trim(std::uint64_t offset, std::uint64_t length, bool fua) override {
    const Busy busy(*this);
    check_range(offset, length);
    if (fua) ++fua_writes_;
    if (auto failed = co_await wait(); !failed) co_return failed;
    std::memset(data_.data() + offset, 0, length);
    mark(offset, length, ExtentState::kHole);
    co_return Result<void>{};
  }

  Task<Result<void>> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                  ZeroOptions options) override {
    const Busy busy(*this);
    check_range(offset, length);
    if (options.fua) ++fua_writes_;
    if (options.no_hole) ++no_hole_zeroes_;
    if (auto failed = co_await wait(); !failed) co_return failed;
    std::memset(data_.data() + offset, 0, length);
    mark(offset, length, options.no_hole ? ExtentState::kZero : ExtentState::kHole);
    co_return Result<void>{};
  }

  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                            std::uint32_t extents_max) override {
    const Busy busy(*this);
    check_range(offset, length);
    if (auto failed = co_await wait(); !failed) co_return failed.error();
    std::vector<Extent> found;
    for (std::uint64_t at = offset; at < offset + length;) {
      const std::uint64_t end = std::min(align_down(at, kSector) + kSector, offset + length);
      const ExtentState state = states_[at / kSector];
      if (!found.empty() && found.back().state == state) {
        found.back().length += end - at;
      } else if (found.size() < extents_max) {
        found.push_back({end - at, state});
      } else {
        break;
      }
      at = end;
    }
    co_return found;
  }

  Task<Result<void>> prefetch(std::uint64_t offset, std::uint64_t length) override {
    const Busy busy(*this);
    check_range(offset, length);
    ++prefetches_;
    co_return co_await wait();
  }

 private:
  struct Busy {
    explicit Busy(MemoryDevice& d) : device(d) {
      ++device.under_way_;
      device.most_under_way_ = std::max(device.most_under_way_.load(), device.under_way_.load());
    }
    ~Busy() { --device.under_way_; }
    MemoryDevice& device;
  };

  static bool taken_at_once(std::uint64_t offset) {
    const std::uint64_t sector = offset / kSector;
    return (sector ^ sector >> 3) % 2 == 0;
  }
  // What any caller must have checked.
  void check_range(std::uint64_t offset, std::uint64_t length) const {
    CHECK(length > 0);
    CHECK(offset <= size_);
    CHECK(length <= size_ - offset);
  }
  Task<Result<void>> wait() {
    while (gate_closed_) co_await gate_.wait();
    if (failure_ >= 0) co_return fail(static_cast<Errc>(failure_.load()), "on purpose");
    co_return Result<void>{};
  }
  void mark(std::uint64_t offset, std::uint64_t length, ExtentState state) {
    const auto first = states_.begin() + static_cast<std::ptrdiff_t>(offset / kSector);
    const auto last =
        states_.begin() + static_cast<std::ptrdiff_t>((offset + length + kSector - 1) / kSector);
    std::fill(first, last, state);
  }

  Ring& ring_;
  BufferPool pool_;
  std::atomic<std::uint64_t> size_;
  const bool read_only_;
  std::vector<std::byte> data_;
  std::vector<ExtentState> states_;
  Signal gate_;
  std::atomic<bool> gate_closed_{false};
  std::atomic<int> failure_{-1};
  std::atomic<std::uint64_t> bad_from_{~std::uint64_t{0}};
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> flushes_{0};
  std::atomic<std::uint64_t> fua_writes_{0};
  std::atomic<std::uint64_t> prefetches_{0};
  std::atomic<std::uint64_t> no_hole_zeroes_{0};
  std::atomic<std::uint64_t> under_way_{0};
  std::atomic<std::uint64_t> most_under_way_{0};
  std::atomic<bool> keep_order_{false};
  std::vector<std::uint64_t> write_order_;
};

}  // namespace clouddisk
