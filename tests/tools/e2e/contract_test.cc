// The command contract, with the real daemon and the real command line.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <thread>

#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/mount_record.h"
#include "tools/http/client.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

class Contract : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(daemon_.start()) << daemon_.log(); }
  TestDaemon daemon_;
};

TEST_F(Contract, CreatePrintsTheIdAloneAndCountMakesSeveral) {
  const std::string id = daemon_.ok(
      {"disk", "create", "--size", "40", "--performance-level", "PL1", "--name", "data"});
  EXPECT_TRUE(std::regex_match(id, std::regex("d-[a-z0-9]{20}"))) << id;
  const std::string three = daemon_.ok(
      {"disk", "create", "--category", "cloud_efficiency", "--size", "20", "--count", "3"});
  EXPECT_EQ(std::count(three.begin(), three.end(), '\n'), 2);
  const Json all = daemon_.ok_json({"disk", "list"});
  EXPECT_EQ(all["TotalCount"], 4);
  EXPECT_EQ(all["Disks"]["Disk"].size(), 4U);
}

TEST_F(Contract, AttachPrintsTheUriAloneAndTheExportIsTheDisksId) {
  const std::string id = daemon_.ok({"disk", "create", "--size", "40"});
  auto before = daemon_.connect(id);
  EXPECT_FALSE(before) << "a disk is exported only while it is attached";
  EXPECT_EQ(daemon_.ok({"disk", "attach", id}),
            "nbd+unix:///" + id + "?socket=" + daemon_.root() + "/nbd.sock");
  auto client = daemon_.connect(id);
  ASSERT_TRUE(client) << client.error().message;
  EXPECT_EQ(client->size_bytes(), 40_GiB);
  const Json disk = daemon_.ok_json({"disk", "show", id});
  EXPECT_EQ(disk["Status"], "In_use");
  EXPECT_EQ(disk["InstanceId"], "i-local");
  daemon_.ok({"disk", "resize", id, "--size", "80"});
  auto grown = daemon_.connect(id);
  ASSERT_TRUE(grown);
  EXPECT_EQ(grown->size_bytes(), 80_GiB);
  daemon_.ok({"disk", "detach", id});
  EXPECT_FALSE(daemon_.connect(id));
  daemon_.ok({"disk", "delete", id});
  EXPECT_EQ(daemon_.ok({"disk", "list", "--ids"}), "");
}

TEST_F(Contract, ReplicaStatusInJsonGivesFolderStateGenerationAndProgress) {
  const Json replicas = daemon_.ok_json({"replica", "status"});
  ASSERT_EQ(replicas.size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(replicas[i]["folder"], daemon_.replica(i + 1));
    EXPECT_EQ(replicas[i]["state"], "in-sync");
    EXPECT_GE(replicas[i]["generation"].get<int>(), 1);
    EXPECT_EQ(replicas[i]["progress"], 1.0);
  }
}

