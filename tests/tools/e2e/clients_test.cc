// Stock clients against the real daemon: qemu, libnbd's tools, fio with verification, nbd-client,
// curl, and a file system mounted for real.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/tools/certificates.h"
#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

// Of a port that nobody uses at the moment.
Address free_address() {
  auto listener = Listener::open(Address::tcp("127.0.0.1", 0));
  return listener ? listener->address() : Address{};
}

class Clients : public testing::Test {
 protected:
  void begin(std::vector<std::string> arguments = {"--no-limits"}) {
    ASSERT_TRUE(daemon_.start(std::move(arguments))) << daemon_.log();
    id_ = daemon_.ok({"disk", "create", "--size", "40"});
    uri_ = daemon_.ok({"disk", "attach", id_});
  }
  std::string scratch(const std::string& name) const { return daemon_.root() + "-" + name; }
  std::string random_file(const std::string& name, int mebibytes) const {
    const std::string path = scratch(name);
    run_ok({"dd", "if=/dev/urandom", "of=" + path, "bs=1M", "count=" + std::to_string(mebibytes),
            "status=none"});
    return path;
  }

  TestDaemon daemon_;
  std::string id_, uri_;
};

TEST_F(Clients, QemuReadsWritesDiscardsAndSeesTheSize) {
  CLOUDDISK_NEEDS("qemu-img");
  begin();
  EXPECT_NE(run_ok({"qemu-img", "info", uri_}).find("40 GiB (42949672960 bytes)"),
            std::string::npos);
  const std::string io = run_ok({"qemu-io",
                                 "-f",
                                 "raw",
                                 "-c",
                                 "write -P 0xab 1M 300k",
                                 "-c",
                                 "write -P 0x11 5001 70000",
                                 "-c",
                                 "flush",
                                 "-c",
                                 "read -P 0xab 1M 300k",
                                 "-c",
                                 "read -P 0x11 5001 70000",
                                 "-c",
                                 "write -z 1M 64k",
                                 "-c",
                                 "read -P 0 1M 64k",
                                 "-c",
                                 "discard 1M 300k",
                                 "-c",
                                 "read -P 0 1M 300k",
                                 "-c",
                                 "read -P 0x11 5001 70000",
                                 uri_});
  EXPECT_EQ(io.find("verification failed"), std::string::npos) << io;
  EXPECT_EQ(io.find("failed"), std::string::npos) << io;
}

