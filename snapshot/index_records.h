// index_records.h: keys and values of a chain's index. Bytes: docs/format.md. Internal to
// snapshot/.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/ring/kv.h"
#include "snapshot/chain_page.h"

namespace clouddisk::snapshot {

// Keys. Numbers are big-endian, so that byte order is number order.
//   'c'                 head of the pack
//   'f' address zero    a frame: size, kind, how much it holds, of which page, what is used
//   'g' seq zero        how far a capture is
//   'i' zero zero       made while not all of the pack could be read or trimmed
//   'p' page seq        a version of a page
//   'q' seq page        the single byte 1: that version exists
//   't' offset zero     a range of the pack to be trimmed: its length
//   'w' page address    the single byte 1: half of that frame or more is not used, repack it
inline constexpr char kHead = 'c';
inline constexpr char kFrame = 'f';
inline constexpr char kCursor = 'g';
inline constexpr char kIncomplete = 'i';
inline constexpr char kPage = 'p';
inline constexpr char kBySeq = 'q';
inline constexpr char kFreed = 't';
inline constexpr char kSparse = 'w';
inline constexpr std::uint8_t kRecordVersion = 1;
// Of frames ('f'): version 1 had no kind and no page. An index of it is made anew from the pack.
inline constexpr std::uint8_t kFrameRecordVersion = 2;
inline constexpr std::size_t kPairKeySize = 17;

using PairKey = std::array<std::byte, kPairKeySize>;

PairKey pair_key(char kind, std::uint64_t first, std::uint64_t second);
inline std::uint64_t first_of(KvBytes key) {
  return load_be<std::uint64_t>(key.data() + 1);
}
inline std::uint64_t second_of(KvBytes key) {
  return load_be<std::uint64_t>(key.data() + 9);
}
inline bool is_pair(KvBytes key, char kind) {
  return key.size() == kPairKeySize && key[0] == static_cast<std::byte>(kind);
}

// value = checksum (of key and the rest) | version | fields
std::vector<std::byte> new_value(std::uint8_t version = kRecordVersion);
template <class T>
void put_le(std::vector<std::byte>& value, T number) {
  value.resize(value.size() + sizeof number);
  store_le(value.data() + value.size() - sizeof number, number);
}
Result<void> put(KvWriter& txn, const PairKey& key, std::vector<std::byte> value);
Result<void> put_mark(KvWriter& txn, const PairKey& key);  // the single byte 1
// The fields of a record of format `version`. kCorrupt: an earlier one, or damaged.
Result<std::span<const std::byte>> unseal(KvBytes value, KvBytes key,
                                          std::uint8_t version = kRecordVersion);

struct PageVersion {
  std::uint64_t seq = 0;
  PackAddress record = 0;  // the frame that repeats it
  ChainPage content;
};
Result<PageVersion> decode_version(KvBytes key, KvBytes value);
Result<void> put_version(KvWriter& txn, std::uint64_t page, const PageVersion& version);
// Every version of a page, the oldest first.
Result<std::vector<PageVersion>> load_versions(KvReader& txn, std::uint64_t page);

// kNotFound: the index was never finished.
Result<PackAddress> read_head(KvReader& txn);
Result<void> put_head(KvWriter& txn, PackAddress head);
Result<bool> is_incomplete(KvReader& txn);

}  // namespace clouddisk::snapshot
