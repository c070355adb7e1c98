// A mounted ext4 with a database that commits one transaction after the other, snapshotted
// meanwhile: every snapshot is a disk as after a power failure, on which the file system's journal
// and the database's own lose nothing that was committed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/tools/e2e/test_daemon.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {

namespace fs = std::filesystem;

// sqlite3 in a process of its own. Transaction N inserts row N and adds N to a total, and is
// counted when sqlite3 says that it is committed. synchronous=EXTRA: with FULL the removal of the
// journal, which is what commits in DELETE mode, is not made durable before.
class Transactions {
 public:
  explicit Transactions(const std::string& file, const std::string& journal_mode) {
    int in[2];
    int out[2];
    CHECK(::pipe2(in, O_CLOEXEC) == 0);
    CHECK(::pipe2(out, O_CLOEXEC) == 0);
    child_ = ::fork();
    CHECK(child_ >= 0);
    if (child_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      // Line by line: sqlite3 would keep what it says for a pipe in a buffer.
      ::execlp("stdbuf", "stdbuf", "-oL", "sqlite3", "-bail", file.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_ = in[1];
    from_ = ::fdopen(out[0], "r");
    say("PRAGMA journal_mode=" + journal_mode + "; PRAGMA synchronous=EXTRA; " +
        "CREATE TABLE rows(n INTEGER PRIMARY KEY, filling BLOB);" +
        "CREATE TABLE total(sum INTEGER); INSERT INTO total VALUES(0); SELECT 'begun';\n");
    wait_for("begun");
    thread_ = std::thread([this] { run(); });
  }
  ~Transactions() {
    stop_ = true;
    thread_.join();
    ::close(to_);
    std::fclose(from_);
    ::waitpid(child_, nullptr, 0);
  }
  long committed() const { return committed_; }

 private:
  void say(const std::string& text) {
    EXPECT_EQ(::write(to_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  bool wait_for(const std::string& wanted) {
    char line[256];
    while (std::fgets(line, sizeof(line), from_) != nullptr) {
      if (line == wanted + '\n') return true;
    }
    ADD_FAILURE() << "sqlite3 ended instead of saying " << wanted;
    return false;
  }
  void run() {
    for (long n = 1; !stop_; ++n) {
      const std::string number = std::to_string(n);
      say("BEGIN; INSERT INTO rows VALUES(" + number + ", randomblob(3000)); " +
          "UPDATE total SET sum = sum + " + number + "; COMMIT; SELECT 'done " + number + "';\n");
      if (!wait_for("done " + number)) return;
      committed_ = n;
    }
  }

  pid_t child_ = -1;
  int to_ = -1;
  std::FILE* from_ = nullptr;
  std::atomic<bool> stop_{false};
  std::atomic<long> committed_{0};
  std::thread thread_;
};

class Database : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (::access("/dev/fuse", F_OK) != 0 || ::access("/dev/loop-control", F_OK) != 0) {
      GTEST_SKIP() << "no /dev/fuse or no loop devices";
    }
    for (const char* program : {"sqlite3", "nbdfuse", "nbdkit", "nbdcopy", "e2fsck"}) {
      CLOUDDISK_NEEDS(program);
    }
    ASSERT_TRUE(daemon_.start({"--no-limits"})) << daemon_.log();
  }
  std::string scratch(const std::string& name) const { return daemon_.root() + "-" + name; }

  // After its journal was replayed nothing is left to mend.
  void check_file_system(const std::string& snapshot) const {
    const std::string image = scratch("image");
    run_ok({"nbdcopy", daemon_.ok({"snapshot", "uri", snapshot}), image});
    run_ok({"e2fsck", "-y", "-E", "journal_only", image});
    run_ok({"e2fsck", "-f", "-n", image});
    fs::remove(image);
  }
  void check_database(const std::string& snapshot, long committed) const {
    const std::string clone = daemon_.ok({"disk", "create", "--snapshot", snapshot});
    const std::string mnt = scratch("clone");
    daemon_.ok({"disk", "mount", clone, mnt});
    const auto ask = [&](const std::string& question) {
      return run_ok({"sqlite3", mnt + "/base", question});
    };
    EXPECT_EQ(ask("PRAGMA integrity_check"), "ok");
    const std::string rows = ask("SELECT max(n) FROM rows");
    EXPECT_GE(std::atol(rows.c_str()), committed) << "a committed transaction is lost";
    EXPECT_EQ(ask("SELECT count(*) FROM rows"), rows) << "none is missing in between";
    EXPECT_EQ(ask("SELECT sum FROM total"), ask("SELECT sum(n) FROM rows"))
        << "a transaction is there by half";
    daemon_.ok({"disk", "umount", clone});
    daemon_.ok({"disk", "detach", clone});
    daemon_.ok({"disk", "delete", clone});
  }

  TestDaemon daemon_;
};

TEST_P(Database, SnapshotsUnderLoadHoldEveryTransactionCommittedBefore) {
  const std::string disk = daemon_.ok({"disk", "create", "--size", "20"});
  const std::string mnt = scratch("mnt");
  daemon_.ok({"disk", "mount", disk, mnt, "--mkfs", "ext4"});
  std::vector<std::pair<std::string, long>> taken;
  {
    Transactions transactions(mnt + "/base", GetParam());
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
      const long committed = transactions.committed();
      taken.emplace_back(daemon_.ok({"snapshot", "create", disk}), committed);
    }
    EXPECT_GT(transactions.committed(), 0);
  }
  daemon_.ok({"disk", "umount", disk});
  for (const auto& [snapshot, committed] : taken) {
    SCOPED_TRACE(committed);
    check_file_system(snapshot);
    check_database(snapshot, committed);
  }
  EXPECT_GT(taken.back().second, 0) << "the load was there";
}

INSTANTIATE_TEST_SUITE_P(Journal, Database, testing::Values("DELETE", "WAL"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace clouddisk::e2e
