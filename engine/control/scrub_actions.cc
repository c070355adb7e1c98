// Actions of our own about the health of the copies: scrub, and a replica's new folder.
#include <fmt/format.h>

#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/scrub_view.h"

namespace clouddisk {
namespace {

std::string time_text(std::int64_t ns) {
  return ns == 0 ? std::string() : iso_time(WallTime(Duration(ns)));
}

Json counts_view(const ScrubCounts& counts, unsigned index) {
  return {{"Replica", index + 1},
          {"CheckedBytes", counts.checked_bytes},
          {"BadBlocks", counts.bad_blocks},
          {"MendedBlocks", counts.mended_blocks}};
}

Json pass_view(const ScrubPass& pass) {
  Json replicas = Json::array();
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    replicas.push_back(counts_view(pass.replicas[i], i));
  }
  Json losses = Json::array();
  for (const ScrubLoss& loss : pass.losses) {
    losses.push_back({{"Storage", loss.storage},
                      {"Segment", loss.segment},
                      {"Lba", loss.lba},
                      {"Blocks", loss.blocks},
                      {"Offset", loss.lba * kBlockSize},
                      {"Bytes", loss.blocks * kBlockSize}});
  }
  return {{"Begun", time_text(pass.begun_ns)},
          {"Ended", time_text(pass.ended_ns)},
          {"Replicas", {{"Replica", std::move(replicas)}}},
          {"IndexBytes", pass.index_bytes},
          {"IndexesDamaged", pass.indexes_damaged},
          {"UnreadStorages", pass.unread_storages},
          {"LostBlocks", pass.lost_blocks},
          {"Losses", {{"Loss", std::move(losses)}}}};
}

}  // namespace

Json scrub_of_replica(const ScrubStatus& scrub, unsigned index) {
  const bool under_way = scrub.state != ScrubStatus::State::kIdle;
  Json view = {{"State", name(scrub.state)},
               {"DoneBytes", under_way ? scrub.done_bytes : 0},
               {"TotalBytes", under_way ? scrub.total_bytes : 0},
               {"LastComplete", time_text(scrub.complete_ns)},
               {"BadBlocks", scrub.total[index].bad_blocks},
               {"MendedBlocks", scrub.total[index].mended_blocks}};
  return view;
}

Task<Outcome> Control::Impl::describe_scrub(ControlRequest&) {
  const ScrubStatus scrub = host.scrub_status();
  Json total = Json::array();
  for (unsigned i = 0; i < kReplicaCount; ++i) total.push_back(counts_view(scrub.total[i], i));
  Json answer = {{"Status", name(scrub.state)},
                 {"DoneBytes", scrub.done_bytes},
                 {"TotalBytes", scrub.total_bytes},
                 {"BytesPerSecond", scrub.bytes_per_second},
                 {"Next", time_text(scrub.next_ns)},
                 {"LastComplete", time_text(scrub.complete_ns)},
                 {"Total", {{"Replica", std::move(total)}}},
                 {"TotalLostBlocks", scrub.total_lost_blocks}};
  if (scrub.state != ScrubStatus::State::kIdle) answer["Current"] = pass_view(scrub.current);
  if (scrub.last) answer["Last"] = pass_view(*scrub.last);
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::start_scrub(ControlRequest& request) {
  const auto rate = request.reader.optional_number("BytesPerSecond");
  if (request.reader.problem()) co_return *request.reader.problem();
  if (rate && *rate != 0 && *rate < 1_MiB) {
    co_return Refusal{400, "InvalidParameter",
                      "BytesPerSecond: at least 1 MiB, or 0 for no limit."};
  }
  if (request.dry_run) co_return would_succeed();
  if (auto started = co_await host.start_scrub(rate); !started) {
    co_return refusal_of(started.error());
  }
  co_return done();
}

Task<Outcome> Control::Impl::stop_scrub(ControlRequest& request) {
  if (request.dry_run) co_return would_succeed();
  if (auto stopped = co_await host.stop_scrub(); !stopped) co_return refusal_of(stopped.error());
  co_return done();
}

Task<Outcome> Control::Impl::replace_replica(ControlRequest& request) {
  static_cast<void>(request.reader.required("Replica"));
  const std::uint64_t number = request.reader.number("Replica", 0);
  const std::string folder = request.reader.required("Folder");
  if (request.reader.problem()) co_return *request.reader.problem();
  if (number < 1 || number > kReplicaCount) {
    co_return Refusal{404, "InvalidReplica.NotFound",
                      fmt::format("There are replicas 1 to {}, no {}.", kReplicaCount, number)};
  }
  if (!folder.starts_with('/')) {
    co_return Refusal{400, "InvalidFolder.Malformed",
                      fmt::format("Folder '{}': give the whole path, from / on.", folder)};
  }
  if (request.dry_run) co_return would_succeed();
  auto replaced = co_await host.replace_replica(static_cast<unsigned>(number - 1), folder);
  if (replaced) co_return done();
  switch (replaced.error().code) {
    case Errc::kInvalid:
    case Errc::kExists:
      co_return Refusal{403, "InvalidFolder.NotSuitable", replaced.error().message};
    case Errc::kNoSpace:
      co_return Refusal{403, "InvalidFolder.TooSmall", replaced.error().message};
    case Errc::kBusy:
    case Errc::kReplicasLost:
      co_return Refusal{403, "IncorrectReplicaStatus", replaced.error().message};
    default:
      co_return refusal_of(replaced.error());
  }
}

}  // namespace clouddisk
