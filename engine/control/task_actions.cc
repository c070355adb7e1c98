// task_actions.cc: tasks: what goes on after its answer, as the cloud has it for ModifyDiskSpec.
//
// The commit that records a disk's new category or level begins its task, which is over as soon as
// the open disk has its new limits. One that can't be done is Failed and the disk as it was; for a
// caller that waits it is a refusal, and leaves no task. After a crash in between the record of the
// disk counts: settle() finishes the task.
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/catalog/task_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"

namespace clouddisk {
namespace {

// To the minute, as in the cloud's examples; empty for the zero time.
std::string task_time(WallTime time) {
  constexpr std::size_t kMinutesEnd = 16;
  const std::string text = iso_time(time);
  return text.empty() ? text : text.substr(0, kMinutesEnd) + "Z";
}

struct TaskFilter {
  std::vector<std::string> ids, resources;
  std::optional<std::string> action;
  std::optional<TaskStatus> status;
  TimeRange created;

  bool accepts(const TaskRecord& task) const {
    const auto has = [](const std::vector<std::string>& wanted, const std::string& one) {
      return wanted.empty() || std::find(wanted.begin(), wanted.end(), one) != wanted.end();
    };
    return has(ids, task.id) && has(resources, task.resource_id) &&
           (!action || *action == task.action) && (!status || *status == task.status) &&
           task.created >= created.from && task.created <= created.to;
  }
};

Verdict read_task_filter(ParamReader& reader, TaskFilter& filter) {
  filter.ids = split_at_commas(reader.text("TaskIds"));
  filter.resources = reader.list("ResourceIds");
  const std::size_t ids = std::max(filter.ids.size(), filter.resources.size());
  if (ids > kIdsMax) {
    return Refusal{400, "InvalidParameter", fmt::format("{} ids, {} at the most.", ids, kIdsMax)};
  }
  filter.action = reader.optional_text("TaskAction");
  // As the cloud has it: any other has no effect.
  if (const auto status = parse_task_status(reader.text("TaskStatus"))) filter.status = *status;
  for (const auto& [name, into] :
       {std::pair{"StartTime", &filter.created.from}, std::pair{"EndTime", &filter.created.to}}) {
    const auto text = reader.optional_text(name);
    if (!text) continue;
    const auto time = parse_iso_time(*text);
    if (!time) {
      return Refusal{400, fmt::format("Invalid{}.Malformed", name),
                     fmt::format("'{}' is no time like 2026-01-01T00:00:00Z.", *text)};
    }
    *into = *time;
  }
  return std::nullopt;
}

// What both actions show.
Json task_view(const TaskRecord& task) {
  return {{"TaskId", task.id},
          {"TaskAction", task.action},
          {"TaskStatus", name(task.status)},
          {"SupportCancel", "false"},
          {"CreationTime", task_time(task.created)},
          {"FinishedTime", task_time(task.finished)}};
}

}  // namespace

Verdict Control::Impl::find_task(std::string_view id, const ControlRequest& request,
                                 const TaskRecord*& task) const {
  task = catalog->find_task(id);
  if (task != nullptr && task_is_kept(*task, now()) && request.asks_for(task->region)) {
    return std::nullopt;
  }
  return Refusal{400, "InvalidTaskId.NotFound", fmt::format("There is no task '{}'.", id)};
}

Task<Outcome> Control::Impl::describe_tasks(ControlRequest& request) {
  TaskFilter filter;
  if (auto broken = read_task_filter(request.reader, filter)) co_return *broken;
  std::vector<const TaskRecord*> found;
  for (const auto& [id, task] : catalog->tasks()) {
    const bool there = request.asks_for(task.region) && task_is_kept(task, now());
    if (there && filter.accepts(task)) found.push_back(&task);
  }
  const auto view = [](const TaskRecord& task) {
    Json json = task_view(task);
    json["ResourceId"] = task.resource_id;
    return json;
  };
  Json answer = {{"RegionId", request.at.region}};
  Json list = Json::array();
  if (auto broken = page<TaskRecord>(std::move(found), request.reader, answer, view, list)) {
    co_return *broken;
  }
  answer["TaskSet"] = {{"Task", std::move(list)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::describe_task_attribute(ControlRequest& request) {
  const std::string id = request.reader.required("TaskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const TaskRecord* task = nullptr;
  if (auto broken = find_task(id, request, task)) co_return *broken;
  const bool finished = task->status == TaskStatus::kFinished;
  const bool failed = task->status == TaskStatus::kFailed;
  Json answer = task_view(*task);
  answer["RegionId"] = task->region;
  answer["TaskProcess"] = finished ? "100%" : "0%";
  answer["TotalCount"] = 1;
  answer["SuccessCount"] = finished ? 1 : 0;
  answer["FailedCount"] = failed ? 1 : 0;
  const Json item = {{"Name", "DiskId"}, {"Value", task->resource_id}};
  const Json progress = {
      {"OperationStatus", finished ? "Success" : name(task->status)},
      {"ErrorCode", task->error_code},
      {"ErrorMsg", task->error_message},
      {"RelatedItemSet", {{"RelatedItem", Json::array({item})}}},
  };
  answer["OperationProgressSet"] = {{"OperationProgress", Json::array({progress})}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::cancel_task(ControlRequest& request) {
  const std::string id = request.reader.required("TaskId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const TaskRecord* task = nullptr;
  if (auto broken = find_task(id, request, task)) co_return *broken;
  co_return why_not_cancelled(*task);
}

Task<Outcome> Control::Impl::change_spec(DiskRecord before, DiskRecord after,
                                         ControlRequest& request) {
  TaskRecord task;
  task.id = new_id("t", after.region);
  task.region = after.region;
  task.action = "ModifyDiskSpec";
  task.resource_id = after.id;
  task.created = now();
  const Json answer = {{"TaskId", task.id}, {"OrderId", ""}};
  CatalogChange begun;
  for (const TaskRecord* old : tasks_to_forget(catalog->tasks(), now())) begun.erase(*old);
  begun.put(after);
  begun.put(task);
  if (auto failed = co_await announce(std::move(begun), request, answer)) co_return *failed;

  DiskSettings settings = settings_of(after);
  const auto applied = co_await host.apply_settings(std::move(settings));
  Outcome outcome = applied ? Outcome(answer) : Outcome(refusal_of(applied.error()));
  task.status = applied ? TaskStatus::kFinished : TaskStatus::kFailed;
  task.finished = now();
  CatalogChange ended;
  if (!applied) {
    ended.put(before);
    task.error_code = outcome.refusal->code;
    task.error_message = outcome.refusal->message;
  }
  if (applied || request.answer) {
    ended.put(task);
  } else {
    ended.erase(task);
  }
  if (auto failed = co_await commit(std::move(ended))) {
    unsettled = true;
    co_return *failed;
  }
  co_return outcome;
}

Task<void> Control::Impl::settle_tasks(CatalogChange& change) {
  const auto tasks = catalog->tasks();  // a copy: the catalog changes meanwhile
  for (const auto& [id, found] : tasks) {
    if (found.status != TaskStatus::kProcessing) continue;
    if (const DiskRecord* disk = catalog->find_disk(found.resource_id)) {
      DiskSettings settings = settings_of(*disk);
      auto applied = co_await host.apply_settings(std::move(settings));
      if (!applied) {
        log(LogLevel::kError, "control", "task {}: {}", id, applied.error().message);
        unsettled = true;
        continue;
      }
    }
    TaskRecord task = found;
    task.status = TaskStatus::kFinished;
    task.finished = now();
    change.put(task);
  }
}

}  // namespace clouddisk
