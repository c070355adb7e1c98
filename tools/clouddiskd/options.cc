#include "tools/clouddiskd/options.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <thread>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/snapshot_rules.h"

namespace clouddisk {
namespace {

constexpr int kExitUsage = 2;
constexpr unsigned kReactorsMax = 64;
constexpr unsigned kSnapshotQuotaMax = 65'536;
constexpr std::uint64_t kReadCacheMax = 1_TiB;

struct Raw {
  std::string root = "/var/lib/clouddisk";
  std::vector<std::string> replicas, nbd, api, metrics;
  std::string cache = "128M";
  std::string read_cache = "128M";
  std::string log_level = "info";
  unsigned reactors = 0;
  std::string tls_dir, tls_psk, api_tls_dir;
  bool tls_required = false;
  std::vector<std::string> regions, zones;
  std::string profile = "2021";
  unsigned snapshot_quota = kManualSnapshotsMax;
  std::uint32_t api_rate = 250;
  unsigned trust_replica = 0;
  bool no_limits = false;
  bool emulate_latency = false;
  std::string store_latency = "0";
  std::string store_bandwidth = "0";
  std::string hydrate_rate = "200M";
  std::string resync_rate = "0";
  std::string scrub_rate = "100M";
  std::string scrub_every = "7d";
};

void add_options(CLI::App& app, Raw& raw) {
  app.add_option("--root", raw.root,
                 "Folder of the daemon: sockets, indexes and, by default, the replicas")
      ->envname("CLOUDDISK_ROOT")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--replica", raw.replicas,
                 "Folder of a replica; give none (DIR/replica-1 to -3) or three, on three devices "
                 "where there are three")
      ->type_name("DIR")
      ->take_all()
      ->expected(1);
  app.add_option("--nbd", raw.nbd,
                 "Where to serve disks, unix:PATH or tcp:HOST:PORT; may be repeated; default "
                 "unix:DIR/nbd.sock")
      ->type_name("ADDR")
      ->take_all()
      ->expected(1);
  app.add_option(
         "--api", raw.api,
         "Where to serve the action API: unix:PATH (default unix:DIR/api.sock, which tcp: does "
         "not replace) for whoever may open it, tcp:HOST:PORT for requests that are signed "
         "with an access key (clouddisk key create), tls:HOST:PORT for the same through TLS; may "
         "be repeated")
      ->type_name("ADDR")
      ->take_all()
      ->expected(1);
  app.add_option("--api-tls-dir", raw.api_tls_dir,
                 "Folder as --tls-dir has it, for the API at tls:HOST:PORT; default: that of "
                 "--tls-dir")
      ->type_name("DIR");
  app.add_option("--api-rate", raw.api_rate,
                 "Requests a second that an access key may make over TCP; 0: no limit. Beyond it "
                 "the answer is Throttling.User")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--metrics", raw.metrics,
                 "Where to serve /metrics and /healthz as well, unix:PATH or tcp:HOST:PORT")
      ->type_name("ADDR")
      ->take_all()
      ->expected(1);
  app.add_option("--cache", raw.cache, "Memory for the maps of all disks, as in 512M, 2G")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option(
         "--read-cache", raw.read_cache,
         "Memory for blocks of all disks that were read lately, a part for each reactor; 0: none")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--log-level", raw.log_level, "debug, info, warning, error or off")
      ->type_name("LEVEL")
      ->capture_default_str();
  app.add_option("--reactors", raw.reactors,
                 "Threads that serve disks; default: one a processor, at most 4")
      ->check(CLI::Range(1U, kReactorsMax))
      ->type_name("N");
  app.add_option("--tls-dir", raw.tls_dir,
                 "Folder with server-cert.pem and server-key.pem: offer TLS over NBD; with a "
                 "ca-cert.pem, clients must show a certificate of it")
      ->type_name("DIR");
  app.add_option("--tls-psk", raw.tls_psk, "File of pre-shared keys: offer TLS-PSK over NBD")
      ->type_name("FILE");
  app.add_flag("--tls-required", raw.tls_required,
               "Refuse NBD clients on TCP that do not ask for TLS");
  app.add_option("--region", raw.regions,
                 "Name of a region; may be repeated, the first is where things are that say no "
                 "other; default cn-local")
      ->type_name("NAME")
      ->take_all()
      ->expected(1);
  app.add_option("--zone", raw.zones,
                 "Name of a zone; may be repeated, and belongs to the region that it begins with; "
                 "default: the region's name and -a")
      ->type_name("NAME")
      ->take_all()
      ->expected(1);
  app.add_option("--profile", raw.profile, "Category table: 2021 (the manual) or 2024")
      ->check(CLI::IsMember({"2021", "2024"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--snapshot-quota", raw.snapshot_quota,
                 "Manual snapshots that a disk may have; the cloud's own quota is 256")
      ->check(CLI::Range(1U, kSnapshotQuotaMax))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--trust-replica", raw.trust_replica,
                 "Believe this replica alone when the others are lost for good; they are rebuilt "
                 "from it")
      ->check(CLI::Range(1U, kReplicaCount))
      ->type_name("N");
  app.add_flag("--no-limits", raw.no_limits,
               "Disks are as fast as the host, whatever their level: for measuring");
  app.add_flag("--emulate-latency", raw.emulate_latency,
               "Reads and writes take at least the latency that their category states");
  app.add_option("--store-latency", raw.store_latency,
                 "Emulate an object store: extra latency of each fetch of what a disk borrows from "
                 "a snapshot, as in 20ms; disks may have their own")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--store-bandwidth", raw.store_bandwidth,
                 "And bytes a second of all fetches of a disk, as in 100M; 0: no limit")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--hydrate-rate", raw.hydrate_rate,
                 "Bytes a second at which a disk loads what it borrows; 0: no limit")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option(
         "--resync-rate", raw.resync_rate,
         "Bytes a second that bringing a replica back reads of it, at most; 0: no limit. It "
         "yields to clients either way")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--scrub-rate", raw.scrub_rate,
                 "Bytes a second that scrub reads of all replicas together, at most; 0: no limit. "
                 "It yields to clients either way")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--scrub-every", raw.scrub_every,
                 "How often every copy of everything is read and checked, as in 12h or 7d; 0: only "
                 "when asked to")
      ->type_name("TIME")
      ->capture_default_str();
}