TEST_F(Clients, QemuConvertsInAndOut) {
  CLOUDDISK_NEEDS("qemu-img");
  begin();
  const std::string file = random_file("in", 64);
  run_ok({"qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", file, uri_});
  run_ok({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri_, scratch("out.qcow2")});
  EXPECT_LT(fs::file_size(scratch("out.qcow2")), 80_MiB) << "holes stay holes";
  run_ok({"qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri_, scratch("out.qcow2")});
}

TEST_F(Clients, LibnbdToolsCopyBothWaysAndSeeWhatIsAllocatedBeforeAnyFlush) {
  CLOUDDISK_NEEDS("nbdcopy");
  begin();
  {
    auto client = daemon_.connect(id_);
    ASSERT_TRUE(client);
    const std::vector<std::byte> data(1_MiB, std::byte{9});
    ASSERT_TRUE(client->write(8_MiB, data));
    const Json map = Json::parse(run_ok({"nbdinfo", "--map", "--json", uri_}), nullptr, false);
    ASSERT_FALSE(map.is_discarded());
    std::uint64_t data_bytes = 0;
    for (const Json& extent : map) {
      if (extent["type"] != 0) continue;
      data_bytes += extent["length"].get<std::uint64_t>();
      EXPECT_EQ(extent["offset"], 8_MiB);
    }
    EXPECT_EQ(data_bytes, 1_MiB);
  }
  const std::string file = random_file("in", 100);
  run_ok({"nbdcopy", "--flush", file, uri_});
  run_ok({"nbdcopy", uri_, scratch("out")});
  EXPECT_EQ(fs::file_size(scratch("out")), 40_GiB);
  run_ok({"cmp", "-n", std::to_string(100_MiB), file, scratch("out")});
  const std::string info = run_ok({"nbdinfo", uri_});
  for (const char* ability : {"can_multi_conn: true", "can_fua: true", "can_trim: true",
                              "can_zero: true", "is_read_only: false", "base:allocation",
                              "block_size_minimum: 512", "block_size_preferred: 4096"}) {
    EXPECT_NE(info.find(ability), std::string::npos) << ability << "\n" << info;
  }
}

// NBD says nothing of the order of requests that overlap and are under way at once: fio is told not
// to send such, as it takes its own order of sending for the order of writing.
TEST_F(Clients, FioVerifiesWhatItWrote) {
  CLOUDDISK_NEEDS("fio");
  begin();
  for (const std::string block : {"4k", "512-64k", "1m"}) {
    run_ok({"fio", "--name=verify", "--ioengine=nbd", "--uri=" + uri_, "--rw=randwrite",
            (block.find('-') == std::string::npos ? "--bs=" : "--bsrange=") + block,
            "--blockalign=512", "--iodepth=32", "--size=96m", "--verify=crc32c", "--verify_fatal=1",
            "--verify_state_save=0", "--randrepeat=0", "--serialize_overlap=1", "--eta=never"});
  }
}

// How exactly a limit is kept is shown in simulated time (tests/engine/qos). A real client on a
// busy machine can't show that a disk is fast enough, but it can show that none is faster.
TEST_F(Clients, ADiskGivesNoMoreIopsThanItsLevelHas) {
  CLOUDDISK_NEEDS("fio");
  begin({});
  const std::string text =
      run_ok({"fio", "--name=limit", "--ioengine=nbd", "--uri=" + uri_, "--rw=randwrite", "--bs=4k",
              "--iodepth=64", "--size=256m", "--time_based", "--runtime=4", "--ramp_time=1",
              "--eta=never", "--output-format=json"});
  const Json report = Json::parse(text.substr(text.find('{')), nullptr, false);
  ASSERT_FALSE(report.is_discarded()) << text;
  const double iops = report["jobs"][0]["write"]["iops"].get<double>();
  EXPECT_LE(iops, 3800 * 1.02) << "40 GiB of PL1: min(1800 + 50 * 40, 50000)";
  EXPECT_GT(iops, 100) << "limited, not starved";
}

TEST_F(Clients, NbdClientListsTheExportsOverTcp) {
  CLOUDDISK_NEEDS("nbd-client");
  const Address address = free_address();
  const std::string tcp = address.text();
  ASSERT_TRUE(daemon_.start({"--nbd", tcp, "--nbd", "unix:" + daemon_.nbd_socket()}))
      << daemon_.log();
  const std::string first = daemon_.make_disk();
  const std::string second = daemon_.make_disk();
  const std::string listed =
      run_ok({"nbd-client", "-l", "127.0.0.1", "-p", std::to_string(address.port)});
  EXPECT_NE(listed.find(first), std::string::npos) << listed;
  EXPECT_NE(listed.find(second), std::string::npos) << listed;
  const std::string uris = daemon_.ok({"disk", "export", first, "--all"});
  EXPECT_NE(uris.find(fmt::format("nbd://127.0.0.1:{}/{}", address.port, first)),
            std::string::npos);
  run_ok({"nbdinfo", "--size", fmt::format("nbd://127.0.0.1:{}/{}", address.port, first)});
}

TEST_F(Clients, AnAuthorityInTheTlsFolderTurnsAwayClientsWithoutItsCertificate) {
  CLOUDDISK_NEEDS("certtool");
  CLOUDDISK_NEEDS("nbdinfo");
  const std::string server = scratch("server");
  const std::string client = scratch("client");
  const std::string stranger = scratch("stranger");
  fs::create_directories(stranger);
  ASSERT_TRUE(make_certificates(server, server, "server"));
  ASSERT_TRUE(make_certificates(client, server, "client"));
  fs::copy_file(server + "/ca-cert.pem", client + "/ca-cert.pem");
  fs::copy_file(server + "/ca-cert.pem", stranger + "/ca-cert.pem");
  const Address address = free_address();
  ASSERT_TRUE(daemon_.start({"--nbd", address.text(), "--tls-dir", server, "--tls-required"}))
      << daemon_.log();
  const std::string id = daemon_.ok({"disk", "create", "--size", "40"});
  const std::string uri = daemon_.ok({"disk", "attach", id});
  EXPECT_EQ(uri, fmt::format("nbds://127.0.0.1:{}/{}", address.port, id));
  const auto size_as = [&uri](const std::string& certificates) {
    auto result = cli::run_program({"nbdinfo", "--size", uri + "?tls-certificates=" + certificates},
                                   std::chrono::seconds(30));
    EXPECT_TRUE(result);
    return result ? result->output : std::string();
  };
  EXPECT_EQ(size_as(client), std::to_string(40_GiB) + "\n");
  EXPECT_EQ(size_as(stranger), "");
  auto plain =
      cli::run_program({"nbdinfo", "--size", "nbd" + uri.substr(4)}, std::chrono::seconds(30));
  ASSERT_TRUE(plain);
  EXPECT_NE(plain->exit_status, 0);
}

TEST_F(Clients, CurlSpeaksTheActionApi) {
  CLOUDDISK_NEEDS("curl");
  begin();
  const std::string socket = daemon_.root() + "/api.sock";
  const auto curl = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"curl", "-s", "--max-time", "20", "--unix-socket", socket});
    return run_ok(arguments);
  };
  const Json by_query =
      Json::parse(curl({"http://x/?Action=DescribeDisks&RegionId=cn-local&Version=2014-05-26"}),
                  nullptr, false);
  EXPECT_EQ(by_query["TotalCount"], 1);
  const Json by_form =
      Json::parse(curl({"-d", "Action=CreateDisk", "--data-urlencode", "DiskName=a name", "-d",
                        "Size=40&DiskCategory=cloud_essd", "http://x/"}),
                  nullptr, false);
  EXPECT_TRUE(by_form["DiskId"].get<std::string>().starts_with("d-"));
  const Json chunked = Json::parse(
      curl({"-H", "Transfer-Encoding: chunked", "-d", "Action=DescribeRegions", "http://x/"}),
      nullptr, false);
  EXPECT_TRUE(chunked.contains("Regions"));
  const Json missing = Json::parse(curl({"http://x/nowhere"}), nullptr, false);
  EXPECT_EQ(missing["Code"], "InvalidPath.NotFound");
  EXPECT_EQ(curl({"-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", "http://x/"}), "405");
}

