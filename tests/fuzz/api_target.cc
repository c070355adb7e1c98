// api_target.cc: a client of the action API that asks anything: the real Control with its rules,
// over a catalog in a simulated machine and disks that are only names. Input: requests as forms,
// one a line; "@" in front repeats what the line before created: DiskId, SnapshotId, InstanceId.
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/bytes.h"
#include "engine/control/control.h"
#include "engine/ring/sim_ring.h"
#include "tests/fuzz/fuzz_target.h"
#include "tools/http/message.h"

namespace clouddisk::fuzz {
namespace {

// Storages are names; everything succeeds, once what it needs is there.
class NamesHost final : public DiskHost {
 public:
  void set_events(HostEvents) override {}
  Task<Result<void>> create_disk(DiskSettings settings) override {
    const bool made = storages_.insert(settings.storage).second;
    if (!made) co_return fail(Errc::kExists, "storage {}", settings.storage);
    co_return Result<void>{};
  }
  Task<Result<void>> serve_disk(DiskSettings settings) override {
    CHECK(storages_.count(settings.storage) == 1);
    served_.insert(settings.id);
    co_return Result<void>{};
  }
  Task<Result<void>> stop_disk(std::string id) override {
    served_.erase(id);
    co_return Result<void>{};
  }
  Task<Result<void>> delete_storage(std::string storage) override {
    storages_.erase(storage);
    co_return Result<void>{};
  }
  Task<Result<std::vector<std::string>>> storages() override {
    co_return std::vector<std::string>(storages_.begin(), storages_.end());
  }
  Task<Result<void>> apply_settings(DiskSettings) override { co_return Result<void>{}; }
  void know_past(std::string, ReferenceSettings, std::vector<SnapshotSettings>) override {}
  Task<void> open_past() override { co_return; }
  Task<Result<std::vector<Epoch>>> freeze(std::vector<DiskSettings> disks) override {
    std::vector<Epoch> epochs;
    for (std::size_t i = 0; i < disks.size(); ++i) epochs.push_back(Epoch(++epoch_));
    co_return epochs;
  }
  Task<void> unfreeze(DiskSettings, Epoch) override { co_return; }
  Task<Result<void>> add_snapshot(SnapshotSettings) override { co_return Result<void>{}; }
  Task<Result<void>> hide_snapshot(std::string) override { co_return Result<void>{}; }
  Task<Result<void>> drop_snapshot(std::string, std::uint64_t) override {
    co_return Result<void>{};
  }
  Task<Result<void>> remove_chain(std::string) override { co_return Result<void>{}; }
  Task<void> forget_base(std::string, std::string) override { co_return; }
  std::optional<Progress> capture_progress(const std::string&, std::uint64_t) const override {
    return Progress{1, 4, {}};
  }
  std::optional<Progress> hydration_progress(std::string_view) const override {
    return std::nullopt;
  }
  Task<Result<void>> hydrate_disk(std::string, std::optional<std::uint64_t>) override {
    co_return Result<void>{};
  }
  Task<Result<std::uint64_t>> chain_stored_bytes(std::string) override { co_return 1_MiB; }
  Task<Result<DiskStats>> stats(std::string id) override {
    if (served_.count(id) == 0) co_return fail(Errc::kNotFound, "not open");
    co_return DiskStats{};
  }
  std::vector<ReplicaStatus> replicas() override { return {}; }
  Task<Result<void>> start_resync(unsigned) override { co_return Result<void>{}; }
  Task<Result<void>> replace_replica(unsigned, std::string) override { co_return Result<void>{}; }
  ScrubStatus scrub_status() const override { return {}; }
  Task<Result<void>> start_scrub(std::optional<std::uint64_t>) override {
    co_return Result<void>{};
  }
  Task<Result<void>> stop_scrub() override { co_return Result<void>{}; }
  Task<Result<FaultStatus>> set_fault(FaultSpec spec) override {
    if (served_.count(spec.disk_id) == 0) co_return fail(Errc::kNotFound, "not open");
    FaultStatus status;
    status.id = "f-" + std::to_string(++last_fault_);
    status.spec = std::move(spec);
    faults_.push_back(status);
    co_return status;
  }
  std::vector<FaultStatus> faults() const override { return faults_; }
  Task<void> clear_fault(std::string id) override {
    std::erase_if(faults_, [&id](const FaultStatus& fault) { return fault.id == id; });
    co_return;
  }
  ReplicaFaults replica_faults(unsigned) const override { return {}; }
  std::vector<NbdAddress> nbd_addresses() const override {
    return {{Address::unix_socket("/nbd.sock")}};
  }

 private:
  std::set<std::string> storages_;
  std::set<std::string> served_;
  std::vector<FaultStatus> faults_;
  std::uint64_t last_fault_ = 0;
  std::uint64_t epoch_ = 0;
};

void take_ids(const nlohmann::json& answer, Params& ids) {
  for (const char* name : {"DiskId", "SnapshotId", "InstanceId"}) {
    if (answer.contains(name) && answer[name].is_string()) {
      ids[name] = answer[name].get<std::string>();
    }
  }
}

Task<void> ask_all(Ring& ring, ReplicaSet& replicas, std::string_view requests) {
  NamesHost host;
  Control::Options options;
  options.seed = 42;
  auto control = co_await Control::open(ring, replicas, host, std::move(options));
  CHECK(control.has_value());
  Params ids;
  for (unsigned count = 0; !requests.empty() && count < 64; ++count) {
    const auto end = std::min(requests.find('\n'), requests.size());
    std::string_view line = requests.substr(0, end);
    requests.remove_prefix(std::min(end + 1, requests.size()));
    Params params;
    if (line.starts_with('@')) {
      params = ids;
      line.remove_prefix(1);
    }
    if (!add_form_params(line, params)) continue;
    const Reply reply = co_await (*control)->perform(std::move(params));
    const auto body = nlohmann::json::parse(reply.body, nullptr, false);
    CHECK(body.is_object());
    CHECK(body.contains("RequestId"));
    CHECK(body.contains("Code") == (reply.http_status != 200));
    CHECK(reply.http_status == 200 || body.contains("Message"));
    CHECK(reply.http_status != 500);
    take_ids(body, ids);
  }
  co_await (*control)->close();
}

}  // namespace

FUZZ_TARGET(api) {
  SimMachine machine(1);
  SimRing ring(machine);
  ReplicaSet::Options options;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    options.folders[i] = "/replica-" + std::to_string(i + 1);
  }
  auto replicas = ring.block_on(ReplicaSet::open(ring, std::move(options)));
  CHECK(replicas.has_value());
  ring.block_on(ask_all(ring, **replicas, as_text(input)));
}

}  // namespace clouddisk::fuzz
