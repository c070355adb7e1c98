#include "engine/catalog/policy_rules.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/base/random.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr Duration kHour = std::chrono::hours(1);

// A moment in the policies' own time, UTC+8.
WallTime at(int year, unsigned month, unsigned day, unsigned hour = 0, unsigned minute = 0) {
  const std::chrono::sys_days date{std::chrono::year(year) / static_cast<int>(month) /
                                   static_cast<int>(day)};
  return WallTime(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) - 8 * kHour;
}

PolicyRecord policy(const std::string& hours, const std::string& weekdays) {
  PolicyRecord policy;
  policy.id = "sp-1";
  EXPECT_FALSE(read_time_points(hours, policy.hours));
  EXPECT_FALSE(read_weekdays(weekdays, policy.weekdays));
  return policy;
}

void expect_broken(const Verdict& verdict, int status, std::string_view code) {
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->http_status, status) << verdict->message;
  EXPECT_EQ(verdict->code, code);
}

TEST(PolicyRules, TimePointsWeekdaysAndRetentionAsTheCloudReadsThem) {
  std::uint64_t bits = 0;
  EXPECT_FALSE(read_time_points(R"(["0","6","23","6"])", bits));
  EXPECT_EQ(bits, 1U | 1U << 6 | 1U << 23);
  EXPECT_EQ(time_points_text(bits), R"(["0","6","23"])");
  EXPECT_FALSE(read_weekdays(R"(["7","1"])", bits));
  EXPECT_EQ(bits, 1U | 1U << 6);
  EXPECT_EQ(weekdays_text(bits), R"(["1","7"])");
  for (const char* wrong : {"", "6", "[]", "[6]", "[\"24\"]", "[\"-1\"]", "[\"\"]", "[\"6x\"]",
                            "{\"a\":\"6\"}", "[\"6\"", "\"6\"", "[[\"6\"]]"}) {
    expect_broken(read_time_points(wrong, bits), 403, "ParameterInvalid");
  }
  std::string many = "[\"0\"";
  for (int i = 0; i < 24; ++i) many += ",\"0\"";
  expect_broken(read_time_points(many + "]", bits), 403, "ParameterInvalid");
  for (const char* wrong : {"[\"0\"]", "[\"8\"]", "[\"Mon\"]", "[]"}) {
    expect_broken(read_weekdays(wrong, bits), 403, "ParameterInvalid");
  }
  std::uint64_t days = 9;
  EXPECT_FALSE(read_policy_retention("-1", days));
  EXPECT_EQ(days, 0U);
  EXPECT_FALSE(read_policy_retention("65535", days));
  EXPECT_EQ(days, 65'535U);
  for (const char* wrong : {"0", "-2", "65536", "x", "1.5", "", "99999999999999999999"}) {
    expect_broken(read_policy_retention(wrong, days), 403, "ParameterInvalid");
  }
  EXPECT_FALSE(policy_name_must_be_well_formed("daily"));
  expect_broken(policy_name_must_be_well_formed("1st"), 400, "InvalidSnapshotPolicyName.Malformed");
  EXPECT_FALSE(policy_quota_must_have_room(99));
  expect_broken(policy_quota_must_have_room(100), 403, "AutoSnapshotPolicy.QuotaExceed");
}

TEST(PolicyRules, ADiskIsUnderOnePolicyOrUnderTen) {
  DiskRecord disk;
  const WallTime now(Duration(5));
  apply_policy(disk, "sp-a", Profile::k2021, now);
  EXPECT_FALSE(disk_must_have_room_for_policy(disk, "sp-b", Profile::k2021));
  apply_policy(disk, "sp-b", Profile::k2021, now);
  EXPECT_EQ(disk.policies, (std::vector<AppliedPolicy>{{"sp-b", now}}));
  apply_policy(disk, "sp-b", Profile::k2021, now + kHour);
  EXPECT_EQ(disk.policies.front().done_until, now) << "applied again: it goes on";

  disk.policies.clear();
  for (int i = 0; i < 10; ++i) {
    const std::string id = "sp-" + std::to_string(i);
    EXPECT_FALSE(disk_must_have_room_for_policy(disk, id, Profile::k2024));
    apply_policy(disk, id, Profile::k2024, now);
  }
  EXPECT_FALSE(disk_must_have_room_for_policy(disk, "sp-3", Profile::k2024));
  expect_broken(disk_must_have_room_for_policy(disk, "sp-x", Profile::k2024), 403,
                "QuotaExceed.AppliedAutoSnapshotPolicyQuota");
  EXPECT_TRUE(is_under(disk, "sp-9"));
  EXPECT_TRUE(cancel_policy(disk, "sp-9"));
  EXPECT_FALSE(cancel_policy(disk, "sp-9"));
  EXPECT_FALSE(is_under(disk, "sp-9"));
  EXPECT_TRUE(cancel_policy(disk, ""));
  EXPECT_FALSE(is_under(disk, ""));
}

TEST(PolicyCalendar, PointsAreWholeHoursOfUtcPlus8) {
  const PolicyRecord daily = policy(R"(["6"])", R"(["1","2","3","4","5","6","7"])");
  // 06:00 there is 22:00 the day before in UTC.
  const WallTime six =
      WallTime(std::chrono::sys_days{std::chrono::year(2026) / 1 / 30}) + 22 * kHour;
  EXPECT_EQ(at(2026, 1, 31, 6), six);
  EXPECT_EQ(last_point(daily, six), six);
  EXPECT_EQ(last_point(daily, six - Duration(1)), six - 24 * kHour);
  EXPECT_EQ(next_point(daily, six), six + 24 * kHour);
  EXPECT_EQ(next_point(daily, six - Duration(1)), six);
  // 2026-01-31 is a Saturday.
  const PolicyRecord mondays = policy(R"(["0","23"])", R"(["1"])");
  EXPECT_EQ(last_point(mondays, at(2026, 1, 31, 6)), at(2026, 1, 26, 23));
  EXPECT_EQ(next_point(mondays, at(2026, 1, 31, 6)), at(2026, 2, 2, 0));
  EXPECT_EQ(last_point(mondays, at(2026, 2, 2, 22, 59)), at(2026, 2, 2, 0));
  EXPECT_EQ(last_point(mondays, at(2026, 2, 1, 23, 59)), at(2026, 1, 26, 23));
  EXPECT_EQ(last_point(PolicyRecord{}, six), std::nullopt);
  EXPECT_EQ(next_point(PolicyRecord{}, six), std::nullopt);
}

TEST(PolicyCalendar, OnlyTheLastOfManyPointsIsDueAndNoneTwice) {
  const PolicyRecord hourly = policy(R"(["1","2","3"])", R"(["1","2","3","4","5","6","7"])");
  AppliedPolicy applied{"sp-1", at(2026, 1, 1, 1, 30)};
  EXPECT_EQ(due_point(hourly, applied, at(2026, 1, 1, 1, 59)), std::nullopt);
  EXPECT_EQ(due_point(hourly, applied, at(2026, 1, 1, 2)), at(2026, 1, 1, 2));
  EXPECT_EQ(due_point(hourly, applied, at(2026, 3, 1, 12)), at(2026, 3, 1, 3));
  applied.done_until = at(2026, 3, 1, 3);
  EXPECT_EQ(due_point(hourly, applied, at(2026, 3, 1, 12)), std::nullopt);
  EXPECT_EQ(due_point(hourly, applied, at(2026, 2, 1, 12)), std::nullopt) << "a clock set back";
  // Points that a change brought are none that were missed.
  PolicyRecord changed = hourly;
  changed.changed = at(2026, 3, 2, 2, 30);
  EXPECT_EQ(due_point(changed, applied, at(2026, 3, 2, 2, 59)), std::nullopt);
  EXPECT_EQ(due_point(changed, applied, at(2026, 3, 2, 3)), at(2026, 3, 2, 3));
}

// A year hour by hour, against the definition: a point is an hour in the list on a day in the list.
TEST(PolicyCalendar, AYearOfRandomPoliciesHasEveryPointOnce) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  for (int round = 0; round < 20; ++round) {
    PolicyRecord one;
    one.hours = random.below(1U << 24);
    one.weekdays = random.below(1U << 7);
    AppliedPolicy applied{"sp-1", at(2027, 1, 1)};
    // 2027-01-01 is a Friday.
    std::optional<WallTime> expected_next = next_point(one, applied.done_until);
    int taken = 0;
    int expected = 0;
    for (int hour = 1; hour <= 365 * 24; ++hour) {
      const WallTime now = at(2027, 1, 1) + hour * kHour + std::chrono::minutes(random.below(60));
      const auto weekday = static_cast<unsigned>((4 + hour / 24) % 7);
      const bool is_point =
          (one.hours >> (hour % 24) & 1U) != 0 && (one.weekdays >> weekday & 1U) != 0;
      expected += is_point ? 1 : 0;
      const auto due = due_point(one, applied, now);
      ASSERT_EQ(due.has_value(), is_point) << "hour " << hour;
      if (!due) continue;
      ASSERT_EQ(*due, at(2027, 1, 1) + hour * kHour);
      ASSERT_EQ(expected_next, due);
      ++taken;
      applied.done_until = *due;
      expected_next = next_point(one, *due);
    }
    EXPECT_EQ(taken, expected);
  }
}

