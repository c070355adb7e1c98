// point_store.h: what disks did in each minute of the last 31 days, one file a disk. A file is a
// ring of as many places as there are minutes, so it never grows beyond kFileBytesMax, and what was
// not written takes no space. Bytes: docs/format.md.
//
// Nothing is synced: a power cut loses the last seconds, the end of the process nothing. A place
// that does not check is one without a point.
// Any thread; the calls block. Errors: values of the file system; kUnsupported: made by a newer
// clouddisk.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/monitor/disk_point.h"

namespace clouddisk {

class PointStore {
 public:
  static constexpr Minute kMinutes = 31 * 24 * 60;
  static constexpr std::size_t kPlaceBytes = 64;
  static constexpr std::uint64_t kFileBytesMax = (std::uint64_t{kMinutes} + 1) * kPlaceBytes;

  // Made when the first point comes.
  explicit PointStore(std::string folder) : folder_(std::move(folder)) {}

  // Adds to what the minutes have. Another minute that stands in the place of one goes, also a
  // later one: the clock was wrong then.
  Result<void> add(const std::string& disk_id, std::span<const DiskPoint> points);
  // Those there are from `first` to `last`, both included, oldest first; at most kMinutes.
  Result<std::vector<DiskPoint>> read(const std::string& disk_id, Minute first, Minute last) const;
  // Those that have a file.
  Result<std::vector<std::string>> disks() const;
  // Fine if there is none.
  Result<void> remove(const std::string& disk_id);

 private:
  std::string path_of(const std::string& disk_id) const { return folder_ + "/" + disk_id; }

  const std::string folder_;
  mutable std::mutex lock_;
};

// One place of the file of a disk; for tests and for what checks a root.
using PointPlace = std::array<std::byte, PointStore::kPlaceBytes>;
PointPlace encode_point(const DiskPoint& point, std::string_view disk_id);
// False: it holds none of this disk.
bool decode_point(std::span<const std::byte, PointStore::kPlaceBytes> place,
                  std::string_view disk_id, DiskPoint& point);

}  // namespace clouddisk
