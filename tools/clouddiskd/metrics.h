// metrics.h: the daemon's counters in the text format of Prometheus (version 0.0.4). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/control/disk_host.h"
#include "engine/disk/read_cache.h"
#include "engine/log/replica_set.h"
#include "engine/monitor/disk_event.h"

namespace clouddisk {

struct MetricsSnapshot {
  std::string version;
  double uptime_seconds = 0;
  std::uint64_t resident_bytes = 0;
  double cpu_seconds = 0;
  std::uint64_t open_descriptors = 0;
  std::uint64_t http_connections = 0;
  std::uint64_t http_requests = 0;
  std::uint64_t known_disks = 0;
  std::uint64_t nbd_connections = 0;
  std::uint64_t nbd_connections_total = 0;
  std::vector<ReplicaStatus> replicas;
  ScrubStatus scrub;
  struct Disk {
    std::string id;
    DiskStats stats;
    std::optional<Progress> hydration;  // nothing: it borrows nothing
  };
  std::vector<Disk> disks;
  std::vector<FaultStatus> faults;
  ReadCache::Counters read_cache;
  struct Events {
    std::vector<std::pair<EventType, std::uint64_t>> recorded;  // of each type, since the start
    std::vector<std::pair<std::string, EventType>> going_on;    // disk and type
  };
  Events events;
};

inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

std::string to_prometheus(const MetricsSnapshot& snapshot);

// Fills in what the kernel knows of this process.
void read_process_counters(MetricsSnapshot& snapshot);

}  // namespace clouddisk