TEST_F(Contract, RefusalsHaveTheCodeOfTheCloudAndChangeNothing) {
  const std::string id = daemon_.make_disk();
  const std::string free = daemon_.ok({"disk", "create", "--size", "40"});
  const Json before = daemon_.ok_json({"disk", "list"});
  struct Case {
    const char* code;
    std::vector<std::string> arguments;
  };
  const Case cases[] = {
      {"InvalidDiskCategory.ValueNotSupported",
       {"disk", "create", "--size", "40", "--category", "x"}},
      {"OperationDenied.PerformanceLevelNotMatch", {"disk", "create", "--size", "0"}},
      {"InvalidPerformanceLevel.Malformed",
       {"disk", "create", "--size", "40", "--performance-level", "PL9"}},
      {"InvalidDiskName.Malformed", {"disk", "create", "--size", "40", "--name", "1"}},
      {"InvalidDescription.Malformed", {"disk", "create", "--size", "40", "--description", "x"}},
      {"InvalidZoneId.NotFound", {"disk", "create", "--size", "40", "--zone", "nowhere"}},
      {"InvalidDiskId.NotFound", {"disk", "show", "d-none"}},
      {"InvalidDiskId.NotFound", {"disk", "attach", "d-none"}},
      {"InvalidDiskId.NotFound", {"disk", "detach", "d-none"}},
      {"InvalidDiskId.NotFound", {"disk", "delete", "d-none"}},
      {"InvalidDiskId.NotFound", {"disk", "resize", "d-none", "--size", "80"}},
      {"InvalidDiskId.NotFound", {"disk", "export", "d-none"}},
      {"InvalidInstanceId.NotFound", {"disk", "attach", free, "--instance", "i-none"}},
      {"IncorrectDiskStatus", {"disk", "attach", id}},
      {"IncorrectDiskStatus", {"disk", "detach", free}},
      {"IncorrectDiskStatus", {"disk", "delete", id}},
      {"IncorrectDiskStatus", {"disk", "export", free}},
      {"InvalidDiskSize.TooSmall", {"disk", "resize", id, "--size", "20"}},
      {"InvalidDiskSize", {"disk", "resize", id, "--size", "40"}},
      {"InvalidDiskSize.TooLarge", {"disk", "resize", id, "--size", "99999"}},
      {"WrongUsage", {"disk", "modify", id}},
      {"InvalidReplica.NotFound", {"replica", "resync", "4"}},
      {"IncorrectReplicaStatus", {"replica", "resync", "1"}},
      {"InvalidAction.NotFound", {"api", "NoSuchAction"}},
      {"InvalidAction.NotFound", {"api", "LockSnapshot"}},
      {"InvalidSize.ValueNotSupported", {"api", "CreateDisk", "Size=x"}},
      {"MissingParameter", {"api", "AttachDisk"}},
      {"WrongUsage", {"api", "CreateDisk", "nonsense"}},
      {"NotMounted", {"disk", "umount", "d-none"}},
  };
  for (const Case& c : cases) {
    if (std::string_view(c.code) == "NotMounted" && ::geteuid() != 0) continue;
    daemon_.refused(c.code, c.arguments);
  }
  Json after = daemon_.ok_json({"disk", "list"});
  EXPECT_EQ(after["Disks"], before["Disks"]);
}

TEST_F(Contract, ListsFollowPagingToTheEnd) {
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    std::istringstream lines(daemon_.ok({"disk", "create", "--size", "20", "--count", "50"}));
    for (std::string id; std::getline(lines, id);) ids.insert(id);
  }
  std::set<std::string> listed;
  std::istringstream lines(daemon_.ok({"disk", "list", "--ids"}));
  for (std::string id; std::getline(lines, id);) listed.insert(id);
  EXPECT_EQ(ids.size(), 150U);
  EXPECT_EQ(listed, ids);
}

TEST_F(Contract, InstancesOwnDisksAndStoppingClosesTheirExports) {
  const std::string instance = daemon_.ok({"instance", "create", "--name", "web"});
  EXPECT_TRUE(instance.starts_with("i-"));
  const std::string id = daemon_.ok({"disk", "create", "--size", "40"});
  daemon_.ok({"disk", "attach", id, "--instance", instance, "--delete-with-instance", "true"});
  EXPECT_TRUE(daemon_.connect(id));
  daemon_.ok({"instance", "stop", instance});
  EXPECT_FALSE(daemon_.connect(id));
  daemon_.ok({"instance", "start", instance});
  EXPECT_TRUE(daemon_.connect(id));
  daemon_.ok({"instance", "stop", instance});
  daemon_.ok({"instance", "delete", instance});
  daemon_.refused("InvalidDiskId.NotFound", {"disk", "show", id});
}

