// engine_host_readings.cc: the counters of all disks, for what watches them once a second.
#include <set>

#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {

DiskReading EngineHost::reading_of(const Served& served, TimePoint now) {
  const DeviceCounters& counters = served.device->counters();
  DiskReading reading;
  reading.disk_id = served.settings.id;
  reading.instance_id = served.settings.instance_id;
  reading.opened = served.opened;
  reading.io.reads = counters.reads;
  reading.io.writes = counters.writes;
  reading.io.read_bytes = counters.read_bytes;
  reading.io.written_bytes = counters.written_bytes;
  reading.io.read_nanoseconds = counters.read_nanoseconds;
  reading.io.write_nanoseconds = counters.write_nanoseconds;
  reading.oldest_request = served.device->oldest_request(now);
  reading.repaired_blocks = served.disk->read_counters().repaired_blocks;
  reading.lost_blocks = served.disk->read_counters().lost_blocks;
  return reading;
}

Task<std::vector<DiskReading>> EngineHost::readings() {
  std::set<Reactor*> reactors;
  for (const auto& [id, served] : served_) reactors.insert(past_of(id).reactor);
  std::vector<DiskReading> readings;
  for (Reactor* reactor : reactors) {
    // Held for no longer than the trip there, which comes before that of whoever closes one.
    std::vector<Served> disks;
    for (const auto& [id, served] : served_) {
      if (served.stopping) continue;  // Its last reading comes by itself.
      if (past_of(id).reactor == reactor) disks.push_back(served);
    }
    co_await reactor->ring().enter();
    const TimePoint now = reactor->ring().now();
    for (const Served& served : disks) readings.push_back(reading_of(served, now));
    disks.clear();  // Maybe the last: they die where they lived.
    co_await control_.enter();
  }
  co_return readings;
}

}  // namespace clouddisk
