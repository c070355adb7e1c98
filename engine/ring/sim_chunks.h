// sim_chunks.h: the memory that simulated files are kept in. A history writes gigabytes, and to
// have the kernel clear each small page of them costs more than everything that the engine does:
// here they come from large pages, and what a file gives back is used again.
//
// Ownership: a SimChunk belongs to its holder; the pages stay with the process until it ends.
// Thread: one at a time; files of one machine are used by one thread, and so is this by all of
// them.
#pragma once

#include <cstddef>
#include <memory>

#include "engine/base/units.h"

namespace clouddisk {

inline constexpr std::size_t kSimChunk = 64_KiB;

struct SimChunkReturn {
  void operator()(std::byte* memory) const noexcept;
};
using SimChunk = std::unique_ptr<std::byte[], SimChunkReturn>;

// kSimChunk bytes of whatever is there.
SimChunk take_chunk();

}  // namespace clouddisk
