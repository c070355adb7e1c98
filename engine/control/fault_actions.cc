// Actions of our own: faults that a user orders on a disk. Nothing of them is in the catalog, so
// they wait for no other action; one that hangs must not keep the way to its end shut.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "engine/control/control_impl.h"
#include "engine/fault/fault.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kSeedBound = 1'000'000'000;

// "0.1" or "10%".
std::optional<double> parse_rate(std::string_view text) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return percent ? value / 100 : value;
}

Verdict read_spec(ParamReader& reader, FaultSpec& spec) {
  const auto invalid = [](std::string message) {
    return Refusal{400, "InvalidParameter", std::move(message)};
  };
  spec.disk_id = reader.required("DiskId");
  const std::string kind = reader.required("Kind");
  const auto replica = reader.optional_number("Replica");
  const auto first = reader.optional_number("FirstBlock");
  const auto last = reader.optional_number("LastBlock");
  const auto delay = reader.optional_number("DelayUs");
  const auto lifetime = reader.optional_number("LifetimeMs");
  if (reader.problem()) return reader.problem();
  const auto known = parse_fault_kind(kind);
  if (!known) {
    return invalid(
        fmt::format("Kind is slow, error, corrupt, torn, drop, full or hang, not '{}'.", kind));
  }
  spec.kind = *known;
  if (replica) {
    if (*replica < 1 || *replica > kReplicaCount) {
      return Refusal{404, "InvalidReplica.NotFound",
                     fmt::format("There are replicas 1 to {}, no {}.", kReplicaCount, *replica)};
    }
    spec.replica = static_cast<unsigned>(*replica - 1);
  }
  for (const std::string& text : reader.list("Op")) {
    const auto op = parse_fault_op(text);
    if (!op) return invalid(fmt::format("Op is read, write or flush, not '{}'.", text));
    spec.ops |= *op;
  }
  if (const auto text = reader.optional_text("Rate")) {
    const auto rate = parse_rate(*text);
    if (!rate) return invalid(fmt::format("Rate is like 0.1 or 10%, not '{}'.", *text));
    spec.rate = *rate;
  }
  if (first || last) {
    constexpr std::uint64_t kBlocksMax = std::uint64_t{1} << 48;
    const std::uint64_t begin = first.value_or(0);
    const std::uint64_t end = last.value_or(begin);
    if (std::max(begin, end) > kBlocksMax) {
      return invalid(fmt::format("No disk has a block {}.", std::max(begin, end)));
    }
    spec.blocks = FaultSpec::Blocks{Lba(begin), Lba(end)};
  }
  // What is far too long is refused below, in words; here it must only not overflow.
  constexpr std::uint64_t kMillisecondsMax = 1'000'000'000'000;
  if (delay) {
    spec.delay = std::chrono::microseconds(std::min(*delay, kMillisecondsMax));
  }
  if (lifetime) {
    spec.lifetime = std::chrono::milliseconds(std::min(*lifetime, kMillisecondsMax));
  }
  return std::nullopt;
}

Json fault_view(const FaultStatus& fault) {
  const FaultSpec& spec = fault.spec;
  Json ops = Json::array();
  for (const FaultOps op : {kFaultRead, kFaultWrite, kFaultFlush}) {
    if ((spec.ops & op) != 0) ops.push_back(names_of(op));
  }
  Json view = {{"FaultId", fault.id},     {"DiskId", spec.disk_id},
               {"Kind", name(spec.kind)}, {"Level", spec.at_client() ? "client" : "replica"},
               {"Op", std::move(ops)},    {"Rate", spec.rate},
               {"Seed", spec.seed},       {"Hits", fault.hits},
               {"Text", describe(spec)}};
  if (spec.replica) view["Replica"] = *spec.replica + 1;
  if (spec.blocks) {
    view["FirstBlock"] = spec.blocks->first.value;
    view["LastBlock"] = spec.blocks->last.value;
  }
  if (spec.delay) view["DelayUs"] = *spec.delay / std::chrono::microseconds(1);
  if (fault.time_left) view["TimeLeftMs"] = *fault.time_left / std::chrono::milliseconds(1);
  return view;
}

}  // namespace

