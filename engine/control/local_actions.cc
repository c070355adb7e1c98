// Actions of our own, beside the cloud's: for the CLI and for operators.
#include <fmt/format.h>

#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/disk_spec.h"
#include "engine/control/scrub_view.h"

namespace clouddisk {
namespace {

double in_units(std::uint64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(1_MiB);
}

Json category_view(const CategoryRow& row, std::uint64_t asked_gib) {
  Json view = {
      {"Category", row.category},
      {"PerformanceLevel", row.level},
      {"Title", row.title},
      {"Available", row.creatable()},
      {"Reason", row.unavailable},
      {"DataDisk", row.creatable() && row.for_data},
      {"SystemDisk", row.system_capacity().has_value()},
      {"Source", row.source},
  };
  if (!row.creatable()) return view;
  const std::uint64_t gib = asked_gib != 0 ? asked_gib : row.capacity.min_gib;
  const DiskLimits limits = limits_for(row, gib);
  view["MinSize"] = row.capacity.min_gib;
  view["MaxSize"] = row.capacity.max_gib;
  if (const auto system = row.system_capacity()) {
    view["SystemMinSize"] = system->min_gib;
    view["SystemMaxSize"] = system->max_gib;
  }
  view["IopsFormula"] = row.iops.text();
  view["ThroughputFormula"] = row.throughput.text();
  view["Nominal"] = row.origin == FigureOrigin::kNominal;
  view["LatencyMinUs"] = row.latency_min_us;
  view["LatencyMaxUs"] = row.latency_max_us;
  view["Size"] = gib;
  view["SizeInRange"] = row.capacity.contains(gib);
  view["IOPS"] = limits.iops;
  view["Throughput"] = in_units(limits.bytes_per_second);
  view["BytesPerSecond"] = limits.bytes_per_second;
  return view;
}

}  // namespace

Task<Outcome> Control::Impl::describe_replicas(ControlRequest&) {
  Json list = Json::array();
  const ScrubStatus scrub = host.scrub_status();
  for (const ReplicaStatus& replica : host.replicas()) {
    const ReplicaFaults faults = host.replica_faults(replica.index);
    list.push_back({{"Replica", replica.index + 1},
                    {"Folder", replica.folder},
                    {"State", name(replica.state)},
                    {"Generation", replica.generation.value},
                    {"Reason", replica.reason},
                    {"ResyncDoneBytes", replica.resync_done_bytes},
                    {"ResyncTotalBytes", replica.resync_total_bytes},
                    {"Faults", faults.set},
                    {"FaultHits", faults.hits},
                    {"Scrub", scrub_of_replica(scrub, replica.index)}});
  }
  Json answer = {{"Replicas", {{"Replica", std::move(list)}}},
                 {"CatalogCommit", catalog->commit_number()}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::resync_replica(ControlRequest& request) {
  static_cast<void>(request.reader.required("Replica"));
  const std::uint64_t number = request.reader.number("Replica", 0);
  if (request.reader.problem()) co_return *request.reader.problem();
  if (number < 1 || number > kReplicaCount) {
    co_return Refusal{404, "InvalidReplica.NotFound",
                      fmt::format("There are replicas 1 to {}, no {}.", kReplicaCount, number)};
  }
  if (request.dry_run) {
    co_return Refusal{400, "DryRunOperation", "The request would have succeeded."};
  }
  auto started = co_await host.start_resync(static_cast<unsigned>(number - 1));
  if (started) co_return done();
  if (started.error().code == Errc::kExists || started.error().code == Errc::kBusy) {
    co_return Refusal{403, "IncorrectReplicaStatus", started.error().message};
  }
  co_return refusal_of(started.error());
}

Task<Outcome> Control::Impl::describe_categories(ControlRequest& request) {
  const std::uint64_t gib = request.reader.number("Size", 0);
  const auto wanted = parse_profile(request.reader.text("Profile", name(profile)));
  if (request.reader.problem()) co_return *request.reader.problem();
  if (!wanted) co_return Refusal{400, "InvalidProfile.NotFound", wanted.error().message};
  constexpr std::uint64_t kSizeMax = 1'000'000'000;
  if (gib > kSizeMax) {
    co_return Refusal{400, "InvalidSize.ValueNotSupported", fmt::format("{} GiB.", gib)};
  }
  Json list = Json::array();
  for (const CategoryRow* row : category_table(*wanted)) {
    list.push_back(category_view(*row, gib));
  }
  Json answer = {{"Profile", name(*wanted)},
                 {"LimitsEnforced", options.limits_enforced},
                 {"LatencyEmulated", options.latency_emulated},
                 {"Categories", {{"Category", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_disk_stats(ControlRequest& request) {
  const std::string id = request.reader.required("DiskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(id, disk)) co_return *broken;
  auto stats = co_await host.stats(id);
  if (!stats && stats.error().code == Errc::kNotFound) {
    co_return Refusal{403, "IncorrectDiskStatus",
                      fmt::format("Disk {} is not served: attach it, and start its instance.", id)};
  }
  if (!stats) co_return refusal_of(stats.error());
  Json answer = {
      {"DiskId", id},
      {"Reads", stats->reads},
      {"Writes", stats->writes},
      {"Flushes", stats->flushes},
      {"Trims", stats->trims},
      {"ReadBytes", stats->read_bytes},
      {"WrittenBytes", stats->written_bytes},
      {"Errors", stats->errors},
      {"ReadNanoseconds", stats->read_nanoseconds},
      {"WriteNanoseconds", stats->write_nanoseconds},
      {"ThrottledNanoseconds", stats->throttled_nanoseconds},
      {"StalledNanoseconds", stats->stalled_nanoseconds},
      {"Connections", stats->connections},
      {"MappedBytes", stats->mapped_bytes},
      {"StoredBytes", stats->stored_bytes},
      {"IndexBytes", stats->index_bytes},
      {"ChecksumErrors", stats->checksum_errors},
      {"RepairedBlocks", stats->repaired_blocks},
      {"CompactedBytes", stats->compacted_bytes},
  };
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_disk_export(ControlRequest& request) {
  if (const auto snapshot_id = request.reader.optional_text("SnapshotId")) {
    const SnapshotRecord* snapshot = nullptr;
    if (auto broken = find_snapshot(*snapshot_id, snapshot)) co_return *broken;
    if (auto broken = snapshot_must_be_usable(*snapshot)) co_return *broken;
    Json list = Json::array();
    for (const DiskHost::NbdAddress& address : host.nbd_addresses()) {
      list.push_back({{"Address", address.where.text()},
                      {"Uri", nbd_uri(address.where, address.tls_required, *snapshot_id)}});
    }
    Json answer = {{"SnapshotId", *snapshot_id},
                   {"Size", snapshot->size_bytes / 1_GiB},
                   {"Exports", {{"Export", std::move(list)}}}};
    co_return Outcome(std::move(answer));
  }
  const std::string id = request.reader.required("DiskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(id, disk)) co_return *broken;
  if (!is_served(*disk)) {
    const InstanceRecord* instance = catalog->find_instance(disk->instance_id);
    if (disk->status == DiskStatus::kInUse && instance != nullptr) {
      co_return Refusal{403, "IncorrectDiskStatus",
                        fmt::format("Disk {} is exported while its instance runs, and {} is {}. "
                                    "Start it first.",
                                    id, instance->id, name(instance->status))};
    }
    co_return Refusal{403, "IncorrectDiskStatus",
                      fmt::format("Disk {} is {}: it is exported while attached to a running "
                                  "instance.",
                                  id, name(disk->status))};
  }
  Json list = Json::array();
  for (const DiskHost::NbdAddress& address : host.nbd_addresses()) {
    list.push_back({{"Address", address.where.text()},
                    {"Uri", nbd_uri(address.where, address.tls_required, id)}});
  }
  Json answer = {
      {"DiskId", id}, {"Size", disk->visible_gib}, {"Exports", {{"Export", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
