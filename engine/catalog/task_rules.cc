#include "engine/catalog/task_rules.h"

#include <fmt/format.h>

#include <algorithm>

namespace clouddisk {

bool task_is_kept(const TaskRecord& task, WallTime now) {
  return task.status == TaskStatus::kProcessing || now - task.created < kTaskLife;
}

std::vector<const TaskRecord*> tasks_to_forget(const Catalog::ById<TaskRecord>& tasks,
                                               WallTime now) {
  std::vector<const TaskRecord*> forgotten;
  std::vector<const TaskRecord*> ended;  // and kept
  std::size_t kept = 0;
  for (const auto& [id, task] : tasks) {
    if (!task_is_kept(task, now)) {
      forgotten.push_back(&task);
      continue;
    }
    ++kept;
    if (task.status != TaskStatus::kProcessing) ended.push_back(&task);
  }
  if (kept < kTasksMax) return forgotten;
  // Actions beside each other may each have made room for one and added one.
  const std::size_t excess = std::min(kept - kTasksMax + 1, ended.size());
  const auto end = ended.begin() + static_cast<std::ptrdiff_t>(excess);
  std::partial_sort(ended.begin(), end, ended.end(), [](const TaskRecord* a, const TaskRecord* b) {
    return a->created < b->created;
  });
  forgotten.insert(forgotten.end(), ended.begin(), end);
  return forgotten;
}

Refusal why_not_cancelled(const TaskRecord& task) {
  if (task.status != TaskStatus::kProcessing) {
    return {403, "InvalidTaskId.IncorrectTaskStatus",
            fmt::format("Task {} is {}.", task.id, name(task.status))};
  }
  return {403, "InvalidTaskId.TaskActionNotSupport",
          fmt::format("A task of {} can't be cancelled.", task.action)};
}

}  // namespace clouddisk
