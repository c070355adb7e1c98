#include "snapshot/compressor.h"

#include <algorithm>

namespace clouddisk::snapshot {
namespace {

void pack(ChainTag tag, std::uint64_t seq, BlockData data, int level, PackedFrames& packed) {
  for (std::size_t at = 0; at < data.size(); at += kFrameRawMax) {
    const auto raw = data.subspan(at, std::min(kFrameRawMax, data.size() - at));
    packed.sizes.push_back(append_frame(FrameKind::kBlocks, tag, seq, raw, level, packed.bytes));
  }
}

}  // namespace

Task<void> Compressor::work(std::uint64_t seq, std::span<Piece> job, WaitGroup& group) {
  co_await turns_.acquire(1);
  co_await ring_.blocking([tag = tag_, level = level_, seq, job] {
    for (Piece& piece : job) pack(tag, seq, piece.data, level, piece.packed);
  });
  turns_.release(1);
  group.done();
}

Task<std::vector<PackedFrames>> Compressor::compress(std::uint64_t seq,
                                                     std::vector<BlockData> parts) {
  std::vector<Piece> pieces;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const BlockData data = parts[part];
    for (std::size_t at = 0; at < data.size(); at += kJobBytes) {
      pieces.push_back({part, data.subspan(at, std::min(kJobBytes, data.size() - at))});
    }
  }
  WaitGroup group(ring_);
  for (std::size_t begin = 0; begin < pieces.size();) {
    std::size_t end = begin;
    std::size_t bytes = 0;
    do {
      bytes += pieces[end++].data.size();
    } while (end < pieces.size() && bytes + pieces[end].data.size() <= kJobBytes);
    group.add();
    spawn(work(seq, std::span(pieces).subspan(begin, end - begin), group));
    begin = end;
  }
  co_await group.wait();
  std::vector<PackedFrames> packed(parts.size());
  for (Piece& piece : pieces) {
    PackedFrames& whole = packed[piece.part];
    if (whole.sizes.empty()) {
      whole = std::move(piece.packed);
      continue;
    }
    whole.bytes.insert(whole.bytes.end(), piece.packed.bytes.begin(), piece.packed.bytes.end());
    whole.sizes.insert(whole.sizes.end(), piece.packed.sizes.begin(), piece.packed.sizes.end());
  }
  co_return packed;
}

}  // namespace clouddisk::snapshot
