#include "tools/bench_report/timeline.h"

#include <gtest/gtest.h>

namespace clouddisk::bench {
namespace {

constexpr std::int64_t kBegin = 1'795'876'755'000;

// `rate` requests a second from `from_ms` to `to_ms`, evenly.
void add_requests(std::vector<FioLogLine>& log, std::int64_t from_ms, std::int64_t to_ms,
                  double rate) {
  const double count = rate * static_cast<double>(to_ms - from_ms) / 1'000;
  for (double i = 0; i < count; ++i) {
    log.push_back({kBegin + from_ms + static_cast<std::int64_t>(i * 1'000 / rate), 0, 0});
  }
}

TEST(Timeline, CountsTheRequestsOfAllLogsSinceTheFirst) {
  std::vector<std::vector<FioLogLine>> logs(2);
  add_requests(logs[0], 0, 2'000, 1'000);
  add_requests(logs[1], 500, 2'000, 500);
  const Timeline timeline = Timeline::from_requests(logs);
  EXPECT_EQ(timeline.begin_unix_ms(), kBegin);
  EXPECT_DOUBLE_EQ(timeline.seconds(), 2.0);
  EXPECT_DOUBLE_EQ(timeline.rate(0, 0.5), 1'000);
  EXPECT_DOUBLE_EQ(timeline.rate(0.5, 2), 1'500);
  EXPECT_DOUBLE_EQ(timeline.rate(1, 1), 0);
  EXPECT_EQ(timeline.rates(0.5), (std::vector<double>{1'000, 1'500, 1'500, 1'500}));
}

TEST(Timeline, BeginsWhenTheFirstRequestWasSent) {
  std::vector<std::vector<FioLogLine>> logs(1);
  // The first answers took 30 ms, and came all at once: they are no burst.
  for (int i = 0; i < 30; ++i) logs[0].push_back({kBegin + 30, 30e6, 0});
  add_requests(logs[0], 31, 2'000, 1'000);
  const Timeline late = Timeline::from_requests(logs);
  EXPECT_EQ(late.begin_unix_ms(), kBegin);
  EXPECT_LE(burst_ms(late, 1'000, 0.01), 0.5);
  EXPECT_DOUBLE_EQ(late.rate(0, 0.03), 0);
}

TEST(Timeline, RatesAreSpreadOverTheirSpans) {
  std::vector<std::vector<FioLogLine>> logs(1);
  for (int i = 0; i <= 20; ++i) {
    // Two directions; their spans are not quite 100 ms.
    const std::int64_t at = kBegin + i * 101;
    logs[0].push_back({at, 2'000, 0});
    logs[0].push_back({at, 1'000, 1});
  }
  const Timeline timeline = Timeline::from_rates(logs);
  EXPECT_NEAR(timeline.seconds(), 2.02, 0.011);
  EXPECT_NEAR(timeline.rate(0, 2), 3'000, 1);
}

TEST(Timeline, NothingAndNonsenseAreNoRequests) {
  EXPECT_TRUE(Timeline::from_requests({}).empty());
  std::vector<std::vector<FioLogLine>> logs(1);
  logs[0] = {{0, 0, 0}, {kBegin, 0, 0}};  // Sixty years between them.
  EXPECT_DOUBLE_EQ(Timeline::from_requests(logs).seconds(), Timeline::kStep);
  EXPECT_LE(Timeline::from_rates(logs).seconds(), 24 * 3'600 + 1);
  EXPECT_DOUBLE_EQ(Timeline().rate(0, 1), 0);
}

TEST(Timeline, WindowsAreWholeSecondsWithinTheSpan) {
  std::vector<std::vector<FioLogLine>> logs(1);
  add_requests(logs[0], 0, 2'000, 1'000);
  add_requests(logs[0], 2'000, 2'500, 3'000);
  add_requests(logs[0], 2'500, 4'000, 1'000);
  const Timeline timeline = Timeline::from_requests(logs);
  const WindowRange range = one_second_windows(timeline, 1, 4);
  EXPECT_DOUBLE_EQ(range.least, 1'000);
  EXPECT_DOUBLE_EQ(range.most, 2'000) << "half a second of three times as much";
  EXPECT_DOUBLE_EQ(one_second_windows(timeline, 0, 2).most, 1'000);
  EXPECT_DOUBLE_EQ(one_second_windows(timeline, 3.5, 4).most, 0) << "shorter than a second";
}

TEST(Timeline, ABurstIsWhatIsAheadOfTheRate) {
  std::vector<std::vector<FioLogLine>> logs(1);
  for (int i = 0; i < 50; ++i) logs[0].push_back({kBegin, 0, 0});
  add_requests(logs[0], 0, 3'000, 1'000);
  const Timeline burst = Timeline::from_requests(logs);
  EXPECT_NEAR(burst_ms(burst, 1'000, 0.01), 50, 0.2);
  std::vector<std::vector<FioLogLine>> even(1);
  add_requests(even[0], 0, 3'000, 1'000);
  EXPECT_NEAR(burst_ms(Timeline::from_requests(even), 1'000, 0.01), 0, 0.1);
  EXPECT_DOUBLE_EQ(burst_ms(burst, 0, 0.01), 0);
}

}  // namespace
}  // namespace clouddisk::bench
