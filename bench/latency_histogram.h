// latency_histogram.h: durations in buckets that are 1/64 of their value wide at the most, so that
// millions of requests take no memory and percentiles are exact to 1.6 %. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace clouddisk::bench {

class LatencyHistogram {
 public:
  void add(std::uint64_t nanoseconds) {
    ++buckets_[bucket(nanoseconds)];
    ++count_;
    sum_ns_ += nanoseconds;
    max_ns_ = std::max(max_ns_, nanoseconds);
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t max_ns() const { return max_ns_; }
  double mean_ns() const {
    return count_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(count_);
  }
  // The value that `fraction` of all are at or below, up to a bucket's width; 0 without any.
  std::uint64_t percentile_ns(double fraction) const {
    const auto wanted = static_cast<std::uint64_t>(fraction * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t index = 0; index < kBuckets; ++index) {
      seen += buckets_[index];
      if (seen > 0 && seen >= wanted) return std::min(upper_edge(index), max_ns_);
    }
    return max_ns_;
  }

 private:
  static constexpr unsigned kBits = 6;
  static constexpr std::size_t kSteps = std::size_t{1} << kBits;
  // Values below 2 * kSteps have a bucket each; above, kSteps for each power of two.
  static constexpr std::size_t kBuckets = (64 - kBits + 1) * kSteps;

  static std::size_t bucket(std::uint64_t value) {
    if (value < 2 * kSteps) return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - kBits - 1;
    return shift * kSteps + static_cast<std::size_t>(value >> shift);
  }
  static std::uint64_t upper_edge(std::size_t index) {
    if (index < 2 * kSteps) return index;
    const std::size_t shift = index / kSteps - 1;
    return ((std::uint64_t{index} - shift * kSteps + 1) << shift) - 1;
  }

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ns_ = 0;
  std::uint64_t max_ns_ = 0;
};

}  // namespace clouddisk::bench