Result<std::vector<Address>> parse_addresses(const char* option,
                                             const std::vector<std::string>& texts) {
  std::vector<Address> addresses;
  for (const std::string& text : texts) {
    auto address = parse_address(text);
    if (!address) return fail(address.error(), "{}", option);
    addresses.push_back(std::move(*address));
  }
  return addresses;
}

std::string absolute(const std::string& path) {
  std::string text = std::filesystem::absolute(path).lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

Result<void> choose_replicas(const Raw& raw, DaemonOptions& options) {
  if (!raw.replicas.empty() && raw.replicas.size() != kReplicaCount) {
    return fail(Errc::kInvalid, "--replica: {} folders are given; give none or {}",
                raw.replicas.size(), kReplicaCount);
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    options.replicas[i] = raw.replicas.empty() ? fmt::format("{}/replica-{}", options.root, i + 1)
                                               : absolute(raw.replicas[i]);
    for (unsigned j = 0; j < i; ++j) {
      if (options.replicas[i] == options.replicas[j]) {
        return fail(Errc::kInvalid, "--replica: {} is given twice; three copies need three folders",
                    options.replicas[i]);
      }
    }
  }
  return {};
}

Result<void> choose_addresses(const Raw& raw, DaemonOptions& options) {
  auto nbd = parse_addresses("--nbd", raw.nbd);
  if (!nbd) return nbd.error();
  std::vector<std::string> api_in_the_clear, api_through_tls;
  for (const std::string& text : raw.api) {
    const bool tls = text.starts_with("tls:");
    (tls ? api_through_tls : api_in_the_clear).push_back(tls ? "tcp:" + text.substr(4) : text);
  }
  auto api = parse_addresses("--api", api_in_the_clear);
  if (!api) return api.error();
  auto api_tls = parse_addresses("--api, of tls:HOST:PORT", api_through_tls);
  if (!api_tls) return api_tls.error();
  options.api_tls_dir = raw.api_tls_dir.empty() ? raw.tls_dir : raw.api_tls_dir;
  if (!api_tls->empty() && options.api_tls_dir.empty()) {
    return fail(Errc::kInvalid, "--api tls:HOST:PORT needs --api-tls-dir or --tls-dir");
  }
  if (api_tls->empty() && !raw.api_tls_dir.empty()) {
    return fail(Errc::kInvalid, "--api-tls-dir needs --api tls:HOST:PORT");
  }
  options.api_tls = std::move(*api_tls);
  auto metrics = parse_addresses("--metrics", raw.metrics);
  if (!metrics) return metrics.error();
  for (Address& address : *api) {
    (address.is_unix() ? options.api : options.api_tcp).push_back(std::move(address));
  }
  options.nbd = std::move(*nbd);
  options.metrics = std::move(*metrics);
  struct Default {
    std::vector<Address>& into;
    const char* text;
  };
  for (const Default& entry : {Default{options.nbd, "nbd.sock"}, {options.api, "api.sock"}}) {
    if (!entry.into.empty()) continue;
    auto address = parse_address(fmt::format("unix:{}/{}", options.root, entry.text));
    if (!address) return address.error();
    entry.into.push_back(std::move(*address));
  }
  return {};
}

Result<DaemonOptions> check(const Raw& raw) {
  DaemonOptions options;
  options.root = absolute(raw.root);
  if (auto chosen = choose_replicas(raw, options); !chosen) return chosen.error();
  if (auto chosen = choose_addresses(raw, options); !chosen) return chosen.error();
  auto cache = parse_size(raw.cache);
  if (!cache) return fail(cache.error(), "--cache");
  options.cache_bytes = *cache;
  auto read_cache = parse_size(raw.read_cache);
  if (!read_cache) return fail(read_cache.error(), "--read-cache");
  if (*read_cache > kReadCacheMax) {
    return fail(Errc::kInvalid, "--read-cache: {} at most", format_bytes(kReadCacheMax));
  }
  options.read_cache_bytes = *read_cache;
  auto level = parse_log_level(raw.log_level);
  if (!level) return fail(level.error(), "--log-level");
  options.log_level = *level;
  options.reactors =
      raw.reactors != 0 ? raw.reactors : std::clamp(std::thread::hardware_concurrency(), 1U, 4U);
  if (raw.tls_required && raw.tls_dir.empty() && raw.tls_psk.empty()) {
    return fail(Errc::kInvalid, "--tls-required needs --tls-dir or --tls-psk");
  }
  options.tls_dir = raw.tls_dir;
  options.tls_psk = raw.tls_psk;
  options.tls_required = raw.tls_required;
  const std::vector<std::string> home{"cn-local"};
  auto places = Places::parse(raw.regions.empty() ? home : raw.regions, raw.zones);
  if (!places) return fail(places.error(), "--region and --zone");
  options.places = std::move(*places);
  options.profile = raw.profile;
  options.snapshot_quota = raw.snapshot_quota;
  options.api_rate = raw.api_rate;
  if (raw.trust_replica != 0) options.trust_replica = raw.trust_replica - 1;
  options.limits = !raw.no_limits;
  options.emulate_latency = raw.emulate_latency;
  auto latency = parse_duration(raw.store_latency);
  if (!latency) return fail(latency.error(), "--store-latency");
  auto bandwidth = parse_size(raw.store_bandwidth);
  if (!bandwidth) return fail(bandwidth.error(), "--store-bandwidth");
  const auto microseconds = std::chrono::floor<std::chrono::microseconds>(*latency).count();
  if (auto broken =
          store_must_be_near_enough(static_cast<std::uint64_t>(microseconds), *bandwidth)) {
    return fail(Errc::kInvalid,
                "--store-latency is at most 60s, --store-bandwidth 0 or at least 1M");
  }
  options.store = {*latency, *bandwidth};
  auto rate = parse_size(raw.hydrate_rate);
  if (!rate) return fail(rate.error(), "--hydrate-rate");
  if (auto broken = hydration_pace_must_be_sensible(*rate)) {
    return fail(Errc::kInvalid, "--hydrate-rate is 0, for no limit, or at least 1M");
  }
  options.hydrate_bytes_per_second = *rate;
  const auto rate_of = [](const char* option, const std::string& text) -> Result<std::uint64_t> {
    auto parsed = parse_size(text);
    if (!parsed) return fail(parsed.error(), "{}", option);
    if (*parsed != 0 && *parsed < 1_MiB) {
      return fail(Errc::kInvalid, "{} is 0, for no limit, or at least 1M", option);
    }
    return *parsed;
  };
  auto resync_rate = rate_of("--resync-rate", raw.resync_rate);
  if (!resync_rate) return resync_rate.error();
  options.resync_bytes_per_second = *resync_rate;
  auto scrub_rate = rate_of("--scrub-rate", raw.scrub_rate);
  if (!scrub_rate) return scrub_rate.error();
  options.scrub_bytes_per_second = *scrub_rate;
  auto every = parse_duration(raw.scrub_every);
  if (!every) return fail(every.error(), "--scrub-every");
  options.scrub_every = *every;
  return options;
}

}  // namespace

