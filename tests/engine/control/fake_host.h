// fake_host.h: a DiskHost whose storage is one small file a disk, so that it outlives the process,
// and which can make the process die at a chosen step.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/control/disk_host.h"

namespace clouddisk {

class FakeHost final : public DiskHost {
 public:
  explicit FakeHost(std::filesystem::path directory) : directory_(std::move(directory)) {
    std::filesystem::create_directories(directory_);
  }

  // The process dies, as by kill -9, at this step; each call has one before and one after it.
  void crash_at(unsigned step) { crash_at_ = step; }
  void crash_at_next() { crash_after(1); }
  void crash_after(unsigned steps) { crash_at_ = step_ + steps; }
  // The next calls of this name fail.
  void fail_next(const std::string& call, Errc code, unsigned times = 1) {
    failing_[call] = {code, times, 0};
  }
  // So many fail, after `successes` that do not.
  void fail_after(unsigned successes, const std::string& call, Errc code, unsigned times = 1) {
    failing_[call] = {code, times, successes};
  }
  unsigned failures_left() const {
    unsigned left = 0;
    for (const auto& [call, failure] : failing_) left += failure.times;
    return left;
  }
  // From now on most of what is asked of it takes that long.
  void take_time(std::function<Task<void>()> how) { takes_ = std::move(how); }
  // From now on a storage goes when that is over.
  void hold_deletions(std::function<Task<void>()> how) { holds_ = std::move(how); }
  // From now on there is a client that writes to whatever is exported, at once.
  void write_to_all() { writes_ = true; }
  // From now on what borrows has borrowed nothing any more as soon as it is served.
  void hydrate_at_once() { hydrates_ = true; }
  // What was written and deleted, in any life.
  std::size_t lost() const {
    std::size_t count = 0;
    std::ifstream in(directory_.string() + "-lost");
    for (std::string line; std::getline(in, line);) ++count;
    return count;
  }
  // As if a client had written to it: whether it is still the same storage.
  void mark(const std::string& storage) { std::ofstream(mark_of(storage)) << "here"; }
  bool is_marked(const std::string& storage) const {
    return std::filesystem::exists(mark_of(storage));
  }

  Task<Result<void>> create_disk(DiskSettings settings) override {
    co_await wait();
    if (auto r = begin("create"); !r) co_return r;
    // One that nobody has written to is as good as none.
    if (is_marked(settings.storage)) co_return fail(Errc::kExists, "there already");
    write(settings);
    co_return end();
  }
  Task<Result<void>> serve_disk(DiskSettings settings) override {
    co_await wait();
    if (auto r = begin("serve"); !r) co_return r;
    if (!settings.base_snapshot.empty() && !snapshots_.contains(settings.base_snapshot)) {
      co_return fail(Errc::kNotFound, "there is no such snapshot any more");
    }
    CHECK(settings.size_bytes >= stored_size(settings.storage));  // A disk never shrinks.
    write(settings);
    const bool served_already = !served_.insert_or_assign(settings.id, settings).second;
    if (writes_) mark(settings.storage);
    const bool hydrates = hydrates_ && !served_already && !settings.base_snapshot.empty();
    if (hydrates) spawn(tell_hydrated(settings));
    co_return end();
  }
  Task<Result<void>> stop_disk(std::string id) override {
    co_await wait();
    if (auto r = begin("stop"); !r) co_return r;
    served_.erase(id);
    co_return end();
  }
  Task<Result<void>> delete_storage(std::string storage) override {
    co_await wait();
    if (holds_) co_await holds_();
    if (auto r = begin("delete"); !r) co_return r;
    for (const auto& [id, settings] : served_) CHECK(settings.storage != storage);
    std::filesystem::remove(file(storage));
    if (std::filesystem::remove(mark_of(storage))) {
      std::ofstream(directory_.string() + "-lost", std::ios::app) << storage << '\n';
    }
    co_return end();
  }
  Task<Result<std::vector<std::string>>> storages() override {
    const auto all = stored();
    co_return std::vector<std::string>(all.begin(), all.end());
  }