TEST_F(Contract, AnInstanceWithAMountedDiskIsStoppedOrDeletedOnlyByForce) {
  const std::string instance = daemon_.ok({"instance", "create"});
  const std::string mounted = daemon_.ok({"disk", "create", "--size", "40"});
  const std::string other = daemon_.ok({"disk", "create", "--size", "40"});
  for (const std::string& id : {mounted, other}) {
    daemon_.ok({"disk", "attach", id, "--instance", instance});
  }
  cli::MountRecord record;
  record.folder = daemon_.root() + "/mounts/" + mounted;
  record.id = mounted;
  record.directory = "/mnt/somewhere";
  ASSERT_TRUE(cli::save_record(record));
  daemon_.refused("DiskMounted", {"instance", "stop", instance});
  daemon_.refused("DiskMounted", {"instance", "delete", instance});
  const std::string said = daemon_.cli({"instance", "stop", instance}).errors;
  for (const std::string& part : {mounted + " is mounted at /mnt/somewhere",
                                  "clouddisk disk umount " + mounted, std::string("--force")}) {
    EXPECT_NE(said.find(part), std::string::npos) << said;
  }
  const std::string hint = "fsfreeze -f /mnt/somewhere";
  const auto taken = daemon_.cli({"snapshot", "create", mounted, "--wait"});
  EXPECT_NE(taken.errors.find(hint), std::string::npos) << taken.errors;
  EXPECT_EQ(daemon_.cli({"snapshot", "create", other, "--wait"}).errors, "");
  daemon_.refused("DiskMounted", {"disk", "reinit", other, "--restart-instance"});
  EXPECT_TRUE(daemon_.connect(mounted)) << "the instance was not stopped";
  record.relay_socket = "/mnt/relay.sock";
  ASSERT_TRUE(cli::save_record(record));
  daemon_.ok({"disk", "reinit", other, "--restart-instance"});
  daemon_.ok({"instance", "stop", instance, "--force"});
  EXPECT_FALSE(daemon_.connect(mounted));
  daemon_.ok({"instance", "delete", instance, "--force"});
}

TEST_F(Contract, ARollbackThatIsRefusedAnywayStopsNoInstance) {
  const std::string id = daemon_.make_disk();
  auto client = daemon_.connect(id);
  ASSERT_TRUE(client);
  daemon_.refused("IncorrectDiskStatus.NothingToUndo",
                  {"disk", "undo-rollback", id, "--restart-instance"});
  EXPECT_TRUE(client->write(0, std::vector<std::byte>(4096))) << "its client is still connected";
}