std::variant<DaemonOptions, int> parse_daemon_options(int argc, const char* const* argv) {
  CLI::App app("clouddiskd: serves virtual disks over NBD and the action API that manages them",
               "clouddiskd");
  Raw raw;
  add_options(app, raw);
  app.set_version_flag("--version", CLOUDDISK_VERSION);
  app.footer(
      "Examples:\n"
      "  clouddiskd --root /var/lib/clouddisk\n"
      "  clouddiskd --root /srv/cd --replica /disk1/cd --replica /disk2/cd --replica /disk3/cd\n"
      "  clouddiskd --root /srv/cd --nbd unix:/srv/cd/nbd.sock --nbd tcp:127.0.0.1:10809\n"
      "  clouddiskd --root /srv/cd --api tcp:127.0.0.1:18080\n"
      "  clouddiskd --root /srv/cd --api tls:0.0.0.0:18443 --api-tls-dir /etc/clouddisk/tls\n"
      "  clouddiskd --root /srv/cd --metrics tcp:127.0.0.1:9109 --log-level debug\n"
      "It prints READY when it serves; SIGTERM ends it cleanly.");
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return fmt::format("error: WrongUsage: {}; see: clouddiskd --help\n", error.what());
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? 0 : kExitUsage;
  }
  auto options = check(raw);
  if (!options) {
    fmt::print(stderr, "error: WrongUsage: {}\n", options.error().message);
    return kExitUsage;
  }
  return std::move(*options);
}

}  // namespace clouddisk
