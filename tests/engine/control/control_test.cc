// The interface as a whole: names, errors, regions, our own actions, restarts.
#include "engine/control/control.h"

#include <algorithm>
#include <sstream>

#include "engine/base/log.h"
#include "engine/control/action_names.h"
#include "engine/control/params.h"
#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

TEST_F(ControlTest, ActionsAreKnownUnknownOrNotHere) {
  Daemon daemon(root_.path());
  EXPECT_REFUSED(daemon.ask(Params{}), 400, "MissingParameter");
  EXPECT_REFUSED(daemon.ask("Conquer"), 404, "InvalidAction.NotFound");
  EXPECT_REFUSED(daemon.ask("LockSnapshot"), 404, "InvalidAction.NotFound");
  EXPECT_NE(daemon.ask("LockSnapshot").body["Message"].get<std::string>().find("The cloud has"),
            std::string::npos);
  EXPECT_TRUE(cloud_has_action("AddTags"));
  EXPECT_TRUE(cloud_has_action("UntagResources"));
  EXPECT_FALSE(cloud_has_action("DescribeReplicas")) << "ours, not the cloud's";
}

TEST_F(ControlTest, WhatIsInAPlaceThatTheStartDoesNotNameIsTold) {
  const auto told_by = [&](const std::vector<std::string>& regions,
                           const std::vector<std::string>& zones,
                           const std::function<void(Daemon&)>& use = {}) {
    testing::internal::CaptureStderr();
    {
      const auto hear = [](FakeHost&) { set_log_level(LogLevel::kWarning); };  // Machine: kOff
      Daemon daemon(root_.path(), {.places = *Places::parse(regions, zones), .seed = 42}, 0, hear);
      if (use) use(daemon);
    }
    std::string told, line;
    std::istringstream lines(testing::internal::GetCapturedStderr());
    while (std::getline(lines, line)) {
      if (line.find("does not name") != std::string::npos) told += line + '\n';
    }
    return told;
  };
  EXPECT_EQ(told_by({"here"}, {"here-a", "here-b"},
                    [](Daemon& daemon) {
                      daemon.create_disk();
                      daemon.create_disk(
                          {{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"ZoneId", "here-b"}});
                    }),
            "");
  const std::string zone = told_by({"here"}, {"here-a"});
  EXPECT_EQ(std::count(zone.begin(), zone.end(), '\n'), 1) << zone;
  EXPECT_NE(zone.find("1 disk is in zone here-b of region here"), std::string::npos) << zone;
  EXPECT_NE(zone.find("Start with --region here --zone here-b --zone here-a"), std::string::npos)
      << zone;
  const std::string region = told_by({"there"}, {}, [](Daemon& daemon) {
    EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 2) << "as it says";
    EXPECT_REFUSED(daemon.ask("DescribeDisks", {{"RegionId", "here"}}), 404,
                   "InvalidRegionId.NotFound");
  });
  EXPECT_EQ(std::count(region.begin(), region.end(), '\n'), 1) << region;
  EXPECT_NE(region.find("2 disks, 1 instance (i-local) are in region here"), std::string::npos)
      << region;
  EXPECT_NE(region.find("Start with --region there --zone there-a --region here --zone here-a "
                        "--zone here-b"),
            std::string::npos)
      << region;
  EXPECT_EQ(told_by({"there", "here"}, {"there-a", "here-a", "here-b"}), "") << "as advised";
}

TEST_F(ControlTest, APlaceThatCanNotBeNamedBesideOthersIsToldWithoutAdvice) {
  Places places = *Places::parse({"here"}, {"z1"});
  { Daemon daemon(root_.path(), {.places = places, .seed = 42}); }
  testing::internal::CaptureStderr();
  {
    const auto hear = [](FakeHost&) { set_log_level(LogLevel::kWarning); };
    Daemon daemon(root_.path(), {.places = *Places::parse({"there"}, {}), .seed = 42}, 0, hear);
  }
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_NE(told.find("1 instance (i-local) is in region here"), std::string::npos) << told;
  EXPECT_EQ(told.find("Start with"), std::string::npos) << told;
}

TEST_F(ControlTest, ErrorsAndSuccessesHaveTheirForm) {
  Daemon daemon(root_.path());
  const Answer refused = daemon.ask("DeleteDisk", {{"DiskId", "d-x"}});
  EXPECT_EQ(refused.body.size(), 4U);
  for (const char* member : {"RequestId", "HostId", "Code", "Message"}) {
    EXPECT_TRUE(refused.body[member].is_string()) << member;
  }
  const std::string id = refused.body["RequestId"];
  ASSERT_EQ(id.size(), 36U);
  for (std::size_t i = 0; i < id.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    EXPECT_TRUE(dash ? id[i] == '-' : std::isdigit(id[i]) || (id[i] >= 'A' && id[i] <= 'F')) << id;
  }
  EXPECT_NE(daemon.ask("DeleteDisk", {{"DiskId", "d-x"}}).body["RequestId"], id);
  const Json empty = daemon.must("DescribeDisks");
  EXPECT_TRUE(empty["Disks"]["Disk"].is_array()) << "the wrapper and the list, even empty";
  EXPECT_EQ(empty["NextToken"], "");
}

