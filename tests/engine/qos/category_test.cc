#include "engine/qos/category.h"

#include <gtest/gtest.h>

#include "engine/base/units.h"

namespace clouddisk {
namespace {

TEST(Category, FormulasGiveTheSourcesFigures) {
  struct Row {
    const char* name;
    Profile profile;
    const char* category;
    const char* level;
    std::uint64_t gib;
    std::uint64_t iops;
    double mb;
  };
  constexpr auto k21 = Profile::k2021;
  constexpr auto k24 = Profile::k2024;
  const Row rows[] = {
      {"smallest PL1", k21, "cloud_essd", "PL1", 20, 2'800, 130},
      {"PL0 of 40 GiB", k21, "cloud_essd", "PL0", 40, 2'280, 110},
      {"the manual's example", k21, "cloud_essd", "PL3", 2'000, 101'800, 1'120},
      {"PL0 one below its IOPS cap", k21, "cloud_essd", "PL0", 683, 9'996, 180},
      {"PL0 at its IOPS cap", k21, "cloud_essd", "PL0", 684, 10'000, 180},
      {"PL0 below its throughput cap", k21, "cloud_essd", "PL0", 319, 5'628, 179.75},
      {"PL0 at its throughput cap", k21, "cloud_essd", "PL0", 320, 5'640, 180},
      {"PL1 at its IOPS cap", k21, "cloud_essd", "PL1", 964, 50'000, 350},
      {"PL1 below its throughput cap", k21, "cloud_essd", "PL1", 459, 24'750, 349.5},
      {"PL1 at its throughput cap", k21, "cloud_essd", "PL1", 460, 24'800, 350},
      {"smallest PL2", k21, "cloud_essd", "PL2", 461, 24'850, 350.5},
      {"PL2 at its caps", k21, "cloud_essd", "PL2", 1'964, 100'000, 750},
      {"smallest PL3", k21, "cloud_essd", "PL3", 1'261, 64'850, 750.5},
      {"PL3 below its IOPS cap", k21, "cloud_essd", "PL3", 19'963, 999'950, 4'000},
      {"PL3 at its caps", k21, "cloud_essd", "PL3", 32'768, 1'000'000, 4'000},
      {"standard SSD", k21, "cloud_ssd", "", 40, 3'000, 140},
      {"standard SSD at its caps", k21, "cloud_ssd", "", 774, 25'000, 300},
      {"ultra", k21, "cloud_efficiency", "", 40, 2'120, 106},
      {"ultra with a fraction", k21, "cloud_efficiency", "", 21, 1'968, 103.15},
      {"ultra at its caps", k21, "cloud_efficiency", "", 400, 5'000, 140},
      {"basic is constant", k21, "cloud", "", 5, 400, 40},
      {"AutoPL as PL1", k21, "cloud_auto", "", 40, 3'800, 140},
      {"AutoPL's floor", k24, "cloud_auto", "", 1, 3'000, 125},
      {"AutoPL above its floor", k24, "cloud_auto", "", 40, 3'800, 140},
      {"PL0 of 1 GiB", k24, "cloud_essd", "PL0", 1, 1'812, 100.25},
      {"entry", k24, "cloud_essd_entry", "", 10, 1'880, 101.5},
  };
  for (const Row& row : rows) {
    const auto limits = limits_for(row.category, row.level, row.gib, row.profile);
    ASSERT_TRUE(limits) << row.name;
    EXPECT_EQ(limits->iops, row.iops) << row.name;
    // A hundredth of a MB/s is exact to the byte below.
    EXPECT_EQ(limits->bytes_per_second,
              static_cast<std::uint64_t>(row.mb * 100 + 0.5) * 1_MiB / 100)
        << row.name;
  }
}

TEST(Category, LevelsBeginWhereTheLevelBelowHasHitItsThroughputCap) {
  for (const Profile profile : {Profile::k2021, Profile::k2024}) {
    for (const auto& [lower, upper] : {std::pair("PL1", "PL2"), std::pair("PL2", "PL3")}) {
      const CategoryRow* low = find_category(profile, "cloud_essd", lower);
      const CategoryRow* high = find_category(profile, "cloud_essd", upper);
      ASSERT_NE(low, nullptr);
      ASSERT_NE(high, nullptr);
      const std::uint64_t first = high->capacity.min_gib;
      EXPECT_EQ(low->throughput.hundredths_at(first - 1), low->throughput.cap * 100);
      EXPECT_LT(low->throughput.hundredths_at(first - 2), low->throughput.cap * 100);
    }
  }
}

TEST(Category, FormulasPrintAsTheSourcesPrintThem) {
  const auto text = [](const char* category, const char* level) {
    const CategoryRow* row = find_category(Profile::k2021, category, level);
    return row->iops.text() + " / " + row->throughput.text();
  };
  EXPECT_EQ(text("cloud_essd", "PL0"), "min(1,800 + 12 C, 10,000) / min(100 + 0.25 C, 180)");
  EXPECT_EQ(text("cloud_essd", "PL3"), "min(1,800 + 50 C, 1,000,000) / min(120 + 0.5 C, 4,000)");
  EXPECT_EQ(text("cloud_efficiency", ""), "min(1,800 + 8 C, 5,000) / min(100 + 0.15 C, 140)");
  EXPECT_EQ(text("cloud", ""), "400 / 40");
  EXPECT_EQ(find_category(Profile::k2024, "cloud_auto", "")->iops.text(),
            "max(min(1,800 + 50 C, 50,000), 3,000)");
}

TEST(Category, RangesFollowTheProfile) {
  const auto range = [](Profile profile, const char* category, const char* level) {
    const CategoryRow* row = find_category(profile, category, level);
    return std::pair(row->capacity.min_gib, row->capacity.max_gib);
  };
  using Range = std::pair<std::uint64_t, std::uint64_t>;
  EXPECT_EQ(range(Profile::k2021, "cloud_essd", "PL0"), Range(40, 32'768));
  EXPECT_EQ(range(Profile::k2021, "cloud_essd", "PL1"), Range(20, 32'768));
  EXPECT_EQ(range(Profile::k2021, "cloud_essd", "PL2"), Range(461, 32'768));
  EXPECT_EQ(range(Profile::k2021, "cloud_essd", "PL3"), Range(1'261, 32'768));
  EXPECT_EQ(range(Profile::k2021, "cloud_ssd", ""), Range(20, 32'768));
  EXPECT_EQ(range(Profile::k2021, "cloud_efficiency", ""), Range(20, 32'768));
  EXPECT_EQ(range(Profile::k2021, "cloud", ""), Range(5, 2'000));
  EXPECT_EQ(range(Profile::k2024, "cloud_essd", "PL0"), Range(1, 65'536));
  EXPECT_EQ(range(Profile::k2024, "cloud_essd", "PL3"), Range(1'261, 65'536));
}

TEST(Category, SystemDisksHaveTheirOwnRange) {
  const auto system = [](const char* category, const char* level) {
    return find_category(Profile::k2021, category, level)->system_capacity();
  };
  ASSERT_TRUE(system("cloud_essd", "PL1"));
  EXPECT_EQ(system("cloud_essd", "PL1")->min_gib, 20U);
  EXPECT_EQ(system("cloud_essd", "PL1")->max_gib, 500U);
  EXPECT_EQ(system("cloud_essd", "PL0")->min_gib, 40U);
  EXPECT_EQ(system("cloud_essd", "PL2")->min_gib, 461U);
  EXPECT_EQ(system("cloud", "")->min_gib, 20U);
  EXPECT_FALSE(system("cloud_essd", "PL3")) << "its smallest is larger than any system disk";
}

TEST(Category, WhatCannotBeMadeSaysWhy) {
  struct Row {
    Profile profile;
    const char* category;
    const char* why;
  };
  const Row rows[] = {
      {Profile::k2021, "local_ssd_pro", "single copy"},
      {Profile::k2021, "local_hdd_pro", "single copy"},
      {Profile::k2021, "cloud_essd_entry", "2024"},
      {Profile::k2024, "cloud", "withdrawn"},
      {Profile::k2024, "cloud_regional_disk_auto", "no source"},
  };
  for (const Row& row : rows) {
    const auto limits = limits_for(row.category, "", 100, row.profile);
    ASSERT_FALSE(limits) << row.category;
    EXPECT_EQ(limits.error().code, Errc::kUnsupported) << row.category;
    EXPECT_NE(limits.error().message.find(row.why), std::string::npos) << limits.error().message;
  }
  const auto unknown = limits_for("cloud_turbo", "", 100, Profile::k2021);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::kNotFound);
}

TEST(Category, EveryRowHasASourceAndNoTwoRowsAreTheSame) {
  for (const Profile profile : {Profile::k2021, Profile::k2024}) {
    const auto rows = category_table(profile);
    ASSERT_FALSE(rows.empty());
    for (const CategoryRow* row : rows) {
      EXPECT_FALSE(row->source.empty()) << row->title;
      EXPECT_EQ(find_category(profile, row->category, row->level), row) << row->title;
      if (row->creatable()) {
        EXPECT_GT(row->capacity.min_gib, 0U) << row->title;
        EXPECT_LT(row->capacity.min_gib, row->capacity.max_gib) << row->title;
        EXPECT_GT(limits_for(*row, row->capacity.min_gib).iops, 0U) << row->title;
      }
    }
  }
}

TEST(Category, ProvisionedIopsBringThroughputAndAreBounded) {
  const CategoryRow* row = find_category(Profile::k2024, "cloud_auto", "");
  EXPECT_EQ(provisioned_iops_max(*row, 3), 0U) << "none at 3 GiB or less";
  EXPECT_EQ(provisioned_iops_max(*row, 4), 1'000U);
  EXPECT_EQ(provisioned_iops_max(*row, 40), 36'200U);
  EXPECT_EQ(provisioned_iops_max(*row, 1'000), 50'000U);
  EXPECT_EQ(provisioned_iops_max(*find_category(Profile::k2024, "cloud_ssd", ""), 40), 0U);
  const DiskLimits limits = limits_for(*row, 40, 1'024);
  EXPECT_EQ(limits.iops, 3'800U + 1'024U);
  EXPECT_EQ(limits.bytes_per_second, (140 + 16) * 1_MiB);
}

TEST(Category, ProfilesParse) {
  ASSERT_TRUE(parse_profile("2021"));
  EXPECT_EQ(*parse_profile("2024"), Profile::k2024);
  ASSERT_FALSE(parse_profile("2023"));
  EXPECT_EQ(parse_profile("2023").error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace clouddisk
