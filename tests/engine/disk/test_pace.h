// test_pace.h: background work at full speed or at a rate, counted, and stopped where wanted.
#pragma once

#include <functional>
#include <optional>

#include "engine/disk/copy_check.h"

namespace clouddisk {

class TestPace final : public WorkPace {
 public:
  explicit TestPace(Ring& ring) : ring_(ring) {}

  void set_rate(std::uint64_t bytes_per_second) { rate_ = bytes_per_second; }
  void stop_after(std::optional<std::uint64_t> bytes) {
    stop_at_ = bytes ? std::optional(bytes_ + *bytes) : std::nullopt;
  }
  // Called after each piece: something happens in the middle.
  void meanwhile(std::function<void()> what) { meanwhile_ = std::move(what); }
  std::uint64_t bytes() const { return bytes_; }

  Task<void> spent(std::uint64_t bytes) override {
    bytes_ += bytes;
    if (meanwhile_) meanwhile_();
    if (rate_ == 0) co_return;
    co_await ring_.sleep_for(std::chrono::nanoseconds(bytes * 1'000'000'000 / rate_));
  }
  bool stopped() const override { return stop_at_ && bytes_ >= *stop_at_; }

 private:
  Ring& ring_;
  std::uint64_t bytes_ = 0;
  std::uint64_t rate_ = 0;
  std::optional<std::uint64_t> stop_at_;
  std::function<void()> meanwhile_;
};

}  // namespace clouddisk