TEST(AutomaticSnapshots, AreNamedByDayAndNumber) {
  const WallTime late = at(2026, 1, 31, 23, 59);
  EXPECT_EQ(automatic_snapshot_name(late, {}), "auto_20260131_1");
  EXPECT_EQ(automatic_snapshot_name(late + std::chrono::minutes(1), {}), "auto_20260201_1");
  std::vector<SnapshotRecord> all(4);
  for (SnapshotRecord& one : all) one.automatic = true;
  all[0].snapshot_name = "auto_20260131_2";
  all[1].snapshot_name = "auto_20260131_x";
  all[2].snapshot_name = "auto_20260130_7";
  all[3].snapshot_name = "auto_20260131_9";
  all[3].automatic = false;
  std::vector<const SnapshotRecord*> pointers;
  for (const SnapshotRecord& one : all) pointers.push_back(&one);
  EXPECT_EQ(automatic_snapshot_name(late, pointers), "auto_20260131_3");
}

TEST(AutomaticSnapshots, ExpireAfterTheirDays) {
  SnapshotRecord one;
  one.status = SnapshotStatus::kAccomplished;
  one.created = at(2026, 1, 1, 6);
  EXPECT_FALSE(has_expired(one, at(2090, 1, 1))) << "for ever";
  one.retention_days = 7;
  EXPECT_FALSE(has_expired(one, at(2026, 1, 8, 5, 59)));
  EXPECT_TRUE(has_expired(one, at(2026, 1, 8, 6)));
  one.retention_days = 65'536;
  EXPECT_FALSE(has_expired(one, at(2200, 1, 1)));
  one.retention_days = 7;
  one.status = SnapshotStatus::kProgressing;
  EXPECT_FALSE(has_expired(one, at(2026, 2, 1)));
  one.status = SnapshotStatus::kFailed;
  EXPECT_TRUE(has_expired(one, at(2026, 2, 1)));
  one.hidden = true;
  EXPECT_FALSE(has_expired(one, at(2026, 2, 1)));
}

