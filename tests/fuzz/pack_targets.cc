// pack_targets.cc: frames of a chain's pack, and what is in them.
#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "snapshot/chain_page.h"
#include "snapshot/frame.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {

FUZZ_TARGET(pack_frame) {
  using namespace snapshot;
  constexpr ChainTag kChain = 0x0102'0304'0506'0708;
  constexpr PackAddress kAddress = 0x12'3450;
  static_cast<void>(decode_header(input, kChain, kAddress));
  if (input.size() < kFrameHeaderSize) return;
  std::vector<std::byte> frame(input.begin(), input.end());
  std::memcpy(frame.data(), "CFRM", 4);
  store_le(frame.data() + 8, std::uint64_t{kChain});
  const auto stored = load_le<std::uint32_t>(frame.data() + 32);
  const auto raw_bytes = load_le<std::uint32_t>(frame.data() + 36);
  if (stored == raw_bytes && stored <= frame.size() - kFrameHeaderSize) {
    // Not compressed, so its hash can be put right as well.
    const auto hash = checksum128(std::span(frame).subspan(kFrameHeaderSize, stored));
    std::memcpy(frame.data() + 40, hash.data(), hash.size());
  }
  place_frame(frame, kAddress);
  auto header = decode_header(frame, kChain, kAddress);
  if (!header) return;
  CHECK(header->raw_bytes <= kFrameRawMax);
  CHECK(header->size() <= kFrameHeaderSize + kFrameRawMax);
  auto raw = unpack_frame(frame, *header);
  if (!raw) return;
  CHECK(raw->size() == header->raw_bytes);
  if (header->kind != FrameKind::kPages) return;
  Input rest(*raw);
  while (rest.size() > 8) {
    rest = rest.subspan(8);
    if (!decode_runs(rest)) return;
  }
}

}  // namespace clouddisk::fuzz
