#include "engine/base/log.h"

#include <gtest/gtest.h>

namespace clouddisk {
namespace {

class Log : public testing::Test {
 protected:
  void TearDown() override { set_log_level(LogLevel::kInfo); }
};

TEST_F(Log, LevelsAreKnownByName) {
  const std::pair<const char*, LogLevel> kCases[] = {{"debug", LogLevel::kDebug},
                                                     {"info", LogLevel::kInfo},
                                                     {"warning", LogLevel::kWarning},
                                                     {"error", LogLevel::kError},
                                                     {"off", LogLevel::kOff}};
  for (const auto& [text, level] : kCases) {
    const auto parsed = parse_log_level(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, level) << text;
  }
}

TEST_F(Log, AnUnknownLevelIsRefusedWithWhatWouldDo) {
  for (const char* text : {"", "Info", "warn", "verbose", "info "}) {
    const auto parsed = parse_log_level(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Errc::kInvalid);
    EXPECT_NE(parsed.error().message.find("debug, info, warning, error, off"), std::string::npos);
  }
}

TEST_F(Log, OnlyWhatIsLoudEnoughIsWritten) {
  set_log_level(LogLevel::kWarning);
  EXPECT_FALSE(log_enabled(LogLevel::kInfo));
  EXPECT_TRUE(log_enabled(LogLevel::kWarning));
  testing::internal::CaptureStderr();
  log(LogLevel::kInfo, "ring", "quiet {}", 1);
  log(LogLevel::kError, "ring", "loud {}", 2);
  const std::string written = testing::internal::GetCapturedStderr();
  EXPECT_EQ(written.find("quiet"), std::string::npos);
  EXPECT_NE(written.find("level=error component=ring loud 2\n"), std::string::npos) << written;
}

TEST_F(Log, OffIsSilent) {
  set_log_level(LogLevel::kOff);
  testing::internal::CaptureStderr();
  log(LogLevel::kError, "ring", "nothing");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace clouddisk