TEST_F(Contract, RefusalsNameTheWayOut) {
  const std::string instance = daemon_.ok({"instance", "create"});
  const std::string id = daemon_.ok({"disk", "create", "--size", "40"});
  const auto says = [this](const std::vector<std::string>& arguments, const std::string& part) {
    const ProgramResult result = daemon_.cli(arguments);
    EXPECT_EQ(result.exit_status, result.errors.starts_with("error: WrongUsage") ? 2 : 1);
    EXPECT_NE(result.errors.find(part), std::string::npos) << result.errors;
  };
  says({"disk", "export", id}, "clouddisk disk attach " + id);
  daemon_.ok({"disk", "attach", id, "--instance", instance});
  says({"disk", "reinit", id}, "--restart-instance, or with: clouddisk instance stop " + instance);
  says({"disk", "hydrate", id, "--rate", "500"}, "error: WrongUsage: --rate: at least 1M");
  says({"disk", "create", "--size", "40", "--category", "x"}, "see: clouddisk category list");
  EXPECT_NE(daemon_.ok({"category", "list", "--size", "2000"}).find(" 1,120 "), std::string::npos);
  says({"image", "create"}, "Give --instance, or --snapshot");
  says({"image", "share", "m-none"}, "--with");
  says({"policy", "create", "--copy-to", "nowhere"}, "--copy-to is another region");
  says({"policy", "create", "--copy-retention-days", "7"},
       "--copy-retention-days needs --copy-to.");
  says({"instance", "delete", instance}, "stop it, or use --force");
  says({"api", "DeleteInstance", "InstanceId=" + instance}, "stop it, or use Force=true");
  says({"snapshot", "chain", "d-none"}, "InvalidDiskId.NotFound");
  says({"snapshot", "chain", "s-none"}, "s-none is a snapshot");
  const std::string snapshot = daemon_.ok({"snapshot", "create", id, "--wait"});
  says({"snapshot", "diff", snapshot, snapshot}, "does not differ from itself");
  says({"snapshot", "diff", id, snapshot}, "clouddisk snapshot diff " + snapshot + " " + id);
  says({"snapshot", "diff", snapshot, daemon_.make_disk()}, "is a snapshot of disk " + id);
  says({"snapshot", "export", snapshot, "--to", daemon_.root() + "/none/x.raw"},
       "There is no folder " + daemon_.root() + "/none");
  const std::string file = daemon_.root() + "/x.raw";
  std::ofstream(file) << "mine";
  says({"snapshot", "export", snapshot, "--to", file}, "--force");
  EXPECT_EQ(fs::file_size(file), 4U);
  const std::string made = daemon_.ok({"disk", "create", "--snapshot", snapshot});
  says({"snapshot", "delete", snapshot}, "1 disk was made from snapshot " + snapshot + ": " + made);
  says({"snapshot", "delete", snapshot}, "clouddisk snapshot delete " + snapshot + " --force");
  daemon_.ok({"instance", "stop", instance});
  says({"disk", "export", id}, "clouddisk instance start " + instance);
}

TEST_F(Contract, SnapshotsAreShownWithWhatTheyChangedAgainstAndWithoutADeletedDisk) {
  const std::string id = daemon_.make_disk();
  const std::string first =
      daemon_.ok({"snapshot", "create", id, "--retention-days", "1", "--wait"});
  const std::string second = daemon_.ok({"snapshot", "create", id, "--wait"});
  const std::string shown = daemon_.ok({"snapshot", "show", first});
  EXPECT_NE(shown.find("nothing (first of its chain)"), std::string::npos) << shown;
  EXPECT_NE(shown.find("1 day\n"), std::string::npos) << shown;
  EXPECT_EQ(shown.find("used for"), std::string::npos) << shown;
  const std::string next = daemon_.ok({"snapshot", "show", second});
  EXPECT_NE(next.find(first), std::string::npos) << next;
  EXPECT_EQ(next.find("retention"), std::string::npos) << next;
  const std::string here = "accomplished  <- the disk";
  EXPECT_NE(daemon_.ok({"snapshot", "chain", id}).find(here), std::string::npos);
  daemon_.ok({"disk", "detach", id});
  daemon_.ok({"disk", "delete", id});
  const std::string after = daemon_.ok({"snapshot", "chain", id});
  EXPECT_NE(after.find(second), std::string::npos) << after;
  EXPECT_EQ(after.find(here), std::string::npos) << after;
}

TEST_F(Contract, AChangeOfADiskIsATaskThatIsFoundAfterARestart) {
  const std::string disk =
      daemon_.ok({"disk", "create", "--size", "500", "--performance-level", "PL1"});
  EXPECT_EQ(daemon_.ok({"task", "list", "--ids"}), "");
  daemon_.ok({"disk", "modify", disk, "--performance-level", "PL2"});
  const std::string task = daemon_.ok({"task", "list", "--resource", disk, "--ids"});
  EXPECT_TRUE(std::regex_match(task, std::regex("t-[a-z0-9]{20}"))) << task;
  daemon_.kill_now();
  ASSERT_TRUE(daemon_.start()) << daemon_.log();
  EXPECT_EQ(daemon_.ok({"task", "list", "--status", "Finished", "--ids"}), task);
  const std::string shown = daemon_.ok({"task", "show", task});
  for (const std::string& part : {std::string("ModifyDiskSpec"), std::string("100%"), disk}) {
    EXPECT_NE(shown.find(part), std::string::npos) << shown;
  }
  daemon_.refused("InvalidTaskId.IncorrectTaskStatus", {"task", "cancel", task});
  daemon_.refused("InvalidTaskId.NotFound", {"task", "show", disk});
}

