#include "engine/ring/sim_chunks.h"

#include <sys/mman.h>

#include <vector>

#include "engine/base/check.h"

namespace clouddisk {
namespace {

constexpr std::size_t kLargePage = 2_MiB;
constexpr std::size_t kRegion = 64_MiB;

struct Chunks {
  std::vector<std::byte*> used;  // given back, with what was in them
  std::byte* fresh = nullptr;    // what no file has had yet
  std::byte* fresh_end = nullptr;

  std::byte* take_fresh() {
    if (fresh == fresh_end) {
      const std::size_t size = kRegion + kLargePage;  // to begin at a large page
      void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      CHECK(memory != MAP_FAILED);
      const auto address = reinterpret_cast<std::uintptr_t>(memory);
      fresh = static_cast<std::byte*>(memory) + (align_up(address, kLargePage) - address);
      fresh_end = fresh + kRegion;
      // Without large pages it is slower, and the same otherwise.
      static_cast<void>(madvise(fresh, kRegion, MADV_HUGEPAGE));
    }
    std::byte* chunk = fresh;
    fresh += kSimChunk;
    return chunk;
  }
};

// Never destroyed: files may be, later.
Chunks& chunks() {
  static Chunks& all = *new Chunks;
  return all;
}

}  // namespace

void SimChunkReturn::operator()(std::byte* memory) const noexcept {
  chunks().used.push_back(memory);
}

SimChunk take_chunk() {
  std::vector<std::byte*>& used = chunks().used;
  if (used.empty()) return SimChunk(chunks().take_fresh());
  std::byte* chunk = used.back();
  used.pop_back();
  return SimChunk(chunk);
}

}  // namespace clouddisk
