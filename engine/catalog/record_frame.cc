// The frame of a catalog record:
//   0  magic "CREC"   4  version   8  length of the JSON   12  zero   16  JSON   then  XXH3-64
// The checksum is over everything before it, seeded with the checksum of the key. Magic, version,
// length and checksum stay where they are in every later version.
#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/catalog/records.h"

namespace clouddisk {
namespace {

constexpr std::uint32_t kMagic = 0x43455243;  // "CREC"
constexpr std::size_t kHeaderSize = 16;
constexpr std::size_t kChecksumSize = 8;
constexpr std::size_t kJsonMax = 16_MiB;

std::uint64_t frame_checksum(std::string_view key, std::span<const std::byte> covered) {
  return checksum64(covered, checksum64(as_bytes(key)));
}

}  // namespace

std::vector<std::byte> encode_record(std::string_view key, std::string_view json) {
  CHECK(json.size() <= kJsonMax);
  std::vector<std::byte> frame(kHeaderSize + json.size() + kChecksumSize);
  ByteWriter writer(frame);
  writer.le(kMagic);
  writer.le(kRecordVersion);
  writer.le(static_cast<std::uint32_t>(json.size()));
  writer.le(std::uint32_t{0});
  writer.bytes(as_bytes(json));
  writer.le(frame_checksum(key, std::span(frame).first(kHeaderSize + json.size())));
  return frame;
}

Result<std::string> decode_record(std::string_view key, std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  const auto magic = reader.le<std::uint32_t>();
  const auto version = reader.le<std::uint32_t>();
  const auto length = reader.le<std::uint32_t>();
  reader.skip(4);
  const auto json = reader.bytes(length);
  const auto stored = reader.le<std::uint64_t>();
  if (!reader.ok() || reader.remaining() != 0 || magic != kMagic) {
    return fail(Errc::kCorrupt, "catalog record {}: {} bytes that are no record", key,
                bytes.size());
  }
  const std::uint64_t actual = frame_checksum(key, bytes.first(bytes.size() - kChecksumSize));
  if (stored != actual) {
    return fail(Errc::kCorrupt, "catalog record {}: checksum {:016x}, content has {:016x}", key,
                stored, actual);
  }
  if (version > kRecordVersion) {
    return fail(Errc::kUnsupported,
                "catalog record {} has format {}, this clouddisk knows {}: use a newer clouddisk",
                key, version, kRecordVersion);
  }
  return std::string(as_text(json));
}

}  // namespace clouddisk