TEST_F(Clients, AMountedFileSystemRidesOutKillMinusNineOfTheDaemon) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  if (::access("/dev/fuse", F_OK) != 0 || ::access("/dev/loop-control", F_OK) != 0) {
    GTEST_SKIP() << "no /dev/fuse or no loop devices";
  }
  CLOUDDISK_NEEDS("nbdfuse");
  CLOUDDISK_NEEDS("nbdkit");
  begin();
  const std::string mnt = scratch("mnt");
  // One that has no file system yet is left as it was.
  daemon_.ok({"disk", "detach", id_});
  const ProgramResult refused = daemon_.cli({"disk", "mount", id_, mnt});
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_NE(refused.errors.find("detached " + id_), std::string::npos) << refused.errors;
  EXPECT_NE(refused.errors.find("error: FileSystemMissing"), std::string::npos) << refused.errors;
  EXPECT_EQ(daemon_.ok_json({"disk", "show", id_})["Status"], "Available");
  daemon_.ok({"disk", "mount", id_, mnt, "--mkfs", "ext4"});
  daemon_.refused("DiskMounted", {"disk", "detach", id_});
  run_ok({"dd", "if=/dev/urandom", "of=" + mnt + "/before", "bs=1M", "count=20", "conv=fsync",
          "status=none"});
  const std::string sum = run_ok({"sha256sum", mnt + "/before"});
  daemon_.kill_now();
  ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
  run_ok({"dd", "if=/dev/urandom", "of=" + mnt + "/after", "bs=1M", "count=20", "conv=fsync",
          "status=none"});
  EXPECT_EQ(run_ok({"sha256sum", mnt + "/before"}), sum);
  daemon_.ok({"disk", "umount", mnt});
  daemon_.refused("FileSystemExists", {"disk", "mount", id_, mnt, "--mkfs", "ext4"});
  daemon_.ok({"disk", "resize", id_, "--size", "60"});
  daemon_.ok({"disk", "mount", id_, mnt, "--grow"});
  EXPECT_EQ(run_ok({"sha256sum", mnt + "/before"}), sum);
  EXPECT_GT(fs::space(mnt).capacity, 50_GiB);
  daemon_.ok({"disk", "umount", id_});
  EXPECT_FALSE(fs::exists(daemon_.root() + "/mounts/" + id_));
  daemon_.ok({"disk", "detach", id_});
  daemon_.ok({"disk", "delete", id_});
}

}  // namespace
}  // namespace clouddisk::e2e