Task<Outcome> Control::Impl::set_disk_fault(ControlRequest& request) {
  FaultSpec spec;
  if (auto broken = read_spec(request.reader, spec)) co_return *broken;
  const auto seed = request.reader.optional_number("Seed");
  if (request.reader.problem()) co_return *request.reader.problem();
  spec.seed = seed ? *seed : random.below(kSeedBound);
  const DiskRecord* disk = nullptr;
  if (auto broken = find_disk(spec.disk_id, disk)) co_return *broken;
  auto completed = complete(std::move(spec));
  if (!completed) co_return Refusal{400, "InvalidFault", completed.error().message};
  const std::uint64_t disk_blocks = blocks_for(disk->visible_bytes());
  if (completed->blocks && completed->blocks->first.value >= disk_blocks) {
    co_return Refusal{400, "InvalidFault",
                      fmt::format("Block {} is behind the end of the disk, which has {} of 4 KiB.",
                                  completed->blocks->first.value, disk_blocks)};
  }
  const std::string id = disk->id;
  auto set = co_await host.set_fault(std::move(*completed));
  if (set) co_return Outcome(fault_view(*set));
  switch (set.error().code) {
    case Errc::kNotFound:
      co_return Refusal{403, "IncorrectDiskStatus",
                        fmt::format("Disk {} is not served: attach it, and start its instance. "
                                    "Faults end with the service.",
                                    id)};
    case Errc::kBusy:
      co_return Refusal{403, "FaultWouldLoseData", set.error().message};
    case Errc::kLimit:
      co_return Refusal{403, "QuotaExceed.Fault", set.error().message};
    default:
      co_return refusal_of(set.error());
  }
}

Task<Outcome> Control::Impl::describe_disk_faults(ControlRequest& request) {
  const auto disk_id = request.reader.optional_text("DiskId");
  const DiskRecord* disk = nullptr;
  if (disk_id) {
    if (auto broken = find_disk(*disk_id, disk)) co_return *broken;
  }
  Json list = Json::array();
  for (const FaultStatus& fault : host.faults()) {
    if (!disk_id || fault.spec.disk_id == *disk_id) list.push_back(fault_view(fault));
  }
  Json answer = {{"Faults", {{"Fault", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::clear_disk_faults(ControlRequest& request) {
  const auto fault_id = request.reader.optional_text("FaultId");
  const auto disk_id = request.reader.optional_text("DiskId");
  const bool all = request.reader.boolean("All", false);
  if (request.reader.problem()) co_return *request.reader.problem();
  if ((fault_id ? 1 : 0) + (disk_id ? 1 : 0) + (all ? 1 : 0) != 1) {
    co_return Refusal{400, "InvalidParameter", "Give one of FaultId, DiskId and All=true."};
  }
  const DiskRecord* disk = nullptr;
  if (disk_id) {
    if (auto broken = find_disk(*disk_id, disk)) co_return *broken;
  }
  std::vector<std::string> ids;
  for (const FaultStatus& fault : host.faults()) {
    if (all || fault.id == fault_id || fault.spec.disk_id == disk_id) ids.push_back(fault.id);
  }
  if (fault_id && ids.empty()) {
    co_return Refusal{404, "InvalidFaultId.NotFound",
                      fmt::format("No fault {} is set (any more).", *fault_id)};
  }
  for (const std::string& id : ids) co_await host.clear_fault(id);
  Json answer = {{"Cleared", ids.size()}};
  co_return Outcome(std::move(answer));
}

// Marks what is shown, so that nobody forgets.
std::uint64_t Control::Impl::faults_of(std::string_view disk_id) const {
  const auto faults = host.faults();
  return static_cast<std::uint64_t>(
      std::count_if(faults.begin(), faults.end(),
                    [&](const FaultStatus& fault) { return fault.spec.disk_id == disk_id; }));
}

}  // namespace clouddisk
