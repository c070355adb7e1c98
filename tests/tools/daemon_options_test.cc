#include <gtest/gtest.h>

#include <vector>

#include "tools/clouddiskd/options.h"

namespace clouddisk {
namespace {

std::variant<DaemonOptions, int> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "clouddiskd");
  testing::internal::CaptureStderr();
  auto parsed = parse_daemon_options(static_cast<int>(arguments.size()), arguments.data());
  testing::internal::GetCapturedStderr();
  return parsed;
}
DaemonOptions good(std::vector<const char*> arguments) {
  auto parsed = parse(std::move(arguments));
  EXPECT_EQ(parsed.index(), 0U);
  return parsed.index() == 0 ? std::get<0>(parsed) : DaemonOptions{};
}

TEST(DaemonOptions, DefaultsAreThoseOfTheContract) {
  const DaemonOptions options = good({"--root", "/srv/x/"});
  EXPECT_EQ(options.root, "/srv/x");
  EXPECT_EQ(options.replicas[0], "/srv/x/replica-1");
  EXPECT_EQ(options.replicas[2], "/srv/x/replica-3");
  ASSERT_EQ(options.nbd.size(), 1U);
  EXPECT_EQ(options.nbd[0].text(), "unix:/srv/x/nbd.sock");
  ASSERT_EQ(options.api.size(), 1U);
  EXPECT_EQ(options.api[0].text(), "unix:/srv/x/api.sock");
  EXPECT_TRUE(options.metrics.empty());
  EXPECT_FALSE(options.trust_replica);
  EXPECT_TRUE(options.limits);
  EXPECT_EQ(options.places.regions(), (std::vector<Region>{{"cn-local", {"cn-local-a"}}}));
  EXPECT_FALSE(options.emulate_latency);
  EXPECT_EQ(options.store, StoreSettings{});
  EXPECT_EQ(options.hydrate_bytes_per_second, 200_MiB);
}

TEST(DaemonOptions, TheApiOnTcpLeavesItsUnixSocket) {
  const DaemonOptions options = good(
      {"--root", "/r", "--api", "tcp:127.0.0.1:0", "--api", "tcp:[::1]:80", "--api-rate", "7"});
  ASSERT_EQ(options.api.size(), 1U);
  EXPECT_EQ(options.api[0].text(), "unix:/r/api.sock");
  ASSERT_EQ(options.api_tcp.size(), 2U);
  EXPECT_EQ(options.api_tcp[1].text(), "tcp:[::1]:80");
  EXPECT_EQ(options.api_rate, 7U);
}

TEST(DaemonOptions, TakesEveryOption) {
  const DaemonOptions options = good({"--root",
                                      "/r",
                                      "--replica",
                                      "/a",
                                      "--replica",
                                      "/b/",
                                      "--replica",
                                      "/c",
                                      "--nbd",
                                      "unix:/n",
                                      "--nbd",
                                      "tcp:127.0.0.1:10809",
                                      "--api",
                                      "unix:/p",
                                      "--cache",
                                      "1G",
                                      "--log-level",
                                      "debug",
                                      "--reactors",
                                      "3",
                                      "--tls-dir",
                                      "/t",
                                      "--tls-psk",
                                      "/k",
                                      "--tls-required",
                                      "--region",
                                      "cn-x",
                                      "--zone",
                                      "cn-x-b",
                                      "--profile",
                                      "2024",
                                      "--trust-replica",
                                      "2",
                                      "--metrics",
                                      "tcp:127.0.0.1:9109",
                                      "--snapshot-quota",
                                      "1000",
                                      "--no-limits",
                                      "--emulate-latency",
                                      "--store-latency",
                                      "20ms",
                                      "--store-bandwidth",
                                      "100MiB",
                                      "--hydrate-rate",
                                      "0"});
  EXPECT_EQ(options.store, (StoreSettings{std::chrono::milliseconds(20), 100_MiB}));
  EXPECT_EQ(options.hydrate_bytes_per_second, 0U);
  EXPECT_EQ(options.replicas[1], "/b");
  EXPECT_EQ(options.nbd.size(), 2U);
  EXPECT_EQ(options.cache_bytes, 1_GiB);
  EXPECT_EQ(options.reactors, 3U);
  ASSERT_TRUE(options.trust_replica);
  EXPECT_EQ(*options.trust_replica, 1U);
  EXPECT_FALSE(options.limits);
  EXPECT_TRUE(options.emulate_latency);
  EXPECT_TRUE(options.tls_required);
  EXPECT_EQ(options.metrics.size(), 1U);
  EXPECT_EQ(options.profile, "2024");
  EXPECT_EQ(options.snapshot_quota, 1000U);
  EXPECT_EQ(options.places.regions(), (std::vector<Region>{{"cn-x", {"cn-x-b"}}}));
}

