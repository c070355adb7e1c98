// held_store.h: a segment store in memory whose appends and flushes end when, and as, the test
// says.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/log/segment_store.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class HeldStore final : public SegmentStore {
 public:
  // One call that is held, until finish().
  struct Call {
    SegmentSeq segment;
    std::uint32_t block = 0;
    std::uint64_t size_bytes = 0;
    bool finished = false;
    Result<void> result;
  };

  explicit HeldStore(Ring& ring) : ring_(ring), changed_(ring) {}

  // --- What the test decides ---
  bool hold_appends = false;
  bool hold_flushes = false;
  bool full = false;  // nothing can be made or enlarged
  bool lost = false;  // flushes fail at once
  std::deque<Call> appends;
  std::deque<Call> flushes;
  std::vector<SegmentSeq> removed;
  void finish(Call& call, Result<void> result = {}) {
    call.finished = true;
    call.result = std::move(result);
    changed_.wake_all();
  }
  void finish_all() {
    for (auto* calls : {&appends, &flushes}) {
      for (Call& call : *calls) {
        if (!call.finished) finish(call);
      }
    }
  }
  // Block `block` of a segment; zeros where nothing was written.
  std::vector<std::byte> bytes(SegmentSeq segment, std::uint32_t block, std::uint32_t count) const {
    std::vector<std::byte> all(count * kBlockSize);
    const auto found = content_.find(segment);
    if (found == content_.end()) return all;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto it = found->second.find(block + i);
      if (it != found->second.end()) {
        std::memcpy(all.data() + i * kBlockSize, it->second.data(), kBlockSize);
      }
    }
    return all;
  }
  bool has(SegmentSeq segment) const { return content_.count(segment) != 0; }

  // --- SegmentStore ---
  Ring& ring() override { return ring_; }
  Task<Result<std::vector<SegmentSeq>>> list() override {
    std::vector<SegmentSeq> all;
    for (const auto& [segment, blocks] : content_) all.push_back(segment);
    co_return all;
  }
  Task<Result<void>> create(SegmentSeq segment, Buffer header) override {
    if (full) co_return fail(Errc::kNoSpace, "full on purpose");
    put(segment, 0, header.span());
    co_return Result<void>{};
  }
  bool has_space(SegmentSeq segment, std::uint32_t end_block) const override {
    const auto it = space_.find(segment);
    return it != space_.end() && end_block <= it->second;
  }
  Task<Result<void>> ensure_space(SegmentSeq segment, std::uint32_t end_block) override {
    if (full) co_return fail(Errc::kNoSpace, "full on purpose");
    space_[segment] = end_block;
    co_return Result<void>{};
  }
  Task<void> adopt(SegmentSeq) override { co_return; }
  Task<Result<void>> append(SegmentSeq segment, std::uint32_t block,
                            std::shared_ptr<const AppendData> data) override {
    appends.push_back({segment, block, data->size(), !hold_appends, {}});
    Call& call = appends.back();  // A deque's elements stay where they are.
    while (!call.finished) co_await changed_.wait();
    if (!call.result) co_return call.result;
    for (const iovec& piece : data->pieces) {
      put(segment, block, {static_cast<const std::byte*>(piece.iov_base), piece.iov_len});
      block += static_cast<std::uint32_t>(piece.iov_len / kBlockSize);
    }
    co_return call.result;
  }
  Task<Result<void>> flush() override {
    if (lost) co_return fail(Errc::kReplicasLost, "lost on purpose");
    flushes.push_back({SegmentSeq(0), 0, 0, !hold_flushes, {}});
    Call& call = flushes.back();
    while (!call.finished) co_await changed_.wait();
    co_return call.result;
  }
  ReplicaMask readable() const override { return 1; }
  Task<Result<void>> read(unsigned, SegmentSeq segment, std::uint32_t block, Buffer into,
                          std::uint32_t* blocks_there) override {
    const auto count = static_cast<std::uint32_t>(into.size() / kBlockSize);
    const auto all = bytes(segment, block, count);
    std::memcpy(into.data(), all.data(), all.size());
    if (blocks_there != nullptr) *blocks_there = count;
    co_return Result<void>{};
  }
  Task<Result<void>> repair(unsigned, SegmentSeq, std::uint32_t, Buffer) override {
    co_return Result<void>{};
  }
  Task<Result<void>> restore(unsigned, SegmentSeq, Buffer) override { co_return Result<void>{}; }
  Task<Result<void>> remove(SegmentSeq segment) override {
    removed.push_back(segment);
    content_.erase(segment);
    co_return Result<void>{};
  }
  void keep_spares(std::size_t) override {}
  Task<Result<void>> release_spares() override { co_return Result<void>{}; }
  std::uint64_t spare_bytes() const override { return 0; }

 private:
  void put(SegmentSeq segment, std::uint32_t block, std::span<const std::byte> data) {
    for (std::size_t at = 0; at < data.size(); at += kBlockSize) {
      const auto one = data.subspan(at, kBlockSize);
      content_[segment][block++] = std::vector<std::byte>(one.begin(), one.end());
    }
  }

  Ring& ring_;
  Signal changed_;
  std::map<SegmentSeq, std::map<std::uint32_t, std::vector<std::byte>>> content_;
  std::map<SegmentSeq, std::uint32_t> space_;
};

}  // namespace clouddisk
