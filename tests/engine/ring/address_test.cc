#include "engine/ring/address.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "engine/ring/listener.h"
#include "tests/support/connect.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

TEST(ParseAddress, TakesEveryFormAndGivesItBack) {
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
        "tcp:host:65536", "tcp:host:80x", "tcp:::1:80", "tcp:[::1:80", "http://host:80"}) {
    auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_NE(address.error().message.find("unix:PATH"), std::string::npos) << text;
  }
  auto too_long = parse_address("unix:/" + std::string(200, 'x'));
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().message.find("shorter"), std::string::npos);
}

TEST(NbdUri, IsWhatNbdClientsTake) {
  const auto uri = [](const char* address, bool tls = false) {
    return nbd_uri(*parse_address(address), tls, "d-1");
  };
  EXPECT_EQ(uri("unix:/var/lib/clouddisk/nbd.sock"),
            "nbd+unix:///d-1?socket=/var/lib/clouddisk/nbd.sock");
  EXPECT_EQ(uri("unix:/a b/&c/s", true), "nbds+unix:///d-1?socket=/a%20b/%26c/s");
  EXPECT_EQ(uri("tcp:10.0.0.1:10809"), "nbd://10.0.0.1:10809/d-1");
  EXPECT_EQ(uri("tcp:0.0.0.0:10809", true), "nbds://localhost:10809/d-1");
  EXPECT_EQ(uri("tcp:[fe80::1]:1"), "nbd://[fe80::1]:1/d-1");
}

TEST(Listener, RefusesAPathThatIsAFileAndLeavesItAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/file";
  std::ofstream(path) << "mine";
  auto listener = Listener::open(Address::unix_socket(path));
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, Errc::kExists);
  EXPECT_EQ(std::filesystem::file_size(path), 4U);
  EXPECT_FALSE(Listener::open(Address::unix_socket(folder.path() + std::string(200, 'x'))));
}

TEST(Listener, TakesOverAStaleSocketAndNeverOneThatIsServed) {
  const TemporaryFolder folder;
  const Address address = Address::unix_socket(folder.path() + "/s");
  {  // What a killed process leaves behind.
    const Socket dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.path.data(), address.path.size());
    ASSERT_EQ(::bind(dead.fd(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(address.path));
  {
    auto first = Listener::open(address);
    ASSERT_TRUE(first) << first.error().message;
    struct stat info {};
    ASSERT_EQ(::stat(address.path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660U);
    auto second = Listener::open(address);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::kBusy);
    EXPECT_TRUE(connect_to_unix(address.path)) << "the first goes on";
  }
  EXPECT_FALSE(std::filesystem::exists(address.path));
}

// As after kill -9 on a busy host: who listened is gone, and its socket still takes connections.
TEST(Listener, WaitsLongForASocketOfTheDead) {
  TemporaryFolder folder;
  const Address address = Address::unix_socket(folder.path() + "/s");
  const pid_t listener = ::fork();
  ASSERT_GE(listener, 0);
  if (listener == 0) {
    auto opened = Listener::open(address);
    // A short queue: those who ask fill it, and are then told that it is full.
    if (opened) ::listen(opened->socket(), 3);
    if (opened && ::fork() == 0) ::usleep(2'000'000);  // It has the socket, too.
    ::_exit(opened ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(listener, &status, 0), listener);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(connect_to_unix(address.path)) << "the socket lives on";
  auto next = Listener::open(address);
  EXPECT_TRUE(next) << next.error().message;
}

// The kernel may keep them for a moment after a process with an io_uring was killed.
TEST(Listener, WaitsForSocketsThatAreAboutToGo) {
  TemporaryFolder folder;
  auto tcp = Listener::open(Address::tcp("127.0.0.1", 0));
  ASSERT_TRUE(tcp) << tcp.error().message;
  for (const Address& address :
       {Address::unix_socket(folder.path() + "/s"), Address(tcp->address())}) {
    std::optional<Listener> first;
    if (address.is_unix()) {
      auto opened = Listener::open(address);
      ASSERT_TRUE(opened) << opened.error().message;
      first.emplace(std::move(*opened));
    } else {
      first.emplace(std::move(*tcp));
    }
    std::thread leaving([&first] {
      ::usleep(100'000);
      first.reset();
    });
    const auto second = Listener::open(address);
    leaving.join();
    EXPECT_TRUE(second) << second.error().message;
  }
}

// A file that is looked at while it goes is neither an error nor removed twice.
TEST(Listener, LeavesThePathToTheNextAtWhateverMoment) {
  TemporaryFolder folder;
  const Address address = Address::unix_socket(folder.path() + "/s");
  for (int round = 0; round < 500; ++round) {
    auto opened = Listener::open(address);
    ASSERT_TRUE(opened) << opened.error().message;
    std::optional<Listener> first(std::move(*opened));
    std::barrier start(2);
    std::thread leaving([&] {
      start.arrive_and_wait();
      if (round % 2 == 0) first->shut();
      first.reset();
    });
    start.arrive_and_wait();
    const auto second = Listener::open(address);
    leaving.join();
    ASSERT_TRUE(second) << second.error().message << " in round " << round;
    ASSERT_TRUE(connect_to_unix(address.path)) << "in round " << round;
  }
}

TEST(Listener, SaysWhichPortTheKernelChose) {
  auto listener = Listener::open(Address::tcp("127.0.0.1", 0));
  ASSERT_TRUE(listener) << listener.error().message;
  EXPECT_NE(listener->address().port, 0);
}

}  // namespace
}  // namespace clouddisk
