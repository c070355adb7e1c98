// task_record.cc: the JSON form of a task.
#include "engine/catalog/record_json.h"
#include "engine/catalog/records.h"

namespace clouddisk {

using namespace record_json;

std::string key_of(const TaskRecord& task) {
  return std::string(kTaskKeys) + task.id;
}

std::string to_json(const TaskRecord& task) {
  const Json json = {
      {"id", task.id},
      {"region", task.region},
      {"action", task.action},
      {"resource", task.resource_id},
      {"status", name(task.status)},
      {"error_code", task.error_code},
      {"error_message", task.error_message},
      {"created", to_number(task.created)},
      {"finished", to_number(task.finished)},
  };
  return json.dump();
}

Result<TaskRecord> task_from_json(std::string_view json) {
  MemberReader reader("task", json);
  TaskRecord task;
  reader.read("id", task.id);
  reader.read("region", task.region);
  reader.read("action", task.action);
  reader.read("resource", task.resource_id);
  reader.read_status(task.status, &parse_task_status);
  reader.read("error_code", task.error_code);
  reader.read("error_message", task.error_message);
  reader.read("created", task.created);
  reader.read("finished", task.finished);
  return reader.finish(std::move(task));
}

}  // namespace clouddisk
