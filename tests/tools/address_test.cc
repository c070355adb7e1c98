#include "tools/net/address.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace clouddisk {
namespace {

TEST(ParseAddress, TakesBothFormsAndGivesThemBack) {
  for (const std::string text : {"unix:/run/x.sock", "unix:relative", "tcp:127.0.0.1:10809",
                                 "tcp:[::1]:0", "tcp:localhost:65535"}) {
    auto address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->text(), text);
  }
}

TEST(ParseAddress, RefusesEverythingElseAndSaysWhatIsExpected) {
  for (const std::string text :
       {"", "x", "unix:", "tcp:", "tcp:host", "tcp::80", "tcp:host:", "tcp:host:-1",
        "tcp:host:65536", "tcp:host:80x", "http://host:80"}) {
    auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_NE(address.error().message.find("unix:PATH"), std::string::npos) << text;
  }
  auto too_long = parse_address("unix:/" + std::string(200, 'x'));
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().message.find("shorter"), std::string::npos);
}

TEST(ListenOn, RefusesAPathThatIsAFileAndLeavesItAlone) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("cd-file-{}", ::getpid());
  std::ofstream(path) << "mine";
  auto address = parse_address("unix:" + path.string());
  ASSERT_TRUE(address);
  auto socket = listen_on(*address);
  ASSERT_FALSE(socket);
  EXPECT_EQ(socket.error().code, Errc::kExists);
  EXPECT_EQ(std::filesystem::file_size(path), 4U);
  std::filesystem::remove(path);
}

TEST(ConnectTo, TellsAMissingSocketFromOneThatNobodyServes) {
  auto address = parse_address(fmt::format("unix:/tmp/cd-nobody-{}", ::getpid()));
  ASSERT_TRUE(address);
  auto missing = connect_to(*address, std::chrono::seconds(1));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::kNotFound);
  { ASSERT_TRUE(listen_on(*address)); }
  auto stale = connect_to(*address, std::chrono::seconds(1));
  ASSERT_FALSE(stale);
  EXPECT_EQ(stale.error().code, Errc::kShutdown);
  std::filesystem::remove(address->path);
}

}  // namespace
}  // namespace clouddisk
