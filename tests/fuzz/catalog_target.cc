// catalog_target.cc: records of the catalog: the frame, and the JSON in it for each kind.
#include "engine/base/bytes.h"
#include "engine/catalog/records.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {
namespace {

template <class Record>
void parse(std::string_view json, Result<Record> (*from_json)(std::string_view)) {
  auto record = from_json(json);
  if (!record) return;
  // What was read can be written, and is the same then.
  auto again = from_json(to_json(*record));
  CHECK(again.has_value());
  CHECK(*again == *record);
  CHECK(!key_of(*record).empty());
}

}  // namespace

FUZZ_TARGET(catalog_record) {
  static_cast<void>(decode_record("disk/d-1", input));
  const std::string_view json = as_text(input);
  auto kept = decode_record("disk/d-1", encode_record("disk/d-1", json));
  CHECK(kept.has_value());
  CHECK(*kept == json);
  CHECK(!decode_record("disk/d-2", encode_record("disk/d-1", json)).has_value());
  parse(json, disk_from_json);
  parse(json, instance_from_json);
  parse(json, token_from_json);
  parse(json, snapshot_from_json);
  parse(json, chain_from_json);
  parse(json, group_from_json);
  parse(json, policy_from_json);
}

}  // namespace clouddisk::fuzz
