#include "tools/clouddisk/host_state.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/clouddisk/process.h"

namespace clouddisk::cli {
namespace {

TEST(Mountinfo, ReadsEscapesOptionalFieldsAndDevices) {
  const auto mounts = parse_mountinfo(
      "22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n"
      "36 22 7:0 / /mnt/with\\040blank\\134x rw - xfs /dev/loop0 rw\n"
      "40 22 0:50 / /run/f rw - fuse nbdfuse rw\n"
      "broken\n");
  ASSERT_EQ(mounts.size(), 3U);
  EXPECT_EQ(mounts[0].directory, "/");
  EXPECT_EQ(mounts[0].type, "ext4");
  EXPECT_EQ(mounts[1].directory, "/mnt/with blank\\x");
  EXPECT_EQ(mounts[1].device, "7:0");
  EXPECT_EQ(mounts[2].type, "fuse");
}

TEST(Mountinfo, TheRootIsAMountPointAndANewFolderIsNot) {
  EXPECT_TRUE(is_mount_point("/proc"));
  EXPECT_FALSE(is_mount_point("/tmp/there-is-no-such-folder"));
}

TEST(Processes, AreFoundByProgramAndExactArgument) {
  auto child = start_program({"sleep", "300.125"}, "/dev/null");
  ASSERT_TRUE(child) << child.failure().message;
  EXPECT_TRUE(wait_until(5, [] { return !processes_with("sleep", "300.125").empty(); }));
  EXPECT_EQ(processes_with("sleep", "300.125"), std::vector<pid_t>{*child});
  EXPECT_TRUE(processes_with("sleep", "300").empty());
  EXPECT_TRUE(processes_with("nbdfuse", "300.125").empty());
  EXPECT_FALSE(child_ended(*child));
  ::kill(*child, SIGKILL);
  EXPECT_TRUE(wait_until(5, [&] { return child_ended(*child); }));
}

TEST(RunProgram, GivesStatusAndBothOutputs) {
  auto result = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(result) << result.failure().message;
  EXPECT_EQ(result->exit_status, 3);
  EXPECT_EQ(result->output, "out\n");
  EXPECT_EQ(result->complaint(), "err");
  auto killed = run_program({"sh", "-c", "kill -9 $$"});
  ASSERT_TRUE(killed);
  EXPECT_EQ(killed->exit_status, 128 + 9);
}

TEST(RunProgram, AMissingProgramAndAnEndlessOneAreFailures) {
  auto missing = run_program({"clouddisk-no-such-program"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.failure().code, "ProgramMissing");
  auto endless = run_program({"sleep", "100"}, std::chrono::seconds(1));
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.failure().code, "ProgramFailed");
}

}  // namespace
}  // namespace clouddisk::cli
