// task_rules.h: how long a task is kept and how many are, and what the cloud answers to
// CancelTask. Pure functions.
#pragma once

#include <vector>

#include "engine/catalog/catalog.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

inline constexpr Duration kTaskLife = std::chrono::hours(30 * 24);
inline constexpr std::size_t kTasksMax = 1'000;

// One that goes on is kept, however old it is.
bool task_is_kept(const TaskRecord& task, WallTime now);

// What makes room for one more: all that are kept no longer, and the oldest if need be, but none
// that goes on.
std::vector<const TaskRecord*> tasks_to_forget(const Catalog::ById<TaskRecord>& tasks,
                                               WallTime now);

// The cloud cancels tasks of ImportImage and ExportImage alone, which are not here.
// InvalidTaskId.IncorrectTaskStatus (403): it is over; InvalidTaskId.TaskActionNotSupport (403).
Refusal why_not_cancelled(const TaskRecord& task);

}  // namespace clouddisk