  void set_events(HostEvents events) override { events_ = std::move(events); }
  void know_past(std::string, ReferenceSettings, std::vector<SnapshotSettings> list) override {
    for (SnapshotSettings& snapshot : list) snapshots_[snapshot.id] = std::move(snapshot);
  }
  Task<void> open_past() override { co_return; }
  Task<Result<std::vector<Epoch>>> freeze(std::vector<DiskSettings> disks) override {
    co_await wait();
    if (auto r = begin("freeze"); !r) co_return r.error();
    std::vector<Epoch> epochs;
    for (std::size_t i = 0; i < disks.size(); ++i) epochs.push_back(Epoch(++epoch_));
    if (auto r = end(); !r) co_return r.error();
    co_return epochs;
  }
  Task<void> unfreeze(DiskSettings, Epoch) override { co_return; }
  Task<Result<void>> add_snapshot(SnapshotSettings snapshot) override {
    co_await wait();
    if (auto r = begin("add"); !r) co_return r;
    snapshots_[snapshot.id] = snapshot;
    co_return end();
  }
  Task<Result<void>> hide_snapshot(std::string id) override {
    co_await wait();
    if (snapshots_.contains(id)) snapshots_[id].exported = false;
    co_return Result<void>{};
  }
  Task<Result<void>> drop_snapshot(std::string disk_id, std::uint64_t seq) override {
    co_await wait();
    if (auto r = begin("drop"); !r) co_return r;
    std::erase_if(snapshots_, [&](const auto& entry) {
      if (entry.second.disk_id != disk_id || entry.second.seq != seq) return false;
      // Who reads through it would get errors.
      for (const auto& [id, settings] : served_) CHECK(settings.base_snapshot != entry.first);
      return true;
    });
    co_return end();
  }
  Task<Result<void>> remove_chain(std::string) override { co_return Result<void>{}; }
  Task<void> forget_base(std::string disk_id, std::string storage) override {
    co_await wait();
    const auto at = served_.find(disk_id);
    if (at != served_.end() && at->second.storage == storage) at->second.base_snapshot.clear();
    bases_forgotten.push_back(std::move(disk_id));
  }
  std::optional<Progress> capture_progress(const std::string&, std::uint64_t) const override {
    return Progress{1, 4, {}};
  }
  std::optional<Progress> hydration_progress(std::string_view id) const override {
    const auto at = hydrations.find(std::string(id));
    return at == hydrations.end() ? std::nullopt : std::optional(at->second);
  }
  Task<Result<void>> hydrate_disk(std::string id, std::optional<std::uint64_t> pace) override {
    if (auto r = begin("hydrate"); !r) co_return r;
    hydrations[id].failure.clear();
    paces[id] = pace;
    co_return end();
  }
  Task<Result<std::uint64_t>> chain_stored_bytes(std::string) override { co_return 64_MiB; }
  HostEvents& events() { return events_; }
  const std::map<std::string, SnapshotSettings>& snapshots() const { return snapshots_; }
  Task<Result<void>> apply_settings(DiskSettings settings) override {
    co_await wait();
    if (auto r = begin("apply"); !r) co_return r;
    const auto at = served_.find(settings.id);
    if (at != served_.end()) {
      at->second = settings;
      write(settings);
    }
    co_return end();
  }
  Task<Result<DiskStats>> stats(std::string id) override {
    if (!served_.contains(id)) co_return fail(Errc::kNotFound, "not open");
    DiskStats stats;
    stats.reads = 7;
    co_return stats;
  }
  std::vector<ReplicaStatus> replicas() override {
    std::vector<ReplicaStatus> all;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      all.push_back(
          {i, "/r" + std::to_string(i + 1), ReplicaState::kInSync, Generation(3), "", 0, 0});
    }
    return all;
  }
  Task<Result<void>> replace_replica(unsigned replica, std::string folder) override {
    if (auto r = begin("replace"); !r) co_return r;
    replaced[replica] = std::move(folder);
    co_return end();
  }
  ScrubStatus scrub_status() const override { return scrub; }
  Task<Result<void>> start_scrub(std::optional<std::uint64_t> bytes_per_second) override {
    if (auto r = begin("scrub"); !r) co_return r;
    scrub.state = ScrubStatus::State::kRunning;
    scrub.bytes_per_second = bytes_per_second.value_or(1);
    co_return end();
  }
  Task<Result<void>> stop_scrub() override {
    scrub.state = ScrubStatus::State::kStopped;
    co_return Result<void>{};
  }
  std::map<unsigned, std::string> replaced;
  ScrubStatus scrub;
  Task<Result<void>> start_resync(unsigned replica) override {
    if (auto r = begin("resync"); !r) co_return r;
    resynced_.insert(replica);
    co_return Result<void>{};
  }
  Task<Result<FaultStatus>> set_fault(FaultSpec spec) override {
    if (auto r = begin("fault"); !r) co_return r.error();
    if (!served_.contains(spec.disk_id)) co_return fail(Errc::kNotFound, "not open");
    FaultStatus status;
    status.id = "f-" + std::to_string(++last_fault_);
    status.time_left = spec.lifetime;
    status.spec = std::move(spec);
    faults_.push_back(status);
    co_return status;
  }
  std::vector<FaultStatus> faults() const override { return faults_; }
  Task<void> clear_fault(std::string id) override {
    std::erase_if(faults_, [&](const FaultStatus& fault) { return fault.id == id; });
    co_return;
  }
  ReplicaFaults replica_faults(unsigned replica) const override {
    ReplicaFaults counts;
    for (const FaultStatus& fault : faults_) counts.set += fault.spec.replica == replica ? 1U : 0U;
    return counts;
  }
  std::vector<NbdAddress> nbd_addresses() const override {
    return {{Address::unix_socket("/run/a b/nbd.sock")},
            {Address::tcp("127.0.0.1", 10809)},
            {Address::tcp("127.0.0.1", 10810), true}};
  }