TEST_F(ControlTest, RegionsAndZones) {
  Daemon daemon(root_.path());
  const Json regions = daemon.must("DescribeRegions");
  EXPECT_EQ(regions["Regions"]["Region"][0]["RegionId"], "cn-local");
  const Json zones = daemon.must("DescribeZones", {{"RegionId", "cn-local"}});
  const Json& zone = zones["Zones"]["Zone"][0];
  EXPECT_EQ(zone["ZoneId"], "cn-local-a");
  EXPECT_EQ(zone["AvailableDiskCategories"]["DiskCategories"].size(), 5U);
  EXPECT_TRUE(zone["AvailableResources"]["ResourcesInfo"][0]["IoOptimized"]);
  EXPECT_REFUSED(daemon.ask("DescribeZones", {{"RegionId", "mars"}}), 404,
                 "InvalidRegionId.NotFound");
}

TEST_F(ControlTest, ThingsAreInTheRegionAndZoneThatWereNamed) {
  const auto places = Places::parse({"cn-hangzhou", "cn-shanghai"},
                                    {"cn-hangzhou-i", "cn-hangzhou-j", "cn-shanghai-b"});
  ASSERT_TRUE(places) << places.error().message;
  Daemon daemon(root_.path(), {.places = *places, .seed = 42});
  EXPECT_EQ(daemon.must("DescribeRegions")["Regions"]["Region"].size(), 2U);
  const Json zones = daemon.must("DescribeZones", {{"RegionId", "cn-hangzhou"}})["Zones"]["Zone"];
  ASSERT_EQ(zones.size(), 2U);
  EXPECT_EQ(zones[1]["ZoneId"], "cn-hangzhou-j");
  EXPECT_EQ(daemon.must("DescribeZones", {{"RegionId", "cn-shanghai"}})["Zones"]["Zone"].size(),
            1U);

  const std::string home = daemon.create_disk();
  const std::string far = daemon.create_disk(
      {{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"RegionId", "cn-shanghai"}});
  const std::string beside = daemon.create_disk(
      {{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"ZoneId", "cn-hangzhou-j"}});
  EXPECT_EQ(daemon.disk(home)["ZoneId"], "cn-hangzhou-i");
  EXPECT_EQ(daemon.disk(far)["RegionId"], "cn-shanghai");
  EXPECT_EQ(daemon.disk(far)["ZoneId"], "cn-shanghai-b");
  EXPECT_TRUE(far.starts_with("d-uf")) << far;
  EXPECT_TRUE(home.starts_with("d-bp")) << home;
  const auto count = [&daemon](Params params) {
    return daemon.must("DescribeDisks", std::move(params))["TotalCount"].get<int>();
  };
  EXPECT_EQ(count({}), 3);
  EXPECT_EQ(count({{"RegionId", "cn-hangzhou"}}), 2);
  EXPECT_EQ(count({{"RegionId", "cn-shanghai"}}), 1);
  EXPECT_EQ(count({{"RegionId", "cn-hangzhou"}, {"ZoneId", "cn-hangzhou-j"}}), 1);
  EXPECT_REFUSED(daemon.ask("AttachDisk", {{"DiskId", far}, {"InstanceId", "i-local"}}), 403,
                 "ResourcesNotInSameZone");
  EXPECT_REFUSED(
      daemon.ask("CreateDisk",
                 {{"Size", "40"}, {"RegionId", "cn-hangzhou"}, {"ZoneId", "cn-shanghai-b"}}),
      404, "InvalidZoneId.NotFound");

  const Json made = daemon.must(
      "RunInstances",
      {{"RegionId", "cn-shanghai"}, {"ImageId", "local"}, {"InstanceType", "ecs.g7.large"}});
  const std::string instance = made["InstanceIdSets"]["InstanceIdSet"][0];
  daemon.attach(far, instance);
  const std::string snapshot = daemon.must("CreateSnapshot", {{"DiskId", far}})["SnapshotId"];
  EXPECT_EQ(daemon.must("DescribeSnapshots", {{"RegionId", "cn-hangzhou"}})["TotalCount"], 0);
  EXPECT_EQ(daemon.must("DescribeSnapshots", {{"RegionId", "cn-shanghai"}})["TotalCount"], 1);
  EXPECT_REFUSED(daemon.ask("CreateDisk", {{"SnapshotId", snapshot}, {"RegionId", "cn-hangzhou"}}),
                 404, "InvalidSnapshotId.NotFound");
  daemon.must("CreateDisk", {{"SnapshotId", snapshot}, {"RegionId", "cn-shanghai"}});

  Params once{{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"ClientToken", "t-1"}};
  const std::string made_once = daemon.create_disk(once);
  once["RegionId"] = "cn-hangzhou";
  EXPECT_EQ(daemon.create_disk(once), made_once) << "the same, said in full";
  once["RegionId"] = "cn-shanghai";
  EXPECT_REFUSED(daemon.ask("CreateDisk", once), 403, "IdempotentParameterMismatch");
}

