#include "engine/monitor/point_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/ring/listener.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kPointMagic = 0x31'54'4e'49'4f'50'44'43;  // "CDPOINT1"
constexpr std::uint32_t kPointVersion = 1;
constexpr std::size_t kPlaceChecksumAt = PointStore::kPlaceBytes - 8;
constexpr mode_t kPointFileMode = 0640;

off_t place_offset(Minute minute) {
  return static_cast<off_t>((minute % PointStore::kMinutes + 1) * PointStore::kPlaceBytes);
}

std::uint64_t place_checksum(std::span<const std::byte, PointStore::kPlaceBytes> place,
                             std::string_view disk_id) {
  return checksum64(place.first<kPlaceChecksumAt>(), checksum64(as_bytes(disk_id)));
}

PointPlace point_header(std::string_view disk_id) {
  PointPlace header{};
  store_le(header.data(), kPointMagic);
  store_le(header.data() + 8, kPointVersion);
  store_le(header.data() + 12, PointStore::kMinutes);
  store_le(header.data() + kPlaceChecksumAt, place_checksum(header, disk_id));
  return header;
}

// Whether it is one of ours; kUnsupported when it is of a newer clouddisk.
Result<bool> check_point_header(int fd, const std::string& path, std::string_view disk_id) {
  PointPlace header{};
  const ssize_t got = ::pread(fd, header.data(), header.size(), 0);
  if (got < 0) return fail_errno(errno, "read {}", path);
  if (got != static_cast<ssize_t>(header.size())) return false;
  if (load_le<std::uint64_t>(header.data()) != kPointMagic ||
      load_le<std::uint64_t>(header.data() + kPlaceChecksumAt) != place_checksum(header, disk_id)) {
    return false;
  }
  const auto version = load_le<std::uint32_t>(header.data() + 8);
  if (version > kPointVersion) {
    return fail(Errc::kUnsupported, "{} is of version {}: upgrade clouddisk", path, version);
  }
  return load_le<std::uint32_t>(header.data() + 12) == PointStore::kMinutes;
}

Result<void> write_place(int fd, const std::string& path, off_t offset, const PointPlace& place) {
  const ssize_t put = ::pwrite(fd, place.data(), place.size(), offset);
  if (put == static_cast<ssize_t>(place.size())) return {};
  return fail_errno(put < 0 ? errno : ENOSPC, "write {}", path);
}

