// Tasks: their record, how long they are kept, what CancelTask answers.
#include "engine/catalog/task_rules.h"

#include <gtest/gtest.h>

#include <set>

namespace clouddisk {
namespace {

constexpr WallTime kNow{std::chrono::hours(500'000)};

TaskRecord ended(std::string id, Duration age) {
  TaskRecord task;
  task.id = std::move(id);
  task.status = TaskStatus::kFinished;
  task.created = kNow - age;
  return task;
}

std::set<std::string> forgotten(const Catalog::ById<TaskRecord>& tasks) {
  std::set<std::string> ids;
  for (const TaskRecord* task : tasks_to_forget(tasks, kNow)) ids.insert(task->id);
  return ids;
}

TEST(TaskRecords, SurviveARoundTripAndNameWhatIsMissing) {
  TaskRecord task;
  task.id = "t-1";
  task.region = "r";
  task.action = "ModifyDiskSpec";
  task.resource_id = "d-1";
  task.status = TaskStatus::kFailed;
  task.error_code = "ServiceUnavailable";
  task.error_message = "no \"room\"";
  task.created = kNow;
  task.finished = kNow + std::chrono::nanoseconds(1);
  const auto read = task_from_json(to_json(task));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, task);
  EXPECT_EQ(key_of(task), "task/t-1");
  const auto broken = task_from_json(R"({"id":"t-1","region":"r"})");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, Errc::kCorrupt);
  EXPECT_NE(broken.error().message.find("action"), std::string::npos);
}

TEST(TaskRules, TasksAreKeptForThirtyDaysUnlessTheyGoOn) {
  const Duration old = std::chrono::hours(30 * 24);
  Catalog::ById<TaskRecord> tasks;
  tasks["t-new"] = ended("t-new", old - std::chrono::nanoseconds(1));
  tasks["t-old"] = ended("t-old", old);
  tasks["t-goes-on"] = ended("t-goes-on", old);
  tasks["t-goes-on"].status = TaskStatus::kProcessing;
  EXPECT_EQ(forgotten(tasks), std::set<std::string>{"t-old"});
}

TEST(TaskRules, TheOldestMakeRoomForAnother) {
  Catalog::ById<TaskRecord> tasks;
  for (std::size_t i = 0; i < kTasksMax - 1; ++i) {
    const std::string id = "t-" + std::to_string(i);
    tasks[id] = ended(id, std::chrono::seconds(i));
  }
  EXPECT_TRUE(forgotten(tasks).empty());
  tasks["t-a"] = ended("t-a", std::chrono::hours(5));
  EXPECT_EQ(forgotten(tasks), std::set<std::string>{"t-a"});
  tasks["t-b"] = ended("t-b", std::chrono::hours(6));
  EXPECT_EQ(forgotten(tasks), (std::set<std::string>{"t-a", "t-b"}));
  tasks["t-b"].status = TaskStatus::kProcessing;
  EXPECT_EQ(forgotten(tasks), (std::set<std::string>{"t-a", "t-998"}));
}

TEST(TaskRules, NoneIsCancelled) {
  TaskRecord task = ended("t-1", {});
  EXPECT_EQ(why_not_cancelled(task).code, "InvalidTaskId.IncorrectTaskStatus");
  task.status = TaskStatus::kProcessing;
  EXPECT_EQ(why_not_cancelled(task).code, "InvalidTaskId.TaskActionNotSupport");
  EXPECT_EQ(why_not_cancelled(task).http_status, 403);
}

}  // namespace
}  // namespace clouddisk
