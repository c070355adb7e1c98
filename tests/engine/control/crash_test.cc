// kill -9 between any two steps of a scenario. A child process carries it out and dies at a chosen
// step; then the catalog is opened again and must be as after the last answered action, or as after
// the one that was under way.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

namespace fs = std::filesystem;

// Ids follow from the seed, so the second disk of the scenario always has the same one.
struct Scenario {
  Scenario(Daemon& daemon_in, bool waits_in) : daemon(daemon_in), waits(waits_in) {}

  void run(const std::function<void()>& after_each) {
    const auto step = [&](const std::string& action, Params params) {
      params["Action"] = action;
      if (!waits) params["Wait"] = "false";
      const Answer answer = daemon.ask(std::move(params));
      CHECK(answer.ok());
      after_each();
      return answer.body;
    };
    const std::string a = step("CreateDisk", {{"Size", "40"}, {"DiskName", "aa"}})["DiskId"];
    step("AttachDisk", {{"DiskId", a}, {"InstanceId", "i-local"}});
    const std::string b = step("CreateDisk", {{"Size", "50"},
                                              {"DiskName", "bb"},
                                              {"InstanceId", "i-local"},
                                              {"DiskCategory", "cloud_efficiency"}})["DiskId"];
    step("ResizeDisk", {{"DiskId", a}, {"NewSize", "60"}, {"Type", "online"}});
    step("ResizeDisk", {{"DiskId", b}, {"NewSize", "70"}, {"ClientToken", "t"}});
    const std::string i =
        step("RunInstances",
             {{"ImageId", "m"},
              {"InstanceType", "ecs.x"},
              {"InstanceName", "web"},
              {"DataDisk.1.Size", "20"},
              {"DataDisk.1.DiskName", "goes"},
              {"DataDisk.2.Size", "21"},
              {"DataDisk.2.DiskName", "stays"},
              {"DataDisk.2.DeleteWithInstance", "false"}})["InstanceIdSets"]["InstanceIdSet"][0];
    step("StopInstance", {{"InstanceId", "i-local"}});
    step("StartInstance", {{"InstanceId", "i-local"}});
    // After the start that the new size of this one waited for.
    step("ModifyDiskSpec", {{"DiskId", b}, {"DiskCategory", "cloud_ssd"}});
    step("StopInstance", {{"InstanceId", i}});
    step("ReplaceSystemDisk", {{"InstanceId", i}, {"ImageId", "n"}, {"SystemDisk.Size", "60"}});
    step("DetachDisk", {{"DiskId", a}, {"InstanceId", "i-local"}});
    step("DeleteDisk", {{"DiskId", a}});
    step("DeleteInstance", {{"InstanceId", i}, {"Force", "true"}});
  }

  Daemon& daemon;
  const bool waits;  // for the end of each action, not only for its answer
};

// What can be seen of everything, without times.
std::string summary_of(Daemon& daemon) {
  std::set<std::string> lines;
  const Json disks = daemon.must("DescribeDisks", {{"PageSize", "100"}});
  for (const Json& disk : disks["Disks"]["Disk"]) {
    lines.insert(fmt::format("{} {} {} {} {} {}", disk["DiskName"].get<std::string>(),
                             disk["Category"].get<std::string>(), disk["Status"].get<std::string>(),
                             disk["Size"].get<int>(),
                             disk["InstanceId"].get<std::string>().substr(0, 3),
                             disk["Device"].get<std::string>()));
  }
  const Json instances = daemon.must("DescribeInstances");
  for (const Json& instance : instances["Instances"]["Instance"]) {
    lines.insert(fmt::format("{} {}", instance["InstanceName"].get<std::string>(),
                             instance["Status"].get<std::string>()));
  }
  const Json tasks = daemon.must("DescribeTasks");
  for (const Json& task : tasks["TaskSet"]["Task"]) {
    lines.insert(fmt::format("{} {}", task["TaskAction"].get<std::string>(),
                             task["TaskStatus"].get<std::string>()));
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// Storage, exports and catalog agree.
void check_consistent(Daemon& daemon, const std::string& where) {
  std::set<std::string> ids;
  std::set<std::string> to_serve;
  const Json disks = daemon.must("DescribeDisks", {{"PageSize", "100"}});
  for (const Json& disk : disks["Disks"]["Disk"]) {
    const std::string id = disk["DiskId"];
    ids.insert(id);
    const std::string status = disk["Status"];
    EXPECT_TRUE(status == "Available" || status == "In_use") << where << ": " << status;
    const std::string instance = disk["InstanceId"];
    EXPECT_EQ(instance.empty(), status == "Available") << where;
    if (instance.empty()) continue;
    const Json body = daemon.must("DescribeInstances", {{"InstanceIds", "[\"" + instance + "\"]"}});
    ASSERT_EQ(body["TotalCount"], 1) << where;
    if (body["Instances"]["Instance"][0]["Status"] == "Running") to_serve.insert(id);
  }
  EXPECT_EQ(daemon.host.stored(), ids) << where;
  std::set<std::string> served;
  for (const auto& [id, settings] : daemon.host.served()) served.insert(id);
  EXPECT_EQ(served, to_serve) << where;
}

class ControlCrash : public ::testing::TestWithParam<bool> {};

INSTANTIATE_TEST_SUITE_P(Callers, ControlCrash, ::testing::Bool(),
                         [](const auto& one) { return one.param ? "WhoWait" : "WhoDoNotWait"; });

TEST_P(ControlCrash, DeathAtAnyStepLeavesTheStateBeforeOrAfterTheAction) {
  // What it looks like after each action, when nothing happens.
  std::vector<std::string> expected;
  {
    TempDirectory root;
    Daemon daemon(root.path());
    expected.push_back(summary_of(daemon));
    Scenario(daemon, true).run([&] { expected.push_back(summary_of(daemon)); });
    check_consistent(daemon, "without a crash");
  }
  constexpr unsigned kStepsMax = 500;
  unsigned crashes = 0;
  for (unsigned crash_at = 1; crash_at < kStepsMax; ++crash_at) {
    TempDirectory root;
    const fs::path answered_path = root.path() / "answered";
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Daemon daemon(root.path(), {.seed = 42}, crash_at);
      Scenario(daemon, GetParam()).run([&] { std::ofstream(answered_path, std::ios::app) << 'x'; });
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0) break;  // No step is left.
    ASSERT_EQ(WEXITSTATUS(status), 137);
    ++crashes;
    const auto answered = fs::exists(answered_path) ? fs::file_size(answered_path) : 0;

    Daemon daemon(root.path(), {.seed = 7});
    const std::string where = fmt::format("step {}, {} answered", crash_at, answered);
    check_consistent(daemon, where);
    const std::string seen = summary_of(daemon);
    ASSERT_LT(answered + 1, expected.size());
    EXPECT_TRUE(seen == expected[answered] || seen == expected[answered + 1])
        << where << "\nseen\n"
        << seen << "before\n"
        << expected[answered] << "after\n"
        << expected[answered + 1];
  }
  EXPECT_GT(crashes, 40U);
}

}  // namespace
}  // namespace clouddisk