TEST(PolicyRecords, SurviveARoundTripAndOlderDisksAreUnderNone) {
  PolicyRecord policy;
  policy.id = "sp-1";
  policy.region = "r";
  policy.policy_name = "daily";
  policy.hours = 1U << 23;
  policy.weekdays = 1U << 6;
  policy.retention_days = 7;
  policy.copy_region = "there";
  policy.copied_retention_days = 9;
  policy.resource_group = "rg";
  policy.created = WallTime(Duration(1));
  policy.changed = WallTime(Duration(2));
  policy.tags = {{"a", "b"}};
  const std::string json = to_json(policy);
  const auto read = policy_from_json(json);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, policy);
  EXPECT_EQ(key_of(policy), "policy/sp-1");
  const auto whole = nlohmann::json::parse(json);
  for (const auto& [member, value] : whole.items()) {
    auto less = whole;
    less.erase(member);
    // Those of copies are newer.
    const bool newer = member.find("cop") == 0;
    EXPECT_EQ(policy_from_json(less.dump()).has_value(), newer) << member;
  }

  DiskRecord disk;
  disk.id = "d-1";
  disk.policies = {{"sp-1", WallTime(Duration(3))}, {"sp-2", WallTime(Duration(-4))}};
  const auto again = disk_from_json(to_json(disk));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->policies, disk.policies);
  auto older = nlohmann::json::parse(to_json(disk));
  older.erase("policies");
  ASSERT_TRUE(disk_from_json(older.dump()));
  EXPECT_TRUE(disk_from_json(older.dump())->policies.empty());
  for (const char* wrong : {"7", "[7]", "[[\"sp-1\"]]", "[[\"sp-1\",\"x\"]]", "[[1,1]]"}) {
    older["policies"] = nlohmann::json::parse(wrong);
    EXPECT_FALSE(disk_from_json(older.dump())) << wrong;
  }
}

}  // namespace
}  // namespace clouddisk
