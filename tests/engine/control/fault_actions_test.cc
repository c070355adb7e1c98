// Faults as the API takes and shows them.
#include <gtest/gtest.h>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

using FaultActions = ControlTest;

TEST_F(FaultActions, AFaultIsShownAsItWasSetUntilItIsCleared) {
  Daemon daemon(root_.path());
  const std::string disk = daemon.create_disk();
  const Params params = {{"DiskId", disk},    {"Kind", "slow"},    {"Op.1", "read"},
                         {"Op.2", "write"},   {"Rate", "10%"},     {"FirstBlock", "8"},
                         {"LastBlock", "15"}, {"DelayUs", "2500"}, {"LifetimeMs", "30000"},
                         {"Seed", "77"}};
  EXPECT_REFUSED(daemon.ask("SetDiskFault", params), 403, "IncorrectDiskStatus");
  daemon.attach(disk);
  const Json set = daemon.must("SetDiskFault", params);
  EXPECT_EQ(set["FaultId"], "f-1");
  const Json faults = daemon.must("DescribeDiskFaults", {{"DiskId", disk}})["Faults"]["Fault"];
  ASSERT_EQ(faults.size(), 1U);
  const Json& fault = faults[0];
  EXPECT_EQ(fault["Level"], "client");
  EXPECT_EQ(fault["Op"], (Json{"read", "write"}));
  EXPECT_EQ(fault["Rate"], 0.1);
  EXPECT_EQ(fault["FirstBlock"], 8);
  EXPECT_EQ(fault["LastBlock"], 15);
  EXPECT_EQ(fault["DelayUs"], 2500);
  EXPECT_EQ(fault["TimeLeftMs"], 30000);
  EXPECT_EQ(fault["Seed"], 77);
  EXPECT_FALSE(fault.contains("Replica"));
  EXPECT_EQ(daemon.disk(disk)["Faults"], 1);
  EXPECT_EQ(daemon.must("ClearDiskFaults", {{"FaultId", "f-1"}})["Cleared"], 1);
  EXPECT_EQ(daemon.disk(disk)["Faults"], 0);
  EXPECT_REFUSED(daemon.ask("ClearDiskFaults", {{"FaultId", "f-1"}}), 404,
                 "InvalidFaultId.NotFound");
}

TEST_F(FaultActions, AReplicaIsNumberedFromOneAndMarkedInItsStatus) {
  Daemon daemon(root_.path());
  const std::string disk = daemon.create_disk();
  daemon.attach(disk);
  const Json set =
      daemon.must("SetDiskFault", {{"DiskId", disk}, {"Kind", "hang"}, {"Replica", "3"}});
  EXPECT_EQ(set["Replica"], 3);
  EXPECT_EQ(set["Level"], "replica");
  EXPECT_FALSE(set.contains("TimeLeftMs"));
  const Json replicas = daemon.must("DescribeReplicas")["Replicas"]["Replica"];
  EXPECT_EQ(replicas[0]["Faults"], 0);
  EXPECT_EQ(replicas[2]["Faults"], 1);
  EXPECT_EQ(daemon.must("ClearDiskFaults", {{"All", "true"}})["Cleared"], 1);
  EXPECT_EQ(daemon.must("ClearDiskFaults", {{"DiskId", disk}})["Cleared"], 0);
}

TEST_F(FaultActions, ParametersThatAreNoneAreRefusedByName) {
  Daemon daemon(root_.path());
  const std::string disk = daemon.create_disk();
  daemon.attach(disk);
  const struct {
    Params params;
    int status;
    const char* code;
  } kRows[] = {
      {{{"Kind", "error"}}, 400, "MissingParameter"},
      {{{"DiskId", disk}}, 400, "MissingParameter"},
      {{{"DiskId", disk}, {"Kind", "odd"}}, 400, "InvalidParameter"},
      {{{"DiskId", disk}, {"Kind", "error"}, {"Op.1", "trim"}}, 400, "InvalidParameter"},
      {{{"DiskId", disk}, {"Kind", "error"}, {"Rate", "often"}}, 400, "InvalidParameter"},
      {{{"DiskId", disk}, {"Kind", "error"}, {"Rate", "nan"}}, 400, "InvalidFault"},
      {{{"DiskId", disk}, {"Kind", "error"}, {"Rate", "0"}}, 400, "InvalidFault"},
      {{{"DiskId", disk}, {"Kind", "error"}, {"Replica", "0"}}, 404, "InvalidReplica.NotFound"},
      {{{"DiskId", disk}, {"Kind", "slow"}, {"DelayUs", "999999999999999999"}},
       400,
       "InvalidFault"},
      {{{"DiskId", disk}, {"Kind", "error"}, {"FirstBlock", "10485760"}}, 400, "InvalidFault"},
      {{{"DiskId", "d-none"}, {"Kind", "error"}}, 404, "InvalidDiskId.NotFound"},
  };
  for (const auto& row : kRows) {
    EXPECT_REFUSED(daemon.ask("SetDiskFault", row.params), row.status, row.code);
  }
  EXPECT_REFUSED(daemon.ask("ClearDiskFaults", {}), 400, "InvalidParameter");
  EXPECT_TRUE(daemon.must("DescribeDiskFaults")["Faults"]["Fault"].empty());
}

}  // namespace
}  // namespace clouddisk