TEST_F(Contract, SixteenDisksAnInstanceAndNoMore) {
  std::vector<std::string> ids;
  std::istringstream lines(daemon_.ok({"disk", "create", "--size", "20", "--count", "17"}));
  for (std::string id; std::getline(lines, id);) ids.push_back(id);
  ASSERT_EQ(ids.size(), 17U);
  for (int i = 0; i < 16; ++i) daemon_.ok({"disk", "attach", ids[i]});
  daemon_.refused("InstanceDiskLimitExceeded", {"disk", "attach", ids[16]});
}

TEST_F(Contract, ASecondDaemonOnTheSameRootIsRefused) {
  auto second = cli::run_program({CLOUDDISKD_PROGRAM, "--root", daemon_.root()});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->exit_status, 1);
  EXPECT_EQ(second->output, "");
  EXPECT_NE(second->errors.find("another clouddiskd"), std::string::npos) << second->errors;
  daemon_.ok({"disk", "list"});
}

TEST_F(Contract, TheRootInTheEnvironmentStandsInForTheOption) {
  ::setenv("CLOUDDISK_ROOT", daemon_.root().c_str(), 1);
  auto listed = cli::run_program({CLOUDDISK_PROGRAM, "disk", "list"});
  ::unsetenv("CLOUDDISK_ROOT");
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->exit_status, 0) << listed->errors;
}

TEST_F(Contract, SigtermEndsItCleanlyAndEverythingIsThereAfterwards) {
  const std::string id = daemon_.make_disk();
  std::vector<std::byte> data(64_KiB, std::byte{0x5a});
  {
    auto client = daemon_.connect(id);
    ASSERT_TRUE(client);
    ASSERT_TRUE(client->write(1_MiB, data));
    EXPECT_EQ(daemon_.stop(), 0) << "an open session does not keep it from ending";
  }
  EXPECT_FALSE(fs::exists(daemon_.root() + "/api.sock"));
  EXPECT_FALSE(fs::exists(daemon_.root() + "/nbd.sock"));
  ASSERT_TRUE(daemon_.start());
  EXPECT_EQ(daemon_.ok_json({"disk", "show", id})["Status"], "In_use");
  auto client = daemon_.connect(id);
  ASSERT_TRUE(client) << "attached disks are exported again";
  std::vector<std::byte> back(data.size());
  ASSERT_TRUE(client->read(1_MiB, back));
  EXPECT_EQ(back, data);
  EXPECT_EQ(daemon_.stop(), 0);
}

