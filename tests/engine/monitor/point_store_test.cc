#include "engine/monitor/point_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

constexpr Minute kNow = 29'453'760;  // 2026-01-01T00:00Z

DiskPoint point(Minute minute, std::uint64_t count) {
  DiskPoint point;
  point.minute = minute;
  point.covered_ms = 10'000;
  point.io = {count, count + 1, count * 4096, count * 8192, count * 1000, count * 2000};
  point.instance = instance_tag("i-1");
  return point;
}

class PointStoreTest : public ::testing::Test {
 protected:
  std::string file() const { return folder_.path() + "/monitor/d-1"; }
  std::vector<DiskPoint> read(Minute first, Minute last) const {
    auto points = PointStore(folder_.path() + "/monitor").read("d-1", first, last);
    EXPECT_TRUE(points) << points.error().message;
    return *points;
  }
  void add(std::vector<DiskPoint> points) {
    auto added = PointStore(folder_.path() + "/monitor").add("d-1", points);
    EXPECT_TRUE(added) << added.error().message;
  }

  TemporaryFolder folder_;
};

TEST_F(PointStoreTest, WhatIsAddedIsReadByTheNextProcess) {
  EXPECT_TRUE(read(kNow - 10, kNow).empty());
  add({point(kNow - 5, 1), point(kNow - 3, 2)});
  const std::vector<DiskPoint> expected = {point(kNow - 5, 1), point(kNow - 3, 2)};
  EXPECT_EQ(read(kNow - 10, kNow), expected);
  EXPECT_EQ(read(kNow - 5, kNow - 3), expected);
  EXPECT_EQ(read(kNow - 4, kNow - 3).size(), 1U);
  EXPECT_TRUE(read(kNow - 4, kNow - 4).empty());
  EXPECT_TRUE(read(kNow, kNow - 10).empty());
}

TEST_F(PointStoreTest, AMinuteIsAddedToAndNeverLongerThanAMinute) {
  add({point(kNow, 1)});
  add({point(kNow, 2)});
  ASSERT_EQ(read(kNow, kNow).size(), 1U);
  EXPECT_EQ(read(kNow, kNow)[0].io.reads, 3U);
  EXPECT_EQ(read(kNow, kNow)[0].covered_ms, 20'000U);
  for (int i = 0; i < 10; ++i) add({point(kNow, 0)});
  EXPECT_EQ(read(kNow, kNow)[0].covered_ms, 60'000U);
}

TEST_F(PointStoreTest, SeventyDaysTakeTheSpaceOfAMonthAndTheLastOneIsKept) {
  constexpr Minute kLong = 70 * 24 * 60;
  std::vector<DiskPoint> all;
  for (Minute i = 0; i < kLong; ++i) all.push_back(point(kNow + i, i % 1000));
  add(std::move(all));
  EXPECT_EQ(std::filesystem::file_size(file()), PointStore::kFileBytesMax);
  const Minute last = kNow + kLong - 1;
  const auto kept = read(kNow, last);
  ASSERT_EQ(kept.size(), PointStore::kMinutes);
  EXPECT_EQ(kept.front().minute, last - PointStore::kMinutes + 1);
  EXPECT_EQ(kept.back(), point(last, (kLong - 1) % 1000));
  EXPECT_TRUE(read(kNow, kNow + 1000).empty());
  // A clock that was a month ahead for a while costs nothing but what stood there.
  const Minute earlier = last - PointStore::kMinutes;
  add({point(earlier, 7)});
  EXPECT_EQ(read(earlier, earlier), std::vector<DiskPoint>{point(earlier, 7)});
  EXPECT_TRUE(read(last, last).empty());
}

TEST_F(PointStoreTest, WhatIsDamagedOrOfAnotherDiskIsNoPoint) {
  add({point(kNow - 1, 1), point(kNow, 2)});
  {
    std::fstream damage(file(), std::ios::in | std::ios::out | std::ios::binary);
    damage.seekp(static_cast<std::streamoff>((kNow % PointStore::kMinutes + 1) * 64 + 20));
    damage.put('x');
  }
  EXPECT_EQ(read(kNow - 1, kNow), std::vector<DiskPoint>{point(kNow - 1, 1)});
  PointStore store(folder_.path() + "/monitor");
  std::filesystem::copy_file(file(), folder_.path() + "/monitor/d-2");
  EXPECT_TRUE(store.read("d-2", kNow - 1, kNow)->empty());
  // Written over, it is whole again.
  const std::vector<DiskPoint> more = {point(kNow, 5)};
  ASSERT_TRUE(store.add("d-2", more));
  EXPECT_EQ(*store.read("d-2", kNow - 1, kNow), more);
  std::ofstream(file()) << "short";
  EXPECT_TRUE(read(kNow - 1, kNow).empty());
  add({point(kNow, 5)});
  EXPECT_EQ(read(kNow - 1, kNow), more);
}

TEST_F(PointStoreTest, DisksAreListedAndRemoved) {
  PointStore store(folder_.path() + "/monitor");
  EXPECT_TRUE(store.disks()->empty());
  ASSERT_TRUE(store.add("d-1", std::vector<DiskPoint>{point(kNow, 1)}));
  ASSERT_TRUE(store.add("d-2", std::vector<DiskPoint>{point(kNow, 1)}));
  EXPECT_EQ(store.disks()->size(), 2U);
  ASSERT_TRUE(store.remove("d-1"));
  ASSERT_TRUE(store.remove("d-1"));
  EXPECT_EQ(*store.disks(), std::vector<std::string>{"d-2"});
}

TEST_F(PointStoreTest, APlaceDecodesToWhatWasEncodedAndCountsAreCut) {
  DiskPoint big = point(kNow, 9);
  big.io.reads = 1ULL << 40;
  DiskPoint decoded;
  ASSERT_TRUE(decode_point(encode_point(big, "d-1"), "d-1", decoded));
  EXPECT_EQ(decoded.io.reads, 0xffff'ffffU);
  EXPECT_EQ(decoded.io.written_bytes, big.io.written_bytes);
  EXPECT_FALSE(decode_point(encode_point(big, "d-1"), "d-2", decoded));
  EXPECT_FALSE(decode_point(PointPlace{}, "d-1", decoded));
}

}  // namespace
}  // namespace clouddisk
