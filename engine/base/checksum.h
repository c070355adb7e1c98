// checksum.h: XXH3-64, the checksum of every block and of every structure on disk, and XXH3-128, of
// what a frame of a pack holds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace clouddisk {

std::uint64_t checksum64(std::span<const std::byte> data);
// Mixes `seed` in: a structure whose checksum covers what is not stored beside it (its own key).
std::uint64_t checksum64(std::span<const std::byte> data, std::uint64_t seed);
// The lower half first, both little-endian.
std::array<std::byte, 16> checksum128(std::span<const std::byte> data);

}  // namespace clouddisk
