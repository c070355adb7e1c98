// options.h: the daemon's command line.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/catalog/places.h"
#include "engine/control/disk_host.h"
#include "engine/log/replica_set.h"
#include "engine/ring/address.h"
#include "tools/net/quantity.h"

namespace clouddisk {

struct DaemonOptions {
  std::string root;
  std::array<std::string, kReplicaCount> replicas;
  std::vector<Address> nbd;
  std::vector<Address> api;      // unix: who may write to the file may do everything
  std::vector<Address> api_tcp;  // for signed requests
  std::vector<Address> api_tls;  // the same through TLS
  std::string api_tls_dir;       // its certificates; not empty if there are any of these
  std::uint32_t api_rate = 0;    // requests a second of an access key on TCP; 0: no limit
  std::vector<Address> metrics;  // beside the API's socket
  std::uint64_t cache_bytes = 0;
  std::uint64_t read_cache_bytes = 0;
  LogLevel log_level = LogLevel::kInfo;
  unsigned reactors = 1;
  std::string tls_dir;        // certificates for NBD; empty: none
  std::string tls_psk;        // a file of pre-shared keys; empty: none
  bool tls_required = false;  // clients that don't ask for TLS are turned away
  Places places{};            // regions and zones
  std::string profile;
  unsigned snapshot_quota = 0;                 // manual snapshots of a disk
  std::optional<unsigned> trust_replica;       // from 0
  bool emulate_latency = false;                // requests take what their category states
  bool limits = true;                          // false: disks are as fast as the host
  StoreSettings store;                         // of what disks borrow from snapshots
  std::uint64_t hydrate_bytes_per_second = 0;  // of each disk; 0: no limit
  std::uint64_t resync_bytes_per_second = 0;   // 0: no limit
  std::uint64_t scrub_bytes_per_second = 0;    // 0: no limit
  Duration scrub_every{};                      // 0: never by itself
};

// The options, or the exit status when there is nothing to run (help was asked, usage was wrong;
// what there is to say has been printed).
std::variant<DaemonOptions, int> parse_daemon_options(int argc, const char* const* argv);

}  // namespace clouddisk
