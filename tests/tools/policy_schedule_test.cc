#include "tools/clouddisk/policy_schedule.h"

#include <gtest/gtest.h>

namespace clouddisk::cli {
namespace {

TEST(PolicySchedule, HoursDaysAndRetentionAsPeopleWriteThem) {
  EXPECT_EQ(*time_points_of({"6", "06", "6:00", "23:00", "0"}), R"(["6","6","6","23","0"])");
  for (const char* wrong : {"24", "6:30", "-1", "", "six", "006", "6:00:00"}) {
    auto refused = time_points_of({"6", wrong});
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.failure().code, "WrongUsage");
    EXPECT_NE(refused.failure().message.find(std::string("'") + wrong + "'"), std::string::npos);
  }
  EXPECT_EQ(*weekdays_of({"sun", "Monday", "3", "mon"}), R"(["1","3","7"])");
  EXPECT_EQ(*weekdays_of({"all", "fri"}), R"(["1","2","3","4","5","6","7"])");
  for (const char* wrong : {"0", "8", "so", "", "mondays"}) {
    EXPECT_FALSE(weekdays_of({wrong})) << wrong;
  }
  EXPECT_EQ(*retention_of("forever"), "-1");
  EXPECT_EQ(*retention_of("65535"), "65535");
  for (const char* wrong : {"0", "-1", "65536", "", "7d"}) {
    EXPECT_FALSE(retention_of(wrong)) << wrong;
  }
}

TEST(PolicySchedule, IsShownAsTextWhateverTheAnswerHolds) {
  const Json policy = {
      {"TimePoints", R"(["0","18"])"}, {"RepeatWeekdays", R"(["1","7"])"}, {"RetentionDays", 1}};
  EXPECT_EQ(times_text(policy), "00:00, 18:00");
  EXPECT_EQ(weekdays_text(policy), "Mon, Sun");
  EXPECT_EQ(kept_text(policy), "1 day");
  const Json daily = {{"RepeatWeekdays", R"(["1","2","3","4","5","6","7"])"},
                      {"RetentionDays", -1}};
  EXPECT_EQ(times_text(daily), "");
  EXPECT_EQ(weekdays_text(daily), "every day");
  EXPECT_EQ(kept_text(daily), "for ever");
  EXPECT_EQ(weekdays_text({{"RepeatWeekdays", "nonsense"}}), "");
  EXPECT_EQ(times_text({{"TimePoints", "[7, \"x\", \"99\"]"}}), "");
}

}  // namespace
}  // namespace clouddisk::cli
