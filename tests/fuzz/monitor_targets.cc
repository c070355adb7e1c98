// monitor_targets.cc: what the daemon keeps of what disks did and what happened to them.
#include <fmt/format.h>

#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/monitor/event_journal.h"
#include "engine/monitor/point_store.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {

FUZZ_TARGET(disk_event) {
  const std::string_view text = as_text(input);
  static_cast<void>(decode_event(text));
  const auto event = decode_event(fmt::format("{:016x} {}", checksum64(input), text));
  if (!event) return;
  // What was read can be written, and is the same then.
  std::string line = encode_event(*event);
  CHECK(line.find('\n') == line.size() - 1);
  line.pop_back();
  const auto again = decode_event(line);
  CHECK(again.has_value());
  CHECK(*again == *event);
}

FUZZ_TARGET(disk_point) {
  constexpr std::string_view kDisk = "d-1";
  PointPlace place{};
  if (!input.empty()) {
    std::memcpy(place.data(), input.data(), std::min(input.size(), place.size()));
  }
  DiskPoint point;
  static_cast<void>(decode_point(place, kDisk, point));
  const auto covered = std::span(std::as_const(place)).first<PointStore::kPlaceBytes - 8>();
  store_le(place.data() + covered.size(), checksum64(covered, checksum64(as_bytes(kDisk))));
  CHECK(decode_point(place, kDisk, point));
  CHECK(encode_point(point, kDisk) == place);
  CHECK(!decode_point(place, "d-2", point));
}

}  // namespace clouddisk::fuzz