  const std::map<std::string, DiskSettings>& served() const { return served_; }
  std::vector<std::string> bases_forgotten;
  std::map<std::string, Progress> hydrations;
  std::map<std::string, std::optional<std::uint64_t>> paces;
  const std::set<unsigned>& resynced() const { return resynced_; }
  std::set<std::string> stored() const {
    std::set<std::string> ids;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      ids.insert(entry.path().filename().string());
    }
    return ids;
  }
  std::uint64_t stored_size(const std::string& id) const {
    std::uint64_t size = 0;
    std::ifstream(file(id)) >> size;
    return size;
  }

 private:
  Task<void> tell_hydrated(DiskSettings settings) {
    static_cast<void>(co_await events_.hydrated(settings.id, settings.storage));
  }
  struct Failure {
    Errc code = Errc::kIo;
    unsigned times = 0;
    unsigned successes = 0;  // before it
  };

  Task<void> wait() {
    if (takes_) co_await takes_();
  }
  std::filesystem::path file(const std::string& id) const { return directory_ / id; }
  std::filesystem::path mark_of(const std::string& storage) const {
    return directory_.string() + "-mark-" + storage;
  }
  void write(const DiskSettings& settings) {
    std::ofstream(file(settings.storage)) << settings.size_bytes;
  }
  void step() {
    if (++step_ == crash_at_) _exit(137);
  }
  Result<void> begin(const std::string& call) {
    step();
    const auto failing = failing_.find(call);
    if (failing == failing_.end() || failing->second.times == 0) return {};
    Failure& failure = failing->second;
    if (failure.successes > 0) {
      --failure.successes;
      return {};
    }
    --failure.times;
    return fail(failure.code, "{} fails on purpose", call);
  }
  Result<void> end() {
    step();
    return {};
  }

  std::filesystem::path directory_;
  std::map<std::string, DiskSettings> served_;
  std::set<unsigned> resynced_;
  std::vector<FaultStatus> faults_;
  unsigned last_fault_ = 0;
  HostEvents events_;
  std::map<std::string, SnapshotSettings> snapshots_;
  std::uint64_t epoch_ = 0;
  std::map<std::string, Failure> failing_;
  bool writes_ = false;
  bool hydrates_ = false;
  std::function<Task<void>()> takes_, holds_;
  unsigned step_ = 0;
  unsigned crash_at_ = 0;
};

}  // namespace clouddisk