TEST(DaemonOptions, TheApiThroughTlsHasItsFolderOrThatOfNbd) {
  auto parsed = parse({"--api", "tls:127.0.0.1:1", "--api", "tcp:[::1]:2", "--tls-dir", "/t"});
  ASSERT_EQ(parsed.index(), 0U);
  const DaemonOptions nbd = std::get<0>(parsed);
  EXPECT_EQ(nbd.api_tls_dir, "/t");
  ASSERT_EQ(nbd.api_tls.size(), 1U);
  EXPECT_EQ(nbd.api_tls[0].text(), "tcp:127.0.0.1:1");
  ASSERT_EQ(nbd.api_tcp.size(), 1U);
  EXPECT_EQ(nbd.api_tcp[0].port, 2);
  EXPECT_EQ(nbd.api.size(), 1U) << "the unix socket stays";
  parsed = parse({"--api", "tls:127.0.0.1:1", "--tls-dir", "/t", "--api-tls-dir", "/u"});
  ASSERT_EQ(parsed.index(), 0U);
  EXPECT_EQ(std::get<0>(parsed).api_tls_dir, "/u");
}

TEST(DaemonOptions, WrongUsageIsStatus2) {
  const std::vector<std::vector<const char*>> cases = {
      {"--unknown"},
      {"--replica", "/a"},
      {"--replica", "/a", "--replica", "/b"},
      {"--replica", "/a", "--replica", "/b", "--replica", "/a/"},
      {"--nbd", "here"},
      {"--api", "tcp:127.0.0.1"},
      {"--api-rate", "-1"},
      {"--api", "tls:127.0.0.1:1"},
      {"--api", "tls:127.0.0.1", "--tls-dir", "/t"},
      {"--api-tls-dir", "/t"},
      {"--cache", "much"},
      {"--region", "cn-a", "--region", "cn-a"},
      {"--region", "cn-a", "--region", "cn-b", "--zone", "cn-c-a"},
      {"--zone", "one two"},
      {"--log-level", "loud"},
      {"--reactors", "0"},
      {"--trust-replica", "4"},
      {"--profile", "1999"},
      {"--snapshot-quota", "0"},
      {"--tls-required"},
      {"--store-latency", "20"},
      {"--store-latency", "61s"},
      {"--store-bandwidth", "fast"},
      {"--store-bandwidth", "1K"},
      {"--hydrate-rate", "1K"},
      {"extra"},
  };
  for (const auto& arguments : cases) {
    auto parsed = parse(arguments);
    ASSERT_EQ(parsed.index(), 1U) << arguments[0];
    EXPECT_EQ(std::get<1>(parsed), 2) << arguments[0];
  }
}

TEST(ParseSize, KnowsTheUnitsAndTheirBounds) {
  struct Case {
    const char* text;
    std::uint64_t bytes;
  };
  for (const Case& c : {Case{"0", 0},
                        {"4096", 4096},
                        {"1K", 1024},
                        {"2M", 2_MiB},
                        {"2m", 2_MiB},
                        {"3GiB", 3_GiB},
                        {"3GB", 3_GiB},
                        {"1T", 1_TiB}}) {
    auto size = parse_size(c.text);
    ASSERT_TRUE(size) << c.text;
    EXPECT_EQ(*size, c.bytes) << c.text;
  }
  for (const char* text :
       {"", "M", "1X", "1MM", "-1", "1.5G", "99999999999999999999", "99999999T"}) {
    EXPECT_FALSE(parse_size(text)) << text;
  }
}

TEST(ParseDuration, TakesTheUsualUnits) {
  using namespace std::chrono_literals;
  EXPECT_EQ(*parse_duration("0"), Duration(0));
  EXPECT_EQ(*parse_duration("500us"), Duration(500us));
  EXPECT_EQ(*parse_duration("20ms"), Duration(20ms));
  EXPECT_EQ(*parse_duration("1s"), Duration(1s));
  EXPECT_EQ(*parse_duration("5m"), Duration(5min));
  EXPECT_EQ(*parse_duration("2h"), Duration(2h));
  EXPECT_EQ(*parse_duration("7d"), Duration(168h));
  for (const char* text :
       {"", "ms", "20", "20 ms", "-1s", "1.5s", "1w", "99999d", "99999999999s", "99999999h"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

}  // namespace
}  // namespace clouddisk
