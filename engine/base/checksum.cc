#include "engine/base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace clouddisk {

std::uint64_t checksum64(std::span<const std::byte> data) {
  return XXH3_64bits(data.data(), data.size());
}

std::uint64_t checksum64(std::span<const std::byte> data, std::uint64_t seed) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

}  // namespace clouddisk
