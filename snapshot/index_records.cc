#include "snapshot/index_records.h"

#include "engine/base/checksum.h"

namespace clouddisk::snapshot {

PairKey pair_key(char kind, std::uint64_t first, std::uint64_t second) {
  PairKey key;
  key[0] = static_cast<std::byte>(kind);
  store_be(key.data() + 1, first);
  store_be(key.data() + 9, second);
  return key;
}

std::vector<std::byte> new_value(std::uint8_t version) {
  std::vector<std::byte> value(9);
  value[8] = std::byte{version};
  return value;
}

Result<void> put(KvWriter& txn, const PairKey& key, std::vector<std::byte> value) {
  store_le(value.data(), checksum64(std::span(value).subspan(8), checksum64(key)));
  return txn.put(key, value);
}

Result<void> put_mark(KvWriter& txn, const PairKey& key) {
  const std::byte one{1};
  return txn.put(key, std::span(&one, 1));
}

Result<std::span<const std::byte>> unseal(KvBytes value, KvBytes key, std::uint8_t version) {
  if (value.size() < 9 ||
      load_le<std::uint64_t>(value.data()) != checksum64(value.subspan(8), checksum64(key))) {
    return fail(Errc::kCorrupt, "chain index: checksum mismatch");
  }
  const auto found = std::to_integer<std::uint8_t>(value[8]);
  if (found > version) {
    return fail(Errc::kUnsupported,
                "chain index of format {}, newer than this clouddisk knows ({}): upgrade clouddisk",
                found, version);
  }
  if (found < version) return fail(Errc::kCorrupt, "chain index: of an earlier format, {}", found);
  return value.subspan(9);
}

Result<PageVersion> decode_version(KvBytes key, KvBytes value) {
  if (!is_pair(key, kPage)) return fail(Errc::kCorrupt, "chain index: a strange key");
  auto fields = unseal(value, key);
  if (!fields) return fields.error();
  if (fields->size() < 8) return fail(Errc::kCorrupt, "chain index: page cut off");
  PageVersion version;
  version.seq = second_of(key);
  version.record = load_le<std::uint64_t>(fields->data());
  auto runs = fields->subspan(8);
  auto page = decode_runs(runs);
  if (!page) return page.error();
  version.content = *page;
  return version;
}

Result<void> put_version(KvWriter& txn, std::uint64_t page, const PageVersion& version) {
  auto value = new_value();
  put_le(value, version.record);
  encode_runs(version.content, value);
  return put(txn, pair_key(kPage, page, version.seq), std::move(value));
}

Result<std::vector<PageVersion>> load_versions(KvReader& txn, std::uint64_t page) {
  std::vector<PageVersion> versions;
  Result<void> problem;
  auto scanned = txn.scan(pair_key(kPage, page, 0), pair_key(kPage, page + 1, 0),
                          [&](KvBytes key, KvBytes value) {
                            auto version = decode_version(key, value);
                            if (!version) {
                              problem = version.error();
                              return false;
                            }
                            versions.push_back(std::move(*version));
                            return true;
                          });
  if (!scanned) return scanned.error();
  if (!problem) return problem.error();
  return versions;
}

Result<PackAddress> read_head(KvReader& txn) {
  const PairKey key = pair_key(kHead, 0, 0);
  auto value = txn.get(key);
  if (!value) return value.error();
  if (!*value) return fail(Errc::kNotFound, "the chain's index is not finished");
  auto fields = unseal(**value, key);
  if (!fields) return fields.error();
  if (fields->size() != 8) return fail(Errc::kCorrupt, "chain index: head cut off");
  return load_le<std::uint64_t>(fields->data());
}

Result<void> put_head(KvWriter& txn, PackAddress head) {
  auto value = new_value();
  put_le(value, head);
  return put(txn, pair_key(kHead, 0, 0), std::move(value));
}

Result<bool> is_incomplete(KvReader& txn) {
  auto mark = txn.get(pair_key(kIncomplete, 0, 0));
  if (!mark) return mark.error();
  return mark->has_value();
}

}  // namespace clouddisk::snapshot