std::uint32_t narrow_count(std::uint64_t count) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(count, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

PointPlace encode_point(const DiskPoint& point, std::string_view disk_id) {
  PointPlace place{};
  std::byte* at = place.data();
  store_le(at, point.minute);
  store_le(at + 4, point.covered_ms);
  store_le(at + 8, narrow_count(point.io.reads));
  store_le(at + 12, narrow_count(point.io.writes));
  store_le(at + 16, point.io.read_bytes);
  store_le(at + 24, point.io.written_bytes);
  store_le(at + 32, point.io.read_nanoseconds);
  store_le(at + 40, point.io.write_nanoseconds);
  store_le(at + 48, point.instance);
  store_le(at + kPlaceChecksumAt, place_checksum(place, disk_id));
  return place;
}

bool decode_point(std::span<const std::byte, PointStore::kPlaceBytes> place,
                  std::string_view disk_id, DiskPoint& point) {
  if (load_le<std::uint64_t>(place.data() + kPlaceChecksumAt) != place_checksum(place, disk_id)) {
    return false;
  }
  const std::byte* at = place.data();
  point.minute = load_le<std::uint32_t>(at);
  point.covered_ms = load_le<std::uint32_t>(at + 4);
  point.io.reads = load_le<std::uint32_t>(at + 8);
  point.io.writes = load_le<std::uint32_t>(at + 12);
  point.io.read_bytes = load_le<std::uint64_t>(at + 16);
  point.io.written_bytes = load_le<std::uint64_t>(at + 24);
  point.io.read_nanoseconds = load_le<std::uint64_t>(at + 32);
  point.io.write_nanoseconds = load_le<std::uint64_t>(at + 40);
  point.instance = load_le<std::uint64_t>(at + 48);
  return true;
}

Result<void> PointStore::add(const std::string& disk_id, std::span<const DiskPoint> points) {
  if (points.empty()) return {};
  const std::lock_guard guard(lock_);
  if (::mkdir(folder_.c_str(), 0750) != 0 && errno != EEXIST) {
    return fail_errno(errno, "make {}", folder_);
  }
  const std::string path = path_of(disk_id);
  const Socket file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kPointFileMode));
  if (!file) return fail_errno(errno, "open {}", path);
  auto ours = check_point_header(file.fd(), path, disk_id);
  if (!ours) return ours.error();
  if (!*ours) {
    if (::ftruncate(file.fd(), 0) != 0) return fail_errno(errno, "empty {}", path);
    if (auto put = write_place(file.fd(), path, 0, point_header(disk_id)); !put) return put;
  }
  for (const DiskPoint& point : points) {
    PointPlace place{};
    DiskPoint sum = point;
    const off_t offset = place_offset(point.minute);
    const ssize_t got = ::pread(file.fd(), place.data(), place.size(), offset);
    if (got < 0) return fail_errno(errno, "read {}", path);
    DiskPoint there;
    if (got == static_cast<ssize_t>(place.size()) && decode_point(place, disk_id, there) &&
        there.minute == point.minute) {
      sum.covered_ms = std::min(there.covered_ms + point.covered_ms, 60'000U);
      sum.io += there.io;
    }
    if (auto put = write_place(file.fd(), path, offset, encode_point(sum, disk_id)); !put) {
      return put;
    }
  }
  return {};
}

Result<std::vector<DiskPoint>> PointStore::read(const std::string& disk_id, Minute first,
                                                Minute last) const {
  std::vector<DiskPoint> points;
  if (first > last) return points;
  if (last - first >= kMinutes) first = last - kMinutes + 1;
  const std::lock_guard guard(lock_);
  const std::string path = path_of(disk_id);
  const Socket file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return points;
  if (!file) return fail_errno(errno, "open {}", path);
  auto ours = check_point_header(file.fd(), path, disk_id);
  if (!ours) return ours.error();
  if (!*ours) return points;
  // Up to the end of the ring, and from its beginning.
  for (std::uint64_t at = first; at <= last;) {
    const Minute place = static_cast<Minute>(at % kMinutes);
    const std::size_t count = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::uint64_t{last} - at + 1, kMinutes - place));
    std::vector<std::byte> bytes(count * kPlaceBytes);
    const ssize_t got =
        ::pread(file.fd(), bytes.data(), bytes.size(), place_offset(static_cast<Minute>(at)));
    if (got < 0) return fail_errno(errno, "read {}", path);
    const std::size_t whole = static_cast<std::size_t>(got) / kPlaceBytes;
    for (std::size_t i = 0; i < whole; ++i) {
      DiskPoint point;
      const std::span<const std::byte, kPlaceBytes> one(bytes.data() + i * kPlaceBytes,
                                                        kPlaceBytes);
      if (!decode_point(one, disk_id, point) || point.minute != at + i) continue;
      points.push_back(point);
    }
    at += count;
  }
  return points;
}

Result<std::vector<std::string>> PointStore::disks() const {
  const std::lock_guard guard(lock_);
  std::vector<std::string> ids;
  std::error_code problem;
  std::filesystem::directory_iterator entries(folder_, problem);
  if (problem == std::errc::no_such_file_or_directory) return ids;
  while (!problem && entries != std::filesystem::directory_iterator()) {
    ids.push_back(entries->path().filename().string());
    entries.increment(problem);
  }
  if (problem) return fail_errno(problem.value(), "list {}", folder_);
  return ids;
}

Result<void> PointStore::remove(const std::string& disk_id) {
  const std::lock_guard guard(lock_);
  const std::string path = path_of(disk_id);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove {}", path);
  return {};
}

}  // namespace clouddisk