TEST_F(Contract, OfDisksThatAreGoneNothingIsKeptInMemory) {
  const auto known_disks = [this] {
    auto page = http_get(*parse_address("unix:" + daemon_.root() + "/api.sock"), "/metrics",
                         std::chrono::seconds(10));
    const std::string_view name = "\nclouddisk_known_disks ";
    const std::size_t at = page ? page->body.find(name) : std::string::npos;
    return at == std::string::npos ? -1 : std::stoi(page->body.substr(at + name.size()));
  };
  const int before = known_disks();
  for (int i = 0; i < 3; ++i) {
    const std::string id = daemon_.make_disk();
    {
      auto client = daemon_.connect(id);
      ASSERT_TRUE(client);
      ASSERT_TRUE(client->write(0, std::vector<std::byte>(4_KiB, std::byte{1})));
    }
    const std::string snapshot = daemon_.ok({"snapshot", "create", id});
    EXPECT_GT(known_disks(), before);
    daemon_.ok({"snapshot", "delete", snapshot});
    daemon_.ok({"disk", "detach", id});
    daemon_.ok({"disk", "delete", id});
  }
  for (int i = 0; i < 300 && known_disks() != before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(known_disks(), before);
}

TEST_F(Contract, SocketsArePrivateAndMetricsAreServed) {
  struct stat info {};
  ASSERT_EQ(::stat((daemon_.root() + "/api.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07, 0U) << "not for everybody";
  const std::string id = daemon_.make_disk();
  auto client = daemon_.connect(id);
  ASSERT_TRUE(client);
  const std::vector<std::byte> data(4_KiB, std::byte{1});
  ASSERT_TRUE(client->write(0, data));
  const auto api = parse_address("unix:" + daemon_.root() + "/api.sock");
  auto metrics = http_get(*api, "/metrics", std::chrono::seconds(10));
  ASSERT_TRUE(metrics) << metrics.error().message;
  EXPECT_EQ(metrics->status, 200);
  EXPECT_NE(metrics->body.find("clouddisk_replicas_in_sync 3\n"), std::string::npos);
  EXPECT_NE(
      metrics->body.find("clouddisk_disk_operations_total{disk=\"" + id + "\",op=\"write\"} 1\n"),
      std::string::npos)
      << metrics->body;
  EXPECT_NE(metrics->body.find("clouddisk_nbd_connections 1\n"), std::string::npos);
  auto health = http_get(*api, "/healthz", std::chrono::seconds(10));
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
}

TEST_F(Contract, CategoryListShowsTheLimitsOfASize) {
  const Json answer = daemon_.ok_json({"category", "list", "--size", "2000"});
  bool seen = false;
  for (const Json& row : answer["Categories"]["Category"]) {
    if (row["PerformanceLevel"] == "PL3") {
      seen = true;
      EXPECT_EQ(row["IOPS"], 101800);
    }
  }
  EXPECT_TRUE(seen);
  EXPECT_NE(daemon_.ok({"category", "list", "--size", "2000"}).find("101,800"), std::string::npos);
}

TEST(DaemonStart, ABadRootIsRefusedWithTheReason) {
  const std::string file = fmt::format("/tmp/clouddisk-file-{}", ::getpid());
  { std::ofstream(file) << "x"; }
  auto on_file = cli::run_program({CLOUDDISKD_PROGRAM, "--root", file});
  ASSERT_TRUE(on_file);
  EXPECT_EQ(on_file->exit_status, 1);
  EXPECT_NE(on_file->errors.find(file), std::string::npos) << on_file->errors;
  fs::remove(file);
  auto bad_usage = cli::run_program({CLOUDDISKD_PROGRAM, "--nbd", "nonsense"});
  ASSERT_TRUE(bad_usage);
  EXPECT_EQ(bad_usage->exit_status, 2);
}

TEST(DaemonStart, SeveralAddressesAndOwnReplicaFoldersAreServed) {
  TestDaemon daemon;
  const std::string base = daemon.root() + "-replicas";
  ASSERT_TRUE(daemon.start({"--replica", base + "/a", "--replica", base + "/b", "--replica",
                            base + "/c", "--nbd", "unix:" + daemon.root() + "/nbd.sock", "--nbd",
                            "unix:" + daemon.root() + "/other.sock", "--cache", "64M"}))
      << daemon.log();
  const std::string id = daemon.make_disk();
  EXPECT_TRUE(NbdClient::connect(daemon.root() + "/other.sock", id));
  const std::string uris = daemon.ok({"disk", "export", id, "--all"});
  EXPECT_EQ(std::count(uris.begin(), uris.end(), '\n'), 1);
  EXPECT_EQ(daemon.ok_json({"replica", "status"})[1]["folder"], base + "/b");
  EXPECT_TRUE(fs::exists(base + "/c"));
}

}  // namespace
}  // namespace clouddisk::e2e
