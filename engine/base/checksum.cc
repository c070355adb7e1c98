#include "engine/base/checksum.h"

// The library picks the widest vector instructions of the processor at run time, where it was built
// to: AVX2 or AVX-512 in place of the SSE2 that every x86-64 has.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

#include "engine/base/bytes.h"

namespace clouddisk {

std::uint64_t checksum64(std::span<const std::byte> data) {
  return XXH3_64bits(data.data(), data.size());
}

std::uint64_t checksum64(std::span<const std::byte> data, std::uint64_t seed) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

std::array<std::byte, 16> checksum128(std::span<const std::byte> data) {
  const XXH128_hash_t hash = XXH3_128bits(data.data(), data.size());
  std::array<std::byte, 16> bytes;
  store_le(bytes.data(), std::uint64_t{hash.low64});
  store_le(bytes.data() + 8, std::uint64_t{hash.high64});
  return bytes;
}

}  // namespace clouddisk