TEST_F(ControlTest, ADryRunOfAQuestionChecksItToo) {
  Daemon daemon(root_.path());
  EXPECT_REFUSED(daemon.ask("DescribeDisks", {{"DryRun", "true"}}), 400, "DryRunOperation");
  EXPECT_REFUSED(daemon.ask("DescribeDisks", {{"DryRun", "true"}, {"Status", "Odd"}}), 400,
                 "InvalidStatus.ValueNotSupported");
}

TEST_F(ControlTest, CategoriesWithTheirLimits) {
  Daemon daemon(root_.path());
  const Json body = daemon.must("DescribeCategories", {{"Size", "2000"}});
  EXPECT_EQ(body["Profile"], "2021");
  bool seen_pl3 = false;
  bool seen_local = false;
  for (const Json& row : body["Categories"]["Category"]) {
    if (row["PerformanceLevel"] == "PL3") {
      seen_pl3 = true;
      EXPECT_EQ(row["IOPS"], 101'800);
      EXPECT_EQ(row["Throughput"], 1'120);
      EXPECT_EQ(row["IopsFormula"], "min(1,800 + 50 C, 1,000,000)");
      EXPECT_EQ(row["SystemDisk"], false);
    }
    if (row["Category"] == "local_ssd_pro") {
      seen_local = true;
      EXPECT_EQ(row["Available"], false);
      EXPECT_FALSE(row["Reason"].get<std::string>().empty());
    }
  }
  EXPECT_TRUE(seen_pl3);
  EXPECT_TRUE(seen_local);
  EXPECT_EQ(daemon.must("DescribeCategories", {{"Profile", "2024"}})["Profile"], "2024");
  EXPECT_REFUSED(daemon.ask("DescribeCategories", {{"Profile", "1999"}}), 400,
                 "InvalidProfile.NotFound");
}

TEST_F(ControlTest, ReplicasExportsAndStats) {
  Daemon daemon(root_.path());
  const Json replicas = daemon.must("DescribeReplicas");
  ASSERT_EQ(replicas["Replicas"]["Replica"].size(), 3U);
  EXPECT_EQ(replicas["Replicas"]["Replica"][0]["Replica"], 1);
  EXPECT_EQ(replicas["Replicas"]["Replica"][0]["State"], "in-sync");
  daemon.must("ResyncReplica", {{"Replica", "2"}});
  EXPECT_EQ(daemon.host.resynced(), std::set<unsigned>{1});
  EXPECT_REFUSED(daemon.ask("ResyncReplica", {{"Replica", "4"}}), 404, "InvalidReplica.NotFound");
  EXPECT_REFUSED(daemon.ask("ResyncReplica", {{"Replica", "0"}}), 404, "InvalidReplica.NotFound");
  daemon.host.fail_next("resync", Errc::kExists);
  EXPECT_REFUSED(daemon.ask("ResyncReplica", {{"Replica", "1"}}), 403, "IncorrectReplicaStatus");

  const std::string id = daemon.create_disk();
  EXPECT_REFUSED(daemon.ask("DescribeDiskStats", {{"DiskId", id}}), 403, "IncorrectDiskStatus");
  EXPECT_REFUSED(daemon.ask("DescribeDiskExport", {{"DiskId", id}}), 403, "IncorrectDiskStatus");
  daemon.attach(id);
  EXPECT_EQ(daemon.must("DescribeDiskStats", {{"DiskId", id}})["Reads"], 7);
  const Json exports = daemon.must("DescribeDiskExport", {{"DiskId", id}});
  const Json& list = exports["Exports"]["Export"];
  EXPECT_EQ(list[0]["Uri"], "nbd+unix:///" + id + "?socket=/run/a%20b/nbd.sock");
  EXPECT_EQ(list[1]["Uri"], "nbd://127.0.0.1:10809/" + id);
  EXPECT_EQ(list[2]["Uri"], "nbds://127.0.0.1:10810/" + id) << "where TLS is required";
}

TEST_F(ControlTest, ARestartServesWhatWasServed) {
  std::string id;
  {
    Daemon daemon(root_.path());
    id = daemon.create_disk();
    daemon.attach(id);
    daemon.create_disk();
  }
  Daemon daemon(root_.path(), {.seed = 43});
  EXPECT_EQ(daemon.host.served().size(), 1U);
  EXPECT_TRUE(daemon.host.served().contains(id));
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 2);
}

TEST_F(ControlTest, ADiskOfAnotherProfileKeepsItsLimits) {
  std::string id;
  {
    Daemon daemon(root_.path());
    id = daemon.create_disk({{"Size", "40"}});  // Basic: not in profile 2024.
    daemon.attach(id);
  }
  Control::Options options;
  options.profile = "2024";
  Daemon daemon(root_.path(), options);
  EXPECT_EQ(daemon.disk(id)["IOPS"], 400);
  EXPECT_EQ(daemon.disk(daemon.create_disk({{"Size", "40"}}))["Category"], "cloud_essd");
}

TEST_F(ControlTest, WithoutAQuorumNothingChangesAndReadingGoesOn) {
  Daemon daemon(root_.path());
  const std::string id = daemon.create_disk();
  auto& ring = *daemon.machine.ring;
  for (unsigned replica : {0U, 2U}) {
    static_cast<void>(ring.block_on(daemon.machine.replicas->drop(ring, replica, "test")));
  }
  EXPECT_REFUSED(daemon.ask("CreateDisk", {{"Size", "40"}}), 503, "ServiceUnavailable");
  EXPECT_EQ(daemon.disk(id)["Status"], "Available");
  EXPECT_EQ(daemon.host.stored().size(), 1U);
}

TEST_F(ControlTest, AResyncedReplicaGetsTheCatalog) {
  Daemon daemon(root_.path());
  auto& ring = *daemon.machine.ring;
  ReplicaSet& replicas = *daemon.machine.replicas;
  ASSERT_TRUE(ring.block_on(replicas.drop(ring, 1, "test")));
  daemon.create_disk();
  EXPECT_FALSE(ring.block_on(daemon.control->copy_catalog_to(1)))
      << "neither in sync nor receiving";
  ASSERT_TRUE(replicas.begin_receiving(1));
  ASSERT_TRUE(ring.block_on(daemon.control->copy_catalog_to(1)));
  ASSERT_TRUE(ring.block_on(replicas.admit(1)));
}

TEST_F(ControlTest, AClosedControlSaysSo) {
  Daemon daemon(root_.path());
  daemon.machine.ring->block_on(daemon.control->close());
  EXPECT_REFUSED(daemon.ask("DescribeDisks"), 503, "ServiceUnavailable");
}

TEST_F(ControlTest, ActionsAtOnceAreDoneOneAfterTheOther) {
  Daemon daemon(root_.path());
  auto& ring = *daemon.machine.ring;
  constexpr int kRequests = 20;
  int finished = 0;
  const auto one = [](Control& control, int& count) -> Task<void> {
    Params params = {{"Action", "CreateDisk"}, {"Size", "40"}, {"ClientToken", "same"}};
    const Reply reply = co_await control.perform(std::move(params));
    EXPECT_EQ(reply.http_status, 200) << reply.body;
    ++count;
  };
  for (int i = 0; i < kRequests; ++i) spawn(one(*daemon.control, finished));
  ring.run_until([&finished] { return finished == kRequests; });
  EXPECT_EQ(daemon.must("DescribeDisks")["TotalCount"], 1) << "one token, one disk";
}

TEST(Params, AreReadWithTheirTypes) {
  const Params params = {{"name", "x"},        {"Empty", ""},          {"Number", "12"},
                         {"Flag", "TRUE"},     {"Bad", "1x"},          {"List.1", "a"},
                         {"list.2", "b"},      {"List.4", "d"},        {"Tag.1.Key", "k"},
                         {"tag.1.value", "v"}, {"Tag.3.Key", "never"}, {"Ids", "[\"a\",\"b\"]"}};
  ParamReader reader(params);
  EXPECT_EQ(reader.text("NAME"), "x");
  EXPECT_FALSE(reader.has("Empty")) << "an empty value is none";
  EXPECT_EQ(reader.number("number", 0), 12U);
  EXPECT_TRUE(reader.boolean("flag", false));
  EXPECT_EQ(reader.list("List"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(reader.tags(), (std::vector<Tag>{{"k", "v"}}));
  EXPECT_EQ(reader.json_list("Ids", 2, 400, "X")->size(), 2U);
  EXPECT_FALSE(reader.problem());
  EXPECT_FALSE(reader.json_list("Ids", 1, 403, "TooMany"));
  EXPECT_EQ(reader.problem()->code, "TooMany");
  EXPECT_EQ(reader.number("Bad", 5), 5U);
  EXPECT_EQ(reader.problem()->code, "TooMany") << "the first problem is kept";
}

}  // namespace
}  // namespace clouddisk
