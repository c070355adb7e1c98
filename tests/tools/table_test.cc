#include "tools/clouddisk/table.h"

#include <gtest/gtest.h>

#include "engine/base/units.h"
#include "tools/clouddisk/disk_format.h"
#include "tools/clouddisk/progress.h"

namespace clouddisk::cli {
namespace {

TEST(Table, AlignsColumnsAndCountsUtf8ByCharacters) {
  Table table({{"ID"}, {"SIZE", true}, {"NAME"}});
  table.add_row({"d-1", "40 GiB", "数据盘"});
  table.add_row({"d-22", "2 TiB", ""});
  table.add_row({"d-3", "", "a\tb\nc"});
  EXPECT_EQ(table.text(),
            "ID      SIZE  NAME\n"
            "d-1   40 GiB  数据盘\n"
            "d-22   2 TiB  -\n"
            "d-3        -  a b c\n");
}

TEST(Table, FieldsLeaveOutWhatIsEmpty) {
  EXPECT_EQ(fields_text({{"id", "d-1"}, {"name", ""}, {"status", "In_use"}}),
            "id      d-1\nstatus  In_use\n");
}

TEST(HumanUnits, NumbersAndSizes) {
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1000), "1,000");
  EXPECT_EQ(with_thousands(1234567), "1,234,567");
  EXPECT_EQ(gib_text(40), "40 GiB");
  EXPECT_EQ(gib_text(2048), "2 TiB");
}

TEST(DiskTables, ShowWhatTheApiAnswered) {
  const Json disk = {{"DiskId", "d-1"},
                     {"DiskName", "data"},
                     {"Status", "In_use"},
                     {"Category", "cloud_essd"},
                     {"PerformanceLevel", "PL1"},
                     {"Size", 40},
                     {"IOPS", 3800},
                     {"Throughput", 140},
                     {"InstanceId", "i-local"},
                     {"Device", "/dev/xvdb"},
                     {"Tags", {{"Tag", {{{"TagKey", "a"}, {"TagValue", "b"}}}}}}};
  EXPECT_EQ(disks_table(Json::array({disk})),
            "ID   NAME  STATUS  CATEGORY    LEVEL    SIZE   IOPS  MB/S  INSTANCE  DEVICE\n"
            "d-1  data  In_use  cloud_essd  PL1    40 GiB  3,800   140  i-local   /dev/xvdb\n");
  const std::string details =
      disk_details(disk, {{"unix:/s", "nbd+unix:///d-1?socket=/s"}}, "/mnt/x");
  EXPECT_NE(details.find("nbd+unix:///d-1?socket=/s"), std::string::npos);
  EXPECT_NE(details.find("/mnt/x"), std::string::npos);
  EXPECT_NE(details.find("a=b"), std::string::npos);
  EXPECT_NE(disks_table(Json::array({Json::object()})).find("0 GiB"), std::string::npos)
      << "missing members are no reason to stop";
}

TEST(ShellQuoted, IsOneWordWhateverIsInIt) {
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("a b$c\\"), "'a b$c\\'");
  EXPECT_EQ(shell_quoted("it's'"), R"('it'\''s'\'')"
                                   "'");
}

TEST(Progress, IsABarAndWhatQemuSays) {
  EXPECT_EQ(bar_text(1_GiB, 4_GiB), "[==========" + std::string(30, ' ') + "] 1 GiB of 4 GiB");
  EXPECT_EQ(bar_text(0, 0), "[" + std::string(40, ' ') + "] 0 B of 0 B");
  EXPECT_EQ(bar_text(4_GiB, 4_GiB), "[" + std::string(40, '=') + "] 4 GiB of 4 GiB");
  EXPECT_EQ(qemu_percent("    (0.00/100%)\r    (12.34/100%)\r"), 12.34);
  EXPECT_EQ(qemu_percent("    (100.00/100%)\r\n"), 100.0);
  for (const char* text : {"", "(/100%)", "(x/100%)", "(200/100%)", "(12.34/10", "12/100%)"}) {
    EXPECT_EQ(qemu_percent(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace clouddisk::cli
