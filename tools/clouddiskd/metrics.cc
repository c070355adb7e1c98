#include "tools/clouddiskd/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

namespace clouddisk {
namespace {

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

using prometheus::MetricType;

// Collects metrics and their samples.
class Exposition {
 public:
  void begin(std::string_view name, MetricType type, std::string_view help) {
    families_.push_back({std::string(name), std::string(help), type, {}});
  }
  void sample(const Labels& labels, double value) {
    prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
    for (const auto& [label, text] : labels) {
      metric.label.push_back({std::string(label), std::string(text)});
    }
    (families_.back().type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        value;
  }
  void single(std::string_view name, MetricType type, std::string_view help, double value) {
    begin(name, type, help);
    sample({}, value);
  }
  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  std::vector<prometheus::MetricFamily> families_;
};

double number(std::uint64_t value) {
  return static_cast<double>(value);
}
double seconds(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e9;
}

void add_process(Exposition& out, const MetricsSnapshot& s) {
  out.begin("clouddisk_build_info", MetricType::Gauge, "Always 1; the version is a label.");
  out.sample({{"version", s.version}}, 1);
  out.single("clouddisk_uptime_seconds", MetricType::Gauge, "Since the daemon began to serve.",
             s.uptime_seconds);
  out.single("process_resident_memory_bytes", MetricType::Gauge, "Memory in RAM.",
             number(s.resident_bytes));
  out.single("process_cpu_seconds_total", MetricType::Counter, "User and system time.",
             s.cpu_seconds);
  out.single("process_open_fds", MetricType::Gauge, "Open descriptors.",
             number(s.open_descriptors));
  out.single("clouddisk_api_connections", MetricType::Gauge, "Open connections to API and metrics.",
             number(s.http_connections));
  out.single("clouddisk_api_requests_total", MetricType::Counter, "HTTP requests answered.",
             number(s.http_requests));
  out.single("clouddisk_known_disks", MetricType::Gauge,
             "Disks that the daemon keeps something of in memory.", number(s.known_disks));
  out.single("clouddisk_nbd_connections", MetricType::Gauge, "Open NBD connections.",
             number(s.nbd_connections));
  out.single("clouddisk_nbd_connections_total", MetricType::Counter, "NBD connections accepted.",
             number(s.nbd_connections_total));
}

void add_replicas(Exposition& out, const std::vector<ReplicaStatus>& replicas) {
  const auto each = [&](std::string_view metric, std::string_view help,
                        const std::function<double(const ReplicaStatus&)>& value) {
    out.begin(metric, MetricType::Gauge, help);
    for (const ReplicaStatus& replica : replicas) {
      out.sample({{"replica", std::to_string(replica.index + 1)}, {"folder", replica.folder}},
                 value(replica));
    }
  };
  out.single("clouddisk_replicas_in_sync", MetricType::Gauge,
             "Replicas that hold everything; writes need two.",
             number(static_cast<std::uint64_t>(
                 std::count_if(replicas.begin(), replicas.end(), [](const ReplicaStatus& replica) {
                   return replica.state == ReplicaState::kInSync;
                 }))));
  out.begin("clouddisk_replica_state", MetricType::Gauge,
            "1 for the state that the replica is in.");
  for (const ReplicaStatus& replica : replicas) {
    for (const ReplicaState state :
         {ReplicaState::kInSync, ReplicaState::kFailed, ReplicaState::kResyncing}) {
      out.sample({{"replica", std::to_string(replica.index + 1)},
                  {"folder", replica.folder},
                  {"state", name(state)}},
                 replica.state == state ? 1 : 0);
    }
  }
  each("clouddisk_replica_generation", "Newest generation the folder was a member of.",
       [](const ReplicaStatus& replica) { return number(replica.generation.value); });
  each("clouddisk_replica_resync_done_bytes", "Copied by the resync under way or the last one.",
       [](const ReplicaStatus& replica) { return number(replica.resync_done_bytes); });
  each("clouddisk_replica_resync_total_bytes", "What the resync has to copy.",
       [](const ReplicaStatus& replica) { return number(replica.resync_total_bytes); });
}

void add_scrub(Exposition& out, const ScrubStatus& scrub) {
  const auto each = [&](std::string_view metric, std::string_view help,
                        const std::function<std::uint64_t(const ScrubCounts&)>& value) {
    out.begin(metric, MetricType::Counter, help);
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      out.sample({{"replica", std::to_string(i + 1)}}, number(value(scrub.total[i])));
    }
  };
  each("clouddisk_scrub_checked_bytes_total", "Read by scrub.",
       [](const ScrubCounts& counts) { return counts.checked_bytes; });
  each("clouddisk_scrub_bad_blocks_total", "Copies of blocks that scrub found damaged.",
       [](const ScrubCounts& counts) { return counts.bad_blocks; });
  each("clouddisk_scrub_mended_blocks_total", "Of them, replaced by good ones.",
       [](const ScrubCounts& counts) { return counts.mended_blocks; });
  out.single("clouddisk_scrub_lost_blocks_total", MetricType::Counter,
             "Blocks without a good copy on any replica, each time they are found.",
             number(scrub.total_lost_blocks));
  out.single("clouddisk_scrub_running", MetricType::Gauge, "1 while a pass is under way.",
             scrub.state == ScrubStatus::State::kRunning ? 1 : 0);
  out.single("clouddisk_scrub_done_bytes", MetricType::Gauge,
             "Of one replica, checked by the pass under way.", number(scrub.done_bytes));
  out.single("clouddisk_scrub_total_bytes", MetricType::Gauge, "Of one replica, to be checked.",
             number(scrub.total_bytes));
  out.single("clouddisk_scrub_last_complete_timestamp_seconds", MetricType::Gauge,
             "When the last complete pass ended, since 1970; 0: there was none.",
             static_cast<double>(scrub.complete_ns) / 1e9);
}

void add_read_cache(Exposition& out, const ReadCache::Counters& cache) {
  out.begin("clouddisk_read_cache_blocks_total", MetricType::Counter,
            "4 KiB blocks asked of the read cache; the hit rate is hits to both.");
  out.sample({{"result", "hit"}}, number(cache.hits));
  out.sample({{"result", "miss"}}, number(cache.misses));
  out.single("clouddisk_read_cache_bytes", MetricType::Gauge, "Blocks that it holds.",
             number(cache.bytes));
}

void add_disks(Exposition& out, const std::vector<MetricsSnapshot::Disk>& disks) {
  struct Kind {
    std::string_view op;
    std::function<double(const DiskStats&)> value;
  };
  const auto by_kind = [&](std::string_view metric, std::string_view help,
                           const std::vector<Kind>& kinds) {
    out.begin(metric, MetricType::Counter, help);
    for (const MetricsSnapshot::Disk& disk : disks) {
      for (const Kind& kind : kinds) {
        out.sample({{"disk", disk.id}, {"op", kind.op}}, kind.value(disk.stats));
      }
    }
  };
  const auto plain = [&](std::string_view metric, MetricType type, std::string_view help,
                         const std::function<double(const DiskStats&)>& value) {
    out.begin(metric, type, help);
    for (const MetricsSnapshot::Disk& disk : disks) {
      out.sample({{"disk", disk.id}}, value(disk.stats));
    }
  };
  by_kind("clouddisk_disk_operations_total", "Requests answered since the disk was opened.",
          {{"read", [](const DiskStats& s) { return number(s.reads); }},
           {"write", [](const DiskStats& s) { return number(s.writes); }},
           {"flush", [](const DiskStats& s) { return number(s.flushes); }},
           {"trim", [](const DiskStats& s) { return number(s.trims); }}});
  by_kind("clouddisk_disk_bytes_total", "Bytes of these requests.",
          {{"read", [](const DiskStats& s) { return number(s.read_bytes); }},
           {"write", [](const DiskStats& s) { return number(s.written_bytes); }}});
  by_kind("clouddisk_disk_seconds_total",
          "Sum of the times of these requests, waiting for limits included.",
          {{"read", [](const DiskStats& s) { return seconds(s.read_nanoseconds); }},
           {"write", [](const DiskStats& s) { return seconds(s.write_nanoseconds); }}});
  plain("clouddisk_disk_throttled_seconds_total", MetricType::Counter,
        "Time spent waiting for limits.",
        [](const DiskStats& s) { return seconds(s.throttled_nanoseconds); });
  plain("clouddisk_disk_stalled_seconds_total", MetricType::Counter,
        "Time in which limits had more to give and the daemon did not get to run.",
        [](const DiskStats& s) { return seconds(s.stalled_nanoseconds); });
  plain("clouddisk_disk_errors_total", MetricType::Counter, "Requests that failed.",
        [](const DiskStats& s) { return number(s.errors); });
  plain("clouddisk_disk_connections", MetricType::Gauge, "NBD sessions of the disk.",
        [](const DiskStats& s) { return number(s.connections); });
  plain("clouddisk_disk_mapped_bytes", MetricType::Gauge, "Data that reads back.",
        [](const DiskStats& s) { return number(s.mapped_bytes); });
  plain("clouddisk_disk_stored_bytes", MetricType::Gauge,
        "Held on each replica, with what compaction has not freed.",
        [](const DiskStats& s) { return number(s.stored_bytes); });
  plain("clouddisk_disk_index_bytes", MetricType::Gauge, "Size of the disk's index.",
        [](const DiskStats& s) { return number(s.index_bytes); });
  plain("clouddisk_disk_checksum_errors_total", MetricType::Counter,
        "Blocks that were not what was written.",
        [](const DiskStats& s) { return number(s.checksum_errors); });
  plain("clouddisk_disk_repaired_blocks_total", MetricType::Counter,
        "Bad copies replaced by good ones.",
        [](const DiskStats& s) { return number(s.repaired_blocks); });
  plain("clouddisk_disk_compacted_bytes_total", MetricType::Counter,
        "Live data moved by compaction.",
        [](const DiskStats& s) { return number(s.compacted_bytes); });
}

void add_hydrations(Exposition& out, const std::vector<MetricsSnapshot::Disk>& disks) {
  const auto each = [&](std::string_view metric, std::string_view help,
                        const std::function<double(const Progress&)>& value) {
    out.begin(metric, MetricType::Gauge, help);
    for (const MetricsSnapshot::Disk& disk : disks) {
      if (disk.hydration) out.sample({{"disk", disk.id}}, value(*disk.hydration));
    }
  };
  each("clouddisk_disk_hydration_done_bytes", "Of the disk, loaded from its snapshot or looked at.",
       [](const Progress& p) { return number(p.done); });
  each("clouddisk_disk_hydration_total_bytes", "Of the disk, that has to be looked at.",
       [](const Progress& p) { return number(p.total); });
  each("clouddisk_disk_hydration_failed", "1: it was given up; HydrateDisk begins it again.",
       [](const Progress& p) { return p.failure.empty() ? 0.0 : 1.0; });
}

void add_faults(Exposition& out, const std::vector<FaultStatus>& faults) {
  out.single("clouddisk_faults", MetricType::Gauge, "Faults that are set on purpose: alert on it.",
             number(faults.size()));
  out.begin("clouddisk_fault_hits", MetricType::Gauge, "Requests that met a fault that is set.");
  for (const FaultStatus& fault : faults) {
    const std::string level =
        fault.spec.at_client() ? "client" : fmt::format("replica-{}", *fault.spec.replica + 1);
    out.sample({{"fault", fault.id},
                {"disk", fault.spec.disk_id},
                {"kind", name(fault.spec.kind)},
                {"level", level}},
               number(fault.hits));
  }
}

void add_events(Exposition& out, const MetricsSnapshot::Events& events) {
  out.begin("clouddisk_disk_events_total", MetricType::Counter,
            "System events of disks that were recorded.");
  for (const auto& [type, count] : events.recorded) {
    out.sample({{"type", kind_of(type).name}}, number(count));
  }
  out.begin("clouddisk_disk_event_going_on", MetricType::Gauge,
            "1 for each event that is not over.");
  for (const auto& [disk, type] : events.going_on) {
    out.sample({{"disk", disk}, {"type", kind_of(type).name}}, 1);
  }
}

}  // namespace

std::string to_prometheus(const MetricsSnapshot& snapshot) {
  Exposition out;
  add_process(out, snapshot);
  add_replicas(out, snapshot.replicas);
  add_scrub(out, snapshot.scrub);
  add_read_cache(out, snapshot.read_cache);
  add_disks(out, snapshot.disks);
  add_hydrations(out, snapshot.disks);
  add_faults(out, snapshot.faults);
  add_events(out, snapshot.events);
  return out.text();
}

void read_process_counters(MetricsSnapshot& snapshot) {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  std::uint64_t resident = 0;
  if (statm >> pages >> resident) {
    snapshot.resident_bytes = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto in_seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    snapshot.cpu_seconds = in_seconds(usage.ru_utime) + in_seconds(usage.ru_stime);
  }
  std::error_code error;
  const std::filesystem::directory_iterator descriptors("/proc/self/fd", error);
  if (!error) {
    snapshot.open_descriptors = static_cast<std::uint64_t>(
        std::distance(begin(descriptors), std::filesystem::end(descriptors)));
  }
}

}  // namespace clouddisk
