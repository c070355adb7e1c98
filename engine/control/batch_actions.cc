// batch_actions.cc: several instances, or several disks, in one request.
//
// All of a request is on record in one commit, with the answer, before the first of it is done:
// what a client was told is done whatever happens, as with one instance.
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/catalog/instance_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr std::string_view kTogether = "AllTogether";
constexpr std::string_view kSuccessFirst = "SuccessFirst";

Json response_of(const InstanceRecord& instance, InstanceStatus status) {
  return {{"Code", "200"},
          {"Message", "success"},
          {"InstanceId", instance.id},
          {"PreviousStatus", name(instance.status)},
          {"CurrentStatus", name(status)}};
}

Json response_of(const std::string& id, const InstanceRecord* instance, const Refusal& refusal) {
  const std::string_view status = instance != nullptr ? name(instance->status) : "";
  return {{"Code", refusal.code},
          {"Message", refusal.message},
          {"InstanceId", id},
          {"PreviousStatus", status},
          {"CurrentStatus", status}};
}

Json progress_of_reset(const Params& part, const Verdict& failed) {
  Json items = Json::array();
  for (const auto& [key, value] : part) items.push_back({{"Name", key}, {"Value", value}});
  return {{"OperationStatus", failed ? "Failed" : "Success"},
          {"ErrorCode", failed ? failed->code : ""},
          {"ErrorMsg", failed ? failed->message : ""},
          {"RelatedItemSet", {{"RelatedItem", std::move(items)}}}};
}

}  // namespace

Verdict Control::Impl::read_instance_ids(const ParamReader& reader, std::vector<std::string>& ids) {
  for (const std::string& id : reader.list("InstanceId")) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return instance_number_must_fit(ids.size());
}

Task<Outcome> Control::Impl::switch_instances(ControlRequest& request, bool on) {
  ParamReader& reader = request.reader;
  std::vector<std::string> ids;
  if (auto broken = read_instance_ids(reader, ids)) co_return *broken;
  const std::string mode = reader.text("BatchOptimization", kTogether);
  if (mode != kTogether && mode != kSuccessFirst) {
    co_return Refusal{
        400, "InvalidParameter",
        fmt::format("BatchOptimization is {} or {}, not '{}'.", kTogether, kSuccessFirst, mode)};
  }
  const InstanceStatus last = on ? InstanceStatus::kRunning : InstanceStatus::kStopped;
  const InstanceStatus next = on ? InstanceStatus::kStarting : InstanceStatus::kStopping;
  CatalogChange announced;
  std::vector<Switching> switching;
  std::vector<std::size_t> places;  // of those in `responses`
  Json responses = Json::array();
  for (const std::string& id : ids) {
    const InstanceRecord* instance = nullptr;
    Verdict broken = find_instance(id, instance);
    if (broken) instance = nullptr;
    if (!broken) {
      broken = on ? instance_must_be_stopped_to_start(*instance)
                  : instance_must_be_running_to_stop(*instance);
    }
    if (!broken && on) broken = attached_disks_must_be_in_use(catalog->disks_of(id));
    if (broken && mode == kTogether) co_return *broken;
    if (broken) {
      responses.push_back(response_of(id, instance, *broken));
      continue;
    }
    places.push_back(responses.size());
    responses.push_back(response_of(*instance, request.waits ? last : next));
    switching.push_back(on ? plan_start(id, announced) : plan_stop(id, announced));
  }
  if (request.dry_run) co_return would_succeed();
  const auto answer_of = [](const Json& list) {
    return Json{{"InstanceResponses", {{"InstanceResponse", list}}}};
  };
  Json answer = answer_of(responses);
  if (switching.empty()) co_return Outcome(std::move(answer));
  if (auto failed = co_await announce(std::move(announced), request, answer)) co_return *failed;
  Verdict first;
  for (std::size_t i = 0; i < switching.size(); ++i) {
    const InstanceRecord before = switching[i].before;
    Verdict failed;
    if (on) {
      failed = co_await finish_start(std::move(switching[i]));
    } else {
      failed = co_await finish_stop(std::move(switching[i]));
    }
    if (!failed) continue;
    log(LogLevel::kError, "control", "instance {}: {}", before.id, failed->message);
    responses[places[i]] = response_of(before.id, &before, *failed);
    if (!first) first = std::move(failed);
  }
  // The others are done all the same.
  if (first && mode == kTogether) co_return *first;
  co_return Outcome(answer_of(responses));
}

Task<Outcome> Control::Impl::start_instances(ControlRequest& request) {
  co_return co_await switch_instances(request, true);
}

Task<Outcome> Control::Impl::stop_instances(ControlRequest& request) {
  co_return co_await switch_instances(request, false);
}

Task<Outcome> Control::Impl::delete_instances(ControlRequest& request) {
  ParamReader& reader = request.reader;
  const bool force = reader.boolean("Force", false);
  std::vector<std::string> ids;
  if (reader.problem()) co_return *reader.problem();
  if (auto broken = read_instance_ids(reader, ids)) co_return *broken;
  CatalogChange announced;
  for (const std::string& id : ids) {
    const InstanceRecord* found = nullptr;
    if (auto broken = find_instance(id, found)) co_return *broken;
    if (auto broken = instance_must_not_be_the_host(*found)) co_return *broken;
    if (auto broken = instance_must_not_be_protected(*found)) co_return *broken;
    if (auto broken = instance_must_be_stopped_to_delete(*found, force)) co_return *broken;
    put_release(*found, announced);
  }
  if (request.dry_run) co_return would_succeed();
  // From the announcement on settle() finishes it after a crash: the token goes with it.
  if (request.waits) put_token(announced, request, Json::object());
  if (auto failed = co_await announce(std::move(announced), request, {})) co_return *failed;
  for (const std::string& id : ids) co_await release(id);
  co_return done();
}

Task<Outcome> Control::Impl::reset_disks(ControlRequest& request) {
  const std::vector<Params> parts = request.reader.structures("Disk");
  if (parts.empty()) {
    co_return Refusal{400, "MissingParameter", "Give Disk.1.DiskId and Disk.1.SnapshotId."};
  }
  if (auto broken = group_must_have_a_fitting_number(parts.size())) co_return *broken;
  std::vector<Params> named;  // of each the two members alone
  for (const Params& part : parts) {
    ParamReader members(part);
    named.push_back(
        {{"DiskId", members.required("DiskId")}, {"SnapshotId", members.required("SnapshotId")}});
    if (members.problem()) co_return *members.problem();
  }
  Json list = Json::array();
  for (const Params& part : named) {
    const DiskRecord* disk = nullptr;
    const SnapshotRecord* snapshot = nullptr;
    Verdict failed = plan_reset(part.at("DiskId"), part.at("SnapshotId"), disk, snapshot);
    if (request.dry_run) {
      if (failed) co_return *failed;
      continue;
    }
    if (!failed) {
      const SnapshotRecord base = *snapshot;
      Outcome outcome = co_await begin_anew(*disk, &base, nullptr);
      failed = std::move(outcome.refusal);
    }
    list.push_back(progress_of_reset(part, failed));
  }
  if (request.dry_run) co_return would_succeed();
  Json answer = {{"OperationProgressSet", {{"OperationProgress", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

}  // namespace clouddisk
