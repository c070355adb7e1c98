// block_source.h: content that a disk borrows: what it reads where nothing was written yet. A
// snapshot is one; the engine knows no more of it than this.
//
// A source never changes. A disk over it shows it through every block that is unmapped; a block
// that was written, zeroed or trimmed hides it for good. Thread: read() and present() are called on
// any ring and come back to it; next_page() on workers. Errors: kIo: the blocks asked for are lost,
// others may be whole.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/map/page.h"
#include "engine/ring/ring.h"

namespace clouddisk {

// Which blocks of a map page (1 MiB) hold data; the others read as zeros.
using PagePresence = std::bitset<kPageBlocks>;

class BlockSource {
 public:
  virtual ~BlockSource() = default;
  // Behind it there are zeros.
  virtual std::uint64_t size_bytes() const = 0;
  // Fills `into`, a number of whole blocks, from `first` on. A span, since a Buffer is counted on
  // its own ring alone; the caller keeps the memory.
  virtual Task<Result<void>> read(Ring& caller, Lba first, std::span<std::byte> into) = 0;
  virtual Task<Result<PagePresence>> present(Ring& caller, std::uint64_t page) = 0;
  // Whether fetching from it is slowed on purpose, and how: travel() takes as long as a fetch of so
  // many bytes. Who fetches for a client or to hydrate waits for it first, on the disk's ring, and
  // holds neither memory nor locks meanwhile. read() itself is never slowed: captures use it alone.
  virtual bool far_away() const { return false; }
  virtual Task<void> travel(std::uint64_t /*bytes*/) { co_return; }
  // The first page >= `page` that may hold data. Blocks.
  virtual Result<std::optional<std::uint64_t>> next_page(std::uint64_t page) = 0;
};

}  // namespace clouddisk
