// Tasks: what goes on after its answer, as a change of a disk's category or level does.
#include <optional>

#include "tools/clouddisk/session.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

void add_task_id(CLI::App* command, std::string& id) {
  command->add_option("TASK", id, "The task's id, t-…")->required()->type_name("");
}

void add_task_list(CLI::App& task, Session& session) {
  struct Arguments {
    std::optional<std::string> resource, status;
    bool ids_only = false;
  };
  CLI::App* command = add_command(task, "list", "Show tasks, newest first",
                                  "  clouddisk task list\n"
                                  "  clouddisk task list --resource d-bp1example\n"
                                  "  clouddisk task list --status Failed --output json");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--resource", arguments->resource, "Only those about it, such as a disk")
      ->type_name("ID");
  command
      ->add_option("--status", arguments->status,
                   "Only those that are Processing, Finished, Failed")
      ->check(CLI::IsMember({"Processing", "Finished", "Failed"}))
      ->type_name("STATUS");
  command->add_flag("--ids", arguments->ids_only, "Ids alone, one a line");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->resource) params["ResourceIds.1"] = *arguments->resource;
    if (arguments->status) params["TaskStatus"] = *arguments->status;
    auto answer = api.call_all("DescribeTasks", params, "TaskSet", "Task");
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    Table table({{"TASK"}, {"ACTION"}, {"RESOURCE"}, {"STATUS"}, {"CREATED"}, {"FINISHED"}});
    for (const Json& one : (*answer)["TaskSet"]["Task"]) {
      if (arguments->ids_only) print_text(text_of(one, "TaskId") + "\n");
      table.add_row({text_of(one, "TaskId"), text_of(one, "TaskAction"), text_of(one, "ResourceId"),
                     text_of(one, "TaskStatus"), text_of(one, "CreationTime"),
                     text_of(one, "FinishedTime")});
    }
    if (!arguments->ids_only) print_text(table.text());
    return Done{};
  });
}

void add_task_show(CLI::App& task, Session& session) {
  CLI::App* command = add_command(task, "show", "Show a task, and why it failed",
                                  "  clouddisk task show t-bp1example");
  auto id = std::make_shared<std::string>();
  add_task_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call("DescribeTaskAttribute", {{"TaskId", *id}});
    if (!answer) return answer.failure();
    if (session.json()) {
      print_json(*answer);
      return Done{};
    }
    const Json& one = *answer;
    std::vector<std::pair<std::string, std::string>> fields = {
        {"id", text_of(one, "TaskId")},
        {"action", text_of(one, "TaskAction")},
        {"status", text_of(one, "TaskStatus")},
        {"progress", text_of(one, "TaskProcess")},
        {"created", text_of(one, "CreationTime")},
        {"finished", text_of(one, "FinishedTime")}};
    for (const Json& part : one["OperationProgressSet"]["OperationProgress"]) {
      for (const Json& item : part["RelatedItemSet"]["RelatedItem"]) {
        fields.emplace_back("about", text_of(item, "Value"));
      }
      const std::string code = text_of(part, "ErrorCode");
      if (!code.empty()) fields.emplace_back("why", code + ": " + text_of(part, "ErrorMsg"));
    }
    print_text(fields_text(fields));
    return Done{};
  });
}

void add_task_cancel(CLI::App& task, Session& session) {
  CLI::App* command =
      add_command(task, "cancel", "Cancel a task; changes of a disk can't be cancelled",
                  "  clouddisk task cancel t-bp1example");
  auto id = std::make_shared<std::string>();
  add_task_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto answer = api.call("CancelTask", {{"TaskId", *id}});
    if (!answer) return answer.failure();
    if (session.json()) print_json(*answer);
    return Done{};
  });
}

}  // namespace

void add_task_commands(CLI::App& root, Session& session) {
  CLI::App* task = add_noun(root, "task", "Changes of disks that go on after their answer",
                            "  clouddisk task list\n"
                            "  clouddisk task show t-bp1example");
  add_task_list(*task, session);
  add_task_show(*task, session);
  add_task_cancel(*task, session);
}

}  // namespace clouddisk::cli
