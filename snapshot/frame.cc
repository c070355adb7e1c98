#include "snapshot/frame.h"

#include <zstd.h>

#include <cstring>
#include <memory>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/checksum.h"

namespace clouddisk::snapshot {
namespace {

constexpr std::uint32_t kMagic = 0x4d524643;  // "CFRM"
constexpr std::size_t kAddressAt = 16;
constexpr std::size_t kChecksumAt = kFrameHeaderSize - 8;

// Made once a thread: what zstd works in is larger than what it works on.
template <class Context>
using Owned = std::unique_ptr<Context, std::size_t (*)(Context*)>;

ZSTD_CCtx* compression() {
  thread_local const Owned<ZSTD_CCtx> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  CHECK(context != nullptr);
  return context.get();
}

ZSTD_DCtx* decompression() {
  thread_local const Owned<ZSTD_DCtx> context(ZSTD_createDCtx(), &ZSTD_freeDCtx);
  CHECK(context != nullptr);
  return context.get();
}

}  // namespace

ChainTag chain_tag(std::string_view chain_id) {
  return checksum64(as_bytes(chain_id));
}

std::size_t append_frame(FrameKind kind, ChainTag chain, std::uint64_t seq,
                         std::span<const std::byte> raw, int level, std::vector<std::byte>& out) {
  CHECK(!raw.empty() && raw.size() <= kFrameRawMax);
  const std::size_t begin = out.size();
  CHECK(begin % kFrameAlignment == 0);
  const std::size_t bound = ZSTD_compressBound(raw.size());
  out.resize(begin + kFrameHeaderSize + bound);
  std::byte* payload = out.data() + begin + kFrameHeaderSize;
  std::size_t stored =
      ZSTD_compressCCtx(compression(), payload, bound, raw.data(), raw.size(), level);
  if (ZSTD_isError(stored) != 0 || stored >= raw.size()) {
    std::memcpy(payload, raw.data(), raw.size());
    stored = raw.size();
  }
  ByteWriter header{std::span(out).subspan(begin, kFrameHeaderSize)};
  header.le(kMagic);
  header.le(static_cast<std::uint16_t>(kFrameVersion));
  header.le(static_cast<std::uint8_t>(kind));
  header.le(std::uint8_t{0});
  header.le(chain);
  header.le(std::uint64_t{0});  // address: place_frame()
  header.le(seq);
  header.le(static_cast<std::uint32_t>(stored));
  header.le(static_cast<std::uint32_t>(raw.size()));
  header.bytes(checksum128(raw));
  header.le(std::uint64_t{0});  // checksum: place_frame()
  const std::size_t size = align_up(kFrameHeaderSize + stored, kFrameAlignment);
  const std::size_t padding = size - kFrameHeaderSize - stored;
  out.resize(begin + size);
  std::memset(out.data() + begin + size - padding, 0, padding);
  return size;
}

void place_frame(std::span<std::byte> frame, PackAddress address) {
  store_le(frame.data() + kAddressAt, address);
  store_le(frame.data() + kChecksumAt, checksum64(frame.first(kChecksumAt)));
}

Result<FrameHeader> decode_header(std::span<const std::byte> data, ChainTag chain,
                                  PackAddress address) {
  if (data.size() < kFrameHeaderSize) return fail(Errc::kCorrupt, "pack: cut off at {}", address);
  ByteReader in(data.first(kFrameHeaderSize));
  FrameHeader header;
  const auto magic = in.le<std::uint32_t>();
  const auto version = in.le<std::uint16_t>();
  const auto kind = in.le<std::uint8_t>();
  in.skip(1);
  header.chain = in.le<std::uint64_t>();
  header.address = in.le<std::uint64_t>();
  header.seq = in.le<std::uint64_t>();
  header.stored_bytes = in.le<std::uint32_t>();
  header.raw_bytes = in.le<std::uint32_t>();
  const auto hash = in.bytes(16);
  std::copy(hash.begin(), hash.end(), header.hash.begin());
  if (magic != kMagic || in.le<std::uint64_t>() != checksum64(data.first(kChecksumAt))) {
    return fail(Errc::kCorrupt, "pack: no frame at {}", address);
  }
  if (version > kFrameVersion) {
    return fail(
        Errc::kUnsupported,
        "pack: a frame of format {}, newer than this clouddisk knows ({}): upgrade clouddisk",
        version, kFrameVersion);
  }
  header.kind = static_cast<FrameKind>(kind);
  if (header.chain != chain || header.address != address ||
      (header.kind != FrameKind::kBlocks && header.kind != FrameKind::kPages) ||
      header.raw_bytes == 0 || header.raw_bytes > kFrameRawMax ||
      header.stored_bytes > header.raw_bytes || header.stored_bytes == 0) {
    return fail(Errc::kCorrupt, "pack: a frame of another chain or place at {}", address);
  }
  return header;
}

Result<std::vector<std::byte>> unpack_frame(std::span<const std::byte> data,
                                            const FrameHeader& header) {
  if (data.size() < kFrameHeaderSize + header.stored_bytes) {
    return fail(Errc::kCorrupt, "pack: the frame at {} is cut off", header.address);
  }
  const auto payload = data.subspan(kFrameHeaderSize, header.stored_bytes);
  std::vector<std::byte> raw(header.raw_bytes);
  if (header.stored_bytes == header.raw_bytes) {
    std::memcpy(raw.data(), payload.data(), raw.size());
  } else {
    const std::size_t size = ZSTD_decompressDCtx(decompression(), raw.data(), raw.size(),
                                                 payload.data(), payload.size());
    if (ZSTD_isError(size) != 0 || size != raw.size()) {
      return fail(Errc::kCorrupt, "pack: the frame at {} can't be decompressed", header.address);
    }
  }
  if (checksum128(raw) != header.hash) {
    return fail(Errc::kCorrupt, "pack: the frame at {} fails its checksum", header.address);
  }
  return raw;
}

}  // namespace clouddisk::snapshot
