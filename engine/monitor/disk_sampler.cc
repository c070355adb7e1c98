#include "engine/monitor/disk_sampler.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk {
namespace {

// A process that did not run for longer than this says nothing about when requests were served.
constexpr Duration kSpreadMost = std::chrono::hours(1);
constexpr Duration kOneMinute = std::chrono::minutes(1);

// `part` of `whole` of a sum; the parts of neighbours add up exactly.
std::uint64_t share_of(std::uint64_t sum, Duration part, Duration whole) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(sum) *
                                    static_cast<std::uint64_t>(part.count()) /
                                    static_cast<std::uint64_t>(whole.count()));
}

IoSums share_of(const IoSums& io, Duration part, Duration whole) {
  return {share_of(io.reads, part, whole),
          share_of(io.writes, part, whole),
          share_of(io.read_bytes, part, whole),
          share_of(io.written_bytes, part, whole),
          share_of(io.read_nanoseconds, part, whole),
          share_of(io.write_nanoseconds, part, whole)};
}

std::uint32_t whole_milliseconds(Duration duration) {
  return static_cast<std::uint32_t>(
      std::chrono::round<std::chrono::milliseconds>(duration).count());
}

}  // namespace

IoSums& IoSums::operator+=(const IoSums& other) {
  reads += other.reads;
  writes += other.writes;
  read_bytes += other.read_bytes;
  written_bytes += other.written_bytes;
  read_nanoseconds += other.read_nanoseconds;
  write_nanoseconds += other.write_nanoseconds;
  return *this;
}

IoSums IoSums::operator-(const IoSums& earlier) const {
  return {reads - earlier.reads,
          writes - earlier.writes,
          read_bytes - earlier.read_bytes,
          written_bytes - earlier.written_bytes,
          read_nanoseconds - earlier.read_nanoseconds,
          write_nanoseconds - earlier.write_nanoseconds};
}

std::uint64_t instance_tag(std::string_view instance_id) {
  return checksum64(as_bytes(instance_id));
}

std::vector<DiskPoint> DiskSampler::take(const DiskReading& reading, TimePoint now,
                                         WallTime wall_now) {
  Known& known = known_[reading.disk_id];
  if (reading.opened < known.opened) return {};
  if (reading.opened == known.opened && (known.closed || now < known.read)) return {};
  if (reading.opened != known.opened) known = {reading.opened, reading.opened, {}, false};
  const IoSums done = reading.io - known.io;
  const Duration elapsed = std::max(now - known.read, Duration::zero());
  known.io = reading.io;
  known.read = now;
  known.closed = reading.closing;

  const std::uint64_t instance = instance_tag(reading.instance_id);
  const Duration spread = std::min(elapsed, kSpreadMost);
  if (spread == Duration::zero()) {
    if (done == IoSums{}) return {};
    return {{minute_of(wall_now), 0, done, instance}};
  }
  std::vector<DiskPoint> points;
  const WallTime begin = wall_now - spread;
  IoSums told;
  for (WallTime at = begin; at < wall_now;) {
    const Minute minute = minute_of(at);
    const WallTime end = std::min(time_of(minute) + kOneMinute, wall_now);
    const IoSums up_to_end = share_of(done, end - begin, spread);
    points.push_back({minute, whole_milliseconds(end - at), up_to_end - told, instance});
    told = up_to_end;
    at = end;
  }
  return points;
}

}  // namespace clouddisk
