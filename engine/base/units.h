// units.h: sizes, times and the numbers that must not be mixed up.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace clouddisk {

consteval std::uint64_t operator""_KiB(unsigned long long n) {
  return n << 10;
}
consteval std::uint64_t operator""_MiB(unsigned long long n) {
  return n << 20;
}
consteval std::uint64_t operator""_GiB(unsigned long long n) {
  return n << 30;
}
consteval std::uint64_t operator""_TiB(unsigned long long n) {
  return n << 40;
}

// The unit of mapping, checksums and direct I/O.
inline constexpr std::uint64_t kBlockSize = 4_KiB;

// Monotonic time of a ring; a simulated ring starts it at zero.
using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
// Wall clock: nanoseconds since 1970-01-01T00:00:00Z.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

// A 64-bit number with a meaning of its own. Comparable, hashable, never converted silently.
template <class Tag>
struct Number {
  std::uint64_t value = 0;

  constexpr Number() = default;
  constexpr explicit Number(std::uint64_t v) : value(v) {}
  constexpr auto operator<=>(const Number&) const = default;
  constexpr Number next() const { return Number(value + 1); }
};

// A 4 KiB block's address on a disk, in blocks.
using Lba = Number<struct LbaTag>;
// A segment of one disk's log; grows by one a segment and is never used twice. 0 is no segment.
using SegmentSeq = Number<struct SegmentSeqTag>;
// A batch of one disk's log; grows by one a batch. 0 is no batch.
using BatchSeq = Number<struct BatchSeqTag>;
// A write request of one disk, in the order in which writes take effect.
using WriteSeq = Number<struct WriteSeqTag>;
// Version of a disk's map: a snapshot freezes the current one, later writes belong to the next.
using Epoch = Number<struct EpochTag>;
// Version of the set of replicas, by which a stale one is known.
using Generation = Number<struct GenerationTag>;

constexpr std::uint64_t blocks_for(std::uint64_t bytes) {
  return (bytes + kBlockSize - 1) / kBlockSize;
}
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t unit) {
  return value / unit * unit;
}

// "64 MiB", "1.5 GiB": for messages and tables.
std::string format_bytes(std::uint64_t bytes);

}  // namespace clouddisk

template <class Tag>
struct std::hash<clouddisk::Number<Tag>> {
  std::size_t operator()(const clouddisk::Number<Tag>& n) const noexcept {
    return std::hash<std::uint64_t>{}(n.value);
  }
};
