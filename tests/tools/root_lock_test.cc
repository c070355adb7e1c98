#include "tools/net/root_lock.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace clouddisk {
namespace {

constexpr uid_t kAnotherUser = 65'534;

// What take() says to somebody else, who is another process: users are of a process.
std::string said_to_another_user(const std::string& root) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(kAnotherUser) != 0) ::_exit(1);
    RootLock lock;
    auto taken = lock.take(root, true);
    const std::string text = taken ? "taken" : taken.error().message;
    ::_exit(::write(ends[1], text.data(), text.size()) < 0 ? 1 : 0);
  }
  ::close(ends[1]);
  std::string said;
  char chunk[512];
  for (ssize_t got; (got = ::read(ends[0], chunk, sizeof(chunk))) > 0;) {
    said.append(chunk, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return said;
}

TEST(RootLock, SomebodyElseIsToldWhoseFolderItIsAndWhoHeIs) {
  if (::geteuid() != 0) GTEST_SKIP() << "it needs root to be somebody else";
  char name[] = "/var/tmp/clouddisk-lock-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string folder = name;
  for (const mode_t mode : {0755, 0700}) {
    ASSERT_EQ(::chmod(name, mode), 0);
    for (const std::string& root : {folder, folder + "/new"}) {
      const std::string said = said_to_another_user(root);
      for (const std::string& part :
           {root + (root == folder ? "/lock" : ""), std::string("Permission denied"),
            std::string("(uid 65534)"), folder + " belongs to root (uid 0)",
            std::string(mode == 0755 ? "mode 0755" : "mode 0700")}) {
        EXPECT_NE(said.find(part), std::string::npos) << said;
      }
    }
  }
  ASSERT_EQ(::chmod(name, 0777), 0);
  EXPECT_EQ(said_to_another_user(folder), "taken");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace clouddisk
