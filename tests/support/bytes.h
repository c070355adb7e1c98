// bytes.h: content that a seed gives, and comparing it. By words and by memcmp: tests are compiled
// without optimizing, where a byte at a time takes longer than what is tested.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/base/random.h"

namespace clouddisk {

inline void fill_at_random(std::span<std::byte> bytes, Random& random) {
  const std::size_t size = bytes.size();
  std::byte* const data = bytes.data();
  for (std::size_t at = 0; at < size; at += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(data + at, &word, std::min<std::size_t>(8, size - at));
  }
}

inline std::vector<std::byte> random_bytes(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(size);
  fill_at_random(bytes, random);
  return bytes;
}

// Of two of the same length, where they differ first; the length where they don't.
inline std::size_t first_difference(std::span<const std::byte> a, std::span<const std::byte> b) {
  const std::size_t size = std::min(a.size(), b.size());
  constexpr std::size_t kStep = 4096;
  for (std::size_t at = 0; at < size; at += kStep) {
    const std::size_t step = std::min(kStep, size - at);
    if (std::memcmp(a.data() + at, b.data() + at, step) == 0) continue;
    while (a[at] == b[at]) ++at;
    return at;
  }
  return size;
}

inline bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && first_difference(a, b) == a.size();
}

}  // namespace clouddisk
