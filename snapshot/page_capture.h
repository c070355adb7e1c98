// page_capture.h: what a snapshot has in pages of its disk that the snapshot before it has not.
// Thread: the ring that disk and chain share.
#pragma once

#include <array>
#include <bitset>
#include <memory>
#include <vector>

#include "snapshot/capture.h"

namespace clouddisk::snapshot {

class PageCapture {
 public:
  PageCapture(Disk& disk, Chain& chain, const CaptureSpec& spec)
      : disk_(disk), chain_(chain), spec_(spec) {}

  // Those that may have changed, in order.
  Task<Result<std::vector<std::uint64_t>>> pages();
  // Of some of these, those that did, compressed. Looked up and read together; several calls may
  // be under way.
  using Changes = std::vector<Chain::ChangedPage>;
  Task<Result<Changes>> changes(std::vector<std::uint64_t> numbers);
  // From the disk, by all calls together.
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  // What there is to do with a block.
  enum class Fate : std::uint8_t { kSame, kHole, kCompare, kChanged };
  using Fates = std::array<Fate, kPageBlocks>;
  struct Work;
  // What the parent has of some blocks of a page.
  struct Old {
    std::vector<std::byte> bytes;
    std::bitset<kPageBlocks> readable;
  };

  bool by_place() const { return spec_.reference.value != 0; }
  std::uint64_t blocks_of(std::uint64_t page) const {
    return std::min(kPageBlocks, blocks_for(spec_.size_bytes) - page * kPageBlocks);
  }
  Task<Result<void>> look_up(std::vector<Work>& works, const std::vector<std::uint64_t>& numbers);
  Task<Result<void>> fates_by_place(std::vector<Work>& works,
                                    const std::vector<std::uint64_t>& numbers);
  Task<Result<void>> fates_by_content(Work& work);
  Task<Result<void>> read_pages(std::span<Work> works);
  Task<void> read_beside(Work& work, WaitGroup& group);
  Task<Result<void>> read_page(Work& work);
  Task<Result<Old>> read_old(const Work& work, std::size_t begin, std::size_t count);
  Task<Result<void>> read_run(Work& work, std::size_t begin, std::size_t count);
  bool differs(const Work& work) const;

  Disk& disk_;
  Chain& chain_;
  const CaptureSpec& spec_;
  std::uint64_t bytes_read_ = 0;
};

}  // namespace clouddisk::snapshot
