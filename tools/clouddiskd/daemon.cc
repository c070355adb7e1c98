#include "tools/clouddiskd/daemon.h"

#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>

#include "engine/base/log.h"
#include "engine/control/control.h"
#include "engine/log/removed_disks.h"
#include "nbd/server.h"
#include "tools/auth/nonce_journal.h"
#include "tools/auth/verifier.h"
#include "tools/clouddiskd/api_handler.h"
#include "tools/clouddiskd/disk_watch.h"
#include "tools/clouddiskd/engine_host.h"
#include "tools/clouddiskd/metrics.h"
#include "tools/clouddiskd/reactor.h"
#include "tools/clouddiskd/request_throttle.h"
#include "tools/clouddiskd/service_notify.h"
#include "tools/http/server.h"
#include "tools/http/tls.h"
#include "tools/net/root_lock.h"

namespace clouddisk {
namespace {

constexpr Duration kFolderCheckEvery = std::chrono::seconds(1);
constexpr Duration kScheduleEvery = std::chrono::seconds(1);
constexpr std::size_t kWorkers = 8;  // They mostly wait for the device.
// Of a request over TCP. A connection holds a request as it was received, parsed and decoded: some
// three times the two, less than 1 MiB. So 512 connections hold less than 512 MiB at the worst.
constexpr std::uint32_t kSignedHeadBytesMax = 16 * 1024;
constexpr std::uint64_t kSignedBodyBytesMax = 256 * 1024;

// Every open LMDB environment sets 2 MiB aside, zeroed, of which it mostly touches the beginning.
// The allocator, which takes large blocks from its heap as soon as some have come and gone, would
// write all of it.
constexpr int kOwnMappingBytes = 1 << 20;
constexpr int kKeptFreeBytes = 32 << 20;

void leave_untouched_memory_alone() {
  mallopt(M_MMAP_THRESHOLD, kOwnMappingBytes);
  mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

class Daemon {
 public:
  Daemon(const DaemonOptions& options, Ring& ring, WorkerPool& workers)
      : options_(options),
        ring_(ring),
        workers_(workers),
        points_(options.root + "/monitor"),
        nonces_(options.root + "/nonces", auth::kNonceLife),
        throttle_(options.api_rate),
        ticking_(ring),
        woken_(ring) {}

  Task<Result<void>> start();
  Task<Result<void>> stop();

 private:
  Task<Result<void>> start_engine();
  Result<void> start_http();
  bool serves_signed() const { return !options_.api_tcp.empty() || !options_.api_tls.empty(); }
  using Verified = auth::SignatureVerifier::Verified;
  Task<Verdict> use_nonce(auth::UsedNonce nonce);
  Task<Result<void>> recall_nonces();
  Task<Result<void>> record(auth::UsedNonce nonce, WallTime now);
  Task<void> tick();
  Task<void> schedule();  // automatic snapshots, and the end of old ones
  Task<void> purge();     // what was deleted goes here
  Task<void> purge_replica(unsigned replica);
  Task<std::string> metrics();

  const DaemonOptions& options_;
  std::array<RootLock, kReplicaCount> folder_locks_;
  Ring& ring_;
  WorkerPool& workers_;
  std::unique_ptr<ReplicaSet> replicas_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::unique_ptr<nbd::Server> nbd_;
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<Control> control_;
  PointStore points_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<DiskWatch> watch_;
  std::unique_ptr<ApiHandler> handler_;
  auth::SignatureVerifier verifier_{[this](std::string_view id) -> std::optional<auth::AccessKey> {
    auto key = control_->find_access_key(id);
    if (!key) return std::nullopt;
    return auth::AccessKey{std::move(key->secret), key->active};
  }};
  auth::NonceJournal nonces_;
  WorkerPool nonce_worker_{1};
  RequestThrottle throttle_;
  std::unique_ptr<HttpServer> api_;
  // Of its own, so that strangers can't take the connections that the unix socket needs.
  std::unique_ptr<HttpServer> api_tcp_;
  std::unique_ptr<HttpServer> metrics_;
  WaitGroup ticking_;
  Signal woken_;
  TimePoint started_{};
  std::array<bool, kReplicaCount> purge_wanted_{};
  std::array<bool, kReplicaCount> purging_{};
  bool stopping_ = false;
};

Task<Result<void>> Daemon::start() {
  started_ = ring_.now();
  auto engine = co_await start_engine();
  if (!engine) co_return engine;
  if (auto recalled = co_await recall_nonces(); !recalled) co_return recalled;
  if (auto http = start_http(); !http) co_return http;
  nbd_->start();
  host_->resync_what_is_missing();
  co_await host_->begin_scrubbing();
  watch_->start();
  ticking_.add(3);
  spawn(tick());
  spawn(schedule());
  spawn(purge());
  co_return Result<void>{};
}

Task<Result<void>> Daemon::start_engine() {
  ReplicaSet::Options set;
  const std::string record = options_.root + "/replicas";
  auto replacements = co_await ring_.blocking([&record] { return load_replacements(record); });
  if (!replacements) co_return replacements.error();
  set.folders = with_replacements(options_.replicas, *replacements);
  const ReplicaFolders folders = set.folders;
  auto locked = co_await ring_.blocking([this, &folders]() -> Result<void> {
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      std::error_code ignored;  // Whoever opens the set finds out what is wrong with it.
      std::filesystem::create_directories(folders[i], ignored);
      auto taken = folder_locks_[i].take_folder(folders[i]);
      if (!taken) return fail(taken.error(), "replica {}", i + 1);
    }
    return {};
  });
  if (!locked) co_return locked;
  set.trusted_single = options_.trust_replica;
  const std::string indexes = options_.root + "/index";
  auto known = co_await ring_.list(indexes);
  const bool has_disks = known && std::any_of(known->begin(), known->end(), [](const auto& name) {
                           return name.starts_with("d-") || name.starts_with("sl-");
                         });
  if (has_disks || (!known && known.error().code != Errc::kNotFound)) set.traces = indexes;
  auto replicas = co_await ReplicaSet::open(ring_, std::move(set));
  if (!replicas) co_return replicas.error();
  replicas_ = std::move(*replicas);
  ReactorOptions reactor_options;
  if (options_.cache_bytes > 0) {
    reactor_options.page_cache_bytes = options_.cache_bytes / options_.reactors;
  }
  reactor_options.read_cache_bytes = options_.read_cache_bytes / options_.reactors;
  std::vector<Reactor*> reactors;
  for (unsigned i = 0; i < options_.reactors; ++i) {
    auto reactor = Reactor::start(*replicas_, workers_, reactor_options);
    if (!reactor) co_return reactor.error();
    reactors.push_back(reactor->get());
    reactors_.push_back(std::move(*reactor));
  }
  nbd::ServerOptions nbd_options;
  for (const Address& address : options_.nbd) nbd_options.addresses.push_back({address, {}});
  if (!options_.tls_dir.empty() || !options_.tls_psk.empty()) {
    // An authority in the folder asks clients for a certificate of it. One that can't be looked at
    // counts as there, so that loading it fails instead of letting everybody in.
    const std::string authority = options_.tls_dir + "/ca-cert.pem";
    const bool verify_clients =
        !options_.tls_dir.empty() && (::access(authority.c_str(), F_OK) == 0 || errno != ENOENT);
    auto credentials =
        nbd::TlsCredentials::load(options_.tls_dir, options_.tls_psk, verify_clients);
    if (!credentials) co_return credentials.error();
    nbd_options.tls = *credentials;
    nbd_options.tls_required = options_.tls_required;
  }
  auto server = nbd::Server::create(ring_, std::move(nbd_options));
  if (!server) co_return server.error();
  nbd_ = std::move(*server);
  EngineHost::Options host_options;
  host_options.index_root = options_.root + "/index";
  host_options.limits = options_.limits;
  host_options.emulate_latency = options_.emulate_latency;
  host_options.hydrate_bytes_per_second = options_.hydrate_bytes_per_second;
  host_options.root = options_.root;
  host_options.configured = options_.replicas;
  host_options.resync_bytes_per_second = options_.resync_bytes_per_second;
  host_options.scrub_bytes_per_second = options_.scrub_bytes_per_second;
  host_options.scrub_every = options_.scrub_every;
  host_ = std::make_unique<EngineHost>(ring_, *replicas_, *nbd_, reactors, std::move(host_options));
  for (unsigned i = 0; i < kReplicaCount; ++i) host_->hold_folder(i, std::move(folder_locks_[i]));
  Control::Options control_options;
  control_options.places = options_.places;
  control_options.profile = options_.profile;
  control_options.snapshot_quota = options_.snapshot_quota;
  control_options.store = options_.store;
  control_options.points = &points_;
  EventLog::Options event_options;
  event_options.path = options_.root + "/events";
  event_options.region = options_.places.home().id;
  event_options.seed = std::random_device()();
  auto events = co_await EventLog::open(ring_, std::move(event_options));
  if (!events) co_return events.error();
  events_ = std::move(*events);
  control_options.events = events_.get();
  control_options.limits_enforced = options_.limits;
  control_options.latency_emulated = options_.emulate_latency;
  DiskWatch::Parts watch;
  watch.readings = [this] { return host_->readings(); };
  watch.has_disk = [this](const std::string& id) { return control_->has_disk(id); };
  watch.replicas = [this] { return replicas_->status(); };
  watch_ = std::make_unique<DiskWatch>(ring_, points_, *events_, std::move(watch));
  host_->set_found([this](const std::string& id, std::uint64_t mended, std::uint64_t lost) {
    watch_->found(id, mended, lost);
  });
  host_->set_closing([this](const DiskReading& reading) { watch_->closing(reading); });
  auto control = co_await Control::open(ring_, *replicas_, *host_, std::move(control_options));
  if (!control) co_return control.error();
  control_ = std::move(*control);
  host_->set_catalog_copy([this](unsigned replica) { return control_->copy_catalog_to(replica); });
  co_return Result<void>{};
}

Result<void> Daemon::start_http() {
  ApiHandler::Parts parts;
  parts.perform = [this](Params params, Caller caller) {
    return control_->perform(std::move(params), caller);
  };
  parts.verify = [this](const HttpRequest& request) -> Task<std::variant<Verified, Refusal>> {
    co_return verifier_.verify(request, ring_.wall_now());
  };
  parts.use_nonce = [this](const Verified& verified) { return use_nonce(verified.nonce); };
  parts.throttle = [this](const std::string& key) { return throttle_.admit(key, ring_.now()); };
  parts.metrics = [this] { return metrics(); };
  handler_ = std::make_unique<ApiHandler>(std::move(parts));
  auto api = HttpServer::start(
      ring_, options_.api,
      [this](HttpRequest request) { return handler_->handle(std::move(request)); }, {});
  if (!api) return api.error();
  api_ = std::move(*api);
  if (serves_signed()) {
    HttpServer::Options bounds;
    bounds.head_bytes_max = kSignedHeadBytesMax;
    bounds.body_bytes_max = kSignedBodyBytesMax;
    bounds.tls_addresses = options_.api_tls;
    if (!options_.api_tls.empty()) {
      auto tls = HttpTls::load(options_.api_tls_dir);
      if (!tls) return tls.error();
      bounds.tls = std::move(*tls);
    }
    auto signed_api = HttpServer::start(
        ring_, options_.api_tcp,
        [this](HttpRequest request) { return handler_->handle_signed(std::move(request)); },
        std::move(bounds));
    if (!signed_api) return signed_api.error();
    api_tcp_ = std::move(*signed_api);
    const std::vector<Address>& addresses = api_tcp_->addresses();
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      std::string text = addresses[i].text();
      if (i >= options_.api_tcp.size()) text.replace(0, 3, "tls");
      log(LogLevel::kInfo, "daemon", "the API, for signed requests, is at {}", text);
    }
  }
  if (options_.metrics.empty()) return {};
  auto metrics = HttpServer::start(
      ring_, options_.metrics,
      [this](HttpRequest request) { return handler_->handle_metrics(std::move(request)); }, {});
  if (!metrics) return metrics.error();
  metrics_ = std::move(*metrics);
  return {};
}

Task<Result<void>> Daemon::recall_nonces() {
  if (!serves_signed()) co_return Result<void>{};
  const WallTime now = ring_.wall_now();
  auto used = co_await ring_.blocking([this, now] { return nonces_.open(now); });
  if (!used) co_return used.error();
  for (const auth::UsedNonce& nonce : *used) verifier_.remember(nonce, now);
  co_return Result<void>{};
}

// On a thread of its own: the others may all wait for a device.
Task<Result<void>> Daemon::record(auth::UsedNonce nonce, WallTime now) {
  Result<void> recorded;
  co_await ring_.operation([this, &recorded, nonce, now](Completion& completion) {
    nonce_worker_.submit([this, &recorded, nonce, now, waiter = completion.waiter] {
      recorded = nonces_.append(nonce, now);
      ring_.post([waiter] { waiter.resume(); });
    });
  });
  co_return recorded;
}

// The nonce is on file before the request is carried out.
Task<Verdict> Daemon::use_nonce(auth::UsedNonce nonce) {
  const WallTime now = ring_.wall_now();
  if (auto refused = verifier_.use_nonce(nonce, now)) co_return refused;
  auto recorded = co_await record(nonce, now);
  if (!recorded) {
    log(LogLevel::kError, "daemon", "a signed request is refused: {}", recorded.error().message);
    co_return Refusal{503, "ServiceUnavailable", recorded.error().message};
  }
  co_return std::nullopt;
}

Task<void> Daemon::tick() {
  const auto watchdog = watchdog_interval();
  TimePoint last_watchdog = ring_.now();
  while (!stopping_) {
    co_await replicas_->check_folders();
    if (watchdog && ring_.now() - last_watchdog >= *watchdog) {
      notify_service_manager("WATCHDOG=1");
      last_watchdog = ring_.now();
    }
    if (stopping_) break;
    const bool woken = co_await woken_.wait_until(ring_.now() + kFolderCheckEvery);
    static_cast<void>(woken);
  }
  ticking_.done();
}

Task<void> Daemon::schedule() {
  while (!stopping_) {
    co_await control_->keep_schedule(ring_.wall_now());
    host_->forget_idle();
    if (stopping_) break;
    const bool woken = co_await woken_.wait_until(ring_.now() + kScheduleEvery);
    static_cast<void>(woken);
  }
  ticking_.done();
}

Task<void> Daemon::purge() {
  while (!stopping_) {
    if (replicas_->take_removed()) {
      for (unsigned replica = 0; replica < kReplicaCount; ++replica) {
        // One that is out may not answer. What it has is removed when it is back, after a restart.
        const ReplicaMask in_use = replicas_->in_sync_mask() | replicas_->receiving_mask();
        if ((in_use >> replica & 1U) == 0) continue;
        purge_wanted_[replica] = true;
        if (std::exchange(purging_[replica], true)) continue;
        ticking_.add();
        spawn(purge_replica(replica));
      }
    }
    if (stopping_) break;
    const bool woken = co_await woken_.wait_until(ring_.now() + kFolderCheckEvery);
    static_cast<void>(woken);
  }
  ticking_.done();
}

// Each by itself: one that hangs must not keep the space of the others.
Task<void> Daemon::purge_replica(unsigned replica) {
  const auto stop = [this] { return stopping_; };
  while (std::exchange(purge_wanted_[replica], false) && !stopping_) {
    auto gone = co_await purge_removed(ring_, replicas_->folder(replica), stop);
    if (gone || stopping_) continue;
    log(LogLevel::kWarning, "daemon",
        "space of removed disks comes back with the next removal or start: {}",
        gone.error().message);
  }
  purging_[replica] = false;
  ticking_.done();
}

Task<std::string> Daemon::metrics() {
  MetricsSnapshot snapshot;
  snapshot.version = CLOUDDISK_VERSION;
  snapshot.uptime_seconds = std::chrono::duration<double>(ring_.now() - started_).count();
  read_process_counters(snapshot);
  snapshot.http_connections = api_->connections() + (api_tcp_ ? api_tcp_->connections() : 0);
  snapshot.http_requests = api_->requests() + (api_tcp_ ? api_tcp_->requests() : 0);
  snapshot.known_disks = host_->known_disks();
  snapshot.nbd_connections = nbd_->counters().connections.load();
  snapshot.nbd_connections_total = nbd_->counters().connections_total.load();
  snapshot.replicas = replicas_->status();
  snapshot.scrub = host_->scrub_status();
  const std::vector<std::string> ids = host_->served_disks();
  for (const std::string& id : ids) {
    auto stats = co_await host_->stats(id);
    if (stats) snapshot.disks.push_back({id, *stats, host_->hydration_progress(id)});
  }
  snapshot.faults = host_->faults();
  for (const auto& reactor : reactors_) {
    const ReadCache::Counters one = reactor->environment().reads->counters();
    snapshot.read_cache.hits += one.hits;
    snapshot.read_cache.misses += one.misses;
    snapshot.read_cache.bytes += one.bytes;
  }
  for (const EventKind& kind : kEventKinds) {
    snapshot.events.recorded.push_back({kind.type, events_->recorded(kind.type)});
  }
  for (const auto& [key, event] : events_->going_on()) {
    snapshot.events.going_on.push_back({key.first, key.second});
  }
  co_return to_prometheus(snapshot);
}

// In the order in which things depend on each other, and safe after a start that failed half-way.
Task<Result<void>> Daemon::stop() {
  stopping_ = true;
  woken_.wake_all();
  co_await ticking_.wait();
  if (watch_) co_await watch_->stop();
  if (api_tcp_) co_await api_tcp_->stop();
  if (api_) co_await api_->stop();
  if (metrics_) co_await metrics_->stop();
  if (control_) co_await control_->close();
  Result<void> result;
  if (host_) result = co_await host_->stop();
  if (watch_) co_await watch_->flush();
  if (events_) co_await events_->close();
  if (nbd_) co_await nbd_->stop();
  host_.reset();
  control_.reset();
  reactors_.clear();
  co_return result;
}

int serve(const DaemonOptions& options) {
  RootLock lock;
  if (auto taken = lock.take(options.root, true); !taken) {
    const bool busy = taken.error().code == Errc::kBusy;
    log(LogLevel::kError, "daemon", "{}",
        busy ? fmt::format("another clouddiskd serves {}: stop it, or choose another --root",
                           options.root)
             : taken.error().message);
    return 1;
  }
  // SIGTERM and SIGINT are waited for on a thread of their own; every other thread has them
  // blocked.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  leave_untouched_memory_alone();
  WorkerPool workers(kWorkers);
  UringRing::Options ring_options;
  ring_options.workers = &workers;
  auto ring = UringRing::create(ring_options);
  if (!ring) {
    log(LogLevel::kError, "daemon", "{}", ring.error().message);
    return 1;
  }

  Daemon daemon(options, **ring, workers);
  auto started = (*ring)->block_on(daemon.start());
  int status = 0;
  if (started) {
    std::printf("READY\n");
    std::fflush(stdout);
    notify_service_manager("READY=1");
    log(LogLevel::kInfo, "daemon", "serving root={}", options.root);
    std::atomic<bool> asked{false};
    std::thread waiter([&signals, &asked, raw = ring->get()] {
      int number = 0;
      sigwait(&signals, &number);
      raw->post([&asked] { asked = true; });
      sigwait(&signals, &number);  // The second one, or SIGTERM sent to this thread below.
      if (asked) return;
      _exit(1);
    });
    (*ring)->run_until([&asked] { return asked.load(); });
    log(LogLevel::kInfo, "daemon", "stopping");
    notify_service_manager("STOPPING=1");
    // From here on a signal has its usual effect: it ends the process at once.
    pthread_kill(waiter.native_handle(), SIGTERM);
    waiter.join();
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  } else {
    log(LogLevel::kError, "daemon", "{}", started.error().message);
    status = 1;
  }
  auto stopped = (*ring)->block_on(daemon.stop());
  if (!stopped) {
    log(LogLevel::kError, "daemon", "stopped with: {}", stopped.error().message);
    status = 1;
  }
  return status;
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  set_log_level(options.log_level);
  raise_descriptor_limit();
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);  // See Reactor: only the superuser may, others do without.
  return serve(options);
}

}  // namespace clouddisk
