#include "tools/auth/nonce_journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace {

// What was synced and renamed, in order.
std::vector<std::string> steps;

void note_sync(int file) {
  struct stat info {};
  const bool folder = ::fstat(file, &info) == 0 && S_ISDIR(info.st_mode);
  steps.push_back(folder ? "sync folder" : "sync " + std::to_string(info.st_size));
}

}  // namespace

// In place of the system's, for the whole program.
extern "C" int fdatasync(int file) {
  note_sync(file);
  return static_cast<int>(::syscall(SYS_fdatasync, file));
}
extern "C" int fsync(int file) {
  note_sync(file);
  return static_cast<int>(::syscall(SYS_fsync, file));
}
extern "C" int rename(const char* from, const char* to) noexcept {
  steps.emplace_back("rename");
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

namespace clouddisk::auth {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

const WallTime kNow{minutes(30'000'000)};
constexpr std::int64_t kMinute = 30'000'000;

class NonceJournalTest : public testing::Test {
 protected:
  std::vector<UsedNonce> reopen(WallTime now = kNow) {
    journal_ = std::make_unique<NonceJournal>(path(), minutes(32));
    auto nonces = journal_->open(now);
    EXPECT_TRUE(nonces) << nonces.error().message;
    return nonces ? *nonces : std::vector<UsedNonce>();
  }
  void append(std::uint64_t fingerprint, std::int64_t forget_at = kMinute + 15,
              WallTime now = kNow) {
    const auto appended = journal_->append({forget_at, fingerprint}, now);
    ASSERT_TRUE(appended) << appended.error().message;
  }
  std::string path() const { return folder_.path() + "/nonces"; }
  std::uintmax_t bytes() const {
    return std::filesystem::file_size(path() + "-0") + std::filesystem::file_size(path() + "-1");
  }

  TemporaryFolder folder_;
  std::unique_ptr<NonceJournal> journal_;
};

TEST_F(NonceJournalTest, WhatWasAppendedIsThereInTheNextLifeUntilItIsToBeForgotten) {
  EXPECT_TRUE(reopen().empty());
  for (std::uint64_t i = 0; i < 10'000; ++i) append(i);
  append(7, kMinute + 3);
  EXPECT_EQ(reopen().size(), 10'001U);
  EXPECT_EQ(reopen(kNow + minutes(3)).size(), 10'000U);
  EXPECT_TRUE(reopen(kNow + minutes(15)).empty());
  for (const char* name : {"-0", "-1"}) {
    EXPECT_EQ(std::filesystem::status(path() + name).permissions(), std::filesystem::perms(0600));
  }
}

TEST_F(NonceJournalTest, WhoseItIsIsKept) {
  reopen();
  const UsedNonce nonce{kMinute + 15, 1, 0xfedcba98};
  ASSERT_TRUE(journal_->append(nonce, kNow));
  EXPECT_EQ(reopen(), std::vector<UsedNonce>{nonce});
}

TEST_F(NonceJournalTest, TheFilesTakeTurnsAndLoseNothingThatMatters) {
  reopen();
  WallTime now = kNow;
  for (int i = 0; i < 500; ++i, now += minutes(1)) {
    append(static_cast<std::uint64_t>(i), kMinute + i + 30, now);
    ASSERT_LE(bytes(), 66U * 24U) << "two turns, of 33 minutes each";
  }
  const auto left = reopen(now - minutes(1));
  ASSERT_EQ(left.size(), 30U);
  EXPECT_EQ(left.front().fingerprint, 470U);
  EXPECT_EQ(left.back().fingerprint, 499U);
}

TEST_F(NonceJournalTest, ADaemonThatIsRestartedOftenKeepsItBounded) {
  WallTime now = kNow;
  for (int i = 0; i < 300; ++i, now += minutes(1)) {
    const auto nonces = reopen(now);
    ASSERT_EQ(nonces.size(), static_cast<std::size_t>(std::min(i, 29)));
    append(static_cast<std::uint64_t>(i), kMinute + i + 30, now);
    ASSERT_LE(bytes(), 60U * 24U + 48U);
  }
}

TEST_F(NonceJournalTest, AFileTakesThePlaceOfAnotherWhenItIsOnTheDevice) {
  reopen();
  append(1);
  append(2);
  steps.clear();
  reopen();
  EXPECT_EQ(steps, (std::vector<std::string>{"sync 48", "rename", "sync folder"}));
}

TEST_F(NonceJournalTest, DamageCostsTheRecordsThatItHits) {
  reopen();
  for (std::uint64_t i = 0; i < 100; ++i) append(i);
  for (const char* name : {"-0", "-1"}) {
    std::fstream file(path() + name, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(24 * 5 + 3);
    if (std::filesystem::file_size(path() + name) > 0) file.put('x');
    file.seekp(0, std::ios::end);
    file.write("cut off", 7);
  }
  EXPECT_EQ(reopen().size(), 99U);
  append(1000);
  EXPECT_EQ(reopen().size(), 100U) << "what is appended after a torn record is in step";
}

}  // namespace
}  // namespace clouddisk::auth
